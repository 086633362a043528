"""The keys of parties: our own, those a partner told an operator out of band, and those in the registry on the chain.

A key that one party's operator entered holds for that party alone. Keys of our own parties are derived by the signer,
one per generation, and hold for everybody here; a new generation overlaps the old one, so that partners have time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.party_claims import PartyEntry
from emobility.ports.clock import Clock
from emobility.ports.party_keys import ANY_NAME, KeyAlgorithm, PartyKeys, VerifyKey
from emobility.ports.party_registry import PartyRegistry
from emobility.ports.ports import Ports
from emobility.ports.signer import Signer
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork, Units
from emobility.protocols.ocpi.message_signatures import KEY_ID, is_public_key

EVERYBODY: Final = "*"
OVERLAP: Final = timedelta(days=7)
"""How long the old generation of our keys stays valid beside a new one, unless the operator says otherwise."""
WORD_AGE: Final = timedelta(seconds=60)
"""How long the registry's word on a party is kept."""
WORDS_KEPT_MAX: Final = 10_000
KEYS_MAX: Final = 64
"""Keys of one party that one holder may keep, revoked ones too: they explain old signatures."""


class MalformedKey(MalformedInput):
    """It is no public key of that algorithm, or its name is none."""


class NoSuchKey(RuleBroken):
    """The party has no key of that name here."""

    def __init__(self, party_id: PartyId, key_id: str) -> None:
        super().__init__(f"{party_id} has no key {key_id} here")


class KeyExists(RuleBroken):
    """A key keeps its bytes: another one needs another name."""


class KeySource(StrEnum):
    """Where a key came from."""

    OWN = "OWN"
    """We hold the private key."""
    TOLD = "TOLD"
    """The partner told the operator, by whatever way they trust."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyKeyRow:
    """See `VerifyKey`. `generation`: of a key of our own."""

    holder: str
    party_id: PartyId
    key_id: str
    algorithm: KeyAlgorithm
    public_key: bytes
    source: KeySource
    generation: int | None
    valid_from: datetime
    valid_until: datetime | None = None
    revoked_at: datetime | None = None

    def verify_key(self) -> VerifyKey:
        """Return it as verifiers see it."""
        return VerifyKey(
            party_id=self.party_id,
            key_id=self.key_id,
            algorithm=self.algorithm,
            public_key=self.public_key,
            is_ours=self.source is KeySource.OWN,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            revoked_at=self.revoked_at,
        )


PARTY_KEY: Final = TableSpec(
    name="ocpi_party_key", record=PartyKeyRow, key=("holder", "party_id", "key_id"), is_reference=True
)


class StoredPartyKeys:
    """`PartyKeys` over rows."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def keys_of(self, party_id: PartyId, *, for_party: PartyId) -> Sequence[VerifyKey]:
        """Return what everybody here goes by, and what this party's operator entered."""
        question = ("keys", party_id, for_party)
        return await self._units.concluded(
            question, (PARTY_KEY,), partial(stored_keys, party_id=party_id, for_party=for_party)
        )


async def stored_keys(unit: UnitOfWork, party_id: PartyId, *, for_party: PartyId) -> Sequence[VerifyKey]:
    """Return the keys of a party that are in rows, for one who goes by them."""
    rows = await unit.table(PARTY_KEY).select(
        {"party_id": party_id, "holder": (EVERYBODY, for_party.code)}, order_by=("valid_from",)
    )
    return tuple(row.verify_key() for row in rows)


class RegistryPartyKeys:
    """`PartyKeys` over rows and a registry: a party's message key there counts while an issuer vouches for the party.

    The registry names one key; whoever rotates it there signs with the old one until `WORD_AGE` is over.
    """

    def __init__(self, rows: PartyKeys, registry: PartyRegistry, clock: Clock) -> None:
        self._rows = rows
        self._registry = registry
        self._clock = clock
        self._words: dict[PartyId, tuple[datetime, PartyEntry | None]] = {}

    async def keys_of(self, party_id: PartyId, *, for_party: PartyId) -> Sequence[VerifyKey]:
        """Return the keys in rows and the one in the registry.

        Raises:
            Unavailable: the registry is not heard, and there is no word of it that is young enough: a key could have
                been changed there.
        """
        keys = list(await self._rows.keys_of(party_id, for_party=for_party))
        if any(key.is_ours for key in keys):
            return keys
        entry = await self._entry(party_id)
        if entry is not None and entry.message_key is not None and entry.attested_until is not None:
            keys.append(
                VerifyKey(
                    party_id=party_id,
                    key_id=ANY_NAME,
                    algorithm=KeyAlgorithm.ED25519,
                    public_key=bytes.fromhex(entry.message_key),
                    is_ours=False,
                    valid_from=datetime.min.replace(tzinfo=UTC),
                    valid_until=entry.attested_until,
                    revoked_at=None,
                )
            )
        return keys

    async def _entry(self, party_id: PartyId) -> PartyEntry | None:
        now = self._clock.now()
        known = self._words.get(party_id)
        if known is not None and abs(now - known[0]) < WORD_AGE:
            return known[1]
        entry = await self._registry.entry(party_id)
        if len(self._words) >= WORDS_KEPT_MAX:
            self._words.pop(next(iter(self._words)))
        self._words[party_id] = now, entry
        return entry


