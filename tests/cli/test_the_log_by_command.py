"""What an operator does with the event log from the command line: dead letters and old events, on real PostgreSQL."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import PostgresAdapters, open_postgres
from emobility.adapters.system import SystemRandomness
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRS
from emobility.events.charging import CHARGING, StationBooted
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.event_log import PARTITIONS_PER_TOPIC, Handler, partition_of
from emobility.ports.unit_of_work import UnitOfWork
from services.audit.books import SETTLEMENT_GROUP
from tests.cli.test_commands import SECRETS, assert_one_clear_line, side_by_side, wattroam
from tests.settlement.world import a_cdr, accepted, open_world

pytestmark = pytest.mark.timeout(600)
"""Six processes after another, on a machine that others share."""

GROUP: Final = "charging_operations"
PARTY: Final = PartyId("NL-TUL")
LONG_AGO: Final = datetime(2022, 3, 27, tzinfo=UTC)
DEADLINE_S: Final = 30.0
KEY: Final = "NL-TUL/S1"
PARTITION: Final = partition_of(KEY)


def booted(station: str, number: int) -> Envelope:
    event = StationBooted(
        party_id=PARTY,
        charging_station_id=station,
        ocpp_version="2.0.1",
        vendor="ACME",
        model=str(number),
        booted_at=LONG_AGO,
    )
    return Envelope(event=event, event_id=f"{station}/{number}", correlation_id="c", recorded_at=LONG_AGO)


async def refuse(_unit: UnitOfWork, _events: Sequence[LoggedEvent]) -> None:
    raise ValueError("no station can send this")


async def handle(_unit: UnitOfWork, _events: Sequence[LoggedEvent]) -> None:
    return


async def logged(
    dsn: str, envelopes: Sequence[Envelope], handler: Handler, *, group: str = GROUP, topic: str = CHARGING
) -> None:
    """Append events long ago, in small segments, and let a group come to their end."""
    async with open_postgres(
        dsn,
        master_key=bytes.fromhex(SECRETS["WATTROAM_MASTER_KEY"]),
        clock=VirtualClock(LONG_AGO),
        randomness=SystemRandomness(),
        segment_offsets=2,
    ) as adapters:
        await adapters.event_log.append(envelopes)
        await _consumed(adapters, handler, group, topic)


async def _consumed(adapters: PostgresAdapters, handler: Handler, group: str, topic: str) -> None:
    stop = asyncio.Event()
    consumer = asyncio.create_task(adapters.event_log.consume(group, [topic], handler, stop=stop))
    async with asyncio.timeout(DEADLINE_S):
        while (await adapters.event_log.lag()).get(group) != 0:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.01)
    stop.set()
    await consumer


async def told(dsn: str, *arguments: str) -> Any:
    """Run a command that succeeds; return what it printed."""
    ended = await asyncio.to_thread(wattroam, *arguments, WATTROAM_DATABASE_URL=dsn, **SECRETS)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


async def test_a_dead_letter_is_listed_discarded_with_a_reason_and_the_rest_of_its_key_replayed(
    postgres_dsn: str,
) -> None:
    await logged(postgres_dsn, [booted("S1", 0), booted("S1", 1)], refuse)
    event = f"charging/{PARTITION}@0"

    listed = await told(postgres_dsn, "parked", "list", GROUP, "--json")
    discarded = await told(postgres_dsn, "parked", "discard", GROUP, event, "--why", "sent by a test bench")
    kept = await told(postgres_dsn, "parked", "discarded", GROUP, "--json")
    report = await asyncio.to_thread(wattroam, "audit", "--json", WATTROAM_DATABASE_URL=postgres_dsn, **SECRETS)
    replayed = await told(postgres_dsn, "parked", "replay", GROUP, KEY)
    clean = await told(postgres_dsn, "audit", "--json")

    assert listed[0] == {
        "event": event,
        "key": KEY,
        "fact": "charging.station_booted.v1",
        "reason": "ValueError: no station can send this",
        "since": LONG_AGO.isoformat(),
    }
    assert [each["event"] for each in listed] == [event, f"charging/{PARTITION}@1"]
    assert kept == [discarded]
    assert (discarded["who"], discarded["why"]) == (getpass.getuser(), "sent by a test bench")
    assert [each["scope"] for each in json.loads(report.stdout)["differences"]] == [f"{GROUP} charging/{PARTITION}@1"]
    assert replayed == {"handled": 1}
    assert clean["clean"]
    assert [(each["offset"], each["why"]) for each in clean["discarded"]] == [(0, "sent by a test bench")]


@pytest.mark.long
async def test_what_can_not_be_discarded_is_told_in_one_line(postgres_dsn: str) -> None:
    for arguments, word in (
        ((GROUP, "charging/3@17", "--why", "x"), "has not parked charging/3@17"),
        ((GROUP, "number 17", "--why", "x"), "TOPIC/PARTITION@OFFSET"),
        (("nobody", "charging/3@17", "--why", "x"), "no group is called nobody"),
        ((GROUP, "charging/3@17", "--why", ""), "say who discards the event and why"),
    ):
        ended = await asyncio.to_thread(
            wattroam, "parked", "discard", *arguments, WATTROAM_DATABASE_URL=postgres_dsn, **SECRETS
        )
        assert_one_clear_line(ended, word)


@pytest.mark.long
async def test_prune_says_what_would_go_and_drops_it_only_when_told_yes(postgres_dsn: str) -> None:
    stations = [
        next(name for name in (f"S{n}" for n in range(1_000)) if partition_of(f"{PARTY}/{name}") == partition)
        for partition in range(PARTITIONS_PER_TOPIC)
    ]
    await logged(postgres_dsn, [booted(name, number) for number in range(3) for name in stations], handle)
    places = [
        {"topic": CHARGING, "partition": partition, "first": 0, "end": 2, "events": 2}
        for partition in range(PARTITIONS_PER_TOPIC)
    ]

    dry = await told(postgres_dsn, "prune", "--json")
    whole = await told(postgres_dsn, "audit", "--json")
    meant = await told(postgres_dsn, "prune", "--yes", "--json")
    again = await told(postgres_dsn, "prune", "--yes", "--json")
    partial = await told(postgres_dsn, "audit", "--json")

    assert dry == {"prunable": places, "prunable_events": 16, "dropped_events": None}
    assert (whole["complete"], whole["pruned"]) == (True, [])
    assert meant == {"prunable": places, "prunable_events": 16, "dropped_events": 16}
    assert again == {"prunable": [], "prunable_events": 0, "dropped_events": 0}
    assert (partial["clean"], partial["complete"]) == (True, False)
    assert partial["pruned"] == [
        {"topic": CHARGING, "partition": partition, "events": 2} for partition in range(PARTITIONS_PER_TOPIC)
    ]


async def test_an_accepted_cdr_that_settlement_could_not_take_is_listed_and_taken_when_it_is_replayed(
    postgres_dsn: str,
) -> None:
    event = accepted(a_cdr("s1"))
    envelope = Envelope(event=event, event_id="e1", correlation_id="c", recorded_at=LONG_AGO)
    await logged(postgres_dsn, [envelope], refuse, group=SETTLEMENT_GROUP, topic=CDRS)

    (listed,) = await told(postgres_dsn, "parked", "list", SETTLEMENT_GROUP, "--json")
    replayed = await told(postgres_dsn, "parked", "replay", SETTLEMENT_GROUP, event.key)

    assert (listed["key"], listed["fact"]) == (event.key, "cdrs.cdr_accepted.v1")
    assert replayed == {"handled": 1}
    async with open_world(postgres_dsn) as world:
        assert [leaf.cdr_id for leaf in await world.leaves()] == ["s1"]


@pytest.mark.parametrize(
    ("rpc", "why"), [({}, "no chain is named"), ({"WATTROAM_CHAIN_RPC_URL": "http://127.0.0.1:1"}, "does not answer")]
)
async def test_without_a_chain_that_answers_an_audit_is_a_quick_one_and_a_full_one_is_refused(
    postgres_dsn: str, rpc: dict[str, str], why: str
) -> None:
    commands: list[tuple[str, ...]] = [("audit", "--full"), ("audit", "--json")]
    environment = {"WATTROAM_DATABASE_URL": postgres_dsn} | SECRETS | rpc
    full, as_deep_as_can_be = await asyncio.to_thread(side_by_side, commands, **environment)

    assert_one_clear_line(full, "no full audit without the chain", why)
    report = json.loads(as_deep_as_can_be.stdout)
    assert (as_deep_as_can_be.returncode, report["clean"], report["full"]) == (0, True, False)
    assert why in report["why_quick"]
