"""What every event log promises, whatever it is made of."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest

from emobility.adapters.consuming import Place
from emobility.domain.errors import Unavailable
from emobility.events.charging import CHARGING, StationBooted, StationEvent
from emobility.events.event import LoggedEvent
from emobility.ports.event_log import (
    EXPLANATION_CHARACTERS_MAX,
    Bounds,
    CursorMoved,
    DiscardUnexplained,
    EventTooLarge,
    NotParked,
)
from emobility.ports.stores import TextWithNUL
from emobility.ports.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from tests.adapters.contract.conftest import World


class Collector:
    """A handler that keeps what it got, and refuses what it is told to."""

    def __init__(self, *, poison: str | None = None) -> None:
        self.poison = poison
        self.batches: list[list[LoggedEvent]] = []
        self.numbers: dict[str, list[int]] = defaultdict(list)

    async def __call__(self, _unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        self.batches.append(list(events))
        for logged in events:
            if logged.envelope.event_id == self.poison:
                raise ValueError("no station can send this")
        for logged in events:
            event: Any = logged.envelope.event
            self.numbers[event.charging_station_id].append(int(event.model))


async def test_what_was_appended_is_read_back_whole(world: World) -> None:
    envelopes = [world.booted(f"S{number % 5}", number) for number in range(50)]

    await world.event_log.append(envelopes)

    read = [logged.envelope for logged in await world.all_logged()]
    assert sorted(read, key=lambda each: each.event_id) == sorted(envelopes, key=lambda each: each.event_id)


@pytest.mark.parametrize("place", ["event", "event_id", "correlation_id"])
async def test_an_event_with_a_nul_never_enters_the_log(world: World, place: str) -> None:
    good = world.booted("S1", 1)
    changed: dict[str, Any] = {"event": world.booted("S1", 1, vendor="a\0b").event, "event_id": "a\0b"}
    bad = msgspec.structs.replace(good, **{place: changed.get(place, "a\0b")})

    with pytest.raises(TextWithNUL):
        await world.event_log.append([good, bad])
    async with world.units.begin() as unit:
        with pytest.raises(TextWithNUL):
            unit.emit(bad)

    assert await world.all_logged() == []


async def test_a_reason_with_a_nul_can_be_kept_in_the_dead_letters(world: World) -> None:
    async def refuse(_unit: UnitOfWork, _events: Sequence[LoggedEvent]) -> None:
        raise ValueError("a\0b")

    await world.event_log.append([world.booted("S1", 1)])
    async with world.consuming("g", refuse):
        await world.until_handled("g")

    [parked] = await world.event_log.parked("g")
    assert parked.reason == "ValueError: a\N{REPLACEMENT CHARACTER}b"


async def test_offsets_are_dense_and_keep_the_order_of_each_key_under_concurrent_writers(world: World) -> None:
    async def write(writer: int) -> None:
        for number in range(0, 60, 3):
            await world.event_log.append([world.booted(f"W{writer}", number + step) for step in range(3)])

    async def write_units(writer: int) -> None:
        for number in range(20):
            async with world.units.begin() as unit:
                unit.emit(world.booted(f"U{writer}", number), world.booted("shared", number))
                await unit.commit()

    await asyncio.gather(*(write(writer) for writer in range(6)), *(write_units(writer) for writer in range(3)))
    await _until_logged(world, 6 * 60 + 3 * 40)

    offsets = defaultdict(list)
    numbers = defaultdict(list)
    for logged in await world.all_logged():
        offsets[logged.partition].append(logged.offset)
        numbers[logged.envelope.event.charging_station_id].append(int(logged.envelope.event.model))
    assert all(found == list(range(len(found))) for found in offsets.values())
    assert all(numbers[f"W{writer}"] == list(range(60)) for writer in range(6))
    assert all(numbers[f"U{writer}"] == list(range(20)) for writer in range(3))
    assert Counter(numbers["shared"]) == dict.fromkeys(range(20), 3)


async def test_an_event_beyond_the_limit_is_refused_and_nothing_of_its_batch_is_kept(world: World) -> None:
    huge = world.booted("S1", 2, vendor="x" * 1_000_000)

    with pytest.raises(EventTooLarge):
        await world.event_log.append([world.booted("S1", 1), huge])

    assert await world.all_logged() == []


async def test_rows_and_events_of_a_unit_are_there_together_or_not_at_all(world: World) -> None:
    async with world.units.begin() as unit:
        await unit.table(world.things).insert(world.thing("dropped"))
        unit.emit(world.booted("S1", 1))
    async with world.units.begin() as unit:
        await unit.table(world.things).insert(world.thing("kept"))
        unit.emit(world.booted("S1", 2))
        await unit.commit()
    await _until_logged(world, 1)

    assert [row.thing_id for row in await world.rows()] == ["kept"]
    assert [logged.envelope.event_id for logged in await world.all_logged()] == ["S1/2"]


async def test_a_consumer_gets_all_events_in_the_order_of_their_key(world: World) -> None:
    collector = Collector()
    await world.event_log.append([world.booted(f"S{number % 7}", number) for number in range(100)])

    async with world.consuming("readers", collector):
        await world.event_log.append([world.booted(f"S{number % 7}", number) for number in range(100, 200)])
        await world.until_handled("readers")

    assert {station: numbers == sorted(numbers) for station, numbers in collector.numbers.items()} == {
        f"S{number}": True for number in range(7)
    }
    assert sum(len(numbers) for numbers in collector.numbers.values()) == 200


async def test_a_group_goes_on_where_it_stopped(world: World) -> None:
    first, second = Collector(), Collector()
    await world.event_log.append([world.booted("S1", number) for number in range(10)])
    async with world.consuming("readers", first):
        await world.until_handled("readers")

    await world.event_log.append([world.booted("S1", number) for number in range(10, 20)])
    async with world.opener() as other, world.consuming("readers", second, process=other):
        await world.until_handled("readers")

    assert first.numbers["S1"] == list(range(10))
    assert second.numbers["S1"] == list(range(10, 20))


async def test_when_the_effect_is_rolled_back_so_is_the_cursor(world: World) -> None:
    failures = 3

    async def handle(unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        nonlocal failures
        if events[0].envelope.event_id.startswith("effect"):
            return
        for logged in events:
            await unit.table(world.things).insert(world.thing(logged.envelope.event_id))
        unit.emit(world.booted("effect", len(events)))
        if failures:
            failures -= 1
            raise Unavailable("the unit must roll back whole")

    await world.event_log.append([world.booted("S1", number) for number in range(5)])
    async with world.consuming("readers", handle):
        await world.until(lambda: failures == 0)
        await _until_logged(world, 6)

    assert [row.thing_id for row in await world.rows()] == [f"S1/{number}" for number in range(5)]
    effects = [logged for logged in await world.all_logged() if logged.envelope.event.charging_station_id == "effect"]
    assert len(effects) == 1


async def test_two_workers_of_a_group_share_its_events_and_none_is_handled_twice(world: World) -> None:
    async def handle(unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        for logged in events:
            await unit.table(world.things).insert(world.thing(logged.envelope.event_id))
        await asyncio.sleep(0)

    async with (
        world.opener() as other,
        world.consuming("readers", handle, batch_events_max=7),
        world.consuming("readers", handle, process=other, batch_events_max=7),
    ):
        for number in range(30):
            await world.event_log.append([world.booted(f"S{station}", number) for station in range(10)])
        await _until_entered(world, "readers")
        await world.until_handled("readers")

    assert len(await world.rows()) == 300
    assert await world.event_log.parked("readers") == []


async def test_a_zombie_that_moves_a_cursor_from_an_old_place_is_rolled_back(world: World) -> None:
    station = world.stations_of(3, 1)[0]
    await world.event_log.append([world.booted(station, number) for number in range(4)])
    async with world.consuming("readers", Collector()):
        await _until_entered(world, "readers")
        await world.until_handled("readers")

    async with world.units.begin() as zombie:
        await zombie.table(world.things).insert(world.thing("zombie"))
        with pytest.raises(CursorMoved):
            await zombie.move_cursor(Place(group="readers", topic=CHARGING, partition=3), expected=2, to=4)

    assert await world.rows() == []
    assert (await world.event_log.lag())["readers"] == 0


async def test_a_poison_event_parks_its_key_and_the_other_keys_go_on(world: World) -> None:
    sick, well = world.stations_of(5, 2)
    collector = Collector(poison=f"{sick}/3")
    numbered = [(station, number) for number in range(10) for station in (sick, well)]

    async with world.consuming("readers", collector):
        await world.event_log.append([world.booted(station, number) for station, number in numbered])
        await _until_entered(world, "readers")
        await world.until_handled("readers")
        await world.event_log.append([world.booted(sick, 10), world.booted(well, 10)])
        await world.until(lambda: 10 in collector.numbers[well])
        await world.until_handled("readers")

    parked = await world.event_log.parked("readers")
    assert [each.logged.envelope.event_id for each in parked] == [f"{sick}/{number}" for number in range(3, 11)]
    assert "no station can send this" in parked[0].reason
    assert collector.numbers[sick][-1] == 2
    assert collector.numbers[well][-11:] == list(range(11))


async def test_a_parked_key_is_replayed_by_command_and_then_flows_again(world: World) -> None:
    sick = world.stations_of(5, 1)[0]
    async with world.consuming("readers", Collector(poison=f"{sick}/0")):
        await world.event_log.append([world.booted(sick, number) for number in range(4)])
        await _until_entered(world, "readers")
        await world.until_handled("readers")
    still_sick, healed, later = Collector(poison=f"{sick}/0"), Collector(), Collector()

    with pytest.raises(ValueError, match="no station can send this"):
        await world.event_log.replay_parked("readers", f"NL-TNM/{sick}", still_sick)
    kept = len(await world.event_log.parked("readers"))
    count = await world.event_log.replay_parked("readers", f"NL-TNM/{sick}", healed)
    await world.event_log.append([world.booted(sick, 4)])
    async with world.consuming("readers", later):
        await world.until(lambda: later.numbers)

    assert (kept, count) == (4, 4)
    assert healed.numbers[sick] == [0, 1, 2, 3]
    assert later.numbers[sick] == [4]
    assert await world.event_log.parked("readers") == []


@dataclass(frozen=True, slots=True, kw_only=True)
class BootedModel(StationEvent):
    """A view of `StationBooted`."""

    wire_name: ClassVar[str] = StationBooted.wire_name
    model: str


async def test_a_view_holds_what_it_names_and_the_dead_letter_of_it_the_whole(world: World) -> None:
    sick = world.stations_of(5, 1)[0]
    collector = Collector(poison=f"{sick}/2")
    envelopes = [world.booted(sick, number) for number in range(4)]

    async with world.consuming("readers", collector, views={StationBooted: BootedModel}):
        await world.event_log.append(envelopes)
        await _until_entered(world, "readers")
        await world.until_handled("readers")

    handed = {type(logged.envelope.event) for batch in collector.batches for logged in batch}
    assert handed in ({BootedModel}, {StationBooted})  # Kafka's consumer looks at the whole
    assert collector.numbers[sick] == [0, 1]
    parked = await world.event_log.parked("readers")
    assert [letter.logged.envelope for letter in parked] == envelopes[2:]


async def _with_parked(world: World, count: int) -> str:
    """Park a station's events 0 to `count` - 1, the first of them for a reason of its own; return the station."""
    sick = world.stations_of(5, 1)[0]
    async with world.consuming("readers", Collector(poison=f"{sick}/0")):
        await world.event_log.append([world.booted(sick, number) for number in range(count)])
        await _until_entered(world, "readers")
        await world.until_handled("readers")
    return sick


