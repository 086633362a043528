"""Plug and Charge: contract certificates, revocation and provisioning, over a connection and by real HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from charge_point_gateway import revocation_checks
from charge_point_gateway.vehicle_certificates import UnusableRoots, VehicleTrust, read_vehicle_trust
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.memory import VirtualClock
from emobility.events.charging import IdTokenKind
from emobility.ports.authorizer import AuthorizationStatus
from emobility.protocols.certificates.hash_data import CertificateHashData
from tests.gateway.certificate_makers import CA, DAY, NOW, pem
from tests.gateway.conftest import Station, World, running_world, settings_for_tests
from tests.gateway.responders import EMAID, BothWays, Delegate, Responder, contract_leaf, serving

ROOT = CA("MO root")
SUB = CA("MO sub-CA", below=ROOT)
NOBODY = "http://127.0.0.1:1"
"""May be called, and nobody listens there."""
STRANGER = CA("MO root")
"""Of the same name, and another key."""


@dataclass
class Charging:
    """A station that is connected, and the responder of the mobility operator."""

    world: World
    station: Station
    responder: Responder
    url: str

    async def authorize(self, leaf: x509.Certificate | None, *above: x509.Certificate, **changes: Any) -> Any:
        payload: dict[str, Any] = {"idToken": {"idToken": EMAID, "type": "eMAID"}}
        if leaf is not None:
            payload["certificate"] = pem(leaf, *(above or (SUB.certificate,))).decode()
        answer = await self.station.call("Authorize", payload | changes)
        assert answer[0] == 3, answer
        return answer[2]["idTokenInfo"]["status"], answer[2].get("certificateStatus")

    def named(self, leaf: x509.Certificate, issuer: CA = SUB, algorithm: str = "SHA256") -> dict[str, Any]:
        hash_data = CertificateHashData.of(leaf.serial_number, issuer.certificate, algorithm)
        return {**hash_data.written(), "responderURL": self.url}

    def leaf(self, **changes: Any) -> x509.Certificate:
        return contract_leaf(changes.pop("ca", SUB), responder=self.url, **changes)


@asynccontextmanager
async def charging(
    *roots: x509.Certificate, subprotocol: str = "ocpp2.0.1", answer: Any = None, **settings: Any
) -> AsyncIterator[Charging]:
    responder = Responder(SUB)
    trust = VehicleTrust(contract_roots=roots or (ROOT.certificate,))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(answer or responder))
        http = BothWays(await stack.enter_async_context(GuardedHttpClient(configured_origins=[url, NOBODY])))
        world = await stack.enter_async_context(
            running_world(
                clock=VirtualClock(NOW),
                vehicle_trust=trust,
                changed_settings={name: value.format(url=url) for name, value in settings.items()},
                http=http,
            )
        )
        http.inside = world.http
        yield Charging(world, await world.dial(subprotocol), responder, url)


# -- C07: contract certificates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", ["ocpp2.0.1", "ocpp2.1"])
async def test_a_valid_contract_certificate_lets_the_back_office_decide(subprotocol: str) -> None:
    async with charging(subprotocol=subprotocol) as here:
        accepted = await here.authorize(here.leaf())
        here.world.back_office.status = AuthorizationStatus.BLOCKED
        blocked = await here.authorize(here.leaf(common_name="DE8AAC123456789"))

    assert (accepted, blocked) == (("Accepted", "Accepted"), ("Blocked", "Accepted"))
    asked = here.world.back_office.asked
    assert [(each.id_token, each.kind) for each in asked] == [(EMAID, IdTokenKind.PLUG_AND_CHARGE)] * 2
    assert here.responder.asked == 2


Makes = Callable[[Charging], x509.Certificate]


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda here: here.leaf(ends=-DAY), ("Expired", "CertificateExpired")),
        (lambda here: here.leaf(common_name="DE-8AA-C12345678-8"), ("Invalid", "CertChainError")),
        (lambda here: here.leaf(ca=STRANGER), ("Invalid", "SignatureError")),
        (lambda here: here.leaf(ca=CA("Nobody")), ("Invalid", "CertChainError")),
        (lambda here: here.leaf(is_ca=True), ("Invalid", "CertChainError")),
        (lambda _: contract_leaf(SUB), ("Invalid", "NoCertificateAvailable")),
        (lambda _: contract_leaf(SUB, responder="https://ocsp.example"), ("Invalid", "NoCertificateAvailable")),
        (lambda _: contract_leaf(SUB, responder=NOBODY), ("Invalid", "NoCertificateAvailable")),
    ],
)
async def test_a_contract_certificate_that_does_not_hold_reaches_no_back_office(
    make: Makes, status: tuple[str, str]
) -> None:
    async with charging() as here:
        assert await here.authorize(make(here)) == status
        assert here.world.back_office.asked == []


def lying(responder: Responder) -> None:
    responder.signer = STRANGER


def lying_beside(responder: Responder) -> None:
    """A certificate of the CA's for another purpose signs no answers."""
    responder.signer = Delegate(SUB, ExtendedKeyUsageOID.CLIENT_AUTH)
    responder.certificates = (responder.signer.certificate,)


