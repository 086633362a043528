"""The driver's page, walked with a real HTTP client: nothing runs in it, nobody else's is in it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from emobility.domain.token import TokenType
from emobility.protocols.ocpi.v221 import CommandResultType

MSP = "NL-EMA"
HOME = f"/mobility/{MSP}/"
ME = f"/mobility/{MSP}/me"
PASSWORD = "correct horse battery"


async def log_in(browser: httpx.AsyncClient, driver_id: str, password: str = PASSWORD) -> httpx.Response:
    return await browser.post(f"{ME}/login", data={"driver_id": driver_id, "password": password})


def csrf_of(html: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', html)
    assert found is not None
    return found[1]


def quote_of(html: str) -> str:
    found = re.search(r'name="quote_id" value="([0-9a-f-]{36})"', html)
    assert found is not None
    return found[1]


async def price_page(browser: httpx.AsyncClient) -> str:
    answer = await browser.get(f"{ME}/price?cpo_id=NL-TNM&location_id=LOC1&evse_uid=E1&energy_kwh=10")
    assert answer.status_code == 200
    return answer.text


async def test_a_driver_finds_a_station_sees_the_price_starts_watches_stops_and_gets_a_receipt(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus")
    async with world.browser() as browser:
        assert (await log_in(browser, driver_id)).status_code == 303
        found = await browser.get(f"{ME}/stations?search=delft")
        price = await price_page(browser)
        quote_id = quote_of(price)
        started = await browser.post(f"{ME}/start", data={"csrf": csrf_of(price), "quote_id": quote_id})
        await world.cpo.report_result(CommandResultType.ACCEPTED)
        token = await world.cpo.token(world.cpo.commands[-1][1]["token"]["uid"], TokenType.APP_USER)
        session, cdr = await world.cpo.charge("S1", reference=quote_id, token=token)
        await world.cpo.begin(session)
        watching = await browser.get(f"{ME}/charges/{quote_id}")
        stopped = await browser.post(f"{ME}/stop", data={"csrf": csrf_of(watching.text), "quote_id": quote_id})
        await world.cpo.push_session(session)
        await world.cpo.report_result(CommandResultType.ACCEPTED)
        await world.cpo.post_cdr(cdr)
        await world.quiet()
        ended = await browser.get(f"{ME}/charges/{quote_id}")
        link = re.search(r'href="([^"]*/me/receipts/[0-9a-f]+)"', ended.text)
        assert link is not None
        receipt = await browser.get(link[1])
        charges, account = await browser.get(f"{ME}/charges"), await browser.get(f"{ME}/account")

    assert "NL*TNM*E1" in found.text
    assert "up to 11 kW" in found.text
    assert "0.363 EUR per kWh energy, incl. 21 % VAT" in price
    assert "10 kWh in 55 minutes would cost <strong>4.0535 EUR</strong>" in price
    assert (started.status_code, stopped.status_code) == (303, 303)
    assert 'http-equiv="refresh"' in watching.text
    assert 'http-equiv="refresh"' not in ended.text
    assert "Receipt" in receipt.text
    assert "4.0535" in receipt.text
    assert "0.3 EUR per kWh before tax" in receipt.text  # the plan passes the wholesale price through as its own
    assert "billed" in charges.text
    assert "Billed 4.0535 = paid 4.0500 + outstanding 0.0035" in account.text


async def test_a_receipt_shows_no_wholesale_term(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    info = await memory_world.cpo.authorize()
    session, cdr = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()
    bills = await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts")
    path = f"/{MSP}/drivers/{driver_id}/receipts/{bills[0]['bill_id']}"

    as_json = await memory_world.call("GET", path)
    as_html = await memory_world.call("GET", path, headers={"accept": "text/html"})

    assert as_json["total_incl_e4"] == 54_450
    assert "5.4450" in as_html
    for shown in (str(as_json), as_html):
        assert "0.3 " not in shown
        assert "0.30" not in shown
        assert "W1" not in shown
        assert "04AABBCCDD11" not in shown


async def test_what_a_partner_wrote_never_becomes_markup(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)

        answer = await browser.get(f'{ME}/stations?search="><script>alert(3)</script>')

    assert "<script>" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert '" onmouseover="' not in answer.text
    assert "&lt;script&gt;alert(3)" in answer.text


async def test_every_page_forbids_scripts_frames_and_foreign_forms(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        pages = [await browser.get(HOME), await log_in(browser, driver_id)]
        pages += [await browser.get(f"{ME}/{path}") for path in ("stations", "charges", "account", "charges/none")]

    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert "script" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"


async def test_the_cookie_is_for_this_msp_over_http_only(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        answer = await log_in(browser, driver_id)

    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"path=/mobility/{MSP.lower()}/" in cookie


@pytest.mark.parametrize("password", ["wrong horse battery", "", PASSWORD.upper(), PASSWORD + " "])
async def test_a_wrong_password_opens_nothing(memory_world: Any, password: str) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        answer = await log_in(browser, driver_id, password)
        inside = await browser.get(f"{ME}/charges")

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert inside.status_code == 303


async def test_an_unknown_driver_gets_the_same_answer_as_a_wrong_password(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        wrong, unknown = await log_in(browser, driver_id, "wrong password"), await log_in(browser, "nobody")

    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text)


async def test_too_many_wrong_passwords_let_the_account_rest_for_a_while(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        for _ in range(5):
            await log_in(browser, driver_id, "wrong password")
        resting = await log_in(browser, driver_id)
        memory_world.clock.step_by(timedelta(minutes=5))
        rested = await log_in(browser, driver_id)

    assert (resting.status_code, rested.status_code) == (401, 303)


@pytest.mark.parametrize("path", ["start", "stop", "logout"])
async def test_a_form_without_the_right_csrf_token_does_nothing(memory_world: Any, path: str) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)
        quote_id = quote_of(await price_page(browser))
        for csrf in ("", "0" * 64):
            forged = await browser.post(f"{ME}/{path}", data={"csrf": csrf, "quote_id": quote_id})
            assert forged.status_code == 403
        still = await browser.get(f"{ME}/charges")

    assert memory_world.cpo.commands == []
    assert still.status_code == 200


async def test_a_form_from_another_site_does_nothing_even_with_the_token(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)
        html = await price_page(browser)
        form = {"csrf": csrf_of(html), "quote_id": quote_of(html)}
        for origin in ("https://evil.example", "null"):
            answer = await browser.post(f"{ME}/start", data=form, headers={"origin": origin})
            assert answer.status_code == 403
        same = await browser.post(f"{ME}/start", data=form, headers={"origin": "http://business"})

    assert same.status_code == 303


async def test_another_drivers_csrf_token_is_no_token(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    stranger = await memory_world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    async with memory_world.browser() as browser, memory_world.browser() as other:
        await log_in(browser, driver_id)
        await log_in(other, stranger)
        theirs = csrf_of(await price_page(other))
        quote_id = quote_of(await price_page(browser))

        answer = await browser.post(f"{ME}/start", data={"csrf": theirs, "quote_id": quote_id})

    assert answer.status_code == 403


async def test_what_belongs_to_another_driver_is_not_there(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    stranger = await memory_world.enrol(uid="04FFFFFFFF", contract_id="NL-EMA-C00002")
    info = await memory_world.cpo.authorize()
    session, cdr = await memory_world.cpo.charge("S1", reference=info.authorization_reference)
    await memory_world.cpo.push_session(session)
    await memory_world.cpo.post_cdr(cdr)
    await memory_world.quiet()
    bill_id = (await memory_world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts"))[0]["bill_id"]
    async with memory_world.browser() as browser:
        await log_in(browser, stranger)

        receipt = await browser.get(f"{ME}/receipts/{bill_id}")
        charge = await browser.get(f"{ME}/charges/{info.authorization_reference}")
        html = await price_page(browser)
        started = await browser.post(
            f"{ME}/start", data={"csrf": csrf_of(html), "quote_id": info.authorization_reference}
        )

    assert (receipt.status_code, charge.status_code) == (404, 404)
    assert bill_id not in receipt.text
    assert started.status_code == 409


async def test_after_logging_out_the_cookie_opens_nothing(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)
        cookie = browser.cookies["wattroam_driver"]
        html = (await browser.get(f"{ME}/charges")).text
        await browser.post(f"{ME}/logout", data={"csrf": csrf_of(html)})
        browser.cookies.set("wattroam_driver", cookie)

        answer = await browser.get(f"{ME}/charges")

    assert answer.status_code == 303


async def test_a_login_ends_by_itself(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)
        memory_world.clock.step_by(timedelta(hours=12))

        assert (await browser.get(f"{ME}/charges")).status_code == 303


async def test_without_an_nsp_there_are_just_no_stations(memory_world: Any) -> None:
    driver_id = await memory_world.enrol()
    await memory_world.call("PUT", f"/{MSP}", {"name": "Emma & Co"})
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)

        answer = await browser.get(f"{ME}/stations")

    assert "No station found" in answer.text
    assert "Emma &amp; Co" in answer.text


async def test_a_refused_start_is_told_in_words(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(credit_limit_e4=1)
    async with memory_world.browser() as browser:
        await log_in(browser, driver_id)
        html = await price_page(browser)

        answer = await browser.post(f"{ME}/start", data={"csrf": csrf_of(html), "quote_id": quote_of(html)})

    assert answer.status_code == 402
    assert "That did not work" in answer.text