async def test_a_dead_letter_says_since_when_it_waits(world: World) -> None:
    await _with_parked(world, 1)

    [parked] = await world.event_log.parked("readers")

    assert parked.parked_at == world.clock.now()


async def test_a_discarded_event_leaves_the_dead_letters_and_is_kept_with_who_why_and_when(world: World) -> None:
    sick = await _with_parked(world, 3)
    parked = await world.event_log.parked("readers")
    world.clock.step_by(timedelta(hours=1))

    await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who="ann", why="a test")

    assert await world.event_log.parked("readers") == parked[1:]
    [discarded] = await world.event_log.discarded("readers")
    assert discarded.parked == parked[0]
    assert discarded.parked.logged.envelope.event_id == f"{sick}/0"
    assert (discarded.who, discarded.why, discarded.discarded_at) == ("ann", "a test", world.clock.now())
    assert await world.event_log.discarded("others") == []


async def test_after_a_discard_the_rest_of_the_key_waits_for_its_replay_and_then_flows_again(world: World) -> None:
    sick = await _with_parked(world, 3)
    waiting, healed, later = Collector(), Collector(poison=f"{sick}/0"), Collector()

    await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who="ann", why="a test")
    await world.event_log.append([world.booted(sick, 3)])
    async with world.consuming("readers", waiting):
        await world.until_handled("readers")
    count = await world.event_log.replay_parked("readers", f"NL-TNM/{sick}", healed)
    await world.event_log.append([world.booted(sick, 4)])
    async with world.consuming("readers", later):
        await world.until(lambda: later.numbers)

    assert waiting.numbers == {}
    assert (count, healed.numbers[sick], later.numbers[sick]) == (3, [1, 2, 3], [4])


