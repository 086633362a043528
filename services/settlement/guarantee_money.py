"""What a guarantee gave is put against payments, the oldest first; a bank need not move it any more.

What no payment takes is the payer's, and lowers the next one, be it under newer terms. So whatever crosses with a call,
all that was taken of an agreement in a currency is on a payment or waits for one::

    taken = 100 * sum of the payments' `taken_cents` + what waits
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from emobility.domain.banking.matching import Awaited, BankEntry, Match, match
from emobility.domain.banking.payout import CENT_E4
from emobility.domain.guarantee import Charged
from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.exposure import rows_of
from services.settlement.guarantee_records import GUARANTEE, GuaranteeRecord
from services.settlement.money_records import PAYABLE, PAYOUT, PayoutRecord
from services.settlement.records import PARTY

GuaranteeKey = tuple[PartyId, str, int]
"""CPO, agreement, version."""


async def locked(unit: UnitOfWork, key: GuaranteeKey) -> GuaranteeRecord | None:
    """Return a guarantee's row, locked before its payments are, or two at once would wait for each other.

    So are those of the agreement's other versions, by version, for what one gave may be put against others' payments.
    """
    cpo_id, agreement_id, version = key
    found = None
    for each in await rows_of(unit, GUARANTEE, {"cpo_id": cpo_id, "agreement_id": agreement_id}):
        row = await unit.table(GUARANTEE).get_for_update(cpo_id, agreement_id, each.version)
        found = row if each.version == version else found
    return found


async def put_against_payments(unit: UnitOfWork, key: GuaranteeKey, currency: str) -> int:
    """Lower open payments by what guarantees of the agreement gave and none has; return the cents that are left.

    Those of this version first, the oldest before others, then those of newer ones.
    """
    cpo_id, agreement_id, version = key
    await locked(unit, key)
    where = {"cpo_id": cpo_id, "agreement_id": agreement_id, "currency": currency}
    payouts, is_payee_here = await rows_of(unit, PAYOUT, where), await is_hosted(unit, cpo_id)
    left = _left_e4(await rows_of(unit, GUARANTEE, where), payouts) // CENT_E4
    newer = [each for each in payouts if each.version >= version and _open_cents(each, as_payee=is_payee_here)]
    for each in sorted(newer, key=lambda row: (row.version, row.due_on, row.made_at, row.end_to_end_id)):
        if left <= 0:
            break
        payout = await unit.table(PAYOUT).get_for_update(cpo_id, each.end_to_end_id)
        assert payout is not None, f"payment {each.end_to_end_id} is gone"
        part = min(left, _open_cents(payout, as_payee=is_payee_here))
        if part > 0:
            await unit.table(PAYOUT).put(replace(payout, taken_cents=payout.taken_cents + part))
            left -= part
    return left


async def waiting_cents(unit: UnitOfWork) -> dict[tuple[str, PartyId, str], int]:
    """Return what guarantees gave and no payment has, by currency, CPO and agreement."""
    given: dict[tuple[str, PartyId, str], list[GuaranteeRecord]] = defaultdict(list)
    for each in await rows_of(unit, GUARANTEE, {}):
        given[each.currency, each.cpo_id, each.agreement_id].append(each)
    found = dict[tuple[str, PartyId, str], int]()
    for (currency, cpo_id, agreement_id), guarantees in given.items():
        where = {"cpo_id": cpo_id, "agreement_id": agreement_id, "currency": currency}
        left_e4 = _left_e4(guarantees, await rows_of(unit, PAYOUT, where))
        found[currency, cpo_id, agreement_id] = left_e4 // CENT_E4
    return found


def _left_e4(guarantees: Sequence[GuaranteeRecord], payouts: Sequence[PayoutRecord]) -> int:
    return sum(each.taken_e4 for each in guarantees) - CENT_E4 * sum(each.taken_cents for each in payouts)


def _open_cents(payout: PayoutRecord, *, as_payee: bool) -> int:
    """Return what of a payment's charges neither a bank moved nor a guarantee gave."""
    return payout.net_cents - payout.taken_cents - payout.net_paid_e4(as_payee=as_payee) // CENT_E4


async def standing(unit: UnitOfWork, key: GuaranteeKey) -> tuple[list[Charged], int]:
    """Return an agreement's final statements, and what was paid of them in ten-thousandths, whichever way.

    What guarantees gave and no payment has counts for the oldest version that owes.
    """
    cpo_id, agreement_id, version = key
    of_version: dict[str, Any] = {"cpo_id": cpo_id, "agreement_id": agreement_id, "version": version}
    own = await rows_of(unit, PAYABLE, of_version)
    if not own:
        return [], 0
    where = {"cpo_id": cpo_id, "agreement_id": agreement_id, "currency": own[0].currency}
    payouts, is_payee_here = await rows_of(unit, PAYOUT, where), await is_hosted(unit, cpo_id)
    paid_e4, older_e4 = defaultdict[int, int](int), defaultdict[int, int](int)
    for payout in payouts:
        paid_e4[payout.version] += payout.net_paid_e4(as_payee=is_payee_here) + payout.taken_cents * CENT_E4
    for each in await rows_of(unit, PAYABLE, where | {"is_prepaid": False}):
        if each.version < version:
            older_e4[each.version] += each.exact_e4
    needed_e4 = sum(max(charged_e4 - paid_e4[older], 0) for older, charged_e4 in older_e4.items())
    left_e4 = _left_e4(await rows_of(unit, GUARANTEE, where), payouts) - needed_e4
    charged = [Charged(sequence=row.sequence, due_on=row.due_on, net_e4=row.exact_e4) for row in own]
    return charged, paid_e4[version] + max(left_e4, 0)


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
