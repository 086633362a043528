"""Drivers who pay at the station (OCPP 2.1, C18-C25): payments, receipts and VAT numbers, from frames to the API."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emobility.events.station_told import TerminalPaymentReported
from services.charging_operations.terminal_payments import TERMINAL_PAYMENT
from services.charging_operations.vat_numbers import VAT_CHECK
from tests.operations.connected import Connected, connected
from tests.operations.world import CARD, CPO, ORIGIN

VIES = "http://vies.test"
RIGHT = "DE330805169"
REGISTERED = {"valid": True, "name": "Zonne BV", "address": "Laan 1\n3511ED Utrecht"}


def settlement(**changes: Any) -> dict[str, Any]:
    return {
        "pspRef": "psp-77",
        "status": "Settled",
        "settlementAmount": 12.3456789012345678,
        "settlementTime": "2022-03-27T08:40:00Z",
    } | changes


def register_of(talk: Connected, answers: list[Any]) -> list[Any]:
    """Let the register give these answers; return what it will be asked."""
    asked: list[Any] = []

    async def check(request: Request) -> Response:
        asked.append(json.loads(await request.body()))
        told = answers.pop(0)
        return Response(status_code=told) if isinstance(told, int) else Response(json.dumps(told))

    talk.here.http.mount(VIES, Starlette(routes=[Route("/rest-api/check-vat-number", check, methods=["POST"])]))
    return asked


async def test_a_payment_is_kept_to_its_last_digit_before_it_is_answered() -> None:
    async with connected() as talk:
        await talk.station.send(
            '[2,"p","NotifySettlement",{"pspRef":"psp-77","status":"Settled","settlementAmount":12.345678901234567890,'
            '"settlementTime":"2022-03-27T08:40:00Z","vatNumber":"DE1","vatCompany":{"name":"Ann","address1":"a","city":"c",'
            '"country":"DE"}}]'
        )
        answer = await talk.station.receive()
        (event,) = await talk.here.events(TerminalPaymentReported)
        await talk.here.settle()
        (shown,) = await talk.get("terminal-payments")
        (row,) = await talk.here.rows(TERMINAL_PAYMENT)

        assert answer == [3, "p", {}]
        assert event.amount == Decimal("12.345678901234567890")
        assert (shown["amount"], shown["status"], shown["is_matched"]) == ("12.345678901234567890", "Settled", False)
        assert await talk.here.ports.vault.open(row.psp_reference) == "psp-77"
        assert "Ann" in await talk.here.ports.vault.open(row.message)
        assert "psp-77" not in str(shown)


async def test_a_payment_is_matched_by_its_transaction_or_by_its_token_whichever_comes_first() -> None:
    async with connected() as talk:
        await talk.tell("NotifySettlement", settlement(pspRef=CARD, status="Failed"))
        await talk.tell("NotifySettlement", settlement(transactionId="1"))
        before = [each["is_matched"] for each in await talk.get("terminal-payments")]
        await talk.here.report(await talk.here.started("1"))
        after = await talk.get("terminal-payments")

    assert before == [False, False]
    assert {(each["status"], each["transaction_id"], each["is_matched"]) for each in after} == {
        ("Failed", "1", True),
        ("Settled", "1", True),
    }
    assert all(each["session_id"] for each in after)


async def test_a_payment_told_again_is_one_payment() -> None:
    async with connected() as talk:
        for _ in range(3):
            await talk.tell("NotifySettlement", settlement())

        assert len(await talk.get("terminal-payments")) == 1


async def test_the_answer_names_the_receipt_that_there_is() -> None:
    async with connected() as talk:
        receipt = {"psp_reference": "psp-77", "receipt_url": "https://pay.test/r/77", "receipt_id": "R77"}
        kept = await talk.here.api("PUT", f"/{CPO}/payment-receipts", receipt)
        with_receipt = await talk.tell("NotifySettlement", settlement())
        without = await talk.tell("NotifySettlement", settlement(pspRef="psp-78"))

        assert kept.status_code == 200
        assert with_receipt == {"receiptUrl": "https://pay.test/r/77", "receiptId": "R77"}
        assert without == {}
        assert {each["receipt_id"] for each in await talk.get("terminal-payments")} == {"R77", None}


@pytest.mark.parametrize(
    "receipt",
    [
        {"psp_reference": "p"},
        {"psp_reference": "p", "receipt_id": "x" * 51},
        {"psp_reference": "p", "receipt_url": "x" * 2_001},
    ],
)
async def test_a_receipt_that_no_station_takes_is_refused(receipt: dict[str, str]) -> None:
    async with connected() as talk:
        answer = await talk.here.api("PUT", f"/{CPO}/payment-receipts", receipt)

    assert answer.status_code == 422


async def test_without_the_back_office_a_payment_is_kept_and_a_number_is_not_believed() -> None:
    async with connected() as talk:
        talk.here.http.cut(ORIGIN)
        paid = await talk.station.call("NotifySettlement", settlement())
        checked = await talk.station.call("VatNumberValidation", {"vatNumber": RIGHT, "evseId": 1})
        talk.here.http.mend(ORIGIN)
        await talk.here.settle()

        assert paid[2] == {}
        assert checked[2] == {
            "vatNumber": RIGHT,
            "status": "Rejected",
            "evseId": 1,
            "statusInfo": {"reasonCode": "NotChecked"},
        }
        assert len(await talk.get("terminal-payments")) == 1


async def test_a_driver_who_begins_to_pay_on_the_web_is_waited_for_a_while() -> None:
    async with connected() as talk:
        for _ in range(2):
            await talk.tell("NotifyWebPaymentStarted", {"evseId": 1, "timeout": 120})
        shown = await talk.get("web-payments")

    assert [(each["ocpp_evse_id"], each["started_at"], each["until"]) for each in shown] == [
        (1, "2022-03-27T08:00:00Z", "2022-03-27T08:02:00Z")
    ] * 2


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (RIGHT, "Accepted", "FormOnly"),
        ("DE330805168", "Rejected", "WrongCheckDigit"),
        ("DE33", "Rejected", "WrongForm"),
        ("US1", "Rejected", "UnknownCountry"),
    ],
)
async def test_without_a_register_the_form_decides_and_the_answer_says_so(
    number: str, status: str, reason: str
) -> None:
    async with connected() as talk:
        answer = await talk.tell("VatNumberValidation", {"vatNumber": number})
        (shown,) = await talk.get("vat-checks")
        (row,) = await talk.here.rows(VAT_CHECK)

        assert answer == {"vatNumber": number, "status": status, "statusInfo": {"reasonCode": reason}}
        assert (shown["is_valid"], shown["reason"]) == (status == "Accepted", reason)
        assert await talk.here.ports.vault.open(row.vat_number) == number
        assert number not in str(shown)


async def test_a_register_says_whether_a_number_was_given_and_to_whom() -> None:
    answers = [REGISTERED, {"valid": False}, {"valid": True, "name": "---", "address": "---"}]
    async with connected(vat_register_url=f"{VIES}/rest-api") as talk:
        asked = register_of(talk, answers)
        given = await talk.tell("VatNumberValidation", {"vatNumber": "de 330 805 169", "evseId": 2})
        unknown = await talk.tell("VatNumberValidation", {"vatNumber": RIGHT})
        nameless = await talk.tell("VatNumberValidation", {"vatNumber": RIGHT})
        malformed = await talk.tell("VatNumberValidation", {"vatNumber": "DE33"})

    company = {"name": "Zonne BV", "address1": "Laan 1", "city": "3511ED Utrecht", "country": "DE"}
    assert asked == [{"countryCode": "DE", "vatNumber": "330805169"}] * 3
    assert (given["status"], given["statusInfo"], given["company"]) == (
        "Accepted",
        {"reasonCode": "Registered"},
        company,
    )
    assert (given["vatNumber"], given["evseId"]) == ("de 330 805 169", 2)
    assert (unknown["status"], unknown["statusInfo"]) == ("Rejected", {"reasonCode": "NotRegistered"})
    assert (nameless["status"], "company" in nameless) == ("Accepted", False)
    assert malformed["status"] == "Rejected"


async def test_a_number_that_the_register_does_not_have_is_judged_by_its_form() -> None:
    async with connected(vat_register_url=f"{VIES}/rest-api") as talk:
        asked = register_of(talk, [{"valid": False}])
        answer = await talk.tell("VatNumberValidation", {"vatNumber": "CHE-109.322.551 MWST"})

    assert asked == []
    assert (answer["status"], answer["statusInfo"]) == ("Accepted", {"reasonCode": "FormOnly"})


@pytest.mark.parametrize("told", [503, {"errors": "MS_UNAVAILABLE"}, "no object"])
async def test_a_register_that_is_away_leaves_the_form_to_decide(told: Any) -> None:
    async with connected(vat_register_url=f"{VIES}/rest-api") as talk:
        register_of(talk, [told])
        answer = await talk.tell("VatNumberValidation", {"vatNumber": RIGHT})

    assert (answer["status"], answer["statusInfo"]) == ("Accepted", {"reasonCode": "RegisterAway"})
