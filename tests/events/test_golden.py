"""Each version of each event is pinned by a golden file: fields may be added with a default, never renamed or removed.

A new event: write its golden file with `WRITE_GOLDEN=1 pytest tests/events/test_golden.py`, look at it, commit it.
An existing file is never overwritten: what lies in a log for years must stay readable.
"""

from __future__ import annotations

import json
import os
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.events.event import CATALOGUE, Envelope, Event

FOLDER: Final = Path(__file__).parent / "golden"
AT: Final = datetime(2022, 3, 27, 0, 59, 59, 123456, tzinfo=UTC)
NAMES: Final = sorted(CATALOGUE)


def example_of(kind: Any, name: str = "value") -> Any:
    """Make a value of a type with every optional field filled."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return example_of(next(each for each in typing.get_args(kind) if each is not type(None)), name)
    if typing.get_origin(kind) is tuple:
        return tuple(example_of(each, name) for each in typing.get_args(kind) if each is not Ellipsis)
    if typing.get_origin(kind) is frozenset:
        return frozenset({example_of(typing.get_args(kind)[0], name)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    plain = {
        str: name,
        int: 1,
        bool: True,
        bytes: b"\x00\xff",
        Decimal: Decimal("1.50"),
        datetime: AT,
        date: AT.date(),
        time: time(1, 2),
        PartyId: PartyId("NL-TNM"),
    }
    if kind in plain:
        return plain[kind]
    hints = typing.get_type_hints(kind)
    made: Any = typing.cast("Any", kind)
    if issubclass(made, msgspec.Struct):
        names = made.__struct_fields__
    else:
        assert is_dataclass(kind), kind
        names = tuple(field.name for field in fields(made))
    return made(**{name: example_of(hints[name], name) for name in names})


def envelope_of(kind: type[Event]) -> Envelope:
    return Envelope(event=example_of(kind), event_id="event-1", correlation_id="correlation-1", recorded_at=AT)


def golden(name: str) -> bytes:
    path = FOLDER / f"{name}.json"
    if not path.exists() and os.environ.get("WRITE_GOLDEN"):
        path.write_bytes(codec.encode_envelope(envelope_of(CATALOGUE[name])) + b"\n")
    assert path.exists(), f"{name} has no golden file; see the top of this test"
    return path.read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_bytes_are_still_read_and_every_field_they_hold_is_kept(name: str) -> None:
    stored = golden(name)

    envelope = codec.decode_envelope(stored)

    written = json.loads(codec.encode_envelope(envelope))
    assert list(lost_in(json.loads(stored), written)) == []


def lost_in(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield where a value of `old` is missing or different in `new`; what `new` adds is allowed."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key not in new:
                yield f"{path}/{key}"
            else:
                yield from lost_in(value, new[key], f"{path}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from lost_in(one, other, f"{path}/{at}")
    elif old != new:
        yield path


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_the_golden_bytes_lack_has_a_default(name: str) -> None:
    known = json.loads(golden(name))["event"]

    added = [
        field.name
        for field in fields(typing.cast("Any", CATALOGUE[name]))
        if field.name not in known and field.default is MISSING and field.default_factory is MISSING
    ]

    assert added == []


def test_no_event_that_has_a_golden_file_left_the_catalogue() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_back_the_same_and_gives_the_same_bytes_again(name: str) -> None:
    envelope = envelope_of(CATALOGUE[name])

    data = codec.encode_envelope(envelope)

    assert codec.decode_envelope(data) == envelope
    assert codec.encode_envelope(codec.decode_envelope(data)) == data


def test_a_wire_name_says_topic_fact_and_version() -> None:
    for name, kind in CATALOGUE.items():
        topic, fact, version = name.split(".")
        assert (topic, version[0]) == (kind.topic, "v")
        assert fact.replace("_", "") == kind.__name__.lower()


def test_a_renamed_field_is_noticed() -> None:
    assert list(lost_in({"energy_wh": 1, "kept": [1]}, {"wh": 1, "kept": [1], "added": 2})) == ["/energy_wh"]


def test_an_event_of_a_newer_version_is_refused_by_name() -> None:
    data = codec.encode_envelope(envelope_of(CATALOGUE[NAMES[0]])).replace(NAMES[0].encode(), b"cdrs.unheard_of.v9")

    with pytest.raises(codec.UnknownEvent, match=r"cdrs\.unheard_of\.v9"):
        codec.decode_envelope(data)
