"""From the log's topic `charging` to sessions and CDRs: what the stations report, in any order, repeated or late.

Each batch is folded into the transactions it touches; then each of these is advanced once: opened as a session, told
to the eMSP, closed by a CDR, or quarantined. Everything a batch brings about is in its unit of work, so a batch that is
handled again after a crash finds nothing of itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.cdr import ENERGY_ALONE
from emobility.domain.charging_periods import whole_second
from emobility.domain.errors import EmobilityError, Unavailable
from emobility.domain.session import ChargingPeriod, SessionStatus
from emobility.domain.transaction import Metered, Transaction, is_complete, metered_wh, session_id_of
from emobility.domain.transaction_faults import Fault, FaultReason, faults, without_clock
from emobility.events.charging import (
    AuthorizationDecided,
    ConnectorStatusChanged,
    DeviceModelReported,
    EVSEMetered,
    MonitorsReported,
    StationBooted,
    StationNotified,
    TransactionEnded,
    TransactionStarted,
    TransactionUpdated,
)
from emobility.events.event import Envelope, LoggedEvent
from emobility.events.fold import TransactionReport, apply
from emobility.events.reservations import ReservationEnded
from emobility.events.station_tasks import TaskReported
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from services.charging_operations.ad_hoc_records import AdHocSaleRecord
from services.charging_operations.ad_hoc_sales import AdHocDesk
from services.charging_operations.cdrs import CDRDesk, billable_periods, live_cdr, priced, too_large
from services.charging_operations.charging_notices import ChargingNoticeDesk
from services.charging_operations.charging_state import end_transaction
from services.charging_operations.claims import ClaimDesk
from services.charging_operations.device_model import DeviceModelDesk
from services.charging_operations.evse_readings import keep_evse_reading
from services.charging_operations.firmware_campaigns import CampaignDesk
from services.charging_operations.load_management import LoadDesk
from services.charging_operations.local_lists import LocalListDesk
from services.charging_operations.office import GROUP, Office
from services.charging_operations.opening import Opening, is_push_due, power_w_max_of
from services.charging_operations.proof import NOT_SIGNED, Proof, prove, signed_records, use_up
from services.charging_operations.quarantine import (
    Outcome,
    QuarantineDesk,
    Resolution,
    quarantine_of,
    unaccounted,
)
from services.charging_operations.records import (
    AGREEMENT,
    CPO,
    SESSION,
    TRANSACTION,
    QuarantineState,
    SessionRecord,
    TransactionRecord,
    TransactionState,
    session_id_for,
)
from services.charging_operations.reservations import ReservationDesk
from services.charging_operations.station_boots import keep_boot
from services.charging_operations.station_history import HistoryDesk
from services.charging_operations.station_notices import keep_notice
from services.charging_operations.station_told import ToldDesk, ToldEvent
from services.charging_operations.stations import StationDesk, evse_at

OVERLAP_SLACK_S: Final = 60
"""Stations correct their clocks; transactions of one EVSE overlap when they do so by more than this."""
HEALS: Final = frozenset({FaultReason.SEQUENCE_GAP.value, FaultReason.NO_AUTHORIZATION.value})
"""Reasons that a late message may take away; all others need someone's decision."""

_Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDesk:
    """The consumer of group `charging_operations`."""

    office: Office
    stations: StationDesk
    device_model: DeviceModelDesk
    history: HistoryDesk
    charging_notices: ChargingNoticeDesk
    load: LoadDesk
    claims: ClaimDesk
    campaigns: CampaignDesk
    ad_hoc: AdHocDesk
    cdrs: CDRDesk
    opening: Opening
    quarantine: QuarantineDesk
    told: ToldDesk
    reservations: ReservationDesk
    local_lists: LocalListDesk

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Take a batch of one partition in."""
        touched: dict[_Key, TransactionRecord] = {}
        for logged in batch:
            await self._take(unit, logged.envelope, touched)
        for record in touched.values():
            await self._advance(unit, record)

    async def _take(self, unit: UnitOfWork, envelope: Envelope, touched: dict[_Key, TransactionRecord]) -> None:
        event = envelope.event
        if isinstance(event, TransactionStarted | TransactionUpdated | TransactionEnded):
            await self._take_report(unit, envelope, event, touched)
            await self.reservations.take_use(unit, event)
            if isinstance(event, TransactionStarted):
                await self.local_lists.take_use(unit, envelope, event)
        elif isinstance(event, AuthorizationDecided):
            await self._take_decision(unit, event, touched)
        elif isinstance(event, ToldEvent):
            await self.told.take(unit, envelope, event)
        else:
            # By base classes: a firmware's and a log's report are both a TaskReported.
            take = next((take for kind, take in self._takers.items() if isinstance(event, kind)), None)
            if take is not None:
                await take(unit, envelope, event)

    @property
    def _takers(self) -> Mapping[type, Callable[[UnitOfWork, Envelope, Any], Awaitable[None]]]:
        """What is done with an event that is no report of a transaction, no decision and nothing of `ToldDesk`'s."""
        return {
            ConnectorStatusChanged: self._take_status,
            DeviceModelReported: self.device_model.take,
            MonitorsReported: self.device_model.take,
            StationBooted: self._take_boot,
            TaskReported: self.campaigns.take,
            EVSEMetered: keep_evse_reading,
            StationNotified: self._take_notice,
            ReservationEnded: self.reservations.take_end,
        }

    async def _take_status(self, unit: UnitOfWork, envelope: Envelope, event: ConnectorStatusChanged) -> None:
        await self.history.take(unit, envelope, event)
        await self.load.status_told(unit, event)
        await self.stations.connector_changed(unit, event, correlation_id=envelope.correlation_id)

    async def _take_boot(self, unit: UnitOfWork, envelope: Envelope, event: StationBooted) -> None:
        await keep_boot(unit, envelope, event)
        await self.claims.take(unit, envelope, event)
        await self.local_lists.take_boot(unit, event)
        await self.campaigns.booted(unit, event.party_id, event.charging_station_id, event.firmware_version)

    async def _take_notice(self, unit: UnitOfWork, envelope: Envelope, event: StationNotified) -> None:
        await keep_notice(unit, event, envelope.event_id)
        if await self.charging_notices.take(unit, envelope, event):
            self.load.hear()

    async def _take_report(
        self, unit: UnitOfWork, envelope: Envelope, event: TransactionReport, touched: dict[_Key, TransactionRecord]
    ) -> None:
        if await unit.table(CPO).get(event.party_id) is None:
            return
        if await unit.novelty(GROUP, envelope) is Novelty.REPEATED:
            return
        # Conflicting content of one place is kept beside the first; the fold shows it, and the end quarantines it.
        key = (event.party_id.code, event.charging_station_id, event.transaction_id)
        known = touched.get(key) or await unit.table(TRANSACTION).get_for_update(
            event.party_id, event.charging_station_id, event.transaction_id
        )
        transaction = apply(known.transaction if known else None, event)
        touched[key] = self._recorded(transaction, known, envelope)
        await self._bind_signed_records(touched[key], known)
        await self.load.told(unit, touched[key], event)
        if touched[key].has_ended:
            await end_transaction(unit, event.party_id, event.charging_station_id, event.transaction_id)

    async def _take_decision(
        self, unit: UnitOfWork, event: AuthorizationDecided, touched: dict[_Key, TransactionRecord]
    ) -> None:
        """A decision may let a waiting transaction become a session."""
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        if event.transaction_id is not None:
            where |= {"transaction_id": event.transaction_id}
        else:
            where |= {"token_subject": event.subject, "state": TransactionState.OPEN}
        for row in await unit.table(TRANSACTION).select(where):
            key = (row.party_id.code, row.charging_station_id, row.transaction_id)
            known = touched.get(key) or await unit.table(TRANSACTION).get_for_update(
                row.party_id, row.charging_station_id, row.transaction_id
            )
            if known is not None:
                touched[key] = known

    def _recorded(
        self, transaction: Transaction, known: TransactionRecord | None, envelope: Envelope
    ) -> TransactionRecord:
        metered = metered_wh(transaction)
        heard = [known.end_arrived_at] if known and known.end_arrived_at else []
        if isinstance(envelope.event, TransactionEnded):
            heard.append(envelope.recorded_at)
        session_id = known.session_id if known else None
        if session_id is None and transaction.started is not None:
            session_id = session_id_of(
                transaction.party_id,
                transaction.charging_station_id,
                transaction.transaction_id,
                transaction.first_at,
            )
        return TransactionRecord(
            party_id=transaction.party_id,
            charging_station_id=transaction.charging_station_id,
            transaction_id=transaction.transaction_id,
            state=known.state if known else TransactionState.OPEN,
            session_id=session_id,
            ocpp_evse_id=transaction.ocpp_evse_id,
            token_subject=transaction.id_token.subject if transaction.id_token else None,
            metered_import_wh=metered.import_wh,
            metered_export_wh=metered.export_wh,
            first_at=transaction.first_at,
            last_at=transaction.last_at,
            has_ended=transaction.ended is not None,
            end_arrived_at=min(heard, default=None),
            correlation_id=known.correlation_id if known else envelope.correlation_id,
            updated_at=self.office.now(),
            transaction=transaction,
        )

    async def _bind_signed_records(self, record: TransactionRecord, known: TransactionRecord | None) -> None:
        """Signed records name the driver and are sealed under their transaction: they go when the driver does."""
        if record.token_subject is None:
            return
        subjects = {sealed.subject for sealed in signed_records(record.transaction)}
        if known is not None and known.token_subject == record.token_subject:
            subjects -= {sealed.subject for sealed in signed_records(known.transaction)}
        for subject in sorted(subjects):
            await self.office.ports.vault.bind(subject, to=record.token_subject)

    async def _advance(self, unit: UnitOfWork, record: TransactionRecord) -> None:
        # Stored first: what follows reads it, and may change its state.
        await unit.table(TRANSACTION).put(record)
        if record.state is TransactionState.OPEN:
            await self._advance_open(unit, record)
        else:
            await self._take_late(unit, record)

    async def _advance_open(self, unit: UnitOfWork, record: TransactionRecord) -> None:
        sale = await self.ad_hoc.sale_of(unit, record)
        if sale is not None:
            await self._advance_sale(unit, record, sale)
            return
        session = await self._session(unit, record)
        if is_complete(record.transaction):
            await self._close(unit, record, session)
        elif isinstance(session, SessionRecord) and without_clock(record.transaction) is None:
            is_new = session.revision == 0
            if is_new or is_push_due(session, self.office.now(), self.office.limits.session_push_interval):
                await self.cdrs.session_changed(
                    unit,
                    session,
                    billable_periods(session, record.transaction),
                    ended_at=whole_second(record.last_at),
                    status=SessionStatus.ACTIVE,
                    correlation_id=record.correlation_id,
                )

    async def _advance_sale(self, unit: UnitOfWork, record: TransactionRecord, sale: AdHocSaleRecord) -> None:
        """The CPO sells it itself: it is nobody's session, and its energy is accounted for by the sale."""
        if without_clock(record.transaction) is None:
            await self.ad_hoc.follow(unit, sale, record)
        if not is_complete(record.transaction):
            return
        verdict = await self._judged(unit, record, None)
        if not verdict.faults:
            try:
                await self.ad_hoc.close(unit, sale, record, verdict.proof)
            except Unavailable:
                raise  # an outage says nothing about the price, and the sale may be half closed in this unit
            except EmobilityError as error:
                fault = Fault(reason=FaultReason.NO_TARIFF, detail=f"it can't be priced: {error}")
                verdict = replace(verdict, faults=(fault,))
        if verdict.faults:
            await self._quarantine(unit, record, verdict.faults, None)
            return
        await use_up(unit, record, verdict.proof)
        await unit.table(TRANSACTION).put(replace(record, state=TransactionState.BILLED))

    async def _session(self, unit: UnitOfWork, record: TransactionRecord) -> SessionRecord | Fault:
        if record.session_id is not None:
            known = await unit.table(SESSION).get_for_update(record.party_id, record.session_id)
            if known is not None:
                return known
        return await self.opening.open(unit, record)

    async def _close(self, unit: UnitOfWork, record: TransactionRecord, session: SessionRecord | Fault) -> None:
        """Everything is known: issue the CDR, or say why not."""
        verdict = await self._judged(unit, record, session)
        if not verdict.faults and isinstance(session, SessionRecord):
            await self.cdrs.issue(
                unit,
                session,
                verdict.periods,
                ended_at=whole_second(record.last_at),
                signed_data=verdict.proof.signed_data,
                correlation_id=record.correlation_id,
                remark=verdict.proof.remark,
            )
            await use_up(unit, record, verdict.proof)
            await unit.table(TRANSACTION).put(replace(record, state=TransactionState.BILLED))
            return
        if _nothing_happened(record, session):
            await unit.table(TRANSACTION).put(replace(record, state=TransactionState.DISMISSED))
            return
        await self._quarantine(unit, record, verdict.faults, session)
        if {fault.reason for fault in verdict.faults} == {FaultReason.OWN_TOKEN}:
            await self._waive(unit, record, why=verdict.faults[0].detail)

    async def _waive(self, unit: UnitOfWork, record: TransactionRecord, *, why: str) -> None:
        """Account at once for energy that nobody is to decide about."""
        waiver = Resolution(outcome=Outcome.WAIVE, who="charging_operations", why=why)
        for row in await quarantine_of(unit, record):
            if row.state is QuarantineState.OPEN:
                await self.quarantine.resolve(
                    unit, row.party_id, row.quarantine_id, waiver, correlation_id=record.correlation_id
                )

    async def _quarantine(
        self, unit: UnitOfWork, record: TransactionRecord, found: Sequence[Fault], session: SessionRecord | Fault | None
    ) -> None:
        left = await unaccounted(unit, record)
        await self.ad_hoc.distrust(unit, record)
        record = replace(record, state=TransactionState.QUARANTINED, session_id=session_id_for(record))
        await unit.table(TRANSACTION).put(record)
        await self.quarantine.enter(unit, record, found, left, correlation_id=record.correlation_id)
        if isinstance(session, SessionRecord):
            has_clock = without_clock(record.transaction) is None
            # OCPI 2.2.1, 9.4.2: INVALID, "declared invalid and will not be billed"; a CDR out of quarantine is
            # preceded by the session as COMPLETED. Without a clock the eMSP keeps the periods it was told before.
            await self.cdrs.session_changed(
                unit,
                session,
                billable_periods(session, record.transaction) if has_clock else session.session.periods,
                ended_at=whole_second(
                    record.last_at if has_clock else max(session.session.started_at, record.updated_at)
                ),
                status=SessionStatus.INVALID,
                correlation_id=record.correlation_id,
            )

    async def _judged(
        self, unit: UnitOfWork, record: TransactionRecord, session: SessionRecord | Fault | None
    ) -> Verdict:
        known = await evse_at(unit, record.party_id, record.charging_station_id, record.ocpp_evse_id)
        power_w_max = power_w_max_of(known) if known else None
        found = list(faults(record.transaction, power_w_max=power_w_max, end_arrived_at=record.end_arrived_at))
        if isinstance(session, Fault) and session.reason not in {fault.reason for fault in found}:
            found.append(session)
        overlapping = await self._overlapping(unit, record)
        if overlapping is not None:
            found.append(overlapping)
        proof = NOT_SIGNED
        if known is not None:
            policy = await self._policy(unit, session) if isinstance(session, SessionRecord) else None
            proof = await prove(self.office, unit, record, known.evse, policy)
            if proof.fault is not None:
                found.append(proof.fault)
        periods: tuple[ChargingPeriod, ...] = ()
        if isinstance(session, SessionRecord) and without_clock(record.transaction) is None:
            try:
                periods = proof.provable(billable_periods(session, record.transaction))
                priced(session, periods, whole_second(record.last_at))
            except EmobilityError as error:
                found.append(Fault(reason=FaultReason.NO_TARIFF, detail=f"it can't be priced: {error}"))
            if fault := too_large(session, periods, proof.signed_data):
                found.append(fault)
        return Verdict(faults=tuple(found), periods=periods, proof=proof)

    async def _policy(self, unit: UnitOfWork, session: SessionRecord) -> SignedMeterPolicy | None:
        row = await unit.table(AGREEMENT).get(session.party_id, session.agreement_id, session.agreement_version)
        return row.agreement.signed_meter_policy if row else None

    async def _overlapping(self, unit: UnitOfWork, record: TransactionRecord) -> Fault | None:
        if record.ocpp_evse_id is None:
            return None
        others = await unit.table(TRANSACTION).select(
            {
                "party_id": record.party_id,
                "charging_station_id": record.charging_station_id,
                "ocpp_evse_id": record.ocpp_evse_id,
                "has_ended": True,
            },
            since=("last_at", record.first_at),
        )
        for other in others:
            if other.transaction_id == record.transaction_id:
                continue
            overlap = min(record.occupied_until, other.occupied_until) - max(record.first_at, other.first_at)
            if overlap.total_seconds() > OVERLAP_SLACK_S and not _has_wrong_time(other):
                return Fault(
                    reason=FaultReason.OVERLAPPING_TRANSACTION,
                    detail=f"transaction {other.transaction_id} ran on the EVSE at the same time",
                )
        return None

    # After it was closed

    async def _take_late(self, unit: UnitOfWork, record: TransactionRecord) -> None:
        """A report came after the transaction was closed: it heals a gap, or it is quarantined; it is never lost."""
        open_rows = [row for row in await quarantine_of(unit, record) if row.state is QuarantineState.OPEN]
        left = await unaccounted(unit, record)
        if record.state is TransactionState.DISMISSED:
            if left.import_wh or left.export_wh:
                reopened = replace(record, state=TransactionState.OPEN)
                # Stored first: as long as a report is missing, advancing stores nothing, and the sweep looks for OPEN.
                await unit.table(TRANSACTION).put(reopened)
                await self._advance_open(unit, reopened)
            return
        if open_rows and all(HEALS.issuperset(row.reasons) for row in open_rows) and is_complete(record.transaction):
            session = await self._session(unit, record)
            verdict = await self._judged(unit, record, session)
            if not verdict.faults and isinstance(session, SessionRecord) and await live_cdr(unit, session) is None:
                await self._heal(unit, record, [row.quarantine_id for row in open_rows], left, verdict.proof)
                return
        is_all_accounted = not (left.import_wh or left.export_wh)
        if is_all_accounted and await self.ad_hoc.look_again(unit, record):
            return
        if is_all_accounted and not await self._changes_what_was_billed(unit, record):
            return
        found = [
            Fault(reason=FaultReason.LATE_EVENT_AFTER_CDR, detail="a report came after the transaction was closed"),
            *faults(record.transaction, end_arrived_at=record.end_arrived_at),
        ]
        await self.quarantine.enter(unit, record, found, left, correlation_id=record.correlation_id)
        await unit.table(TRANSACTION).put(replace(record, state=TransactionState.QUARANTINED))

    async def _heal(
        self, unit: UnitOfWork, record: TransactionRecord, rows: Sequence[str], left: Metered, proof: Proof
    ) -> None:
        """What was missing came: bill it all as if it had come in time."""
        rows = list(rows)
        if left.import_wh or left.export_wh:
            late = Fault(reason=FaultReason.SEQUENCE_GAP, detail="the reports that were missing")
            rows.append(
                (
                    await self.quarantine.enter(unit, record, [late], left, correlation_id=record.correlation_id)
                ).quarantine_id
            )
        for quarantine_id in rows:
            await self.quarantine.resolve(
                unit,
                record.party_id,
                quarantine_id,
                Resolution(outcome=Outcome.BILL, who="charging_operations", why="what was missing has come"),
                correlation_id=record.correlation_id,
                proof=proof,
            )

    async def _changes_what_was_billed(self, unit: UnitOfWork, record: TransactionRecord) -> bool:
        """Tell whether a CDR over the reports as they are now would differ from the one that stands."""
        if any(row.state is QuarantineState.OPEN for row in await quarantine_of(unit, record)):
            return False
        session = await unit.table(SESSION).get(record.party_id, session_id_for(record))
        standing = await live_cdr(unit, session) if session else None
        if session is None or standing is None or standing.cdr.remark not in {None, ENERGY_ALONE}:
            return False
        proof = NOT_SIGNED if standing.cdr.remark is None else Proof(is_time_measured=False)
        return proof.provable(billable_periods(session, record.transaction)) != standing.cdr.periods

    # What never came

    async def overdue(self, unit: UnitOfWork) -> list[TransactionRecord]:
        """Return transactions that ended and whose missing reports are overdue."""
        return await unit.table(TRANSACTION).select(
            {"state": TransactionState.OPEN, "has_ended": True},
            before=("updated_at", self.office.now() - self.office.limits.missing_reports_wait),
            order_by=("updated_at",),
        )

    async def give_up_waiting(self, unit: UnitOfWork, overdue: TransactionRecord) -> None:
        """Quarantine an overdue transaction, unless a report came meanwhile."""
        record = await unit.table(TRANSACTION).get_for_update(
            overdue.party_id, overdue.charging_station_id, overdue.transaction_id
        )
        if record is None or record.state is not TransactionState.OPEN or record.updated_at != overdue.updated_at:
            return
        session = await self._session(unit, record)
        verdict = await self._judged(unit, record, session)
        await self._quarantine(unit, record, verdict.faults, session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a complete transaction (nothing: it may be billed), and what a CDR would hold."""

    faults: tuple[Fault, ...]
    periods: tuple[ChargingPeriod, ...]
    proof: Proof


def _has_wrong_time(record: TransactionRecord) -> bool:
    """Tell whether its own time can't be believed: such a transaction says nothing about when others ran."""
    found = faults(record.transaction, end_arrived_at=record.end_arrived_at)
    return any(fault.reason is FaultReason.TIME_IMPLAUSIBLE for fault in found)


def _nothing_happened(record: TransactionRecord, session: SessionRecord | Fault) -> bool:
    refused = isinstance(session, Fault) and session.reason is FaultReason.NO_AUTHORIZATION
    return refused and not record.metered_import_wh and not record.metered_export_wh
