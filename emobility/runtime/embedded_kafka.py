"""A real Apache Kafka broker (KRaft, one node) on loopback: formatted, started, watched and stopped by us.

One node keeps one copy: what it acknowledged survives `kill -9` of the broker, as the pages are the kernel's by then,
but not the loss of the machine. It is for tests, demos and trying things out; production has a cluster.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import struct
from pathlib import Path
from typing import Final

from emobility.ports.clock import Randomness, Timer
from emobility.runtime.child_process import POLL_S, ChildProcess, last_lines
from emobility.runtime.folder_lock import FolderLock
from emobility.runtime.kafka.libraries import fetch_libraries, find_java
from emobility.runtime.network import LOOPBACK, free_port
from emobility.runtime.supervision import ServerFailed

READY_TIMEOUT_S: Final = 90.0
FORMAT_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 20.0
PROBE_TIMEOUT_S: Final = 2.0
STARTS_MAX: Final = 3
"""Starts tried before giving up; a port may be taken between choosing and binding it."""
HEAP_MB: Final = 320
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""Size, API key 18, version 0, correlation id 1, no client id (Kafka protocol guide, ApiVersions)."""
_LOG_SETTINGS: Final = """\
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = STDOUT
appender.console.type = Console
appender.console.name = STDOUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class EmbeddedKafka:
    """A Kafka broker of our own (`Server`); start it, then read `bootstrap`."""

    def __init__(self, folder: Path, *, timer: Timer, randomness: Randomness) -> None:
        self._folder = folder.resolve()
        self._timer = timer
        self._randomness = randomness
        self._lock = FolderLock(self._folder)
        self._port: int | None = None
        self._controller_port: int | None = None
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """What people call it."""
        return "kafka"

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._child.pid if self._child is not None and self._child.exit_code is None else None

    @property
    def bootstrap(self) -> str:
        """`host:port`; the same after every restart by supervision."""
        return f"{LOOPBACK}:{self._port}"

    async def start(self) -> None:
        """Start the broker, formatting its storage first if there is none, and return once it answers.

        Raises:
            FolderInUse: another process owns the folder.
            ComponentMissing: no Java, or no jars.
            ServerFailed: it does not come up; the end of its log tells why.
        """
        java, libraries = find_java(), fetch_libraries()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.take()
        ports_are_known = self._port is not None
        for attempt in range(1, STARTS_MAX + 1):
            if not ports_are_known:
                self._port, self._controller_port = free_port(), free_port()
            self._write_settings()
            if not (self._data / "meta.properties").exists():
                await self._format(java, libraries)
            child = self._spawn(java, libraries, "kafka.Kafka", str(self._settings_file), heap_mb=HEAP_MB)
            self._child = child
            if await self._became_ready(child):
                return
            if attempt == STARTS_MAX:
                raise ServerFailed(self.name, "does not start", log_tail=child.last_lines())

    async def down(self) -> str:
        """Return, with the reason, when the broker has ended by itself."""
        if self._child is None:
            return "not started"
        return f"exit code {await self._child.ended(self._timer)}"

    async def stop(self) -> None:
        """Stop it cleanly and give up the folder."""
        if self._child is not None:
            await self._child.stop(self._timer, grace_s=STOP_GRACE_S, first=signal.SIGTERM)
            self._child = None
        self._lock.release()

    def kill(self) -> None:
        """End it at once and give up the folder."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        self._lock.release()

    def discard(self) -> None:
        """Remove all its files. Only when stopped."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last lines of its log."""
        return last_lines(self._log)

    @property
    def _log(self) -> Path:
        return self._folder / "kafka.log"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _settings_file(self) -> Path:
        return self._folder / "server.properties"

    @property
    def _log_settings_file(self) -> Path:
        return self._folder / "log4j2.properties"

    def _write_settings(self) -> None:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self._port},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self._port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "log.dirs": str(self._data),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # After kill -9 the controller waits until the dead broker's session ends: 2 s, not 9.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "16777216",
            "log.index.size.max.bytes": "1048576",
            # One node: internal topics have one copy, and one partition is plenty.
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }
        self._settings_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._log_settings_file.write_text(_LOG_SETTINGS)

    async def _format(self, java: Path, libraries: Path) -> None:
        shutil.rmtree(self._data, ignore_errors=True)  # a killed attempt may have left a part
        cluster_id = base64.urlsafe_b64encode(self._randomness.token_bytes(16)).decode().rstrip("=")
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(self._settings_file))
        child = self._spawn(java, libraries, *tool, heap_mb=64)
        try:
            async with asyncio.timeout(FORMAT_TIMEOUT_S):
                code = await child.ended(self._timer)
        finally:
            child.kill()
        if code != 0:
            raise ServerFailed(self.name, "storage can't be formatted", log_tail=child.last_lines())

    def _spawn(self, java: Path, libraries: Path, main: str, *arguments: str, heap_mb: int) -> ChildProcess:
        argv = [
            str(java),
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",  # quick to start rather than quick for hours
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self._log_settings_file}",
            "-cp",
            f"{libraries}/*",
            main,
            *arguments,
        ]
        return ChildProcess.spawn(
            self.name, argv, log=self._log, env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}, cwd=self._folder
        )

    async def _became_ready(self, child: ChildProcess) -> bool:
        deadline_s = self._timer.monotonic_s() + READY_TIMEOUT_S
        while child.exit_code is None:
            if await self._answers():
                return True
            if self._timer.monotonic_s() > deadline_s:
                child.kill()
                raise ServerFailed(self.name, f"not ready after {READY_TIMEOUT_S:.0f} s", log_tail=child.last_lines())
            await self._timer.sleep(POLL_S)
        return False

    async def _answers(self) -> bool:
        """Ask the broker which requests it knows; it takes requests only once it leads its partitions."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
                try:
                    writer.write(_API_VERSIONS)
                    size, correlation_id, error = struct.unpack(">iih", await reader.readexactly(10))
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return bool(size > 0 and correlation_id == 1 and error == 0)
