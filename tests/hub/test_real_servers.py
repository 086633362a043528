"""The same over real sockets and PostgreSQL: a CPO's push, through the hub, to an NSP's search."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.postgres import open_postgres
from emobility.adapters.signing import Ed25519Signer
from emobility.adapters.system import SystemClock, SystemRandomness, SystemTimer
from emobility.domain.charging_station import EVSE, Connector, EVSEStatus, Location, PowerType
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement, TariffType
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import mapping
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, write
from emobility.runtime.http_server import serve_app
from emobility.runtime.settings import Settings
from roaming_hub.service import build as build_hub
from services.navigation.service import build as build_navigation
from tests.hub.world import CPO, INTERNAL_TOKEN, NSP, anyone, running, until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_location() -> tuple[Location, mapping.PublishedEVSE]:
    location = Location(
        party_id=CPO,
        location_id="L1",
        name="Plein",
        address="Plein 1",
        city="Utrecht",
        postal_code="3511 AA",
        country="NLD",
        latitude=Decimal("52.090736"),
        longitude=Decimal("5.12142"),
        time_zone="Europe/Amsterdam",
        last_updated=NOW,
    )
    evse = EVSE(
        evse_uid="E1",
        emi3_id="NL*TNM*E1",
        ocpp_evse_id=1,
        connectors=(
            Connector(
                connector_id=1,
                standard="IEC_62196_T2",
                power_type=PowerType.AC_3_PHASE,
                voltage_v_max=230,
                current_a_max=32,
                power_w_max=22_000,
            ),
        ),
    )
    return location, mapping.published(evse, status=EVSEStatus.AVAILABLE, tariff_ids=["ADHOC"], last_updated=NOW)


def a_tariff() -> Tariff:
    return Tariff(
        party_id=CPO,
        tariff_id="ADHOC",
        currency="EUR",
        tariff_type=TariffType.AD_HOC_PAYMENT,
        elements=(
            TariffElement(
                components=(
                    PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.40"), vat_percent=Decimal(21)),
                )
            ),
        ),
        last_updated=NOW,
    )


def pulled_and_pushed() -> list[Interface]:
    """A CPO whose tariff must be pulled; its location is pushed."""
    tariffs = Interface(ModuleID.TARIFFS, InterfaceRole.SENDER)
    locations = Interface(ModuleID.LOCATIONS, InterfaceRole.SENDER)

    @tariffs.route("GET")
    async def list_tariffs(call: OCPICall) -> Reply:
        return call.paged([mapping.tariff_to_ocpi(a_tariff())], page=call.page(), total=1)

    @locations.route("GET")
    async def list_locations(call: OCPICall) -> Reply:
        return call.paged([], page=call.page(), total=0)

    return [tariffs, locations]


async def test_a_pushed_location_and_a_pulled_price_are_found_over_real_sockets(
    postgres_dsn: str, free_port: int
) -> None:
    origin = f"http://127.0.0.1:{free_port}"
    settings = Settings.model_validate(
        {
            "environment": "development",
            "database_url": postgres_dsn,
            "public_url": origin,
            "internal_token": INTERNAL_TOKEN,
            "master_key": "ab" * 32,
            "embedded_origins": (origin,),
        }
    )
    stop, listening = asyncio.Event(), asyncio.Event()
    bearer = {"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"}
    clock, randomness = SystemClock(), SystemRandomness()
    async with (
        open_postgres(
            postgres_dsn, master_key=settings.master_key_bytes, clock=clock, randomness=randomness
        ) as postgres,
        GuardedHttpClient(embedded_origins=[origin]) as http,
    ):
        ports = Ports(
            clock=clock,
            timer=SystemTimer(),
            randomness=randomness,
            event_log=postgres.event_log,
            units=postgres.units,
            vault=postgres.vault,
            http=http,
            signer=Ed25519Signer(b"k" * 32),
            payments=cast("Any", None),
        )
        http.allow_origin(origin)
        hub, navigation = build_hub(settings, ports), build_navigation(settings, ports)
        cpo = OCPIHost(ports, service="cpo", base_url=f"{origin}/cpo", interfaces=pulled_and_pushed())
        cpo_app = Starlette()
        cpo.mount_on(cpo_app, authorize=anyone)
        app = Starlette(
            routes=[
                Mount("/hub", app=hub.app),
                Mount("/navigation", app=navigation.app),
                Mount("/cpo", app=cpo_app),
            ]
        )
        serving = asyncio.create_task(
            serve_app(app, host="127.0.0.1", port=free_port, stop=stop, on_listening=lambda _: listening.set())
        )
        await listening.wait()

        async def post(method: str, path: str, body: object) -> dict[str, Any]:
            answer = await http.request(method, f"{origin}{path}", headers=bearer, body=write(body))
            assert answer.status in {200, 201}, answer
            return msgspec.json.decode(answer.body, type=dict[str, Any])

        async def join(party: PartyId, role: Role, mount: str) -> None:
            base = f"/{mount}/{party}"
            invited = await post(
                "POST",
                "/hub/admin/registrations",
                {"party_id": party.code, "role": role, "versions_url": f"{origin}{base}/ocpi/versions"},
            )
            await post("POST", f"{base}/ocpi-register", invited)

        async with running(hub, navigation, cpo):
            async with ports.units.begin() as unit:
                await cpo.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
                await unit.commit()
            await join(CPO, Role.CPO, "cpo")
            await post("PUT", f"/navigation/{NSP}", {"name": "Finder"})
            await join(NSP, Role.NSP, "navigation")
            location, evse = a_location()
            async with ports.units.begin() as unit:
                await cpo.deliveries.enqueue(
                    unit,
                    own_party=CPO,
                    to_party=NSP,
                    method="PUT",
                    module=ModuleID.LOCATIONS,
                    interface_role=InterfaceRole.RECEIVER,
                    path=mapping.owner_path(CPO, "L1"),
                    object_key="location/L1",
                    body=mapping.location_to_ocpi(location, [evse]),
                    correlation_id="c-1",
                )
                await unit.commit()

            async def quiet() -> bool:
                return not (await hub.backlog() + await navigation.backlog() + await cpo.pending())

            await until(quiet, what="everything is delivered")
            found = await http.request(
                "GET",
                f"{origin}/navigation/{NSP}/stations?latitude=52.09&longitude=5.12&radius_m=1000&available=true",
                headers={},
            )
            parties = await http.request("GET", f"{origin}/hub/admin/parties", headers=bearer)
            metrics = await http.request("GET", f"{origin}/hub/metrics", headers={})
        stop.set()
        await serving

    [station] = msgspec.json.decode(found.body)["stations"]
    assert station["name"] == "Plein"
    assert station["distance_m"] < 200
    [shown] = station["evses"]
    assert (shown["evse_uid"], shown["status"]) == ("E1", "AVAILABLE")
    assert shown["connectors"][0]["ad_hoc_price"] == "0.484 EUR per kWh incl. 21 % VAT"
    assert {(each["party_id"], each["status"]) for each in msgspec.json.decode(parties.body)} == {
        ("BE-NSP", "CONNECTED"),
        ("NL-TNM", "CONNECTED"),
    }
    assert b'ocpi_requests_total{module="locations",peer="BE-NSP",status="1000"} 1.0' in metrics.body
