"""What README.md says of the test cases is what the modules drive."""

from __future__ import annotations

import re
from typing import Final

from tests.conformance.listing import HERE, table
from tests.conformance.scenario import DRIVEN

README: Final = (HERE / "README.md").read_text()
PUBLIC_NUMBERS: Final = {"1.6": 77, "2.0.1": 252}
"""How many the sources name for a CSMS."""


def test_the_table_is_the_one_of_the_modules() -> None:
    assert table() in README, "python -m tests.conformance.listing"


def test_every_public_number_is_driven_or_has_its_reason() -> None:
    table()
    left_out = re.findall(
        r"^\| (TC_\w+_CSMS) \| [^|]+ \| [^|]+ \|$", README.partition("## Not driven")[2], re.MULTILINE
    )

    assert not DRIVEN.keys() & set(left_out)
    named = [*DRIVEN, *left_out]
    assert len(named) == len(set(named))
    of_16 = [number for number in named if re.match(r"TC_\d", number)]
    assert {"1.6": len(of_16), "2.0.1": len(named) - len(of_16)} == PUBLIC_NUMBERS
