"""Free-running load: bounded, loses nothing in an outage, and what was confirmed is on disk."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from emobility.adapters.memory.frames import MemoryFrameSocket, memory_frame_pair
from emobility.adapters.memory.time import LoopTimer, VirtualClock, run_virtual
from emobility.ports.frames import SocketClosed
from simulator.dialing import WebSocketDialer
from simulator.journal import AcknowledgementJournal, read_journal
from simulator.load import LoadPlan, LoadReport, LoadRun
from simulator.network import load_scenario

RIGHT = f"Basic {base64.b64encode(b'station:right').decode()}"
NOW = datetime(2022, 3, 26, 12, tzinfo=UTC)


class ShakyCSMS:
    """Accepts everything; every socket breaks after `frames_per_socket` calls, before the last is answered."""

    def __init__(self, frames_per_socket: int | None = None) -> None:
        self.frames_per_socket = frames_per_socket
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.numbers = 0

    async def dial(self, *, url: str, subprotocols: tuple[str, ...], username: str, password: str) -> MemoryFrameSocket:
        assert url.endswith(username)
        assert subprotocols
        assert password
        here, there = memory_frame_pair()
        self.tasks.append(asyncio.create_task(self._serve(there)))
        return here

    async def _serve(self, socket: MemoryFrameSocket) -> None:
        served = 0
        try:
            while True:
                message = json.loads(await socket.receive())
                served += 1
                self.heard.append((message[2], message[3]))
                if self.frames_per_socket is not None and served >= self.frames_per_socket:
                    await socket.close(1006, "broken")
                    return
                await socket.send(json.dumps([3, message[1], self._answer(message[2])]))
        except SocketClosed:
            return

    def _answer(self, action: str) -> dict[str, Any]:
        accepted = {"status": "Accepted"}
        if action == "BootNotification":
            return {"currentTime": NOW.isoformat(), "interval": 300, **accepted}
        if action == "StartTransaction":
            self.numbers += 1
            return {"transactionId": self.numbers, "idTagInfo": accepted}
        return {"idTagInfo": accepted, "idTokenInfo": accepted} if action == "Authorize" else {}


def put_load_on(
    csms: ShakyCSMS, *, journal: AcknowledgementJournal | None = None, change: Callable[[dict[str, Any]], object] = id
) -> LoadReport:
    scenario = load_scenario(1, 4)
    wanted: dict[str, Any] = {"duration_s": 20.0}
    change(wanted)
    plan = LoadPlan(
        profiles=[each.profile for each in scenario.stations],
        tokens=[each.rfid_uid for each in scenario.drivers],
        **wanted,
    )

    async def scene() -> LoadReport:
        clock = VirtualClock(NOW)
        run = LoadRun(plan, now=clock.now, timer=LoopTimer(), dialer=csms, gateway_url="ws://gateway", journal=journal)
        report = await run.run()
        await asyncio.gather(*csms.tasks)
        return report

    return run_virtual(scene())


def test_load_charges_until_its_time_is_over() -> None:
    report = put_load_on(ShakyCSMS())

    assert report.unsent == 0
    assert 20 <= report.duration_s < 30
    assert all(each.is_end_acknowledged for each in report.truth.transactions)
    assert len(report.truth.transactions) > 4 * 10


def test_load_stops_at_its_number_of_messages() -> None:
    report = put_load_on(ShakyCSMS(), change=lambda wanted: wanted.update(messages_max=100, duration_s=3_600.0))

    assert 100 <= report.acknowledged < 200


def test_a_gateway_that_breaks_again_and_again_loses_no_transaction() -> None:
    csms = ShakyCSMS(frames_per_socket=9)

    report = put_load_on(csms)

    assert report.unsent == 0
    assert report.connections > 10
    assert all(each.is_start_acknowledged and each.is_end_acknowledged for each in report.truth.transactions)


def test_what_was_confirmed_is_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "acknowledged.jsonl"
    journal = AcknowledgementJournal(path)

    report = put_load_on(ShakyCSMS(), journal=journal)
    journal.close()
    written = read_journal(path)

    assert [each["unique_id"] for each in written] == [each.unique_id for each in report.truth.acknowledged]


def test_what_an_audit_is_told_names_every_confirmed_message_and_its_transaction() -> None:
    report = put_load_on(ShakyCSMS())

    told = report.truth.as_json()["acknowledged"]

    assert [each["unique_id"] for each in told] == [each.unique_id for each in report.truth.acknowledged] != []
    of_transactions = [each for each in told if each["action"].endswith(("Transaction", "TransactionEvent"))]
    assert {each["action"] for each in of_transactions} == {"StartTransaction", "StopTransaction", "TransactionEvent"}
    assert all(each["transaction_id"] is not None for each in of_transactions)


def test_a_line_that_was_cut_off_is_no_message(tmp_path: Path) -> None:
    path = tmp_path / "acknowledged.jsonl"
    path.write_text('{"action": "StartTransaction"}\n{"action": "Stop')

    assert read_journal(path) == [{"action": "StartTransaction"}]


async def test_the_dialer_speaks_real_websockets_and_tells_a_refusal_from_an_outage() -> None:
    async def admit(connection: ServerConnection, request: Request) -> Response | None:
        is_right = request.headers.get("Authorization") == RIGHT
        return None if is_right else connection.respond(401, "")

    async def echo(connection: ServerConnection) -> None:
        async for frame in connection:
            await connection.send(frame)

    dialer = WebSocketDialer()
    async with serve(echo, "127.0.0.1", 0, process_request=admit, subprotocols=["ocpp1.6"]) as server:  # type: ignore[list-item] # a NewType of str
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ocpp/NL-TUL/station"
        socket = await dialer.dial(url=url, subprotocols=("ocpp1.6",), username="station", password="right")
        await socket.send("[]")
        echoed = await socket.receive()
        await socket.ping()
        await socket.close(1000, "done")
        with pytest.raises(SocketClosed):
            await socket.receive()
        with pytest.raises(SocketClosed) as refused:
            await dialer.dial(url=url, subprotocols=("ocpp1.6",), username="station", password="wrong")
    with pytest.raises(SocketClosed) as unreachable:
        await dialer.dial(url=url, subprotocols=("ocpp1.6",), username="station", password="right")

    assert echoed == "[]"
    assert (refused.value.code, unreachable.value.code) == (401, 503)
