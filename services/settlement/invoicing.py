"""Invoices between companies: one document per final statement, with its CDRs as an annex that adds up to it.

The CPO invoices, or the MSP does in its name where the CPO agreed to self-billing. A statement of more credit than due
is a credit note. Amounts are the payables': a bank pays what the document says, to the cent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.agreement import TaxRegime
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.invoicing.invoice import (
    Annex,
    DocumentType,
    Invoice,
    InvoiceLine,
    TradeParty,
    VATBreakdown,
    VATCategory,
    totals_of,
)
from emobility.domain.invoicing.numbering import Series
from emobility.domain.invoicing.rules import refuse_unfit
from emobility.domain.money import decimal_from_e4
from emobility.domain.tax import is_outside_scope
from emobility.domain.vat_number import VATNumberForm, form_of, plain_vat_number
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.invoice_counter import next_number
from services.settlement.closing import leaves_of, name_of
from services.settlement.documents import statement_csv
from services.settlement.invoice_records import (
    COMPANY,
    INVOICE,
    SELF_BILLING,
    CompanyRecord,
    InvoiceRecord,
    SelfBillingRecord,
)
from services.settlement.money_records import ACCOUNT, PAYABLE, PayableRecord
from services.settlement.records import AGREEMENT, STATEMENT, LeafRecord, StatementRecord

WHY_NO_VAT: Final = {VATCategory.REVERSE_CHARGE: "Reverse charge", VATCategory.NOT_SUBJECT: "Not subject to VAT"}
"""What an invoice must say (Directive 2006/112/EC art. 226 (11a); EN 16931, BR-O-10)."""


class NoSuchInvoice(RuleBroken):
    """The party has no such document."""


class UnfitCompany(MalformedInput):
    """A company that can't stand on an invoice: its VAT number has not its country's form, or it is of another one."""


class AnnexDiffers(RuleBroken):
    """The CDRs of an invoice are not those that its annex was made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What a run brought: the documents' numbers, and for each statement without one why."""

    numbers: tuple[str, ...]
    waiting: dict[str, str]


