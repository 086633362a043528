"""What goes deeper in `make soak` is chosen by it: it takes tests by their markers."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
READS = '"WATTROAM_SOAK" ' + "in os.environ"
"""In two parts, or this file would be one of them."""
CHOSEN = re.compile(r"mark\.(deeper|long|fault)\b")


def test_every_file_that_has_a_longer_form_marks_it() -> None:
    longer = [each for each in TESTS.rglob("test_*.py") if READS in each.read_text()]

    assert len(longer) > 5
    assert [each.name for each in longer if not CHOSEN.search(each.read_text())] == []
