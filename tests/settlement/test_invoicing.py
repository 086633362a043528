"""Invoices between companies: what they add up to, how they are numbered, and what keeps one from being issued."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pypdf import PdfReader

from emobility.domain.agreement import SettlementMode
from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import DocumentType, TradeParty, VATCategory
from emobility.protocols.en16931.cii import cii_of
from emobility.runtime import invoice_pdf
from services.settlement import invoicing, payouts
from services.settlement.invoice_records import INVOICE, InvoiceRecord
from services.settlement.invoicing import AnnexDiffers, Invoicing, NoSuchInvoice, UnfitCompany
from services.settlement.money_records import PAYABLE
from services.settlement.records import LEAF, STATEMENT
from tests.banking.bank_files import entry
from tests.invoicing.documents import judged
from tests.settlement.bank_desk import Desk
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP

DEADLINE_S = 5
SELLER = TradeParty(name="Tulip Charging B.V.", city="Utrecht", country="NL", vat_id="NL 004495445.B01")
BUYER = TradeParty(name="Zon B.V.", city="Delft", country="NL", vat_id="NL123456782B01")


class Office(Desk):
    """A desk that issues invoices, too."""

    @property
    def invoicing(self) -> Invoicing:
        return Invoicing(self.here.world.ports)

    async def enter_both(self) -> None:
        await self.invoicing.enter_company(CPO, SELLER)
        await self.invoicing.enter_company(MSP, BUYER)

    async def issued(self) -> list[InvoiceRecord]:
        rows: list[InvoiceRecord] = await self.rows(INVOICE)
        return sorted(rows, key=lambda row: row.number)


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_settling() as here:
        made = Office(here)
        await made.open()
        await made.enter_both()
        yield made


async def test_an_invoice_is_its_statement_and_its_annex_adds_up_to_it(office: Office) -> None:
    await office.charge("s1", 15_049)
    await office.charge("s2", 10_060)
    await office.settle()

    outcome = await office.invoicing.issue(CPO)

    (row,) = await office.issued()
    invoice = row.invoice
    assert outcome.numbers == (invoice.number,) == ("NL-TUL-W2022-000001",)
    assert (invoice.net_cents, invoice.tax_cents, invoice.gross_cents) == (251, 53, 304)
    assert invoice.seller.vat_id == "NL004495445B01"
    assert judged(cii_of(invoice)) == []
    annex = await office.invoicing.annex_csv(row)
    lines = list(csv.DictReader(io.StringIO(annex)))
    assert invoice.annex is not None
    assert sum(int(line["due_e4"]) - int(line["credit_e4"]) for line in lines) == invoice.annex.total_e4 == 25_109
    assert hashlib.sha256(annex.encode()).hexdigest() == invoice.annex.sha256
    assert (await office.export()).cents == invoice.payable_cents


async def test_annexes_and_bank_files_are_worked_through_beside_the_loop(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    for module, name in ((invoicing, "statement_csv"), (payouts, "read_camt")):
        monkeypatch.setattr(module, name, noting(threads, getattr(module, name)))
    await office.charge("s1", 1_000_000)
    await office.settle()

    await office.invoicing.issue(CPO)
    await office.invoicing.annex_csv((await office.issued())[0])
    await office.arrives(entry("WR1", "1.00", reference="B-1"))

    assert len(threads) == 3
    assert threading.main_thread() not in threads


def noting(threads: list[threading.Thread], work: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*values: Any) -> Any:
        threads.append(threading.current_thread())
        return work(*values)

    return noted


async def test_an_annex_of_a_statement_that_was_changed_meanwhile_is_on_no_document(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.charge("s1", 1_000_000)
    await office.settle()
    units = office.here.world.ports.units

    async def change() -> None:
        async with units.begin() as unit:
            (statement,) = await unit.table(STATEMENT).select()
            await unit.table(STATEMENT).put(replace(statement, statement_hash=bytes(32)))
            await unit.commit()

    loop, made = asyncio.get_running_loop(), invoicing.annex_of

    def meanwhile(*values: Any) -> Any:
        asyncio.run_coroutine_threadsafe(change(), loop).result(DEADLINE_S)
        return made(*values)

    monkeypatch.setattr(invoicing, "annex_of", meanwhile)
    outcome = await office.invoicing.issue(CPO)

    assert outcome.numbers == ()
    assert ["changed while" in why for why in outcome.waiting.values()] == [True]


async def test_numbers_have_no_gap_whatever_fails_between_them(office: Office) -> None:
    for at in range(3):
        await office.charge(f"s{at}", 1_000_000)
        await office.settle()
    async with office.here.world.ports.units.begin() as unit:
        (_, broken, _) = sorted(await unit.table(PAYABLE).select(), key=lambda row: row.sequence)
        await unit.table(PAYABLE).put(replace(broken, vat_cents=broken.vat_cents + 5))
        await unit.commit()

    outcome = await office.invoicing.issue(CPO)
    async with office.here.world.ports.units.begin() as unit:
        await unit.table(PAYABLE).put(broken)
        await unit.commit()
    mended = await office.invoicing.issue(CPO)

    assert outcome.numbers == ("NL-TUL-W2022-000001", "NL-TUL-W2022-000002")
    assert ["BR-CO-17" in why for why in outcome.waiting.values()] == [True]
    assert mended.numbers == ("NL-TUL-W2022-000003",)
    assert (await office.invoicing.issue(CPO)).numbers == ()


async def test_more_credit_than_due_is_a_credit_note_of_the_invoice_before(office: Office) -> None:
    await office.charge("s1", 1_000_000)
    await office.settle()
    await office.charge("s1-back", -1_000_000)
    await office.settle()

    await office.invoicing.issue(CPO)

    first, second = [row.invoice for row in await office.issued()]
    assert (second.document_type, second.preceding) == (DocumentType.CREDIT_NOTE, first.number)
    assert second.gross_cents == first.gross_cents == 12_100
    assert judged(cii_of(second)) == []


async def test_the_buyer_makes_the_invoice_where_the_seller_agreed(office: Office) -> None:
    await office.invoicing.agree_on_self_billing(CPO, MSP, is_agreed=True)
    await office.charge("s1", 1_000_000)
    await office.settle()

    by_seller, by_buyer = await office.invoicing.issue(CPO), await office.invoicing.issue(MSP)

    (row,) = await office.issued()
    assert (by_seller.numbers, by_buyer.numbers) == ((), ("NL-ZON-S2022-000001",))
    assert row.invoice.document_type is DocumentType.SELF_BILLED_INVOICE
    assert row.invoice.seller.name == SELLER.name
    assert judged(cii_of(row.invoice)) == []


async def test_across_a_border_the_buyer_accounts_for_the_tax() -> None:
    async with open_settling() as here:
        office, abroad = Office(here), PartyId("DE-AUS")
        await office.open(emsp_id=abroad)
        await office.enter_both()
        await office.charge("s1", 1_000_000)
        await office.settle()

        without = await office.invoicing.issue(CPO)
        await office.invoicing.enter_company(abroad, replace(BUYER, country="DE", vat_id="DE136695976"))
        await office.invoicing.issue(CPO)

        (row,) = await office.issued()
        (group,) = row.invoice.breakdown
        (reason,) = without.waiting.values()
        assert reason == "DE-AUS has not said how it stands on invoices (PUT /settlement/DE-AUS/company)"
        assert (group.category, row.invoice.gross_cents) == (VATCategory.REVERSE_CHARGE, 10_000)
        assert group.reason == "Reverse charge: Directive 2006/112/EC art. 38 and 195"
        assert judged(cii_of(row.invoice)) == []


async def test_out_of_the_union_no_vat_is_due_and_the_document_names_no_vat_number() -> None:
    async with open_settling() as here:
        office, abroad = Office(here), PartyId("CH-ALP")
        await office.open(emsp_id=abroad)
        await office.enter_both()
        await office.invoicing.enter_company(
            abroad, replace(BUYER, country="CH", vat_id="CHE-109.322.551 MWST", registration="CHE-109.322.551")
        )
        await office.charge("s1", 1_000_000)
        await office.settle()

        nameless = await office.invoicing.issue(CPO)
        await office.invoicing.enter_company(CPO, replace(SELLER, registration="30123456"))
        await office.invoicing.issue(CPO)

        (row,) = await office.issued()
        (group,) = row.invoice.breakdown
        assert ["BR-CO-26" in why for why in nameless.waiting.values()] == [True]
        assert (group.category, row.invoice.gross_cents) == (VATCategory.NOT_SUBJECT, 10_000)
        assert group.reason == ("Not subject to VAT: Directive 2006/112/EC art. 38; CH MWSTG art. 7 (2) and 45 (1) d")
        assert (row.invoice.seller.vat_id, row.invoice.buyer.vat_id) == (None, None)
        assert judged(cii_of(row.invoice)) == []


async def test_a_pair_that_the_tax_table_lacks_gets_no_invoice_and_is_paid_net() -> None:
    async with open_settling() as here:
        office = Office(here)
        await office.open(emsp_id=PartyId("NO-AUS"))
        await office.enter_both()
        await office.charge("s1", 1_000_000)
        await office.settle()

        outcome = await office.invoicing.issue(CPO)

        (payable,) = await office.rows(PAYABLE)
        assert list(outcome.waiting.values()) == [payable.tax_waits]
        assert (payable.net_cents, payable.vat_cents) == (10_000, 0)


async def test_what_collateral_paid_is_paid_on_the_invoice() -> None:
    async with open_settling() as here:
        office = Office(here)
        await office.open(mode=SettlementMode.PREFUNDED)
        await office.enter_both()
        await office.charge("s1", 1_000_000)
        await office.settle()

        await office.invoicing.issue(CPO)

        (row,) = await office.issued()
        assert (row.invoice.paid_cents, row.invoice.payable_cents) == (10_000, 2_100)
        assert judged(cii_of(row.invoice)) == []


async def test_an_annex_whose_charges_were_changed_is_not_handed_out(office: Office) -> None:
    await office.charge("s1", 1_000_000)
    await office.settle()
    await office.invoicing.issue(CPO)
    (row,), (leaf,) = await office.issued(), await office.rows(LEAF)
    async with office.here.world.ports.units.begin() as unit:
        await unit.table(LEAF).put(replace(leaf, due_e4=1))
        await unit.commit()

    with pytest.raises(AnnexDiffers):
        await office.invoicing.annex_csv(row)


async def test_a_pdf_with_its_charges_is_made_beside_the_loop_for_its_two_parties_while_they_are_what_it_says(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(invoice_pdf, "invoice_pdf", noting(threads, invoice_pdf.invoice_pdf))
    await office.charge("s1", 1_000_000)
    await office.settle()
    (number,) = (await office.invoicing.issue(CPO)).numbers

    transport = httpx.ASGITransport(app=office.here.service().app)
    headers = {"Authorization": f"Bearer {'i' * 40}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://settlement", headers=headers) as http:
        pdf, csv = [await http.get(f"/{MSP}/invoices/{number}{form}") for form in (".pdf", "/annex.csv")]
        of_others = await http.get(f"/DE-AUS/invoices/{number}.pdf")
        (leaf,) = await office.rows(LEAF)
        async with office.here.world.ports.units.begin() as unit:
            await unit.table(LEAF).put(replace(leaf, due_e4=1))
            await unit.commit()
        changed = await http.get(f"/{CPO}/invoices/{number}.pdf")

    (annex,) = [
        each for name, each in PdfReader(io.BytesIO(pdf.content)).attachments.items() if name.startswith("statement-")
    ]
    assert annex == [csv.content]
    assert (of_others.status_code, changed.status_code) == (404, 409)
    assert changed.json()["error"] == "AnnexDiffers"
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_a_document_is_its_two_parties_own(office: Office) -> None:
    await office.charge("s1", 1_000_000)
    await office.settle()
    (number,) = (await office.invoicing.issue(CPO)).numbers

    assert (await office.invoicing.document(MSP, number)).number == number
    with pytest.raises(NoSuchInvoice):
        await office.invoicing.document(PartyId("DE-AUS"), number)


@pytest.mark.parametrize(
    "company", [replace(SELLER, vat_id="NL004495446B01"), replace(SELLER, vat_id="XX1"), replace(SELLER, country="DE")]
)
async def test_a_company_that_is_not_where_it_says_stands_on_no_invoice(office: Office, company: TradeParty) -> None:
    with pytest.raises(UnfitCompany):
        await office.invoicing.enter_company(CPO, company)
