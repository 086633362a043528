"""What the gateway asks the CPO's back office for a station beside authorisation: a VAT number, a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId


class BackOfficeUnavailable(Unavailable):
    """The back office did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Whom a VAT number belongs to, as OCPP 2.1 AddressType has it."""

    name: str
    address1: str
    city: str
    country: str
    address2: str | None = None
    postal_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VATNumberQuestion:
    """Is this a VAT number (OCPP 2.1, C23)?"""

    party_id: PartyId
    charging_station_id: str
    vat_number: str
    ocpp_evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VATNumberAnswer:
    """The verdict. `reason_code` says what it rests on, in at most 20 characters."""

    is_valid: bool
    reason_code: str
    company: Company | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptQuestion:
    """Is there a receipt for a payment at a terminal (OCPP 2.1, C21)?"""

    party_id: PartyId
    charging_station_id: str
    psp_reference: str
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptAnswer:
    """The receipt, as far as there is one."""

    receipt_url: str | None = None
    receipt_id: str | None = None


StationQuestion: TypeAlias = VATNumberQuestion | ReceiptQuestion
StationAnswer: TypeAlias = VATNumberAnswer | ReceiptAnswer


class StationQuestions(Protocol):
    """Asks the back office."""

    async def check_vat_number(self, question: VATNumberQuestion) -> VATNumberAnswer:
        """Return the verdict. Raises `BackOfficeUnavailable`."""

    async def receipt_of(self, question: ReceiptQuestion) -> ReceiptAnswer:
        """Return the receipt. Raises `BackOfficeUnavailable`."""
