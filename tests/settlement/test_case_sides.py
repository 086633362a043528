"""Whom a case is between that a proof alone decided: those whom the book corrects right after."""

from __future__ import annotations

from typing import Final

import pytest

from emobility.domain.batch import contracts
from emobility.domain.batch.disputes import CaseTold, DisputeKind, StruckFor, read_case
from emobility.ports.chain import Log, TransactionReceipt
from services.settlement.case_leaves import Sides, sides_of
from services.settlement.dispute_records import HeardRecord
from tests.settlement.settling import open_settling

RESOLVER: Final = b"\1" * 20
BOOK: Final = b"\2" * 20
TRANSACTION: Final = b"\3" * 32
UNSAID: Final = read_case(bytes(10 * 32))
HEARD: Final = HeardRecord(
    chain_id=1, contract=RESOLVER, book=BOOK, currency="EUR", is_confidential=True, last_number=0, last_hash=b""
)


def event(index: int, address: bytes, *topics: bytes, words: tuple[int, ...]) -> Log:
    return Log(
        address=address,
        topics=topics,
        data=b"".join(word.to_bytes(32, "big", signed=True) for word in words),
        block_number=1,
        block_hash=bytes(32),
        transaction_hash=TRANSACTION,
        index=index,
    )


def struck(index: int, case_id: bytes, *, added_e4: int) -> tuple[CaseTold, Log]:
    told = CaseTold(case_id=case_id, kind=DisputeKind.METER_SIGNATURE, added_e4=added_e4)
    topics = contracts.LEAF_STRUCK.topic, case_id
    return told, event(index, RESOLVER, *topics, words=(int(StruckFor.SIGNATURE), added_e4))


async def test_a_leaf_that_costs_nothing_is_not_taken_for_the_next_one_of_the_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free, dear = struck(3, b"f" * 32, added_e4=0), struck(4, b"d" * 32, added_e4=-5)
    numbers = [each.to_bytes(32, "big") for each in (7, 9)]
    corrected = event(5, BOOK, contracts.NET_CORRECTED.topic, *numbers, words=(5,))
    receipt = TransactionReceipt(
        transaction_hash=TRANSACTION,
        block_number=1,
        block_hash=bytes(32),
        has_succeeded=True,
        gas_used=1,
        contract_address=None,
        logs=(free[1], dear[1], corrected),
    )

    async def told(_hash: bytes) -> TransactionReceipt:
        return receipt

    async with open_settling() as here:
        monkeypatch.setattr(here.fake.fake, "receipt", told)
        sides = [await sides_of(here.fake.fake, HEARD, UNSAID, each) for each in (free, dear)]

    assert sides == [None, Sides(cpo=7, msp=9)]
