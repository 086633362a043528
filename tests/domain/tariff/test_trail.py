"""The audit trail names the element, the restriction that kept each other out, and what step and limit did."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.money import Price
from emobility.domain.tariff.tariff import DayOfWeek, Reservation, TariffDimension
from emobility.domain.tariff.trail import AuditTrail, FailedRestriction, audit_trail, tell
from tests.domain.tariff.builders import AMSTERDAM, MONDAY, charging, component, element, minutes, parking, tariff
from tests.domain.tariff.cases import case

# MONDAY is Monday 02:00 in Amsterdam.


def trail_of(*elements: Any, **fields: Any) -> AuditTrail:
    periods = [charging(MONDAY, 60, 1_200, power_w_max=11_000), parking(MONDAY + minutes(60), 10)]
    return audit_trail([tariff(*elements, **fields)], periods, ended_at=MONDAY + minutes(70), time_zone=AMSTERDAM)


def test_each_element_that_was_passed_over_says_which_restriction_failed() -> None:
    trail = trail_of(
        element(component("ENERGY", "9"), start_time=time(9), end_time=time(17), days_of_week=(DayOfWeek.SUNDAY,)),
        element(component("ENERGY", "9"), power_w_max=11_000, energy_wh_min=500, duration_s_min=60),
        element(component("ENERGY", "9"), current_a_max=32),
        element(component("TIME", "9"), reservation=Reservation.RESERVATION),
        element(component("ENERGY", "0.25")),
    )

    energy = next(choice for choice in trail.choices if choice.dimension is TariffDimension.ENERGY)
    assert (energy.period_index, energy.element_index, energy.quantity) == (0, 4, 1_200)
    assert {passed.element_index: passed.failed for passed in energy.passed_over} == {
        0: (
            FailedRestriction(name="start_time, end_time", asked="09:00-17:00", found="02:00:00"),
            FailedRestriction(name="day_of_week", asked="SUNDAY", found="MONDAY"),
        ),
        1: (
            FailedRestriction(name="min_kwh", asked="from 0.5", found="0"),
            FailedRestriction(name="max_power", asked="below 11", found="11"),
            FailedRestriction(name="min_duration", asked="from 1 min", found="0 min"),
        ),
        2: (FailedRestriction(name="max_current", asked="below 32", found="not stated"),),
    }


def test_steps_limits_and_what_was_free_are_told() -> None:
    trail = trail_of(
        element(component("ENERGY", "0.25", step=500, vat="20")), price_max=Price(excl_e4=3_000, incl_e4=4_000)
    )

    assert tell(trail).splitlines() == [
        "Period 1, FLAT: free, no element applies.",
        "Period 1, ENERGY: element 1.",
        "Period 1, TIME: free, no element applies.",
        "Period 2, FLAT: free, no element applies.",
        "Period 2, PARKING_TIME: free, no element applies.",
        "Step of 500 on 1200 of ENERGY: 300 more, at the price of element 1.",
        "Maximum before tax: from 0.375 to 0.3.",
        "Maximum after tax: from 0.45 to 0.4.",
    ]


@given(seed=st.integers(0, 2**40))
def test_the_trail_chooses_what_the_engine_charges(seed: int) -> None:
    drawn = case(seed)

    trail = audit_trail([drawn.tariff], drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)

    charged = {
        (index, line.dimension, line.is_reservation): line.element_index
        for line in trail.priced.lines
        for index in line.period_indices
    }
    chosen = {
        (choice.period_index, choice.dimension, choice.is_reservation): choice.element_index
        for choice in trail.choices
        if choice.element_index is not None
    }
    assert chosen == charged


@given(seed=st.integers(0, 2**40))
def test_what_the_steps_added_is_what_the_lines_bill_beyond_use(seed: int) -> None:
    drawn = case(seed)
    trail = audit_trail([drawn.tariff], drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)

    assert sum(step.added for step in trail.steps) == sum(
        line.billed_quantity - line.quantity for line in trail.priced.lines
    )
    assert all((step.used + step.added) % step.step_size == 0 for step in trail.steps if step.used > 0)


def test_of_several_tariffs_the_trail_names_the_one_of_each_period() -> None:
    day, night = (tariff(element(component("ENERGY", "1")), tariff_id=name) for name in ("DAY", "NIGHT"))
    periods = [charging(MONDAY, 10, 100, tariff_id="night"), charging(MONDAY + minutes(10), 10, 100)]

    trail = audit_trail([day, night], periods, ended_at=MONDAY + minutes(20), time_zone=AMSTERDAM)

    energy = [choice for choice in trail.choices if choice.dimension is TariffDimension.ENERGY]
    assert [(choice.tariff_id, choice.element_index) for choice in energy] == [("NIGHT", 0), (None, None)]
    assert [replace(choice, tariff_id=None) for choice in energy] != energy
