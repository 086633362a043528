"""`wattroam bench`: which figures are asked for, how they are printed, what is said of one that can't be had."""

from __future__ import annotations

import json
import os
from importlib.metadata import version

import pytest

from bench import command
from bench.figure import Figure, against_goal, against_rival
from emobility.runtime.supervision import ComponentMissing


async def two_figures(*, short: bool) -> list[Figure]:
    return [
        against_rival(name="log.append", unit="rows/s", ours=[30, 90], rival=[10, 10], rival_name="x", ratio_min=5),
        against_goal(name="log.p99", value=5.0 if short else 4.0, unit="ms"),
    ]


async def missed_goal(*, short: bool) -> list[Figure]:
    del short
    return [against_goal(name="gateway.memory", value=30, unit="KiB", at_most=25)]


async def broken(*, short: bool) -> list[Figure]:
    del short
    raise RuntimeError("the server is gone")


async def without_broker(*, short: bool) -> list[Figure]:
    raise ComponentMissing("Kafka's jars are missing: `make kafka` fetches them")


@pytest.fixture(autouse=True)
def benches(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "hub.forward": broken,
        "log.append": two_figures,
        "log.p99": two_figures,
        "gateway.memory": missed_goal,
        "log.append.kafka": without_broker,
    }
    monkeypatch.setattr(command, "known_benches", lambda: known)


def names_printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [figure["name"] for figure in json.loads(capsys.readouterr().out)]


def test_a_name_selects_its_figure_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_bench(json=True, short=True, only=["log.p99"]) == 0

    [figure] = json.loads(capsys.readouterr().out)
    assert figure["name"] == "log.p99"
    assert figure["value"] == 5.0


def test_the_beginning_of_names_selects_all_that_begin_so(capsys: pytest.CaptureFixture[str]) -> None:
    command.run_bench(json=True, short=True, only=["log.a", "gateway"])

    assert names_printed(capsys) == ["log.append", "gateway.memory"]


def test_a_name_that_nothing_has_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_bench(json=True, short=True, only=["speed"]) == 2

    assert "log.p99" in capsys.readouterr().err


def test_a_missed_goal_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_bench(json=False, short=True, only=["gateway"]) == 1

    assert "<= 25 KiB" in capsys.readouterr().out


def test_a_missing_component_is_said_in_one_line_and_the_others_are_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.run_bench(json=True, short=True, only=["log"]) == 1

    captured = capsys.readouterr()
    assert [figure["name"] for figure in json.loads(captured.out)] == ["log.append", "log.p99"]
    assert "left out log.append.kafka: Kafka's jars are missing: `make kafka` fetches them\n" in captured.err


def test_a_bench_that_fails_costs_its_own_figures_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_bench(json=True, short=True, only=["hub", "log.p99"]) == 1

    captured = capsys.readouterr()
    assert [figure["name"] for figure in json.loads(captured.out)] == ["log.p99"]
    assert "failed: hub.forward" in captured.err
    assert "the server is gone" in captured.err


@pytest.mark.parametrize("json_wanted", [True, False])
def test_the_machine_and_the_versions_stand_beside_the_figures(
    capsys: pytest.CaptureFixture[str], *, json_wanted: bool
) -> None:
    command.run_bench(json=json_wanted, short=True, only=["log.p99"])

    captured = capsys.readouterr()
    said = " ".join((captured.err if json_wanted else captured.out).split())
    assert f"On {os.cpu_count()} cores" in said
    assert f"ocpp {version('ocpp')}" in said


def test_rounds_are_compared_with_their_neighbours_and_the_median_counts() -> None:
    figure = against_rival(
        name="x", unit="messages/s", ours=[80, 800, 40], rival=[10, 90, 10], rival_name="y", ratio_min=8
    )

    assert figure.value == 80
    assert figure.rival == 10
    assert figure.ratio == 8.0
    assert figure.holds


def test_every_figure_is_known_to_the_command_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    known = command.known_benches()

    assert {"event_log.append.kafka", "gateway.wire.durable", "pricing.sessions_per_s"} <= set(known)
