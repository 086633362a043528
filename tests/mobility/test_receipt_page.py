"""The driver gets the receipt of a settled charge, and whoever holds its file has it checked behind a QR code."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, Final

import httpx
import pytest
import zxingcpp
from fastapi import FastAPI, Response
from msgspec.structs import replace

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.cdr import credit_of
from emobility.domain.receipt.checking import Check, Verdict, verify_receipt
from emobility.domain.receipt.document import RECEIPT_BYTES_MAX, Receipt, canonical, read
from emobility.protocols.cdr_standing import SettlementUnavailable
from emobility.protocols.receipts import verify_on_chain
from emobility.runtime.qr_code import QUIET_ZONE
from emobility.runtime.tries_by_address import REST
from services.driver_mobility import receipt_checking
from services.driver_mobility.check_page import CHECKS_MAX
from services.driver_mobility.receipt_checking import EXPLAINED, WAITING_MAX, ChecksBusy, ReceiptChecking
from services.driver_mobility.receipts import fingerprint_of
from tests.domain.receipt.world import a_file, sealed
from tests.mobility.beside_settlement import BesideSettlement, beside_settlement, charged
from tests.mobility.conftest import BASE, MSP, RFID, World
from tests.mobility.test_page import ME, log_in

CHECK: Final = f"/mobility/{MSP}/check"
MODULE_PIXELS: Final = 4
SVG: Final = re.compile(r"<svg.*?</svg>", re.DOTALL)
FOREIGN: Final = a_file()
"""NL-ZON's, under a key of its own."""
_READ: Final = read(FOREIGN, Receipt)
FORGED: Final = canonical(sealed(replace(_READ, record=replace(_READ.record, seller=MSP.code))))
"""In our name, and signed all over by another key."""


@pytest.fixture
async def beside(world: World) -> BesideSettlement:
    return await beside_settlement(world)


@pytest.fixture
async def memory(memory_world: World) -> BesideSettlement:
    return await beside_settlement(memory_world)


@pytest.fixture
async def settled(memory: BesideSettlement) -> tuple[BesideSettlement, str, bytes]:
    """A settled charge: the world, the driver and the receipt's file."""
    driver_id = await memory.world.enrol()
    await charged(memory.world)
    await memory.settle()
    bill_id = await bill_of(memory.world, driver_id)
    return memory, driver_id, await file_of(memory.world, driver_id, bill_id)


async def bill_of(world: World, driver_id: str) -> str:
    bills = await world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts")
    return str(bills[0]["bill_id"])


async def file_of(world: World, driver_id: str, name: str) -> bytes:
    """The file as the driver's app gets it."""
    answer = await world.http.request(
        "GET",
        f"{BASE}/mobility/{MSP}/drivers/{driver_id}/receipts/{name}.json",
        headers={"Authorization": f"Bearer {world.settings.internal_token.get_secret_value()}"},
    )
    assert answer.status == 200, answer.body
    return answer.body


async def sent(browser: httpx.AsyncClient, written: bytes, path: str = CHECK) -> httpx.Response:
    """Have a file checked."""
    return await browser.post(path, files={"receipt": ("receipt.json", written, "application/json")})


def decoded(svg: str) -> str:
    """Read a QR code from the page's own SVG, with somebody else's reader."""
    box = re.search(r'viewBox="0 0 (\d+) \1"', svg)
    path = re.findall(r'\bd="([^"]+)"', svg)[-1]
    assert box is not None
    side = int(box[1])
    rows = [bytearray(b"\xff" * side) for _ in range(side)]
    x, y = 0, 0.0
    for command, written in re.findall(r"([Mmh])([^Mmh]*)", path):
        numbers = [float(number) for number in re.findall(r"-?\d*\.?\d+", written)]
        if command == "h":
            rows[int(y)][x : x + int(numbers[0])] = bytes(int(numbers[0]))
        x, y = (0, 0.0) if command == "M" else (x, y)
        x += int(numbers[0])
        y += numbers[1] if len(numbers) > 1 else 0
    assert not any(row != b"\xff" * side for row in rows[:QUIET_ZONE]), "no reader finds it on a dark page"
    pixels = b"".join(bytes(module for module in row for _ in range(MODULE_PIXELS)) * MODULE_PIXELS for row in rows)
    image = memoryview(pixels).cast("B", shape=[side * MODULE_PIXELS, side * MODULE_PIXELS])
    (found,) = zxingcpp.read_barcodes(image)
    return found.text


