"""What our own CA signs, keeps and revokes: by SignCertificate in every version, and through the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from charge_point_gateway import gateway as gateway_module
from charge_point_gateway import station_certificates
from charge_point_gateway.certificates import CertificateRequestRefused, UnusableAuthority, read_authority, read_request
from charge_point_gateway.security import (
    STATION_CREDENTIAL,
    RefusalReason,
    SecurityProfile,
    StationAuthenticator,
    StationRefused,
    station_identity,
)
from charge_point_gateway.station_certificates import StationCertificates
from emobility.adapters.postgres import open_postgres
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.identifiers import PartyId
from emobility.events.charging import StationNotified
from emobility.protocols.station_control.client import GatewayRefused, StationControlClient
from emobility.protocols.station_control.messages import CertificateRequest
from tests.gateway.certificate_makers import CA, DAY, NOW, csr, key_pem, name, new_key, new_rsa_key, pem
from tests.gateway.conftest import PARTY, STATION, TOKEN, World, running_world
from tests.gateway.test_tls import REFUSED_IN_TLS, Keys, beats, dialled, heartbeat, serving, status_of

IDENTITY = station_identity(PARTY, STATION)
CPO = PartyId(PARTY)


@pytest.fixture(scope="module")
def ca() -> CA:
    return CA("Stations", below=CA("Root"))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
async def world(ca: CA) -> AsyncIterator[World]:
    async with running_world(clock=SystemClock(), authority=ca.authority()) as running:
        yield running


@pytest.fixture
def client(world: World) -> StationControlClient:
    return client_of(world)


def client_of(world: World) -> StationControlClient:
    return StationControlClient(world.http, gateway_url="http://gateway-a.test", internal_token=TOKEN)


def good_csr(station: str = STATION) -> str:
    return csr(new_key(), name(station, PARTY))


# -- SignCertificate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subprotocol", "told"),
    [
        ("ocpp1.6", {}),
        ("ocpp2.0.1", {}),
        ("ocpp2.0.1", {"certificateType": "ChargingStationCertificate"}),
        ("ocpp2.1", {"certificateType": "ChargingStationCertificate", "requestId": 7}),
    ],
)
async def test_a_station_gets_the_certificate_it_asked_for(
    world: World, ca: CA, subprotocol: str, told: dict[str, Any]
) -> None:
    station = await world.dial(subprotocol)
    key = new_key()

    answer = await station.call("SignCertificate", {"csr": csr(key, name(STATION, PARTY)), **told})
    kind, message_id, action, payload = await station.receive()
    await station.send([3, message_id, {"status": "Accepted"}])

    assert answer[2] == {"status": "Accepted"}
    assert (kind, action) == (2, "CertificateSigned")
    assert {name: value for name, value in payload.items() if name != "certificateChain"} == told
    leaf, issuer = x509.load_pem_x509_certificates(payload["certificateChain"].encode())
    assert issuer == ca.certificate
    leaf.verify_directly_issued_by(ca.certificate)
    assert leaf.public_key() == key.public_key()
    (row,) = await world.gateway.certificates.issued(IDENTITY)
    assert (row.serial_number, row.fingerprint) == (f"{leaf.serial_number:x}", leaf.fingerprint(SHA256()))
    assert row.not_after == leaf.not_valid_after_utc
    assert abs(row.not_after - NOW - 90 * DAY) < DAY
    assert [type(event) for event in await world.events()] == [StationNotified]


async def test_of_a_csr_only_its_key_is_taken_over(world: World) -> None:
    _, chain = await world.gateway.certificates.issue(
        IDENTITY, csr(new_key(), name(STATION, PARTY), names=[x509.DNSName(STATION)])
    )

    leaf = x509.load_pem_x509_certificates(chain.encode())[0]
    extensions = leaf.extensions
    assert leaf.subject == name(STATION, PARTY)
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize("kind", ["V2GCertificate"])
async def test_what_a_vehicle_is_shown_is_not_ours_to_sign(world: World, kind: str) -> None:
    station = await world.dial()

    answer = await station.call("SignCertificate", {"csr": good_csr(), "certificateType": kind})

    assert answer[2] == {"status": "Rejected"}
    assert await world.gateway.certificates.issued(IDENTITY) == []


async def test_without_a_ca_a_csr_is_kept_and_rejected() -> None:
    async with running_world(clock=SystemClock()) as world:
        station = await world.dial()

        answer = await station.call("SignCertificate", {"csr": good_csr()})

        assert answer[2] == {"status": "Rejected"}
        assert [type(event) for event in await world.events()] == [StationNotified]


def forged() -> str:
    made = x509.load_pem_x509_csr(good_csr().encode()).public_bytes(Encoding.DER)
    other = bytearray(made)
    other[-1] ^= 1
    return x509.load_der_x509_csr(bytes(other)).public_bytes(Encoding.PEM).decode()


def ed25519_csr() -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(STATION, PARTY))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM).decode()


BAD_REQUESTS: dict[str, Any] = {
    "another station": lambda: good_csr("CS-2"),
    "another party": lambda: csr(new_key(), name(STATION, "NL-XXX")),
    "no party": lambda: csr(new_key(), name(STATION)),
    "two stations": lambda: csr(new_key(), name(STATION, PARTY), names=[x509.DNSName("CS-2")]),
    "two names": lambda: csr(new_key(), x509.Name([*name(STATION, PARTY), *name("CS-2")])),
    "forged": forged,
    "short RSA key": lambda: csr(new_rsa_key(1024), name(STATION, PARTY)),
    "short EC key": lambda: csr(ec.generate_private_key(ec.SECP192R1()), name(STATION, PARTY)),
    "no key for TLS": ed25519_csr,
    "no CSR": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "nothing": lambda: "",
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_csr_that_is_not_sound_is_rejected(world: World, case: str) -> None:
    station = await world.dial()

    answer = await station.call("SignCertificate", {"csr": BAD_REQUESTS[case]()})

    assert answer[2] == {"status": "Rejected"}
    assert await world.gateway.certificates.issued(IDENTITY) == []


async def test_a_station_gets_so_many_certificates_a_day_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station_certificates, "CERTIFICATES_PER_DAY_MAX", 2)
    for _ in range(2):
        await world.gateway.certificates.issue(IDENTITY, good_csr())

    with pytest.raises(CertificateRequestRefused, match="a day"):
        await world.gateway.certificates.issue(IDENTITY, good_csr())

    await world.gateway.certificates.issue(station_identity(PARTY, "CS-2"), good_csr("CS-2"))


async def test_no_certificate_outlives_its_ca(world: World, ca: CA) -> None:
    lasting = StationCertificates(
        world.adapters.units, SystemClock(), world.ports.randomness, authority=ca.authority(), valid_days=825 * 9
    )

    row, _ = await lasting.issue(IDENTITY, good_csr())

    assert row.not_after == ca.certificate.not_valid_after_utc


def test_a_ca_is_one_that_may_sign_and_whose_key_is_its_own(ca: CA) -> None:
    key = new_key()
    leaf = ca.leaf(name("no CA"), key)

    for chain, secret in ((pem(ca.certificate), key), (pem(leaf), key)):
        with pytest.raises(UnusableAuthority):
            read_authority(chain, key_pem(secret))
    assert repr(ca.authority()).count("key") == 0


def test_sha_1_signs_no_csr() -> None:
    # `cryptography` makes none any more, so one of OpenSSL's stands here: EC P-256, SHA-1, CN=CS-1.
    with pytest.raises(CertificateRequestRefused, match="SHA-256"):
        read_request(SHA_1_CSR, CPO, STATION)
    assert isinstance(x509.load_pem_x509_csr(SHA_1_CSR.encode()).signature_hash_algorithm, SHA1)


# -- the API ----------------------------------------------------------------------------------------------------------


async def test_an_operator_has_a_csr_signed_and_sees_what_was_issued(client: StationControlClient) -> None:
    made = await client.issue_certificate(CPO, STATION, CertificateRequest(csr=good_csr()))

    (listed,) = await client.certificates(CPO, STATION)

    assert made.certificate_chain is not None
    assert (listed.serial_number, listed.certificate_chain) == (made.serial_number, None)
    assert await client.certificates(CPO, "CS-2") == []
    assert await client.certificates(PartyId("NL-XXX"), STATION) == []


async def test_what_the_api_can_not_sign_or_revoke_it_refuses_by_name(client: StationControlClient) -> None:
    made = await client.issue_certificate(CPO, STATION, CertificateRequest(csr=good_csr()))
    refusals = []
    for attempt in (
        client.issue_certificate(CPO, STATION, CertificateRequest(csr="no CSR")),
        client.revoke_certificate(CPO, "CS-2", made.serial_number),
        client.revoke_certificate(PartyId("NL-XXX"), STATION, made.serial_number),
        client.revoke_certificate(CPO, STATION, "no such"),
    ):
        with pytest.raises(GatewayRefused) as refused:
            await attempt
        refusals.append(refused.value.status)

    assert refusals == [422, 404, 404, 404]
    assert (await client.certificates(CPO, STATION))[0].revoked_at is None


async def test_the_revocation_list_names_what_was_revoked(world: World, ca: CA, client: StationControlClient) -> None:
    made = [await client.issue_certificate(CPO, STATION, CertificateRequest(csr=good_csr())) for _ in range(2)]
    first = await client.revoke_certificate(CPO, STATION, made[0].serial_number)
    again = await client.revoke_certificate(CPO, STATION, made[0].serial_number)

    published = await world.http.request(
        "GET", "http://gateway-a.test/certificates/revoked.pem", headers={}, timeout_s=5
    )

    revocations = x509.load_pem_x509_crl(published.body)
    assert revocations.is_signature_valid(ca.certificate.public_key())  # type: ignore[arg-type]  # an EC key
    assert [f"{each.serial_number:x}" for each in revocations] == [made[0].serial_number]
    assert first.revoked_at == again.revoked_at is not None


async def test_rows_of_certificates_stand_on_postgresql_too(postgres_dsn: str, ca: CA) -> None:
    clock, randomness = SystemClock(), SystemRandomness()
    async with open_postgres(postgres_dsn, master_key=bytes(32), clock=clock, randomness=randomness) as postgres:
        kept = StationCertificates(postgres.units, clock, randomness, authority=ca.authority(), valid_days=90)
        authenticator = StationAuthenticator(postgres.units, SystemTimer(), clock, master_key=bytes(32))
        row, chain = await kept.issue(IDENTITY, good_csr())
        der = x509.load_pem_x509_certificates(chain.encode())[0].public_bytes(Encoding.DER)
        await authenticator.set_password(IDENTITY, None, None)

        assert await kept.check(IDENTITY, der) == row.serial_number
        await authenticator.authenticate(
            path=f"/ocpp/{PARTY}/{STATION}",
            username=None,
            password=None,
            subprotocols=("ocpp2.0.1",),
            address="::1",
            profile=SecurityProfile.TLS_CERTIFICATE,
        )
        revoked = await kept.revoke(IDENTITY, row.serial_number)
        with pytest.raises(StationRefused):
            await kept.check(IDENTITY, der)
        assert await kept.issued(IDENTITY) == await kept.revoked_since(NOW - DAY) == [revoked]
        assert [each.serial_number for each in await kept.revocation_list()] == [int(row.serial_number, 16)]
        async with postgres.units.begin() as unit:
            credential = await unit.table(STATION_CREDENTIAL).get(CPO, STATION)
        assert credential is not None
        assert credential.security_profile == 3


# -- over TLS ---------------------------------------------------------------------------------------------------------


async def issued_to(world: World, keys: Keys, station: str = STATION) -> tuple[str, Any]:
    """A certificate of our own CA, and what a station connects with."""
    client = client_of(world)
    made = await client.issue_certificate(CPO, station, CertificateRequest(csr=csr(keys.key, name(station, PARTY))))
    assert made.certificate_chain is not None
    leaf = x509.load_pem_x509_certificates(made.certificate_chain.encode())[0]
    return made.serial_number, keys.station(leaf)


async def test_a_certificate_of_our_own_ca_opens_its_stations_connection_until_it_is_revoked(
    keys: Keys, ca: CA
) -> None:
    async with serving(keys, authority=ca.authority()) as (world, url, _):
        serial_number, context = await issued_to(world, keys)
        other_number, other = await issued_to(world, keys)
        assert await status_of(url.replace(STATION, "CS-2"), context) == 401
        async with dialled(url, context, has_password=False) as connection:
            await heartbeat(connection)

            await client_of(world).revoke_certificate(CPO, STATION, other_number)
            assert (await heartbeat(connection))[0] == 3, "another certificate has opened it"
            await client_of(world).revoke_certificate(CPO, STATION, serial_number)
            async with asyncio.timeout(10):
                await connection.wait_closed()

        assert connection.close_code == 1008
        for revoked in (context, other):
            with pytest.raises(REFUSED_IN_TLS):
                await beats(url, revoked)


async def test_what_another_gateway_revoked_opens_nothing_here_and_is_closed(
    keys: Keys, ca: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "REVOCATIONS_READ_EVERY_S", 0.05)
    async with serving(keys, authority=ca.authority()) as (world, url, _):
        serial_number, context = await issued_to(world, keys)
        async with dialled(url, context, has_password=False) as connection:
            await heartbeat(connection)

            # Its row alone, as another gateway writes it: the handshake here knows nothing of it yet.
            await world.gateway.certificates.revoke(IDENTITY, serial_number)
            async with asyncio.timeout(10):
                await connection.wait_closed()

        assert await status_of(url, context) == 401


async def test_what_carries_our_cas_name_but_no_row_of_ours_opens_nothing(keys: Keys, ca: CA) -> None:
    stolen = ca.leaf(name(STATION, PARTY), keys.key)

    async with serving(keys, authority=ca.authority()) as (_, url, _tls):
        assert await status_of(url, keys.station(stolen)) == 401


async def test_a_certificate_that_ended_is_refused_although_a_session_is_resumed(world: World) -> None:
    ended = CA("Elsewhere").leaf(name(STATION, PARTY), new_key(), ends=-DAY).public_bytes(Encoding.DER)

    with pytest.raises(StationRefused) as refused:
        await world.gateway.certificates.check(IDENTITY, ended)

    assert refused.value.reason is RefusalReason.INVALID_CERTIFICATE


SHA_1_CSR = """\
-----BEGIN CERTIFICATE REQUEST-----
MIHbMIGCAgEAMCAxDzANBgNVBAoMBk5MLVROTTENMAsGA1UEAwwEQ1MtMTBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABOtan1bcF3a1Mt2Tf8qsGNErsRJxcEvHepdS
mf/zG4rCeFhliJ9krgJenE3k5MAL8FyEiThnN8GuBPe6UCFvAcigADAJBgcqhkjO
PQQBA0kAMEYCIQDaO5sgvL1iydXBDZOff4WKN2mzGMCH2IEWLltOS1JwiwIhAKhh
rRGMzaBxBQgly+9jMU6itilUmNC9Ayv/ho9Hlttk
-----END CERTIFICATE REQUEST-----
"""
