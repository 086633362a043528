"""Frames of a WebSocket (RFC 6455, 5.2), found in what a socket read and written for what it sends.

Nearly all that stations send are whole text frames, one to a read. Taken here they cost a fifth of what they cost in
the library's parser, which reads any frame in any portions; every other frame - fragments, control frames, broken
ones - is the library's.
"""

from __future__ import annotations

from typing import Final

from websockets.speedups import apply_mask

NEVER: Final = -1
"""The end of a frame that nobody may send: whoever refuses it need not wait for the rest."""
_FINAL_TEXT: Final = 0x81
_MASKED: Final = 0x80
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_MASK_BYTES: Final = 4


def frame_end(data: bytes, start: int, *, payload_bytes_max: int) -> int | None:
    """Return where the frame that begins at `start` ends; None while its header is not complete.

    `NEVER` where a client may not send such a frame: it is unmasked, or its payload exceeds `payload_bytes_max`.
    """
    if len(data) < start + 2:
        return None
    second = data[start + 1]
    if second < _MASKED:
        return NEVER
    length, header = second - _MASKED, 2
    if length >= _LENGTH_16:
        header = 4 if length == _LENGTH_16 else 10
        if len(data) < start + header:
            return None
        length = int.from_bytes(data[start + 2 : start + header], "big")
    return start + header + _MASK_BYTES + length if length <= payload_bytes_max else NEVER


def whole_text(data: bytes, start: int, end: int) -> bytes | None:
    """Return the payload of the frame from `start` to `end` if it is a whole text message, else None."""
    if data[start] != _FINAL_TEXT:
        return None
    length = data[start + 1] - _MASKED
    mask = start + (2 if length < _LENGTH_16 else 4 if length == _LENGTH_16 else 10)
    return apply_mask(data[mask + _MASK_BYTES : end], data[mask : mask + _MASK_BYTES])


def text_frame(payload: bytes) -> bytes:
    """Return a whole text message as a server sends it, unmasked."""
    length = len(payload)
    if length < _LENGTH_16:
        return bytes((_FINAL_TEXT, length)) + payload
    if length < 1 << 16:
        return bytes((_FINAL_TEXT, _LENGTH_16)) + length.to_bytes(2, "big") + payload
    return bytes((_FINAL_TEXT, _LENGTH_64)) + length.to_bytes(8, "big") + payload
