"""An MSP with a credit line: what is reserved when its drivers are let in, and who waits once the line is drawn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.events.banking import GuaranteeCalled, PaymentBooked
from emobility.events.event import Envelope, Event, LoggedEvent
from emobility.events.settlement import StatementFinal, StatementName
from emobility.ports.authorizer import AuthorizationStatus
from services.charging_operations.exposure import EXPOSURE, RESERVATION
from services.charging_operations.records import AUTHORIZATION
from tests.operations.test_commands import send, start_session
from tests.operations.world import CPO, EMSP, START, World, agreement, open_for_business

ONE_CHARGE_E4 = 150_000


async def on_credit(here: World, limit_e4: int, mode: SettlementMode = SettlementMode.CREDIT_LINE) -> None:
    answer = await here.sign(
        agreement(version=2, valid_from=START - timedelta(days=1), settlement_mode=mode, credit_limit_e4=limit_e4)
    )
    assert answer.status_code == 200, answer.text
    for card in ("04000001", "04000002"):
        await here.put_token(uid=card)


async def shown(here: World) -> dict[str, Any]:
    (found,) = (await here.api("GET", f"/{CPO}/exposure")).json()
    return dict(found)


def booked(amount_e4: int) -> PaymentBooked:
    return PaymentBooked(
        cpo_id=CPO,
        emsp_id=EMSP,
        agreement_id="TNM-EMP",
        version=2,
        currency="EUR",
        amount_e4=amount_e4,
        end_to_end_id="WR1",
        entry_id="e",
        booked_on=date(2022, 3, 28),
        seen_at=START,
    )


def logged(event: Event, event_id: str) -> LoggedEvent:
    envelope = Envelope(event=event, event_id=event_id, correlation_id="c", recorded_at=START)
    return LoggedEvent(topic=event.topic, partition=0, offset=0, envelope=envelope)


async def told(here: World, event: Event, event_id: str) -> None:
    async with here.ports.units.begin() as unit:
        unit.emit(logged(event, event_id).envelope)
        await unit.commit()
    await here.settle()


def final(*, version: int, due_e4: int, credit_e4: int = 0) -> StatementFinal:
    return StatementFinal(
        statement=StatementName(cpo_id=CPO, agreement_id="TNM-EMP", version=version, sequence=1),
        emsp_id=EMSP,
        currency="EUR",
        statement_hash=bytes(32),
        due_e4=due_e4,
        credit_e4=credit_e4,
        count=1,
        chain_id=1,
        book=bytes(20),
        batch_id=bytes(32),
        position=0,
        transaction=bytes(32),
        block_number=1,
        block_hash=bytes(32),
        final_at=START,
    )


async def paid(here: World, amount_e4: int) -> None:
    await told(here, booked(amount_e4), f"paid-{amount_e4}")


@pytest.mark.parametrize("mode", [SettlementMode.CREDIT_LINE, SettlementMode.GUARANTEE])
async def test_who_might_pass_the_limit_is_not_let_in(mode: SettlementMode) -> None:
    async with open_for_business() as here:
        await on_credit(here, ONE_CHARGE_E4, mode)

        first, again = await here.authorize("04000001"), await here.authorize("04000001")
        second = await here.authorize("04000002")

        assert first.status is again.status is AuthorizationStatus.ACCEPTED
        assert (second.status, second.reason) == (AuthorizationStatus.NO_CREDIT, "CREDIT_LINE_EXCEEDED")
        exposure = await shown(here)
        assert (exposure["reserved_e4"], exposure["free_e4"], exposure["is_suspended"]) == (ONE_CHARGE_E4, 0, True)


async def test_where_nothing_is_bounded_nothing_is_reserved() -> None:
    async with open_for_business() as here:
        await here.put_token()

        assert (await here.authorize()).status is AuthorizationStatus.ACCEPTED
        assert await here.rows(RESERVATION) == []


async def test_a_charge_is_reserved_until_it_is_billed_and_billed_until_it_is_paid() -> None:
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4)
        await here.authorize("04000001", ocpp_evse_id=1)
        reserved = await shown(here)
        await here.report(await here.started(card="04000001"), here.ended())
        billed = await shown(here)
        await paid(here, billed["billed_e4"])

        assert (reserved["reserved_e4"], reserved["billed_e4"]) == (ONE_CHARGE_E4, 0)
        assert billed["reserved_e4"] == 0
        assert billed["open_e4"] == billed["billed_e4"] > 0
        assert (await shown(here))["open_e4"] == 0
        assert await here.rows(RESERVATION) == []


async def test_a_payment_that_a_restored_database_books_once_more_counts_once() -> None:
    """The log has what the copy forgot, and the bank's file is read again."""
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4)
        await told(here, booked(40_000), "paid-1")
        await told(here, replace(booked(40_000), seen_at=START + timedelta(days=1)), "paid-1")

        assert (await shown(here))["paid_e4"] == 40_000


@pytest.mark.parametrize("mode", [SettlementMode.PREFUNDED, SettlementMode.CONFIDENTIAL])
async def test_what_a_vault_pays_is_paid_when_its_statement_is_final(mode: SettlementMode) -> None:
    async with open_for_business() as here:
        await on_credit(here, 0, mode)
        await here.report(await here.started(card="04000001"), here.ended())
        billed = await shown(here)
        await told(here, final(version=2, due_e4=billed["billed_e4"] + 10_000, credit_e4=10_000), "final-1")

        assert billed["billed_e4"] > 0
        assert (await shown(here))["open_e4"] == 0


