"""The readings of one message in portions that an event can hold.

A frame is bounded by `Limits.frame_bytes_max` and an event by `EVENT_BYTES_MAX`, but no ratio of the two is safe: a
sampled value of 30 bytes becomes a reading of five times that, and a signed one of ten. So a message whose readings
are too many for one event is several events: what was read last stays with the event itself, and what was read before
goes ahead of it. All of them become durable together; a repeated message is cut the same way under the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from charge_point_gateway.message import Fact
from emobility.domain.meter import MeterReading
from emobility.events import codec
from emobility.events.charging import EVSEMetered, TransactionEvent, TransactionUpdated
from emobility.events.event import Event
from emobility.ports.event_log import EVENT_BYTES_MAX

EVENT_REST_BYTES_MAX: Final = 100_000
"""Ample for an event without its readings, and for a reading without its signed record."""
PORTION_BYTES_MAX: Final = EVENT_BYTES_MAX // 2
"""Encoded readings of one event. One that exceeds it by itself still fits: its record is at most a frame in base64."""


def in_portions(facts: Iterable[Fact]) -> Iterator[Fact]:
    """Yield the facts, each after what of its readings goes ahead of it."""
    for fact in facts:
        event = fact.event
        if isinstance(event, TransactionEvent | EVSEMetered) and len(event.readings) > 1:
            yield from _cut(fact, event)
        else:
            yield fact


def _cut(fact: Fact, event: TransactionEvent | EVSEMetered) -> Iterator[Fact]:
    if len(codec.encode(event.readings)) <= PORTION_BYTES_MAX:
        yield fact
        return
    *ahead, last = _portions(event.readings)
    for number, readings in enumerate(ahead):
        yield Fact(f"{fact.event_id}/readings-{number}", _with(event, readings))
    yield Fact(fact.event_id, replace(event, readings=last))


def _portions(readings: Iterable[MeterReading]) -> list[tuple[MeterReading, ...]]:
    portions: list[list[MeterReading]] = [[]]
    room = PORTION_BYTES_MAX
    for reading in readings:
        taken = len(codec.encode(reading)) + 1
        if taken > room and portions[-1]:
            portions.append([])
            room = PORTION_BYTES_MAX
        portions[-1].append(reading)
        room -= taken
    return [tuple(portion) for portion in portions]


def _with(event: TransactionEvent | EVSEMetered, readings: tuple[MeterReading, ...]) -> Event:
    """Return an event that says nothing but the readings; a number of 2.x stays with the event that has it."""
    if isinstance(event, EVSEMetered):
        return replace(event, readings=readings)
    return TransactionUpdated(
        party_id=event.party_id,
        charging_station_id=event.charging_station_id,
        transaction_id=event.transaction_id,
        occurred_at=event.occurred_at,
        is_offline=event.is_offline,
        readings=readings,
    )
