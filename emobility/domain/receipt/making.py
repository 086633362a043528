"""Make the evidence record of a CDR when it is settled, and the receipt when its statement is final."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from emobility.domain.batch.confidential import ConfidentialBook, SealedStatement
from emobility.domain.batch.hashing import commitment
from emobility.domain.batch.statement import PairStatement
from emobility.domain.batch.trees import Proof
from emobility.domain.batch.typed_data import Book
from emobility.domain.cdr import CDR
from emobility.domain.quote import RetailQuote, gross_e4
from emobility.domain.receipt.document import (
    ChainShown,
    EstimateShown,
    EvidenceRecord,
    LineShown,
    MeterShown,
    PeriodShown,
    PlaceShown,
    QuoteShown,
    Receipt,
    SealedShown,
    SettledPlace,
    SignerShown,
    StatementShown,
    canonical,
)
from emobility.domain.receipt.lines import receipt_lines, receipt_notes
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.version import canonical_document

CREDIT_NOTE: Final = "This takes the whole charge back; its lines are those of the bill."


def evidence_record(
    quote: RetailQuote,
    cdr: CDR,
    *,
    bill_id: str,
    seller_key: str,
    meter: MeterShown | None,
    remarks: Sequence[str] = (),
) -> EvidenceRecord:
    """Return what a driver is shown of a CDR, or of a credit CDR.

    Args:
        quote: Under which the charge was billed, signed.
        cdr: Accepted; only its energy, times and places are used, never its costs.
        bill_id: Number of the bill, of a credit that of the bill it takes back.
        seller_key: The MSP's Ed25519 public key, hex.
        meter: Signed values as they may be shown.
        remarks: What the driver is told besides.
    """
    assert quote.signature is not None, f"quote {quote.quote_id} was never signed"
    priced = price_session(quote.tariff, cdr.periods, ended_at=cdr.ended_at, time_zone=quote.time_zone)
    sign, notes = (-1, (CREDIT_NOTE,)) if cdr.is_credit else (1, receipt_notes(priced, cdr))
    return EvidenceRecord(
        form="wattroam-evidence-1",
        kind="CREDIT" if cdr.is_credit else "CHARGE",
        seller=quote.emsp_id.code,
        seller_key=seller_key,
        bill_id=bill_id,
        charge_point_operator=cdr.party_id.code,
        session_id=cdr.session_id,
        ended_at=cdr.ended_at,
        periods=tuple(_period(period) for period in cdr.periods),
        import_wh=cdr.total_energy_import_wh,
        export_wh=cdr.total_energy_export_wh,
        quote=_quote(quote, quote.signature),
        lines=tuple(LineShown(**asdict(line)) for line in receipt_lines(priced)),
        notes=(*notes, *remarks),
        currency=quote.tariff.currency,
        total_excl_e4=sign * priced.total.excl_e4,
        total_incl_e4=sign * gross_e4(priced.total),
        meter=meter,
    )


def record_commitment(record: EvidenceRecord, *, salt: bytes) -> bytes:
    """Return what stands for the record in its leaf."""
    return commitment(canonical(record), salt=salt)


def settled_place(
    *,
    cdr_key: bytes,
    meter: bytes,
    proof: Proof,
    statement: PairStatement,
    book: Book,
    batch_id: bytes,
    position: int,
    transaction: bytes,
) -> SettledPlace:
    """Return where a leaf is settled, as its receipt names it.

    Args:
        cdr_key: The leaf's.
        meter: Likewise.
        proof: Of the leaf in the evidence tree.
        statement: The pair's, final.
        book: Where it is final.
        batch_id: The batch in which it was proposed.
        position: Its place in the batch.
        transaction: Hash of the transaction that proposed the batch.
    """
    return SettledPlace(
        place=_place(cdr_key, meter, proof),
        statement=StatementShown(
            agreement=statement.agreement.hex(),
            sequence=statement.sequence,
            evidence_root=statement.evidence_root.hex(),
            sum_root=statement.sum_root.hex(),
        ),
        chain=ChainShown(
            chain_id=book.chain_id,
            book=book.address.hex(),
            batch_id=batch_id.hex(),
            position=position,
            transaction=transaction.hex(),
        ),
    )


def confidential_place(
    *,
    cdr_key: bytes,
    meter: bytes,
    proof: Proof,
    statement: SealedStatement,
    book: ConfidentialBook,
    batch_id: bytes,
    transaction: bytes,
    sealed: SealedShown,
    position: int,
) -> SettledPlace:
    """Return where a leaf is settled in confidential mode, as its receipt names it; see `settled_place`."""
    return SettledPlace(
        place=_place(cdr_key, meter, proof),
        statement=StatementShown(
            agreement=statement.agreement.hex(),
            sequence=statement.sequence,
            evidence_root=statement.evidence_root.hex(),
        ),
        chain=ChainShown(
            chain_id=book.chain_id,
            book=book.address.hex(),
            batch_id=batch_id.hex(),
            position=position,
            transaction=transaction.hex(),
            sealed=sealed,
        ),
    )


def sealed_shown(
    statement: SealedStatement,
    *,
    salt: bytes,
    by_cpo: bytes,
    by_msp: bytes,
    place: Proof,
    signers: Sequence[SignerShown],
) -> SealedShown:
    """Return what opens a posted hash to a statement.

    Args:
        statement: Sealed; its amounts stay so.
        salt: Of the posted hash.
        by_cpo: The CPO's compact signature of the statement.
        by_msp: The MSP's.
        place: Of the hash among the batch's.
        signers: Who signed for each of the batch's parties.
    """
    return SealedShown(
        cpo=statement.cpo,
        msp=statement.msp,
        period_end=int(statement.period_end.timestamp()),
        amounts=statement.amounts.hex(),
        salt=salt.hex(),
        by_cpo=by_cpo.hex(),
        by_msp=by_msp.hex(),
        count=place.count,
        siblings=tuple(sibling.hex() for sibling in place.siblings),
        signers=tuple(signers),
    )


def unsigned_receipt(record: EvidenceRecord, *, salt: bytes, settled: SettledPlace) -> Receipt:
    """Return the receipt, which its seller signs next; `salt` is that of the record's commitment."""
    return Receipt(
        form="wattroam-receipt-2",
        record=record,
        salt=salt.hex(),
        place=settled.place,
        statement=settled.statement,
        chain=settled.chain,
    )


