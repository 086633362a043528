"""Local authorisation lists: whom each station may let in by itself, kept as the CPO's token cache has it.

A list holds what the decision table accepts of a station that is offline and lets it keep (`domain/authorization`): no
token whose whitelist is NEVER, none that is blocked, none without an agreement in force - and none after it: the entry
expires with the agreement. Where the station allows fewer, those that charged last come first.

We number the versions. A Differential goes from the version that the station is known to have; after each reconnect it
is asked which that is, and any doubt - another version, no answer, VersionMismatch, Failed - ends in a Full. A Full
that needs more than one message goes on in Differentials, and is begun anew if it did not come to its end.

Additions wait for the next look, so that thousands of pushed tokens make one update. What is withdrawn goes at once,
from the lists and, by ClearCache, from every cache that may hold it; a station that is away gets it when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.charging import StationBooted, TransactionStarted
from emobility.events.event import Envelope
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandResult
from services.charging_operations.local_list_records import (
    LOCAL_LIST,
    LOCAL_LIST_ENTRY,
    ChosenToken,
    LocalListMode,
    LocalListRecord,
    LocalListRequest,
    LocalListState,
    ShownLocalList,
    all_rows,
    due,
    has_a_list,
)
from services.charging_operations.local_list_sending import Key, LocalListSender
from services.charging_operations.office import NotUnderstood, Office
from services.charging_operations.records import CPO
from services.charging_operations.station_calls import call_station
from services.charging_operations.token_changes import (
    CACHE_CLEARING,
    TOKEN_REVISION,
    TOKEN_USE,
    CacheClearingRecord,
    TokenRevisionRecord,
    TokenUseRecord,
)

CHOSEN_MAX: Final = 10_000
"""Tokens that an operator may choose for one station."""
RETRY_AFTER: Final = timedelta(hours=1)
"""When a list that its station refused is tried again."""
RENEW_AFTER: Final = timedelta(hours=24)
"""When a list is looked through though no token changed: agreements began or ended, others charged last."""
SYNCS_AT_ONCE: Final = 10
"""Stations of one party that are told at the same time."""
SYNCS_PER_TURN: Final = 200
"""Lists of one party that are brought into line before it is looked again what was withdrawn meanwhile."""
LOOK_INTERVAL_S: Final = 60.0
PROMPT_S: Final = 1.0
"""How long after a withdrawal lists follow: those that come together go together."""
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListDesk:
    """Keeps stations' lists in line with the tokens."""

    office: Office
    sender: LocalListSender
    seen: dict[PartyId, TokenRevisionRecord] = field(default_factory=dict)
    """Up to which change of tokens this process has looked."""
    connected: dict[Key, datetime] = field(default_factory=dict)
    """Since when each station was connected when this process last looked."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    turns: dict[PartyId, asyncio.Task[None]] = field(default_factory=dict)
    """Of each party, the turn that is under way, or whose end nobody has seen yet."""

    # What operators ask

    async def put(self, unit: UnitOfWork, party_id: PartyId, station_id: str, request: LocalListRequest) -> None:
        """Decide which tokens a station gets; it follows at the next look. Raises `NotUnderstood`."""
        if len(request.tokens) > CHOSEN_MAX:
            raise NotUnderstood(f"at most {CHOSEN_MAX} tokens can be chosen")
        subject_of = self.office.ports.vault.subject_of
        named = {ChosenToken(emsp_id=each.emsp_id, token_subject=subject_of(each.uid)) for each in request.tokens}
        chosen = tuple(sorted(named, key=lambda each: (each.emsp_id, each.token_subject)))
        known = await unit.table(LOCAL_LIST).get_for_update(party_id, station_id)
        row = known or LocalListRecord(party_id=party_id, charging_station_id=station_id, mode=request.mode)
        changed = replace(row, mode=request.mode, chosen=chosen if request.mode is LocalListMode.CHOSEN else ())
        await unit.table(LOCAL_LIST).put(due(changed))
        unit.on_commit(self.wake.set)

    async def shown(self, unit: UnitOfWork, party_id: PartyId, station_id: str) -> ShownLocalList:
        """Return how a station's list stands; of one that nobody decided about, that it has none."""
        row = await unit.table(LOCAL_LIST).get(party_id, station_id)
        if row is None:
            row = LocalListRecord(
                party_id=party_id,
                charging_station_id=station_id,
                mode=LocalListMode.NONE,
                state=LocalListState.IN_SYNC,
            )
        where = {"party_id": party_id, "charging_station_id": station_id}
        return ShownLocalList(
            mode=row.mode,
            state=row.state,
            version=row.version,
            entries=await unit.table(LOCAL_LIST_ENTRY).count(where),
            wanted=row.wanted,
            chosen=len(row.chosen),
            answer=row.answer,
            tried_at=row.tried_at,
            version_checked_at=row.version_checked_at,
            synced_at=row.synced_at,
        )

    # What is told

    async def take_boot(self, unit: UnitOfWork, event: StationBooted) -> None:
        """A station that starts may have lost its list, or have learnt to keep one."""
        row = await unit.table(LOCAL_LIST).get_for_update(event.party_id, event.charging_station_id)
        if row is not None and has_a_list(row):
            await unit.table(LOCAL_LIST).put(due(replace(row, version_checked_at=None)))
            unit.on_commit(self.wake.set)

    async def take_use(self, unit: UnitOfWork, envelope: Envelope, event: TransactionStarted) -> None:
        """Note who charges: lists that are too short hold those who did last."""
        if event.id_token is None or await unit.table(CPO).get(event.party_id) is None:
            return
        use = TokenUseRecord(
            party_id=event.party_id, token_subject=event.id_token.subject, last_used_at=envelope.recorded_at
        )
        known = await unit.table(TOKEN_USE).get_for_update(use.party_id, use.token_subject)
        if known is None or known.last_used_at < use.last_used_at:
            await unit.table(TOKEN_USE).put(use)

    # Looking

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again, and soon after something was withdrawn, until `stop` is set."""
        self.office.ports.units.on_change(TOKEN_REVISION, self.wake.set)
        timer, whole_look_s = self.office.ports.timer, 0.0
        while not stop.is_set():
            self.wake.clear()
            try:
                if timer.monotonic_s() >= whole_look_s:
                    whole_look_s = timer.monotonic_s() + LOOK_INTERVAL_S
                    await self.watch()
                else:
                    await self.follow_withdrawals()
            except (Unavailable, RuleBroken) as error:
                _log.warning("local_lists_wait", reason=str(error))
            await self._rest(LOOK_INTERVAL_S, stop, self.wake)
            if self.wake.is_set():
                await self._rest(PROMPT_S, stop)
        for turn in self.turns.values():
            turn.cancel()
        await asyncio.gather(*self.turns.values(), return_exceptions=True)

    async def _rest(self, seconds: float, *events: asyncio.Event) -> None:
        """Wait for so long, or for one of the events."""
        waiting = {asyncio.create_task(each.wait()) for each in events}
        sleeping = asyncio.create_task(self.office.ports.timer.sleep(seconds))
        try:
            await asyncio.wait({*waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (*waiting, sleeping):
                each.cancel()

    async def watch(self) -> None:
        """Find every list that may be out of line, and bring those into line whose stations are connected."""
        await self._note_changes()
        online = await self._online()
        await self._note_reconnects(online)
        await self._note_time()
        await self._serve(online)

    async def follow_withdrawals(self) -> None:
        """Do the same for what can't wait: tokens that were withdrawn, and lists that somebody asked for."""
        await self._note_changes(only_withdrawals=True)
        online = await self._online()
        await self._serve(online)

    async def _note_changes(self, *, only_withdrawals: bool = False) -> None:
        new: dict[PartyId, TokenRevisionRecord] = {}
        behind: list[LocalListRecord] = []
        async with self.office.ports.units.begin() as unit:
            for revision in await unit.table(TOKEN_REVISION).select():
                seen = self.seen.get(revision.party_id)
                if seen == revision or (only_withdrawals and seen and seen.withdrawals == revision.withdrawals):
                    continue
                new[revision.party_id] = revision
                where = {"party_id": revision.party_id, "mode": (LocalListMode.CACHED, LocalListMode.CHOSEN)}
                rows = await all_rows(unit, LOCAL_LIST, where)
                behind += [row for row in rows if row.token_revision != revision.revision]
            await self._mark(unit, behind)
        self.seen.update(new)

    async def _online(self) -> dict[Key, datetime]:
        """Return since when each station is connected, of the parties that have lists or caches to keep."""
        async with self.office.ports.units.begin() as unit:
            parties = {party for (party,) in await unit.table(LOCAL_LIST).distinct(("party_id",))}
            parties |= {party for (party,) in await unit.table(CACHE_CLEARING).distinct(("party_id",))}
        found: dict[Key, datetime] = {}
        for party_id in sorted(parties):
            for each in await self.office.stations.stations(party_id):
                if each.is_online:
                    found[party_id, each.charging_station_id] = each.connected_at
        return found

    async def _note_reconnects(self, online: Mapping[Key, datetime]) -> None:
        again = {key: since for key, since in online.items() if self.connected.get(key) != since}
        async with self.office.ports.units.begin() as unit:
            rows = [await unit.table(LOCAL_LIST).get(*key) for key in again]
            known = [row for row in rows if row is not None and has_a_list(row)]
            unsure = [row for row in known if row.version_checked_at and row.version_checked_at < again[row.key]]
            await self._mark(unit, unsure, version_checked_at=None)
        self.connected.update(again)

    async def _note_time(self) -> None:
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            table = unit.table(LOCAL_LIST)
            failed = await table.select({"state": LocalListState.FAILED}, before=("tried_at", now - RETRY_AFTER))
            old = await table.select(
                {"state": LocalListState.IN_SYNC, "mode": (LocalListMode.CACHED, LocalListMode.CHOSEN)},
                before=("tried_at", now - RENEW_AFTER),
            )
            await self._mark(unit, [*failed, *old])

    async def _mark(self, unit: UnitOfWork, rows: Iterable[LocalListRecord], **changes: Any) -> None:
        """Make lists due and commit; where there are none the unit stays one that changed nothing."""
        marked = False
        for row in rows:
            current = await unit.table(LOCAL_LIST).get_for_update(*row.key)
            if current is not None:
                await unit.table(LOCAL_LIST).put(due(replace(current, **changes)))
                marked = True
        if marked:
            await unit.commit()

    async def _serve(self, online: Mapping[Key, datetime]) -> None:
        """Bring lists and caches into line, the parties side by side: one whose stations are silent holds up no other.

        Such a party's turn goes on while this returns; it gets the next once that has ended.
        """
        async with self.office.ports.units.begin() as unit:
            due_lists = await unit.table(LOCAL_LIST).select({"state": LocalListState.DUE}, order_by=("tried_at",))
            clearings = await unit.table(CACHE_CLEARING).select()
        due_lists = [row for row in due_lists if row.key in online]
        clearings = [row for row in clearings if (row.party_id, row.charging_station_id) in online]
        parties = {row.party_id for row in due_lists} | {row.party_id for row in clearings}
        for party_id in sorted(parties - self.turns.keys()):
            lists = [row for row in due_lists if row.party_id == party_id]
            caches = [row for row in clearings if row.party_id == party_id]
            self.turns[party_id] = asyncio.create_task(self._turn(lists, caches))
        if self.turns:
            await asyncio.wait(self.turns.values(), timeout=LOOK_INTERVAL_S)
        ended = [self.turns.pop(party_id) for party_id, turn in list(self.turns.items()) if turn.done()]
        for each in ended:
            each.result()

    async def _turn(self, lists: Sequence[LocalListRecord], caches: Sequence[CacheClearingRecord]) -> None:
        places = asyncio.Semaphore(SYNCS_AT_ONCE)

        async def in_place(work: Callable[[Any], Awaitable[None]], row: Any) -> None:
            async with places:
                await work(row)

        await asyncio.gather(
            *(in_place(self._clear_cache, row) for row in caches),
            *(in_place(self._sync, row) for row in lists[:SYNCS_PER_TURN]),
        )
        if len(lists) > SYNCS_PER_TURN:
            self.wake.set()

    async def _sync(self, row: LocalListRecord) -> None:
        try:
            await self.sender.sync(*row.key, correlation_id=self.office.ports.randomness.uuid())
        except (Unavailable, RuleBroken) as error:
            _log.info("local_list_waits", station=row.charging_station_id, reason=str(error))

    async def _clear_cache(self, row: CacheClearingRecord) -> None:
        """OCPP has no way to take one token out of a cache, so all go; those still allowed come back by use."""
        key = (row.party_id, row.charging_station_id)
        correlation_id = self.office.ports.randomness.uuid()
        try:
            outcome = await call_station(self.office, *key, "ClearCache", {}, correlation_id=correlation_id)
        except (Unavailable, RuleBroken) as error:
            _log.info("cache_waits", station=row.charging_station_id, reason=str(error))
            return
        if outcome.result in {CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE}:
            return
        async with self.office.ports.units.begin() as unit:
            # Rejected: it has no cache. A further withdrawal meanwhile has another count, and stays.
            await unit.table(CACHE_CLEARING).remove(*key, where={"withdrawals": row.withdrawals})
            await unit.commit()
