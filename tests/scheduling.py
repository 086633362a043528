"""Which tests one worker runs together when workers share the suite (`pytest -n 2`): whatever uses the same dear thing.

xdist's own `--dist loadgroup` does nothing here: xdist 3.8.0 writes the group into `_nodeid`, which pytest 9.2 does not
read.
"""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

DEAR: Final = {
    "tests/journeys/": "demo",
    "tests/simulation/": "demo",
    "tests/audit/test_each_rule_can_fail.py": "demo",
    "tests/audit/test_settlement_rules_can_fail.py": "demo",
}
"""Tests that share whole runs of the demo (`tests.journeys.runs`)."""


def group_of(nodeid: str) -> str:
    """Return what a test is run together with: users of a demo, users of the one broker, else its file."""
    path = nodeid.partition("::")[0]
    for start, group in DEAR.items():
        if path.startswith(start):
            return group
    return "kafka" if "kafka" in nodeid else path


def started_at(nodeid: str, *, is_fault: bool) -> int:
    """Return a test's place among all: what takes long comes first, so that no worker is left alone with it."""
    return {"demo": 0, "kafka": 1}.get(group_of(nodeid), 2 if is_fault else 3)


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """Gives groups to workers in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
