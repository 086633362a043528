"""The settlement on a ledger instead of a chain: the same statements, receipts and audit, and who countersigned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from emobility.adapters.chain_signing import mnemonic_signer, party_signer
from emobility.adapters.cosigned_ledger.records import LEDGER_ENTRY
from emobility.adapters.cosigned_ledger.replica import LedgerBroken
from emobility.domain.agreement import SettlementMode
from emobility.domain.cosigned_ledger import head_digest
from emobility.domain.identifiers import PartyId
from emobility.events.settlement import StatementFinal, StatementUnfunded
from services.embedded.auditing import LEDGER_RULE, Depth, audit_installation
from services.settlement.countersigning import Countersigning
from services.settlement.crash_points import CrashPoint
from services.settlement.records import StatementState
from tests.chains import MNEMONIC, LedgerWorld, a_ledger
from tests.settlement.settling import Crashed, Settling, open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, a_credit, accepted, terms

OTHER_MSP = PartyId("NL-WIN")
OUTSIDE = mnemonic_signer(MNEMONIC, 7)
NOWHERE = b"\x11" * 20
PAGE = 32
"""Entries of one answer: each may have 128 kB."""
ON_CREDIT = terms(CPO, OTHER_MSP, settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=100_000)


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def here(dsn: str | None) -> AsyncIterator[Settling]:
    async with a_ledger(dsn) as world, open_settling(dsn, world) as settling:
        yield settling


def ledger_of(here: Settling) -> LedgerWorld:
    assert isinstance(here.chain, LedgerWorld)
    return here.chain


async def month(here: Settling, *, cover_e4: int = 10**9) -> None:
    """Two pairs with charges, one of them with a credit; closed."""
    await here.sign(terms(), ON_CREDIT)
    here.numbers = await here.market.prepare(here.world.ports.units, cover_e4=cover_e4)
    await here.world.take(accepted(a_cdr("s1")), accepted(a_cdr("s2")), accepted(a_credit(a_cdr("s2"))))
    await here.world.take(accepted(a_cdr("s3", 60_000), agreement=ON_CREDIT))
    await here.world.closing.close_now()


async def test_statements_become_final_and_the_audit_finds_nothing(here: Settling) -> None:
    await month(here)

    await here.follow()

    report = await here.audit()
    assert {each.state for each in await here.world.statements()} == {StatementState.FINAL}
    assert len(await here.world.told(StatementFinal)) == 2
    assert report.is_full
    assert report.differences == ()


async def test_when_all_is_at_rest_each_party_has_countersigned_the_newest_head(here: Settling) -> None:
    await month(here)

    await here.follow()

    head = await here.chain.chain.head()
    found = {each.signer: each.number for each in await ledger_of(here).ledger.countersignatures()}
    assert found == {party_signer(MASTER_KEY, each).address: head.number for each in (CPO, MSP, OTHER_MSP)}


async def test_a_payer_without_cover_holds_up_nobody_else(here: Settling) -> None:
    await month(here, cover_e4=1)

    await here.follow()
    (short,) = await here.world.told(StatementUnfunded)
    await here.market.deposit(here.numbers[MSP], 10**9)
    await here.follow()

    assert short.emsp_id == MSP
    assert {each.state for each in await here.world.statements()} == {StatementState.FINAL}
    assert (await here.audit()).differences == ()


@pytest.mark.parametrize("point", [each for each in CrashPoint if each is not CrashPoint.STATEMENT_CLOSED])
async def test_a_process_that_dies_leaves_a_ledger_that_the_next_one_goes_on_with(point: CrashPoint) -> None:
    async with a_ledger() as world, open_settling(None, world) as here:
        await month(here)
        with pytest.raises(Crashed):
            await here.follow(here.follower(dies_at=point))

        await here.follow()

        assert len(await here.proposed()) == 1
        assert len(await here.world.told(StatementFinal)) == 2
        assert (await here.audit()).differences == ()


async def test_a_party_with_its_own_key_hands_its_countersignature_in() -> None:
    async with a_ledger() as world, open_settling(None, world) as here:
        await here.sign(terms(), outside=MSP)
        await here.market.prepare(here.world.ports.units, keys={MSP: OUTSIDE})
        await here.store_deployment()
        countersigning = Countersigning(here.world.ports, here.access, world.ledger)
        head = await world.chain.head()
        signature = await OUTSIDE.sign_digest(head_digest(await world.chain.chain_id(), head.number, head.hash))

        await countersigning.advance()
        await countersigning.take(MSP, number=head.number, hash_=head.hash, signature=signature)

        found = {each.signer: each.number for each in await world.ledger.countersignatures()}
        assert found == {OUTSIDE.address: head.number, party_signer(MASTER_KEY, CPO).address: head.number}


async def test_parties_read_the_ledger_and_hand_in_signatures_by_http() -> None:
    async with a_ledger() as world, open_settling(None, world) as here:
        await month(here)
        await here.store_deployment()
        await here.follow()
        for _ in range(PAGE):
            await world.sent(NOWHERE, b"")
        app = here.service().app
        transport, token = httpx.ASGITransport(app=app), {"Authorization": f"Bearer {'i' * 40}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://s", headers=token) as client:
            pages, path = list[list[dict[str, Any]]](), f"/{MSP}/ledger/entries"
            while page := (await client.get(path, params={"first": 1 + PAGE * len(pages)})).json():
                pages.append(page)
            countersigned = (await client.get(f"/{MSP}/ledger/countersignatures")).json()
            mine = next(each for each in countersigned if each["signer"] == party_signer(MASTER_KEY, MSP).address.hex())
            asked = {name: mine[name] for name in ("number", "hash", "signature")}
            answers = [await client.post(f"/{party}/ledger/countersignature", json=asked) for party in (MSP, OTHER_MSP)]
            refused = await client.get(f"/{MSP}/ledger/entries", params={"first": "-1"})
            unknown = await client.get(f"/{MSP}/ledger/entries", headers={"Authorization": "Bearer no"})

    head, entries = world.ledger.replica.head, [each for page in pages for each in page]
    assert {len(page) for page in pages[:-1]} == {PAGE}
    assert [each["number"] for each in entries] == list(range(1, head.number + 1))
    assert entries[-1]["hash"] == head.hash.hex()
    assert [each.status_code for each in answers] == [204, 409]
    assert (refused.status_code, unknown.status_code) == (422, 401)


async def test_a_ledger_whose_rows_were_changed_behind_the_trigger_opens_for_nobody(
    postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = {"DATABASE_URL": postgres_dsn, "ENVIRONMENT": "development", "SETTLEMENT_ON": "ledger"}
    secrets = {"INTERNAL_TOKEN": "i" * 40, "MASTER_KEY": MASTER_KEY.hex()}
    for name, value in (installed | secrets).items():
        monkeypatch.setenv(f"WATTROAM_{name}", value)
    codes: list[int] = []

    async def audit() -> dict[str, Any]:
        codes.append(await audit_installation(tmp_path, depth=Depth.AS_DEEP_AS_CAN_BE, json=True, truth=None))
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    async with a_ledger(postgres_dsn) as world, open_settling(postgres_dsn, world) as here:
        await month(here)
        await here.follow()
        await here.audit()
        capsys.readouterr()
        sound = await audit()
        async with world.units.begin() as unit:
            (last,) = await unit.table(LEDGER_ENTRY).select(order_by=("-number",), limit=1)
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute("ALTER TABLE ledger_entry DISABLE TRIGGER only_grows")
            connection.execute("UPDATE ledger_entry SET timestamp_s = timestamp_s + 1 WHERE number = %s", [last.number])

        with pytest.raises(LedgerBroken, match="another hash") as broken:
            await world.reopened()
        changed = await audit()

    assert codes == [0, 1]
    assert sound["full"]
    assert broken.value.number == last.number
    assert [(each["rule"], each["scope"]) for each in changed["differences"]] == [(LEDGER_RULE, f"entry {last.number}")]
