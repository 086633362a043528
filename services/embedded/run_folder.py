"""The run folder of an embedded installation: its secrets, its ports, its logs, its servers' data.

Secrets are made once and kept in a file only its owner can read, so that a second run opens what the first one wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from emobility.adapters.system import SystemRandomness
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.runtime.folder_lock import FolderLock

SECRET_BYTES: Final = 32
INSTALLATION_FILE: Final = "installation.json"
LOOPBACK: Final = "127.0.0.1"
SETTLEMENT_VARIABLE: Final = "WATTROAM_SETTLEMENT_ON"
SERVER_FOLDERS: Final = ("postgres", "kafka", "chain")


class NothingHere(Unavailable):
    """No installation lives in this folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"nothing runs or ran in {folder}; start with `wattroam up` or `wattroam demo --keep`, or name another "
            "folder by --run-folder (`make demo` fills run/demo)"
        )


class InstallationExists(RuleBroken):
    """A demo begins with an empty system and would mix its figures with what is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder} holds an installation already; name another folder, or remove this one")


class OtherEventLog(RuleBroken):
    """An installation's events live where they began to."""

    def __init__(self, folder: Path, *, stored: str, asked: str) -> None:
        self.folder = folder
        super().__init__(f"the events of {folder} live in {stored}, not in {asked}; name another folder for that")


