"""What the gateway asks the CPO's back office for a station beside authorisation: charging, a VAT number, a receipt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingQuestion:
    """How may an EV charge? Exactly one of the two is given.

    `evse_with_needs`: an EV told its needs there (NotifyEVChargingNeeds); will a profile follow? `dynamic_profile_id`:
    what are the present values of this dynamic profile (2.1, PullDynamicScheduleUpdate)?
    """

    party_id: PartyId
    charging_station_id: str
    evse_with_needs: int | None = None
    dynamic_profile_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingAdvice:
    """Yes or no. `is_accepted`: a profile follows, or the values are `schedule_update` (ChargingScheduleUpdateType)."""

    is_accepted: bool = False
    schedule_update: dict[str, Any] = field(default_factory=dict)


StationQuestion: TypeAlias = ChargingQuestion | VATNumberQuestion | ReceiptQuestion
StationAnswer: TypeAlias = ChargingAdvice | VATNumberAnswer | ReceiptAnswer


class ChargingAdvisor(Protocol):
    """Knows how EVs may charge."""

    async def advise(self, question: ChargingQuestion) -> ChargingAdvice:
        """Return the advice. Raises `BackOfficeUnavailable`."""


class PaymentDesk(Protocol):
    """Knows who pays at stations."""

    async def check_vat_number(self, question: VATNumberQuestion) -> VATNumberAnswer:
        """Return the verdict. Raises `BackOfficeUnavailable`."""

    async def receipt_of(self, question: ReceiptQuestion) -> ReceiptAnswer:
        """Return the receipt. Raises `BackOfficeUnavailable`."""


class StationQuestions(ChargingAdvisor, PaymentDesk, Protocol):
    """Asks the back office. Without an answer a station is told the standard's no, and goes on by itself."""
