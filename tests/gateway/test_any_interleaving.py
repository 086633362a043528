"""A transaction's messages in any order, repeated, over many connections: the same record and the same Wh."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs

from emobility.adapters.memory import run_virtual
from emobility.domain.transaction import Transaction, is_complete, metered_wh
from emobility.events.charging import StationEvent, TransactionEvent
from emobility.events.fold import apply
from tests.gateway.conftest import Station, World, running_world
from tests.gateway.test_messages_over_a_connection import event_201, start_16

Message = tuple[str, dict[str, Any]]
CONNECTIONS_MAX = 6


def at(minute: int) -> str:
    return f"2022-03-27T{1 + minute // 60:02}:{minute % 60:02}:00Z"


def sampled(minute: int, wh: int, **fields: Any) -> dict[str, Any]:
    return {"timestamp": at(minute), "sampledValue": [{"value": wh, **fields}]}


def history_16(registers: list[int], number: int) -> list[Message]:
    """Everything after the start that gave `number`: values, and a stop with values of its own."""
    messages: list[Message] = [
        (
            "MeterValues",
            {"connectorId": 1, "transactionId": number, "meterValue": [sampled(place, wh) | text(wh)]},
        )
        for place, wh in enumerate(registers, start=1)
    ]
    stop = {"transactionId": number, "meterStop": registers[-1] + 50, "timestamp": at(len(registers) + 1)}
    return [*messages, ("StopTransaction", stop | {"transactionData": [sampled(0, 1_000) | text(1_000)]})]


def text(wh: int) -> dict[str, Any]:
    """1.6 writes numbers as texts."""
    return {"sampledValue": [{"value": str(wh)}, {"value": f"OCMF|{wh}", "format": "SignedData"}]}


def history_201(registers: list[int], _: int) -> list[Message]:
    """A whole transaction, with signed values and a card."""
    signed = {"signedMeterData": "T0NNRnx7fQ==", "signingMethod": "", "encodingMethod": "OCMF", "publicKey": ""}
    last = len(registers) + 1
    started = event_201("Started", 0, timestamp=at(0), evse={"id": 1}, meterValue=[sampled(0, 1_000)])
    started["idToken"] = {"idToken": "04A1B2C3", "type": "ISO14443"}
    updates = [
        event_201("Updated", place, timestamp=at(place), meterValue=[sampled(place, wh, signedMeterValue=signed)])
        for place, wh in enumerate(registers, start=1)
    ]
    ended = event_201("Ended", last, timestamp=at(last), meterValue=[sampled(last, registers[-1] + 50)])
    return [("TransactionEvent", each) for each in (started, *updates, ended)]


async def sent(world: World, station: str, version: str, messages: list[Message], chance: random.Random) -> set[int]:
    """Send messages in their order, over a new connection now and then; return the kinds of the answers."""
    kinds = set()
    end: Station | None = None
    for action, payload in messages:
        if end is None:
            end = await world.dial(version, station=station)
        message_id = f"{station}-{chance.getrandbits(48)}"
        world.clock.step_by(timedelta(seconds=chance.randrange(600)))
        answer = await end.call(action, payload, message_id=message_id)
        kinds.add(answer[0])
        if chance.random() < 0.2:
            await hung_up(world, end)
            end = None
    if end is not None:
        await hung_up(world, end)
    return kinds


async def hung_up(world: World, end: Station) -> None:
    await end.socket.close(1000, "lost")
    while world.gateway._sessions:
        await world.ports.timer.sleep(0.001)


async def told(world: World, station: str) -> list[tuple[str, StationEvent]]:
    """Return a station's facts with their idempotency keys."""
    logged = [each.envelope async for each in world.adapters.event_log.read(("charging",))]
    return [
        (each.event_id, each.event)
        for each in logged
        if isinstance(each.event, TransactionEvent) and each.event.charging_station_id == station
    ]


def folded(told_events: list[tuple[str, StationEvent]]) -> Transaction:
    """Return the transaction as the back office makes it: each fact once, and the same whenever it is told."""
    facts: dict[str, StationEvent] = {}
    for event_id, event in told_events:
        assert facts.setdefault(event_id, event) == event
    transaction: Transaction | None = None
    for event in facts.values():
        transaction = apply(transaction, event)  # type: ignore[arg-type]  # they are reports
    assert transaction is not None
    return transaction


def comparable(transaction: Transaction) -> Any:
    """Return its reports; signed records are sealed under each station's own, so only that they are there."""
    return sorted(
        repr(
            replace(
                report,
                readings=tuple(
                    structs.replace(each, signed_record=None, fault=str(each.signed_record is not None))
                    for each in report.readings
                ),
            )
        )
        for report in transaction.reports
    )


# No shrinking: each example runs a gateway, so a failure would be shrunk for minutes.
@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    is_16=st.booleans(),
    steps=st.lists(st.integers(0, 5_000), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_any_interleaving_with_repeats_and_reconnects_gives_the_same_record_and_wh(
    *, is_16: bool, steps: list[int], seed: int
) -> None:
    chance = random.Random(seed)
    registers = [1_000 + sum(steps[: place + 1]) for place in range(len(steps))]
    version = "ocpp1.6" if is_16 else "ocpp2.0.1"
    start: list[Message] = [("StartTransaction", start_16(timestamp=at(0)))] if is_16 else []

    async def play() -> tuple[Any, ...]:
        async with running_world() as world:
            # Numbers are given per station from 1, so both stations get the same one.
            messages = (history_16 if is_16 else history_201)(registers, 1)
            kinds = await sent(world, "CS-1", version, [*start, *messages], random.Random(0))
            shuffled = [*messages, *chance.choices([*start, *messages], k=len(messages))]
            chance.shuffle(shuffled)
            kinds |= await sent(world, "CS-2", version, [*start, *shuffled], chance)
            return kinds, await told(world, "CS-1"), await told(world, "CS-2")

    kinds, straight_events, crooked_events = run_virtual(play())

    straight, crooked = folded(straight_events), folded(crooked_events)
    assert kinds == {3}
    assert comparable(crooked) == comparable(straight)
    assert is_complete(crooked)
    assert metered_wh(crooked).import_wh == sum(steps) + 50
