"""A national access point shows everybody what CPOs publish for everybody, within a minute, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from xml.etree.ElementTree import Element, fromstring

import msgspec
import pytest

from emobility.adapters.memory import run_virtual
from emobility.domain.charging_station import EVSEStatus
from emobility.domain.identifiers import Role
from emobility.domain.tariff.tariff import TariffType
from emobility.protocols.datex2.publication import NAMESPACES
from emobility.protocols.ocpi import mapping, v221, v230
from services.navigation.public_api import CALLS_BURST
from tests.hub.world import CPO, MSP, NSP, START, status_code
from tests.navigation.access_point import LOCATIONS, ORIGIN, TARIFFS, AccessPoint, access_point
from tests.navigation.test_navigation import KWH, location, publishing, tariff

CANARY = "CANARY-4711"
FRESH = timedelta(seconds=60)


@pytest.fixture
async def point() -> AsyncIterator[AccessPoint]:
    async with access_point(publishing([], [])) as made:
        yield made


def xml(body: bytes) -> Element:
    return fromstring(body)  # noqa: S314 - our own


def texts(root: Element, path: str) -> list[str | None]:
    return [each.text for each in root.iterfind(f".//{path}", NAMESPACES)]


# What is shown


async def test_static_and_dynamic_data_are_shown_in_datex2(point: AccessPoint) -> None:
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", location(status=EVSEStatus.CHARGING))

    table, status = xml((await point.public("datex2/table")).body), xml((await point.public("datex2/status")).body)

    assert texts(table, "fac:externalIdentifier") == ["NL*TNM*E1"]
    assert texts(table, "egi:maxPowerAtSocket") == ["11000"]
    assert texts(table, "locx:countryCode") == ["nl"]
    assert texts(table, "egi:ratePolicy") == ["adHoc"]
    assert texts(status, "egi:status") == ["charging"]
    assert texts(status, "fac:operationStatus") == ["inOperation"]
    assert texts(status, "egi:isAvailable") == ["false"]
    assert (texts(status, "egi:value"), texts(status, "egi:taxRate")) == (["0.36"], ["21"])
    assert texts(status, "egi:additionalInformation/com:values/com:value") == ["0.363 EUR per kWh"]


async def test_a_status_names_objects_of_the_table_in_its_version(point: AccessPoint) -> None:
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", location())
    table = xml((await point.public("datex2/table")).body)
    await point.push("PATCH", f"{LOCATIONS}/L1/E1", {"status": "BLOCKED", "last_updated": START + timedelta(hours=1)})

    status = xml((await point.public("datex2/status")).body)

    named = {(each.get("id"), each.get("version")) for each in table.iter() if each.get("version")}
    referred = [(each.get("id"), each.get("version")) for each in status.iterfind(".//fac:reference", NAMESPACES)]
    assert len(referred) == 3
    assert set(referred) <= named
    rates = {each.get("id") for each in table.iterfind(".//egi:energyRate", NAMESPACES)}
    assert {each.get("id") for each in status.iterfind(".//egi:energyRateReference", NAMESPACES)} == rates


async def test_ocpi_objects_are_shown_as_they_came(point: AccessPoint) -> None:
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", location())

    shown = await point.locations()
    tariffs = msgspec.json.decode((await point.public("tariffs")).body)

    assert msgspec.convert(shown["data"], list[v221.Location]) == [location()]
    assert msgspec.convert(tariffs["data"], list[v221.Tariff]) == [mapping.tariff_to_ocpi(tariff(KWH))]


async def test_ocpi_objects_are_shown_in_the_newer_version_too(point: AccessPoint) -> None:
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", msgspec.structs.replace(location(), wattroam_help_phone="+4512345678"))

    [place] = msgspec.json.decode((await point.public("2.3.0/locations")).body)["data"]
    [price] = msgspec.json.decode((await point.public("2.3.0/tariffs")).body)["data"]

    assert msgspec.convert(place, v230.Location).help_phone == "+4512345678"
    assert msgspec.convert(price, v230.Tariff).tax_included is v230.TaxIncluded.NO


async def test_a_change_is_seen_within_a_minute_and_its_age_is_measured(point: AccessPoint) -> None:
    clock = point.world.clock
    await point.push("PUT", f"{LOCATIONS}/L1", location())
    before = xml((await point.public("datex2/status")).body)
    changed_at = clock.now()
    # What the CPO, the hub and the network may take of the minute.
    clock.step_by(timedelta(seconds=45))
    await point.push("PATCH", f"{LOCATIONS}/L1/E1", {"status": "OUTOFORDER", "last_updated": changed_at})

    status = xml((await point.public("datex2/status")).body)
    metrics = (await point.world.http.request("GET", f"{ORIGIN}/navigation/metrics", headers={})).body.decode()

    (published,) = texts(status, "com:publicationTime")
    assert (texts(before, "egi:status"), texts(status, "egi:status")) == (["available"], ["outOfOrder"])
    assert published is not None
    assert datetime.fromisoformat(published) - changed_at <= FRESH
    assert 'navigation_status_age_seconds_bucket{le="30.0"} 0.0' in metrics
    assert 'navigation_status_age_seconds_bucket{le="60.0"} 1.0' in metrics


# What is not shown


def guarded() -> v221.Location:
    """A location with a secret in each place that isn't for everybody."""
    evse = msgspec.structs.replace(
        location().evses[0], images=[{"url": f"https://a.example/{CANARY}"}], status_schedule=[{"note": CANARY}]
    )
    return msgspec.structs.replace(
        location(tariff_ids=("ADHOC", CANARY)),
        publish_allowed_to=[{"uid": CANARY, "type": "RFID"}],
        related_locations=[{"name": CANARY}],
        images=[{"url": CANARY}],
        opening_times={"twentyfourseven": True, "note": CANARY},
        energy_mix={"is_green_energy": True, "note": CANARY},
        operator=v221.BusinessDetails(name="Charge", logo={"url": CANARY}),
        wattroam_help_phone="+4512345678",
        evses=[
            msgspec.structs.replace(
                evse, connectors=[msgspec.structs.replace(evse.connectors[0], tariff_ids=["ADHOC", CANARY])]
            )
        ],
    )


