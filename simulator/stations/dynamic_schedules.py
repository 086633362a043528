"""Dynamic charging profiles (OCPP 2.1, K28 and K29): their one period is changed from afar, or asked for anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from simulator.stations.calls import Payload, Reply
from simulator.stations.charging_profiles import ChargingProfiles, Installed
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station


class DynamicSchedules(Concept):
    """When each profile was updated last, by its id."""

    def __init__(self, station: Station, profiles: ChargingProfiles) -> None:
        super().__init__(station)
        self.profiles = profiles
        self._updated_at: dict[int, datetime] = {}

    def commands(self) -> Commands:
        """The CSMS pushes (K28)."""
        return {"UpdateDynamicSchedule": self._update}

    def tick(self) -> None:
        """Ask for what is due (K29)."""
        now = self.station.now()
        for each in self._dynamic():
            interval_s = each.profile.get("dynUpdateInterval") or 0
            number = each.profile["id"]
            if interval_s and now - self._updated_at.get(number, each.at) >= timedelta(seconds=interval_s):
                self._updated_at[number] = now
                self.pull(number)

    def pull(self, profile_id: int) -> None:
        """Ask the CSMS for the values of a profile."""

        def answered(answer: Payload) -> None:
            if answer["status"] == "Accepted" and "scheduleUpdate" in answer:
                self._apply(profile_id, answer["scheduleUpdate"])

        self.station.request(
            "PullDynamicScheduleUpdate", partial(dict, chargingProfileId=profile_id), on_answer=answered
        )

    def _dynamic(self) -> list[Installed]:
        return [each for each in self.profiles.installed if each.profile["chargingProfileKind"] == "Dynamic"]

    def _apply(self, profile_id: int, update: dict[str, Any]) -> bool:
        for each in self._dynamic():
            if each.profile["id"] != profile_id:
                continue
            first, *others = each.profile["chargingSchedule"]
            period, *later = first["chargingSchedulePeriod"]
            schedule = first | {"chargingSchedulePeriod": [period | update, *later]}
            changed = replace(each, profile=each.profile | {"chargingSchedule": [schedule, *others]})
            self.profiles.installed[self.profiles.installed.index(each)] = changed
            self._updated_at[profile_id] = self.station.now()
            for evse in self.station.evses.values():
                self.station.advance(evse)
            return True
        return False

    def _update(self, payload: Payload) -> Reply:
        is_known = self._apply(payload["chargingProfileId"], payload["scheduleUpdate"])
        return Reply(payload={"status": "Accepted" if is_known else "Rejected"})
