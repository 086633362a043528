"""What an ad hoc driver left is kept as long as the law asks for the receipt, and no longer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.domain.retention import DocumentKind, RetentionTerms
from services.charging_operations import ad_hoc_retention
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, AdHocSaleRecord, SaleState
from services.charging_operations.ad_hoc_retention import UNPAID_KEPT
from services.charging_operations.ad_hoc_sales import START_WAIT
from services.charging_operations.records import CPO as HOSTED
from services.charging_operations.records import HostedCPO
from tests.operations.ad_hoc_shop import Shop, audited, open_shop
from tests.operations.world import CPO

END_OF_RETENTION = datetime(2030, 1, 1, tzinfo=UTC)
"""Seven whole years after the end of 2022: seller and place are Dutch."""


async def bought(shop: Shop) -> AdHocSaleRecord:
    """A charge of 5 kWh that was paid."""
    sale = await shop.buy()
    token = await shop.token()
    await shop.here.report(await shop.here.started("7", card=token), shop.here.ended("7", at=60, import_wh=6_000))
    return await shop.sale(sale.sale_id)


async def erased(shop: Shop, sale: AdHocSaleRecord) -> Any:
    answer = await shop.here.api("POST", f"/{CPO}/ad-hoc/sales/{sale.sale_id}/erase")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_receipt_is_kept_as_long_as_the_law_says_and_its_driver_is_closed_to_all_else() -> None:
    async with open_shop() as shop:
        sale = await bought(shop)

        told = await erased(shop, sale)

        assert datetime.fromisoformat(told["until"]) == END_OF_RETENTION
        assert "rijksbelastingen" in told["law"]
        vault = shop.here.ports.vault
        with pytest.raises(SubjectRestricted):
            await vault.open(sale.uid)
        assert await vault.evidence.open(sale.uid)
        assert (await shop.get(shop.url(sale, "/receipt"))).status_code == 404
        assert (await shop.here.api("GET", f"/{CPO}/ad-hoc/retention")).json() == [told]


@pytest.mark.parametrize("is_asked", [True, False])
async def test_everything_that_leads_to_the_driver_goes_when_the_law_lets_go(is_asked: object) -> None:
    async with open_shop() as shop:
        here, sale = shop.here, await bought(shop)
        if is_asked:
            await erased(shop, sale)

        here.clock.step_by(END_OF_RETENTION - here.clock.now() - timedelta(seconds=1))
        await here.operations.ad_hoc_retention.sweep()
        before = await shop.sale(sale.sale_id)
        here.clock.step_by(timedelta(seconds=2))
        await here.operations.ad_hoc_retention.sweep()
        after = await shop.sale(sale.sale_id)

        assert before.erased_at is None
        assert (after.erased_at, after.payment_id, after.card, after.signed_data) == (
            here.clock.now(),
            None,
            None,
            None,
        )
        assert (after.invoice_number, after.capture_e4) == (sale.invoice_number, sale.capture_e4)
        with pytest.raises(SubjectErased):
            await here.ports.vault.evidence.open(sale.uid)
        await audited(here)


async def test_a_sale_that_took_no_money_is_erased_at_once_or_after_a_month() -> None:
    async with open_shop() as shop:
        here = shop.here
        first = await shop.buy()
        here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await here.operations.ad_hoc_worker.watch()
        await here.settle()
        second = await shop.buy()
        here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await here.operations.ad_hoc_worker.watch()
        await here.settle()

        told = await erased(shop, first)
        here.clock.step_by(UNPAID_KEPT)
        await here.operations.ad_hoc_retention.sweep()

        assert (await shop.sale(first.sale_id)).state is SaleState.RELEASED
        assert told["erased_at"] is not None
        assert await erased(shop, first) == told
        assert (await shop.sale(second.sale_id)).erased_at == here.clock.now()


@pytest.mark.parametrize("is_unpaid", [True, False])
async def test_a_paid_sale_that_is_kept_holds_up_no_other(is_unpaid: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is unpaid, or paid in a country whose law asks for fewer years."""
    monkeypatch.setattr(ad_hoc_retention, "ERASED_AT_ONCE_MAX", 1)
    async with open_shop() as shop:
        here, paid = shop.here, await bought(shop)
        other = replace(
            paid,
            sale_id="0" * 32,
            token_subject=here.ports.vault.subject_of("other"),
            state=SaleState.RELEASED if is_unpaid else SaleState.CAPTURED,
            made_at=paid.made_at + timedelta(seconds=1),
            location=replace(paid.location, country="NLD" if is_unpaid else "DNK"),
        )
        other = other if is_unpaid else replace(other, party_id=PartyId("DK-TUL"))
        async with here.ports.units.begin() as unit:
            await unit.table(HOSTED).put(HostedCPO(party_id=other.party_id, name="Tulip"))
            await unit.table(AD_HOC_SALE).put(other)
            await unit.commit()

        here.clock.step_by(UNPAID_KEPT * 2 if is_unpaid else END_OF_RETENTION - here.clock.now() - timedelta(days=1))
        await here.operations.ad_hoc_retention.sweep()

        erased_now = {row.sale_id for row in await here.rows(AD_HOC_SALE) if row.erased_at is not None}
        assert erased_now == {other.sale_id}


async def test_what_was_charged_under_a_longer_law_holds_up_no_sale_of_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ad_hoc_retention, "ERASED_AT_ONCE_MAX", 1)
    async with open_shop() as shop:
        here, paid = shop.here, await bought(shop)
        async with here.ports.units.begin() as unit:
            for number in range(2):
                abroad = replace(
                    paid,
                    sale_id=f"{number}" * 32,
                    token_subject=here.ports.vault.subject_of(f"abroad {number}"),
                    location=replace(paid.location, country="BEL"),
                )
                await unit.table(AD_HOC_SALE).put(abroad)
            await unit.commit()

        here.clock.step_by(END_OF_RETENTION - here.clock.now())
        await here.operations.ad_hoc_retention.sweep()

        erased_now = {row.sale_id for row in await here.rows(AD_HOC_SALE) if row.erased_at is not None}
        assert erased_now == {paid.sale_id}


@pytest.mark.parametrize("years", [None, 3])
@pytest.mark.parametrize("country", ["NO", "DE", "FR", "XX"])
def test_the_sweep_looks_at_no_voucher_that_its_own_country_keeps(country: str, years: int | None) -> None:
    terms, now = RetentionTerms(vouchers_years=years), datetime(2040, 5, 6, tzinfo=UTC)

    before = terms.vouchers_before(now, country=country)

    for at, is_over in ((before, False), (before - timedelta(microseconds=1), True)):
        kept = terms.kept(DocumentKind.AD_HOC_RECEIPT, at, countries=[country])
        assert kept is not None
        assert (kept.until <= now) is is_over


async def test_a_charge_under_way_is_not_erased() -> None:
    async with open_shop() as shop:
        sale = await shop.buy()

        answer = await shop.here.api("POST", f"/{CPO}/ad-hoc/sales/{sale.sale_id}/erase")
        unknown = await shop.here.api("POST", f"/{CPO}/ad-hoc/sales/{'0' * 32}/erase")

        assert (answer.status_code, unknown.status_code) == (409, 404)
