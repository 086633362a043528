"""What each MSP has open with a CPO: reserved when its drivers are let in, billed by CDRs, paid by bank.

Where the two agreed on a credit line or a guarantee, nobody is let in whose charge might pass the limit; the pair's row
is locked from the look to the reservation, so two at once can't both take the last of it. What was let in goes on. The
numbers follow the log (`CDRIssued`, `PaymentBooked`, `GuaranteeCalled`, which lowers the limit, too, and
`StatementFinal` where a vault pays); what a pair settles elsewhere is not counted. A reservation ends with its
session's CDR, or when no charge came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement, SettlementMode, agreement_in_force
from emobility.domain.authorization import CREDIT_LINE_EXCEEDED
from emobility.domain.exposure import BOUNDED_MODES, PREPAID_MODES, Exposure, limit_e4_of, opened_under
from emobility.domain.identifiers import PartyId
from emobility.events.banking import GuaranteeCalled, PaymentBooked
from emobility.events.cdr import CDRS, CDRIssued
from emobility.events.event import LoggedEvent
from emobility.events.settlement import SETTLEMENT, StatementFinal
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from services.charging_operations.office import Office, agreement_at, signed_agreements, signed_with
from services.charging_operations.records import (
    AGREEMENT,
    AUTHORIZATION,
    CPO,
    SESSION,
    TRANSACTION,
    AuthorizationRecord,
    TransactionState,
)

GROUP: Final = "charging_operations_exposure"
_OVER: Final = frozenset({TransactionState.DISMISSED, TransactionState.RESOLVED})
"""Transactions of which no CDR comes any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRecord:
    """What an MSP has open with a CPO in one currency."""

    party_id: PartyId
    emsp_id: PartyId
    currency: str
    exposure: Exposure


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureReservation:
    """What a decision to let a driver in reserves, in ten-thousandths of `currency`."""

    party_id: PartyId
    authorization_id: str
    emsp_id: PartyId
    currency: str
    amount_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownExposure:
    """An MSP's exposure for the CPO's operator, in ten-thousandths. `free_e4` None: no limit."""

    emsp_id: PartyId
    currency: str
    mode: str
    limit_e4: int | None
    reserved_e4: int
    billed_e4: int
    paid_e4: int
    open_e4: int
    free_e4: int | None
    is_suspended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledGuarantee:
    """What was taken of a guarantee, in ten-thousandths; `version`: of the terms under which it was given."""

    party_id: PartyId
    emsp_id: PartyId
    agreement_id: str
    version: int
    amount_e4: int


