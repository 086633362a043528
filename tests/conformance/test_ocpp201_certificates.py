"""OCPP 2.0.1, block M: certificates that stations keep.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.charge201 import ACCEPTED
from tests.conformance.scenario import Operator, scenario, scenarios
from tests.gateway.certificate_makers import pem

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

HASH_DATA = {"hashAlgorithm": "SHA256", "issuerNameHash": "a1", "issuerKeyHash": "b2", "serialNumber": "c3"}
RETRIEVED = "Retrieve certificates from Charging Station"


@scenarios(
    ("kind", "status"),
    ("TC_M_01_CSMS", "Install CA certificate - CSMSRootCertificate", "CSMSRootCertificate", "Accepted"),
    (
        "TC_M_02_CSMS",
        "Install CA certificate - ManufacturerRootCertificate",
        "ManufacturerRootCertificate",
        "Accepted",
    ),
    ("TC_M_03_CSMS", "Install CA certificate - V2GRootCertificate", "V2GRootCertificate", "Accepted"),
    ("TC_M_04_CSMS", "Install CA certificate - MORootCertificate", "MORootCertificate", "Accepted"),
    ("TC_M_05_CSMS", "Install CA certificate - Failed", "CSMSRootCertificate", "Failed"),
)
async def test_a_root_certificate_is_installed(operator: Operator, kind: str, status: str) -> None:
    root = pem(operator.csms.keys.root.certificate).decode()
    wanted = {"certificateType": kind, "certificate": root}

    await operator.commands("InstallCertificate", wanted, station_answers={"status": status})


@scenarios(
    "kinds",
    ("TC_M_12_CSMS", f"{RETRIEVED} - CSMSRootCertificate", ["CSMSRootCertificate"]),
    ("TC_M_13_CSMS", f"{RETRIEVED} - ManufacturerRootCertificate", ["ManufacturerRootCertificate"]),
    ("TC_M_14_CSMS", f"{RETRIEVED} - V2GRootCertificate", ["V2GRootCertificate"]),
    ("TC_M_15_CSMS", f"{RETRIEVED} - V2GCertificateChain", ["V2GCertificateChain"]),
    ("TC_M_16_CSMS", f"{RETRIEVED} - MORootCertificate", ["MORootCertificate"]),
    (
        "TC_M_17_CSMS",
        f"{RETRIEVED} - CSMSRootCertificate & ManufacturerRootCertificate",
        ["CSMSRootCertificate", "ManufacturerRootCertificate"],
    ),
    ("TC_M_18_CSMS", f"{RETRIEVED} - All certificateTypes", []),
)
async def test_the_operator_asks_for_certificates(operator: Operator, kinds: list[str]) -> None:
    wanted = {"certificateType": kinds} if kinds else {}
    chain: list[dict[str, Any]] = [
        {"certificateType": kind, "certificateHashData": HASH_DATA}
        | ({"childCertificateHashData": [HASH_DATA]} if kind == "V2GCertificateChain" else {})
        for kind in kinds or ["CSMSRootCertificate", "V2GCertificateChain"]
    ]

    await operator.commands(
        "GetInstalledCertificateIds", wanted, station_answers=ACCEPTED | {"certificateHashDataChain": chain}
    )


@scenario("TC_M_19_CSMS", f"{RETRIEVED} - No matching certificate found")
async def test_a_station_may_have_no_such_certificate(operator: Operator) -> None:
    wanted = {"certificateType": ["MORootCertificate"]}

    await operator.commands("GetInstalledCertificateIds", wanted, station_answers={"status": "NotFound"})


@scenarios(
    "status",
    ("TC_M_20_CSMS", "Delete a certificate from a Charging Station - Success", "Accepted"),
    ("TC_M_21_CSMS", "Delete a certificate from a Charging Station - Failed", "Failed"),
)
async def test_a_certificate_is_deleted(operator: Operator, status: str) -> None:
    found = {"certificateHashDataChain": [{"certificateType": "CSMSRootCertificate", "certificateHashData": HASH_DATA}]}
    await operator.commands("GetInstalledCertificateIds", station_answers=ACCEPTED | found)

    wanted = {"certificateHashData": HASH_DATA}
    await operator.commands("DeleteCertificate", wanted, station_answers={"status": status})
