"""What a driver's receipt will show of an accepted CDR, kept sealed; the settlement gets the commitment to it alone.

Record and salts lie in one box under the contract's key: once that is destroyed, the commitment on chain means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emobility.domain.agreement import NoAgreementInForce, SignedMeterPolicy
from emobility.domain.batch.hashing import SALT_BYTES
from emobility.domain.batch.meter import MeterCommitted, meter_commitment
from emobility.domain.cdr import CDR
from emobility.domain.errors import EmobilityError
from emobility.domain.personal import SubjectErased
from emobility.domain.receipt.document import EvidenceRecord, MeterShown, canonical, read
from emobility.domain.receipt.lines import unsigned_note
from emobility.domain.receipt.making import evidence_record, record_commitment
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocmf.committing import meter_record
from emobility.protocols.ocmf.showing import meter_shown
from services.driver_mobility.billing import bill_id_of
from services.driver_mobility.metering import pinned_key
from services.driver_mobility.records import EVIDENCE, EvidenceKept, QuoteRecord
from services.driver_mobility.terms import agreement_at

SALT_DIGITS: Final = 2 * SALT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEvidence:
    """A record as its receipt shows it; `meter_salt` opens the meter's records: masked ones, and those of the leaf."""

    record: EvidenceRecord
    salt: bytes
    meter_salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitments:
    """What the settlement gets of a CDR's evidence; `meter` only of a charge whose meter signs."""

    record: bytes
    meter: MeterCommitted | None


async def keep_evidence(unit: UnitOfWork, ports: Ports, quote: QuoteRecord, cdr: CDR) -> Commitments | None:
    """Keep what a receipt of this CDR will show, in this unit, and return the commitments to it.

    None where the driver's key is destroyed: nothing is written about somebody who was erased.
    """
    salt, meter_salt = ports.randomness.token_bytes(SALT_BYTES), ports.randomness.token_bytes(SALT_BYTES)
    signed = await _signed(unit, ports.vault.evidence, quote, cdr, salt=meter_salt)
    record = evidence_record(
        quote.quote,
        cdr,
        bill_id=bill_id_of(quote.party_id, cdr.party_id, cdr.credit_reference_id or cdr.cdr_id),
        seller_key=await ports.signer.public_key(quote.party_id),
        meter=None if signed is None else signed.shown,
        remarks=() if signed is not None else (unsigned_note(await _policy(unit, quote, cdr)),),
    )
    text, subject = salt.hex() + meter_salt.hex() + canonical(record).decode(), cdr.token.contract_id.subject
    try:
        box = await ports.vault.seal_under(text, subject=subject)
        sealed_salt = await ports.vault.seal_under(meter_salt.hex(), subject=subject)
    except SubjectErased:
        return None
    kept = EvidenceKept(
        party_id=quote.party_id, cpo_id=cdr.party_id, cdr_id=cdr.cdr_id, bill_id=record.bill_id, evidence=box
    )
    await unit.table(EVIDENCE).put(kept)
    meter = None
    if signed is not None and not cdr.is_credit:
        meter = MeterCommitted(commitment=signed.commitment, public_key=signed.public_key, salt=sealed_salt)
    return Commitments(record=record_commitment(record, salt=salt), meter=meter)


async def opened(vault: Vault, kept: EvidenceKept) -> OpenedEvidence:
    """Return what was kept. Raises `SubjectErased`, `SubjectRestricted`."""
    text = await vault.open(kept.evidence)
    salts, written = bytes.fromhex(text[: 2 * SALT_DIGITS]), text[2 * SALT_DIGITS :]
    return OpenedEvidence(
        record=read(written.encode(), EvidenceRecord), salt=salts[:SALT_BYTES], meter_salt=salts[SALT_BYTES:]
    )


async def _policy(unit: UnitOfWork, quote: QuoteRecord, cdr: CDR) -> SignedMeterPolicy | None:
    try:
        agreement = await agreement_at(unit, quote.party_id, cdr.party_id, cdr.charging_started_at)
    except NoAgreementInForce:
        return None
    return agreement.signed_meter_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """Signed records of a charge: as a receipt may show them, and what stands for them in the leaf."""

    shown: MeterShown
    commitment: bytes
    public_key: str


async def _signed(unit: UnitOfWork, vault: Vault, quote: QuoteRecord, cdr: CDR, *, salt: bytes) -> _Signed | None:
    """Return the signed meter values; None: there are none, or they are no records of a meter."""
    if cdr.signed_data is None or not cdr.signed_data.records:
        return None
    pinned = await pinned_key(unit, quote.party_id, cdr)
    try:
        texts = [await vault.open(record) for record in cdr.signed_data.records]
        key = cdr.signed_data.public_key if pinned is None else pinned.public_key
        return _Signed(
            shown=meter_shown(texts, public_key=key, salt=salt),
            commitment=meter_commitment(meter_record(texts, public_key=key), salt=salt),
            public_key=key,
        )
    except EmobilityError:
        return None
