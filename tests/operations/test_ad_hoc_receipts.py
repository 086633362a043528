"""What was taken for an ad hoc charge too much goes back to the driver, and anyone can check the receipt."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emobility.adapters.memory import VirtualClock
from emobility.adapters.postgres import open_postgres
from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.adapters.signing import Ed25519Signer
from emobility.adapters.system import SystemRandomness
from emobility.domain.money import Money
from emobility.domain.receipt.ad_hoc import AdHocReceipt, signing_bytes, verify_ad_hoc_receipt
from emobility.domain.receipt.checking import Check, Verdict
from emobility.domain.receipt.document import canonical
from emobility.domain.tariff.tariff import (
    PriceComponent,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
)
from emobility.ports.payments import PaymentDeclined, PaymentProviderUnavailable
from services.charging_operations.ad_hoc_ledger import AD_HOC_ENTRY, EntryKind
from services.charging_operations.ad_hoc_records import AdHocSaleRecord, SaleState, next_invoice_number
from services.charging_operations.tariffs import TariffTerms
from services.cli.verifying import run_verify
from tests.adapters.contract.conftest import DEADLINE_S
from tests.adapters.postgres.waiting import until_waiting
from tests.operations.ad_hoc_shop import Shop, audited, open_shop
from tests.operations.world import CPO, MASTER_KEY, START

PROOFS = ReceiptProofs()


def half_an_hour_cheap() -> TariffTerms:
    def per_kwh(price: str, **restrictions: int) -> TariffElement:
        energy = PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal(price), vat_percent=Decimal(21))
        return TariffElement(components=(energy,), restrictions=TariffRestrictions(**restrictions))  # type: ignore[arg-type]  # seconds

    elements = (per_kwh("0.20", duration_s_max=1_800), per_kwh("0.60"))
    return TariffTerms(currency="EUR", elements=elements, tariff_type=TariffType.AD_HOC_PAYMENT)


async def paid(shop: Shop) -> AdHocSaleRecord:
    """6 kWh in an hour; half of it, as far as anyone knows, in the cheap half hour."""
    here, sale = shop.here, await shop.buy()
    card = await shop.token()
    await here.report(await here.started("7", card=card), here.ended("7", at=60, import_wh=7_000))
    return await shop.sale(sale.sale_id)


async def test_a_late_report_that_makes_a_charge_cheaper_gives_the_difference_back() -> None:
    async with open_shop(half_an_hour_cheap()) as shop:
        first = await paid(shop)
        # Most of it was charged while it was cheap: 5 kWh at 0.20 and 1 at 0.60, not 3 and 3.
        late = shop.here.updated("7", at=30, import_wh=6_000)
        await shop.here.report(late)
        await shop.here.report(late)
        then = await shop.sale(first.sale_id)
        payment = await shop.payment()
        receipt = await shop.get(shop.url(then, "/receipt"))
        ledger = (await shop.here.api("GET", f"/{CPO}/ad-hoc/ledger")).json()

        assert (first.capture_e4, then.capture_e4, then.refund_e4, then.refunded_e4) == (29_000, 19_300, 9_700, 9_700)
        assert (then.state, payment.captured_e4 - payment.refunded_e4) == (SaleState.CAPTURED, 19_300)
        assert sorted((each["kind"], each["amount_e4"]) for each in ledger) == [
            ("GIVEN_BACK", 9_700),
            ("TAKEN", 29_000),
        ]
        assert "0.97 go back to your card" in receipt.text
        assert await shop.here.quarantine() == []
        await audited(shop.here)


async def test_a_late_report_that_makes_a_charge_dearer_takes_nothing_more() -> None:
    async with open_shop(half_an_hour_cheap()) as shop:
        first = await paid(shop)
        await shop.here.report(shop.here.updated("7", at=30, import_wh=1_500))

        assert await shop.sale(first.sale_id) == first
        assert (await shop.payment()).captured_e4 == first.capture_e4
        await audited(shop.here)


async def test_a_refund_that_dies_on_its_way_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_shop(half_an_hour_cheap()) as shop:
        first = await paid(shop)
        real, died = shop.here.ports.payments.refund, list[str]()

        async def dying(*arguments: object, **named: object) -> object:
            answer = await real(*arguments, **named)  # type: ignore[arg-type]  # as they came
            if not died:
                died.append("after it was given")
                raise RuntimeError("died")
            return answer

        monkeypatch.setattr(shop.here.ports.payments, "refund", dying)
        await shop.here.report(shop.here.updated("7", at=30, import_wh=6_000), settle=False)
        await shop.here.until(lambda: _is(shop, first, SaleState.CAPTURED, 9_700))

        assert (await shop.payment()).refunded_e4 == 9_700
        await audited(shop.here)


async def test_what_becomes_due_while_a_refund_is_under_way_is_given_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_shop(half_an_hour_cheap()) as shop:
        here, first = shop.here, await paid(shop)
        real, lost = here.ports.payments.refund, list[Any]()

        async def losing(*arguments: Any, **named: Any) -> Any:
            if not lost:
                lost.append(await real(*arguments, **named))
                await here.report(here.updated("7", at=30, import_wh=6_000), settle=False)
            if (await shop.sale(first.sale_id)).refund_e4 < 9_700:
                raise PaymentProviderUnavailable("the answer was lost")
            return await real(*arguments, **named)

        monkeypatch.setattr(here.ports.payments, "refund", losing)
        await here.report(here.updated("7", at=10, import_wh=3_500), settle=False)
        await here.until(lambda: _is(shop, first, SaleState.CAPTURED, 9_700))

        assert (await shop.payment()).refunded_e4 == 9_700
        given = [each.amount_e4 for each in await here.rows(AD_HOC_ENTRY, kind=EntryKind.GIVEN_BACK)]
        assert sorted(given) == [4_400, 5_300]
        await audited(here)


@pytest.mark.parametrize("is_refused", [False, True])
async def test_what_becomes_due_while_the_sum_is_being_taken_goes_back_once_it_is(
    is_refused: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_shop(half_an_hour_cheap()) as shop:
        here, real, asked = shop.here, shop.here.ports.payments.capture, list[int]()

        async def losing(payment_id: str, amount: Money, **named: Any) -> Any:
            asked.append(amount.amount_e4)
            if len(asked) > 1 and is_refused:
                raise PaymentDeclined(code="51")
            answer = None if is_refused else await real(payment_id, amount, **named)
            if len(asked) == 1:
                await here.report(here.updated("7", at=30, import_wh=6_000), settle=False)
            if (await shop.sale(sale.sale_id)).refund_e4 == 0:
                raise PaymentProviderUnavailable("the answer was lost")
            return answer

        monkeypatch.setattr(here.ports.payments, "capture", losing)
        sale = await shop.buy()
        started = await here.started("7", card=await shop.token())
        await here.report(started, here.ended("7", at=60, import_wh=7_000), settle=False)
        state = SaleState.UNCOLLECTED if is_refused else SaleState.CAPTURED
        await here.until(lambda: _is(shop, sale, state, 0 if is_refused else 9_700))

        then, payment = await shop.sale(sale.sale_id), await shop.payment()
        assert set(asked) == {29_000}
        assert (then.capture_e4, then.refund_e4) == (19_300, 0 if is_refused else 9_700)
        assert payment.captured_e4 - payment.refunded_e4 == (0 if is_refused else 19_300)
        await audited(here)


async def _is(shop: Shop, sale: AdHocSaleRecord, state: SaleState, refunded_e4: int) -> bool:
    now = await shop.sale(sale.sale_id)
    return now.state is state and now.refunded_e4 == refunded_e4


async def a_file(shop: Shop) -> bytes:
    sale = await paid(shop)
    answer = await shop.get(shop.url(sale, "/receipt.json"))
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_anyone_can_check_the_receipt_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_shop() as shop:
        written = await a_file(shop)
    found = {each.check: each.verdict for each in verify_ad_hoc_receipt(written, PROOFS).findings}
    draw, changed = random.Random(1), list[bytes]()
    for _ in range(200):
        place = draw.randrange(len(written))
        changed.append(written[:place] + bytes([written[place] ^ 1 << draw.randrange(8)]) + written[place + 1 :])
    (tmp_path / "receipt.json").write_bytes(written)
    (tmp_path / "other.json").write_bytes(changed[0])

    assert found == {
        Check.FORM: Verdict.HOLDS,
        Check.SIGNATURE: Verdict.HOLDS,
        Check.PRICE: Verdict.HOLDS,
        Check.ENERGY: Verdict.HOLDS,
        Check.METER: Verdict.UNPROVEN,
        Check.STATEMENT: Verdict.UNPROVEN,
    }
    assert all(not verify_ad_hoc_receipt(each, PROOFS).is_accepted for each in changed)

    assert await asyncio.to_thread(run_verify, paths=[tmp_path / "receipt.json"], rpc_url=None, json=False) == 0
    assert "only the chain can tell" not in capsys.readouterr().out
    assert await asyncio.to_thread(run_verify, paths=[tmp_path], rpc_url=None, json=True) == 1


async def test_a_seller_that_signs_another_price_or_energy_is_refused() -> None:
    async with open_shop() as shop:
        receipt = msgspec.json.decode(await a_file(shop), type=AdHocReceipt)
    signer = Ed25519Signer(MASTER_KEY)
    for changes, check in (
        ({"capture_e4": receipt.capture_e4 + 100}, Check.PRICE),
        ({"vat_e4": receipt.vat_e4 + 1}, Check.PRICE),
        ({"currency": "SEK"}, Check.PRICE),
        ({"import_wh": receipt.import_wh + 1}, Check.ENERGY),
        ({"tariff": {}}, Check.PRICE),
        ({"held_e4": 0}, Check.PRICE),
    ):
        wrong = msgspec.structs.replace(receipt, signature=None, **changes)
        signature = await signer.sign(CPO, signing_bytes(wrong))
        verification = verify_ad_hoc_receipt(canonical(msgspec.structs.replace(wrong, signature=signature)), PROOFS)

        refused = [each.check for each in verification.findings if each.verdict is Verdict.REFUSED]
        assert refused == [check], changes


@pytest.mark.postgres
async def test_two_first_sales_at_once_have_two_numbers(postgres_dsn: str) -> None:
    async with (
        open_postgres(
            postgres_dsn, master_key=bytes(32), clock=VirtualClock(START), randomness=SystemRandomness()
        ) as postgres,
        postgres.units.begin() as first,
        postgres.units.begin() as second,
    ):
        one = await next_invoice_number(first, CPO)
        waiting = asyncio.create_task(next_invoice_number(second, CPO))
        async with asyncio.timeout(DEADLINE_S):
            await until_waiting(waiting, postgres.database)
            await first.commit()
            two = await waiting
            await second.commit()

    assert (one, two) == (1, 2)