def _place(cdr_key: bytes, meter: bytes, proof: Proof) -> PlaceShown:
    return PlaceShown(
        cdr_key=cdr_key.hex(),
        index=proof.index,
        count=proof.count,
        siblings=tuple(sibling.hex() for sibling in proof.siblings),
        meter=meter.hex(),
    )


def _quote(quote: RetailQuote, signature: str) -> QuoteShown:
    estimate = quote.estimate
    return QuoteShown(
        quote_id=quote.quote_id,
        driver_id=quote.driver_id,
        plan_id=quote.plan_id,
        cpo_id=quote.cpo_id.code,
        location_id=quote.location_id,
        evse_uid=quote.evse_uid,
        connector_id=quote.connector_id,
        time_zone=quote.time_zone,
        issued_at=quote.issued_at,
        valid_until=quote.valid_until,
        tariff=canonical_document(quote.tariff),
        estimate=None
        if estimate is None
        else EstimateShown(
            energy_wh=estimate.energy_wh,
            charging_s=estimate.charging_s,
            parking_s=estimate.parking_s,
            excl_e4=estimate.total.excl_e4,
            incl_e4=estimate.total.incl_e4,
        ),
        signature=signature,
    )


def _period(period: ChargingPeriod) -> PeriodShown:
    fields = asdict(period)
    del fields["tariff_id"]  # names the CPO's tariff
    return PeriodShown(**fields)
