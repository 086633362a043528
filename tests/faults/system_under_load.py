"""A whole embedded installation under the load of real stations, with processes to kill and an audit to face.

Stations run in the test's process and speak WebSockets; everything else is a process of the installation's tree, which
starts again whatever is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.system import SystemClock, SystemTimer
from emobility.ports.frames import FrameSocket, SocketClosed
from emobility.wiring import open_ports
from services.audit.audit import audit
from services.audit.books import Books, gather_books
from services.audit.report import AuditReport
from services.embedded.opening import settings_of
from services.embedded.run_folder import Installation
from services.embedded.stack import Stack, running
from simulator.api_client import Addresses
from simulator.backstage import HttpBackstage
from simulator.dialing import WebSocketDialer
from simulator.journal import AcknowledgementJournal, read_journal
from simulator.load import LoadPlan, LoadReport, LoadRun
from simulator.network import load_scenario
from simulator.quiet import quiet_by_http
from simulator.report import TRUTH_FILE
from simulator.scenario import Scenario
from simulator.wiring import addresses_of

STATIONS: Final = 10
"""Half of them OCPP 1.6, half 2.0.1."""
SAMPLES_PER_CHARGE: Final = 4
SAMPLE_EVERY_S: Final = 0.5
ACKNOWLEDGED_MIN: Final = 300
PROGRESS_WITHIN_S: Final = 60.0
BACK_WITHIN_S: Final = 60.0
FINISHED_WITHIN_S: Final = 100.0
AUDITED_WITHIN_S: Final = 60.0
POLL_S: Final = 0.005
LOAD_AT_MOST_S: Final = 3_600.0
"""A load ends when its test says so."""
SOAK_S: Final = float(os.environ.get("WATTROAM_SOAK_SECONDS", "0"))
"""How long kills go on in one test; 0: as many as the test names."""


class CountedSocket:
    """A station's socket that tells its dialer which CALLs wait for their answer."""

    def __init__(self, socket: FrameSocket, waiting: set[str]) -> None:
        self._socket = socket
        self._waiting = waiting
        self._own: set[str] = set()

    async def send(self, frame: str) -> None:
        kind, unique_id, *_ = json.loads(frame)
        if kind == 2:
            self._own.add(unique_id)
            self._waiting.add(unique_id)
        await self._socket.send(frame)

    async def receive(self) -> str | bytes:
        try:
            frame = await self._socket.receive()
        except SocketClosed:
            self._forget()
            raise
        kind, unique_id, *_ = json.loads(frame)
        if kind != 2:
            self._waiting.discard(unique_id)
        return frame

    async def ping(self) -> None:
        await self._socket.ping()

    async def close(self, code: int, reason: str) -> None:
        self._forget()
        await self._socket.close(code, reason)

    def _forget(self) -> None:
        self._waiting.difference_update(self._own)


class CountingDialer:
    """Dials the gateway and knows which CALLs are in flight."""

    def __init__(self) -> None:
        self._dialer = WebSocketDialer()
        self.in_flight: set[str] = set()

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> FrameSocket:
        socket = await self._dialer.dial(url=url, subprotocols=subprotocols, username=username, password=password)
        return CountedSocket(socket, self.in_flight)


@dataclass(kw_only=True)
class Load:
    """A load run under way. `acknowledged` is the journal's file."""

    run: LoadRun
    dialer: CountingDialer
    journal: Path
    task: asyncio.Task[LoadReport]

    @property
    def acknowledged(self) -> int:
        """Acknowledged messages of transactions: those that must not be lost."""
        return sum(each.transaction_id is not None for each in self.run.acknowledged)

    async def reach(self, count: int) -> None:
        """Return when so many messages are acknowledged and more are in flight."""
        async with asyncio.timeout(PROGRESS_WITHIN_S):
            while self.acknowledged < count or not self.dialer.in_flight:
                assert not self.task.done(), "the load ended by itself"
                await asyncio.sleep(POLL_S)

    async def finish(self) -> LoadReport:
        """Let charges under way end and return what was done."""
        self.run.finish()
        async with asyncio.timeout(FINISHED_WITHIN_S):
            return await self.task


