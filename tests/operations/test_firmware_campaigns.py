"""Firmware for many stations over a real gateway: batches, failures, decisions, and processes that die in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.charging_operations.firmware_campaigns import FIRMWARE_TARGET, CampaignDesk
from services.charging_operations.station_tasks import STATION_TASK
from tests.operations.real_gateway import FIRMWARE_ACTIONS, RealGateway, accepting, open_with_gateway
from tests.operations.world import CPO, OTHER_CPO

FIRMWARE = {"location": "https://user:hunter2@files.example/fw.bin", "firmware_version": "1.2"}
BOOT = {"vendor": "Acme", "model": "One", "firmware": "1.1"}
CAMPAIGNS = f"/{CPO}/firmware-campaigns"


class Campaign:
    """A campaign as its operator sees it."""

    def __init__(self, gateway: RealGateway, campaign_id: str) -> None:
        self.gateway = gateway
        self.campaign_id = campaign_id

    async def goes_on(self) -> None:
        """What a process does every few seconds."""
        await self.gateway.here.settle()
        await self.gateway.here.operations.campaigns.advance()
        await self.gateway.here.settle()

    async def shown(self) -> tuple[str, str | None, dict[str, int]]:
        await self.gateway.here.settle()
        told = (await self.gateway.here.api("GET", f"{CAMPAIGNS}/{self.campaign_id}")).json()
        return told["state"], told["reason"], told["stations"]

    async def decides(self, what: str) -> int:
        return (await self.gateway.here.api("POST", f"{CAMPAIGNS}/{self.campaign_id}/{what}")).status_code

    async def details(self) -> dict[str, tuple[str, str | None, int]]:
        rows = (await self.gateway.here.api("GET", f"{CAMPAIGNS}/{self.campaign_id}/stations")).json()
        return {row["charging_station_id"]: (row["state"], row["detail"], row["attempts"]) for row in rows}

    def asked(self) -> list[str]:
        stations = self.gateway.stations.values()
        return sorted(each.station_id for each in stations for action, _ in each.heard if action in FIRMWARE_ACTIONS)


async def fleet(gateway: RealGateway, count: int) -> None:
    """Stations S1, S2, ... of 1.6, 2.1, 2.0.1, in turn."""
    for number in range(1, count + 1):
        version = ("2.0.1", "1.6", "2.1")[number % 3]
        await gateway.station(f"S{number}", version, saying_nothing if version == "1.6" else accepting, BOOT)


def saying_nothing(_action: str, _payload: dict[str, Any]) -> dict[str, Any]:
    return {}


async def begun(gateway: RealGateway, *stations: str, **rules: Any) -> Campaign:
    limit = {"time_limit_s": rules.pop("time_limit_s")} if "time_limit_s" in rules else {}
    selection = {"charging_station_ids": list(stations)} if stations else {"vendor": "Acme"}
    terms = {"name": "1.2", "firmware": FIRMWARE, "selection": selection, "rules": {"batch_size": 2, **rules}, **limit}
    answer = await gateway.here.api("POST", CAMPAIGNS, terms)
    assert answer.status_code == 201, answer.text
    return Campaign(gateway, answer.json()["campaign_id"])


async def test_stations_get_it_batch_after_batch_until_all_have_it() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 5)
        campaign = await begun(gateway)
        for batch in (["S1", "S2"], ["S1", "S2", "S3", "S4"], ["S1", "S2", "S3", "S4", "S5"]):
            await campaign.goes_on()
            await campaign.goes_on()
            assert campaign.asked() == batch
            for name in batch[-2:] if len(batch) < 5 else batch[-1:]:
                await gateway.stations[name].reports("Downloading", "Installing", "Installed")
        await campaign.goes_on()

        assert await campaign.shown() == ("COMPLETE", None, {"INSTALLED": 5})
        assert set((await campaign.details()).values()) == {("INSTALLED", "Installed", 1)}
        (listed,) = (await gateway.here.api("GET", f"{CAMPAIGNS}?state=COMPLETE")).json()
        assert (listed["campaign_id"], listed["batch"]) == (campaign.campaign_id, 3)
        tasks = await gateway.here.rows(STATION_TASK, campaign_id=campaign.campaign_id)
        assert len(tasks) == 5
        assert "hunter" not in repr((tasks, await campaign.shown(), await campaign.details()))


async def test_too_many_failures_stop_it_and_its_operator_goes_on_or_tries_again() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 4)
        campaign = await begun(gateway)
        await campaign.goes_on()
        await gateway.stations["S1"].reports("DownloadFailed")
        assert await campaign.shown() == ("STOPPED", "TooManyFailures", {"FAILED": 1, "UNDER_WAY": 1, "WAITING": 2})
        await gateway.stations["S2"].reports("Installed")
        await campaign.goes_on()
        assert campaign.asked() == ["S1", "S2"]
        assert (await campaign.details())["S1"] == ("FAILED", "DownloadFailed", 1)

        assert await campaign.decides("resume") == 200
        await campaign.goes_on()
        assert campaign.asked() == ["S1", "S2", "S3", "S4"]
        for name in ("S3", "S4"):
            await gateway.stations[name].reports("Installed")
        assert await campaign.shown() == ("COMPLETE", None, {"FAILED": 1, "INSTALLED": 3})

        assert await campaign.decides("retry") == 200
        await campaign.goes_on()
        await gateway.stations["S1"].reports("Installed")
        assert await campaign.shown() == ("COMPLETE", None, {"INSTALLED": 4})


async def test_a_station_that_fails_is_asked_again_after_the_others_as_often_as_was_said() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 3)
        campaign = await begun(gateway, attempts_max=2)
        await campaign.goes_on()
        first = gateway.stations["S2"].request_id()
        await gateway.stations["S2"].reports("InstallationFailed")
        await gateway.stations["S1"].reports("Installed")
        await campaign.goes_on()
        assert campaign.asked() == ["S1", "S2", "S2", "S3"]
        await gateway.stations["S2"].call("FirmwareStatusNotification", {"status": "Installed", "requestId": first})
        assert (await campaign.shown())[2] == {"INSTALLED": 1, "UNDER_WAY": 2}
        await gateway.stations["S3"].reports("Installed")
        await gateway.stations["S2"].reports("InstallationFailed")

        assert await campaign.shown() == ("STOPPED", "TooManyFailures", {"FAILED": 1, "INSTALLED": 2})
        assert (await campaign.details())["S2"] == ("FAILED", "InstallationFailed", 2)


@pytest.mark.parametrize("how", ["InvalidSignature", "InvalidCertificate", "RevokedCertificate"])
async def test_a_signature_that_one_station_finds_invalid_stops_it_at_once_and_for_good(how: str) -> None:
    is_answer = how != "InvalidSignature"

    def says(_action: str, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": how if is_answer else "Accepted"}

    async with open_with_gateway() as gateway:
        await gateway.station("S1", answers=says, boot=BOOT)
        for name in ("S2", "S3"):
            await gateway.station(name, boot=BOOT)
        campaign = await begun(gateway, failures_max=None, attempts_max=3)
        await campaign.goes_on()
        if not is_answer:
            await gateway.stations["S1"].reports("Downloaded", how)

        assert await campaign.shown() == ("STOPPED", how, {"FAILED": 1, "UNDER_WAY": 1, "WAITING": 1})
        assert [await campaign.decides(what) for what in ("resume", "retry")] == [409, 409]
        await gateway.stations["S2"].reports("Installed")
        await campaign.goes_on()
        assert campaign.asked() == ["S1", "S2"]
        assert await campaign.shown() == ("STOPPED", how, {"FAILED": 1, "INSTALLED": 1, "WAITING": 1})


async def test_it_is_paused_resumed_and_cancelled() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 4)
        campaign = await begun(gateway, batch_size=1)
        await campaign.goes_on()
        assert await campaign.decides("pause") == 200
        await gateway.stations["S1"].reports("Installed")
        await campaign.goes_on()
        assert (campaign.asked(), (await campaign.shown())[0]) == (["S1"], "PAUSED")
        assert await campaign.decides("pause") == 409

        assert await campaign.decides("resume") == 200
        await campaign.goes_on()
        assert campaign.asked() == ["S1", "S2"]

        assert await campaign.decides("cancel") == 200
        await gateway.stations["S2"].reports("Installed")
        await campaign.goes_on()
        assert await campaign.shown() == ("CANCELLED", None, {"CANCELLED": 2, "INSTALLED": 2})
        assert [await campaign.decides(what) for what in ("resume", "retry", "cancel")] == [409, 409, 409]
        assert campaign.asked() == ["S1", "S2"]


async def test_a_station_that_is_away_waits_and_holds_up_nobody() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 3)
        await gateway.disconnect("S1")
        campaign = await begun(gateway)
        await campaign.goes_on()
        for name in ("S2", "S3"):
            await gateway.stations[name].reports("Installed")
        await campaign.goes_on()
        assert await campaign.shown() == ("RUNNING", None, {"INSTALLED": 2, "WAITING": 1})

        await gateway.connect("S1", "1.6", saying_nothing, BOOT)
        await campaign.goes_on()

        assert campaign.asked() == ["S1", "S2", "S3"]
        assert (await campaign.details())["S1"] == ("UNDER_WAY", None, 1)


async def test_a_station_that_never_ends_counts_as_failed_after_its_time() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 2)
        campaign = await begun(gateway, time_limit_s=3_600, failures_max=1)
        await campaign.goes_on()
        await gateway.stations["S1"].reports("Downloading")
        gateway.here.clock.step_by(timedelta(minutes=59))
        await gateway.stations["S2"].reports("Installed")
        await campaign.goes_on()
        assert (await campaign.shown())[2] == {"INSTALLED": 1, "UNDER_WAY": 1}

        gateway.here.clock.step_by(timedelta(minutes=1))
        await campaign.goes_on()

        assert await campaign.shown() == ("COMPLETE", None, {"FAILED": 1, "INSTALLED": 1})
        assert (await campaign.details())["S1"] == ("FAILED", "TimedOut", 1)
        await gateway.stations["S1"].reports("Installed")
        assert await campaign.shown() == ("COMPLETE", None, {"INSTALLED": 2})


async def test_a_process_that_dies_before_the_answer_loses_no_station_and_asks_none_twice() -> None:
    async with open_with_gateway() as gateway:
        await gateway.station("S1", answers=lambda _action, _payload: None, boot=BOOT)
        campaign = await begun(gateway)
        here = gateway.here
        dying = asyncio.create_task(here.operations.campaigns.advance())
        while not gateway.stations["S1"].unanswered:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
        dying.cancel()
        await asyncio.wait({dying})

        later = CampaignDesk(office=here.operations.office, tasks=here.operations.tasks)
        await later.advance()
        assert (campaign.asked(), await campaign.shown()) == (["S1"], ("RUNNING", None, {"UNDER_WAY": 1}))
        await gateway.stations["S1"].reports("Installed")

        assert await campaign.shown() == ("COMPLETE", None, {"INSTALLED": 1})


async def test_two_processes_that_go_on_at_once_ask_each_station_once(postgres_dsn: str) -> None:
    async with open_with_gateway(postgres_dsn) as gateway:
        await fleet(gateway, 3)
        campaign = await begun(gateway, batch_size=3)
        operations = gateway.here.operations
        other = CampaignDesk(office=operations.office, tasks=operations.tasks)

        await asyncio.gather(operations.campaigns.advance(), other.advance(), other.advance())

        assert campaign.asked() == ["S1", "S2", "S3"]
        assert len(await gateway.here.rows(STATION_TASK)) == 3
        for name in ("S1", "S2", "S3"):
            await gateway.stations[name].reports("Installed")
        assert await campaign.shown() == ("COMPLETE", None, {"INSTALLED": 3})


async def test_stations_are_chosen_by_what_they_said_they_are() -> None:
    async with open_with_gateway() as gateway:
        await gateway.station("S1", boot=BOOT)
        await gateway.station("S2", boot=BOOT | {"model": "Two"})
        await gateway.station("S3", boot=BOOT | {"firmware": "1.2"})
        await gateway.station("S4", boot=BOOT | {"vendor": "Other"})

        async def chosen(**selection: Any) -> dict[str, str] | int:
            terms = {"name": "x", "firmware": FIRMWARE, "selection": selection, "rules": {"batch_size": 1}}
            answer = await gateway.here.api("POST", CAMPAIGNS, terms)
            if answer.status_code != 201:
                return answer.status_code
            rows = await gateway.here.rows(FIRMWARE_TARGET, campaign_id=answer.json()["campaign_id"])
            await gateway.here.api("POST", f"{CAMPAIGNS}/{answer.json()['campaign_id']}/cancel")
            return {row.charging_station_id: row.state.value for row in rows}

        assert await chosen(vendor="Acme", model="One") == {"S1": "WAITING", "S3": "INSTALLED"}
        assert await chosen(vendor="Acme", firmware_version="1.1") == {"S1": "WAITING", "S2": "WAITING"}
        assert await chosen(charging_station_ids=["S2", "S4", "GHOST"]) == {"S2": "WAITING", "S4": "WAITING"}
        assert await chosen(model="One", charging_station_ids=["S1", "S2"]) == {"S1": "WAITING"}
        assert await chosen(vendor="Nobody") == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": {"batch_size": 0}},
        {"rules": {"batch_size": 501}},
        {"rules": {"batch_size": 1, "failure_percent_max": 101}},
        {"rules": {"batch_size": 1, "failures_max": -1}},
        {"rules": {"batch_size": 1, "attempts_max": 0}},
        {"time_limit_s": 0},
        {"firmware": {"location": "none"}},
    ],
)
async def test_terms_that_break_a_rule_begin_nothing(wrong: dict[str, Any]) -> None:
    async with open_with_gateway() as gateway:
        await gateway.station("S1", boot=BOOT)
        terms = {"name": "x", "firmware": FIRMWARE, "selection": {}, "rules": {"batch_size": 1}} | wrong

        assert (await gateway.here.api("POST", CAMPAIGNS, terms)).status_code == 422
        assert (await gateway.here.api("GET", CAMPAIGNS)).json() == []
        assert (await gateway.here.api("GET", f"{CAMPAIGNS}/none")).status_code == 404
        assert (await gateway.here.api("POST", f"/{OTHER_CPO}/firmware-campaigns/none/pause")).status_code == 404


async def test_a_station_whose_version_can_not_do_it_fails_alone() -> None:
    async with open_with_gateway() as gateway:
        await fleet(gateway, 2)
        terms = {"name": "x", "firmware": FIRMWARE | {"install_at": "2022-04-01T00:00:00Z"}, "selection": {}}
        terms |= {"rules": {"batch_size": 5, "failures_max": 9}}
        terms["selection"] = {"charging_station_ids": ["S1", "S2"]}
        answer = await gateway.here.api("POST", CAMPAIGNS, terms)
        campaign = Campaign(gateway, answer.json()["campaign_id"])

        await campaign.goes_on()

        assert (await campaign.shown())[2] == {"FAILED": 1, "UNDER_WAY": 1}
        assert campaign.asked() == ["S2"]
