"""Which stations' departures from the standard this gateway tolerates: built-in profiles, and what operators add.

Every gateway looks now and then what operators said; a profile counts for a station's next message. What kind a
station is it tells by BootNotification, and its presence row remembers for connections without one.
"""

from __future__ import annotations

import tomllib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any, Final

import structlog

from charge_point_gateway.quirk_repairs import Leniency, leniency_of
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import StationIdentity
from charge_point_gateway.texts import without_nul
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events import codec
from emobility.ports.clock import Clock, Timer
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import Units
from emobility.protocols.station_control.quirks import NamedQuirkProfile, QuirkProfile, StationMake, check_profile

PROFILES_MAX: Final = 200
"""Of one party."""
ROWS_READ_MAX: Final = 10_000
LOOK_INTERVAL_S: Final = 5.0
STATIONS_RUNNING_MAX: Final = 20_000
"""Stations whose running 1.6 transactions are remembered; the one heard least lately is forgotten."""
MAKE_CHARACTERS_MAX: Final = 100
_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StationQuirkRow:
    """A profile that an operator entered."""

    party_id: PartyId
    name: str
    profile: QuirkProfile
    changed_at: datetime


STATION_QUIRK: Final = TableSpec(name="station_quirk", record=StationQuirkRow, key=("party_id", "name"))


class TooManyProfiles(RuleBroken):
    """A party has `PROFILES_MAX` profiles already."""


def _built_in() -> dict[str, QuirkProfile]:
    text = (resources.files("charge_point_gateway") / "quirks.toml").read_text(encoding="utf-8")
    profiles = {}
    for name, given in tomllib.loads(text).items():
        profiles[name] = codec.decode(codec.encode({"who": "Wattroam", **given}), QuirkProfile)
        check_profile(name, profiles[name])
    return profiles


BUILT_IN: Final[Mapping[str, QuirkProfile]] = _built_in()


def make_of(version: OCPPVersion, payload: Any) -> StationMake:
    """Read what a BootNotification says of its station, whether or not the rest of it keeps the schema."""
    names = ("chargePointVendor", "chargePointModel", "firmwareVersion")
    if version is not OCPPVersion.V16:
        payload = payload.get("chargingStation") if isinstance(payload, dict) else None
        names = ("vendorName", "model", "firmwareVersion")
    if not isinstance(payload, dict):
        return StationMake()
    said = [payload.get(name) for name in names]
    return StationMake(*(without_nul(each[:MAKE_CHARACTERS_MAX]) if isinstance(each, str) else None for each in said))


@dataclass(slots=True)
class _AtStation:
    newest: dict[int, int] = field(default_factory=dict)
    """By connector, the number of the transaction that began last."""
    running: set[int] = field(default_factory=set)
    ended_by: tuple[str, int] | None = None
    """The last StopTransaction without a number, and whose it was: repeated, it is the same one's."""


class RunningTransactions:
    """The 1.6 transactions of stations that send transactionId 0, as far as this gateway heard of them begin."""

    def __init__(self) -> None:
        self._stations: OrderedDict[StationIdentity, _AtStation] = OrderedDict()

    def began(self, identity: StationIdentity, connector: int, number: int) -> None:
        """A StartTransaction got its number."""
        station = self._stations.setdefault(identity, _AtStation())
        station.running.discard(station.newest.get(connector, number))
        station.newest[connector] = number
        station.running.add(number)
        self._stations.move_to_end(identity)
        if len(self._stations) > STATIONS_RUNNING_MAX:
            self._stations.popitem(last=False)

    def ended(self, identity: StationIdentity, number: int) -> None:
        """A StopTransaction named a number."""
        station = self._stations.get(identity)
        if station is not None:
            station.running.discard(number)

    def metered_at(self, identity: StationIdentity, connector: int) -> int | None:
        """Return the number of the transaction that began last at a connector: closing values may follow its end."""
        station = self._stations.get(identity)
        return None if station is None else station.newest.get(connector)

    def ended_by(self, identity: StationIdentity, content: str) -> int | None:
        """Return whose end a StopTransaction without a number is; None: more than one could be meant, or none."""
        station = self._stations.get(identity)
        if station is None:
            return None
        if station.ended_by is not None and station.ended_by[0] == content:
            return station.ended_by[1]
        if len(station.running) != 1:
            return None
        number = station.running.pop()
        station.ended_by = (content, number)
        return number


class QuirkBook:
    """Profiles in force. `generation` moves whenever they change, so that sessions ask again."""

    def __init__(self, units: Units, clock: Clock, timer: Timer) -> None:
        self._units = units
        self._clock = clock
        self._timer = timer
        self._rows: dict[PartyId, dict[str, StationQuirkRow]] = {}
        self.generation = 0
        self.running = RunningTransactions()

    def leniency(self, identity: StationIdentity, version: OCPPVersion, make: StationMake) -> Leniency | None:
        """Return what is tolerated of a station; None, as of nearly all: nothing."""
        return leniency_of(
            (each.name, each.profile)
            for each in self._in_force(identity.party_id)
            if each.profile.tolerances or each.profile.heartbeat_interval_s
            if each.profile.matches(make, charging_station_id=identity.charging_station_id, ocpp_version=version.value)
        )

    async def run(self) -> None:
        """Look what operators said, until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                _LOG.warning("quirks_not_read", reason=str(error))
            await self._timer.sleep(LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Read all profiles anew. Raises `Unavailable`."""
        async with self._units.begin() as unit:
            rows = await unit.table(STATION_QUIRK).select(limit=ROWS_READ_MAX)
        found: defaultdict[PartyId, dict[str, StationQuirkRow]] = defaultdict(dict)
        for row in rows:
            found[row.party_id][row.name] = row
        if found != self._rows:
            self._rows = dict(found)
            self.generation += 1

    # For operators

    async def put(self, party_id: PartyId, name: str, profile: QuirkProfile) -> None:
        """Enter or change a profile. Raises `QuirkProfileRefused`, `TooManyProfiles`."""
        check_profile(name, profile)
        async with self._units.begin() as unit:
            table = unit.table(STATION_QUIRK)
            known = await table.get_for_update(party_id, name)
            if known is None and await table.count({"party_id": party_id}) >= PROFILES_MAX:
                raise TooManyProfiles(f"{PROFILES_MAX} profiles are there already")
            row = StationQuirkRow(party_id=party_id, name=name, profile=profile, changed_at=self._clock.now())
            await table.put(row)
            await unit.commit()
        await self.look()

    async def remove(self, party_id: PartyId, name: str) -> bool:
        """Take an operator's profile away; tell whether there was one. A built-in one it replaced is back."""
        async with self._units.begin() as unit:
            was_there = await unit.table(STATION_QUIRK).delete(party_id, name)
            await unit.commit()
        await self.look()
        return was_there

    def of_party(self, party_id: PartyId) -> list[NamedQuirkProfile]:
        """Return what is in force at a party, by name."""
        return sorted(self._in_force(party_id), key=lambda each: each.name)

    def _in_force(self, party_id: PartyId) -> list[NamedQuirkProfile]:
        """Return a party's own profiles first: where two differ, they count."""
        own = self._rows.get(party_id, {})
        return [
            *(
                NamedQuirkProfile(name=name, profile=row.profile, is_built_in=False, changed_at=row.changed_at)
                for name, row in sorted(own.items())
            ),
            *(
                NamedQuirkProfile(name=name, profile=profile, is_built_in=True)
                for name, profile in BUILT_IN.items()
                if name not in own
            ),
        ]
