"""Who sees what: tariffs by agreement, places and states for those who are told, nothing of one CPO for another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.agreement import is_signed
from emobility.domain.charging_station import EVSEStatus
from emobility.domain.identifiers import PartyId, Role
from emobility.events.cdr import AgreementSigned
from emobility.events.charging import ConnectorStatusChanged
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import MissingAtPeer, PeerRefused
from emobility.protocols.ocpi.v221 import ModuleID
from emobility.runtime.access import Access
from services.charging_operations.records import EVSES, TOKEN
from tests.operations.world import (
    CPO,
    INTERNAL_TOKEN,
    MASTER_KEY,
    NSP,
    OTHER_CPO,
    PARTNERS,
    START,
    STATION,
    World,
    agreement,
    evse,
    open_for_business,
    tariff_terms,
    world,
)


def status(word: str, *, evse_id: int = 1, minute: int = 1) -> ConnectorStatusChanged:
    return ConnectorStatusChanged(
        party_id=CPO,
        charging_station_id=STATION,
        ocpp_evse_id=evse_id,
        connector_id=1,
        status=word,
        changed_at=START + timedelta(minutes=minute),
    )


async def test_an_emsp_sees_the_tariffs_its_agreement_assigns_and_no_other() -> None:
    async with open_for_business() as here:
        fetched = await here.ocpi("GET", ModuleID.TARIFFS)
        pushed = here.emsp.got("tariffs")

        assert [tariff["id"] for tariff in fetched] == ["WHOLESALE"]
        assert {tariff["id"] for tariff in pushed} == {"WHOLESALE"}
        (location,) = await here.ocpi("GET", ModuleID.LOCATIONS)
        assert location["evses"][0]["connectors"][0]["tariff_ids"] == ["WHOLESALE"]


async def test_versions_of_a_tariff_that_wait_for_a_partner_all_reach_it_in_order() -> None:
    async with open_for_business() as here:
        here.http.cut(PARTNERS)
        for price in ("0.40", "0.50"):
            here.clock.step_by(timedelta(hours=1))
            await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", tariff_terms(price))
        here.http.mend(PARTNERS)
        await here.settle()

        prices = [tariff["elements"][0]["price_components"][0]["price"] for tariff in here.emsp.got("tariffs")]
        assert prices == [0.3, 0.4, 0.5]


async def test_a_navigation_provider_sees_what_a_passer_by_pays_and_nothing_wholesale() -> None:
    async with open_for_business() as here:
        await here.api("PUT", f"/{CPO}/subscribers/{NSP}", {})
        await here.settle()

        assert {tariff["id"] for tariff in here.nsp.got("tariffs")} == {"ADHOC"}
        connectors = here.nsp.got("locations")[-1]["evses"][0]["connectors"]
        assert connectors[0]["tariff_ids"] == ["ADHOC"]


async def test_the_hub_tells_who_navigates() -> None:
    async with open_for_business() as here:
        client = await here.emsp.host.connect(PartyId("NL-EMP"), CPO)
        info = v221.ClientInfo(
            country_code="NL",
            party_id="NAV",
            role=Role.NSP,
            status=v221.ConnectionStatus.CONNECTED,
            last_updated=START,
        )
        side = v221.InterfaceRole.RECEIVER
        await client.put(ModuleID.HUBCLIENTINFO.value, side, "/NL/NAV", info, to_party=CPO, correlation_id="x")
        await here.settle()

        assert {tariff["id"] for tariff in here.nsp.got("tariffs")} == {"ADHOC"}


async def test_a_state_reaches_the_partners_once_and_an_older_one_changes_nothing() -> None:
    async with open_for_business() as here:
        before = len(here.emsp.got("locations"))
        await here.report(status("Occupied", minute=5), status("Charging", minute=6), status("Available", minute=2))

        (shown,) = here.emsp.got("locations")[before:]
        assert (shown["uid"], shown["status"]) == ("CS1-1", "CHARGING")
        rows = {row.evse_uid: row.status for row in await here.rows(EVSES)}
        assert rows == {"CS1-1": EVSEStatus.CHARGING, "CS1-2": EVSEStatus.UNKNOWN}


async def test_a_station_that_is_out_of_order_takes_its_evses_along() -> None:
    async with open_for_business() as here:
        await here.report(status("Faulted", evse_id=0))

        assert {row.status for row in await here.rows(EVSES)} == {EVSEStatus.OUTOFORDER}


async def test_a_location_never_shows_the_stations_own_identity() -> None:
    async with open_for_business() as here:
        await here.api(
            "PUT",
            f"/{CPO}/stations/SECRET-OCPP-NAME",
            {"location_id": "LOC1", "evses": [evse(1, station="PUBLIC")]},
        )
        await here.settle()

        assert "SECRET-OCPP-NAME" not in repr(here.emsp.received)
        assert "PUBLIC-1" in repr(here.emsp.received)


async def test_locations_are_paged_and_found_one_by_one() -> None:
    async with open_for_business() as here:
        location = await here.ocpi("GET", ModuleID.LOCATIONS, "/LOC1")
        connector = await here.ocpi("GET", ModuleID.LOCATIONS, "/LOC1/CS1-2/1")

        assert [each["uid"] for each in location["evses"]] == ["CS1-1", "CS1-2"]
        assert connector["max_electric_power"] == 11_040
        assert await here.ocpi("GET", ModuleID.LOCATIONS, "", limit="1", offset="1") == []
        for path in ("/NOWHERE", "/LOC1/NOTHING", "/LOC1/CS1-1/9"):
            with pytest.raises(MissingAtPeer):
                await here.ocpi("GET", ModuleID.LOCATIONS, path)


async def test_an_emsp_fetches_its_sessions_and_cdrs() -> None:
    async with open_for_business() as here:
        for number in ("1", "2"):
            at = int(number) * 100
            await here.authorize(transaction_id=number, ocpp_evse_id=1)
            await here.report(await here.started(number, at=at), here.ended(number, at=at + 60))

        assert len(await here.ocpi("GET", ModuleID.CDRS)) == 2
        assert len(await here.ocpi("GET", ModuleID.CDRS, limit="1")) == 1
        assert len(await here.ocpi("GET", ModuleID.SESSIONS, date_from="2022-01-01T00:00:00Z")) == 2
        assert await here.ocpi("GET", ModuleID.SESSIONS, date_from="2023-01-01T00:00:00Z") == []
        with pytest.raises(PeerRefused):
            await here.ocpi("GET", ModuleID.SESSIONS)


async def test_tokens_are_fetched_and_patched_by_their_owner() -> None:
    async with open_for_business() as here:
        path = "/NL/EMP/04A1B2C3D4"
        await here.ocpi("PATCH", ModuleID.TOKENS, path, {"valid": False, "last_updated": "2022-03-27T09:00:00Z"})

        assert (await here.ocpi("GET", ModuleID.TOKENS, path))["valid"] is False
        (row,) = await here.rows(TOKEN)
        assert not row.is_valid
        with pytest.raises(PeerRefused):
            await here.ocpi("PATCH", ModuleID.TOKENS, path, {"valid": True})
        with pytest.raises(MissingAtPeer):
            await here.ocpi("GET", ModuleID.TOKENS, "/DE/EMX/04A1B2C3D4")


@pytest.mark.parametrize("wrong", [{"last_updated": "yesterday"}, {"last_updated": None}, {"valid": 5}, {"type": []}])
async def test_a_token_patched_with_what_is_none_is_2001(wrong: dict[str, Any]) -> None:
    async with open_for_business() as here:
        changes = {"last_updated": "2022-03-27T09:00:00Z"} | wrong

        with pytest.raises(PeerRefused) as refusal:
            await here.ocpi("PATCH", ModuleID.TOKENS, "/NL/EMP/04A1B2C3D4", changes)

        assert refusal.value.status_code == 2001


async def test_an_older_state_of_a_token_never_replaces_a_newer_one() -> None:
    async with open_for_business() as here:
        await here.put_token(valid=False, last_updated="2022-03-27T10:00:00Z")
        await here.put_token(valid=True, last_updated="2022-03-27T09:00:00Z")

        (row,) = await here.rows(TOKEN)
        assert not row.is_valid


@pytest.mark.parametrize(
    "path", ["/locations", "/stations", "/sessions", "/cdrs", "/quarantine", "/energy", "/agreements", "/disputes"]
)
async def test_nothing_of_one_cpo_is_shown_to_another(path: str) -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended(import_wh=90_000))
        token = await party_token(here, OTHER_CPO)

        assert (await here.api("GET", f"/{CPO}{path}", token=token)).status_code == 403
        assert (await here.api("GET", f"/{CPO}{path}", token="z" * 40)).status_code == 401
        own = await here.api("GET", f"/{OTHER_CPO}{path}", token=token)
        assert own.status_code == 200
        assert "CS1" not in own.text


async def test_one_cpo_neither_credits_nor_resolves_for_another() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1")
        await here.report(await here.started(), here.ended())
        (cdr,) = await here.issued()

        answer = await here.api("POST", f"/{OTHER_CPO}/cdrs/{cdr.cdr_id}/credit", {"reason": "mine"})

        assert answer.status_code == 404


async def test_events_of_a_cpo_that_is_not_hosted_here_mean_nothing() -> None:
    async with open_for_business() as here:
        stranger = PartyId("FR-XXX")
        await here.report(await here.started(party_id=stranger), here.ended(party_id=stranger))

        assert await here.quarantine() == []
        assert (await here.ledger()).metered == 0


async def test_an_agreement_needs_the_emsps_own_signature() -> None:
    async with world() as here:
        key = await here.ports.signer.public_key(PartyId("NL-EMP"))
        forged = agreement(emsp_signature="00" * 64)

        answer = await here.api("PUT", f"/{CPO}/agreements", {"agreement": forged, "emsp_public_key": key})

        assert answer.status_code == 422


async def test_signed_terms_do_not_change_under_their_version() -> None:
    async with open_for_business() as here:
        assert (await here.sign(agreement(dispute_period_h=1))).status_code == 409
        assert (await here.sign(agreement(version=2, dispute_period_h=1))).status_code == 200


async def test_a_version_that_both_signed_is_told_once_with_its_terms() -> None:
    async with open_for_business() as here:
        again = await here.sign(agreement())
        await here.sign(agreement(version=2, dispute_period_h=1))

        logged = [each.envelope.event async for each in here.ports.event_log.read(["cdrs"])]
        told = [event for event in logged if isinstance(event, AgreementSigned)]
    assert again.status_code == 200
    assert [(event.holder, event.agreement.version) for event in told] == [(CPO, 1), (CPO, 2)]
    assert all(is_signed(event.agreement) for event in told)


async def test_the_gateway_gets_a_stations_password() -> None:
    async with open_for_business() as here:
        known = await here.api("PUT", f"/{CPO}/stations/{STATION}/credential", {"password": "p" * 32})
        unknown = await here.api("PUT", f"/{CPO}/stations/GHOST/credential", {"password": "p" * 32})

        assert (known.status_code, unknown.status_code) == (200, 404)
        assert here.gateway.credentials == [f"{CPO}/{STATION}"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/certificates", {"csr": "a"}),
        ("GET", "/certificates", None),
        ("POST", "/certificates/7f/revoke", None),
    ],
)
async def test_certificates_are_those_of_a_station_of_the_party(method: str, path: str, body: Any) -> None:
    async with open_for_business() as here:
        unknown = await here.api(method, f"/{CPO}/stations/GHOST{path}", body)
        foreign = await here.api(method, f"/{CPO}/stations/{STATION}{path}", body, token="of nobody")

        assert (unknown.status_code, foreign.status_code) == (404, 401)


@pytest.mark.parametrize(
    ("method", "path", "body", "status_code"),
    [
        ("PUT", f"/{CPO}/stations/CS9", {"location_id": "NOWHERE", "evses": []}, 404),
        ("PUT", f"/{CPO}/stations/CS9", {"location_id": "LOC1", "evses": [evse(1), evse(1)]}, 422),
        ("PUT", f"/{CPO}/tariffs/T", {"currency": "EUR", "elements": []}, 422),
        ("PUT", f"/{CPO}/tariffs/T", b"not json", 422),
        ("PUT", "/FR-NOT/tariffs/T", tariff_terms(), 404),
        ("PUT", "/nowhere/locations/L", {}, 404),
        ("GET", f"/{CPO}/cdrs?limit=many", None, 422),
        ("POST", f"/{CPO}/tariffs/WHOLESALE/market", {"prices": []}, 404),
        ("POST", f"/{CPO}/quarantine/none/resolve", {"outcome": "WAIVE", "who": "a", "why": "b"}, 404),
    ],
)
async def test_what_can_not_be_is_refused(method: str, path: str, body: object, status_code: int) -> None:
    async with open_for_business() as here:
        assert (await here.api(method, path, body)).status_code == status_code


async def party_token(here: World, party_id: PartyId) -> str:
    access = Access(INTERNAL_TOKEN, units=here.ports.units, master_key=MASTER_KEY)
    async with here.ports.units.begin() as unit:
        token = await access.issue(
            unit, party_id, purpose="test", randomness=here.ports.randomness, now=here.clock.now()
        )
        await unit.commit()
    return token
