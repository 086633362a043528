"""Drivers' invoices by the month, and drivers who wait because a payment failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import facturx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emobility.adapters.memory import VirtualClock
from emobility.adapters.payments.test_provider import SandboxCard
from emobility.domain.banking.payout import in_cents
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.invoicing.invoice import DocumentType, Invoice
from emobility.events import codec
from emobility.protocols.en16931.cii import cii_of
from emobility.protocols.ocpi.v221 import AllowedType
from services.driver_mobility.invoice_records import RETAIL_INVOICE, UNPAID_BLOCK, RetailInvoiceRecord
from services.driver_mobility.records import BILL, CDRS, TOKEN
from services.driver_mobility.retail_invoicing import apportioned, net_cents_of
from tests.invoicing.documents import judged
from tests.mobility.conftest import BASE, INTERNAL, MSP, RFID, T0, World

SELLER = {"name": "EMA B.V.", "country": "NL", "vat_id": "NL004495445B01", "time_zone": "Europe/Amsterdam"}
NEXT_MONTH = T0 + timedelta(days=6)
"""April: the charges are of the 27th of March."""


async def charged(world: World, session_id: str, **changes: Any) -> CDR:
    info = await world.cpo.authorize()
    session, cdr = await world.cpo.charge(
        session_id, reference=info.authorization_reference, started_at=world.clock.now(), **changes
    )
    await world.cpo.push_session(session)
    await world.cpo.post_cdr(cdr)
    await world.quiet()
    return cdr


async def withdrawn(world: World, cdr: CDR) -> None:
    credit = credit_of(cdr, cdr_id=f"{cdr.cdr_id}-C", issued_at=world.clock.now(), remark="taken back")
    await world.cpo.post_cdr(credit)
    await world.quiet()


async def run(world: World, month: str = "2022-03") -> dict[str, Any]:
    return cast("dict[str, Any]", await world.call("POST", f"/{MSP}/invoices", {"month": month}))


async def documents(world: World) -> list[RetailInvoiceRecord]:
    async with world.ports.units.begin() as unit:
        return sorted(await unit.table(RETAIL_INVOICE).select(), key=lambda row: row.number)


async def invoice(world: World, number: str) -> Invoice:
    shown = await world.call("GET", f"/{MSP}/invoices/{number}")
    return codec.decode(codec.encode(shown), Invoice)


@pytest.fixture
async def selling(memory_world: Any) -> World:
    await memory_world.call("PUT", f"/{MSP}/seller", SELLER)
    return cast("World", memory_world)


async def test_a_months_bills_are_one_invoice_with_the_drivers_name_and_the_tax_of_the_place(selling: World) -> None:
    driver_id = await selling.enrol()
    await charged(selling, "S1", energy_wh=8_001)
    await charged(selling, "S2", energy_wh=7_003)
    early = await selling.call("POST", f"/{MSP}/invoices", {"month": "2022-03"}, expect=409)
    selling.clock.step_to(NEXT_MONTH)

    outcome, again = await run(selling), await run(selling)

    assert early["error"] == "MonthNotOver"
    assert (outcome["numbers"], again["numbers"]) == (["NL-EMA-R2022-000001"], [])
    document = await invoice(selling, "NL-EMA-R2022-000001")
    async with selling.ports.units.begin() as unit:
        exact_e4 = sum(bill.total_incl_e4 for bill in await unit.table(BILL).select())
    assert document.gross_cents == document.paid_cents == exact_e4 // 100
    assert document.buyer.name == "Ada <b>Lovelace</b>"
    assert [group.percent for group in document.breakdown] == [Decimal(21)]
    assert document.notes[0] == ("VAT of NL, 21 %: Directive 2006/112/EC art. 39 and 193; NL Wet OB 1968 art. 9 (1).")
    assert judged(cii_of(document)) == []
    page = await selling.call("GET", f"/{MSP}/invoices/NL-EMA-R2022-000001.html")
    assert "Ada &lt;b&gt;Lovelace&lt;/b&gt;" in page
    pdf = await selling.http.request(
        "GET",
        f"{BASE}/mobility/{MSP}/invoices/NL-EMA-R2022-000001.pdf",
        headers={"Authorization": f"Bearer {INTERNAL}"},
        body=b"",
    )
    assert pdf.headers["content-type"] == "application/pdf"
    assert facturx.get_xml_from_pdf(pdf.body) == ("factur-x.xml", cii_of(document))
    (mine,) = await selling.call("GET", f"/{MSP}/drivers/{driver_id}/invoices")
    assert mine["gross_cents"] == document.gross_cents


async def test_what_is_withdrawn_after_its_invoice_gets_a_credit_note(selling: World) -> None:
    await selling.enrol()
    first = await charged(selling, "S1", energy_wh=8_001)
    await charged(selling, "S2", energy_wh=7_003)
    selling.clock.step_to(NEXT_MONTH)
    await run(selling)
    await withdrawn(selling, first)

    outcome = await run(selling)

    bill, credit = await documents(selling)
    assert outcome["numbers"] == [credit.number]
    assert (credit.invoice.document_type, credit.invoice.preceding) == (DocumentType.CREDIT_NOTE, bill.number)
    assert (await run(selling))["numbers"] == []
    assert judged(cii_of(credit.invoice)) == []
    async with selling.ports.units.begin() as unit:
        stands_e4 = sum(row.total_incl_e4 - row.credited_incl_e4 for row in await unit.table(BILL).select())
    assert (bill.gross_cents + credit.gross_cents) * 100 + credit.residue_e4 == stands_e4


async def test_what_is_withdrawn_before_its_invoice_is_on_no_document(selling: World) -> None:
    await selling.enrol()
    await withdrawn(selling, await charged(selling, "S1"))
    selling.clock.step_to(NEXT_MONTH)

    assert await run(selling) == {"numbers": [], "waiting": {}}


async def test_a_bill_that_the_table_would_tax_otherwise_waits(selling: World) -> None:
    driver_id = await selling.enrol()
    await charged(selling, "S1")
    async with selling.ports.units.begin() as unit:
        (bill,) = await unit.table(BILL).select()
        lines = tuple(replace(line, vat_percent="9") for line in bill.lines)
        await unit.table(BILL).put(replace(bill, lines=lines))
        await unit.commit()
    selling.clock.step_to(NEXT_MONTH)

    outcome = await run(selling)

    assert outcome["numbers"] == []
    assert "bears" in outcome["waiting"][f"{driver_id}/EUR"]


async def test_two_rates_of_one_country_are_both_named(selling: World) -> None:
    await selling.enrol()
    await charged(selling, "S1")
    await charged(selling, "S2")
    async with selling.ports.units.begin() as unit:
        bill = (await unit.table(BILL).select())[0]
        row = await unit.table(CDRS).get(bill.party_id, bill.cpo_id, bill.cdr_id)
        assert row is not None
        await unit.table(CDRS).put(replace(row, started_at=datetime(2022, 7, 1, tzinfo=UTC)))
        await unit.table(BILL).put(replace(bill, lines=tuple(replace(line, vat_percent="9") for line in bill.lines)))
        await unit.commit()
    selling.clock.step_to(NEXT_MONTH)

    (number,) = (await run(selling))["numbers"]

    document = await invoice(selling, number)
    assert [group.percent for group in document.breakdown] == [Decimal(21), Decimal(9)]
    assert [note.partition(":")[0] for note in document.notes[:2]] == ["VAT of NL, 9 %", "VAT of NL, 21 %"]
    assert judged(cii_of(document)) == []


async def test_a_credit_note_that_can_not_be_made_holds_up_no_invoice(selling: World) -> None:
    driver_id = await selling.enrol()
    first = await charged(selling, "S1")
    selling.clock.step_to(NEXT_MONTH)
    await run(selling)
    await withdrawn(selling, first)
    await charged(selling, "S2")
    async with selling.ports.units.begin() as unit:
        (bill,) = [each for each in await unit.table(BILL).select() if each.credited_incl_e4]
        lines = tuple(replace(line, vat_percent="9") for line in bill.lines)
        await unit.table(BILL).put(replace(bill, lines=lines))
        await unit.commit()
    selling.clock.step_by(timedelta(days=31))

    outcome = await run(selling, "2022-04")

    assert outcome["numbers"] == ["NL-EMA-R2022-000002"]
    assert [row.number for row in await documents(selling)] == ["NL-EMA-R2022-000001", "NL-EMA-R2022-000002"]
    assert "bears" in outcome["waiting"][f"{driver_id}/EUR"]


async def test_without_a_seller_and_for_no_month_there_is_no_invoice(memory_world: Any) -> None:
    refused = await memory_world.call("POST", f"/{MSP}/invoices", {"month": "2022-03"}, expect=409)
    unfit = await memory_world.call("PUT", f"/{MSP}/seller", SELLER | {"vat_id": "NL004495446B01"}, expect=422)
    await memory_world.call("PUT", f"/{MSP}/seller", SELLER)
    nonsense = await memory_world.call("POST", f"/{MSP}/invoices", {"month": "soon"}, expect=422)
    missing = await memory_world.call("GET", f"/{MSP}/invoices/NL-EMA-R2022-000009", expect=404)

    errors = [each["error"] for each in (refused, unfit, nonsense, missing)]
    assert errors == ["NoSeller", "UnfitSeller", "MalformedInput", "NoSuchRetailInvoice"]


async def blocked(world: World) -> list[bool]:
    async with world.ports.units.begin() as unit:
        return sorted(token.is_valid for token in await unit.table(TOKEN).select())


async def test_a_payment_that_failed_blocks_the_drivers_tokens_and_paying_unblocks_them(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world, "S1")
    after_failure = await blocked(memory_world), memory_world.cpo.tokens[RFID].valid
    asked = await memory_world.cpo.authorize()
    app = await memory_world.quote(driver_id)
    start = await memory_world.call(
        "POST", f"/{MSP}/drivers/{driver_id}/sessions", {"quote_id": app["quote_id"]}, expect=409
    )

    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.DECLINED.value})
    await memory_world.quiet()
    still = await blocked(memory_world)
    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
    await memory_world.quiet()

    assert after_failure == ([False, False], False)
    assert (asked.allowed, start["error"]) == (AllowedType.BLOCKED, "DriverBlocked")
    assert still == [False, False]
    assert await blocked(memory_world) == [True, True]
    assert memory_world.cpo.tokens[RFID].valid
    assert (await memory_world.cpo.authorize()).allowed is AllowedType.ALLOWED


async def test_paying_unblocks_tokens_though_time_passes_at_each_look_at_the_clock(
    memory_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = VirtualClock.now

    def passing(clock: VirtualClock) -> datetime:
        clock.step_by(timedelta(microseconds=1))
        return standing(clock)

    monkeypatch.setattr(VirtualClock, "now", passing)
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world, "S1")
    after_failure = await blocked(memory_world)
    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
    await memory_world.quiet()

    assert after_failure == [False, False]
    assert await blocked(memory_world) == [True, True]


async def test_a_token_that_is_issued_while_a_payment_is_open_waits_for_it_with_the_others(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world, "S1")
    memory_world.clock.step_by(timedelta(minutes=1))
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/tokens", {"uid": "04FFFFFF"})
    await memory_world.quiet()
    entered = await blocked(memory_world), memory_world.cpo.tokens["04FFFFFF"].valid
    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
    await memory_world.quiet()

    assert entered == ([False, False, False], False)
    assert await blocked(memory_world) == [True, True, True]
    assert memory_world.cpo.tokens["04FFFFFF"].valid


async def test_a_token_that_its_operator_blocked_stays_blocked(memory_world: Any) -> None:
    driver_id = await memory_world.enrol(card=SandboxCard.DECLINED.value)
    await charged(memory_world, "S1")
    memory_world.clock.step_by(timedelta(minutes=1))
    await memory_world.call("POST", f"/{MSP}/drivers/{driver_id}/tokens", {"uid": RFID, "is_valid": False})
    await memory_world.call("PUT", f"/{MSP}/drivers/{driver_id}/card", {"number": SandboxCard.GOOD.value})
    await memory_world.quiet()

    assert await blocked(memory_world) == [False, True]
    async with memory_world.ports.units.begin() as unit:
        assert await unit.table(UNPAID_BLOCK).count() == 0


@given(st.lists(st.integers(min_value=0, max_value=10**7), min_size=1, max_size=5), st.integers(-99, 99))
@example([50_000, 0], -1)  # what was carried takes the last cent of a share, and there is none in the other
def test_shares_add_up_to_the_cents_they_are_of(shares_e4: list[int], carried_e4: int) -> None:
    total = in_cents(sum(shares_e4), carried_e4=carried_e4).cents

    shares = apportioned(total, shares_e4)

    assert sum(shares) == total
    assert min(shares) >= 0
    assert all(abs(cents - exact // 100) <= 2 for cents, exact in zip(shares, shares_e4, strict=True))


@given(st.integers(min_value=0, max_value=10**9), st.sampled_from([Decimal(7), Decimal(19), Decimal(21)]))
def test_net_and_tax_are_the_gross_and_fit_the_rate(gross_cents: int, percent: Decimal) -> None:
    net = net_cents_of(gross_cents, percent)

    assert abs(Decimal(gross_cents - net) - net * percent / 100) <= 1
