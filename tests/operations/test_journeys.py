"""From a tap to an issued CDR, by ways that are straight, crooked, repeated, late and forged."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest

from emobility.domain.meter import ReadingContext
from emobility.domain.session import AuthMethod, SessionStatus
from emobility.domain.token import Whitelist
from emobility.events.cdr import SessionQuarantined
from emobility.events.charging import IdTokenKind, TransactionUpdated
from emobility.events.event import Event
from emobility.ports.authorizer import AuthorizationStatus
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import SESSION
from tests.operations.world import CARD, CPO, START, World, open_for_business, reading, tariff_terms

NEVER: Final = datetime.min.replace(tzinfo=UTC)
FOREVER: Final = datetime.max.replace(tzinfo=UTC)
OTHER_CARD: Final = "04FFFFFFFF"


async def test_a_charge_becomes_a_cdr_at_the_emsp() -> None:
    async with open_for_business() as here:
        answer = await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started())
        await here.report(here.updated())
        here.clock.step_by(timedelta(hours=1))
        await here.report(here.ended())

        assert answer.status is AuthorizationStatus.ACCEPTED
        (cdr,) = await here.issued()
        assert cdr.total_energy_import_wh == 5_000
        assert cdr.total_cost.excl_e4 == 20_000  # 5 kWh at 0.30 and 0.50 per session
        assert [body["id"] for body in here.emsp.got("cdrs")] == [cdr.cdr_id]
        assert here.emsp.got("cdrs")[0]["total_cost"]["excl_vat"] == 2.0
        assert here.emsp.got("sessions")[-1]["status"] == "COMPLETED"
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_any_order_of_arrival_gives_the_same_cdr() -> None:
    async with open_for_business() as here:
        for number, order in enumerate(itertools.permutations(range(4))):
            name, at = str(number), number * 100
            await here.authorize(transaction_id=name, ocpp_evse_id=1)
            events = [
                await here.started(name, at=at, seq_no=0),
                here.updated(name, at=at + 30, seq_no=1),
                here.updated(name, at=at + 45, import_wh=4_500, seq_no=2),
                here.ended(name, at=at + 60, seq_no=3),
            ]

            for place in order:
                await here.report(events[place], settle=False)
                await here.report(events[place])

        cdrs = await here.issued()
        assert len(cdrs) == 24
        for cdr in cdrs:
            assert [period.energy_import_wh for period in cdr.periods] == [2_000, 1_500, 1_500]
            assert cdr.total_cost.excl_e4 == 20_000
        assert await here.ledger() == Ledger(metered=24 * 5_000, cdr=24 * 5_000)


async def test_a_stop_that_comes_twice_bills_once() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended(), here.ended())
        await here.report(here.ended())

        assert len(await here.issued()) == 1
        assert await here.state() == "BILLED"


async def test_the_price_is_the_one_in_force_at_the_start() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        here.clock.step_by(timedelta(minutes=30))
        await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", tariff_terms("9.99"))
        await here.report(await here.started(), here.ended())

        (cdr,) = await here.issued()
        assert cdr.total_cost.excl_e4 == 20_000
        assert cdr.tariff.elements[0].components[0].price == Decimal("0.30")


async def test_the_emsp_is_told_of_every_version_of_its_tariff_and_of_no_other() -> None:
    async with open_for_business() as here:
        here.clock.step_by(timedelta(minutes=30))
        await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", tariff_terms("9.99"))
        await here.settle()

        assert [body["id"] for body in here.emsp.got("tariffs")] == ["WHOLESALE", "WHOLESALE"]


async def test_a_card_the_emsp_must_allow_is_asked_about_and_its_reference_reaches_the_cdr() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)

        answer = await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())

        assert answer.status is AuthorizationStatus.ACCEPTED
        assert not answer.may_cache
        (cdr,) = await here.issued()
        assert cdr.auth_method is AuthMethod.AUTH_REQUEST
        assert cdr.authorization_reference == "quote-1"


async def test_a_tap_and_the_start_that_follows_ask_the_emsp_once() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)

        await here.authorize()
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.authorize(transaction_id="1", ocpp_evse_id=1)

        assert here.emsp.asked == 1


async def test_a_refused_driver_leaves_nothing_when_nothing_flowed() -> None:
    async with open_for_business() as here:
        await here.put_token(valid=False, whitelist=Whitelist.ALWAYS)
        answer = await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended(import_wh=1_000))

        assert answer.status is AuthorizationStatus.BLOCKED
        assert await here.state() == "DISMISSED"
        assert await here.quarantine() == []


async def test_energy_that_a_refused_driver_drew_is_quarantined() -> None:
    async with open_for_business() as here:
        await here.put_token(valid=False, whitelist=Whitelist.ALWAYS)
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended())

        (row,) = await here.quarantine()
        assert row.reasons == ("NO_AUTHORIZATION",)
        assert await here.issued() == []
        assert await here.ledger() == Ledger(metered=5_000, quarantined=5_000)


async def unlocked_by_another(here: World, **fields: Any) -> TransactionUpdated:
    """The report of a second card that was waved at the station while the first one's charge ran."""
    return replace(
        here.updated(seq_no=1, **fields), id_token=await here.seal(OTHER_CARD), id_token_kind=IdTokenKind.RFID
    )


