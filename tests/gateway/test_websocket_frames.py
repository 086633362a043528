"""However the bytes of a WebSocket arrive, a station's connection hears what the library alone would hear."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import Server
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from charge_point_gateway.server import MESSAGE_BYTES_MAX, StationConnection
from charge_point_gateway.websocket_frames import text_frame

REQUEST = (
    b"GET /ocpp/NL-TNM/CS-1 HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASKS = st.binary(min_size=4, max_size=4)
TEXTS = st.text(max_size=60) | st.sampled_from(["x" * 125, "x" * 126, "é" * 40_000])


def masked(opcode: Opcode, payload: bytes, mask: bytes, *, is_final: bool = True) -> bytes:
    length = len(payload)
    head = bytes([opcode | (0x80 if is_final else 0)])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += bytes([0xFE]) + length.to_bytes(2, "big")
    else:
        head += bytes([0xFF]) + length.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["text"] * 5 + ["binary", "ping", "fragments", "close", "broken"]))
    mask, text = draw(MASKS), draw(TEXTS).encode()
    match kind:
        case "text":
            return masked(Opcode.TEXT, text, mask)
        case "binary":
            return masked(Opcode.BINARY, text, mask)
        case "ping":
            return masked(Opcode.PING, text[:125], mask)
        case "close":
            return masked(Opcode.CLOSE, b"\x03\xe8", mask)
        case "fragments":
            middle = draw(
                st.sampled_from([b"", masked(Opcode.PING, b"", mask), masked(Opcode.TEXT, b"in between", mask)])
            )
            end = draw(st.sampled_from([b"", masked(Opcode.CONT, text, mask)]))
            return masked(Opcode.TEXT, text, mask, is_final=False) + middle + end
        case _:
            return draw(
                st.sampled_from(
                    [
                        b"\x81\x02ab",  # unmasked
                        b"\xc1" + masked(Opcode.TEXT, text, mask)[1:],  # a reserved bit
                        b"\x83" + masked(Opcode.TEXT, text, mask)[1:],  # a reserved opcode
                        b"\x81\xff" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big") + mask,  # longer than allowed
                    ]
                )
            )


class Transport:
    """Keeps what is written, and is never full."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing hangs on it here."""

    def pause_reading(self) -> None:
        """Nothing reads from it."""


def opened(connection: Any, protocol: ServerProtocol) -> None:
    connection.data_received(REQUEST)
    protocol.send_response(protocol.accept(connection.request))
    connection.send_data()


def heard_by_the_library(stream: bytes) -> tuple[list[str | bytes], bytes]:
    """Return messages and what is written back, by the library's own parser given everything at once."""
    protocol = ServerProtocol(max_size=MESSAGE_BYTES_MAX)
    protocol.receive_data(REQUEST)
    request = protocol.events_received()[0]
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.receive_data(stream)
    messages: list[str | bytes] = []
    parts: list[bytes] = []
    is_text = True
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode not in DATA_OPCODES:
            continue
        if frame.opcode is not Opcode.CONT:
            is_text = frame.opcode is Opcode.TEXT
        parts.append(bytes(frame.data))
        if frame.fin:
            data, parts = b"".join(parts), []
            messages.append(data.decode() if is_text else data)
    return messages, b"".join(protocol.data_to_send())


@given(stream=st.lists(frames(), max_size=8).map(b"".join), cuts=st.lists(st.integers(0, 2**20), max_size=12))
async def test_a_stream_cut_anywhere_says_what_it_says_whole(stream: bytes, cuts: list[int]) -> None:
    protocol, transport = ServerProtocol(max_size=MESSAGE_BYTES_MAX), Transport()
    connection = StationConnection(protocol, cast("Server", None), opening=Counter(), ping_interval=None)
    connection.transport = cast("Any", transport)
    opened(connection, protocol)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})

    for start, end in pairwise(places):
        connection.data_received(stream[start:end])

    messages, written = heard_by_the_library(stream)
    assert connection._messages == messages
    assert transport.written.partition(b"\r\n\r\n")[2] == written.partition(b"\r\n\r\n")[2]  # a head has its date


@given(text=TEXTS)
def test_a_text_is_framed_as_the_library_frames_it(text: str) -> None:
    payload = text.encode()

    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
