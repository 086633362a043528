"""Charging profiles a station was given, and the schedule they make together: a simple reading of OCPP's block K.

Of each purpose the highest stack level with a period in force counts; a transaction's own profile goes before the
default one, a profile for priority charging before both; the lowest of the purposes wins. What the whole station may
take is shared equally by the EVSEs that charge. Profiles are kept in the words of 2.x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.station import SimulatedEVSE, Station, Transaction
from simulator.truth import timestamp

UNLIMITED_W: Final = 10**9
LINE_VOLTAGE_V: Final = 230
"""Between phase and neutral; a limit in ampere means this times the phases."""
PHASES: Final = 3
PERIODS_MAX: Final = 100
"""Of a composite schedule."""
PURPOSES_16: Final = {"ChargePointMaxProfile": "ChargingStationMaxProfile"}
STATION_PURPOSES: Final = ("ChargingStationMaxProfile", "ChargingStationExternalConstraints")
TX_PURPOSES: Final = ("PriorityCharging", "TxProfile", "TxDefaultProfile")
"""The first that has something to say counts."""
_CYCLES: Final = {"Daily": timedelta(days=1), "Weekly": timedelta(days=7)}


@dataclass(frozen=True, slots=True)
class Installed:
    """A profile, for which EVSE (0: the station), since when."""

    evse_id: int
    profile: dict[str, Any]
    at: datetime

    def period(self, at: datetime, *, began_at: datetime | None) -> dict[str, Any] | None:
        """Return the period in force, with its `chargingRateUnit`; None: the profile says nothing about this moment."""
        for bound, is_over in (("validFrom", at.__lt__), ("validTo", at.__ge__)):
            if bound in self.profile and is_over(datetime.fromisoformat(self.profile[bound])):
                return None
        for schedule in self.profile["chargingSchedule"]:
            elapsed = at - self._start(schedule, at, began_at)
            duration_s = schedule.get("duration")
            if elapsed < timedelta(0) or (duration_s is not None and elapsed >= timedelta(seconds=duration_s)):
                continue
            begun = [each for each in schedule["chargingSchedulePeriod"] if _offset(each) <= elapsed]
            if begun:
                return {**begun[-1], "chargingRateUnit": schedule["chargingRateUnit"]}
        return None

    def changes(self, at: datetime, *, began_at: datetime | None) -> Iterator[datetime]:
        """Yield the moments around `at` when another period comes into force."""
        for bound in ("validFrom", "validTo"):
            if bound in self.profile:
                yield datetime.fromisoformat(self.profile[bound])
        cycle = _CYCLES.get(self.profile.get("recurrencyKind", ""))
        for schedule in self.profile["chargingSchedule"]:
            start = self._start(schedule, at, began_at)
            for begin in (start,) if cycle is None else (start, start + cycle):
                yield from (begin + _offset(each) for each in schedule["chargingSchedulePeriod"])
                if "duration" in schedule:
                    yield begin + timedelta(seconds=schedule["duration"])

    def _start(self, schedule: dict[str, Any], at: datetime, began_at: datetime | None) -> datetime:
        stated = schedule.get("startSchedule")
        if self.profile["chargingProfileKind"] == "Relative":
            return began_at or self.at
        start = datetime.fromisoformat(stated) if stated else self.at
        cycle = _CYCLES.get(self.profile.get("recurrencyKind", ""))
        if self.profile["chargingProfileKind"] == "Recurring" and cycle is not None:
            start += (at - start) // cycle * cycle
        return start


def _offset(period: dict[str, Any]) -> timedelta:
    return timedelta(seconds=period["startPeriod"])


def in_w(period: dict[str, Any], name: str) -> int | None:
    """Return a limit or set-point of a period in W; None: it has none."""
    if period.get(name) is None:
        return None
    value = Decimal(str(period[name]))
    if period["chargingRateUnit"] == "A":
        value *= LINE_VOLTAGE_V * int(period.get("numberPhases") or PHASES)
    return int(value)


class ChargingProfiles(Concept):
    """Keeps them; `priority` tells whether an EVSE charges with priority now."""

    installed: list[Installed]

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.installed = []
        self.priority: Callable[[int], bool] = lambda _evse_id: False

    def commands(self) -> Commands:
        """In the words of 2.x."""
        return {
            "SetChargingProfile": self._set,
            "ClearChargingProfile": self._clear,
            "GetChargingProfiles": self._get,
            "GetCompositeSchedule": self._composite,
        }

    # What counts

    def install(self, evse_id: int, profile: dict[str, Any]) -> None:
        """Take a profile; one of the same id, or of the same place, purpose and level, is replaced."""
        place = _key(evse_id, profile)
        self.installed = [
            each for each in self.installed if each.profile["id"] != profile["id"] and _place(each) != place
        ]
        self.installed.append(Installed(evse_id, profile, self.station.now()))
        for evse in self.station.evses.values():
            self.station.advance(evse)

    def ended(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """A transaction's own profile ends with it."""
        del transaction
        evse_id = evse.profile.ocpp_evse_id
        self.installed = [
            each
            for each in self.installed
            if each.evse_id != evse_id or each.profile["chargingProfilePurpose"] != "TxProfile"
        ]

    def period_of_transaction(self, evse_id: int, at: datetime) -> dict[str, Any] | None:
        """Return the period of the profile that the EVSE's transaction follows."""
        for purpose in TX_PURPOSES:
            if purpose == "PriorityCharging" and not self.priority(evse_id):
                continue
            period = self._highest(purpose, evse_id, at)
            if period is not None:
                return period
        return None

    def limit_w(self, evse_id: int, at: datetime) -> int:
        """Return what the EVSE may take, in W; `UNLIMITED_W` when no profile says."""
        charging = sum(each.transaction is not None for each in self.station.evses.values())
        limits = [UNLIMITED_W]
        period = self.period_of_transaction(evse_id, at)
        if period is not None:
            limits.append(_limit(period))
        for purpose in STATION_PURPOSES:
            period = self._highest(purpose, evse_id, at)
            if period is not None:
                limits.append(_limit(period) // max(1, charging))
        return max(0, min(limits))

    def _highest(self, purpose: str, evse_id: int, at: datetime) -> dict[str, Any] | None:
        transaction = self.station.evses[evse_id].transaction
        began_at = None if transaction is None else transaction.started_at
        best: tuple[int, dict[str, Any]] | None = None
        for each in self.installed:
            if each.evse_id not in (0, evse_id) or each.profile["chargingProfilePurpose"] != purpose:
                continue
            period = each.period(at, began_at=began_at)
            if period is not None and (best is None or each.profile["stackLevel"] >= best[0]):
                best = each.profile["stackLevel"], period
        return None if best is None else best[1]

    # CALLs

    def accepts(self, evse_id: int, profile: dict[str, Any]) -> bool:
        """Tell whether a profile can be taken: the EVSE is there, and a TxProfile has its transaction."""
        if evse_id and evse_id not in self.station.evses:
            return False
        if profile["chargingProfilePurpose"] != "TxProfile":
            return True
        transaction = self.station.evses[evse_id].transaction if evse_id else None
        stated = profile.get("transactionId")
        return transaction is not None and stated in {None, transaction.transaction_id, transaction.local_id}

    def _set(self, payload: Payload) -> Reply:
        evse_id, profile = payload["evseId"], payload["chargingProfile"]
        if not self.accepts(evse_id, profile):
            return Reply(payload={"status": "Rejected"})
        self.install(evse_id, profile)
        return Reply(payload={"status": "Accepted"})

    def clear(self, **wanted: Any) -> bool:
        """Forget the profiles with all of `id`, `evse_id`, `purpose`, `level` that are given; tell if there was one."""
        kept = [each for each in self.installed if not _is_wanted(each, wanted)]
        had_some = len(kept) < len(self.installed)
        self.installed = kept
        for evse in self.station.evses.values():
            self.station.advance(evse)
        return had_some

    def _clear(self, payload: Payload) -> Reply:
        criteria = payload.get("chargingProfileCriteria", {})
        had_some = self.clear(
            id=payload.get("chargingProfileId"),
            evse_id=criteria.get("evseId"),
            purpose=criteria.get("chargingProfilePurpose"),
            level=criteria.get("stackLevel"),
        )
        return Reply(payload={"status": "Accepted" if had_some else "Unknown"})

    def _get(self, payload: Payload) -> Reply:
        criteria = payload["chargingProfile"]
        sources = criteria.get("chargingLimitSource")
        found = [
            each
            for each in self.installed
            if _is_wanted(
                each,
                {
                    "evse_id": payload.get("evseId"),
                    "purpose": criteria.get("chargingProfilePurpose"),
                    "level": criteria.get("stackLevel"),
                },
            )
            and each.profile["id"] in criteria.get("chargingProfileId", [each.profile["id"]])
            and (sources is None or "CSO" in sources)
        ]
        if not found:
            return Reply(payload={"status": "NoProfiles"})

        def report() -> None:
            evse_ids = sorted({each.evse_id for each in found})
            for evse_id in evse_ids:
                page = {
                    "requestId": payload["requestId"],
                    "chargingLimitSource": "CSO",
                    "evseId": evse_id,
                    "chargingProfile": [each.profile for each in found if each.evse_id == evse_id],
                    "tbc": evse_id != evse_ids[-1],
                }
                self.station.tell("ReportChargingProfiles", page)

        return Reply(payload={"status": "Accepted"}, then=report)

    def composite(self, evse_id: int, duration_s: int, unit: str) -> list[dict[str, Any]] | None:
        """Return the periods that all profiles make together from now on; None: there is no such EVSE."""
        if evse_id and evse_id not in self.station.evses:
            return None
        now = self.station.now()
        evse_ids = [evse_id] if evse_id else list(self.station.evses)
        until = now + timedelta(seconds=duration_s)
        moments = {now}
        for each in self.installed:
            for number in evse_ids:
                transaction = self.station.evses[number].transaction
                began_at = None if transaction is None else transaction.started_at
                moments |= {at for at in each.changes(now, began_at=began_at) if now < at < until}
        periods: list[dict[str, Any]] = []
        for at in sorted(moments):
            power_w = sum(
                min(self.limit_w(number, at), self.station.evses[number].profile.power_w_max) for number in evse_ids
            )
            limit = power_w if unit == "W" else round(power_w / (LINE_VOLTAGE_V * PHASES), 1)
            if not periods or periods[-1]["limit"] != limit:
                periods.append({"startPeriod": int((at - now).total_seconds()), "limit": limit})
        return periods[:PERIODS_MAX]

    def _composite(self, payload: Payload) -> Reply:
        unit = payload.get("chargingRateUnit", "W")
        periods = self.composite(payload["evseId"], payload["duration"], unit)
        if periods is None:
            return Reply(payload={"status": "Rejected"})
        schedule = {
            "evseId": payload["evseId"],
            "duration": payload["duration"],
            "scheduleStart": timestamp(self.station.now()),
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": periods,
        }
        return Reply(payload={"status": "Accepted", "schedule": schedule})


class ChargingProfiles16(ChargingProfiles):
    """In the words of 1.6."""

    def commands(self) -> Commands:
        """It can't list them."""
        return {
            "SetChargingProfile": self._set,
            "ClearChargingProfile": self._clear,
            "GetCompositeSchedule": self._composite,
        }

    def _set(self, payload: Payload) -> Reply:
        words = {"evseId": payload["connectorId"], "chargingProfile": in_words_of_2(payload["csChargingProfiles"])}
        return super()._set(words)

    def _clear(self, payload: Payload) -> Reply:
        purpose: Any = payload.get("chargingProfilePurpose")
        had_some = self.clear(
            id=payload.get("id"),
            evse_id=payload.get("connectorId"),
            purpose=PURPOSES_16.get(purpose, purpose),
            level=payload.get("stackLevel"),
        )
        return Reply(payload={"status": "Accepted" if had_some else "Unknown"})

    def _composite(self, payload: Payload) -> Reply:
        connector_id, duration_s = payload["connectorId"], payload["duration"]
        unit = payload.get("chargingRateUnit", "W")
        periods = self.composite(connector_id, duration_s, unit)
        if periods is None:
            return Reply(payload={"status": "Rejected"})
        schedule = {"duration": duration_s, "chargingRateUnit": unit, "chargingSchedulePeriod": periods}
        start = {"connectorId": connector_id, "scheduleStart": self.station.timestamp()}
        return Reply(payload={"status": "Accepted", **start, "chargingSchedule": schedule})


def in_words_of_2(profile: dict[str, Any]) -> dict[str, Any]:
    """Return a 1.6 profile in the words of 2.x."""
    words = {name: value for name, value in profile.items() if name != "chargingProfileId"}
    purpose = profile["chargingProfilePurpose"]
    return words | {
        "id": profile["chargingProfileId"],
        "chargingProfilePurpose": PURPOSES_16.get(purpose, purpose),
        "chargingSchedule": [profile["chargingSchedule"]],
        **({"transactionId": str(profile["transactionId"])} if "transactionId" in profile else {}),
    }


def _limit(period: dict[str, Any]) -> int:
    limit = in_w(period, "limit")
    return UNLIMITED_W if limit is None else max(0, limit)


def _key(evse_id: int, profile: dict[str, Any]) -> tuple[int, str, int]:
    return evse_id, profile["chargingProfilePurpose"], profile["stackLevel"]


def _place(each: Installed) -> tuple[int, str, int]:
    return _key(each.evse_id, each.profile)


def _is_wanted(each: Installed, wanted: dict[str, Any]) -> bool:
    known = {
        "id": each.profile["id"],
        "evse_id": each.evse_id,
        "purpose": each.profile["chargingProfilePurpose"],
        "level": each.profile["stackLevel"],
    }
    return all(value is None or known[name] == value for name, value in wanted.items())
