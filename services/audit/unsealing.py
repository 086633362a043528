"""What a full audit recomputes from sealed fields: the key of each CDR in its trees and the commitment to its evidence.

Nothing that is opened here is kept. What was erased, or is closed by law to all but its purpose, stays closed; its
commitment can't be recomputed, and the audit says how many can't.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emobility.domain.batch.leaf import PAIR_SECRET_BYTES, cdr_key_of
from emobility.domain.batch.meter import meter_commitment
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.personal import Sealed, SubjectErased, SubjectRestricted
from emobility.domain.receipt.making import record_commitment
from emobility.ports.vault import Vault
from services.audit.settlement_rows import CDRName, SettlementRows
from services.driver_mobility.evidence import opened
from services.driver_mobility.records import EvidenceKept
from services.settlement.meter_records import MeterRecordKept, open_meter
from services.settlement.records import LeafRecord

UNREADABLE: Final = b""
"""Stands for what should be there and was changed so that it opens no more."""
_CLOSED: Final = (SubjectErased, SubjectRestricted)
_CHANGED: Final = (MalformedInput, RuleBroken, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What leaves should say, `UNREADABLE` where a box was changed; None: it is closed, by erasure or by law."""

    cdr_keys: dict[CDRName, bytes]
    commitments: dict[CDRName, bytes | None]
    meters: dict[CDRName, bytes | None]


async def unseal(vault: Vault, rows: SettlementRows, evidence: Iterable[EvidenceKept]) -> Unsealed:
    """Recompute keys and commitments from what may be opened."""
    secrets = {
        (pair.cpo_id.code, pair.agreement_id): await _secret(vault, pair.pair_secret) for pair in rows.agreements
    }
    return Unsealed(
        cdr_keys={
            (leaf.cpo_id.code, leaf.cdr_id): _key(leaf, secrets.get((leaf.cpo_id.code, leaf.agreement_id), UNREADABLE))
            for leaf in rows.leaves
        },
        commitments={(kept.cpo_id.code, kept.cdr_id): await _commitment(vault, kept) for kept in evidence},
        meters={(kept.cpo_id.code, kept.cdr_id): await _meter(vault, kept) for kept in rows.meter_records},
    )


async def _secret(vault: Vault, sealed: Sealed) -> bytes:
    try:
        secret = bytes.fromhex(await vault.open(sealed))
    except _CHANGED:
        return UNREADABLE
    return secret if len(secret) == PAIR_SECRET_BYTES else UNREADABLE


def _key(leaf: LeafRecord, secret: bytes) -> bytes:
    return UNREADABLE if not secret else cdr_key_of(leaf.cpo_id, leaf.cdr_id, pair_secret=secret)


async def _commitment(vault: Vault, kept: EvidenceKept) -> bytes | None:
    try:
        shown = await opened(vault, kept)
    except _CLOSED:
        return None
    except _CHANGED:
        return UNREADABLE
    return record_commitment(shown.record, salt=shown.salt)


async def _meter(vault: Vault, kept: MeterRecordKept) -> bytes | None:
    try:
        opened_meter = await open_meter(vault, kept)
    except _CLOSED:
        return None
    except _CHANGED:
        return UNREADABLE
    return meter_commitment(opened_meter.record, salt=opened_meter.salt)
