"""Over HTTP: a leaf that only a partner's books have is demanded or struck, and a party chooses who answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from emobility.domain.batch.disputes import CaseStage, Contested, DisputeKind
from services.settlement.dispute_records import DisputeState
from services.settlement.records import LEAF, STATEMENT, TransactionState
from tests.settlement.accuser import Accuser
from tests.settlement.settling import open_settling
from tests.settlement.test_heard_disputes import OVER, only, stated_twice
from tests.settlement.world import CPO, MSP

HEADERS: Final = {"Authorization": f"Bearer {'i' * 40}"}


@pytest.fixture
async def accuser() -> AsyncIterator[Accuser]:
    async with open_settling() as here:
        yield await Accuser.over(here)


async def said(accuser: Accuser, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=accuser.here.service().app)
    async with httpx.AsyncClient(transport=transport, base_url="http://settlement", trust_env=False) as http:
        return await http.request(method, f"/{CPO.code}{path}", json=body, headers=HEADERS)


def given(its: Contested, **changes: Any) -> dict[str, Any]:
    leaf = its.placed.leaf
    return {
        "opening": its.opening.hex(),
        "leaf": leaf.evidence_hash.hex(),
        "due_e4": leaf.due_e4,
        "credit_e4": leaf.credit_e4,
        "index": its.placed.proof.index,
        "siblings": its.placed.proof.packed.hex(),
    } | changes


async def forget(accuser: Accuser, cdr_id: str) -> Contested:
    """Have these books lack a CDR; return what the partner gave of it."""
    async with accuser.here.world.ports.units.begin() as unit:
        leaf = await unit.table(LEAF).get(CPO, cdr_id)
        assert leaf is not None
        statement = await unit.table(STATEMENT).get(CPO, leaf.agreement_id, leaf.version, leaf.sequence)
    its = await accuser.contested(cdr_id, statement=statement)
    async with accuser.here.world.ports.units.begin() as unit:
        await unit.table(LEAF).put(replace(leaf, import_wh=leaf.import_wh + 1))
        await unit.commit()
    return its


async def test_a_leaf_that_these_books_lack_is_demanded_and_lost_by_the_other_side_s_silence(accuser: Accuser) -> None:
    its = await forget(accuser, "c1")
    await accuser.here.follow()

    asked = {"kind": "WITHHELD", "given": given(its)}
    answer = await said(accuser, "POST", "/disputes", asked)
    again = await said(accuser, "POST", "/disputes", asked)
    await accuser.here.follow()

    assert (answer.status_code, again.status_code) == (202, 202)
    row = await only(accuser)
    assert (row.kind, row.party_id, row.state) == (DisputeKind.WITHHELD, CPO, DisputeState.OPEN)
    assert (answer.json()["case"], answer.json()["stated_e4"]) == (its.case_id.hex(), 15_000)
    assert (await accuser.case(its.case_id)).stage is CaseStage.DEMANDED
    accuser.later(OVER)
    await accuser.here.follow()
    (shown,) = (await said(accuser, "GET", "/disputes")).json()
    assert (shown["state"], shown["corrected_e4"], shown["cdr"]) == ("DECIDED", -15_000, None)
    assert await accuser.corrected_e4() == -15_000


async def test_a_demand_that_its_party_made_with_another_tool_is_followed_to_its_end(accuser: Accuser) -> None:
    its = await forget(accuser, "c1")
    await accuser.here.follow()
    await said(accuser, "POST", "/disputes", {"kind": "WITHHELD", "given": given(its)})
    await accuser.demand(by=CPO, its=its)

    for _ in range(2):  # refused, and looked at
        await accuser.here.follow()

    row = await only(accuser)
    assert (row.state, row.turn_of, row.waiting) == (DisputeState.OPEN, MSP, None)
    accuser.later(OVER)
    await accuser.here.follow()
    assert ((await only(accuser)).state, await accuser.corrected_e4()) == (DisputeState.DECIDED, -15_000)
    assert {each.state for each in await accuser.calls()} == {TransactionState.FINAL}


async def test_a_duplicate_that_a_partner_stated_is_struck(accuser: Accuser) -> None:
    asked = await asked_as_duplicate(accuser)

    other = await said(accuser, "POST", "/disputes", asked | {"cdr": "c2"})
    answer = await said(accuser, "POST", "/disputes", asked)
    await accuser.here.follow()

    assert (other.status_code, other.json()["error"]) == (409, "NothingWrong")
    assert answer.status_code == 202
    row = await only(accuser)
    assert (row.kind, row.state, row.corrected_e4) == (DisputeKind.DUPLICATE, DisputeState.DECIDED, -15_000)


async def test_a_proof_that_somebody_else_showed_before_is_not_tried_for_ever(accuser: Accuser) -> None:
    asked = await asked_as_duplicate(accuser)
    await said(accuser, "POST", "/disputes", asked)
    (queued,) = await accuser.calls()
    await accuser.send(queued.calldata)

    for _ in range(2):  # refused, and looked at
        await accuser.here.follow()

    assert (await only(accuser)).state is DisputeState.DECIDED
    assert await accuser.calls() == []


async def asked_as_duplicate(accuser: Accuser) -> dict[str, Any]:
    """Have a partner state a CDR twice; return what is asked of its second leaf."""
    await stated_twice(accuser)
    await accuser.here.follow()
    its = await forget(accuser, "again")
    first = min(await accuser.here.world.statements(), key=lambda each: each.sequence)
    leaf = its.placed.leaf
    whole = {
        "kind": leaf.kind.name,
        "cdr_key": leaf.cdr_key.hex(),
        "import_wh": leaf.import_wh,
        "export_wh": leaf.export_wh,
        "commitment": leaf.commitment.hex(),
        "meter": leaf.meter.hex(),
    }
    return {
        "kind": "DUPLICATE",
        "statement": first.statement_hash.hex(),
        "cdr": "c1",
        "given": given(its, leaf=whole),
    }


@pytest.mark.parametrize(
    ("change", "status", "rule"),
    [
        ({"due_e4": 1}, 409, "NothingWrong"),
        ({"index": 7}, 409, "NothingWrong"),
        ({"siblings": "00"}, 422, "MalformedProofGiven"),
        ({"opening": "00"}, 422, "MalformedCall"),
        ({"leaf": "zz"}, 422, "NotUnderstood"),
    ],
)
async def test_what_the_book_does_not_have_is_not_sent(
    accuser: Accuser, change: dict[str, Any], status: int, rule: str
) -> None:
    its = await accuser.contested("c1")
    await accuser.here.follow()

    answer = await said(accuser, "POST", "/disputes", {"kind": "WITHHELD", "given": given(its, **change)})

    assert (answer.status_code, answer.json()["error"]) == (status, rule)
    assert await accuser.calls() == []


async def test_a_party_chooses_who_answers_and_shows_a_leaf_by_its_word(accuser: Accuser) -> None:
    before = (await said(accuser, "GET", "/dispute-policy")).json()
    chosen = await said(accuser, "PUT", "/dispute-policy", {"reveals": "MANUAL"})
    case = await accuser.demand()
    await accuser.here.follow()

    (open_,) = (await said(accuser, "GET", "/disputes")).json()
    shown = await said(accuser, "POST", f"/disputes/{case.hex()}/leaf")
    unknown = await said(accuser, "POST", f"/disputes/{bytes(32).hex()}/leaf")
    await accuser.here.follow()

    assert before == {"reveals": "AUTOMATIC", "defends": "MANUAL"}
    assert chosen.json() == {"reveals": "MANUAL", "defends": "MANUAL"}
    assert (open_["turn_of"], open_["state"], open_["cdr"]) == (CPO.code, "OPEN", "c1")
    assert (shown.status_code, unknown.status_code) == (202, 409)
    assert (await only(accuser)).state is DisputeState.ANSWERED
