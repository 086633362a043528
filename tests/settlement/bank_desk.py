"""Two companies with accounts at banks, and the settlement between them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.calls import agreement_query, read_agreement
from emobility.domain.identifiers import PartyId
from emobility.events.banking import PaymentBooked
from emobility.events.settlement import SETTLEMENT
from services.settlement.exposure import PairExposure, exposures_of
from services.settlement.money_records import PAYOUT, BankExportRecord, BankFileKind, PayoutRecord
from services.settlement.payables import take_final_statements
from services.settlement.payouts import Payouts
from services.settlement.records import OPENING
from tests.banking.bank_files import TNM, ZON, camt
from tests.settlement.settling import Settling
from tests.settlement.world import CPO, MSP, T0, a_cdr, a_credit, accepted, terms

ON_CREDIT = terms(settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=10_000_000)
TRANSFERS = BankFileKind.CREDIT_TRANSFERS
TODAY = T0.date()
DUE = TODAY + timedelta(days=ON_CREDIT.payment_terms_d)


class Desk:
    """Two companies, their banks, and the settlement between them."""

    def __init__(self, here: Settling) -> None:
        self.here = here
        self.payouts = Payouts(here.world.ports)
        self.agreement = ON_CREDIT

    async def open(self, *, mode: SettlementMode = SettlementMode.CREDIT_LINE, emsp_id: PartyId = MSP) -> None:
        self.agreement = replace(ON_CREDIT, settlement_mode=mode, emsp_id=emsp_id)
        await self.here.sign(self.agreement)
        await self.here.market.prepare(self.here.world.ports.units)
        await self.payouts.enter_account(CPO, TNM)
        await self.payouts.enter_account(emsp_id, ZON)

    async def charge(self, name: str, cost_e4: int) -> None:
        """Settle one charge; a negative cost takes one of that cost back."""
        original = a_cdr(name, abs(cost_e4))
        if cost_e4 < 0:
            original = replace(original, cdr_id=name.removesuffix("-back"), session_id=name.removesuffix("-back"))
        cdr = original if cost_e4 >= 0 else a_credit(original)
        await self.here.world.take(accepted(cdr, agreement=self.agreement))

    async def settle(self) -> None:
        """Close what was accepted, make it final, and tell the money."""
        await self.here.world.closing.close_now()
        await self.here.follow()
        await self.catch_up()

    async def catch_up(self) -> None:
        told = [each async for each in self.here.world.ports.event_log.read([SETTLEMENT])]
        async with self.here.world.ports.units.begin() as unit:
            await take_final_statements(unit, told)
            await unit.commit()

    async def export(self, party_id: PartyId = MSP, kind: BankFileKind = TRANSFERS) -> BankExportRecord:
        return await self.payouts.export(party_id, kind, "EUR", on=TODAY)

    async def arrives(self, *entries: str) -> dict[str, int]:
        return (await self.payouts.take_file(CPO, camt(entries))).outcomes

    async def rows(self, spec: Any) -> list[Any]:
        async with self.here.world.ports.units.begin() as unit:
            return await unit.table(spec).select()

    async def payout(self) -> PayoutRecord:
        (row,) = await self.rows(PAYOUT)
        assert isinstance(row, PayoutRecord)
        return row

    async def exposure(self) -> PairExposure:
        (found,) = await exposures_of(self.here.world.ports, MSP)
        return found

    async def owed_on_chain(self) -> int:
        (opening,) = await self.rows(OPENING)
        book = self.here.market.contracts.book
        return read_agreement(await self.here.chain.chain.call(book, agreement_query(opening.book_agreement))).owed_e4

    async def booked(self) -> list[int]:
        return [each.amount_e4 for each in await self.here.world.told(PaymentBooked)]
