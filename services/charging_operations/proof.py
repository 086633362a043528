"""Is what the registers say signed by the meter whose key is pinned for the EVSE?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emobility.domain.agreement import SignedMeterPolicy
from emobility.domain.cdr import ENERGY_ALONE, SignedMeterData
from emobility.domain.charging_periods import without_time
from emobility.domain.charging_station import EVSE
from emobility.domain.errors import Unavailable
from emobility.domain.personal import Sealed, SubjectErased
from emobility.domain.session import ChargingPeriod
from emobility.domain.transaction import Transaction, readings_in_order
from emobility.domain.transaction_faults import Fault, FaultReason
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocmf import OCMFRefused, verify_charge
from emobility.protocols.ocmf.refusals import OCMFRule
from services.charging_operations.meter_keys import key_of
from services.charging_operations.office import Office
from services.charging_operations.records import USED_RECORD, TransactionRecord, UsedSignedRecord, session_id_for

ENCODING_METHOD = "OCMF"
REMARK_CHARACTERS_MAX: Final = 255
"""OCPI 2.2.1, 10.3.1."""


class SignedRecordUsedMeanwhile(Unavailable):
    """Another session was billed by the same signed record at this very moment; looking again will tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the signed records show; at most one of fault and data is given.

    `signed_wh`: the energy drawn that they prove.

    `payload_hashes`: what the meter signed, by the vault's keyed hash. A bare one would outlive the driver and let
    anyone try all cards.

    `is_time_measured`: False where the meter signs and does not vouch for how long it took.
    """

    fault: Fault | None = None
    signed_data: SignedMeterData | None = None
    signed_wh: int | None = None
    payload_hashes: tuple[str, ...] = ()
    is_time_measured: bool = True

    def provable(self, periods: Sequence[ChargingPeriod]) -> tuple[ChargingPeriod, ...]:
        """Return the periods without what the meter does not vouch for."""
        return tuple(periods) if self.is_time_measured else without_time(periods)

    @property
    def remark(self) -> str | None:
        """What a CDR under this proof says of it."""
        return None if self.is_time_measured else ENERGY_ALONE


NOT_SIGNED = Proof()


async def prove(
    office: Office,
    unit: UnitOfWork,
    record: TransactionRecord,
    evse: EVSE,
    policy: SignedMeterPolicy | None,
) -> Proof:
    """Verify a complete transaction's signed records; one that another session was billed by proves nothing here."""
    sealed = signed_records(record.transaction)
    public_key = await key_of(unit, record.party_id, evse, record.first_at)
    if public_key is None:
        if policy is SignedMeterPolicy.REQUIRED:
            return _missing("the agreement asks for signed values, and no key is pinned for the EVSE")
        return NOT_SIGNED
    if not sealed:
        return _missing("the EVSE's meter signs, and no signed record came")
    readings = readings_in_order(record.transaction)
    registers = [reading.import_wh for reading in readings if reading.import_wh is not None]
    try:
        texts = [await office.ports.vault.evidence.open(each) for each in sealed]
        charge = verify_charge(texts, public_key_hex=public_key, begin_wh=registers[0], end_wh=registers[-1])
        hashes = tuple(office.ports.vault.subject_of(each) for each in charge.payload_hashes)
        await _refuse_used(unit, record, hashes)
    except SubjectErased:
        office.metrics.verified("erased")
        return _missing("the signed records were erased")
    except (OCMFRefused, IndexError) as refusal:
        office.metrics.verified(refusal.rule.value if isinstance(refusal, OCMFRefused) else "NO_REGISTER")
        return Proof(fault=Fault(reason=FaultReason.SIGNATURE_INVALID, detail=str(refusal)))
    office.metrics.verified("valid")
    return Proof(
        signed_data=SignedMeterData(encoding_method=ENCODING_METHOD, public_key=public_key, records=tuple(sealed)),
        signed_wh=charge.energy_wh,
        payload_hashes=hashes,
        is_time_measured=charge.is_time_measured,
    )


def remark_of(why: str, *, is_energy_alone: bool = False) -> str:
    """Return the remark of a CDR that somebody decided on; that it bills no time is said first and never cut off."""
    return "; ".join(filter(None, (ENERGY_ALONE if is_energy_alone else None, why)))[:REMARK_CHARACTERS_MAX]


def signed_records(transaction: Transaction) -> Sequence[Sealed]:
    """Return the signed records in the order of their readings, each once."""
    found: dict[bytes, Sealed] = {}
    for reading in readings_in_order(transaction):
        if reading.signed_record is not None:
            found.setdefault(reading.signed_record.box, reading.signed_record)
    return list(found.values())


async def use_up(unit: UnitOfWork, record: TransactionRecord, proof: Proof) -> None:
    """Note that the session was billed by these records: each proves one session for ever.

    Raises:
        SignedRecordUsedMeanwhile: one proves another session since it was looked at.
    """
    session_id = session_id_for(record)
    for payload_sha256 in sorted(proof.payload_hashes):
        known = await unit.table(USED_RECORD).get(record.party_id, payload_sha256)
        if known is not None and known.session_id == session_id:
            continue
        used = UsedSignedRecord(party_id=record.party_id, payload_sha256=payload_sha256, session_id=session_id)
        try:
            await unit.table(USED_RECORD).insert(used)
        except RecordExists as race:
            raise SignedRecordUsedMeanwhile(session_id) from race


async def _refuse_used(unit: UnitOfWork, record: TransactionRecord, hashes: Sequence[str]) -> None:
    for payload_sha256 in hashes:
        used = await unit.table(USED_RECORD).get_for_update(record.party_id, payload_sha256)
        if used is not None and used.session_id != session_id_for(record):
            raise OCMFRefused(OCMFRule.RECORD_REUSED, f"it proved session {used.session_id} already")


def _missing(detail: str) -> Proof:
    return Proof(fault=Fault(reason=FaultReason.SIGNATURE_MISSING, detail=detail))
