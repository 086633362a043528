"""What an adversary is: a defect with its source, what a CSMS should make of it, and how it is played.

What a CSMS should answer is in the words that `HostileStation` keeps: `result`, the code of a CALLERROR, `silence`, or
`closed` with the close code. What becomes of the energy only the CSMS's operator can see, so it is stated here and held
by the tests of this project.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.stations.profile import OCPPVersion

if TYPE_CHECKING:
    from simulator.adversaries.hostile_station import HostileStation

Play = Callable[["HostileStation"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What becomes of the energy: Wh that are billed, and the first reason why the rest waits in quarantine."""

    billed_wh: int = 0
    quarantined: str | None = None


NOTHING = Energy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """One defect.

    Attributes:
        name: What it is asked for by.
        what: What the station does, in a sentence.
        source: Where it was seen or is listed.
        version: The OCPP it speaks.
        play: Does it.
        answers: What should be said to it, in order.
        keeps_connection: Whether the station should still be connected afterwards.
        energy: What should become of the energy it told.
        needs_a_call: The CSMS has to call the station, or nothing happens.
    """

    name: str
    what: str
    source: str
    version: OCPPVersion
    play: Play
    answers: tuple[str, ...]
    keeps_connection: bool = True
    energy: Energy = NOTHING
    needs_a_call: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened when an adversary played."""

    name: str
    answers: tuple[str, ...]
    is_connected: bool
    was_expected: bool
