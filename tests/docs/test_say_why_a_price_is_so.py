"""The page's example runs as it is printed, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from emobility.domain.cdr_difference import DifferenceCause, explain_difference
from emobility.domain.money import Price
from tests.domain.test_cdr import ORIGINAL

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "say-why-a-price-is-so.md"


def test_the_example_prints_what_the_page_says_and_the_mistake_has_the_name_it_gives() -> None:
    code, printed, *_ = re.findall(r"```(?:python)?\n(.*?)```", PAGE.read_text(), re.DOTALL)
    said = io.StringIO()
    names: dict[str, Any] = {}

    with contextlib.redirect_stdout(said):
        exec(code, names)  # noqa: S102 - the page's own code

    assert said.getvalue().startswith(printed)
    trail, periods = names["trail"], tuple(names["periods"])
    # 4.5 kWh at 0.20 and 1.5 kWh at 0.27.
    wrong = replace(
        ORIGINAL,
        tariff=names["tariff"],
        periods=periods,
        ended_at=periods[-1].started_at,
        total_cost=trail.priced.total,
        total_energy_cost=Price(excl_e4=13_050),
    )
    (difference,) = explain_difference(wrong, trail.priced)
    assert difference.cause is DifferenceCause.STEP_PER_PERIOD
    assert f'"expected_e4": {difference.expected_e4}, "stated_e4": {difference.stated_e4}' in PAGE.read_text()
