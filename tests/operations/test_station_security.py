"""Passwords, profiles and certificates of stations, from the operator's API to the station and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from charge_point_gateway.security import SecurityProfile, station_identity
from emobility.protocols.certificates.hash_data import CertificateHashData
from services.charging_operations.certificate_watch import CERTIFICATE_RENEWAL
from services.charging_operations.installed_certificates import INSTALLED_CERTIFICATE
from services.charging_operations.security_profiles import PROFILE_UPGRADE
from tests.gateway.certificate_makers import CA, NOW, csr, name, new_key, pem
from tests.operations.real_gateway import PASSWORD, RealGateway, accepting, open_with_gateway
from tests.operations.world import CPO, OTHER_CPO, START

PATH = f"/{CPO}/stations/CS-9"
STATIONS_CA = CA("Stations")
DAY = timedelta(days=1)


@asynccontextmanager
async def at_our_time(**options: Any) -> AsyncIterator[RealGateway]:
    """A world at a moment at which the certificates of the tests are valid."""
    async with open_with_gateway(**options) as gateway:
        gateway.here.clock.step_by(NOW - START)
        yield gateway


def by_action(**answers: Any) -> Any:
    return lambda action, payload: answers[action](payload) if callable(answers[action]) else answers[action]


# -- A01: passwords ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_an_operator_changes_a_password_that_nobody_sees(version: str) -> None:
    taken: list[str] = []

    def says(action: str, payload: dict[str, Any]) -> dict[str, Any]:
        if action == "ChangeConfiguration":
            taken.append(payload["value"])
            return {"status": "Accepted"}
        (setting,) = payload["setVariableData"]
        taken.append(setting.pop("attributeValue"))
        return {"setVariableResult": [{**setting, "attributeStatus": "Accepted"}]}

    async with open_with_gateway() as gateway:
        await gateway.station("CS-9", version, says)

        rotation = await gateway.here.api("POST", f"{PATH}/credential/rotate")
        shown = await gateway.here.api("GET", f"{PATH}/credential")
        await gateway.disconnect("CS-9")
        await gateway.connect("CS-9", version, password=taken[0])
        after = await gateway.here.api("GET", f"{PATH}/credential")

        assert (rotation.status_code, rotation.json()["state"]) == (200, "CONFIRMED")
        assert shown.json()["rotation"]["state"] == "CONFIRMED"
        assert after.json() == {
            "has_password": True,
            "ocpp_version": None,
            "security_profile": 1,
            "rotation": None,
        }
        assert taken[0] not in rotation.text + shown.text
        foreign = await gateway.here.api("POST", f"/{OTHER_CPO}/stations/CS-9/credential/rotate")
        assert foreign.status_code == 404
        await gateway.disconnect("CS-9")
        assert (await gateway.here.api("POST", f"{PATH}/credential/rotate")).status_code == 409


# -- A05: profiles ----------------------------------------------------------------------------------------------------

UPGRADE = {"security_profile": 2, "csms_url": "wss://csms.example/ocpp/NL-TNM", "configuration_slot": 2}
PRIORITY = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}


def network(**changed: Any) -> Any:
    answers = {
        "GetVariables": {"getVariableResult": [{**PRIORITY, "attributeStatus": "Accepted", "attributeValue": "1,3,2"}]},
        "SetNetworkProfile": {"status": "Accepted"},
        "SetVariables": {"setVariableResult": [{**PRIORITY, "attributeStatus": "RebootRequired"}]},
        "Reset": {"status": "Scheduled"},
    }
    return by_action(**(answers | changed))


async def comes_by(gateway: RealGateway, profile: SecurityProfile) -> None:
    identity = station_identity(CPO.code, "CS-9")
    await gateway.service.authenticator.authenticate(
        path=f"/ocpp/{CPO}/CS-9",
        username="CS-9",
        password=PASSWORD,
        subprotocols=("ocpp2.0.1",),
        address="::1",
        profile=profile,
    )
    assert await gateway.service.authenticator.credential(identity) is not None


@pytest.mark.parametrize(("version", "word"), [("2.0.1", "OCPP20"), ("2.1", "OCPP21")])
async def test_a_profile_is_raised_step_by_step_and_never_falls(version: str, word: str) -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", version, network())

        upgrade = (await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE)).json()
        before = (await gateway.here.api("GET", f"{PATH}/security-profile")).json()
        await comes_by(gateway, SecurityProfile.TLS_BASIC)
        after = (await gateway.here.api("GET", f"{PATH}/security-profile")).json()
        again = await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE)

        heard = dict(station.heard)
        assert list(heard) == ["GetVariables", "SetNetworkProfile", "SetVariables", "Reset"]
        profile = heard["SetNetworkProfile"]["connectionData"]
        assert (heard["SetNetworkProfile"]["configurationSlot"], profile["ocppVersion"]) == (2, word)
        assert (profile["securityProfile"], profile["ocppCsmsUrl"]) == (2, UPGRADE["csms_url"])
        assert heard["SetVariables"]["setVariableData"] == [{**PRIORITY, "attributeValue": "2,1,3"}]
        assert heard["Reset"] == {"type": "OnIdle"}
        assert (upgrade["state"], before["security_profile"], before["upgrade"]["state"]) == (
            *("RESTARTING", 1),
            "RESTARTING",
        )
        assert (after["security_profile"], after["upgrade"]["state"]) == (2, "CONNECTED")
        assert (again.status_code, again.json()["error"]) == (409, "ProfileWouldFall")


@pytest.mark.parametrize(
    ("changed", "state", "steps"),
    [
        ({"GetVariables": {"getVariableResult": [{**PRIORITY, "attributeStatus": "UnknownVariable"}]}}, "REFUSED", 1),
        ({"SetNetworkProfile": {"status": "Rejected"}}, "REFUSED", 2),
        ({"SetVariables": {"setVariableResult": [{**PRIORITY, "attributeStatus": "Rejected"}]}}, "REFUSED", 3),
        ({"Reset": {"status": "Rejected"}}, "REFUSED", 4),
    ],
)
async def test_a_station_that_will_not_stops_it_where_it_stands(
    changed: dict[str, Any], state: str, steps: int
) -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", answers=network(**changed))

        upgrade = (await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE)).json()

        assert (upgrade["state"], len(station.heard)) == (state, steps)
        assert [row.state for row in await gateway.here.rows(PROFILE_UPGRADE)] == [state]


async def test_what_broke_off_is_told_and_may_be_asked_again() -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", answers=network())

        async def gone(payload: dict[str, Any]) -> None:
            await station.socket.close(1001, "gone")

        answers = station.answers

        def breaks_off(action: str, payload: dict[str, Any]) -> dict[str, Any] | None:
            if action != "SetNetworkProfile":
                return answers(action, payload)
            gateway._running.append(_task(gone(payload)))
            return None

        station.answers = breaks_off
        broken = (await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE)).json()
        await gateway.disconnect("CS-9")
        await gateway.connect("CS-9", answers=network())
        whole = (await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE)).json()

        assert (broken["state"], broken["detail"]) == ("UNANSWERED", "TIMED_OUT")
        assert whole["state"] == "RESTARTING"


def _task(work: Any) -> Any:
    import asyncio  # noqa: PLC0415 - here alone

    return asyncio.create_task(work)


@pytest.mark.parametrize("status", ["Accepted", "RebootRequired"])
async def test_a_1_6_station_is_raised_by_its_key(status: str) -> None:
    answers = by_action(ChangeConfiguration={"status": status}, Reset={"status": "Accepted"})
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", "1.6", answers)

        upgrade = (await gateway.here.api("POST", f"{PATH}/security-profile", {"security_profile": 2})).json()

        assert upgrade["state"] == "RESTARTING"
        reset = [("Reset", {"type": "Soft"})] if status == "RebootRequired" else []
        assert station.heard == [("ChangeConfiguration", {"key": "SecurityProfile", "value": "2"}), *reset]


@pytest.mark.parametrize(
    ("wrong", "status_code"),
    [
        ({"security_profile": 1}, 422),
        ({"security_profile": 4}, 422),
        ({"csms_url": "ws://csms.example"}, 422),
        ({"configuration_slot": None}, 422),
        ({"configuration_slot": 1}, 409),
        ({"security_profile": 3}, 409),
    ],
)
async def test_a_profile_that_the_station_could_not_come_by_is_not_set(wrong: dict[str, Any], status_code: int) -> None:
    async with open_with_gateway() as gateway:
        station = await gateway.station("CS-9", answers=network())

        answer = await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE | wrong)

        assert answer.status_code == status_code, answer.text
        assert [action for action, _ in station.heard if action != "GetVariables"] == []


async def test_a_station_with_its_certificate_rises_to_profile_3_and_no_password_is_asked_for() -> None:
    async with at_our_time(authority=STATIONS_CA.authority()) as gateway:
        await gateway.station("CS-9", answers=network())
        request = {"csr": csr(new_key(), name("CS-9", CPO.code))}
        issued = (await gateway.here.api("POST", f"{PATH}/certificates", request)).json()

        upgrade = await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE | {"security_profile": 3})
        assert upgrade.json()["state"] == "RESTARTING"

        await gateway.here.api("POST", f"{PATH}/certificates/{issued['serial_number']}/revoke")
        revoked = await gateway.here.api("POST", f"{PATH}/security-profile", UPGRADE | {"security_profile": 3})
        assert revoked.status_code == 409


# -- M03-M05: certificates in stations --------------------------------------------------------------------------------

ROOT = CA("A root")


def named(certificate: x509.Certificate, algorithm: str = "SHA256") -> dict[str, str]:
    return CertificateHashData.of(certificate.serial_number, certificate, algorithm).written()


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA512"])
async def test_what_is_installed_is_known_again_by_its_hashes_and_dropped(algorithm: str) -> None:
    other = {"hashAlgorithm": "SHA256", "issuerNameHash": "aa", "issuerKeyHash": "bb", "serialNumber": "1"}
    chain = {"certificateType": "V2GCertificateChain", "certificateHashData": other}
    held = [
        {"certificateType": "CSMSRootCertificate", "certificateHashData": named(ROOT.certificate, algorithm)},
        chain | {"childCertificateHashData": [other | {"serialNumber": "2"}]},
    ]
    answers = by_action(
        InstallCertificate={"status": "Accepted"},
        GetInstalledCertificateIds=lambda _: {"status": "Accepted", "certificateHashDataChain": held},
        DeleteCertificate={"status": "Accepted"},
    )
    async with at_our_time() as gateway:
        station = await gateway.station("CS-9", answers=answers)
        path = f"{PATH}/installed-certificates"
        wanted = {"certificate_type": "CSMSRootCertificate", "certificate": pem(ROOT.certificate).decode()}

        installed = (await gateway.here.api("POST", path, wanted)).json()
        (alone,) = (await gateway.here.api("GET", path)).json()
        refreshed = await gateway.here.api("POST", f"{path}/refresh")
        rows = (await gateway.here.api("GET", path)).json()
        ours = next(row for row in rows if row["subject"] == "CN=A root")
        gone = await gateway.here.api("DELETE", f"{path}/{ours['certificate_id']}")

        assert installed["certificate_id"] == alone["certificate_id"]
        assert refreshed.status_code == 200
        assert {(row["certificate_type"], row["above_id"] is None) for row in rows} == {
            ("CSMSRootCertificate", True),
            ("V2GCertificateChain", True),
            ("V2GCertificateChain", False),
        }
        assert (ours["hash_data"], ours["not_after"]) == (named(ROOT.certificate, algorithm), alone["not_after"])
        assert gone.json()["result"] == "ACCEPTED"
        assert station.heard[-1] == ("DeleteCertificate", {"certificateHashData": named(ROOT.certificate, algorithm)})
        assert len(await gateway.here.rows(INSTALLED_CERTIFICATE)) == 2
        assert (await gateway.here.api("DELETE", f"{path}/{ours['certificate_id']}")).status_code == 404


async def test_a_1_6_station_is_asked_for_each_kind_in_its_own_words() -> None:
    def ids(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["certificateType"] == "ManufacturerRootCertificate":
            return {"status": "NotFound"}
        return {"status": "Accepted", "certificateHashData": [named(ROOT.certificate)]}

    answers = by_action(InstallCertificate={"status": "Accepted"}, GetInstalledCertificateIds=ids)
    async with at_our_time() as gateway:
        station = await gateway.station("CS-9", "1.6", answers)
        wanted = {"certificate_type": "CSMSRootCertificate", "certificate": pem(ROOT.certificate).decode()}

        await gateway.here.api("POST", f"{PATH}/installed-certificates", wanted)
        await gateway.here.api("POST", f"{PATH}/installed-certificates/refresh")

        kinds = [payload["certificateType"] for _, payload in station.heard]
        assert kinds == ["CentralSystemRootCertificate", *kinds[1:]]
        assert set(kinds[1:]) == {"CentralSystemRootCertificate", "ManufacturerRootCertificate"}
        (row,) = await gateway.here.rows(INSTALLED_CERTIFICATE)
        assert (row.certificate_type, row.subject) == ("CSMSRootCertificate", "CN=A root")


@pytest.mark.parametrize(
    ("certificate", "kind", "says", "status_code"),
    [
        ("no PEM", "CSMSRootCertificate", "Accepted", 422),
        (pem(CA("Sub", below=ROOT).certificate).decode(), "CSMSRootCertificate", "Accepted", 422),
        (pem(ROOT.certificate, ROOT.certificate).decode(), "CSMSRootCertificate", "Accepted", 422),
        (pem(ROOT.certificate).decode(), "AnyRoot", "Accepted", 422),
        (pem(ROOT.certificate).decode(), "CSMSRootCertificate", "Rejected", 200),
        (pem(ROOT.certificate).decode(), "CSMSRootCertificate", "Failed", 200),
    ],
)
async def test_what_a_station_does_not_hold_is_not_listed(
    certificate: str, kind: str, says: str, status_code: int
) -> None:
    async with at_our_time() as gateway:
        await gateway.station("CS-9", answers=lambda _action, _payload: {"status": says})
        wanted = {"certificate_type": kind, "certificate": certificate}

        answer = await gateway.here.api("POST", f"{PATH}/installed-certificates", wanted)

        assert answer.status_code == status_code, answer.text
        assert await gateway.here.rows(INSTALLED_CERTIFICATE) == []


# -- what ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "trigger"),
    [
        ("1.6", ("ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"})),
        ("2.0.1", ("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"})),
    ],
)
async def test_what_ends_is_listed_counted_and_renewed_once_a_day(version: str, trigger: Any) -> None:
    async with at_our_time(authority=STATIONS_CA.authority()) as gateway:
        here, operations = gateway.here, gateway.here.operations
        station = await gateway.station("CS-9", version, accepting)
        gateway.service.own_certificates = {"server": NOW + 20 * DAY}
        request = {"csr": csr(new_key(), name("CS-9", CPO.code))}
        issued = (await here.api("POST", f"{PATH}/certificates", request)).json()
        root = {"certificate_type": "CSMSRootCertificate", "certificate": pem(ROOT.certificate).decode()}
        await here.api("POST", f"{PATH}/installed-certificates", root)
        station.heard.clear()

        async def ending(days: int) -> list[str]:
            answer = await here.api("GET", f"/{CPO}/certificates/ending?within_days={days}")
            return [each["kind"] for each in answer.json()]

        assert await ending(19) == []
        assert await ending(30) == ["server"]
        assert await ending(100) == ["server", "station"]
        assert await ending(1_001) == ["server", "station", "CSMSRootCertificate"]
        await operations.certificates.look()
        assert station.heard == []
        here.clock.step_by(61 * DAY)
        for _ in range(2):
            await operations.certificates.look()
        assert station.heard == [trigger]
        assert 'certificates_ending_soon{kind="station"} 1.0' in operations.metrics.exposition().decode()
        here.clock.step_by(DAY)
        await operations.certificates.look()
        assert station.heard == [trigger] * 2
        (renewal,) = await here.rows(CERTIFICATE_RENEWAL)
        assert (renewal.serial_number, renewal.answer) == (issued["serial_number"], "Accepted")

        await station.call("SignCertificate", request)
        station.heard.clear()
        here.clock.step_by(2 * DAY)
        await operations.certificates.look()
        assert trigger not in station.heard
        assert 'certificates_ending_soon{kind="station"}' not in operations.metrics.exposition().decode()
        assert (await here.api("GET", f"/{CPO}/certificates/ending?within_days=4000")).status_code == 422


async def test_a_station_that_is_away_is_asked_to_renew_when_it_is_back() -> None:
    async with at_our_time(authority=STATIONS_CA.authority()) as gateway:
        await gateway.station("CS-9")
        await gateway.here.api("POST", f"{PATH}/certificates", {"csr": csr(new_key(), name("CS-9", CPO.code))})
        await gateway.disconnect("CS-9")
        gateway.here.clock.step_by(80 * DAY)

        await gateway.here.operations.certificates.look()
        assert await gateway.here.rows(CERTIFICATE_RENEWAL) == []
        station = await gateway.connect("CS-9")
        await gateway.here.operations.certificates.look()

        assert [action for action, _ in station.heard] == ["TriggerMessage"]


async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    held = [{"certificateType": "CSMSRootCertificate", "certificateHashData": named(ROOT.certificate)}]
    answers = by_action(
        InstallCertificate={"status": "Accepted"},
        GetInstalledCertificateIds={"status": "Accepted", "certificateHashDataChain": held},
        TriggerMessage={"status": "Accepted"},
        GetVariables={"getVariableResult": [{**PRIORITY, "attributeStatus": "Accepted", "attributeValue": "1"}]},
        SetNetworkProfile={"status": "Rejected"},
    )
    async with at_our_time(postgres_dsn=postgres_dsn, authority=STATIONS_CA.authority()) as gateway:
        here = gateway.here
        await gateway.station("CS-9", answers=answers)
        root = {"certificate_type": "CSMSRootCertificate", "certificate": pem(ROOT.certificate).decode()}
        await here.api("POST", f"{PATH}/installed-certificates", root)
        await here.api("POST", f"{PATH}/installed-certificates/refresh")
        await here.api("POST", f"{PATH}/certificates", {"csr": csr(new_key(), name("CS-9", CPO.code))})
        await here.api("POST", f"{PATH}/security-profile", UPGRADE)
        here.clock.step_by(80 * DAY)
        await here.operations.certificates.look()

        (installed,) = await here.rows(INSTALLED_CERTIFICATE)
        (renewal,) = await here.rows(CERTIFICATE_RENEWAL)
        (upgrade,) = await here.rows(PROFILE_UPGRADE)
        ending = (await here.api("GET", f"/{CPO}/certificates/ending?within_days=1000")).json()
        assert (installed.subject, installed.hash_data) == ("CN=A root", named(ROOT.certificate))
        assert (renewal.answer, upgrade.state, upgrade.detail) == ("Accepted", "REFUSED", "Rejected")
        assert [each["kind"] for each in ending] == ["station", "CSMSRootCertificate"]