class OtherSettlement(RuleBroken):
    """An installation settles where it began to."""

    def __init__(self, folder: Path, *, stored: str, asked: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} settles on a {stored}, not on a {asked}; name another folder for that")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What an installation needs to find itself again."""

    folder: Path
    event_log: str
    internal_token: str = field(repr=False)
    master_key: str = field(repr=False)
    business_port: int
    gateway_ocpp_port: int
    gateway_api_port: int
    settlement_port: int = 0
    database_url: str | None = field(default=None, repr=False)
    kafka_bootstrap: str | None = None
    chain_rpc_url: str | None = None
    chain_mnemonic: str | None = field(default=None, repr=False)
    settlement_on: str = "chain"
    partner_origins: tuple[str, ...] = ()
    """Where parties to try the hub with are on this machine; not stored."""

    @classmethod
    def open_or_make(cls, folder: Path, *, event_log: str, settlement_on: str | None = None) -> Self:
        """Return the folder's installation; make one, with fresh secrets and free ports, where there is none.

        Raises:
            OtherEventLog: the installation that is there keeps its events elsewhere.
            OtherSettlement: it settles on something else than is asked for.
        """
        folder = folder.resolve()
        if (folder / INSTALLATION_FILE).exists():
            known = cls.open(folder)
            if known.event_log != event_log:
                raise OtherEventLog(folder, stored=known.event_log, asked=event_log)
            if settlement_on not in {None, known.settlement_on}:
                raise OtherSettlement(folder, stored=known.settlement_on, asked=str(settlement_on))
            return known
        return cls.make(folder, event_log=event_log, settlement_on=settlement_on)

    @classmethod
    def make(cls, folder: Path, *, event_log: str, settlement_on: str | None = None) -> Self:
        """Make an installation in a folder that holds none; it settles on a `chain` unless a `ledger` is asked for.

        Raises:
            InstallationExists: it holds one.
        """
        folder = folder.resolve()
        if (folder / INSTALLATION_FILE).exists():
            raise InstallationExists(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(4)
        randomness = SystemRandomness()
        made = cls(
            folder=folder,
            event_log=event_log,
            internal_token=randomness.token_bytes(SECRET_BYTES).hex(),
            master_key=randomness.token_bytes(SECRET_BYTES).hex(),
            business_port=ports[0],
            gateway_ocpp_port=ports[1],
            gateway_api_port=ports[2],
            settlement_port=ports[3],
            settlement_on=settlement_on or "chain",
        )
        made.save()
        return made

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the folder's installation. Raises `NothingHere`."""
        folder = folder.resolve()
        try:
            stored = json.loads((folder / INSTALLATION_FILE).read_text())
        except FileNotFoundError:
            raise NothingHere(folder) from None
        stored.setdefault("settlement_port", _free_ports(1)[0])  # made before there was a settlement
        return cls(folder=folder, **stored)

    def save(self) -> None:
        """Write it down, readable by its owner alone, all or nothing."""
        unborn = self.folder / f"{INSTALLATION_FILE}.new"
        stored = asdict(self)
        del stored["folder"], stored["partner_origins"]
        with os.fdopen(os.open(unborn, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(stored, file, indent=1)
        unborn.replace(self.folder / INSTALLATION_FILE)

    @property
    def business_url(self) -> str:
        """Base URL of the business process."""
        return f"http://{LOOPBACK}:{self.business_port}"

    @property
    def gateway_api_url(self) -> str:
        """Base URL of the gateway's HTTP API."""
        return f"http://{LOOPBACK}:{self.gateway_api_port}"

    @property
    def settlement_url(self) -> str:
        """Base URL of the settlement process."""
        return f"http://{LOOPBACK}:{self.settlement_port}"

    @property
    def origins(self) -> tuple[str, ...]:
        """Where its own processes, and the partners on this machine, are reached."""
        return self.business_url, self.gateway_api_url, self.settlement_url, *self.partner_origins

    def environment(self, *, clock_file: Path | None = None, seed: int = 0) -> dict[str, str]:
        """Return the variables every process of this installation is started with.

        Args:
            clock_file: A stepped clock, for a demo; without one, processes refuse to be given one.
            seed: Handed on; only a simulation draws from it.
        """
        variables = {
            "ENVIRONMENT": "embedded" if clock_file is None else "development",
            "EVENT_LOG": self.event_log,
            "PUBLIC_URL": self.business_url,
            "BUSINESS_URL": self.business_url,
            "BUSINESS_HOST": LOOPBACK,
            "BUSINESS_PORT": str(self.business_port),
            "GATEWAY_HOST": LOOPBACK,
            "GATEWAY_OCPP_PORT": str(self.gateway_ocpp_port),
            "GATEWAY_API_PORT": str(self.gateway_api_port),
            "GATEWAY_API_URL": self.gateway_api_url,
            "SETTLEMENT_URL": self.settlement_url,
            "SETTLEMENT_HOST": LOOPBACK,
            "SETTLEMENT_PORT": str(self.settlement_port),
            "INTERNAL_TOKEN": self.internal_token,
            "MASTER_KEY": self.master_key,
            "RUN_FOLDER": str(self.folder),
            "SEED": str(seed),
            "SETTLEMENT_ON": self.settlement_on,
            "EMBEDDED_ORIGINS": json.dumps(self.origins),
        }
        if self.database_url is not None:
            variables["DATABASE_URL"] = self.database_url
        if self.kafka_bootstrap is not None:
            variables["KAFKA_BOOTSTRAP"] = self.kafka_bootstrap
        if clock_file is not None:
            variables["CLOCK_FILE"] = str(clock_file)
        return {f"WATTROAM_{name}": value for name, value in variables.items()} | self.chain_environment()

    def chain_environment(self) -> dict[str, str]:
        """Return the variables that name the chain of our own; none when there is none."""
        if self.chain_rpc_url is None or self.chain_mnemonic is None:
            return {}
        return {"WATTROAM_CHAIN_RPC_URL": self.chain_rpc_url, "WATTROAM_CHAIN_MNEMONIC": self.chain_mnemonic}


def discard(folder: Path) -> None:
    """Remove an installation with what its servers keep elsewhere; none is there: nothing happens.

    Raises:
        FolderInUse: its servers run.
    """
    for server in SERVER_FOLDERS:
        own = folder.resolve() / server
        if own.is_dir():
            lock = FolderLock(own)
            lock.take()
            lock.release()
            home = own / "home"  # of an unprivileged user, where that may not enter ours (`EmbeddedPostgres.home`)
            if home.is_symlink():
                shutil.rmtree(home.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ask the system for free ports, all held at once so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind((LOOPBACK, 0))
        return [int(free.getsockname()[1]) for free in sockets]
    finally:
        for free in sockets:
            free.close()
