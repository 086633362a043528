"""What the guarded client's connections do, on both event loops that run it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters import http_connections
from emobility.adapters.http_connections import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ORIGIN_MAX,
    HEAD_BYTES_MAX,
    AnswerBroken,
    AnswerReader,
    ConnectionPool,
    NothingAnswered,
    Origin,
    _Connection,
)
from emobility.ports.http import RESPONSE_BYTES_MAX, HttpResponse, PeerUnreachable, ResponseTooLarge

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"".join(
    [
        b"HTTP/1.1 200 OK\r\nX-A:  a b \r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2;x=y\r\nok\r\n1\r\n!\r\n0\r\nX-A: trailer\r\n\r\n",
    ]
)
REQUEST = b"the request of this test, read by nobody but the test's peer\n"
PEER = Origin("http", "peer.example", 80)


def read(*parts: bytes) -> HttpResponse | None:
    reader = AnswerReader()
    for part in parts:
        answer = reader.feed(part)
        if answer is not None:
            return answer
    return None


@given(cut=st.integers(1, len(CHUNKED) - 1))
def test_an_answer_is_the_same_however_it_is_cut(cut: int) -> None:
    whole = read(CHUNKED)

    assert whole is not None
    assert (whole.status, whole.headers["x-a"], whole.body) == (200, "a b", b"ok!")
    assert read(CHUNKED[:cut], CHUNKED[cut:]) == whole


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_an_informational_answer_is_not_the_answer(status: bytes) -> None:
    answer = read(b"HTTP/1.1 " + status + b"\r\nX-Early: 1\r\n\r\n", OK)

    assert answer == HttpResponse(status=200, headers={"content-length": "2"}, body=b"ok")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_that_has_no_body_is_whole_after_its_headers(status: bytes) -> None:
    reader = AnswerReader()

    answer = reader.feed(b"HTTP/1.1 " + status + b"\r\n\r\n")

    assert answer is not None
    assert answer.body == b""
    assert reader.may_follow


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + OK,
        OK + b"more",
    ],
)
def test_nothing_follows_on_a_connection_that_ends_or_said_too_much(answer: bytes) -> None:
    reader = AnswerReader()

    assert reader.feed(answer) == read(answer[: answer.index(b"ok") + 2])
    assert not reader.may_follow


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    reader = AnswerReader()

    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nall ") is None
    assert reader.feed(b"there is") is None
    assert reader.end(None).body == b"all there is"


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        OK[:-1],
        CHUNKED[:-2],
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    ],
)
def test_a_part_of_an_answer_is_none(part: bytes) -> None:
    reader = AnswerReader()

    assert reader.feed(part) is None
    with pytest.raises(AnswerBroken) as broken:
        reader.end(None)
    assert not isinstance(broken.value, NothingAnswered)


def test_a_connection_that_failed_ends_no_answer() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nall ")

    with pytest.raises(AnswerBroken):
        reader.end(ConnectionResetError())


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX : 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\x00: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
def test_what_is_not_plainly_an_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(AnswerBroken):
        read(answer)


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 1_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 1_000),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 40),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 1_000 + b"\r\n!\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: " + b"x" * 1_000 + b"\r\n"),
    ],
    ids=["headers", "a header", "informational", "chunks", "trailers"],
)
def test_what_stands_around_a_body_is_bounded(start: bytes, again: bytes) -> None:
    with pytest.raises(AnswerBroken, match="more than"):
        read(start, *[again] * (2 + HEAD_BYTES_MAX // len(again)))


def test_a_body_may_come_in_the_smallest_chunks() -> None:
    chunks = b"1\r\n!\r\n" * RESPONSE_BYTES_MAX

    answer = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")

    assert answer is not None
    assert len(answer.body) == RESPONSE_BYTES_MAX


def test_a_body_is_bounded() -> None:
    with pytest.raises(ResponseTooLarge):
        read(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (RESPONSE_BYTES_MAX + 1))


class Peer:
    """A server that does what its test says and counts what it was asked."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.asked = 0
        self.answers: Callable[[int], bytes | None] = lambda _: OK
        """By the request's number; None hangs up instead."""
        self.was_asked, self.ended = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while await reader.readline():
                self.asked += 1
                self.was_asked.set()
                answer = self.answers(self.asked)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.ended.set()

    async def hang_up(self) -> None:
        for writer in self.connections:
            writer.close()
            await writer.wait_closed()


