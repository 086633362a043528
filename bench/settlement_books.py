"""Books of many sessions, as the product would have left them: metered, billed, accepted, settled, owed by drivers.

Records are made by the product's own functions and written as its adapters write them, but by COPY. Leaves lie there as
the intake leaves them; closing, batches and finality are then the settlement's own work on a chain in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, Final

import psycopg

from emobility.adapters.postgres.columns import RecordMapping
from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch.hashing import SALT_BYTES
from emobility.domain.batch.leaf import NO_METER, LeafKind, leaf_of
from emobility.domain.cdr import CDR
from emobility.domain.identifiers import PartyId
from emobility.domain.meter import MeterReading
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.quote import RetailQuote
from emobility.domain.receipt.document import canonical
from emobility.domain.receipt.making import evidence_record, record_commitment
from emobility.domain.retail_account import RetailAccount
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import TokenType, Whitelist
from emobility.events.charging import TransactionEnded, TransactionStarted
from emobility.events.event import Envelope
from emobility.events.fold import apply
from emobility.events.settlement import SETTLEMENT
from emobility.ports.stores import TableSpec
from services.charging_operations import records as cpo
from services.driver_mobility import records as emsp
from services.driver_mobility.billing import bill_id_of
from services.settlement.payables import take_final_statements
from services.settlement.records import AGREEMENT, LEAF, LeafRecord
from tests.domain.test_cdr import COMPONENT, ORIGINAL
from tests.settlement.settling import Settling
from tests.settlement.world import T0

FIRST_AT: Final = T0 - timedelta(days=28)
"""Charges end from here to `T0`."""
DRIVERS_PER_MSP: Final = 20
STATIONS_PER_CPO: Final = 200
COPIED_AT_ONCE: Final = 5_000
APPENDED_AT_ONCE: Final = 500
COVER_E4: Final = 10**13
CHARGE: Final = timedelta(hours=1)
SALT: Final = bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A driver with one card, which no charge of theirs shows in plain text."""

    driver_id: str
    uid: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What all sessions of a pair have in common."""

    agreement: RoamingAgreement
    secret: bytes
    cdr: CDR
    quote: RetailQuote
    drivers: Sequence[Driver]
    evidence: Sealed
    commitment: bytes


def tariff_of(party_id: PartyId, price: str) -> Tariff:
    """Return a tariff by the kWh."""
    component = replace(COMPONENT, price=Decimal(price))
    assert isinstance(component, PriceComponent)
    assert component.dimension is TariffDimension.ENERGY
    return Tariff(
        party_id=party_id,
        tariff_id="T",
        currency="EUR",
        elements=(TariffElement(components=(component,)),),
        last_updated=FIRST_AT,
    )


class Filling:
    """Fills a database with sessions of pairs and settles them."""

    def __init__(self, here: Settling, agreements: Sequence[RoamingAgreement], *, dsn: str | None = None) -> None:
        """Fill the stores of a settlement; those that lie in a database, named by `dsn`, by COPY."""
        self._here = here
        self._dsn = dsn
        self._agreements = agreements
        self._mappings: dict[str, RecordMapping[Any]] = {}
        self._billed: dict[tuple[PartyId, str], int] = {}

    async def fill(self, sessions: int) -> None:
        """Fill and settle; of each session there is then all that an audit compares."""
        made = _sessions(await self._pairs(), sessions)
        if self._dsn is None:
            await self._enter(made, self._put)
        else:
            with psycopg.connect(self._dsn) as connection:
                await self._enter(made, partial(self._copy, connection))
                connection.autocommit = True
                connection.execute("VACUUM ANALYZE")  # as autovacuum would have done meanwhile
        await self._settle()

    async def _enter(
        self, made: Iterator[Session], write: Callable[[Sequence[tuple[TableSpec[Any], list[Any]]]], Awaitable[None]]
    ) -> None:
        while some := list(islice(made, COPIED_AT_ONCE)):
            appending = asyncio.create_task(self._append([event for each in some for event in each.events]))
            await write(_rows_of(some))
            await appending
            for each in some:
                key = each.bill.party_id, each.bill.driver_id
                self._billed[key] = self._billed.get(key, 0) + each.bill.total_incl_e4
        accounts = [
            RetailAccount(party_id=party, driver_id=driver, currency="EUR", billed_e4=total_e4, due_e4=total_e4)
            for (party, driver), total_e4 in self._billed.items()
        ]
        await write([(emsp.ACCOUNT, accounts)])

    async def _settle(self) -> None:
        await self._here.world.closing.close_now()
        await self._here.follow()
        told = [each async for each in self._here.world.ports.event_log.read([SETTLEMENT])]
        async with self._here.world.ports.units.begin() as unit:
            await take_final_statements(unit, told)
            await unit.commit()
        await self._here.store_deployment()

    async def _pairs(self) -> list[Pair]:
        """Sign and open the agreements, and enrol drivers."""
        await self._here.sign(*self._agreements)
        units, vault = self._here.world.ports.units, self._here.world.ports.vault
        await self._here.market.prepare(units, cover_e4=COVER_E4)
        drivers: dict[PartyId, list[Driver]] = {}
        found = []
        for agreement in self._agreements:
            if agreement.emsp_id not in drivers:
                drivers[agreement.emsp_id] = await self._enrol(agreement.emsp_id)
            async with units.begin() as unit:
                row = await unit.table(AGREEMENT).get(agreement.cpo_id, agreement.agreement_id)
                assert row is not None
            secret = bytes.fromhex(await vault.open(row.pair_secret))
            found.append(await self._pair(agreement, secret, drivers[agreement.emsp_id]))
        return found

    async def _enrol(self, emsp_id: PartyId) -> list[Driver]:
        vault = self._here.world.ports.vault
        found, tokens = [], []
        for number in range(DRIVERS_PER_MSP):
            uid = await vault.seal(f"{emsp_id}-{number}")
            found.append(Driver(driver_id=f"d{number}", uid=uid))
            tokens.append(
                emsp.DriverToken(
                    party_id=emsp_id,
                    token_subject=uid.subject,
                    driver_id=f"d{number}",
                    uid=uid,
                    contract_id=uid,
                    token_type=TokenType.RFID,
                    issuer=emsp_id.code,
                    is_valid=True,
                    whitelist=Whitelist.ALWAYS,
                    last_updated=FIRST_AT,
                )
            )
        async with self._here.world.ports.units.begin() as unit:
            await unit.table(emsp.TOKEN).insert_all(tokens)
            await unit.commit()
        return found

    async def _pair(self, agreement: RoamingAgreement, secret: bytes, drivers: Sequence[Driver]) -> Pair:
        wholesale, retail = tariff_of(agreement.cpo_id, "0.30"), tariff_of(agreement.emsp_id, "0.50")
        token = replace(ORIGINAL.token, emsp_id=agreement.emsp_id, uid=drivers[0].uid, contract_id=drivers[0].uid)
        cdr = replace(
            ORIGINAL,
            party_id=agreement.cpo_id,
            token=token,
            tariff=wholesale,
            tariff_hash=tariff_hash(wholesale),
            signed_data=None,
        )
        quote = RetailQuote(
            quote_id="q",
            emsp_id=agreement.emsp_id,
            driver_id=drivers[0].driver_id,
            plan_id="plan",
            cpo_id=agreement.cpo_id,
            location_id="L",
            evse_uid="E",
            connector_id="1",
            time_zone="Europe/Amsterdam",
            issued_at=FIRST_AT,
            valid_until=T0,
            tariff=retail,
            estimate=None,
            signature="aa" * 64,
        )
        record = evidence_record(quote, cdr, bill_id="b", seller_key="aa" * 32, meter=None)
        text = SALT.hex() * 2 + canonical(record).decode()
        sealed = await self._here.world.ports.vault.seal(text, identifier=f"evidence of {agreement.agreement_id}")
        return Pair(
            agreement=agreement,
            secret=secret,
            cdr=cdr,
            quote=quote,
            drivers=drivers,
            evidence=sealed,
            commitment=record_commitment(record, salt=SALT),
        )

    async def _append(self, events: Sequence[Envelope]) -> None:
        for start in range(0, len(events), APPENDED_AT_ONCE):
            await self._here.world.ports.event_log.append(events[start : start + APPENDED_AT_ONCE])

    async def _put(self, tables: Sequence[tuple[TableSpec[Any], list[Any]]]) -> None:
        async with self._here.world.ports.units.begin() as unit:
            for spec, records in tables:
                await unit.table(spec).insert_all(records)
            await unit.commit()

    async def _copy(self, connection: psycopg.Connection, tables: Sequence[tuple[TableSpec[Any], list[Any]]]) -> None:
        for spec, records in tables:
            await asyncio.to_thread(self._copy_into, connection, spec, records)
        await asyncio.to_thread(connection.commit)

    def _copy_into(self, connection: psycopg.Connection, spec: TableSpec[Any], records: Sequence[Any]) -> None:
        mapping = self._mappings.setdefault(spec.name, RecordMapping(spec))
        names = [column.name for column in mapping.columns]
        statement = f"COPY {spec.name} ({', '.join(names)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copying:
            for record in records:
                row = mapping.row_of(record)
                copying.write_row([row[name] for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A charge with everything that came of it."""

    events: tuple[Envelope, ...]
    transaction: cpo.TransactionRecord
    issued: cpo.CDRRecord
    received: emsp.CDRRecord
    quote: emsp.QuoteRecord
    bill: emsp.BillRecord
    evidence: emsp.EvidenceKept
    leaf: LeafRecord


