"""What an MSP proposes in a dispute is issued by the CPO as it is, and is accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from emobility.domain.cdr import CDR
from emobility.domain.money import Price
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.protocols.ocpi.v221 import write
from services.driver_mobility.records import DISPUTE
from tests.mobility.conftest import MSP, agreement, sign


def dearer(cdr: CDR) -> CDR:
    """Energy charged 0.10 too dear."""
    energy = cdr.total_energy_cost
    assert energy is not None
    return replace(
        cdr,
        total_cost=Price(excl_e4=cdr.total_cost.excl_e4 + 1_000, incl_e4=cdr.total_cost.incl_e4),
        total_energy_cost=Price(excl_e4=energy.excl_e4 + 1_000, incl_e4=energy.incl_e4),
    )


async def disputed(world: Any, change: Any) -> Any:
    await world.enrol()
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(change(cdr))
    await world.quiet()
    (dispute,) = world.cpo.disputes
    return dispute


async def test_a_dispute_tells_machines_which_amounts_come_apart_and_where(memory_world: Any) -> None:
    dispute = await disputed(memory_world, dearer)

    told = {(each.part, each.expected_e4, each.stated_e4, each.period_index) for each in dispute.differences}
    assert told == {("TOTAL", 30_000, 31_000, 0), ("ENERGY", 30_000, 31_000, 0)}
    assert {(each.dimension, each.element_index) for each in dispute.differences} == {("ENERGY", 0)}


async def test_the_proposed_credit_and_replacement_are_accepted_as_they_are(memory_world: Any) -> None:
    dispute = await disputed(memory_world, dearer)

    for document in (dispute.proposed_credit, dispute.proposed_replacement):
        answer = await memory_world.cpo.post_wire(write(document))
        assert answer.status == 201, answer
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED", "S1-R": "ACCEPTED"}


async def test_where_more_than_amounts_is_wrong_nothing_is_proposed(memory_world: Any) -> None:
    dispute = await disputed(memory_world, lambda cdr: replace(dearer(cdr), total_parking_s=1))

    assert dispute.differences
    assert (dispute.proposed_credit, dispute.proposed_replacement) == (None, None)


async def test_the_operator_of_the_msp_sees_what_was_proposed(memory_world: Any) -> None:
    await disputed(memory_world, dearer)

    (row,) = await memory_world.call("GET", "/NL-EMA/disputes")

    assert (row["cdr_id"], row["proposal"]["total_cost"]["excl_e4"]) == ("S1", 30_000)


async def test_a_dispute_that_nobody_answers_in_the_time_agreed_stands(memory_world: Any) -> None:
    world = memory_world
    await sign(world, agreement(version=2, dispute_answer_h=48))
    dispute = await disputed(world, dearer)

    async def resolution() -> str | None:
        (row,) = await world.call("GET", "/NL-EMA/disputes")
        return None if row["resolution"] is None else str(row["resolution"])

    world.clock.step_by(timedelta(hours=47))
    await world.service.sweep()
    before = await resolution()
    world.clock.step_by(timedelta(hours=2))
    await world.service.sweep()
    stands = await resolution()
    await world.cpo.post_wire(write(dispute.proposed_credit))
    await world.quiet()

    assert before is None
    assert stands == "not answered in time, so it is not owed: agreement NL-TNM/NL-EMA/TNM-EMA v2 §dispute_answer_h"
    assert (await world.cdr_states())["S1"] == "CREDITED", "an answer that comes late ends it all the same"
    assert await resolution() == "credited by S1-C"


async def test_a_dispute_stands_in_its_time_behind_more_open_ones_than_one_look_takes(memory_world: Any) -> None:
    world = memory_world
    await sign(world, agreement(version=2, dispute_answer_h=48))
    await disputed(world, dearer)
    async with world.ports.units.begin() as unit:
        (dispute,) = await unit.table(DISPUTE).select()
        open_ones = [replace(dispute, cdr_id=f"A{number}", answer_by=None) for number in range(SELECT_ROWS_MAX)]
        await unit.table(DISPUTE).put_all(open_ones)
        await unit.commit()
    world.clock.step_by(timedelta(hours=48, seconds=1))

    ended = await world.service.checking.end_unanswered(MSP)

    assert dispute.answer_by == dispute.disputed_at + timedelta(hours=48)
    assert ended == 1


async def test_the_time_of_a_dispute_that_was_raised_without_is_written_down_when_it_is_looked_at(world: Any) -> None:
    await sign(world, agreement(version=2, dispute_answer_h=48))
    await disputed(world, dearer)
    async with world.ports.units.begin() as unit:
        (dispute,) = await unit.table(DISPUTE).select()
        await unit.table(DISPUTE).put(replace(dispute, answer_by=datetime(1970, 1, 1, tzinfo=UTC)))
        await unit.commit()

    ended = await world.service.checking.end_unanswered(MSP)

    async with world.ports.units.begin() as unit:
        assert await unit.table(DISPUTE).select() == [dispute]
    assert ended == 0
