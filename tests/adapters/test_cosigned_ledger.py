"""The ledger beyond what it shares with a chain: order, rows that change, two writers, files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from emobility.adapters.cosigned_ledger.exported import (
    MalformedLedgerFile,
    exported,
    keep_head,
    open_exported,
    read_exported,
    read_heads,
)
from emobility.adapters.cosigned_ledger.ledger import LedgerRewritten, open_ledger, read_ledger, replayed
from emobility.adapters.cosigned_ledger.records import LEDGER_ENTRY
from emobility.adapters.cosigned_ledger.replica import LedgerBroken
from emobility.adapters.memory import SeededRandomness
from emobility.domain.batch import contracts
from emobility.domain.cosigned_ledger import LEDGER_ID_FIRST, Countersignature, Head, LedgerEntry, head_digest
from emobility.ports.chain import TransactionNotTaken
from emobility.ports.chain_signer import ChainSigner, UnsignedTransaction
from emobility.ports.cosigned_ledger import NotCountersigned
from emobility.ports.unit_of_work import UnitOfWork, Units
from tests.chains import LedgerWorld, a_ledger

HOLDER = b"\x11" * 20


@pytest.fixture(params=["memory", "postgres"])
def dsn(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def world(dsn: str | None) -> AsyncIterator[LedgerWorld]:
    async with a_ledger(dsn) as opened:
        yield opened


@pytest.fixture
async def here() -> AsyncIterator[LedgerWorld]:
    async with a_ledger() as opened:
        yield opened


async def minted(world: LedgerWorld, times: int = 3) -> bytes:
    """Have a few entries made."""
    currency = await world.currency()
    for amount in range(1, times + 1):
        await world.sent(currency, contracts.MINT.call(HOLDER, amount))
    return currency


async def head_of(world: LedgerWorld) -> Head:
    return Head.of(await world.chain.chain_id(), world.ledger.replica.head)


async def countersignature(world: LedgerWorld, *, by: int = 2, **changes: Any) -> Countersignature:
    head, signer = await head_of(world), world.account(by)
    signature = await signer.sign_digest(head.digest)
    made = Countersignature(number=head.number, signer=signer.address, hash=head.hash, signature=signature)
    return replace(made, **changes)


async def rows(world: LedgerWorld) -> list[LedgerEntry]:
    async with world.units.begin() as unit:
        return await unit.table(LEDGER_ENTRY).select(order_by=("number",))


async def test_whoever_opens_it_anew_finds_the_same(world: LedgerWorld) -> None:
    currency = await minted(world)
    await world.ledger.countersign(await countersignature(world))

    again = await world.reopened()

    asked = contracts.TOKENS_OF.call(HOLDER)
    assert await again.head() == await world.chain.head()
    assert await again.call(currency, asked) == await world.chain.call(currency, asked)
    assert await again.countersignatures() == await world.ledger.countersignatures() != []
    assert await again.chain_id() >= LEDGER_ID_FIRST


async def test_what_one_process_enters_the_other_sees(world: LedgerWorld) -> None:
    other = await world.reopened()

    await minted(world)

    assert await other.head() == await world.chain.head()


class Overtaken:
    """The operator's key in a process that another one overtakes while it signs."""

    def __init__(self, key: ChainSigner) -> None:
        self._key = key
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    @property
    def address(self) -> bytes:
        return self._key.address

    async def sign_transaction(self, transaction: UnsignedTransaction) -> bytes:
        return await self._key.sign_transaction(transaction)

    async def sign_digest(self, digest: bytes) -> bytes:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        return await self._key.sign_digest(digest)


async def test_a_writer_that_is_overtaken_writes_behind_the_other(world: LedgerWorld) -> None:
    currency, key = await minted(world, 0), Overtaken(world.payer)
    other = await open_ledger(world.units, operator=key, clock=world.clock, randomness=SeededRandomness(2))
    mine, theirs = [
        await world.signed(currency, contracts.MINT.call(HOLDER, 1), by=world.account(number)) for number in range(2)
    ]
    key.meanwhile = partial(world.ledger.send_raw, theirs)

    await other.send_raw(mine)

    stored = await rows(world)
    assert [each.raw for each in stored[-2:]] == [theirs, mine]
    assert [each.parent_hash for each in stored[1:]] == [each.hash for each in stored[:-1]]
    assert await world.chain.head() == await other.head() == await (await world.reopened()).head()


