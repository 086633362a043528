from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.firmware_campaign import (
    PENDING,
    CampaignRules,
    Target,
    TargetState,
    after_failure,
    next_batch,
    too_many_failed,
)
from emobility.domain.station_task import OPEN, TaskState, state_after


def waiting(*names: str, attempts: int = 0) -> list[Target]:
    return [Target(charging_station_id=name, state=TargetState.WAITING, attempts=attempts) for name in names]


def failed(count: int) -> list[Target]:
    return [Target(charging_station_id=f"F{number}", state=TargetState.FAILED) for number in range(count)]


def test_a_batch_holds_those_that_are_connected_and_least_often_asked() -> None:
    targets = [*waiting("A", attempts=1), *waiting("B", "C", "D")]

    assert next_batch(CampaignRules(batch_size=2), targets, online={"A", "C", "D"}) == ["C", "D"]
    assert next_batch(CampaignRules(batch_size=4), targets, online={"A", "C", "D"}) == ["C", "D", "A"]


def test_no_batch_begins_while_one_is_under_way() -> None:
    targets = [*waiting("A"), Target(charging_station_id="B", state=TargetState.UNDER_WAY)]

    assert next_batch(CampaignRules(batch_size=2), targets, online={"A", "B"}) == []


@pytest.mark.parametrize(
    ("rules", "failures", "others", "forgiven", "stops"),
    [
        (CampaignRules(batch_size=1), 0, 1, 0, False),
        (CampaignRules(batch_size=1), 1, 9, 0, True),
        (CampaignRules(batch_size=1), 1, 9, 1, False),
        (CampaignRules(batch_size=1, failures_max=2), 2, 9, 0, False),
        (CampaignRules(batch_size=1, failures_max=2), 3, 9, 0, True),
        (CampaignRules(batch_size=1, failures_max=None, failure_percent_max=25), 1, 3, 0, False),
        (CampaignRules(batch_size=1, failures_max=None, failure_percent_max=25), 2, 3, 0, True),
        (CampaignRules(batch_size=1, failures_max=None), 5, 0, 0, False),
    ],
)
def test_a_campaign_stops_beyond_the_count_or_the_share_that_was_named(
    rules: CampaignRules, failures: int, others: int, forgiven: int, *, stops: bool
) -> None:
    targets = [*failed(failures), *waiting(*(f"W{number}" for number in range(others)))]

    assert too_many_failed(rules, targets, forgiven=forgiven) is stops


@given(
    outcomes=st.lists(st.booleans(), min_size=200, max_size=200),
    stations=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    failures_max=st.integers(0, 3),
    attempts_max=st.integers(1, 3),
)
def test_whatever_fails_no_more_than_a_batch_is_at_risk_and_the_campaign_ends(
    outcomes: list[bool], stations: int, batch_size: int, failures_max: int, attempts_max: int
) -> None:
    rules = CampaignRules(batch_size=batch_size, failures_max=failures_max, attempts_max=attempts_max)
    targets = {f"S{number}": each for number, each in enumerate(waiting(*(f"S{n}" for n in range(stations))))}
    coming = iter(outcomes)
    while not too_many_failed(rules, list(targets.values())):
        batch = next_batch(rules, list(targets.values()), online=targets)
        if not batch:
            break
        assert len(batch) <= batch_size
        for name in batch:
            attempts = targets[name].attempts + 1
            state = TargetState.INSTALLED if next(coming) else after_failure(rules, attempts)
            targets[name] = replace(targets[name], state=state, attempts=attempts)

    states = [each.state for each in targets.values()]
    assert states.count(TargetState.FAILED) <= failures_max + batch_size
    assert all(each.attempts <= attempts_max for each in targets.values())
    has_stopped = states.count(TargetState.FAILED) > failures_max
    assert has_stopped or not any(state in PENDING for state in states)


@given(
    st.lists(
        st.sampled_from(["Idle", "Downloading", "Installed", "DownloadFailed", "AcceptedCanceled", "InvalidSignature"])
    )
)
def test_a_task_ends_once(statuses: list[str]) -> None:
    state = TaskState.ASKED
    for status in statuses:
        after = state_after(state, status)
        assert state in OPEN or after is state
        state = after