async def test_a_driver_who_only_waved_his_card_does_not_pay_for_a_refused_one() -> None:
    async with open_for_business() as here:
        await here.put_token(uid=OTHER_CARD, contract_id="NL-EMP-C99999999-X")
        here.emsp.allowed = "BLOCKED"
        await here.authorize("DEADBEEF", transaction_id="1")
        await here.report(await here.started(seq_no=0, card="DEADBEEF"))
        here.emsp.allowed = "ALLOWED"
        other = await here.authorize(OTHER_CARD, transaction_id="1")
        await here.report(await unlocked_by_another(here), here.ended(seq_no=2))

        assert other.status is AuthorizationStatus.ACCEPTED
        assert [row.reasons for row in await here.quarantine()] == [("NO_AUTHORIZATION",)]
        assert await here.ledger() == Ledger(metered=5_000, quarantined=5_000)


async def test_the_card_that_opened_a_charge_pays_however_late_its_reports_come() -> None:
    async with open_for_business() as here:
        await here.put_token(uid=OTHER_CARD, contract_id="NL-EMP-C99999999-X")
        await here.authorize(transaction_id="1")
        here.clock.step_by(timedelta(seconds=1))
        await here.authorize(OTHER_CARD, transaction_id="1")
        late = await unlocked_by_another(here, is_offline=True)
        await here.report(await here.started(seq_no=0, is_offline=True), late, here.ended(seq_no=2, is_offline=True))

        (cdr,) = await here.issued()
        assert await here.ports.vault.open(cdr.token.uid) == CARD


async def test_a_station_that_was_offline_charged_a_whitelisted_card_rightly() -> None:
    async with open_for_business() as here:
        await here.report(await here.started(is_offline=True), here.ended(is_offline=True))

        (cdr,) = await here.issued()
        assert cdr.auth_method is AuthMethod.WHITELIST


async def test_a_real_time_card_can_not_have_been_let_in_offline() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        await here.report(await here.started(is_offline=True), here.ended(is_offline=True))

        (row,) = await here.quarantine()
        assert row.reasons == ("NO_AUTHORIZATION",)


async def test_a_register_that_ran_backwards_is_quarantined_whole() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.updated(import_wh=500), here.ended())

        (row,) = await here.quarantine()
        (fact,) = await here.events(SessionQuarantined)
        assert row.reasons == ("METER_RAN_BACKWARDS",)
        assert fact.energy_wh == row.energy_import_wh == 5_500
        assert here.emsp.got("sessions")[-1]["status"] == "INVALID"
        assert await here.ledger() == Ledger(metered=5_500, quarantined=5_500)


