"""OCPP 2.0.1, block L: firmware updates and firmware that a local controller publishes.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

import pytest

from tests.conformance.charge201 import ACCEPTED, charges, reports
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.gateway.certificate_makers import pem

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

FIRST, SECOND = 21, 22
VERIFIED = ("Downloading", "Downloaded", "SignatureVerified")
INSTALLED = ("Installing", "InstallRebooting")


async def update_begins(operator: Operator, request_id: int = FIRST, status: str = "Accepted") -> None:
    firmware = {
        "location": "https://firmware.invalid/1.bin",
        "retrieveDateTime": operator.station.moment(),
        "signingCertificate": pem(operator.csms.keys.root.certificate).decode(),
        "signature": "c2lnbmF0dXJl",
    }
    wanted = {"requestId": request_id, "firmware": firmware}
    await operator.commands("UpdateFirmware", wanted, station_answers={"status": status})


async def firmware_is(station: Station, *statuses: str, request_id: int = FIRST) -> None:
    for status in statuses:
        csms_answers(await station.sends("FirmwareStatusNotification", status=status, requestId=request_id))


async def reboots(station: Station) -> None:
    await station.disconnects()
    await station.connects()
    await station.boots("FirmwareUpdate")


@scenarios(
    "statuses",
    ("TC_L_01_CSMS", "Secure Firmware Update - Installation successful", (*VERIFIED, *INSTALLED)),
    ("TC_L_02_CSMS", "Secure Firmware Update - InstallScheduled", (*VERIFIED, "InstallScheduled", *INSTALLED)),
    ("TC_L_03_CSMS", "Secure Firmware Update - DownloadScheduled", ("DownloadScheduled", *VERIFIED, *INSTALLED)),
)
async def test_firmware_is_installed(station: Station, operator: Operator, statuses: tuple[str, ...]) -> None:
    await update_begins(operator)
    await firmware_is(station, *statuses)
    await reboots(station)

    await firmware_is(station, "Installed")
    words = {"type": "FirmwareUpdated", "timestamp": station.moment()}
    csms_answers(await station.sends("SecurityEventNotification", **words))


@scenarios(
    ("answer", "event"),
    (
        "TC_L_04_CSMS",
        "Secure Firmware Update - RevokedCertificate",
        "RevokedCertificate",
        "InvalidFirmwareSigningCertificate",
    ),
    (
        "TC_L_05_CSMS",
        "Secure Firmware Update - InvalidCertificate",
        "InvalidCertificate",
        "InvalidFirmwareSigningCertificate",
    ),
)
async def test_a_station_refuses_firmware_of_a_certificate(
    station: Station, operator: Operator, answer: str, event: str
) -> None:
    await update_begins(operator, status=answer)

    csms_answers(await station.sends("SecurityEventNotification", type=event, timestamp=station.moment()))


@scenarios(
    "statuses",
    ("TC_L_06_CSMS", "Secure Firmware Update - InvalidSignature", ("Downloading", "Downloaded", "InvalidSignature")),
    ("TC_L_07_CSMS", "Secure Firmware Update - DownloadFailed", ("Downloading", "DownloadFailed")),
    (
        "TC_L_08_CSMS",
        "Secure Firmware Update - InstallVerificationFailed",
        (*VERIFIED, "Installing", "InstallVerificationFailed"),
    ),
    ("TC_L_09_CSMS", "Secure Firmware Update - InstallationFailed", (*VERIFIED, *INSTALLED, "InstallationFailed")),
)
async def test_an_update_fails(station: Station, operator: Operator, statuses: tuple[str, ...]) -> None:
    await update_begins(operator)

    await firmware_is(station, *statuses)


@scenario("TC_L_10_CSMS", "Secure Firmware Update - AcceptedCanceled")
async def test_an_update_takes_the_place_of_another(station: Station, operator: Operator) -> None:
    await update_begins(operator)
    await firmware_is(station, "Downloading")
    await update_begins(operator, SECOND, "AcceptedCanceled")
    await firmware_is(station, *VERIFIED, *INSTALLED, request_id=SECOND)
    await reboots(station)

    await firmware_is(station, "Installed", request_id=SECOND)


@scenario("TC_L_11_CSMS", "Secure Firmware Update - Unable to cancel")
async def test_an_update_that_can_not_be_cancelled_goes_on(station: Station, operator: Operator) -> None:
    await update_begins(operator)
    await firmware_is(station, "Downloading")
    await update_begins(operator, SECOND, "Rejected")
    await firmware_is(station, "Downloaded", "SignatureVerified", *INSTALLED)
    await reboots(station)

    await firmware_is(station, "Installed")


@scenario(
    "TC_L_13_CSMS",
    "Secure Firmware Update - Unable to download/install firmware with ongoing transaction - "
    "AllowNewSessionsPendingFirmwareUpdate is false",
)
async def test_an_update_waits_for_the_end_of_a_charge(station: Station, operator: Operator) -> None:
    charge = await charges(station)
    await update_begins(operator)
    await firmware_is(station, "DownloadScheduled")
    await reports(station, "Unavailable", evse=2)
    await charge.disconnects_ev()
    await firmware_is(station, *VERIFIED, *INSTALLED)
    await reboots(station)

    await firmware_is(station, "Installed")
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


# -- L03 and L04: firmware is published -------------------------------------------------------------------------------


async def publishing_begins(operator: Operator) -> None:
    wanted = {"location": "https://firmware.invalid/1.bin", "checksum": "d4" * 16, "requestId": FIRST}
    await operator.commands("PublishFirmware", wanted, station_answers=ACCEPTED)


@scenarios(
    ("statuses", "location"),
    (
        "TC_L_17_CSMS",
        "Publish Firmware - Published",
        ("Downloading", "Downloaded", "ChecksumVerified"),
        ["https://controller.invalid/1.bin"],
    ),
    ("TC_L_19_CSMS", "Publish Firmware - Invalid Checksum", ("Downloading", "Downloaded", "InvalidChecksum"), None),
    (
        "TC_L_20_CSMS",
        "Publish Firmware - PublishFailed",
        ("Downloading", "Downloaded", "ChecksumVerified", "PublishFailed"),
        None,
    ),
    ("TC_L_24_CSMS", "Publish Firmware - Download failed", ("Downloading", "DownloadFailed"), None),
)
async def test_firmware_is_published(
    station: Station, operator: Operator, statuses: tuple[str, ...], location: list[str] | None
) -> None:
    await publishing_begins(operator)
    for status in statuses:
        words = {"status": status, "requestId": FIRST}
        csms_answers(await station.sends("PublishFirmwareStatusNotification", **words))

    if location is not None:
        published = {"status": "Published", "location": location, "requestId": FIRST}
        csms_answers(await station.sends("PublishFirmwareStatusNotification", **published))


@scenarios(
    "status",
    ("TC_L_21_CSMS", "Unpublish Firmware - Unpublished", "Unpublished"),
    ("TC_L_22_CSMS", "Unpublish Firmware - NoFirmware", "NoFirmware"),
    ("TC_L_23_CSMS", "Unpublish Firmware - Download Ongoing", "DownloadOngoing"),
)
async def test_firmware_is_no_longer_published(operator: Operator, status: str) -> None:
    await operator.commands("UnpublishFirmware", {"checksum": "d4" * 16}, station_answers={"status": status})
