"""What all tests share: real servers of our own, a fresh database per test, and no network beyond this machine.

A component that is missing ends the run with one line. Only `WITHOUT=kafka,verapdf` leaves tests out.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import hypothesis
import psycopg
import pytest

from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime import network
from emobility.runtime.embedded_kafka import EmbeddedKafka
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.foundry import find_foundry
from emobility.runtime.kafka.libraries import fetch_libraries, find_java
from emobility.runtime.postgres_binaries import PostgresBinaries, binaries_in, find_postgres_binaries
from emobility.runtime.supervision import ComponentMissing
from tests.invoicing.verapdf import find_jar
from tests.scheduling import ByGroup, started_at

T = TypeVar("T")
TOLD: Final = pytest.StashKey[dict[str, Any]]()

COMPONENTS_THAT_MAY_BE_LEFT_OUT: Final = ("kafka", "verapdf")
TEMPLATE: Final = "migrated"
OTHER_POSTGRES: Final = os.environ.get("POSTGRES_BIN")
"""Another PostgreSQL's programs: `POSTGRES_BIN=/usr/lib/postgresql/15/bin make test` shows that the SQL is portable."""
EXAMPLES: Final = 25
"""Of each property in `make test`, where it says no number of its own; `make fuzz` takes many more."""
FUZZ_EXAMPLES: Final = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "5000"))

# Other work on the machine slows examples down; that is no failure.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    max_examples=EXAMPLES,
)
hypothesis.settings.register_profile("fuzz", hypothesis.settings.get_profile("patient"), max_examples=FUZZ_EXAMPLES)
hypothesis.settings.load_profile("patient")


