"""Processes of ours: each in a group of its own, none outlives us.

A terminal's Ctrl-C reaches only the parent, because every child has its own session; the parent then stops its
children in the order it wants. Should the parent be killed, the kernel signals the child (Linux `PR_SET_PDEATHSIG`; it
counts the end of the thread that started the child as the parent's, so children are started by the main thread).
Nothing here waits on a thread: a child is polled, so any event loop, or none, may own it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from emobility.ports.clock import Timer

POLL_S: Final = 0.02
"""How often a child is asked whether it still runs."""
TAIL_BYTES: Final = 65_536
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixUser:
    """Whom a child runs as when we are root and it must not be."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Self:
        """Look the user up. Raises `KeyError` when there is none."""
        entry = pwd.getpwnam(name)
        return cls(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


class ChildProcess:
    """A running (or ended) process, started by `spawn`."""

    def __init__(self, process: subprocess.Popen[bytes], *, name: str, log: Path | None) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def spawn(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: UnixUser | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Self:
        """Start a process.

        Args:
            name: What people call it.
            argv: Program and arguments.
            log: File its output is appended to; None discards the output.
            env: Its whole environment; None passes ours on.
            cwd: Its working folder.
            user: Drop to this user first; only root can.
            death_signal: What the kernel sends it when we are gone.

        Raises:
            OSError: the program can't be started.
        """
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(open_log(log)) if log is not None else subprocess.DEVNULL
            process = subprocess.Popen(  # noqa: S603  # argv comes from our own code, without a shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_leash(user, death_signal),  # noqa: PLW1509  # only system calls; uvloop has no other way
            )
        return cls(process, name=name, log=log)

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a negative number is the signal that ended it. What it left of its group ends with it."""
        if self._process.returncode is None and self._has_ended():
            self._end_group()
            self._process.wait()
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, if it runs."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the whole group at once and reap the process; killing it twice is as once."""
        if self.exit_code is None:
            self._end_group()
            self._process.wait()

    async def ended(self, timer: Timer) -> int:
        """Return the exit code once the process has ended."""
        while (code := self.exit_code) is None:
            await timer.sleep(POLL_S)
        return code

    async def stop(self, timer: Timer, *, grace_s: float, first: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, wait `grace_s` seconds, then kill what is left of its group; return the exit code."""
        self.send(first)
        deadline_s = timer.monotonic_s() + grace_s
        while self.exit_code is None and timer.monotonic_s() < deadline_s:
            await timer.sleep(POLL_S)
        self.kill()
        return self._process.returncode

    def stop_now(self, *, grace_s: float, first: signal.Signals = signal.SIGTERM) -> int:
        """As `stop`, blocking; for the way out, when no event loop runs any more."""
        self.send(first)
        deadline_s = time.monotonic() + grace_s
        while self.exit_code is None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        self.kill()
        return self._process.returncode

    def _has_ended(self) -> bool:
        """Look without reaping: until then the process id is not given to a stranger, whose group we would kill."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def last_lines(self, count: int = 20) -> str:
        """Return the end of its log: what to show when it failed."""
        return last_lines(self.log, count) if self.log is not None else ""


def open_log(log: Path) -> BinaryIO:
    """Open a log to append to; only its owner may read it."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab")


def last_lines(log: Path, count: int = 20) -> str:
    """Return the last lines of a log, or nothing if there is no such file."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:])


def _leash(user: UnixUser | None, death_signal: signal.Signals) -> Callable[[], None]:
    """Return what the child does between fork and exec: drop its rights, then tie its life to ours."""
    parent_pid = os.getpid()

    def leash() -> None:
        if user is not None:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
        # After setuid, because a change of user clears the setting.
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent_pid:  # the parent died before the leash was on
            os._exit(1)

    return leash