async def test_what_is_owed_until_a_bank_pays_it_is_not_paid_by_its_statement() -> None:
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4)
        await here.report(await here.started(card="04000001"), here.ended())
        billed = await shown(here)
        await told(here, final(version=2, due_e4=billed["billed_e4"]), "final-1")

        assert (await shown(here))["open_e4"] == billed["billed_e4"] > 0


async def test_what_a_pair_settles_elsewhere_is_not_counted() -> None:
    async with open_for_business() as here:
        await on_credit(here, 0, SettlementMode.OFF_CHAIN)
        await here.report(await here.started(card="04000001"), here.ended())

        assert len(await here.cdrs()) == 1
        assert (await shown(here))["open_e4"] == 0


async def test_what_came_back_is_open_again() -> None:
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4)
        await paid(here, 400_000)
        await paid(here, -250_000)

        (row,) = await here.rows(EXPOSURE)
        assert row.exposure.open_e4 == -150_000


async def test_of_a_pairs_first_changes_none_is_lost_though_two_come_at_once() -> None:
    async with open_for_business() as here:

        async def follow(amount_e4: int) -> None:
            async with here.ports.units.begin() as unit:
                await here.operations.exposure.handle(unit, [logged(booked(amount_e4), f"paid-{amount_e4}")])
                await asyncio.sleep(0)
                await unit.commit()

        await asyncio.gather(follow(100_000), follow(20_000))

        (row,) = await here.rows(EXPOSURE)
        assert row.exposure.paid_e4 == 120_000


async def test_what_nobody_used_is_free_again() -> None:
    async with open_for_business() as here:
        await on_credit(here, ONE_CHARGE_E4)
        await here.authorize("04000001")
        refused = await here.authorize("04000002")
        here.clock.step_by(timedelta(minutes=16))

        after = await here.authorize("04000002")

        assert refused.status is AuthorizationStatus.NO_CREDIT
        assert after.status is AuthorizationStatus.ACCEPTED
        assert (await shown(here))["reserved_e4"] == ONE_CHARGE_E4


async def test_two_at_once_can_not_both_take_the_last_of_the_line() -> None:
    async with open_for_business() as here:
        await on_credit(here, ONE_CHARGE_E4)

        answers = await asyncio.gather(here.authorize("04000001"), here.authorize("04000002"))

        assert sorted(each.status for each in answers) == sorted(
            [AuthorizationStatus.ACCEPTED, AuthorizationStatus.NO_CREDIT]
        )
        assert sum(row.is_accepted for row in await here.rows(AUTHORIZATION)) == 1


async def test_an_msp_beyond_its_line_can_not_start_charges_by_command() -> None:
    async with open_for_business() as here:
        await on_credit(here, ONE_CHARGE_E4)
        await here.authorize("04000001")

        result = await send(here, start_session())

        assert result == "REJECTED"
        assert here.gateway.commands == []
        assert [row.reason for row in await here.rows(AUTHORIZATION) if not row.is_accepted] == ["CREDIT_LINE_EXCEEDED"]


def called(amount_e4: int, *, version: int = 2, name: str = "TNM-EMP") -> GuaranteeCalled:
    return GuaranteeCalled(
        cpo_id=CPO,
        emsp_id=EMSP,
        agreement_id=name,
        version=version,
        currency="EUR",
        amount_e4=amount_e4,
        limit_e4=0,
        chain_id=1,
        book=bytes(20),
        transaction=bytes(32),
        called_at=START,
        seen_at=START,
    )


@pytest.mark.parametrize("name", ["TNM-EMP", f"TNM-EMP@{EMSP}"])
async def test_a_guarantee_that_was_called_bears_less(name: str) -> None:
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4, SettlementMode.GUARANTEE)
        await here.report(await here.started(card="04000001"), here.ended())
        billed_e4 = (await shown(here))["billed_e4"]

        await told(here, called(billed_e4, name=name), "called")
        bears_one = await shown(here)
        await told(here, called(ONE_CHARGE_E4 - billed_e4 + 1, name=name), "called again")
        await paid(here, billed_e4 - ONE_CHARGE_E4 - 1)  # and as much is billed meanwhile

        assert bears_one["open_e4"] == 0
        assert (bears_one["limit_e4"], bears_one["is_suspended"]) == (2 * ONE_CHARGE_E4 - billed_e4, False)
        assert (await shown(here))["limit_e4"] == ONE_CHARGE_E4 - 1
        assert (await here.authorize("04000002")).status is AuthorizationStatus.NO_CREDIT


async def test_a_new_guarantee_bears_all_of_its_limit() -> None:
    async with open_for_business() as here:
        await on_credit(here, 2 * ONE_CHARGE_E4, SettlementMode.GUARANTEE)
        await told(here, called(2 * ONE_CHARGE_E4), "called")
        same = agreement(
            version=3,
            valid_from=START - timedelta(hours=2),
            settlement_mode=SettlementMode.GUARANTEE,
            credit_limit_e4=2 * ONE_CHARGE_E4,
        )
        await here.sign(same)
        still_gone = await shown(here)
        await here.sign(replace(same, version=4, valid_from=START - timedelta(hours=1), credit_limit_e4=400_000))

        assert still_gone["limit_e4"] == 0
        assert (await shown(here))["limit_e4"] == 400_000
