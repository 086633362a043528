"""Bank files out, bank statements in: payments are made of final statements, and found again by their EndToEndId.

A payment counts as made when it arrived at the CPO's bank, or left the MSP's where the CPO's books are elsewhere. What
was owed falls by it (`PaymentBooked`) and is discharged on the chain (`discharging`) as far as it was owed there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

from emobility.domain.banking.account import BankAccount
from emobility.domain.banking.matching import Awaited, BankEntry, Match, Outcome, match
from emobility.domain.banking.payout import payout_of
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.banking import PaymentBooked
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.iso20022.camt import read_camt
from emobility.protocols.iso20022.pain import (
    ORDERS_MAX,
    BankOrder,
    Mandate,
    MandateScheme,
    credit_transfers,
    direct_debits,
)
from services.settlement.exposure import rows_of
from services.settlement.facts import fact
from services.settlement.guarantee_money import is_hosted, locked, match_crossing, put_against_payments
from services.settlement.guarantee_records import GuaranteeRecord
from services.settlement.money_records import (
    ACCOUNT,
    BANK_ENTRY,
    BANK_EXPORT,
    DISCHARGE,
    MANDATE,
    PAYABLE,
    PAYOUT,
    AccountRecord,
    BankEntryRecord,
    BankExportRecord,
    BankFileKind,
    DischargeRecord,
    DischargeState,
    MandateRecord,
    PayableRecord,
    PayoutRecord,
)

ENTRIES_PER_UNIT: Final = 200
"""A file is entered in short units; cut short, it is read again from the start, and nothing is booked twice."""
REFUNDABLE: Final = {MandateScheme.B2B: timedelta(days=5), MandateScheme.CORE: timedelta(days=58)}
"""How long a collected payment can come back (SEPA: B2B 3 business days, CORE 8 weeks); no discharge before."""


class NoBankAccount(RuleBroken):
    """A company has no account in the currency, so nothing can be paid from or to it."""

    def __init__(self, party_id: PartyId, currency: str) -> None:
        self.party_id = party_id
        self.currency = currency
        super().__init__(f"{party_id} has entered no bank account in {currency} (`wattroam bank account`)")


class NothingToPay(RuleBroken):
    """No final statement is open in this currency, or what is open comes to nothing."""


class OtherAccount(MalformedInput):
    """The file is about an account that the company did not enter."""


class UnknownEntry(RuleBroken):
    """The company has no such entry in its work list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a file brought: entries by outcome, those that were there already, and those that don't count yet."""

    outcomes: dict[str, int]
    known: int
    skipped: int


