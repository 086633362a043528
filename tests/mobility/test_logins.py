"""Who guesses passwords rests; the driver whose password it is does not, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from emobility.domain.identifiers import PartyId
from emobility.runtime.tries_by_address import REST, TRIES_MAX
from services.driver_mobility import logins
from services.driver_mobility.logins import Logins, LoginsBusy, WrongLogin
from services.driver_mobility.passwords import is_password

MSP = PartyId("NL-EMA")
PASSWORD = "correct horse battery"
HOME = "192.0.2.1"
STRANGER = "198.51.100.7"


@pytest.fixture(name="compared")
def _compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The thread of each comparison."""
    threads: list[int] = []

    def compare(password: str, password_hash: str | None) -> bool:
        threads.append(threading.get_ident())
        return is_password(password, password_hash)

    monkeypatch.setattr(logins, "is_password", compare)
    return threads


async def guess(desk: Logins, driver_id: str, address: str) -> None:
    with pytest.raises(WrongLogin):
        await desk.open(MSP, driver_id, "wrong password", address=address)


async def test_a_stranger_who_guesses_rests_and_the_driver_logs_in(memory_world: Any, compared: list[int]) -> None:
    driver_id = await memory_world.enrol()
    desk = Logins(memory_world.ports)

    for _ in range(TRIES_MAX + 3):
        await guess(desk, driver_id, STRANGER)

    assert len(compared) == TRIES_MAX
    with pytest.raises(WrongLogin):
        await desk.open(MSP, driver_id, PASSWORD, address=STRANGER)
    assert await desk.open(MSP, driver_id, PASSWORD, address=HOME)
    memory_world.clock.step_by(REST)
    assert await desk.open(MSP, driver_id, PASSWORD, address=STRANGER)


async def test_guesses_at_once_and_from_one_ipv6_network_are_counted_together(
    memory_world: Any, compared: list[int]
) -> None:
    driver_id = await memory_world.enrol()
    desk = Logins(memory_world.ports)

    await asyncio.gather(*(guess(desk, driver_id, f"2001:db8::{number}") for number in range(1, 20)))

    assert len(compared) == TRIES_MAX


async def test_guesses_from_very_many_addresses_let_the_account_rest(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch, compared: list[int]
) -> None:
    driver_id = await memory_world.enrol()
    desk = Logins(memory_world.ports)
    monkeypatch.setattr(logins, "FAILURES_MAX", 3)

    for number in range(3):
        await guess(desk, driver_id, f"198.51.100.{number}")
    with pytest.raises(WrongLogin):
        await desk.open(MSP, driver_id, PASSWORD, address=HOME)
    memory_world.clock.step_by(REST)

    assert len(compared) == 3
    assert await desk.open(MSP, driver_id, PASSWORD, address=HOME)


async def test_passwords_are_compared_beside_the_loop_and_few_wait_for_it(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch, compared: list[int]
) -> None:
    driver_id = await memory_world.enrol()
    desk = Logins(memory_world.ports)
    monkeypatch.setattr(logins, "WAITING_MAX", 3)

    answers = await asyncio.gather(
        *(desk.open(MSP, driver_id, PASSWORD, address=f"192.0.2.{number}") for number in range(5)),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [str, str, str, LoginsBusy, LoginsBusy]
    assert threading.get_ident() not in compared
