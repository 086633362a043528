"""PostgreSQL on one machine without an installation: made, started, watched and stopped by us.

The server listens on a Unix socket and on loopback, asks for a password (scram-sha-256) on both, and survives
`kill -9`: the next start waits until orphaned backends have left. PostgreSQL refuses to run as root; then the server
runs as `nobody`, and its data lie in a folder that user can enter (`home` in the given folder leads there).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from emobility.ports.clock import Randomness, Timer
from emobility.runtime.child_process import POLL_S, ChildProcess, UnixUser, last_lines, open_log
from emobility.runtime.folder_lock import FolderLock
from emobility.runtime.network import LOOPBACK, free_port
from emobility.runtime.postgres_binaries import (
    SHARED_FOLDER,
    PostgresBinaries,
    find_postgres_binaries,
    may_enter,
    readable_by,
)
from emobility.runtime.supervision import ComponentMissing, ServerFailed

ROLE: Final = "wattroam"
DATABASE: Final = "wattroam"
UNPRIVILEGED_USER: Final = "nobody"
READY_TIMEOUT_S: Final = 60.0
"""Longest start, recovery after a crash included."""
START_RETRY_S: Final = 15.0
"""How long a start is repeated while a dead server's backends still hold its memory; 2 s were seen."""
START_PAUSE_S: Final = 0.2
STOP_GRACE_S: Final = 15.0
SOCKET_PATH_MAX: Final = 90
"""Bytes; the kernel takes 107 with the socket's own name."""
_READY_LINE: Final = 7
"""postmaster.pid's line 8 says `ready` once connections are taken (miscadmin.h, LOCK_FILE_LINE_PM_STATUS)."""
_SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # many short statements; compiling them costs more than it saves
    "max_parallel_workers_per_gather": "0",  # two cores, and a container's /dev/shm is small
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_statement": "none",  # statements carry personal data
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",  # details carry values of rows
    "log_line_prefix": "%m [%p] ",
    "unix_socket_permissions": "0777",  # whoever comes needs the password anyway
}


