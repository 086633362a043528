"""OCPI states kWh with four decimals: what is less than a Wh counts too, and is rounded once."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.merging import merge_alike
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import explain, price_session
from emobility.domain.tariff.trail import audit_trail, tell
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import period_from_ocpi, period_to_ocpi
from emobility.protocols.ocpi.v221 import CdrDimension, CdrDimensionType
from tests.domain.tariff.builders import AMSTERDAM, MONDAY, component, element, minutes, tariff

THIRDS = ("0.3333", "0.3333", "0.3333")
END = MONDAY + minutes(30)


def stated(*kwh: str, kind: CdrDimensionType = CdrDimensionType.ENERGY) -> list[ChargingPeriod]:
    """Periods of ten minutes as a partner's document has them."""
    return [
        period_from_ocpi(
            v221.ChargingPeriod(
                start_date_time=MONDAY + number * minutes(10),
                dimensions=[CdrDimension(type=kind, volume=Decimal(volume))],
            )
        )
        for number, volume in enumerate(kwh)
    ]


@pytest.mark.parametrize("kind", [CdrDimensionType.ENERGY, CdrDimensionType.ENERGY_IMPORT])
def test_a_document_is_read_and_written_to_the_last_decimal(kind: CdrDimensionType) -> None:
    (period,) = stated("0.33335", kind=kind)

    assert period.net_wh == Fraction("333.35")
    assert period_to_ocpi(period).dimensions[0].volume == Decimal("0.33335")
    assert stated("0.333")[0].energy_rest_wh is None


@pytest.mark.parametrize(
    ("kwh", "step", "total_e4"),
    [
        (("5.3332", "5.3332", "5.3336"), 1, 160_000),  # in whole Wh per period: 16.000 as well
        (("0.3334", "0.3334", "0.3332"), 1, 10_000),  # in whole Wh per period: 0.999
        (THIRDS, 1, 10_000),  # 11.4.2: rounded up to a multiple of the step, which is 1 Wh
        (("0.5002", "0.5003"), 500, 15_000),  # just over two steps; in whole Wh per period: exactly two
        (("0.5", "0.5"), 500, 10_000),
    ],
)
def test_what_is_less_than_a_wh_is_rounded_once(kwh: tuple[str, ...], step: int, total_e4: int) -> None:
    charge = tariff(element(component("ENERGY", "1", step=step)))

    priced = price_session(charge, stated(*kwh), ended_at=END, time_zone=AMSTERDAM)

    assert priced.total.excl_e4 == total_e4


def test_two_prices_share_what_was_stated_exactly() -> None:
    charge = tariff(element(component("ENERGY", "1"), duration_s_max=600), element(component("ENERGY", "3")))

    priced = price_session(charge, stated("0.3334", "0.6666"), ended_at=END, time_zone=AMSTERDAM)

    assert priced.total.excl_e4 == 3_334 + 19_998


def test_the_threshold_of_an_element_is_reached_by_parts_of_a_wh() -> None:
    charge = tariff(element(component("ENERGY", "1"), energy_wh_max=1), element(component("ENERGY", "2")))

    below = price_session(charge, stated("0.0009", "1"), ended_at=END, time_zone=AMSTERDAM)
    reached = price_session(charge, stated("0.001", "1"), ended_at=END, time_zone=AMSTERDAM)

    assert [len(priced.lines) for priced in (below, reached)] == [1, 2]


def test_cutting_and_merging_lose_none_of_it() -> None:
    charge = tariff(element(component("ENERGY", "1"), duration_s_max=900), element(component("ENERGY", "1")))
    periods = stated(*THIRDS)

    cut = split_at_price_changes(charge, periods, ended_at=END, time_zone=AMSTERDAM)
    merged = merge_alike(charge, cut, ended_at=END, time_zone=AMSTERDAM)

    assert len(cut) > len(periods) > len(merged)
    for told in (cut, merged):
        assert sum(period.net_wh for period in told) == Fraction("999.9")


def test_people_and_auditors_are_told_all_decimals() -> None:
    charge = tariff(element(component("ENERGY", "1", step=500)))
    trail = audit_trail([charge], stated("0.3333", "0.2000"), ended_at=END, time_zone=AMSTERDAM)

    assert "(used 0.5333 kWh, billed in steps of 0.5 kWh)" in explain(trail.priced)
    assert "Step of 500 on 533.3 of ENERGY: 466.7 more" in tell(trail)


def test_a_period_of_less_than_half_a_wh_is_a_use_of_its_evse() -> None:
    (tiny,) = stated("0.0004")
    charge = tariff(element(component("ENERGY", "1")))

    priced = price_session(charge, [replace(tiny, reserved_s=60)], ended_at=END, time_zone=AMSTERDAM)

    assert priced.total.excl_e4 == 10