def party_keys(ports: Ports) -> PartyKeys:
    """Return the keys that an installation goes by."""
    rows = StoredPartyKeys(ports.units)
    registry = ports.party_registry
    return rows if registry is None else RegistryPartyKeys(rows, registry, ports.clock)


async def own_key(unit: UnitOfWork, party_id: PartyId, *, now: datetime) -> PartyKeyRow | None:
    """Return the key that a party of ours signs with now: the newest generation that is valid."""
    return newest_valid(await own_keys(party_id, unit), now=now)


async def own_keys(party_id: PartyId, unit: UnitOfWork) -> Sequence[PartyKeyRow]:
    """Return the keys of a party of ours, past and revoked ones too."""
    return await unit.table(PARTY_KEY).select({"party_id": party_id, "holder": EVERYBODY, "source": KeySource.OWN})


def newest_valid(rows: Sequence[PartyKeyRow], *, now: datetime) -> PartyKeyRow | None:
    """Return the one of our keys that is signed with now."""
    good = [row for row in rows if row.verify_key().is_good(created=now, now=now)]
    return max(good, key=lambda row: row.generation or 0, default=None)


async def ensure_own_key(unit: UnitOfWork, party_id: PartyId, signer: Signer, *, now: datetime) -> None:
    """Enter the first key of a party of ours, unless it has one; revoked ones are replaced by `rotate_own_key` only."""
    if not await unit.table(PARTY_KEY).count({"party_id": party_id, "holder": EVERYBODY, "source": KeySource.OWN}):
        await _enter_generation(unit, party_id, signer, 0, valid_from=now)


async def rotate_own_key(
    unit: UnitOfWork, party_id: PartyId, signer: Signer, *, starts_at: datetime, overlap: timedelta = OVERLAP
) -> PartyKeyRow:
    """Enter the next key of a party of ours. From `starts_at` we sign with it; older ones count for `overlap` more.

    Partners that hold our keys themselves need to hear of it before it starts.
    """
    table = unit.table(PARTY_KEY)
    rows = await table.select({"party_id": party_id, "holder": EVERYBODY, "source": KeySource.OWN})
    if not rows or len(rows) >= KEYS_MAX:
        raise KeyExists(f"{party_id} has {len(rows)} keys of our own; 1 to {KEYS_MAX - 1} can be followed by another")
    for row in rows:
        if row.valid_until is None or row.valid_until > starts_at + overlap:
            await table.put(replace(row, valid_until=starts_at + overlap))
    newest = max(row.generation or 0 for row in rows)
    return await _enter_generation(unit, party_id, signer, newest + 1, valid_from=starts_at)


async def _enter_generation(
    unit: UnitOfWork, party_id: PartyId, signer: Signer, generation: int, *, valid_from: datetime
) -> PartyKeyRow:
    row = PartyKeyRow(
        holder=EVERYBODY,
        party_id=party_id,
        key_id=f"w{generation}",
        algorithm=KeyAlgorithm.ED25519,
        public_key=bytes.fromhex(await signer.public_key(party_id, generation=generation)),
        source=KeySource.OWN,
        generation=generation,
        valid_from=valid_from.replace(microsecond=0),  # signatures tell whole seconds
    )
    await unit.table(PARTY_KEY).put(row)
    return row


async def enter_told_key(unit: UnitOfWork, row: PartyKeyRow) -> None:
    """Enter a key that a partner told; again with another validity changes that.

    Raises:
        MalformedKey: its bytes or its name.
        KeyExists: the name stands for other bytes already, or the party has `KEYS_MAX` keys.
    """
    if KEY_ID.fullmatch(row.key_id) is None or not is_public_key(row.public_key, algorithm=row.algorithm):
        raise MalformedKey("it is no such key")
    table = unit.table(PARTY_KEY)
    known = await table.select({"party_id": row.party_id, "holder": (row.holder, EVERYBODY)})
    same = next((each for each in known if each.key_id == row.key_id), None)
    if same is None and len(known) >= KEYS_MAX:
        raise KeyExists(f"{row.party_id} has {KEYS_MAX} keys")
    if same is not None and (same.holder, same.algorithm, same.public_key) != (
        row.holder,
        row.algorithm,
        row.public_key,
    ):
        raise KeyExists(f"{row.key_id} is another key of {row.party_id}")
    await table.put(row if same is None else replace(row, revoked_at=same.revoked_at))


async def revoke_key(unit: UnitOfWork, *, holder: str, party_id: PartyId, key_id: str, now: datetime) -> PartyKeyRow:
    """From now on nothing under this key counts. Twice is as once. Raises `NoSuchKey`."""
    row = await unit.table(PARTY_KEY).get_for_update(holder, party_id, key_id)
    if row is None:
        raise NoSuchKey(party_id, key_id)
    if row.revoked_at is None:
        row = replace(row, revoked_at=now)
        await unit.table(PARTY_KEY).put(row)
    return row
