"""The calls of `docs/how-to/sell-ad-hoc.md` are taken, and its worked example is what a driver pays."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.v230 import Terminal
from services.charging_operations.terminals import TERMINAL, TerminalRecord
from tests.operations.ad_hoc_shop import Shop, audited
from tests.operations.world import CPO, ORIGIN, open_for_business

PAGE: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "sell-ad-hoc.md").read_text()
PTP: Final = PartyId("NL-PAY")
CALL: Final = re.compile(r"^call (GET|PUT|POST) (\"?)(/\S*?)\2(?: '([^']*)')?$", re.MULTILINE)


async def test_the_calls_are_taken_and_the_example_is_what_a_driver_pays() -> None:
    calls, answers = CALL.findall(PAGE), {}
    async with open_for_business() as here:
        for method, _, path, body in calls[:3]:
            answers[method, path] = await here.api(method, f"/{CPO}{path}", body.encode() or None)
            here.clock.step_by(timedelta(seconds=2))
        shop = Shop(here, answers["POST", "/ad-hoc/points"].json()["url"].removeprefix(ORIGIN))
        sale = await shop.buy()
        await here.report(await here.started("7", card=await shop.token()), here.ended("7", at=60, import_wh=6_001))
        receipt = (await shop.get(shop.url(sale, "/receipt"))).text
        async with here.ports.units.begin() as unit:
            await unit.table(TERMINAL).put(
                TerminalRecord(
                    party_id=CPO,
                    ptp_id=PTP,
                    terminal_id="T1",
                    is_active=True,
                    terminal=Terminal(terminal_id="T1", last_updated=here.clock.now()),
                    last_updated=here.clock.now(),
                )
            )
            await unit.commit()
        for method, _, path, body in calls[3:]:
            answers[method, path] = await here.api(method, f"/{CPO}{path}", body.encode() or None)
        await audited(here)

    assert len(calls) == PAGE.count("\ncall ") == 10
    assert all(answer.is_success for answer in answers.values())
    assert len(answers["GET", "/ad-hoc/sales?state=CAPTURED"].json()) == 1
    assert [each["amount_e4"] for each in answers["GET", "/ad-hoc/ledger"].json()] == [36_000]
    for figure in ("3.6058", "-0.0058", "3.60", "0.6248"):
        assert figure in PAGE
        assert figure in receipt
