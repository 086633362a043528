"""The delivery queue: nothing is lost, order holds per object, one counterparty in trouble delays nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
import structlog
from starlette.responses import Response

from emobility.adapters.memory import run_virtual
from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi.client import OCPIClient
from emobility.protocols.ocpi.deliveries import DELIVERY, Delivery, DeliveryState, Message, parties_with_pending
from emobility.protocols.ocpi.delivery_worker import ATTEMPTS_MAX, PAUSE_S_MAX, ROWS_AT_ONCE, DeliveryWorker
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from tests.hub.world import CPO, MSP, OK, Heard, Platform, World, bare_world, running, until

OTHER = PartyId("FR-OTH")


async def three() -> World:
    world = bare_world()
    for party, role in ((CPO, Role.CPO), (MSP, Role.EMSP), (OTHER, Role.EMSP)):
        await world.join(party, role)
    return world


async def enqueue(sender: Platform, n: int, *, to: PartyId = MSP, key: str = "tariff/1", **more: Any) -> str:
    async with sender.host.ports.units.begin() as unit:
        delivery_id = await sender.host.deliveries.enqueue(
            unit,
            own_party=sender.party,
            to_party=to,
            **{
                "method": "PUT",
                "module": ModuleID.TARIFFS,
                "interface_role": InterfaceRole.RECEIVER,
                "path": "/NL/TNM/1",
                "object_key": key,
                "body": b'{"n":%d}' % n,
                "correlation_id": f"c-{n}",
                **more,
            },
        )
        await unit.commit()
    return delivery_id


def numbers(platform: Platform) -> list[int]:
    return [msgspec.json.decode(heard.body)["n"] for heard in platform.heard]


async def sent(sender: Platform) -> None:
    async def is_empty() -> bool:
        return await sender.host.pending() == 0

    await until(is_empty, what="the queue is empty", within_s=3_600)


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(scenario())


def test_a_message_arrives_once_with_its_correlation_id() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        async with running(sender.host):
            await enqueue(sender, 1)
            await sent(sender)

        [heard] = world.platforms[MSP].heard
        assert heard.headers["x-correlation-id"] == "c-1"
        assert heard.url.endswith("/tariffs/receiver/NL/TNM/1")

    in_virtual_time(scenario)


def test_what_was_entered_before_the_worker_started_is_sent() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        await enqueue(sender, 1)
        async with running(sender.host):
            await sent(sender)

        assert numbers(world.platforms[MSP]) == [1]

    in_virtual_time(scenario)


def test_a_unit_that_is_not_committed_sends_nothing() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        async with running(sender.host):
            async with sender.host.ports.units.begin() as unit:
                await sender.host.deliveries.enqueue(
                    unit,
                    own_party=CPO,
                    to_party=MSP,
                    method="PUT",
                    module=ModuleID.TARIFFS,
                    interface_role=InterfaceRole.RECEIVER,
                    path="/NL/TNM/1",
                    object_key="tariff/1",
                    body=b"{}",
                    correlation_id="c",
                )
            await asyncio.sleep(10)

        assert world.platforms[MSP].heard == []

    in_virtual_time(scenario)


def test_only_the_newest_state_of_a_waiting_object_is_sent() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        for n in range(5):
            await enqueue(sender, n)
        async with running(sender.host):
            await sent(sender)

        assert numbers(world.platforms[MSP]) == [4]

    in_virtual_time(scenario)


def test_a_state_that_comes_while_an_older_one_is_under_way_is_sent_after_it() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]

        async def slow(_: Heard) -> Response:
            if len(receiver.heard) == 1:
                await enqueue(sender, 2)
                await asyncio.sleep(1)
            return Response(OK, media_type="application/json")

        receiver.script = slow
        async with running(sender.host):
            await enqueue(sender, 1)
            await sent(sender)

        assert numbers(receiver) == [1, 2]

    in_virtual_time(scenario)


def test_what_must_not_be_lost_is_never_replaced_and_keeps_its_order() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        answered: list[int] = []

        async def slower_and_slower_backwards(heard: Heard) -> Response:
            n = msgspec.json.decode(heard.body)["n"]
            await asyncio.sleep(1 / (n + 1))
            answered.append(n)
            return Response(OK, media_type="application/json")

        receiver.script = slower_and_slower_backwards
        for n in range(5):
            await enqueue(sender, n, is_replaceable=False)
        async with running(sender.host):
            await sent(sender)

        assert answered == [0, 1, 2, 3, 4]

    in_virtual_time(scenario)


def test_an_outage_is_waited_out_and_delays_nobody_else() -> None:
    async def scenario() -> None:
        world = await three()
        sender, down, up = world.platforms[CPO], world.platforms[MSP], world.platforms[OTHER]
        world.http.cut(down.origin)
        async with running(sender.host):
            for n in range(20):
                await enqueue(sender, n, key=f"tariff/{n}")
                await enqueue(sender, n, key=f"tariff/{n}", to=OTHER)
            await asyncio.sleep(20)
            reached = len(up.heard)
            world.http.mend(down.origin)
            await sent(sender)

        assert reached == 20
        assert sorted(numbers(down)) == list(range(20))

    in_virtual_time(scenario)


def test_a_down_counterparty_is_tried_ever_more_rarely() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        tries: list[float] = []
        request = world.http.request

        async def counted(method: str, url: str, **more: Any) -> Any:
            if url.startswith("http://hub.test") and method == "PUT":
                tries.append(asyncio.get_running_loop().time())
            return await request(method, url, **more)

        object.__setattr__(world.http, "request", counted)
        world.http.cut(world.platforms[MSP].origin)
        async with running(sender.host):
            await enqueue(sender, 1)
            await asyncio.sleep(600)

        assert 20 < len(tries) < 60
        assert tries[-1] - tries[-2] > 10 * (tries[2] - tries[1])

    in_virtual_time(scenario)


def test_what_a_counterparty_refuses_is_kept_with_its_reason_until_it_is_retried() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]

        async def refuse(_: Heard) -> Response:
            return Response(b'{"status_code":2001,"status_message":"bad currency","timestamp":"2026-03-01T12:00:00Z"}')

        receiver.script = refuse
        operator = f"{sender.origin}/platform/{CPO}/ocpi-deliveries"
        async with running(sender.host):
            delivery_id = await enqueue(sender, 1)
            await sent(sender)
            listed = msgspec.json.decode((await world.http.request("GET", operator, headers={})).body)
            receiver.script = world.platforms[OTHER].script
            retried = await world.http.request("POST", f"{operator}/{delivery_id}/retry", headers={})
            await sent(sender)
            again = await world.http.request("POST", f"{operator}/{delivery_id}/retry", headers={})

        [failed] = listed
        assert failed["delivery_id"] == delivery_id
        assert "bad currency" in failed["reason"]
        assert retried.status == 200
        assert again.status == 404
        assert numbers(receiver) == [1, 1]

    in_virtual_time(scenario)


def test_what_must_not_be_lost_is_not_overtaken_when_it_failed() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        accepts = receiver.script

        async def refuse(_: Heard) -> Response:
            return Response(b'{"status_code":2001,"status_message":"bad currency","timestamp":"2026-03-01T12:00:00Z"}')

        receiver.script = refuse
        async with running(sender.host):
            await enqueue(sender, 1, key="cdr/1", is_replaceable=False)
            await sent(sender)
            receiver.script = accepts
            credit = await enqueue(sender, 2, key="cdr/1", is_replaceable=False)
            await enqueue(sender, 3, key="cdr/2", is_replaceable=False)
            await sent(sender)
            async with sender.host.ports.units.begin() as unit:
                failed = await sender.host.deliveries.failed(unit, CPO)
                await sender.host.deliveries.retry(unit, CPO, credit)
                await unit.commit()
            before = numbers(receiver)
            await sent(sender)

        assert [each.delivery_id == credit for each in failed] == [False, True]
        assert failed[0].delivery_id in (failed[1].reason or "")
        assert before == [1, 3]
        assert numbers(receiver) == [1, 3, 1, 2]

    in_virtual_time(scenario)


def test_a_receiver_that_fails_on_one_object_gets_the_others_and_the_one_is_given_up_in_the_end() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]

        async def fail_on_one(heard: Heard) -> Response:
            if b'"n":1}' in heard.body:
                return Response(b'{"status_code":3000,"timestamp":"2026-03-01T12:00:00Z"}', status_code=500)
            return Response(OK, media_type="application/json")

        receiver.script = fail_on_one
        async with running(sender.host):
            for n in range(200):
                await enqueue(sender, n, key=f"tariff/{n}")
                await asyncio.sleep(5)
            await sent(sender)
            async with sender.host.ports.units.begin() as unit:
                [failed] = await sender.host.deliveries.failed(unit, CPO)

        assert failed.attempts == ATTEMPTS_MAX
        assert sorted(set(numbers(receiver))) == list(range(200))

    in_virtual_time(scenario)


def n_of(heard: Heard) -> int:
    return int(msgspec.json.decode(heard.body)["n"])


NO_OCPI = b"<html>"
"""What a receiver says that fails on a message before OCPI begins: the hub makes S 4000 of it."""


def failing_on(is_bad: Callable[[int], bool], *, times_out: bool = False) -> Callable[[Heard], Any]:
    async def script(heard: Heard) -> Response:
        if not is_bad(n_of(heard)):
            return Response(OK, media_type="application/json")
        if times_out:
            await asyncio.sleep(60)
        return Response(NO_OCPI, status_code=502)

    return script


@pytest.mark.parametrize("times_out", [False, True])
def test_an_object_that_the_hub_can_not_deliver_holds_up_no_other_and_is_given_up_in_the_end(
    *, times_out: bool
) -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        receiver.script = failing_on(lambda n: n == 0, times_out=times_out)
        delays: list[float] = []
        async with running(sender.host):
            await enqueue(sender, 0, key="tariff/bad")
            for n in range(1, 200):
                began = asyncio.get_running_loop().time()
                await enqueue(sender, n, key=f"tariff/{n}")
                await until(lambda n=n: arrived(receiver, n), what=f"{n} arrived", within_s=60)
                delays.append(asyncio.get_running_loop().time() - began)
                await asyncio.sleep(5)
            await sent(sender)
            async with sender.host.ports.units.begin() as unit:
                [failed] = await sender.host.deliveries.failed(unit, CPO)

        assert max(delays) < 1
        assert failed.object_key == "tariff/bad"
        assert failed.attempts == ATTEMPTS_MAX

    in_virtual_time(scenario)


async def arrived(receiver: Platform, n: int) -> bool:
    return n in numbers(receiver)


def test_a_whole_page_of_bad_objects_hides_no_good_one_behind_them() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        receiver.script = failing_on(lambda n: n < 2 * ROWS_AT_ONCE)
        for n in range(2 * ROWS_AT_ONCE + 1):
            await enqueue(sender, n, key=f"tariff/{n}")
        async with running(sender.host):
            await asyncio.sleep(30 * PAUSE_S_MAX)
            good_at_once = await arrived(receiver, 2 * ROWS_AT_ONCE)
            await enqueue(sender, 999, key="tariff/999")
            await asyncio.sleep(PAUSE_S_MAX + 1)

        assert good_at_once
        assert await arrived(receiver, 999)

    in_virtual_time(scenario)


def test_an_outage_with_a_long_queue_is_probed_by_few_and_costs_no_message_its_tries() -> None:
    async def scenario() -> None:
        world = await three()
        sender, down = world.platforms[CPO], world.platforms[MSP]
        tries: list[float] = []
        request = world.http.request

        async def counted(method: str, url: str, **more: Any) -> Any:
            if url.startswith("http://hub.test") and method == "PUT":
                tries.append(asyncio.get_running_loop().time())
            return await request(method, url, **more)

        object.__setattr__(world.http, "request", counted)
        world.http.cut(down.origin)
        async with running(sender.host):
            for n in range(300):
                await enqueue(sender, n, key=f"tariff/{n}")
            await asyncio.sleep(600)
            for n in range(300, 400):
                await enqueue(sender, n, key=f"tariff/{n}")
                await asyncio.sleep(6)
            tried = len(tries)
            world.http.mend(down.origin)
            await asyncio.sleep(PAUSE_S_MAX + 30)
            left = await sender.host.pending()
            async with sender.host.ports.units.begin() as unit:
                failed = await sender.host.deliveries.failed(unit, CPO)

        assert tried < 4 * 100  # four per pause of 15 to 30 s, in 20 minutes
        assert left == 0
        assert failed == []
        assert sorted(numbers(down)) == list(range(400))

    in_virtual_time(scenario)


def test_a_cdr_waits_for_its_session_and_is_not_overtaken_from_behind_a_full_page() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        times: dict[int, int] = {}

        async def fail_first(heard: Heard) -> Response:
            n = n_of(heard)
            times[n] = times.get(n, 0) + 1
            if n % 8 == 0 and times[n] <= 2:
                return Response(NO_OCPI, status_code=502)
            return Response(OK, media_type="application/json")

        receiver.script = fail_first
        for n in range(0, 160, 2):
            await enqueue(sender, n, key=f"session/{n}")
            await enqueue(sender, n + 1, key=f"session/{n}", is_replaceable=False)
        async with running(sender.host):
            await sent(sender)

        order = numbers(receiver)
        last_of_session = {n: max(place for place, each in enumerate(order) if each == n) for n in range(0, 160, 2)}
        assert all(last_of_session[n] < order.index(n + 1) for n in range(0, 160, 2))
        assert all(order.count(n + 1) == 1 for n in range(0, 160, 2))

    in_virtual_time(scenario)


def test_what_is_entered_before_the_registration_waits_for_it() -> None:
    async def scenario() -> None:
        world = bare_world()
        sender = world.platform(CPO, Role.CPO)
        async with sender.host.ports.units.begin() as unit:
            await sender.host.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
            await unit.commit()
        receiver = await world.join(MSP, Role.EMSP)
        async with running(sender.host):
            await enqueue(sender, 1)
            await asyncio.sleep(5)
            token_a = await world.invite(CPO, Role.CPO, sender.versions_url)
            await sender.host.register(CPO, versions_url="http://hub.test/hub/ocpi/versions", token_a=token_a)
            await sent(sender)

        assert numbers(receiver) == [1]

    in_virtual_time(scenario)


def test_path_and_body_lie_sealed_in_the_row() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        await enqueue(sender, 1, path="/DE/MSP/04A2B3C4", body=b'{"uid":"04A2B3C4"}')

        async with sender.host.ports.units.begin() as unit:
            [row] = await unit.table(DELIVERY).select()

        assert row.state is DeliveryState.PENDING
        assert "04A2B3C4" not in repr(row)
        assert bytes((await sender.host.deliveries.open(row)).body) == b'{"uid":"04A2B3C4"}'

    in_virtual_time(scenario)


def test_a_fault_of_ours_in_one_message_fails_that_one_and_no_other() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        opened = sender.host.deliveries.open

        async def broken(entry: Delivery) -> Message:
            if entry.object_key == "tariff/bad":
                raise ValueError("our own fault")
            return await opened(entry)

        object.__setattr__(sender.host.deliveries, "open", broken)
        async with running(sender.host):
            await enqueue(sender, 1, key="tariff/bad")
            await enqueue(sender, 2, key="tariff/good")
            await sent(sender)
            async with sender.host.ports.units.begin() as unit:
                [failed] = await sender.host.deliveries.failed(unit, CPO)

        assert failed.object_key == "tariff/bad"
        assert "ValueError" in (failed.reason or "")
        assert numbers(receiver) == [2]

    in_virtual_time(scenario)


def test_what_fails_in_the_background_ends_the_worker_even_while_a_message_hangs() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]
        receiver.script = failing_on(lambda n: n == 0, times_out=True)
        host = sender.host

        async def connect(own_party: PartyId, to_party: PartyId) -> OCPIClient:
            if to_party == OTHER:
                raise LookupError("our own fault")
            return await host.connect(own_party, to_party)

        worker = DeliveryWorker(host.ports, host.deliveries, own_parties=host.parties, connect=connect)
        run = asyncio.create_task(worker.run(asyncio.Event()))
        await enqueue(sender, 0)
        await until(lambda: arrived(receiver, 0), what="a message is under way")
        await enqueue(sender, 1, to=OTHER)

        async with asyncio.timeout(1):
            with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
                await run

    in_virtual_time(scenario)


@pytest.mark.parametrize(
    "status", [pytest.param(200, marks=pytest.mark.long), 500, pytest.param(503, marks=pytest.mark.long)]
)
def test_a_platform_that_answers_everything_with_an_error_for_an_hour_costs_no_message(status: int) -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]

        async def fail(_: Heard) -> Response:
            return Response(b'{"status_code":3000,"timestamp":"2026-03-01T12:00:00Z"}', status_code=status)

        receiver.script = fail
        async with running(sender.host):
            for n in range(100):
                await enqueue(sender, n, key=f"tariff/{n}", is_replaceable=n % 2 == 0)
            await asyncio.sleep(3_600)
            tried = len(receiver.heard)
            receiver.heard.clear()
            receiver.script = world.platforms[OTHER].script
            await sent(sender)
            async with sender.host.ports.units.begin() as unit:
                failed = await sender.host.deliveries.failed(unit, CPO)

        assert failed == []
        assert sorted(numbers(receiver)) == list(range(100))
        assert tried < 4 * 300  # four per pause of 15 to 30 s

    in_virtual_time(scenario)


def test_what_must_not_be_lost_is_never_given_up_while_its_receiver_fails_on_it() -> None:
    async def scenario() -> None:
        world = await three()
        sender, receiver = world.platforms[CPO], world.platforms[MSP]

        async def fail_on_the_cdr(heard: Heard) -> Response:
            if n_of(heard) == 0:
                return Response(b'{"status_code":3000,"timestamp":"2026-03-01T12:00:00Z"}', status_code=500)
            return Response(OK, media_type="application/json")

        receiver.script = fail_on_the_cdr
        async with running(sender.host):
            with structlog.testing.capture_logs() as logged:
                await enqueue(sender, 0, key="cdr/1", is_replaceable=False)
                for n in range(1, 400):
                    await enqueue(sender, n, key=f"tariff/{n}")
                    await asyncio.sleep(5)
            async with sender.host.ports.units.begin() as unit:
                [waiting] = await unit.table(DELIVERY).select()
            receiver.heard.clear()
            receiver.script = world.platforms[OTHER].script
            await sent(sender)

        assert waiting.state is DeliveryState.PENDING
        assert waiting.attempts > 2 * ATTEMPTS_MAX
        assert [each["object_key"] for each in logged if each["event"] == "delivery_stuck"] == ["cdr/1"]
        assert numbers(receiver) == [0]

    in_virtual_time(scenario)


def test_who_has_messages_to_send_is_found_without_reading_any() -> None:
    async def scenario() -> None:
        world = await three()
        sender = world.platforms[CPO]
        for n in range(3):
            await enqueue(sender, n, key=f"tariff/{n}")
            await enqueue(sender, n, key=f"tariff/{n}", to=OTHER)

        async with sender.host.ports.units.begin() as unit:
            pairs = await parties_with_pending(unit, [CPO, MSP])
            nobody = await parties_with_pending(unit, [MSP])

        assert pairs == [(CPO, MSP), (CPO, OTHER)]
        assert nobody == []

    in_virtual_time(scenario)
