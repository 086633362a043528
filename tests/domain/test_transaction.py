"""A transaction is the set of its reports: order, repetition and lateness change nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain import transaction as transaction_module
from emobility.domain.charging_periods import charging_periods
from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.personal import Sealed
from emobility.domain.transaction import (
    Metered,
    Report,
    ReportKind,
    Transaction,
    has_conflict,
    is_complete,
    metered_wh,
    sequence_gaps,
    session_id_of,
)
from emobility.domain.transaction_faults import CLOCK_AHEAD_MAX, FaultReason, faults
from emobility.events.charging import (
    AuthorizationDecided,
    IdTokenKind,
    TransactionEnded,
    TransactionStarted,
    TransactionUpdated,
)
from emobility.events.fold import TransactionReport, apply

CPO = PartyId("NL-TNM")
START = datetime(2022, 3, 27, 0, 30, tzinfo=UTC)
TOKEN = Sealed(subject="ab" * 32, box=b"0123456789ab-token")


def read(minute: int, import_wh: int | None, export_wh: int | None = None, fault: str | None = None) -> MeterReading:
    return MeterReading(at=START + timedelta(minutes=minute), import_wh=import_wh, export_wh=export_wh, fault=fault)


def started(
    import_wh: int | None = 1_000, *, seq_no: int | None = None, state: str | None = None
) -> TransactionStarted:
    begin = MeterReading(at=START, context=ReadingContext.TRANSACTION_BEGIN, import_wh=import_wh)
    return TransactionStarted(
        party_id=CPO,
        charging_station_id="CS1",
        transaction_id="7",
        occurred_at=START,
        seq_no=seq_no,
        readings=() if import_wh is None else (begin,),
        ocpp_evse_id=1,
        connector_id=1,
        id_token=TOKEN,
        id_token_kind=IdTokenKind.RFID,
        charging_state=state,
    )


def updated(
    minute: int, *readings: MeterReading, seq_no: int | None = None, state: str | None = None
) -> TransactionUpdated:
    return TransactionUpdated(
        party_id=CPO,
        charging_station_id="CS1",
        transaction_id="7",
        occurred_at=START + timedelta(minutes=minute),
        seq_no=seq_no,
        readings=readings,
        charging_state=state,
    )


def ended(minute: int, import_wh: int | None, *, seq_no: int | None = None) -> TransactionEnded:
    return TransactionEnded(
        party_id=CPO,
        charging_station_id="CS1",
        transaction_id="7",
        occurred_at=START + timedelta(minutes=minute),
        seq_no=seq_no,
        readings=() if import_wh is None else (read(minute, import_wh),),
        stopped_reason="Local",
    )


def decided(number: int) -> AuthorizationDecided:
    return AuthorizationDecided(
        party_id=CPO,
        charging_station_id="CS1",
        authorization_id=f"a{number}",
        subject=TOKEN.subject,
        is_accepted=True,
        reason="WHITELISTED",
        decided_at=START,
        transaction_id="7",
    )


def fold(events: list[TransactionReport | AuthorizationDecided]) -> Transaction:
    transaction: Transaction | None = None
    for event in events:
        transaction = apply(transaction, event)
    assert transaction is not None
    return transaction


@st.composite
def histories(draw: st.DrawFn) -> list[TransactionReport | AuthorizationDecided]:
    """A whole transaction of either OCPP version; registers may do anything."""
    has_numbers = draw(st.booleans())
    count = draw(st.integers(0, 6))
    minutes = sorted(draw(st.lists(st.integers(1, 300), min_size=count, max_size=count)))
    events: list[TransactionReport | AuthorizationDecided] = [
        started(draw(REGISTER), seq_no=0 if has_numbers else None)
    ]
    for place, minute in enumerate(minutes, start=1):
        readings = [read(minute, draw(REGISTER), draw(REGISTER)) for _ in range(draw(st.integers(0, 2)))]
        state = draw(st.sampled_from([None, "Charging", "SuspendedEV"])) if has_numbers else None
        events.append(updated(minute, *readings, seq_no=place if has_numbers else None, state=state))
    events.append(ended(301, draw(REGISTER), seq_no=count + 1 if has_numbers else None))
    events.extend(decided(number) for number in range(draw(st.integers(0, 2))))
    return events


REGISTER = st.one_of(st.none(), st.integers(0, 90_000))


@given(events=histories(), seed=st.integers(0, 2**32))
def test_any_order_and_repetition_of_the_same_events_gives_the_same_transaction(
    events: list[TransactionReport | AuthorizationDecided], seed: int
) -> None:
    chance = random.Random(seed)
    shuffled = [*events, *chance.choices(events, k=len(events))]
    chance.shuffle(shuffled)

    assert fold(shuffled) == fold(events)


@given(events=histories())
def test_periods_hold_exactly_the_metered_energy_and_the_whole_time(
    events: list[TransactionReport | AuthorizationDecided],
) -> None:
    transaction = fold(events)

    periods = charging_periods(transaction)

    metered = Metered(
        import_wh=sum(period.energy_import_wh for period in periods),
        export_wh=sum(period.energy_export_wh for period in periods),
    )
    assert metered == metered_wh(transaction)
    assert sum(period.charging_s + period.parking_s for period in periods) == 301 * 60
    assert all(not (period.charging_s and period.parking_s) for period in periods)


@given(events=histories())
def test_periods_follow_each_other_without_gap(events: list[TransactionReport | AuthorizationDecided]) -> None:
    periods = charging_periods(fold(events))

    moment = START
    for period in periods:
        assert period.started_at == moment
        moment += timedelta(seconds=period.charging_s + period.parking_s)
    assert moment == START + timedelta(minutes=301)


@given(events=histories(), place=st.integers(0, 20))
def test_a_further_event_never_makes_the_metered_energy_less(
    events: list[TransactionReport | AuthorizationDecided], place: int
) -> None:
    fewer = [event for index, event in enumerate(events) if index != place % len(events)]

    before, after = metered_wh(fold(fewer)), metered_wh(fold(events))

    assert before.import_wh <= after.import_wh
    assert before.export_wh <= after.export_wh


@given(steps=st.lists(st.integers(0, 5_000), min_size=1, max_size=8))
def test_registers_that_only_rise_give_last_minus_first(steps: list[int]) -> None:
    events: list[TransactionReport | AuthorizationDecided] = [started(1_000)]
    register = 1_000
    for minute, step in enumerate(steps, start=1):
        register += step
        events.append(updated(minute, read(minute, register)))
    events.append(ended(100, register))

    assert metered_wh(fold(events)) == Metered(import_wh=register - 1_000, export_wh=0)


def test_an_end_without_a_start_stays_open_and_is_kept() -> None:
    transaction = fold([ended(60, 5_000)])

    assert not is_complete(transaction)
    assert transaction.ended is not None


def test_a_start_that_comes_after_its_end_completes_the_transaction() -> None:
    assert is_complete(fold([ended(60, 5_000), started()]))


def test_a_missing_sequence_number_keeps_the_transaction_open() -> None:
    transaction = fold([started(seq_no=0), updated(10, seq_no=1), ended(60, 5_000, seq_no=3)])

    assert sequence_gaps(transaction) == (range(2, 3),)
    assert not is_complete(transaction)
    assert [fault.reason for fault in faults(transaction)] == [FaultReason.SEQUENCE_GAP]


@given(known=st.sets(st.integers(-3, 40), max_size=12))
def test_the_gaps_hold_each_number_below_the_highest_that_no_report_carries(known: set[int]) -> None:
    transaction = fold([started(seq_no=0), *(updated(number + 4, seq_no=number) for number in known)])

    missing = [number for gap in sequence_gaps(transaction) for number in gap]

    assert missing == [number for number in range(max({0, *known})) if number not in known | {0}]


def test_an_absurd_sequence_number_costs_nothing_by_its_size() -> None:
    transaction = fold([started(seq_no=0), updated(10, seq_no=2), ended(60, 5_000, seq_no=2**53 - 1)])

    (fault,) = faults(transaction)

    assert not is_complete(transaction)
    assert fault.detail == f"seq_no 1, 3 to {2**53 - 2} never came"


@given(events=histories(), seed=st.integers(0, 2**32), most=st.integers(1, 6))
def test_of_too_many_readings_the_same_are_kept_in_any_order(
    events: list[TransactionReport | AuthorizationDecided], seed: int, most: int
) -> None:
    chance = random.Random(seed)
    shuffled = [*events, *chance.choices(events, k=len(events))]
    chance.shuffle(shuffled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction_module, "READINGS_MAX", most)
        kept, again = fold(events), fold(shuffled)

    assert kept == again
    assert kept.started is not None
    assert kept.ended is not None
    assert len(kept.reports) <= len(ReportKind) * most


def test_a_transaction_of_too_many_readings_is_bounded_named_and_keeps_its_energy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transaction_module, "READINGS_MAX", 50)
    events: list[TransactionReport | AuthorizationDecided] = [
        started(1_000, seq_no=0),
        *(updated(number, read(number, 1_000 + number), seq_no=number) for number in range(1, 300)),
        ended(300, 1_300, seq_no=300),
    ]

    transaction = fold(events)

    assert len(transaction.reports) == 52
    assert is_complete(transaction)
    assert metered_wh(transaction).import_wh == 300
    assert faults(transaction)[0].reason is FaultReason.TOO_MANY_READINGS
    assert apply(transaction, updated(299, read(299, 1_299), seq_no=299)) is transaction


def test_a_report_is_placed_without_looking_at_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = fold([started(seq_no=0), *(updated(number, seq_no=number) for number in range(1, 1_000))])
    looked_at = 0
    order = transaction_module._order

    def counted(report: Report) -> tuple[int, str, int, str]:
        nonlocal looked_at
        looked_at += 1
        return order(report)

    monkeypatch.setattr(transaction_module, "_order", counted)
    apply(transaction, updated(1_000, seq_no=1_000))

    assert looked_at < 15


def test_the_late_event_closes_the_gap() -> None:
    events: list[TransactionReport | AuthorizationDecided] = [
        started(seq_no=0),
        ended(60, 5_000, seq_no=2),
        updated(10, seq_no=1),
    ]

    assert is_complete(fold(events))


def test_the_same_sequence_number_with_other_content_is_a_conflict_and_both_are_kept() -> None:
    transaction = fold([started(seq_no=0), ended(60, 5_000, seq_no=1), ended(60, 9_000, seq_no=1)])

    assert has_conflict(transaction)
    assert len(transaction.reports) == 3


def test_a_stop_that_comes_twice_with_the_same_content_is_no_conflict() -> None:
    transaction = fold([started(), ended(60, 5_000), ended(60, 5_000)])

    assert not has_conflict(transaction)
    assert faults(transaction) == ()


def test_a_register_that_ran_backwards_is_named_and_its_rises_still_count() -> None:
    transaction = fold([started(1_000), updated(10, read(10, 500)), ended(60, 5_000)])

    assert metered_wh(transaction) == Metered(import_wh=4_500, export_wh=0)
    assert [fault.reason for fault in faults(transaction)] == [FaultReason.METER_RAN_BACKWARDS]


def test_a_value_that_is_no_number_is_named() -> None:
    transaction = fold([started(), updated(10, read(10, None, fault="NaN")), ended(60, 5_000)])

    assert [fault.reason for fault in faults(transaction)] == [FaultReason.NOT_A_NUMBER]


def test_more_energy_than_the_connector_can_carry_is_implausible() -> None:
    transaction = fold([started(1_000), ended(60, 1_000 + 12_102)])

    assert [fault.reason for fault in faults(transaction, power_w_max=11_000)] == [FaultReason.ENERGY_IMPLAUSIBLE]
    assert faults(fold([started(1_000), ended(60, 1_000 + 12_101)]), power_w_max=11_000) == ()


def test_an_end_before_the_start_is_implausible() -> None:
    reasons = [fault.reason for fault in faults(fold([started(), ended(-10, 1_000)]))]

    assert FaultReason.TIME_IMPLAUSIBLE in reasons


def test_an_end_without_any_register_value_can_not_be_trusted() -> None:
    assert [fault.reason for fault in faults(fold([started(None), ended(60, None)]))] == [
        FaultReason.METER_VALUES_MISSING
    ]


def test_readings_are_taken_by_their_own_time_whatever_report_carries_them() -> None:
    transaction = fold([started(1_000), updated(50, read(40, 4_000), read(20, 2_000)), ended(60, 5_000)])

    periods = charging_periods(transaction)

    assert [period.energy_import_wh for period in periods] == [1_000, 2_000, 1_000]
    assert faults(transaction) == ()


def test_a_stretch_without_energy_is_parking() -> None:
    periods = charging_periods(fold([started(1_000), updated(30, read(30, 5_000)), ended(90, 5_000)]))

    assert [(period.charging_s, period.parking_s) for period in periods] == [(1_800, 0), (0, 3_600)]


def test_a_change_of_charging_state_cuts_a_stretch_and_energy_lies_where_it_charged() -> None:
    events: list[TransactionReport | AuthorizationDecided] = [
        started(1_000, seq_no=0, state="Charging"),
        updated(45, seq_no=1, state="SuspendedEV"),
        ended(60, 4_000, seq_no=2),
    ]

    periods = charging_periods(fold(events))

    assert [(each.energy_import_wh, each.charging_s, each.parking_s) for each in periods] == [
        (3_000, 2_700, 0),
        (0, 0, 900),
    ]


def test_energy_fed_into_the_grid_has_its_own_sum() -> None:
    transaction = fold(
        [started(1_000), updated(10, read(10, 1_000, 0)), updated(20, read(20, 1_000, 700)), ended(30, 1_200)]
    )

    assert metered_wh(transaction) == Metered(import_wh=200, export_wh=700)


def test_a_session_id_is_the_same_each_time_and_fits_ocpi() -> None:
    first = session_id_of(CPO, "CS1", "7", START)

    assert first == session_id_of(CPO, "CS1", "7", START)
    assert len(f"{first}-R99") <= 36
    assert first != session_id_of(CPO, "CS1", "8", START)


def test_an_event_of_another_transaction_is_refused() -> None:
    stranger = TransactionEnded(party_id=CPO, charging_station_id="CS2", transaction_id="7", occurred_at=START)

    with pytest.raises(AssertionError):
        apply(fold([started()]), stranger)


def test_energy_that_rose_at_the_very_first_moment_is_in_the_first_period() -> None:
    jumped = updated(0, read(0, 1_400))
    transaction = fold([started(1_000), jumped, ended(60, 5_000)])

    periods = charging_periods(transaction)

    assert metered_wh(transaction) == Metered(import_wh=4_000, export_wh=0)
    assert [(each.energy_import_wh, each.charging_s) for each in periods] == [(4_000, 3_600)]


def test_a_transaction_of_no_length_keeps_its_energy() -> None:
    periods = charging_periods(fold([started(1_000), ended(0, 1_200)]))

    assert [(each.energy_import_wh, each.charging_s, each.parking_s) for each in periods] == [(200, 0, 0)]


def test_the_mean_power_lies_between_the_least_and_the_most() -> None:
    idle = MeterReading(at=START + timedelta(minutes=30), import_wh=4_000, power_w=0)
    full = MeterReading(at=START + timedelta(minutes=60), import_wh=4_100, power_w=11_000)

    first, second, last = charging_periods(
        fold([started(1_000), updated(30, idle), updated(60, full), ended(90, 5_000)])
    )

    assert (first.power_w_min, first.power_w_max) == (0, 6_000)
    assert (second.power_w_min, second.power_w_max) == (200, 11_000)
    assert (last.power_w_min, last.power_w_max) == (None, None)


def test_moments_are_cut_to_whole_seconds_so_that_partners_price_the_same_periods() -> None:
    late = MeterReading(at=START + timedelta(minutes=30, milliseconds=600), import_wh=3_000)
    transaction = fold([started(1_000), updated(30, late), ended(60, 5_000)])

    assert all(period.started_at.microsecond == 0 for period in charging_periods(transaction))


def test_a_token_that_only_stops_is_never_the_one_it_was_opened_with() -> None:
    stopping = replace(updated(50, seq_no=1), id_token=TOKEN, trigger="StopAuthorized")

    assert fold([replace(started(seq_no=0), id_token=None), stopping]).id_token is None


def test_a_token_is_not_settled_while_an_earlier_report_is_missing() -> None:
    opened = replace(started(seq_no=0), id_token=None)
    later = replace(updated(50, seq_no=2), id_token=TOKEN)

    assert not fold([opened, later]).is_token_settled
    assert fold([opened, updated(5, seq_no=1), later]).is_token_settled
    assert fold([started(seq_no=0), later]).is_token_settled


def test_an_end_far_ahead_of_its_arrival_is_implausible() -> None:
    transaction = fold([started(), ended(60, 2_000)])
    arrived_at = START + timedelta(minutes=60)

    assert faults(transaction, end_arrived_at=arrived_at - CLOCK_AHEAD_MAX) == ()
    (fault,) = faults(transaction, end_arrived_at=arrived_at - CLOCK_AHEAD_MAX - timedelta(seconds=1))
    assert fault.reason is FaultReason.TIME_IMPLAUSIBLE
