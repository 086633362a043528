"""What the MSP can say of a CDR's signed meter values, against the key it pinned for the EVSE."""

from __future__ import annotations

from emobility.domain.cdr import CDR
from emobility.domain.cdr_check import SignatureVerdict
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocmf import verify_charge_alone
from services.driver_mobility.records import METER_KEY, MeterKey


async def signature_verdict(unit: UnitOfWork, vault: Vault, emsp_id: PartyId, cdr: CDR) -> SignatureVerdict:
    """Verify a CDR's signed records.

    The first key that verifies is kept: another one later is INVALID. But only a key that an operator entered proves
    a meter; one that merely came along with a CDR is KEY_NOT_PINNED.
    """
    if cdr.signed_data is None or not cdr.signed_data.records:
        return SignatureVerdict.NOT_SIGNED
    pinned = await unit.table(METER_KEY).get(emsp_id, cdr.party_id, cdr.location.evse_uid)
    public_key = cdr.signed_data.public_key if pinned is None else pinned.public_key
    try:
        records = [await vault.open(record) for record in cdr.signed_data.records]
        charge = verify_charge_alone(records, public_key_hex=public_key)
    except (MalformedInput, RuleBroken) as refusal:
        if isinstance(refusal, SubjectErased):
            return SignatureVerdict.NOT_SIGNED
        return SignatureVerdict.INVALID
    if charge.energy_wh != cdr.total_energy_import_wh:
        return SignatureVerdict.ENERGY_DIFFERS
    if pinned is None:
        await _pin_at_first_use(unit, emsp_id, cdr, public_key)
    is_trusted = pinned is not None and pinned.is_by_operator
    return SignatureVerdict.VALID if is_trusted else SignatureVerdict.KEY_NOT_PINNED


async def _pin_at_first_use(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR, public_key: str) -> None:
    key = MeterKey(
        party_id=emsp_id,
        cpo_id=cdr.party_id,
        evse_uid=cdr.location.evse_uid,
        public_key=public_key,
        is_by_operator=False,
    )
    await unit.table(METER_KEY).put(key)
