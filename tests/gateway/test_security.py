"""Who may connect, how often anyone may guess, and what is kept of a password."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from charge_point_gateway import security, token_buckets
from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import (
    STATION_CREDENTIAL,
    RefusalReason,
    StationAuthenticator,
    StationRefused,
    WeakStationPassword,
    identity_from_path,
    station_identity,
)
from charge_point_gateway.server import basic_credentials
from emobility.adapters.memory import run_virtual
from tests.gateway.conftest import PARTY, PASSWORD, STATION, running_world

IDENTITY = station_identity(PARTY, STATION)


async def attempt(world: Any, *, password: str = "wrong", address: str = "::1", station: str = STATION) -> Any:
    try:
        return await world.gateway.admit(
            path=f"/ocpp/{PARTY}/{station}",
            username=station,
            password=password,
            subprotocols=("ocpp1.6",),
            address=address,
        )
    except StationRefused as refused:
        return refused.reason


async def test_the_right_password_lets_a_station_in(world: Any) -> None:
    admission = await attempt(world, password=PASSWORD)

    assert (admission.identity, admission.version) == (IDENTITY, OCPPVersion.V16)


async def test_a_password_opens_no_other_station_and_no_other_party(world: Any) -> None:
    await world.gateway.authenticator.set_password(station_identity(PARTY, "CS-9"), PASSWORD[::-1], None)

    assert await attempt(world, password=PASSWORD, station="CS-9") is RefusalReason.WRONG_CREDENTIALS
    with pytest.raises(StationRefused):
        await world.gateway.admit(
            path=f"/ocpp/NL-XXX/{STATION}",
            username=STATION,
            password=PASSWORD,
            subprotocols=("ocpp1.6",),
            address="::1",
        )


async def test_a_user_name_that_is_not_the_station_of_the_path_is_refused(world: Any) -> None:
    with pytest.raises(StationRefused) as refused:
        await world.gateway.admit(
            path=f"/ocpp/{PARTY}/{STATION}",
            username="CS-2",
            password=PASSWORD,
            subprotocols=("ocpp1.6",),
            address="::1",
        )

    assert refused.value.http_status == 401


async def test_only_a_keyed_hash_of_the_password_is_stored(world: Any) -> None:
    async with world.adapters.units.begin() as unit:
        row = await unit.table(STATION_CREDENTIAL).get(IDENTITY.party_id, STATION)

    assert PASSWORD not in repr(row)
    assert len(row.password_hash) == 32
    same = StationAuthenticator(
        world.adapters.units, world.ports.timer, world.clock, master_key=b"another key of 32 bytes........."
    )
    with pytest.raises(StationRefused):
        await same.authenticate(
            path=f"/ocpp/{PARTY}/{STATION}",
            username=STATION,
            password=PASSWORD,
            subprotocols=("ocpp1.6",),
            address="::1",
        )


def test_a_thousand_guesses_from_a_thousand_addresses_get_ten_tries_a_minute() -> None:
    async def attack() -> None:
        async with running_world() as world:
            outcomes = [await attempt(world, address=f"10.0.{n // 250}.{n % 250}") for n in range(1_000)]
            assert outcomes.count(RefusalReason.WRONG_CREDENTIALS) == security.FAILURES_PER_MINUTE_PER_IDENTITY
            assert outcomes.count(RefusalReason.TOO_MANY_ATTEMPTS) == 990
            await asyncio.sleep(60)
            later = [await attempt(world, address=f"10.9.{n // 250}.{n % 250}") for n in range(100)]
            assert later.count(RefusalReason.WRONG_CREDENTIALS) == security.FAILURES_PER_MINUTE_PER_IDENTITY

    run_virtual(attack())


async def test_guessing_does_not_lock_the_true_station_out_of_its_own_address(world: Any) -> None:
    await attempt(world, password=PASSWORD, address="192.0.2.1")
    for n in range(100):
        await attempt(world, address=f"10.0.0.{n}")

    assert await attempt(world, address="10.0.0.200") is RefusalReason.TOO_MANY_ATTEMPTS
    assert (await attempt(world, password=PASSWORD, address="192.0.2.1")).identity == IDENTITY


async def test_one_address_that_tries_many_stations_is_stopped(world: Any) -> None:
    outcomes = [await attempt(world, address="10.0.0.1", station=f"GUESS-{n}") for n in range(100)]

    assert outcomes.count(RefusalReason.WRONG_CREDENTIALS) == security.FAILURES_PER_MINUTE_PER_ADDRESS


async def test_a_known_and_an_unknown_station_run_out_of_attempts_alike(world: Any) -> None:
    known = [await attempt(world, address=f"10.1.0.{n}") for n in range(20)]
    unknown = [await attempt(world, address=f"10.2.0.{n}", station="NOBODY") for n in range(20)]

    assert known == unknown


async def test_what_is_remembered_of_attackers_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_buckets, "KEYS_MAX", 50)
    for n in range(200):
        await attempt(world, address=f"10.0.0.{n}", station=f"GUESS-{n}")

    authenticator = world.gateway.authenticator
    assert len(authenticator._by_address) == len(authenticator._by_identity) == 50


@pytest.mark.parametrize("password", ["", "1234", "short-but-random-9x", "a" * 32, "ab" * 16, "x" * 41, "pässwörd" * 3])
async def test_a_password_a_person_could_have_chosen_is_refused(world: Any, password: str) -> None:
    with pytest.raises(WeakStationPassword):
        await world.gateway.authenticator.set_password(IDENTITY, password, None)


async def test_a_changed_password_counts_from_the_next_connection(world: Any) -> None:
    await world.gateway.authenticator.set_password(IDENTITY, PASSWORD[::-1], None)

    assert await attempt(world, password=PASSWORD) is RefusalReason.WRONG_CREDENTIALS
    assert (await attempt(world, password=PASSWORD[::-1])).identity == IDENTITY


async def test_a_station_pinned_to_a_version_speaks_no_other(world: Any) -> None:
    await world.gateway.authenticator.set_password(IDENTITY, PASSWORD, "2.0.1")

    assert await attempt(world, password=PASSWORD) is RefusalReason.NO_SUBPROTOCOL


@pytest.mark.parametrize(
    ("path", "station"),
    [("/ocpp/NL-TNM/CS%2D1", "CS-1"), ("/ocpp/nl-tnm/CS-1", "CS-1"), ("/ocpp/NL-TNM/a%40b?x=1", "a@b")],
)
def test_an_identity_is_percent_decoded(path: str, station: str) -> None:
    assert identity_from_path(path) == station_identity(PARTY, station)


@pytest.mark.parametrize(
    "path",
    ["/ocpp/NL-TNM/", "/ocpp/NL-TNM/a%2Fb", "/ocpp/NL-TNM/%0a", "/ocpp/NL-TNM/" + "x" * 49, "/ocpp/NL-TNM/a/b", "x"],
)
def test_what_is_no_identity_is_refused(path: str) -> None:
    with pytest.raises(StationRefused):
        identity_from_path(path)


def test_two_authorization_headers_are_no_credentials() -> None:
    assert basic_credentials(["Basic YTpi", "Basic YTpi"], "/ocpp/NL-TNM/a") == (None, None)
    assert basic_credentials(["Basic YTpi"], "/ocpp/NL-TNM/a") == ("a", "b")
    assert basic_credentials(["basic YTpiOmM="], "/ocpp/NL-TNM/a") == ("a", "b:c")


async def test_the_right_password_is_let_in_however_many_were_guessed_from_wherever(world: Any) -> None:
    await attempt(world, password=PASSWORD, address="192.0.2.1")
    for n in range(100):
        await attempt(world, address="192.0.2.1")
        await attempt(world, address=f"10.0.0.{n}")

    for address in ("192.0.2.1", "10.0.0.1", "198.51.100.7"):
        assert await attempt(world, address=address) is RefusalReason.TOO_MANY_ATTEMPTS
        assert (await attempt(world, password=PASSWORD, address=address)).identity == IDENTITY


KEY = "0001020304050607FFFFFFFFFFFFFFFFFFFFFFFF"


def test_a_key_of_1_6_that_is_sent_as_bytes_is_read_in_its_digits() -> None:
    """The example of OCPP-J 1.6, 6.2: AL1000 and the key above."""
    read = basic_credentials(["Basic QUwxMDAwOgABAgMEBQYH////////////////"], "/ocpp/NL-TNM/AL1000")

    assert read == ("AL1000", KEY.lower())
    assert basic_credentials(["Basic " + base64.b64encode(b"\xff:a").decode()], "/ocpp/NL-TNM/a") == (None, None)


async def test_a_station_comes_by_its_key_as_bytes_and_as_digits(world: Any) -> None:
    key = "8f1d3a5577b0c2e46092aafe1357db24c0ffee11"
    await world.gateway.authenticator.set_password(IDENTITY, key, None)

    _, as_bytes = basic_credentials(
        ["Basic " + base64.b64encode(f"{STATION}:".encode() + bytes.fromhex(key)).decode()], f"/ocpp/{PARTY}/{STATION}"
    )

    assert as_bytes is not None
    for password in (as_bytes, key):
        assert (await attempt(world, password=password)).identity == IDENTITY
    assert await attempt(world, password=key[:-1] + "2") is RefusalReason.WRONG_CREDENTIALS