CALLED: Final = TableSpec(
    name="cpo_guarantee_called", record=CalledGuarantee, key=("party_id", "emsp_id", "agreement_id", "version")
)
EXPOSURE: Final = TableSpec(name="cpo_exposure", record=ExposureRecord, key=("party_id", "emsp_id", "currency"))
RESERVATION: Final = TableSpec(
    name="cpo_exposure_reservation", record=ExposureReservation, key=("party_id", "authorization_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureDesk:
    """Keeps exposures."""

    office: Office

    # Letting in

    async def judged(self, unit: UnitOfWork, record: AuthorizationRecord) -> AuthorizationRecord:
        """Return an accepted decision, or the refusal where the MSP's charge might pass the limit."""
        agreement = await self._bounded(unit, record)
        if agreement is None:
            return record
        row = await self._locked(unit, record.party_id, agreement.emsp_id, agreement.currency)
        exposure, limit_e4 = row.exposure, agreement.credit_limit_e4 - await self._called_e4(unit, agreement)
        if not exposure.bears(exposure.estimate_e4, limit_e4):
            exposure = await self._without_lapsed(unit, row)
        if exposure.bears(exposure.estimate_e4, limit_e4):
            return record
        return replace(
            record,
            is_accepted=False,
            status=CREDIT_LINE_EXCEEDED.answer.value,
            reason=CREDIT_LINE_EXCEEDED.reason.value,
            may_cache=False,
        )

    async def reserve(self, unit: UnitOfWork, record: AuthorizationRecord) -> None:
        """Reserve what a charge is taken to cost, once per decision."""
        agreement = await self._bounded(unit, record)
        if agreement is None or await unit.table(RESERVATION).get(record.party_id, record.authorization_id) is not None:
            return
        row = await self._locked(unit, record.party_id, agreement.emsp_id, agreement.currency)
        amount_e4 = row.exposure.estimate_e4
        await unit.table(RESERVATION).insert(
            ExposureReservation(
                party_id=record.party_id,
                authorization_id=record.authorization_id,
                emsp_id=row.emsp_id,
                currency=row.currency,
                amount_e4=amount_e4,
            )
        )
        raised = replace(row.exposure, reserved_e4=row.exposure.reserved_e4 + amount_e4)
        await unit.table(EXPOSURE).put(replace(row, exposure=raised))

    async def _bounded(self, unit: UnitOfWork, record: AuthorizationRecord) -> RoamingAgreement | None:
        """Return the agreement whose limit a decision counts against; None: none does."""
        if not record.is_accepted or record.emsp_id is None or record.emsp_id == record.party_id:
            return None
        try:
            agreement = await agreement_at(unit, record.party_id, record.emsp_id, self.office.now())
        except NoAgreementInForce:
            return None
        return agreement if agreement.settlement_mode in BOUNDED_MODES else None

    async def _called_e4(self, unit: UnitOfWork, agreement: RoamingAgreement) -> int:
        """Return what of an agreement's limit is gone for good."""
        if agreement.settlement_mode is not SettlementMode.GUARANTEE:
            return 0
        versions = await signed_with(unit, agreement.cpo_id, agreement.emsp_id)
        key = agreement.cpo_id, agreement.emsp_id, agreement.agreement_id, opened_under(agreement, versions)
        called = await unit.table(CALLED).get(*key)
        return 0 if called is None else called.amount_e4

    async def _locked(self, unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId, currency: str) -> ExposureRecord:
        key = party_id, emsp_id, currency
        row = await unit.table(EXPOSURE).get_for_update(*key)
        if row is None:
            row = ExposureRecord(party_id=party_id, emsp_id=emsp_id, currency=currency, exposure=Exposure())
            with suppress(RecordExists):
                await unit.table(EXPOSURE).insert(row)
            row = await unit.table(EXPOSURE).get_for_update(*key)
            assert row is not None, f"the exposure of {key} is gone"
        return row

    async def _without_lapsed(self, unit: UnitOfWork, row: ExposureRecord) -> Exposure:
        """Give back what was reserved for charges that never came, and return what is left."""
        where = {"party_id": row.party_id, "emsp_id": row.emsp_id, "currency": row.currency}
        freed = 0
        for reservation in await unit.table(RESERVATION).select(where):
            if await self._has_lapsed(unit, reservation):
                await unit.table(RESERVATION).remove(reservation.party_id, reservation.authorization_id)
                freed += reservation.amount_e4
        left = replace(row.exposure, reserved_e4=row.exposure.reserved_e4 - freed)
        await unit.table(EXPOSURE).put(replace(row, exposure=left))
        return left

    async def _has_lapsed(self, unit: UnitOfWork, reservation: ExposureReservation) -> bool:
        decision = await unit.table(AUTHORIZATION).get(reservation.party_id, reservation.authorization_id)
        if decision is None or not decision.is_accepted:
            return True
        if decision.transaction_id is None:
            return decision.decided_at + self.office.limits.authorization_valid < self.office.now()
        key = decision.party_id, decision.charging_station_id, decision.transaction_id
        transaction = await unit.table(TRANSACTION).get(*key)
        return transaction is not None and transaction.state in _OVER

    # Following

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        await self.office.ports.event_log.consume(GROUP, [CDRS, SETTLEMENT], self.handle, stop=stop)

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Add up what was billed and paid, pair by pair, and end the reservations of what was billed."""
        changes: dict[tuple[PartyId, PartyId, str], Exposure] = {}
        billed: dict[PartyId, list[str]] = {}
        terms: dict[tuple[PartyId, PartyId], list[RoamingAgreement]] = {}
        for logged in await _not_told_before(unit, batch):
            event = logged.envelope.event
            if isinstance(event, CDRIssued):
                pair = event.cpo_id, event.emsp_id
                if pair not in terms:
                    terms[pair] = await signed_with(unit, *pair)
                cost_e4 = event.cdr.total_cost.excl_e4
                step = Exposure(billed_e4=cost_e4, charges=0 if event.cdr.is_credit else 1)
                if _is_settled_elsewhere(event, terms[pair]):
                    step = Exposure()
                key = *pair, event.cdr.currency
                billed.setdefault(event.cpo_id, []).append(event.cdr.session_id)
            elif isinstance(event, PaymentBooked):
                step, key = Exposure(paid_e4=event.amount_e4), (event.cpo_id, event.emsp_id, event.currency)
            elif isinstance(event, GuaranteeCalled):
                step, key = Exposure(paid_e4=event.amount_e4), (event.cpo_id, event.emsp_id, event.currency)
                await _lower_limit(unit, event)
            elif isinstance(event, StatementFinal) and await _moves_in_the_vault(unit, event):
                step = Exposure(paid_e4=event.due_e4 - event.credit_e4)
                key = event.statement.cpo_id, event.emsp_id, event.currency
            else:
                continue
            changes[key] = changes.get(key, Exposure()) + step
        for key in sorted(changes):
            if await unit.table(CPO).get(key[0]) is not None:
                await self._change(unit, key, changes[key], billed.get(key[0], []))

    async def _change(
        self, unit: UnitOfWork, key: tuple[PartyId, PartyId, str], change: Exposure, sessions: Sequence[str]
    ) -> None:
        cpo_id, emsp_id, currency = key
        row = await self._locked(unit, cpo_id, emsp_id, currency)
        if sessions and row.exposure.reserved_e4:
            of_sessions = await unit.table(SESSION).select({"party_id": cpo_id, "session_id": tuple(sessions)})
            decisions = tuple(session.authorization_id for session in of_sessions if session.emsp_id == emsp_id)
            held = []
            if decisions:
                held = await unit.table(RESERVATION).select({"party_id": cpo_id, "authorization_id": decisions})
            for reservation in held:
                if (reservation.emsp_id, reservation.currency) == (emsp_id, currency):
                    await unit.table(RESERVATION).remove(cpo_id, reservation.authorization_id)
                    change += Exposure(reserved_e4=-reservation.amount_e4)
        await unit.table(EXPOSURE).put(replace(row, exposure=row.exposure + change))

    # Showing

    async def shown(self, party_id: PartyId) -> list[ShownExposure]:
        """Return all MSPs' exposures, those first that are nearest to their limit."""
        async with self.office.ports.units.begin() as unit:
            rows = await unit.table(EXPOSURE).select({"party_id": party_id})
            agreements = await signed_agreements(unit, party_id)
            found = []
            for row in rows:
                newest = _newest(row, agreements)
                found.append(_shown(row, newest, 0 if newest is None else await self._called_e4(unit, newest)))
        return sorted(found, key=lambda each: (each.free_e4 is None, each.free_e4 or 0))


async def _lower_limit(unit: UnitOfWork, event: GuaranteeCalled) -> None:
    # Settlement calls an agreement otherwise where another MSP's has its name.
    key = event.cpo_id, event.emsp_id, event.agreement_id.removesuffix(f"@{event.emsp_id}"), event.version
    known = await unit.table(CALLED).get_for_update(*key)
    before_e4 = 0 if known is None else known.amount_e4
    cpo_id, emsp_id, agreement_id, version = key
    await unit.table(CALLED).put(
        CalledGuarantee(
            party_id=cpo_id,
            emsp_id=emsp_id,
            agreement_id=agreement_id,
            version=version,
            amount_e4=before_e4 + event.amount_e4,
        )
    )


async def _not_told_before(unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    """Leave out what settlement told already: restored from a copy, it finds out again what the log tells since."""
    paid = PaymentBooked | GuaranteeCalled | StatementFinal
    return [
        each
        for each in batch
        if not isinstance(each.envelope.event, paid) or await unit.novelty(GROUP, each.envelope) is Novelty.NEW
    ]


def _is_settled_elsewhere(event: CDRIssued, terms: Sequence[RoamingAgreement]) -> bool:
    """Whether nobody will ever tell us that a CDR was paid, by the terms under which its charge began."""
    of_cdr = [each for each in terms if each.agreement_id == event.agreement_id]
    with suppress(NoAgreementInForce):
        found = agreement_in_force(of_cdr, event.cpo_id, event.emsp_id, event.cdr.started_at)
        return found.settlement_mode is SettlementMode.OFF_CHAIN
    return False


async def _moves_in_the_vault(unit: UnitOfWork, event: StatementFinal) -> bool:
    """Whether a statement is paid once it is final, by the terms under which it was opened."""
    name = event.statement
    # Settlement calls an agreement otherwise where another MSP's has its name.
    names = name.agreement_id, name.agreement_id.removesuffix(f"@{event.emsp_id}")
    rows = await unit.table(AGREEMENT).select(
        {"party_id": name.cpo_id, "emsp_id": event.emsp_id, "agreement_id": names, "version": name.version}
    )
    return any(row.agreement.settlement_mode in PREPAID_MODES for row in rows)


def _newest(row: ExposureRecord, agreements: Sequence[RoamingAgreement]) -> RoamingAgreement | None:
    of_pair = [each for each in agreements if (each.emsp_id, each.currency) == (row.emsp_id, row.currency)]
    return max(of_pair, key=lambda each: (each.valid_from, each.version), default=None)


def _shown(row: ExposureRecord, newest: RoamingAgreement | None, called_e4: int) -> ShownExposure:
    limit_e4 = None if newest is None else limit_e4_of(newest)
    limit_e4 = None if limit_e4 is None else limit_e4 - called_e4
    exposure = row.exposure
    return ShownExposure(
        emsp_id=row.emsp_id,
        currency=row.currency,
        mode="" if newest is None else newest.settlement_mode.value,
        limit_e4=limit_e4,
        reserved_e4=exposure.reserved_e4,
        billed_e4=exposure.billed_e4,
        paid_e4=exposure.paid_e4,
        open_e4=exposure.open_e4,
        free_e4=None if limit_e4 is None else limit_e4 - exposure.open_e4,
        is_suspended=limit_e4 is not None and not exposure.bears(exposure.estimate_e4, limit_e4),
    )
