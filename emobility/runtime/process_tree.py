"""The processes of an embedded installation, as one: started in order, kept running, stopped in reverse.

Each child is supervised from the moment it is ready: it is started again, with bounded back-off, whenever it dies, and
when it keeps dying the whole tree stops with its last words. One Ctrl-C stops all, gently; a second one at once. No
child outlives the tree, not even when the tree itself is killed (`child_process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from emobility.ports.clock import Timer
from emobility.runtime.child_process import POLL_S, ChildProcess, last_lines
from emobility.runtime.supervision import Server, ServerFailed, keep_running

READY_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 15.0
"""How long a child may drain before it is killed; longer than `http_server.DRAIN_S`."""


class CommandServer:
    """A child that is a command of ours, ready when its probe says so (`Server`)."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        timer: Timer,
        is_ready: Callable[[], Awaitable[bool]],
        env: Mapping[str, str] | None = None,
        ready_timeout_s: float = READY_TIMEOUT_S,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        """Describe the child; nothing happens before `start`.

        Args:
            name: What people call it.
            argv: Program and arguments.
            log: File its output is appended to.
            timer: Measures waiting.
            is_ready: Asked until it says yes; then the child counts as started.
            env: Its whole environment; None passes ours on.
            ready_timeout_s: Seconds until it must be ready.
            stop_grace_s: Seconds it may take to end after SIGTERM.
        """
        self._name = name
        self._argv = argv
        self._log = log
        self._timer = timer
        self._is_ready = is_ready
        self._env = env
        self._ready_timeout_s = ready_timeout_s
        self._stop_grace_s = stop_grace_s
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    async def start(self) -> None:
        """Start it and return once it is ready. Raises `ServerFailed`."""
        try:
            child = ChildProcess.spawn(self._name, self._argv, log=self._log, env=self._env)
        except OSError as error:
            raise ServerFailed(self._name, f"{self._argv[0]} can't be run: {error.strerror}") from error
        self._child = child
        deadline_s = self._timer.monotonic_s() + self._ready_timeout_s
        while not await self._is_ready():
            if child.exit_code is not None:
                raise ServerFailed(self._name, f"ended with {child.exit_code}", log_tail=self.log_tail())
            if self._timer.monotonic_s() > deadline_s:
                child.kill()
                reason = f"not ready after {self._ready_timeout_s:.0f} s"
                raise ServerFailed(self._name, reason, log_tail=self.log_tail())
            await self._timer.sleep(POLL_S)

    async def down(self) -> str:
        """Return, with the reason, when it has ended by itself; what it left of its group is ended too."""
        if self._child is None:
            return "not started"
        return f"exit code {await self._child.ended(self._timer)}"

    async def stop(self) -> None:
        """Ask it to end, then kill it and what is left of its group."""
        if self._child is not None:
            await self._child.stop(self._timer, grace_s=self._stop_grace_s)

    def kill(self) -> None:
        """End it and its group at once."""
        if self._child is not None:
            self._child.kill()

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return last_lines(self._log)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStatus:
    """How a child does."""

    name: str
    pid: int | None
    deaths: int


class ProcessTree:
    """Servers that live and end together. Use as `async with`, or call `start` and `run`."""

    def __init__(
        self,
        children: Sequence[Server] = (),
        *,
        timer: Timer,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe the tree.

        Args:
            children: In the order in which they start; more may be launched later.
            timer: Measures back-off.
            on_change: Told in a sentence whenever a child goes down or comes back.
        """
        self._planned = tuple(children)
        self._timer = timer
        self._on_change = on_change
        self._launched: list[tuple[Server, ...]] = []
        """In the order in which they were started; what was started side by side is stopped so."""
        self._supervisions: list[asyncio.Task[None]] = []
        self._deaths: dict[str, int] = {}
        self._stop = asyncio.Event()
        self._failure: ServerFailed | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the children in order; when one fails, stop those before it. Raises what it raised."""
        for server in self._planned:
            await self.launch(server)

    async def launch(self, *servers: Server) -> None:
        """Start more children side by side and keep them running; when one fails, stop the whole tree.

        Raises:
            ServerFailed: what it raised.
        """
        self._launched.append(servers)
        starting = [asyncio.create_task(server.start()) for server in servers]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for start in starting:
                start.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.stop()
            raise
        for server in servers:
            self._deaths.setdefault(server.name, 0)
            self._supervisions.append(asyncio.create_task(self._supervise(server), name=f"supervise {server.name}"))

    async def run(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set, or raise the `ServerFailed` of a child that keeps dying; either way all stop."""
        either = [asyncio.ensure_future(event.wait()) for event in (stop, self._stop)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()
            await asyncio.gather(*either, return_exceptions=True)
            await self.stop()
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """End the supervision, then every child, the last started first."""
        self._stop.set()
        await asyncio.gather(*self._supervisions, return_exceptions=True)
        self._supervisions.clear()
        while self._launched:
            await asyncio.gather(*(server.stop() for server in self._launched.pop()))

    def kill(self) -> None:
        """End every child at once."""
        self._stop.set()
        for server in reversed(self._servers()):
            server.kill()

    def _servers(self) -> list[Server]:
        return [server for together in self._launched for server in together]

    def status(self) -> tuple[ChildStatus, ...]:
        """Tell how each child does."""
        return tuple(
            ChildStatus(name=server.name, pid=server.pid, deaths=self._deaths.get(server.name, 0))
            for server in self._servers()
        )

    async def _supervise(self, server: Server) -> None:
        def changed(sentence: str) -> None:
            if not sentence.endswith("is back"):
                self._deaths[server.name] += 1
            self._on_change(sentence)

        try:
            await keep_running(server, self._stop, self._timer, on_change=changed)
        except ServerFailed as failure:
            self._failure = self._failure or failure
            self._stop.set()


@contextlib.contextmanager
def stopping_on_signals(stop: asyncio.Event, *, at_once: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM set `stop`; a second one calls `at_once`."""
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            at_once()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