class Network:
    """A pool, and the peer behind every origin of it."""

    def __init__(self, pool: ConnectionPool, peer: Peer) -> None:
        self.pool = pool
        self.peer = peer

    async def call(self, method: str = "GET", origin: Origin = PEER) -> HttpResponse:
        async with asyncio.timeout(10):
            return await self.pool.exchange(method, origin, REQUEST)


@asynccontextmanager
async def connected() -> AsyncIterator[Network]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, backlog=1_000)  # clients connect without waiting
    port = server.sockets[0].getsockname()[1]

    async def connect(_: Origin) -> socket.socket:
        found = socket.create_connection(("127.0.0.1", port))
        found.setblocking(False)
        return found

    pool = ConnectionPool(connect, ssl.create_default_context())
    async with server:
        yield Network(pool, peer)
        await pool.close()


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on asyncio's own loop and on uvloop, which differ in how they own and close sockets."""

    @functools.wraps(test)
    def running(*, run: Callable[[Coroutine[Any, Any, None]], None], **given: Any) -> None:
        run(test(**given))

    asked = inspect.signature(test)
    run = inspect.Parameter("run", inspect.Parameter.KEYWORD_ONLY)
    vars(running)["__signature__"] = asked.replace(parameters=[*asked.parameters.values(), run])
    both: Callable[..., None] = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])(
        running
    )
    return both


