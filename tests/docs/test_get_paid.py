"""What `docs/how-to/get-paid.md` says of its example is what the commands print, over HTTP to a real server."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import facturx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from typer.testing import CliRunner

from emobility.protocols.en16931.cii import cii_of
from emobility.runtime.http_server import serve_app
from emobility.runtime.network import free_port
from services.cli.__main__ import app
from services.settlement.guarantee_records import CallPolicy
from services.settlement.invoicing import Invoicing
from tests.banking.bank_files import camt, entry
from tests.invoicing.documents import SELLER
from tests.settlement.bank_desk import TODAY, Desk
from tests.settlement.guaranteed import Guaranteed
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP

PAGE: Final = (Path(__file__).parents[2] / "docs/how-to/get-paid.md").read_text()


def told(about: str = "") -> list[tuple[list[str], str]]:
    """The page's commands, each with what it says that they print."""
    found = re.search(rf"<!-- run by tests/docs/test_get_paid.py{about} -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    steps = re.split(r"^\$ wattroam ", found[1], flags=re.MULTILINE)[1:]
    return [(shlex.split(command), output) for command, _, output in (step.partition("\n") for step in steps)]


@asynccontextmanager
async def serving(here: Settling, folder: Path) -> AsyncIterator[None]:
    """Serve the settlement as an installation does."""
    port, stop = free_port(), asyncio.Event()
    installation = {
        "event_log": "postgres",
        "internal_token": "i" * 40,
        "master_key": "00" * 32,
        "business_port": port,
        "gateway_ocpp_port": port,
        "gateway_api_port": port,
        "settlement_port": port,
    }
    (folder / "installation.json").write_text(json.dumps(installation))
    served = Starlette(routes=[Mount("/settlement", app=here.service().app)])
    server = asyncio.create_task(serve_app(served, host="127.0.0.1", port=port, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await server


async def test_the_commands_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_settling() as here:
        desk = Desk(here)
        await desk.open()
        for name, cost_e4 in (("s1", 277_849), ("s2", 150_060)):
            await desk.charge(name, cost_e4)
            await desk.settle()
        invoicing = Invoicing(here.world.ports)
        for party_id in (CPO, MSP):
            await invoicing.enter_company(party_id, SELLER)
        async with serving(here, tmp_path):
            for command, output in told():
                if command[-1] == "arrived.xml":
                    name = (await desk.payout()).end_to_end_id
                    (tmp_path / "arrived.xml").write_bytes(camt([entry(name, "20.00", reference="B-1", on=TODAY)]))
                    rest = [
                        entry(name, "31.77", reference="B-2", on=TODAY),
                        entry("INVOICE 7", "9.99", reference="B-3", on=TODAY),
                    ]
                    (tmp_path / "rest.xml").write_bytes(camt(rest))
                arguments = [*command, "--run-folder", str(tmp_path)]
                ended = await asyncio.to_thread(CliRunner().invoke, app, arguments)
                assert ended.stdout == output, ended.stderr
            await here.follow()

        issued = await invoicing.document(CPO, "NL-TUL-W2022-000001")
        in_pdf = facturx.get_xml_from_pdf((tmp_path / "invoice.pdf").read_bytes())
        assert in_pdf == ("factur-x.xml", cii_of(issued.invoice))
        assert (tmp_path / "pay.xml").read_text().count("<CdtTrfTxInf>") == 1
        assert (await desk.exposure()).owed_e4 == await desk.owed_on_chain() == 9


async def test_a_guarantee_is_called_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_settling() as here:
        desk = await Guaranteed.over(here, calls=CallPolicy.BY_OPERATOR)
        await desk.owes("s1", 277_849)
        desk.pass_days(7)
        await desk.owes("s2", 150_060)
        await desk.days_pass(15)
        async with serving(here, tmp_path):
            for command, output in told(": a guarantee"):
                arguments = [*command, "--run-folder", str(tmp_path)]
                ended = await asyncio.to_thread(CliRunner().invoke, app, arguments)
                assert ended.stdout == output, ended.stderr
                await desk.follow()

        assert (await desk.state()).owed_e4 == 150_109
        assert (await desk.guarantees.policy(CPO)).calls is CallPolicy.AUTOMATIC
