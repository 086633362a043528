"""Every status is kept with its history, and uptime is counted from it, port by port, to the second."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from emobility.domain.charging_station import EVSE
from emobility.events.charging import ConnectorStatusChanged
from services.charging_operations import uptime
from services.charging_operations.station_history import HISTORY_RETENTION
from services.charging_operations.station_records import STATION_STATUS
from services.charging_operations.stations import StationTerms
from tests.operations.world import CPO, EMSP, OTHER_CPO, START, STATION, World, evse, open_for_business

PATH: Final = f"/{CPO}/stations/{STATION}"
MINUTE: Final = timedelta(minutes=1)


async def turned(here: World, status: str, minute: int, *, evse_id: int = 1, connector: int = 1, **fields: Any) -> None:
    """Report a status of so many minutes after START, and let it be heard then."""
    at = START + minute * MINUTE
    if at > here.clock.now():
        here.clock.step_to(at)
    await here.report(
        ConnectorStatusChanged(
            party_id=fields.pop("party_id", CPO),
            charging_station_id=STATION,
            ocpp_evse_id=evse_id,
            connector_id=connector,
            status=status,
            changed_at=fields.pop("changed_at", at),
            **fields,
        )
    )


async def report(here: World, until: int, since: int = 0) -> dict[str, Any]:
    """Count from minute to minute."""
    if START + until * MINUTE > here.clock.now():
        here.clock.step_to(START + until * MINUTE)
    begin, end = (f"{(START + each * MINUTE).isoformat().replace('+00:00', 'Z')}" for each in (since, until))
    answer = await here.api("GET", f"/{CPO}/uptime?from={begin}&to={end}")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def port(here: World, until: int, since: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = (await report(here, until, since))["ports"][0]
    return told


def minutes(told: dict[str, Any], *names: str) -> tuple[float, ...]:
    return tuple(told[f"{name}_s"] / 60 for name in names)


async def test_every_status_is_kept_once_with_all_that_was_said() -> None:
    async with open_for_business() as here:
        await turned(here, "Available", 0)
        said: dict[str, Any] = {
            "error_code": "OtherError",
            "vendor_id": "acme",
            "vendor_error_code": "E42",
            "info": "fan",
        }
        for _ in range(2):
            await turned(here, "Faulted", 5, evse_id=2, **said)
        await turned(here, "Available", 6, party_id=EMSP)

        shown = (await here.api("GET", f"{PATH}/statuses")).json()
        of_second = (await here.api("GET", f"{PATH}/statuses?ocpp_evse_id=2&connector_id=1")).json()

        assert [row["status"] for row in shown] == ["Faulted", "Available"]
        assert of_second == shown[:1]
        assert {name: shown[0][name] for name in said} == said
        assert len(await here.rows(STATION_STATUS)) == 2


async def test_a_station_s_time_counts_unless_it_can_not_be() -> None:
    async with open_for_business() as here:
        for minute, off in ((0, timedelta(0)), (10, -timedelta(days=2)), (20, timedelta(hours=1)), (30, -timedelta(8))):
            await turned(here, "Available", minute, changed_at=START + minute * MINUTE + off)

        rows = await here.rows(STATION_STATUS)
        assert [row.began_at for row in sorted(rows, key=lambda row: row.heard_at)] == [
            START,
            START + 10 * MINUTE - timedelta(days=2),
            START + 20 * MINUTE,
            START + 30 * MINUTE,
        ]


async def test_statuses_are_kept_for_their_time_and_the_newest_before_it_longer() -> None:
    async with open_for_business() as here:
        for minute in range(3):
            await turned(here, "Available", minute)
        await turned(here, "Available", 0, evse_id=2)
        later = (HISTORY_RETENTION + timedelta(days=1)) // MINUTE

        await turned(here, "Faulted", later)

        rows = await here.rows(STATION_STATUS)
        assert sorted((row.ocpp_evse_id, (row.began_at - START) // MINUTE) for row in rows) == [
            *((1, 2), (1, later), (2, 0)),
        ]


async def test_outage_lasts_from_a_fault_to_the_next_status_within_the_period() -> None:
    async with open_for_business() as here:
        await turned(here, "Available", 0)
        await turned(here, "Faulted", 10)
        await turned(here, "Unavailable", 15)
        await turned(here, "Charging", 30)
        await turned(here, "Faulted", 90)

        whole, part = await port(here, 100), await port(here, 20, since=12)

        assert minutes(whole, "observed", "outage", "excluded", "offline") == (100, 30, 0, 0)
        assert (whole["uptime_ppm"], whole["exceeds_97_percent"]) == (700_000, False)
        assert whole["connectors"] == [
            {"connector_id": 1, "observed_s": 6000, "outage_s": 1800, "excluded_s": 0, "uptime_ppm": 700_000}
        ]
        assert minutes(part, "observed", "outage") == (8, 8)


async def test_a_port_is_observed_from_its_first_status_and_not_beyond_the_present() -> None:
    async with open_for_business() as here:
        await turned(here, "Available", 40)
        here.clock.step_to(START + 60 * MINUTE)
        end = "2030-01-01T00:00:00Z"

        told = (await here.api("GET", f"/{CPO}/uptime?from=2022-03-27T08:00:00Z&to={end}")).json()

        first, second = told["ports"]
        assert (first["observed_s"], first["uptime_ppm"]) == (20 * 60, 1_000_000)
        assert (second["observed_s"], second["uptime_ppm"], second["exceeds_97_percent"]) == (0, None, None)
        assert told["until"] == "2022-03-27T09:00:00Z"


async def test_a_port_is_down_when_all_its_connectors_are_or_the_station_is() -> None:
    async with open_for_business() as here:
        for connector in (1, 2):
            await turned(here, "Available", 0, connector=connector)
        await turned(here, "Faulted", 10, connector=1)
        await turned(here, "Unavailable", 20, connector=2)
        await turned(here, "Available", 30, connector=1)
        await turned(here, "Unavailable", 50, evse_id=0, connector=0)
        await turned(here, "Available", 55, evse_id=0, connector=0)

        told = await port(here, 60)

        assert minutes(told, "outage") == (15,)
        assert [each["outage_s"] // 60 for each in told["connectors"]] == [25, 40]


async def test_time_offline_is_outage_by_one_rule_and_not_by_the_other() -> None:
    async with open_for_business() as here:
        await _with_rapid(here)
        await turned(here, "Available", 0)
        await _watched(here, 0)
        here.gateway.is_online = False
        await _watched(here, 20)
        here.gateway.is_online, here.gateway.connected_at = True, START + 44 * MINUTE
        await _watched(here, 45)
        await turned(here, "Faulted", 50)

        told = await report(here, 60)

        assert minutes(told["ports"][0], "outage", "offline", "unreliable") == (34, 24, 10)
        assert (told["rapid_network"]["ports"], told["rapid_network"]["reliability_ppm"]) == (1, 833_333)
        assert told["rapid_network"]["reaches_99_percent"] is False


async def test_what_an_operator_excludes_is_stated_and_counts_only_where_it_was_outage() -> None:
    async with open_for_business() as here:
        await _with_rapid(here)
        await turned(here, "Available", 0)
        await turned(here, "Faulted", 10)
        await turned(here, "Available", 40)
        for name, reason, since, until, number in (
            ("a", "VANDALISM", 5, 20, 1),
            ("b", "OUTSIDE_OPENING_HOURS", 15, 30, None),
            ("c", "VANDALISM", 30, 40, 2),
        ):
            body = {"reason": reason, "since": START + since * MINUTE, "until": START + until * MINUTE, "note": "seen"}
            answer = await here.api("PUT", f"{PATH}/exclusions/{name}", body | {"ocpp_evse_id": number})
            assert answer.status_code == 200, answer.text

        told = await port(here, 60)
        assert minutes(told, "outage", "excluded", "open", "unreliable") == (30, 20, 45, 15)
        assert told["uptime_ppm"] == 833_333
        assert minutes(told["connectors"][0], "outage", "excluded") == (30, 20)
        assert len((await here.api("GET", f"{PATH}/exclusions")).json()) == 3

        assert (await here.api("DELETE", f"{PATH}/exclusions/b")).status_code == 200
        assert (await here.api("DELETE", f"{PATH}/exclusions/b")).status_code == 404
        assert minutes(await port(here, 60), "excluded") == (10,)


@pytest.mark.parametrize(
    "changes",
    [
        {"until": START},
        {"note": ""},
        {"note": "x" * 1001},
        {"reason": "BAD_LUCK"},
        {"since": "2022-03-27T08:00:00"},
    ],
)
async def test_an_exclusion_has_a_reason_and_an_end(changes: dict[str, Any]) -> None:
    async with open_for_business() as here:
        body = {"reason": "VANDALISM", "since": START, "until": START + MINUTE, "note": "seen"}

        assert (await here.api("PUT", f"{PATH}/exclusions/a", body | changes)).status_code == 422
        assert (await here.api("PUT", f"{PATH}/exclusions/{'a' * 101}", body)).status_code == 422


async def test_a_station_has_a_bounded_number_of_exclusions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uptime, "EXCLUSIONS_MAX", 1)
    async with open_for_business() as here:
        body = {"reason": "VANDALISM", "since": START, "until": START + MINUTE, "note": "seen"}

        codes = [(await here.api("PUT", f"{PATH}/exclusions/{name}", body)).status_code for name in "aab"]

        assert codes == [200, 200, 409]


@pytest.mark.parametrize(
    ("query", "status_code"),
    [
        ("from=2022-03-27T08:00:00Z&to=2022-03-27T08:00:00Z", 422),
        ("from=2021-01-01T00:00:00Z&to=2022-03-27T08:00:00Z", 422),
        ("from=2022-03-27T07:00:00&to=2022-03-27T08:00:00Z", 422),
        ("from=0001-01-01T00:00:00%2B14:00&to=2022-03-27T08:00:00Z", 422),
        ("to=2022-03-27T08:00:00Z", 422),
        ("from=2022-03-27T07:00:00Z&to=2022-03-27T08:00:00Z", 200),
    ],
)
async def test_a_period_is_two_moments_of_the_past(query: str, status_code: int) -> None:
    async with open_for_business() as here:
        assert (await here.api("GET", f"/{CPO}/uptime?{query}")).status_code == status_code
        assert (await here.api("GET", f"/{EMSP}/uptime?{query}")).status_code in (404, 422)
        assert (await here.api("GET", f"/{OTHER_CPO}/stations/{STATION}/statuses")).status_code == 404


async def test_history_longer_than_one_select_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_for_business() as here:
        for minute in range(0, 50, 10):
            await turned(here, "Available", minute)
            await turned(here, "Faulted", minute + 5)
        whole = await port(here, 60)
        monkeypatch.setattr(uptime, "SELECT_ROWS_MAX", 1)

        assert await port(here, 60) == whole
        assert minutes(whole, "outage") == (35,)


async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await turned(here, "Available", 0, info="cold")
        await _watched(here, 1)
        await turned(here, "Faulted", 10)
        await turned(here, "Available", 40)
        body = {"reason": "VANDALISM", "since": START, "until": START + 15 * MINUTE, "note": "seen"}
        assert (await here.api("PUT", f"{PATH}/exclusions/a", body)).status_code == 200

        assert minutes(await port(here, 60), "observed", "outage", "excluded") == (60, 30, 5)
        assert len((await here.api("GET", f"{PATH}/statuses?ocpp_evse_id=1")).json()) == 3


async def _with_rapid(here: World) -> None:
    """Let the first EVSE have 50 kW, and be the only one."""
    slow = evse(1)
    rapid: EVSE = replace(slow, connectors=(replace(slow.connectors[0], power_w_max=50_000),))
    answer = await here.api("PUT", PATH, StationTerms(location_id="LOC1", evses=(rapid,)))
    assert answer.status_code == 200


async def _watched(here: World, minute: int) -> None:
    """Have the back office look who is connected, so many minutes after START."""
    at = START + minute * MINUTE
    if at > here.clock.now():
        here.clock.step_to(at)
    await here.operations.history.watch()
