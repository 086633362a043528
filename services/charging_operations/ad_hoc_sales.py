"""Ad hoc sales (AFIR, art. 5): the price shown, the money held, the charge, its price; what failed gives the hold up.

A sale is a row whose state says what is to be done next (`ad_hoc_records`); `ad_hoc_work` does it. Its token is drawn
for it alone, so a transaction finds its sale by its token. The CPO is the seller: no session, no CDR, no partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from emobility.domain.ad_hoc import takings
from emobility.domain.authorization import COMMANDED
from emobility.domain.charging_periods import whole_second, without_time
from emobility.domain.charging_station import EVSEStatus
from emobility.domain.errors import EmobilityError, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.session import AuthMethod, ChargingPeriod, SessionStatus
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.priced import PricedSession
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.selection import zone_of
from emobility.domain.tariff.tariff import Tariff, TariffType
from emobility.domain.tax import tax_to_driver
from emobility.domain.token import TokenType
from emobility.domain.transaction import Transaction
from emobility.events.ad_hoc import SoldAdHoc
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.ad_hoc_records import (
    AD_HOC_POINT,
    AD_HOC_SALE,
    AT_THE_EVSE,
    AdHocPointRecord,
    AdHocSaleRecord,
    SaleChannel,
    SaleState,
    next_invoice_number,
)
from services.charging_operations.authorizing import keep_authorization
from services.charging_operations.cdrs import periods_under, place_of
from services.charging_operations.office import REMOTE_START_ID_MAX, NotFound, NotUnderstood, Office
from services.charging_operations.opening import power_w_max_of
from services.charging_operations.proof import Proof
from services.charging_operations.records import (
    AUTHORIZATION,
    EVSES,
    NEWEST_TARIFF,
    TRANSACTION,
    AuthorizationRecord,
    EVSERecord,
    StationRecord,
    TariffVersion,
    TransactionRecord,
    TransactionState,
)
from services.charging_operations.stations import KnownEVSE, evse_at
from services.charging_operations.tariffs import version_at
from services.charging_operations.terminal_advices import settle_by_last_word
from services.charging_operations.terminal_telling import tell_cdr, tell_session

HOLDS_E4: Final = (250_000, 500_000, 1_000_000)
"""What a driver may have held, in ten-thousandths of the tariff's currency."""
START_WAIT: Final = timedelta(minutes=5)
"""Whoever did not plug in by then gets the money back; less than `Limits.authorization_valid`."""
STOP_AHEAD: Final = timedelta(minutes=3)
"""A charge is ended when it could exceed its hold within this time, at the EVSE's full power or only standing there."""
CODE_BYTES: Final = 10
SALE_ID_BYTES: Final = 16
TOKEN_BYTES: Final = 10
"""Twenty hex digits: what OCPP 1.6 takes as an idTag."""
_PAID: Final = (SaleState.CAPTURING, SaleState.CONFIRMING, SaleState.CAPTURED, SaleState.REFUNDING)
"""States in which a late report may give money back; what is being taken is taken as it was asked for."""
_UNSELLABLE: Final = frozenset({EVSEStatus.INOPERATIVE, EVSEStatus.OUTOFORDER, EVSEStatus.RESERVED, EVSEStatus.BLOCKED})


class NotSoldHere(RuleBroken):
    """The EVSE has no ad hoc price with the tax of its country, or can't be used."""


