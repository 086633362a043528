"""Security profiles 2 and 3 over real TLS on the loopback: who gets in, and who never does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
import websockets
from cryptography import x509
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from charge_point_gateway import tls as tls_module
from charge_point_gateway.security import STATION_CREDENTIAL, SecurityProfile, station_identity
from charge_point_gateway.server import StationServer
from charge_point_gateway.tls import StationTLS, TLSUnusable
from charge_point_gateway.wiring import NoStationPort, run, watched
from emobility.adapters.system import SystemClock
from emobility.domain.errors import Unavailable
from tests.gateway.certificate_makers import CA, DAY, kept, key_pem, name, new_key, new_rsa_key, pem
from tests.gateway.conftest import PARTY, PASSWORD, STATION, World, running_world, settings_for_tests, until

IDENTITY = station_identity(PARTY, STATION)
REFUSED_IN_TLS = (ssl.SSLError, InvalidMessage, ConnectionClosed, ConnectionError)
"""Under TLS 1.3 a client learns only after its own part of the handshake that its certificate was refused."""


class Keys:
    """A folder with everything a gateway needs, and stations' certificates of several kinds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root, self.clients, self.foreign = CA("Root"), CA("Clients"), CA("Foreign")
        self.intermediate = CA("Intermediate", below=self.root)
        self.key = new_key()
        self.server = self.server_certificate()
        self.settings: dict[str, Any] = {
            "gateway_certificate_file": kept(folder, "gateway.pem", pem(self.server, self.intermediate.certificate)),
            "gateway_key_file": kept(folder, "gateway.key", key_pem(self.key)),
            "gateway_client_ca_file": kept(folder, "clients.pem", pem(self.clients.certificate)),
            "gateway_crl_file": kept(folder, "clients.crl", self.clients.revocations()),
        }
        self.root_file = kept(folder, "root.pem", pem(self.root.certificate))

    def server_certificate(self, key: Any = None, **options: Any) -> x509.Certificate:
        return self.intermediate.leaf(
            name("localhost"), key or self.key, names=[x509.DNSName("localhost")], is_server=True, **options
        )

    def station(self, certificate: x509.Certificate | None = None, key: Any = None) -> ssl.SSLContext:
        """What a station connects with: it trusts the root, and shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.root_file))
        if certificate is not None:
            chain, secret = self.folder / "station.pem", self.folder / "station.key"
            chain.write_bytes(pem(certificate))
            secret.write_bytes(key_pem(key or self.key))
            context.load_cert_chain(chain, secret)
        return context


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@asynccontextmanager
async def serving(keys: Keys, *, authority: Any = None, **changes: Any) -> AsyncIterator[tuple[World, str, StationTLS]]:
    settings = {**keys.settings, **changes}
    async with running_world(clock=SystemClock(), changed_settings=settings, authority=authority) as world:
        tls = StationTLS(world.settings, world.gateway.certificates, world.gateway.metrics, SystemClock())
        await tls.load()
        world.gateway.on_revoked = tls.reload
        server = StationServer(world.gateway, host="127.0.0.1", port=0, tls=tls.context)
        await server.start()
        yield world, f"wss://localhost:{server.port}/ocpp/{PARTY}/{STATION}", tls
        await server.wait_closed()


def basic(username: str = STATION, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


@asynccontextmanager
async def dialled(url: str, context: ssl.SSLContext | None, *, has_password: bool) -> AsyncIterator[ClientConnection]:
    async with websockets.connect(
        url,
        ssl=context,
        additional_headers=basic() if has_password else {},
        subprotocols=["ocpp2.0.1"],  # type: ignore[list-item]  # a NewType of str
        open_timeout=10,
    ) as connection:
        yield connection


async def heartbeat(connection: ClientConnection) -> Any:
    await connection.send('[2,"h","Heartbeat",{}]')
    async with asyncio.timeout(10):
        return json.loads(await connection.recv())


async def beats(url: str, context: ssl.SSLContext | None, *, has_password: bool = False) -> bool:
    async with dialled(url, context, has_password=has_password) as connection:
        return bool((await heartbeat(connection))[0] == 3)


async def status_of(url: str, context: ssl.SSLContext | None, *, has_password: bool = False) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await beats(url, context, has_password=has_password)
    return refused.value.response.status_code


async def lowest_profile(world: World) -> int:
    async with world.adapters.units.begin() as unit:
        row = await unit.table(STATION_CREDENTIAL).get(IDENTITY.party_id, STATION)
    assert row is not None
    return row.security_profile


# -- profile 2 --------------------------------------------------------------------------------------------------------


async def test_a_station_charges_over_tls_with_its_password(keys: Keys) -> None:
    async with serving(keys) as (world, url, _):
        assert await beats(url, keys.station(), has_password=True)
        assert await status_of(url, keys.station()) == 401
        profiles = world.gateway.metrics.connections_active.labels("2.0.1", "2")
        async with dialled(url, keys.station(), has_password=True) as connection:
            await heartbeat(connection)
            assert profiles._value.get() == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_of_tls_are_spoken_with_the_suites_of_ocpp_alone(
    keys: Keys, version: ssl.TLSVersion
) -> None:
    context = keys.station()
    context.minimum_version = context.maximum_version = version
    async with serving(keys) as (_, url, _tls), dialled(url, context, has_password=True) as connection:
        session = connection.transport.get_extra_info("ssl_object")
        suite, _, bits = session.cipher()

        assert (session.version(), session.compression()) == (version.name.replace("_", "."), None)
        assert bits >= 128
        assert "GCM" in suite or version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
    ],
)
async def test_with_two_certificates_each_suite_that_ocpp_asks_for_is_spoken(keys: Keys, suite: str) -> None:
    key = new_rsa_key(2048)
    second = {
        "gateway_second_certificate_file": kept(keys.folder, "rsa.pem", pem(keys.server_certificate(key))),
        "gateway_second_key_file": kept(keys.folder, "rsa.key", key_pem(key)),
    }
    with second["gateway_second_certificate_file"].open("ab") as chain:
        chain.write(pem(keys.intermediate.certificate))
    context = keys.station()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)

    async with serving(keys, **second) as (_, url, _tls), dialled(url, context, has_password=True) as connection:
        assert connection.transport.get_extra_info("ssl_object").cipher()[0] == suite


async def test_two_certificates_of_one_kind_are_one_too_many(keys: Keys) -> None:
    same = {
        "gateway_second_certificate_file": keys.settings["gateway_certificate_file"],
        "gateway_second_key_file": keys.settings["gateway_key_file"],
    }

    with pytest.raises(TLSUnusable, match=r"SECOND_CERTIFICATE_FILE.*same kind"):
        async with serving(keys, **same):
            pass


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_and_weak_suites_are_refused(keys: Keys, version: ssl.TLSVersion, ciphers: str) -> None:
    context = keys.station()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    async with serving(keys) as (_, url, _tls):
        with pytest.raises(REFUSED_IN_TLS):
            await beats(url, context, has_password=True)


async def test_the_tls_port_speaks_nothing_else(keys: Keys) -> None:
    async with serving(keys) as (_, url, _tls):
        with pytest.raises(REFUSED_IN_TLS):
            await beats(url.replace("wss", "ws"), None, has_password=True)


async def test_a_changed_password_counts_while_the_station_stays_connected(keys: Keys) -> None:
    async with serving(keys) as (world, url, _):
        async with dialled(url, keys.station(), has_password=True) as connection:
            await world.gateway.authenticator.set_password(IDENTITY, PASSWORD[::-1], None)
            assert (await heartbeat(connection))[0] == 3

        assert await status_of(url, keys.station(), has_password=True) == 401


@contextmanager
def looking_often() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tls_module, "LOOK_EVERY_S", 0.05)
        yield


async def served_serial(url: str, keys: Keys) -> int:
    async with dialled(url, keys.station(), has_password=True) as connection:
        der = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).serial_number


@pytest.mark.parametrize("is_asked", [False, True])
async def test_a_new_certificate_is_taken_without_a_restart(keys: Keys, *, is_asked: bool) -> None:
    renewed = keys.server_certificate()
    async with serving(keys) as (_, url, tls), dialled(url, keys.station(), has_password=True) as before:
        with looking_often() if not is_asked else pytest.MonkeyPatch.context():
            watching = asyncio.create_task(tls.watch())
            await asyncio.sleep(0)
            kept(keys.folder, "gateway.new", pem(renewed, keys.intermediate.certificate)).replace(
                keys.settings["gateway_certificate_file"]
            )
            if is_asked:
                tls.reload_soon()
            async with asyncio.timeout(10):
                while tls._metrics.tls_reloads.labels("taken")._value.get() == 0:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.01)
            watching.cancel()

        assert (await heartbeat(before))[0] == 3
        await before.close()
        assert await served_serial(url, keys) == renewed.serial_number


async def test_a_file_that_can_not_be_used_leaves_everything_as_it_was(keys: Keys) -> None:
    async with serving(keys) as (world, url, tls):
        keys.settings["gateway_key_file"].write_bytes(key_pem(new_key()))
        await tls.reload()

        assert world.gateway.metrics.tls_reloads.labels("refused")._value.get() == 1
        assert await served_serial(url, keys) == keys.server.serial_number


def broken(keys: Keys, case: str) -> None:
    files = keys.settings
    match case:
        case "other key":
            files["gateway_key_file"].write_bytes(key_pem(new_key()))
        case "no key":
            files["gateway_key_file"].write_bytes(b"-----BEGIN")
        case "no file":
            files["gateway_key_file"].unlink()
        case "order":
            files["gateway_certificate_file"].write_bytes(pem(keys.server, keys.root.certificate))
        case "empty":
            files["gateway_certificate_file"].write_bytes(b"")
        case "no list":
            files["gateway_crl_file"].write_bytes(pem(keys.clients.certificate))


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("other key", "WATTROAM_GATEWAY_KEY_FILE.*not the key of the first certificate"),
        ("no key", "WATTROAM_GATEWAY_KEY_FILE.*no key in PEM"),
        ("no file", "WATTROAM_GATEWAY_KEY_FILE.*No such file"),
        ("order", "WATTROAM_GATEWAY_CERTIFICATE_FILE.*certificate 1 is not issued by certificate 2"),
        ("empty", "WATTROAM_GATEWAY_CERTIFICATE_FILE.*no certificates in PEM"),
        ("no list", "WATTROAM_GATEWAY_CRL_FILE.*no revocation list in PEM"),
    ],
)
async def test_what_is_wrong_with_a_file_is_told_in_one_line(keys: Keys, case: str, told: str) -> None:
    broken(keys, case)

    with pytest.raises(TLSUnusable, match=told) as error:
        async with serving(keys):
            pass

    assert "\n" not in str(error.value)


async def test_sighup_has_the_files_read_at_once(keys: Keys) -> None:
    async with serving(keys) as (_, _url, tls):
        watching = asyncio.create_task(watched(tls))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(tls_module.LOOK_EVERY_S):
            while tls._metrics.tls_reloads.labels("taken")._value.get() == 0:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_while_the_database_rests_the_files_are_tried_again_and_nothing_ends(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(keys, authority=keys.clients.authority()) as (world, _, tls):

        async def fails() -> None:
            raise DatabaseRests

        with looking_often(), monkeypatch.context() as patch:
            patch.setattr(world.gateway.certificates, "revocation_list", fails)
            watching = asyncio.create_task(tls.watch())
            tls.reload_soon()
            await until(lambda: tls._metrics.tls_reloads.labels("failed")._value.get() > 1)
            patch.undo()
            await until(lambda: tls._metrics.tls_reloads.labels("taken")._value.get() == 1)
            watching.cancel()


class DatabaseRests(Unavailable):
    pass


@pytest.mark.parametrize(("ends", "is_told"), [(29 * DAY, True), (31 * DAY, False), (-DAY, True)])
async def test_a_certificate_that_ends_soon_is_told_and_served_all_the_same(
    keys: Keys, capsys: pytest.CaptureFixture[str], ends: timedelta, *, is_told: bool
) -> None:
    keys.settings["gateway_certificate_file"].write_bytes(
        pem(keys.server_certificate(ends=ends), keys.intermediate.certificate)
    )

    async with serving(keys):
        told = capsys.readouterr().out

    assert ("certificate_ends_soon" in told and "kind=server" in told) is is_told


async def test_when_certificates_end_is_a_metric(keys: Keys) -> None:
    async with serving(keys) as (world, _, _tls):
        sample = world.gateway.metrics.registry.get_sample_value

        ends = sample("gateway_certificate_expires_at_seconds", {"kind": "server"})
        assert ends == keys.server.not_valid_after_utc.timestamp()
        assert sample("gateway_certificate_expires_at_seconds", {"kind": "revocation_list"}) is not None


async def test_in_production_nobody_connects_in_the_clear_unless_that_is_said() -> None:
    with pytest.raises(NoStationPort, match="WATTROAM_GATEWAY_CERTIFICATE_FILE"):
        await run(settings_for_tests(environment="production"))


# -- profile 3 --------------------------------------------------------------------------------------------------------


async def test_a_station_comes_by_its_certificate_and_needs_no_password(keys: Keys) -> None:
    certificate = keys.clients.leaf(name(STATION, PARTY), keys.key)

    async with serving(keys) as (world, url, _):
        await world.gateway.authenticator.set_password(station_identity(PARTY, "CS-3"), None, None)

        assert await beats(url, keys.station(certificate))
        assert await lowest_profile(world) == 3
        unregistered = keys.clients.leaf(name("CS-4", PARTY), keys.key)
        assert await status_of(url.replace(STATION, "CS-4"), keys.station(unregistered)) == 401
        without_password = keys.clients.leaf(name("CS-3", PARTY), keys.key)
        assert await beats(url.replace(STATION, "CS-3"), keys.station(without_password))


def uri(path: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(f"wss://csms.example/ocpp/{path}")


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        (name(STATION, PARTY.lower()), []),
        (name(None, PARTY), [x509.DNSName(STATION)]),
        (name(None, PARTY), [uri(f"{PARTY}/{STATION}")]),
        (name(STATION, PARTY), [x509.DNSName(STATION), uri(f"{PARTY}/{STATION}")]),
    ],
)
async def test_a_certificate_may_name_its_station_in_each_of_these_forms(
    keys: Keys, subject: x509.Name, names: list[x509.GeneralName]
) -> None:
    certificate = keys.clients.leaf(subject, keys.key, names=names)

    async with serving(keys) as (_, url, _tls):
        assert await beats(url, keys.station(certificate))


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        (name("CS-2", PARTY), []),
        (name(STATION, "NL-XXX"), []),
        (name(STATION), []),
        (name(None, PARTY), []),
        (name(f"{STATION} ", PARTY), []),
        (name(STATION, f"{PARTY} "), []),
        (name("*", PARTY), [x509.DNSName("*")]),
        (name(STATION, PARTY), [x509.DNSName("CS-2")]),
        (name("CS-2", PARTY), [x509.DNSName(STATION)]),
        (name(STATION, PARTY), [uri(f"NL-XXX/{STATION}")]),
        (name(None, "NL-XXX"), [uri(f"{PARTY}/{STATION}")]),
        (name(STATION, PARTY), [x509.UniformResourceIdentifier("spiffe://elsewhere")]),
    ],
)
async def test_a_certificate_that_names_anyone_else_opens_nothing(
    keys: Keys, subject: x509.Name, names: list[x509.GeneralName]
) -> None:
    certificate = keys.clients.leaf(subject, keys.key, names=names)

    async with serving(keys) as (world, url, _):
        # Not even with the right password beside it.
        assert await status_of(url, keys.station(certificate), has_password=True) == 401
        assert await world.events() == []


@pytest.mark.parametrize(
    ("case", "cause"),
    [
        ("foreign", "issuer certificate"),
        ("expired", "expired"),
        ("revoked", "revoked"),
        ("server", "purpose"),
        ("self-signed", "signature"),
        ("list ended", "CRL has expired"),
    ],
)
async def test_a_certificate_that_is_not_valid_is_refused_in_the_handshake(
    keys: Keys, capsys: pytest.CaptureFixture[str], case: str, cause: str
) -> None:
    subject, key = name(STATION, PARTY), keys.key
    good = keys.clients.leaf(subject, key)
    certificate = {
        "foreign": lambda: keys.foreign.leaf(subject, key),
        "expired": lambda: keys.clients.leaf(subject, key, ends=-DAY),
        "server": lambda: keys.clients.leaf(subject, key, is_server=True),
        "self-signed": lambda: CA("Clients").leaf(subject, key),
    }.get(case, lambda: good)()
    if case == "revoked":
        keys.settings["gateway_crl_file"].write_bytes(keys.clients.revocations(good))
    if case == "list ended":
        keys.settings["gateway_crl_file"].write_bytes(keys.clients.revocations(ends=-DAY))

    async with serving(keys) as (world, url, _):
        with pytest.raises(REFUSED_IN_TLS):
            await beats(url, keys.station(certificate), has_password=True)

        assert await world.events() == []
        assert world.gateway.metrics.auth_failures.labels("tls_handshake")._value.get() == 1
        assert cause in capsys.readouterr().out


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_revocation_list_counts_once_it_is_read_and_no_session_outlives_it(
    keys: Keys, version: ssl.TLSVersion
) -> None:
    certificate = keys.clients.leaf(name(STATION, PARTY), keys.key)
    context = keys.station(certificate)
    context.minimum_version = context.maximum_version = version
    async with serving(keys) as (_, url, tls):
        port = int(url.rpartition(":")[2].partition("/")[0])
        session = await asyncio.to_thread(session_with, context, port)
        resumed = await asyncio.to_thread(session_with, context, port, session)
        assert resumed is not None, "sessions are resumed while nothing changes, or this test shows nothing"

        keys.settings["gateway_crl_file"].write_bytes(keys.clients.revocations(certificate))
        await tls.reload()

        assert await asyncio.to_thread(session_with, context, port, session) is None


def session_with(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """Ask for a WebSocket over plain sockets; return a session to resume, or None if the gateway refuses."""
    request = (
        f"GET /ocpp/{PARTY}/{STATION} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: ocpp2.0.1\r\n\r\n"
    )
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as secured,
        ):
            secured.sendall(request.encode())
            if b" 101 " not in secured.recv(4096):
                return None
            assert secured.session_reused is (session is not None)
            return secured.session
    except (ssl.SSLError, ConnectionError):
        return None


async def test_without_client_authorities_no_certificate_is_asked_for(keys: Keys) -> None:
    certificate = keys.foreign.leaf(name(STATION, PARTY), keys.key)
    none = {"gateway_client_ca_file": None, "gateway_crl_file": None}

    async with serving(keys, **none) as (world, url, _):
        assert await status_of(url, keys.station(certificate)) == 401
        assert await beats(url, keys.station(certificate), has_password=True)
        assert await lowest_profile(world) == 2


# -- no way back ------------------------------------------------------------------------------------------------------


async def test_a_station_that_has_come_by_more_never_comes_by_less(keys: Keys) -> None:
    certificate = keys.clients.leaf(name(STATION, PARTY), keys.key)
    async with serving(keys) as (world, url, _):
        plain = StationServer(world.gateway, host="127.0.0.1", port=0)
        await plain.start()
        plain_url = f"ws://127.0.0.1:{plain.port}/ocpp/{PARTY}/{STATION}"
        assert await beats(plain_url, None, has_password=True)
        assert await beats(url, keys.station(), has_password=True)
        assert await status_of(plain_url, None, has_password=True) == 403
        assert await beats(url, keys.station(certificate))
        assert await status_of(plain_url, None, has_password=True) == 403
        assert await status_of(url, keys.station(), has_password=True) == 403

        await world.gateway.authenticator.set_password(IDENTITY, PASSWORD[::-1], None)
        assert await lowest_profile(world) == 3, "a new password is no way back"
        await world.gateway.authenticator.set_password(IDENTITY, PASSWORD, None, SecurityProfile.TLS_BASIC)
        assert await beats(url, keys.station(), has_password=True), "an operator's word is"
        assert await status_of(plain_url, None, has_password=True) == 403
        await plain.wait_closed()


async def test_a_wrong_password_learns_nothing_of_the_profile(keys: Keys) -> None:
    async with serving(keys) as (world, url, _):
        await world.gateway.authenticator.set_password(IDENTITY, PASSWORD[::-1], None, SecurityProfile.TLS_CERTIFICATE)

        assert await status_of(url, keys.station(), has_password=True) == 401


def test_all_this_holds_on_uvloop_too(keys: Keys) -> None:
    certificate = keys.clients.leaf(name(STATION, PARTY), keys.key)

    async def journey() -> None:
        async with serving(keys) as (world, url, tls):
            assert await beats(url, keys.station(certificate))
            assert await lowest_profile(world) == 3
            keys.settings["gateway_crl_file"].write_bytes(keys.clients.revocations(certificate))
            await tls.reload()
            with pytest.raises(REFUSED_IN_TLS):
                await beats(url, keys.station(certificate))
            assert world.gateway.metrics.auth_failures.labels("tls_handshake")._value.get() == 1

    uvloop.run(journey())
