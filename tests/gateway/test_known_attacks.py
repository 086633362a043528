"""What others' platforms were found open to, played against this one: no attack succeeds, in any of its forms.

The four classes of the CISA advisories of 2026 (ICSA-26-057-03 to -08, ICSA-26-062-08): no authentication of stations,
no limit on attempts, a session displaced by whoever knows a station's id, ids on public maps. Beside them
CVE-2026-28230, where any station ended any transaction, and a certificate that is somebody else's. Each attack is also
played with its defence taken out, and then has to succeed: otherwise it would prove nothing.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import websockets
from cryptography import x509
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from charge_point_gateway import station_certificates
from charge_point_gateway.gateway import GatewayOptions
from charge_point_gateway.security import (
    FAILURES_PER_MINUTE_PER_ADDRESS,
    FAILURES_PER_MINUTE_PER_IDENTITY,
    STATION_CREDENTIAL,
    RefusalReason,
    SecurityProfile,
    StationAuthenticator,
    StationIdentity,
    StationRefused,
    station_identity,
)
from charge_point_gateway.station_session import StationSession
from charge_point_gateway.token_buckets import KeyedBuckets
from emobility.adapters.memory import run_virtual
from emobility.events.charging import TransactionEvent
from emobility.protocols.ocpi.v221 import ModuleID
from services.charging_operations.records import TRANSACTION, TransactionState
from tests.gateway.certificate_makers import CA, DAY, kept, name
from tests.gateway.conftest import PARTY, PASSWORD, STATION, Station, World, running_world
from tests.gateway.test_tls import REFUSED_IN_TLS, Keys, beats, serving
from tests.gateway.test_websocket import basic, listening
from tests.operations import world as operations
from tests.operations.world import open_for_business

IDENTITY: Final = station_identity(PARTY, STATION)
ATTACKER: Final = "CS-2"
AT: Final = "2022-03-27T01:00:00Z"


def encoded(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


# -- no authentication ------------------------------------------------------------------------------------------------

WITHOUT_THE_PASSWORD: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "nothing": ("", {}),
    "no password": ("", encoded(f"{STATION}:")),
    "the station's id": ("", encoded(f"{STATION}:{STATION}")),
    "a default": ("", encoded(f"{STATION}:1234")),
    "nearly the password": ("", encoded(f"{STATION}:{PASSWORD[:-1]}")),
    "the password and more": ("", encoded(f"{STATION}:{PASSWORD}x")),
    "the password in capitals": ("", encoded(f"{STATION}:{PASSWORD.upper()}")),
    "the password of no user": ("", encoded(f":{PASSWORD}")),
    "another station's name": ("", encoded(f"{ATTACKER}:{PASSWORD}")),
    "another kind": ("", {"Authorization": f"Bearer {PASSWORD}"}),
    "in the query": (f"?user={STATION}&password={PASSWORD}", {}),
    "forwarded for the station": ("", {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": STATION}),
}


async def frames_handled(url: str, headers: dict[str, str]) -> int:
    """Knock; return how many frames of the peer were answered."""
    try:
        async with websockets.connect(
            url,
            additional_headers=headers,
            subprotocols=["ocpp2.0.1"],  # type: ignore[list-item]  # a NewType of str
        ) as connection:
            await connection.send('[2,"a","Heartbeat",{}]')
            async with asyncio.timeout(10):
                return int(json.loads(await connection.recv())[0] == 3)
    except (InvalidHandshake, ConnectionClosed):
        return 0


async def unauthenticated_successes(world: World) -> dict[str, int]:
    async with listening(world.gateway) as url:
        return {
            form: await frames_handled(url + query, headers) for form, (query, headers) in WITHOUT_THE_PASSWORD.items()
        }


async def test_nobody_is_served_without_a_station_s_password() -> None:
    async with running_world() as world:
        successes = await unauthenticated_successes(world)

        assert set(successes.values()) == {0}, successes
        assert await world.events() == []


async def test_without_the_look_at_passwords_they_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trusting(self: StationAuthenticator, identity: StationIdentity, *_: str) -> Any:
        return await self._registered(identity)

    monkeypatch.setattr(StationAuthenticator, "_checked", trusting)
    async with running_world() as world:
        successes = await unauthenticated_successes(world)

    assert sum(successes.values()) >= 7


# -- no limit on attempts ---------------------------------------------------------------------------------------------


async def guesses_looked_at(world: World, guesses: int, *, addresses: int, stations: int) -> int:
    """Guess passwords within a moment; return how many were compared with a station's rather than turned away."""
    looked_at = 0
    for n in range(guesses):
        station = STATION if stations == 1 else f"CS-{n % stations}"
        try:
            await world.gateway.admit(
                path=f"/ocpp/{PARTY}/{station}",
                username=station,
                password=f"guess-{n}",
                subprotocols=("ocpp1.6",),
                address=f"10.{n % addresses // 250}.0.{n % addresses % 250}",
            )
        except StationRefused as refused:
            looked_at += refused.reason is RefusalReason.WRONG_CREDENTIALS
    return looked_at


