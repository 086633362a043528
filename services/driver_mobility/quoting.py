"""Make quotes and let drivers use them, within their credit.

Every charge has a quote: asked for in the app, made when a CPO asks in real time, or, when a CPO let the driver charge
by its whitelist, made as soon as the session is seen. So every bill has a price that was frozen before it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Money, Price
from emobility.domain.personal import Sealed
from emobility.domain.quote import Estimate, RetailQuote, gross_e4, refuse_unusable, signing_bytes
from emobility.domain.retail_account import RetailAccount
from emobility.domain.tariff.retail import quote_estimate, retail_tariff
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash
from emobility.ports.payments import Hold, PaymentDeclined, PaymentProviderUnavailable
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.invoice_records import UNPAID_BLOCK
from services.driver_mobility.payment_orders import order_release
from services.driver_mobility.records import (
    ACCOUNT,
    DRIVER,
    ERASURE,
    OPEN_QUOTE_STATES,
    PLAN,
    QUOTE,
    Driver,
    PlanRecord,
    QuoteOrigin,
    QuoteRecord,
    QuoteState,
)
from services.driver_mobility.sweeping import deal_with_each
from services.driver_mobility.terms import Place, vat_percent

VALIDITY: Final = timedelta(minutes=15)
"""How long a quote may be used to start a charge."""
START_GRACE: Final = timedelta(minutes=15)
"""How long after its validity an authorised quote still counts: the station may report the start late."""
ASSUMED_ENERGY_WH: Final = 15_000
"""What a charge takes when nobody said: about the mean of a public AC charge."""
HOLD_TRIES: Final = 2
"""How often a silent payment provider is asked before a start is put off."""
ENERGY_WH_MAX: Final = 200_000
"""Most energy an estimate is made for."""
ID_CHARACTERS_MAX: Final = 36
CENT_E4: Final = 100
UNUSED_QUOTE_STATES: Final = (QuoteState.OFFERED, QuoteState.HOLDING, QuoteState.AUTHORIZED)


_FIRST_STATE: Final = {
    QuoteOrigin.ASKED: QuoteState.OFFERED,
    QuoteOrigin.REAL_TIME: QuoteState.HOLDING,
    QuoteOrigin.UNSEEN_START: QuoteState.RUNNING,
}


class UnknownDriver(RuleBroken):
    """The MSP has no such driver."""


class UnknownPlan(RuleBroken):
    """The driver's plan is not on sale."""


class DriverBlocked(RuleBroken):
    """The contract is blocked."""


class DriverErased(DriverBlocked):
    """The driver was erased: nothing is agreed with them any more."""


class CreditExhausted(RuleBroken):
    """What is open already and this charge exceed the driver's credit limit."""

    def __init__(self, *, exposure_e4: int, wanted_e4: int, limit_e4: int, currency: str) -> None:
        self.exposure_e4 = exposure_e4
        self.wanted_e4 = wanted_e4
        self.limit_e4 = limit_e4
        super().__init__(f"{exposure_e4} e4 {currency} are open, {wanted_e4} are wanted, the limit is {limit_e4}")


class QuoteUsed(RuleBroken):
    """The quote started a charge already, or was refused."""


class UnknownQuote(RuleBroken):
    """There is no such quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a driver says about the charge; `connection_s` None: just as long as the energy takes."""

    energy_wh: int = ASSUMED_ENERGY_WH
    connection_s: int | None = None