def replayed(responder: Responder) -> None:
    """An answer of yesterday, which was right then."""
    responder.this_update, responder.next_update = NOW - 2 * DAY, NOW - DAY


def undated(responder: Responder) -> None:
    responder.this_update, responder.next_update = NOW - timedelta(hours=2), None


def of_the_future(responder: Responder) -> None:
    responder.this_update, responder.next_update = NOW + timedelta(hours=1), NOW + DAY


def broken(responder: Responder) -> None:
    responder.replayed = b"no OCSP response"


def down(responder: Responder) -> None:
    responder.is_down = True


WRONGS = [lying, lying_beside, replayed, undated, of_the_future, broken, down]


@pytest.mark.parametrize("wrong", WRONGS)
async def test_an_answer_that_can_not_be_believed_tells_nothing(wrong: Callable[[Responder], None]) -> None:
    async with charging() as here:
        wrong(here.responder)

        assert await here.authorize(here.leaf()) == ("Invalid", "NoCertificateAvailable")
        assert here.responder.asked == 1


@pytest.mark.parametrize("wrong", WRONGS)
async def test_an_operator_may_take_the_risk(wrong: Callable[[Responder], None]) -> None:
    async with charging(contract_ocsp_unreachable="accept") as here:
        wrong(here.responder)

        assert await here.authorize(here.leaf()) == ("Accepted", "Accepted")
        assert await here.authorize(here.leaf(ca=STRANGER)) == ("Invalid", "SignatureError")


@pytest.mark.parametrize("policy", ["refuse", "accept"])
async def test_what_its_ca_revoked_or_does_not_know_is_refused(policy: str) -> None:
    async with charging(contract_ocsp_unreachable=policy) as here:
        revoked, unknown = here.leaf(), here.leaf()
        here.responder.revoked = {revoked.serial_number}
        here.responder.unknown = {unknown.serial_number}

        assert await here.authorize(revoked) == ("Invalid", "CertificateRevoked")
        assert await here.authorize(unknown) == ("Invalid", "CertChainError")
        assert here.world.back_office.asked == []


async def test_a_good_answer_about_another_certificate_or_to_another_request_is_of_no_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation_checks, "ANSWERS_KEPT_MAX", 0)
    async with charging() as here:
        good, revoked = here.leaf(), here.leaf()
        here.responder.revoked = {revoked.serial_number}
        here.responder.has_nonce = False
        assert await here.authorize(good) == ("Accepted", "Accepted")
        here.responder.replayed = here.responder.said

        assert await here.authorize(revoked) == ("Invalid", "NoCertificateAvailable")
        here.responder.replayed, here.responder.has_nonce = None, True
        assert await here.authorize(good) == ("Accepted", "Accepted")
        here.responder.replayed = here.responder.said

        assert await here.authorize(good) == ("Invalid", "NoCertificateAvailable")


async def test_a_responder_that_the_ca_has_certified_is_believed() -> None:
    async with charging() as here:
        here.responder.signer = Delegate(SUB)
        here.responder.certificates = (here.responder.signer.certificate,)

        assert await here.authorize(here.leaf()) == ("Accepted", "Accepted")