async def test_an_end_without_a_start_waits_and_is_quarantined_when_it_is_overdue() -> None:
    async with open_for_business() as here:
        await here.report(here.updated(), here.ended())
        assert await here.state() == "OPEN"
        assert await here.ledger() == Ledger(metered=3_000, open=3_000)

        here.clock.step_by(timedelta(hours=26))
        await here.until(here.quarantine)

        (row,) = await here.quarantine()
        assert row.reasons[0] == "SEQUENCE_GAP"
        assert await here.ledger() == Ledger(metered=3_000, quarantined=3_000)


async def test_a_missing_report_that_comes_after_all_heals_the_quarantine() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(seq_no=0), here.ended(seq_no=2))
        here.clock.step_by(timedelta(hours=26))
        await here.until(here.quarantine)

        await here.report(here.updated(seq_no=1))

        (cdr,) = await here.issued()
        assert cdr.total_energy_import_wh == 5_000
        assert await here.state() == "BILLED"
        assert await here.ledger() == Ledger(metered=5_000, cdr=5_000)


async def test_energy_that_is_reported_after_the_cdr_is_quarantined_and_can_be_billed_with_it() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended())
        await here.report(here.updated(at=62, import_wh=6_400))

        (row,) = await here.quarantine()
        assert row.reasons[0] == "LATE_EVENT_AFTER_CDR"
        assert await here.ledger() == Ledger(metered=5_400, cdr=5_000, quarantined=400)

        answer = await here.api(
            "POST",
            f"/{CPO}/quarantine/{row.quarantine_id}/resolve",
            {"outcome": "BILL", "who": "anna", "why": "the register shows it"},
        )
        await here.settle()

        assert answer.status_code == 200, answer.text
        first, credit, replacement = await here.cdrs_in_order()
        assert (credit.is_credit, credit.credit_reference_id) == (True, first.cdr_id)
        assert replacement.total_energy_import_wh == 5_400
        assert [body["id"] for body in here.emsp.got("cdrs")] == [first.cdr_id, credit.cdr_id, replacement.cdr_id]
        assert await here.ledger() == Ledger(metered=5_400, cdr=5_400)


async def test_an_unknown_evse_is_quarantined() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=9)
        await here.report(await here.started(evse=9), here.ended())

        (row,) = await here.quarantine()
        assert row.reasons == ("UNKNOWN_EVSE",)


async def test_two_transactions_of_one_evse_at_the_same_time_are_not_both_believed() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.authorize(transaction_id="2", ocpp_evse_id=1)
        await here.report(await here.started("1"), here.ended("1"))
        await here.report(await here.started("2", at=10), here.ended("2", at=50))

        (row,) = await here.quarantine()
        assert row.transaction_id == "2"
        assert row.reasons == ("OVERLAPPING_TRANSACTION",)


async def test_more_energy_than_the_connector_carries_is_quarantined() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended(import_wh=90_000))

        (row,) = await here.quarantine()
        assert row.reasons == ("ENERGY_IMPLAUSIBLE",)


@pytest.mark.parametrize("unset", [NEVER, datetime(1970, 1, 1, tzinfo=UTC), FOREVER - timedelta(hours=1)])
async def test_a_station_without_a_clock_is_quarantined_and_holds_up_nothing(unset: datetime) -> None:
    async with open_for_business() as here:
        later = unset + timedelta(minutes=30)
        begin = reading(unset, 1_000, ReadingContext.TRANSACTION_BEGIN)
        end = reading(later, 2_000, ReadingContext.TRANSACTION_END)
        await here.authorize(transaction_id="1")
        await here.report(replace(await here.started(begin=begin), occurred_at=unset))
        await here.report(replace(here.ended(end=end), occurred_at=later))
        await here.authorize(transaction_id="2", ocpp_evse_id=2)
        await here.report(await here.started("2", evse=2), here.ended("2"))

        assert await here.ports.event_log.parked("charging_operations") == []
        (row,) = await here.quarantine()
        assert "TIME_IMPLAUSIBLE" in row.reasons
        assert await here.ledger() == Ledger(metered=6_000, cdr=5_000, quarantined=1_000)


