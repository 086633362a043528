"""Final statements become what is invoiced and paid: once each, in order, in whole cents, with the VAT on top.

Follows `StatementFinal` in a group of its own, so a chain that waits holds up no bank. A statement whose pair the tax
table does not know is paid net and says so; nobody guesses a tax.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.agreement import RoamingAgreement, TaxRegime
from emobility.domain.banking.payout import end_to_end_id, in_cents
from emobility.domain.exposure import PREPAID_MODES
from emobility.domain.identifiers import Role
from emobility.domain.tax import NoTaxRule, Supply, TaxDecision, tax_of
from emobility.domain.tax_rules import BuyerStatus
from emobility.events.event import LoggedEvent
from emobility.events.settlement import SETTLEMENT, StatementFinal
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.money_records import PAYABLE, PayableRecord
from services.settlement.records import AGREEMENT, OPENING

GROUP: Final = "settlement-money"


async def follow_final_statements(ports: Ports, stop: asyncio.Event) -> None:
    """Consume until `stop` is set, with a chain or without."""
    await ports.event_log.consume(GROUP, [SETTLEMENT], take_final_statements, stop=stop)


async def take_final_statements(unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
    """Enter what became final; twice is as once."""
    for logged in batch:
        event = logged.envelope.event
        if isinstance(event, StatementFinal):
            await _take(unit, event)


async def _take(unit: UnitOfWork, event: StatementFinal) -> None:
    name, payables = event.statement, unit.table(PAYABLE)
    key = name.cpo_id, name.agreement_id, name.version
    if await payables.get(*key, name.sequence) is not None:
        return
    pair = await unit.table(AGREEMENT).get(name.cpo_id, name.agreement_id)
    opening = await unit.table(OPENING).get(*key)
    assert pair is not None, f"statement {name} has no agreement"
    assert pair.terms is not None, f"statement {name} has no terms"
    assert opening is not None, f"statement {name} has no opening"
    before = None if name.sequence == 1 else await payables.get(*key, name.sequence - 1)
    assert before is not None or name.sequence == 1, f"statement {name} is final before the one before it"
    exact_e4, carried_e4 = event.due_e4 - event.credit_e4, 0 if before is None else before.residue_e4
    amount = in_cents(exact_e4, carried_e4=carried_e4)
    tax = _tax_of(event, pair.terms)
    day = event.final_at.astimezone(ZoneInfo(pair.terms.time_zone)).date()
    await payables.put(
        PayableRecord(
            cpo_id=name.cpo_id,
            agreement_id=name.agreement_id,
            version=name.version,
            sequence=name.sequence,
            emsp_id=event.emsp_id,
            currency=event.currency,
            statement_hash=event.statement_hash,
            exact_e4=exact_e4,
            carried_e4=carried_e4,
            net_cents=amount.cents,
            residue_e4=amount.residue_e4,
            is_prepaid=opening.mode in PREPAID_MODES,
            vat_cents=0 if isinstance(tax, NoTaxRule) else vat_cents(amount.cents, tax.percent),
            regime=None if isinstance(tax, NoTaxRule) else tax.regime,
            vat_percent=Decimal(0) if isinstance(tax, NoTaxRule) else tax.percent,
            legal_reference=None if isinstance(tax, NoTaxRule) else tax.legal_reference,
            tax_waits=str(tax) if isinstance(tax, NoTaxRule) else None,
            final_at=event.final_at,
            due_on=day + timedelta(days=pair.terms.payment_terms_d),
            end_to_end_id=end_to_end_id(event.statement_hash),
        )
    )


def vat_cents(net_cents: int, percent: Decimal) -> int:
    """Return the tax on a net amount, rounded to cents once, half away from zero (EN 16931, BR-CO-17)."""
    return int((net_cents * percent / 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _tax_of(event: StatementFinal, terms: RoamingAgreement) -> TaxDecision | NoTaxRule:
    """Decide by the countries that the parties' ids name, on the day the statement became final."""
    supply = Supply(
        seller_role=Role.CPO,
        seller_country=event.statement.cpo_id.country_code,
        buyer_role=Role.EMSP,
        buyer_status=BuyerStatus.BUSINESS,
        buyer_country=event.emsp_id.country_code,
        evse_country=event.statement.cpo_id.country_code,
        on=event.final_at.astimezone(ZoneInfo(terms.time_zone)).date(),
    )
    try:
        decision = tax_of(supply)
    except NoTaxRule as missing:
        return missing
    assert decision.regime is not TaxRegime.REVERSE_CHARGE or not decision.percent
    return decision
