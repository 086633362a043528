"""Battery swaps of each station: asked for here or begun there, and what became of each (OCPP 2.1, S01-S04)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from emobility.domain.battery_swap import BatterySwap, SwapEvent, SwapState, SwapStep, with_step
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events.event import Envelope
from emobility.events.station_told import BatterySwapReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.office import Office
from services.charging_operations.station_calls import call_station

REQUEST_ID_FIRST: Final = 2**30
"""Ours begin here: stations count their own from 0 or 1, so no two swaps of one station meet under one number."""
SWAP_WAIT: Final = timedelta(hours=24)
"""How long a swap waits for what is missing of it."""
OVERDUE_AT_ONCE_MAX: Final = 1_000
_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatterySwapRecord:
    """A swap. `ordinal` is 1 but where a station used its own request id again.

    Attributes:
        opened_at: When we first heard of it.
        updated_at: When it last changed.
        id_token: Whose swap it is; None where nobody identified, or who did was erased.
        answer: The station's word to our request; None where there was none.
        uncounted: Messages that said something else than what was known already.
    """

    party_id: PartyId
    charging_station_id: str
    request_id: int
    ordinal: int
    state: SwapState
    opened_at: datetime
    updated_at: datetime
    id_token: Sealed | None
    answer: str | None
    uncounted: int
    swap: BatterySwap


BATTERY_SWAP: Final = TableSpec(
    name="cpo_battery_swap",
    record=BatterySwapRecord,
    key=("party_id", "charging_station_id", "request_id", "ordinal"),
)
_WAITING: Final = (SwapState.REQUESTED, SwapState.BATTERY_IN, SwapState.BATTERY_OUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapRequest:
    """POST swaps: whose swap it shall be. `id_token_type` is one of OCPP 2.1's types, such as ISO14443."""

    id_token: str
    id_token_type: str = "Central"  # noqa: S105 - a type of OCPP


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapShown:
    """A swap for the operator: every battery, nobody's token."""

    request_id: int
    ordinal: int
    state: SwapState
    is_requested: bool
    answer: str | None
    opened_at: datetime
    updated_at: datetime
    uncounted: int
    steps: tuple[SwapStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatterySwapDesk:
    """Asks stations for swaps and keeps what they tell."""

    office: Office

    async def request(
        self, party_id: PartyId, station_id: str, asked: SwapRequest, *, correlation_id: str
    ) -> tuple[int, CommandOutcome]:
        """Have a station swap a driver's battery; return our request id and what the station said.

        A station that does not answer may have heard all the same: the swap waits for its messages.
        Raises what `call_station` does.
        """
        id_token = await self.office.ports.vault.seal(asked.id_token)
        # Stored before it is asked for: a battery may come before the answer.
        async with self.office.ports.units.begin() as unit:
            request_id = await self._next_request_id(unit, party_id, station_id)
            row = self._new(party_id, station_id, request_id, BatterySwap(is_requested=True), self.office.now())
            await unit.table(BATTERY_SWAP).insert(replace(row, id_token=id_token))
            await unit.commit()
        payload = {
            "requestId": request_id,
            "idToken": {"idToken": asked.id_token, "type": asked.id_token_type},
        }
        outcome = await call_station(
            self.office, party_id, station_id, "RequestBatterySwap", payload, correlation_id=correlation_id
        )
        async with self.office.ports.units.begin() as unit:
            known = await unit.table(BATTERY_SWAP).get_for_update(party_id, station_id, request_id, 1)
            if known is not None:
                is_refused = outcome.result not in (CommandResult.ACCEPTED, CommandResult.TIMED_OUT)
                swap = replace(known.swap, is_refused=is_refused)
                known = replace(known, answer=outcome.station_status or outcome.result.value)
                await unit.table(BATTERY_SWAP).put(self._with(known, swap))
                await unit.commit()
        return request_id, outcome

    async def take(self, unit: UnitOfWork, envelope: Envelope, event: BatterySwapReported) -> None:
        """Take a message in, once.

        A swap that has such a step already keeps the one it has. Only where a station began it, and a battery comes in
        anew, the station has used its number again: that is another swap, and the one before is over.
        """
        table = unit.table(BATTERY_SWAP)
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        where |= {"request_id": event.request_id}
        rows = await table.select(where, order_by=("-ordinal",), limit=1)
        row = await table.get_for_update(*_key(rows[0])) if rows else None
        heard_at = envelope.recorded_at
        if row is None:
            row = self._new(event.party_id, event.charging_station_id, event.request_id, BatterySwap(), heard_at)
        step = SwapStep(event=event.swap_event, batteries=event.batteries, heard_at=heard_at)
        swap = with_step(row.swap, step)
        if swap is None and step.event is SwapEvent.BATTERY_IN and not row.swap.is_requested:
            if not row.swap.is_over:
                await table.put(self._with(row, replace(row.swap, is_given_up=True)))
            another = self._new(event.party_id, event.charging_station_id, event.request_id, BatterySwap(), heard_at)
            row = replace(another, ordinal=row.ordinal + 1)
            swap = with_step(row.swap, step)
        if swap is None:
            _log.warning("battery_swap_contradicted", station=event.key, request_id=event.request_id)
            await table.put(replace(row, uncounted=row.uncounted + 1))
            return
        await table.put(self._with(replace(row, id_token=row.id_token or event.id_token), swap))

    async def give_up_waiting(self) -> None:
        """Count swaps as incomplete that waited for `SWAP_WAIT`."""
        before = ("updated_at", self.office.now() - SWAP_WAIT)
        async with self.office.ports.units.begin() as unit:
            table = unit.table(BATTERY_SWAP)
            overdue = await table.select({"state": _WAITING}, before=before, limit=OVERDUE_AT_ONCE_MAX)
            for each in overdue:
                row = await table.get_for_update(*_key(each))
                if row is not None and row.state in _WAITING:
                    await table.put(self._with(row, replace(row.swap, is_given_up=True)))
            if overdue:
                await unit.commit()

    async def _next_request_id(self, unit: UnitOfWork, party_id: PartyId, station_id: str) -> int:
        where = {"party_id": party_id, "charging_station_id": station_id}
        newest = await unit.table(BATTERY_SWAP).select(where, order_by=("-request_id",), limit=1)
        return max(REQUEST_ID_FIRST, newest[0].request_id + 1) if newest else REQUEST_ID_FIRST

    def _new(
        self, party_id: PartyId, station_id: str, request_id: int, swap: BatterySwap, at: datetime
    ) -> BatterySwapRecord:
        return BatterySwapRecord(
            party_id=party_id,
            charging_station_id=station_id,
            request_id=request_id,
            ordinal=1,
            state=swap.state,
            opened_at=at,
            updated_at=at,
            id_token=None,
            answer=None,
            uncounted=0,
            swap=swap,
        )

    def _with(self, row: BatterySwapRecord, swap: BatterySwap) -> BatterySwapRecord:
        return replace(row, swap=swap, state=swap.state, updated_at=self.office.now())


def shown_swap(row: BatterySwapRecord) -> SwapShown:
    """Return a swap for the operator."""
    return SwapShown(
        request_id=row.request_id,
        ordinal=row.ordinal,
        state=row.state,
        is_requested=row.swap.is_requested,
        answer=row.answer,
        opened_at=row.opened_at,
        updated_at=row.updated_at,
        uncounted=row.uncounted,
        steps=row.swap.steps,
    )


def _key(row: BatterySwapRecord) -> tuple[Any, ...]:
    return (row.party_id, row.charging_station_id, row.request_id, row.ordinal)
