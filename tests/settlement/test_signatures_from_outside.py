"""A party that keeps its own key: what it is shown, how it signs, and what is refused by which rule."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import httpx
import pytest
from pydantic import SecretStr

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.domain.batch.leaf import Leaf, LeafKind, cdr_key_of
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import acceptance_digest
from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.runtime.access import Access
from emobility.runtime.settings import Settings
from services.settlement import api
from services.settlement.batching import book_of
from services.settlement.records import LEAF, BatchRecord, StatementRecord, StatementState
from services.settlement.service import Settlement, build
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, a_cdr, accepted, terms

INTERNAL: Final = "i" * 40
OWN_KEY: Final = LocalChainSigner(b"\x11" * 32)
OTHER_MSP: Final = PartyId("NL-WIN")


class Outside:
    """A settlement whose MSP is an outsider, seen through its HTTP face."""

    def __init__(
        self, here: Settling, service: Settlement, http: httpx.AsyncClient, tokens: dict[PartyId, str]
    ) -> None:
        self.here = here
        self.service = service
        self.http = http
        self.tokens = tokens

    async def get(self, path: str, party_id: PartyId = MSP) -> httpx.Response:
        return await self.http.get(path, headers={"Authorization": f"Bearer {self.tokens[party_id]}"})

    async def close(self, body: dict[str, str]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {INTERNAL}"}
        return await self.http.post("/internal/close", json=body, headers=headers)

    async def statement(self) -> StatementRecord:
        return (await self.here.world.statements())[-1]

    async def batch(self) -> BatchRecord:
        return (await self.here.batches())[-1]

    async def signature(
        self, batch: BatchRecord, *, key: LocalChainSigner = OWN_KEY, chain_id: int | None = None
    ) -> bytes:
        book = replace(book_of(batch), chain_id=chain_id or batch.chain_id)
        digest = acceptance_digest(
            book, batch_id=batch.batch_id, pairs_hash=batch.pairs_hash, party=self.here.numbers[MSP], pairs=1
        )
        return await key.sign_digest(digest)

    async def accept(
        self, batch: BatchRecord, signature: bytes, *, statement: StatementRecord | None = None, **changes: object
    ) -> httpx.Response:
        named = statement or await self.statement()
        body = {
            "chain_id": batch.chain_id,
            "book": batch.book.hex(),
            "batch_id": batch.batch_id.hex(),
            "signature": signature.hex(),
        }
        return await self.http.post(
            f"/{MSP}/statements/{named.statement_hash.hex()}/acceptance",
            content=codec.encode(body | changes),
            headers={"Authorization": f"Bearer {self.tokens[MSP]}"},
        )


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with open_settling() as here:
        await here.sign(terms(), outside=MSP)
        here.numbers = await here.market.prepare(here.world.ports.units, keys={MSP: OWN_KEY})
        await here.world.take(accepted(a_cdr("s1")))
        await here.world.closing.close_now()
        await here.follow()
        settings = Settings(
            environment="development",
            event_log="memory",
            internal_token=SecretStr(INTERNAL),
            master_key=SecretStr(MASTER_KEY.hex()),
        )
        ports = here.world.ports
        access = Access(INTERNAL, units=ports.units, master_key=MASTER_KEY)
        async with ports.units.begin() as unit:
            now = ports.clock.now()
            tokens = {
                party: await access.issue(unit, party, purpose="test", randomness=ports.randomness, now=now)
                for party in (CPO, MSP, OTHER_MSP)
            }
            await unit.commit()
        service = build(settings, ports, here.access)
        service.closing.chain_seen.set()  # its own process, which looks, is not at work
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=service.app), base_url="http://settlement", trust_env=False
        ) as http:
            yield Outside(here, service, http, tokens)


async def test_a_statement_waits_for_the_outsiders_signature_and_says_so(outside: Outside) -> None:
    (shown,) = (await outside.get(f"/{MSP}/statements")).json()

    assert (shown["state"], shown["waits_for"]) == ("CLOSED", "the signature of NL-ZON")
    assert shown["batch"]["chain_id"] == (await outside.batch()).chain_id
    assert await outside.here.transactions() == []
    assert await outside.service.backlog() == 0


async def test_a_signed_statement_becomes_final_and_the_signature_may_come_again(outside: Outside) -> None:
    batch = await outside.batch()
    signature = await outside.signature(batch)

    taken = await outside.accept(batch, signature)
    moving = await outside.service.backlog()
    again = await outside.accept(batch, signature)
    await outside.here.follow()
    late = await outside.accept(batch, signature)

    assert [taken.status_code, again.status_code, late.status_code] == [204, 204, 204]
    assert moving == 1
    assert (await outside.statement()).state is StatementState.FINAL


async def test_a_signature_for_another_chain_is_refused(outside: Outside) -> None:
    batch = await outside.batch()

    named = await outside.accept(batch, await outside.signature(batch, chain_id=1), chain_id=1)
    hidden = await outside.accept(batch, await outside.signature(batch, chain_id=1))

    assert (named.status_code, named.json()["error"]) == (409, "OtherChain")
    assert (hidden.status_code, hidden.json()["error"]) == (409, "SignatureNotOfParty")


async def test_a_signature_for_another_book_is_refused(outside: Outside) -> None:
    batch = await outside.batch()

    answer = await outside.accept(batch, await outside.signature(batch), book="ab" * 20)

    assert answer.json()["error"] == "OtherBook"


async def test_a_signature_that_was_used_before_is_refused(outside: Outside) -> None:
    first = await outside.batch()
    used = await outside.signature(first)
    await outside.accept(first, used)
    await outside.here.follow()
    await outside.here.world.take(accepted(a_cdr("s2")))
    await outside.here.world.closing.close_now()
    await outside.here.follow()
    second = next(each for each in await outside.here.batches() if each != first and each.proposed_in is None)
    open_one = next(each for each in await outside.here.world.statements() if each.batch_id == second.batch_id)

    as_it_was = await outside.accept(first, used, statement=open_one)
    renamed = await outside.accept(second, used, statement=open_one)

    assert as_it_was.json()["error"] == "OtherBatch"
    assert renamed.json()["error"] == "SignatureNotOfParty"


async def test_a_signature_by_another_key_is_refused(outside: Outside) -> None:
    batch = await outside.batch()

    answer = await outside.accept(batch, await outside.signature(batch, key=LocalChainSigner(b"\x12" * 32)))

    assert answer.json()["error"] == "SignatureNotOfParty"


async def test_a_statement_whose_cdr_was_changed_is_not_signed_any_more(outside: Outside) -> None:
    batch = await outside.batch()
    (leaf,) = await outside.here.world.leaves()
    async with outside.here.world.ports.units.begin() as unit:
        await unit.table(LEAF).put(replace(leaf, due_e4=leaf.due_e4 + 1))
        await unit.commit()

    answer = await outside.accept(batch, await outside.signature(batch))

    assert answer.json()["error"] == "StatementDiffers"


async def test_a_signature_while_the_chain_is_down_can_be_handed_in_later(outside: Outside) -> None:
    batch = await outside.batch()
    outside.here.fake.fake.is_down = True

    answer = await outside.accept(batch, await outside.signature(batch))

    assert (answer.status_code, answer.json()["error"]) == (503, "ChainUnavailable")


@pytest.mark.parametrize("path", ["", ".csv"])
async def test_a_statement_is_shown_to_its_two_parties_alone(outside: Outside, path: str) -> None:
    name = (await outside.statement()).statement_hash.hex()

    answers = {
        (party, reader): (await outside.get(f"/{party}/statements/{name}{path}", reader)).status_code
        for party in (CPO, MSP, OTHER_MSP)
        for reader in (CPO, MSP, OTHER_MSP)
    }

    assert {key for key, status in answers.items() if status == 200} == {(CPO, CPO), (MSP, MSP)}
    assert answers[OTHER_MSP, OTHER_MSP] == 404
    assert answers[CPO, MSP] == 403


async def test_a_statement_holds_what_its_roots_are_computed_from(outside: Outside) -> None:
    record = await outside.statement()
    shown = (await outside.get(f"/{MSP}/statements/{record.statement_hash.hex()}")).json()

    leaves = [
        Leaf(
            kind=LeafKind[line["kind"]],
            cdr_key=cdr_key_of(PartyId(shown["cpo"]), line["cdr"], pair_secret=bytes.fromhex(shown["pair_secret"])),
            import_wh=line["import_wh"],
            export_wh=line["export_wh"],
            commitment=bytes.fromhex(line["commitment"]),
            meter=bytes.fromhex(line["meter"]),
            due_e4=line["due_e4"],
            credit_e4=line["credit_e4"],
        )
        for line in shown["cdrs"]
    ]
    trees = StatementTrees(leaves)
    assert (trees.evidence_root.hex(), trees.sum_root.hash.hex()) == (shown["evidence_root"], shown["sum_root"])


@pytest.mark.parametrize(
    ("cdr_id", "cell"), [("=cmd()", "'=cmd()"), ("a;=cmd()", "a;'=cmd()"), ("\t=x", "'\t'=x"), ("a=b;c-d", "a=b;c-d")]
)
async def test_a_table_is_harmless_in_a_spreadsheet(outside: Outside, cdr_id: str, cell: str) -> None:
    await outside.here.world.take(accepted(a_cdr(cdr_id)))
    await outside.here.world.closing.close_now()
    named = next(each for each in await outside.here.world.statements() if each.sequence == 2)

    answer = await outside.get(f"/{MSP}/statements/{named.statement_hash.hex()}.csv")

    head, line = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/csv")
    assert head.startswith("cpo,emsp,agreement,sequence,place,cdr,")
    assert line.startswith(f"NL-TUL,NL-ZON,TUL-ZON-1,2,0,{cell},")
    assert line.endswith(",15000,0,EUR")


async def test_a_large_statement_is_written_beside_the_loop(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    statement, writers = await outside.statement(), []

    def slowly(*_: object, **__: object) -> str:
        writers.append(threading.current_thread())
        return ""

    monkeypatch.setattr(api, "statement_csv", slowly)
    monkeypatch.setattr(api, "statement_document", slowly)
    for form in ("", ".csv"):
        await outside.get(f"/{MSP}/statements/{statement.statement_hash.hex()}{form}")

    assert len(writers) == 2
    assert threading.main_thread() not in writers


async def test_an_operator_closes_and_nobody_else(outside: Outside) -> None:
    await outside.here.world.take(accepted(a_cdr("s2")))

    refused = await outside.http.post("/internal/close", headers={"Authorization": f"Bearer {outside.tokens[CPO]}"})
    half = await outside.close({"cpo_id": "NL-TUL"})
    other = await outside.close({"cpo_id": "NL-TUL", "agreement_id": "other"})
    closed = await outside.close({"cpo_id": "NL-TUL", "agreement_id": terms().agreement_id})

    assert refused.status_code == 403
    assert half.status_code == 422
    assert (other.json(), closed.json()) == ({"closed": 0}, {"closed": 1})


@pytest.mark.parametrize("name", ["00", "zz" * 32, "00" * 32])
async def test_what_names_no_statement_is_not_found(outside: Outside, name: str) -> None:
    assert (await outside.get(f"/{MSP}/statements/{name}")).status_code == 404
