"""The signed records behind a leaf's `meter`, for the day on which one of the two parties contests the charge.

They are sealed under the driver's key, salt included: once that is destroyed, nobody can open the commitment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from emobility.domain.batch.meter import MeterRecord
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed
from emobility.events.cdr import CDRAccepted, CDRAcceptedFigures
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocmf.committing import meter_record


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRecordKept:
    """What opens a leaf's `meter`. `records`: as the meter wrote them; `salt`: hex."""

    cpo_id: PartyId
    cdr_id: str
    emsp_id: PartyId
    public_key: str
    records: tuple[Sealed, ...]
    salt: Sealed


METER_RECORD: Final = TableSpec(name="settlement_meter_record", record=MeterRecordKept, key=("cpo_id", "cdr_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMeter:
    """A meter's record with the salt of its commitment, and its texts as they were written."""

    record: MeterRecord
    salt: bytes
    texts: tuple[str, ...]


async def keep_meter_records(unit: UnitOfWork, accepted: Iterable[CDRAccepted | CDRAcceptedFigures]) -> None:
    """Keep, in this unit, what opens the commitments of CDRs that were just booked."""
    rows = [_kept(event) for event in accepted if event.meter is not None]
    if rows:
        await unit.table(METER_RECORD).insert_all(rows)


def _kept(event: CDRAccepted | CDRAcceptedFigures) -> MeterRecordKept:
    assert event.meter is not None
    signed = event.cdr.signed_data
    return MeterRecordKept(
        cpo_id=event.cpo_id,
        cdr_id=event.cdr.cdr_id,
        emsp_id=event.emsp_id,
        public_key=event.meter.public_key,
        records=() if signed is None else signed.records,
        salt=event.meter.salt,
    )


async def open_meter(vault: Vault, kept: MeterRecordKept) -> OpenedMeter:
    """Return what a leaf's `meter` stands for.

    Raises:
        SubjectErased, SubjectRestricted: the driver was erased.
        OCMFRefused: what was kept is no record of a meter.
    """
    texts = tuple([await vault.open(record) for record in kept.records])
    salt = bytes.fromhex(await vault.open(kept.salt))
    return OpenedMeter(record=meter_record(texts, public_key=kept.public_key), salt=salt, texts=texts)
