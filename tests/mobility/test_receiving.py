"""What CPOs send: repeated, changed, malformed, foreign, late and unforeseen documents."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from emobility.domain.cdr import credit_of
from emobility.domain.cdr_check import CDRFault
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.session import AuthMethod, SessionStatus
from emobility.events import codec
from emobility.events.cdr import AgreementSigned, CDRAccepted, CDRReceived
from emobility.ports.event_log import EVENT_BYTES_MAX, EventTooLarge
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import MissingAtPeer, PeerFailed, PeerRefused
from emobility.protocols.ocpi.headers import MESSAGE_ID_CHARACTERS_MAX
from emobility.protocols.ocpi.mapping import cdr_to_ocpi, owner_path, session_to_ocpi, tariff_to_ocpi
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.driver_mobility import receiving
from services.driver_mobility.checking import CDRChecking
from services.driver_mobility.records import (
    CDRS,
    LOCATION,
    QUOTE,
    TARIFF,
    CDRRecord,
    CDRState,
    PaymentKind,
    PaymentOrder,
    QuoteOrigin,
)
from tests.mobility.conftest import T0, agreement, energy_tariff, sign

MSP = PartyId("NL-EMA")
CPO = PartyId("NL-TNM")


def status_code(answer: Any) -> int:
    return int(msgspec.json.decode(answer.body)["status_code"])


async def charged(world: Any, **changes: Any) -> Any:
    """An authorised charge, reported as ended; returns its CDR."""
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference, **changes)
    await world.cpo.push_session(session)
    return cdr


async def test_the_same_cdr_twice_is_one(world: Any) -> None:
    driver_id = await world.enrol()
    cdr = await charged(world)

    first, second = await world.cpo.post_cdr(cdr), await world.cpo.post_cdr(cdr)
    await world.quiet()

    assert (status_code(first), status_code(second)) == (1000, 1000)
    assert first.headers["location"] == second.headers["location"]
    assert (await world.account(driver_id))["billed_e4"] == 54_450
    received = [e.envelope.event async for e in world.ports.event_log.read(["cdrs"])]
    assert sum(isinstance(event, CDRReceived) for event in received) == 1


async def test_the_same_cdr_posted_twice_at_once_is_taken_twice_and_kept_once(world: Any) -> None:
    driver_id = await world.enrol()
    cdr = await charged(world)
    world.cpo.pass_until(cdr.issued_at)

    answers = await asyncio.gather(*(world.cpo.post_cdr(cdr) for _ in range(4)))
    await world.quiet()

    assert [status_code(answer) for answer in answers] == [1000] * 4
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_another_content_under_the_same_id_is_refused_and_the_first_stands(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    cdr = await charged(memory_world)
    await memory_world.cpo.post_cdr(cdr)

    answer = await memory_world.cpo.post_cdr(replace(cdr, total_cost=Price(excl_e4=1)))
    await memory_world.quiet()

    assert status_code(answer) == 2001
    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


@pytest.mark.parametrize(
    "change",
    [
        {"total_cost": None},
        {"currency": "euro"},
        {"start_date_time": "yesterday"},
        {"total_energy": "NaN"},
        {"end_date_time": "9999-12-31T23:59:59Z"},
        {"start_date_time": "0001-01-01T00:00:00Z"},
        {"last_updated": "9999-12-31T23:59:59Z"},
        {"charging_periods": []},
        {"tariffs": []},
        {"session_id": None},
        {"credit": True},
        {"cdr_token": {"country_code": "NL"}},
        {"country_code": "DE"},
    ],
)
async def test_a_malformed_cdr_is_refused_with_2001_and_not_kept(memory_world: Any, change: dict[str, Any]) -> None:
    await memory_world.enrol()
    cdr = await charged(memory_world)
    wire = msgspec.json.decode(v221.write(await cdr_to_ocpi(cdr, memory_world.ports.vault)))
    wire |= change

    answer = await memory_world.cpo.post_wire(msgspec.json.encode(wire))

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert await memory_world.cdr_states() == {}


@pytest.mark.parametrize("body", [b"", b"not json", b'{"id": ', b"\xff\xfe"])
async def test_a_body_that_is_not_json_is_400(memory_world: Any, body: bytes) -> None:
    assert (await memory_world.cpo.post_wire(body)).status == 400


async def test_a_number_beyond_all_measure_is_refused(memory_world: Any) -> None:
    await memory_world.enrol()
    cdr = await charged(memory_world)
    wire = v221.write(await cdr_to_ocpi(cdr, memory_world.ports.vault))

    answer = await memory_world.cpo.post_wire(wire.replace(b'"total_energy":10.000', b'"total_energy":1e400'))

    assert status_code(answer) == 2001


async def test_a_cdr_of_an_unknown_token_is_disputed_and_nobody_is_billed(memory_world: Any) -> None:
    await memory_world.enrol()
    session, cdr = await memory_world.cpo.charge(
        "S1", reference=None, token=await memory_world.cpo.token("DEADBEEF"), auth_method=AuthMethod.WHITELIST
    )

    with pytest.raises(PeerRefused) as refusal:
        await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert refusal.value.status_code == 2004
    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["TOKEN_UNKNOWN"]


async def test_a_charge_by_whitelist_is_billed_by_the_drivers_plan(world: Any) -> None:
    driver_id = await world.enrol()
    session, cdr = await world.cpo.charge("S1", reference=None, auth_method=AuthMethod.WHITELIST)

    await world.cpo.begin(session)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()

    assert (await world.account(driver_id))["billed_e4"] == 54_450
    async with world.ports.units.begin() as unit:
        quotes = await unit.table(QUOTE).select({"party_id": MSP})
    assert [quote.origin for quote in quotes] == [QuoteOrigin.UNSEEN_START]


async def test_a_cdr_whose_session_was_never_pushed_is_billed_too(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    _, cdr = await memory_world.cpo.charge("S1", reference=None, auth_method=AuthMethod.WHITELIST)

    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


async def test_a_reference_to_another_drivers_quote_binds_nobody(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    stranger = await memory_world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    quote = await memory_world.quote(stranger)
    session, cdr = await memory_world.cpo.charge("S1", reference=quote["quote_id"])

    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450
    assert await memory_world.account(stranger) == {}


async def test_a_tariff_version_that_was_replaced_still_proves_an_older_session(memory_world: Any) -> None:
    await memory_world.enrol()
    cdr = await charged(memory_world)
    newer = replace(memory_world.cpo.tariff, last_updated=memory_world.clock.now(), elements=())
    dearer = replace(newer, elements=memory_world.cpo.tariff.elements[:1])
    await memory_world.cpo.push_tariff(dearer)

    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "ACCEPTED"}
    async with memory_world.ports.units.begin() as unit:
        assert await unit.table(TARIFF).count() == 2


async def test_after_a_change_the_new_version_is_quoted_and_the_old_one_proves_nothing_more(memory_world: Any) -> None:
    await memory_world.enrol(plan_id="plus")
    old = memory_world.cpo.tariff
    at = memory_world.clock.now()
    elements = tuple(
        replace(each, components=tuple(replace(part, price=part.price * 2) for part in each.components))
        for each in old.elements
    )
    await memory_world.cpo.push_tariff(replace(old, last_updated=at, elements=elements))
    memory_world.clock.step_by(timedelta(hours=1))

    info = await memory_world.cpo.authorize()
    session, cdr = await memory_world.cpo.charge(
        "S1", reference=info.authorization_reference, started_at=memory_world.clock.now()
    )
    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    async with memory_world.ports.units.begin() as unit:
        quote = await unit.table(QUOTE).get(MSP, info.authorization_reference)
    assert quote.quote.tariff.elements[0].components[0].price == Decimal("0.60")
    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["TARIFF_NOT_IN_FORCE"]
    assert [each.clause for each in memory_world.cpo.disputes] == [f"agreement {CPO}/{MSP}/TNM-EMA v1 §tariff_ids"]


async def test_a_version_that_came_after_the_charge_was_never_in_force_whatever_date_it_bears(
    memory_world: Any,
) -> None:
    driver_id = await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, honest = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.begin(session)
    await memory_world.cpo.push_session(session)

    memory_world.cpo.tariff = energy_tariff("3.00", at=T0 - timedelta(hours=1))
    await memory_world.cpo.push_tariff(memory_world.cpo.tariff)
    _, dear = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.post_cdr(dear)
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "DISPUTED"}
    assert memory_world.cpo.disputes[-1].reason == CDRFault.TARIFF_NOT_IN_FORCE
    assert await memory_world.account(driver_id) == {}

    later = honest.issued_at + timedelta(minutes=1)
    await memory_world.cpo.post_cdr(credit_of(dear, cdr_id="S1-C", issued_at=later, remark="wrong version"))
    await memory_world.cpo.post_cdr(replace(honest, cdr_id="S2", issued_at=later))
    await memory_world.quiet()
    assert (await memory_world.cdr_states())["S2"] == "ACCEPTED"


async def test_a_withdrawn_tariff_can_still_be_looked_up_by_its_old_sessions_only(memory_world: Any) -> None:
    await memory_world.enrol()
    cdr = await charged(memory_world)
    client = await memory_world.cpo.client()
    path = owner_path(CPO, "W1")

    await client.delete(ModuleID.TARIFFS, InterfaceRole.RECEIVER, path, to_party=MSP, correlation_id="c")

    with pytest.raises(MissingAtPeer):
        await client.get(ModuleID.TARIFFS, InterfaceRole.RECEIVER, path, to_party=MSP, correlation_id="c")
    assert (await memory_world.cpo.authorize()).allowed == "NOT_ALLOWED"
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()
    assert await memory_world.cdr_states() == {"S1": "ACCEPTED"}


async def test_an_older_session_state_that_comes_late_changes_nothing(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.push_session(session)

    await memory_world.cpo.begin(session)

    charge = (await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/sessions"))[0]
    assert (charge["status"], charge["energy_wh"]) == ("COMPLETED", 10_000)


async def test_a_patch_adds_charging_periods_and_keeps_exact_numbers(memory_world: Any) -> None:
    await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference, energy_wh=3_333)
    wire = await session_to_ocpi(session, memory_world.ports.vault)
    await memory_world.cpo.begin(session)
    client = await memory_world.cpo.client()
    path = owner_path(CPO, "S1")
    memory_world.clock.step_to(session.last_updated)

    changes = {"charging_periods": wire.charging_periods, "kwh": wire.kwh, "last_updated": wire.last_updated}
    await client.patch(ModuleID.SESSIONS, InterfaceRole.RECEIVER, path, changes, to_party=MSP, correlation_id="c")

    answer = await client.get(ModuleID.SESSIONS, InterfaceRole.RECEIVER, path, to_party=MSP, correlation_id="c")
    stored = answer.as_(v221.Session)
    assert (stored.kwh, len(stored.charging_periods)) == (wire.kwh, 1)
    assert stored.charging_periods == wire.charging_periods


async def test_a_patch_without_last_updated_is_2001(memory_world: Any) -> None:
    client = await memory_world.cpo.client()

    for module, path in ((ModuleID.LOCATIONS, "LOC1"), (ModuleID.SESSIONS, "S1")):
        with pytest.raises(PeerRefused) as refusal:
            await client.patch(
                module,
                InterfaceRole.RECEIVER,
                owner_path(CPO, path),
                {"kwh": 1},
                to_party=MSP,
                correlation_id="c",
            )
        assert refusal.value.status_code == 2001


@pytest.mark.parametrize("periods", [None, 5, {"start_date_time": "2022-03-27T08:00:00Z"}])
async def test_a_patch_whose_charging_periods_are_no_list_is_2001(memory_world: Any, periods: Any) -> None:
    await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.begin(session)
    client = await memory_world.cpo.client()

    with pytest.raises(PeerRefused) as refusal:
        await client.patch(
            ModuleID.SESSIONS,
            InterfaceRole.RECEIVER,
            owner_path(CPO, "S1"),
            {"charging_periods": periods, "last_updated": session.last_updated},
            to_party=MSP,
            correlation_id="c",
        )

    assert refusal.value.status_code == 2001


@pytest.mark.parametrize(
    ("below", "identity"),
    [
        ((), {"party_id": "VIC"}),
        ((), {"id": "VICTIM"}),
        (("E1",), {"uid": "E2"}),
        (("E1", "1"), {"id": "2"}),
    ],
)
async def test_a_patch_can_not_make_a_location_another_or_anothers(
    memory_world: Any, below: tuple[str, ...], identity: dict[str, str]
) -> None:
    client = await memory_world.cpo.client()
    async with memory_world.ports.units.begin() as unit:
        before = await unit.table(LOCATION).select()

    with pytest.raises(PeerRefused) as refusal:
        await client.patch(
            ModuleID.LOCATIONS,
            InterfaceRole.RECEIVER,
            owner_path(CPO, "LOC1", *below),
            {**identity, "last_updated": memory_world.clock.now()},
            to_party=MSP,
            correlation_id="c",
        )

    assert refusal.value.status_code == 2001
    async with memory_world.ports.units.begin() as unit:
        assert await unit.table(LOCATION).select() == before


async def test_an_evse_status_patch_raises_the_locations_last_updated(memory_world: Any) -> None:
    client = await memory_world.cpo.client()
    at = memory_world.clock.now() + timedelta(minutes=1)

    await client.patch(
        ModuleID.LOCATIONS,
        InterfaceRole.RECEIVER,
        owner_path(CPO, "LOC1", "E1"),
        {"status": "CHARGING", "last_updated": at},
        to_party=MSP,
        correlation_id="c",
    )

    answer = await client.get(
        ModuleID.LOCATIONS, InterfaceRole.RECEIVER, owner_path(CPO, "LOC1"), to_party=MSP, correlation_id="c"
    )
    location = answer.as_(v221.Location)
    assert [evse.status for evse in location.evses] == ["CHARGING", "AVAILABLE"]
    assert location.last_updated == at


async def test_a_party_cannot_push_in_anothers_name(memory_world: Any) -> None:
    client = await memory_world.cpo.client()
    foreign = replace(memory_world.cpo.tariff, party_id=PartyId("NL-XXX"))

    with pytest.raises(MissingAtPeer):
        await client.put(
            ModuleID.TARIFFS,
            InterfaceRole.RECEIVER,
            owner_path(PartyId("NL-XXX"), "W1"),
            tariff_to_ocpi(foreign),
            to_party=MSP,
            correlation_id="c",
        )


async def test_a_session_before_its_tariff_is_asked_for_again(memory_world: Any) -> None:
    await memory_world.enrol()
    session, _ = await memory_world.cpo.charge("S1", reference=None, auth_method=AuthMethod.WHITELIST)
    unknown = replace(session, location_id="LOC9")

    with pytest.raises(PeerFailed) as failure:
        await memory_world.cpo.push_session(unknown)

    assert failure.value.http_status == 503


async def test_an_invalid_session_gives_the_hold_back(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(plan_id="plus")
    info = await memory_world.cpo.authorize()
    session, _ = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.begin(session)

    await memory_world.cpo.push_session(replace(session, status=SessionStatus.INVALID))
    await memory_world.quiet()

    charge = (await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/sessions"))[0]
    assert charge["state"] == "REFUSED"
    again = await memory_world.cpo.authorize()
    assert again.allowed == "ALLOWED"


async def test_a_cdr_whose_acceptance_would_fit_in_no_event_is_refused(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory_world.enrol()
    cdr = await charged(memory_world)
    monkeypatch.setattr(receiving, "CDR_BYTES_MAX", 1_000)

    answer = await memory_world.cpo.post_cdr(cdr)

    assert (answer.status, status_code(answer)) == (200, 2001)
    assert await memory_world.cdr_states() == {}


async def test_what_is_taken_in_leaves_room_for_its_acceptance(memory_world: Any) -> None:
    await memory_world.enrol()
    await memory_world.cpo.post_cdr(await charged(memory_world))
    await memory_world.quiet()

    logged = [each.envelope async for each in memory_world.ports.event_log.read(["cdrs"])]
    size = {type(each.event): len(codec.encode_envelope(each)) for each in logged}

    assert size[CDRAccepted] - size[CDRReceived] + MESSAGE_ID_CHARACTERS_MAX < EVENT_BYTES_MAX - receiving.CDR_BYTES_MAX


async def test_a_cdr_that_breaks_the_sweep_keeps_no_other_from_being_decided(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = CDRChecking._accept

    async def nobody_looks(*_: object) -> None:
        return None

    async def breaks(self: CDRChecking, unit: Any, record: CDRRecord, **how: Any) -> None:
        if record.cdr_id == "S1":
            raise EventTooLarge(record.cdr_id)
        await accept(self, unit, record, **how)

    monkeypatch.setattr(CDRChecking, "_decide", nobody_looks)
    monkeypatch.setattr(CDRChecking, "_accept", breaks)
    await memory_world.enrol()
    for session_id, started_at in (("S1", T0), ("S2", T0 + timedelta(days=1))):
        session, cdr = await memory_world.cpo.charge(session_id, reference=None, started_at=started_at)
        await memory_world.cpo.push_session(session)
        await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()

    memory_world.clock.step_by(timedelta(hours=80))
    await memory_world.service.sweep()

    assert await memory_world.cdr_states() == {"S1": "RECEIVED", "S2": "ACCEPTED"}


async def test_what_nobody_decides_in_time_counts_as_accepted(world: Any) -> None:
    driver_id = await world.enrol()
    cdr = await charged(world)
    world.clock.step_to(cdr.issued_at)
    async with world.ports.units.begin() as unit:
        quotes = await unit.table(QUOTE).select({"party_id": MSP})
        undecided = CDRRecord(
            party_id=MSP,
            cpo_id=CPO,
            cdr_id="S1",
            session_id="S1",
            token_subject=cdr.token.uid.subject,
            started_at=cdr.started_at,
            ended_at=cdr.ended_at,
            received_at=cdr.issued_at,
            decide_by=cdr.issued_at + timedelta(hours=72),
            state=CDRState.RECEIVED,
            is_deemed=False,
            agreement_id="TNM-EMA",
            content_hash="0",
            quote_id=quotes[0].quote_id,
            cdr=cdr,
            findings=(),
            credited_by=None,
        )
        await unit.table(CDRS).insert(undecided)
        await unit.commit()

    world.clock.step_by(timedelta(hours=71))
    await world.service.sweep()
    before = await world.cdr_states()
    world.clock.step_by(timedelta(hours=1, seconds=1))
    await world.service.sweep()
    await world.quiet()

    assert before == {"S1": "RECEIVED"}
    assert await world.cdr_states() == {"S1": "ACCEPTED"}
    assert (await world.account(driver_id))["billed_e4"] == 54_450


async def test_an_operator_can_accept_what_was_disputed(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    cdr = await charged(memory_world)
    await memory_world.cpo.post_cdr(replace(cdr, total_cost=Price(excl_e4=1)))
    await memory_world.quiet()

    await memory_world.call("POST", f"/{MSP}/cdrs/{CPO}/S1/accept")
    await memory_world.call("POST", f"/{MSP}/cdrs/{CPO}/S1/accept", expect=409)
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "ACCEPTED"}
    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


async def test_an_operator_cannot_accept_a_second_cdr_of_a_session_until_the_first_is_credited(
    memory_world: Any,
) -> None:
    driver_id = await memory_world.enrol()
    cdr = await charged(memory_world)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()
    await memory_world.cpo.post_cdr(replace(cdr, cdr_id="S1-again"))
    await memory_world.quiet()

    await memory_world.call("POST", f"/{MSP}/cdrs/{CPO}/S1-again/accept", expect=409)
    await memory_world.quiet()
    assert await memory_world.cdr_states() == {"S1": "ACCEPTED", "S1-again": "WAITING"}
    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450

    await memory_world.cpo.post_cdr(credit_of(cdr, cdr_id="S1-C", issued_at=cdr.issued_at, remark="wrong"))
    await memory_world.quiet()
    assert (await memory_world.cdr_states())["S1-again"] == "ACCEPTED"
    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


async def test_a_credit_that_comes_twice_credits_once(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    cdr = await charged(memory_world)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()
    credit = credit_of(cdr, cdr_id="S1-C", issued_at=cdr.issued_at, remark="once")
    again = credit_of(cdr, cdr_id="S1-D", issued_at=cdr.issued_at, remark="twice")

    for document in (credit, credit, again):
        await memory_world.cpo.post_cdr(document)
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED", "S1-D": "DISPUTED"}
    assert [dispute.reason for dispute in memory_world.cpo.disputes] == ["CREDITED_TWICE"]
    account = await memory_world.account(driver_id)
    assert (account["billed_e4"], account["paid_e4"], account["outstanding_e4"]) == (0, 0, 0)


async def test_a_bill_credited_while_its_payment_is_under_way_is_paid_back(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    cdr = await charged(memory_world)
    may_answer, asked = asyncio.Event(), asyncio.Event()
    worker = memory_world.service._payments
    charge_card = worker._acts[PaymentKind.CHARGE]

    async def answer_late(order: PaymentOrder) -> str | None:
        asked.set()
        await may_answer.wait()
        paid: str | None = await charge_card(order)
        return paid

    worker._acts[PaymentKind.CHARGE] = answer_late
    await memory_world.cpo.post_cdr(cdr)
    await asked.wait()
    await memory_world.cpo.post_cdr(credit_of(cdr, cdr_id="S1-C", issued_at=cdr.issued_at, remark="at once"))
    await memory_world.caught_up()
    owed = await memory_world.account(driver_id)

    may_answer.set()
    await memory_world.quiet()

    account = await memory_world.account(driver_id)
    assert (owed["paid_e4"], owed["due_e4"], owed["carried_e4"]) == (0, 54_400, -54_400)
    assert (account["paid_e4"], account["due_e4"], account["carried_e4"]) == (0, 0, 0)
    assert [line["kind"] for line in account["lines"]].count("refund") == 1


async def test_nobody_without_a_token_gets_anything(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()

    for path in (f"/{MSP}/drivers/{driver_id}/account", f"/{MSP}/ledger", "/internal/backlog"):
        answer = await memory_world.http.request("GET", f"http://business/mobility{path}", headers={})
        assert answer.status == 401
    other = await memory_world.http.request(
        "GET", f"http://business/mobility/{MSP}/ocpi/2.2.1/tokens/sender", headers={}
    )
    assert other.status == 401


async def test_another_msps_driver_does_not_exist_here(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    await memory_world.call("PUT", "/NL-EMB", {"name": "Other"})

    await memory_world.call("GET", f"/NL-EMB/drivers/{driver_id}/sessions", expect=404)
    await memory_world.call("GET", f"/NL-EMB/drivers/{driver_id}/account", expect=404)


async def test_an_agreement_that_both_signed_is_told_once_by_the_msp(world: Any) -> None:
    terms = agreement()
    await sign(world, terms)
    await sign(world, replace(terms, version=2, dispute_period_h=1))

    events = [e.envelope.event async for e in world.ports.event_log.read(["cdrs"])]

    told = [event for event in events if isinstance(event, AgreementSigned)]
    assert [(event.holder, event.agreement.version) for event in told] == [(MSP, 1), (MSP, 2)]


async def test_two_drivers_at_one_evse_at_one_time_are_not_both_owed(memory_world: Any) -> None:
    world = memory_world
    await world.enrol()
    first = await charged(world)
    await world.cpo.post_cdr(first)
    await world.quiet()
    other = await world.cpo.token("04AABBCCDD99")
    session, second = await world.cpo.charge(
        "S2", reference=None, token=other, started_at=first.ended_at - timedelta(minutes=2)
    )
    _, after = await world.cpo.charge("S3", reference=None, token=other, started_at=first.ended_at)
    _, beside = await world.cpo.charge("S4", reference=None, token=other, started_at=first.started_at, evse_uid="E2")
    for each in (second, after, beside):
        await world.cpo.post_cdr(each)
    await world.quiet()

    async with world.ports.units.begin() as unit:
        found = {row.cdr_id: {each.fault for each in row.findings} for row in await unit.table(CDRS).select()}
    assert CDRFault.EVSE_IN_USE in found["S2"]
    assert not any(CDRFault.EVSE_IN_USE in found[name] for name in ("S1", "S3", "S4"))
    assert session.evse_uid == "E1"


async def test_a_token_that_charges_is_nowhere_else_until_it_ends(memory_world: Any) -> None:
    world = memory_world
    await world.enrol()
    first = await charged(world)
    await world.cpo.post_cdr(first)
    await world.quiet()
    for name, started_at in (("S2", first.ended_at - timedelta(minutes=1)), ("S3", first.ended_at)):
        _, each = await world.cpo.charge(name, reference=None, started_at=started_at, evse_uid="E2")
        await world.cpo.post_cdr(each)
    await world.quiet()

    async with world.ports.units.begin() as unit:
        found = {row.cdr_id: {each.fault for each in row.findings} for row in await unit.table(CDRS).select()}
    assert [CDRFault.OVERLAPS_ANOTHER_CDR in found[name] for name in ("S1", "S2", "S3")] == [False, True, False]


async def test_a_copy_with_other_content_is_refused_and_kept_apart(memory_world: Any) -> None:
    world = memory_world
    await world.enrol()
    cdr = await charged(world)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    dearer = replace(cdr, total_cost=Price(excl_e4=cdr.total_cost.excl_e4 + 1))

    answers = [await world.cpo.post_cdr(dearer) for _ in range(2)]
    (copy,) = await world.call("GET", f"/{MSP}/cdr-conflicts")

    assert [status_code(each) for each in answers] == [2001, 2001]
    assert (copy["cdr_id"], copy["total_excl_e4"] - copy["counted_excl_e4"]) == ("S1", 1)
    assert await world.cdr_states() == {"S1": "ACCEPTED"}
