"""The page's message is the one we make, its few lines of Python check it, and its command checks a receipt."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.message_signatures import KeyName, Message, unsigned_request
from emobility.protocols.ocpi.signing import CLOCK_SKEW_MAX, MESSAGE_AGE_MAX
from services.cli.ocpi_commands import ocpi
from tests.hub.test_receipts import keys, requested, the_document
from tests.hub.test_signed_messages import a_world

PAGE: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "verify-a-message.md").read_text()
# RFC 9421, B.1.4
KEY: Final = Ed25519PrivateKey.from_private_bytes(
    base64.urlsafe_b64decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU=")
)


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)\n```", PAGE, flags=re.DOTALL)
    assert found is not None
    return found[1]


def test_the_message_of_the_page_is_what_we_send() -> None:
    head, body = block("http").split("\n\n", 1)
    stated = {name.lower(): value for name, value in (line.split(": ", 1) for line in head.split("\n")[1:])}
    made = ("content-digest", "wattroam-target", "signature-input", "signature")
    sent = Message(
        method="POST",
        headers={name: value for name, value in stated.items() if name not in made},
        body=body.encode(),
    )

    unsigned = unsigned_request(
        sent,
        target=stated["wattroam-target"],
        key=KeyName(party_id=PartyId("NL-TNM"), key_id="w0"),
        created=1_772_366_400,
        nonce="b3k2pp5k7z-50gnwp.yemd",
    )

    signed = unsigned.signed(KEY.sign(unsigned.base))
    assert {name: signed[name] for name in made[:2]} == {name: stated[name] for name in made[:2]}
    assert signed["signature"] == stated["signature"]
    assert signed["signature-input"] == stated["signature-input"]


def test_the_lines_of_the_page_verify_it_and_find_a_moved_digit() -> None:
    code = compile(block("python"), "verify-a-message.md", "exec")
    exec(code, {"message": block("http")})  # noqa: S102 - the page's own lines

    for before, after in (("12.5", "125"), ("c-7", "c-8"), ("POST ", "PUT "), ("b3k2", "b3k3")):
        with pytest.raises((AssertionError, InvalidSignature)):
            exec(code, {"message": block("http").replace(before, after)})  # noqa: S102


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    old, ahead = re.findall(r"more than (\d+) s ago or (\d+) s ahead", PAGE)[0]

    assert timedelta(seconds=int(old)) == MESSAGE_AGE_MAX + CLOCK_SKEW_MAX
    assert timedelta(seconds=int(ahead)) == CLOCK_SKEW_MAX


async def test_the_command_of_the_page_checks_a_receipt() -> None:
    world = await a_world()
    await world.send()
    await world.hub.receipts.bind()
    world.clock.step_to(world.clock.now() + timedelta(days=1))
    await world.hub.receipts.close_days()
    document = await the_document(world)
    [event] = await requested(world)
    hub_key, (_, receiver_key) = await keys(world)

    def run(document: dict[str, Any], *options: str) -> tuple[int, str]:
        told = CliRunner().invoke(
            ocpi, ["receipt", "-", "--hub-key", hub_key.hex(), *options], input=json.dumps(document)
        )
        return told.exit_code, told.output

    code, output = run(document, "--receiver-key", receiver_key.hex(), "--root", f"0x{event.root.hex()}")
    assert code == 0
    assert output.startswith("THE_RECEIVER_SIGNED: POST cdrs from NL-TNM to DE-MSP\nHTTP 200, S 1000")
    assert "stands on the chain" in output
    assert run(document)[1].startswith("THE_HUB_SAYS")
    document["receipt"]["ocpi_status"] = 2000
    code, output = run(document)
    assert (code, "does not hold this receipt" in output) == (1, True)
