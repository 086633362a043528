"""Confidential batches that stand on the chain and not in our rows, which are older: whose word lets their pairs go.

The chain tells the parties of such a batch, not its pairs: all pairs of two of them are held (`adopting`), or one could
be settled twice. Only people know whether what waits here, or comes in again, is in it. An operator who has compared
the books of the pairs with their partners' says that nothing is; what can be seen to be in it no word lets go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from msgspec import Struct

from emobility.domain.batch.confidential import posted_hash, salts_of
from emobility.domain.batch.hashing import HASH_BYTES
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import Access
from services.settlement.api import NotHere, NotUnderstood, answer, hash_of, read_body
from services.settlement.closing import name_of
from services.settlement.confidential_batches import sealed_statement
from services.settlement.confidential_records import CONFIDENTIAL_BATCH
from services.settlement.records import AGREEMENT, PARTY, STATEMENT, StatementRecord, StatementState

WHO_CHARACTERS_MAX: Final = 100
WHY_CHARACTERS_MAX: Final = 1_000
BATCHES_SHOWN_MAX: Final = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An agreement that may be in a batch."""

    cpo_id: PartyId
    agreement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """An operator's: nothing that waits here of a batch's pairs, or will come in again, is in it."""

    who: str
    why: str
    given_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingBatch:
    """A batch of which only the chain knows.

    Attributes:
        transaction: Hash of the transaction that settled it.
        hashes: What it posted, 32 bytes each; empty where its call can't be read.
        pairs: All that may be in it.
        word: What lets them go; None: they are held.
    """

    chain_id: int
    batch_id: bytes
    currency: str
    transaction: bytes
    hashes: bytes
    pairs: tuple[Pair, ...]
    found_at: datetime
    word: Word | None


MISSING_BATCH: Final = TableSpec(name="settlement_missing_batch", record=MissingBatch, key=("chain_id", "batch_id"))


class UnknownBatch(NotHere):
    """No such batch is missing here."""

    def __init__(self, batch_id: bytes) -> None:
        super().__init__(f"no batch {batch_id.hex()} is missing here")


class StandsInBatch(RuleBroken):
    """No word lets go what is in a batch for all to see: it would be settled twice."""


