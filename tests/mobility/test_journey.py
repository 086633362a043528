"""From the quote to the receipt, over real OCPI, with a played CPO."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emobility.domain.cdr import credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.token import TokenType
from emobility.protocols.ocpi.v221 import AllowedType, CommandResultType
from services.driver_mobility.ledger import retail_ledger

MSP = "NL-EMA"
RFID = "04AABBCCDD11"


async def test_a_card_is_authorised_charged_billed_and_paid(world: Any) -> None:
    driver_id = await world.enrol()
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)

    await world.cpo.push_session(session)
    answer = await world.cpo.post_cdr(cdr)
    await world.quiet()

    assert info.allowed is AllowedType.ALLOWED
    assert answer.status == 201
    assert answer.headers["location"].endswith("/S1")
    assert await world.cdr_states() == {"S1": "ACCEPTED"}
    account = await world.account(driver_id)
    # 10 kWh at 0.45 net and 21 % VAT: 5.445, of which the card paid whole cents.
    assert (account["billed_e4"], account["paid_e4"], account["outstanding_e4"]) == (54_450, 54_400, 50)
    ledger = await retail_ledger(world.ports.units, PartyId(MSP))
    assert ledger["EUR"].billed_e4 == ledger["EUR"].paid_e4 + ledger["EUR"].outstanding_e4 == 54_450


async def test_the_bill_equals_the_quote_for_the_charge_that_was_quoted(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus")
    quote = await world.quote(driver_id, energy_wh=11_000, connection_s=3_600)
    command = await world.call("POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": quote["quote_id"]})
    await world.cpo.report_result(CommandResultType.ACCEPTED)
    app_uid = world.cpo.commands[-1][1]["token"]["uid"]
    token = await world.cpo.token(app_uid, TokenType.APP_USER)
    session, cdr = await world.cpo.charge("S1", reference=quote["quote_id"], energy_wh=11_000, token=token)

    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()

    charges = await world.call("GET", f"/{MSP}/drivers/{driver_id}/sessions")
    receipt = await world.call("GET", f"/{MSP}/drivers/{driver_id}/receipts/{charges[0]['bill_id']}")
    assert receipt["total_incl_e4"] == quote["estimate"]["total_incl_e4"] == 44_165
    assert receipt["tariff_hash"] == quote["tariff_hash"]
    shown = await world.call("GET", f"/{MSP}/drivers/{driver_id}/commands/{command['command_id']}")
    assert shown["state"] == "ACCEPTED"


async def test_a_wrong_cdr_is_disputed_credited_and_replaced_and_the_driver_pays_the_right_one(world: Any) -> None:
    driver_id = await world.enrol()
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    dearer = replace(cdr, total_cost=Price(excl_e4=cdr.total_cost.excl_e4 + 1, incl_e4=cdr.total_cost.incl_e4))
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(dearer)
    await world.quiet()
    states = await world.cdr_states()
    disputes = list(world.cpo.disputes)
    nothing_yet = await world.account(driver_id)

    credit = credit_of(dearer, cdr_id="S1-C", issued_at=dearer.issued_at, remark="typing error")
    await world.cpo.post_cdr(credit)
    await world.cpo.post_cdr(replace(cdr, cdr_id="S1-R"))
    await world.quiet()

    assert states == {"S1": "DISPUTED"}
    assert [(d.cdr_id, d.reason, d.expected_e4, d.stated_e4) for d in disputes] == [
        ("S1", "TOTAL_COST_DIFFERS", 30_000, 30_001)
    ]
    assert nothing_yet == {}
    assert await world.cdr_states() == {"S1": "CREDITED", "S1-C": "ACCEPTED", "S1-R": "ACCEPTED"}
    assert (await world.account(driver_id))["billed_e4"] == 54_450
    resolved = await world.call("GET", f"/{MSP}/disputes")
    assert resolved[0]["resolution"] == "credited by S1-C"


async def test_an_accepted_cdr_that_is_credited_gives_the_driver_the_money_back(world: Any) -> None:
    driver_id = await world.enrol(plan_id="plus")
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge("S1", reference=info.authorization_reference)
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    paid_before = (await world.account(driver_id))["paid_e4"]

    await world.cpo.post_cdr(credit_of(cdr, cdr_id="S1-C", issued_at=cdr.issued_at, remark="never happened"))
    await world.quiet()

    account = await world.account(driver_id)
    assert paid_before > 0
    assert (account["billed_e4"], account["paid_e4"], account["outstanding_e4"]) == (0, 0, 0)
    assert sum(line["amount_e4"] for line in account["lines"]) == 0


async def test_tokens_reach_the_cpo(world: Any) -> None:
    await world.enrol()
    await world.quiet()

    assert RFID in world.cpo.tokens
    assert world.cpo.tokens[RFID].contract_id == "NL-EMA-C00001"
