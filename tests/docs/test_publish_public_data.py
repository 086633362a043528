"""What `docs/how-to/publish-public-data.md` shows is what an access point answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, fromstring, indent, tostring

from emobility.domain.charging_station import EVSEStatus
from emobility.events import codec
from emobility.protocols.ocpi import mapping
from services.charging_operations.stations import LocationTerms, require_sayable
from tests.navigation.access_point import LOCATIONS, TARIFFS, access_point
from tests.navigation.test_navigation import KWH, location, publishing, tariff

DOC: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "publish-public-data.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC, re.DOTALL | re.MULTILINE)


def as_shown(body: bytes) -> str:
    root: Element = fromstring(body)  # noqa: S314 - our own
    for each in root.iter():
        each.attrib.pop("version", None)
    indent(root, " ")
    return re.sub(r' xmlns:\w+="[^"]*"', "", tostring(root, encoding="unicode")) + "\n"


async def test_the_status_is_as_shown() -> None:
    (command,), (shown,) = blocks("bash"), blocks("xml")
    (path,) = re.findall(r'"\$PUBLIC/([^"]+)"', command)
    async with access_point(publishing([], [])) as point:
        await point.push("PUT", f"{TARIFFS}/ADHOC", mapping.tariff_to_ocpi(tariff(KWH)))
        await point.push("PUT", f"{LOCATIONS}/L1", location(status=EVSEStatus.CHARGING))
        answer = await point.public(path)

    assert as_shown(answer.body) == shown


def test_the_facts_shown_are_understood() -> None:
    (shown,) = blocks("json")

    terms = codec.decode_with_payload(shown.encode(), LocationTerms)

    require_sayable(terms.facts)
    assert set(json.loads(shown)["facts"]) >= {"help_phone", "is_always_open"}