class Invoicing:
    """Issues documents; what waits for something says so and holds up no other pair."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def enter_company(self, party_id: PartyId, company: TradeParty) -> None:
        """Enter how a company stands on invoices. Raises `UnfitCompany`."""
        if company.vat_id is not None:
            company = replace(company, vat_id=plain_vat_number(company.vat_id))
            form = form_of(company.vat_id or "")
            if form is not VATNumberForm.WELL_FORMED:
                raise UnfitCompany(f"VAT number: {form.value}")
        if company.country != party_id.country_code:
            raise UnfitCompany(f"{party_id} is taxed in {party_id.country_code}, not in {company.country}")
        async with self._ports.units.begin() as unit:
            now = self._ports.clock.now()
            await unit.table(COMPANY).put(CompanyRecord(party_id=party_id, company=company, entered_at=now))
            await unit.commit()

    async def agree_on_self_billing(self, cpo_id: PartyId, emsp_id: PartyId, *, is_agreed: bool) -> None:
        """Let an MSP make the invoices in the CPO's name from now on, or no more."""
        record = SelfBillingRecord(
            cpo_id=cpo_id, emsp_id=emsp_id, is_agreed=is_agreed, changed_at=self._ports.clock.now()
        )
        async with self._ports.units.begin() as unit:
            await unit.table(SELF_BILLING).put(record)
            await unit.commit()

    async def issue(self, party_id: PartyId) -> Issued:
        """Issue what is this party's to issue, each document in a unit of its own."""
        numbers: list[str] = []
        waiting: dict[str, str] = {}
        for payable in await self._open(party_id):
            name = f"{payable.cpo_id}/{payable.agreement_id}/{payable.version}/{payable.sequence}"
            try:
                number = await self._issue(payable, party_id)
            except RuleBroken as refusal:
                waiting[name] = str(refusal)
                continue
            numbers += [] if number is None else [number]
        return Issued(numbers=tuple(numbers), waiting=waiting)

    async def _open(self, party_id: PartyId) -> list[PayableRecord]:
        found: list[PayableRecord] = []
        async with self._ports.units.begin() as unit:
            for side in ("cpo_id", "emsp_id"):
                found += await unit.table(PAYABLE).select(
                    {side: party_id, "invoice_number": None},
                    order_by=("cpo_id", "agreement_id", "version", "sequence"),
                )
        return [each for each in found if each.net_cents]

    async def _issue(self, payable: PayableRecord, party_id: PartyId) -> str | None:
        """Issue one document; None: it is not this party's. Raises `RuleBroken` with what it waits for."""
        async with self._ports.units.begin() as unit:
            if (await _issuer(unit, payable))[0] != party_id:
                return None
            await _named_on(unit, payable)
            statement = await unit.table(STATEMENT).get(*_key(payable))
            assert statement is not None, f"payable {_key(payable)} has no statement"
            leaves = await leaves_of(unit, statement)
        # Of 100,000 CDRs it takes seconds: nobody is kept from the loop, nor from a row.
        annex = await asyncio.to_thread(annex_of, statement, leaves)
        async with self._ports.units.begin() as unit:
            number = await self._numbered(unit, payable, party_id, statement, annex)
            await unit.commit()
        return number

    async def _numbered(
        self, unit: UnitOfWork, seen: PayableRecord, party_id: PartyId, annexed: StatementRecord, annex: Annex
    ) -> str | None:
        """Number and store a document with its annex in this unit. Raises `RuleBroken` with what it waits for."""
        key = _key(seen)
        payable = await unit.table(PAYABLE).get_for_update(*key)
        assert payable is not None, f"payable {key} is gone"
        if payable.invoice_number is not None:
            raise NoSuchInvoice(f"{payable.invoice_number} is issued already")
        issuer, series = await _issuer(unit, payable)
        if issuer != party_id:
            return None
        seller, buyer, preceding = await _named_on(unit, payable)
        statement = await unit.table(STATEMENT).get(*key)
        assert statement is not None, f"payable {key} has no statement"
        if statement.statement_hash != annexed.statement_hash:
            raise AnnexDiffers(f"statement {name_of(statement)} was changed while its annex was made")
        now = self._ports.clock.now()
        if annex.total_e4 != payable.exact_e4:
            raise AssertionError(f"annex of {key} adds up to {annex.total_e4}, the statement to {payable.exact_e4}")
        pair = await unit.table(AGREEMENT).get(payable.cpo_id, payable.agreement_id)
        assert pair is not None, f"payable {key} has no agreement"
        assert pair.terms is not None, f"payable {key} has no terms"
        zone = ZoneInfo(pair.terms.time_zone)
        account = await unit.table(ACCOUNT).get(payable.cpo_id, payable.currency)
        number = await next_number(unit, issuer, series, now.astimezone(zone).year)
        invoice = _invoice(
            payable,
            statement,
            number=number,
            is_self_billed=series is Series.SELF_BILLED,
            zone=zone,
            seller=seller,
            buyer=buyer,
            preceding=preceding,
            annex=annex,
            iban=None if account is None else account.iban,
        )
        invoice = replace(invoice, issued_on=now.astimezone(zone).date())
        refuse_unfit(invoice)
        await unit.table(INVOICE).insert(
            InvoiceRecord(
                cpo_id=payable.cpo_id,
                number=number,
                emsp_id=payable.emsp_id,
                issuer=issuer,
                statement=name_of(statement),
                statement_hash=payable.statement_hash,
                currency=payable.currency,
                gross_cents=invoice.gross_cents,
                is_credit=invoice.document_type.is_credit,
                annex_sha256=annex.sha256,
                invoice=invoice,
                issued_at=now,
            )
        )
        await unit.table(PAYABLE).put(replace(payable, invoice_number=number))
        return number

    async def document(self, party_id: PartyId, number: str) -> InvoiceRecord:
        """Return a document of a party, on either side. Raises `NoSuchInvoice`."""
        async with self._ports.units.begin() as unit:
            for side in ("cpo_id", "emsp_id"):
                for row in await unit.table(INVOICE).select({side: party_id, "number": number}):
                    return row
        raise NoSuchInvoice(f"{party_id} has no document {number[:40]}")

    async def annex_csv(self, record: InvoiceRecord) -> str:
        """Return a document's CDRs, as its annex was made of them. Raises `AnnexDiffers`."""
        name = record.statement
        async with self._ports.units.begin() as unit:
            key = name.cpo_id, name.agreement_id, name.version, name.sequence
            statement = await unit.table(STATEMENT).get(*key)
            assert statement is not None, f"invoice {record.number} has no statement"
            leaves = await leaves_of(unit, statement)
        table = await asyncio.to_thread(statement_csv, statement, leaves)
        if hashlib.sha256(table.encode()).hexdigest() != record.annex_sha256:
            raise AnnexDiffers(f"the CDRs of {record.number} were changed since it was issued")
        return table


def annex_of(statement: StatementRecord, leaves: Sequence[LeafRecord]) -> Annex:
    """Return the annex that lists a statement's CDRs; its total is that of its lines."""
    table = statement_csv(statement, leaves)
    return Annex(
        reference=f"statement-{statement.statement_hash.hex()[:16]}.csv",
        description=f"{statement.count} charge detail records of statement {statement.statement_hash.hex()}",
        sha256=hashlib.sha256(table.encode()).hexdigest(),
        total_e4=sum(leaf.due_e4 - leaf.credit_e4 for leaf in leaves),
    )


