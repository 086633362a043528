"""Verify the signed records of one charge together, and against the registers that the station reported by OCPP."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emobility.protocols.ocmf.record import VerifiedOCMF, VerifiedReading, verify
from emobility.protocols.ocmf.refusals import OCMFRefused, OCMFRule

_MEASURED_TIME: Final = frozenset({("S", "S"), ("S", "R"), ("I", "R"), ("R", "R")})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCharge:
    """A charge whose begin and end one meter signed. `payload_hashes`: what must never prove another charge."""

    begin: VerifiedReading
    end: VerifiedReading
    payload_hashes: tuple[str, ...]

    @property
    def energy_wh(self) -> int:
        """Signed energy, in Wh."""
        return self.end.energy_wh - self.begin.energy_wh

    @property
    def is_time_measured(self) -> bool:
        """Whether the meter vouches for how long it took (OCMF 1.4.1, table 19).

        Both ends by a synchronised clock, or the end by a duration of legal quality that began at an informative one.
        """
        return (self.begin.time_status, self.end.time_status) in _MEASURED_TIME


def verify_charge(records: Sequence[str], *, public_key_hex: str, begin_wh: int, end_wh: int) -> VerifiedCharge:
    """Check all records of a charge; a record that came twice counts once.

    Args:
        records: As the meter wrote them, in any order.
        public_key_hex: The key pinned for the EVSE's meter.
        begin_wh: The import register that OCPP reported at the start, in Wh.
        end_wh: The same at the end.

    Raises:
        OCMFRefused: a record is not believed; begin or end is missing; they come from two meters; a page is missing
            between them; the register or the time fell; or the values differ from what OCPP reported.
    """
    verified = [verify(text, public_key_hex) for text in records]
    return _charge_of(verified, begin_wh=begin_wh, end_wh=end_wh)


def verify_charge_alone(records: Sequence[str], *, public_key_hex: str) -> VerifiedCharge:
    """Check all records of a charge with each other, for whoever saw no other register values.

    Raises:
        OCMFRefused: as `verify_charge`.
    """
    verified = [verify(text, public_key_hex) for text in records]
    readings = [reading for record in verified for reading in record.readings if reading.is_import]
    return _charge_of(
        verified,
        begin_wh=min((reading.energy_wh for reading in readings if reading.is_begin), default=0),
        end_wh=max((reading.energy_wh for reading in readings if reading.is_end), default=0),
    )


def _charge_of(verified: Sequence[VerifiedOCMF], *, begin_wh: int, end_wh: int) -> VerifiedCharge:
    once = {record.payload_sha256: record for record in verified}
    pages = sorted(once.values(), key=lambda record: (record.page_context, record.page))
    _refuse_two_meters(pages)
    _refuse_gap(pages)
    readings = [reading for page in pages for reading in page.readings if reading.is_import]
    begin, end = _ends(readings)
    _refuse_falling(readings)
    _refuse_other_values(begin, end, begin_wh=begin_wh, end_wh=end_wh)
    return VerifiedCharge(begin=begin, end=end, payload_hashes=tuple(page.payload_sha256 for page in pages))


def _refuse_two_meters(pages: Sequence[VerifiedOCMF]) -> None:
    meters = sorted({page.meter for page in pages})
    if len(meters) > 1:
        raise OCMFRefused(OCMFRule.ONE_METER, " and ".join(meters))


def _refuse_gap(pages: Sequence[VerifiedOCMF]) -> None:
    """OCMF 1.4.1, PG: a context's pages count up by one; T is the context of transactions."""
    for page in pages:
        if page.page_context != "T":
            raise OCMFRefused(OCMFRule.PAGINATION, f"page {page.page_context}{page.page} is no transaction's")
    for earlier, later in itertools.pairwise(pages):
        if later.page != earlier.page + 1:
            raise OCMFRefused(OCMFRule.PAGINATION, f"T{earlier.page} is followed by T{later.page}")


def _ends(readings: Sequence[VerifiedReading]) -> tuple[VerifiedReading, VerifiedReading]:
    begins = [place for place, reading in enumerate(readings) if reading.is_begin]
    ends = [place for place, reading in enumerate(readings) if reading.is_end]
    # An end record may repeat the begin reading beside the end; the same reading twice is one.
    distinct = {(readings[place].at, readings[place].energy_wh) for place in begins}
    if len(distinct) != 1 or len(ends) != 1 or begins[0] != 0 or ends[0] != len(readings) - 1:
        raise OCMFRefused(OCMFRule.BEGIN_AND_END, "".join(reading.context for reading in readings) or "no readings")
    return readings[begins[0]], readings[ends[0]]


def _refuse_falling(readings: Sequence[VerifiedReading]) -> None:
    units = sorted({reading.unit for reading in readings})
    registers = sorted({reading.register or "" for reading in readings})
    if len(units) > 1:
        raise OCMFRefused(OCMFRule.UNIT, " and ".join(units))
    if len(registers) > 1:
        raise OCMFRefused(OCMFRule.ONE_METER, f"registers {' and '.join(registers)}")
    # A begin reading repeated in the end record stands out of time order; only the first of it counts.
    once = [reading for place, reading in enumerate(readings) if place == 0 or not reading.is_begin]
    for earlier, later in itertools.pairwise(once):
        if later.energy_wh < earlier.energy_wh:
            raise OCMFRefused(OCMFRule.REGISTER_RISES, f"{earlier.energy_wh} Wh, then {later.energy_wh} Wh")
        if later.at < earlier.at:
            raise OCMFRefused(OCMFRule.TIME_RISES, f"{earlier.at.isoformat()}, then {later.at.isoformat()}")


def _refuse_other_values(begin: VerifiedReading, end: VerifiedReading, *, begin_wh: int, end_wh: int) -> None:
    signed = (begin.energy_wh, end.energy_wh)
    reported = (0, end_wh - begin_wh) if begin.counts_per_transaction else (begin_wh, end_wh)
    if signed != reported:
        raise OCMFRefused(
            OCMFRule.REGISTER_MATCHES,
            f"signed {signed[0]} to {signed[1]} Wh, reported {reported[0]} to {reported[1]} Wh",
        )
