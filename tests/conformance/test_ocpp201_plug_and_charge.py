"""OCPP 2.0.1, use cases C07, M01, M02 and M06: contract certificates (ISO 15118), by the PKI of a mobility operator.

Numbers and titles: test cases of the Open Charge Alliance (OCTT, OCPP 2.0.1, system under test: CSMS), as the public
test suite AviranAbady/tzi-OCTT names them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio
from cryptography import x509

from charge_point_gateway.vehicle_certificates import VehicleTrust
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.protocols.certificates.hash_data import CertificateHashData
from tests.conformance.charge201 import ACCEPTED, Charge, token
from tests.conformance.scenario import Operator, Station, csms_answers, scenario, scenarios
from tests.csms import CSMS, running_csms
from tests.gateway.certificate_makers import CA, pem
from tests.gateway.responders import EMAID, BothWays, Responder, contract_leaf, serving

VERSION = "2.0.1"
pytestmark = pytest.mark.asyncio(loop_scope="module")

EXI_RESPONSE: Final = "gJgD"


@dataclass(slots=True)
class MobilityOperator:
    """Root, sub-CA, OCSP responder and provisioning service."""

    root: CA
    sub: CA
    responder: Responder
    url: str = ""

    async def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Provide contracts at `/contracts`; everything else is the responder's."""
        if path == "/contracts":
            return 200, json.dumps({"status": "Accepted", "exiResponse": EXI_RESPONSE}).encode()
        return await self.responder(method, path, body)

    def contract(self) -> x509.Certificate:
        """Return a contract certificate of the driver."""
        return contract_leaf(self.sub, responder=self.url)

    def hash_data(self, contract: x509.Certificate) -> dict[str, Any]:
        """Return how a station names a certificate."""
        named = CertificateHashData.of(contract.serial_number, self.sub.certificate, "SHA256")
        return {**named.written(), "responderURL": self.url}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mobility_operator() -> AsyncIterator[MobilityOperator]:
    root = CA("MO root")
    sub = CA("MO sub-CA", below=root)
    operator = MobilityOperator(root, sub, Responder(sub))
    async with serving(operator.answer) as operator.url:
        yield operator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def csms(mobility_operator: MobilityOperator) -> AsyncIterator[CSMS]:
    """A CSMS that believes the mobility operator and knows the driver's contract."""
    url, known = mobility_operator.url, (mobility_operator.root.certificate, mobility_operator.sub.certificate)
    async with (
        GuardedHttpClient(configured_origins=[url]) as guarded,
        running_csms(
            outside=BothWays(guarded),
            vehicle_trust=VehicleTrust(contract_roots=known, v2g_roots=known),
            contract_provisioning_url=f"{url}/contracts",
        ) as running,
    ):
        await running.new_card(uid=EMAID, contract_id=EMAID)
        yield running


@scenarios(
    "is_central",
    (
        "TC_C_50_CSMS",
        "Authorization using Contract Certificates 15118 - Online - Local contract certificate validation - Accepted",
        False,
    ),
    (
        "TC_C_52_CSMS",
        "Authorization using Contract Certificates 15118 - Online - Central contract certificate validation - Accepted",
        True,
    ),
)
async def test_a_contract_that_is_valid_lets_its_driver_charge(
    station: Station, operator: Operator, mobility_operator: MobilityOperator, *, is_central: bool
) -> None:
    contract = mobility_operator.contract()
    asked_before = mobility_operator.responder.asked
    chain = pem(contract, mobility_operator.sub.certificate).decode()
    shown = (
        {"certificate": chain}
        if is_central
        else {"iso15118CertificateHashData": [mobility_operator.hash_data(contract)]}
    )
    charge = Charge(station, card=EMAID)
    await charge.connects_ev()
    answer = await station.sends("Authorize", idToken=token(EMAID, "eMAID"), **shown)
    csms_answers(answer, idTokenInfo=ACCEPTED, certificateStatus="Accepted")
    assert mobility_operator.responder.asked == asked_before + 1
    answer = await charge.tells("Authorized", "EVConnected", idToken=token(EMAID, "eMAID"))
    csms_answers(answer, idTokenInfo=ACCEPTED)
    await charge.flows()

    await charge.disconnects_ev()
    await operator.sees_billed(charge.transaction_id, metered_wh=charge.metered_wh)


@scenario(
    "TC_C_51_CSMS",
    "Authorization using Contract Certificates 15118 - Online - Local contract certificate validation - Rejected",
)
async def test_a_contract_that_is_revoked_lets_nobody_charge(
    station: Station, mobility_operator: MobilityOperator
) -> None:
    contract = mobility_operator.contract()
    mobility_operator.responder.revoked.add(contract.serial_number)
    named = [mobility_operator.hash_data(contract)]

    answer = await station.sends("Authorize", idToken=token(EMAID, "eMAID"), iso15118CertificateHashData=named)

    csms_answers(answer, idTokenInfo={"status": "Invalid"}, certificateStatus="CertificateRevoked")


@scenario("TC_M_24_CSMS", "Get Charging Station Certificate status - Success")
async def test_a_station_gets_the_words_of_the_ocsp_responder(
    station: Station, mobility_operator: MobilityOperator
) -> None:
    named = mobility_operator.hash_data(mobility_operator.contract())

    answer = await station.sends("GetCertificateStatus", ocspRequestData=named)

    csms_answers(answer, status="Accepted")
    assert base64.b64decode(answer["ocspResult"]) == mobility_operator.responder.said


@scenarios(
    "action",
    ("TC_M_26_CSMS", "Certificate Installation EV - Success", "Install"),
    ("TC_M_28_CSMS", "Certificate Update EV - Success", "Update"),
)
async def test_an_ev_gets_a_contract_certificate(station: Station, action: str) -> None:
    wanted = {"iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef", "action": action, "exiRequest": "gJgC"}

    answer = await station.sends("Get15118EVCertificate", **wanted)

    csms_answers(answer, status="Accepted", exiResponse=EXI_RESPONSE)
