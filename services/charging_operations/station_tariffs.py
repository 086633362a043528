"""Tariffs at stations that calculate by themselves (OCPP 2.1, I07-I11): what we set, what stations say they have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from emobility.protocols.station_control.told import moment_of, payload_of
from services.charging_operations.office import Office
from services.charging_operations.station_calls import call_station
from services.charging_operations.wanted_settings import WANTED_SETTING, WantedDesk, WantedKind, WantedState

ASSIGNMENTS_MAX: Final = 1_000
"""Assignments kept of one station's answer."""
_GONE: Final = ("Accepted", "NoTariff")


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffAssignmentRecord:
    """A tariff that a station says it has. `asked_evse_id` is what it was asked about, 0: all of it.

    Whom a driver's tariff is for is counted and not kept.
    """

    party_id: PartyId
    charging_station_id: str
    asked_evse_id: int
    place: int
    tariff_id: str
    tariff_kind: str
    valid_from: datetime | None
    ocpp_evse_ids: tuple[int, ...]
    drivers: int
    told_at: datetime


TARIFF_ASSIGNMENT: Final = TableSpec(
    name="cpo_tariff_assignment",
    record=TariffAssignmentRecord,
    key=("party_id", "charging_station_id", "asked_evse_id", "place"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTariff:
    """PUT default-tariffs/{ocpp_evse_id}, PUT transactions/{transaction_id}/tariff: TariffType of OCPP 2.1."""

    tariff: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffsCleared:
    """POST tariffs/clear: these tariffs; none named: all of the EVSE; no EVSE: of the station."""

    tariff_ids: tuple[str, ...] = ()
    ocpp_evse_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTariffDesk:
    """Sets tariffs, clears them, and asks for them."""

    office: Office
    wanted: WantedDesk

    async def set_default(
        self, party_id: PartyId, station_id: str, ocpp_evse_id: int, asked: StationTariff, *, correlation_id: str
    ) -> CommandOutcome:
        """Set what whoever has no tariff pays at an EVSE, 0: at each. Raises what `call_station` does."""
        payload = {"evseId": ocpp_evse_id, "tariff": asked.tariff}
        return await self.wanted.set(
            party_id,
            station_id,
            WantedKind.DEFAULT_TARIFF,
            str(ocpp_evse_id),
            payload,
            correlation_id=correlation_id,
        )

    async def set_for_transaction(
        self, party_id: PartyId, station_id: str, transaction_id: str, asked: StationTariff, *, correlation_id: str
    ) -> CommandOutcome:
        """Change the tariff of a running transaction. Raises what `call_station` does."""
        payload = {"transactionId": transaction_id, "tariff": asked.tariff}
        return await self.wanted.set(
            party_id,
            station_id,
            WantedKind.TRANSACTION_TARIFF,
            transaction_id,
            payload,
            correlation_id=correlation_id,
        )

    async def clear(
        self, party_id: PartyId, station_id: str, cleared: TariffsCleared, *, correlation_id: str
    ) -> CommandOutcome:
        """Clear tariffs; the answer has a result for each. Raises what `call_station` does."""
        payload: dict[str, Any] = {}
        if cleared.tariff_ids:
            payload["tariffIds"] = list(cleared.tariff_ids)
        if cleared.ocpp_evse_id is not None:
            payload["evseId"] = cleared.ocpp_evse_id
        outcome = await call_station(
            self.office, party_id, station_id, "ClearTariffs", payload, correlation_id=correlation_id
        )
        results = (outcome.answer or {}).get("clearTariffsResult", ())
        gone = {each.get("tariffId") for each in results if each["status"] in _GONE}
        if gone:
            await self._forget(party_id, station_id, gone, cleared.ocpp_evse_id)
        return outcome

    async def refresh(
        self, party_id: PartyId, station_id: str, ocpp_evse_id: int, *, correlation_id: str
    ) -> CommandOutcome:
        """Ask what tariffs a station has at an EVSE, 0: all, and keep the answer. Raises what `call_station` does."""
        outcome = await call_station(
            self.office, party_id, station_id, "GetTariffs", {"evseId": ocpp_evse_id}, correlation_id=correlation_id
        )
        if outcome.result is CommandResult.ACCEPTED or outcome.station_status == "NoTariff":
            told = (outcome.answer or {}).get("tariffAssignments", ())[:ASSIGNMENTS_MAX]
            async with self.office.ports.units.begin() as unit:
                table = unit.table(TARIFF_ASSIGNMENT)
                where = {"party_id": party_id, "charging_station_id": station_id, "asked_evse_id": ocpp_evse_id}
                for old in await table.select(where):
                    await table.remove(*where.values(), old.place)
                for place, each in enumerate(told):
                    await table.put(
                        TariffAssignmentRecord(
                            **where,  # type: ignore[arg-type]  # one value of each kind
                            place=place,
                            tariff_id=each["tariffId"],
                            tariff_kind=each["tariffKind"],
                            valid_from=moment_of(each["validFrom"]) if "validFrom" in each else None,
                            ocpp_evse_ids=tuple(int(evse) for evse in each.get("evseIds", ())),
                            drivers=len(each.get("idTokens", ())),
                            told_at=self.office.now(),
                        )
                    )
                await unit.commit()
        return outcome

    async def _forget(
        self, party_id: PartyId, station_id: str, tariff_ids: set[str | None], ocpp_evse_id: int | None
    ) -> None:
        """Note what is gone; a result without a tariff is about all that was asked for."""
        async with self.office.ports.units.begin() as unit:
            # A transaction keeps the tariff that it runs by.
            for row in await self.wanted.in_force(unit, party_id, station_id, WantedKind.DEFAULT_TARIFF):
                is_there = ocpp_evse_id is None or row.object_id == str(ocpp_evse_id)
                if is_there and (None in tariff_ids or payload_of(row.payload)["tariff"]["tariffId"] in tariff_ids):
                    gone = replace(row, state=WantedState.CLEARED, ended_at=self.office.now())
                    await unit.table(WANTED_SETTING).put(gone)
            await unit.commit()
