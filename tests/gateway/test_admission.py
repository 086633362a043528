"""How many stations connect and boot at once, who pays for it, and that everybody gets in."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
import websockets
from websockets.exceptions import InvalidStatus

from charge_point_gateway import admission, server
from charge_point_gateway.admission import (
    ACCEPTED_REMEMBERED_S,
    JITTER_S_MIN,
    AdmissionRates,
    BootAdmission,
    BootStatus,
    ConnectionAdmission,
    jittered_s,
)
from charge_point_gateway.connection import Budget, Limits
from charge_point_gateway.gateway import GatewayOptions, GatewayService
from charge_point_gateway.security import RefusalReason, StationIdentity, StationRefused, station_identity
from charge_point_gateway.token_buckets import KeyedBuckets, TokenBucket
from emobility.adapters.memory import LoopTimer, SeededRandomness, run_virtual
from emobility.events.charging import StationBooted, TransactionStarted
from tests.gateway.conftest import PARTY, PASSWORD, STATION, World, running_world
from tests.gateway.test_websocket import basic, dialled, listening

BOOT_16 = {"chargePointModel": "M", "chargePointVendor": "V"}
BOOT_201 = {"chargingStation": {"model": "M", "vendorName": "V"}, "reason": "PowerUp"}
NO_BOOTS = AdmissionRates(boots_per_s=0.1, boots_burst=0.0)


def stations(number: int) -> list[StationIdentity]:
    return [station_identity(PARTY, f"CS-{n}") for n in range(number)]


# -- buckets ----------------------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=10, burst=3, now_s=0)

    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s(1, 0) == pytest.approx(0.1)
    assert [bucket.take(0.1), bucket.take(0.1)] == [True, False]
    assert [bucket.take(1_000) for _ in range(4)] == [True, True, True, False]


def test_an_overdrawn_bucket_has_to_earn_it_back() -> None:
    bucket = TokenBucket(per_s=10, burst=3, now_s=0)

    bucket.spend(13, 0)

    assert bucket.wait_s(1, 0) == pytest.approx(1.1)
    assert not bucket.take(1.0)


def test_one_key_spends_nothing_of_another() -> None:
    buckets = KeyedBuckets(per_s=1, burst=1)

    assert [buckets.take(key, 0) for key in ("a", "a", "b")] == [True, False, True]


# -- boots ------------------------------------------------------------------------------------------------------------


def herd(rates: AdmissionRates, number: int) -> tuple[dict[StationIdentity, float], Counter[BootStatus]]:
    """Let so many stations boot at once and come back when they are told; return when each was accepted."""

    async def boot() -> tuple[dict[StationIdentity, float], Counter[BootStatus]]:
        timer, accepted, told = LoopTimer(), {}, Counter[BootStatus]()
        admission = BootAdmission(timer, SeededRandomness(3), rates)
        began_s = timer.monotonic_s()

        async def station(identity: StationIdentity) -> None:
            while (decision := admission.decide(identity)).interval_s is not None:
                told[decision.status] += 1
                await timer.sleep(decision.interval_s)
            accepted[identity] = timer.monotonic_s() - began_s

        await asyncio.gather(*(station(each) for each in stations(number)))
        return accepted, told

    return run_virtual(boot())


def test_ten_thousand_stations_that_boot_at_once_are_accepted_within_a_minute_and_no_two_waits() -> None:
    accepted, told = herd(AdmissionRates(), 10_000)

    assert max(accepted.values()) < 60
    assert told == {BootStatus.PENDING: 9_000}
    rates = AdmissionRates()
    for second in range(60):
        boots = sum(second <= at < second + 1 for at in accepted.values())
        assert boots <= (rates.boots_burst if second == 0 else rates.boots_per_s * 2)


def test_more_than_the_longest_wait_are_rejected_and_get_in_all_the_same() -> None:
    accepted, told = herd(AdmissionRates(boots_per_s=10, boots_burst=10, boot_wait_s_max=5), 200)

    assert len(accepted) == 200
    assert told[BootStatus.REJECTED] > 100


def test_a_station_accepted_lately_that_boots_again_is_not_held_back() -> None:
    async def boot() -> None:
        timer = LoopTimer()
        admission = BootAdmission(timer, SeededRandomness(3), AdmissionRates(boots_burst=1, boots_per_s=0.001))
        first, second = stations(2)
        assert admission.decide(first).status is BootStatus.ACCEPTED

        assert admission.decide(second).status is not BootStatus.ACCEPTED
        assert admission.decide(first).status is BootStatus.ACCEPTED
        await timer.sleep(ACCEPTED_REMEMBERED_S + 1)
        assert admission.decide(second).status is BootStatus.ACCEPTED
        assert admission.decide(first).status is not BootStatus.ACCEPTED

    run_virtual(boot())


def test_waits_are_never_shorter_than_needed_and_seldom_alike() -> None:
    randomness = SeededRandomness(3)

    waits = [jittered_s(100.0, randomness) for _ in range(1_000)]

    assert min(waits) >= 100
    assert max(waits) <= 110
    assert max(Counter(waits).values()) < 200
    assert {jittered_s(0.0, randomness) for _ in range(100)} <= set(range(1, int(JITTER_S_MIN) + 1))


@pytest.mark.parametrize(
    ("subprotocol", "payload"), [("ocpp1.6", BOOT_16), ("ocpp2.0.1", BOOT_201), ("ocpp2.1", BOOT_201)]
)
async def test_a_pending_station_s_transactions_are_taken_and_it_is_accepted_in_its_turn(
    subprotocol: str, payload: dict[str, Any]
) -> None:
    async def pending() -> None:
        async with running_world(GatewayOptions(admission=NO_BOOTS, drain_spread_s=0)) as world:
            station = await world.dial(subprotocol)

            told = (await station.call("BootNotification", payload))[2]
            begun = await station.call(*started(subprotocol))

            assert (told["status"], begun[0]) == ("Pending", 3)
            assert 10 <= told["interval"] <= 13
            assert [type(event) for event in await world.events()] == [TransactionStarted]
            await asyncio.sleep(told["interval"])
            assert (await station.call("BootNotification", payload))[2]["status"] == "Accepted"
            assert [type(event) for event in await world.events()] == [TransactionStarted, StationBooted]

    await asyncio.to_thread(run_virtual, pending())


def started(subprotocol: str) -> tuple[str, dict[str, Any]]:
    at = "2022-03-27T01:00:00Z"
    if subprotocol == "ocpp1.6":
        return "StartTransaction", {"connectorId": 1, "idTag": "04A1", "meterStart": 100, "timestamp": at}
    return "TransactionEvent", {
        "eventType": "Started",
        "timestamp": at,
        "triggerReason": "CablePluggedIn",
        "seqNo": 0,
        "transactionInfo": {"transactionId": "tx-1"},
        "evse": {"id": 1},
    }


# -- connections ------------------------------------------------------------------------------------------------------


class StandingTimer:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


def outcome(refuse: Any, *args: Any) -> RefusalReason | None:
    try:
        refuse(*args)
    except StationRefused as refused:
        return refused.reason if refused.retry_after_s else None
    return None


def test_an_address_that_knocks_too_often_is_told_to_wait_and_no_other_address_pays() -> None:
    timer = StandingTimer()
    rates = AdmissionRates(connections_per_s_per_address=1, connections_burst_per_address=5)
    admission = ConnectionAdmission(timer, SeededRandomness(3), rates)

    knocks = [outcome(admission.refuse_address, "10.0.0.1") for _ in range(100)]

    assert knocks == [None] * 5 + [RefusalReason.TOO_MANY_CONNECTIONS] * 95
    assert outcome(admission.refuse_address, "10.0.0.2") is None
    assert outcome(admission.refuse_station, stations(1)[0]) is None
    timer.now_s = 1.0
    assert outcome(admission.refuse_address, "10.0.0.1") is None


def test_a_flapping_station_spends_its_own_connections_and_not_those_of_the_others() -> None:
    rates = AdmissionRates(connections_burst_per_identity=3, connections_burst=10)
    admission = ConnectionAdmission(StandingTimer(), SeededRandomness(3), rates)
    flapping, *others = stations(8)

    flaps = [outcome(admission.refuse_station, flapping) for _ in range(100)]

    assert flaps == [None] * 3 + [RefusalReason.TOO_MANY_CONNECTIONS] * 97
    assert [outcome(admission.refuse_station, each) for each in others] == [None] * 7
    assert outcome(admission.refuse_station, others[0]) is RefusalReason.BUSY


async def test_a_peer_without_the_password_spends_nothing_that_all_stations_share() -> None:
    rates = AdmissionRates(connections_burst=1, connections_per_s=0.001)
    async with running_world(GatewayOptions(admission=rates, drain_spread_s=0)) as world:
        for n in range(50):
            with pytest.raises(StationRefused):
                await world.dial(password="wrong", address=f"10.0.0.{n}")

        await world.dial()

        with pytest.raises(StationRefused) as refused:
            await world.dial(station="CS-2")
        assert refused.value.reason is RefusalReason.BUSY


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"connections_burst": 0, "connections_per_s": 0.01}, 503),
        ({"connections_burst_per_identity": 0}, 429),
        ({"connections_burst_per_address": 0}, 429),
    ],
)
async def test_who_is_sent_away_learns_when_to_come_back(changes: dict[str, float], status: int) -> None:
    rates = replace(AdmissionRates(), **changes)
    async with (
        running_world(GatewayOptions(admission=rates, drain_spread_s=0)) as world,
        listening(world.gateway) as url,
    ):
        waits = set()
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                async with dialled(url):
                    pass
            assert refused.value.response.status_code == status
            waits.add(int(refused.value.response.headers["Retry-After"]))

    assert min(waits) >= (100 if status == 503 else 1)
    assert len(waits) > 1 or status == 429


async def test_an_address_with_too_many_unfinished_handshakes_gets_no_more_and_gets_them_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKES_PER_ADDRESS_MAX", 3)
    async with listening(world.gateway) as url:
        port = int(url.split(":")[2].partition("/")[0])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        with pytest.raises((OSError, websockets.InvalidMessage)):
            async with dialled(url):
                pass

        for _, writer in silent:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while True:
                try:
                    async with dialled(url):
                        break
                except (OSError, websockets.InvalidMessage):
                    await asyncio.sleep(0.01)


async def test_what_a_station_has_spent_stays_spent_when_it_connects_anew() -> None:
    limits = Limits(bytes_burst=1_000, bytes_per_s=10)
    async with running_world(GatewayOptions(limits=limits, drain_spread_s=0)) as world:
        first = world.gateway._budget_of(station_identity(PARTY, STATION))
        first.spend(2_000, world.ports.timer.monotonic_s())

        assert world.gateway._budget_of(station_identity(PARTY, STATION)) is first
        assert world.gateway._budget_of(station_identity(PARTY, "CS-2")).wait_s(world.ports.timer.monotonic_s()) == 0
        assert first.wait_s(world.ports.timer.monotonic_s()) > 90


def test_a_station_that_says_too_much_in_the_long_run_is_held_to_its_rate() -> None:
    limits = Limits(frames_per_s=1e9, frames_burst=1e9, bytes_per_s=100, bytes_burst=1_000)
    budget = Budget(limits, now_s=0)

    waits = []
    for _ in range(4):
        budget.spend(500, 0)
        waits.append(budget.wait_s(0))

    assert waits == [0, 0, 5, 10]
    assert budget.wait_s(10) == 0


async def test_a_station_let_in_while_the_gateway_begins_to_drain_is_closed_with_the_others() -> None:
    async with running_world(GatewayOptions(drain_timeout_s=5, drain_spread_s=0)) as world:
        station = await world.dial()  # nobody owns it yet: that takes a look at the database
    closed: list[float] = []

    async with asyncio.timeout(1):
        await closing(station.socket, closed)


# -- draining ---------------------------------------------------------------------------------------------------------


def test_a_draining_gateway_lets_go_of_no_more_stations_a_second_than_others_take_in() -> None:
    async def drain() -> list[float]:
        options = GatewayOptions(drain_spread_s=0.0, drain_closes_per_s=10)
        closed: list[float] = []
        async with running_world(options) as world:
            watching = []
            for name in (f"D-{n}" for n in range(30)):
                await world.gateway.authenticator.set_password(station_identity(PARTY, name), PASSWORD, None)
                station = await world.dial(station=name)
                await station.call("Heartbeat", {})
                watching.append(asyncio.create_task(closing(station.socket, closed)))
        await asyncio.gather(*watching)
        return closed

    closed = sorted(run_virtual(drain()))

    assert len(closed) == 30
    assert closed[-1] - closed[0] == pytest.approx(2.9, abs=0.2)
    assert max(later - earlier for earlier, later in pairwise(closed)) < 0.5


async def closing(socket: Any, closed: list[float]) -> None:
    with pytest.raises(Exception, match="1001"):
        await socket.receive()
    closed.append(asyncio.get_running_loop().time())


async def test_a_draining_gateway_sends_newcomers_away_with_a_time_to_come_back(world: World) -> None:
    world.gateway._is_draining = True
    async with listening(world.gateway) as url:
        with pytest.raises(InvalidStatus) as refused:
            async with dialled(url, additional_headers=basic()):
                pass

    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 10


# -- one after another ------------------------------------------------------------------------------------------------


def unhurried() -> ConnectionAdmission:
    return ConnectionAdmission(LoopTimer(), SeededRandomness(1), AdmissionRates())


async def test_peers_are_looked_up_few_at_a_time_and_in_turn() -> None:
    doors, begun, inside, most = unhurried(), list[int](), 0, 0

    async def look_up(number: int) -> None:
        nonlocal inside, most
        async with doors.turn(f"10.0.0.{number}"):
            begun.append(number)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(look_up(number) for number in range(30)))

    assert begun == list(range(30))
    assert most == admission.LOOKED_UP_AT_ONCE_MAX
    assert doors.waiting == 0


async def test_of_one_address_only_so_many_wait_and_another_still_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WAITING_PER_ADDRESS_MAX", 3)
    doors, over = unhurried(), asyncio.Event()

    async def look_up(address: str) -> RefusalReason | None:
        try:
            async with doors.turn(address):
                await over.wait()
        except StationRefused as refused:
            return refused.reason
        return None

    crowd = [asyncio.create_task(look_up("10.0.0.1")) for _ in range(admission.LOOKED_UP_AT_ONCE_MAX + 4)]
    other = asyncio.create_task(look_up("10.0.0.2"))
    await asyncio.sleep(0)
    over.set()

    assert Counter(await asyncio.gather(*crowd))[RefusalReason.BUSY] == 1
    assert await other is None


class GatewayWithoutRoom:
    """Says when another peer may begin."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.asked = asyncio.Event()

    async def has_room(self) -> None:
        self.asked.set()
        await self.room.wait()

    async def admit(self, **_handshake: Any) -> Any:
        raise StationRefused(RefusalReason.NO_CREDENTIALS, http_status=401)


async def test_a_connection_waits_unread_until_there_is_room() -> None:
    gateway = GatewayWithoutRoom()
    async with listening(cast("GatewayService", gateway)) as url:
        dialling = asyncio.create_task(_dial_in_vain(url))
        await gateway.asked.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not dialling.done()

        gateway.room.set()

        assert await dialling == 401


async def _dial_in_vain(url: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(f"{url}/{STATION}", subprotocols=["ocpp2.0.1"])  # type: ignore[list-item]  # a NewType of str
    return refused.value.response.status_code