class Payouts:
    """The bank desk of all companies that settle here."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def enter_account(self, party_id: PartyId, account: BankAccount) -> None:
        """Enter where a company is paid; another account of the currency is replaced."""
        row = AccountRecord(
            party_id=party_id,
            currency=account.currency,
            name=account.name,
            iban=account.iban,
            bic=account.bic,
            entered_at=self._ports.clock.now(),
        )
        async with self._ports.units.begin() as unit:
            await unit.table(ACCOUNT).put(row)
            await unit.commit()

    async def enter_mandate(self, emsp_id: PartyId, cpo_id: PartyId, mandate: Mandate | None) -> None:
        """Let a CPO collect from now on; None: no more."""
        async with self._ports.units.begin() as unit:
            known = await unit.table(MANDATE).get_for_update(cpo_id, emsp_id)
            if mandate is not None:
                known = MandateRecord(
                    cpo_id=cpo_id,
                    emsp_id=emsp_id,
                    mandate_id=mandate.mandate_id,
                    signed_on=mandate.signed_on,
                    scheme=mandate.scheme,
                    creditor_id=mandate.creditor_id,
                    is_ended=False,
                )
            elif known is not None:
                known = replace(known, is_ended=True)
            if known is not None:
                await unit.table(MANDATE).put(known)
                await unit.commit()

    # Out

    async def export(self, party_id: PartyId, kind: BankFileKind, currency: str, *, on: date) -> BankExportRecord:
        """Make a bank file of what the company pays (or collects), and keep it; nothing goes out in two files.

        Raises:
            NoBankAccount: the company has none. Partners that have none are left out, and wait.
            NothingToPay: nobody's turn has come.
            RecordExists: another file was made meanwhile, or is being made.
        """
        async with self._ports.units.begin() as unit:
            account = await _account(unit, party_id, currency)
            if account is None:
                raise NoBankAccount(party_id, currency)
            orders, paid = await self._orders(unit, party_id, kind, currency)
            if not orders:
                raise NothingToPay(f"{party_id} has nothing to put into a {kind} in {currency}")
            now = self._ports.clock.now()
            number = await unit.table(BANK_EXPORT).count({"party_id": party_id}) + 1
            message_id = f"{party_id}-{now:%Y%m%d}-{number}"
            record = BankExportRecord(
                party_id=party_id,
                message_id=message_id,
                kind=kind,
                currency=currency,
                orders=len(orders),
                cents=sum(order.cents for order in orders),
                document=_document(kind, orders, account, message_id=message_id, made_at=now, on=on),
                made_at=now,
            )
            # Two exports at once would take the same number: the second one is refused, and whoever asked asks again.
            await unit.table(BANK_EXPORT).insert(record)
            for payout in paid:
                await unit.table(PAYOUT).put(replace(payout, exported_in=message_id))
            await unit.commit()
        return record

    async def _orders(
        self, unit: UnitOfWork, party_id: PartyId, kind: BankFileKind, currency: str
    ) -> tuple[list[BankOrder], list[PayoutRecord]]:
        side = "emsp_id" if kind is BankFileKind.CREDIT_TRANSFERS else "cpo_id"
        open_payables = await unit.table(PAYABLE).select(
            {side: party_id, "currency": currency, "paid_by": None},
            order_by=("cpo_id", "agreement_id", "version", "sequence"),
        )
        for group in _by_agreement(open_payables):
            await self._made(unit, group)
        waiting = await unit.table(PAYOUT).select(
            {side: party_id, "currency": currency, "exported_in": None}, order_by=("made_at", "end_to_end_id")
        )
        orders, paid = list[BankOrder](), list[PayoutRecord]()
        for each in waiting:
            payout = await unit.table(PAYOUT).get_for_update(each.cpo_id, each.end_to_end_id)
            if payout is None or payout.exported_in is not None or _moved_cents(payout, kind):
                continue
            order = await _order(unit, payout, kind)
            if order is not None and len(orders) < ORDERS_MAX:
                orders.append(order)
                paid.append(payout)
        return orders, paid

    async def _made(self, unit: UnitOfWork, payables: Sequence[PayableRecord]) -> PayoutRecord | None:
        """Make one payment of an agreement's statements, if they come to one; they are in no other from then on."""
        if payables:
            await locked(unit, (payables[0].cpo_id, payables[0].agreement_id, payables[0].version))
        rows = [
            await unit.table(PAYABLE).get_for_update(each.cpo_id, each.agreement_id, each.version, each.sequence)
            for each in payables
        ]
        still_open = [each for each in rows if each is not None and each.paid_by is None]
        payout = payout_of([each.payable for each in still_open]) if still_open else None
        if payout is None:
            return None
        first, last = still_open[0], still_open[-1]
        record = PayoutRecord(
            cpo_id=first.cpo_id,
            end_to_end_id=payout.end_to_end_id,
            emsp_id=first.emsp_id,
            agreement_id=first.agreement_id,
            version=first.version,
            currency=first.currency,
            net_cents=payout.net_cents,
            vat_cents=payout.vat_cents,
            due_on=min(each.due_on for each in still_open),
            made_at=self._ports.clock.now(),
        )
        assert last.end_to_end_id == payout.end_to_end_id
        await unit.table(PAYOUT).insert(record)
        for each in still_open:
            await unit.table(PAYABLE).put(replace(each, paid_by=payout.end_to_end_id))
        await put_against_payments(unit, (record.cpo_id, record.agreement_id, record.version), record.currency)
        return await unit.table(PAYOUT).get_for_update(record.cpo_id, record.end_to_end_id)

    async def take_of_guarantee(self, unit: UnitOfWork, row: GuaranteeRecord) -> None:
        """Put what a guarantee gave against payments; where those are too few, against one of all that is overdue."""
        key = row.cpo_id, row.agreement_id, row.version
        if not await put_against_payments(unit, key, row.currency):
            return
        today = self._ports.clock.now().date()
        where = {"cpo_id": row.cpo_id, "agreement_id": row.agreement_id, "version": row.version, "paid_by": None}
        payables = await rows_of(unit, PAYABLE, where)
        last = max((each.sequence for each in payables if each.due_on < today), default=0)
        await self._made(unit, [each for each in payables if each.sequence <= last])

    # In

    async def take_file(self, party_id: PartyId, document: bytes) -> Imported:
        """Book what a bank says moved on the company's accounts, each entry once.

        Raises:
            UnreadableXML: it is no camt.053 or camt.054; nothing was booked.
            OtherAccount: it is about somebody else's account; nothing was booked.
        """
        file = await asyncio.to_thread(read_camt, document)  # of 16 MiB it takes seconds
        async with self._ports.units.begin() as unit:
            own = {row.iban for row in await unit.table(ACCOUNT).select({"party_id": party_id})}
        if foreign := sorted({entry.iban for entry in file.entries} - own):
            raise OtherAccount(f"{party_id} has entered no account {foreign[0]}")
        outcomes: dict[str, int] = {}
        known = 0
        for first in range(0, len(file.entries), ENTRIES_PER_UNIT):
            async with self._ports.units.begin() as unit:
                for entry in file.entries[first : first + ENTRIES_PER_UNIT]:
                    outcome = await self._take(unit, party_id, entry, file.message_id)
                    if outcome is None:
                        known += 1
                    else:
                        outcomes[outcome.value] = outcomes.get(outcome.value, 0) + 1
                await unit.commit()
        return Imported(outcomes=outcomes, known=known, skipped=file.skipped)

    async def _take(self, unit: UnitOfWork, party_id: PartyId, entry: BankEntry, message_id: str) -> Outcome | None:
        """Book an entry; None: it was booked before."""
        if await unit.table(BANK_ENTRY).get(party_id, entry.entry_id) is not None:
            return None
        payout = await self._payout_named(unit, party_id, entry.end_to_end_id)
        if payout is None:
            found = match(entry, None)
        else:
            found = match_crossing(entry, await _awaited(unit, payout, party_id, entry), payout.taken_cents)
        record = BankEntryRecord(
            party_id=party_id,
            entry_id=entry.entry_id,
            currency=entry.currency,
            outcome=found.outcome,
            is_late=found.is_late,
            is_open=found.needs_somebody,
            booked_cents=found.booked_cents,
            excess_cents=found.excess_cents,
            cpo_id=None if payout is None else payout.cpo_id,
            end_to_end_id=entry.end_to_end_id if payout is None else payout.end_to_end_id,
            entry=entry,
            message_id=message_id,
            imported_at=self._ports.clock.now(),
        )
        try:
            await unit.table(BANK_ENTRY).insert(record)
        except RecordExists:  # the same file is being read twice at once, and the other was first
            return None
        if payout is not None and found.booked_cents:
            await self._book(unit, party_id, payout, found, entry)
        return found.outcome

    async def _payout_named(self, unit: UnitOfWork, party_id: PartyId, name: str | None) -> PayoutRecord | None:
        """Return the company's payment of this name, locked; one that the payer made by itself is made up for here."""
        if name is None:
            return None
        for side in ("cpo_id", "emsp_id"):
            for found in await unit.table(PAYOUT).select({side: party_id, "end_to_end_id": name}):
                await locked(unit, (found.cpo_id, found.agreement_id, found.version))
                return await unit.table(PAYOUT).get_for_update(found.cpo_id, found.end_to_end_id)
            for last in await unit.table(PAYABLE).select({side: party_id, "end_to_end_id": name}):
                await locked(unit, (last.cpo_id, last.agreement_id, last.version))
                if last.paid_by is not None:  # its invoice bears its own name, from before the payment was made up
                    return await unit.table(PAYOUT).get_for_update(last.cpo_id, last.paid_by)
                of_agreement = await unit.table(PAYABLE).select(
                    {
                        "cpo_id": last.cpo_id,
                        "agreement_id": last.agreement_id,
                        "version": last.version,
                        "paid_by": None,
                    },
                    order_by=("sequence",),
                )
                return await self._made(unit, [each for each in of_agreement if each.sequence <= last.sequence])
        return None

    async def _book(
        self, unit: UnitOfWork, party_id: PartyId, payout: PayoutRecord, found: Match, entry: BankEntry
    ) -> None:
        now = self._ports.clock.now()
        is_payee = party_id == payout.cpo_id
        moved = "arrived_cents" if is_payee else "sent_cents"
        before = payout
        payout = replace(payout, **{moved: getattr(payout, moved) + found.booked_cents})
        if found.outcome is Outcome.RETURNED and not getattr(payout, moved):
            payout = await self._again(unit, party_id, payout)
        if is_payee or not await is_hosted(unit, payout.cpo_id):
            # What arrived for a payment that a guarantee paid meanwhile pays it; what was taken is for the next ones.
            crossed = max(0, getattr(payout, moved) - payout.bank_cents)
            payout = replace(payout, taken_cents=payout.taken_cents - crossed)
            paid_e4 = payout.net_paid_e4(as_payee=is_payee) - before.net_paid_e4(as_payee=is_payee)
            if paid_e4:
                unit.emit(fact(_booked(payout, paid_e4, entry, now), party_id.code, entry.entry_id, at=now))
            payout = await self._discharged(unit, payout, entry, is_payee=is_payee)
        await unit.table(PAYOUT).put(payout)
        await put_against_payments(unit, (payout.cpo_id, payout.agreement_id, payout.version), payout.currency)

    async def _again(self, unit: UnitOfWork, party_id: PartyId, payout: PayoutRecord) -> PayoutRecord:
        """Let what came back whole go out once more, where it went out in a file of the company whose bank says so."""
        if payout.exported_in is None or await unit.table(BANK_EXPORT).get(party_id, payout.exported_in) is None:
            return payout
        return replace(payout, exported_in=None)

    async def _discharged(
        self, unit: UnitOfWork, payout: PayoutRecord, entry: BankEntry, *, is_payee: bool
    ) -> PayoutRecord:
        """Have the chain told what is paid, no more and no less; what it was told stays told, whatever comes back."""
        paid_e4 = payout.net_paid_e4(as_payee=is_payee)
        waiting = await unit.table(DISCHARGE).select(
            {"cpo_id": payout.cpo_id, "end_to_end_id": payout.end_to_end_id, "state": DischargeState.OPEN}
        )
        for each in waiting:
            if payout.discharged_e4 <= paid_e4:
                break
            # Whoever follows the chain may be signing and queueing it right now; then it is told.
            is_open = {"state": DischargeState.OPEN}
            if not await unit.table(DISCHARGE).delete(each.cpo_id, each.discharge_id, where=is_open):
                continue
            payout = replace(payout, discharged_e4=payout.discharged_e4 - each.amount_e4)
        amount_e4 = paid_e4 - payout.discharged_e4
        if amount_e4 <= 0:
            return payout
        now = self._ports.clock.now()
        record = DischargeRecord(
            cpo_id=payout.cpo_id,
            discharge_id=f"{payout.end_to_end_id}-{entry.entry_id[:16]}",
            emsp_id=payout.emsp_id,
            agreement_id=payout.agreement_id,
            version=payout.version,
            currency=payout.currency,
            end_to_end_id=payout.end_to_end_id,
            amount_e4=amount_e4,
            state=DischargeState.OPEN,
            not_before=now + await _refundable_for(unit, payout),
            made_at=now,
        )
        await unit.table(DISCHARGE).insert(record)
        return replace(payout, discharged_e4=payout.discharged_e4 + amount_e4)

    async def resolve(self, party_id: PartyId, entry_id: str, *, resolution: str) -> BankEntryRecord:
        """Take an entry off the work list and keep what was made of it. Raises `UnknownEntry`."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(BANK_ENTRY).get_for_update(party_id, entry_id)
            if row is None or not row.is_open:
                raise UnknownEntry(f"{party_id} has no open entry {entry_id}")
            done = replace(row, is_open=False, resolution=resolution)
            await unit.table(BANK_ENTRY).put(done)
            await unit.commit()
        return done


async def _refundable_for(unit: UnitOfWork, payout: PayoutRecord) -> timedelta:
    """Return how long the payer can have the payment undone: not at all where it paid by itself."""
    export = None
    if payout.exported_in is not None:
        export = await unit.table(BANK_EXPORT).get(payout.cpo_id, payout.exported_in)
    mandate = await unit.table(MANDATE).get(payout.cpo_id, payout.emsp_id)
    if export is None or export.kind is not BankFileKind.DIRECT_DEBITS or mandate is None:
        return timedelta(0)
    return REFUNDABLE[mandate.scheme]


async def _awaited(unit: UnitOfWork, payout: PayoutRecord, party_id: PartyId, entry: BankEntry) -> Awaited:
    is_payee = party_id == payout.cpo_id
    return Awaited(
        cents=payout.bank_cents,
        moved_cents=payout.arrived_cents if is_payee else payout.sent_cents,
        excess_cents=await _excess_cents(unit, payout, party_id) if entry.is_return else 0,
        currency=payout.currency,
        due_on=payout.due_on,
        is_payee=is_payee,
    )


def _moved_cents(payout: PayoutRecord, kind: BankFileKind) -> int:
    """Return what keeps a payment out of a bank file: what has moved, and who collects believes its own bank alone."""
    if kind is BankFileKind.DIRECT_DEBITS:
        return payout.arrived_cents
    return max(payout.arrived_cents, payout.sent_cents)


async def _excess_cents(unit: UnitOfWork, payout: PayoutRecord, party_id: PartyId) -> int:
    """Return what moved on a company's account beyond a payment, less what of it was returned."""
    of_payment = {"party_id": party_id, "cpo_id": payout.cpo_id, "end_to_end_id": payout.end_to_end_id}
    beyond = (Outcome.OVERPAID, Outcome.DUPLICATE, Outcome.RETURNED)
    rows = await rows_of(unit, BANK_ENTRY, of_payment | {"outcome": beyond})
    return max(0, sum(-row.excess_cents if row.outcome is Outcome.RETURNED else row.excess_cents for row in rows))


