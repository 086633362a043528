"""One invoice per driver, month and currency, of bills that stand; credit notes for those withdrawn after it.

Amounts are gross, as drivers pay them: the month's bills are added up exactly and become cents once, the part of a cent
goes on to the next document. VAT is what the tax table says of each charge's place and day, and is taken out of the
gross sum of each rate. Whatever was billed is on exactly one invoice, or waits for its month to end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from emobility.domain.banking.payout import CENT_E4, in_cents
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.invoicing.invoice import (
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
from emobility.domain.personal import SubjectErased
from emobility.domain.tax import TaxDecision, tax_to_driver
from emobility.domain.vat_number import VATNumberForm, form_of, plain_vat_number
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.invoice_counter import next_number
from services.driver_mobility.enrolment import require_hosted
from services.driver_mobility.invoice_records import (
    INVOICE_ACCOUNT,
    INVOICED_BILL,
    RETAIL_INVOICE,
    SELLER,
    InvoiceAccount,
    InvoicedBill,
    RetailInvoiceRecord,
    SellerRecord,
)
from services.driver_mobility.pages import every
from services.driver_mobility.payment_orders import orders_of_bill
from services.driver_mobility.records import (
    BILL,
    CDRS,
    DRIVER,
    BillRecord,
    PaymentKind,
    PaymentState,
)

DUE_AFTER: Final = timedelta(days=14)


class MonthNotOver(RuleBroken):
    """A month is invoiced when it is over, or a bill could come after its invoice."""


class NoSeller(RuleBroken):
    """The MSP has not said how it stands on invoices."""


class UnfitSeller(MalformedInput):
    """An MSP can't stand on invoices like this."""


class NoSuchRetailInvoice(RuleBroken):
    """The MSP has no such document."""


class TaxedOtherwise(RuleBroken):
    """A bill bears another tax than the table says: it is credited and billed again, not invoiced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What a run brought: documents, and for each driver and currency (`driver/EUR`) that lacks one why."""

    numbers: tuple[str, ...]
    waiting: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taxed:
    """A bill with what the tax table says of it."""

    bill: BillRecord
    tax: TaxDecision


