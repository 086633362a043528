"""Rows of ad hoc sales (AFIR, art. 5): the CPO sells to whoever stands there. None of it is a partner's business."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.cdr import CDRLocation, SignedMeterData
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import Tariff
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork


class SaleState(StrEnum):
    """Life of a sale. What is asked of provider or station is done by a worker, again until it is answered."""

    HOLDING = "HOLDING"
    """The provider is to hold the money."""
    HELD = "HELD"
    """The station is to start."""
    STARTING = "STARTING"
    """The station was told; the driver plugs in."""
    RUNNING = "RUNNING"
    CAPTURING = "CAPTURING"
    """The charge is priced; the provider is to take the sum."""
    CONFIRMING = "CONFIRMING"
    """The charge is priced; the provider of the terminal is to say what it took."""
    RELEASING = "RELEASING"
    """The provider is to give the hold up."""
    REFUNDING = "REFUNDING"
    """Reports that came late made it cheaper: the provider is to give the difference back."""
    CAPTURED = "CAPTURED"
    RELEASED = "RELEASED"
    DECLINED = "DECLINED"
    """The issuer refused the hold: nothing was ever held."""
    UNCOLLECTED = "UNCOLLECTED"
    """The issuer refused the capture: the hold is given up, the price stays unpaid."""


ASKED: Final = (SaleState.HOLDING, SaleState.HELD, SaleState.CAPTURING, SaleState.RELEASING, SaleState.REFUNDING)
"""States in which the worker has something to do."""
OPEN: Final = (*ASKED, SaleState.STARTING, SaleState.RUNNING, SaleState.CONFIRMING)
AT_THE_EVSE: Final = (SaleState.HOLDING, SaleState.HELD, SaleState.STARTING, SaleState.RUNNING)
"""States in which nobody else may buy at the EVSE."""


class SaleChannel(StrEnum):
    """How the driver pays."""

    QR = "QR"
    TERMINAL = "TERMINAL"
    """At a terminal of others, told by OCPI (2.3.0, payments)."""
    STATION = "STATION"
    """At a terminal of the station itself, told by OCPP 2.1; such money is in the ledger, and there is no sale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocPointRecord:
    """An EVSE that is sold ad hoc. `code` stands in its QR code: drawn, so that no code leads to another."""

    party_id: PartyId
    code: str
    evse_uid: str
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocSaleRecord:
    """A sale, from the hold to the receipt. Energy in Wh, money in ten-thousandths of `currency`, with tax.

    Attributes:
        party_id: The CPO, who sells.
        sale_id: Drawn, or at a terminal a keyed hash of its reference; whoever knows it may watch and stop the charge.
        code: The QR code it was bought by.
        tariff: Frozen when it was shown.
        uid: The AD_HOC_USER token, drawn for this sale alone.
        token_subject: Finds its transaction.
        card: What is to be held, until it is.
        payment_id: The provider's name of the hold; None: not known, or there is none.
        start_until: Whoever did not plug in by then is not charged.
        energy_import_wh: So far, or in all.
        total_incl_e4: So far, or in all; exact.
        capture_e4: What is asked of the hold; the receipt's total.
        vat_e4: In `capture_e4`.
        periods: What the price was made of, once it ended.
        failure: Why the money was given back, or not taken.
        invoice_number: Given when the money was taken, of a terminal with the CDR; without a gap per CPO.
        ptp_id: Whose terminal it was paid at; None: at our page.
        authorization_reference: What the terminal's provider calls it.
        told_uid: The token that the terminal's provider knows, where the station was told `uid`.
        is_invoiced_here: Whether a driver who paid at a terminal gets our invoice.
        refund_e4: What was taken above `capture_e4` and is due back, because reports came late.
        refunded_e4: How much of it was given back.
        refunding_e4: How much the provider is asked to give back (REFUNDING): it stays until that is answered.
        erased_at: When all that leads to the driver went: token, card, payment, reference, meter records.
    """

    party_id: PartyId
    sale_id: str
    channel: SaleChannel
    state: SaleState
    code: str
    evse_uid: str
    charging_station_id: str
    ocpp_evse_id: int
    connector_id: int
    location: CDRLocation
    tariff: Tariff
    tariff_hash: str
    currency: str
    held_e4: int
    uid: Sealed
    token_subject: str
    card: Sealed | None
    payment_id: str | None
    correlation_id: str
    made_at: datetime
    start_until: datetime
    transaction_id: str | None = None
    session_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    energy_import_wh: int = 0
    energy_export_wh: int = 0
    total_incl_e4: int = 0
    capture_e4: int = 0
    residue_e4: int = 0
    beyond_hold_e4: int = 0
    vat_e4: int = 0
    periods: tuple[ChargingPeriod, ...] = ()
    signed_data: SignedMeterData | None = None
    stop_asked_at: datetime | None = None
    failure: str | None = None
    invoice_number: int | None = None
    finished_at: datetime | None = None
    ptp_id: PartyId | None = None
    terminal_id: str | None = None
    authorization_reference: str | None = None
    told_uid: Sealed | None = None
    told_contract_id: Sealed | None = None
    is_invoiced_here: bool = False
    refund_e4: int = 0
    refunded_e4: int = 0
    refunding_e4: int = 0
    erased_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceCounterRecord:
    """The last invoice number that a CPO gave."""

    party_id: PartyId
    last_number: int


def invoice_number(sale: AdHocSaleRecord) -> str:
    """Return a receipt's number as it stands on it."""
    return f"{sale.party_id}-AH-{sale.invoice_number:08}"


AD_HOC_POINT: Final = TableSpec(
    name="cpo_ad_hoc_point", record=AdHocPointRecord, key=("party_id", "code"), unique=(("party_id", "evse_uid"),)
)
AD_HOC_SALE: Final = TableSpec(
    name="cpo_ad_hoc_sale",
    record=AdHocSaleRecord,
    key=("party_id", "sale_id"),
    unique=(("party_id", "token_subject"),),
)
INVOICE_COUNTER: Final = TableSpec(name="cpo_invoice_counter", record=InvoiceCounterRecord, key=("party_id",))


async def next_invoice_number(unit: UnitOfWork, party_id: PartyId) -> int:
    """Take the next number; if the unit is not committed, nobody took it."""
    counters = unit.table(INVOICE_COUNTER)
    if await counters.get(party_id) is None:
        # A row that isn't there can't be locked: of two first sales at once, one waits for the other here.
        with suppress(RecordExists):
            await counters.insert(InvoiceCounterRecord(party_id=party_id, last_number=0))
    counter = await counters.get_for_update(party_id)
    assert counter is not None, f"{party_id} has no counter of receipts"
    await counters.put(replace(counter, last_number=counter.last_number + 1))
    return counter.last_number + 1
