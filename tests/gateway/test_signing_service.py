"""Another's CA signs stations' requests: what comes back is held to our rules, and can be revoked here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from charge_point_gateway.security import StationRefused, station_identity
from charge_point_gateway.signing_service import SigningFailed
from charge_point_gateway.station_certificates import CERTIFICATES_PER_DAY_MAX
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.memory import VirtualClock
from emobility.domain.errors import Unavailable
from emobility.protocols.station_control.client import StationControlClient
from emobility.protocols.station_control.messages import CertificateRequest
from tests.gateway.certificate_makers import CA, DAY, NOW, csr, name, new_key, pem
from tests.gateway.conftest import PARTY, STATION, TOKEN, World, running_world, settings_for_tests
from tests.gateway.responders import BothWays, serving

IDENTITY = station_identity(PARTY, STATION)
ROOT = CA("Their root")
SUB = CA("Their stations' CA", below=ROOT)
BEARER = "a-token-of-theirs"


class Signer:
    """A signing service; what a test changes makes it wrong."""

    def __init__(self) -> None:
        self.ca, self.subject, self.status = SUB, name(STATION, PARTY), 200
        self.key: Any = None
        self.body: bytes | None = None
        self.changes: dict[str, Any] = {}
        self.heads: list[str] = []

    async def __call__(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        assert (method, path) == ("POST", "/sign")
        request = x509.load_pem_x509_csr(body)
        leaf = self.ca.leaf(self.subject, self.key or _Holder(request), **self.changes)
        return self.status, self.body or pem(leaf, self.ca.certificate)


class _Holder:
    """The key of a CSR, as `CA.leaf` wants it."""

    def __init__(self, request: x509.CertificateSigningRequest) -> None:
        self.public_key = request.public_key


@asynccontextmanager
async def signing(folder: Path, signer: Signer) -> AsyncIterator[World]:
    trusted = folder / "client-ca.pem"
    trusted.write_bytes(pem(ROOT.certificate))
    (folder / "crl.pem").write_bytes(ROOT.revocations())
    files = {"gateway_client_ca_file": trusted, "gateway_crl_file": folder / "crl.pem"}
    own = {"gateway_certificate_file": trusted, "gateway_key_file": trusted}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(signer, signer.heads))
        http = BothWays(await stack.enter_async_context(GuardedHttpClient(configured_origins=[url])))
        settings = {"gateway_signing_url": f"{url}/sign", "gateway_signing_token": BEARER, **files, **own}
        world = await stack.enter_async_context(
            running_world(clock=VirtualClock(NOW), changed_settings=settings, http=http)
        )
        http.inside = world.http
        yield world


async def test_a_station_gets_a_certificate_that_another_s_ca_signed_and_it_can_be_revoked_here(tmp_path: Path) -> None:
    signer, key = Signer(), new_key()
    async with signing(tmp_path, signer) as world:
        station = await world.dial()

        answer = await station.call("SignCertificate", {"csr": csr(key, name(STATION, PARTY))})
        _, message_id, action, payload = await station.receive()
        await station.send([3, message_id, {"status": "Accepted"}])

        assert (answer[2], action) == ({"status": "Accepted"}, "CertificateSigned")
        leaf, above = x509.load_pem_x509_certificates(payload["certificateChain"].encode())
        assert (leaf.public_key(), above) == (key.public_key(), SUB.certificate)
        (head,) = signer.heads
        assert f"authorization: Bearer {BEARER}" in head
        certificates, der = world.gateway.certificates, leaf.public_bytes(Encoding.DER)
        assert await certificates.check(IDENTITY, der) == f"{leaf.serial_number:x}"
        foreign = SUB.leaf(name(STATION, PARTY), new_key()).public_bytes(Encoding.DER)
        await certificates.check(IDENTITY, foreign)  # their CA issues to others' order, too
        await world.gateway.revoke(IDENTITY, f"{leaf.serial_number:x}")
        with pytest.raises(StationRefused):
            await certificates.check(IDENTITY, der)


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": name("CS-2", PARTY)},
        {"subject": name(STATION, "NL-OTH")},
        {"key": new_key()},
        {"ca": CA("Their root")},
        {"changes": {"is_server": True}},
        {"changes": {"ends": -DAY}},
        {"status": 500},
        {"body": b"sorry"},
        {"body": "ü".encode()},
    ],
    ids=lambda each: next(iter(each)),
)
async def test_what_may_not_be_given_to_a_station_is_not(tmp_path: Path, wrong: dict[str, Any]) -> None:
    signer = Signer()
    vars(signer).update(wrong)
    async with signing(tmp_path, signer) as world:
        station = await world.dial()
        request = csr(new_key(), name(STATION, PARTY))

        answer = await station.call("SignCertificate", {"csr": request})

        assert answer[2] == {"status": "Rejected"}
        assert await world.gateway.certificates.issued(IDENTITY) == []
        with pytest.raises(SigningFailed):
            await world.gateway.certificates.issue(IDENTITY, request)
        client = StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)
        with pytest.raises(Unavailable):
            await client.issue_certificate(IDENTITY.party_id, STATION, CertificateRequest(csr=request))


async def test_a_station_that_asks_again_and_again_asks_the_service_a_bounded_number_of_times(tmp_path: Path) -> None:
    signer = Signer()
    async with signing(tmp_path, signer) as world:
        station = await world.dial()
        for _ in range(CERTIFICATES_PER_DAY_MAX):
            await station.call("SignCertificate", {"csr": csr(new_key(), name(STATION, PARTY))})
            _, message_id, *_ = await station.receive()
            await station.send([3, message_id, {"status": "Accepted"}])

        answer = await station.call("SignCertificate", {"csr": csr(new_key(), name(STATION, PARTY))})

        assert (answer[2], len(signer.heads)) == ({"status": "Rejected"}, CERTIFICATES_PER_DAY_MAX)


async def test_only_the_newest_certificate_of_a_station_ends(tmp_path: Path) -> None:
    signer = Signer()
    async with signing(tmp_path, signer) as world:
        certificates = world.gateway.certificates

        async def ending(within: timedelta) -> list[str]:
            rows = await certificates.ending(IDENTITY.party_id, before=world.clock.now() + within)
            return [row.serial_number for row in rows]

        signer.changes = {"ends": 10 * DAY}
        first, _ = await certificates.issue(IDENTITY, csr(new_key(), name(STATION, PARTY)))
        assert await ending(9 * DAY) == []
        assert await ending(30 * DAY) == [first.serial_number]
        signer.changes = {"ends": 90 * DAY}
        second, _ = await certificates.issue(IDENTITY, csr(new_key(), name(STATION, PARTY)))
        assert await ending(30 * DAY) == []
        assert await ending(91 * DAY) == [second.serial_number]
        await certificates.revoke(IDENTITY, second.serial_number)
        assert await ending(30 * DAY) == [first.serial_number]


@pytest.mark.parametrize(
    "settings",
    [
        {"gateway_signing_url": "https://ca.example"},
        {"gateway_signing_url": "https://ca.example", "gateway_signing_token": "x"},
        {"gateway_signing_url": "https://ca.example", "gateway_ca_file": "a", "gateway_ca_key_file": "a"},
    ],
)
def test_a_signing_service_without_what_it_needs_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="WATTROAM_GATEWAY_SIGNING_URL"):
        settings_for_tests(**settings)