def _rows_of(some: Sequence[Session]) -> list[tuple[TableSpec[Any], list[Any]]]:
    return [
        (cpo.TRANSACTION, [each.transaction for each in some]),
        (cpo.CDRS, [each.issued for each in some]),
        (emsp.CDRS, [each.received for each in some]),
        (emsp.QUOTE, [each.quote for each in some]),
        (emsp.BILL, [each.bill for each in some]),
        (emsp.EVIDENCE, [each.evidence for each in some]),
        (LEAF, [each.leaf for each in some]),
    ]


def _sessions(pairs: Sequence[Pair], count: int) -> Iterator[Session]:
    step = (T0 - FIRST_AT - CHARGE) / count
    for number in range(count):
        pair = pairs[number % len(pairs)]
        yield _session(pair, number, FIRST_AT + CHARGE + (number * step // timedelta(seconds=1)) * timedelta(seconds=1))


def _session(pair: Pair, number: int, ended_at: datetime) -> Session:
    cpo_id, emsp_id = pair.agreement.cpo_id, pair.agreement.emsp_id
    name, wh, driver = f"s{number:07}", 5_000 + number % 997, pair.drivers[number % len(pair.drivers)]
    started_at = ended_at - CHARGE
    cdr = replace(
        pair.cdr,
        cdr_id=name,
        session_id=name,
        started_at=started_at,
        ended_at=ended_at,
        issued_at=ended_at,
        token=replace(pair.cdr.token, uid=driver.uid, contract_id=driver.uid),
        periods=(replace(pair.cdr.periods[0], started_at=started_at, energy_import_wh=wh),),
        total_cost=Price(excl_e4=3 * wh),
        total_energy_cost=Price(excl_e4=3 * wh),
        total_energy_import_wh=wh,
    )
    events, transaction = _metered(cdr, f"S{number // 100 % STATIONS_PER_CPO}", wh)
    quote_id = f"q{number:07}"
    leaf = leaf_of(cdr, pair_secret=pair.secret, commitment=pair.commitment, meter=NO_METER)
    return Session(
        events=events,
        transaction=transaction,
        issued=cpo.CDRRecord(
            party_id=cpo_id,
            cdr_id=name,
            session_id=name,
            emsp_id=emsp_id,
            agreement_id=pair.agreement.agreement_id,
            is_credit=False,
            credited_by=None,
            energy_import_wh=wh,
            energy_export_wh=0,
            cdr=cdr,
            last_updated=ended_at,
        ),
        received=emsp.CDRRecord(
            party_id=emsp_id,
            cpo_id=cpo_id,
            cdr_id=name,
            session_id=name,
            token_subject=driver.uid.subject,
            started_at=started_at,
            ended_at=ended_at,
            received_at=ended_at,
            decide_by=ended_at + timedelta(days=3),
            state=emsp.CDRState.ACCEPTED,
            is_deemed=False,
            agreement_id=pair.agreement.agreement_id,
            content_hash=name,
            quote_id=quote_id,
            cdr=cdr,
            findings=(),
            credited_by=None,
        ),
        quote=emsp.QuoteRecord(
            party_id=emsp_id,
            quote_id=quote_id,
            driver_id=driver.driver_id,
            state=emsp.QuoteState.BILLED,
            origin=emsp.QuoteOrigin.ASKED,
            quote=replace(pair.quote, quote_id=quote_id, driver_id=driver.driver_id),
            token_subject=driver.uid.subject,
            wholesale_hash=cdr.tariff_hash,
            exposure_e4=0,
            valid_until=ended_at,
            hold_card=None,
            payment_id=None,
            held_e4=0,
            cpo_id=cpo_id,
            session_id=name,
            refusal=None,
        ),
        bill=emsp.BillRecord(
            party_id=emsp_id,
            bill_id=bill_id_of(emsp_id, cpo_id, name),
            driver_id=driver.driver_id,
            quote_id=quote_id,
            cpo_id=cpo_id,
            cdr_id=name,
            session_id=name,
            total_excl_e4=5 * wh,
            total_incl_e4=5 * wh,
            credited_incl_e4=0,
            currency="EUR",
            billed_at=ended_at,
            lines=(),
            notes=(),
        ),
        evidence=emsp.EvidenceKept(
            party_id=emsp_id,
            cpo_id=cpo_id,
            cdr_id=name,
            bill_id=bill_id_of(emsp_id, cpo_id, name),
            evidence=pair.evidence,
        ),
        leaf=LeafRecord(
            cpo_id=cpo_id,
            cdr_id=name,
            emsp_id=emsp_id,
            agreement_id=pair.agreement.agreement_id,
            session_id=name,
            currency=cdr.currency,
            is_credit=leaf.kind is LeafKind.CREDIT,
            credit_reference_id=None,
            ended_at=ended_at,
            accepted_at=ended_at,
            cdr_key=leaf.cdr_key,
            import_wh=leaf.import_wh,
            export_wh=leaf.export_wh,
            commitment=leaf.commitment,
            meter=leaf.meter,
            due_e4=leaf.due_e4,
            credit_e4=leaf.credit_e4,
            version=None,
            sequence=None,
            place=None,
        ),
    )


def _metered(cdr: CDR, station: str, wh: int) -> tuple[tuple[Envelope, ...], cpo.TransactionRecord]:
    started = TransactionStarted(
        party_id=cdr.party_id,
        charging_station_id=station,
        transaction_id=cdr.session_id,
        seq_no=0,
        occurred_at=cdr.started_at,
        readings=(MeterReading(at=cdr.started_at, import_wh=1_000),),
        ocpp_evse_id=1,
        connector_id=1,
        id_token=cdr.token.uid,
    )
    ended = TransactionEnded(
        party_id=cdr.party_id,
        charging_station_id=station,
        transaction_id=cdr.session_id,
        seq_no=1,
        occurred_at=cdr.ended_at,
        readings=(MeterReading(at=cdr.ended_at, import_wh=1_000 + wh),),
    )
    record = cpo.TransactionRecord(
        party_id=cdr.party_id,
        charging_station_id=station,
        transaction_id=cdr.session_id,
        state=cpo.TransactionState.BILLED,
        session_id=cdr.session_id,
        ocpp_evse_id=1,
        token_subject=cdr.token.uid.subject,
        metered_import_wh=wh,
        metered_export_wh=0,
        first_at=cdr.started_at,
        last_at=cdr.ended_at,
        has_ended=True,
        end_arrived_at=cdr.ended_at,
        correlation_id=cdr.session_id,
        updated_at=cdr.ended_at,
        transaction=apply(apply(None, started), ended),
    )
    envelopes = tuple(
        Envelope(event=event, event_id=f"{cdr.session_id}/{event.seq_no}", correlation_id="c", recorded_at=cdr.ended_at)
        for event in (started, ended)
    )
    return envelopes, record
