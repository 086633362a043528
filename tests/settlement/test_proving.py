"""What a party is told of one of its CDRs: where it stands and, once it is final, a proof that tells no amount."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import LeafKind, evidence_hash
from emobility.domain.batch.trees import Proof, proven_root
from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.cdr_standing import CDRStanding, Stage
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from services.settlement import proving as proving_module
from services.settlement.closing import StatementDiffers, leaves_of
from services.settlement.proving import TREES_KEPT_MAX, Proving, UnknownCDR
from services.settlement.records import LEAF, LeafRecord, StatementRecord
from services.settlement.service import build
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, accepted, terms

OTHER = PartyId("NL-WIN")
DUE_E4 = 123_456


@pytest.fixture
async def here(dsn: str | None) -> AsyncIterator[Settling]:
    async with open_settling(dsn) as opened:
        await opened.sign(terms())
        opened.numbers = await opened.market.prepare(opened.world.ports.units)
        yield opened


async def settle(here: Settling, *ids: str) -> None:
    await here.world.take(*[accepted(a_cdr(each, DUE_E4)) for each in ids])
    await here.world.closing.close_now()
    await here.follow()


async def test_a_cdr_is_followed_to_a_proof_of_its_place_in_the_final_statement(here: Settling) -> None:
    proving, stages = Proving(here.world.ports), []
    await here.world.take(*[accepted(a_cdr(f"s{n}", DUE_E4)) for n in range(5)])
    stages.append((await proving.standing(MSP, CPO, "s3")).stage)
    await here.world.closing.close_now()
    stages.append((await proving.standing(MSP, CPO, "s3")).stage)
    with here.fake.held():
        await here.follow_steps(1)
        stages.append((await proving.standing(MSP, CPO, "s3")).stage)
    await here.follow()

    final = await proving.standing(MSP, CPO, "s3")

    (statement,), (transaction,) = await here.world.statements(), await here.transactions()
    assert (stages, final.stage) == ([Stage.COLLECTED, Stage.CLOSED, Stage.PROPOSED], Stage.FINAL)
    assert final.settled is not None
    place = final.settled.place
    leaf = evidence_hash(
        kind=LeafKind.CHARGE,
        cdr_key=bytes.fromhex(place.cdr_key),
        import_wh=5_000,
        export_wh=0,
        commitment=keccak256(b"s3"),
        meter=bytes.fromhex(place.meter or ""),
    )
    siblings = tuple(bytes.fromhex(each) for each in place.siblings)
    assert proven_root(leaf, Proof(index=place.index, count=5, siblings=siblings)) == statement.evidence_root
    assert transaction.hash is not None
    assert (final.settled.chain.transaction, final.block_number) == (transaction.hash.hex(), transaction.block_number)
    assert final == await proving.standing(CPO, CPO, "s3")


async def test_nobody_but_the_two_parties_learns_of_a_cdr(here: Settling) -> None:
    await settle(here, "s1")
    proving = Proving(here.world.ports)

    for party_id, cdr_id in ((OTHER, "s1"), (MSP, "s2")):
        with pytest.raises(UnknownCDR):
            await proving.standing(party_id, CPO, cdr_id)


async def test_what_lacks_cover_is_told_as_that() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units, without_cover=[MSP])
        await settle(here, "s1")

        assert (await Proving(here.world.ports).standing(MSP, CPO, "s1")).stage is Stage.UNFUNDED


async def test_a_proposal_that_a_chain_lost_is_named_as_it_was_made_again() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        await settle(here, "s1")
        proving = Proving(here.world.ports)
        (lost,) = await here.transactions()
        here.fake.fake.reorganise(3, keep_transactions=False)
        assert lost.nonce is not None
        await here.use_nonce(lost.nonce)

        with here.fake.held():
            await here.follow_steps(1)
            meanwhile = await proving.standing(MSP, CPO, "s1")
        await here.follow()
        again = await proving.standing(MSP, CPO, "s1")

        (found,) = await here.transactions()
        assert found.hash not in {None, lost.hash}
        assert (meanwhile.stage, meanwhile.block_number) == (Stage.FINAL, None)
        assert again.settled is not None
        assert (again.settled.chain.transaction, again.block_number) == ((found.hash or b"").hex(), found.block_number)


async def test_nothing_is_proven_from_rows_that_were_changed() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        await settle(here, "s1", "s2")
        async with here.world.ports.units.begin() as unit:
            leaf = await unit.table(LEAF).get(CPO, "s2")
            assert leaf is not None
            await unit.table(LEAF).put(replace(leaf, import_wh=1))
            await unit.commit()

        with pytest.raises(StatementDiffers):
            await Proving(here.world.ports).standing(MSP, CPO, "s1")


async def test_only_so_many_trees_are_kept() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        proving = Proving(here.world.ports)
        for number in range(TREES_KEPT_MAX + 2):
            await settle(here, f"s{number}")
            await proving.standing(MSP, CPO, f"s{number}")

        assert len(proving._trees) == TREES_KEPT_MAX
        assert (await proving.standing(MSP, CPO, "s0")).stage is Stage.FINAL


async def test_who_asks_about_one_statement_at_once_has_it_read_once(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(here, "s1", "s2")
    read: list[StatementRecord] = []

    async def counted(unit: UnitOfWork, record: StatementRecord) -> list[LeafRecord]:
        read.append(record)
        await asyncio.sleep(0)
        return await leaves_of(unit, record)

    monkeypatch.setattr(proving_module, "leaves_of", counted)
    proving = Proving(here.world.ports)
    answers = await asyncio.gather(*[proving.standing(MSP, CPO, cdr_id) for cdr_id in ("s1", "s2") * 3])

    assert {each.stage for each in answers} == {Stage.FINAL}
    assert len(read) == 1


async def test_the_route_wants_the_partys_own_token_and_tells_no_amount() -> None:
    async with open_settling() as here:
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        await settle(here, "a/b 1")
        ports = here.world.ports
        access = Access("i" * 40, units=ports.units, master_key=MASTER_KEY)
        async with ports.units.begin() as unit:
            now = ports.clock.now()
            token = await access.issue(unit, MSP, purpose="test", randomness=ports.randomness, now=now)
            await unit.commit()
        settings = Settings(
            environment="development",
            event_log="memory",
            internal_token=SecretStr("i" * 40),
            master_key=SecretStr(MASTER_KEY.hex()),
        )
        transport = httpx.ASGITransport(app=build(settings, ports, here.access).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://settlement", trust_env=False) as http:
            headers = {"Authorization": f"Bearer {token}"}
            paths = (f"/{MSP}/cdrs/{CPO}/a%2Fb%201", f"/{MSP}/cdrs/{CPO}/none", f"/{CPO}/cdrs/{CPO}/a%2Fb%201")
            answers = [await http.get(path, headers=headers) for path in paths]
            without = await http.get(paths[0])

    assert [each.status_code for each in (*answers, without)] == [200, 404, 403, 401]
    assert codec.decode(answers[0].content, CDRStanding).stage is Stage.FINAL
    assert str(DUE_E4) not in answers[0].text