async def test_a_call_out_of_turn_or_entered_before_is_not_taken(here: LedgerWorld) -> None:
    raw = await here.signed(HOLDER, b"", nonce=0)
    await here.ledger.send_raw(raw)

    with pytest.raises(TransactionNotTaken, match="nonce too low"):
        await here.ledger.send_raw(raw)
    with pytest.raises(TransactionNotTaken, match="nonce too high"):
        await here.ledger.send_raw(await here.signed(HOLDER, b"", nonce=2))


async def test_another_operator_s_key_opens_nothing(here: LedgerWorld) -> None:
    here.mnemonic = "legal winner thank year wave sausage worth useful legal winner thank yellow"

    with pytest.raises(LedgerBroken, match="its operator is"):
        await here.reopened()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: replace(entry, raw=entry.raw[:-1] + bytes([entry.raw[-1] ^ 1])), "nonce|sender"),
        (lambda entry: replace(entry, timestamp_s=entry.timestamp_s - 1), "another hash|older than"),
        (lambda entry: replace(entry, outcome=bytes(32)), "another outcome"),
        (lambda entry: replace(entry, parent_hash=bytes(32)), "does not follow"),
        (lambda entry: replace(entry, signature=bytes(64)), "did not sign"),
        (lambda entry: replace(entry, hash=bytes(32)), "another hash"),
    ],
)
async def test_a_changed_row_is_found_by_whoever_opens_it(
    here: LedgerWorld, change: Callable[[LedgerEntry], LedgerEntry], reason: str
) -> None:
    await minted(here)
    async with here.units.begin() as unit:
        await unit.table(LEDGER_ENTRY).put(change((await rows(here))[3]))
        await unit.commit()

    with pytest.raises(LedgerBroken, match=reason) as broken:
        await here.reopened()

    assert broken.value.number == 3


@pytest.mark.parametrize(("by_s", "reason"), [(1, "another hash"), (-(10**12), "no beginning")])
async def test_a_beginning_with_another_moment_is_found_by_whoever_opens_it(
    here: LedgerWorld, by_s: int, reason: str
) -> None:
    (first,) = await rows(here)
    async with here.units.begin() as unit:
        await unit.table(LEDGER_ENTRY).put(replace(first, timestamp_s=first.timestamp_s + by_s))
        await unit.commit()

    with pytest.raises(LedgerBroken, match=reason) as broken:
        await here.reopened()

    assert broken.value.number == 0


async def test_a_process_that_has_read_a_row_sees_that_it_went(here: LedgerWorld) -> None:
    await minted(here)
    async with here.units.begin() as unit:
        await unit.table(LEDGER_ENTRY).delete(here.ledger.replica.head.number)
        await unit.commit()

    with pytest.raises(LedgerRewritten):
        await here.chain.head()


