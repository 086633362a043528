"""Enter what a table or a dump plans: each row by itself, the same file twice as once, every refusal told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import Office, require_hosted
from services.charging_operations.own_tokens import OwnTokenDesk
from services.charging_operations.records import EVSES, LOCATION, STATION
from services.charging_operations.station_import import Plan, PlannedStation, Refusal
from services.charging_operations.stations import StationDesk
from services.charging_operations.token_import import PlannedToken, masked

REFUSALS_SHOWN_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did, or would do (`is_dry_run`), counted in stations or cards.

    Attributes:
        is_dry_run: Nothing was entered.
        taken: Entered or changed.
        unchanged: There already, as the file has them.
        refused: Of each row that was not taken its line, what it is about and why, the first `REFUSALS_SHOWN_MAX`.
        refused_count: All of them.
        ignored_columns: Columns that mean nothing here.
        without_credential: Stations that are new and have no password in the file: they can't connect yet.
    """

    is_dry_run: bool
    taken: int
    unchanged: int
    refused: tuple[Refusal, ...]
    refused_count: int
    ignored_columns: tuple[str, ...]
    without_credential: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tally:
    taken: int = 0
    unchanged: int = 0
    refused: list[Refusal] = field(default_factory=list)
    without_credential: list[str] = field(default_factory=list)

    def count(self, *, has_changed: bool) -> None:
        if has_changed:
            self.taken += 1
        else:
            self.unchanged += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportDesk:
    """Enters plans."""

    office: Office
    stations: StationDesk
    own_tokens: OwnTokenDesk

    async def enter_stations(
        self, party_id: PartyId, plan: Plan[PlannedStation], *, is_dry_run: bool, correlation_id: str
    ) -> ImportReport:
        """Enter stations. A station that is known keeps its password: it may have a newer one than the file.

        Raises `NotFound`: the party is not hosted here; `Unavailable`: what was entered so far stays, ask again.
        """
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        tally = _Tally()
        for planned in plan.planned:
            try:
                await self._enter_station(
                    party_id, planned, tally, is_dry_run=is_dry_run, correlation_id=correlation_id
                )
            except (RuleBroken, MalformedInput) as error:
                tally.refused.append(Refusal(line=planned.line, row=planned.charging_station_id, why=str(error)))
        return _report(plan.refused, plan.ignored, tally, is_dry_run=is_dry_run)

    async def enter_tokens(self, party_id: PartyId, plan: Plan[PlannedToken], *, is_dry_run: bool) -> ImportReport:
        """Enter cards of the CPO's own. Raises as `enter_stations` does."""
        async with self.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        tally = _Tally()
        for planned in plan.planned:
            try:
                async with self.office.ports.units.begin() as unit:
                    has_changed = await self.own_tokens.put(unit, party_id, planned.token)
                    if not is_dry_run:
                        await unit.commit()
            except (RuleBroken, MalformedInput) as error:
                tally.refused.append(Refusal(line=planned.line, row=masked(planned.token.uid), why=str(error)))
            else:
                tally.count(has_changed=has_changed)
        return _report(plan.refused, plan.ignored, tally, is_dry_run=is_dry_run)

    async def _enter_station(
        self, party_id: PartyId, planned: PlannedStation, tally: _Tally, *, is_dry_run: bool, correlation_id: str
    ) -> None:
        station_id = planned.charging_station_id
        async with self.office.ports.units.begin() as unit:
            known = await unit.table(STATION).get(party_id, station_id)
        if known is None and planned.credential is None:
            tally.without_credential.append(station_id)
        elif known is None and planned.credential is not None and not is_dry_run:
            # First, for a station that is known is not asked about its password again.
            await self.office.stations.put_credential(party_id, station_id, planned.credential)
        has_changed = known is None or (known.station.evses, known.location_id, known.tariff_ids) != (
            planned.terms.evses,
            planned.terms.location_id,
            planned.terms.tariff_ids,
        )
        if has_changed:
            async with self.office.ports.units.begin() as unit:
                await self._put(unit, party_id, planned, correlation_id=correlation_id)
                if not is_dry_run:
                    await unit.commit()
        tally.count(has_changed=has_changed)

    async def _put(self, unit: UnitOfWork, party_id: PartyId, planned: PlannedStation, *, correlation_id: str) -> None:
        location_id = planned.terms.location_id
        if planned.location is not None and await unit.table(LOCATION).get(party_id, location_id) is None:
            await self.stations.put_location(
                unit, party_id, location_id, planned.location, correlation_id=correlation_id
            )
        for evse in planned.terms.evses:
            other = await unit.table(EVSES).get(party_id, evse.evse_uid)
            if other is not None and other.charging_station_id != planned.charging_station_id:
                raise EVSEOfAnotherStation(evse.evse_uid, other.charging_station_id)
        await self.stations.put_station(
            unit, party_id, planned.charging_station_id, planned.terms, correlation_id=correlation_id
        )


class EVSEOfAnotherStation(RuleBroken):
    """An EVSE's uid names one of another station; OCPI knows EVSEs by it for ever."""

    def __init__(self, evse_uid: str, charging_station_id: str) -> None:
        super().__init__(f"evse_uid {evse_uid} is of station {charging_station_id}")


def _report(refused: Sequence[Refusal], ignored: tuple[str, ...], tally: _Tally, *, is_dry_run: bool) -> ImportReport:
    every = sorted([*refused, *tally.refused], key=lambda each: each.line)
    return ImportReport(
        is_dry_run=is_dry_run,
        taken=tally.taken,
        unchanged=tally.unchanged,
        refused=tuple(every[:REFUSALS_SHOWN_MAX]),
        refused_count=len(every),
        ignored_columns=ignored,
        without_credential=tuple(tally.without_credential),
    )
