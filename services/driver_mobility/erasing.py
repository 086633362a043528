"""Erase a driver: everything at once, but for evidence that the law makes the MSP keep, which is closed until a date.

What is decided, and that it was, is a row; only then are keys destroyed, again and again until all are, so that a crash
in between forgets none. See docs/decisions/0006-erasure.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.retention import RetentionTerms
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.deliveries import DELIVERY, Deliveries
from emobility.protocols.ocpi.v221 import ModuleID
from services.driver_mobility.enrolment import require_hosted
from services.driver_mobility.pages import every
from services.driver_mobility.quoting import driver_for_update
from services.driver_mobility.records import (
    ACCOUNT,
    DRIVER,
    ERASURE,
    LOGIN,
    OPEN_QUOTE_STATES,
    PAYMENT_ORDER,
    QUOTE,
    TOKEN,
    Driver,
    DriverToken,
    ErasureRecord,
    ErasureState,
    KeptDocuments,
    PaymentKind,
    PaymentState,
    QuoteState,
    RetentionDuty,
)
from services.driver_mobility.retention import KeptOfDriver, documents_of, retention_of, retention_of_driver
from services.driver_mobility.sweeping import deal_with_each
from services.driver_mobility.tokens import Tokens

SWEPT_AT_ONCE: Final = 100
"""Erasures one sweep takes on per MSP; the next takes the rest."""

COUNTED_ANEW_WITHIN: Final = timedelta(days=31)
"""A sweep counts anew on a restriction's date, and destroys; a key to which none came the vault destroys by then."""

TOLD_WITHIN: Final = timedelta(days=30)
"""How long CPOs are told that a token ended: a request is answered within a month (GDPR art. 12(3), 17, 19)."""

_log = structlog.get_logger(__name__)


class ChargeUnderWay(RuleBroken):
    """A charge runs, or may begin: it ends and is billed before its driver is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What must be kept: why, until when, and the token subjects that stand in CDRs."""

    duties: tuple[RetentionDuty, ...]
    until: datetime | None
    token_subjects: frozenset[str]
    documents: tuple[KeptDocuments, ...]