async def test_the_database_lets_nobody_change_or_remove_an_entry_by_mistake(postgres_dsn: str) -> None:
    async with a_ledger(postgres_dsn) as world:
        await minted(world)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        for words in (
            "UPDATE ledger_entry SET raw = ''",
            "DELETE FROM ledger_entry WHERE number = 2",
            "TRUNCATE ledger_entry",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
                connection.execute(words.encode())


async def test_there_is_no_ledger_where_nobody_began_one(here: LedgerWorld) -> None:
    async with here.units.begin() as unit:
        await unit.table(LEDGER_ENTRY).delete(0)
        await unit.commit()

    assert await read_ledger(here.units) is None


# Countersignatures


async def test_of_each_signer_the_newest_countersignature_counts(here: LedgerWorld) -> None:
    first = await countersignature(here)
    await minted(here)
    second = await countersignature(here)

    for each in (second, first, await countersignature(here, by=3)):
        await here.ledger.countersign(each)

    found = {each.signer: each.number for each in await here.ledger.countersignatures()}
    assert found == {here.account(2).address: second.number, here.account(3).address: second.number}


async def test_a_countersignature_of_another_head_or_by_another_key_is_not_kept(here: LedgerWorld) -> None:
    await minted(here)
    id_, head = await here.chain.chain_id(), here.ledger.replica.head
    for wrong in (
        await countersignature(here, hash=bytes(32)),
        await countersignature(here, number=head.number + 1),
        await countersignature(here, signer=here.account(3).address),
        await countersignature(here, signature=await here.account(2).sign_digest(head_digest(id_ + 1, 4, head.hash))),
    ):
        with pytest.raises(NotCountersigned):
            await here.ledger.countersign(wrong)

    assert await here.ledger.countersignatures() == []


class Interrupted:
    """Units of a process in which something happens before one of them begins."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self.left = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    def in_units(self, count: int, meanwhile: Callable[[], Awaitable[object]]) -> None:
        """Have it happen before the unit of this count, from now on."""
        self.left, self.meanwhile = count, meanwhile

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[UnitOfWork]:
        self.left -= 1
        if not self.left and self.meanwhile is not None:
            await self.meanwhile()
        async with self._units.begin() as unit:
            yield unit


@pytest.mark.parametrize("place", range(1, 5))
async def test_what_is_entered_and_countersigned_while_it_is_read_breaks_nothing(here: LedgerWorld, place: int) -> None:
    currency, units = await minted(here, 1), Interrupted(here.units)
    await here.ledger.countersign(await countersignature(here))
    reader = await read_ledger(units)  # type: ignore[arg-type]  # all that it asks of them
    assert reader is not None

    async def meanwhile() -> None:
        await here.sent(currency, contracts.MINT.call(HOLDER, 1))
        await here.ledger.countersign(await countersignature(here))

    units.in_units(place, meanwhile)
    opened = await replayed(units)  # type: ignore[arg-type]  # as above
    units.in_units(place, meanwhile)
    asked = await reader.countersignatures()
    units.in_units(place, meanwhile)
    written = read_exported([line async for line in exported(reader)]).replica

    assert opened is not None
    assert {each.signer for each in (*asked, *written.countersignatures)} == {here.account(2).address}
    assert written.entries[: len(opened.entries)] == opened.entries


async def test_a_countersignature_that_could_not_be_stored_is_not_taken_for_given(here: LedgerWorld) -> None:
    units = Interrupted(here.units)
    ledger = await open_ledger(units, operator=here.payer, clock=here.clock, randomness=SeededRandomness(2))  # type: ignore[arg-type]  # as above

    async def goes_down() -> None:
        raise ConnectionError

    given = await countersignature(here)
    units.in_units(2, goes_down)
    with pytest.raises(ConnectionError):
        await ledger.countersign(given)

    before = await ledger.countersignatures()
    await ledger.countersign(given)
    assert (before, await ledger.countersignatures()) == ([], [given])


# Files


async def test_a_file_says_all_that_the_ledger_does(here: LedgerWorld, tmp_path: Path) -> None:
    currency = await minted(here)
    await here.ledger.countersign(await countersignature(here))
    file = tmp_path / "ledger.jsonl"
    file.write_text("".join([f"{line}\n" async for line in exported(here.ledger)]))

    read = open_exported(file)

    asked = contracts.TOKENS_OF.call(HOLDER)
    assert await read.head() == await here.chain.head()
    assert await read.call(currency, asked) == await here.chain.call(currency, asked)
    assert await read.countersignatures() == await here.ledger.countersignatures()


async def test_a_file_with_a_changed_digit_is_refused(here: LedgerWorld) -> None:
    await minted(here)
    lines = [line async for line in exported(here.ledger)]
    for place, line in enumerate(lines):
        at = line.index('"raw": "') + 20
        forged = line[:at] + ("0" if line[at] != "0" else "1") + line[at + 1 :]

        with pytest.raises(LedgerBroken):
            read_exported([*lines[:place], forged, *lines[place + 1 :]])


@pytest.mark.parametrize("lines", [[], ["[]"], ["{"], ['{"number": 1}'], ['{"parent_hash": 1, "number": true}']])
def test_what_is_no_ledger_is_refused(lines: list[str]) -> None:
    with pytest.raises(MalformedLedgerFile):
        read_exported(lines)


async def test_heads_are_kept_in_a_file_each_once(here: LedgerWorld, tmp_path: Path) -> None:
    file, heads = tmp_path / "heads", []
    for _ in range(2):
        await minted(here, 1)
        heads.append(await head_of(here))
        for _ in range(2):
            keep_head(file, heads[-1])

    assert read_heads(file) == heads
    assert read_heads(tmp_path / "none") == []


async def test_a_file_that_is_full_of_heads_keeps_the_newest(
    here: LedgerWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emobility.adapters.cosigned_ledger.exported.HEADS_MAX", 2)
    file, heads = tmp_path / "heads", []
    for _ in range(3):
        await here.sent(HOLDER, b"")
        heads.append(await head_of(here))
        keep_head(file, heads[-1])

    assert read_heads(file) == heads[-2:]