class MissingBatches:
    """Keeps what is missing, and takes an operator's word."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def note(self, chain_id: int, found: Mapping[bytes, MissingBatch]) -> list[MissingBatch]:
        """Keep what was found at a look at the chain, in place of what was before; return it with the words given."""
        async with self._ports.units.begin() as unit:
            known = {row.batch_id: row for row in await unit.table(MISSING_BATCH).select({"chain_id": chain_id})}
            for batch_id, row in known.items():
                if batch_id not in found and row.word is None:
                    await unit.table(MISSING_BATCH).remove(chain_id, batch_id)
            rows = [replace(each, word=known[key].word) if key in known else each for key, each in found.items()]
            for row in rows:
                if row.batch_id not in known:
                    await unit.table(MISSING_BATCH).put(row)
            await unit.commit()
        return rows

    async def known(self) -> list[MissingBatch]:
        """Return what is or was missing, the newest first."""
        async with self._ports.units.begin() as unit:
            return await unit.table(MISSING_BATCH).select(order_by=("-found_at",), limit=BATCHES_SHOWN_MAX)

    async def give_word(self, batch_id: bytes, *, who: str, why: str) -> MissingBatch:
        """Let the pairs of a batch go. The first word counts.

        Raises:
            UnknownBatch: none of this id is missing.
            StandsInBatch: the batch is here and not as it is on the chain, or a statement that waits is in it.
        """
        async with self._ports.units.begin() as unit:
            found = await unit.table(MISSING_BATCH).select({"batch_id": batch_id})
            if not found:
                raise UnknownBatch(batch_id)
            row = await unit.table(MISSING_BATCH).get_for_update(found[0].chain_id, batch_id)
            assert row is not None
            if row.word is not None:
                return row
            if await unit.table(CONFIDENTIAL_BATCH).get(batch_id) is not None:
                raise StandsInBatch(f"batch {batch_id.hex()} is here with its statements: restore a newer copy")
            if in_it := await self._in_it(unit, row):
                names = ", ".join(str(name_of(each)) for each in in_it)
                raise StandsInBatch(f"in batch {batch_id.hex()} stands {names}: restore a newer copy")
            given = replace(row, word=Word(who=who, why=why, given_at=self._ports.clock.now()))
            await unit.table(MISSING_BATCH).put(given)
            await unit.commit()
        _log.warning("settlement_missing_batch_looked_at", batch=batch_id.hex(), who=who)
        return given

    async def _in_it(self, unit: UnitOfWork, batch: MissingBatch) -> list[StatementRecord]:
        """Return the statements of a batch's pairs that wait here and whose hashes it posted."""
        posted = {batch.hashes[start : start + HASH_BYTES] for start in range(0, len(batch.hashes), HASH_BYTES)}
        waiting = [
            record
            for pair in batch.pairs
            for record in await unit.table(STATEMENT).select(
                {"cpo_id": pair.cpo_id, "agreement_id": pair.agreement_id, "state": StatementState.CLOSED}
            )
        ]
        return [each for each in waiting if await self._posted(unit, each) in posted]

    async def _posted(self, unit: UnitOfWork, record: StatementRecord) -> bytes | None:
        """Return what a batch shows of a statement; None: its parties have no numbers yet."""
        pair = await unit.table(AGREEMENT).get(record.cpo_id, record.agreement_id)
        cpo, msp = [await unit.table(PARTY).get(each) for each in (record.cpo_id, record.emsp_id)]
        assert pair is not None
        if cpo is None or msp is None or cpo.number is None or msp.number is None:
            return None
        secret = bytes.fromhex(await self._ports.vault.open(pair.pair_secret))
        salts = salts_of(pair_secret=secret, agreement=record.book_agreement, sequence=record.sequence)
        statement = sealed_statement(record, cpo=cpo.number, msp=msp.number, salts=salts)
        return posted_hash(statement.struct_hash, salt=salts.posted)


class WordRequest(Struct, frozen=True, kw_only=True):
    """POST /internal/missing-batches/{batch}/word: who says that nothing of its pairs is in the batch, and why."""

    who: str
    why: str


class MissingBatchesAPI:
    """Routes for whoever runs the installation."""

    def __init__(self, access: Access, missing: MissingBatches) -> None:
        self._access = access
        self._missing = missing

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        app.add_api_route("/internal/missing-batches", self.list_batches, methods=["GET"])
        app.add_api_route("/internal/missing-batches/{batch}/word", self.give_word, methods=["POST"])

    async def list_batches(self, request: Request) -> Response:
        """List the batches that stand on the chain and not here."""
        await self._access.internal(request)
        return answer([_shown(each) for each in await self._missing.known()])

    async def give_word(self, request: Request) -> Response:
        """Let the pairs of a batch go."""
        await self._access.internal(request)
        asked = await read_body(request, WordRequest)
        for name, text, most in (("who", asked.who, WHO_CHARACTERS_MAX), ("why", asked.why, WHY_CHARACTERS_MAX)):
            if not text.strip() or len(text) > most:
                raise NotUnderstood(f"{name} has 1 to {most} characters")
        return answer(_shown(await self._missing.give_word(hash_of(request, "batch"), who=asked.who, why=asked.why)))


def _shown(row: MissingBatch) -> dict[str, Any]:
    return {
        "batch": row.batch_id.hex(),
        "chain_id": row.chain_id,
        "currency": row.currency,
        "transaction": row.transaction.hex(),
        "pairs": [f"{each.cpo_id}/{each.agreement_id}" for each in row.pairs],
        "found_at": row.found_at,
        "word": row.word,
    }
