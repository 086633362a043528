"""A passport's head on a real chain, recomputed from what it told and from records off chain; each refusal in both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import pytest

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import encode
from emobility.domain.battery import (
    NEVER_APPENDED,
    Entry,
    Kind,
    LifeRecord,
    OutOfOrder,
    Phase,
    Status,
    UnsuitableStatus,
    battery_id,
    committed,
    life_of,
    proven_life,
    succession_link,
)
from emobility.ports.chain import CallReverted
from tests.chains import ChainWorld, an_anvil

PACKS: Final = [battery_id(f"DE:ACC:{number:04}", salt=bytes([number]) * 32) for number in range(3)]
TRIES: Final = 60


class Passports:
    """Passports of which the payer has custody."""

    def __init__(self, world: ChainWorld, address: bytes) -> None:
        self.world = world
        self.address = address

    async def told(self, battery: int) -> list[Entry]:
        """Everything that was told of a battery."""
        topics = [contracts.LIFECYCLE_RECORDED.topic, battery.to_bytes(32, "big")]
        head = await self.world.chain.head()
        logs = await self.world.chain.logs(self.address, topics, from_block=0, to_block=head.number)
        words = [contracts.LIFECYCLE_RECORDED.told(log.topics, log.data) for log in logs]
        return [Entry.of_told(told, commitment) for _, told, commitment in words]

    async def state(self, battery: int) -> tuple[bytes, int, int, int, int]:
        answer = await self.world.chain.call(self.address, contracts.PASSPORT.call(battery))
        ((head, happened_at, entries, status, phase),) = contracts.PASSPORT.answer(answer)
        return head, happened_at, entries, status, phase

    async def send(self, call: bytes) -> None:
        receipt = await self.world.final(await self.world.sent(self.address, call))
        assert receipt.has_succeeded

    async def would_take(self, call: bytes) -> bool:
        try:
            await self.world.chain.estimate_gas(self.world.payer.address, self.address, call)
        except CallReverted:
            return False
        return True


async def passports_on(world: ChainWorld) -> Passports:
    code = bytes.fromhex(settlement_contracts.bytecode("BatteryPassport")[2:])
    payer = world.payer.address
    receipt = await world.final(await world.sent(None, code + encode("(address)", (payer,))))
    assert receipt.contract_address is not None
    made = Passports(world, receipt.contract_address)
    await made.send(contracts.GRANT_ROLE.call(contracts.ISSUER_ROLE, payer))
    return made


@pytest.mark.chain
async def test_heads_on_chain_follow_from_records_off_chain(tmp_path: Path) -> None:
    random = Random(5)
    async with an_anvil(tmp_path / "chain") as world:
        passports = await passports_on(world)
        block = await world.chain.head()
        at = datetime.fromtimestamp(block.timestamp_s, UTC) - timedelta(hours=1)
        custodian = world.payer.address
        for battery in PACKS:
            await passports.send(contracts.ISSUE_PASSPORT.call(battery, custodian, int(at.timestamp()), bytes(32)))

        # Anything is tried; what Python takes, the contract takes, and nothing else.
        pack, entries = PACKS[0], await passports.told(PACKS[0])
        records: dict[int, LifeRecord] = {}
        batch: list[Entry] = []
        for number in range(TRIES):
            record = LifeRecord(document=f"record {number}".encode(), salt=random.randbytes(32))
            status = random.choice([life_of(pack, [*entries, *batch]).status, *Status])
            kind = random.choice([each for each in Kind if each is not Kind.RECYCLED])
            entry = Entry(
                kind=kind,
                status=status,
                happened_at=at + timedelta(seconds=number),
                custodian=custodian,
                commitment=committed(record),
            )
            words = [(pack, each.what, each.commitment) for each in (*batch, entry)]
            is_taken = await passports.would_take(contracts.APPEND_TO_PASSPORTS.call(words))
            if kind in NEVER_APPENDED:
                assert not is_taken, entry
                continue
            try:
                life_of(pack, [*entries, *batch, entry])
            except (OutOfOrder, UnsuitableStatus):
                assert not is_taken, entry
                continue
            assert is_taken, entry
            records[len(entries) + len(batch)] = record
            batch.append(entry)
        await passports.send(contracts.APPEND_TO_PASSPORTS.call([(pack, each.what, each.commitment) for each in batch]))

        told = await passports.told(pack)
        life = proven_life(pack, told, records)
        assert told == [*entries, *batch]
        assert len({each.kind for each in told}) > 6
        moment = int(life.happened_at.timestamp())
        assert await passports.state(pack) == (life.head, moment, life.entries, life.status, life.phase)

        # One pack is made of another's cells.
        now, word = int((at + timedelta(minutes=5)).timestamp()), b"\x11" * 32
        retired = Entry(
            kind=Kind.RETIRED,
            status=Status.ORIGINAL,
            happened_at=at + timedelta(minutes=5),
            custodian=custodian,
            commitment=word,
        )
        await passports.send(contracts.APPEND_TO_PASSPORTS.call([(PACKS[1], retired.what, word)]))
        await passports.send(contracts.SUCCEED_BY.call([PACKS[1]], [PACKS[2]], now, word))
        link = succession_link(word, [PACKS[1]], [PACKS[2]])
        for battery, phase, last in (
            (PACKS[1], Phase.SUCCEEDED, Kind.SUCCEEDED),
            (PACKS[2], Phase.STORED, Kind.MADE_OF),
        ):
            told = await passports.told(battery)
            life = life_of(battery, told)
            assert (life.phase, told[-1].kind, told[-1].commitment) == (phase, last, link)
            assert (await passports.state(battery))[0] == life.head