class EmbeddedPostgres:
    """A PostgreSQL server of our own (`Server`); start it, then read `dsn`."""

    def __init__(
        self,
        folder: Path,
        *,
        timer: Timer,
        randomness: Randomness,
        settings: Mapping[str, str] | None = None,
        binaries: PostgresBinaries | None = None,
    ) -> None:
        """Describe the server; nothing happens before `start`.

        Args:
            folder: Its own folder; made when missing.
            timer: Measures waiting.
            randomness: Draws the password.
            settings: PostgreSQL settings instead of ours: a test whose data may be lost asks for less durability.
            binaries: The programs; looked for when not given.
        """
        self._folder = folder.resolve()
        self._timer = timer
        self._randomness = randomness
        self._settings = settings or {}
        self._binaries = binaries
        self._lock = FolderLock(self._folder)
        self._user: UnixUser | None = None
        self._home = self._folder
        self._port: int | None = None
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return "postgres"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster while it runs."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    @property
    def dsn(self) -> str:
        """URL over loopback; the same after every restart by supervision."""
        return f"postgresql://{ROLE}:{self._password()}@{LOOPBACK}:{self._port}/{DATABASE}"

    @property
    def socket_dsn(self) -> str:
        """URL over the Unix socket."""
        return f"postgresql://{ROLE}:{self._password()}@/{DATABASE}?host={self._socket_folder}&port={self._port}"

    @property
    def home(self) -> Path:
        """Where the data lie: the folder itself, or, as root, one that the unprivileged user can enter."""
        return self._home

    async def start(self) -> None:
        """Start the server, making its data first if there are none, and return once it takes connections.

        Raises:
            FolderInUse: another process owns the folder.
            ComponentMissing: there are no binaries, or none that may be run.
            ServerFailed: it does not come up; the end of its log tells why.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        binaries = self._prepare()
        # Data at a home elsewhere outlive a folder that somebody removed; nobody has their password any more.
        if not (self._data / "PG_VERSION").exists() or not (self._folder / "password").exists():
            self._make_data(binaries)
        made_by = (self._data / "PG_VERSION").read_text().strip()
        if made_by != str(binaries.version):
            raise ServerFailed(self.name, f"{self._data} was made by PostgreSQL {made_by}, not {binaries.version}")
        await self._start_until_ready(binaries)

    async def down(self) -> str:
        """Return, with the reason, when the server has ended by itself."""
        if self._child is None:
            return "not started"
        return f"exit code {await self._child.ended(self._timer)}"

    async def stop(self) -> None:
        """Stop it as PostgreSQL's fast shutdown does, and give up the folder."""
        if self._child is not None:
            await self._child.stop(self._timer, grace_s=STOP_GRACE_S, first=signal.SIGINT)
            self._child = None
        self._lock.release()

    def kill(self) -> None:
        """End it at once (immediate shutdown: committed data stay), and give up the folder."""
        if self._child is not None:
            self._child.stop_now(grace_s=STOP_GRACE_S, first=signal.SIGQUIT)
            self._child = None
        self._lock.release()

    def discard(self) -> None:
        """Remove all its files. Only when stopped."""
        if self._home != self._folder:
            shutil.rmtree(self._home, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return last_lines(self._log)

    @property
    def _log(self) -> Path:
        return self._folder / "postgres.log"

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _socket_folder(self) -> Path:
        beside_data = self._home / "socket"
        if len(os.fsencode(beside_data)) <= SOCKET_PATH_MAX:
            return beside_data
        return SHARED_FOLDER / f"wattroam-socket-{self._folder_hash}"

    @property
    def _folder_hash(self) -> str:
        return hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]

    def _password(self) -> str:
        return (self._folder / "password").read_text()

    def _prepare(self) -> PostgresBinaries:
        """Settle who runs the server, with which programs and where; make the folders."""
        binaries = self._binaries or find_postgres_binaries()
        if os.getuid() == 0:
            self._user = self._unprivileged()
            binaries = readable_by(binaries, self._user)
            if not may_enter(self._folder, self._user):
                self._home = SHARED_FOLDER / f"wattroam-{self._folder_hash}"
                self._link_home()
        self._binaries = binaries
        if self._home != self._folder:  # ours may be writable by a group of the owner's choice
            _make_own_folder(self._home, None)
        _make_own_folder(self._socket_folder, self._user)
        return binaries

    def _unprivileged(self) -> UnixUser:
        try:
            return UnixUser.named(UNPRIVILEGED_USER)
        except KeyError:
            raise ComponentMissing(
                f"PostgreSQL refuses to run as root and there is no user {UNPRIVILEGED_USER!r}: run as another user"
            ) from None

    def _link_home(self) -> None:
        """Leave a link from the folder to where the data really are."""
        link = self._folder / "home"
        if not link.is_symlink():
            link.symlink_to(self._home)

    def _make_data(self, binaries: PostgresBinaries) -> None:
        """Run initdb in an unfinished folder, so that a killed attempt leaves nothing that looks like data."""
        password_file = self._folder / "password"
        password_file.unlink(missing_ok=True)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._randomness.token_bytes(24).hex())
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self._home))
        password_copy = unfinished / "password"
        shutil.copy(password_file, password_copy)
        if self._user is not None:
            for path in (unfinished, password_copy):
                os.chown(path, self._user.uid, self._user.gid)
        data = unfinished / "data"
        self._run(
            binaries.program("initdb"),
            f"--pgdata={data}",
            f"--username={ROLE}",
            f"--pwfile={password_copy}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            "--no-instructions",
            "--no-sync",
        )
        single = [binaries.program("postgres"), "--single", "-D", str(data), "-c", "fsync=off", "postgres"]
        self._run(*single, given=f"CREATE DATABASE {DATABASE}\n")
        os.sync()  # once for 1,300 files: file by file it took 5 s on a busy machine
        shutil.rmtree(self._data, ignore_errors=True)
        data.rename(self._data)
        shutil.rmtree(unfinished)

    def _run(self, *argv: str, given: str = "", must_succeed: bool = True) -> None:
        """Run one of PostgreSQL's programs to its end, as the server's user. Raises `ServerFailed`."""
        with open_log(self._log) as log:
            ended = subprocess.run(  # noqa: S603  # programs we found, without a shell
                argv,
                input=given.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=READY_TIMEOUT_S,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                user=None if self._user is None else self._user.uid,
                group=None if self._user is None else self._user.gid,
                extra_groups=None if self._user is None else [],
            )
        if must_succeed and ended.returncode != 0:
            raise ServerFailed(self.name, f"{Path(argv[0]).name} failed", log_tail=self.log_tail())

    async def _start_until_ready(self, binaries: PostgresBinaries) -> None:
        deadline_s = self._timer.monotonic_s() + START_RETRY_S
        is_first_start = self._port is None
        attempts = 0
        while True:
            if self._port is None:
                self._port = free_port()
            child = self._spawn(binaries)
            self._child = child
            if await self._became_ready(child):
                return
            attempts += 1
            if self._timer.monotonic_s() > deadline_s:
                raise ServerFailed(self.name, "does not start", log_tail=child.last_lines())
            if is_first_start:  # perhaps another process took the port; nobody knows ours yet
                self._port = None
            if attempts > 1:  # a postmaster whose owner is gone still runs on our data; the lock says they are ours
                self._run(binaries.program("pg_ctl"), "stop", "-D", str(self._data), "-m", "immediate", "-t", "5",
                          must_succeed=False)  # fmt: skip
            await self._timer.sleep(START_PAUSE_S)

    def _spawn(self, binaries: PostgresBinaries) -> ChildProcess:
        settings = {
            **_SETTINGS,
            **self._settings,
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": str(self._socket_folder),
        }
        argv = [binaries.program("postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return ChildProcess.spawn(
            self.name,
            argv,
            log=self._log,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd=Path("/"),
            user=self._user,
            death_signal=signal.SIGQUIT,  # immediate shutdown: the postmaster takes its backends along
        )

    async def _became_ready(self, child: ChildProcess) -> bool:
        deadline_s = self._timer.monotonic_s() + READY_TIMEOUT_S
        while child.exit_code is None:
            if self._is_ready(child.pid):
                return True
            if self._timer.monotonic_s() > deadline_s:
                child.kill()
                raise ServerFailed(self.name, f"not ready after {READY_TIMEOUT_S:.0f} s", log_tail=child.last_lines())
            await self._timer.sleep(POLL_S)
        return False

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"


def _make_own_folder(folder: Path, user: UnixUser | None) -> None:
    """Make a folder, if need be, and give it to the server's user.

    Its name can be foretold and others may write beside it, so somebody may have made it first, or a link to a folder
    that root must not give away. All is decided on one open descriptor, which nobody can exchange.

    Raises:
        ComponentMissing: it is no folder, or belongs to another user, or another user may write in it.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ComponentMissing(f"{folder} is not a folder of ours ({error.strerror}): remove it") from error
    try:
        facts = os.fstat(opened)
        owners = {os.getuid()} if user is None else {os.getuid(), user.uid}
        if facts.st_uid not in owners or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ComponentMissing(f"{folder} belongs to another user, or others may write in it: remove it")
        if user is not None:
            os.fchown(opened, user.uid, user.gid)
    finally:
        os.close(opened)