@pytest.mark.parametrize("unset", [NEVER, FOREVER])
async def test_a_clock_that_is_lost_while_charging_makes_the_session_invalid(unset: datetime) -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(seq_no=0), here.updated(seq_no=1))
        lost = reading(unset, 4_000, ReadingContext.SAMPLE_PERIODIC)
        await here.report(replace(here.updated(seq_no=2), occurred_at=unset, readings=(lost,)))
        end = reading(unset, 6_000, ReadingContext.TRANSACTION_END)
        await here.report(replace(here.ended(seq_no=3, end=end), occurred_at=unset))

        assert await here.ports.event_log.parked("charging_operations") == []
        (row,) = await here.quarantine()
        assert "TIME_IMPLAUSIBLE" in row.reasons
        assert here.emsp.got("sessions")[-1]["status"] == "INVALID"
        bill = {"outcome": "BILL", "who": "anna", "why": "she was there"}
        assert (await here.api("POST", f"/{CPO}/quarantine/{row.quarantine_id}/resolve", bill)).status_code == 409


async def test_an_end_in_a_wrong_year_does_not_overlap_all_that_follow() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.authorize(transaction_id="2")
        rolled_over = datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC)
        await here.report(await here.started(), replace(here.ended(), occurred_at=rolled_over))
        await here.report(await here.started("2", at=70, import_wh=6_000), here.ended("2", at=100, import_wh=8_000))

        assert [row.transaction_id for row in await here.quarantine()] == ["1"]
        assert await here.ledger() == Ledger(metered=7_000, cdr=2_000, quarantined=5_000)


async def test_an_end_days_ahead_of_its_arrival_is_quarantined_and_condemns_no_later_charge() -> None:
    async with open_for_business() as here:
        for number in ("1", "2"):
            await here.authorize(transaction_id=number)
        wrong = here.ended(at=20 * 24 * 60)
        await here.report(await here.started(), wrong, heard_at=START + timedelta(minutes=60))
        await here.report(await here.started("2", at=70, import_wh=6_000), here.ended("2", at=100, import_wh=8_000))

        (row,) = await here.quarantine()
        assert (row.transaction_id, row.reasons) == ("1", ("TIME_IMPLAUSIBLE",))
        assert await here.ledger() == Ledger(metered=7_000, cdr=2_000, quarantined=5_000)


async def test_a_clock_that_is_minutes_ahead_makes_no_overlap() -> None:
    async with open_for_business() as here:
        for number in ("1", "2"):
            await here.authorize(transaction_id=number)
        await here.report(await here.started(), here.ended(at=70), heard_at=START + timedelta(minutes=60))
        await here.report(await here.started("2", at=61, import_wh=6_000), here.ended("2", at=100, import_wh=8_000))

        assert await here.quarantine() == []
        assert await here.ledger() == Ledger(metered=7_000, cdr=7_000)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_who_stops_a_charge_never_pays_for_it_whatever_comes_first(order: tuple[int, ...]) -> None:
    async with open_for_business() as here:
        await here.put_token(uid=OTHER_CARD)
        for card in (CARD, OTHER_CARD):
            await here.authorize(card, transaction_id="1")
        reports: list[Event] = [
            replace(await here.started(seq_no=0), id_token=None),
            replace(here.updated(seq_no=1, at=5), id_token=await here.seal(), trigger="Authorized"),
            replace(here.updated(seq_no=2, at=50), id_token=await here.seal(OTHER_CARD), trigger="StopAuthorized"),
            replace(here.ended(seq_no=3), id_token=await here.seal(OTHER_CARD)),
        ]
        for place in order:
            await here.report(reports[place])

        (session,) = await here.rows(SESSION)
        (cdr,) = await here.issued()
        assert session.session.token.uid == await here.seal(CARD)
        assert cdr.token.uid == await here.seal(CARD)
        assert {body["cdr_token"]["uid"] for body in here.emsp.got("sessions")} == {CARD}
        assert cdr.total_cost.excl_e4 == 31_250  # and 45 minutes without a rise, at 1.50 per hour


