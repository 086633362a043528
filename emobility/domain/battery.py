"""The life of a battery as its passport keeps it: what may happen when, and a hash chain that anyone can recompute.

Byte for byte as `settlement_contracts/src/BatteryPassport.sol` has it. What happened lies off chain, on chain lies a
salted commitment to each record; whoever is given records and salts computes the head and compares it with the
passport's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from emobility.domain.batch.hashing import HASH_BYTES, SALT_BYTES, commitment, keccak256
from emobility.domain.errors import MalformedInput, RuleBroken

HEAD_BYTES: Final = 24
"""Of a hash of 32: so head, moment, count, status and phase share one word of storage."""
ENTRIES_MAX: Final = 2**16 - 1
ADDRESS_BYTES: Final = 20
NO_HEAD: Final = bytes(HEAD_BYTES)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


class Status(IntEnum):
    """Status of a battery, in the words of Regulation (EU) 2023/1542, Annex XIII."""

    ORIGINAL = 0
    REPURPOSED = 1
    REUSED = 2
    REMANUFACTURED = 3
    WASTE = 4


class Phase(IntEnum):
    """What can happen to a battery."""

    STORED = 0
    """In no vehicle and no station."""
    INSTALLED = 1
    RETIRED = 2
    SUCCEEDED = 3
    """Other batteries were made of it."""
    RECYCLED = 4


class Kind(IntEnum):
    """What happened to a battery."""

    MANUFACTURED = 0
    INSTALLED = 1
    SWAPPED_IN = 2
    SWAPPED_OUT = 3
    CHARGED = 4
    SOH_MEASURED = 5
    REPAIRED = 6
    INCIDENT = 7
    OWNERSHIP = 8
    RETIRED = 9
    SECOND_LIFE = 10
    RECYCLED = 11
    SUCCEEDED = 12
    MADE_OF = 13


ANYWHERE: Final = frozenset({Kind.SOH_MEASURED, Kind.REPAIRED, Kind.INCIDENT, Kind.OWNERSHIP})
"""What may happen to a battery wherever it is, until it is no more."""
NEVER_APPENDED: Final = frozenset({Kind.MANUFACTURED, Kind.OWNERSHIP, Kind.SUCCEEDED, Kind.MADE_OF})
"""What a custodian can't append: it is told by `issue`, by `transferCustody`, which both sign, and by `succeedBy`."""
_STAYS_IN_USE: Final = ANYWHERE | {Kind.CHARGED}
LIFE: Final[Mapping[Phase, Mapping[Kind, Phase]]] = MappingProxyType(
    {
        Phase.STORED: {
            **dict.fromkeys(_STAYS_IN_USE, Phase.STORED),
            Kind.INSTALLED: Phase.INSTALLED,
            Kind.SWAPPED_IN: Phase.INSTALLED,
            Kind.RETIRED: Phase.RETIRED,
        },
        Phase.INSTALLED: {
            **dict.fromkeys(_STAYS_IN_USE, Phase.INSTALLED),
            Kind.SWAPPED_OUT: Phase.STORED,
            Kind.RETIRED: Phase.RETIRED,
        },
        Phase.RETIRED: {
            **dict.fromkeys(ANYWHERE, Phase.RETIRED),
            Kind.SECOND_LIFE: Phase.STORED,
            Kind.RECYCLED: Phase.RECYCLED,
            Kind.SUCCEEDED: Phase.SUCCEEDED,
        },
        Phase.SUCCEEDED: {Kind.RECYCLED: Phase.RECYCLED},
        Phase.RECYCLED: {},
    }
)
"""Which kinds are taken in which phase, and the phase that comes of each."""


class MalformedEntry(MalformedInput):
    """An entry has a custodian of 20 bytes, a commitment of 32, and a whole second after 1970."""


class OutOfOrder(RuleBroken):
    """This does not happen to a battery in its phase, or at that moment."""

    def __init__(self, *, place: int, kind: Kind, phase: Phase) -> None:
        self.place = place
        self.kind = kind
        self.phase = phase
        super().__init__(f"entry {place}: {kind.name} does not happen to a battery that is {phase.name}, or not then")


