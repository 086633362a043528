"""The receipt of a bill: the evidence that is kept here, where the settlement says that it stands, and our signature.

It is made when somebody asks for it, the same bytes each time, and stored nowhere: once the driver's key is destroyed
there is none. Nothing of it is written down until then but what is sealed (`evidence.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from emobility.domain.errors import RuleBroken
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.domain.receipt.document import SettledPlace, canonical, signing_bytes
from emobility.domain.receipt.making import unsigned_receipt
from emobility.ports.ports import Ports
from emobility.protocols.cdr_standing import CDRStanding, SettlementClient
from services.driver_mobility.evidence import opened
from services.driver_mobility.records import EVIDENCE, BillRecord, EvidenceKept

DOCUMENTS_MAX: Final = 2
"""Of one bill: the charge, and the credit that took it back whole."""
CREDIT_SUFFIX: Final = "-credit"
"""Ends the file name of a receipt that takes a bill back."""


class NothingToShow(RuleBroken):
    """What a receipt would show is not kept, or the driver was erased."""

    def __init__(self, bill_id: str) -> None:
        super().__init__(f"there is no receipt of bill {bill_id}")


class NotSettledYet(RuleBroken):
    """A receipt names a final statement, and the charge is in none."""

    def __init__(self, name: str, standing: CDRStanding) -> None:
        self.stage = standing.stage
        super().__init__(f"{name} is not settled yet: {standing.stage}")


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedReceipt:
    """A receipt's file. `name` is that of its bill, with `-credit` where the bill is taken back."""

    name: str
    written: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file, as `sha256sum` writes it; salt and signature in the file keep it from being guessed."""
        return fingerprint_of(self.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillDocument:
    """A charge or a credit under a bill: where it stands and, once it is final, its receipt."""

    name: str
    is_credit: bool
    standing: CDRStanding
    receipt: IssuedReceipt | None


class Receipts:
    """Issues receipts of the MSPs hosted here."""

    def __init__(self, ports: Ports, settlement: SettlementClient) -> None:
        self._ports = ports
        self._settlement = settlement

    async def documents(self, bill: BillRecord) -> list[BillDocument]:
        """Return the charge of a bill and what took it back. No unit may be open.

        Raises:
            NothingToShow: the evidence is not kept, or can't be read any more.
            SettlementUnavailable: the settlement can't be asked.
        """
        return [await self._document(bill, each) for each in await self._evidence(bill)]

    async def file(self, bill: BillRecord, *, is_credit: bool) -> IssuedReceipt:
        """Return the receipt of a bill's charge or of its credit. No unit may be open.

        Raises:
            NothingToShow: there is no such document, or it can't be read any more.
            NotSettledYet: it is in no final statement.
            SettlementUnavailable: the settlement can't be asked.
        """
        for evidence in await self._evidence(bill):
            if _is_credit(bill, evidence) is is_credit:
                document = await self._document(bill, evidence)
                if document.receipt is None:
                    raise NotSettledYet(document.name, document.standing)
                return document.receipt
        raise NothingToShow(bill.bill_id)

    async def _evidence(self, bill: BillRecord) -> Sequence[EvidenceKept]:
        where = {"party_id": bill.party_id, "bill_id": bill.bill_id}
        async with self._ports.units.begin() as unit:
            kept = await unit.table(EVIDENCE).select(where, limit=DOCUMENTS_MAX)
        if not kept:
            raise NothingToShow(bill.bill_id)
        return sorted(kept, key=lambda each: _is_credit(bill, each))

    async def _document(self, bill: BillRecord, evidence: EvidenceKept) -> BillDocument:
        is_credit = _is_credit(bill, evidence)
        standing = await self._settlement.standing(evidence.party_id, evidence.cpo_id, evidence.cdr_id)
        receipt = None
        if standing.settled is not None:
            receipt = await issued(self._ports, evidence, standing.settled, is_credit=is_credit)
        name = name_of(evidence, is_credit=is_credit)
        return BillDocument(name=name, is_credit=is_credit, standing=standing, receipt=receipt)


async def issued(ports: Ports, evidence: EvidenceKept, settled: SettledPlace, *, is_credit: bool) -> IssuedReceipt:
    """Return the receipt of what is final, signed by its MSP. Raises `NothingToShow`."""
    try:
        shown = await opened(ports.vault, evidence)
    except (SubjectErased, SubjectRestricted) as error:
        raise NothingToShow(evidence.bill_id) from error
    receipt = unsigned_receipt(shown.record, salt=shown.salt, settled=settled)
    signature = await ports.signer.sign(evidence.party_id, signing_bytes(receipt))
    written = canonical(msgspec.structs.replace(receipt, signature=signature))
    return IssuedReceipt(name=name_of(evidence, is_credit=is_credit), written=written)


def name_of(evidence: EvidenceKept, *, is_credit: bool) -> str:
    """Return what a receipt's file is called."""
    return f"{evidence.bill_id}{CREDIT_SUFFIX}" if is_credit else evidence.bill_id


def fingerprint_of(written: bytes) -> str:
    """Return the SHA-256 of a file, hex."""
    return hashlib.sha256(written).hexdigest()


def _is_credit(bill: BillRecord, evidence: EvidenceKept) -> bool:
    return (evidence.cpo_id, evidence.cdr_id) != (bill.cpo_id, bill.cdr_id)
