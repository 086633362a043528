"""Each bench in its shortest form, on real servers: it yields the figures it names. No value is judged here."""

from __future__ import annotations

import pytest

from bench import event_log, gateway_dispatch, gateway_memory, gateway_wire, pricing
from bench.figure import Figure

pytestmark = pytest.mark.postgres


def assert_measured(figures: list[Figure], names: tuple[str, ...]) -> None:
    assert tuple(figure.name for figure in figures) == names
    for figure in figures:
        assert figure.value > 0
        assert figure.rival is None or figure.rival > 0
        assert (figure.goal is None) == (figure.holds is None)


async def test_durable_transaction_events_are_measured_in_turns_with_the_rivals() -> None:
    figures = await gateway_wire.measure(stations=8, rounds=3, round_s=0.3, warm_up_s=0.1)

    assert_measured(figures, gateway_wire.FIGURES)
    durable, beside_echo, cpu, cpu_with_postgres = figures
    assert (durable.goal, beside_echo.goal) == (">= 12x rival", ">= 0.4x rival")
    assert cpu.rival == cpu_with_postgres.rival


async def test_dispatch_is_measured_in_turns_with_the_rival() -> None:
    assert_measured(await gateway_dispatch.measure(calls=200), gateway_dispatch.FIGURES)


async def test_memory_is_measured_per_station() -> None:
    figures = await gateway_memory.measure(stations=60, warm_up=10)

    assert_measured(figures, gateway_memory.FIGURES)


async def test_the_log_in_postgresql_is_measured() -> None:
    figures = await event_log.measure(rounds=2, batches=2, paced=5)

    assert_measured(figures, event_log.FIGURES)


@pytest.mark.kafka
async def test_the_log_in_kafka_is_measured() -> None:
    from bench import event_log_kafka  # noqa: PLC0415 - kafka-python warns when imported

    figures = await event_log_kafka.measure(rounds=2, batches=2, paced=5)

    assert_measured(figures, event_log_kafka.FIGURES)


def test_pricing_is_measured() -> None:
    assert_measured(pricing.measure(seconds=0.1), pricing.FIGURES)