async def test_energy_that_is_reported_after_a_dismissal_is_not_forgotten_over_a_gap() -> None:
    async with open_for_business() as here:
        await here.put_token(valid=False, whitelist=Whitelist.ALWAYS)
        await here.authorize(transaction_id="1")
        await here.report(await here.started(seq_no=0), here.ended(seq_no=1, at=1, import_wh=1_000))
        dismissed = await here.state()
        await here.report(here.updated(seq_no=3, at=1, import_wh=2_500))

        assert (dismissed, await here.state()) == ("DISMISSED", "OPEN")
        assert await here.ledger() == Ledger(metered=1_500, open=1_500)


async def test_a_value_that_is_no_number_is_quarantined() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        broken = reading(START + timedelta(minutes=60), None, ReadingContext.TRANSACTION_END, fault="'NaN'")
        await here.report(await here.started(), here.updated(), here.ended(end=broken))

        (row,) = await here.quarantine()
        assert row.reasons == ("NOT_A_NUMBER",)
        assert await here.ledger() == Ledger(metered=2_000, quarantined=2_000)


async def test_conflicting_content_under_one_number_is_kept_and_quarantined() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(seq_no=0), here.updated(seq_no=1))
        await here.report(here.updated(import_wh=3_500, at=31, seq_no=1), here.ended(seq_no=2))

        (row,) = await here.quarantine()
        assert row.reasons == ("CONFLICTING_CONTENT",)
        assert await here.ledger() == Ledger(metered=5_000, quarantined=5_000)


async def test_a_running_session_is_not_told_more_often_than_agreed() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started())
        for minute in range(1, 10):
            await here.report(here.updated(at=minute, import_wh=1_000 + minute * 100))
        here.clock.step_by(timedelta(minutes=10))
        await here.report(here.updated(at=11, import_wh=2_100))

        assert [body["kwh"] for body in here.emsp.got("sessions")] == [0, 1.1]
        (session,) = await here.rows(SESSION)
        assert session.session.status is SessionStatus.ACTIVE


async def test_the_same_journey_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await _busy_day(here)
        over_postgres = await _outcome(here)
    async with open_for_business() as here:
        await _busy_day(here)

        assert await _outcome(here) == over_postgres


async def _busy_day(here: World) -> None:
    await here.put_token(whitelist=Whitelist.ALLOWED_OFFLINE)
    for number in range(1, 6):
        await here.authorize(transaction_id=str(number), ocpp_evse_id=1 + number % 2)
        start = number * 70
        await here.report(
            here.ended(str(number), at=start + 60, import_wh=1_000 + number * 1_000),
            here.updated(str(number), at=start + 30, import_wh=1_500 if number != 4 else 100),
            await here.started(str(number), at=start, evse=1 + number % 2),
        )
    row = (await here.quarantine())[0]
    await here.api(
        "POST",
        f"/{CPO}/quarantine/{row.quarantine_id}/resolve",
        {"outcome": "BILL", "who": "anna", "why": "read on site", "proven_import_wh": 1_234, "rest": "WRITE_OFF"},
    )
    cdr = (await here.cdrs())[0]
    await here.api("POST", f"/{CPO}/cdrs/{cdr.cdr_id}/credit", {"reason": "disputed"})
    await here.settle()


async def _outcome(here: World) -> object:
    cdrs = sorted((cdr.cdr_id, cdr.total_cost, cdr.total_energy_import_wh) for cdr in await here.issued())
    return (
        [(cdr_id, cost.excl_e4, energy) for cdr_id, cost, energy in cdrs],
        [(row.quarantine_id, row.state, row.reasons, row.energy_import_wh) for row in await here.quarantine()],
        await here.ledger(),
        sorted(body["id"] for body in here.emsp.got("cdrs")),
    )
