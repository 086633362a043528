"""How long an ad hoc sale is kept: its receipt as long as the law asks, its driver's data no longer than needed.

A sale's token, card, meter records and payment stand under one subject, drawn for that sale. Whoever bought may have it
erased; what the law makes the CPO keep is closed until a date. The row itself stays, without anything that leads to a
person: it is a line of the CPO's books and of the energy that is accounted for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.retention import DocumentKind, Kept, RetentionTerms
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, OPEN, AdHocSaleRecord, SaleState
from services.charging_operations.office import NotAllowedNow, NotFound, Office, short_hash
from services.charging_operations.records import CPO

UNPAID_KEPT: Final = timedelta(days=30)
"""A sale that took no money is no voucher; whoever asks what became of the hold asks within this time."""
ERASED_AT_ONCE_MAX: Final = 1_000
_RECEIPTED: Final = (SaleState.CAPTURED, SaleState.UNCOLLECTED)
"""Sales that were owed: what could not be collected is in the books as well."""
_UNPAID: Final = tuple(state for state in SaleState if state not in (*OPEN, *_RECEIPTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSale:
    """A sale's personal data: erased, or kept until when by which law. `sale` is the hash of its id, as in the list."""

    sale: str
    made_at: datetime
    erased_at: datetime | None
    until: datetime | None
    law: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocRetention:
    """Erases sales, when asked or when their time is over."""

    office: Office
    terms: RetentionTerms

    async def erase(self, party_id: PartyId, sale_id: str) -> KeptSale:
        """Erase a sale's personal data, or close them until the law lets go; once more changes nothing.

        Raises:
            NotFound: there is no such sale.
            NotAllowedNow: it is under way: it ends and is paid before.
        """
        async with self.office.ports.units.begin() as unit:
            sale = await unit.table(AD_HOC_SALE).get(party_id, sale_id)
        if sale is None:
            raise NotFound(f"no sale {sale_id}")
        if sale.state in OPEN:
            raise NotAllowedNow("the charge is under way")
        kept = self._kept(sale)
        if kept is None:
            sale = await self._forget(sale)
        else:
            await self.office.ports.vault.restrict(sale.token_subject, until=kept.until)
        return self._shown(sale)

    async def kept(self, party_id: PartyId, *, offset: int, limit: int) -> list[KeptSale]:
        """Return what is kept of which sale until when, the oldest first."""
        async with self.office.ports.units.begin() as unit:
            rows = await unit.table(AD_HOC_SALE).select(
                {"party_id": party_id}, order_by=("made_at",), offset=offset, limit=limit
            )
        return [self._shown(row) for row in rows]

    async def sweep(self) -> None:
        """Erase the sales whose time is over, CPO by CPO: each has its own law."""
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            parties = [row.party_id for row in await unit.table(CPO).select()]
        for party_id in parties:
            # Apart: paid sales stay for years, and would stand in front of those that go after a month.
            for states, before in (
                (_UNPAID, now - UNPAID_KEPT),
                (_RECEIPTED, self.terms.vouchers_before(now, country=party_id.country_code)),
            ):
                for sale in await self._over(party_id, states, before):
                    await self._forget(sale)

    async def _over(self, party_id: PartyId, states: Sequence[SaleState], before: datetime) -> list[AdHocSaleRecord]:
        """Return what of a CPO's sales, made before a moment, need not be kept any more: the oldest of it."""
        now, found = self.office.now(), list[AdHocSaleRecord]()
        last: datetime | None = None
        of_last = set[str]()
        while len(found) < ERASED_AT_ONCE_MAX:
            limit = ERASED_AT_ONCE_MAX + len(of_last)
            async with self.office.ports.units.begin() as unit:
                rows = await unit.table(AD_HOC_SALE).select(
                    {"party_id": party_id, "state": states, "erased_at": None},
                    since=None if last is None else ("made_at", last),
                    before=("made_at", before),
                    order_by=("made_at",),
                    limit=limit,
                )
            # One that charged where the law asks for more years than the CPO's own must not hold up the others.
            found += [row for row in rows if row.sale_id not in of_last and self._until(row) <= now]
            if len(rows) < limit:
                break
            last = rows[-1].made_at
            of_last = {row.sale_id for row in rows if row.made_at == last}
        return found[:ERASED_AT_ONCE_MAX]

    def _kept(self, sale: AdHocSaleRecord) -> Kept | None:
        """Return what the law asks for; None: nothing, or not any more."""
        if sale.state not in _RECEIPTED:
            return None
        at = sale.finished_at or sale.ended_at or sale.made_at
        countries = (sale.party_id.country_code, sale.location.country)
        kept = self.terms.kept(DocumentKind.AD_HOC_RECEIPT, at, countries=countries)
        return None if kept is None or kept.until <= self.office.now() else kept

    def _until(self, sale: AdHocSaleRecord) -> datetime:
        kept = self._kept(sale)
        return sale.made_at + UNPAID_KEPT if kept is None else kept.until

    async def _forget(self, seen: AdHocSaleRecord) -> AdHocSaleRecord:
        """The key first, the row after: what a crash in between leaves is found again by its row."""
        await self.office.ports.vault.erase(seen.token_subject)
        async with self.office.ports.units.begin() as unit:
            sale = await unit.table(AD_HOC_SALE).get_for_update(seen.party_id, seen.sale_id) or seen
            if sale.erased_at is None:
                sale = replace(
                    sale,
                    card=None,
                    payment_id=None,
                    signed_data=None,
                    authorization_reference=None,  # it is printed on the slip, and leads to the card at its provider
                    erased_at=self.office.now(),
                )
                await unit.table(AD_HOC_SALE).put(sale)
                await unit.commit()
        return sale

    def _shown(self, sale: AdHocSaleRecord) -> KeptSale:
        kept = self._kept(sale)
        law = "no law asks for it" if kept is None else f"{kept.rule.country}: {kept.rule.law}, {kept.rule.years} years"
        until = None if sale.erased_at is not None else self._until(sale)
        return KeptSale(
            sale=short_hash(sale.sale_id), made_at=sale.made_at, erased_at=sale.erased_at, until=until, law=law
        )
