"""What a guarantee gave is put against payments, the oldest first; a bank need not move it any more.

What no payment takes is the payer's, and lowers the next one. So whatever crosses with a call, all that was taken
is on a payment or waits for one::

    taken = 100 * sum of the payments' `taken_cents` + what waits
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emobility.domain.banking.matching import Awaited, BankEntry, Match, match
from emobility.domain.banking.payout import CENT_E4
from emobility.domain.guarantee import Charged
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.guarantee_records import GUARANTEE, GuaranteeRecord
from services.settlement.money_records import PAYABLE, PAYOUT, PayoutRecord
from services.settlement.records import PARTY

GuaranteeKey = tuple[PartyId, str, int]
"""CPO, agreement, version."""


async def locked(unit: UnitOfWork, key: GuaranteeKey) -> GuaranteeRecord | None:
    """Return a guarantee's row, locked before its payments are, or two at once would wait for each other."""
    return await unit.table(GUARANTEE).get_for_update(*key)


async def put_against_payments(unit: UnitOfWork, key: GuaranteeKey) -> int:
    """Lower open payments, the oldest first, by what a guarantee gave and none has; return the cents that are left."""
    guarantee = await locked(unit, key)
    if guarantee is None or not guarantee.taken_e4:
        return 0
    payouts, is_payee_here = await _payouts(unit, key), await is_hosted(unit, key[0])
    left = _left(guarantee, payouts)
    for each in sorted(payouts, key=lambda row: (row.due_on, row.made_at, row.end_to_end_id)):
        payout = await unit.table(PAYOUT).get_for_update(each.cpo_id, each.end_to_end_id)
        assert payout is not None, f"payment {each.end_to_end_id} is gone"
        by_bank = payout.net_paid_e4(as_payee=is_payee_here) // CENT_E4
        part = min(left, payout.net_cents - payout.taken_cents - by_bank)
        if part > 0:
            await unit.table(PAYOUT).put(replace(payout, taken_cents=payout.taken_cents + part))
            left -= part
    return left


async def waiting_cents(unit: UnitOfWork) -> dict[tuple[str, PartyId, PartyId], int]:
    """Return what guarantees gave and no payment has, by currency, CPO and MSP."""
    found = dict[tuple[str, PartyId, PartyId], int]()
    for each in await unit.table(GUARANTEE).select():
        pair = each.currency, each.cpo_id, each.emsp_id
        left = _left(each, await _payouts(unit, (each.cpo_id, each.agreement_id, each.version)))
        found[pair] = found.get(pair, 0) + left
    return found


def _left(guarantee: GuaranteeRecord, payouts: Sequence[PayoutRecord]) -> int:
    return guarantee.taken_e4 // CENT_E4 - sum(each.taken_cents for each in payouts)


async def standing(unit: UnitOfWork, key: GuaranteeKey) -> tuple[list[Charged], int]:
    """Return an agreement's final statements, and what was paid of them in ten-thousandths, whichever way."""
    cpo_id, agreement_id, version = key
    where = {"cpo_id": cpo_id, "agreement_id": agreement_id, "version": version}
    payables = await unit.table(PAYABLE).select(where, order_by=("sequence",))
    guarantee, is_payee_here = await unit.table(GUARANTEE).get(*key), await is_hosted(unit, cpo_id)
    paid_e4 = 0 if guarantee is None else guarantee.taken_e4
    paid_e4 += sum(each.net_paid_e4(as_payee=is_payee_here) for each in await _payouts(unit, key))
    return [Charged(sequence=row.sequence, due_on=row.due_on, net_e4=row.exact_e4) for row in payables], paid_e4


async def is_hosted(unit: UnitOfWork, party_id: PartyId) -> bool:
    """Tell whether a party's books are here."""
    party = await unit.table(PARTY).get(party_id)
    return party is not None and party.is_hosted


def match_crossing(entry: BankEntry, awaited: Awaited, taken_cents: int) -> Match:
    """Decide what an entry is where a guarantee paid for the payment, or some of it, meanwhile.

    What the payer sent counts for its payment all the same, and what was taken instead is put against the next ones.
    """
    found = match(entry, awaited)
    crossed = 0 if entry.is_return else min(found.excess_cents, taken_cents)
    return match(entry, replace(awaited, cents=awaited.cents + crossed)) if crossed else found


async def _payouts(unit: UnitOfWork, key: GuaranteeKey) -> list[PayoutRecord]:
    cpo_id, agreement_id, version = key
    return await unit.table(PAYOUT).select({"cpo_id": cpo_id, "agreement_id": agreement_id, "version": version})