class UnsuitableStatus(RuleBroken):
    """A battery that is waste stays so, a used one is not original again, and status changes need their kind."""

    def __init__(self, *, place: int, before: Status, after: Status) -> None:
        self.place = place
        self.before = before
        self.after = after
        super().__init__(f"entry {place}: a battery that is {before.name} does not become {after.name} by this")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that happened, as it stands on chain.

    Attributes:
        kind: What.
        status: Status from then on.
        happened_at: In whole seconds.
        custodian: Address of who has custody; of a hand-over, of who gets it.
        commitment: To the record, see `committed`.
    """

    kind: Kind
    status: Status
    happened_at: datetime
    custodian: bytes
    commitment: bytes

    def __post_init__(self) -> None:
        if len(self.custodian) != ADDRESS_BYTES or len(self.commitment) != HASH_BYTES:
            raise MalformedEntry("a custodian has 20 bytes and a commitment 32")
        if not 0 <= (self.happened_at - _EPOCH) // _SECOND < 1 << 40 or self.happened_at.microsecond:
            raise MalformedEntry("what happened, happened at a whole second after 1970")

    @property
    def what(self) -> int:
        """Kind u8, status u8 and moment u40 in one word, as a call has it."""
        return self.kind << 48 | self.status << 40 | (self.happened_at - _EPOCH) // _SECOND

    @property
    def told(self) -> int:
        """The word that is told and hashed: `what` above the custodian's 160 bits."""
        return self.what << 160 | int.from_bytes(self.custodian, "big")

    @classmethod
    def of_told(cls, told: int, commitment: bytes) -> Entry:
        """Read an entry from what a passport told. Raises `MalformedEntry`."""
        kind, status, seconds = told >> 208, told >> 200 & 0xFF, told >> 160 & 0xFF_FFFF_FFFF
        try:
            happened_at = _EPOCH + timedelta(seconds=seconds)
            of_kind, of_status = Kind(kind), Status(status)
        except (ValueError, OverflowError) as error:
            raise MalformedEntry(f"nothing happens to a battery that is told so: {error}") from error
        custodian = (told & (1 << 160) - 1).to_bytes(ADDRESS_BYTES, "big")
        return cls(kind=of_kind, status=of_status, happened_at=happened_at, custodian=custodian, commitment=commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeRecord:
    """A record off chain with its salt: what an entry's commitment stands for."""

    document: bytes
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Where a battery's life stands."""

    head: bytes
    happened_at: datetime
    entries: int
    status: Status
    phase: Phase


def battery_id(identifier: str, *, salt: bytes) -> int:
    """Return a battery's id on chain: keccak(salt, unique identifier of ISO/IEC 15459); the salt stays off chain."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return int.from_bytes(keccak256(salt + identifier.encode()), "big")


def committed(record: LifeRecord) -> bytes:
    """Return what stands for a record on chain."""
    return commitment(record.document, salt=record.salt)


def next_head(head: bytes, battery: int, entry: Entry) -> bytes:
    """Return a battery's head after an entry."""
    words = head.ljust(HASH_BYTES, b"\0"), battery.to_bytes(32, "big"), entry.told.to_bytes(32, "big"), entry.commitment
    return keccak256(b"".join(words))[:HEAD_BYTES]


def life_of(battery: int, entries: Iterable[Entry]) -> Life:
    """Return where a battery's life stands after these entries, the first of which is its manufacture.

    Raises:
        OutOfOrder: one does not happen then.
        UnsuitableStatus: one changes the status as it can't change.
        MalformedEntry: there is none, or more than `ENTRIES_MAX`.
    """
    life: Life | None = None
    for place, entry in enumerate(entries):
        life = _born(battery, entry) if life is None else _after(battery, life, entry, place)
    if life is None or life.entries > ENTRIES_MAX:
        raise MalformedEntry(f"a life has 1 to {ENTRIES_MAX} entries")
    return life


def proven_life(battery: int, entries: Iterable[Entry], records: Mapping[int, LifeRecord]) -> Life:
    """Return where a life stands, having compared entries with the records that one was given, by place from 0.

    Of a place without a record only the chain of hashes is checked: what it says stays with who keeps it.

    Raises:
        CommitmentDiffers: a record is not the one that was committed to.
        OutOfOrder, UnsuitableStatus, MalformedEntry: see `life_of`.
    """
    known = tuple(entries)
    for place, record in records.items():
        if not 0 <= place < len(known) or committed(record) != known[place].commitment:
            raise CommitmentDiffers(place)
    return life_of(battery, known)


class CommitmentDiffers(RuleBroken):
    """A record off chain is not the one that an entry commits to."""

    def __init__(self, place: int) -> None:
        self.place = place
        super().__init__(f"entry {place} commits to another record")


def succession_link(record_commitment: bytes, made_of: Iterable[int], made: Iterable[int]) -> bytes:
    """Return what the entries SUCCEEDED and MADE_OF of batteries that were made of others commit to."""
    lists = [keccak256(b"".join(each.to_bytes(32, "big") for each in ids)) for ids in (made_of, made)]
    return keccak256(record_commitment + lists[0] + lists[1])


def _born(battery: int, entry: Entry) -> Life:
    if entry.kind is not Kind.MANUFACTURED:
        raise OutOfOrder(place=0, kind=entry.kind, phase=Phase.STORED)
    if entry.status is not Status.ORIGINAL:
        raise UnsuitableStatus(place=0, before=Status.ORIGINAL, after=entry.status)
    head = next_head(NO_HEAD, battery, entry)
    return Life(head=head, happened_at=entry.happened_at, entries=1, status=entry.status, phase=Phase.STORED)


def _after(battery: int, life: Life, entry: Entry, place: int) -> Life:
    phase = LIFE[life.phase].get(entry.kind)
    if entry.kind is Kind.MADE_OF and life.entries == 1:
        phase = Phase.STORED
    if phase is None or entry.happened_at < life.happened_at:
        raise OutOfOrder(place=place, kind=entry.kind, phase=life.phase)
    if not _is_suitable(entry.kind, life.status, entry.status):
        raise UnsuitableStatus(place=place, before=life.status, after=entry.status)
    return Life(
        head=next_head(life.head, battery, entry),
        happened_at=entry.happened_at,
        entries=life.entries + 1,
        status=entry.status,
        phase=phase,
    )


def _is_suitable(kind: Kind, before: Status, after: Status) -> bool:
    match kind:
        case Kind.SECOND_LIFE:
            return before is not Status.WASTE and after not in {Status.ORIGINAL, Status.WASTE}
        case Kind.RETIRED:
            return after in {before, Status.WASTE}
        case Kind.RECYCLED:
            return after is Status.WASTE
        case _:
            return after is before
