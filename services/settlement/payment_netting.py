"""What pairs have yet to pay each other by bank, netted over all of them: a proposal that nobody has to take.

Of what is due in no payment yet; what a vault moved, or a payment is under way for, is not in it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from emobility.domain.identifiers import PartyId
from emobility.domain.netting import Debt, NettingPlan, PartyShare, netted
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.guarantee_money import waiting_cents
from services.settlement.money_records import PAYABLE, PayableRecord

CENT_E4: Final = 100


async def plans(unit: UnitOfWork) -> list[NettingPlan]:
    """Return one plan for each currency in which something is due."""
    due: dict[str, dict[tuple[PartyId, PartyId], int]] = defaultdict(lambda: defaultdict(int))
    taken_cents = await waiting_cents(unit)
    for each in await _due(unit):
        agreement, net_cents = (each.currency, each.cpo_id, each.agreement_id), each.payable.net_cents
        # What a guarantee gave and no payment has yet pays for charges, not for their tax.
        part = min(max(net_cents, 0), taken_cents.get(agreement, 0))
        taken_cents[agreement] = taken_cents.get(agreement, 0) - part
        due[each.currency][each.cpo_id, each.emsp_id] += (net_cents - part + each.vat_cents) * CENT_E4
    return [netted(_debts(pairs, currency), currency=currency) for currency, pairs in sorted(due.items())]


async def _due(unit: UnitOfWork) -> list[PayableRecord]:
    rows: list[PayableRecord] = []
    while True:
        page = await unit.table(PAYABLE).select({"paid_by": None}, order_by=PAYABLE.key, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows


def _debts(pairs: dict[tuple[PartyId, PartyId], int], currency: str) -> list[Debt]:
    found = []
    for (cpo, msp), amount_e4 in pairs.items():
        payer, payee = (msp, cpo) if amount_e4 > 0 else (cpo, msp)
        if amount_e4:
            found.append(Debt(payer=payer, payee=payee, currency=currency, amount_e4=abs(amount_e4)))
    return found


def shown_plan(plan: NettingPlan) -> dict[str, Any]:
    """Return a whole plan, for whoever runs the installation."""
    return {
        "currency": plan.currency,
        "parties": len(plan.nets_e4),
        "debts": len(plan.debts),
        "payments": [_shown(each) for each in plan.payments],
        "gross_e4": plan.gross_e4,
        "paid_e4": plan.paid_e4,
        "saved_e4": plan.saved_e4,
        "saved_percent": 100 * plan.saved_e4 // plan.gross_e4 if plan.gross_e4 else 0,
    }


def shown_share(share: PartyShare) -> dict[str, Any]:
    """Return a party's part of a plan: its own debts and payments, by which it can check the plan."""
    return {
        "currency": share.currency,
        "net_e4": share.net_e4,
        "owed": [_shown(each) for each in share.owed],
        "payments": [_shown(each) for each in share.payments],
    }


def _shown(debt: Debt) -> dict[str, Any]:
    return {"payer": debt.payer.code, "payee": debt.payee.code, "amount_e4": debt.amount_e4}