@dataclass(kw_only=True)
class SystemUnderLoad:
    """An installation whose parties, stations and drivers are entered."""

    stack: Stack
    scenario: Scenario
    changes: list[str]
    tell: Callable[[str], None]
    kills: list[int] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.stack.installation.folder

    @property
    def addresses(self) -> Addresses:
        return addresses_of(settings_of(self.stack.installation))

    def deaths(self) -> dict[str, int]:
        return {each.name: each.deaths for each in self.stack.tree.status()}

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Load]:
        """Put load on; what is not finished at the end is dropped."""
        dialer = CountingDialer()
        path = self.folder / "acknowledged.jsonl"
        journal = AcknowledgementJournal(path)
        plan = LoadPlan(
            # A message that was refused while a server was away is sent again soon, and as often as it takes.
            profiles=[
                replace(each.profile, retry_interval_s=1, attempts_max=1_000, call_timeout_s=15)
                for each in self.scenario.stations
            ],
            tokens=[each.rfid_uid for each in self.scenario.drivers],
            duration_s=LOAD_AT_MOST_S,
            sample_every_s=SAMPLE_EVERY_S,
            samples_per_charge=SAMPLES_PER_CHARGE,
        )
        run = LoadRun(
            plan,
            now=SystemClock().now,
            timer=SystemTimer(),
            dialer=dialer,
            gateway_url=self.addresses.gateway_ocpp_url,
            journal=journal,
        )
        task = asyncio.create_task(run.run())
        try:
            yield Load(run=run, dialer=dialer, journal=path, task=task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            journal.close()

    def kill(self, name: str, load: Load) -> None:
        """End a process, and its children, with SIGKILL and nothing else."""
        pid = next(each.pid for each in self.stack.tree.status() if each.name == name)
        assert pid is not None, f"{name} does not run"
        self.kills.append(len(load.dialer.in_flight))
        for each in (pid, *children_of(pid)):
            os.kill(each, signal.SIGKILL)

    async def back(self, name: str, deaths: int) -> None:
        """Return when a process that died so many times is back as often."""
        async with asyncio.timeout(BACK_WITHIN_S):
            while self.changes.count(f"{name} is back") < deaths:  # noqa: ASYNC110 - the tree tells by sentences
                await asyncio.sleep(POLL_S)

    async def come_to_rest(self) -> None:
        """Return when nothing moves any more. Raises `NeverQuiet`."""
        settings = settings_of(self.stack.installation)
        async with GuardedHttpClient(embedded_origins=settings.embedded_origins) as http:
            await quiet_by_http(self.addresses, http=http, timer=SystemTimer())()
        self.tell("nothing moves any more")

    async def audit(self, truth: dict[str, Any]) -> tuple[AuditReport, Books]:
        async with open_ports(settings_of(self.stack.installation)) as ports:
            books = await gather_books(ports.units, ports.event_log)
        return audit(books, truth), books

    async def audit_by_command(self, report: LoadReport) -> tuple[int, dict[str, Any]]:
        """Run `wattroam audit --json` as an operator would; return exit code and what it printed."""
        truth = self.folder / TRUTH_FILE
        report.truth.write(truth)
        argv = ("-m", "services.cli", "audit", "--json", "--run-folder", str(self.folder), "--truth", str(truth))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(AUDITED_WITHIN_S):
                printed, complained = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert printed, complained.decode()
        return process.returncode or 0, json.loads(printed)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def system_under_load(folder: Path, *, event_log: str, seed: int) -> AsyncIterator[SystemUnderLoad]:
    """Start everything in a fresh folder and enter the load scenario's parties, stations and drivers."""
    changes: list[str] = []
    scenario = load_scenario(seed, STATIONS)
    installation = Installation.open_or_make(folder, event_log=event_log)
    timer = SystemTimer()
    began_s = timer.monotonic_s()

    def tell(sentence: str) -> None:
        changes.append(sentence)
        print(f"{timer.monotonic_s() - began_s:6.1f} s  {sentence}")  # noqa: T201 - pytest shows it when a test fails

    async with running(installation, on_change=tell) as stack:
        system = SystemUnderLoad(stack=stack, scenario=scenario, changes=changes, tell=tell)
        settings = settings_of(stack.installation)
        async with GuardedHttpClient(embedded_origins=settings.embedded_origins) as http:
            await HttpBackstage(scenario, addresses=system.addresses, http=http, now=SystemClock().now).set_up()
        await system.come_to_rest()
        yield system


async def kill_again_and_again(
    system: SystemUnderLoad, load: Load, names: tuple[str, ...], chance: random.Random
) -> None:
    """Kill each named process in turn at a drawn moment, messages in flight; each is back before the next one dies."""
    timer = SystemTimer()
    ends_at_s = timer.monotonic_s() + SOAK_S
    deaths = system.deaths()
    rounds = 0
    while rounds == 0 or timer.monotonic_s() < ends_at_s:
        rounds += 1
        for name in names:
            await load.reach(load.acknowledged + chance.randrange(20, 80))
            system.kill(name, load)
            deaths[name] += 1
            await system.back(name, deaths[name])
    await load.reach(max(load.acknowledged + 50, ACKNOWLEDGED_MIN))
    system.tell(f"{load.acknowledged} messages are acknowledged; the last charges end")


def assert_journal_agrees(load: Load, report: LoadReport) -> None:
    """What the audit is told was acknowledged is what was written down as it happened."""
    written = [each["unique_id"] for each in read_journal(load.journal)]
    assert written == [each.unique_id for each in report.truth.acknowledged]
