"""Remote start and stop: OCPI commands through the hub, and the results that come back later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog

from emobility.domain.errors import EmobilityError, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.session import SessionStatus
from emobility.domain.token import TokenType
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.mapping import token_to_ocpi
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import NoSuchObject
from emobility.protocols.ocpi.v221 import (
    CommandResponse,
    CommandResponseType,
    CommandResult,
    CommandResultType,
    CommandType,
    InterfaceRole,
    ModuleID,
)
from emobility.runtime.backlog import Backlog
from services.driver_mobility.quoting import QuoteUsed, Quoting
from services.driver_mobility.records import (
    COMMAND,
    QUOTE,
    SESSION,
    TOKEN,
    CommandRecord,
    CommandState,
    DriverToken,
    QuoteRecord,
    QuoteState,
    SessionRecord,
)
from services.driver_mobility.tokens import as_domain

TIMEOUT_S_DEFAULT: Final = 60
"""How long a result is waited for when the CPO did not say."""
TIMEOUT_S_MAX: Final = 300
GRACE_S: Final = 5.0
"""Beyond the CPO's own time-out, before a command counts as lost."""

_log = structlog.get_logger(__name__)


class StartRefused(RuleBroken):
    """The CPO or the station did not take the command."""

    def __init__(self, *, result: str) -> None:
        self.result = result
        super().__init__(f"the command was answered {result}")


class NoAppToken(RuleBroken):
    """The driver has no valid app token to start with."""