RECURSION_LIMIT: Final = 1_000
"""Python's own. py_ecc, which eth-account brings and no process of ours imports, makes it 100,000 for all."""
WARNINGS_OF_LIBRARIES: Final = (
    # kafka-python 3.0.12 reads its own schemas by functions that Python 3.11 alone calls deprecated.
    "ignore:(read|open)_text is deprecated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Forgive libraries what only they can change; everything else stays an error."""
    for line in WARNINGS_OF_LIBRARIES:
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    """With `-n`, keep together what shares a server or a run."""
    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the servers they ask for; leave out what `WITHOUT` names, and say so."""
    for item in items:
        asked = getattr(item, "fixturenames", ())
        if "postgres_server" in asked:
            item.add_marker("postgres")
        if "kafka_server" in asked:
            item.add_marker("kafka")
        if item.get_closest_marker("long") and "WATTROAM_SOAK" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="long: make soak"))
    for name in os.environ.get("WITHOUT", "").replace(",", " ").split():
        if name not in COMPONENTS_THAT_MAY_BE_LEFT_OUT:
            end_run(config, f"WITHOUT={name}: only {', '.join(COMPONENTS_THAT_MAY_BE_LEFT_OUT)} can be left out", 4)
        gone = [item for item in items if item.get_closest_marker(name)]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if not item.get_closest_marker(name)]
        tell(config, "left_out", f"WITHOUT={name}: {len(gone)} tests that need it are left out")
    if is_worker(config):
        items.sort(key=lambda item: started_at(item.nodeid, is_fault=item.get_closest_marker("fault") is not None))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run each test at the recursion limit of our processes."""
    del item
    sys.setrecursionlimit(RECURSION_LIMIT)


def pytest_collection_finish(session: pytest.Session) -> None:
    """End the run with one line when a test needs what this machine lacks."""
    if session.config.option.collectonly:
        return
    try:
        if any(item.get_closest_marker("postgres") for item in session.items):
            find_postgres_binaries()
        if any(item.get_closest_marker("kafka") for item in session.items):
            find_java()
            fetch_libraries()
        if any(item.get_closest_marker("chain") for item in session.items):
            find_foundry("anvil")
        if any(item.get_closest_marker("verapdf") for item in session.items):
            find_jar()
    except ComponentMissing as missing:
        end_run(session.config, str(missing), 3)


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process runs tests for another one (`-n`), so that nobody reads what it prints."""
    return hasattr(config, "workeroutput")


def tell(config: pytest.Config, name: str, words: Any) -> None:
    """Leave words for the end of the run, in a worker through whoever started it."""
    if is_worker(config):
        config.workeroutput[name] = words  # type: ignore[attr-defined]  # xdist's
    else:
        config.stash.setdefault(TOLD, {})[name] = words


def end_run(config: pytest.Config, reason: str, code: int) -> NoReturn:
    """End the run with one line, the whole of it."""
    tell(config, "ended", [reason, code])
    pytest.exit(reason, code)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker left to be told."""
    told = getattr(node, "workeroutput", {})
    if "left_out" in told:
        tell(node.config, "left_out", told["left_out"])
    if "ended" in told:
        pytest.exit(*told["ended"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out: a run without it proves less."""
    if "left_out" in (told := config.stash.get(TOLD, {})):
        terminalreporter.write_line(told["left_out"])


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that the servers' unprivileged user may enter (pytest's own is closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="wattroam-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """One embedded PostgreSQL per worker, fast and forgetful: tests that kill a server start one of their own."""
    server = EmbeddedPostgres(
        server_folder / "postgres",
        timer=SystemTimer(),
        randomness=SystemRandomness(),
        settings={"fsync": "off", "full_page_writes": "off"},
        binaries=_chosen_binaries(),
    )
    run_to_end(server.start())
    yield server
    server.kill()
    server.discard()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """A database with all migrations applied, to be copied."""
    migrate = importlib.import_module("emobility.adapters.postgres.migrations").migrate
    create_database(postgres_server.dsn, TEMPLATE)
    run_to_end(migrate(database_dsn(postgres_server.dsn, TEMPLATE)))
    return TEMPLATE


@pytest.fixture
def postgres_dsn(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """URL of a fresh, migrated database of this test's own."""
    yield from _own_database(postgres_server, template=migrated_template)


@pytest.fixture
def empty_postgres_dsn(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """URL of a fresh database without any table."""
    yield from _own_database(postgres_server, template="template0")


@pytest.fixture(scope="session")
def kafka_server(server_folder: Path) -> Iterator[EmbeddedKafka]:
    """One real Apache Kafka broker for the whole run."""
    server = EmbeddedKafka(server_folder / "kafka", timer=SystemTimer(), randomness=SystemRandomness())
    run_to_end(server.start())
    yield server
    server.kill()
    server.discard()


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_server: EmbeddedKafka) -> str:
    """`host:port` of the broker; each test makes topics of its own names."""
    return kafka_server.bootstrap


@pytest.fixture
def free_port() -> int:
    """A loopback port nobody listens on."""
    return network.free_port()


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, in this thread: a server started in another would die with that."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


def database_dsn(server_dsn: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return f"{server_dsn.rsplit('/', 1)[0]}/{name}"


def create_database(server_dsn: str, name: str, template: str = "template0") -> None:
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())


def _chosen_binaries() -> PostgresBinaries | None:
    if OTHER_POSTGRES is None:
        return None
    return binaries_in(Path(OTHER_POSTGRES)) or pytest.exit(f"POSTGRES_BIN={OTHER_POSTGRES} holds no PostgreSQL 15+", 4)


def _own_database(server: EmbeddedPostgres, *, template: str) -> Iterator[str]:
    name = f"test_{SystemRandomness().token_bytes(6).hex()}"
    create_database(server.dsn, name, template)
    yield database_dsn(server.dsn, name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections and look-ups that would leave the machine."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _assert_here(self.family, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _assert_here(self.family, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _assert_here(socket.AF_INET, (host,))
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _assert_here(family: int, address: Any) -> None:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    if host in {None, "", "localhost"} or ipaddress.ip_address(host).is_loopback:
        return
    raise AssertionError(f"a test tried to reach {host}, which is not on this machine")