@on_both_loops
async def test_calls_one_after_another_share_a_connection() -> None:
    async with connected() as network:
        answers = [await network.call(method) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")]

    assert {(answer.status, answer.body) for answer in answers} == {(200, b"ok")}
    assert (network.peer.asked, len(network.peer.connections)) == (5, 1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_both_loops
async def test_a_kept_connection_that_its_peer_closed_is_not_used(method: str) -> None:
    async with connected() as network:
        await network.call()
        await network.peer.hang_up()

        assert (await network.call(method)).status == 200

    assert (network.peer.asked, len(network.peer.connections)) == (2, 2)


@on_both_loops
async def test_a_kept_connection_is_looked_at_even_when_the_loop_has_not_heard_of_its_end() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    to_connect = [near]

    async def connect(_: Origin) -> socket.socket:
        if not to_connect:
            raise OSError("a new connection was asked for")
        return to_connect.pop()

    pool = ConnectionPool(connect, ssl.create_default_context())
    with far:
        calling = asyncio.create_task(pool.exchange("POST", PEER, REQUEST))
        await asyncio.to_thread(far.recv, len(REQUEST))
        far.sendall(OK)
        await calling

    with pytest.raises(PeerUnreachable, match="new connection"):
        await pool.exchange("POST", PEER, REQUEST)

    await pool.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@on_both_loops
async def test_an_idempotent_call_that_a_kept_connection_lost_is_sent_once_more(method: str) -> None:
    async with connected() as network:
        network.peer.answers = lambda number: None if number == 2 else OK
        await network.call()

        assert (await network.call(method)).status == 200

    assert (network.peer.asked, len(network.peer.connections)) == (3, 2)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@on_both_loops
async def test_a_call_that_may_not_be_repeated_is_sent_once(method: str) -> None:
    async with connected() as network:
        network.peer.answers = lambda number: None if number == 2 else OK
        await network.call()

        with pytest.raises(NothingAnswered):
            await network.call(method)

    assert network.peer.asked == 2


@on_both_loops
async def test_a_call_is_sent_once_more_only_when_nothing_came_back() -> None:
    async with connected() as network:
        network.peer.answers = lambda number: OK if number == 1 else b"neither\r\n"
        await network.call()

        with pytest.raises(AnswerBroken):
            await network.call()

    assert network.peer.asked == 2


@on_both_loops
async def test_a_new_connection_that_breaks_is_not_tried_again() -> None:
    async with connected() as network:
        network.peer.answers = lambda _: None

        with pytest.raises(NothingAnswered):
            await network.call()

    assert network.peer.asked == 1


async def test_a_connection_that_is_lost_before_its_call_begins_does_not_make_it_wait() -> None:
    with socket.socket() as unconnected:
        connection = _Connection(unconnected, on_lost=lambda _: None)
        connection.connection_lost(None)

        async with asyncio.timeout(1):
            with pytest.raises(NothingAnswered):
                await connection.exchange(REQUEST)


@on_both_loops
async def test_an_answer_nobody_asked_for_is_nobodys_answer() -> None:
    async with connected() as network:
        await network.call()
        network.peer.connections[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await network.peer.ended.wait()

        assert (await network.call("POST")).body == b"ok"

    assert len(network.peer.connections) == 2


@on_both_loops
async def test_a_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "KEEP_ALIVE_S", 0.0)
    async with connected() as network:
        await network.call()
        await network.call()

    assert len(network.peer.connections) == 2


@on_both_loops
async def test_a_call_that_was_given_up_leaves_no_connection_behind() -> None:
    async with connected() as network:
        network.peer.answers = lambda number: b"" if number == 1 else OK
        calling = asyncio.create_task(network.call())
        await network.peer.was_asked.wait()
        calling.cancel()
        await network.peer.ended.wait()

        assert (await network.call()).body == b"ok"


@on_both_loops
async def test_for_one_connection_too_many_the_one_kept_longest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "CONNECTIONS_MAX", 2)
    first, second, third = (Origin("http", f"{name}.example", 80) for name in ("first", "second", "third"))
    async with connected() as network:
        for origin in (first, second, third, second):
            await network.call(origin=origin)
        assert len(network.peer.connections) == 3

        await network.call(origin=first)

    assert len(network.peer.connections) == 4


@on_both_loops
async def test_slow_origins_hold_up_only_themselves() -> None:
    slow = [Origin("http", f"slow{n}.example", 80) for n in range(7)]
    async with connected() as network:
        network.peer.answers = lambda _: b""
        crowd = [asyncio.create_task(network.call(origin=each)) for each in slow for _ in range(40)]
        async with asyncio.timeout(10):
            while network.peer.asked < CONNECTIONS_MAX:  # noqa: ASYNC110 - the peer has no event for so many
                await asyncio.sleep(0.01)

        network.peer.answers = lambda _: OK
        answers = await asyncio.gather(*(network.call() for _ in range(40)))

        assert network.peer.asked == CONNECTIONS_MAX + 40
        assert {answer.body for answer in answers} == {b"ok"}
        for call in crowd:
            call.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert (await network.call(origin=slow[0])).body == b"ok"
        assert network.pool._in_use == 0


@on_both_loops
async def test_an_origin_has_no_more_calls_under_way_than_its_limit() -> None:
    async with connected() as network:
        network.peer.answers = lambda _: b""
        calls = [asyncio.create_task(network.call("POST")) for _ in range(CONNECTIONS_PER_ORIGIN_MAX + 5)]
        async with asyncio.timeout(10):
            while network.peer.asked < CONNECTIONS_PER_ORIGIN_MAX:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        network.peer.answers = lambda _: OK
        calls[-1].cancel()
        calls[0].cancel()
        await asyncio.wait(calls[CONNECTIONS_PER_ORIGIN_MAX:])

        assert [call.cancelled() for call in calls[CONNECTIONS_PER_ORIGIN_MAX:]] == [False] * 4 + [True]
        assert network.peer.asked == CONNECTIONS_PER_ORIGIN_MAX + 4
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


@on_both_loops
async def test_an_idle_connection_is_closed_though_nobody_calls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "KEEP_ALIVE_S", 0.05)
    async with connected() as network:
        await network.call()
        async with asyncio.timeout(10):
            await network.peer.ended.wait()
        await network.call()

        assert len(network.peer.connections) == 2


@on_both_loops
async def test_closing_closes_also_what_is_in_use() -> None:
    async with connected() as network:
        network.peer.answers = lambda _: b""
        calling = asyncio.create_task(network.call("POST"))
        await network.peer.was_asked.wait()

        await network.pool.close()

        with pytest.raises(NothingAnswered):
            await calling


@on_both_loops
async def test_no_socket_is_left_open_to_the_garbage_collector() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with connected() as network:
            await asyncio.gather(*(network.call() for _ in range(40)))
            opened = [connection._socket for connection in network.pool._open]
        await asyncio.sleep(0)

    assert opened
    assert {each.fileno() for each in opened} == {-1}
