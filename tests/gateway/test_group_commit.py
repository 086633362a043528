"""Nothing is acknowledged before it is durable, and one bad event fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charge_point_gateway import group_commit
from charge_point_gateway.group_commit import CommitQueueFull, GroupCommit
from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId
from emobility.events.charging import SecurityEventReported
from emobility.events.event import Envelope
from emobility.ports.event_log import EventTooLarge, LogUnavailable
from tests.gateway.conftest import NOW, running_world


def envelope(number: int) -> Envelope:
    event = SecurityEventReported(
        party_id=PartyId("NL-TNM"), charging_station_id=f"CS-{number}", security_event="x", occurred_at=NOW
    )
    return Envelope(event=event, event_id=str(number), correlation_id="c", recorded_at=NOW)


class ScriptedLog:
    """Takes what it is given, unless told otherwise."""

    def __init__(self, poison: frozenset[str] = frozenset()) -> None:
        self.poison = poison
        self.stored: list[str] = []
        self.groups: list[int] = []
        self.is_away = False
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    async def append(self, envelopes: Sequence[Envelope]) -> None:
        self.groups.append(len(envelopes))
        await self.may_commit.wait()
        if self.is_away:
            raise LogUnavailable("away")
        if any(each.event_id in self.poison for each in envelopes):
            raise EventTooLarge("poison")
        self.stored.extend(each.event_id for each in envelopes)


@asynccontextmanager
async def running(log: Any, **options: Any) -> AsyncIterator[GroupCommit]:
    commit, stop = GroupCommit(log, **options), asyncio.Event()
    task = asyncio.create_task(commit.run(stop))
    yield commit
    stop.set()
    await task


async def test_events_that_come_during_an_append_share_the_next_one() -> None:
    log = ScriptedLog()
    log.may_commit.clear()
    async with running(log) as commit:
        first = commit.append([envelope(0)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [commit.append([envelope(n)]) for n in range(1, 50)]
        assert commit.pending == 50
        log.may_commit.set()
        await asyncio.gather(first, *others)

    assert log.groups == [1, 49]
    assert log.stored == [str(n) for n in range(50)]


async def test_a_group_has_a_limit() -> None:
    log = ScriptedLog()
    async with running(log, group_events_max=10) as commit:
        await asyncio.gather(*(commit.append([envelope(n)]) for n in range(25)))

    assert log.groups == [10, 10, 5]


@given(
    poison=st.sets(st.integers(0, 19)).map(lambda numbers: frozenset(str(number) for number in numbers)),
    sizes=st.lists(st.integers(1, 4), min_size=5, max_size=5),
)
def test_a_message_fails_exactly_when_one_of_its_own_events_is_bad(poison: frozenset[str], sizes: list[int]) -> None:
    async def commit_all() -> None:
        log = ScriptedLog(poison)
        messages, number = [], 0
        for size in sizes:
            messages.append([envelope(number + n) for n in range(size)])
            number += size
        async with running(log) as commit:
            outcomes = await asyncio.gather(*map(commit.append, messages), return_exceptions=True)
        for message, outcome in zip(messages, outcomes, strict=True):
            is_bad = any(each.event_id in poison for each in message)
            assert isinstance(outcome, EventTooLarge) == is_bad
            assert all((each.event_id in log.stored) != is_bad for each in message)
        assert log.stored == sorted(log.stored, key=int)

    run_virtual(commit_all())


async def test_when_the_log_is_away_nobody_is_told_it_was_stored_and_the_next_may_be() -> None:
    log = ScriptedLog()
    log.is_away = True
    async with running(log) as commit:
        outcomes = await asyncio.gather(*(commit.append([envelope(n)]) for n in range(3)), return_exceptions=True)
        log.is_away = False
        await commit.append([envelope(9)])

    assert [type(outcome) for outcome in outcomes] == [LogUnavailable] * 3
    assert log.stored == ["9"]


def test_a_log_that_hangs_is_given_up_after_the_named_time() -> None:
    async def hang() -> None:
        log = ScriptedLog()
        log.may_commit.clear()
        async with running(log) as commit:
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(LogUnavailable):
                await commit.append([envelope(0)])
            took_s = asyncio.get_running_loop().time() - began_s
            assert took_s == pytest.approx(group_commit.APPEND_TIMEOUT_S)
            log.may_commit.set()

    run_virtual(hang())


async def test_the_queue_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_EVENTS_MAX", 2)
    commit = GroupCommit(ScriptedLog())  # type: ignore[arg-type]  # it only appends
    commit.append([envelope(0), envelope(1)])

    with pytest.raises(CommitQueueFull):
        commit.append([envelope(2)])


async def test_stopping_makes_everything_queued_durable_first() -> None:
    log = ScriptedLog()
    async with running(log) as commit:
        futures = [commit.append([envelope(n)]) for n in range(5)]

    assert all(future.done() for future in futures)
    assert len(log.stored) == 5


EVENT = {
    "eventType": "Updated",
    "timestamp": "2022-03-27T01:00:00Z",
    "triggerReason": "Trigger",
    "seqNo": 1,
    "transactionInfo": {"transactionId": "tx-1"},
}


async def test_a_gateway_that_can_store_nothing_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise LookupError("our own fault")

    monkeypatch.setattr(GroupCommit, "run", fail)

    async with asyncio.timeout(5):
        with pytest.RaisesGroup(LookupError):
            async with running_world():
                await asyncio.sleep(0)


async def test_no_call_result_leaves_before_the_event_is_durable() -> None:
    log = ScriptedLog()
    async with running_world(event_log=log) as world:
        log.may_commit.clear()
        station = await world.dial()
        await station.send('[2,"hb","Heartbeat",{}]')
        assert (await station.receive())[:2] == [3, "hb"]

        answer = asyncio.create_task(station.call("TransactionEvent", EVENT))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not answer.done()
        assert log.stored == []
        log.may_commit.set()

        assert (await answer)[0] == 3
        assert log.stored == ["NL-TNM/CS-1/tx-1/1"]


@pytest.mark.parametrize("how", ["plain", "with a token"])
async def test_what_was_not_stored_is_answered_by_an_error_and_stored_when_it_is_repeated(how: str) -> None:
    log = ScriptedLog()
    payload = EVENT if how == "plain" else {**EVENT, "idToken": {"idToken": "A", "type": "ISO14443"}}
    async with running_world(event_log=log) as world:
        log.is_away = True
        station = await world.dial()

        refused = await station.call("TransactionEvent", payload, "same-id")
        log.is_away = False
        accepted = await station.call("TransactionEvent", payload, "same-id")

    assert refused[:3] == [4, "same-id", "InternalError"]
    assert accepted[0] == 3
    assert log.stored == ["NL-TNM/CS-1/tx-1/1"]
