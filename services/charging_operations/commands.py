"""Commands of eMSPs go to the station; only UNLOCK_CONNECTOR is answered NOT_SUPPORTED.

The synchronous answer says whether the command is taken; the station's word follows to the `response_url` through the
delivery queue. A command is a row before it is sent, so a crash leaves it either unsent (it is sent again) or sent
with an unknown outcome (the eMSP is told TIMEOUT); a repeated command gets the first answer and starts nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.authorization import COMMANDED
from emobility.domain.charging_station import EVSEStatus
from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.session import AuthMethod, SessionStatus
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.server import OCPICall
from emobility.protocols.ocpi.status import InvalidParameters
from emobility.protocols.ocpi.v221 import (
    CommandResponse,
    CommandResponseType,
    CommandResultType,
    CommandType,
    InterfaceRole,
    ModuleID,
)
from emobility.protocols.station_control.client import GatewayUnavailable
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    StartTransaction,
    StationCommand,
    StopTransaction,
)
from emobility.runtime.backlog import Backlog
from services.charging_operations.authorizing import keep_authorization
from services.charging_operations.exposure import ExposureDesk
from services.charging_operations.office import REMOTE_START_ID_MAX, Office, agreement_at, short_hash
from services.charging_operations.records import (
    AUTHORIZATION,
    COMMAND,
    CPO,
    EVSES,
    SESSION,
    AuthorizationRecord,
    CommandRecord,
    CommandState,
    EVSERecord,
)
from services.charging_operations.reservations import (
    RESERVATION,
    ReservationDesk,
    ReservationState,
    id_token_type_of,
)
from services.charging_operations.stations import evse_at
from services.charging_operations.terminals import TerminalDesk
from services.charging_operations.tokens import keep, record_of

_log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_S: Final = 1.0
_RESULTS: Final = {
    CommandResult.ACCEPTED: CommandResultType.ACCEPTED,
    CommandResult.REJECTED: CommandResultType.REJECTED,
    CommandResult.NOT_SUPPORTED: CommandResultType.NOT_SUPPORTED,
    CommandResult.TIMED_OUT: CommandResultType.TIMEOUT,
    CommandResult.STATION_OFFLINE: CommandResultType.EVSE_INOPERATIVE,
    CommandResult.MALFORMED: CommandResultType.REJECTED,
}
_RESERVED: Final = {
    "Occupied": CommandResultType.EVSE_OCCUPIED,
    "Faulted": CommandResultType.EVSE_INOPERATIVE,
    "Unavailable": CommandResultType.EVSE_INOPERATIVE,
}
"""OCPP ReservationStatus; what else a station says is in `_RESULTS`."""
_IN_FLIGHT: Final = (CommandState.ACCEPTED, CommandState.SENT)


@dataclass(slots=True, kw_only=True)
class CommandDesk:
    """Receives commands and sends them to stations."""

    office: Office
    reservations: ReservationDesk
    terminals: TerminalDesk
    exposure: ExposureDesk
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: int = 0
    _backlog: Backlog = field(init=False)

    def __post_init__(self) -> None:
        self._backlog = Backlog(self.office.ports.units, COMMAND, {"state": _IN_FLIGHT})

    # Receiving

    async def receive(self, call: OCPICall) -> CommandResponse:
        """Answer a POST to the commands module. Raises `OCPIError`."""
        try:
            kind = CommandType(call.path["command"].upper())
        except ValueError as error:
            raise InvalidParameters(f"no command {call.path['command'][:40]}") from error
        command = call.read(v221.COMMANDS[kind])
        async with self.office.ports.units.begin() as unit:
            command_id = short_hash(
                str(call.own_party), str(call.caller), kind.value, command.response_url, _identity(command)
            )
            known = await unit.table(COMMAND).get_for_update(call.own_party, command_id)
            if known is not None:
                return self._response(CommandResponseType(known.response))
            record = await self._record(unit, call, kind, command, command_id)
            record = await self._taken(unit, record, command)
            await unit.table(COMMAND).put(record)
            await unit.commit()
        self._wake.set()
        return self._response(CommandResponseType(record.response))

    def _response(self, result: CommandResponseType) -> CommandResponse:
        return CommandResponse(result=result, timeout=self.office.limits.command_timeout_s)

    async def _record(
        self, unit: UnitOfWork, call: OCPICall, kind: CommandType, command: v221.Command, command_id: str
    ) -> CommandRecord:
        if await unit.table(CPO).get(call.own_party) is None:
            raise InvalidParameters(f"{call.own_party} is no CPO here")
        vault = self.office.ports.vault
        return CommandRecord(
            party_id=call.own_party,
            command_id=command_id,
            emsp_id=call.caller,
            kind=kind,
            state=CommandState.REFUSED,
            response=CommandResponseType.REJECTED.value,
            result=None,
            charging_station_id=None,
            ocpp_evse_id=None,
            connector_id=None,
            transaction_id=None,
            remote_start_id=None,
            id_token=None,
            response_url=await vault.seal(command.response_url, identifier=f"commands of {call.caller}"),
            correlation_id=call.correlation_id,
            received_at=self.office.now(),
        )

    async def _taken(self, unit: UnitOfWork, record: CommandRecord, command: v221.Command) -> CommandRecord:
        if isinstance(command, v221.StartSession):
            return await self._take_start(unit, record, command)
        if isinstance(command, v221.StopSession):
            return await self._take_stop(unit, record, command)
        if isinstance(command, v221.ReserveNow):
            return await self._take_reserve(unit, record, command)
        if isinstance(command, v221.CancelReservation):
            return await self._take_cancel(unit, record, command)
        return replace(record, response=CommandResponseType.NOT_SUPPORTED.value)

    async def _take_reserve(self, unit: UnitOfWork, record: CommandRecord, command: v221.ReserveNow) -> CommandRecord:
        """Enter the reservation; one that the eMSP calls the same is replaced (OCPI 2.2.1, 13.3.3)."""
        if command.token.owner != record.emsp_id:
            raise InvalidParameters("the token belongs to another party than the caller")
        try:
            await agreement_at(unit, record.party_id, record.emsp_id, self.office.now())
        except NoAgreementInForce:
            return record
        target = await self._target(unit, record.party_id, command)
        if target is None:
            return record
        token = await record_of(record.party_id, command.token, self.office.ports.vault)
        await keep(unit, token)
        wanted = self.reservations.record(
            party_id=record.party_id,
            charging_station_id=target.charging_station_id,
            ocpp_evse_id=target.ocpp_evse_id,
            id_token=token.uid,
            id_token_type=id_token_type_of(token.token_type),
            group_key=token.group_key,
            expires_at=command.expiry_date,
            emsp_id=record.emsp_id,
            external_id=command.reservation_id,
            command_id=record.command_id,
            correlation_id=record.correlation_id,
        )
        known = await self.reservations.of_emsp(unit, record.party_id, record.emsp_id, command.reservation_id)
        try:
            if known is None:
                await self.reservations.enter(unit, wanted)
            elif not await self.reservations.replace(unit, known, wanted):
                return record
        except RuleBroken as error:
            _log.info("reservation_refused", correlation_id=record.correlation_id, reason=str(error))
            return record
        except MalformedInput as error:
            raise InvalidParameters(str(error)) from error
        return replace(
            record,
            state=CommandState.ACCEPTED,
            response=CommandResponseType.ACCEPTED.value,
            charging_station_id=target.charging_station_id,
            ocpp_evse_id=target.ocpp_evse_id,
            reservation_id=known.reservation_id if known else wanted.reservation_id,
        )

    async def _take_cancel(
        self, unit: UnitOfWork, record: CommandRecord, command: v221.CancelReservation
    ) -> CommandRecord:
        known = await self.reservations.of_emsp(unit, record.party_id, record.emsp_id, command.reservation_id)
        if known is None:
            return record
        return replace(
            record,
            state=CommandState.ACCEPTED,
            response=CommandResponseType.ACCEPTED.value,
            charging_station_id=known.charging_station_id,
            reservation_id=known.reservation_id,
        )

    async def _take_start(self, unit: UnitOfWork, record: CommandRecord, command: v221.StartSession) -> CommandRecord:
        if command.token.owner != record.emsp_id:
            raise InvalidParameters("the token belongs to another party than the caller")
        target = await self._target(unit, record.party_id, command)
        sold = await self.terminals.take_start(unit, record, command, target)
        if sold is not None:
            return sold
        try:
            await agreement_at(unit, record.party_id, record.emsp_id, self.office.now())
        except NoAgreementInForce:
            return record
        if target is None:
            return record
        connector_id = await self._connector(unit, target, command)
        if connector_id is None:
            return record
        token = await record_of(record.party_id, command.token, self.office.ports.vault)
        await keep(unit, token)
        started = replace(
            record,
            state=CommandState.ACCEPTED,
            response=CommandResponseType.ACCEPTED.value,
            charging_station_id=target.charging_station_id,
            ocpp_evse_id=target.ocpp_evse_id,
            connector_id=connector_id,
            remote_start_id=int(record.command_id[:12], 16) % REMOTE_START_ID_MAX + 1,
            id_token=token.uid,
        )
        decision = AuthorizationRecord(
            party_id=record.party_id,
            authorization_id=record.command_id,
            charging_station_id=target.charging_station_id,
            token_subject=token.token_subject,
            is_accepted=COMMANDED.is_accepted,
            status=COMMANDED.answer.value,
            reason=COMMANDED.reason.value,
            may_cache=COMMANDED.may_cache,
            auth_method=AuthMethod.COMMAND,
            decided_at=self.office.now(),
            ocpp_evse_id=target.ocpp_evse_id,
            transaction_id=None,
            remote_start_id=started.remote_start_id,
            authorization_reference=command.authorization_reference,
            emsp_id=record.emsp_id,
            token_type=token.token_type,
            uid=token.uid,
            contract_id=token.contract_id,
            command_id=record.command_id,
            group_key=token.group_key,
        )
        judged = await self.exposure.judged(unit, decision)
        await self.exposure.reserve(unit, judged)
        await keep_authorization(self.office, unit, judged, correlation_id=record.correlation_id)
        return started if judged.is_accepted else record

    async def _target(
        self, unit: UnitOfWork, party_id: PartyId, command: v221.StartSession | v221.ReserveNow
    ) -> EVSERecord | None:
        where = {"party_id": party_id, "location_id": command.location_id}
        evses: Sequence[EVSERecord] = await unit.table(EVSES).select(where, order_by=("evse_uid",))
        if command.evse_uid is not None:
            wanted = command.evse_uid.casefold()
            return next((each for each in evses if each.evse_uid.casefold() == wanted), None)
        free = [each for each in evses if each.status is EVSEStatus.AVAILABLE]
        return next(iter([*free, *evses]), None)

    async def _connector(self, unit: UnitOfWork, target: EVSERecord, command: v221.StartSession) -> int | None:
        known = await evse_at(unit, target.party_id, target.charging_station_id, target.ocpp_evse_id)
        if known is None:
            return None
        ids = [connector.connector_id for connector in known.evse.connectors]
        if command.connector_id is None:
            return ids[0]
        return next((each for each in ids if str(each) == command.connector_id), None)

    async def _take_stop(self, unit: UnitOfWork, record: CommandRecord, command: v221.StopSession) -> CommandRecord:
        if (sale := await self.terminals.running(unit, record, command.session_id)) is not None:
            return replace(
                record,
                state=CommandState.ACCEPTED,
                response=CommandResponseType.ACCEPTED.value,
                charging_station_id=sale.charging_station_id,
                transaction_id=sale.transaction_id,
            )
        session = await unit.table(SESSION).get(record.party_id, command.session_id)
        if session is None or session.emsp_id != record.emsp_id:
            return replace(record, response=CommandResponseType.UNKNOWN_SESSION.value)
        if session.session.status is not SessionStatus.ACTIVE:
            return record
        return replace(
            record,
            state=CommandState.ACCEPTED,
            response=CommandResponseType.ACCEPTED.value,
            charging_station_id=session.charging_station_id,
            transaction_id=session.transaction_id,
        )

    # Sending

    async def pending(self) -> int:
        """Count commands whose result is not known yet."""
        return await self._backlog.count()

    async def run(self, stop: asyncio.Event) -> None:
        """Send what was taken until `stop` is set."""
        await self._persist(self._give_up_unknown, stop)
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(stop.wait())
            while not stop.is_set():
                self._wake.clear()
                for record in await self._persist(self._claim, stop) or []:
                    self._under_way += 1
                    tasks.create_task(self._execute(record, stop))
                woken = tasks.create_task(self._wake.wait())
                await asyncio.wait({woken, stopping}, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()

    async def _persist(self, work: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
        """Do work on the rows until it succeeds: while the database is away nothing is forgotten, only late."""
        while not stop.is_set():
            try:
                return await work()
            except Unavailable as error:
                _log.warning("commands_wait", reason=str(error))
                await self.office.ports.timer.sleep(RETRY_S)
        return None

    async def _give_up_unknown(self) -> None:
        """After a crash: what was sent then may have worked; the session, if any, will show."""
        async with self.office.ports.units.begin() as unit:
            sent = await unit.table(COMMAND).select({"state": CommandState.SENT})
        for record in sent:
            await self._tell(record, CommandOutcome(result=CommandResult.TIMED_OUT))

    async def _claim(self) -> list[CommandRecord]:
        """Take as many of the commands that wait as there are places."""
        claimed: list[CommandRecord] = []
        if not self._places:
            return claimed
        async with self.office.ports.units.begin() as unit:
            waiting = await unit.table(COMMAND).select(
                {"state": CommandState.ACCEPTED}, order_by=("received_at",), limit=self._places
            )
            for each in waiting:
                record = await unit.table(COMMAND).get_for_update(each.party_id, each.command_id)
                if record is not None and record.state is CommandState.ACCEPTED:
                    sent = replace(record, state=CommandState.SENT)
                    await unit.table(COMMAND).put(sent)
                    claimed.append(sent)
            await unit.commit()
        return claimed

    async def _execute(self, record: CommandRecord, stop: asyncio.Event) -> None:
        try:
            outcome = await self._send(record)
        except GatewayUnavailable:
            outcome = CommandOutcome(result=CommandResult.TIMED_OUT)
        except (RuleBroken, Unavailable) as error:
            _log.warning("command_failed", correlation_id=record.correlation_id, reason=str(error))
            outcome = CommandOutcome(result=CommandResult.REJECTED)
        await self._persist(lambda: self._tell(record, outcome), stop)
        if not self._places:
            self._wake.set()  # others may wait for this place
        self._under_way -= 1

    @property
    def _places(self) -> int:
        return self.office.limits.commands_at_once - self._under_way

    async def _send(self, record: CommandRecord) -> CommandOutcome:
        station_id = record.charging_station_id or ""
        if record.reservation_id is not None:
            return await self._send_reservation(record, station_id, record.reservation_id)
        command = StationCommand(correlation_id=record.correlation_id, timeout_s=self.office.limits.command_timeout_s)
        if record.kind is CommandType.STOP_SESSION:
            stop = StopTransaction(transaction_id=record.transaction_id or "")
            return await self.office.stations.command(
                record.party_id, station_id, replace(command, stop_transaction=stop)
            )
        if record.id_token is None or record.ocpp_evse_id is None or record.remote_start_id is None:
            raise AssertionError(f"START_SESSION {record.command_id} lacks its token or EVSE")
        start = StartTransaction(
            id_token=await self.office.ports.vault.open(record.id_token),
            ocpp_evse_id=record.ocpp_evse_id,
            connector_id=record.connector_id or 1,
            remote_start_id=record.remote_start_id,
        )
        return await self.office.stations.command(
            record.party_id, station_id, replace(command, start_transaction=start)
        )

    async def _send_reservation(self, record: CommandRecord, station_id: str, reservation_id: int) -> CommandOutcome:
        if record.kind is CommandType.CANCEL_RESERVATION:
            _, outcome = await self.reservations.cancel(
                record.party_id, station_id, reservation_id, correlation_id=record.correlation_id, by_emsp=True
            )
            return outcome
        async with self.office.ports.units.begin() as unit:
            wanted = await unit.table(RESERVATION).get(record.party_id, station_id, reservation_id)
        if wanted is None or wanted.command_id != record.command_id or wanted.state is not ReservationState.ASKED:
            return CommandOutcome(result=CommandResult.REJECTED)  # cancelled, replaced or over before it was sent
        return await self.reservations.send(wanted)

    async def _tell(self, record: CommandRecord, outcome: CommandOutcome) -> None:
        """Finish a command; one that can't be finished is seen in the log and holds up no other."""
        try:
            await self._finish(record, outcome)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("command_not_finished", correlation_id=record.correlation_id, exc_info=error)

    async def _finish(self, record: CommandRecord, outcome: CommandOutcome) -> None:
        """Tell the eMSP, and let a start that failed authorise nothing."""
        result = _result_of(record, outcome)
        async with self.office.ports.units.begin() as unit:
            await unit.table(COMMAND).put(replace(record, state=CommandState.DONE, result=result.value, id_token=None))
            await self._withdraw(unit, record, outcome)
            await self.office.host.deliveries.enqueue(
                unit,
                own_party=record.party_id,
                to_party=record.emsp_id,
                method="POST",
                module=ModuleID.COMMANDS.value,
                interface_role=InterfaceRole.SENDER,
                path="",
                object_key=f"command/{record.command_id}",
                body=v221.CommandResult(result=result),
                correlation_id=record.correlation_id,
                is_replaceable=False,
                url=await self.office.ports.vault.open(record.response_url),
            )
            await unit.commit()

    async def _withdraw(self, unit: UnitOfWork, record: CommandRecord, outcome: CommandOutcome) -> None:
        # After a time-out the station may have started all the same; only a clear no takes the authorisation back.
        if record.kind is not CommandType.START_SESSION or outcome.result not in (
            CommandResult.REJECTED,
            CommandResult.NOT_SUPPORTED,
            CommandResult.STATION_OFFLINE,
        ):
            return
        decision = await unit.table(AUTHORIZATION).get_for_update(record.party_id, record.command_id)
        if decision is not None and decision.transaction_id is None:
            withdrawn = replace(decision, is_accepted=False, status="Invalid", reason="COMMAND_FAILED")
            await unit.table(AUTHORIZATION).put(withdrawn)


def _result_of(record: CommandRecord, outcome: CommandOutcome) -> CommandResultType:
    if record.kind is CommandType.RESERVE_NOW:
        return _RESERVED.get(outcome.station_status or "", _RESULTS[outcome.result])
    if record.kind is CommandType.CANCEL_RESERVATION and outcome.result is CommandResult.REJECTED:
        return CommandResultType.UNKNOWN_RESERVATION
    return _RESULTS[outcome.result]


def _identity(command: v221.Command) -> str:
    """What makes two commands the same beside caller and response_url."""
    if isinstance(command, v221.StartSession):
        return "/".join([command.authorization_reference or "", command.location_id, command.token.uid])
    if isinstance(command, v221.ReserveNow):
        moment = command.expiry_date.isoformat()
        return "/".join([command.reservation_id, command.location_id, command.evse_uid or "", moment])
    if isinstance(command, v221.CancelReservation):
        return command.reservation_id
    return command.session_id if isinstance(command, v221.StopSession) else ""
