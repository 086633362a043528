"""kill -9 in the middle of many CDRs: each is at the CPO, at the hub and at the MSP exactly once, with the same hash.

The CPO's own desk issues them while everything is killed in turn. `make soak` carries ten thousand.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from emobility.domain.charging_periods import whole_second
from emobility.domain.errors import Unavailable
from emobility.domain.session import AuthMethod, ChargingPeriod, Session, SessionStatus, SessionToken
from emobility.domain.token import TokenType
from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.cdr import CDRAccepted, CDRIssued, CDRReceived
from emobility.ports.ports import Ports
from emobility.protocols.ocpi.mapping import cdr_to_ocpi
from emobility.protocols.ocpi.v221 import write
from emobility.wiring import open_ports
from roaming_hub.records import CDR_FORWARD, CDRForward, ForwardOutcome
from services.audit.rows import all_rows
from services.charging_operations import records as cpo
from services.charging_operations.cdrs import CDRDesk, live_cdr, place_of
from services.charging_operations.opening import connector_of
from services.charging_operations.service import build as build_operations
from services.charging_operations.stations import evse_at
from services.charging_operations.tariffs import version_at
from services.driver_mobility import records as msp
from tests.faults.three_parties import AGREEMENT, CPO, MSP, STATION, TARIFF, ThreeParties, count, three_parties

IS_LONG: Final = "WATTROAM_SOAK" in os.environ
CDRS: Final = 10_000 if IS_LONG else 160
KILL_ROUNDS: Final = 3 if IS_LONG else 1
ALSO: Final = ("mobility", "operations", "hub", "postgres") if IS_LONG else ()
"""What the long form kills, too."""
DEADLINE_S: Final = 3_000.0 if IS_LONG else 240.0
SEED: Final = int(os.environ.get("WATTROAM_FAULT_SEED", "5"))
TOKENS: Final = max(4, CDRS // 100)
"""A token charges at one place at a time, so that many CDRs of little time need many tokens."""
CHARGE: Final = timedelta(seconds=2)
UNIT_CDRS: Final = 20
POLL_S: Final = 0.5 if IS_LONG else 0.05

pytestmark = [pytest.mark.fault, pytest.mark.postgres, pytest.mark.timeout(DEADLINE_S + 240)]


def uid_of(number: int) -> str:
    return f"04{number % TOKENS:012X}"


async def test_kill_9_among_cdrs_leaves_each_once_at_cpo_hub_and_msp(run_folder: Path) -> None:
    await carry_through_kills(run_folder, ("hub", "postgres", *ALSO), event_log="postgres")


@pytest.mark.kafka
@pytest.mark.long
async def test_kill_9_of_kafka_too_leaves_each_cdr_once(run_folder: Path) -> None:
    await carry_through_kills(run_folder, ("kafka", *ALSO), event_log="kafka")


async def carry_through_kills(run_folder: Path, names: tuple[str, ...], *, event_log: str) -> None:
    print(f"seed {SEED}")  # noqa: T201 - repeats the moments of the kills
    chance = random.Random(f"{SEED} {names}")
    async with three_parties(run_folder, event_log=event_log) as parties:
        await parties.set_up([uid_of(number) for number in range(TOKENS)])
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(issue_all(parties))
            left = await kill_in_the_middle(parties, names, chance)
            await until_accepted(parties, CDRS)

        books = await books_of(parties)

    assert all(each > 0 for each in left), "a kill came when all was done"
    assert parties.killed == [*names] * KILL_ROUNDS
    assert len(books.issued) == CDRS
    assert books.received == books.issued
    assert {cdr_id: {row.body_sha256} for cdr_id, row in books.carried.items()} == {
        cdr_id: {digest} for cdr_id, digest in books.issued.items()
    }
    assert books.forwards == CDRS, "the hub delivered other bytes under the same id"
    assert set(books.states.values()) == {msp.CDRState.ACCEPTED}
    assert books.bills == dict.fromkeys(books.issued, 1)
    assert books.facts == {kind: books.issued.keys() for kind in (CDRIssued, CDRReceived, CDRAccepted)}
    assert books.owed == 0


# Issuing -------------------------------------------------------------------------------------------------------------


async def issue_all(parties: ThreeParties) -> None:
    """Have the CPO's desk issue `CDRS`, again where the database died under it; what was issued is left alone."""
    settings = parties.settings["operations"]
    async with open_ports(settings) as ports:
        desk = CDRDesk(office=build_operations(settings, ports).office)
        first: cpo.SessionRecord | None = None
        number = 0
        while number < CDRS:
            try:
                first = first or await a_session(ports)
                await issue_some(ports, desk, first, range(number, min(number + UNIT_CDRS, CDRS)))
            except Unavailable:
                await asyncio.sleep(POLL_S)
                continue
            number += UNIT_CDRS


async def a_session(ports: Ports) -> cpo.SessionRecord:
    """Return a session that began now, with what its start froze; it is stored nowhere."""
    now = whole_second(ports.clock.now())
    async with ports.units.begin() as unit:
        known = await evse_at(unit, CPO, STATION, 1)
        version = await version_at(unit, CPO, TARIFF, now)
    assert known is not None
    assert version is not None
    connector = connector_of(known, 1)
    session = Session(
        party_id=CPO,
        session_id="",
        started_at=now,
        ended_at=None,
        energy_import_wh=0,
        energy_export_wh=0,
        token=await a_token(ports, 0),
        auth_method=AuthMethod.WHITELIST,
        authorization_reference=None,
        location_id=known.location.location_id,
        evse_uid=known.evse.evse_uid,
        connector_id=connector.connector_id,
        currency=AGREEMENT.currency,
        tariff_hash=version.tariff_hash,
        periods=(),
        total_cost=None,
        status=SessionStatus.ACTIVE,
        last_updated=now,
    )
    return cpo.SessionRecord(
        party_id=CPO,
        session_id="",
        emsp_id=MSP,
        charging_station_id=STATION,
        transaction_id="",
        authorization_id="",
        agreement_id=AGREEMENT.agreement_id,
        agreement_version=AGREEMENT.version,
        tariff=version.tariff,
        location=place_of(known, connector),
        session=session,
        revision=0,
        last_updated=now,
        pushed_at=now,
    )


