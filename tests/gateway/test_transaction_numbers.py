"""Transaction ids of OCPP 1.6: one per content, growing per station, never given twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charge_point_gateway.message import NumberWanted
from charge_point_gateway.security import station_identity
from charge_point_gateway.transaction_numbers import REMOTE_START_S_MAX, TransactionNumbers
from emobility.adapters.memory import LoopTimer, SeededRandomness, VirtualClock, memory_adapters, run_virtual
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.identifiers import PartyId
from emobility.protocols.station_control.messages import StartTransaction, StationCommand
from tests.gateway.conftest import NOW, PARTY, STATION, World

CPO = PartyId("NL-TNM")


def remote_start(evse: int = 1) -> StartTransaction:
    return StartTransaction(ocpp_evse_id=evse, connector_id=1, id_token="App-1", remote_start_id=77)


def wanted(content: str, token: str = "A") -> NumberWanted:
    return NumberWanted(content_key=content, id_token=token, ocpp_evse_id=1)


@given(contents=st.lists(st.sampled_from("abcdef"), max_size=12))
def test_numbers_follow_first_sight_and_repeat_with_their_content(contents: list[str]) -> None:
    async def number_all() -> None:
        units = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=SeededRandomness(1)).units
        given_numbers: dict[str, int] = {}
        for content in contents:
            # A fresh object each time: what matters is in the table.
            number = (await TransactionNumbers(units, LoopTimer()).number_for(CPO, "CS-1", wanted(content))).number
            assert given_numbers.setdefault(content, number) == number
        assert list(given_numbers.values()) == list(range(1, len(given_numbers) + 1))

    run_virtual(number_all())


async def test_a_remote_start_is_answered_by_the_next_start_with_its_token_and_by_its_repetitions() -> None:
    units = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=SeededRandomness(1)).units
    numbers = TransactionNumbers(units, LoopTimer())
    numbers.expect(CPO, "CS-1", remote_start())

    other = await numbers.number_for(CPO, "CS-1", wanted("a", "CARD"))
    elsewhere = await numbers.number_for(CPO, "CS-2", wanted("a", "APP-1"))
    answering = await numbers.number_for(CPO, "CS-1", wanted("b", "APP-1"))
    repeated = await TransactionNumbers(units, LoopTimer()).number_for(CPO, "CS-1", wanted("b", "APP-1"))
    later = await numbers.number_for(CPO, "CS-1", wanted("c", "APP-1"))

    starts = [each.remote_start_id for each in (other, elsewhere, answering, repeated, later)]
    assert starts == [None, None, 77, 77, None]


def test_a_remote_start_is_answered_at_its_connector_and_before_its_time_is_over() -> None:
    async def start_late() -> None:
        units = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=SeededRandomness(1)).units
        numbers = TransactionNumbers(units, LoopTimer())
        numbers.expect(CPO, "CS-1", remote_start(evse=2))
        elsewhere = await numbers.number_for(CPO, "CS-1", wanted("a", "APP-1"))
        await asyncio.sleep(REMOTE_START_S_MAX)
        numbers_at_two = replace(wanted("b", "APP-1"), ocpp_evse_id=2)
        late = await numbers.number_for(CPO, "CS-1", numbers_at_two)
        numbers.expect(CPO, "CS-1", remote_start(evse=2))
        in_time = await numbers.number_for(CPO, "CS-1", replace(numbers_at_two, content_key="c"))
        assert [each.remote_start_id for each in (elsewhere, late, in_time)] == [None, None, 77]

    run_virtual(start_late())


@pytest.mark.postgres
async def test_two_gateways_never_give_one_number_twice(postgres_dsn: str) -> None:
    async with open_postgres(
        postgres_dsn, master_key=bytes(32), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        gateways = [TransactionNumbers(postgres.units, LoopTimer()) for _ in range(2)]
        rounds = [
            await asyncio.gather(
                *(gateway.number_for(CPO, "CS-1", wanted(f"{n}{who}")) for who, gateway in enumerate(gateways))
            )
            for n in range(20)
        ]
        same = await asyncio.gather(*(gateway.number_for(CPO, "CS-1", wanted("same")) for gateway in gateways))

    numbers = sorted(each.number for pair in rounds for each in pair)
    assert len(set(numbers)) == 40
    assert all(later > earlier for earlier, later in pairwise(numbers))
    assert same[0] == same[1]


@pytest.mark.parametrize(("status", "expected"), [("Accepted", 77), ("Rejected", None)])
async def test_only_an_accepted_remote_start_is_waited_for(world: World, status: str, expected: int | None) -> None:
    station = await world.dial("ocpp1.6")
    command = StationCommand(start_transaction=remote_start(), timeout_s=5, correlation_id="c")
    asked = asyncio.create_task(world.gateway.command(station_identity(PARTY, STATION), command))
    call = await station.receive()
    await station.send([3, call[1], {"status": status}])
    await asked

    await station.call(
        "StartTransaction", {"connectorId": 1, "idTag": "App-1", "meterStart": 1, "timestamp": "2022-03-27T01:00:00Z"}
    )

    assert world.back_office.asked[-1].remote_start_id == expected
