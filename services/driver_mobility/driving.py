"""What a driver can do: ask for a price, start under it, watch, stop, read receipts. Used by the API and by the page.

Every question is asked in one driver's name; what belongs to another driver does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.token import TokenType
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.commanding import Commanding
from services.driver_mobility.quoting import Quoting, UnknownDriver, UnknownQuote, Wish
from services.driver_mobility.records import (
    BILL,
    COMMAND,
    DRIVER,
    QUOTE,
    SESSION,
    TOKEN,
    BillRecord,
    CommandRecord,
    Driver,
    QuoteOrigin,
    QuoteRecord,
    QuoteState,
    SessionRecord,
)
from services.driver_mobility.terms import place_at, wholesale_terms

CHARGES_MAX: Final = 100
"""Most charges or receipts one answer lists, newest first."""


class UnknownBill(RuleBroken):
    """The driver has no such bill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A charge as its driver follows it, from the quote to the bill."""

    quote: QuoteRecord
    session: SessionRecord | None
    command: CommandRecord | None
    bill: BillRecord | None


class Driving:
    """A driver's side of the MSP."""

    def __init__(self, ports: Ports, quoting: Quoting, commanding: Commanding) -> None:
        self._ports = ports
        self._quoting = quoting
        self._commanding = commanding

    async def driver(self, emsp_id: PartyId, driver_id: str) -> Driver:
        """Return a driver. Raises `UnknownDriver`."""
        async with self._ports.units.begin() as unit:
            return await _driver(unit, emsp_id, driver_id)

    async def quote(
        self,
        emsp_id: PartyId,
        driver_id: str,
        *,
        cpo_id: PartyId,
        location_id: str,
        evse_uid: str | None,
        connector_id: str | None,
        wish: Wish,
    ) -> QuoteRecord:
        """Quote a charge.

        Raises:
            UnknownDriver, UnknownPlace, NoAgreementInForce, NoTariffKnown: there is none.
            UnknownPlan, CurrencyMismatch, RestrictedFlatFee, NoTaxRule: no price can be made.
        """
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            driver = await _driver(unit, emsp_id, driver_id)
            place = await place_at(
                unit, emsp_id, cpo_id, location_id=location_id, evse_uid=evse_uid, connector_id=connector_id
            )
            terms = await wholesale_terms(unit, emsp_id, place, now)
            record = await self._quoting.make(
                unit,
                driver=driver,
                place=place,
                wholesale=terms.tariff,
                roaming_fee_e4=terms.agreement.roaming_fee_e4,
                origin=QuoteOrigin.ASKED,
                token_subject=await self._app_subject(unit, driver),
                wish=wish,
            )
            await unit.commit()
        return record

    async def _app_subject(self, unit: UnitOfWork, driver: Driver) -> str:
        found = await unit.table(TOKEN).select(
            {"party_id": driver.party_id, "driver_id": driver.driver_id, "token_type": TokenType.APP_USER}, limit=1
        )
        return found[0].token_subject if found else ""

    async def start(self, emsp_id: PartyId, driver_id: str, quote_id: str, *, correlation_id: str) -> CommandRecord:
        """Accept a quote and command the start. Raises as `Quoting.claim` and `Commanding.start` do."""
        quote = await self._quoting.claim(emsp_id, driver_id, quote_id)
        return await self._commanding.start(quote, correlation_id=correlation_id)

    async def stop(self, emsp_id: PartyId, driver_id: str, session_id: str, *, correlation_id: str) -> CommandRecord:
        """Command the stop of a running session. Raises `UnknownSession` and as `Commanding.start` does."""
        session = await self._commanding.session_of(emsp_id, driver_id, session_id)
        return await self._commanding.stop(session, correlation_id=correlation_id)

    async def charge(self, emsp_id: PartyId, driver_id: str, quote_id: str) -> Charge:
        """Return a charge by its quote. Raises `UnknownQuote`, for another driver's too."""
        async with self._ports.units.begin() as unit:
            quote = await unit.table(QUOTE).get(emsp_id, quote_id)
            if quote is None or quote.driver_id != driver_id:
                raise UnknownQuote(quote_id)
            return await _charge(unit, quote)

    async def charges(self, emsp_id: PartyId, driver_id: str) -> list[Charge]:
        """Return a driver's charges, newest first; quotes nobody used are left out."""
        async with self._ports.units.begin() as unit:
            await _driver(unit, emsp_id, driver_id)
            states = tuple(state for state in QuoteState if state is not QuoteState.OFFERED)
            quotes = await unit.table(QUOTE).select(
                {"party_id": emsp_id, "driver_id": driver_id, "state": states},
                order_by=("-valid_until",),
                limit=CHARGES_MAX,
            )
            return [await _charge(unit, quote) for quote in quotes]

    async def command(self, emsp_id: PartyId, driver_id: str, command_id: str) -> CommandRecord:
        """Return a command. Raises `UnknownQuote`, for another driver's too."""
        async with self._ports.units.begin() as unit:
            command = await unit.table(COMMAND).get(emsp_id, command_id)
        if command is None or command.driver_id != driver_id:
            raise UnknownQuote(command_id)
        return command

    async def bill(self, emsp_id: PartyId, driver_id: str, bill_id: str) -> tuple[BillRecord, QuoteRecord]:
        """Return a bill and the quote it rests on. Raises `UnknownBill`, for another driver's too."""
        async with self._ports.units.begin() as unit:
            bill = await unit.table(BILL).get(emsp_id, bill_id)
            if bill is None or bill.driver_id != driver_id:
                raise UnknownBill(bill_id)
            quote = await unit.table(QUOTE).get(emsp_id, bill.quote_id)
            if quote is None:
                raise AssertionError(f"bill {bill_id} rests on quote {bill.quote_id}, which is gone")
            return bill, quote

    async def bills(self, emsp_id: PartyId, driver_id: str) -> list[BillRecord]:
        """Return a driver's bills, newest first. Raises `UnknownDriver`."""
        async with self._ports.units.begin() as unit:
            await _driver(unit, emsp_id, driver_id)
            return await unit.table(BILL).select(
                {"party_id": emsp_id, "driver_id": driver_id}, order_by=("-billed_at",), limit=CHARGES_MAX
            )


async def _driver(unit: UnitOfWork, emsp_id: PartyId, driver_id: str) -> Driver:
    driver = await unit.table(DRIVER).get(emsp_id, driver_id)
    if driver is None:
        raise UnknownDriver(f"{emsp_id} has no driver {driver_id}")
    return driver


async def _charge(unit: UnitOfWork, quote: QuoteRecord) -> Charge:
    where = {"party_id": quote.party_id, "quote_id": quote.quote_id}
    sessions = await unit.table(SESSION).select(where, order_by=("-started_at",), limit=1)
    commands = await unit.table(COMMAND).select(where, order_by=("-sent_at",), limit=1)
    bills = await unit.table(BILL).select(where, order_by=("-billed_at",))
    live = [bill for bill in bills if not bill.credited_incl_e4] or bills
    return Charge(
        quote=quote,
        session=sessions[0] if sessions else None,
        command=commands[0] if commands else None,
        bill=live[0] if live else None,
    )