async def test_an_answer_is_remembered_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_checks, "ANSWERS_KEPT_MAX", 1)
    async with charging() as here:
        leaf, other = here.leaf(), here.leaf()

        assert [await here.authorize(leaf) for _ in range(3)] == [("Accepted", "Accepted")] * 3
        assert here.responder.asked == 1
        await here.authorize(other)
        await here.authorize(leaf)
        assert here.responder.asked == 3
        here.world.clock.step_by(timedelta(hours=1))
        here.responder.revoked = {leaf.serial_number}
        here.responder.this_update, here.responder.next_update = NOW, NOW + DAY
        assert await here.authorize(leaf) == ("Invalid", "CertificateRevoked")


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA384", "SHA512"])
async def test_hashes_alone_are_enough_where_the_issuer_is_known_or_comes_along(algorithm: str) -> None:
    async with charging() as here:
        leaf = contract_leaf(SUB)
        named = here.named(leaf, algorithm=algorithm)

        unknown_issuer = await here.authorize(None, iso15118CertificateHashData=[named])
        here.responder.certificates = (SUB.certificate,)
        known = await here.authorize(None, iso15118CertificateHashData=[named])
        here.responder.revoked = {contract_leaf(SUB).serial_number, leaf.serial_number}
        here.world.clock.step_by(timedelta(hours=1))
        here.responder.next_update = NOW + DAY
        revoked = await here.authorize(None, iso15118CertificateHashData=[named])

    assert unknown_issuer == ("Invalid", "NoCertificateAvailable")
    assert known == ("Accepted", "Accepted")
    assert revoked == ("Invalid", "CertificateRevoked")


async def test_a_station_may_name_the_responder_of_a_certificate_that_names_none() -> None:
    async with charging() as here:
        leaf = contract_leaf(SUB)

        assert await here.authorize(leaf, iso15118CertificateHashData=[here.named(leaf)]) == ("Accepted", "Accepted")


@pytest.mark.parametrize("told", [{"issuerNameHash": "zz"}, {"issuerKeyHash": "00"}, {"serialNumber": "0"}])
async def test_hashes_that_are_none_are_a_broken_chain(told: dict[str, str]) -> None:
    async with charging() as here:
        named = here.named(contract_leaf(SUB)) | told

        assert await here.authorize(None, iso15118CertificateHashData=[named]) == ("Invalid", "CertChainError")


@pytest.mark.parametrize("certificate", ["no PEM", pem(*[SUB.certificate] * 7).decode()])
async def test_a_chain_that_is_none_is_refused(certificate: str) -> None:
    async with charging(subprotocol="ocpp2.1") as here:
        answer = await here.authorize(None, certificate=certificate[:10_000])

    assert answer == ("Invalid", "CertChainError")


async def test_without_roots_nobody_s_contract_is_believed() -> None:
    async with charging(CA("Another").certificate, contract_ocsp_unreachable="accept") as here:
        assert await here.authorize(here.leaf()) == ("Invalid", "CertChainError")


async def test_an_emaid_without_a_certificate_is_a_token_as_any() -> None:
    async with charging() as here:
        assert await here.authorize(None) == ("Accepted", None)


def test_a_file_of_roots_that_is_none_ends_the_gateway(tmp_path: Any) -> None:
    good, bad = tmp_path / "good.pem", tmp_path / "bad.pem"
    good.write_bytes(pem(ROOT.certificate))
    bad.write_bytes(b"no")

    read = read_vehicle_trust(settings_for_tests(contract_root_file=good))
    assert read == VehicleTrust(contract_roots=(ROOT.certificate,))
    with pytest.raises(UnusableRoots, match=r"WATTROAM_V2G_ROOT_FILE: .*bad\.pem"):
        read_vehicle_trust(settings_for_tests(v2g_root_file=bad))


# -- M06, M07: revocation that stations ask for -----------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", ["ocpp2.0.1", "ocpp2.1"])
async def test_a_station_gets_the_responder_s_own_words(subprotocol: str) -> None:
    async with charging(SUB.certificate, subprotocol=subprotocol) as here:
        leaf = contract_leaf(SUB)
        here.responder.revoked = {leaf.serial_number}

        answer = await here.station.call("GetCertificateStatus", {"ocspRequestData": here.named(leaf)})

        assert answer[2]["status"] == "Accepted"
        assert base64.b64decode(answer[2]["ocspResult"]) == here.responder.said
        told = ocsp.load_der_ocsp_response(here.responder.said)
        assert told.certificate_status is ocsp.OCSPCertStatus.REVOKED


@pytest.mark.parametrize("wrong", WRONGS)
async def test_a_station_gets_no_answer_that_can_not_be_believed(wrong: Callable[[Responder], None]) -> None:
    async with charging(SUB.certificate) as here:
        wrong(here.responder)

        answer = await here.station.call("GetCertificateStatus", {"ocspRequestData": here.named(contract_leaf(SUB))})

        assert answer[2] == {"status": "Failed"}


