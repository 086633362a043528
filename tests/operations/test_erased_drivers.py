"""A driver whose keys are restricted or gone: nobody else's charge suffers, and nothing of theirs is let in."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from emobility.ports.authorizer import AuthorizationStatus
from emobility.protocols.ocpi.deliveries import DELIVERY
from emobility.protocols.ocpi.v221 import ModuleID
from services.charging_operations.records import TOKEN
from tests.operations.world import CARD, CPO, PARTNERS, SETTLE_ROUNDS_MAX, START, World, open_for_business

OTHER_CARD: Final = "04FFFFFFFF"


async def charge(here: World, transaction_id: str, card: str, *, at: int) -> None:
    await here.authorize(card, transaction_id=transaction_id)
    await here.report(
        await here.started(transaction_id, at=at, card=card),
        here.updated(transaction_id, at=at + 30),
        here.ended(transaction_id, at=at + 60),
    )


async def test_lists_leave_out_what_can_not_be_read_and_show_the_rest() -> None:
    async with open_for_business() as here:
        await here.put_token(uid=OTHER_CARD)
        await charge(here, "1", CARD, at=0)
        await charge(here, "2", OTHER_CARD, at=70)
        since = {"date_from": START.isoformat()}
        subject = here.ports.vault.subject_of(CARD)

        await here.ports.vault.restrict(subject, until=START + timedelta(days=365))
        restricted = [len(await here.ocpi("GET", module, **since)) for module in (ModuleID.SESSIONS, ModuleID.CDRS)]
        await here.ports.vault.erase(subject)
        erased = [len(await here.ocpi("GET", module, **since)) for module in (ModuleID.SESSIONS, ModuleID.CDRS)]

        assert restricted == [1, 2]
        assert erased == [1, 1]


async def test_a_cdr_can_be_credited_while_its_driver_is_restricted() -> None:
    async with open_for_business() as here:
        await charge(here, "1", CARD, at=0)
        await here.ports.vault.restrict(here.ports.vault.subject_of(CARD), until=START + timedelta(days=365))
        (cdr,) = await here.cdrs()

        answer = await here.api("POST", f"/{CPO}/cdrs/{cdr.cdr_id}/credit", {"reason": "disputed"})
        await here.settle()

        assert answer.status_code == 200
        assert [body.get("credit", False) for body in here.emsp.got("cdrs")] == [False, True]


async def test_the_end_of_an_erased_drivers_token_removes_what_was_cached_of_it() -> None:
    async with open_for_business() as here:
        await here.ports.vault.erase(here.ports.vault.subject_of(CARD))

        here.clock.step_by(timedelta(minutes=1))
        await here.put_token(valid=False)
        here.emsp.allowed = None
        answer = await here.authorize()

        assert await here.rows(TOKEN) == []
        assert answer.status is not AuthorizationStatus.ACCEPTED


async def test_what_waits_for_a_partner_is_sealed_under_the_driver_it_names_and_dropped_when_erased() -> None:
    async with open_for_business() as here:
        here.http.cut(PARTNERS)
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.updated(), here.ended(), settle=False)
        for _ in range(SETTLE_ROUNDS_MAX):
            if await here.cdrs():
                break
            await asyncio.sleep(0.002)
        subject = here.ports.vault.subject_of(CARD)
        waiting = [each for each in await here.rows(DELIVERY) if each.module in {"sessions", "cdrs"}]

        await here.ports.vault.erase(subject)
        here.http.mend(PARTNERS)
        await here.settle()

        assert {each.message.subject for each in waiting} == {subject}
        assert here.emsp.got("cdrs") == []
        assert await here.rows(DELIVERY) == []
