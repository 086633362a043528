"""Who checks the slices of a full audit: this process, or several that look at the same moment and share them."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from emobility.adapters.postgres import open_postgres
from emobility.adapters.postgres.reconciliation import PostgresReconciliation
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.errors import Unavailable
from emobility.ports.reconciliation import Moment
from emobility.ports.vault import Vault
from emobility.runtime.garbage import collect_rarely
from services.audit.report import Check
from services.audit.settlement_rows import gather_without_leaves
from services.audit.slices import Slice, Whole, added_up, check_slice, whole_of

SLICES_AHEAD: Final = 2
"""Most slices that wait for each process."""


class AuditProcessDied(Unavailable):
    """A process that checked slices is gone; nothing is known of what it had in hand."""

    def __init__(self) -> None:
        super().__init__("a process of the audit died; was there too little memory?")


class Sharing(Protocol):
    """Checks slices and adds up what is found."""

    async def check(self, moment: Moment, whole: Whole, slices: AsyncIterator[Slice]) -> list[Check]:
        """Return one check of each rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """This process checks one slice after the other."""

    vault: Vault

    async def check(self, moment: Moment, whole: Whole, slices: AsyncIterator[Slice]) -> list[Check]:
        """Return one check of each rule."""
        found: list[Check] = []
        # What feeds the slices has a cursor of its own in the moment, and slices are small: they may take turns.
        async for part in slices:
            found = added_up([*found, *await check_slice(moment, self.vault, whole, part)])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Processes of our own check slices, each with its own connection to the database at `dsn`."""

    dsn: str
    master_key: bytes
    processes: int

    async def check(self, moment: Moment, whole: Whole, slices: AsyncIterator[Slice]) -> list[Check]:
        """Return one check of each rule. Raises `AuditProcessDied`."""
        del whole  # each process reads it itself, at the same moment
        found: list[Check] = []
        running: set[asyncio.Future[list[Check]]] = set()
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(
            self.processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self.dsn, self.master_key, moment.name),
        ) as pool:
            try:
                async for part in slices:
                    running.add(loop.run_in_executor(pool, _check, part))
                    if len(running) >= SLICES_AHEAD * self.processes:
                        found, running = await _taken(found, running)
                while running:
                    found, running = await _taken(found, running)
            except BrokenProcessPool as error:
                raise AuditProcessDied from error
        return found


async def _taken(
    found: list[Check], running: set[asyncio.Future[list[Check]]]
) -> tuple[list[Check], set[asyncio.Future[list[Check]]]]:
    """Add up what is done, and return what still runs."""
    done, rest = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        found = added_up([*found, *each.result()])
    return found, rest


# In a process that shares


@dataclass(slots=True)
class _Sharer:
    loop: asyncio.AbstractEventLoop
    stack: AsyncExitStack
    moment: Moment
    vault: Vault
    whole: Whole


_SHARER: Final[list[_Sharer]] = []
"""The one of this process."""


def _begin(dsn: str, master_key: bytes, moment: str) -> None:
    collect_rarely()
    end_with_parent()
    loop = asyncio.new_event_loop()
    _SHARER.append(loop.run_until_complete(_opened(loop, dsn, master_key, moment)))


def end_with_parent() -> None:
    """Have this process end when the one that started it does, however that ends: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "nobody started this process"

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


async def _opened(loop: asyncio.AbstractEventLoop, dsn: str, master_key: bytes, name: str) -> _Sharer:
    stack = AsyncExitStack()
    opening = open_postgres(dsn, master_key=master_key, clock=SystemClock(), randomness=SystemRandomness())
    stores = await stack.enter_async_context(opening)
    moment = await stack.enter_async_context(PostgresReconciliation(stores.units).moment(name))
    whole = await whole_of(moment, await gather_without_leaves(moment.unit))
    return _Sharer(loop=loop, stack=stack, moment=moment, vault=stores.vault, whole=whole)


def _check(part: Slice) -> list[Check]:
    sharer = _SHARER[0]
    return sharer.loop.run_until_complete(check_slice(sharer.moment, sharer.vault, sharer.whole, part))