class UnknownSession(RuleBroken):
    """The driver has no such session, or it is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outgoing:
    """A command and the body that goes to the CPO."""

    record: CommandRecord
    body: v221.Command


class Commanding:
    """Sends commands in a driver's name and follows them until their result is known."""

    def __init__(self, ports: Ports, quoting: Quoting) -> None:
        self._ports = ports
        self._quoting = quoting
        self._host: OCPIHost | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self._backlog = Backlog(ports.units, COMMAND, {"state": CommandState.SENT})

    def use(self, host: OCPIHost) -> None:
        """Speak through `host`; it is made after this object, whose interface it serves."""
        self._host = host

    def interface(self) -> Interface:
        """Return the OCPI sender interface, where results arrive."""
        module = Interface(ModuleID.COMMANDS, InterfaceRole.SENDER)
        module.route("POST", "/{command}/{command_id}")(self._result)
        return module

    async def start(self, quote: QuoteRecord, *, correlation_id: str) -> CommandRecord:
        """Command a start under an authorised quote; one that is refused gives the quote up.

        Raises:
            NoAppToken: the driver has none.
            StartRefused: the CPO said no.
            NoRoute, PeerUnreachable, PeerTimedOut, PeerFailed, PeerRefused: the CPO can't be asked.
        """
        async with self._ports.units.begin() as unit:
            token = await self._app_token(unit, quote)
        wire = await token_to_ocpi(as_domain(token), self._ports.vault)
        record = self._record(CommandType.START_SESSION, quote.party_id, quote.cpo_id, quote.driver_id)
        body = v221.StartSession(
            response_url=self._response_url(record),
            token=wire,
            location_id=quote.quote.location_id,
            evse_uid=quote.quote.evse_uid,
            connector_id=quote.quote.connector_id,
            authorization_reference=quote.quote_id,
        )
        outgoing = _Outgoing(record=replace(record, quote_id=quote.quote_id), body=body)
        return await self._send(outgoing, correlation_id=correlation_id)

    async def stop(self, session: SessionRecord, *, correlation_id: str) -> CommandRecord:
        """Command a stop. Raises as `start` does."""
        record = self._record(CommandType.STOP_SESSION, session.party_id, session.cpo_id, session.driver_id)
        body = v221.StopSession(response_url=self._response_url(record), session_id=session.session_id)
        outgoing = _Outgoing(record=replace(record, session_id=session.session_id), body=body)
        return await self._send(outgoing, correlation_id=correlation_id)

    async def session_of(self, emsp_id: PartyId, driver_id: str, session_id: str) -> SessionRecord:
        """Return a driver's running session. Raises `UnknownSession`, for another driver's too."""
        async with self._ports.units.begin() as unit:
            found = await unit.table(SESSION).select(
                {"party_id": emsp_id, "driver_id": driver_id, "session_id": session_id}
            )
        running = [row for row in found if row.status in {SessionStatus.ACTIVE, SessionStatus.PENDING}]
        if not running:
            raise UnknownSession(session_id)
        return running[0]

    async def in_flight(self) -> int:
        """Count commands whose result is still awaited."""
        return await self._backlog.count()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch commands that were under way before a restart; drop all watches when `stop` is set."""
        async with self._ports.units.begin() as unit:
            for record in await unit.table(COMMAND).select({"state": CommandState.SENT}):
                self._watch(record)
        await stop.wait()
        for watch in list(self._watches):
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def _app_token(self, unit: UnitOfWork, quote: QuoteRecord) -> DriverToken:
        found = await unit.table(TOKEN).select(
            {
                "party_id": quote.party_id,
                "driver_id": quote.driver_id,
                "token_type": TokenType.APP_USER,
                "is_valid": True,
            },
            limit=1,
        )
        if not found:
            raise NoAppToken(f"driver {quote.driver_id} has no app token")
        return found[0]

    def _record(self, kind: CommandType, emsp_id: PartyId, cpo_id: PartyId, driver_id: str) -> CommandRecord:
        return CommandRecord(
            party_id=emsp_id,
            command_id=self._ports.randomness.uuid(),
            kind=kind,
            cpo_id=cpo_id,
            driver_id=driver_id,
            quote_id=None,
            session_id=None,
            state=CommandState.SENT,
            result=None,
            timeout_s=TIMEOUT_S_DEFAULT,
            sent_at=self._ports.clock.now(),
        )

    def _response_url(self, record: CommandRecord) -> str:
        assert self._host is not None
        base = self._host.endpoint_url(record.party_id, ModuleID.COMMANDS, InterfaceRole.SENDER)
        return f"{base}/{record.kind}/{record.command_id}"

    async def _send(self, outgoing: _Outgoing, *, correlation_id: str) -> CommandRecord:
        assert self._host is not None
        record = outgoing.record
        async with self._ports.units.begin() as unit:
            await self._refuse_second_start(unit, record)
            await unit.table(COMMAND).insert(record)
            await unit.commit()
        try:
            client = await self._host.connect(record.party_id, record.cpo_id)
            answer = await client.post(
                ModuleID.COMMANDS,
                InterfaceRole.RECEIVER,
                record.kind.value,
                outgoing.body,
                to_party=record.cpo_id,
                correlation_id=correlation_id,
            )
            response = answer.as_(CommandResponse)
        except EmobilityError as error:
            await self._close(record, state=CommandState.REFUSED, result=type(error).__name__)
            raise
        if response.result is not CommandResponseType.ACCEPTED:
            await self._close(record, state=CommandState.REFUSED, result=response.result.value)
            raise StartRefused(result=response.result.value)
        waiting = replace(record, timeout_s=min(max(response.timeout, 1), TIMEOUT_S_MAX))
        self._watch(waiting)
        return waiting

    async def _refuse_second_start(self, unit: UnitOfWork, record: CommandRecord) -> None:
        """One quote starts one charge, however many requests race for it. Raises `QuoteUsed`."""
        if record.quote_id is None:
            return
        quote = await unit.table(QUOTE).get_for_update(record.party_id, record.quote_id)
        sent = await unit.table(COMMAND).count({"party_id": record.party_id, "quote_id": record.quote_id})
        if quote is None or quote.state is not QuoteState.AUTHORIZED or sent:
            raise QuoteUsed(f"quote {record.quote_id} started a charge already")

    def _watch(self, record: CommandRecord) -> None:
        task = asyncio.create_task(self._give_up_later(record))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _give_up_later(self, record: CommandRecord) -> None:
        await self._ports.timer.sleep(record.timeout_s + GRACE_S)
        await self._close(record, state=CommandState.TIMED_OUT, result=CommandResultType.TIMEOUT.value)

    async def _result(self, call: OCPICall) -> Reply:
        """Take a result in once (OCPI 2.2.1, 13.2.2.1). Raises `NoSuchObject` for a callback unknown or used."""
        posted = call.read(CommandResult)
        async with self._ports.units.begin() as unit:
            record = await unit.table(COMMAND).get(call.own_party, call.path["command_id"])
        if record is None or record.kind != call.path["command"] or record.state is not CommandState.SENT:
            raise NoSuchObject("command")
        is_accepted = posted.result is CommandResultType.ACCEPTED
        state = CommandState.ACCEPTED if is_accepted else CommandState.REFUSED
        await self._close(record, state=state, result=posted.result.value)
        return Reply()

    async def _close(self, record: CommandRecord, *, state: CommandState, result: str) -> None:
        """Enter how a command ended; a start that failed gives its quote and hold up."""
        async with self._ports.units.begin() as unit:
            current = await unit.table(COMMAND).get_for_update(record.party_id, record.command_id)
            if current is None or current.state is not CommandState.SENT:
                return
            await unit.table(COMMAND).put(replace(current, state=state, result=result))
            if current.quote_id is not None and state is not CommandState.ACCEPTED:
                quote = await unit.table(QUOTE).get(current.party_id, current.quote_id)
                if quote is not None:
                    await self._quoting.refuse(unit, quote, reason=result)
            await unit.commit()
        _log.debug("command_ended", command_id=record.command_id, kind=record.kind.value, result=result)
