"""Multilateral netting of payments: fewer and smaller transfers for the same debts, and each party can check its own.

What pairs owe each other stays owed between them; parties that agree to it pay their balance over all their debts once,
to whom the plan says. Currencies are never netted across: a plan is of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId

DEBTS_MAX: Final = 100_000
"""Most debts in one plan."""


class MalformedDebt(MalformedInput):
    """A debt is above zero, in the plan's currency, and not to oneself; a plan has at most `DEBTS_MAX`."""


class PlanDiffers(RuleBroken):
    """A plan pays something else than its debts come to."""

    def __init__(self, *, party_id: PartyId, owed_e4: int, planned_e4: int) -> None:
        self.party_id = party_id
        self.owed_e4 = owed_e4
        self.planned_e4 = planned_e4
        super().__init__(f"{party_id} gets {owed_e4} by its debts and {planned_e4} by the plan, in ten-thousandths")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Debt:
    """What one party owes another, or pays it, in ten-thousandths of `currency`."""

    payer: PartyId
    payee: PartyId
    currency: str
    amount_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyShare:
    """All of a plan that is one party's: enough to check its part, and nothing of what others owe each other.

    Attributes:
        net_e4: What it gets on balance; below zero it pays.
        owed: Its own debts, to it and by it.
        payments: What it pays or gets under the plan.
    """

    party_id: PartyId
    currency: str
    net_e4: int
    owed: tuple[Debt, ...]
    payments: tuple[Debt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NettingPlan:
    """Payments that settle all debts of one currency.

    Attributes:
        nets_e4: What each party gets on balance; together nothing.
        gross_e4: All debts added up: what would be paid pair by pair.
        paid_e4: What is paid under the plan.
    """

    currency: str
    debts: tuple[Debt, ...]
    nets_e4: Mapping[PartyId, int]
    payments: tuple[Debt, ...]

    @property
    def gross_e4(self) -> int:
        """All debts added up: what would be paid pair by pair, in ten-thousandths."""
        return sum(debt.amount_e4 for debt in self.debts)

    @property
    def paid_e4(self) -> int:
        """What is paid under the plan, in ten-thousandths."""
        return sum(payment.amount_e4 for payment in self.payments)

    @property
    def saved_e4(self) -> int:
        """Liquidity saved: what nobody has to have at hand."""
        return self.gross_e4 - self.paid_e4

    def share(self, party_id: PartyId) -> PartyShare:
        """Return what a party is shown."""
        return PartyShare(
            party_id=party_id,
            currency=self.currency,
            net_e4=self.nets_e4.get(party_id, 0),
            owed=tuple(each for each in self.debts if party_id in {each.payer, each.payee}),
            payments=tuple(each for each in self.payments if party_id in {each.payer, each.payee}),
        )


def netted(debts: Iterable[Debt], *, currency: str) -> NettingPlan:
    """Return the plan of one currency: fewer payments than parties, and each party pays or is paid, never both.

    The largest payer pays the largest payee, again and again; equal amounts go by party, so that the same debts give
    the same plan. The very fewest payments would be a search through all partitions of the parties.

    Args:
        debts: What pairs owe, all in `currency`; several of a pair add up.
        currency: ISO 4217.

    Raises:
        MalformedDebt: one is of another currency, not above zero, or to oneself; or there are too many.
    """
    known = tuple(sorted(debts))
    if len(known) > DEBTS_MAX:
        raise MalformedDebt(f"{len(known)} debts; a plan has at most {DEBTS_MAX}")
    for debt in known:
        if debt.currency != currency or debt.amount_e4 <= 0 or debt.payer == debt.payee:
            raise MalformedDebt(f"{debt.payer} owes {debt.payee} {debt.amount_e4} e4 {debt.currency}")
    nets = _nets(known)
    return NettingPlan(currency=currency, debts=known, nets_e4=nets, payments=_payments(nets, currency))


def check_share(share: PartyShare) -> None:
    """Let a party see that its share is right, by nothing but its own debts. Raises `PlanDiffers`."""
    owed_e4 = _gets(share.party_id, share.owed)
    planned_e4 = _gets(share.party_id, share.payments)
    for found in (planned_e4, share.net_e4):
        if found != owed_e4:
            raise PlanDiffers(party_id=share.party_id, owed_e4=owed_e4, planned_e4=found)


def _gets(party_id: PartyId, debts: Sequence[Debt]) -> int:
    return sum(each.amount_e4 if each.payee == party_id else -each.amount_e4 for each in debts)


def _nets(debts: Iterable[Debt]) -> dict[PartyId, int]:
    nets: dict[PartyId, int] = {}
    for debt in debts:
        nets[debt.payee] = nets.get(debt.payee, 0) + debt.amount_e4
        nets[debt.payer] = nets.get(debt.payer, 0) - debt.amount_e4
    return dict(sorted(nets.items()))


def _payments(nets: Mapping[PartyId, int], currency: str) -> tuple[Debt, ...]:
    payers = [(net_e4, party) for party, net_e4 in nets.items() if net_e4 < 0]
    payees = [(-net_e4, party) for party, net_e4 in nets.items() if net_e4 > 0]
    heapify(payers)
    heapify(payees)
    payments = []
    while payers:
        (owes, payer), (gets, payee) = heappop(payers), heappop(payees)
        amount_e4 = min(-owes, -gets)
        payments.append(Debt(payer=payer, payee=payee, currency=currency, amount_e4=amount_e4))
        if owes + amount_e4:
            heappush(payers, (owes + amount_e4, payer))
        if gets + amount_e4:
            heappush(payees, (gets + amount_e4, payee))
    return tuple(payments)
