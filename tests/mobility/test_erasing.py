"""A driver is erased: at once what need not be kept, and the rest closed until a date that the operator is told."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard, SandboxPayments
from emobility.domain.cdr import credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Money
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.ports.payments import Hold, PaymentProviderUnavailable
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import PeerFailed
from emobility.protocols.ocpi.deliveries import DELIVERY, DeliveryState
from emobility.protocols.ocpi.mapping import cdr_to_ocpi
from services.driver_mobility.erasing import COUNTED_ANEW_WITHIN, TOLD_WITHIN
from services.driver_mobility.paying import PaymentWorker
from services.driver_mobility.records import (
    BILL,
    CDRS,
    DRIVER,
    ERASURE,
    LOGIN,
    PAYMENT_ORDER,
    QUOTE,
    TOKEN,
    ErasureRecord,
    ErasureState,
    PaymentState,
)

MSP = PartyId("NL-EMA")
OTHER_MSP = PartyId("NL-EMB")
RFID = "04AABBCCDD11"
UNUSED = "04EEFF001122"
CONTRACT = "NL-EMA-C00001"
SELLER = {"name": "EMA B.V.", "country": "NL", "vat_id": "NL004495445B01", "time_zone": "Europe/Amsterdam"}
END_OF_RETENTION = datetime(2030, 1, 1, tzinfo=UTC)
"""Seven whole years after the end of 2022, when the world's charges are: the MSP and the place are Dutch."""


async def erase(world: Any, driver_id: str, **more: Any) -> Any:
    return await world.call("POST", f"/{MSP}/drivers/{driver_id}/erase", **more)


async def charged(world: Any, *, is_paid: bool = True) -> Any:
    """Let the driver's card charge once; returns the CDR."""
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await (world.quiet() if is_paid else world.caught_up())
    return cdr


async def rows(world: Any, spec: Any) -> list[Any]:
    async with world.ports.units.begin() as unit:
        found: list[Any] = await unit.table(spec).select()
    return found


async def test_a_driver_who_never_charged_is_gone_at_once_and_the_cpos_are_told(world: Any) -> None:
    driver_id = await world.enrol()
    name = (await rows(world, DRIVER))[0].name

    told = await erase(world, driver_id)
    await world.quiet()

    assert (told["state"], told["duties"], told["restricted_until"]) == ("ERASED", [], None)
    assert await rows(world, DRIVER) == await rows(world, TOKEN) == await rows(world, LOGIN) == []
    assert not world.cpo.tokens[RFID].valid
    with pytest.raises(SubjectErased):
        await world.ports.vault.evidence.open(name)
    assert await erase(world, driver_id) == told


async def test_what_the_law_keeps_is_closed_until_a_date_and_everything_else_goes_at_once(world: Any) -> None:
    driver_id = await world.enrol()
    await world.call("POST", f"/{MSP}/drivers/{driver_id}/tokens", {"uid": UNUSED})
    await charged(world)
    vault = world.ports.vault
    unused = await vault.seal(UNUSED)

    told = await erase(world, driver_id)
    await world.quiet()

    assert (told["state"], told["duties"]) == ("RESTRICTED", ["FISCAL"])
    assert datetime.fromisoformat(told["restricted_until"]) == END_OF_RETENTION
    assert await world.call("GET", f"/{MSP}/erasures") == [told]
    (driver,) = await rows(world, DRIVER)
    (cdr,) = await rows(world, CDRS)
    assert (driver.card, driver.card_last4, driver.password_hash, driver.is_blocked) == (None, None, None, True)
    assert await rows(world, TOKEN) == []
    assert all(quote.hold_card is None for quote in await rows(world, QUOTE))
    assert all(order.card is None for order in await rows(world, PAYMENT_ORDER))
    for sealed, text in ((driver.contract_id, CONTRACT), (cdr.cdr.token.uid, RFID)):
        with pytest.raises(SubjectRestricted):
            await vault.open(sealed)
        assert await vault.evidence.open(sealed) == text
    with pytest.raises(SubjectErased):
        await vault.evidence.open(unused)
    assert not world.cpo.tokens[RFID].valid
    for path, body in (("tokens", {"uid": "04123456"}), ("quotes", {"cpo_id": "NL-TNM", "location_id": "LOC1"})):
        await world.call("POST", f"/{MSP}/drivers/{driver_id}/{path}", body, expect=409)
    await world.call("PATCH", f"/{MSP}/drivers/{driver_id}", {"is_blocked": False}, expect=409)


