"""NotifyReport and NotifyMonitoringReport: a page is stored whole, once, and never with a secret."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from charge_point_gateway.rpc_errors import OCPPVersion
from emobility.adapters.memory import run_virtual
from emobility.events.charging import DeviceModelReported, MonitorsReported
from tests.gateway.conftest import running_world

VERSIONS: Final = [OCPPVersion.V201, OCPPVersion.V21]


def report(*entries: dict[str, Any], seq_no: Any = 0, **fields: Any) -> dict[str, Any]:
    return {
        "requestId": 7,
        "seqNo": seq_no,
        "generatedAt": "2022-03-27T00:30:00Z",
        "reportData": list(entries),
    } | fields


def entry(name: str, **attribute: Any) -> dict[str, Any]:
    return {"component": {"name": "SecurityCtrlr"}, "variable": {"name": name}, "variableAttribute": [attribute]}


def talk(version: OCPPVersion, *calls: tuple[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Send calls; return the answers, the events, and the pages they hold."""
    answers: list[Any] = []
    events: list[Any] = []
    pages: list[Any] = []

    async def session() -> None:
        async with running_world() as world:
            station = await world.dial(version.subprotocol)
            answers.extend([await station.call(action, payload) for action, payload in calls])
            events.extend(await world.events())
            pages.extend([json.loads(await world.adapters.vault.open(each.page)) for each in events])

    run_virtual(session())
    return answers, events, pages


@pytest.mark.parametrize("version", VERSIONS)
def test_pages_are_numbered_and_stored_as_they_came(version: OCPPVersion) -> None:
    custom = {"vendorId": "acme", "MyKey": [1.50]}
    first = report(entry("A", value="1", customData=custom), tbc=True)
    last = report(entry("B"), seq_no=1)

    answers, events, pages = talk(version, ("NotifyReport", first), ("NotifyReport", last))

    assert [answer[0] for answer in answers] == [3, 3]
    assert [(event.request_id, event.seq_no, event.is_last) for event in events] == [(7, 0, False), (7, 1, True)]
    assert pages == [first, last]
    assert all(isinstance(event, DeviceModelReported) and event.ocpp_version == version.value for event in events)


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("BasicAuthPassword", {}),
        ("basicauthpassword", {"mutability": "ReadWrite"}),
        ("Basic_Auth-Password", {}),
        ("SharedSecret", {}),
        ("AcmePin", {"mutability": "WriteOnly"}),
    ],
)
def test_a_secret_reaches_no_log(name: str, attribute: dict[str, Any]) -> None:
    told = report(entry(name, value="hunter2", persistent=True, **attribute), entry("Identity", value="CS-1"))

    _, (event,), (page,) = talk(OCPPVersion.V201, ("NotifyReport", told))

    assert isinstance(event, DeviceModelReported)
    assert "hunter2" not in json.dumps(page)
    assert page["reportData"][0]["variableAttribute"] == [{"persistent": True, **attribute}]
    assert page["reportData"][1] == told["reportData"][1]


def test_a_repeated_page_is_one_fact_whatever_its_secrets() -> None:
    ids: list[str] = []

    async def session() -> None:
        async with running_world() as world:
            station = await world.dial()
            for value, secret in (("1", "hunter2"), ("1", "hunter3"), ("2", "hunter3")):
                told = report(entry("A", value=value), entry("VpnKey", value=secret))
                assert (await station.call("NotifyReport", told))[0] == 3
            ids.extend(await world.event_ids())

    run_virtual(session())

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_monitors_are_an_event_of_their_own(version: OCPPVersion) -> None:
    watched = {"id": 1, "transaction": True, "value": 6.50, "type": "Delta", "severity": 5}
    if version is OCPPVersion.V21:
        watched["eventNotificationType"] = "CustomMonitor"
    told = report() | {
        "monitor": [{"component": {"name": "EVSE"}, "variable": {"name": "Power"}, "variableMonitoring": [watched]}]
    }
    del told["reportData"]

    _, (event,), (page,) = talk(version, ("NotifyMonitoringReport", told))

    assert isinstance(event, MonitorsReported)
    assert page == told


@pytest.mark.parametrize(
    "broken",
    [
        report(entry("A"), seq_no=10**30),
        report(entry("A"), requestId=2**60),
        report(entry("A") | {"component": {"name": "EVSE", "evse": {"id": 10**30}}}),
    ],
)
def test_a_number_that_nobody_can_store_is_refused(broken: dict[str, Any]) -> None:
    answers, events, _ = talk(OCPPVersion.V201, ("NotifyReport", broken))

    assert [(answer[0], answer[2]) for answer in answers] == [(4, "PropertyConstraintViolation")]
    assert events == []