async def test_a_driver_follows_a_charge_to_its_receipt_and_anyone_can_check_it(beside: BesideSettlement) -> None:
    world = beside.world
    driver_id = await world.enrol()
    await charged(world)
    page = f"{ME}/receipts/{await bill_of(world, driver_id)}"
    async with world.browser() as browser:
        await log_in(browser, driver_id)
        listed = await browser.get(f"{ME}/charges")
        stages = [(await browser.get(page)).text]
        for step in (beside.take, beside.close):
            await step()
            stages.append((await browser.get(page)).text)
        too_early = await browser.get(f"{page}.json")
        await beside.follow()
        shown, file, again = [await browser.get(each) for each in (page, f"{page}.json", f"{page}.json")]

    final = unescape(shown.text)
    assert f'href="{page}"' in listed.text
    for words, text in zip(
        ("on its way to the settlement", "end of the period", "their signatures"), stages, strict=True
    ):
        assert "Not settled yet" in text
        assert words in text
        assert "<svg" not in text
        assert ".json" not in text
    assert (too_early.status_code, "not settled yet" in too_early.text) == (409, True)
    assert f'href="{page}.json"' in final
    for explained in EXPLAINED.values():
        assert explained.asks in final
        assert explained.trust in final
    verification = verify_receipt(file.content, ReceiptProofs())
    assert verification.receipt is not None
    assert verification.is_accepted
    assert (await verify_on_chain(verification.receipt, beside.chain)).verdict is Verdict.HOLDS
    for finding in verification.findings:
        assert finding.says in final
    chain = verification.receipt.chain
    transaction = await beside.chain.receipt(bytes.fromhex(chain.transaction))
    assert transaction is not None
    for where in (f"block {transaction.block_number}", f"0x{chain.book}", f"chain {chain.chain_id}", chain.transaction):
        assert where in final
    assert file.headers["content-disposition"].startswith("attachment")
    assert file.content == again.content


async def test_neither_page_nor_file_tells_a_wholesale_amount_or_a_card(
    settled: tuple[BesideSettlement, str, bytes],
) -> None:
    beside, driver_id, file = settled
    async with beside.world.browser() as browser:
        await log_in(browser, driver_id)
        page = (await browser.get(f"{ME}/receipts/{await bill_of(beside.world, driver_id)}")).text
        public = (await sent(browser, file)).text

    for text in (page, public, file.decode()):
        for hidden in ("30000", "30_000", "3.0000", "W1", RFID, "NL-EMA-C00001", "Lovelace"):
            assert hidden not in text


async def test_the_code_on_the_page_leads_whoever_scans_it_to_the_check_of_that_file(
    settled: tuple[BesideSettlement, str, bytes],
) -> None:
    beside, driver_id, file = settled
    bill_id = await bill_of(beside.world, driver_id)
    async with beside.world.browser() as browser, beside.world.browser() as stranger:
        await log_in(browser, driver_id)
        page = (await browser.get(f"{ME}/receipts/{bill_id}")).text
        svg = SVG.search(page)
        assert svg is not None
        link = decoded(svg[0])
        opened = await stranger.get(link)
        checked = await sent(stranger, file, link)

    assert link == f"{BASE}{CHECK}/{fingerprint_of(file)}"
    assert f'href="{link}"' in page
    assert opened.status_code == 200
    assert fingerprint_of(file) in opened.text
    for secret in (bill_id, driver_id, "5.4450", "10.000", "NL-TNM"):
        assert secret not in opened.text
    assert checked.status_code == 200
    assert "nothing in it was changed" in checked.text
    for shown in (bill_id, "5.4450", "10.000 kWh", "Look yourself"):
        assert shown in checked.text


async def test_a_link_nobody_issued_answers_as_one_that_was(settled: tuple[BesideSettlement, str, bytes]) -> None:
    beside, _, file = settled
    issued, made_up = fingerprint_of(file), "ab" * 32
    async with beside.world.browser() as browser:
        answers = [await browser.get(f"{CHECK}/{each}") for each in (issued, made_up)]
        strange = [await browser.get(f"{CHECK}/{each}") for each in ("ab", "AB" * 32, "zz" * 32)]

    assert answers[0].text.replace(issued, made_up) == answers[1].text
    assert [each.status_code for each in answers] == [200, 200]
    assert {each.status_code for each in strange} == {404}