def _invoice(
    payable: PayableRecord,
    statement: StatementRecord,
    *,
    number: str,
    is_self_billed: bool,
    zone: ZoneInfo,
    seller: TradeParty,
    buyer: TradeParty,
    preceding: str | None,
    annex: Annex,
    iban: str | None,
) -> Invoice:
    is_credit, net_cents, tax_cents = payable.net_cents < 0, abs(payable.net_cents), abs(payable.vat_cents)
    category = _category(payable, seller, buyer)
    if category is VATCategory.NOT_SUBJECT:  # Such a document names no VAT numbers (BR-O-02).
        seller, buyer = replace(seller, vat_id=None), replace(buyer, vat_id=None)
    group = VATBreakdown(
        category=category,
        percent=payable.vat_percent,
        taxable_cents=net_cents,
        tax_cents=tax_cents,
        reason=f"{WHY_NO_VAT[category]}: {payable.legal_reference}" if category in WHY_NO_VAT else None,
    )
    line = InvoiceLine(
        line_id="1",
        name=f"Charging of electric vehicles, statement {payable.sequence} of agreement {payable.agreement_id}",
        cents=net_cents,
        category=category,
        percent=payable.vat_percent,
        note=f"{statement.count} charge detail records, see annex",
    )
    net, tax, gross = totals_of((group,))
    paid = net if payable.is_prepaid else 0
    exact, carried, residue = map(decimal_from_e4, (payable.exact_e4, payable.carried_e4, payable.residue_e4))
    return Invoice(
        number=number,
        document_type=_type_of(is_credit=is_credit, is_self_billed=is_self_billed),
        issued_on=payable.final_at.astimezone(zone).date(),
        due_on=payable.due_on,
        currency=payable.currency,
        seller=seller,
        buyer=buyer,
        period_start=statement.period_start.astimezone(zone).date(),
        period_end=(statement.period_end - timedelta(microseconds=1)).astimezone(zone).date(),
        lines=(line,),
        breakdown=(group,),
        net_cents=net,
        tax_cents=tax,
        gross_cents=gross,
        paid_cents=paid,
        payable_cents=gross - paid,
        notes=(
            f"Exact sum {exact} {payable.currency}, carried from before {carried}, carried on {residue}.",
            *(["Self-billing"] if is_self_billed else []),
            *(["The net amount was paid from collateral."] if payable.is_prepaid else []),
        ),
        preceding=preceding,
        annex=annex,
        remittance=None if is_credit else payable.paid_by or payable.end_to_end_id,
        iban=None if is_credit else iban,
    )


def _category(payable: PayableRecord, seller: TradeParty, buyer: TradeParty) -> VATCategory:
    if payable.regime is not TaxRegime.REVERSE_CHARGE:
        return VATCategory.STANDARD
    is_outside = is_outside_scope(seller_country=seller.country, buyer_country=buyer.country)
    return VATCategory.NOT_SUBJECT if is_outside else VATCategory.REVERSE_CHARGE


def _type_of(*, is_credit: bool, is_self_billed: bool) -> DocumentType:
    if is_credit:
        return DocumentType.SELF_BILLED_CREDIT_NOTE if is_self_billed else DocumentType.CREDIT_NOTE
    return DocumentType.SELF_BILLED_INVOICE if is_self_billed else DocumentType.INVOICE


async def _issuer(unit: UnitOfWork, payable: PayableRecord) -> tuple[PartyId, Series]:
    agreed = await unit.table(SELF_BILLING).get(payable.cpo_id, payable.emsp_id)
    if agreed is not None and agreed.is_agreed:
        return payable.emsp_id, Series.SELF_BILLED
    return payable.cpo_id, Series.WHOLESALE


def _key(payable: PayableRecord) -> tuple[PartyId, str, int, int]:
    return payable.cpo_id, payable.agreement_id, payable.version, payable.sequence


async def _named_on(unit: UnitOfWork, payable: PayableRecord) -> tuple[TradeParty, TradeParty, str | None]:
    """Return seller, buyer and the invoice that a credit note takes back. Raises `RuleBroken`: it is not ready."""
    if payable.tax_waits is not None:
        raise NoSuchInvoice(payable.tax_waits)
    seller, buyer = await _company(unit, payable.cpo_id), await _company(unit, payable.emsp_id)
    return seller, buyer, await _preceding(unit, payable) if payable.net_cents < 0 else None


async def _company(unit: UnitOfWork, party_id: PartyId) -> TradeParty:
    row = await unit.table(COMPANY).get(party_id)
    if row is None:
        raise NoSuchInvoice(f"{party_id} has not said how it stands on invoices (PUT /settlement/{party_id}/company)")
    return row.company


async def _preceding(unit: UnitOfWork, payable: PayableRecord) -> str:
    """Return the youngest invoice of the agreement before a credit note."""
    rows = await unit.table(PAYABLE).select(
        {"cpo_id": payable.cpo_id, "agreement_id": payable.agreement_id}, order_by=("-final_at", "-sequence")
    )
    for row in rows:
        if row.final_at <= payable.final_at and row.net_cents > 0 and row.invoice_number is not None:
            return row.invoice_number
    raise NoSuchInvoice("what it takes back was not invoiced yet")
