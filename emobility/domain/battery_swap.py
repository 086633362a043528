"""A battery swap as its station tells it: one battery in, another out, joined by a request id (OCPP 2.1, S01-S04).

The facts of a swap may come in any order and again: each is taken once, and the state follows from which are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class SwapEvent(StrEnum):
    """What happened, in the words of BatterySwapEventEnumType."""

    BATTERY_IN = "BatteryIn"
    BATTERY_OUT = "BatteryOut"
    BATTERY_OUT_TIMEOUT = "BatteryOutTimeout"
    """Nobody took the battery that was offered; it stays in its slot."""


class SwapState(StrEnum):
    """Life of a swap."""

    REQUESTED = "REQUESTED"
    REFUSED = "REFUSED"
    BATTERY_IN = "BATTERY_IN"
    """A battery came; none went yet."""
    BATTERY_OUT = "BATTERY_OUT"
    """A battery went; the message that one came is still missing."""
    COMPLETED = "COMPLETED"
    TIMED_OUT = "TIMED_OUT"
    INCOMPLETE = "INCOMPLETE"
    """Nobody waits any longer for what is missing; it still counts if it comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBattery:
    """A battery as its station read it. Charge and health are percent as they came; `production_date` may lack."""

    battery_slot: int
    serial_number: str
    soc_percent: Decimal
    soh_percent: Decimal
    production_date: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapStep:
    """One thing that happened in a swap; `heard_at` is our time, for the message has none."""

    event: SwapEvent
    batteries: tuple[SwapBattery, ...]
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatterySwap:
    """What is known of one swap.

    Attributes:
        is_requested: The back office asked for it (RequestBatterySwap); else a driver began it at the station.
        is_refused: The station would not.
        is_given_up: Nobody waits for more.
        steps: At most one of each kind, in the order they were heard.
    """

    is_requested: bool = False
    is_refused: bool = False
    is_given_up: bool = False
    steps: tuple[SwapStep, ...] = ()

    def step(self, event: SwapEvent) -> SwapStep | None:
        """Return the step of a kind."""
        return next((each for each in self.steps if each.event is event), None)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected."""
        return self.state not in {SwapState.REQUESTED, SwapState.BATTERY_IN, SwapState.BATTERY_OUT}

    @property
    def state(self) -> SwapState:
        """Where the swap stands. A battery that is gone is gone, so In and Out outweigh a time-out."""
        came, went = self.step(SwapEvent.BATTERY_IN), self.step(SwapEvent.BATTERY_OUT)
        if came and went:
            return SwapState.COMPLETED
        if self.step(SwapEvent.BATTERY_OUT_TIMEOUT) and not went:
            return SwapState.TIMED_OUT
        if self.is_given_up:
            return SwapState.INCOMPLETE
        if came or went:
            return SwapState.BATTERY_IN if came else SwapState.BATTERY_OUT
        return SwapState.REFUSED if self.is_refused else SwapState.REQUESTED


def with_step(swap: BatterySwap, step: SwapStep) -> BatterySwap | None:
    """Return the swap with a step, or None where it has one of this kind: the first that was heard stays."""
    if swap.step(step.event) is not None:
        return None
    return replace(swap, steps=(*swap.steps, step))
