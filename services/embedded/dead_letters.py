"""What an operator does with events that could not be handled, on the database itself: it need not be served."""

from __future__ import annotations

import asyncio
import getpass
import json as json_module
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table

from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.ports.event_log import DiscardedEvent, Handler, ParkedEvent
from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from services.audit.books import CONSUMER_GROUPS, MONEY_GROUP, SETTLEMENT_GROUP
from services.embedded.business import build
from services.embedded.opening import opened
from services.settlement.payables import take_final_statements
from services.settlement.service import build as build_settlement

T = TypeVar("T")

PLACE: Final = re.compile(r"(?P<topic>[a-z_]+)/(?P<partition>\d{1,4})@(?P<offset>\d{1,18})")


class UnknownGroup(RuleBroken):
    """No consumer group has this name."""

    def __init__(self, group: str) -> None:
        super().__init__(f"no group is called {group}; known: {', '.join(CONSUMER_GROUPS)}")


class NotAPlace(MalformedInput):
    """An event is not named by topic, partition and offset."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} names no event; write TOPIC/PARTITION@OFFSET, as `wattroam parked list` does")


class StillNotHandled(RuleBroken):
    """A key's dead letters were handed on again, and one failed as before; it and what follows it stay parked."""

    def __init__(self, key: str, cause: Exception) -> None:
        super().__init__(f"{key} stays parked: {type(cause).__name__}: {cause}")


def list_parked(*, group: str, json: bool, run_folder: Path) -> int:
    """Print a group's dead letters: which, of which key, since when and why. Raises `UnknownGroup`."""
    _refuse_unknown(group)
    parked = _with_ports(run_folder, lambda ports, _: ports.event_log.parked(group))
    _print([_row(each) for each in parked], f"parked events of {group}", json=json)
    return 0


def list_discarded(*, group: str, json: bool, run_folder: Path) -> int:
    """Print what was discarded of a group's dead letters, by whom, when and why. Raises `UnknownGroup`."""
    _refuse_unknown(group)
    discarded = _with_ports(run_folder, lambda ports, _: ports.event_log.discarded(group))
    _print([_discarded_row(each) for each in discarded], f"discarded events of {group}", json=json)
    return 0


def replay_parked(*, group: str, key: str, run_folder: Path) -> int:
    """Hand a key's dead letters on again, in order. Raises `UnknownGroup`, `StillNotHandled`, `Unavailable`."""
    _refuse_unknown(group)

    async def replay(ports: Ports, settings: Settings) -> int:
        try:
            return await ports.event_log.replay_parked(group, key, _handler_of(group, settings, ports))
        except Unavailable:
            raise
        except Exception as error:  # whatever a handler raises, an operator is to know of it
            raise StillNotHandled(key, error) from error

    Console(soft_wrap=True).print_json(json_module.dumps({"handled": _with_ports(run_folder, replay)}))
    return 0


def discard_parked(*, group: str, event: str, why: str, run_folder: Path) -> int:
    """Take one event out of the dead letters for good, in the name of whoever is logged in here.

    Raises:
        UnknownGroup: there is no such group.
        NotAPlace: `event` is not topic, partition and offset.
        NotParked: it is not in the dead letters.
        DiscardUnexplained: no reason is given.
    """
    _refuse_unknown(group)
    place = PLACE.fullmatch(event)
    if place is None:
        raise NotAPlace(event)
    topic, partition, offset = place["topic"], int(place["partition"]), int(place["offset"])

    async def discard(ports: Ports, _settings: Settings) -> Sequence[DiscardedEvent]:
        who = getpass.getuser()
        await ports.event_log.discard_parked(group, topic=topic, partition=partition, offset=offset, who=who, why=why)
        return await ports.event_log.discarded(group)

    rows = [_discarded_row(each) for each in _with_ports(run_folder, discard)]
    [row] = [each for each in rows if each["event"] == event]
    Console(soft_wrap=True).print_json(json_module.dumps(row))
    return 0


def _with_ports(run_folder: Path, act: Callable[[Ports, Settings], Awaitable[T]]) -> T:
    """Do something with the ports of an installation. Raises `NothingHere`, `DatabaseUnavailable`."""

    async def run() -> T:
        async with opened(run_folder) as settings, open_ports(settings) as ports:
            return await act(ports, settings)

    return asyncio.run(run())


def _handler_of(group: str, settings: Settings, ports: Ports) -> Handler:
    """Return what the group does with its events. Settling needs no chain for that."""
    if group == MONEY_GROUP:
        return take_final_statements
    if group == SETTLEMENT_GROUP:
        return build_settlement(settings, ports).intake.handle
    return build(settings, ports).handlers[group]


def _refuse_unknown(group: str) -> None:
    if group not in CONSUMER_GROUPS:
        raise UnknownGroup(group)


def _row(parked: ParkedEvent) -> dict[str, Any]:
    logged = parked.logged
    return {
        "event": f"{logged.topic}/{logged.partition}@{logged.offset}",
        "key": logged.envelope.event.key,
        "fact": logged.envelope.event.wire_name,
        "reason": parked.reason,
        "since": parked.parked_at.isoformat(),
    }


def _discarded_row(each: DiscardedEvent) -> dict[str, Any]:
    return {**_row(each.parked), "who": each.who, "why": each.why, "discarded_at": each.discarded_at.isoformat()}


def _print(rows: Sequence[dict[str, Any]], title: str, *, json: bool) -> None:
    if json:
        Console(soft_wrap=True).print_json(json_module.dumps(rows))
    elif not rows:
        Console().print(f"no {title}", markup=False)
    else:
        table = Table(title=title)
        for name in rows[0]:
            # What the next command asks for is never cut.
            table.add_column(name, no_wrap=name in {"event", "key"}, overflow="fold")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)
