"""The live page: figures and ways on for whoever develops, nothing that could hurt anybody, nowhere in production."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId
from emobility.domain.retail_account import RetailAccount
from emobility.ports.ports import Ports
from emobility.runtime.settings import Settings
from services.driver_mobility import records as emsp
from services.embedded.business import Business, build

KEY = b"k" * 32
HOSTILE = "<script>alert(1)</script>"


def ports_in_memory() -> Ports:
    clock, randomness = VirtualClock(datetime(2022, 3, 27, 12, tzinfo=UTC)), SeededRandomness(1)
    memory = memory_adapters(master_key=KEY, clock=clock, randomness=randomness)
    return Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=memory.event_log,
        units=memory.units,
        vault=memory.vault,
        http=MemoryHttp(),
        signer=Ed25519Signer(KEY),
        payments=SandboxPayments(memory.units),
    )


def business_in(environment: str, ports: Ports) -> Business:
    settings = Settings(
        environment=environment,  # type: ignore[arg-type]  # one of the two
        internal_token=SecretStr("f" * 64),
        master_key=SecretStr(KEY.hex()),
        public_url="https://roaming.example",
    )
    return build(settings, ports)


async def got(business: Business, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=business.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://business.invalid") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/", "/live.css"])
async def test_production_has_no_live_page(path: str) -> None:
    assert (await got(business_in("production", ports_in_memory()), path)).status_code == 404


async def test_an_empty_installation_has_a_page_that_says_so() -> None:
    page = await got(business_in("development", ports_in_memory()), "/")

    assert page.status_code == 200
    for sentence in ("Nobody charges.", "No MSP is hosted here yet.", "No location is published yet."):
        assert sentence in page.text
    assert '<meta http-equiv="refresh" content="5">' in page.text


async def test_what_parties_call_themselves_is_text_and_never_markup() -> None:
    ports = ports_in_memory()
    zon = PartyId("NL-ZON")
    async with ports.units.begin() as unit:
        await unit.table(emsp.MSP).put(emsp.HostedMSP(party_id=zon, name=HOSTILE, nsp_id=None))
        account = RetailAccount(party_id=zon, driver_id="D1", currency="EUR", billed_e4=12345, paid_e4=12300)
        await unit.table(emsp.ACCOUNT).put(account)
        await unit.commit()

    page = await got(business_in("development", ports), "/")

    assert HOSTILE not in page.text
    assert "&lt;script&gt;" in page.text
    assert "1.2345 EUR" in page.text
    assert "0.0045 EUR" in page.text
    assert "D1" not in page.text


async def test_the_page_may_load_nothing_but_its_own_style() -> None:
    business = business_in("development", ports_in_memory())

    page, style = await got(business, "/"), await got(business, "/live.css")

    assert "default-src 'none'; style-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert style.headers["content-type"].startswith("text/css")


async def test_however_many_ask_the_rows_are_read_once_in_a_while() -> None:
    ports = ports_in_memory()
    business = business_in("development", ports)
    before = await got(business, "/")
    async with ports.units.begin() as unit:
        await unit.table(emsp.MSP).put(emsp.HostedMSP(party_id=PartyId("NL-ZON"), name="Zon", nsp_id=None))
        await unit.commit()

    assert (await got(business, "/")).text == before.text
