"""Charging profiles of all three versions come back as they were read; what a version can't say is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charge_point_gateway.rpc_errors import OCPPVersion
from emobility.domain.charging_profile import InstalledProfile, Kind, PhaseValues, Purpose, RateUnit
from emobility.protocols.station_control.charging_profiles import (
    ProfileNotUnderstood,
    VersionCannotSay,
    get_composite_schedule,
    read_composite,
    read_profile,
    reported_profiles,
    set_charging_profile,
    write_profile,
)
from tests.gateway.schema_cases import fullest, schema_of, smallest, values_of

PROFILE_AT: Final = {
    OCPPVersion.V16: "csChargingProfiles",
    OCPPVersion.V201: "chargingProfile",
    OCPPVersion.V21: "chargingProfile",
}
MOMENTS: Final = {"validFrom", "validTo", "startSchedule", "dynUpdateTime"}


def plain(value: Any, name: str = "") -> Any:
    """Return what a payload says, whatever it is written like."""
    if isinstance(value, dict):
        made = {key: plain(each, key) for key, each in value.items()}
        if "chargingSchedulePeriod" in made:
            made["chargingSchedulePeriod"].sort(key=lambda period: period["startPeriod"])
        return made
    if isinstance(value, list):
        return [plain(each) for each in value]
    if name in MOMENTS:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return value


@pytest.mark.parametrize("version", OCPPVersion)
@pytest.mark.parametrize("example", [smallest, fullest])
def test_the_smallest_and_the_fullest_profile_come_back_whole(version: OCPPVersion, example: Any) -> None:
    profile = example(schema_of(version, "SetChargingProfile"))[PROFILE_AT[version]]

    written = write_profile(read_profile(profile, version.value), version.value)

    assert plain(written) == plain(profile)


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("version", OCPPVersion)
def test_whatever_can_be_read_comes_back(version: OCPPVersion, data: st.DataObject) -> None:
    schema = schema_of(version, "SetChargingProfile")
    profile = data.draw(values_of(schema))[PROFILE_AT[version]]
    try:
        read = read_profile(profile, version.value)
    except ProfileNotUnderstood:
        return

    assert plain(write_profile(read, version.value)) == plain(profile)


def test_a_profile_is_translated_between_versions() -> None:
    told = {
        "id": 7,
        "stackLevel": 2,
        "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "validFrom": "2022-03-28T10:00:00+02:00",
        "chargingSchedule": [
            {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 15.9}]}
        ],
    }

    payload = set_charging_profile(InstalledProfile(evse_id=0, profile=read_profile(told, "2.1")), "1.6")

    assert payload == {
        "connectorId": 0,
        "csChargingProfiles": {
            "chargingProfileId": 7,
            "stackLevel": 2,
            "chargingProfilePurpose": "ChargePointMaxProfile",
            "chargingProfileKind": "Absolute",
            "validFrom": "2022-03-28T08:00:00Z",
            "chargingSchedule": {
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 15.9}],
            },
        },
    }


def test_what_a_version_has_no_word_for_is_refused() -> None:
    profile = read_profile(fullest(schema_of(OCPPVersion.V16, "SetChargingProfile"))["csChargingProfiles"], "1.6")

    for broken, version in (
        (replace(profile, purpose=Purpose.PRIORITY), "1.6"),
        (replace(profile, purpose=Purpose.LOCAL_GENERATION), "2.0.1"),
        (replace(profile, kind=Kind.DYNAMIC), "2.0.1"),
        (replace(profile, schedules=profile.schedules * 2), "1.6"),
        (replace(profile, transaction_id="T-1"), "1.6"),
    ):
        with pytest.raises(VersionCannotSay):
            write_profile(broken, version)


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"stackLevel": 10**30}, {"validFrom": "yesterday"}, {"chargingProfileKind": "Sometimes"}],
)
def test_what_is_no_profile_is_refused(change: dict[str, Any]) -> None:
    profile = fullest(schema_of(OCPPVersion.V21, "SetChargingProfile"))["chargingProfile"] | change

    with pytest.raises(ProfileNotUnderstood):
        read_profile({key: value for key, value in profile.items() if value is not None}, "2.1")


def test_phases_with_values_of_their_own_are_read_and_written() -> None:
    period = {"startPeriod": 0, "limit": 16, "limit_L2": 10.5, "setpoint_L3": -3, "dischargeLimit": -8}
    profile = smallest(schema_of(OCPPVersion.V21, "SetChargingProfile"))["chargingProfile"]
    profile["chargingSchedule"][0]["chargingSchedulePeriod"] = [period]

    read = read_profile(profile, "2.1")

    assert read.schedule.periods[0].limit == PhaseValues(l1=Decimal(16), l2=Decimal("10.5"))
    assert write_profile(read, "2.1") == profile


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_station_s_own_composite_schedule_is_read(version: str) -> None:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10.0}], "duration": 60}
    answers: dict[str, dict[str, Any]] = {
        "1.6": {"status": "Accepted", "scheduleStart": "2022-03-28T08:00:00Z", "chargingSchedule": schedule},
        "2.0.1": {
            "status": "Accepted",
            "schedule": {**schedule, "evseId": 1, "scheduleStart": "2022-03-28T08:00:00Z"},
        },
    }

    read = read_composite(answers[version], version, evse_id=1)

    assert read is not None
    assert (read.start_at, read.duration_s, read.unit) == (datetime(2022, 3, 28, 8, tzinfo=UTC), 60, RateUnit.A)
    assert read.periods[0].limit == PhaseValues(l1=Decimal("10.0"))
    assert read_composite({"status": "Rejected"}, version, evse_id=1) is None
    place = {"1.6": "connectorId", "2.0.1": "evseId"}[version]
    assert get_composite_schedule(1, duration_s=60, unit=RateUnit.A, version=version)[place] == 1


def test_reported_profiles_name_their_evse_and_source() -> None:
    payload = fullest(schema_of(OCPPVersion.V201, "ReportChargingProfiles"))

    read = reported_profiles(payload, "2.0.1")

    assert len(read) == len(payload["chargingProfile"])
    assert {(each.evse_id, each.source) for each in read} == {(payload["evseId"], payload["chargingLimitSource"])}