GUESSING: Final = {
    "one station from one address": (1, 1, FAILURES_PER_MINUTE_PER_IDENTITY),
    "one station from a thousand addresses": (1_000, 1, FAILURES_PER_MINUTE_PER_IDENTITY),
    "a thousand stations from one address": (1, 1_000, FAILURES_PER_MINUTE_PER_ADDRESS),
}


def guess(addresses: int, stations: int) -> int:
    async def attack() -> int:
        async with running_world() as world:
            looked_at = await guesses_looked_at(world, 1_000, addresses=addresses, stations=stations)
            await world.dial(address="192.0.2.9")  # the true station is not locked out by it
            return looked_at

    return run_virtual(attack())


@pytest.mark.parametrize("form", GUESSING)
def test_guesses_are_turned_away_after_a_few(form: str) -> None:
    addresses, stations, allowed = GUESSING[form]

    assert guess(addresses, stations) == allowed


@pytest.mark.parametrize("form", GUESSING)
def test_without_the_limit_each_guess_would_be_looked_at(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedBuckets, "is_spent", lambda *_: False)
    addresses, stations, _ = GUESSING[form]

    assert guess(addresses, stations) == 1_000


# -- a session displaced by whoever knows the id ----------------------------------------------------------------------


async def served(station: Station) -> bool:
    try:
        return bool((await station.call("Heartbeat", {}))[0] == 3)
    except Exception:  # noqa: BLE001 - closed, in whichever way
        return False


async def knock(world: World, password: str, times: int) -> None:
    for _ in range(times):
        try:
            newcomer = await world.dial(password=password, address="10.0.0.66")
        except StationRefused:
            continue
        await served(newcomer)


DISPLACING: Final = {
    "by the id alone": ("", 5),
    "by a wrong password": ("x" * 32, 5),
    "by a stolen password": (PASSWORD, 1),
    "by a stolen password, again and again": (PASSWORD, 8),
}


@asynccontextmanager
async def victim() -> AsyncIterator[tuple[World, Station]]:
    async with running_world(GatewayOptions(probe_timeout_s=0.2, drain_spread_s=0)) as world:
        station = await world.dial()
        assert await served(station)
        yield world, station


@pytest.mark.parametrize("form", DISPLACING)
async def test_a_live_session_is_displaced_by_nobody(form: str) -> None:
    password, times = DISPLACING[form]
    async with victim() as (world, station):
        await knock(world, password, times)

        assert await served(station)
        row = await world.gateway.presence.find(IDENTITY)
        assert row is not None
        assert (row.fence, row.is_online) == (1, True)


async def test_without_the_question_whether_it_lives_a_session_would_be_displaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(_self: StationSession, *, timeout_s: float) -> bool:
        return timeout_s < 0

    monkeypatch.setattr(StationSession, "is_alive", silent)
    async with victim() as (world, station):
        await knock(world, PASSWORD, 1)

        assert not await served(station)


# -- ids on public maps -----------------------------------------------------------------------------------------------

SECRET_NAME: Final = "SECRET-OCPP-NAME"
SECRET_PASSWORD: Final = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
READ_BY_PARTNERS: Final = (ModuleID.LOCATIONS, ModuleID.TARIFFS, ModuleID.SESSIONS, ModuleID.CDRS)