class Quoting:
    """Makes quotes, holds cards for them, and ends those nobody used."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def make(
        self,
        unit: UnitOfWork,
        *,
        driver: Driver,
        place: Place,
        wholesale: Tariff,
        roaming_fee_e4: int,
        origin: QuoteOrigin,
        token_subject: str,
        wish: Wish | None = None,
        starts_at: datetime | None = None,
        session_id: str | None = None,
    ) -> QuoteRecord:
        """Make, sign and store a quote.

        Raises:
            DriverErased: what is left of the driver is evidence.
            UnknownPlan: the driver's plan is gone.
            CurrencyMismatch: the plan is in another currency than the place's tariff.
            RestrictedFlatFee: the plan does not fit the wholesale tariff.
            NoTaxRule: nobody knows the VAT there.
        """
        now = self._ports.clock.now()
        await _refuse_erased(unit, driver)
        plan = await plan_of(unit, driver)
        tariff = retail_tariff(
            plan.plan,
            wholesale,
            emsp_id=driver.party_id,
            tariff_id=plan.plan_id[:ID_CHARACTERS_MAX],
            vat_percent=vat_percent(
                driver.party_id, country=place.country, at=starts_at or now, time_zone=place.time_zone
            ),
            issued_at=now,
            roaming_fee_e4=roaming_fee_e4,
        )
        estimate = _estimate(tariff, place, wish or Wish(), starts_at or now)
        quote = RetailQuote(
            quote_id=self._ports.randomness.uuid(),
            emsp_id=driver.party_id,
            driver_id=driver.driver_id,
            plan_id=driver.plan_id,
            cpo_id=place.cpo_id,
            location_id=place.location_id,
            evse_uid=place.evse_uid,
            connector_id=place.connector_id,
            time_zone=place.time_zone,
            issued_at=now,
            valid_until=now + VALIDITY,
            tariff=tariff,
            estimate=estimate,
        )
        signed = replace(quote, signature=await self._ports.signer.sign(driver.party_id, signing_bytes(quote)))
        record = QuoteRecord(
            party_id=driver.party_id,
            quote_id=quote.quote_id,
            driver_id=driver.driver_id,
            state=_FIRST_STATE[origin],
            origin=origin,
            quote=signed,
            token_subject=token_subject,
            wholesale_hash=tariff_hash(wholesale),
            exposure_e4=max(0, estimate.gross_e4),
            valid_until=quote.valid_until,
            hold_card=driver.card,
            payment_id=None,
            held_e4=0,
            cpo_id=place.cpo_id,
            session_id=session_id,
            refusal=None,
        )
        await unit.table(QUOTE).insert(record)
        return record

    async def is_signed(self, quote: RetailQuote) -> bool:
        """Tell whether the quote carries its MSP's own signature."""
        public_key = await self._ports.signer.public_key(quote.emsp_id)
        return quote.signature is not None and self._ports.signer.is_valid(
            public_key=public_key, message=signing_bytes(quote), signature=quote.signature
        )

    async def claim(self, emsp_id: PartyId, driver_id: str, quote_id: str) -> QuoteRecord:
        """Take an offered quote for a start: check it, check credit, hold the card.

        Returns:
            The quote, AUTHORIZED.

        Raises:
            UnknownQuote, UnknownDriver: there is none.
            QuoteOfAnother, QuoteTampered, QuoteExpired: see `domain/quote`.
            QuoteUsed: it is not on offer any more.
            DriverBlocked, CreditExhausted, PaymentDeclined: the driver may not charge now.
            PaymentProviderUnavailable: the provider does not answer; the same claim may be tried again.
        """
        async with self._ports.units.begin() as unit:
            driver = await driver_for_update(unit, emsp_id, driver_id)
            record = await unit.table(QUOTE).get_for_update(emsp_id, quote_id)
            if record is None:
                raise UnknownQuote(quote_id)
            refuse_unusable(
                record.quote,
                driver_id=driver_id,
                emsp_id=emsp_id,
                is_signed=await self.is_signed(record.quote),
                now=self._ports.clock.now(),
            )
            if record.state not in {QuoteState.OFFERED, QuoteState.HOLDING}:
                raise QuoteUsed(f"quote {quote_id} is {record.state}")
            if record.state is QuoteState.OFFERED:
                await self.refuse_over_limit(unit, driver, wanted_e4=record.exposure_e4)
                record = replace(record, state=QuoteState.HOLDING, hold_card=driver.card)
                await unit.table(QUOTE).put(record)
            await unit.commit()
        return await self.hold(record, driver)

    async def hold(self, record: QuoteRecord, driver: Driver) -> QuoteRecord:
        """Hold the estimate on the card where the plan says so, and authorise the quote. No unit may be open.

        Raises:
            PaymentDeclined: the quote is refused.
            PaymentProviderUnavailable: the quote stays HOLDING.
        """
        async with self._ports.units.begin() as unit:
            plan = await plan_of(unit, driver)
        amount_e4 = -(-record.exposure_e4 // CENT_E4) * CENT_E4
        if not plan.holds_card or amount_e4 == 0:
            return await self._settle_hold(record, state=QuoteState.AUTHORIZED)
        amount = Money(amount_e4=amount_e4, currency=record.quote.tariff.currency)
        try:
            hold = await self._ask_for_hold(await card_of(self._ports, record.hold_card), amount, hold_key(record))
        except PaymentDeclined as declined:
            await self._settle_hold(record, state=QuoteState.REFUSED, refusal=declined.code)
            raise
        return await self._settle_hold(
            record, state=QuoteState.AUTHORIZED, payment_id=hold.payment_id, held_e4=hold.held.amount_e4
        )

    async def _ask_for_hold(self, card: str, amount: Money, key: str) -> Hold:
        """Ask again at once when the provider is silent: a driver waits, and the same key holds no money twice."""
        for _ in range(HOLD_TRIES - 1):
            try:
                return await self._ports.payments.authorize(card, amount, idempotency_key=key)
            except PaymentProviderUnavailable:
                continue
        return await self._ports.payments.authorize(card, amount, idempotency_key=key)

    async def _settle_hold(
        self,
        record: QuoteRecord,
        *,
        state: QuoteState,
        payment_id: str | None = None,
        held_e4: int = 0,
        refusal: str | None = None,
    ) -> QuoteRecord:
        async with self._ports.units.begin() as unit:
            current = await unit.table(QUOTE).get_for_update(record.party_id, record.quote_id)
            assert current is not None
            if current.state is not QuoteState.HOLDING:
                return current
            settled = replace(current, state=state, payment_id=payment_id, held_e4=held_e4, refusal=refusal)
            await unit.table(QUOTE).put(settled)
            await unit.commit()
        return settled

    async def refuse_over_limit(
        self, unit: UnitOfWork, driver: Driver, *, wanted_e4: int, but_not: str | None = None
    ) -> None:
        """Let a driver pass whose credit bears another charge, `but_not` being the quote that is wanted itself.

        Raises:
            DriverBlocked: the contract is blocked.
            CreditExhausted: the limit would be exceeded.
        """
        if driver.is_blocked:
            raise DriverBlocked(f"driver {driver.driver_id} is blocked")
        if await unit.table(UNPAID_BLOCK).get(driver.party_id, driver.driver_id) is not None:
            raise DriverBlocked(f"a payment of driver {driver.driver_id} failed")
        exposure_e4 = await self.exposure_e4(unit, driver, but_not=but_not)
        if exposure_e4 + wanted_e4 > driver.credit_limit_e4:
            raise CreditExhausted(
                exposure_e4=exposure_e4,
                wanted_e4=wanted_e4,
                limit_e4=driver.credit_limit_e4,
                currency=driver.currency,
            )

    async def exposure_e4(self, unit: UnitOfWork, driver: Driver, *, but_not: str | None = None) -> int:
        """Return what is open: the outstanding account and every charge that runs or may begin at any moment."""
        account = await unit.table(ACCOUNT).get(driver.party_id, driver.driver_id, driver.currency)
        outstanding_e4 = 0 if account is None else account.outstanding_e4
        quotes = await unit.table(QUOTE).select(
            {"party_id": driver.party_id, "driver_id": driver.driver_id, "state": OPEN_QUOTE_STATES}
        )
        now = self._ports.clock.now()
        charges_e4 = sum(q.exposure_e4 for q in quotes if q.quote_id != but_not and not _has_lapsed(q, now))
        return outstanding_e4 + charges_e4

    async def refuse(self, unit: UnitOfWork, record: QuoteRecord, *, reason: str) -> None:
        """Give a claimed quote up, with its hold: the CPO or the station did not start the charge."""
        current = await unit.table(QUOTE).get_for_update(record.party_id, record.quote_id)
        if current is None or current.state not in {QuoteState.AUTHORIZED, QuoteState.HOLDING}:
            return
        await order_release(unit, current, at=self._ports.clock.now())
        await unit.table(QUOTE).put(replace(current, state=QuoteState.REFUSED, refusal=reason, held_e4=0))

    async def expire_unused(self, emsp_id: PartyId) -> int:
        """End quotes under which no charge began, and their holds; offers nobody took go. Returns how many."""
        async with self._ports.units.begin() as unit:
            found = await unit.table(QUOTE).select(
                {"party_id": emsp_id, "state": UNUSED_QUOTE_STATES},
                before=("valid_until", self._ports.clock.now() - START_GRACE),
            )
        return await deal_with_each(found, self._expire, name=lambda quote: f"quote {quote.quote_id} of {emsp_id}")

    async def _expire(self, quote: QuoteRecord) -> bool:
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            current = await unit.table(QUOTE).get_for_update(quote.party_id, quote.quote_id)
            if current is None or not _has_lapsed(current, now):
                return False
            if current.state is QuoteState.OFFERED:
                await unit.table(QUOTE).remove(quote.party_id, quote.quote_id)
            else:
                await order_release(unit, current, at=now)
                await unit.table(QUOTE).put(replace(current, state=QuoteState.EXPIRED, held_e4=0))
            await unit.commit()
        return True


async def end_unbilled(unit: UnitOfWork, quote: QuoteRecord, *, reason: str, at: datetime) -> QuoteRecord:
    """Free the card and the credit of a charge that is not billed under this quote, and return the quote.

    One that is closed stays as it is. A CDR that comes after all is billed, and charged to the card anew.
    """
    if quote.state not in OPEN_QUOTE_STATES:
        return quote
    await order_release(unit, quote, at=at)
    ended = replace(quote, state=QuoteState.REFUSED, refusal=reason, held_e4=0)
    await unit.table(QUOTE).put(ended)
    return ended


async def card_of(ports: Ports, card: Sealed | None) -> str:
    """Return a card's number, also of who was erased and still owes. Raises `PaymentDeclined` when there is none."""
    if card is None:
        raise PaymentDeclined(code="no_card")
    return await ports.vault.evidence.open(card)


def hold_key(record: QuoteRecord) -> str:
    """Return the idempotency key of a quote's hold: asking again finds the same hold."""
    return f"{record.party_id}/{record.quote_id}/hold"


def _has_lapsed(quote: QuoteRecord, now: datetime) -> bool:
    """Tell whether no charge began under a quote while it counted."""
    return quote.state in UNUSED_QUOTE_STATES and now > quote.valid_until + START_GRACE


def _estimate(tariff: Tariff, place: Place, wish: Wish, starts_at: datetime) -> Estimate:
    energy_wh = min(max(wish.energy_wh, 1), ENERGY_WH_MAX)
    charging_s = -(-energy_wh * 3_600 // place.power_w)
    connection_s = max(1, charging_s if wish.connection_s is None else wish.connection_s)
    priced = quote_estimate(
        tariff,
        started_at=starts_at,
        energy_wh=energy_wh,
        power_w=place.power_w,
        connection_s=connection_s,
        time_zone=place.time_zone,
    )
    charged_s = min(charging_s, connection_s)
    return Estimate(
        energy_wh=min(energy_wh, place.power_w * charged_s // 3_600),
        charging_s=charged_s,
        parking_s=connection_s - charged_s,
        total=Price(excl_e4=priced.total.excl_e4, incl_e4=gross_e4(priced.total)),
    )


async def plan_of(unit: UnitOfWork, driver: Driver) -> PlanRecord:
    """Return the driver's plan. Raises `UnknownPlan`."""
    plan = await unit.table(PLAN).get(driver.party_id, driver.plan_id)
    if plan is None:
        raise UnknownPlan(f"{driver.party_id} has no plan {driver.plan_id}")
    return plan


async def driver_for_update(unit: UnitOfWork, emsp_id: PartyId, driver_id: str) -> Driver:
    """Return a driver and keep other decisions on their credit waiting. Raises `UnknownDriver`, `DriverErased`."""
    driver = await unit.table(DRIVER).get_for_update(emsp_id, driver_id)
    if driver is None:
        raise UnknownDriver(f"{emsp_id} has no driver {driver_id}")
    await _refuse_erased(unit, driver)
    return driver


async def _refuse_erased(unit: UnitOfWork, driver: Driver) -> None:
    if await unit.table(ERASURE).get(driver.party_id, driver.driver_id) is not None:
        raise DriverErased(f"driver {driver.driver_id} was erased; what is left is evidence")


async def account_for_update(unit: UnitOfWork, emsp_id: PartyId, driver_id: str, currency: str) -> RetailAccount:
    """Return a driver's account, opened when it is the first time."""
    accounts = unit.table(ACCOUNT)
    account = await accounts.get_for_update(emsp_id, driver_id, currency)
    if account is None:
        # A row that is not there can't be locked: whoever opens it second goes on with what the first one wrote.
        with suppress(RecordExists):
            await accounts.insert(RetailAccount(party_id=emsp_id, driver_id=driver_id, currency=currency))
        account = await accounts.get_for_update(emsp_id, driver_id, currency)
        assert account is not None, f"the account of {driver_id} in {currency} is gone"
    return account
