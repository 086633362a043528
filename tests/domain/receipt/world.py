"""A driver of NL-ZON charged 5 kWh at NL-TNM, and the statement with that CDR and its neighbours is final."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from emobility.adapters.signing import Ed25519Signer
from emobility.domain.batch.calls import BatchState, Proposal
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.leaf import NO_METER, Leaf, LeafKind, leaf_of
from emobility.domain.batch.statement import PairStatement, pairs_hash, statement_of
from emobility.domain.batch.trees import StatementTrees
from emobility.domain.batch.typed_data import Book, batch_id_of
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.quote import Estimate, RetailQuote
from emobility.domain.quote import signing_bytes as quote_signing_bytes
from emobility.domain.receipt.document import EvidenceRecord, MeterShown, Receipt, canonical, signing_bytes
from emobility.domain.receipt.making import evidence_record, record_commitment, settled_place, unsigned_receipt
from emobility.domain.receipt.settled import ChainAnswers
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement
from tests.domain.test_cdr import ORIGINAL

SIGNER: Final = Ed25519Signer(bytes(range(32)))
SELLER: Final = PartyId("NL-ZON")
START: Final = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
PAIR_SECRET: Final = b"\x33" * 32
SALT: Final = b"\x44" * 32
METER_SALT: Final = b"\x55" * 32
WHOLESALE_E4: Final = 987_654_321
NEIGHBOUR_E4: Final = 864_209_753
BOOK: Final = Book(chain_id=1_234_567_890, address=b"\x66" * 20)
TRANSACTION: Final = b"\x77" * 32
OPENS: Final = datetime(2022, 4, 1, tzinfo=UTC)

CDR_: Final = replace(
    ORIGINAL,
    ended_at=START + timedelta(hours=2),
    periods=(
        ChargingPeriod(
            started_at=START, energy_import_wh=5_000, charging_s=3_600, parking_s=0, tariff_id="WHOLESALE-TARIFF"
        ),
        ChargingPeriod(started_at=START + timedelta(hours=1), energy_import_wh=0, charging_s=0, parking_s=3_600),
    ),
    total_cost=Price(excl_e4=WHOLESALE_E4),
)
RETAIL: Final = Tariff(
    party_id=SELLER,
    tariff_id="PLAN-1",
    currency="EUR",
    elements=(
        TariffElement(
            components=(
                PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.41"), vat_percent=Decimal(21)),
                PriceComponent(dimension=TariffDimension.PARKING_TIME, price=Decimal("1.5"), vat_percent=Decimal(21)),
            )
        ),
    ),
    last_updated=START,
)


def signed_by_seller(message: bytes) -> str:
    return asyncio.run(SIGNER.sign(SELLER, message))


SELLER_KEY: Final = asyncio.run(SIGNER.public_key(SELLER))


def a_quote(quote_id: str = "q-1") -> RetailQuote:
    quote = RetailQuote(
        quote_id=quote_id,
        emsp_id=SELLER,
        driver_id="driver-1",
        plan_id="PLAN",
        cpo_id=CDR_.party_id,
        location_id="L",
        evse_uid="E",
        connector_id="1",
        time_zone="Europe/Amsterdam",
        issued_at=START - timedelta(minutes=5),
        valid_until=START + timedelta(minutes=10),
        tariff=RETAIL,
        estimate=Estimate(energy_wh=4_000, charging_s=3_000, parking_s=0, total=Price(excl_e4=16_400, incl_e4=19_844)),
    )
    return replace(quote, signature=signed_by_seller(quote_signing_bytes(quote)))


def a_record(cdr: CDR = CDR_, meter: MeterShown | None = None) -> EvidenceRecord:
    return evidence_record(a_quote(), cdr, bill_id="bill-1", seller_key=SELLER_KEY, meter=meter)


def a_credit() -> CDR:
    return credit_of(CDR_, cdr_id="credit", issued_at=START + timedelta(days=1), remark="")


class Settled:
    """The CDR among others in a final statement."""

    def __init__(self, record: EvidenceRecord, cdr: CDR = CDR_, neighbours: int = 4, meter: bytes = NO_METER) -> None:
        self.record = record
        leaf = leaf_of(cdr, pair_secret=PAIR_SECRET, commitment=record_commitment(record, salt=SALT), meter=meter)
        self.trees = StatementTrees([leaf, *(neighbour(n) for n in range(neighbours))])
        self.index = self.trees.leaves.index(leaf)
        self.statement = statement_of(self.trees, agreement=b"\x22" * 8, sequence=7, period_end=OPENS)
        others = [replace(self.statement, agreement=bytes([n]) * 8) for n in (0x11, 0x99)]
        self.batch: list[PairStatement] = [others[0], self.statement, others[1]]
        self.batch_id = batch_id_of(BOOK, pairs_hash(self.batch))

    def unsigned(self) -> Receipt:
        return unsigned_receipt(
            self.record,
            salt=SALT,
            settled=settled_place(
                cdr_key=self.trees.leaves[self.index].cdr_key,
                meter=self.trees.leaves[self.index].meter,
                proof=self.trees.evidence_proof(self.index),
                statement=self.statement,
                book=BOOK,
                batch_id=self.batch_id,
                position=1,
                transaction=TRANSACTION,
            ),
        )

    def receipt(self, **changes: Any) -> Receipt:
        """Changed before it is signed: what a seller might forge."""
        return sealed(msgspec.structs.replace(self.unsigned(), **changes))

    def answers(self, **changes: Any) -> ChainAnswers:
        answers = ChainAnswers(
            chain_id=BOOK.chain_id,
            called=BOOK.address,
            proposal=Proposal(
                batch_id=self.batch_id,
                statements=tuple(each.booked for each in self.batch),
            ),
            batch=BatchState(pairs_hash=pairs_hash(self.batch), open_pairs=0b101),
            parties=(CDR_.party_id, SELLER),
        )
        return replace(answers, **changes)


def sealed(receipt: Receipt) -> Receipt:
    return msgspec.structs.replace(receipt, signature=signed_by_seller(signing_bytes(receipt)))


def a_file(**changes: Any) -> bytes:
    return canonical(Settled(a_record()).receipt(**changes))


def a_quoted_file(quote_id: str) -> bytes:
    """A receipt whose seller calls the quote whatever it likes."""
    record = evidence_record(a_quote(quote_id), CDR_, bill_id="bill-1", seller_key=SELLER_KEY, meter=None)
    return canonical(Settled(record).receipt())


def neighbour(number: int) -> Leaf:
    return Leaf(
        kind=LeafKind.CHARGE,
        cdr_key=keccak256(bytes([number])),
        import_wh=1_000,
        export_wh=0,
        commitment=keccak256(b"\x02" + bytes([number])),
        meter=NO_METER,
        due_e4=NEIGHBOUR_E4,
        credit_e4=0,
    )