async def test_the_file_of_another_link_is_told_apart(settled: tuple[BesideSettlement, str, bytes]) -> None:
    beside, _, file = settled
    async with beside.world.browser() as browser:
        answer = await sent(browser, file, f"{CHECK}/{'ab' * 32}")

    assert answer.status_code == 422
    assert "This is not the file that the link is of" in answer.text


async def test_what_was_changed_is_refused_with_the_rule_that_it_breaks(
    settled: tuple[BesideSettlement, str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, _, file = settled
    monkeypatch.setattr("services.driver_mobility.check_page.TriesByAddress.may_try", lambda *_, **__: True)
    async with beside.world.browser() as browser:
        for place in range(0, len(file), 61):
            changed = file[:place] + bytes([file[place] ^ 1]) + file[place + 1 :]
            answer = await sent(browser, changed)

            assert answer.status_code == 422, place
            assert "<strong>No.</strong>" in answer.text
            assert "5.4450" not in answer.text


async def test_what_is_no_receipt_is_refused_and_never_becomes_markup(memory: BesideSettlement) -> None:
    nonsense = [
        b"{}",
        b"null",
        b"[" * 50_000,
        b"\xff\xfe",
        b'{"form":"<script>alert(1)</script>"}',
        b"<script>alert(1)",
    ]
    async with memory.world.browser() as browser:
        answers = [await sent(browser, each) for each in nonsense]
        nothing = [
            await browser.post(CHECK),
            await sent(browser, b""),
            await browser.post(CHECK, data={"receipt": "text"}),
            await browser.post(CHECK, content=b"x", headers={"content-type": "multipart/form-data; boundary=y"}),
            await browser.post(CHECK, content=b"x", headers={"content-type": "multipart/form-data"}),
        ]

    assert {each.status_code for each in (*answers, *nothing)} == {422}
    for answer in answers:
        assert "This is not a receipt in its exact form" in answer.text
        assert "<script" not in answer.text
    assert all("choose the receipt" in each.text for each in nothing)


async def test_a_receipt_that_somebody_else_signed_is_refused_even_in_the_msps_name(
    memory: BesideSettlement,
) -> None:
    assert verify_receipt(FORGED, ReceiptProofs()).findings[1].verdict is Verdict.HOLDS
    async with memory.world.browser() as browser:
        answers = [await sent(browser, each) for each in (FOREIGN, FORGED)]

    assert [each.status_code for each in answers] == [422, 422]
    assert "This names NL-ZON as its seller" in answers[0].text
    assert "The signature is not NL-EMA" in answers[1].text


async def test_a_file_that_no_receipt_can_be_is_not_read(memory: BesideSettlement) -> None:
    async with memory.world.browser() as browser:
        answer = await sent(browser, bytes(RECEIPT_BYTES_MAX + 10_000))

    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.text


async def test_who_has_very_many_files_checked_rests_and_nobody_else_does(memory: BesideSettlement) -> None:
    app = memory.world.http._apps[BASE]

    def at(address: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app, client=(address, 1)), base_url=BASE)

    async with at("192.0.2.1") as browser, at("198.51.100.7") as other:
        tried = [(await sent(browser, b"{}")).status_code for _ in range(CHECKS_MAX + 1)]
        elsewhere = await sent(other, b"{}")
        memory.world.clock.step_by(REST)
        rested = await sent(browser, b"{}")

    assert tried == [422] * CHECKS_MAX + [429]
    assert (elsewhere.status_code, rested.status_code) == (422, 422)


async def test_only_so_many_files_wait_for_their_check(
    memory: BesideSettlement, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = ReceiptChecking(memory.world.ports)
    desk._waiting = WAITING_MAX

    with pytest.raises(ChecksBusy):
        await desk.check(MSP, b"{}")


async def test_the_public_page_is_kept_by_nobody_and_runs_nothing(settled: tuple[BesideSettlement, str, bytes]) -> None:
    beside, _, file = settled
    async with beside.world.browser() as browser:
        pages = [
            await browser.get(f"{CHECK}/{fingerprint_of(file)}"),
            await sent(browser, file),
            await sent(browser, b""),
        ]

    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert "noindex" in page.headers["x-robots-tag"]
        assert "set-cookie" not in page.headers
        assert 'name="robots" content="noindex' in page.text


async def test_another_drivers_receipt_is_not_there(settled: tuple[BesideSettlement, str, bytes]) -> None:
    beside, driver_id, _ = settled
    world = beside.world
    bill_id = await bill_of(world, driver_id)
    stranger = await world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    async with world.browser() as browser, world.browser() as nobody:
        without_login = await nobody.get(f"{ME}/receipts/{bill_id}.json")
        await log_in(browser, stranger)
        answers = [await browser.get(f"{ME}/receipts/{bill_id}{end}") for end in ("", ".json", "-credit.json")]

    assert [each.status_code for each in answers] == [404, 404, 404]
    assert without_login.status_code == 303
    await world.call("GET", f"/{MSP}/drivers/{stranger}/receipts/{bill_id}.json", expect=404)


async def test_once_the_driver_is_erased_there_is_no_receipt_and_the_link_tells_nothing(
    beside: BesideSettlement,
) -> None:
    world = beside.world
    driver_id = await world.enrol()
    await charged(world)
    await beside.settle()
    bill_id = await bill_of(world, driver_id)
    file = await file_of(world, driver_id, bill_id)
    link = f"{CHECK}/{fingerprint_of(file)}"
    async with world.browser() as browser:
        await log_in(browser, driver_id)
        before = await browser.get(link)
        await world.call("POST", f"/{MSP}/drivers/{driver_id}/erase")
        inside, after = await browser.get(f"{ME}/receipts/{bill_id}.json"), await browser.get(link)

    assert inside.status_code == 303
    assert after.text == before.text
    gone = await world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts/{bill_id}.json", expect=404)
    assert gone["error"] == "NothingToShow"


async def test_a_charge_that_was_taken_back_has_a_receipt_of_that_too(memory: BesideSettlement) -> None:
    world = memory.world
    driver_id = await world.enrol()
    cdr = await charged(world)
    await memory.settle()
    await world.cpo.post_cdr(credit_of(cdr, cdr_id="S1-C1", issued_at=world.clock.now(), remark="wrong"))
    await world.quiet()
    bill_id = await bill_of(world, driver_id)
    async with world.browser() as browser:
        await log_in(browser, driver_id)
        half = (await browser.get(f"{ME}/receipts/{bill_id}")).text
        await memory.settle()
        whole = (await browser.get(f"{ME}/receipts/{bill_id}")).text
        charge, credit = [await browser.get(f"{ME}/receipts/{bill_id}{end}.json") for end in ("", "-credit")]

    assert (len(SVG.findall(half)), "on its way to the settlement" in half) == (1, True)
    assert len(SVG.findall(whole)) == 2
    assert whole.index("Proof of the charge") < whole.index("Proof of the credit")
    receipts = [read(each.content, Receipt) for each in (charge, credit)]
    assert [each.record.kind for each in receipts] == ["CHARGE", "CREDIT"]
    assert sum(each.record.total_incl_e4 for each in receipts) == 0
    assert all(verify_receipt(each.content, ReceiptProofs()).is_accepted for each in (charge, credit))


async def test_while_the_settlement_is_down_the_bill_is_shown_and_nothing_is_claimed(
    settled: tuple[BesideSettlement, str, bytes],
) -> None:
    beside, driver_id, _ = settled
    world = beside.world
    bill_id = await bill_of(world, driver_id)
    world.http.cut(beside.url)
    async with world.browser() as browser:
        await log_in(browser, driver_id)
        page = await browser.get(f"{ME}/receipts/{bill_id}")
    refused = await world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts/{bill_id}.json", expect=503)

    assert page.status_code == 200
    assert "5.4450" in page.text
    assert "can't be told at the moment" in page.text
    assert refused["error"] == "SettlementUnavailable"


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"nonsense"), (200, b'{"stage":"PAID"}'), (500, b'{"stage":"COLLECTED"}'), (409, b'{"stage":"COLLECTED"}')],
)
async def test_an_answer_that_is_none_settles_nothing(memory_world: World, status: int, body: bytes) -> None:
    strange = FastAPI()

    @strange.get("/settlement/{rest:path}")
    async def answer(rest: str) -> Any:
        assert rest.endswith("/S1")
        return Response(body, status_code=status)

    driver_id = await memory_world.enrol()
    await charged(memory_world)
    memory_world.http.mount(memory_world.settings.settlement_url, strange)
    bill_id = await bill_of(memory_world, driver_id)

    refused = await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts/{bill_id}.json", expect=503)

    assert refused["error"] == SettlementUnavailable.__name__


def test_every_check_is_explained() -> None:
    assert set(receipt_checking.EXPLAINED) == set(Check)
