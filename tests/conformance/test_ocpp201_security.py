"""OCPP 2.0.1, block A: passwords, TLS, certificates, security profiles.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from tests.conformance.certificates import ACCEPTED, assert_names, kept_as_files, renews
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS, PASSWORD

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_PASSWORD = PASSWORD[::-1]
REFUSED_IN_TLS = (ssl.SSLError, InvalidMessage, ConnectionClosed, ConnectionError)
"""Under TLS 1.3 a client learns only after its own part of the handshake that its certificate was refused."""


async def assert_refused(station: Station, status: int, **credentials: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await station.connects(**credentials)
    assert refused.value.response.status_code == status


@scenario("TC_A_01_CSMS", "Basic Authentication - Valid username/password combination")
async def test_a_station_comes_by_its_password(station: Station) -> None:
    await station.connects(password=PASSWORD)

    await station.boots()


@scenario("TC_A_02_CSMS", "Basic Authentication - Username does not equal ChargingStationId")
async def test_a_station_does_not_come_by_anothers_name(station: Station) -> None:
    await assert_refused(station, 401, username="CS-OTHER")


@scenario("TC_A_03_CSMS", "Basic Authentication - Invalid password")
async def test_a_station_does_not_come_by_a_wrong_password(station: Station) -> None:
    await assert_refused(station, 401, password=NEW_PASSWORD)


@scenario("TC_A_04_CSMS", "TLS - server-side certificate - Valid certificate")
async def test_a_station_comes_by_tls(station: Station) -> None:
    await station.connects(tls=station.csms.keys.context())

    assert station.tls_version in {"TLSv1.2", "TLSv1.3"}
    await station.boots()


@scenario("TC_A_06_CSMS", "TLS - server-side certificate - TLS version too low")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_a_station_does_not_come_by_an_old_tls(station: Station) -> None:
    old = station.csms.keys.context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises(REFUSED_IN_TLS):
        await station.connects(tls=old)


@scenario("TC_A_07_CSMS", "TLS - Client-side certificate - valid certificate")
async def test_a_station_comes_by_its_certificate(station: Station, csms: CSMS) -> None:
    files = await csms.certificate_of(station.identity)
    await station.connects(password=None, tls=csms.keys.context(*files))

    await station.boots()


@scenario("TC_A_08_CSMS", "TLS - Client-side certificate - Invalid certificate")
async def test_a_station_does_not_come_by_a_certificate_of_a_foreign_ca(station: Station, csms: CSMS) -> None:
    foreign = csms.keys.context(*csms.keys.foreign_station(station.identity))

    with pytest.raises(REFUSED_IN_TLS):
        await station.connects(password=None, tls=foreign)


# -- A01: password ----------------------------------------------------------------------------------------------------


async def sets_password(operator: Operator, status: str) -> None:
    variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    await operator.commands(
        "SetVariables",
        {"setVariableData": [variable | {"attributeValue": NEW_PASSWORD}]},
        station_answers={"setVariableResult": [variable | {"attributeStatus": status}]},
    )


@scenario("TC_A_09_CSMS", "Update Charging Station Password for HTTP Basic Authentication - Accepted")
async def test_a_station_gets_a_new_password_and_comes_by_it(station: Station, operator: Operator, csms: CSMS) -> None:
    await sets_password(operator, "Accepted")
    await csms.put_credential(station.identity, password=NEW_PASSWORD)

    await station.connects(password=NEW_PASSWORD)
    await station.boots()


@scenario("TC_A_10_CSMS", "Update Charging Station Password for HTTP Basic Authentication - Rejected")
async def test_a_station_that_rejects_a_password_comes_by_its_old_one(station: Station, operator: Operator) -> None:
    await sets_password(operator, "Rejected")

    await station.connects(password=PASSWORD)
    await station.boots()


# -- A02: certificates ------------------------------------------------------------------------------------------------


@scenarios(
    ("requested", "kind"),
    (
        "TC_A_11_CSMS",
        "Update Charging Station Certificate by request of CSMS - Success - Charging Station Certificate",
        "SignChargingStationCertificate",
        {"certificateType": "ChargingStationCertificate"},
    ),
    (
        "TC_A_13_CSMS",
        "Update Charging Station Certificate by request of CSMS - Success - Combined Certificate",
        "SignCombinedCertificate",
        {},
    ),
)
async def test_a_station_gets_a_new_certificate_and_comes_by_it(
    station: Station, operator: Operator, requested: str, kind: dict[str, Any]
) -> None:
    key, signed = await renews(operator, "TriggerMessage", requested, **kind)

    assert_names(signed["certificateChain"], station, key)
    files = kept_as_files(station, signed["certificateChain"], key)
    await station.connects(password=None, tls=station.csms.keys.context(*files))
    await station.boots()


@scenario("TC_A_14_CSMS", "Update Charging Station Certificate by request of CSMS - Invalid certificate")
async def test_a_station_that_refuses_its_new_certificate_says_why(station: Station, operator: Operator) -> None:
    await renews(
        operator,
        "TriggerMessage",
        "SignChargingStationCertificate",
        station_answers={"status": "Rejected"},
        certificateType="ChargingStationCertificate",
    )

    words = {"type": "InvalidChargingStationCertificate", "timestamp": station.moment()}
    csms_answers(await station.sends("SecurityEventNotification", **words))


# -- A05: security profiles -------------------------------------------------------------------------------------------


@scenario("TC_A_19_CSMS", "Upgrade Charging Station Security Profile - Accepted")
async def test_a_station_comes_by_a_higher_profile_and_never_again_by_a_lower(
    station: Station, operator: Operator
) -> None:
    connection = {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": operator.csms.wss_url,
        "messageTimeout": 30,
        "securityProfile": 2,
        "ocppInterface": "Wired0",
    }
    wanted = {"configurationSlot": 2, "connectionData": connection}
    await operator.commands("SetNetworkProfile", wanted, station_answers=ACCEPTED)
    priority = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}
    await operator.commands(
        "SetVariables",
        {"setVariableData": [priority | {"attributeValue": "2,1"}]},
        station_answers={"setVariableResult": [priority | {"attributeStatus": "Accepted"}]},
    )
    await operator.commands("Reset", {"type": "OnIdle"}, station_answers=ACCEPTED)

    context = station.csms.keys.context()
    await station.connects(tls=context)
    await station.boots()
    await assert_refused(station, 403)
    await station.connects(tls=context)