async def test_the_last_dead_letter_that_is_discarded_frees_its_key(world: World) -> None:
    sick = await _with_parked(world, 1)
    later = Collector()

    await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who="ann", why="a test")
    await world.event_log.append([world.booted(sick, 1)])
    async with world.consuming("readers", later):
        await world.until(lambda: later.numbers)

    assert later.numbers[sick] == [1]
    assert await world.event_log.parked("readers") == []


async def test_what_is_not_parked_can_not_be_discarded_nor_anything_twice(world: World) -> None:
    await _with_parked(world, 1)

    with pytest.raises(NotParked, match="charging/5@9"):
        await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=9, who="ann", why="a test")
    await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who="ann", why="a test")
    with pytest.raises(NotParked):
        await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who="bob", why="again")

    assert [each.who for each in await world.event_log.discarded("readers")] == ["ann"]


@pytest.mark.parametrize(
    ("who", "why"), [("", "a test"), ("ann", ""), ("ann", " "), ("ann", "x" * (EXPLANATION_CHARACTERS_MAX + 1))]
)
async def test_nothing_is_discarded_without_who_and_why(world: World, who: str, why: str) -> None:
    await _with_parked(world, 1)

    with pytest.raises(DiscardUnexplained):
        await world.event_log.discard_parked("readers", topic=CHARGING, partition=5, offset=0, who=who, why=why)

    assert len(await world.event_log.parked("readers")) == 1
    assert await world.event_log.discarded("readers") == []


