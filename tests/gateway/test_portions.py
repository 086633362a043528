"""What fits into a frame can be stored: readings that are too many for one event are several."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charge_point_gateway.connection import Limits
from charge_point_gateway.message import Fact, rfc3339
from charge_point_gateway.portions import EVENT_REST_BYTES_MAX, PORTION_BYTES_MAX, in_portions
from emobility.domain.charging_periods import charging_periods
from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed
from emobility.domain.transaction import has_conflict, metered_wh
from emobility.events import codec
from emobility.events.charging import EVSEMetered, TransactionEnded, TransactionUpdated
from emobility.events.fold import apply
from emobility.ports.event_log import EVENT_BYTES_MAX
from tests.gateway.test_messages_over_a_connection import AT, event_201

START = datetime(2022, 3, 26, 12, tzinfo=UTC)
FRAME_BYTES_MAX = Limits().frame_bytes_max
RECORD_BYTES = st.integers(0, 2 * PORTION_BYTES_MAX // 3)


def sample(number: int, **value: Any) -> dict[str, Any]:
    return {"timestamp": rfc3339(START + timedelta(seconds=10 * number)), "sampledValue": [{"value": "1", **value}]}


def largest(action: str, payload: dict[str, Any], samples: list[dict[str, Any]], field: str) -> dict[str, Any]:
    """Return the payload with as many of the samples as a frame holds."""
    room = FRAME_BYTES_MAX - len(json.dumps([2, "m12", action, {**payload, field: []}]))
    taken = 0
    for each in samples:
        room -= len(json.dumps(each)) + 2
        if room < 0:
            break
        taken += 1
    assert taken < len(samples), "the frame is not full"
    return {**payload, field: samples[:taken]}


async def test_a_stop_that_fills_its_frame_is_stored_whole(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    stop = {"transactionId": 1, "meterStop": 99_999, "timestamp": "2022-03-27T08:00:00Z"}
    payload = largest("StopTransaction", stop, [sample(number) for number in range(9_000)], "transactionData")

    answer = await station.call("StopTransaction", payload)

    assert answer[0] == 3, answer
    *ahead, last = await world.events()
    assert isinstance(last, TransactionEnded)
    assert all(isinstance(event, TransactionUpdated) for event in ahead)
    readings = [each for event in (*ahead, last) for each in event.readings]
    assert len(readings) == len(payload["transactionData"]) + 1
    assert readings == sorted(readings, key=lambda each: each.at)


@pytest.mark.parametrize("kind", ["Updated", "Ended"])
async def test_short_values_are_stored_whole(world: Any, kind: str) -> None:
    station = await world.dial()
    values = [{"value": 1, "context": context.value} for context in ReadingContext]
    samples = [
        {"timestamp": rfc3339(START + timedelta(seconds=place)), "sampledValue": values} for place in range(2_000)
    ]
    payload = largest("TransactionEvent", event_201(kind, 1), samples, "meterValue")

    answer = await station.call("TransactionEvent", payload)
    repeated = await station.call("TransactionEvent", payload)

    assert (answer[0], repeated[0]) == (3, 3), answer
    ids, events = await world.event_ids(), await world.events()
    half = len(events) // 2
    assert (ids[:half], events[:half]) == (ids[half:], events[half:])
    assert sum(len(event.readings) for event in events[:half]) == len(payload["meterValue"]) * len(values)
    assert [event.seq_no for event in events[:half] if event.seq_no is not None] == [1]
    assert len(set(ids)) == half


async def test_short_records_that_grow_tenfold_are_stored_whole(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    records = [sample(place, value=str(place), format="SignedData") for place in range(9_000)]
    payload = largest("MeterValues", {"connectorId": 1, "transactionId": 1}, records, "meterValue")

    answer = await station.call("MeterValues", payload)

    assert answer[0] == 3, answer
    assert sum(len(event.readings) for event in await world.events()) == len(payload["meterValue"])


async def test_one_record_that_fills_its_frame_is_stored(world: Any) -> None:
    station = await world.dial("ocpp1.6")
    record = "x" * (FRAME_BYTES_MAX - 400)
    value = {"timestamp": AT, "sampledValue": [{"value": record, "format": "SignedData"}]}

    answer = await station.call("MeterValues", {"connectorId": 1, "transactionId": 1, "meterValue": [value]})

    assert answer[0] == 3, answer


def test_a_record_as_long_as_a_frame_leaves_room_in_its_event() -> None:
    assert 4 * FRAME_BYTES_MAX // 3 + EVENT_REST_BYTES_MAX <= EVENT_BYTES_MAX
    assert PORTION_BYTES_MAX + EVENT_REST_BYTES_MAX <= EVENT_BYTES_MAX


@given(sizes=st.lists(RECORD_BYTES, min_size=1, max_size=5), registers=st.lists(st.integers(0, 9_999), min_size=5))
def test_a_message_in_portions_says_what_it_says_in_one(sizes: list[int], registers: list[int]) -> None:
    readings = tuple(
        MeterReading(
            at=START + timedelta(minutes=place),
            import_wh=registers[place],
            signed_record=Sealed(subject="ab" * 32, box=b"x" * size),
        )
        for place, size in enumerate(sizes)
    )
    event = TransactionEnded(
        party_id=PartyId("NL-TNM"),
        charging_station_id="CS-1",
        transaction_id="1",
        occurred_at=START + timedelta(hours=1),
        seq_no=3,
        readings=readings,
    )

    portions = [fact.event for fact in in_portions([Fact("stop", event)])]

    transaction = None
    for portion in portions:
        assert isinstance(portion, TransactionEnded | TransactionUpdated)
        assert len(codec.encode(portion)) + EVENT_REST_BYTES_MAX // 2 <= EVENT_BYTES_MAX
        transaction = apply(transaction, portion)
    whole = apply(None, event)
    assert transaction is not None
    assert metered_wh(transaction) == metered_wh(whole)
    assert charging_periods(transaction) == charging_periods(whole)
    assert not has_conflict(transaction)


def test_values_outside_a_transaction_are_cut_into_events_of_their_own_kind() -> None:
    box = b"x" * (PORTION_BYTES_MAX // 2)
    record = Sealed(subject="ab" * 32, box=box)
    readings = tuple(MeterReading(at=START + timedelta(minutes=place), signed_record=record) for place in range(3))
    event = EVSEMetered(
        party_id=PartyId("NL-TNM"), charging_station_id="CS-1", ocpp_evse_id=1, occurred_at=START, readings=readings
    )

    cut = list(in_portions([Fact("metered", event)]))

    assert [fact.event_id for fact in cut] == ["metered/readings-0", "metered/readings-1", "metered"]
    assert [type(fact.event) for fact in cut] == [EVSEMetered] * 3
