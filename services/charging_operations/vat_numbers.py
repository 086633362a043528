"""VAT numbers that drivers give at stations (OCPP 2.1, C23): judged by form, and by a register where there is one.

The verdict says what it rests on: `Registered`, `NotRegistered`, `FormOnly` (no register here has such numbers),
`RegisterAway` (its form is right and the register did not answer), or what is wrong with the form (`VATNumberForm`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed, SubjectErased
from emobility.domain.vat_number import NOT_IN_VIES, VATNumberForm, form_of, plain_vat_number
from emobility.ports.station_questions import VATNumberAnswer, VATNumberQuestion
from emobility.ports.stores import TableSpec
from emobility.ports.vat_register import RegisterUnavailable, VATRegister
from services.charging_operations.office import Office, require_hosted


@dataclass(frozen=True, slots=True, kw_only=True)
class VATCheckRecord:
    """A number was judged. It may name a sole trader, so it is sealed; None: who it names was erased."""

    party_id: PartyId
    charging_station_id: str
    check_id: str
    vat_number: Sealed | None
    ocpp_evse_id: int | None
    is_valid: bool
    reason: str
    checked_at: datetime


VAT_CHECK: Final = TableSpec(
    name="cpo_vat_check", record=VATCheckRecord, key=("party_id", "charging_station_id", "check_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VATCheckShown:
    """A verdict for the operator, without the number."""

    check_id: str
    ocpp_evse_id: int | None
    is_valid: bool
    reason: str
    checked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VATNumberDesk:
    """Judges numbers. Without a register, and while it is away, a number of the right form passes."""

    office: Office
    register: VATRegister | None

    async def check(self, question: VATNumberQuestion) -> VATNumberAnswer:
        """Judge a number and keep the verdict. Raises `NotFound`: the party is not hosted here."""
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, question.party_id)
        answer = await self._verdict(plain_vat_number(question.vat_number))
        sealed = None
        if question.vat_number:
            with contextlib.suppress(SubjectErased):
                sealed = await self.office.ports.vault.seal(question.vat_number)
        async with self.office.ports.units.begin() as unit:
            await unit.table(VAT_CHECK).put(
                VATCheckRecord(
                    party_id=question.party_id,
                    charging_station_id=question.charging_station_id,
                    check_id=self.office.ports.randomness.uuid(),
                    vat_number=sealed,
                    ocpp_evse_id=question.ocpp_evse_id,
                    is_valid=answer.is_valid,
                    reason=answer.reason_code,
                    checked_at=self.office.now(),
                )
            )
            await unit.commit()
        return answer

    async def _verdict(self, number: str) -> VATNumberAnswer:
        form = form_of(number)
        if form is not VATNumberForm.WELL_FORMED:
            return VATNumberAnswer(is_valid=False, reason_code=form.value)
        if self.register is None or number.startswith(NOT_IN_VIES):
            return VATNumberAnswer(is_valid=True, reason_code="FormOnly")
        try:
            found = await self.register.look_up(number)
        except RegisterUnavailable:
            return VATNumberAnswer(is_valid=True, reason_code="RegisterAway")
        reason = "Registered" if found.is_valid else "NotRegistered"
        return VATNumberAnswer(is_valid=found.is_valid, reason_code=reason, company=found.company)


def shown_check(row: VATCheckRecord) -> VATCheckShown:
    """Return a verdict for the operator."""
    return VATCheckShown(
        check_id=row.check_id,
        ocpp_evse_id=row.ocpp_evse_id,
        is_valid=row.is_valid,
        reason=row.reason,
        checked_at=row.checked_at,
    )