async def test_a_restriction_ends_with_the_destruction_of_keys_and_row(world: Any) -> None:
    driver_id = await world.enrol()
    await charged(world)
    await erase(world, driver_id)
    (driver,) = await rows(world, DRIVER)

    world.clock.step_by(END_OF_RETENTION - world.clock.now() - timedelta(seconds=1))
    await world.service.sweep()
    still = [each.state for each in await rows(world, ERASURE)]
    world.clock.step_by(timedelta(seconds=2))
    await world.service.sweep()

    assert still == [ErasureState.RESTRICTED]
    assert [each.state for each in await rows(world, ERASURE)] == [ErasureState.ERASED]
    assert await rows(world, DRIVER) == []
    with pytest.raises(SubjectErased):
        await world.ports.vault.evidence.open(driver.contract_id)
    assert len(await rows(world, BILL)) == 1


async def test_an_invoice_after_the_erasure_moves_the_end_of_the_restriction(memory_world: Any) -> None:
    world = memory_world
    driver_id = await world.enrol()
    cdr = await charged(world)
    await world.call("PUT", f"/{MSP}/seller", SELLER)
    first = await erase(world, driver_id)
    world.clock.step_by(timedelta(days=366))
    await world.call("POST", f"/{MSP}/invoices", {"month": "2022-03"})

    world.clock.step_by(END_OF_RETENTION - world.clock.now() + timedelta(seconds=1))
    await world.service.sweep()
    (later,) = await world.call("GET", f"/{MSP}/erasures")
    number = await world.ports.vault.evidence.open(cdr.token.contract_id)
    world.clock.step_by(timedelta(days=366))
    await world.service.sweep()
    (over,) = await world.call("GET", f"/{MSP}/erasures")

    assert datetime.fromisoformat(first["restricted_until"]) == END_OF_RETENTION
    assert (later["state"], later["restricted_until"][:10], later["duties"]) == ("RESTRICTED", "2031-01-01", ["FISCAL"])
    assert [(each["kind"], each["count"]) for each in later["kept"]] == [("RETAIL_INVOICE", 1)]
    assert (number, over["state"]) == (CONTRACT, "ERASED")
    with pytest.raises(SubjectErased):
        await world.ports.vault.evidence.open(cdr.token.contract_id)


async def test_another_msps_sweep_ends_no_restriction_before_it_is_counted_anew(memory_world: Any) -> None:
    world = memory_world
    driver_id = await world.enrol()
    cdr = await charged(world)
    await world.call("PUT", f"/{MSP}/seller", SELLER)
    await erase(world, driver_id)
    world.clock.step_by(timedelta(days=366))
    await world.call("POST", f"/{MSP}/invoices", {"month": "2022-03"})
    await world.call("PUT", "/NL-AAA", {"name": "Swept before"})

    world.clock.step_by(END_OF_RETENTION - world.clock.now() + COUNTED_ANEW_WITHIN + timedelta(seconds=1))
    await world.service.sweep()

    (later,) = await world.call("GET", f"/{MSP}/erasures")
    assert (later["state"], later["restricted_until"][:10]) == ("RESTRICTED", "2031-01-01")
    assert await world.ports.vault.evidence.open(cdr.token.contract_id) == CONTRACT


async def test_an_unpaid_bill_lasts_no_longer_than_what_would_have_settled_it(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world)
    await erase(memory_world, driver_id)

    memory_world.clock.step_by(END_OF_RETENTION - memory_world.clock.now() + timedelta(seconds=1))
    await memory_world.service.sweep()

    assert [each.state for each in await rows(memory_world, ERASURE)] == [ErasureState.ERASED]


async def test_a_credit_that_comes_after_the_erasure_is_still_booked(world: Any) -> None:
    driver_id = await world.enrol()
    cdr = await charged(world)
    credit = credit_of(cdr, cdr_id="S1-C1", issued_at=world.clock.now(), remark="taken back")
    wire = v221.write(await cdr_to_ocpi(credit, world.ports.vault))
    await erase(world, driver_id)

    answer = await world.cpo.post_wire(wire)
    await world.quiet()

    assert answer.status in {200, 201}
    (bill,) = await rows(world, BILL)
    assert bill.credited_incl_e4 == bill.total_incl_e4
    assert (await world.account(driver_id))["outstanding_e4"] == 0


async def test_what_is_unpaid_is_a_duty_of_its_own(memory_world: Any) -> None:
    world = memory_world
    driver_id = await world.enrol(card=SandboxCard.DECLINED.value)
    await charged(world)

    assert (await erase(world, driver_id))["duties"] == ["FISCAL", "UNPAID"]


