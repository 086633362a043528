"""OCPP 1.6 with the security extension: passwords, certificates, events, logs, signed firmware, TLS.

Numbers and titles: Open Charge Alliance, "Test case document OCTT for OCPP 1.6", FINAL 2024-04, section 3.21 (the
public repository brandonprry/VolatileOCPP holds a copy). TC_083 and TC_088 are of a later edition; public tests name
them (trahfo/ocpp-rails, steve-community/steve).
"""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.certificates import ACCEPTED, assert_names, kept_as_files, renews
from tests.conformance.charge16 import reports
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS, PASSWORD
from tests.gateway.certificate_makers import pem

VERSION = "1.6"
pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW_PASSWORD = PASSWORD[::-1]
HASH_DATA = {"hashAlgorithm": "SHA256", "issuerNameHash": "a1", "issuerKeyHash": "b2", "serialNumber": "c3"}


async def tells(station: Station, event: str) -> None:
    words = {"type": event, "timestamp": station.moment()}
    csms_answers(await station.sends("SecurityEventNotification", **words))


@scenario("TC_073_CSMS", "Update Charge Point Password for HTTP Basic Authentication")
async def test_a_station_gets_a_new_password_and_comes_by_it(station: Station, operator: Operator, csms: CSMS) -> None:
    wanted = {"key": "AuthorizationKey", "value": NEW_PASSWORD.encode().hex()}
    await operator.commands("ChangeConfiguration", wanted, station_answers=ACCEPTED)
    await csms.put_credential(station.identity, password=NEW_PASSWORD)

    await station.connects(password=NEW_PASSWORD)
    await station.boots()


@scenario("TC_074_CSMS", "Update Charge Point Certificate by request of Central System")
async def test_a_station_gets_a_new_certificate_and_comes_by_it(station: Station, operator: Operator) -> None:
    key, signed = await renews(operator, "ExtendedTriggerMessage", "SignChargePointCertificate")

    assert_names(signed["certificateChain"], station, key)
    files = kept_as_files(station, signed["certificateChain"], key)
    await station.connects(password=None, tls=station.csms.keys.context(*files))
    await station.boots()


@scenarios(
    "kind",
    ("TC_075_1_CSMS", "Install a certificate on the Charge Point - ManufacturerRootCertificate", "Manufacturer"),
    ("TC_075_2_CSMS", "Install a certificate on the Charge Point - CentralSystemRootCertificate", "CentralSystem"),
)
async def test_a_root_certificate_is_installed_and_found_again(operator: Operator, kind: str) -> None:
    certificate_type = {"certificateType": f"{kind}RootCertificate"}
    root = pem(operator.csms.keys.root.certificate).decode()
    await operator.commands("InstallCertificate", certificate_type | {"certificate": root}, station_answers=ACCEPTED)

    found = ACCEPTED | {"certificateHashData": [HASH_DATA]}
    await operator.commands("GetInstalledCertificateIds", certificate_type, station_answers=found)


@scenario("TC_076_CSMS", "Delete a specific certificate from the Charge Point")
async def test_a_certificate_is_deleted(operator: Operator) -> None:
    wanted = {"certificateType": "CentralSystemRootCertificate"}
    found = ACCEPTED | {"certificateHashData": [HASH_DATA]}
    await operator.commands("GetInstalledCertificateIds", wanted, station_answers=found)

    await operator.commands("DeleteCertificate", {"certificateHashData": HASH_DATA}, station_answers=ACCEPTED)


@scenario("TC_077_CSMS", "Invalid ChargePointCertificate Security Event")
async def test_a_station_that_refuses_its_new_certificate_says_why(station: Station, operator: Operator) -> None:
    await renews(
        operator,
        "ExtendedTriggerMessage",
        "SignChargePointCertificate",
        station_answers={"status": "Rejected"},
    )

    await tells(station, "InvalidChargePointCertificate")


@scenario("TC_078_CSMS", "Invalid CentralSystemCertificate Security Event")
async def test_a_station_that_refuses_a_root_certificate_says_why(station: Station, operator: Operator) -> None:
    root = pem(operator.csms.keys.root.certificate).decode()
    wanted = {"certificateType": "CentralSystemRootCertificate", "certificate": root}
    await operator.commands("InstallCertificate", wanted, station_answers={"status": "Rejected"})

    await tells(station, "InvalidCentralSystemCertificate")


