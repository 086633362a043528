"""kill -9 in the middle of load: afterwards the audit finds no difference and no acknowledged message is lost."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.system_under_load import (
    ACKNOWLEDGED_MIN,
    SOAK_S,
    SystemUnderLoad,
    assert_journal_agrees,
    kill_again_and_again,
    system_under_load,
)

pytestmark = [pytest.mark.fault, pytest.mark.postgres, pytest.mark.timeout(240 + SOAK_S * 3)]

SEED: Final = int(os.environ.get("WATTROAM_FAULT_SEED", "5"))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("gateway",) * 2, marks=pytest.mark.long),
        pytest.param(("business",) * 2, marks=pytest.mark.long),
        pytest.param(("postgres",) * 3, marks=pytest.mark.long),
    ],
    ids=lambda names: names[0],
)
async def test_kill_9_under_load_loses_nothing(run_folder: Path, names: tuple[str, ...]) -> None:
    await face_the_audit_after_kills(run_folder, names, event_log="postgres")


@pytest.mark.kafka
@pytest.mark.long
async def test_kill_9_of_kafka_under_load_loses_nothing(run_folder: Path) -> None:
    await face_the_audit_after_kills(run_folder, ("kafka",) * 2, event_log="kafka")


async def face_the_audit_after_kills(run_folder: Path, names: tuple[str, ...], *, event_log: str) -> None:
    print(f"seed {SEED}")  # noqa: T201 - repeats the moments of the kills
    async with system_under_load(run_folder, event_log=event_log, seed=SEED) as system:
        async with system.load() as load:
            await kill_again_and_again(system, load, names, random.Random(f"{SEED} {names}"))
            report = await load.finish()
            assert_journal_agrees(load, report)
        system.tell(f"{report.acknowledged} messages are acknowledged, {report.unsent} are left")
        await system.come_to_rest()

        found, books = await system.audit(report.truth.as_json())
        code, printed = await system.audit_by_command(report)

        assert found.differences == ()
        assert (code, printed["clean"], printed["differences"]) == (0, True, [])
        assert report.unsent == 0
        assert report.acknowledged >= ACKNOWLEDGED_MIN
        assert all(in_flight > 0 for in_flight in system.kills)
        assert_compared(printed)
        assert books.cpo_cdrs
        assert_all_run(system, names)


def assert_compared(printed: dict[str, Any]) -> None:
    """A rule that compared nothing says nothing."""
    compared = {check["rule"]: check["compared"] for check in printed["checks"]}
    assert compared["acknowledged is stored"] >= ACKNOWLEDGED_MIN
    assert compared["CPO and MSP hold the same CDRs"] > 0
    assert compared["an accepted CDR is billed once"] > 0


def assert_all_run(system: SystemUnderLoad, killed: tuple[str, ...]) -> None:
    """Every process is up, and only those died that were killed."""
    assert all(each.pid is not None for each in system.stack.tree.status())
    assert {name for name, deaths in system.deaths().items() if deaths} == set(killed)
