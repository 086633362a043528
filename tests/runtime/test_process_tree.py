from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emobility.adapters.system import SystemTimer
from emobility.runtime import supervision
from emobility.runtime.network import answers_ok
from emobility.runtime.network import free_port as a_free_port
from emobility.runtime.process_tree import CommandServer, ProcessTree, stopping_on_signals
from emobility.runtime.supervision import BackOff, ServerFailed

pytestmark = pytest.mark.fault

DEADLINE_S = 30.0
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
WITH_A_CHILD = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('up', flush=True); time.sleep(600)"


def command(
    name: str, code: str, folder: Path, *, stop_grace_s: float = 5.0, ready_timeout_s: float = 20.0
) -> CommandServer:
    log = folder / f"{name}.log"

    async def has_said_up() -> bool:
        return log.exists() and "up" in log.read_text()

    return CommandServer(
        name,
        [sys.executable, "-c", code],
        log=log,
        timer=SystemTimer(),
        is_ready=has_said_up,
        stop_grace_s=stop_grace_s,
        ready_timeout_s=ready_timeout_s,
    )


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


def group(pid: int) -> list[int]:
    """Processes of one group that still run."""
    stats = [process / "stat" for process in Path("/proc").iterdir() if process.name.isdigit()]
    members = []
    for stat in stats:
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == pid and fields[0] not in {"Z", "X"}:
            members.append(int(stat.parent.name))
    return members


