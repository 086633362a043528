"""What the MSP can say of a CDR's signed meter values: is the key the one it pinned, did they prove a charge before?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.cdr import CDR, SignedMeterData
from emobility.domain.cdr_check import SignatureVerdict
from emobility.domain.errors import MalformedInput, RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.meter_key import PinnedKey, entry_at
from emobility.domain.personal import SubjectErased
from emobility.domain.tariff.tariff import Tariff, TariffDimension
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocmf import verify_charge_alone
from emobility.protocols.ocmf.charge import VerifiedCharge
from services.driver_mobility.records import METER_KEY, USED_RECORD, MeterKey, UsedSignedRecord

FIRST_USE: Final = "the first valid signature"
"""Who entered a key that merely came along with a CDR: it proves no meter, and yet no other key does."""
_TIMES: Final = frozenset({TariffDimension.TIME, TariffDimension.PARKING_TIME})


class SignedRecordReused(RuleBroken):
    """A signed record proves one session for ever; another one was accepted by this."""


class SignedRecordUsedMeanwhile(Unavailable):
    """Another CDR was accepted by the same record at this very moment; looking again will tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureFinding:
    """What the signed records are worth.

    `hashes`: what the meter signed, by the vault's keyed hash: a bare one would outlive the driver and let anyone try
    all cards. Empty where the records do not verify: those prove nothing.
    """

    verdict: SignatureVerdict
    hashes: tuple[str, ...] = ()


async def signature_verdict(
    unit: UnitOfWork, vault: Vault, emsp_id: PartyId, cdr: CDR, *, retail: Tariff | None = None
) -> SignatureFinding:
    """Verify a CDR's signed records; `retail` is what the driver is billed by.

    The first key that verifies is kept: another one later is INVALID. But only a key that an operator entered proves
    a meter; one that merely came along with a CDR is KEY_NOT_PINNED.
    """
    if cdr.signed_data is None or not cdr.signed_data.records:
        return SignatureFinding(verdict=SignatureVerdict.NOT_SIGNED)
    pinned = await pinned_key(unit, emsp_id, cdr)
    try:
        charge = await _verified(vault, cdr.signed_data, pinned)
    except SubjectErased:
        return SignatureFinding(verdict=SignatureVerdict.NOT_SIGNED)
    except (MalformedInput, RuleBroken):
        return SignatureFinding(verdict=SignatureVerdict.INVALID)
    hashes = tuple(vault.subject_of(each) for each in charge.payload_hashes)
    verdict = await _verdict(unit, emsp_id, cdr, charge, pinned, hashes=hashes, retail=retail)
    if pinned is None and verdict is SignatureVerdict.KEY_NOT_PINNED:
        await pin_at_first_use(unit, emsp_id, cdr, cdr.signed_data.public_key)
    return SignatureFinding(verdict=verdict, hashes=hashes)


async def use_up(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR, hashes: Sequence[str]) -> None:
    """Note that an accepted CDR's session was proven by what the meter signed, as `SignatureFinding` says it.

    Raises:
        SignedRecordUsedMeanwhile: one proves another session since the verdict.
    """
    if await _is_used_elsewhere(unit, emsp_id, cdr, hashes):
        raise SignedRecordUsedMeanwhile(cdr.cdr_id)
    for payload_sha256 in sorted(hashes):
        if await unit.table(USED_RECORD).get(emsp_id, payload_sha256) is not None:
            continue  # by an earlier CDR of this session
        used = UsedSignedRecord(
            party_id=emsp_id, payload_sha256=payload_sha256, cpo_id=cdr.party_id, session_id=cdr.session_id
        )
        try:
            await unit.table(USED_RECORD).insert(used)
        except RecordExists as race:
            raise SignedRecordUsedMeanwhile(cdr.cdr_id) from race


async def _verdict(
    unit: UnitOfWork,
    emsp_id: PartyId,
    cdr: CDR,
    charge: VerifiedCharge,
    pinned: MeterKey | None,
    *,
    hashes: Sequence[str],
    retail: Tariff | None,
) -> SignatureVerdict:
    """Judge a charge whose signatures verify."""
    if await _is_used_elsewhere(unit, emsp_id, cdr, hashes):
        return SignatureVerdict.REUSED
    if charge.energy_wh != cdr.total_energy_import_wh:
        return SignatureVerdict.ENERGY_DIFFERS
    if not charge.is_time_measured and _charges_for_time(cdr, retail):
        return SignatureVerdict.TIME_NOT_MEASURED
    is_trusted = pinned is not None and pinned.is_by_operator
    return SignatureVerdict.VALID if is_trusted else SignatureVerdict.KEY_NOT_PINNED


async def _is_used_elsewhere(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR, hashes: Sequence[str]) -> bool:
    """Tell whether a record proved another session; credits and replacements of the same one may bring it again."""
    for payload_sha256 in hashes:
        used = await unit.table(USED_RECORD).get(emsp_id, payload_sha256)
        if used is not None and (used.cpo_id, used.session_id) != (cdr.party_id, cdr.session_id):
            return True
    return False


def _charges_for_time(cdr: CDR, retail: Tariff | None) -> bool:
    costs = (cdr.total_time_cost, cdr.total_parking_cost)
    if any(cost is not None and cost.excl_e4 for cost in costs):
        return True
    has_time = cdr.total_charging_s or cdr.total_parking_s
    dimensions = {part.dimension for element in retail.elements for part in element.components} if retail else set()
    return bool(has_time and dimensions & _TIMES)


async def pinned_key(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR) -> MeterKey | None:
    """Return the key that holds for a charge, as `public_key`: the one in force when it began."""
    known = await unit.table(METER_KEY).get(emsp_id, cdr.party_id, cdr.location.evse_uid)
    if known is None or not known.entries:
        return known
    entry = entry_at(known.entries, cdr.charging_started_at)
    if entry is None or entry.public_key is None:
        return None
    return replace(known, public_key=entry.public_key, is_by_operator=entry.entered_by != FIRST_USE)


def entries_of(known: MeterKey, *, now: datetime) -> tuple[PinnedKey, ...]:
    """Return the history of a meter's keys; where there is none yet it begins with the key that was known without."""
    if known.entries:
        return known.entries
    entered_by = "operator" if known.is_by_operator else FIRST_USE
    return (
        PinnedKey(
            public_key=known.public_key,
            valid_from=None,
            entered_at=now,
            entered_by=entered_by,
            why="known before a history was kept",
        ),
    )


async def _verified(vault: Vault, signed: SignedMeterData, pinned: MeterKey | None) -> VerifiedCharge:
    public_key = signed.public_key if pinned is None else pinned.public_key
    records = [await vault.evidence.open(record) for record in signed.records]
    return verify_charge_alone(records, public_key_hex=public_key)


async def pin_at_first_use(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR, public_key: str) -> None:
    """Keep the key that came with a CDR, if the meter has none yet."""
    key = MeterKey(
        party_id=emsp_id,
        cpo_id=cdr.party_id,
        evse_uid=cdr.location.evse_uid,
        public_key=public_key,
        is_by_operator=False,
    )
    with suppress(RecordExists):  # what an operator said, perhaps at this very moment, stands
        await unit.table(METER_KEY).insert(key)
