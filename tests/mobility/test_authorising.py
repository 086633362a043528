"""Who may charge: unknown, blocked and indebted drivers, and CPOs without an agreement."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.adapters.payments.test_provider import PAYMENT, SandboxCard
from emobility.domain.identifiers import PartyId
from emobility.domain.session import SessionStatus
from emobility.protocols.ocpi.client import MissingAtPeer, PeerRefused
from emobility.protocols.ocpi.v221 import AllowedType, CommandResponseType, CommandResultType, InterfaceRole, ModuleID
from services.driver_mobility.quoting import QuoteUsed
from services.driver_mobility.records import (
    AGREEMENT,
    PAYMENT_ORDER,
    QUOTE,
    PaymentKind,
    PaymentState,
    QuoteRecord,
    QuoteState,
)
from services.driver_mobility.silent_charges import SILENCE_MAX

MSP = "NL-EMA"
RFID = "04AABBCCDD11"


async def payment_kinds(world: Any, state: PaymentState = PaymentState.DONE) -> list[PaymentKind]:
    async with world.ports.units.begin() as unit:
        return [order.kind for order in await unit.table(PAYMENT_ORDER).select({"state": state})]


async def quote_state(world: Any, quote_id: str) -> QuoteState:
    async with world.ports.units.begin() as unit:
        quote = await unit.table(QUOTE).get(PartyId(MSP), quote_id)
    assert isinstance(quote, QuoteRecord)
    return quote.state


async def test_the_reference_of_an_authorisation_is_a_signed_quote(memory_world: Any) -> None:
    await memory_world.enrol()

    info = await memory_world.cpo.authorize()

    assert info.allowed is AllowedType.ALLOWED
    assert info.authorization_reference is not None
    assert await quote_state(memory_world, info.authorization_reference) is QuoteState.AUTHORIZED


async def test_an_unknown_token_is_not_found_and_nothing_is_told(memory_world: Any) -> None:
    with pytest.raises(MissingAtPeer) as refusal:
        await memory_world.cpo.authorize("DEADBEEF")

    assert (refusal.value.http_status, refusal.value.status_code) == (404, 2004)


async def test_without_a_location_no_price_can_be_promised(memory_world: Any) -> None:
    await memory_world.enrol()
    client = await memory_world.cpo.client()
    url = client.url_of(ModuleID.TOKENS, InterfaceRole.SENDER, f"{RFID}/authorize")

    with pytest.raises(PeerRefused) as refusal:
        await client.send("POST", url, to_party=PartyId(MSP), correlation_id="c")

    assert refusal.value.status_code == 2002


async def test_a_location_nobody_told_us_of_is_refused(memory_world: Any) -> None:
    await memory_world.enrol()

    with pytest.raises(PeerRefused) as refusal:
        await memory_world.cpo.authorize(evse_uid="E9")

    assert refusal.value.status_code == 2003


async def test_a_blocked_driver_and_an_invalid_token_are_blocked(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    await memory_world.call("PATCH", f"/{MSP}/drivers/{driver_id}", {"is_blocked": True})
    blocked = await memory_world.cpo.authorize()
    await memory_world.call("PATCH", f"/{MSP}/drivers/{driver_id}", {"is_blocked": False})
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/tokens", {"uid": RFID, "is_valid": False})

    invalid = await memory_world.cpo.authorize()

    assert (blocked.allowed, invalid.allowed) == (AllowedType.BLOCKED, AllowedType.BLOCKED)
    assert blocked.authorization_reference is None


async def test_an_expired_agreement_refuses_the_charge(memory_world: Any) -> None:
    await memory_world.enrol()
    async with memory_world.ports.units.begin() as unit:
        row = (await unit.table(AGREEMENT).select())[0]
        ended = replace(row.agreement, valid_until=memory_world.clock.now())
        await unit.table(AGREEMENT).put(replace(row, agreement=ended))
        await unit.commit()

    assert (await memory_world.cpo.authorize()).allowed is AllowedType.NOT_ALLOWED


async def test_open_charges_use_up_the_credit_and_the_next_one_is_refused(memory_world: Any) -> None:
    # 15 kWh are assumed: 8.1675 each, so two fit into 20.
    await memory_world.enrol(credit_limit_e4=200_000)

    answers = [(await memory_world.cpo.authorize()).allowed for _ in range(3)]

    assert answers == [AllowedType.ALLOWED, AllowedType.ALLOWED, AllowedType.NO_CREDIT]


async def test_an_authorisation_nobody_used_frees_the_credit_again(memory_world: Any) -> None:
    await memory_world.enrol(credit_limit_e4=100_000)
    first = await memory_world.cpo.authorize()
    refused = await memory_world.cpo.authorize()

    memory_world.clock.step_by(timedelta(minutes=31))
    await memory_world.service.sweep()
    again = await memory_world.cpo.authorize()

    assert (refused.allowed, again.allowed) == (AllowedType.NO_CREDIT, AllowedType.ALLOWED)
    assert await quote_state(memory_world, first.authorization_reference) is QuoteState.EXPIRED


async def test_an_offer_nobody_took_is_not_kept(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    taken = await memory_world.quote(driver_id)
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": taken["quote_id"]})
    await memory_world.quote(driver_id)

    memory_world.clock.step_by(timedelta(minutes=31))
    await memory_world.service.sweep()

    async with memory_world.ports.units.begin() as unit:
        kept = await unit.table(QUOTE).select()
    assert [quote.quote_id for quote in kept] == [taken["quote_id"]]


async def test_an_unpaid_bill_blocks_the_token_until_another_card_pays(world: Any) -> None:
    driver_id = await world.enrol(credit_limit_e4=100_000, card=SandboxCard.DECLINED_AT_CAPTURE.value)
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    unpaid = await world.account(driver_id)
    refused = await world.cpo.authorize()

    await world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
    await world.quiet()
    paid = await world.account(driver_id)
    again = await world.cpo.authorize()

    assert (unpaid["paid_e4"], unpaid["outstanding_e4"]) == (0, 54_450)
    assert refused.allowed is AllowedType.BLOCKED
    assert (paid["paid_e4"], paid["outstanding_e4"]) == (54_400, 50)
    assert again.allowed is AllowedType.ALLOWED


async def test_a_plan_that_holds_the_card_refuses_a_card_that_is_declined(memory_world: Any) -> None:
    await memory_world.enrol(plan_id="plus", card=SandboxCard.INSUFFICIENT_FUNDS.value)

    assert (await memory_world.cpo.authorize()).allowed is AllowedType.NO_CREDIT


async def test_the_hold_is_captured_in_part_and_a_charge_beyond_it_is_charged_anew(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus", credit_limit_e4=10_000_000)
    small, large = await world.cpo.authorize(), await world.cpo.authorize(evse_uid="E2")
    first, first_cdr = await world.cpo.charge("S1", reference=small.authorization_reference, energy_wh=5_000)
    later = world.clock.now() + timedelta(minutes=61)
    second, second_cdr = await world.cpo.charge(
        "S2", reference=large.authorization_reference, energy_wh=30_000, started_at=later, evse_uid="E2"
    )

    for session in (first, second):
        await world.cpo.begin(replace(session, started_at=first.started_at))
    for session, cdr in ((first, first_cdr), (second, second_cdr)):
        await world.cpo.push_session(session)
        await world.cpo.post_cdr(cdr)
    await world.quiet()

    account = await world.account(driver_id)
    # (5 kWh + 30 kWh) at 0.30 and two fees of 0.35, plus 21 % VAT.
    assert account["billed_e4"] == 135_520
    assert account["outstanding_e4"] == account["billed_e4"] - account["paid_e4"] < 100
    assert sorted(await payment_kinds(world)) == ["CAPTURE", "CAPTURE", "CHARGE"]


async def test_a_start_that_the_station_refuses_gives_the_hold_back(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(plan_id="plus")
    quote = await memory_world.quote(driver_id)
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]})

    await memory_world.cpo.report_result(CommandResultType.EVSE_OCCUPIED)
    await memory_world.quiet()

    assert await quote_state(memory_world, quote["quote_id"]) is QuoteState.REFUSED
    assert await payment_kinds(memory_world) == [PaymentKind.RELEASE]


async def test_a_cpo_that_rejects_the_command_is_a_refusal_for_the_driver(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    quote = await memory_world.quote(driver_id)
    memory_world.cpo.command_answer = CommandResponseType.REJECTED

    answer = await memory_world.call(
        "POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]}, expect=409
    )

    assert answer["error"] == "StartRefused"
    assert await quote_state(memory_world, quote["quote_id"]) is QuoteState.REFUSED


async def test_a_quote_starts_one_charge_only(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    quote = await memory_world.quote(driver_id)
    path, body = f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]}
    await memory_world.call("POST", path, body)

    second = await memory_world.call("POST", path, body, expect=409)

    assert second["error"] == "QuoteUsed"
    assert len(memory_world.cpo.commands) == 1


async def test_two_starts_at_the_same_moment_send_one_command(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus")
    quote = await world.quote(driver_id)
    driving = world.driving

    outcomes = await asyncio.gather(
        *(driving.start(PartyId(MSP), driver_id, quote["quote_id"], correlation_id="c") for _ in range(4)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, QuoteUsed) for outcome in outcomes) == 3
    assert len(world.cpo.commands) == 1
    assert await payment_kinds(world) == []


async def test_an_expired_quote_starts_nothing(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    quote = await memory_world.quote(driver_id)
    memory_world.clock.step_by(timedelta(minutes=15))

    answer = await memory_world.call(
        "POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]}, expect=409
    )

    assert answer["error"] == "QuoteExpired"
    assert memory_world.cpo.commands == []


async def test_another_drivers_quote_starts_nothing(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    stranger = await memory_world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    quote = await memory_world.quote(driver_id)

    answer = await memory_world.call(
        "POST", f"/{MSP}/drivers/{stranger}/sessions", {"quote_id": quote["quote_id"]}, expect=409
    )

    assert answer["error"] == "QuoteOfAnother"


async def test_a_quote_that_was_changed_in_the_database_starts_nothing(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    quote = await memory_world.quote(driver_id)
    async with memory_world.ports.units.begin() as unit:
        row = await unit.table(QUOTE).get(PartyId(MSP), quote["quote_id"])
        dearer = replace(row.quote, estimate=None)
        await unit.table(QUOTE).put(replace(row, quote=dearer))
        await unit.commit()

    answer = await memory_world.call(
        "POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]}, expect=409
    )

    assert answer["error"] == "QuoteTampered"


async def test_a_result_for_an_unknown_or_used_callback_is_not_found(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    quote = await memory_world.quote(driver_id)
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]})
    await memory_world.cpo.report_result(CommandResultType.ACCEPTED)

    with pytest.raises(MissingAtPeer):
        await memory_world.cpo.report_result(CommandResultType.FAILED)

    assert await quote_state(memory_world, quote["quote_id"]) is QuoteState.AUTHORIZED


async def test_a_running_charge_can_be_stopped_by_its_driver_only(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    stranger = await memory_world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    running = replace(session, status=SessionStatus.ACTIVE, ended_at=None)
    await memory_world.cpo.push_session(running)

    await memory_world.call("POST", f"/{MSP}/drivers/{stranger}/sessions/S1/stop", expect=404)
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/sessions/S1/stop")

    assert [(kind, body["session_id"]) for kind, body in memory_world.cpo.commands] == [("STOP_SESSION", "S1")]


async def test_the_running_cost_is_the_retail_price_so_far(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference, energy_wh=2_000)

    await memory_world.cpo.push_session(session)

    charge = (await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/sessions"))[0]
    assert (charge["running_cost_e4"], charge["energy_wh"]) == (10_890, 2_000)


async def test_a_charge_that_moves_to_another_quote_leaves_the_first_with_its_hold(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus")
    first = (await world.cpo.authorize()).authorization_reference
    second = (await world.cpo.authorize()).authorization_reference
    session, cdr = await world.cpo.charge("S1", reference=second)

    await world.cpo.begin(replace(session, authorization_reference=first))
    await world.cpo.push_session(session)
    left = await quote_state(world, first)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    await world.cpo.push_session(replace(session, authorization_reference=first, last_updated=world.clock.now()))

    assert left is QuoteState.REFUSED
    assert (await quote_state(world, first), await quote_state(world, second)) == (left, QuoteState.BILLED)
    async with world.ports.units.begin() as unit:
        assert not [payment for payment in await unit.table(PAYMENT).select() if payment.is_open]
    assert len(await world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts")) == 1


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_charge_that_nothing_is_heard_of_frees_card_and_credit_and_its_late_cdr_is_billed(
    world: Any, *, has_ended: bool
) -> None:
    driver_id = await world.enrol(plan_id="plus")
    reference = (await world.cpo.authorize()).authorization_reference
    session, cdr = await world.cpo.charge("S1", reference=reference)
    await (world.cpo.push_session(session) if has_ended else world.cpo.begin(session))

    world.clock.step_by(SILENCE_MAX - timedelta(hours=1))
    await world.service.sweep()
    before = await quote_state(world, reference)
    world.clock.step_by(timedelta(hours=2))
    await world.service.sweep()
    await world.quiet()

    assert (before, await quote_state(world, reference)) == (QuoteState.RUNNING, QuoteState.REFUSED)
    async with world.ports.units.begin() as unit:
        assert not [payment for payment in await unit.table(PAYMENT).select() if payment.is_open]
    await world.cpo.push_session(replace(session, last_updated=world.clock.now()))
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    await world.call("POST", f"/{MSP}/cdrs/NL-TNM/S1/accept")
    await world.quiet()
    account = await world.account(driver_id)
    assert 0 < account["paid_e4"] <= account["billed_e4"] < account["paid_e4"] + 100


async def test_a_charge_whose_cdr_is_disputed_is_not_forgotten(memory_world: Any) -> None:
    await memory_world.enrol(plan_id="plus")
    reference = (await memory_world.cpo.authorize()).authorization_reference
    session, cdr = await memory_world.cpo.charge("S1", reference=reference)
    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(replace(cdr, total_cost=replace(cdr.total_cost, excl_e4=1)))
    await memory_world.quiet()

    memory_world.clock.step_by(2 * SILENCE_MAX)
    await memory_world.service.sweep()

    assert await quote_state(memory_world, reference) is QuoteState.RUNNING
