from __future__ import annotations

import pytest

from tests.scheduling import group_of, started_at


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/adapters/contract/test_event_log_contract.py::test_x[kafka-event]", "kafka"),
        (
            "tests/adapters/contract/test_event_log_contract.py::test_x[postgres]",
            "tests/adapters/contract/test_event_log_contract.py",
        ),
        ("tests/faults/test_kills_under_load.py::test_kill_9_of_kafka_under_load", "kafka"),
        ("tests/journeys/test_the_demo_on_servers.py::test_x[on_kafka]", "demo"),
        ("tests/simulation/test_the_demo.py::test_x", "demo"),
        ("tests/domain/test_money.py::test_x", "tests/domain/test_money.py"),
    ],
)
def test_what_shares_a_broker_or_a_demo_is_run_by_one_worker(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_every_test_of_this_run_that_needs_the_broker_is_in_one_of_two_groups(request: pytest.FixtureRequest) -> None:
    needing = [item.nodeid for item in request.session.items if item.get_closest_marker("kafka")]

    assert {group_of(nodeid) for nodeid in needing} <= {"kafka", "demo"}


def test_what_takes_long_comes_first() -> None:
    demo = started_at("tests/journeys/test_x.py::test_x", is_fault=False)
    kafka = started_at("tests/adapters/kafka/test_kafka.py::test_x", is_fault=True)
    fault = started_at("tests/faults/test_x.py::test_x", is_fault=True)
    rest = started_at("tests/domain/test_x.py::test_x", is_fault=False)

    assert [demo, kafka, fault, rest] == sorted({demo, kafka, fault, rest})