class OccupiedNow(RuleBroken):
    """Somebody else charges, or is about to."""

    def __init__(self) -> None:
        super().__init__("somebody else is using this charging point")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocPoint:
    """POST ad-hoc/points: sell at this EVSE."""

    evse_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a driver sends: which QR code, under which id (drawn for the form), how much to hold, on which card."""

    code: str
    sale_id: str
    held_e4: int
    card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is sold at an EVSE now, and at which price."""

    known: KnownEVSE
    evse: EVSERecord
    version: TariffVersion
    point: AdHocPointRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocDesk:
    """Makes sales and follows their charges."""

    office: Office

    # What is for sale

    async def open_point(self, unit: UnitOfWork, party_id: PartyId, evse_uid: str) -> AdHocPointRecord:
        """Sell at an EVSE from now on; the same EVSE keeps its code. Raises `NotFound`."""
        if await unit.table(EVSES).get(party_id, evse_uid) is None:
            raise NotFound(f"no EVSE {evse_uid}")
        known = await unit.table(AD_HOC_POINT).select({"party_id": party_id, "evse_uid": evse_uid}, limit=1)
        if known:
            return known[0]
        code = self.office.ports.randomness.token_bytes(CODE_BYTES).hex()
        point = AdHocPointRecord(party_id=party_id, code=code, evse_uid=evse_uid, opened_at=self.office.now())
        await unit.table(AD_HOC_POINT).insert(point)
        return point

    async def offer(self, unit: UnitOfWork, party_id: PartyId, code: str) -> Offer:
        """Return what a QR code leads to. Raises `NotFound`, `NotSoldHere`."""
        point = await unit.table(AD_HOC_POINT).get_for_update(party_id, code)
        evse = None if point is None else await unit.table(EVSES).get_for_update(party_id, point.evse_uid)
        if point is None or evse is None:
            raise NotFound("no such charging point")
        return replace(await self.offer_at(unit, evse), point=point)

    async def offer_at(self, unit: UnitOfWork, evse: EVSERecord) -> Offer:
        """Return what is sold at an EVSE, whoever sells it there. Raises `NotSoldHere`."""
        known = await evse_at(unit, evse.party_id, evse.charging_station_id, evse.ocpp_evse_id)
        if known is None or evse.status in _UNSELLABLE:
            raise NotSoldHere("this charging point can't be used at the moment")
        version = await self._ad_hoc_tariff(unit, known.station)
        if version is None or not self._bears_the_tax(version.tariff, known, evse.party_id):
            raise NotSoldHere("there is no price for paying without a contract here")
        return Offer(known=known, evse=evse, version=version)

    async def _ad_hoc_tariff(self, unit: UnitOfWork, station: StationRecord) -> TariffVersion | None:
        where = {"party_id": station.party_id}
        for newest in await unit.table(NEWEST_TARIFF).select(where, order_by=("tariff_id",)):
            is_here = not station.tariff_ids or newest.tariff_id in station.tariff_ids
            if is_here and newest.tariff.tariff_type is TariffType.AD_HOC_PAYMENT:
                version = await version_at(unit, station.party_id, newest.tariff_id, self.office.now())
                if version is not None:
                    return version
        return None

    def _bears_the_tax(self, tariff: Tariff, known: KnownEVSE, party_id: PartyId) -> bool:
        """Tell whether each price states the tax that a private driver pays there."""
        location = known.location
        try:
            decision = tax_to_driver(
                seller_role=Role.CPO,
                seller_country=party_id.country_code,
                country=location.country,
                on=self.office.now().astimezone(zone_of(location.time_zone)).date(),
            )
        except EmobilityError:
            return False
        return all(
            component.vat_percent == decision.percent for element in tariff.elements for component in element.components
        )

    # Buying

    async def buy(self, party_id: PartyId, purchase: Purchase, *, correlation_id: str) -> AdHocSaleRecord:
        """Enter a sale; the same form sent again is the same sale.

        Raises:
            NotFound, NotSoldHere: there is nothing to buy.
            NotUnderstood: the amount is none of `HOLDS_E4`, or the id names a sale of another code.
            OccupiedNow: somebody else was first.
        """
        vault, now = self.office.ports.vault, self.office.now()
        if purchase.held_e4 not in HOLDS_E4:
            raise NotUnderstood("choose one of the amounts")
        async with self.office.ports.units.begin() as unit:
            # The EVSE's row is held, so that of two drivers there one is first, at whatever till.
            offer = await self.offer(unit, party_id, purchase.code)
            known = await unit.table(AD_HOC_SALE).get(party_id, purchase.sale_id)
            if known is not None:
                if known.code != purchase.code:
                    raise NotUnderstood("this form was made for another charging point")
                return known
            await self.refuse_occupied(unit, offer.evse)
            uid = self.office.ports.randomness.token_bytes(TOKEN_BYTES).hex().upper()
            sealed = await vault.seal(uid)
            connector = offer.known.evse.connectors[0]
            sale = AdHocSaleRecord(
                party_id=party_id,
                sale_id=purchase.sale_id,
                channel=SaleChannel.QR,
                state=SaleState.HOLDING,
                code=purchase.code,
                evse_uid=offer.evse.evse_uid,
                charging_station_id=offer.evse.charging_station_id,
                ocpp_evse_id=offer.evse.ocpp_evse_id,
                connector_id=connector.connector_id,
                location=place_of(offer.known, connector),
                tariff=offer.version.tariff,
                tariff_hash=offer.version.tariff_hash,
                currency=offer.version.tariff.currency,
                held_e4=purchase.held_e4,
                uid=sealed,
                token_subject=sealed.subject,
                card=await vault.seal(purchase.card, identifier=uid),
                payment_id=None,
                correlation_id=correlation_id,
                made_at=now,
                start_until=now + START_WAIT,
            )
            await unit.table(AD_HOC_SALE).insert(sale)
            await unit.commit()
        return sale

    async def refuse_occupied(self, unit: UnitOfWork, evse: EVSERecord) -> None:
        """Raise `OccupiedNow` where somebody charges, or bought and may plug in yet."""
        of_evse = {"party_id": evse.party_id, "evse_uid": evse.evse_uid, "state": AT_THE_EVSE}
        running = {
            "party_id": evse.party_id,
            "charging_station_id": evse.charging_station_id,
            "ocpp_evse_id": evse.ocpp_evse_id,
            "state": TransactionState.OPEN,
            "has_ended": False,
        }
        if await unit.table(AD_HOC_SALE).count(of_evse) or await unit.table(TRANSACTION).count(running):
            raise OccupiedNow

    async def sale(self, party_id: PartyId, sale_id: str) -> AdHocSaleRecord:
        """Return a sale. Raises `NotFound`."""
        async with self.office.ports.units.begin() as unit:
            sale = await unit.table(AD_HOC_SALE).get(party_id, sale_id)
        if sale is None:
            raise NotFound("no such charge")
        return sale

    async def ask_stop(self, party_id: PartyId, sale_id: str) -> AdHocSaleRecord:
        """End a charge, or a sale whose driver does not plug in. Raises `NotFound`."""
        async with self.office.ports.units.begin() as unit:
            sale = await unit.table(AD_HOC_SALE).get_for_update(party_id, sale_id)
            if sale is None:
                raise NotFound("no such charge")
            if sale.state is SaleState.RUNNING and sale.stop_asked_at is None:
                sale = replace(sale, stop_asked_at=self.office.now())
                await unit.table(AD_HOC_SALE).put(sale)
            elif sale.state in (SaleState.HELD, SaleState.STARTING):
                sale = await self.give_up(unit, sale, failure="the driver gave it up")
            await unit.commit()
        return sale

    async def authorize(self, unit: UnitOfWork, sale: AdHocSaleRecord) -> None:
        """Let the sale's token start at its EVSE."""
        decision = AuthorizationRecord(
            party_id=sale.party_id,
            authorization_id=authorization_id(sale),
            charging_station_id=sale.charging_station_id,
            token_subject=sale.token_subject,
            is_accepted=True,
            status=COMMANDED.answer.value,
            reason=COMMANDED.reason.value,
            may_cache=False,
            auth_method=AuthMethod.COMMAND,
            decided_at=self.office.now(),
            ocpp_evse_id=sale.ocpp_evse_id,
            transaction_id=None,
            remote_start_id=remote_start_id(sale),
            authorization_reference=None,
            emsp_id=sale.party_id,
            token_type=TokenType.AD_HOC_USER,
            uid=sale.uid,
            contract_id=sale.uid,
            command_id=None,
        )
        await keep_authorization(self.office, unit, decision, correlation_id=sale.correlation_id)

    async def give_up(self, unit: UnitOfWork, sale: AdHocSaleRecord, *, failure: str) -> AdHocSaleRecord:
        """Let the hold be given up; what did not start may not start any more."""
        decision = await unit.table(AUTHORIZATION).get_for_update(sale.party_id, authorization_id(sale))
        if decision is not None and decision.transaction_id is None:
            withdrawn = replace(decision, is_accepted=False, status="Invalid", reason="COMMAND_FAILED")
            await unit.table(AUTHORIZATION).put(withdrawn)
        if sale.channel is SaleChannel.TERMINAL:
            # Its provider holds the money, and gives it up when it is told that nothing is sold.
            given_up = replace(sale, state=SaleState.RELEASED, failure=failure, finished_at=self.office.now())
            await tell_session(
                self.office, unit, given_up, (), None, status=SessionStatus.INVALID, ended_at=self.office.now()
            )
        else:
            given_up = replace(sale, state=SaleState.RELEASING, failure=failure)
        await unit.table(AD_HOC_SALE).put(given_up)
        return given_up

    # The charge

    async def sale_of(self, unit: UnitOfWork, record: TransactionRecord) -> AdHocSaleRecord | None:
        """Return the sale that a transaction is the charge of, held for update."""
        if record.token_subject is None or record.session_id is None:
            return None
        where = {"party_id": record.party_id, "token_subject": record.token_subject}
        found = await unit.table(AD_HOC_SALE).select(where, limit=1)
        sale = await unit.table(AD_HOC_SALE).get_for_update(record.party_id, found[0].sale_id) if found else None
        if sale is None or sale.charging_station_id != record.charging_station_id:
            return None
        is_first = sale.transaction_id is None and sale.state is SaleState.STARTING
        is_its_own = sale.transaction_id == record.transaction_id and sale.state is SaleState.RUNNING
        return sale if is_first or is_its_own else None

    async def follow(self, unit: UnitOfWork, sale: AdHocSaleRecord, record: TransactionRecord) -> None:
        """Enter how far a charge has come; end it before it exceeds its hold."""
        running = self._bound(sale, record)
        priced: PricedSession | None = None
        periods: tuple[ChargingPeriod, ...] = ()
        with suppress(EmobilityError):
            periods = periods_of(running, record.transaction)
            priced = price_of(running, periods, whole_second(record.last_at))
        if priced is not None:
            cost = priced.total
            running = replace(running, total_incl_e4=cost.excl_e4 if cost.incl_e4 is None else cost.incl_e4)
        await tell_session(self.office, unit, running, periods, priced, status=SessionStatus.ACTIVE)
        await unit.table(AD_HOC_SALE).put(await self._guarded(unit, running, record))

    async def guard(self, unit: UnitOfWork, sale: AdHocSaleRecord) -> None:
        """Look at a running charge again: time passes also while its station is silent."""
        record = await unit.table(TRANSACTION).get(sale.party_id, sale.charging_station_id, sale.transaction_id or "")
        current = await unit.table(AD_HOC_SALE).get_for_update(sale.party_id, sale.sale_id)
        if record is not None and current == sale:
            await unit.table(AD_HOC_SALE).put(await self._guarded(unit, sale, record))

    async def _guarded(self, unit: UnitOfWork, sale: AdHocSaleRecord, record: TransactionRecord) -> AdHocSaleRecord:
        if sale.stop_asked_at is not None or record.has_ended:
            return sale
        known = await evse_at(unit, sale.party_id, sale.charging_station_id, sale.ocpp_evse_id)
        power_w_max = power_w_max_of(known) if known else 0
        if not may_exceed(
            sale, record.transaction, power_w_max=power_w_max, until=max(self.office.now(), record.last_at) + STOP_AHEAD
        ):
            return sale
        return replace(sale, stop_asked_at=self.office.now(), failure="ended before the hold was used up")

    def _bound(self, sale: AdHocSaleRecord, record: TransactionRecord) -> AdHocSaleRecord:
        return replace(
            sale,
            state=SaleState.RUNNING,
            transaction_id=record.transaction_id,
            session_id=record.session_id,
            started_at=whole_second(record.first_at),
            energy_import_wh=record.metered_import_wh,
            energy_export_wh=record.metered_export_wh,
        )

    async def close(
        self, unit: UnitOfWork, sale: AdHocSaleRecord, record: TransactionRecord, proof: Proof
    ) -> AdHocSaleRecord:
        """Price a charge that is complete, and have the sum taken. Raises as `price_session` does."""
        ended_at = whole_second(record.last_at)
        bound = self._bound(sale, record)
        periods = proof.provable(periods_of(bound, record.transaction))
        priced = price_of(bound, periods, ended_at)
        taken = takings(priced.total, held_e4=sale.held_e4)
        closed = replace(
            bound,
            state=SaleState.CAPTURING if taken.capture_e4 else SaleState.RELEASING,
            ended_at=ended_at,
            total_incl_e4=taken.total_incl_e4,
            capture_e4=taken.capture_e4,
            residue_e4=taken.residue_e4,
            beyond_hold_e4=taken.beyond_hold_e4,
            vat_e4=taken.vat_e4,
            periods=periods,
            signed_data=proof.signed_data,
        )
        if sale.channel is SaleChannel.TERMINAL:
            closed = await self._close_at_terminal(unit, closed, priced)
        await unit.table(AD_HOC_SALE).put(closed)
        if closed.state is SaleState.CONFIRMING:
            closed = await settle_by_last_word(self.office, unit, closed)
        fact = SoldAdHoc(
            party_id=sale.party_id,
            session_id=record.session_id or "",
            sale_id=sale.sale_id,
            energy_import_wh=closed.energy_import_wh,
            energy_export_wh=closed.energy_export_wh,
            currency=sale.currency,
            total_incl_e4=closed.total_incl_e4,
            capture_e4=closed.capture_e4,
            ended_at=ended_at,
        )
        event_id = f"sale/{sale.party_id}/{sale.sale_id}"
        unit.emit(self.office.fact(fact, event_id=event_id, correlation_id=sale.correlation_id))
        return closed

    async def _close_at_terminal(
        self, unit: UnitOfWork, sale: AdHocSaleRecord, priced: PricedSession
    ) -> AdHocSaleRecord:
        """Tell the terminal's provider what is due; nothing is a price as well."""
        now = self.office.now()
        closed = replace(sale, state=SaleState.CONFIRMING)
        if not sale.capture_e4:
            closed = replace(sale, state=SaleState.RELEASED, finished_at=now)
        elif sale.is_invoiced_here:
            closed = replace(closed, invoice_number=await next_invoice_number(unit, sale.party_id))
        done = SessionStatus.COMPLETED
        await tell_session(self.office, unit, closed, sale.periods, priced, status=done, ended_at=sale.ended_at)
        await tell_cdr(self.office, unit, closed, priced)
        return closed

    async def look_again(self, unit: UnitOfWork, record: TransactionRecord) -> bool:
        """Price a charge again that was sold, after a report came late; tell whether it was one.

        Where it has become cheaper the difference is due back; nobody is asked for more than they paid.
        """
        if record.session_id is None:
            return False
        of_session = {"party_id": record.party_id, "session_id": record.session_id}
        found = await unit.table(AD_HOC_SALE).select(of_session, limit=1)
        sale = await unit.table(AD_HOC_SALE).get_for_update(record.party_id, found[0].sale_id) if found else None
        if sale is None or sale.transaction_id != record.transaction_id:
            return False
        is_same_energy = sale.energy_import_wh == record.metered_import_wh
        if sale.state not in _PAID or sale.erased_at is not None or not is_same_energy:
            return True
        ended_at = whole_second(record.last_at)
        periods = periods_of(sale, record.transaction)
        if not any(period.charging_s or period.parking_s for period in sale.periods):
            periods = without_time(periods)  # its meter did not vouch for it
        try:
            taken = takings(price_of(sale, periods, ended_at).total, held_e4=sale.held_e4)
        except EmobilityError:
            return True
        due_e4 = sale.capture_e4 - taken.capture_e4
        if due_e4 > 0:
            cheaper = replace(
                sale,
                ended_at=ended_at,
                periods=periods,
                total_incl_e4=taken.total_incl_e4,
                capture_e4=taken.capture_e4,
                residue_e4=taken.residue_e4,
                beyond_hold_e4=taken.beyond_hold_e4,
                vat_e4=taken.vat_e4,
                refund_e4=sale.refund_e4 + due_e4,
            )
            if sale.state is SaleState.CAPTURED and _is_ours(sale):
                cheaper = refunding(cheaper)
            await unit.table(AD_HOC_SALE).put(cheaper)
        return True

    async def distrust(self, unit: UnitOfWork, record: TransactionRecord) -> None:
        """A charge goes to quarantine: nobody is charged for what can't be trusted, and the hold is given up."""
        sale = await self.sale_of(unit, record)
        if sale is not None:
            await self.give_up(unit, self._bound(sale, record), failure="the meter's values can't be trusted")


