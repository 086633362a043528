"""Whatever is charged, declined, credited, repeated and in whatever order: billed = paid + outstanding, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from emobility.adapters.memory import run_virtual
from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard
from emobility.domain.cdr import credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.quote import gross_e4
from emobility.domain.tariff.pricing import price_session
from emobility.events.retail import PaymentSettled, RetailBilled, RetailCredited
from services.driver_mobility.ledger import retail_ledger
from services.driver_mobility.records import ACCOUNT, BILL, CDRS, QUOTE

MSP = PartyId("NL-EMA")


@dataclass(frozen=True)
class Plan:
    """One charge of the history."""

    energy_wh: int
    parking_s: int
    is_credited: bool
    is_sent_twice: bool


QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example is a whole history: shrinking takes minutes
)
PLANS = st.lists(
    st.builds(
        Plan,
        energy_wh=st.integers(min_value=0, max_value=20_000),
        parking_s=st.integers(min_value=0, max_value=7_200),
        is_credited=st.booleans(),
        is_sent_twice=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


async def live(world: Any, plans: list[Plan], *, card: SandboxCard, plan_id: str) -> Any:
    """Play a history; returns the driver's number."""
    driver_id = await world.enrol(card=card.value, plan_id=plan_id, credit_limit_e4=10**9)
    originals = []
    for number, plan in enumerate(plans):
        info = await world.cpo.authorize()
        session, cdr = await world.cpo.charge(
            f"S{number}",
            reference=info.authorization_reference,
            energy_wh=plan.energy_wh,
            parking_s=plan.parking_s,
            started_at=world.clock.now(),
        )
        await world.cpo.begin(session)
        await world.cpo.push_session(session)
        for _ in range(1 + plan.is_sent_twice):
            await world.cpo.post_cdr(cdr)
        originals.append(cdr)
        world.clock.step_by(timedelta(minutes=1))
    await world.quiet()
    for plan, cdr in zip(plans, originals, strict=True):
        if plan.is_credited:
            await world.cpo.post_cdr(
                credit_of(cdr, cdr_id=f"{cdr.cdr_id}-C", issued_at=world.clock.now(), remark="taken back")
            )
    await world.quiet()
    return driver_id


async def refuse_imbalance(world: Any, driver_id: str) -> None:
    """Compare ledger, account, events and the provider's own books."""
    ledger = (await retail_ledger(world.ports.units, MSP)).get("EUR")
    assert ledger is not None
    assert ledger.billed_e4 == ledger.paid_e4 + ledger.outstanding_e4
    account = await world.account(driver_id)
    assert account["billed_e4"] == account["paid_e4"] + account["outstanding_e4"] == ledger.billed_e4
    assert sum(line["amount_e4"] for line in account["lines"]) == account["outstanding_e4"]
    events = [logged.envelope.event async for logged in world.ports.event_log.read(["retail"])]
    billed = sum(event.total_incl_e4 for event in events if isinstance(event, RetailBilled))
    credited = sum(event.credit_incl_e4 for event in events if isinstance(event, RetailCredited))
    settled = sum(event.amount_e4 for event in events if isinstance(event, PaymentSettled))
    assert (billed - credited, settled) == (ledger.billed_e4, ledger.paid_e4)
    async with world.ports.units.begin() as unit:
        payments = await unit.table(PAYMENT).select()
        bills = await unit.table(BILL).select()
        for bill in bills:
            quote = await unit.table(QUOTE).get(MSP, bill.quote_id)
            record = await unit.table(CDRS).get(MSP, bill.cpo_id, bill.cdr_id)
            priced = price_session(
                quote.quote.tariff,
                record.cdr.periods,
                ended_at=record.cdr.ended_at,
                time_zone=quote.quote.time_zone,
            )
            assert gross_e4(priced.total) == bill.total_incl_e4
    assert sum(payment.captured_e4 - payment.refunded_e4 for payment in payments) == ledger.paid_e4
    assert all(payment.held_e4 == 0 for payment in payments)


@pytest.mark.parametrize("plan_id", ["flat", "plus"])
@settings(QUICK, max_examples=8)
@given(
    plans=PLANS,
    card=st.sampled_from([SandboxCard.GOOD, SandboxCard.SILENT_AFTER, SandboxCard.DECLINED_AT_CAPTURE]),
)
def test_no_history_loses_or_makes_a_ten_thousandth(
    open_world: Any, plan_id: str, plans: list[Plan], card: SandboxCard
) -> None:
    async def history() -> None:
        async with open_world() as world:
            driver_id = await live(world, plans, card=card, plan_id=plan_id)
            await refuse_imbalance(world, driver_id)

    run_virtual(history())


@settings(QUICK, max_examples=5)
@given(plans=PLANS)
def test_events_that_come_again_change_nothing(open_world: Any, plans: list[Plan]) -> None:
    async def history() -> None:
        async with open_world() as world:
            await live(world, plans, card=SandboxCard.GOOD, plan_id="plus")
            async with world.ports.units.begin() as unit:
                before = await unit.table(ACCOUNT).select(), await unit.table(BILL).select()
            logged = [each async for each in world.ports.event_log.read(["cdrs"])]

            async with world.ports.units.begin() as unit:
                await world.service.checking.handle(unit, logged)
                await unit.commit()
            await world.quiet()

            again = [each async for each in world.ports.event_log.read(["cdrs"])]
            assert len(again) == len(logged)
            async with world.ports.units.begin() as unit:
                after = await unit.table(ACCOUNT).select(), await unit.table(BILL).select()
            assert after == before

    run_virtual(history())


def test_the_same_seed_gives_the_same_log_byte_for_byte(open_world: Any) -> None:
    plans = [Plan(7_777, 600, True, True), Plan(3, 0, False, False)]

    async def history() -> list[tuple[str, int, int, str, str]]:
        async with open_world() as world:
            await live(world, plans, card=SandboxCard.SILENT_BEFORE, plan_id="plus")
            return [
                (each.topic, each.partition, each.offset, each.envelope.event_id, repr(each.envelope))
                async for each in world.ports.event_log.read(["cdrs", "retail"])
            ]

    assert run_virtual(history()) == run_virtual(history())
