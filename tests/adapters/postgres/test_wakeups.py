"""Who is woken by which append. What is missed is found by polling; the contract tests show that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from emobility.adapters.postgres.reference_rows import ReferenceRows
from emobility.adapters.postgres.wakeups import Wakeups


def test_only_readers_of_a_topic_are_woken_by_it() -> None:
    woken: list[str] = []
    wakeups = Wakeups(cast("Any", SimpleNamespace()), ReferenceRows())
    with (
        wakeups.subscribed(lambda: woken.append("charging"), topics=("charging",)),
        wakeups.subscribed(lambda: woken.append("all")),
    ):
        wakeups.appended(["cdrs", "sessions"])
        assert woken == ["all"]
        wakeups.appended(["charging", "cdrs"])
        assert woken == ["all", "charging", "all"]
    wakeups.appended(["charging"])
    assert len(woken) == 3


def test_a_notice_wakes_whom_it_concerns_unless_it_is_our_own() -> None:
    woken: list[str] = []
    wakeups = Wakeups(cast("Any", SimpleNamespace()), ReferenceRows())
    with wakeups.subscribed(lambda: woken.append("charging"), topics=("charging",)):
        wakeups.heard("0 charging")  # 0: this process has no listening connection yet, so it can only be its own
        wakeups.heard("4711 cdrs")
        assert woken == []
        wakeups.heard("4711 cdrs charging")
        wakeups.heard("4711")  # a sender that names no topic
        assert len(woken) == 2
