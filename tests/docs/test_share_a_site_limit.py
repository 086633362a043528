"""The how-to's groups are accepted, and what it says of each step is what the load manager gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from tests.operations.charging_site import GROUPS, site

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "share-a-site-limit.md"
LOOKS: Final = 3


def steps(text: str) -> list[tuple[str, dict[str, str]]]:
    """Return the table of section 2: the step, and what each EVSE has after it."""
    section = text.split("## 2.")[1].split("## 3.", maxsplit=1)[0]
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return [(row[0], dict(zip(header[1:], row[1:], strict=True))) for row in rows]


async def test_the_worked_example_is_what_happens() -> None:
    text = PAGE.read_text()
    bodies = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)]
    async with site() as here:
        for group_id, body in zip(("site", "feeder"), bodies, strict=True):
            answer = await here.here.api("PUT", f"{GROUPS}/{group_id}", body)
            assert answer.status_code == 200, answer.text

        for step, expected in steps(text):
            place = re.search(r"(CS\d)(?:/(\d))?", step)
            assert place is not None, step
            key = (place[1], int(place[2] or 0))
            if "comes" in step:
                here.plug(key)
            elif "leaves" in step:
                await here.unplug(key)
            else:
                here.online[key[0]] = "is back" in step
            for _ in range(LOOKS):
                await here.look(minutes=0.1)
            given = {
                f"{station}/{number}": f"{socket.drawn_da() / 10:g}" if socket.car else ""
                for (station, number), socket in here.sockets.items()
            }
            assert {name: given[name] for name in expected} == expected, step