@pytest.mark.parametrize(
    "path", ["locations", "tariffs", "2.3.0/locations", "2.3.0/tariffs", "datex2/table", "datex2/status"]
)
async def test_no_token_and_no_wholesale_price_is_ever_shown(point: AccessPoint, path: str) -> None:
    wholesale = tariff(KWH, tariff_id=CANARY, tariff_type=TariffType.REGULAR, text_en=CANARY)
    await point.push("PUT", f"{TARIFFS}/{CANARY}", mapping.tariff_to_ocpi(wholesale))
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", guarded())

    answer = await point.public(path)

    assert answer.status == 200
    assert b"ADHOC" in answer.body
    assert CANARY.encode() not in answer.body


@pytest.mark.parametrize("path", ["locations", "2.3.0/locations", "datex2/table", "datex2/status"])
async def test_a_location_that_is_not_public_never_appears(point: AccessPoint, path: str) -> None:
    hidden = msgspec.structs.replace(location(2), publish=False, name=CANARY)
    await point.push("PUT", f"{LOCATIONS}/L2", hidden)
    await point.push("PUT", f"{LOCATIONS}/L1", location())

    answer = await point.public(path)

    assert answer.headers["x-total-count"] == "1"
    assert b"L1" in answer.body
    assert b"L2" not in answer.body
    assert CANARY.encode() not in answer.body


async def test_only_an_access_point_has_public_data(point: AccessPoint) -> None:
    await point.operate("PUT", f"/{NSP}", {"name": "Finder"})

    assert [(await point.public("locations", party=each)).status for each in (NSP, CPO)] == [404, 404]


@pytest.mark.parametrize("role", [Role.NAP, Role.NSP])
@pytest.mark.parametrize(
    "path", ["sessions/sender", "cdrs/sender", "tokens/receiver/NL/TNM/1", "commands/receiver/UNLOCK_CONNECTOR"]
)
async def test_the_hub_gives_who_informs_the_public_nothing_else(point: AccessPoint, role: Role, path: str) -> None:
    other = await point.world.join(MSP, role)

    answer = await other.call("GET" if "commands" not in path else "POST", path, to=CPO, body=b"{}")

    assert status_code(answer) != 1000
    assert not [each.url for each in point.cpo.heard if f"/{path.split('/', maxsplit=1)[0]}/" in each.url]