async def test_an_ocsp_response_that_is_too_long_for_the_station_fails() -> None:
    async with charging(SUB.certificate) as here:
        here.responder.certificates = (ROOT.certificate,) * 20

        answer = await here.station.call("GetCertificateStatus", {"ocspRequestData": here.named(contract_leaf(SUB))})

        assert len(base64.b64encode(here.responder.said)) > 5_500
        assert answer[2] == {"status": "Failed"}


async def test_each_certificate_of_a_chain_is_looked_up_where_its_station_says() -> None:
    async with charging(SUB.certificate, subprotocol="ocpp2.1") as here:
        good, revoked, unknown = (contract_leaf(SUB) for _ in range(3))
        here.responder.revoked, here.responder.unknown = {revoked.serial_number}, {unknown.serial_number}

        def asked(leaf: x509.Certificate, source: str, *urls: str) -> dict[str, Any]:
            hash_data = {key: value for key, value in here.named(leaf).items() if key != "responderURL"}
            return {"certificateHashData": hash_data, "source": source, "urls": list(urls)}

        async def statuses(*requests: dict[str, Any]) -> list[str]:
            payload = {"certificateStatusRequests": list(requests)}
            answer = await here.station.call("GetCertificateChainStatus", payload)
            told = answer[2]["certificateStatus"]
            assert [each["certificateHashData"] for each in told] == [each["certificateHashData"] for each in requests]
            return [each["status"] for each in told]

        aside = f"{NOBODY}/ocsp"
        assert await statuses(
            asked(good, "OCSP", aside, here.url),
            asked(revoked, "OCSP", here.url),
            asked(unknown, "OCSP", here.url),
            asked(good, "OCSP", aside),
        ) == ["Good", "Revoked", "Unknown", "Failed"]
        crl = f"{here.url}/crl"
        assert await statuses(asked(good, "CRL", crl), asked(revoked, "CRL", aside, crl)) == ["Good", "Revoked"]
        here.world.clock.step_by(timedelta(hours=2))
        assert await statuses(asked(good, "CRL", crl), asked(good, "OCSP", here.url)) == ["Failed", "Failed"]
        here.responder.next_update, here.responder.signer = NOW + DAY, STRANGER
        assert await statuses(asked(good, "CRL", crl)) == ["Failed"]


# -- M01, M02: contracts for vehicles ---------------------------------------------------------------------------------

WANTED = {"iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef", "action": "Install", "exiRequest": "gJgC"}
PROVIDED = {"exiResponse": "gJgD", "remainingContracts": 2}


@pytest.mark.parametrize(
    ("subprotocol", "status", "said", "expected"),
    [
        ("ocpp2.0.1", 200, {"status": "Accepted", "exiResponse": "gJgD", "x": 1}, {"exiResponse": "gJgD"}),
        ("ocpp2.1", 200, {"status": "Accepted"} | PROVIDED, PROVIDED),
        ("ocpp2.0.1", 200, {"status": "Failed", "exiResponse": ""}, None),
        ("ocpp2.0.1", 200, {"status": "Accepted", "exiResponse": "x" * 7_501}, None),
        ("ocpp2.0.1", 200, {"status": "Great", "exiResponse": "x"}, None),
        ("ocpp2.0.1", 200, ["Accepted"], None),
        ("ocpp2.0.1", 500, {"status": "Accepted", "exiResponse": "x"}, None),
    ],
)
async def test_a_vehicle_s_request_is_forwarded_and_what_comes_back_is_bounded(
    subprotocol: str, status: int, said: Any, expected: dict[str, Any] | None
) -> None:
    heard: list[tuple[str, str, Any]] = []

    async def service(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        heard.append((method, path, json.loads(body)))
        return status, json.dumps(said).encode()

    async with charging(subprotocol=subprotocol, answer=service, contract_provisioning_url="{url}/contracts") as here:
        answer = await here.station.call("Get15118EVCertificate", WANTED)

    assert heard == [("POST", "/contracts", WANTED)]
    failed = {"status": "Failed", "exiResponse": ""}
    assert answer[2] == (failed if expected is None else {"status": "Accepted", **expected})


async def test_without_a_provisioning_service_no_contract_is_provided() -> None:
    async with charging() as here:
        answer = await here.station.call("Get15118EVCertificate", WANTED)

    assert answer[2] == {"status": "Failed", "exiResponse": ""}