class RetailInvoicing:
    """Issues documents of the MSPs hosted here; what waits for something holds up no other driver."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def enter_seller(self, emsp_id: PartyId, company: TradeParty, *, time_zone: str) -> None:
        """Enter how an MSP stands on invoices. Raises `UnfitSeller`, `NotHostedHere`."""
        vat_id = plain_vat_number(company.vat_id or "")
        if form_of(vat_id) is not VATNumberForm.WELL_FORMED or company.country != emsp_id.country_code:
            raise UnfitSeller(f"a seller is of {emsp_id.country_code} and has a VAT number")
        try:
            ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise UnfitSeller(f"{time_zone[:40]!r} is no time zone") from error
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            await unit.table(SELLER).put(
                SellerRecord(party_id=emsp_id, company=replace(company, vat_id=vat_id), time_zone=time_zone)
            )
            await unit.commit()

    async def issue(self, emsp_id: PartyId, month: str) -> Issued:
        """Invoice a month that is over, and credit what was withdrawn of earlier documents, each in a unit of its own.

        Raises:
            NoSeller: the MSP has not said how it stands on invoices.
            MonthNotOver: bills may still come.
            MalformedInput: that is no month.
        """
        async with self._ports.units.begin() as unit:
            seller = await unit.table(SELLER).get(emsp_id)
        if seller is None:
            raise NoSeller(f"{emsp_id} has not said how it stands on invoices (PUT /mobility/{emsp_id}/seller)")
        start, end = span_of(month, seller.time_zone)
        if self._ports.clock.now() < end:
            raise MonthNotOver(f"{month} is not over in {seller.time_zone}")
        numbers: list[str] = []
        waiting: dict[str, str] = {}
        for driver_id, currency in await self._with_bills(emsp_id, start, end):
            refusals = []
            for preceding in (None, *await self._to_credit(emsp_id, driver_id, currency)):
                async with self._ports.units.begin() as unit:
                    try:
                        if preceding is None:
                            number = await self._invoice(unit, seller, driver_id, currency, month)
                        else:
                            number = await self._credit(unit, seller, driver_id, currency, preceding)
                    except RuleBroken as refusal:
                        refusals.append(str(refusal))
                        continue
                    await unit.commit()
                numbers += [] if number is None else [number]
            if refusals:
                waiting[f"{driver_id}/{currency}"] = "; ".join(refusals)
        return Issued(numbers=tuple(numbers), waiting=waiting)

    async def _with_bills(self, emsp_id: PartyId, start: datetime, end: datetime) -> list[tuple[str, str]]:
        """Return drivers and currencies: those billed in the month, and those with a document to take back."""
        async with self._ports.units.begin() as unit:
            bills = await every(unit, BILL, {"party_id": emsp_id})
            known = {row.bill_id: row for row in await every(unit, INVOICED_BILL, {"party_id": emsp_id})}

        def concerns(bill: BillRecord) -> bool:
            documents = known.get(bill.bill_id)
            if documents is None:
                return start <= bill.billed_at < end
            return bool(bill.credited_incl_e4) and documents.credit_number is None

        return sorted({(bill.driver_id, bill.currency) for bill in bills if concerns(bill)})

    async def _to_credit(self, emsp_id: PartyId, driver_id: str, currency: str) -> list[str]:
        """Return a driver's invoices of which something was withdrawn and not credited yet."""
        async with self._ports.units.begin() as unit:
            withdrawn = await _withdrawn(unit, emsp_id, driver_id, currency)
        return sorted({documents.invoice_number for documents, _ in withdrawn})

    # Documents, each in the unit it is given

    async def _invoice(
        self, unit: UnitOfWork, seller: SellerRecord, driver_id: str, currency: str, month: str
    ) -> str | None:
        """Invoice what stands of a month; None: nothing does that is on no document yet. Raises `RuleBroken`."""
        start, end = span_of(month, seller.time_zone)
        of_driver = {"party_id": seller.party_id, "driver_id": driver_id, "currency": currency}
        seen = await unit.table(BILL).select(of_driver, since=("billed_at", start), before=("billed_at", end))
        standing = []
        for each in sorted(seen, key=lambda bill: bill.bill_id):
            bill = await unit.table(BILL).get_for_update(each.party_id, each.bill_id)
            assert bill is not None, f"bill {each.bill_id} is gone"
            is_new = await unit.table(INVOICED_BILL).get(bill.party_id, bill.bill_id) is None
            # What was withdrawn before it was invoiced is on no document.
            if is_new and not bill.credited_incl_e4:
                standing.append(bill)
        if not standing:
            return None
        record = await self._document(unit, seller, standing, month=month, preceding=None)
        for bill in standing:
            await unit.table(INVOICED_BILL).insert(
                InvoicedBill(
                    party_id=bill.party_id, bill_id=bill.bill_id, invoice_number=record.number, credit_number=None
                )
            )
        return record.number

    async def _credit(
        self, unit: UnitOfWork, seller: SellerRecord, driver_id: str, currency: str, number: str
    ) -> str | None:
        """Take back what was withdrawn of an invoice; None: somebody else just did. Raises `RuleBroken`."""
        withdrawn = await _withdrawn(unit, seller.party_id, driver_id, currency)
        taken_back = [each for each in withdrawn if each[0].invoice_number == number]
        if not taken_back:
            return None
        invoice = await unit.table(RETAIL_INVOICE).get(seller.party_id, number)
        assert invoice is not None, f"invoice {number} is gone"
        bills = [bill for _, bill in taken_back]
        record = await self._document(unit, seller, bills, month=invoice.month, preceding=number)
        for documents, _ in taken_back:
            await unit.table(INVOICED_BILL).put(replace(documents, credit_number=record.number))
        return record.number

    async def _document(
        self,
        unit: UnitOfWork,
        seller: SellerRecord,
        bills: Sequence[BillRecord],
        *,
        month: str,
        preceding: str | None,
    ) -> RetailInvoiceRecord:
        """Number and store a document of one driver's bills, all of one currency. Raises `RuleBroken`."""
        driver_id, currency = bills[0].driver_id, bills[0].currency
        driver = await unit.table(DRIVER).get(seller.party_id, driver_id)
        if driver is None:
            raise NoSuchRetailInvoice(f"driver {driver_id} was erased")
        taxed = [await self._taxed(unit, seller, bill) for bill in bills]
        account = await invoice_account_for_update(unit, seller.party_id, driver_id, currency)
        sign = 1 if preceding is None else -1
        exact_e4 = sign * sum(bill.total_incl_e4 for bill in bills)
        amount = in_cents(exact_e4, carried_e4=account.residue_e4)
        now = self._ports.clock.now()
        today = now.astimezone(ZoneInfo(seller.time_zone)).date()
        number = await next_number(unit, seller.party_id, Series.RETAIL, today.year)
        paid_cents = 0 if preceding is not None else min(sign * amount.cents, await _paid_cents(unit, bills))
        invoice = _invoice(
            taxed,
            number=number,
            seller=seller,
            driver_id=driver_id,
            month=month,
            gross_cents=sign * amount.cents,
            paid_cents=max(0, paid_cents),
            preceding=preceding,
            issued_on=today,
        )
        exact, carried, residue = map(decimal_from_e4, (exact_e4, account.residue_e4, amount.residue_e4))
        said = f"Exact sum {exact} {currency}, carried from before {carried}, carried on {residue}."
        invoice = replace(invoice, notes=(*invoice.notes, said))
        refuse_unfit(invoice)
        record = RetailInvoiceRecord(
            party_id=seller.party_id,
            number=number,
            driver_id=driver_id,
            currency=currency,
            month=month,
            is_credit=preceding is not None,
            bills=tuple(bill.bill_id for bill in bills),
            exact_e4=exact_e4,
            carried_e4=account.residue_e4,
            gross_cents=amount.cents,
            residue_e4=amount.residue_e4,
            buyer=driver.name,
            invoice=invoice,
            issued_at=now,
        )
        await unit.table(RETAIL_INVOICE).insert(record)
        await unit.table(INVOICE_ACCOUNT).put(replace(account, residue_e4=amount.residue_e4))
        return record

    async def _taxed(self, unit: UnitOfWork, seller: SellerRecord, bill: BillRecord) -> _Taxed:
        """Return a bill with its tax. Raises `TaxedOtherwise`, `NoTaxRule`."""
        row = await unit.table(CDRS).get(bill.party_id, bill.cpo_id, bill.cdr_id)
        assert row is not None, f"bill {bill.bill_id} has no CDR"
        place = row.cdr.location
        tax = tax_to_driver(
            seller_role=Role.EMSP,
            seller_country=seller.party_id.country_code,
            country=place.country,
            on=row.started_at.astimezone(ZoneInfo(place.time_zone)).date(),  # as the quote took it
        )
        billed = {Decimal(line.vat_percent) for line in bill.lines if line.vat_percent is not None}
        if billed - {tax.percent}:
            raise TaxedOtherwise(f"bill {bill.bill_id} bears {sorted(billed)} % and the table says {tax.percent} %")
        return _Taxed(bill=bill, tax=tax)

    # Showing

    async def documents(self, emsp_id: PartyId, driver_id: str | None = None) -> list[RetailInvoiceRecord]:
        """Return an MSP's documents, or a driver's, newest first."""
        where = {"party_id": emsp_id} | ({} if driver_id is None else {"driver_id": driver_id})
        async with self._ports.units.begin() as unit:
            found = await every(unit, RETAIL_INVOICE, where)
        return sorted(found, key=lambda row: (row.issued_at, row.number), reverse=True)

    async def document(self, emsp_id: PartyId, number: str) -> Invoice:
        """Return a document with the driver's name, if it can still be read. Raises `NoSuchRetailInvoice`."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(RETAIL_INVOICE).get(emsp_id, number)
        if row is None:
            raise NoSuchRetailInvoice(f"{emsp_id} has no document {number[:40]}")
        try:
            name = await self._ports.vault.evidence.open(row.buyer)
        except SubjectErased:
            return row.invoice
        return replace(row.invoice, buyer=replace(row.invoice.buyer, name=name))


async def _withdrawn(
    unit: UnitOfWork, emsp_id: PartyId, driver_id: str, currency: str
) -> list[tuple[InvoicedBill, BillRecord]]:
    """Return a driver's bills that were withdrawn after they were invoiced and are on no credit note yet, by id."""
    found = []
    for bill in await every(unit, BILL, {"party_id": emsp_id, "driver_id": driver_id, "currency": currency}):
        documents = await unit.table(INVOICED_BILL).get_for_update(bill.party_id, bill.bill_id)
        if documents is not None and bill.credited_incl_e4 and documents.credit_number is None:
            found.append((documents, bill))
    return sorted(found, key=lambda each: each[1].bill_id)


