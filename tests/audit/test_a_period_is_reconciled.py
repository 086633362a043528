"""Thousands of sound sessions are reconciled without a difference; of faults planted among them each is told apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from bench.settlement_books import Filling, tariff_of
from bench.settlement_pairs import agreements
from emobility.domain.money import Price
from emobility.ports.chain import ChainReader
from emobility.ports.ports import Ports
from emobility.ports.reconciliation import EmptyPeriod, Period
from services.audit.audit import audited
from services.audit.period_report import PeriodReport
from services.audit.periodically import NEVER_LOOKED_AT, QUICK_LEAVES_OUT, audited_period
from services.audit.report import AuditReport
from services.audit.sharing import Alone
from services.audit.slices import LOG_RULE
from services.audit.stages import STAGES, Cause, Stage
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.settlement.money_records import PAYABLE
from services.settlement.records import LEAF, STATEMENT
from services.settlement.restating_records import HELD, HeldCDR
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import T0

HANDLED = "every event was handled"
"""Counts other topics where nothing is folded."""
SHARED_RULES = 32
SESSIONS = 5_000
PAIRS = 4
FEW = 40


@asynccontextmanager
async def settled(sessions: int) -> AsyncIterator[Settling]:
    async with open_settling() as here:
        await Filling(here, agreements()[:PAIRS]).fill(sessions)
        yield here


def by_cause(found: PeriodReport) -> dict[str, list[tuple[int, int, str]]]:
    """Return what each cause of a difference is told of: what is expected, what is found, and where."""
    causes: dict[str, list[tuple[int, int, str]]] = {}
    for each in found.report.differences:
        causes.setdefault(each.cause, []).append((each.expected, each.found, each.scope))
    return causes


async def test_faults_among_thousands_of_sessions_are_each_told_with_their_cause() -> None:
    async with settled(SESSIONS) as here:
        ports = here.world.ports
        sound = await audited_period(ports, Period(), chain=here.chain.chain)
        assert sound.report.differences == ()
        assert {figures.stages[Stage.SETTLED].documents for figures in sound.reconciled.pairs.values()} == {
            SESSIONS // PAIRS
        }

        planted = await plant(ports)
        found = by_cause(await audited_period(ports, Period()))

    for cause, told in planted.items():
        assert any(each[:2] == told[:2] and told[2] in each[2] for each in found.pop(cause)), cause
    # What follows from them: a CDR that is gone on one side is missed on the other, a leaf in the trees, a statement in
    # its batch, a payable by the next.
    assert set(found) == {
        Cause.LEAF_OF_NOTHING,
        "its statements have another pairs hash",
        "its statements have another batch id in this book",
        "its call is not what the batch's statements and signatures make",
        "the residue of the statement before it was not carried",
        "CDRs: the statement says otherwise than its CDRs",
        "its CDRs have another sum root",
        "its CDRs do not stand at their places in the trees",
        "its figures have another hash than the one that names it",
        "the statement says otherwise",
    }


async def plant(ports: Ports) -> dict[str, tuple[int, int, str]]:
    """Break one thing of each of ten sessions, of a statement and of a payable; return the causes that tell of them."""
    async with ports.units.begin() as unit:
        transactions, issued, received = (unit.table(spec) for spec in (cpo.TRANSACTION, cpo.CDRS, emsp.CDRS))
        leaves, bills = unit.table(LEAF), unit.table(emsp.BILL)
        rows = {row.cdr_id: row for row in await issued.select()}
        runs = {row.session_id: row for row in await transactions.select()}
        at_msp = {row.cdr_id: row for row in await received.select()}
        bound = {row.cdr_id: row for row in await leaves.select()}
        billed = {row.cdr_id: row for row in await bills.select()}
        names = sorted(rows)[::400]

        run = runs[names[0]]
        await transactions.put(replace(run, metered_import_wh=run.metered_import_wh + 1))
        ghost = replace(runs[names[1]], transaction_id="ghost", session_id="ghost", metered_import_wh=7)
        await transactions.put(ghost)
        gone = runs[names[2]]
        await transactions.delete(gone.party_id, gone.charging_station_id, gone.transaction_id)
        missing = at_msp[names[3]]
        await received.delete(missing.party_id, missing.cpo_id, missing.cdr_id)
        other = at_msp[names[4]]
        dearer = replace(other.cdr, total_cost=Price(excl_e4=other.cdr.total_cost.excl_e4 + 1))
        await received.put(replace(other, cdr=dearer))
        never = rows[names[5]]
        await issued.delete(never.party_id, never.cdr_id)
        lost = bound[names[6]]
        await leaves.delete(lost.cpo_id, lost.cdr_id)
        more = bound[names[7]]
        await leaves.put(replace(more, due_e4=more.due_e4 + 1))
        forged = bound[names[8]]
        await leaves.put(replace(forged, commitment=bytes(32)))
        unbilled = billed[names[9]]
        await bills.delete(unbilled.party_id, unbilled.bill_id)
        one, two, *_ = await unit.table(STATEMENT).select()
        await unit.table(STATEMENT).put(replace(one, due_e4=one.due_e4 + 1))
        await unit.table(PAYABLE).delete(two.cpo_id, two.agreement_id, two.version, two.sequence)
        await unit.commit()
    wh, due_e4 = run.metered_import_wh, more.due_e4
    return {
        Cause.METERED_OTHERWISE: (wh + 1, wh, f"{run.charging_station_id}/{names[0]}"),
        Cause.UNBILLED: (7, 0, "ghost"),
        Cause.CDR_OF_NOTHING: (0, gone.metered_import_wh, names[2]),
        f"bill {billed[names[3]].bill_id} is of a CDR that is not there": (0, billed[names[3]].total_incl_e4, names[3]),
        Cause.NOT_ARRIVED: (missing.cdr.total_cost.excl_e4, 0, names[3]),
        Cause.CDR_DIFFERS: (dearer.total_cost.excl_e4 - 1, dearer.total_cost.excl_e4, names[4]),
        Cause.NEVER_ISSUED: (0, never.cdr.total_cost.excl_e4, names[5]),
        Cause.NO_LEAF: (lost.due_e4, 0, names[6]),
        Cause.LEAF_DIFFERS: (due_e4, due_e4 + 1, names[7]),
        "its CDRs have another evidence root": (1, 0, forged.agreement_id),
        "its driver was never billed": (1, 0, names[9]),
        "due: the statement says otherwise than its CDRs": (one.due_e4, one.due_e4 + 1, one.agreement_id),
        Cause.NOT_ASKED_FOR: (1, 0, two.cpo_id.code),
        "it is final, and nobody is asked for it": (two.due_e4, 0, two.agreement_id),
    }


async def test_slices_find_what_the_audit_of_everything_finds() -> None:
    async with settled(FEW) as here:
        ports, chain = here.world.ports, here.chain.chain
        sharing = Alone(vault=ports.vault)
        whole, sliced = await both(ports, sharing, chain)
        assert sliced.report.differences == ()
        compared = {each.rule: each.compared for each in sliced.report.checks}
        shared = {each.rule: each.compared for each in whole.checks if each.rule in compared and each.rule != HANDLED}
        assert len(shared) == SHARED_RULES
        assert shared.items() <= compared.items()

        await plant_what_documents_alone_show(ports)
        whole, sliced = await both(ports, sharing, chain)

    told = {each.rule for each in sliced.report.differences}
    assert told == {
        "a CDR re-prices to what it states",
        "a tariff is what its hash names",
        "the bill is what was quoted",
        "a leaf names its CDR and commits to its evidence",
        LOG_RULE,
        "what is metered is in CDRs",
    }
    assert {each for each in whole.differences if each.rule in told} <= set(sliced.report.differences)


async def both(ports: Ports, sharing: Alone, chain: ChainReader) -> tuple[AuditReport, PeriodReport]:
    """Audit everything at once, and a period without bounds in slices."""
    whole, _ = await audited(ports, chain=chain)
    return whole, await audited_period(ports, Period(), sharing=sharing, chain=chain)


async def plant_what_documents_alone_show(ports: Ports) -> None:
    """Change what no figure shows: a price in a frozen tariff, a quote, what is sealed, what station reports say."""
    async with ports.units.begin() as unit:
        first, second, third, fourth = (await unit.table(cpo.CDRS).select())[:4]
        dearer = tariff_of(first.party_id, "0.31")
        await unit.table(cpo.CDRS).put(replace(first, cdr=replace(first.cdr, tariff=dearer)))
        (quote,) = await unit.table(emsp.QUOTE).select({"session_id": second.session_id})
        await unit.table(emsp.QUOTE).put(replace(quote, quote=replace(quote.quote, tariff=dearer)))
        (kept,) = await unit.table(emsp.EVIDENCE).select({"cdr_id": third.cdr_id})
        await unit.table(emsp.EVIDENCE).put(replace(kept, evidence=replace(kept.evidence, box=b"changed")))
        (run,) = await unit.table(cpo.TRANSACTION).select({"session_id": fourth.session_id})
        await unit.table(cpo.TRANSACTION).put(replace(run, metered_export_wh=1))
        await unit.commit()


async def test_a_period_holds_what_ended_in_it_and_says_so() -> None:
    async with settled(FEW) as here:
        ports, chain = here.world.ports, here.chain.chain
        middle = T0 - timedelta(days=14)
        found = [
            await audited_period(ports, period, sharing=Alone(vault=ports.vault), chain=chain)
            for period in (Period(before=middle), Period(since=middle))
        ]

    assert [each.report.differences for each in found] == [(), ()]
    halves = [sum(pair.stages[Stage.SETTLED].documents for pair in each.reconciled.pairs.values()) for each in found]
    assert sum(halves) == FEW
    assert min(halves) > 0
    with pytest.raises(EmptyPeriod):
        Period(since=middle, before=middle)


async def test_machines_read_each_gap_with_its_cause_and_its_documents() -> None:
    async with settled(FEW) as here:
        ports = here.world.ports
        async with ports.units.begin() as unit:
            (first, *_) = await unit.table(emsp.CDRS).select()
            await unit.table(emsp.CDRS).put(replace(first, state=emsp.CDRState.DISPUTED))
            await unit.commit()
        found = await audited_period(ports, Period())

    read = found.as_json()
    (pair,) = [each for each in read["pairs"] if each["gaps"][0]["cause"] == "DISPUTED"]
    assert (pair["cpo"], pair["msp"], pair["currency"]) == (first.cpo_id.code, first.party_id.code, "EUR")
    assert list(pair["stages"]) == [stage.value for stage in STAGES]
    assert pair["gaps"][0] == {
        "from": "cdr",
        "to": "accepted",
        "cause": "DISPUTED",
        "why": Cause.DISPUTED.value,
        "is_fault": False,
        "documents": 1,
        "import_wh": first.cdr.total_energy_import_wh,
        "export_wh": 0,
        "net_e4": first.cdr.total_cost.excl_e4,
        "objects": [first.cdr_id],
        "more": 0,
    }
    # The settlement had taken it in before.
    assert [each["cause"] for each in read["differences"]] == [Cause.LEAF_OF_NOTHING.value] * 3
    assert (read["clean"], read["full"]) == (False, False)
    assert read["not_looked_at"] == [*QUICK_LEAVES_OUT, *NEVER_LOOKED_AT]


async def test_what_a_verdict_took_out_waits_and_is_no_fault() -> None:
    async with settled(FEW) as here:
        ports = here.world.ports
        async with ports.units.begin() as unit:
            (leaf, *_) = await unit.table(LEAF).select()
            await unit.table(LEAF).put(replace(leaf, version=None, sequence=None, place=None))
            held = HeldCDR(
                cpo_id=leaf.cpo_id,
                cdr_id=leaf.cdr_id,
                emsp_id=leaf.emsp_id,
                agreement_id=leaf.agreement_id,
                statement_hash=bytes(32),
                kind=None,
                held_at=T0,
            )
            await unit.table(HELD).put(held)
            await unit.commit()
        found = await audited_period(ports, Period())

    (gap,) = [gap for pair in found.as_json()["pairs"] for gap in pair["gaps"] if gap["cause"] == "TAKEN_OUT"]
    assert (gap["from"], gap["to"], gap["is_fault"]) == ("accepted", "settled", False)
    assert gap["objects"] == [leaf.cdr_id]