# How it is asked for


async def test_what_did_not_change_is_not_sent_again(point: AccessPoint) -> None:
    await point.push("PUT", f"{LOCATIONS}/L1", location())
    first = await point.public("datex2/status")

    point.world.clock.step_by(timedelta(minutes=5))
    second = await point.public("datex2/status", If_None_Match=first.headers["etag"])
    await point.push("PATCH", f"{LOCATIONS}/L1/E1", {"status": "BLOCKED", "last_updated": point.world.clock.now()})
    third = await point.public("datex2/status", If_None_Match=first.headers["etag"])

    assert (second.status, second.body, third.status) == (304, b"", 200)


async def test_answers_are_packed_for_whom_that_suits(point: AccessPoint) -> None:
    await point.push("PUT", f"{LOCATIONS}/L1", location())

    packed = await point.public("datex2/table", Accept_Encoding="gzip")
    plain = await point.public("datex2/table", Accept_Encoding="gzip;q=0")

    # The client unpacks.
    assert (packed.headers.get("content-encoding"), plain.headers.get("content-encoding")) == ("gzip", None)
    assert int(packed.headers["content-length"]) < len(plain.body)
    assert packed.body == plain.body


async def test_changes_since_a_moment_are_what_came_since(point: AccessPoint) -> None:
    for number in (1, 2, 3):
        await point.push("PUT", f"{LOCATIONS}/L{number}", location(number))
    point.world.clock.step_by(timedelta(minutes=1))
    since = f"{point.world.clock.now():%Y-%m-%dT%H:%M:%SZ}"

    # Its owner's clock is behind, and it counts all the same.
    await point.push("PATCH", f"{LOCATIONS}/L2/E2", {"status": "BLOCKED", "last_updated": START + timedelta(seconds=1)})
    await point.push("PATCH", f"{LOCATIONS}/L3", {"publish": False, "last_updated": START + timedelta(seconds=1)})
    changed = await point.locations(f"changed_since={since}")

    assert [each["id"] for each in changed["data"]] == ["L2"]
    assert changed["removed"] == ["NL-TNM/L3"]


async def test_a_new_price_is_a_change_of_where_it_is_sold(point: AccessPoint) -> None:
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
    await point.push("PUT", f"{LOCATIONS}/L1", location())
    point.world.clock.step_by(timedelta(minutes=1))
    since = f"{point.world.clock.now():%Y-%m-%dT%H:%M:%SZ}"
    assert (await point.locations(f"changed_since={since}"))["data"] == []

    dearer = tariff(KWH, last_updated=START + timedelta(seconds=30))
    await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(dearer))

    assert [each["id"] for each in (await point.locations(f"changed_since={since}"))["data"]] == ["L1"]


async def test_pages_hold_all_there_is_once(point: AccessPoint) -> None:
    for number in range(1, 6):
        await point.push("PUT", f"{LOCATIONS}/L{number}", location(number))

    found: list[str] = []
    link: str | None = "locations?limit=2&cpo=NL-TNM"
    while link is not None:
        answer = await point.public(link)
        found += [each["id"] for each in msgspec.json.decode(answer.body)["data"]]
        following = answer.headers.get("link")
        link = None if following is None else following.partition("/public/")[2].partition(">")[0]

    assert found == ["L1", "L2", "L3", "L4", "L5"]
    assert (await point.locations("cpo=DE-XXX"))["total"] == 0


def test_who_asks_too_often_waits() -> None:
    async def scenario() -> None:
        async with access_point(publishing([], [])) as point:
            answers = [await point.public("tariffs") for _ in range(int(CALLS_BURST) + 1)]

        assert {each.status for each in answers[:-1]} == {200}
        assert (answers[-1].status, int(answers[-1].headers["retry-after"]) >= 1) == (429, True)

    run_virtual(scenario())  # a slow machine gives nobody more answers


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "changed_since=yesterday", "cpo=" + "x" * 9])
async def test_a_question_that_makes_no_sense_is_422(point: AccessPoint, query: str) -> None:
    assert (await point.public(f"datex2/table?{query}")).status == 422