def span_of(month: str, time_zone: str) -> tuple[datetime, datetime]:
    """Return when a month such as 2026-11 begins and ends. Raises `MalformedInput`."""
    zone = ZoneInfo(time_zone)
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=zone)
    except ValueError as error:
        raise MalformedInput(f"{month[:10]!r} is no month such as 2026-11") from error
    following = (first + timedelta(days=31)).replace(day=1)
    return first, following


def apportioned(total_cents: int, shares_e4: Sequence[int]) -> list[int]:
    """Split cents by exact shares so that they add up: what is left goes to the largest parts of a cent first.

    What is too much is taken off the smallest parts first, and off no share that has nothing (EN 16931, BR-27).
    """
    assert shares_e4, f"{total_cents} cents have nobody to bear them"
    cents = [share // CENT_E4 for share in shares_e4]
    left = total_cents - sum(cents)
    by_rest = sorted(range(len(cents)), key=lambda at: (-(shares_e4[at] % CENT_E4), at))
    while left > 0:
        for at in by_rest[:left]:
            cents[at] += 1
            left -= 1
    while left < 0:
        bearing = [at for at in reversed(by_rest) if cents[at] > 0 or total_cents < 0]
        for at in bearing[:-left]:
            cents[at] -= 1
            left += 1
    return cents


def net_cents_of(gross_cents: int, percent: Decimal) -> int:
    """Return what a gross amount is without VAT, rounded to cents once; the VAT is the rest."""
    return int((gross_cents * 100 / (100 + percent)).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _invoice(
    taxed: Sequence[_Taxed],
    *,
    number: str,
    seller: SellerRecord,
    driver_id: str,
    month: str,
    gross_cents: int,
    paid_cents: int,
    preceding: str | None,
    issued_on: date,
) -> Invoice:
    rates = sorted({each.tax.percent for each in taxed}, reverse=True)
    of_rate = [[each for each in taxed if each.tax.percent == rate] for rate in rates]
    shares = apportioned(gross_cents, [sum(each.bill.total_incl_e4 for each in group) for group in of_rate])
    breakdown, lines = [], []
    for at, (rate, group, gross) in enumerate(zip(rates, of_rate, shares, strict=True), start=1):
        net = net_cents_of(gross, rate)
        breakdown.append(
            VATBreakdown(category=VATCategory.STANDARD, percent=rate, taxable_cents=net, tax_cents=gross - net)
        )
        lines.append(
            InvoiceLine(
                line_id=str(at),
                name="Charging of an electric vehicle",
                cents=net,
                category=VATCategory.STANDARD,
                percent=rate,
                note=f"{len(group)} charges: {', '.join(each.bill.bill_id for each in group)}",
            )
        )
    net, tax, gross = totals_of(breakdown)
    assert gross == gross_cents, f"{number} is split into {gross} of {gross_cents} cents"
    first, following = span_of(month, seller.time_zone)
    payable = gross - paid_cents
    return Invoice(
        number=number,
        document_type=DocumentType.INVOICE if preceding is None else DocumentType.CREDIT_NOTE,
        issued_on=issued_on,
        due_on=issued_on + DUE_AFTER,
        currency=taxed[0].bill.currency,
        seller=seller.company,
        buyer=TradeParty(name=f"Driver {driver_id}", country=seller.company.country),
        period_start=first.date(),
        period_end=(following - timedelta(days=1)).date(),
        lines=tuple(lines),
        breakdown=tuple(breakdown),
        net_cents=net,
        tax_cents=tax,
        gross_cents=gross,
        paid_cents=paid_cents,
        payable_cents=payable,
        notes=tuple(_legal_notes(taxed)),
        preceding=preceding,
        remittance=number,
    )


def _legal_notes(taxed: Iterable[_Taxed]) -> list[str]:
    """Say whose tax it is and by which rule; charged abroad, it is under the registration there."""
    decisions = {(each.tax.country, each.tax.percent): each.tax for each in taxed}
    return [
        f"VAT of {country}, {percent} %: {tax.legal_reference}."
        + (f" Charged under the seller's registration in {country}." if tax.registration_needed else "")
        for (country, percent), tax in sorted(decisions.items())
    ]


async def invoice_account_for_update(
    unit: UnitOfWork, emsp_id: PartyId, driver_id: str, currency: str
) -> InvoiceAccount:
    """Return the part of a cent that a driver's last document left, opened when it is the first time."""
    accounts = unit.table(INVOICE_ACCOUNT)
    account = await accounts.get_for_update(emsp_id, driver_id, currency)
    if account is None:
        # As in `account_for_update`: whoever comes second carries on what the first one left.
        with suppress(RecordExists):
            await accounts.insert(
                InvoiceAccount(party_id=emsp_id, driver_id=driver_id, currency=currency, residue_e4=0)
            )
        account = await accounts.get_for_update(emsp_id, driver_id, currency)
        assert account is not None, f"the invoice account of {driver_id} in {currency} is gone"
    return account


async def _paid_cents(unit: UnitOfWork, bills: Iterable[BillRecord]) -> int:
    """Return what cards paid for bills, refunds taken off."""
    paid_e4 = 0
    for bill in bills:
        for order in await orders_of_bill(unit, bill.party_id, bill.bill_id):
            if order.state is PaymentState.DONE and order.kind is not PaymentKind.RELEASE:
                paid_e4 += -order.amount_e4 if order.kind is PaymentKind.REFUND else order.amount_e4
    return paid_e4 // CENT_E4
