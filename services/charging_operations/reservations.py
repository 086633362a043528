"""Reservations: an EVSE, a kind of connector or a station held for a token or group until a moment.

OCPP 1.6 has ReserveNow and CancelReservation, 2.x block H. The station enforces a reservation - it refuses whoever it
is not for - and we keep its course: asked, active, and over by use, expiry, cancellation or the station's own doing.
So a start at a reserved EVSE is not refused here: the station has let it happen, and a card held to a station names no
EVSE. A reservation is over when its time is, by our clock, whether or not the station says so.

A reservation is a row before the station is asked. What the station did not answer may be held all the same: it is
cancelled again and again until the station answers, or it expires. A use that is told late is the last word.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import structlog

from emobility.domain.charging_periods import whole_second
from emobility.domain.charging_station import EVSEStatus
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.domain.token import TokenType
from emobility.domain.transaction import Transaction
from emobility.events.charging import IdTokenKind
from emobility.events.event import Envelope
from emobility.events.fold import TransactionReport
from emobility.events.reservations import ReservationEnded
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import Novelty, UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.v221 import CommandResultType, InterfaceRole, ModuleID
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.concurrency import TokenGroup
from services.charging_operations.expired_reservations import ExpiryDesk, Holding
from services.charging_operations.office import GROUP, NotAllowedNow, NotFound, NotUnderstood, Office
from services.charging_operations.publishing import Publisher
from services.charging_operations.records import COMMAND, EVSES, SESSION, TokenRecord
from services.charging_operations.station_calls import OCPP_16, StationOffline, call_station, rfc3339, version_of
from services.charging_operations.stations import evse_at
from services.charging_operations.tokens import group_at_stations, group_key_of, tokens_of

RESERVATION_MAX: Final = timedelta(days=7)
"""How far ahead a reservation may end."""
RESERVATION_ID_MAX: Final = 2**31 - 1
RESERVATIONS_PER_STATION_MAX: Final = 100
"""Reservations of one station that are not over."""
ASKED_MAX: Final = timedelta(minutes=5)
"""How long a station may owe its answer; then a crash of ours has lost it."""
CANCELS_PER_LOOK: Final = 50
"""Of each party."""
_log: Final = structlog.get_logger(__name__)


class ReservationState(StrEnum):
    """Life of a reservation."""

    ASKED = "ASKED"
    ACTIVE = "ACTIVE"
    CANCELLING = "CANCELLING"
    """It is not wanted any more, and the station may still hold it."""
    REFUSED = "REFUSED"
    USED = "USED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    REMOVED = "REMOVED"
    """The station gave it up."""


LIVE: Final = (ReservationState.ASKED, ReservationState.ACTIVE, ReservationState.CANCELLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRecord:
    """A reservation. `reservation_id` is ours; `external_id` its eMSP's, of `command_id`'s RESERVE_NOW.

    No EVSE and no connector type: any of the station. `id_token` is None once it is over, and where only a group was
    named. `answer` is the station's last word.
    """

    party_id: PartyId
    charging_station_id: str
    reservation_id: int
    state: ReservationState
    ocpp_evse_id: int | None
    connector_type: str | None
    id_token: Sealed | None
    id_token_type: str
    group_key: str | None
    emsp_id: PartyId | None
    external_id: str | None
    command_id: str | None
    made_at: datetime
    expires_at: datetime
    correlation_id: str
    ended_at: datetime | None = None
    answer: str | None = None
    transaction_id: str | None = None

    @property
    def key(self) -> tuple[PartyId, str, int]:
        """Its key."""
        return (self.party_id, self.charging_station_id, self.reservation_id)


RESERVATION: Final = TableSpec(
    name="cpo_reservation", record=ReservationRecord, key=("party_id", "charging_station_id", "reservation_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """POST reservations: for a token, with the group it has or one that is named, or for a whole group.

    `connector_type` is in the words of the station's 2.x version.
    """

    expires_at: datetime
    id_token: str | None = None
    kind: IdTokenKind = IdTokenKind.RFID
    group: TokenGroup | None = None
    ocpp_evse_id: int | None = None
    connector_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownReservation:
    """A reservation as operators see it: whom it is for is not said."""

    charging_station_id: str
    reservation_id: int
    state: ReservationState
    ocpp_evse_id: int | None
    connector_type: str | None
    is_for_group: bool
    emsp_id: PartyId | None
    external_id: str | None
    made_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    answer: str | None
    transaction_id: str | None


_ID_TOKEN_TYPES: Final = {
    IdTokenKind.RFID: "ISO14443",
    IdTokenKind.APP: "Central",
    IdTokenKind.PLUG_AND_CHARGE: "eMAID",
    IdTokenKind.NONE: "Central",
}
_KIND_OF: Final = {TokenType.RFID: IdTokenKind.RFID, TokenType.OTHER: IdTokenKind.PLUG_AND_CHARGE}
_AWAY: Final = frozenset({CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE})
_ENDED_AS: Final = {"Expired": ReservationState.EXPIRED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationDesk:
    """Keeps reservations, and has stations make and give them up."""

    office: Office
    publisher: Publisher
    expiries: ExpiryDesk

    # What operators and eMSPs ask

    async def reserve(
        self, party_id: PartyId, station_id: str, request: ReservationRequest, *, correlation_id: str
    ) -> tuple[ReservationRecord, CommandOutcome]:
        """Have a station hold something for somebody; return how it stands, and what the station said.

        Raises:
            StationOffline: it is not connected.
            NotFound: the station has no such EVSE.
            NotUnderstood: nobody, or a moment that can't be, is named.
            NotAllowedNow: the station has too many reservations.
        """
        await version_of(self.office, party_id, station_id)
        async with self.office.ports.units.begin() as unit:
            record = await self._requested(unit, party_id, station_id, request, correlation_id=correlation_id)
            record = await self.enter(unit, record)
            await unit.commit()
        outcome = await self.send(record)
        async with self.office.ports.units.begin() as unit:
            return await unit.table(RESERVATION).get(*record.key) or record, outcome

    async def _requested(
        self, unit: UnitOfWork, party_id: PartyId, station_id: str, request: ReservationRequest, *, correlation_id: str
    ) -> ReservationRecord:
        vault = self.office.ports.vault
        token: TokenRecord | None = None
        group_key = None
        if request.id_token:
            tokens = await tokens_of(unit, party_id, vault.subject_of(request.id_token))
            token = next(iter(tokens), None)
            group_key = token.group_key if token is not None else None
        if request.group is not None:
            group_key = group_key_of(vault, request.group.emsp_id, request.group.group_id)
        if not request.id_token and group_key is None:
            raise NotUnderstood("a reservation is for a token or a group")
        return self.record(
            party_id=party_id,
            charging_station_id=station_id,
            ocpp_evse_id=request.ocpp_evse_id,
            connector_type=request.connector_type,
            id_token=await vault.seal(request.id_token) if request.id_token else None,
            id_token_type=_ID_TOKEN_TYPES[request.kind],
            group_key=group_key,
            expires_at=request.expires_at,
            correlation_id=correlation_id,
        )

    def record(
        self, *, party_id: PartyId, charging_station_id: str, expires_at: datetime, **fields: Any
    ) -> ReservationRecord:
        """Return a new reservation that nobody was asked about yet."""
        number = int.from_bytes(self.office.ports.randomness.token_bytes(4)) % RESERVATION_ID_MAX + 1
        unnamed = {"connector_type": None, "emsp_id": None, "external_id": None, "command_id": None}
        return ReservationRecord(
            party_id=party_id,
            charging_station_id=charging_station_id,
            reservation_id=number,
            state=ReservationState.ASKED,
            made_at=self.office.now(),
            expires_at=expires_at,
            **(unnamed | fields),
        )

    async def enter(self, unit: UnitOfWork, record: ReservationRecord) -> ReservationRecord:
        """Store a new reservation. Raises `NotFound`, `NotUnderstood`, `NotAllowedNow`."""
        self._check_moment(record)
        if record.ocpp_evse_id is not None:
            known = await evse_at(unit, record.party_id, record.charging_station_id, record.ocpp_evse_id)
            if known is None:
                raise NotFound(f"station {record.charging_station_id} has no EVSE {record.ocpp_evse_id}")
        where = {"party_id": record.party_id, "charging_station_id": record.charging_station_id}
        if await unit.table(RESERVATION).count(where | {"state": LIVE}) >= RESERVATIONS_PER_STATION_MAX:
            raise NotAllowedNow("the station has too many reservations")
        try:
            await unit.table(RESERVATION).insert(record)
        except RecordExists as error:
            raise NotAllowedNow("the number was given before; ask again") from error
        return record

    async def replace(self, unit: UnitOfWork, known: ReservationRecord, wanted: ReservationRecord) -> bool:
        """Put another under the number of a reservation that is not over; tell whether it is at the same station.

        A station replaces a reservation that has the same number (1.6, 5.13; 2.0.1, H01).

        Raises:
            NotUnderstood: it ends at a moment that can't be.
        """
        self._check_moment(wanted)
        current = await unit.table(RESERVATION).get_for_update(*known.key)
        is_possible = current is not None and current.state in LIVE
        if not is_possible or known.charging_station_id != wanted.charging_station_id:
            return False
        await unit.table(RESERVATION).put(replace(wanted, reservation_id=known.reservation_id))
        return True

    def _check_moment(self, record: ReservationRecord) -> None:
        if not self.office.now() < record.expires_at <= self.office.now() + RESERVATION_MAX:
            raise NotUnderstood(f"a reservation ends within {RESERVATION_MAX.days} days from now")

    async def of_emsp(
        self, unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId, external_id: str
    ) -> ReservationRecord | None:
        """Return an eMSP's reservation that is not over, by the eMSP's own id."""
        rows = await unit.table(RESERVATION).select(
            {"party_id": party_id, "emsp_id": emsp_id, "external_id": external_id, "state": LIVE}
        )
        return next(iter(rows), None)

    async def send(self, record: ReservationRecord) -> CommandOutcome:
        """Ask the station, once the row is stored; what it says is settled in the row before this returns."""
        try:
            outcome = await self._reserve_now(record)
        except StationOffline:
            outcome = CommandOutcome(result=CommandResult.STATION_OFFLINE)
        except NotUnderstood as error:
            outcome = CommandOutcome(result=CommandResult.NOT_SUPPORTED, station_status=str(error))
        except Unavailable:
            outcome = CommandOutcome(result=CommandResult.TIMED_OUT)
        is_standing = await self._settle(record, outcome)
        return outcome if is_standing else CommandOutcome(result=CommandResult.REJECTED)

    async def _reserve_now(self, record: ReservationRecord) -> CommandOutcome:
        is_16 = await version_of(self.office, record.party_id, record.charging_station_id) == OCPP_16
        if is_16 and record.connector_type is not None:
            raise NotUnderstood("OCPP 1.6 reserves no kind of connector")
        group = None if record.group_key is None else group_at_stations(record.group_key)
        # A whole group: no card has the name that we gave the group, so it is nobody's alone.
        id_token = group if record.id_token is None else await self.office.ports.vault.open(record.id_token)
        assert id_token is not None
        payload = _reserve_now_16(record, id_token, group) if is_16 else _reserve_now_201(record, id_token, group)
        return await call_station(
            self.office,
            record.party_id,
            record.charging_station_id,
            "ReserveNow",
            payload,
            correlation_id=record.correlation_id,
        )

    async def _settle(self, record: ReservationRecord, outcome: CommandOutcome) -> bool:
        """Store what the station said; tell whether it still matters: the reservation was not given up meanwhile."""
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(RESERVATION).get_for_update(*record.key)
            if current is None or current.state is not ReservationState.ASKED:
                return current is not None and current.state is ReservationState.USED
            current = replace(current, answer=outcome.station_status or outcome.result)
            if outcome.result is CommandResult.ACCEPTED:
                await unit.table(RESERVATION).put(replace(current, state=ReservationState.ACTIVE))
                await self._show(unit, current, EVSEStatus.RESERVED)
            elif outcome.result is CommandResult.TIMED_OUT:
                await unit.table(RESERVATION).put(replace(current, state=ReservationState.CANCELLING))
            else:
                await self._end(unit, current, ReservationState.REFUSED)
            await unit.commit()
        return True

    async def cancel(
        self, party_id: PartyId, station_id: str, reservation_id: int, *, correlation_id: str, by_emsp: bool = False
    ) -> tuple[ReservationRecord, CommandOutcome]:
        """Have a station give a reservation up; one that does not answer is asked again.

        Raises:
            NotFound: there is no such reservation.
            NotAllowedNow: it is over.
        """
        async with self.office.ports.units.begin() as unit:
            record = await unit.table(RESERVATION).get_for_update(party_id, station_id, reservation_id)
            if record is None:
                raise NotFound(f"no reservation {reservation_id}")
            if record.state not in LIVE:
                raise NotAllowedNow(f"reservation {reservation_id} is {record.state}")
            was_wanted = record.state is not ReservationState.CANCELLING
            record = replace(record, state=ReservationState.CANCELLING)
            await unit.table(RESERVATION).put(record)
            if was_wanted and not by_emsp:
                await self._tell_emsp(unit, record)
            await unit.commit()
        outcome = await self._cancel_at_station(record, correlation_id)
        async with self.office.ports.units.begin() as unit:
            return await unit.table(RESERVATION).get(*record.key) or record, outcome

    async def _cancel_at_station(self, record: ReservationRecord, correlation_id: str) -> CommandOutcome:
        try:
            outcome = await call_station(
                self.office,
                record.party_id,
                record.charging_station_id,
                "CancelReservation",
                {"reservationId": record.reservation_id},
                correlation_id=correlation_id,
            )
        except Unavailable:
            outcome = CommandOutcome(result=CommandResult.TIMED_OUT)
        if outcome.result in _AWAY:
            return outcome
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(RESERVATION).get_for_update(*record.key)
            if current is not None and current.state is ReservationState.CANCELLING:
                # Rejected: it does not know the reservation, so it holds nothing.
                current = replace(current, answer=outcome.station_status or outcome.result)
                await self._end(unit, current, ReservationState.CANCELLED)
                await unit.commit()
        return outcome

    # What stations tell

    async def take_use(self, unit: UnitOfWork, event: TransactionReport) -> None:
        """A transaction uses a reservation up; that comes late or twice, and is the last word."""
        if event.reservation_id is None:
            return
        row = await unit.table(RESERVATION).get_for_update(
            event.party_id, event.charging_station_id, event.reservation_id
        )
        if row is not None and row.state is not ReservationState.USED:
            used = replace(row, transaction_id=event.transaction_id)
            if row.state is ReservationState.EXPIRED:
                await self.expiries.take_back(unit, _held(row, until=row.expires_at))
            await self._end(unit, used, ReservationState.USED)
            await _hold_for_session(unit, used)

    async def take_end(self, unit: UnitOfWork, envelope: Envelope, event: ReservationEnded) -> None:
        """A station gave a reservation up; of one that is over already that changes nothing."""
        row = await unit.table(RESERVATION).get_for_update(
            event.party_id, event.charging_station_id, event.reservation_id
        )
        if row is None or row.state not in LIVE or await unit.novelty(GROUP, envelope) is Novelty.REPEATED:
            return
        state = _ENDED_AS.get(event.status, ReservationState.REMOVED)
        if state is ReservationState.REMOVED and row.state is ReservationState.ACTIVE:
            await self._tell_emsp(unit, row)
        await self._end(unit, replace(row, answer=event.status), state)

    # What nobody tells

    async def watch(self) -> None:
        """End what is over by our clock, and cancel again what a station did not answer."""
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            over = await unit.table(RESERVATION).select({"state": LIVE}, before=("expires_at", now))
            unanswered = await unit.table(RESERVATION).select(
                {"state": ReservationState.ASKED}, before=("made_at", now - ASKED_MAX)
            )
            unwanted = await unit.table(RESERVATION).select(
                {"state": ReservationState.CANCELLING}, since=("expires_at", now), order_by=("made_at",)
            )
        for row in over:
            await self._change(row, ReservationState.EXPIRED)
        for row in unanswered:
            await self._change(row, ReservationState.CANCELLING)
        if unwanted:
            await self._cancel_again(unwanted)

    async def _cancel_again(self, unwanted: list[ReservationRecord]) -> None:
        reachable: list[ReservationRecord] = []
        for party_id in sorted({row.party_id for row in unwanted}):
            try:
                presences = await self.office.stations.stations(party_id)
            except (Unavailable, RuleBroken) as error:
                _log.info("presence_unknown", party_id=party_id.code, reason=str(error))
                continue
            online = {each.charging_station_id for each in presences if each.is_online}
            own = [row for row in unwanted if row.party_id == party_id and row.charging_station_id in online]
            reachable += own[:CANCELS_PER_LOOK]
        # Side by side: a silent station costs half a minute, and what is over by our clock waits for the next look.
        await asyncio.gather(*map(self._cancel_once_more, reachable))

    async def _cancel_once_more(self, row: ReservationRecord) -> None:
        try:
            await self._cancel_at_station(row, row.correlation_id)
        except RuleBroken as error:
            _log.warning("reservation_not_cancelled", correlation_id=row.correlation_id, reason=str(error))

    async def _change(self, row: ReservationRecord, state: ReservationState) -> None:
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(RESERVATION).get_for_update(*row.key)
            if current is None or current.state is not row.state:
                return
            if state in LIVE:
                await unit.table(RESERVATION).put(replace(current, state=state))
            else:
                await self._end(unit, current, state)
            await unit.commit()

    async def _end(self, unit: UnitOfWork, row: ReservationRecord, state: ReservationState) -> None:
        ended = replace(row, state=state, ended_at=row.ended_at or self.office.now(), id_token=None)
        await unit.table(RESERVATION).put(ended)
        if state is ReservationState.EXPIRED and row.state is ReservationState.ACTIVE:
            await self.expiries.bill(unit, _held(row, until=ended.ended_at or row.expires_at))
        if state is not ReservationState.USED:
            await self._show(unit, ended, EVSEStatus.AVAILABLE)

    async def _show(self, unit: UnitOfWork, row: ReservationRecord, status: EVSEStatus) -> None:
        """Show an EVSE as reserved, or no more, until its station says what it is: some are silent."""
        if row.ocpp_evse_id is None:
            return
        where = {
            "party_id": row.party_id,
            "charging_station_id": row.charging_station_id,
            "ocpp_evse_id": row.ocpp_evse_id,
        }
        for found in await unit.table(EVSES).select(where):
            evse = await unit.table(EVSES).get_for_update(found.party_id, found.evse_uid)
            is_reserved = status is EVSEStatus.RESERVED
            shown_as = {EVSEStatus.AVAILABLE, EVSEStatus.UNKNOWN} if is_reserved else {EVSEStatus.RESERVED}
            if evse is None or evse.status not in shown_as:
                continue
            held = await unit.table(RESERVATION).count(where | {"state": ReservationState.ACTIVE})
            if not is_reserved and held:
                continue
            changed = replace(evse, status=status, last_updated=self.office.now())
            await self.publisher.publish_evse(unit, changed, correlation_id=row.correlation_id)
            await unit.table(EVSES).put(changed)

    async def _tell_emsp(self, unit: UnitOfWork, row: ReservationRecord) -> None:
        """OCPI 2.2.1, 13.4.2: an eMSP whose reservation is given up hears CANCELED_RESERVATION at its response_url."""
        command = None if row.command_id is None else await unit.table(COMMAND).get(row.party_id, row.command_id)
        if command is None:
            return
        await self.office.host.deliveries.enqueue(
            unit,
            own_party=command.party_id,
            to_party=command.emsp_id,
            method="POST",
            module=ModuleID.COMMANDS.value,
            interface_role=InterfaceRole.SENDER,
            path="",
            object_key=f"command/{command.command_id}/cancelled",
            body=v221.CommandResult(result=CommandResultType.CANCELED_RESERVATION),
            correlation_id=row.correlation_id,
            is_replaceable=False,
            url=await self.office.ports.vault.open(command.response_url),
        )


async def reserved_from(unit: UnitOfWork, transaction: Transaction) -> datetime | None:
    """Return since when the EVSE of a transaction had been reserved for it; None: it was not."""
    rows = await unit.table(RESERVATION).select(
        {
            "party_id": transaction.party_id,
            "charging_station_id": transaction.charging_station_id,
            "transaction_id": transaction.transaction_id,
        }
    )
    return min((whole_second(row.made_at) for row in rows), default=None)


def _held(row: ReservationRecord, *, until: datetime) -> Holding:
    return Holding(
        party_id=row.party_id,
        charging_station_id=row.charging_station_id,
        reservation_id=row.reservation_id,
        ocpp_evse_id=row.ocpp_evse_id,
        emsp_id=row.emsp_id,
        token_subject=None if row.id_token is None else row.id_token.subject,
        made_at=row.made_at,
        until=min(until, row.expires_at),
        correlation_id=row.correlation_id,
    )


async def _hold_for_session(unit: UnitOfWork, row: ReservationRecord) -> None:
    """A use that is told after the session was opened still counts for it."""
    where = {name: getattr(row, name) for name in ("party_id", "charging_station_id", "transaction_id")}
    for found in await unit.table(SESSION).select(where):
        session = await unit.table(SESSION).get_for_update(found.party_id, found.session_id)
        if session is not None and session.session.reserved_from is None:
            held = replace(session.session, reserved_from=whole_second(row.made_at))
            await unit.table(SESSION).put(replace(session, session=held))


def id_token_type_of(token_type: TokenType) -> str:
    """Return what 2.x calls an OCPI token."""
    return _ID_TOKEN_TYPES[_KIND_OF.get(token_type, IdTokenKind.APP)]


def shown_reservation(row: ReservationRecord, now: datetime) -> ShownReservation:
    """Return a reservation as operators see it; over when its time is, before anybody looked for it."""
    is_over = row.state in LIVE and row.expires_at <= now
    return ShownReservation(
        charging_station_id=row.charging_station_id,
        reservation_id=row.reservation_id,
        state=ReservationState.EXPIRED if is_over else row.state,
        ocpp_evse_id=row.ocpp_evse_id,
        connector_type=row.connector_type,
        is_for_group=row.group_key is not None,
        emsp_id=row.emsp_id,
        external_id=row.external_id,
        made_at=row.made_at,
        expires_at=row.expires_at,
        ended_at=row.expires_at if is_over else row.ended_at,
        answer=row.answer,
        transaction_id=row.transaction_id,
    )


def _reserve_now_16(record: ReservationRecord, id_token: str, group: str | None) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "connectorId": record.ocpp_evse_id or 0,
        "expiryDate": rfc3339(record.expires_at),
        "idTag": id_token,
        "reservationId": record.reservation_id,
    }
    return payload if group is None else payload | {"parentIdTag": group}


def _reserve_now_201(record: ReservationRecord, id_token: str, group: str | None) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "id": record.reservation_id,
        "expiryDateTime": rfc3339(record.expires_at),
        "idToken": {"idToken": id_token, "type": "Central" if record.id_token is None else record.id_token_type},
    }
    if record.ocpp_evse_id is not None:
        payload["evseId"] = record.ocpp_evse_id
    if record.connector_type is not None:
        payload["connectorType"] = record.connector_type
    if group is not None:
        payload["groupIdToken"] = {"idToken": group, "type": "Central"}
    return payload
