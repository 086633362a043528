"""What the demo promises, on the run in memory: its size, its faults, and quote = bill for every session."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from emobility.domain.quote import gross_e4
from emobility.domain.tariff.pricing import price_session
from services.audit.audit import audit
from services.audit.books import Books
from services.audit.figures import Figures, figures_of
from services.charging_operations.records import QuarantineState, TransactionRecord, TransactionState
from services.driver_mobility.records import CDRState, PaymentState
from services.embedded.deterministic import MemoryRun
from simulator.market import day_ahead
from simulator.planning import plan_scenario
from simulator.report import Outcome, SessionOutcome
from simulator.scenario import Scenario, SessionFault
from simulator.stations.profile import OCPPVersion
from tests.journeys.runs import NEVER_NEEDED, SEED, full_memory_run

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def run() -> MemoryRun:
    return full_memory_run()


@pytest.fixture(scope="module")
def books(run: MemoryRun) -> Books:
    return run.books


@pytest.fixture(scope="module")
def figures(books: Books) -> Figures:
    return figures_of(books)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return plan_scenario(SEED)


def _hurt_by(run: MemoryRun, fault: SessionFault) -> SessionOutcome:
    (outcome,) = [each for each in run.report.sessions if each.fault == fault.value]
    return outcome


def _transaction_of(run: MemoryRun, outcome: SessionOutcome) -> TransactionRecord:
    (truth,) = [each for each in run.report.truth.transactions if each.local_id == outcome.local_id]
    (record,) = [
        each
        for each in run.books.cpo_transactions
        if (each.charging_station_id, each.transaction_id) == (truth.charging_station_id, truth.transaction_id)
    ]
    assert record.metered_import_wh == truth.metered_wh
    return record


# Its size


def test_two_cpos_two_msps_and_twenty_stations_of_both_versions_take_part(scenario: Scenario) -> None:
    versions = Counter(each.profile.version for each in scenario.stations)

    assert (len(scenario.cpos), len(scenario.emsps)) == (2, 2)
    assert versions == {OCPPVersion.OCPP16: 10, OCPPVersion.OCPP201: 6, OCPPVersion.OCPP21: 4}
    assert sum(len(each.evse_uids) for each in scenario.stations) == 40


def test_at_least_120_drivers_charge_and_two_in_five_of_them_roam(run: MemoryRun, figures: Figures) -> None:
    charged = [each for each in run.report.sessions if each.outcome is Outcome.CHARGED]

    assert len(charged) == figures.sessions >= 120
    assert 10 * sum(each.is_roaming for each in charged) >= 4 * len(charged)


def test_each_msp_pays_each_cpo(figures: Figures, scenario: Scenario) -> None:
    pairs = {(each.cpo, each.emsp) for each in figures.wholesale}

    assert pairs == {(cpo.party_id.code, emsp.party_id.code) for cpo in scenario.cpos for emsp in scenario.emsps}
    assert all(each.net_e4 > 0 for each in figures.wholesale)


def test_the_first_day_has_23_hours_and_the_second_hours_at_negative_prices(scenario: Scenario) -> None:
    short, negative = scenario.days
    midnights = [datetime.combine(short + timedelta(days=n), time(), ZoneInfo("Europe/Amsterdam")) for n in (0, 1)]

    assert midnights[1].astimezone(UTC) - midnights[0].astimezone(UTC) == timedelta(hours=23)
    assert (short.isoformat(), len(day_ahead(short))) == ("2022-03-27", 23)
    assert any(hour.eur_per_mwh < 0 for hour in day_ahead(negative))


def test_wholesale_follows_the_market_and_falls_below_zero_with_it(books: Books) -> None:
    prices = {
        component.price
        for row in books.cpo_cdrs
        for element in row.cdr.tariff.elements
        for component in element.components
    }

    assert len(prices) > 40
    assert min(prices) < 0 < max(prices)


# Its faults


def test_the_forged_meter_value_is_quarantined_and_nothing_else_is(run: MemoryRun, books: Books) -> None:
    forged = _transaction_of(run, _hurt_by(run, SessionFault.FORGED_METER_VALUE))

    (row,) = [each for each in books.quarantine if each.state is QuarantineState.OPEN]
    assert (row.transaction_id, row.reasons) == (forged.transaction_id, ("SIGNATURE_INVALID",))
    assert row.energy_import_wh == forged.metered_import_wh > 0
    assert forged.state is TransactionState.QUARANTINED
    assert not [each for each in books.cpo_cdrs if each.session_id == row.session_id]


def test_the_dispute_ends_in_a_credit_and_a_replacement_and_one_bill(run: MemoryRun, books: Books) -> None:
    session_id = _transaction_of(run, _hurt_by(run, SessionFault.DISPUTED)).session_id

    issued = {each.cdr_id: each for each in books.cpo_cdrs if each.session_id == session_id}
    original, credit, replacement = (issued[f"{session_id}{suffix}"] for suffix in ("", "-C1", "-R1"))
    assert len(issued) == 3
    assert original.credited_by == credit.cdr_id
    assert credit.cdr.total_cost == -original.cdr.total_cost
    assert replacement.cdr.total_cost == original.cdr.total_cost
    (dispute,) = books.emsp_disputes
    (answered,) = books.cpo_disputes
    assert (dispute.cdr_id, dispute.resolution) == (original.cdr_id, f"credited by {credit.cdr_id}")
    assert answered.answer == credit.cdr_id
    states = {each.cdr_id: each.state for each in books.emsp_cdrs if each.session_id == session_id}
    assert states[original.cdr_id] is CDRState.CREDITED
    assert states[replacement.cdr_id] is CDRState.ACCEPTED
    (bill,) = [each for each in books.bills if each.session_id == session_id]
    assert (bill.cdr_id, bill.credited_incl_e4) == (replacement.cdr_id, 0)


def test_the_declined_card_lets_nobody_charge(run: MemoryRun) -> None:
    refused = _hurt_by(run, SessionFault.CARD_DECLINED)

    assert (refused.outcome, refused.refusal, refused.local_id) == (Outcome.REFUSED, "PaymentDeclined", None)
    assert [each for each in run.report.sessions if each.outcome is not Outcome.CHARGED] == [refused]


def test_the_payment_declined_after_a_charge_leaves_its_bill_outstanding(run: MemoryRun, books: Books) -> None:
    session_id = _transaction_of(run, _hurt_by(run, SessionFault.PAYMENT_DECLINED)).session_id

    (bill,) = [each for each in books.bills if each.session_id == session_id]
    (order,) = [each for each in books.payment_orders if each.state is PaymentState.FAILED]
    whose = (bill.party_id, bill.driver_id)
    (account,) = [each for each in books.accounts if (each.party_id, each.driver_id) == whose]
    assert order.bill_id == bill.bill_id
    assert (account.paid_e4, account.outstanding_e4) == (0, bill.total_incl_e4)
    assert account.outstanding_e4 > 0


def test_a_stop_that_comes_twice_has_the_effect_of_one(run: MemoryRun, books: Books) -> None:
    record = _transaction_of(run, _hurt_by(run, SessionFault.END_SENT_TWICE))

    stops = [
        each
        for each in run.report.truth.acknowledged
        if each.action == "StopTransaction"
        and (each.charging_station_id, each.transaction_id) == (record.charging_station_id, record.transaction_id)
    ]
    assert (len(stops), len({each.content_hash for each in stops})) == (2, 1)
    assert record.state is TransactionState.BILLED
    (cdr,) = [each for each in books.cpo_cdrs if each.session_id == record.session_id]
    assert cdr.energy_import_wh == record.metered_import_wh
    assert len([each for each in books.bills if each.session_id == record.session_id]) == 1


@pytest.mark.parametrize("fault", [SessionFault.STATION_OFFLINE, SessionFault.STATION_REBOOTS])
def test_a_station_that_goes_away_in_a_charge_loses_nothing(run: MemoryRun, books: Books, fault: SessionFault) -> None:
    outcome = _hurt_by(run, fault)
    record = _transaction_of(run, outcome)

    (truth,) = [each for each in run.report.truth.transactions if each.local_id == outcome.local_id]
    (cdr,) = [each for each in books.cpo_cdrs if each.session_id == record.session_id]
    assert truth.was_offline or fault is SessionFault.STATION_REBOOTS
    assert truth.is_end_acknowledged
    assert record.state is TransactionState.BILLED
    assert cdr.energy_import_wh == truth.metered_wh
    assert (truth.metered_wh or 0) > 0


def test_intruders_are_refused(run: MemoryRun) -> None:
    refusals = Counter((each.split(" at ")[0], each.split(": ")[1]) for each in run.report.intrusions)

    # OCPP 1.6 knows no more than Invalid; 2.0.1 says Unknown.
    assert set(refusals) <= {("unknown card", "Invalid"), ("unknown card", "Unknown"), ("wrong password", "401")}
    assert {kind for kind, _ in refusals} == {"unknown card", "wrong password"}


# Its sums


def test_every_rule_of_the_audit_holds_and_was_tried_on_something(run: MemoryRun) -> None:
    report = audit(run.books, run.report.truth.as_json(), sight=run.sight)

    assert report.differences == ()
    assert report.waiting == ()
    assert {each.rule for each in report.checks if each.compared == 0} == NEVER_NEEDED


def test_what_the_meters_moved_is_metered_and_accounted_for(run: MemoryRun, figures: Figures) -> None:
    energy = figures.energy

    assert figures.metered_wh == run.report.truth.metered_wh > 0
    assert figures.metered_wh == energy.cdr_wh + energy.quarantined_wh + energy.waived_wh + energy.open_wh
    assert energy.quarantined_wh > 0
    assert energy.open_wh == 0


def test_every_bill_is_what_the_quote_before_the_charge_says(books: Books) -> None:
    cdrs = {(row.party_id, row.cpo_id, row.cdr_id): row.cdr for row in books.emsp_cdrs}

    for bill in books.bills:
        quote = books.quotes[bill.party_id.code, bill.quote_id].quote
        cdr = cdrs[bill.party_id, bill.cpo_id, bill.cdr_id]
        priced = price_session(quote.tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=quote.time_zone)
        assert quote.issued_at <= cdr.started_at
        assert bill.total_incl_e4 == gross_e4(priced.total)
    assert len(books.bills) == sum(row.credited_by is None and not row.is_credit for row in books.cpo_cdrs) >= 120


def test_what_drivers_were_billed_they_paid_or_owe(figures: Figures) -> None:
    for each in figures.retail:
        assert each.billed_e4 == each.paid_e4 + each.outstanding_e4
        assert 0 < each.outstanding_e4 < each.paid_e4


def test_the_station_that_was_away_tells_of_the_end_afterwards(run: MemoryRun) -> None:
    outcome = _hurt_by(run, SessionFault.STATION_OFFLINE)
    record = _transaction_of(run, outcome)

    ends = [each for each in record.transaction.reports if each.kind.value == "ENDED"]
    late = [
        each
        for each in run.report.truth.acknowledged
        if each.charging_station_id == outcome.charging_station_id and each.acknowledged_at > outcome.leaves_at
    ]
    assert len(ends) == 1
    assert ends[0].occurred_at <= outcome.leaves_at
    assert late
