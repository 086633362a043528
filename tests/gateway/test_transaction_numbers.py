"""Transaction ids of OCPP 1.6: one per content, growing per station, never given twice."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charge_point_gateway.message import NumberWanted
from charge_point_gateway.transaction_numbers import TransactionNumbers
from emobility.adapters.memory import SeededRandomness, VirtualClock, memory_adapters, run_virtual
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.identifiers import PartyId
from tests.gateway.conftest import NOW

CPO = PartyId("NL-TNM")


def wanted(content: str, token: str = "A") -> NumberWanted:
    return NumberWanted(content_key=content, id_token=token, ocpp_evse_id=1)


@given(contents=st.lists(st.sampled_from("abcdef"), max_size=12))
def test_numbers_follow_first_sight_and_repeat_with_their_content(contents: list[str]) -> None:
    async def number_all() -> None:
        units = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=SeededRandomness(1)).units
        given_numbers: dict[str, int] = {}
        for content in contents:
            # A fresh object each time: what matters is in the table.
            number = (await TransactionNumbers(units).number_for(CPO, "CS-1", wanted(content))).number
            assert given_numbers.setdefault(content, number) == number
        assert list(given_numbers.values()) == list(range(1, len(given_numbers) + 1))

    run_virtual(number_all())


async def test_a_remote_start_is_answered_by_the_next_start_with_its_token_and_by_its_repetitions() -> None:
    units = memory_adapters(master_key=bytes(32), clock=VirtualClock(NOW), randomness=SeededRandomness(1)).units
    numbers = TransactionNumbers(units)
    numbers.expect(CPO, "CS-1", "App-1", 77)

    other = await numbers.number_for(CPO, "CS-1", wanted("a", "CARD"))
    elsewhere = await numbers.number_for(CPO, "CS-2", wanted("a", "APP-1"))
    answering = await numbers.number_for(CPO, "CS-1", wanted("b", "APP-1"))
    repeated = await TransactionNumbers(units).number_for(CPO, "CS-1", wanted("b", "APP-1"))
    later = await numbers.number_for(CPO, "CS-1", wanted("c", "APP-1"))

    starts = [each.remote_start_id for each in (other, elsewhere, answering, repeated, later)]
    assert starts == [None, None, 77, 77, None]


@pytest.mark.postgres
async def test_two_gateways_never_give_one_number_twice(postgres_dsn: str) -> None:
    async with open_postgres(
        postgres_dsn, master_key=bytes(32), clock=SystemClock(), randomness=SystemRandomness()
    ) as postgres:
        gateways = [TransactionNumbers(postgres.units) for _ in range(2)]
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