async def told_to_partners(public_name: str) -> str:
    """Let a station with a secret name charge; return all that any partner gets to see, pushed or asked for."""
    async with open_for_business() as here:
        terms = {"location_id": "LOC1", "evses": [operations.evse(1, station=public_name)]}
        assert (await here.api("PUT", f"/{operations.CPO}/stations/{SECRET_NAME}", terms)).status_code == 200
        credential = {"password": SECRET_PASSWORD}
        path = f"/{operations.CPO}/stations/{SECRET_NAME}/credential"
        assert (await here.api("PUT", path, credential)).status_code == 200
        await here.authorize(charging_station_id=SECRET_NAME, transaction_id="1", ocpp_evse_id=1, connector_id=1)
        await here.report(await here.started("1", station=SECRET_NAME), here.updated("1", station=SECRET_NAME))
        seen = [await here.ocpi("GET", module, date_from="2022-01-01T00:00:00Z") for module in READ_BY_PARTNERS]
        await here.report(here.ended("1", station=SECRET_NAME))
        seen += [await here.ocpi("GET", module, date_from="2022-01-01T00:00:00Z") for module in READ_BY_PARTNERS]
        assert here.emsp.got("sessions")
        return repr((seen, here.emsp.received, here.nsp.received))


async def test_no_partner_ever_sees_the_name_by_which_a_station_connects() -> None:
    told = await told_to_partners("PUBLIC")

    assert "PUBLIC-1" in told
    assert SECRET_NAME not in told
    assert SECRET_PASSWORD not in told


async def test_a_name_that_an_operator_publishes_itself_is_found_by_this_search() -> None:
    assert SECRET_NAME in await told_to_partners(SECRET_NAME)


async def test_whoever_knows_a_name_does_not_learn_whether_there_is_such_a_station() -> None:
    async with running_world() as world, listening(world.gateway) as url:
        answers = []
        for target, username in ((url, STATION), (url.replace(STATION, "CS-NOBODY"), "CS-NOBODY")):
            with pytest.raises(InvalidStatus) as refused:
                async with websockets.connect(target, additional_headers=basic(username, "x" * 32)):
                    pass
            response = refused.value.response
            answers.append((response.status_code, response.body))

    assert answers[0] == answers[1]


# -- another station's transaction (CVE-2026-28230) -------------------------------------------------------------------


