"""Adversaries by name, and what happens when they play against a CSMS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from emobility.domain.errors import MalformedInput
from emobility.ports.frames import SocketClosed
from simulator.adversaries.adversary import Adversary, Outcome
from simulator.adversaries.charges import CHARGES
from simulator.adversaries.framing import FRAMING
from simulator.adversaries.hostile_station import HostileDialer, HostileStation
from simulator.adversaries.values import VALUES

ADVERSARIES: Final[dict[str, Adversary]] = {each.name: each for each in (*FRAMING, *VALUES, *CHARGES)}
ALL: Final = "all"


class NoSuchAdversary(MalformedInput):
    """Nobody is called so."""


def chosen(name: str) -> list[Adversary]:
    """Return the adversary of a name, or all. Raises `NoSuchAdversary`."""
    if name == ALL:
        return list(ADVERSARIES.values())
    if name not in ADVERSARIES:
        raise NoSuchAdversary(f"{name}: there are {', '.join(ADVERSARIES)} and {ALL}")
    return [ADVERSARIES[name]]


async def play(
    adversary: Adversary,
    *,
    dialer: HostileDialer,
    url: str,
    username: str,
    password: str,
    token: str,
    now: Callable[[], datetime],
) -> Outcome:
    """Connect an adversary, let it play, and tell what happened."""
    station = HostileStation(
        dialer=dialer,
        url=url,
        version=adversary.version,
        username=username,
        password=password,
        now=now,
        token=token,
    )
    try:
        await station.connect()
        await adversary.play(station)
    except SocketClosed as closed:
        station.heard.append(f"closed {closed.code}")
    is_connected = await station.is_connected()
    await station.close()
    heard = tuple(station.heard)
    return Outcome(
        name=adversary.name,
        answers=heard,
        is_connected=is_connected,
        was_expected=heard == adversary.answers and is_connected is adversary.keeps_connection,
    )


async def play_all(adversaries: Iterable[Adversary], **against: Any) -> list[Outcome]:
    """Let them play one after the other; arguments as of `play`."""
    outcomes = []
    for adversary in adversaries:
        outcomes.append(await play(adversary, **against))
        await asyncio.sleep(0)
    return outcomes


def as_json(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return what happened beside what was expected."""
    return [
        asdict(outcome)
        | {
            "what": (adversary := ADVERSARIES[outcome.name]).what,
            "source": adversary.source,
            "ocpp": adversary.version.value,
            "expected_answers": adversary.answers,
            "expected_energy": asdict(adversary.energy),
        }
        for outcome in outcomes
    ]


def as_table(outcomes: Iterable[Outcome]) -> str:
    """Return the same for people."""
    rows = [("", "adversary", "what it does", "what was said to it", "connected")]
    for outcome in outcomes:
        adversary = ADVERSARIES[outcome.name]
        said = "; ".join(outcome.answers) or "nothing"
        if outcome.answers != adversary.answers:
            said += f" (expected: {'; '.join(adversary.answers)})"
        mark = "ok" if outcome.was_expected else "!!"
        rows.append((mark, outcome.name, adversary.what, said, "yes" if outcome.is_connected else "no"))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "".join(
        f"{mark:2}  {name:{widths[1]}}  {connected:9}  {said}\n    {'':{widths[1]}}             {what}\n"
        for mark, name, what, said, connected in rows
    )
