"""The engine and the oracle, written separately from the same text, agree on generated sessions."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.tariff import TaxIncluded
from tests.domain.tariff.cases import case_of_2_3_0
from tests.domain.tariff.fuzz_pricing import difference

SESSIONS = 20 * int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "150"))
"""3,000; `make fuzz` with its 5,000 examples makes it 100,000."""
BLOCKS = [range(start, start + 500) for start in range(1_000_000, 1_000_000 + SESSIONS, 500)]


@pytest.mark.parametrize("seeds", BLOCKS, ids=lambda seeds: str(seeds.start))
def test_both_pricers_agree(seeds: range) -> None:
    differences = [found for found in map(difference, seeds) if found is not None]

    assert differences == []


def test_the_generated_sessions_put_every_rule_into_play() -> None:
    seen: Counter[str] = Counter()
    for seed in BLOCKS[0]:
        drawn = case_of_2_3_0(seed)
        tariffs = (drawn.tariff, *drawn.further_tariffs)
        priced = price_session_by_several(tariffs, drawn.periods, ended_at=drawn.ended_at, time_zone=drawn.time_zone)
        seen["limited"] += priced.limit_excl is not None
        seen["negative"] += priced.total.excl_e4 < 0
        seen["reservation"] += priced.reservation is not None
        seen["stepped"] += any(line.billed_quantity != line.quantity for line in priced.lines)
        seen["several elements"] += len({line.element_index for line in priced.lines}) > 1
        seen["one part free"] += priced.energy is None and priced.time is not None
        seen["without tax"] += priced.total.incl_e4 is None
        seen["spans a change"] += bool(priced.notes)
        seen["tax in prices"] += drawn.tariff.tax_included is TaxIncluded.YES
        seen["no tax at all"] += drawn.tariff.tax_included is TaxIncluded.NOT_APPLICABLE
        seen["several tariffs"] += len({line.tariff_id for line in priced.lines}) > 1
        seen["parts of a Wh"] += any(line.quantity % 1 != 0 for line in priced.lines)
        seen["fed in"] += any(period.energy_export_wh > period.energy_import_wh for period in drawn.periods)

    rare = {name: number for name, number in seen.items() if number < 10}
    assert rare == {}