async def test_the_bounds_of_the_log_are_told_for_partitions_that_ever_held_anything(world: World) -> None:
    before = await world.event_log.bounds([CHARGING])
    await world.event_log.append([world.booted(world.stations_of(2, 1)[0], number) for number in range(3)])

    bounds = await world.event_log.bounds([CHARGING])

    assert before == {}
    assert bounds == {(CHARGING, 2): Bounds(first=0, end=3)}


async def test_what_would_be_pruned_of_old_events_is_what_goes_and_the_bounds_tell_that_it_is_gone(
    world: World,
) -> None:
    everywhere = [world.stations_of(partition, 1)[0] for partition in world.partitions()]
    for number in range(25):
        await world.event_log.append([world.booted(name, number) for name in everywhere])
    async with world.consuming("readers", Collector()):
        await _until_entered(world, "readers")
        await world.until_handled("readers")
    young = await world.event_log.prunable()
    world.clock.step_by(timedelta(days=91))

    old = await world.event_log.prunable()
    kept = len(await world.all_logged())
    gone = await world.event_log.prune()
    bounds = await world.event_log.bounds([CHARGING])

    assert (young, kept) == ({}, 200)
    assert {each.first for each in old.values()} == {0}
    assert sum(each.events for each in old.values()) == gone > 0
    assert bounds == {place: Bounds(first=each.end, end=25) for place, each in old.items()}
    assert len(await world.all_logged()) == 200 - gone
    assert await world.event_log.prunable() == {}


