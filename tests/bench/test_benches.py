"""Each bench in its shortest form, on real servers: it yields the figures it names. No value is judged here."""

from __future__ import annotations

import pytest

from bench import (
    authorise,
    event_log,
    gateway_dispatch,
    gateway_memory,
    gateway_reconnect_storm,
    gateway_wire,
    hub_broadcast,
    hub_memory,
    hub_route,
    pricing,
    settlement_audit,
)
from bench.figure import Figure

pytestmark = pytest.mark.postgres


def assert_measured(figures: list[Figure], names: tuple[str, ...]) -> None:
    assert tuple(figure.name for figure in figures) == names
    for figure in figures:
        assert figure.value > 0
        assert figure.rival is None or figure.rival > 0
        assert (figure.goal is None) == (figure.holds is None)


@pytest.mark.long
async def test_durable_transaction_events_are_measured_in_turns_with_the_rivals() -> None:
    figures = await gateway_wire.measure(stations=8, rounds=3, round_s=0.3, warm_up_s=0.1)

    assert_measured(figures, gateway_wire.FIGURES)
    durable, beside_echo, cpu, cpu_with_postgres = figures
    assert (durable.goal, beside_echo.goal) == (">= 12x rival", ">= 0.4x rival")
    assert cpu.rival == cpu_with_postgres.rival


async def test_dispatch_is_measured_in_turns_with_the_rival() -> None:
    assert_measured(await gateway_dispatch.measure(calls=200), gateway_dispatch.FIGURES)


@pytest.mark.long
async def test_memory_is_measured_per_station() -> None:
    figures = await gateway_memory.measure(stations=60, warm_up=10)

    assert_measured(figures, gateway_memory.FIGURES)


@pytest.mark.long
async def test_a_storm_of_stations_is_measured() -> None:
    figures = await gateway_reconnect_storm.measure(stations=20, speak_s=0.5)

    assert_measured(figures, gateway_reconnect_storm.FIGURES)


@pytest.mark.long
async def test_taps_are_measured_through_all_processes() -> None:
    assert_measured(await authorise.measure(stations=4, taps=3), authorise.FIGURES)


async def test_the_log_in_postgresql_is_measured() -> None:
    figures = await event_log.measure(rounds=2, batches=2, paced=5)

    assert_measured(figures, event_log.FIGURES)


@pytest.mark.kafka
@pytest.mark.long
async def test_the_log_in_kafka_is_measured() -> None:
    from bench import event_log_kafka  # noqa: PLC0415 - kafka-python warns when imported

    figures = await event_log_kafka.measure(rounds=2, batches=2, paced=5)

    assert_measured(figures, event_log_kafka.FIGURES)


def test_pricing_is_measured() -> None:
    assert_measured(pricing.measure(seconds=0.1), pricing.FIGURES)


@pytest.mark.long
async def test_routing_is_measured_in_turns_with_the_rival() -> None:
    figures = await hub_route.measure(rounds=1, round_s=0.5)

    names = [figure.name for figure in figures]
    assert names in ([*hub_route.FIGURES[:3]], [*hub_route.FIGURES])  # nginx is measured where it is installed
    assert figures[0].value > 0


async def test_a_broadcast_reaches_all_that_live() -> None:
    figures = await hub_broadcast.measure(receivers=40)

    assert [figure.name for figure in figures] == [*hub_broadcast.FIGURES]
    assert figures[1].holds


@pytest.mark.long
async def test_memory_is_measured_per_message() -> None:
    [figure] = await hub_memory.measure(messages=50, warm_up=20)

    assert figure.name == hub_memory.FIGURES[0]


@pytest.mark.long
async def test_the_audit_is_measured_with_processes_that_share_it() -> None:
    figures = await settlement_audit.measure(sessions=60, pairs=2)

    assert_measured(figures, settlement_audit.FIGURES)