class Erasing:
    """Erases drivers of the MSPs hosted here."""

    def __init__(self, ports: Ports, deliveries: Deliveries, tokens: Tokens, *, terms: RetentionTerms) -> None:
        self._ports = ports
        self._deliveries = deliveries
        self._tokens = tokens
        self._terms = terms

    async def erase(self, emsp_id: PartyId, driver_id: str) -> ErasureRecord:
        """Erase a driver; once more changes nothing.

        Raises:
            NotHostedHere, UnknownDriver: there is none.
            ChargeUnderWay: a charge of theirs is not billed yet.
        """
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            record = await unit.table(ERASURE).get(emsp_id, driver_id)
            if record is None:
                record = await self._enter(unit, await driver_for_update(unit, emsp_id, driver_id))
                await unit.commit()
        return await self._deal_with_keys(record)

    async def erasures(self, emsp_id: PartyId) -> list[ErasureRecord]:
        """Return all erasures, newest first. Raises `NotHostedHere`."""
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            found = await every(unit, ERASURE, {"party_id": emsp_id})
        return sorted(found, key=lambda each: each.asked_at, reverse=True)

    async def retention(self, emsp_id: PartyId, *, offset: int, limit: int) -> list[KeptOfDriver]:
        """Return what is kept for whom, why and until when. Raises `NotHostedHere`."""
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            now = self._ports.clock.now()
            return await retention_of(unit, self._terms, emsp_id, now=now, offset=offset, limit=limit)

    async def retention_of(self, emsp_id: PartyId, driver_id: str) -> list[KeptOfDriver]:
        """Return what is kept of one driver, if there ever was one. Raises `NotHostedHere`."""
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            return await retention_of_driver(unit, self._terms, emsp_id, driver_id, now=self._ports.clock.now())

    async def sweep(self, emsp_id: PartyId) -> None:
        """Finish what a crash left, and destroy what need not be kept any longer.

        Restrictions are counted anew first: what they name must be done for each MSP before `Vault.erase_due`.
        """
        of_msp = {"party_id": emsp_id}
        async with self._ports.units.begin() as unit:
            table = unit.table(ERASURE)
            pending = await table.select(of_msp | {"state": ErasureState.PENDING}, limit=SWEPT_AT_ONCE)
            over = await table.select(
                of_msp | {"state": ErasureState.RESTRICTED},
                before=("restricted_until", self._ports.clock.now()),
                limit=SWEPT_AT_ONCE,
            )
        await deal_with_each([*pending, *over], self._finish, name=lambda each: f"erasure of {each.driver_id}")
        await self._stop_telling(emsp_id)

    async def _stop_telling(self, emsp_id: PartyId) -> None:
        """Drop what no CPO took in time: it names the erased driver, and the driver's keys can't reach it."""
        of_erased = {
            "own_party": emsp_id,
            "module": ModuleID.TOKENS,
            "message_subject": self._deliveries.subject_of_party(emsp_id),
        }
        before = ("entered_at", self._ports.clock.now() - TOLD_WITHIN)
        async with self._ports.units.begin() as unit:
            untold = await unit.table(DELIVERY).select(of_erased, before=before, limit=SWEPT_AT_ONCE)
            for each in untold:
                await unit.table(DELIVERY).delete(each.own_party, each.delivery_id)
            if untold:
                await unit.commit()
        for each in untold:
            _log.warning("cpo_not_told_of_erasure", emsp=emsp_id.code, cpo=each.to_party.code, reason=each.reason)

    async def _finish(self, record: ErasureRecord) -> bool:
        return await self._deal_with_keys(record) != record

    async def _enter(self, unit: UnitOfWork, driver: Driver) -> ErasureRecord:
        """End the contract, tell the CPOs, clear what need not be kept, and write down what becomes of the keys."""
        of_driver = {"party_id": driver.party_id, "driver_id": driver.driver_id}
        if await unit.table(QUOTE).count(of_driver | {"state": OPEN_QUOTE_STATES}):
            raise ChargeUnderWay(f"a charge of driver {driver.driver_id} is not billed yet")
        tokens = await every(unit, TOKEN, of_driver)
        kept = await self._kept(unit, driver)
        await self._end_tokens(unit, tokens)
        await self._clear(unit, driver, of_driver)
        if kept.duties:
            # Name and contract id stand on bills.
            ended = replace(driver, is_blocked=True, card=None, card_last4=None, password_hash=None)
            await unit.table(DRIVER).put(ended)
        else:
            await unit.table(DRIVER).delete(driver.party_id, driver.driver_id)
        subjects = {driver.contract_id.subject, *(token.token_subject for token in tokens)}
        own = {subject for subject in subjects if not await self._is_shared(unit, driver, subject)}
        restricted = own & {driver.contract_id.subject, *kept.token_subjects} if kept.duties else set()
        record = ErasureRecord(
            party_id=driver.party_id,
            driver_id=driver.driver_id,
            state=ErasureState.PENDING,
            duties=kept.duties,
            restricted_subjects=tuple(sorted(restricted)),
            destroyed_subjects=tuple(sorted(own - restricted)),
            shared=len(subjects - own),
            asked_at=self._ports.clock.now(),
            restricted_until=kept.until,
            kept=kept.documents,
        )
        await unit.table(ERASURE).insert(record)
        return record

    async def _kept(self, unit: UnitOfWork, driver: Driver, *, erased: ErasureRecord | None = None) -> _Kept:
        """Say what must be kept until when. Money or a quarrel that is open lasts as long as what will settle it."""
        now = self._ports.clock.now()
        found = await documents_of(unit, self._terms, driver, now=now, erased=erased)
        kept = tuple(each for each in found.kept if each.until is not None)
        return _Kept(
            duties=found.duties,
            until=max((each.until for each in kept if each.until is not None), default=None),
            token_subjects=found.token_subjects,
            documents=kept,
        )

    async def _end_tokens(self, unit: UnitOfWork, tokens: Iterable[DriverToken]) -> None:
        correlation_id = self._ports.randomness.uuid()
        for token in tokens:
            ended = replace(token, is_valid=False, last_updated=self._ports.clock.now())
            await self._tokens.push_to_all(unit, self._deliveries, ended, correlation_id=correlation_id, is_last=True)
            await unit.table(TOKEN).delete(token.party_id, token.token_subject)

    async def _clear(self, unit: UnitOfWork, driver: Driver, of_driver: Mapping[str, Any]) -> None:
        """Forget logins, open offers and cards, but for the cards that payments and releases under way will ask."""
        for login in await every(unit, LOGIN, of_driver):
            await unit.table(LOGIN).delete(login.party_id, login.cookie_hash)
        hold_cards = {}
        for quote in await every(unit, QUOTE, of_driver):
            hold_cards[quote.quote_id] = quote.hold_card
            state = QuoteState.EXPIRED if quote.state is QuoteState.OFFERED else quote.state
            await unit.table(QUOTE).put(replace(quote, state=state, hold_card=None))
        for account in await unit.table(ACCOUNT).select(of_driver):
            # Before the orders, as payments lock them.
            await unit.table(ACCOUNT).get_for_update(account.party_id, account.driver_id, account.currency)
        for seen in await every(unit, PAYMENT_ORDER, of_driver):
            order = await unit.table(PAYMENT_ORDER).get_for_update(seen.party_id, seen.order_id)
            assert order is not None
            if order.state is not PaymentState.PENDING:
                cleared = replace(order, card=None, kept_card=None)
            elif order.kind is PaymentKind.CHARGE and order.card is None:
                cleared = replace(order, kept_card=driver.card)
            elif order.kind is PaymentKind.RELEASE and order.payment_id is None:
                cleared = replace(order, kept_card=hold_cards.get(order.quote_id))
            else:
                continue
            await unit.table(PAYMENT_ORDER).put(cleared)

    async def _is_shared(self, unit: UnitOfWork, driver: Driver, subject: str) -> bool:
        """Tell whether another contract is sealed under the key: nobody erases another MSP's driver, or another's card.

        The one look beyond the party: keys are found by the identifier, whoever entered it.
        """
        tokens = await unit.table(TOKEN).select({"token_subject": subject})
        drivers = await unit.table(DRIVER).select({"contract_id_subject": subject})
        holders = {(each.party_id, each.driver_id) for each in tokens}
        holders |= {(each.party_id, each.driver_id) for each in drivers}
        return holders - {(driver.party_id, driver.driver_id)} != set()

    async def _deal_with_keys(self, record: ErasureRecord) -> ErasureRecord:
        """Destroy or restrict the keys and say so; a restriction that is over ends in destruction."""
        found, record = record, await self._counted_anew(record)
        vault, until = self._ports.vault, record.restricted_until
        is_over = self._is_over(until)
        for subject in record.destroyed_subjects:
            await vault.erase(subject)
        for subject in record.restricted_subjects:
            if is_over:
                await vault.erase(subject)
            elif until is not None:
                await vault.restrict(subject, until=until + COUNTED_ANEW_WITHIN)
        done = replace(record, state=ErasureState.ERASED if is_over else ErasureState.RESTRICTED)
        if done != found:
            async with self._ports.units.begin() as unit:
                await unit.table(ERASURE).put(done)
                if is_over:
                    await unit.table(DRIVER).delete(record.party_id, record.driver_id)
                await unit.commit()
            _log.info("driver_erased", emsp=record.party_id.code, state=done.state.value, until=str(until))
        return done

    async def _counted_anew(self, record: ErasureRecord) -> ErasureRecord:
        """Return what must be kept once the date has come: a credit or an invoice after the erasure moves it."""
        if record.state is not ErasureState.RESTRICTED or not self._is_over(record.restricted_until):
            return record
        async with self._ports.units.begin() as unit:
            driver = await unit.table(DRIVER).get(record.party_id, record.driver_id)
            if driver is None:
                return record
            kept = await self._kept(unit, driver, erased=record)
        if kept.until is None:
            return record
        return replace(record, duties=kept.duties, restricted_until=kept.until, kept=kept.documents)

    def _is_over(self, until: datetime | None) -> bool:
        return until is None or until <= self._ports.clock.now()