def refunding(sale: AdHocSaleRecord) -> AdHocSaleRecord:
    """Return a sale as it asks for all that is due back now; what becomes due later is asked for after the answer."""
    return replace(sale, state=SaleState.REFUNDING, refunding_e4=sale.refund_e4 - sale.refunded_e4)


def _is_ours(sale: AdHocSaleRecord) -> bool:
    """Whether our own payment provider took the money; what a terminal's provider took, it gives back."""
    return sale.channel is SaleChannel.QR


def authorization_id(sale: AdHocSaleRecord) -> str:
    """Return the name of the decision that lets a sale's token start."""
    return f"ad-hoc/{sale.sale_id}"


def remote_start_id(sale: AdHocSaleRecord) -> int:
    """Return the number that the station repeats in its transaction (2.x)."""
    return int(sale.token_subject[:12], 16) % REMOTE_START_ID_MAX + 1


def periods_of(sale: AdHocSaleRecord, transaction: Transaction) -> tuple[ChargingPeriod, ...]:
    """Return the charging periods of a sale's charge so far."""
    return periods_under(sale.tariff, transaction, time_zone=sale.location.time_zone)


def price_of(sale: AdHocSaleRecord, periods: Sequence[ChargingPeriod], ended_at: datetime) -> PricedSession:
    """Price periods by the tariff that was shown. Raises as `price_session` does."""
    return price_session(sale.tariff, periods, ended_at=ended_at, time_zone=sale.location.time_zone)


def may_exceed(sale: AdHocSaleRecord, transaction: Transaction, *, power_w_max: int, until: datetime) -> bool:
    """Tell whether a charge could cost more than is held by then: at full power, or standing there without charging.

    What can't be priced counts as too much.
    """
    last_at, time_zone = whole_second(transaction.last_at), sale.location.time_zone
    ahead_s = max(0, (until - last_at) // timedelta(seconds=1))
    ended_at = last_at + timedelta(seconds=ahead_s)
    energy_wh = -(-power_w_max * ahead_s // 3600)
    charging = ChargingPeriod(started_at=last_at, energy_import_wh=energy_wh, charging_s=ahead_s, parking_s=0)
    parking = ChargingPeriod(started_at=last_at, energy_import_wh=0, charging_s=0, parking_s=ahead_s)
    try:
        periods = periods_of(sale, transaction)
        for extra in (charging, parking):
            ahead = split_at_price_changes(sale.tariff, (*periods, extra), ended_at=ended_at, time_zone=time_zone)
            total = price_of(sale, ahead, ended_at).total
            if (total.excl_e4 if total.incl_e4 is None else total.incl_e4) > sale.held_e4:
                return True
    except EmobilityError:
        return True
    return False
