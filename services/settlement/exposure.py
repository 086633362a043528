"""What is open between a pair, for its two parties: accepted, owed, and how old.

Reserved for charges that run is what the CPO's back office knows (`charging_operations/exposure`); here is the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeVar

from emobility.domain.agreement import SettlementMode
from emobility.domain.banking.payout import CENT_E4
from emobility.domain.exposure import aged, limit_e4_of
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.stores import SELECT_ROWS_MAX, TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.guarantee_records import GUARANTEE, GuaranteeRecord
from services.settlement.money_records import (
    PAYABLE,
    PAYOUT,
    PayableRecord,
    PayoutRecord,
)
from services.settlement.records import AGREEMENT, LEAF, OPENING, PARTY, STATEMENT, PairAgreement, StatementState
from services.settlement.restating_records import ELSEWHERE, HELD

R = TypeVar("R")
SIDES: Final = ("cpo_id", "emsp_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExposure:
    """An agreement's open amounts, in ten-thousandths of `currency`, without VAT.

    Attributes:
        limit_e4: Most that may be open; None: the terms bound nothing in it. What was taken of a guarantee lowers it.
        unsettled_e4: Accepted and in no final statement yet; not what a verdict took out because it counts elsewhere.
        owed_e4: In final statements and not paid; `ages` splits it by how long ago it was due.
    """

    cpo_id: PartyId
    emsp_id: PartyId
    agreement_id: str
    currency: str
    mode: str
    limit_e4: int | None
    unsettled_e4: int
    owed_e4: int
    ages: dict[str, int]

    def shown(self) -> dict[str, Any]:
        """Return it as JSON values."""
        open_e4 = self.unsettled_e4 + self.owed_e4
        return {
            "cpo": self.cpo_id.code,
            "emsp": self.emsp_id.code,
            "agreement": self.agreement_id,
            "currency": self.currency,
            "mode": self.mode,
            "limit_e4": self.limit_e4,
            "unsettled_e4": self.unsettled_e4,
            "owed_e4": self.owed_e4,
            "open_e4": open_e4,
            "free_e4": None if self.limit_e4 is None else self.limit_e4 - open_e4,
            "owed_by_age_e4": self.ages,
        }


async def exposures_of(ports: Ports, party_id: PartyId) -> list[PairExposure]:
    """Return what is open in all agreements of a party, on either side."""
    today = ports.clock.now().date()
    found: list[PairExposure] = []
    async with ports.units.begin() as unit:
        for side in SIDES:
            for pair in await rows_of(unit, AGREEMENT, {side: party_id}):
                found += await _of_pair(unit, pair, today)
    return found


async def _of_pair(unit: UnitOfWork, pair: PairAgreement, today: date) -> list[PairExposure]:
    """Return what is open in the currency of an agreement's terms, and in those of older ones what is left."""
    if pair.terms is None:
        return []
    where = {"cpo_id": pair.cpo_id, "agreement_id": pair.agreement_id}
    openings = await rows_of(unit, OPENING, where)
    modes = {each.currency: each.mode for each in sorted(openings, key=lambda each: each.version)}
    modes[pair.terms.currency] = pair.terms.settlement_mode
    found = [await _exposure(unit, pair, today, currency, mode) for currency, mode in sorted(modes.items())]
    return [each for each in found if each.currency == pair.terms.currency or each.unsettled_e4 or each.owed_e4]


async def _exposure(
    unit: UnitOfWork, pair: PairAgreement, today: date, currency: str, mode: SettlementMode
) -> PairExposure:
    assert pair.terms is not None
    where = {"cpo_id": pair.cpo_id, "agreement_id": pair.agreement_id, "currency": currency}
    held = {"cpo_id": pair.cpo_id, "agreement_id": pair.agreement_id, "kind": tuple(ELSEWHERE)}
    elsewhere = {each.cdr_id for each in await rows_of(unit, HELD, held)}
    unbatched = await rows_of(unit, LEAF, where | {"sequence": None})
    leaves = [each for each in unbatched if each.cdr_id not in elsewhere]
    waiting = tuple(each for each in StatementState if each is not StatementState.FINAL)
    statements = await rows_of(unit, STATEMENT, where | {"state": waiting})
    payables = await rows_of(unit, PAYABLE, where)
    payouts = {each.end_to_end_id: each for each in await rows_of(unit, PAYOUT, where)}
    payee = await unit.table(PARTY).get(pair.cpo_id)
    is_payee_here = payee is not None and payee.is_hosted
    guarantees = await rows_of(unit, GUARANTEE, where)
    waiting_e4 = sum(each.taken_e4 for each in guarantees) - CENT_E4 * sum(
        each.taken_cents for each in payouts.values()
    )
    # What was taken and is on no payment yet lowers the next one.
    ages = aged([*_open_amounts(payables, payouts, as_payee=is_payee_here), (today, -waiting_e4)], today)
    return PairExposure(
        cpo_id=pair.cpo_id,
        emsp_id=pair.emsp_id,
        agreement_id=pair.agreement_id,
        currency=currency,
        mode=mode.value,
        limit_e4=await _limit_e4(unit, pair, guarantees) if currency == pair.terms.currency else None,
        unsettled_e4=sum(leaf.due_e4 - leaf.credit_e4 for leaf in leaves)
        + sum(statement.due_e4 - statement.credit_e4 for statement in statements),
        owed_e4=sum(ages.values()),
        ages={age.value: amount for age, amount in ages.items()},
    )


async def _limit_e4(unit: UnitOfWork, pair: PairAgreement, guarantees: Iterable[GuaranteeRecord]) -> int | None:
    """Return what bounds an agreement: what its newest terms say, less what was taken under them."""
    assert pair.terms is not None
    limit_e4 = limit_e4_of(pair.terms)
    if limit_e4 is None:
        return None
    openings = await rows_of(unit, OPENING, {"cpo_id": pair.cpo_id, "agreement_id": pair.agreement_id})
    newest = max((each.version for each in openings), default=None)
    return limit_e4 - sum(each.taken_e4 for each in guarantees if each.version == newest)


def _open_amounts(
    payables: Iterable[PayableRecord], payouts: dict[str, PayoutRecord], *, as_payee: bool
) -> list[tuple[date, int]]:
    """Return what is owed and since when; what was paid of a payment lowers its oldest statements first.

    The residue below a cent counts with its statement, so that the sum is what is owed to the last ten-thousandth.
    """
    paid_e4 = {
        name: payout.net_paid_e4(as_payee=as_payee) + payout.taken_cents * CENT_E4 for name, payout in payouts.items()
    }
    found = []
    for each in payables:
        if each.is_prepaid:
            continue
        open_e4 = each.exact_e4
        if each.paid_by is not None:
            used_e4 = min(max(open_e4, 0), paid_e4[each.paid_by])
            last = each.end_to_end_id == each.paid_by
            used_e4 = paid_e4[each.paid_by] if last else used_e4
            paid_e4[each.paid_by] -= used_e4
            open_e4 -= used_e4
        found.append((each.due_on, open_e4))
    return found


async def rows_of(unit: UnitOfWork, spec: TableSpec[R], where: dict[str, Any]) -> list[R]:
    """Return all rows, however many pages they fill."""
    rows: list[R] = []
    while True:
        page = await unit.table(spec).select(where, offset=len(rows))
        rows += page
        if len(page) < SELECT_ROWS_MAX:
            return rows
