"""A driver's receipt of a charge whose statement was settled in confidential mode: it proves, and shows no amount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest

from emobility.adapters.cosigned_ledger.ledger import ReplicaReader, replica_of
from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.receipt.checking import Check, Verdict, verify_receipt
from emobility.domain.receipt.document import Receipt, canonical, signing_bytes
from emobility.domain.receipt.making import record_commitment, unsigned_receipt
from emobility.protocols.cdr_standing import Stage
from emobility.protocols.ledger_receipts import verify_in_ledger
from emobility.protocols.receipts import verify_on_chain
from services.settlement.proving import Proving
from tests.chains import ChainWorld, a_ledger
from tests.domain.receipt.world import CDR_, SALT, SELLER, SIGNER, a_record
from tests.settlement.hidden import CPO_2, PAIRS, Hidden
from tests.settlement.settling import open_settling
from tests.settlement.world import MSP, T0, accepted, terms

RECORD: Final = a_record()


class Charged:
    """The driver's charge among the four pairs' others, final."""

    def __init__(self, hidden: Hidden, receipt: Receipt) -> None:
        self.hidden = hidden
        self.receipt = receipt

    async def verdict(self, receipt: Receipt | None = None) -> tuple[Verdict, str]:
        finding = await verify_on_chain(receipt or self.receipt, self.hidden.here.chain.chain)
        assert finding.check is Check.CHAIN
        return finding.verdict, finding.says

    def changed(self, **fields: Any) -> Receipt:
        """The receipt with other words about the sealed statement."""
        assert self.receipt.chain.sealed is not None
        opened = msgspec.structs.replace(self.receipt.chain.sealed, **fields)
        return msgspec.structs.replace(self.receipt, chain=msgspec.structs.replace(self.receipt.chain, sealed=opened))


@asynccontextmanager
async def a_charge(chain: ChainWorld | None = None) -> AsyncIterator[Charged]:
    async with open_settling(None, chain) as here:
        hidden = Hidden(here)
        await hidden.open()
        await here.world.take(
            accepted(
                replace(CDR_, ended_at=T0),
                agreement=terms(CPO_2, MSP),
                commitment=record_commitment(RECORD, salt=SALT),
            )
        )
        await hidden.charge()
        await hidden.follow()
        standing = await Proving(here.world.ports).standing(MSP, CPO_2, CDR_.cdr_id)
        assert standing.stage is Stage.FINAL
        assert standing.settled is not None
        unsigned = unsigned_receipt(RECORD, salt=SALT, settled=standing.settled)
        signature = await SIGNER.sign(SELLER, signing_bytes(unsigned))
        yield Charged(hidden, msgspec.structs.replace(unsigned, signature=signature))


@pytest.fixture
async def charged() -> AsyncIterator[Charged]:
    async with a_charge() as made:
        yield made


async def test_a_receipt_is_confirmed_by_a_ledger_once_a_company_countersigned() -> None:
    async with a_ledger() as world, a_charge(world) as made:
        found = await verify_in_ledger(made.receipt, world.ledger)
        entries = [each.entry for each in world.ledger.replica.entries]
        alone = await verify_in_ledger(made.receipt, ReplicaReader(replica_of(entries, [])))

    assert (found.verdict, alone.verdict) == (Verdict.HOLDS, Verdict.UNPROVEN)
    assert f"{CPO_2} countersigned entry {entries[-1].number}" in found.says


async def test_a_receipt_is_confirmed_by_its_file_and_by_the_chain(charged: Charged) -> None:
    by_file = verify_receipt(canonical(charged.receipt), ReceiptProofs())

    assert by_file.is_accepted
    found, says = await charged.verdict()
    assert found is Verdict.HOLDS
    assert f"{CPO_2} and {MSP} both signed it" in says


async def test_it_holds_no_amount_of_the_pair_and_no_salt_of_one(charged: Charged) -> None:
    written = canonical(charged.receipt).decode()
    record = (await charged.hidden.statements())[CPO_2, MSP]

    assert record.count == 2
    for secret in (str(record.due_e4), str(PAIRS[CPO_2, MSP]), record.sum_root.hex()):
        assert secret not in written


CHANGES: Final[list[dict[str, Any]]] = [
    {"amounts": "11" * 32},
    {"salt": "11" * 32},
    {"period_end": 1},
    {"by_cpo": "11" * 64},
    {"by_msp": "11" * 64},
    {"count": 4},
    {"siblings": ()},
    {"signers": ()},
    {"cpo": 2},
    {"msp": 1},
    {"cpo": 1 << 40},
]


async def test_a_changed_receipt_is_refused_by_the_chain(charged: Charged) -> None:
    for fields in CHANGES:
        assert (await charged.verdict(charged.changed(**fields)))[0] is Verdict.REFUSED, fields


async def test_swapped_signatures_are_refused(charged: Charged) -> None:
    opened = charged.receipt.chain.sealed
    assert opened is not None

    assert (await charged.verdict(charged.changed(by_cpo=opened.by_msp, by_msp=opened.by_cpo)))[0] is Verdict.REFUSED


async def test_another_company_s_statement_is_refused(charged: Charged) -> None:
    record = msgspec.structs.replace(charged.receipt.record, seller="NL-WIN")

    found, says = await charged.verdict(msgspec.structs.replace(charged.receipt, record=record))

    assert (found, says) == (Verdict.REFUSED, f"The statement is not one of {CPO_2} and NL-WIN.")
