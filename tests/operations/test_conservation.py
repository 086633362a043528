"""Over histories nobody would think of, each metered Wh is in exactly one place, by the rows and by the log."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from emobility.events.event import Event
from services.charging_operations.ledger import EnergyDirection
from services.charging_operations.records import TRANSACTION, QuarantineState, TransactionState
from tests.operations.world import CPO, OTHER_CPO, World, open_for_business

HISTORIES = 12
TRANSACTIONS = 8


async def history(here: World, chance: random.Random) -> list[Event]:
    """Make transactions of both OCPP versions, some broken, shuffled with repetitions; some reports get lost."""
    events: list[Event] = []
    for number in range(TRANSACTIONS):
        name, at = str(number), number * chance.choice((20, 70))
        numbered = chance.random() < 0.5
        registers = [chance.randrange(1_000, 6_000) for _ in range(chance.randrange(2, 5))]
        if chance.random() < 0.7:
            registers.sort()
        if chance.random() < 0.8:
            await here.authorize(transaction_id=name, ocpp_evse_id=1 + number % 2)
        reports: list[Event] = [
            await here.started(name, registers[0], at=at, evse=1 + number % 2, **({"seq_no": 0} if numbered else {}))
        ]
        for place, register in enumerate(registers[1:-1], start=1):
            fields: dict[str, Any] = {"seq_no": place} if numbered else {}
            reports.append(here.updated(name, at=at + place * 10, import_wh=register, **fields))
        fields = {"seq_no": len(registers) - 1} if numbered else {}
        reports.append(here.ended(name, at=at + 60, import_wh=registers[-1], **fields))
        if chance.random() < 0.2:
            reports.append(here.updated(name, at=at + 61, import_wh=registers[-1] + 300))
        events += [report for report in reports if chance.random() < 0.93]
    events += chance.choices(events, k=len(events) // 2)
    chance.shuffle(events)
    return events


async def decide(here: World, chance: random.Random) -> None:
    """Resolve some of the quarantine and credit some CDRs, as people would."""
    for row in await here.quarantine():
        if row.state is QuarantineState.OPEN and chance.random() < 0.6:
            outcome = chance.choice(("BILL", "WAIVE", "WRITE_OFF"))
            body: dict[str, Any] = {"outcome": outcome, "who": "anna", "why": "seen"}
            if outcome == "BILL":
                body |= {"proven_import_wh": chance.randint(0, row.energy_import_wh), "rest": "WRITE_OFF"}
            answer = await here.api("POST", f"/{CPO}/quarantine/{row.quarantine_id}/resolve", body)
            assert answer.status_code in (200, 409), answer.text
    for cdr in await here.cdrs():
        if not cdr.is_credit and cdr.credited_by is None and chance.random() < 0.3:
            credited: dict[str, Any] = {"reason": "quarrel"}
            if chance.random() < 0.5:
                credited["replacement"] = {"energy_import_wh": chance.randint(0, cdr.energy_import_wh)}
            answer = await here.api("POST", f"/{CPO}/cdrs/{cdr.cdr_id}/credit", credited)
            assert answer.status_code == 200, answer.text
    await here.settle()


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_each_wh_is_in_exactly_one_place(seed: int) -> None:
    chance = random.Random(seed)
    async with open_for_business() as here:
        events = await history(here, chance)
        while events:
            size = chance.randrange(1, 12)
            await here.report(*events[:size])
            events = events[size:]
            await here.ledger()
            await here.ledger(direction=EnergyDirection.EXPORT)
            if chance.random() < 0.3:
                await decide(here, chance)
                await here.ledger()
        here.clock.step_by(timedelta(hours=30))
        await here.until(lambda: _nothing_overdue(here))
        await decide(here, chance)
        closed = await here.ledger()

        assert closed.metered > 0
        assert (await here.ledger(OTHER_CPO)).metered == 0
        assert await here.ports.event_log.parked("charging_operations") == []
        live = [row.session_id for row in await here.cdrs() if not row.is_credit and row.credited_by is None]
        assert len(live) == len(set(live))


async def _nothing_overdue(here: World) -> bool:
    open_rows = await here.rows(TRANSACTION, state=TransactionState.OPEN)
    return not [row for row in open_rows if row.has_ended]


async def test_the_same_history_in_another_order_gives_the_same_energy() -> None:
    totals = []
    for order in range(3):
        async with open_for_business() as here:
            events = await history(here, random.Random(5))
            random.Random(order).shuffle(events)
            for event in events:
                await here.report(event, settle=False)
            await here.settle()
            totals.append((await here.ledger()).metered)

    assert len(set(totals)) == 1