async def a_token(ports: Ports, number: int) -> SessionToken:
    return SessionToken(
        emsp_id=MSP,
        uid=await ports.vault.seal(uid_of(number)),
        token_type=TokenType.RFID,
        contract_id=await ports.vault.seal("DE-EMA-C00000001"),
    )


async def issue_some(ports: Ports, desk: CDRDesk, first: cpo.SessionRecord, numbers: range) -> None:
    records = [await session_of(ports, first, number) for number in numbers]
    async with ports.units.begin() as unit:
        for number, record in zip(numbers, records, strict=True):
            if await live_cdr(unit, record) is not None:
                continue  # the unit was committed, and only its confirmation was lost
            started_at = record.session.started_at
            period = ChargingPeriod(started_at=started_at, energy_import_wh=1 + number % 90, charging_s=2, parking_s=0)
            await desk.issue(
                unit, record, [period], ended_at=started_at + CHARGE, signed_data=None, correlation_id=f"c{number}"
            )
        await unit.commit()


async def session_of(ports: Ports, first: cpo.SessionRecord, number: int) -> cpo.SessionRecord:
    started_at: datetime = first.session.started_at + CHARGE * (number // TOKENS)
    name = f"S{number:05d}"
    session = replace(first.session, session_id=name, started_at=started_at, token=await a_token(ports, number))
    return replace(first, session_id=name, transaction_id=name, session=session)


# Killing -------------------------------------------------------------------------------------------------------------


async def kill_in_the_middle(parties: ThreeParties, names: tuple[str, ...], chance: random.Random) -> list[int]:
    """Kill each in turn, at moments spread over the whole way; return how many CDRs were not at the MSP each time."""
    turns = list(names) * KILL_ROUNDS
    left = []
    for place, name in enumerate(turns):
        await until_received(parties, CDRS * (place + 0.2 + 0.5 * chance.random()) / len(turns))
        left.append(CDRS - (count(parties.dsn("mobility"), "emsp_cdr") or 0))
        await parties.kill(name)
    return left


async def until_received(parties: ThreeParties, at_least: float) -> None:
    while (count(parties.dsn("mobility"), "emsp_cdr") or 0) < at_least:  # noqa: ASYNC110 - rows of another process
        await asyncio.sleep(POLL_S)


async def until_accepted(parties: ThreeParties, wanted: int) -> None:
    """Return when the MSP has billed so many and the CPO owes nothing any more."""
    while (count(parties.dsn("mobility"), "emsp_bill") or 0) < wanted:  # noqa: ASYNC110 - rows of another process
        await asyncio.sleep(POLL_S)
    while count(parties.dsn("operations"), "ocpi_delivery") != 0:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)


# What each of them holds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ThreeBooks:
    """Hashes by CDR id at CPO and MSP, the hub's record, and what followed at the MSP."""

    issued: Mapping[str, str]
    carried: Mapping[str, CDRForward]
    forwards: int
    received: Mapping[str, str]
    states: Mapping[str, msp.CDRState]
    bills: Mapping[str, int]
    facts: Mapping[type, object]
    owed: int


async def books_of(parties: ThreeParties) -> ThreeBooks:
    async with open_ports(parties.settings["operations"]) as ports:
        async with ports.units.begin() as unit:
            at_cpo = await all_rows(unit, cpo.CDRS)
        # From the CPO's own document, not from the bytes that were sent.
        issued = {row.cdr_id: sha256(write(await cdr_to_ocpi(row.cdr, ports.vault.evidence))) for row in at_cpo}
        facts = await facts_in(ports)
    async with open_ports(parties.settings["hub"]) as ports, ports.units.begin() as unit:
        forwards = await all_rows(unit, CDR_FORWARD)
    async with open_ports(parties.settings["mobility"]) as ports:
        async with ports.units.begin() as unit:
            at_msp, bills = await all_rows(unit, msp.CDRS), await all_rows(unit, msp.BILL)
        facts |= await facts_in(ports)
    assert all(row.outcome is ForwardOutcome.DELIVERED for row in forwards)
    return ThreeBooks(
        issued=issued,
        carried={row.cdr_id: row for row in forwards},
        forwards=len(forwards),
        received={row.cdr_id: row.content_hash for row in at_msp},
        states={row.cdr_id: row.state for row in at_msp},
        bills=Counter(row.cdr_id for row in bills),
        facts=facts,
        owed=count(parties.dsn("operations"), "ocpi_delivery") or 0,
    )


async def facts_in(ports: Ports) -> dict[type, object]:
    """Return the CDR ids that each kind of event in a log names."""
    found: dict[type, set[str]] = {}
    async for logged in ports.event_log.read([CDR_TOPIC]):
        event = logged.envelope.event
        if isinstance(event, CDRIssued | CDRReceived | CDRAccepted):
            found.setdefault(type(event), set()).add(event.cdr.cdr_id)
    return dict(found)


def sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()
