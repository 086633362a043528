"""Events and records as JSON bytes and back (msgspec), the same bytes every time.

Decimals are written as strings, datetimes as RFC 3339 in UTC with a Z, `PartyId` as NL-TNM, bytes as base64.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.events import (
    ad_hoc,
    anchoring,
    banking,
    cdr,
    charging,
    reservations,
    retail,
    settlement,
    smart_charging,
    station_tasks,
    station_told,
)
from emobility.events.event import CATALOGUE, NO_VIEWS, Envelope, Event, Views

T = TypeVar("T")

CATALOGUED_MODULES: Final = (
    ad_hoc,
    anchoring,
    banking,
    cdr,
    charging,
    reservations,
    retail,
    settlement,
    smart_charging,
    station_tasks,
    station_told,
)
"""Importing them fills the catalogue; a new module of events is added here."""


PARTY_IDS_KEPT: Final = 10_000
party_id_of: Final = lru_cache(PARTY_IDS_KEPT)(PartyId)
"""A stored event or row names a few parties again and again; checking each anew is a third of reading it."""


class UnknownEvent(MalformedInput):
    """The log holds an event that this version does not know: a newer writer is at work."""

    def __init__(self, wire_name: str) -> None:
        self.wire_name = wire_name
        super().__init__(f"no event is called {wire_name}")


def _to_wire(value: Any) -> Any:
    if isinstance(value, PartyId):
        return value.code
    raise NotImplementedError(f"{type(value)} has no wire form")


def _from_wire(kind: type, value: Any) -> Any:
    if kind is PartyId:
        return party_id_of(value)
    raise NotImplementedError(f"{kind} has no wire form")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_to_wire, order="deterministic")
_PAYLOAD_ENCODER: Final = msgspec.json.Encoder(enc_hook=_to_wire, order="deterministic", decimal_format="number")
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def encode(value: Any) -> bytes:
    """Write a record or event; the same value gives the same bytes."""
    return _ENCODER.encode(value)


def decode(data: bytes | memoryview | str, kind: type[T]) -> T:
    """Read what `encode` wrote. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS.setdefault(kind, msgspec.json.Decoder(kind, dec_hook=_from_wire))
    decoded: T = decoder.decode(data)
    return decoded


def encode_with_payload(value: Any) -> bytes:
    """Write what carries a payload of another protocol: a number with a fraction is a number there, not a text."""
    return _PAYLOAD_ENCODER.encode(value)


def decode_with_payload(data: bytes | str, kind: type[T]) -> T:
    """Read what carries a payload; each of its numbers with a fraction is a `Decimal`. Raises as `decode`."""
    return msgspec.json.Decoder(kind, dec_hook=_from_wire, float_hook=Decimal).decode(data)


class _Wire(msgspec.Struct, frozen=True):
    """An envelope as it lies in the log: the event stays raw until its class is known."""

    name: str
    event_id: str
    correlation_id: str
    recorded_at: datetime
    event: msgspec.Raw


_NAME: Final = b'"name":"'
_NAME_WITHIN_BYTES: Final = 200
_ENVELOPE_DECODERS: Final[dict[type[Event], msgspec.json.Decoder[Any]]] = {}


def encode_envelope(envelope: Envelope) -> bytes:
    """Write an envelope and its event as one JSON object."""
    return encode(
        {
            "name": envelope.event.wire_name,
            "event_id": envelope.event_id,
            "correlation_id": envelope.correlation_id,
            "recorded_at": envelope.recorded_at,
            "event": envelope.event,
        }
    )


def decode_envelope(data: bytes, views: Views = NO_VIEWS) -> Envelope:
    """Read what `encode_envelope` wrote; of an event in `views` no more than its view.

    Raises:
        UnknownEvent: the name is not in the catalogue.
        msgspec.MsgspecError: the bytes do not hold such an event.
    """
    guessed = CATALOGUE.get(_name_at_the_end(data))
    if guessed is not None:
        with suppress(msgspec.ValidationError):  # of a wrong guess; what is wrong else is said below
            wire = _decoder_of(views.get(guessed, guessed)).decode(data)
            if wire.name == guessed.wire_name:
                return _envelope(wire, wire.event)
    wire = decode(data, _Wire)
    kind = CATALOGUE.get(wire.name)
    if kind is None:
        raise UnknownEvent(wire.name)
    return _envelope(wire, decode(memoryview(wire.event), views.get(kind, kind)))


def _envelope(wire: Any, event: Event) -> Envelope:
    return Envelope(
        event=event, event_id=wire.event_id, correlation_id=wire.correlation_id, recorded_at=wire.recorded_at
    )


def _name_at_the_end(data: bytes) -> str:
    """Return the event's name where `encode_envelope` puts it: a guess, by which the bytes are read once, not twice."""
    start = data.rfind(_NAME, -_NAME_WITHIN_BYTES)
    return data[start + len(_NAME) : data.find(b'"', start + len(_NAME))].decode(errors="replace")


def _decoder_of(kind: type[Event]) -> msgspec.json.Decoder[Any]:
    """Return what reads an envelope whose event is of this kind."""
    decoder = _ENVELOPE_DECODERS.get(kind)
    if decoder is None:
        fields = [("name", str), ("event_id", str), ("correlation_id", str), ("recorded_at", datetime), ("event", kind)]
        wire = msgspec.defstruct(kind.__name__, fields, frozen=True)
        decoder = _ENVELOPE_DECODERS.setdefault(kind, msgspec.json.Decoder(wire, dec_hook=_from_wire))
    return decoder