async def test_a_batch_with_one_poison_is_tried_in_halves_so_the_other_499_are_handled_once(world: World) -> None:
    stations = world.stations_of(1, 50)
    poison = f"{stations[17]}/9"

    class Inserting(Collector):
        async def __call__(self, _unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
            for logged in events:
                await _unit.table(world.things).insert(world.thing(logged.envelope.event_id))
            await super().__call__(_unit, events)

    inserting = Inserting(poison=poison)
    await world.event_log.append([world.booted(station, number) for number in range(10) for station in stations])
    async with world.consuming("readers", inserting):
        await _until_entered(world, "readers")
        await world.until_handled("readers")

    assert len(await world.rows()) == 499
    assert [each.logged.envelope.event_id for each in await world.event_log.parked("readers")] == [poison]
    assert len(inserting.batches) <= 20  # 2 x log2(500) and a little, not one unit per event


async def test_what_is_unavailable_is_tried_again_and_never_parked(world: World) -> None:
    collector = Collector()
    refusals = 4

    async def handle(unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Unavailable("the peer sleeps")
        await collector(unit, events)

    await world.event_log.append([world.booted("S1", number) for number in range(3)])
    async with world.consuming("readers", handle):
        await world.until(lambda: collector.numbers)

    assert collector.numbers["S1"] == [0, 1, 2]
    assert await world.event_log.parked("readers") == []


async def test_a_slow_handler_holds_its_partition_back_at_one_bounded_batch(world: World) -> None:
    at_work = most_at_work = largest = handled = 0
    station = world.stations_of(2, 1)[0]

    async def slow(_unit: UnitOfWork, events: Sequence[LoggedEvent]) -> None:
        nonlocal at_work, most_at_work, largest, handled
        at_work += 1
        most_at_work, largest = max(most_at_work, at_work), max(largest, len(events))
        await asyncio.sleep(0.01)
        at_work -= 1
        handled += len(events)

    async with world.consuming("slow", slow, batch_events_max=20):
        for start in range(0, 400, 100):
            await world.event_log.append([world.booted(station, start + step) for step in range(100)])
        await world.until(lambda: handled == 400)

    assert most_at_work == 1
    assert largest <= 20


async def test_lag_counts_what_each_group_has_not_handled(world: World) -> None:
    async with world.consuming("early", Collector()), world.consuming("late", Collector()):
        await _until_entered(world, "late")
        await _until_entered(world, "early")
    await world.event_log.append([world.booted(f"S{number}", number) for number in range(12)])
    async with world.consuming("early", Collector()):
        await world.until_handled("early")

    lag = await world.event_log.lag()

    assert dict(lag) == {"early": 0, "late": 12}


async def _until_entered(world: World, group: str) -> None:
    async with asyncio.timeout(60):
        while group not in await world.event_log.lag():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)


async def _until_logged(world: World, count: int) -> None:
    """Kafka's relay publishes a unit's events a moment after its commit."""
    async with asyncio.timeout(60):
        while len(await world.all_logged()) < count:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)