def reaching_for_it(subprotocol: str, transaction_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return what a station may say of a transaction that is not its own."""
    if subprotocol == "ocpp1.6":
        number = int(transaction_id)
        value = {"timestamp": AT, "sampledValue": [{"value": "9"}]}
        return [
            ("StopTransaction", {"transactionId": number, "meterStop": 1, "timestamp": AT}),
            ("StopTransaction", {"transactionId": number, "meterStop": 1, "timestamp": AT, "idTag": "04A1"}),
            ("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [value]}),
        ]
    event = {
        "timestamp": AT,
        "triggerReason": "StopAuthorized",
        "seqNo": 1,
        "transactionInfo": {"transactionId": transaction_id},
    }
    return [("TransactionEvent", {**event, "eventType": kind}) for kind in ("Started", "Updated", "Ended")]


async def words_about_the_victim(subprotocol: str) -> int:
    """Let one station speak of another's transaction; return how many events name that other station for it."""
    async with running_world(GatewayOptions(drain_spread_s=0)) as world:
        victim_station = await world.dial(subprotocol)
        if subprotocol == "ocpp1.6":
            begin = {"connectorId": 1, "idTag": "04A1", "meterStart": 100, "timestamp": AT}
            answer = await victim_station.call("StartTransaction", begin, "victim")
            transaction_id = str(answer[2]["transactionId"])
        else:
            transaction_id = "tx-victim"
            [(_, started), *_] = reaching_for_it(subprotocol, transaction_id)
            await victim_station.call("TransactionEvent", {**started, "seqNo": 0}, "victim")
        before = await words_of(world, STATION)
        attacker = await world.dial(subprotocol, station=ATTACKER)
        for n, (action, payload) in enumerate(reaching_for_it(subprotocol, transaction_id)):
            for message_id in ("victim", f"a{n}"):
                if n == 0 or message_id != "victim":
                    assert (await attacker.call(action, payload, message_id))[0] == 3, "it is acknowledged, always"
        return await words_of(world, STATION) - before


async def words_of(world: World, station: str) -> int:
    events = [event for event in await world.events() if isinstance(event, TransactionEvent)]
    return sum(event.charging_station_id == station for event in events)


@pytest.mark.parametrize("subprotocol", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
async def test_no_station_speaks_for_another_s_transaction(subprotocol: str) -> None:
    assert await words_about_the_victim(subprotocol) == 0


async def test_without_the_scope_of_its_connection_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    of_connection = StationSession._context

    def by_transaction_alone(self: StationSession, call: Any) -> Any:
        self.identity = IDENTITY
        return of_connection(self, call)

    monkeypatch.setattr(StationSession, "_context", by_transaction_alone)

    assert await words_about_the_victim("ocpp2.0.1") > 0


async def is_ended_by(station: str) -> bool:
    """Let a station report the end of transaction 1 of another one; tell whether that one's ended."""
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1, connector_id=1)
        await here.report(await here.started("1"))
        await here.report(here.ended("1", station=station))
        [row] = await here.rows(TRANSACTION, charging_station_id=operations.STATION, transaction_id="1")
        return bool(row.state is not TransactionState.OPEN)


async def test_the_end_of_one_station_s_transaction_leaves_another_s_of_the_same_number_open() -> None:
    assert not await is_ended_by("CS-OF-SOMEBODY-ELSE")


async def test_its_own_end_does_end_it() -> None:
    assert await is_ended_by(operations.STATION)


# -- a certificate that is somebody else's ----------------------------------------------------------------------------


def foreign_certificates(keys: Keys) -> dict[str, x509.Certificate]:
    own, clients = keys.key, keys.clients
    return {
        "of another station": clients.leaf(name(ATTACKER, PARTY), own),
        "of another party": clients.leaf(name(STATION, "NL-XXX"), own),
        "of no party": clients.leaf(name(STATION), own),
        "of nobody": clients.leaf(name(None, PARTY), own),
        "of two stations": clients.leaf(name(STATION, PARTY), own, names=[x509.DNSName(ATTACKER)]),
        "of another in its URI": clients.leaf(
            name(STATION, PARTY), own, names=[x509.UniformResourceIdentifier(f"wss://x/ocpp/NL-XXX/{STATION}")]
        ),
        "with a wild card": clients.leaf(name("*", PARTY), own),
        "in other letters": clients.leaf(name(STATION.lower(), PARTY), own),
    }


def invalid_certificates(keys: Keys) -> dict[str, x509.Certificate]:
    subject, own = name(STATION, PARTY), keys.key
    below = CA("Station as CA", below=keys.clients)
    return {
        "of a CA nobody knows": keys.foreign.leaf(subject, own),
        "of the gateway's CA": keys.root.leaf(subject, own),
        "ended": keys.clients.leaf(subject, own, ends=-DAY),
        "revoked": keys.clients.leaf(subject, own),
        "a server's": keys.clients.leaf(subject, own, is_server=True),
        "of a CA without a revocation list": below.leaf(subject, own),
    }


async def opened_by(keys: Keys, certificates: dict[str, x509.Certificate]) -> set[str]:
    """Dial with each certificate and no password; return which opened a connection."""
    opened = set()
    revoked = [certificate for form, certificate in certificates.items() if form == "revoked"]
    keys.settings["gateway_crl_file"] = kept(keys.folder, "clients.crl", keys.clients.revocations(*revoked))
    async with serving(keys) as (_, url, _):
        for form, certificate in certificates.items():
            try:
                if await beats(url, keys.station(certificate)):
                    opened.add(form)
            except (*REFUSED_IN_TLS, InvalidStatus):
                continue
    return opened


async def test_no_certificate_opens_another_station_than_its_own(tmp_path: Path) -> None:
    keys = Keys(tmp_path)

    assert await opened_by(keys, foreign_certificates(keys)) == set()


async def test_no_certificate_that_is_not_valid_opens_any(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    good = {"good": keys.clients.leaf(name(STATION, PARTY), keys.key)}

    assert await opened_by(keys, invalid_certificates(keys) | good) == {"good"}


async def test_without_the_look_at_names_each_of_them_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station_certificates, "names_only", lambda *_: True)
    keys = Keys(tmp_path)

    assert await opened_by(keys, foreign_certificates(keys)) == set(foreign_certificates(keys))


async def test_a_station_that_has_come_by_a_higher_profile_is_not_had_by_a_lower_one() -> None:
    async with running_world() as world:
        await world.gateway.authenticator.set_password(IDENTITY, PASSWORD, None, SecurityProfile.TLS_BASIC)
        with pytest.raises(StationRefused) as refused:
            await world.dial()
        async with world.adapters.units.begin() as unit:
            row = await unit.table(STATION_CREDENTIAL).get(IDENTITY.party_id, STATION)

    assert refused.value.reason is RefusalReason.PROFILE_TOO_LOW
    assert row is not None
    assert row.security_profile == SecurityProfile.TLS_BASIC
