"""A charge that lasts for days and is read each minute is billed like any other, or is quarantined with its reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pytest

from emobility.domain import transaction
from emobility.domain.charging_periods import charging_periods
from emobility.domain.meter import ReadingContext
from emobility.domain.session import SessionStatus
from emobility.domain.tariff.pricing import price_session
from emobility.events import codec
from emobility.events.cdr import CDRAccepted, SessionChanged
from emobility.events.charging import TransactionUpdated
from emobility.ports.event_log import EVENT_BYTES_MAX
from services.charging_operations import cdrs
from services.charging_operations.ledger import Ledger
from services.charging_operations.records import TRANSACTION
from tests.operations.world import CPO, EMSP, START, STATION, World, open_for_business, reading

MINUTES: Final = 4_500
"""75 hours."""
WH_PER_MINUTE: Final = 10


async def charge(here: World, *, minutes: int = MINUTES, per_message: int = 900) -> None:
    """Charge for a long time, read each minute."""
    await here.authorize(transaction_id="1", ocpp_evse_id=1)
    await here.report(await here.started())
    for first in range(1, minutes, per_message):
        read_at = range(first, min(first + per_message, minutes))
        readings = tuple(
            reading(START + timedelta(minutes=at), 1_000 + WH_PER_MINUTE * at, ReadingContext.SAMPLE_PERIODIC)
            for at in read_at
        )
        sent_at = START + timedelta(minutes=read_at[-1])
        here.clock.step_to(sent_at)
        await here.report(
            TransactionUpdated(
                party_id=CPO, charging_station_id=STATION, transaction_id="1", occurred_at=sent_at, readings=readings
            )
        )
    here.clock.step_to(START + timedelta(minutes=minutes))
    await here.report(here.ended(at=minutes, import_wh=1_000 + WH_PER_MINUTE * minutes))


async def parked(here: World) -> list[str]:
    return [each.reason for each in await here.ports.event_log.parked("charging_operations")]


async def test_a_charge_of_days_read_each_minute_becomes_a_cdr() -> None:
    async with open_for_business() as here:
        await charge(here)

        assert await parked(here) == []
        (cdr,) = await here.issued()
        assert cdr.total_energy_import_wh == MINUTES * WH_PER_MINUTE
        (row,) = await here.rows(TRANSACTION)
        unmerged = charging_periods(row.transaction)
        by_minute = price_session(cdr.tariff, unmerged, ended_at=cdr.ended_at, time_zone=cdr.location.time_zone)
        assert (cdr.total_cost, len(unmerged), len(cdr.periods)) == (by_minute.total, MINUTES, MINUTES // 15)
        assert len(here.emsp.got("cdrs")[0]["charging_periods"]) == MINUTES // 15
        assert await here.ledger() == Ledger(metered=MINUTES * WH_PER_MINUTE, cdr=MINUTES * WH_PER_MINUTE)


async def test_a_running_session_does_not_repeat_its_periods_in_the_log() -> None:
    async with open_for_business() as here:
        await charge(here, minutes=60, per_message=10)

        told = [event.session for event in await here.events(SessionChanged)]
        assert {session.status: bool(session.periods) for session in told} == {
            SessionStatus.ACTIVE: False,
            SessionStatus.COMPLETED: True,
        }
        pushed = here.emsp.got("sessions")
        assert all(body["charging_periods"] for body in pushed[1:])


async def test_what_is_too_large_for_a_cdr_is_quarantined_and_the_station_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cdrs, "CDR_BYTES_MAX", 60_000)
    async with open_for_business() as here:
        await charge(here)
        await here.authorize(transaction_id="2", ocpp_evse_id=1)
        await here.report(
            await here.started("2", at=5_000, import_wh=90_000), here.ended("2", at=5_060, import_wh=95_000)
        )

        assert await parked(here) == []
        (row,) = await here.quarantine()
        assert row.reasons == ("CDR_TOO_LARGE",)
        assert "300 periods" in row.details[0]
        assert [cdr.total_energy_import_wh for cdr in await here.issued()] == [5_000]
        (invalid,) = [body for body in here.emsp.got("sessions") if body["status"] == "INVALID"]
        assert invalid["kwh"] == MINUTES * WH_PER_MINUTE / 1_000
        bill = {"outcome": "BILL", "who": "op", "why": "it is true"}
        answer = await here.api("POST", f"/{CPO}/quarantine/{row.quarantine_id}/resolve", bill)
        assert answer.status_code == 409, answer.text


async def test_a_charge_with_more_readings_than_are_kept_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "READINGS_MAX", 40)
    async with open_for_business() as here:
        await charge(here, minutes=120, per_message=10)

        (row,) = await here.quarantine()
        assert (row.reasons, row.energy_import_wh) == (("TOO_MANY_READINGS",), 120 * WH_PER_MINUTE)
        assert await here.ledger() == Ledger(metered=120 * WH_PER_MINUTE, quarantined=120 * WH_PER_MINUTE)


async def test_the_largest_cdr_leaves_room_in_every_event_that_carries_it() -> None:
    async with open_for_business() as here:
        await charge(here, minutes=60)

        (cdr,) = await here.issued()
        accepted = CDRAccepted(
            agreement_id="TNM-EMP", cpo_id=CPO, emsp_id=EMSP, cdr=cdr, accepted_at=START, is_deemed=False
        )
        content = len(codec.encode((cdr.tariff, cdr.location, cdr.periods, cdr.signed_data)))
        assert len(codec.encode(accepted)) - content < (EVENT_BYTES_MAX - cdrs.CDR_BYTES_MAX) // 10
