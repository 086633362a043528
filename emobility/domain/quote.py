"""What an MSP offers its driver before a charge: a signed price, frozen, with an estimate.

A quote binds one driver, one connector and one retail tariff version for a short time. The bill is that tariff applied
to what was metered, so the price per kWh of the quote is the price per kWh of the bill; the estimate is only an
estimate, and says on what it rests. No wholesale term is in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash

CANONICAL_FORM: Final = "wattroam-quote-1"


class QuoteExpired(RuleBroken):
    """The quote's validity is over; ask for a new one."""

    def __init__(self, *, quote_id: str, valid_until: datetime) -> None:
        self.quote_id = quote_id
        self.valid_until = valid_until
        super().__init__(f"quote {quote_id} was valid until {valid_until.isoformat()}")


class QuoteTampered(RuleBroken):
    """The quote is not what its MSP signed."""

    def __init__(self, *, quote_id: str) -> None:
        self.quote_id = quote_id
        super().__init__(f"quote {quote_id} does not carry its MSP's signature")


class QuoteOfAnother(RuleBroken):
    """The quote was given to another driver or by another MSP."""

    def __init__(self, *, quote_id: str) -> None:
        self.quote_id = quote_id
        super().__init__(f"quote {quote_id} was not given to this driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a charge would cost under assumptions the driver can read; `total` is gross where the tariff knows VAT."""

    energy_wh: int
    charging_s: int
    parking_s: int
    total: Price

    @property
    def gross_e4(self) -> int:
        """What the driver would pay, in ten-thousandths."""
        return gross_e4(self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailQuote:
    """An offer of `emsp_id` to one driver, for one connector, under one frozen retail tariff.

    Attributes:
        quote_id: Also the `authorization_reference` of the session, so at most 36 characters.
        time_zone: Of the location; decides local times in the tariff.
        tariff: Retail, in force for this charge whatever changes afterwards.
        estimate: None where nothing is known about the charge (a card held to a station).
        signature: The MSP's Ed25519 signature over `signing_bytes`, hex.
    """

    quote_id: str
    emsp_id: PartyId
    driver_id: str
    plan_id: str
    cpo_id: PartyId
    location_id: str
    evse_uid: str
    connector_id: str
    time_zone: str
    issued_at: datetime
    valid_until: datetime
    tariff: Tariff
    estimate: Estimate | None
    signature: str | None = None

    @property
    def tariff_hash(self) -> str:
        """Names the frozen tariff version."""
        return tariff_hash(self.tariff)


def gross_e4(price: Price) -> int:
    """Return what a driver pays: after tax where tax is stated, else the price itself."""
    return price.excl_e4 if price.incl_e4 is None else price.incl_e4


def signing_bytes(quote: RetailQuote) -> bytes:
    """Return what the MSP signs: compact JSON with sorted keys; the tariff goes in by its hash."""
    estimate = quote.estimate
    document = {
        "form": CANONICAL_FORM,
        "quote_id": quote.quote_id,
        "emsp_id": quote.emsp_id.code,
        "driver_id": quote.driver_id,
        "plan_id": quote.plan_id,
        "cpo_id": quote.cpo_id.code,
        "location_id": quote.location_id,
        "evse_uid": quote.evse_uid,
        "connector_id": quote.connector_id,
        "time_zone": quote.time_zone,
        "issued_at": quote.issued_at.isoformat(),
        "valid_until": quote.valid_until.isoformat(),
        "tariff_hash": quote.tariff_hash,
        "currency": quote.tariff.currency,
        "estimate": None
        if estimate is None
        else {
            "energy_wh": estimate.energy_wh,
            "charging_s": estimate.charging_s,
            "parking_s": estimate.parking_s,
            "excl_e4": estimate.total.excl_e4,
            "incl_e4": estimate.total.incl_e4,
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def refuse_unusable(quote: RetailQuote, *, driver_id: str, emsp_id: PartyId, is_signed: bool, now: datetime) -> None:
    """Let a quote pass that may start a charge now.

    Args:
        quote: As presented or stored.
        driver_id: Who wants to use it.
        emsp_id: At which MSP.
        is_signed: Whether its signature is the MSP's over `signing_bytes`.
        now: Business time.

    Raises:
        QuoteOfAnother: it was given to another driver, or by another MSP.
        QuoteTampered: it is not what was signed.
        QuoteExpired: its validity is over.
    """
    if (quote.driver_id, quote.emsp_id) != (driver_id, emsp_id):
        raise QuoteOfAnother(quote_id=quote.quote_id)
    if not is_signed:
        raise QuoteTampered(quote_id=quote.quote_id)
    if now >= quote.valid_until:
        raise QuoteExpired(quote_id=quote.quote_id, valid_until=quote.valid_until)
