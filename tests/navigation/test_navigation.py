"""A navigation provider gathers what CPOs publish and finds it again; nothing private ever comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from emobility.domain.charging_station import EVSE, Connector, EVSEStatus, Location, PowerType
from emobility.domain.identifiers import Role
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
)
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi import mapping, v221
from emobility.protocols.ocpi.headers import Routing, authorization, routing_headers
from emobility.protocols.ocpi.peers import PEER
from emobility.protocols.ocpi.v221 import write
from roaming_hub.service import HUB
from services.navigation.merging import merged
from services.navigation.prices import price_text
from services.navigation.search import distance_between_m
from services.navigation.service import NavigationService, build
from tests.hub.world import (
    CPO,
    HUB_ORIGIN,
    INTERNAL_TOKEN,
    MSP,
    NSP,
    START,
    Heard,
    Platform,
    World,
    bare_world,
    memory_ports,
    running,
    settings,
    status_code,
    until,
)

ORIGIN = "http://navigation.test"
LOCATIONS = "locations/receiver/NL/TNM"


class Finder:
    """An NSP at the hub beside one CPO."""

    def __init__(self, world: World, service: NavigationService, cpo: Platform) -> None:
        self.world = world
        self.service = service
        self.cpo = cpo

    async def request(self, method: str, path: str, body: Any = None, *, token: str = INTERNAL_TOKEN) -> HttpResponse:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        payload = b"" if body is None else write(body)
        return await self.world.http.request(method, f"{ORIGIN}/navigation{path}", headers=headers, body=payload)

    async def push(self, method: str, path: str, body: Any) -> HttpResponse:
        payload = body if isinstance(body, bytes) else write(body)
        return await self.cpo.call(method, path, to=NSP, body=payload)

    async def own(self, method: str, path: str, body: bytes) -> HttpResponse:
        """Call as the hub would, past its own refusals."""
        ports = self.world.hub.host.ports
        async with ports.units.begin() as unit:
            peer = await unit.table(PEER).get(HUB, NSP.code)
        assert peer is not None
        assert peer.outgoing_token is not None
        sent = {
            "Authorization": authorization(await ports.vault.open(peer.outgoing_token)),
            **routing_headers(Routing(to_party=NSP, from_party=CPO)),
        }
        url = f"{ORIGIN}/navigation/{NSP}/ocpi/2.2.1/{path}"
        return await self.world.http.request(method, url, headers=sent, body=body)

    async def find(self, query: str = "") -> list[dict[str, Any]]:
        answer = await self.world.http.request("GET", f"{ORIGIN}/navigation/{NSP}/stations?{query}", headers={})
        assert answer.status == 200, answer
        stations: list[dict[str, Any]] = msgspec.json.decode(answer.body)["stations"]
        return stations

    async def settled(self) -> None:
        async def is_settled() -> bool:
            return not (await self.service.backlog() + await self.world.hub.backlog())

        await until(is_settled, what="nothing is left to fetch or send")


@pytest.fixture
async def finder() -> AsyncIterator[Finder]:
    world = bare_world()
    cpo = await world.join(CPO, Role.CPO)
    cpo.script = publishing([], [])
    service = build(settings(ORIGIN), memory_ports(world.http, world.clock, world.randomness))
    world.http.mount(ORIGIN, Starlette(routes=[Mount("/navigation", app=service.app)]))
    made = Finder(world, service, cpo)
    async with running(world.hub, service):
        hosted = await made.request("PUT", f"/{NSP}", {"name": "Finder"})
        versions_url = msgspec.json.decode(hosted.body)["versions_url"]
        token_a = await world.invite(NSP, Role.NSP, versions_url)
        registered = await made.request(
            "POST",
            f"/{NSP}/ocpi-register",
            {"versions_url": f"{HUB_ORIGIN}/hub/ocpi/versions", "token_a": token_a},
        )
        assert registered.status == 200, registered
        await made.settled()
        yield made


def publishing(locations: list[v221.Location], tariffs: list[v221.Tariff], page_size: int = 2) -> Any:
    """Answer pulls page by page and pushes with 1000."""

    async def script(heard: Heard) -> Response:
        listed: list[Any] = tariffs if "tariffs/sender" in heard.url else locations
        offset = int(heard.url.partition("offset=")[2] or 0)
        headers = {"X-Total-Count": str(len(listed)), "X-Limit": str(page_size)}
        if offset + page_size < len(listed):
            headers["Link"] = f'<{heard.url.partition("?")[0]}?offset={offset + page_size}>; rel="next"'
        body = write({"data": listed[offset : offset + page_size], "status_code": 1000, "timestamp": START})
        return Response(body, headers=headers, media_type="application/json")

    return script


def location(
    number: int = 1,
    *,
    at: tuple[str, str] = ("52.090736", "5.121420"),
    status: EVSEStatus = EVSEStatus.AVAILABLE,
    power_w: int = 11_000,
    updated: datetime = START,
    tariff_ids: tuple[str, ...] = ("ADHOC",),
) -> v221.Location:
    place = Location(
        party_id=CPO,
        location_id=f"L{number}",
        name=f"Plein {number}",
        address=f"Plein {number}",
        city="Utrecht",
        postal_code="3511 AA",
        country="NLD",
        latitude=Decimal(at[0]),
        longitude=Decimal(at[1]),
        time_zone="Europe/Amsterdam",
        last_updated=updated,
    )
    connector = Connector(
        connector_id=1,
        standard="IEC_62196_T2",
        power_type=PowerType.AC_3_PHASE,
        voltage_v_max=230,
        current_a_max=16,
        power_w_max=power_w,
    )
    evse = EVSE(evse_uid=f"E{number}", emi3_id=f"NL*TNM*E{number}", ocpp_evse_id=4_711, connectors=(connector,))
    shown = mapping.published(evse, status=status, tariff_ids=tariff_ids, last_updated=updated)
    return mapping.location_to_ocpi(place, [shown])


def tariff(*elements: TariffElement, **more: Any) -> Tariff:
    return Tariff(
        **{
            "party_id": CPO,
            "tariff_id": "ADHOC",
            "currency": "EUR",
            "elements": elements,
            "last_updated": START,
            "tariff_type": TariffType.AD_HOC_PAYMENT,
            **more,
        }
    )


def component(dimension: TariffDimension, price: str, vat: int | None = 21) -> PriceComponent:
    return PriceComponent(dimension=dimension, price=Decimal(price), vat_percent=None if vat is None else Decimal(vat))


KWH = TariffElement(components=(component(TariffDimension.ENERGY, "0.30"),))


# Pull and push


async def test_everything_is_fetched_page_by_page_when_asked(finder: Finder) -> None:
    finder.cpo.script = publishing([location(n) for n in range(1, 6)], [mapping.tariff_to_ocpi(tariff(KWH))])

    asked = await finder.request("POST", f"/{NSP}/pulls")
    await finder.settled()

    assert asked.status == 202
    assert [each["location_id"] for each in await finder.find()] == ["L1", "L2", "L3", "L4", "L5"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
@pytest.mark.parametrize("path", ["L1%00", "L1%1f", "L1%7f", "L1/E1%00", "L1?a=%00"])
async def test_a_control_character_in_an_address_is_2001(finder: Finder, method: str, path: str) -> None:
    body = b"" if method == "GET" else write(location())

    answer = await finder.own(method, f"{LOCATIONS}/{path}", body)

    assert (answer.status, status_code(answer)) == (200, 2001)


@pytest.mark.parametrize("text", [b"\\u0000", b"a\\\\\\u0000"])
async def test_nul_in_any_text_of_a_body_is_2001(finder: Finder, text: bytes) -> None:
    whole = write(location()).replace(b'"name":"Plein 1"', b'"name":"' + text + b'"')
    part = b'{"last_updated":"2026-03-01T12:00:00Z","energy_mix":{"supplier_name":"' + text + b'"}}'
    await finder.own("PUT", f"{LOCATIONS}/L1", write(location()))

    put = await finder.own("PUT", f"{LOCATIONS}/L1", whole)
    patch = await finder.own("PATCH", f"{LOCATIONS}/L1", part)

    assert (put.status, status_code(put)) == (200, 2001)
    assert (patch.status, status_code(patch)) == (200, 2001)


async def test_an_escaped_backslash_before_u0000_is_no_nul(finder: Finder) -> None:
    body = write(location()).replace(b'"name":"Plein 1"', b'"name":"\\\\u0000"')

    assert status_code(await finder.own("PUT", f"{LOCATIONS}/L1", body)) == 1000


async def test_an_id_that_ends_a_line_is_none(finder: Finder) -> None:
    body = write(location()).replace(b'"id":"L1"', b'"id":"L1\\n"')

    assert status_code(await finder.own("PUT", f"{LOCATIONS}/L1", body)) == 2001


async def test_a_cpo_that_joins_later_is_fetched_from(finder: Finder) -> None:
    joining = finder.world.platform(MSP, Role.CPO)
    joining.script = publishing([msgspec.structs.replace(location(), country_code="DE", party_id="MSP")], [])
    async with joining.host.ports.units.begin() as unit:
        await joining.host.add_party(unit, MSP, role=Role.CPO, business_name="Later")
        await unit.commit()
    token_a = await finder.world.invite(MSP, Role.CPO, joining.versions_url)
    await joining.host.register(MSP, versions_url=f"{HUB_ORIGIN}/hub/ocpi/versions", token_a=token_a)

    async def is_found() -> bool:
        return [each["cpo_id"] for each in await finder.find()] == ["DE-MSP"]

    await until(is_found, what="the new CPO's location is found")


async def test_a_pull_that_breaks_does_not_end_the_next(finder: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("our own fault")

    finder.cpo.script = publishing([location(1)], [])
    with monkeypatch.context() as patched:
        patched.setattr("services.navigation.pulling.store_location", broken)
        await finder.request("POST", f"/{NSP}/pulls")
        await finder.settled()

    await finder.request("POST", f"/{NSP}/pulls")
    await finder.settled()

    assert [each["location_id"] for each in await finder.find()] == ["L1"]


async def test_objects_of_another_owner_are_ignored_in_a_pull(finder: Finder) -> None:
    foreign = msgspec.structs.replace(location(), country_code="FR", party_id="BAD")
    finder.cpo.script = publishing([foreign, location(2)], [])

    await finder.request("POST", f"/{NSP}/pulls")
    await finder.settled()

    assert [each["location_id"] for each in await finder.find()] == ["L2"]


async def test_a_pushed_location_is_201_then_200(finder: Finder) -> None:
    first = await finder.push("PUT", f"{LOCATIONS}/L1", location())
    second = await finder.push("PUT", f"{LOCATIONS}/L1", location())

    assert (first.status, second.status) == (201, 200)
    assert len(await finder.find()) == 1


async def test_an_evse_and_a_connector_are_put_and_patched_and_raise_what_is_above(finder: Finder) -> None:
    later, latest = START + timedelta(minutes=1), START + timedelta(minutes=2)
    await finder.push("PUT", f"{LOCATIONS}/L1", location())

    evse = msgspec.structs.replace(location().evses[0], status=EVSEStatus.CHARGING, last_updated=later)
    put = await finder.push("PUT", f"{LOCATIONS}/L1/E1", evse)
    patch = {"max_electric_power": 7_400, "last_updated": latest}
    patched = await finder.push("PATCH", f"{LOCATIONS}/L1/e1/1", patch)

    stored = msgspec.json.decode((await finder.push("GET", f"{LOCATIONS}/L1", b"")).body)["data"]
    assert (put.status, patched.status) == (200, 200)
    assert stored["evses"][0]["status"] == "CHARGING"
    assert stored["evses"][0]["connectors"][0]["max_electric_power"] == 7_400
    assert {stored["last_updated"], stored["evses"][0]["last_updated"]} == {"2026-03-01T12:02:00Z"}


async def test_a_status_patch_is_seen_by_the_search(finder: Finder) -> None:
    await finder.push("PUT", f"{LOCATIONS}/L1", location())
    change = {"status": "OUTOFORDER", "last_updated": START + timedelta(seconds=1)}

    await finder.push("PATCH", f"{LOCATIONS}/L1/E1", change)

    assert (await finder.find())[0]["evses"][0]["status"] == "OUTOFORDER"
    assert await finder.find("available=true") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PATCH", f"{LOCATIONS}/L1", {"name": "x"}, (200, 2001)),
        ("PATCH", f"{LOCATIONS}/L1", {"id": "L2", "last_updated": START}, (200, 2001)),
        ("PATCH", f"{LOCATIONS}/L1", {"city": 7, "last_updated": START}, (200, 2001)),
        ("PATCH", f"{LOCATIONS}/L1", {"last_updated": "yesterday"}, (200, 2001)),
        ("PATCH", f"{LOCATIONS}/L9", {"name": "x", "last_updated": START}, (404, 2000)),
        ("PATCH", f"{LOCATIONS}/L1/E9", {"status": "BLOCKED", "last_updated": START}, (404, 2000)),
        ("GET", f"{LOCATIONS}/L9", b"", (404, 2000)),
        ("PUT", f"{LOCATIONS}/L2", location(1), (200, 2001)),
        ("PUT", "locations/receiver/DE/MSP/L1", location(1), (404, 2000)),
        ("PUT", "locations/receiver/NL/TOOLONG/L1", location(1), (404, 2000)),
        ("PUT", f"{LOCATIONS}/L1", {"id": "L1"}, (200, 2001)),
        ("PUT", f"{LOCATIONS}/L1", [], (200, 2001)),
        ("DELETE", f"{LOCATIONS}/L1", b"", (405, 2000)),
        ("DELETE", "tariffs/receiver/NL/TNM/T9", b"", (404, 2000)),
    ],
)
async def test_pushes_that_break_a_rule_are_refused_and_change_nothing(
    finder: Finder, method: str, path: str, body: Any, expected: tuple[int, int]
) -> None:
    await finder.push("PUT", f"{LOCATIONS}/L1", location())
    before = await finder.find()

    answer = await finder.push(method, path, body)

    assert (answer.status, status_code(answer)) == expected
    assert await finder.find() == before


@given(order=st.permutations(range(4)))
def test_the_newest_state_wins_in_whatever_order_locations_arrive(order: list[int]) -> None:
    states = [EVSEStatus.AVAILABLE, EVSEStatus.CHARGING, EVSEStatus.OUTOFORDER, EVSEStatus.BLOCKED]
    versions = [location(status=state, updated=START + timedelta(minutes=n)) for n, state in enumerate(states)]

    stored = None
    for n in order:
        stored = merged(stored, versions[n])

    assert stored == versions[3]


def test_an_older_location_does_not_bring_an_older_status_back() -> None:
    old = location(status=EVSEStatus.AVAILABLE)
    newer = location(status=EVSEStatus.CHARGING, updated=START + timedelta(minutes=1))
    stored = msgspec.structs.replace(old, evses=newer.evses, last_updated=newer.last_updated)

    assert merged(stored, old).evses[0].status is EVSEStatus.CHARGING


def test_a_newer_location_with_an_older_evse_keeps_the_newer_status() -> None:
    stored = location(status=EVSEStatus.CHARGING, updated=START + timedelta(minutes=1))
    renamed = msgspec.structs.replace(location(), name="New name", last_updated=START + timedelta(minutes=2))

    kept = merged(stored, renamed)

    assert (kept.name, kept.evses[0].status) == ("New name", EVSEStatus.CHARGING)


# Search


async def test_stations_are_found_by_place_power_and_words(finder: Finder) -> None:
    await finder.push("PUT", f"{LOCATIONS}/L1", location(1))
    await finder.push("PUT", f"{LOCATIONS}/L2", location(2, at=("52.370216", "4.895168"), power_w=150_000))

    near = await finder.find("latitude=52.09&longitude=5.12&radius_m=1000")
    fast = await finder.find("power_w_min=100000")
    named = await finder.find("search=plein%202%20UTRECHT")
    both = await finder.find("latitude=52.38&longitude=4.9")

    assert [each["location_id"] for each in near] == ["L1"]
    assert [each["location_id"] for each in fast] == ["L2"]
    assert [each["location_id"] for each in named] == ["L2"]
    assert [each["location_id"] for each in both] == ["L2", "L1"]
    assert both[1]["distance_m"] > 30_000


@pytest.mark.parametrize(
    "query",
    [
        "latitude=52",
        "radius_m=5",
        "latitude=x&longitude=5",
        "latitude=NaN&longitude=5",
        "latitude=1e400&longitude=5",
        "latitude=52&longitude=5&radius_m=-1",
        "power_w_min=x",
        "search=" + "x" * 101,
    ],
)
async def test_a_question_that_makes_no_sense_is_422(finder: Finder, query: str) -> None:
    answer = await finder.world.http.request("GET", f"{ORIGIN}/navigation/{NSP}/stations?{query}", headers={})

    assert answer.status == 422


async def test_a_party_that_is_not_hosted_is_404(finder: Finder) -> None:
    for party in ("XX-XXX", "nonsense", "..%2f"):
        answer = await finder.world.http.request("GET", f"{ORIGIN}/navigation/{party}/stations", headers={})
        assert answer.status == 404


async def test_hosting_and_pulling_need_a_token(finder: Finder) -> None:
    hosting = await finder.request("PUT", "/NL-ABC", {"name": "x"}, token="wrong")
    pulling = await finder.request("POST", f"/{NSP}/pulls", token="wrong")
    registering = await finder.request("POST", f"/{NSP}/ocpi-register", {}, token="wrong")

    assert (hosting.status, pulling.status, registering.status) == (401, 401, 401)


async def test_the_price_shown_is_the_ad_hoc_one_gross_and_follows_its_owner(finder: Finder) -> None:
    wholesale = tariff(KWH, tariff_id="WHOLESALE", tariff_type=TariffType.REGULAR)
    await finder.push("PUT", "tariffs/receiver/NL/TNM/WHOLESALE", mapping.tariff_to_ocpi(wholesale))
    await finder.push("PUT", f"{LOCATIONS}/L1", location(tariff_ids=("WHOLESALE", "ADHOC")))

    def shown(stations: list[dict[str, Any]]) -> Any:
        return stations[0]["evses"][0]["connectors"][0]["ad_hoc_price"]

    without = shown(await finder.find())
    await finder.push("PUT", "tariffs/receiver/NL/TNM/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    priced = shown(await finder.find())
    await finder.push("DELETE", "tariffs/receiver/NL/TNM/adhoc", b"")
    deleted = shown(await finder.find())

    assert (without, priced, deleted) == (None, "0.363 EUR per kWh incl. 21 % VAT", None)


async def test_a_location_that_is_not_to_be_published_is_not_found(finder: Finder) -> None:
    await finder.push("PUT", f"{LOCATIONS}/L1", msgspec.structs.replace(location(), publish=False))

    assert await finder.find() == []


async def test_no_number_of_the_station_itself_comes_out(finder: Finder) -> None:
    await finder.push("PUT", f"{LOCATIONS}/L1", location())

    assert "4711" not in str(await finder.find())


def test_prices_follow_the_hour_and_name_every_dimension() -> None:
    night = TariffElement(
        components=(component(TariffDimension.ENERGY, "0.10"),),
        restrictions=TariffRestrictions(
            start_time=datetime(2026, 1, 1, 23).time(),  # noqa: DTZ001 - a time of day
            end_time=datetime(2026, 1, 1, 7).time(),  # noqa: DTZ001 - a time of day
        ),
    )
    rest = TariffElement(
        components=(
            component(TariffDimension.ENERGY, "0.30"),
            component(TariffDimension.PARKING_TIME, "2", None),
            component(TariffDimension.FLAT, "0.50"),
        )
    )
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def text(tariff_: Tariff, now: datetime) -> str | None:
        return price_text(tariff_, now=now, power_w=11_000, time_zone="Europe/Amsterdam")

    noon, midnight = text(tariff(night, rest), at), text(tariff(night, rest), at + timedelta(hours=11))

    assert noon is not None
    assert midnight is not None
    assert "0.363 EUR per kWh" in noon
    assert "2.00 EUR per hour of parking" in noon
    assert "0.605 EUR per session" in noon
    assert "0.121 EUR per kWh" in midnight
    assert text(replace(tariff(TariffElement(components=(component(TariffDimension.ENERGY, "0"),)))), at) == (
        "free of charge"
    )


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        ((52_090_736, 5_121_420), (52_090_736, 5_121_420), 0),
        ((0, 0), (0, 1_000_000), 111_195),
        ((90_000_000, 0), (-90_000_000, 0), 20_015_087),
        ((0, -179_999_999), (0, 179_999_999), 0),
    ],
)
def test_distances_are_great_circles(one: tuple[int, int], other: tuple[int, int], metres: int) -> None:
    assert distance_between_m(one, other) == pytest.approx(metres, abs=1)