def _booked(payout: PayoutRecord, amount_e4: int, entry: BankEntry, now: datetime) -> PaymentBooked:
    return PaymentBooked(
        cpo_id=payout.cpo_id,
        emsp_id=payout.emsp_id,
        agreement_id=payout.agreement_id,
        version=payout.version,
        currency=payout.currency,
        amount_e4=amount_e4,
        end_to_end_id=payout.end_to_end_id,
        entry_id=entry.entry_id,
        booked_on=entry.booked_on,
        seen_at=now,
    )


def _by_agreement(payables: Sequence[PayableRecord]) -> list[list[PayableRecord]]:
    groups: dict[tuple[PartyId, str, int], list[PayableRecord]] = {}
    for each in payables:
        groups.setdefault((each.cpo_id, each.agreement_id, each.version), []).append(each)
    return list(groups.values())


async def _account(unit: UnitOfWork, party_id: PartyId, currency: str) -> BankAccount | None:
    row = await unit.table(ACCOUNT).get(party_id, currency)
    return None if row is None else BankAccount(name=row.name, iban=row.iban, bic=row.bic, currency=row.currency)


async def _order(unit: UnitOfWork, payout: PayoutRecord, kind: BankFileKind) -> BankOrder | None:
    """Return what the bank is asked; None: another way is agreed on, or the partner has no account."""
    row = await unit.table(MANDATE).get(payout.cpo_id, payout.emsp_id)
    mandate = None
    if row is not None and not row.is_ended and payout.currency == "EUR":
        mandate = Mandate(
            mandate_id=row.mandate_id, signed_on=row.signed_on, scheme=row.scheme, creditor_id=row.creditor_id
        )
    is_debit = kind is BankFileKind.DIRECT_DEBITS
    partner = await _account(unit, payout.emsp_id if is_debit else payout.cpo_id, payout.currency)
    if is_debit != (mandate is not None) or partner is None or not payout.bank_cents:
        return None
    return BankOrder(
        end_to_end_id=payout.end_to_end_id,
        cents=payout.bank_cents,
        partner=partner,
        remittance=f"{payout.cpo_id} {payout.agreement_id} {payout.end_to_end_id}",
        mandate=mandate,
    )


def _document(
    kind: BankFileKind,
    orders: Sequence[BankOrder],
    account: BankAccount,
    *,
    message_id: str,
    made_at: datetime,
    on: date,
) -> bytes:
    if kind is BankFileKind.DIRECT_DEBITS:
        return direct_debits(orders, account=account, message_id=message_id, made_at=made_at, collect_on=on)
    return credit_transfers(orders, account=account, message_id=message_id, made_at=made_at, execute_on=on)
