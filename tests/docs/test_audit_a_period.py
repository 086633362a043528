"""What `docs/how-to/audit-a-period.md` says of its example is what the audit prints, and it names every cause."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from services.audit.page import page_of
from services.audit.stages import FAULTS, Cause
from tests.docs.audited_example import example, printed

PAGE: Final = (Path(__file__).parents[2] / "docs/how-to/audit-a-period.md").read_text()


async def test_the_example_is_what_the_audit_prints() -> None:
    shown = re.search(
        r"<!-- run by tests/docs/test_audit_a_period.py -->\n```\n\$ .*?\n(.*?)\n\.\.\.\n(.*?)```", PAGE, re.DOTALL
    )
    assert shown is not None

    found = await example()

    text = "\n".join(line.rstrip() for line in printed(found).splitlines())
    assert text.startswith(shown[1])
    assert text.endswith(shown[2].rstrip())
    page = page_of(found)
    assert '<li class="fault">cdr - accepted = 0 Wh, -0.0001 EUR (1): CPO and MSP hold different figures' in page
    assert "<td>NL-TUL/NL-ZON/EUR/s0000002</td>" in page
    for sentence in found.not_looked_at:
        assert f"<li>{sentence}</li>" in page


def test_every_cause_is_on_the_page_and_faults_are_told_apart() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", PAGE, re.MULTILINE))
    faults = set(re.findall(r"^\| `([A-Z_]+)` \| .*? \| fault \|$", PAGE, re.MULTILINE))

    assert rows == {cause.name: cause.value for cause in Cause}
    assert faults == {cause.name for cause in FAULTS}