@scenario("TC_079_CSMS", "Get Security Log")
async def test_the_operator_fetches_the_security_log(station: Station, operator: Operator) -> None:
    wanted = {"logType": "SecurityLog", "requestId": 3, "log": {"remoteLocation": "https://logs.invalid/upload"}}
    await operator.commands("GetLog", wanted, station_answers=ACCEPTED | {"filename": "security.log"})

    for status in ("Uploading", "Uploaded"):
        csms_answers(await station.sends("LogStatusNotification", status=status, requestId=3))


async def signed_update_begins(operator: Operator) -> None:
    firmware = {
        "location": "https://firmware.invalid/1.bin",
        "retrieveDateTime": operator.station.moment(),
        "signingCertificate": pem(operator.csms.keys.root.certificate).decode(),
        "signature": "c2lnbmF0dXJl",
    }
    await operator.commands("SignedUpdateFirmware", {"requestId": 4, "firmware": firmware}, station_answers=ACCEPTED)


async def signed_firmware_is(station: Station, *statuses: str) -> None:
    for status in statuses:
        csms_answers(await station.sends("SignedFirmwareStatusNotification", status=status, requestId=4))


@scenario("TC_080_CSMS", "Secure Firmware Update")
async def test_signed_firmware_is_installed(station: Station, operator: Operator) -> None:
    await signed_update_begins(operator)
    await signed_firmware_is(station, "Downloading", "Downloaded", "SignatureVerified")
    await reports(station, "Unavailable")
    await signed_firmware_is(station, "Installing", "InstallRebooting")
    await station.disconnects()
    await station.connects()
    await station.boots()

    await tells(station, "FirmwareUpdated")
    await signed_firmware_is(station, "Installed")


@scenario("TC_081_CSMS", "Secure Firmware Update - Invalid Signature")
async def test_firmware_with_an_invalid_signature_is_acknowledged(station: Station, operator: Operator) -> None:
    await signed_update_begins(operator)

    await signed_firmware_is(station, "Downloading", "Downloaded", "InvalidSignature")


@scenario("TC_083_CSMS", "Upgrade Charge Point Security Profile - Accepted")
async def test_a_station_comes_by_a_higher_profile_and_never_again_by_a_lower(
    station: Station, operator: Operator
) -> None:
    wanted = {"key": "SecurityProfile", "value": "2"}
    await operator.commands("ChangeConfiguration", wanted, station_answers=ACCEPTED)
    await operator.commands("Reset", {"type": "Hard"}, station_answers=ACCEPTED)

    await station.connects(tls=station.csms.keys.context())
    await station.boots()
    with pytest.raises(InvalidStatus):
        await station.connects()


@scenario("TC_085_CSMS", "Basic Authentication - Valid username/password combination")
async def test_a_station_comes_by_its_password(station: Station) -> None:
    await station.connects(password=PASSWORD)

    await station.boots()


@scenario("TC_086_CSMS", "TLS - server-side certificate - Valid certificate")
async def test_a_station_comes_by_tls(station: Station) -> None:
    context: Any = station.csms.keys.context()
    await station.connects(tls=context)

    assert station.tls_version in {"TLSv1.2", "TLSv1.3"}
    await station.boots()


@scenario("TC_087_CSMS", "TLS - Client-side certificate - valid certificate")
async def test_a_station_comes_by_its_certificate(station: Station, csms: CSMS) -> None:
    files = await csms.certificate_of(station.identity)
    await station.connects(password=None, tls=csms.keys.context(*files))

    await station.boots()


@scenario("TC_088_CSMS", "WebSocket Subprotocol negotiation")
async def test_a_version_that_both_know_is_spoken_and_no_other(station: Station) -> None:
    with pytest.raises(InvalidStatus):
        await station.connects(subprotocols=("ocpp0.1",))

    assert await station.connects(subprotocols=("ocpp0.1", "ocpp1.6")) == "ocpp1.6"
    await station.boots()