@pytest.mark.parametrize("is_retry", [False, True])
async def test_a_bill_that_was_not_asked_for_yet_is_taken_from_the_card_of_whom_was_erased(
    world: Any, monkeypatch: pytest.MonkeyPatch, *, is_retry: bool
) -> None:
    driver_id = await world.enrol(card=SandboxCard.DECLINED_AT_CAPTURE.value if is_retry else SandboxCard.GOOD.value)
    with monkeypatch.context() as nobody_pays:
        if is_retry:
            await charged(world)
        nobody_pays.setattr(PaymentWorker, "work_once", nothing_done)
        if is_retry:
            await world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
        else:
            await charged(world, is_paid=False)
        told = await erase(world, driver_id)
    await world.quiet()

    assert told["duties"] == ["FISCAL", "UNPAID"]
    assert [(order.state, order.kept_card) for order in await rows(world, PAYMENT_ORDER)] == [(PaymentState.DONE, None)]
    assert (await world.account(driver_id))["paid_e4"] == 54_400


async def test_a_hold_whose_answer_was_never_seen_is_given_up_for_whom_was_erased(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver_id = await world.enrol(plan_id="plus")
    real = SandboxPayments.authorize

    async def authorize(self: SandboxPayments, card: str, amount: Money, *, idempotency_key: str) -> Hold:
        await real(self, card, amount, idempotency_key=idempotency_key)
        raise PaymentProviderUnavailable("the answer was lost")

    with monkeypatch.context() as nobody_pays:
        nobody_pays.setattr(PaymentWorker, "work_once", nothing_done)
        nobody_pays.setattr(SandboxPayments, "authorize", authorize)
        with suppress(PeerFailed):
            await world.cpo.authorize()
        world.clock.step_by(timedelta(hours=1))
        await world.service.sweep()
        await erase(world, driver_id)
    await world.quiet()

    assert [payment.is_open for payment in await rows(world, PAYMENT)] == [False]


async def nothing_done(_: PaymentWorker) -> int:
    return 0


async def test_a_charge_under_way_is_waited_for(memory_world: Any) -> None:
    world = memory_world
    driver_id = await world.enrol()
    await world.cpo.authorize()

    refused = await erase(world, driver_id, expect=409)

    assert refused["error"] == "ChargeUnderWay"
    assert await rows(world, ERASURE) == []
    assert len(await rows(world, TOKEN)) == 2


async def test_nobody_erases_what_another_contract_is_sealed_under(memory_world: Any) -> None:
    world = memory_world
    victim = await world.enrol()
    await world.call("PUT", f"/{OTHER_MSP}", {"name": "Other"})
    plan = {"kind": "FLAT_PER_KWH", "currency": "EUR", "price_per_kwh": "0.5"}
    await world.call("PUT", f"/{OTHER_MSP}/plans/flat", plan)
    terms = {"name": "Eve", "contract_id": CONTRACT, "plan_id": "flat", "currency": "EUR", "credit_limit_e4": 0}
    eve = await world.call("POST", f"/{OTHER_MSP}/drivers", terms)
    await world.call("POST", f"/{OTHER_MSP}/drivers/{eve['driver_id']}/tokens", {"uid": RFID})

    told = await world.call("POST", f"/{OTHER_MSP}/drivers/{eve['driver_id']}/erase")

    assert told["keys_shared_with_other_contracts"] == 2
    (driver,) = await rows(world, DRIVER)
    assert driver.driver_id == victim
    assert await world.ports.vault.open(driver.contract_id) == CONTRACT
    assert await world.ports.vault.open((await world.cpo.token()).uid) == RFID


async def test_an_erasure_that_a_crash_cut_short_is_finished_by_the_sweep(memory_world: Any) -> None:
    world = memory_world
    sealed = await world.ports.vault.seal("04AA")
    cut_short = ErasureRecord(
        party_id=MSP,
        driver_id="d1",
        state=ErasureState.PENDING,
        duties=(),
        restricted_subjects=(),
        destroyed_subjects=(sealed.subject,),
        shared=0,
        asked_at=world.clock.now(),
        restricted_until=None,
    )
    async with world.ports.units.begin() as unit:
        await unit.table(ERASURE).insert(cut_short)
        await unit.commit()

    await world.service.sweep()

    with pytest.raises(SubjectErased):
        await world.ports.vault.open(sealed)
    assert [each.state for each in await rows(world, ERASURE)] == [ErasureState.ERASED]


async def test_a_message_that_waits_is_erased_with_the_person_it_names(memory_world: Any) -> None:
    world = memory_world
    deliveries = world.service.host.deliveries
    world.http.cut("http://played-cpo")
    driver_id = await world.enrol()
    waiting = [each for each in await rows(world, DELIVERY) if each.module == "tokens"]
    (token,) = [each for each in await rows(world, TOKEN) if each.token_subject == world.ports.vault.subject_of(RFID)]

    assert token.token_subject in {each.message.subject for each in waiting}
    await erase(world, driver_id)

    last = [each for each in await rows(world, DELIVERY) if each.object_key.endswith(token.token_subject)]
    assert [b'"valid":false' in bytes((await deliveries.open(each)).body) for each in last] == [True]
    for each in waiting:
        with pytest.raises(SubjectErased):
            await deliveries.open(each)
    world.http.mend("http://played-cpo")
    await world.quiet()
    assert not world.cpo.tokens[RFID].valid
    assert await rows(world, DELIVERY) == []


async def test_what_a_cpo_refuses_to_hear_is_kept_for_a_month_and_repeats_no_person(
    world: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    deliveries = world.service.host.deliveries
    driver_id = await world.enrol()
    world.cpo.refuses_tokens = True
    await erase(world, driver_id)
    await world.quiet()

    refused = [each for each in await rows(world, DELIVERY) if each.state is DeliveryState.FAILED]
    assert len(refused) == 2
    bodies = [bytes((await deliveries.open(each)).body).decode() for each in refused]
    assert any(RFID in each for each in bodies)
    said = "".join([*capfd.readouterr(), *(each.reason for each in refused)])
    assert "no token [person] of [person] here" in said
    assert not any(each.lower() in said.lower() for each in (RFID, CONTRACT))

    world.clock.step_by(TOLD_WITHIN)
    await world.service.sweep()
    kept = await rows(world, DELIVERY)
    world.clock.step_by(timedelta(seconds=1))
    await world.service.sweep()

    assert (kept, await rows(world, DELIVERY)) == (refused, [])


async def test_what_is_kept_is_shown_before_and_after_with_law_and_date(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    await charged(memory_world)

    (before,) = await memory_world.call("GET", f"/{MSP}/retention")
    told = await erase(memory_world, driver_id)
    (after,) = await memory_world.call("GET", f"/{MSP}/retention")

    assert (before["driver_id"], before["state"], before["duties"]) == (driver_id, "CONTRACT", ["FISCAL"])
    due = {each["kind"]: each for each in before["kept"] if each["until"] is not None}
    assert {"CDR", "PAYMENT", "RETAIL_BILL"} == set(due)
    assert all("rijksbelastingen" in each["law"] and each["count"] >= 1 for each in due.values())
    assert {datetime.fromisoformat(each["until"]) for each in due.values()} == {END_OF_RETENTION}
    assert {each["kind"] for each in before["kept"]} - set(due) == {"TOKEN"}
    assert told["kept"] == list(due.values()) == after["kept"]
    assert (after["state"], after["until"]) == ("RESTRICTED", told["restricted_until"])

    memory_world.clock.step_by(END_OF_RETENTION - memory_world.clock.now() + timedelta(days=1))
    await memory_world.service.sweep()

    (over,) = await memory_world.call("GET", f"/{MSP}/retention")
    assert (over["state"], over["until"], over["kept"]) == ("ERASED", None, [])


async def test_pages_of_what_is_kept_show_each_driver_once_and_one_can_be_asked_for(memory_world: Any) -> None:
    world = memory_world
    closed = await world.enrol()
    await charged(world)
    await erase(world, closed)
    others = []
    for number in range(3):
        terms = {"name": "Eve", "contract_id": f"NL-EMA-C1000{number}", "plan_id": "plus"}
        driver = await world.call("POST", f"/{MSP}/drivers", {**terms, "currency": "EUR", "credit_limit_e4": 0})
        others.append(driver["driver_id"])
    gone, *under_contract = others
    await erase(world, gone)
    path = f"/{MSP}/retention"

    whole = await world.call("GET", path)
    pages = [await world.call("GET", f"{path}?offset={offset}&limit=1") for offset in range(5)]
    alone = [await world.call("GET", f"{path}?driver={each}") for each in (closed, gone, under_contract[0], "nobody")]

    states = {row["driver_id"]: row["state"] for row in whole}
    assert states == {closed: "RESTRICTED", gone: "ERASED"} | dict.fromkeys(under_contract, "CONTRACT")
    assert pages == [*([row] for row in whole), []]
    assert [row["driver_id"] for rows in alone for row in rows] == [closed, gone, under_contract[0]]
    for wrong in ("offset=-1", "limit=x", f"limit={'9' * 10}"):
        await world.call("GET", f"{path}?{wrong}", expect=422)