async def until_gone(pids: list[int]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while any(runs(pid) for pid in pids):  # noqa: ASYNC110  # other people's processes send no event
            await asyncio.sleep(0.02)


async def test_a_child_killed_with_9_is_started_again(tmp_path: Path) -> None:
    back = asyncio.Event()
    tree = ProcessTree(
        [command("worker", OBEDIENT, tmp_path)],
        timer=SystemTimer(),
        on_change=lambda sentence: back.set() if sentence.endswith("is back") else None,
    )
    async with tree, asyncio.timeout(DEADLINE_S):
        first = tree.status()[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await back.wait()

        (now,) = tree.status()
        assert now.pid not in {None, first}
        assert now.deaths == 1


async def test_children_stop_in_reverse_order(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    code = (
        "import signal, sys, time\n"
        f"def end(*_): open({str(ends)!r}, 'a').write(sys.argv[1] + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True)\n"
        "time.sleep(600)"
    )
    children = [
        command(name, code.replace("sys.argv[1]", repr(name)), tmp_path) for name in ("first", "second", "third")
    ]

    async with ProcessTree(children, timer=SystemTimer()):
        pass

    assert ends.read_text().split() == ["third", "second", "first"]


async def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    tree = ProcessTree([command("stubborn", STUBBORN, tmp_path, stop_grace_s=0.2)], timer=SystemTimer())
    await tree.start()
    pid = tree.status()[0].pid
    assert pid is not None

    await tree.stop()

    assert not runs(pid)


async def test_what_a_child_started_itself_ends_with_it(tmp_path: Path) -> None:
    tree = ProcessTree([command("parent", WITH_A_CHILD, tmp_path)], timer=SystemTimer())
    await tree.start()
    pid = tree.status()[0].pid
    assert pid is not None
    members = group(pid)
    assert len(members) == 2

    await tree.stop()

    await until_gone(members)


async def test_what_a_child_left_behind_when_it_died_ends_too(tmp_path: Path) -> None:
    child = command("parent", WITH_A_CHILD, tmp_path)
    await child.start()
    pid = child.pid
    assert pid is not None
    members = group(pid)
    os.kill(pid, signal.SIGKILL)

    assert await child.down() == "exit code -9"

    await until_gone(members)
    child.kill()
    await child.stop()


async def test_a_child_that_can_not_start_stops_the_others_and_shows_its_last_words(tmp_path: Path) -> None:
    good = command("good", OBEDIENT, tmp_path)
    bad = command("bad", "print('the disk is full'); raise SystemExit(3)", tmp_path)

    with pytest.raises(ServerFailed, match="the disk is full") as failure:
        await ProcessTree([good, bad], timer=SystemTimer()).start()

    assert failure.value.reason == "ended with 3"
    assert good.pid is None


async def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    silent = command("silent", "import time; time.sleep(600)", tmp_path, ready_timeout_s=0.3)

    with pytest.raises(ServerFailed, match="not ready after"):
        await ProcessTree([silent], timer=SystemTimer()).start()

    assert silent.pid is None


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = CommandServer(
        "gateway",
        ["/no/such/program"],
        log=tmp_path / "log",
        timer=SystemTimer(),
        is_ready=lambda: asyncio.sleep(0, True),
    )

    with pytest.raises(ServerFailed, match="gateway: /no/such/program can't be run"):
        await missing.start()


async def test_a_child_that_keeps_dying_ends_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RESTARTS_MAX", 2)
    monkeypatch.setattr(supervision, "BACK_OFF_FIRST_S", 0.01)
    tree = ProcessTree([command("mayfly", "print('up', flush=True)", tmp_path)], timer=SystemTimer())
    await tree.start()

    with pytest.raises(ServerFailed, match="died 3 times in a row"):
        await tree.run(asyncio.Event())


async def test_a_tree_stops_while_a_child_is_being_started_again(tmp_path: Path) -> None:
    went_down = asyncio.Event()
    waiting = tmp_path / "waiting.log"
    ready = [True]

    async def is_ready() -> bool:
        return ready.pop() if ready else False

    child = CommandServer("waiting", ["sleep", "600"], log=waiting, timer=SystemTimer(), is_ready=is_ready)
    tree = ProcessTree([child], timer=SystemTimer(), on_change=lambda _: went_down.set())
    await tree.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        await went_down.wait()
        while child.pid in {None, first}:  # noqa: ASYNC110  # the second start sends no event: it is never ready
            await asyncio.sleep(0.01)

    async with asyncio.timeout(DEADLINE_S):
        await tree.stop()

    assert child.pid is None


def test_back_off_doubles_up_to_its_bound_and_starts_over_after_a_steady_run() -> None:
    back_off = BackOff()

    pauses = [back_off.after_death(ran_s=0.1) for _ in range(8)]

    assert pauses == sorted(pauses)
    assert pauses[0] == supervision.BACK_OFF_FIRST_S
    assert pauses[-1] == supervision.BACK_OFF_MAX_S
    assert back_off.after_death(ran_s=supervision.STEADY_AFTER_S) == supervision.BACK_OFF_FIRST_S


async def test_a_signal_asks_to_stop_and_a_second_one_insists() -> None:
    stop, insisted = asyncio.Event(), asyncio.Event()

    with stopping_on_signals(stop, at_once=insisted.set):
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        assert not insisted.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        await insisted.wait()


TREE = """
import asyncio, sys
from pathlib import Path
from emobility.adapters.system import SystemTimer
from emobility.runtime.process_tree import CommandServer, ProcessTree, stopping_on_signals

async def ready() -> bool:
    return True

async def main() -> None:
    children = [
        CommandServer(name, ["sleep", "600"], log=Path(sys.argv[1]) / name, timer=SystemTimer(), is_ready=ready)
        for name in ("one", "two", "three")
    ]
    tree, stop = ProcessTree(children, timer=SystemTimer()), asyncio.Event()
    with stopping_on_signals(stop, at_once=tree.kill):
        await tree.start()
        print(*(child.pid for child in tree.status()), flush=True)
        await tree.run(stop)
    print("stopped", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_behind_when_the_tree_ends(number: signal.Signals, tmp_path: Path) -> None:
    tree = await asyncio.create_subprocess_exec(sys.executable, "-c", TREE, tmp_path, stdout=subprocess.PIPE)
    assert tree.stdout is not None
    pids = [int(pid) for pid in (await tree.stdout.readline()).split()]
    assert all(runs(pid) for pid in pids)

    tree.send_signal(number)
    await tree.wait()

    await until_gone(pids)
    assert (await tree.stdout.read() == b"stopped\n") == (number != signal.SIGKILL)


async def test_readiness_is_an_answer_of_200() -> None:
    port = a_free_port()
    assert not await answers_ok(port, "/readyz")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1]
        status = b"200 OK" if path == b"/readyz" else b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        assert await answers_ok(port, "/readyz")
        assert not await answers_ok(port, "/other")
