"""Firmware and logs of one station, asked for over the API and reported by the station itself, in every version."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.charging_operations import station_tasks
from services.charging_operations.station_tasks import STATION_TASK
from tests.operations.real_gateway import RealGateway, TalkingStation, open_with_gateway
from tests.operations.world import CPO, OTHER_CPO, START

LOCATION = "https://user:hunter2@files.example/fw/1.2.bin?signature=hunter3"
SHOWN = "https://files.example/fw/1.2.bin"
SIGNED = {"signing_certificate": "-----BEGIN CERTIFICATE-----", "signature": "AAAA"}
NOW = START.isoformat(timespec="milliseconds").replace("+00:00", "Z")
FIRMWARE = {"location": LOCATION, "retrieveDateTime": NOW}


async def updates(gateway: RealGateway, what: str = "firmware-updates") -> list[dict[str, Any]]:
    await gateway.here.settle()
    answer = await gateway.here.api("GET", f"/{CPO}/stations/CS-9/{what}")
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def asked(gateway: RealGateway, what: str = "firmware-updates", **body: Any) -> dict[str, Any]:
    answer = await gateway.here.api("POST", f"/{CPO}/stations/CS-9/{what}", {"location": LOCATION, **body})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


@pytest.mark.parametrize(
    ("version", "body", "action", "payload", "notification"),
    [
        ("1.6", {"retries": 2}, "UpdateFirmware", {"location": LOCATION, "retrieveDate": NOW, "retries": 2}, ""),
        (
            *("1.6", SIGNED, "SignedUpdateFirmware"),
            {"firmware": FIRMWARE | {"signingCertificate": SIGNED["signing_certificate"], "signature": "AAAA"}},
            "SignedFirmwareStatusNotification",
        ),
        (
            *("2.0.1", SIGNED | {"install_at": "2022-03-28T08:00:00Z"}, "UpdateFirmware"),
            {
                "firmware": FIRMWARE
                | {"signingCertificate": SIGNED["signing_certificate"], "signature": "AAAA"}
                | {"installDateTime": "2022-03-28T08:00:00.000Z"}
            },
            "",
        ),
        ("2.1", {"retry_interval_s": 60}, "UpdateFirmware", {"firmware": FIRMWARE, "retryInterval": 60}, ""),
    ],
)
async def test_firmware_is_asked_for_in_the_words_of_the_version_and_followed_to_its_end(
    version: str, body: dict[str, Any], action: str, payload: dict[str, Any], notification: str
) -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", version, said_by(version, body))

        task = await asked(gateway, firmware_version="1.2", **body)
        await station.reports("Downloading", "Downloaded", action=notification or "FirmwareStatusNotification")
        under_way = await updates(gateway)
        await station.reports("Installing", "Installed", action=notification or "FirmwareStatusNotification")
        (done,) = await updates(gateway)

        (heard,) = station.heard
        has_number = heard != ("UpdateFirmware", payload)
        assert heard == (action, payload | ({"requestId": task["request_id"]} if has_number else {}))
        assert has_number == (version != "1.6" or "signature" in body)
        assert (task["state"], task["answer"], task["location"]) == ("ACCEPTED", task["answer"], SHOWN)
        assert [(each["state"], each["status"]) for each in under_way] == [("ACCEPTED", "Downloaded")]
        assert (done["state"], done["request_id"], done["subject"]) == ("DONE", task["request_id"], "1.2")
        assert [each["status"] for each in done["reports"]] == ["Downloading", "Downloaded", "Installing", "Installed"]
        rows = await gateway.here.rows(STATION_TASK)
        assert "hunter" not in repr(rows)


def said_by(version: str, body: dict[str, Any]) -> Any:
    is_old = version == "1.6" and "signature" not in body
    return lambda _action, _payload: {} if is_old else {"status": "Accepted"}


async def test_a_report_may_overtake_the_answer_and_the_end_stays_the_end() -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", answers=lambda _action, _payload: None)
        asking = asyncio.create_task(asked(gateway))
        while not station.unanswered:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
        await station.reports("Installing", "Installed", "Idle", "Downloading")
        await gateway.here.settle()

        await station.socket.send(f'[3, "{station.unanswered[0]}", {{"status": "Accepted"}}]')
        task = await asking

        assert (task["state"], task["answer"]) == ("DONE", "Accepted")
        assert [each["state"] for each in await updates(gateway)] == ["DONE"]


@pytest.mark.parametrize("word", ["Rejected", "InvalidCertificate", "RevokedCertificate"])
async def test_what_a_station_refuses_has_ended(word: str) -> None:
    async with open_with_gateway() as gateway:
        await gateway.station("CS-9", answers=lambda _action, _payload: {"status": word})

        task = await asked(gateway)

        assert (task["state"], task["answer"], task["ended_at"]) == ("REFUSED", word, START.isoformat()[:19] + "Z")


async def test_what_a_station_drops_for_a_later_one_is_superseded() -> None:
    async with open_with_gateway() as gateway:
        words = iter(["Accepted", "AcceptedCanceled"])
        await gateway.station("CS-9", answers=lambda _action, _payload: {"status": next(words)})

        first, second = await asked(gateway), await asked(gateway)

        states = {each["request_id"]: each["state"] for each in await updates(gateway)}
        assert states == {first["request_id"]: "SUPERSEDED", second["request_id"]: "ACCEPTED"}


async def test_a_boot_with_the_new_version_is_an_end_as_good_as_a_report() -> None:
    boot = {"vendor": "Acme", "model": "One", "firmware": "1.1"}
    async with open_with_gateway() as gateway:
        await gateway.station("CS-9", "1.6", said_by("1.6", {}), boot)
        await asked(gateway, firmware_version="1.2")
        assert [each["state"] for each in await updates(gateway)] == ["ACCEPTED"]
        await gateway.disconnect("CS-9")

        await gateway.connect("CS-9", "1.6", boot=boot | {"firmware": "1.2"})

        assert [each["state"] for each in await updates(gateway)] == ["DONE"]


async def test_what_somebody_else_began_is_kept_and_told_apart() -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9")
        await station.call("FirmwareStatusNotification", {"status": "Idle"})
        await station.call("FirmwareStatusNotification", {"status": "Downloading", "requestId": 7})
        ours = await asked(gateway)
        await station.call("FirmwareStatusNotification", {"status": "InstallationFailed", "requestId": 7})

        states = {each["request_id"]: (each["action"], each["state"]) for each in await updates(gateway)}
        assert states == {7: ("", "FAILED"), ours["request_id"]: ("UpdateFirmware", "ACCEPTED")}


async def test_a_local_controller_publishes_firmware_until_it_is_told_not_to() -> None:
    def says(action: str, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"status": "Unpublished" if action == "UnpublishFirmware" else "Accepted"}

    async with open_with_gateway() as gateway:
        controller = await gateway.station("CS-9", answers=says)
        what, checksum = "firmware-publications", "d41d8cd98f00b204e9800998ecf8427e"

        task = await asked(gateway, what, checksum=checksum)
        told = {"status": "Published", "requestId": task["request_id"], "location": ["http://u:p@10.0.0.1/fw"]}
        await controller.call("PublishFirmwareStatusNotification", told)
        (published,) = await updates(gateway, what)
        gone = await gateway.here.api("DELETE", f"/{CPO}/stations/CS-9/{what}/{checksum}")
        (unpublished,) = await updates(gateway, what)
        unknown = await gateway.here.api("DELETE", f"/{CPO}/stations/CS-9/{what}/00")

        assert [action for action, _ in controller.heard] == ["PublishFirmware", "UnpublishFirmware"]
        assert controller.heard[1][1] == {"checksum": checksum}
        assert (published["state"], published["offered_at"]) == ("DONE", ["http://***@10.0.0.1/fw"])
        assert gone.json() == {"checksum": checksum, "status": "Unpublished"}
        assert (unpublished["state"], unpublished["offered_at"]) == ("DONE", [])
        assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("version", "body", "action", "last", "state"),
    [
        ("1.6", {}, "GetDiagnostics", "Uploaded", "DONE"),
        ("1.6", {}, "GetDiagnostics", "UploadFailed", "FAILED"),
        ("1.6", {"has_get_log": True}, "GetLog", "Uploaded", "DONE"),
        ("2.0.1", {"log_type": "SecurityLog"}, "GetLog", "PermissionDenied", "FAILED"),
        ("2.1", {}, "GetLog", "AcceptedCanceled", "SUPERSEDED"),
    ],
)
async def test_a_log_is_asked_for_and_followed(
    version: str, body: dict[str, Any], action: str, last: str, state: str
) -> None:
    notification = "LogStatusNotification" if action == "GetLog" else "DiagnosticsStatusNotification"

    def says(_action: str, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"fileName": "log.gz"} if action == "GetDiagnostics" else {"status": "Accepted", "filename": "log.gz"}

    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", version, says)

        task = await asked(gateway, "logs", oldest_at="2022-03-01T00:00:00Z", **body)
        number = {} if action == "GetDiagnostics" else {"requestId": task["request_id"]}
        for status in ("Uploading", last):
            await station.call(notification, {"status": status, **number})
        (done,) = await updates(gateway, "logs")

        ((heard, payload),) = station.heard
        assert heard == action
        assert "2022-03-01T00:00:00.000Z" in repr(payload)
        assert (done["state"], done["status"], done["file_name"]) == (state, last, "log.gz")
        assert done["subject"] == body.get("log_type", "DiagnosticsLog")


@pytest.mark.parametrize(
    ("version", "what", "body", "status_code"),
    [
        ("2.0.1", "firmware-updates", {"location": "no URL"}, 422),
        ("2.0.1", "firmware-updates", {"location": "https://x/" + "x" * 512}, 422),
        ("2.0.1", "firmware-updates", {"signature": "AAAA"}, 422),
        ("2.0.1", "firmware-updates", {"retrieve_at": "2022-03-01T00:00:00"}, 422),
        ("2.0.1", "firmware-updates", {"retries": 101}, 422),
        ("1.6", "firmware-updates", {"install_at": "2022-03-28T08:00:00Z"}, 409),
        ("1.6", "firmware-publications", {"checksum": "00"}, 409),
        ("1.6", "logs", {"log_type": "SecurityLog"}, 409),
        (None, "logs", {}, 409),
    ],
)
async def test_what_can_not_be_asked_reaches_no_station(
    version: str | None, what: str, body: dict[str, Any], status_code: int
) -> None:
    async with open_with_gateway() as gateway:
        station: TalkingStation = await gateway.station("CS-9", version or "2.0.1")
        if version is None:
            await gateway.disconnect("CS-9")

        answer = await gateway.here.api("POST", f"/{CPO}/stations/CS-9/{what}", {"location": LOCATION, **body})
        foreign = await gateway.here.api("POST", f"/{OTHER_CPO}/stations/CS-9/{what}", {"location": LOCATION, **body})

        assert (answer.status_code, station.heard) == (status_code, []), answer.text
        assert foreign.status_code in (404, 422)
        assert await updates(gateway, what) == []


async def test_a_bounded_number_of_tasks_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_tasks, "TASKS_KEPT_MAX", 2)
    monkeypatch.setattr(station_tasks, "REPORTS_KEPT_MAX", 2)
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9")

        tasks = [await asked(gateway) for _ in range(3)]
        await station.reports("Downloading", "Downloaded", "Installing")

        rows = await updates(gateway)
        assert len(rows) == 2
        (newest,) = [each for each in rows if each["request_id"] == tasks[-1]["request_id"]]
        assert [each["status"] for each in newest["reports"]] == ["Downloaded", "Installing"]
