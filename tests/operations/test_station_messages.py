"""Monitored events, security events, vendor data, customer information and displays, from frames to the API."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.events.charging import SecurityEventReported, StationNotified
from services.charging_operations.office import Limits
from services.charging_operations.records import STATION_NOTICE
from services.charging_operations.security_events import CRITICALITY, SECURITY_EVENT
from services.charging_operations.station_messages import CUSTOMER_INFORMATION, DATA_TRANSFER, MONITOR_EVENT
from services.charging_operations.told_retention import FORGOTTEN
from services.charging_operations.wanted_settings import WANTED_SETTING
from tests.operations.connected import connected
from tests.operations.world import CPO, EMSP, START, STATION, World, open_for_business

AT = "2022-03-27T08:00:00Z"


def monitored(event_id: int, **changes: Any) -> dict[str, Any]:
    return {
        "eventId": event_id,
        "timestamp": AT,
        "trigger": "Alerting",
        "actualValue": "81",
        "component": {"name": "Fan", "evse": {"id": 1}},
        "variable": {"name": "Temperature"},
        "eventNotificationType": "CustomMonitor",
    } | changes


def notify(*events: dict[str, Any], seq_no: int = 0) -> dict[str, Any]:
    return {"generatedAt": AT, "seqNo": seq_no, "eventData": list(events)}


async def test_each_event_of_a_monitor_is_a_row_with_the_severity_that_is_known() -> None:
    monitor = {"id": 7, "transaction": False, "value": 80, "type": "UpperThreshold", "severity": 2}
    monitor |= {"eventNotificationType": "CustomMonitor"}
    known = {"component": {"name": "Fan"}, "variable": {"name": "Temperature"}, "variableMonitoring": [monitor]}
    report = {"requestId": 1, "seqNo": 0, "generatedAt": AT, "monitor": [known]}
    async with connected() as talk:
        await talk.tell("NotifyMonitoringReport", report)
        told = notify(
            monitored(1, variableMonitoringId=7),
            monitored(2, variableMonitoringId=8, severity=5, cleared=True, cause=1),
            monitored(3, component={"name": "Door"}, transactionId="tx-1"),
        )
        for _ in range(2):
            await talk.tell("NotifyEvent", told)
        shown = {each["event_id"]: each for each in await talk.get("monitor-events")}
        cleared = await talk.get("monitor-events?is_cleared=true&component=Fan")
        severe = await talk.get("monitor-events?severity=2")

        assert len(await talk.here.rows(MONITOR_EVENT)) == 3
    assert {key: each["severity"] for key, each in shown.items()} == {1: 2, 2: 5, 3: None}
    assert (shown[1]["component"], shown[1]["ocpp_evse_id"], shown[1]["value"]) == ("Fan", 1, "81")
    assert (shown[3]["component"], shown[3]["ocpp_evse_id"], shown[3]["transaction_id"]) == ("Door", 0, "tx-1")
    assert [(each["event_id"], each["cause_event_id"]) for each in cleared] == [(2, 1)]
    assert [each["event_id"] for each in severe] == [1]


@pytest.mark.parametrize("variable", ["BasicAuthPassword", "Token"])
async def test_a_monitor_of_a_secret_or_of_a_card_reader_leaves_its_value_in_no_row(variable: str) -> None:
    async with connected() as talk:
        told = monitored(1, actualValue="04A1B2C3", component={"name": "X"}, variable={"name": variable})
        await talk.tell("NotifyEvent", notify(told))

        (row,) = await talk.here.rows(MONITOR_EVENT)
        assert (row.variable, row.value) == (variable, "***")


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
async def test_security_events_are_listed_and_critical_ones_marked_and_counted(subprotocol: str) -> None:
    async with connected(subprotocol) as talk:
        for kind in ("TamperDetectionActivated", "InvalidMessages", "AcmeOddity"):
            await talk.tell("SecurityEventNotification", {"type": kind, "timestamp": AT, "techInfo": "x"})
        shown = await talk.get("security-events")
        critical = await talk.get("security-events?is_critical=true")
        metrics = (await talk.here.http.request("GET", "http://business.test/operations/metrics", headers={})).body

    assert len(shown) == 3
    assert [each["security_event"] for each in critical] == ["TamperDetectionActivated"]
    for event, is_critical in (("TamperDetectionActivated", "true"), ("InvalidMessages", "false"), ("other", "false")):
        labels = f'event="{event}",is_critical="{is_critical}"'
        assert f"station_security_events_total{{{labels}}} 1.0" in metrics.decode()


def test_what_the_standard_calls_critical_is() -> None:
    harmless = {kind for kind, is_critical in CRITICALITY.items() if not is_critical}

    assert len(CRITICALITY) == 21 + 4
    assert harmless == {
        *("FailedToAuthenticateAtCsms", "CsmsFailedToAuthenticate", "ReconfigurationOfSecurityParameters"),
        *("InvalidMessages", "AttemptedReplayAttacks"),
        *("FailedToAuthenticateAtCentralSystem", "CentralSystemFailedToAuthenticate"),
    }


async def test_vendor_data_are_listed_without_what_may_name_a_person() -> None:
    async with connected() as talk:
        told = {"vendorId": "acme", "messageId": "m", "data": {"idToken": "04AABB", "fan": 3}}
        assert await talk.tell("DataTransfer", told) == {"status": "UnknownVendorId"}
        await talk.tell("DataTransfer", {"vendorId": "acme", "data": "Ann was here"})
        await talk.tell("DataTransfer", {"vendorId": "acme"})
        shown = await talk.get("data-transfers")

    assert sorted((each["message_id"] or "", str(each["data"])) for each in shown) == [
        ("", "***"),
        ("", "None"),
        ("m", "{'fan': 3, 'idToken': '***'}"),
    ]


async def test_what_a_station_keeps_of_a_customer_is_put_together_for_that_customer_alone() -> None:
    def page(seq_no: int, text: str, *, more: bool) -> dict[str, Any]:
        return {"requestId": 9, "seqNo": seq_no, "generatedAt": AT, "data": text, "tbc": more}

    async with connected() as talk:
        await talk.tell("NotifyCustomerInformation", page(1, "and 04AABB", more=False))
        part = await talk.get("customer-information/9")
        await talk.tell("NotifyCustomerInformation", page(0, "Ann ", more=True))
        whole = await talk.get("customer-information/9")
        listed = await talk.get("customer-information")
        unknown = await talk.here.api("GET", "/NL-TNM/stations/CS1/customer-information/8")

    assert part == {"request_id": 9, "is_complete": False, "text": "and 04AABB"}
    assert whole == {"request_id": 9, "is_complete": True, "text": "Ann and 04AABB"}
    assert (len(listed), "Ann" in str(listed), unknown.status_code) == (2, False, 404)


async def test_a_display_message_is_set_told_and_taken_off() -> None:
    message = {"priority": "InFront", "message": {"format": "UTF8", "content": "Hello"}}
    async with connected("ocpp2.0.1") as talk:
        _, heard = await talk.command("PUT", "display-messages/4", message)
        (wanted,) = await talk.get("settings?kind=SetDisplayMessage")
        answer, _ = await talk.command("POST", "display-messages/refresh")
        told = {"requestId": answer.json()["request_id"], "messageInfo": [message | {"id": 4}, message | {"id": 5}]}
        await talk.tell("NotifyDisplayMessages", told)
        shown = await talk.get("display-messages")
        _, cleared = await talk.command("DELETE", "display-messages/4", says={"status": "Unknown"})
        left = [each["message_id"] for each in await talk.get("display-messages")]
        (ended,) = await talk.get("settings")
        refresh, _ = await talk.command("POST", "display-messages/refresh")
        await talk.tell("NotifyDisplayMessages", {"requestId": refresh.json()["request_id"]})
        none = await talk.get("display-messages")

    assert heard == ["SetDisplayMessage", {"message": message | {"id": 4}}]
    assert (wanted["state"], wanted["object_id"]) == ("IN_FORCE", "4")
    assert [(each["message_id"], each["message"]["message"]["content"]) for each in shown] == [
        (4, "Hello"),
        (5, "Hello"),
    ]
    assert cleared == ["ClearDisplayMessage", {"id": 4}]
    assert (left, ended["state"], none) == ([5], "CLEARED", [])


async def test_customer_information_is_kept_no_longer_than_who_asked_for_it_waits() -> None:
    async with connected() as talk:
        page = {"requestId": 9, "seqNo": 0, "generatedAt": AT, "data": "x"}
        await talk.tell("NotifyCustomerInformation", page)
        await talk.tell("SecurityEventNotification", {"type": "InvalidMessages", "timestamp": AT})
        talk.here.clock.step_by(timedelta(days=31))
        await talk.here.operations.told.sweep()

        assert await talk.get("customer-information") == []
        assert len(await talk.get("security-events")) == 1


async def test_of_a_party_that_is_not_hosted_here_nothing_is_kept() -> None:
    async with open_for_business() as here:
        told = SecurityEventReported(
            party_id=EMSP, charging_station_id="CS9", security_event="InvalidMessages", occurred_at=START
        )
        await here.report(told, replace(told, party_id=CPO))

        assert [row.party_id for row in await here.rows(SECURITY_EVENT)] == [CPO]


async def test_what_is_old_goes_and_what_money_hangs_on_stays() -> None:
    await _grow_old(None)


async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    await _grow_old(postgres_dsn)


async def unmodelled(here: World) -> StationNotified:
    return StationNotified(
        party_id=CPO,
        charging_station_id=STATION,
        ocpp_version="2.1",
        action="NotModelled",
        payload=await here.seal("{}"),
        occurred_at=START,
    )


async def _grow_old(postgres_dsn: str | None) -> None:
    async with connected(postgres_dsn=postgres_dsn, limits=Limits(told_retention=timedelta(days=30))) as talk:
        here = talk.here
        message = {"priority": "InFront", "message": {"format": "UTF8", "content": "Hello"}}
        tariff = {"tariff": {"tariffId": "T1", "currency": "EUR"}}
        for body in (tariff, tariff):
            await talk.command("PUT", "default-tariffs/0", body)
        for _ in range(2):
            await talk.command("PUT", "display-messages/4", message)
        await talk.tell("SecurityEventNotification", {"type": "InvalidMessages", "timestamp": AT})
        await talk.tell("NotifyEvent", notify(monitored(1)))
        await talk.tell("DataTransfer", {"vendorId": "acme"})
        page = {"requestId": 9, "seqNo": 0, "generatedAt": AT, "data": "x"}
        await talk.tell("NotifyCustomerInformation", page)
        await talk.tell("VatNumberValidation", {"vatNumber": "DE330805169"})
        await here.report(await unmodelled(here))
        await talk.tell(
            "NotifySettlement", {"pspRef": "p", "status": "Settled", "settlementAmount": 1, "settlementTime": AT}
        )
        here.clock.step_by(timedelta(days=29))
        await here.operations.told.sweep()
        young = [len(await here.rows(spec)) for spec, _ in FORGOTTEN]
        here.clock.step_by(timedelta(days=2))
        await here.operations.told.sweep()

        assert sum(young) == 4 + 4 + 2
        for spec in (SECURITY_EVENT, MONITOR_EVENT, DATA_TRANSFER, CUSTOMER_INFORMATION):
            assert await here.rows(spec) == []
        assert [row.action for row in await here.rows(STATION_NOTICE)] == ["VatNumberValidation"]
        kept = sorted((row.kind.value, row.state.value) for row in await here.rows(WANTED_SETTING))
        assert kept == [
            ("SetDefaultTariff", "IN_FORCE"),
            ("SetDefaultTariff", "REPLACED"),
            ("SetDisplayMessage", "IN_FORCE"),
        ]
        assert len(await talk.get("terminal-payments")) == 1
