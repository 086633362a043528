"""CDRs with a reservation in them, or of nothing but one, are priced again and accepted like any other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from emobility.domain.cdr import CDR
from emobility.domain.session import AuthMethod, ChargingPeriod
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
)
from tests.mobility.conftest import T0, energy_tariff


def element(dimension: TariffDimension, price: int, reservation: Reservation) -> TariffElement:
    return TariffElement(
        components=(PriceComponent(dimension=dimension, price=Decimal(price)),),
        restrictions=TariffRestrictions(reservation=reservation),
    )


def holding_tariff() -> Tariff:
    """4.00 for an expiry and 6.00 per hour of reservation."""
    energy = energy_tariff()
    return replace(
        energy,
        elements=(
            element(TariffDimension.FLAT, 4, Reservation.RESERVATION_EXPIRES),
            element(TariffDimension.TIME, 6, Reservation.RESERVATION),
            *energy.elements,
        ),
    )


def with_reservation(cdr: CDR, *, minutes: int, is_used: bool) -> CDR:
    """The CDR with so many minutes of reservation before it, or of nothing else."""
    held = ChargingPeriod(
        started_at=cdr.started_at - timedelta(minutes=minutes),
        energy_import_wh=0,
        charging_s=0,
        parking_s=0,
        reserved_s=minutes * 60,
    )
    periods = (held, *cdr.periods) if is_used else (held,)
    ended_at = cdr.ended_at if is_used else cdr.started_at
    priced = price_session(cdr.tariff, periods, ended_at=ended_at, time_zone=cdr.location.time_zone)
    nothing: dict[str, Any] = {"total_energy_import_wh": 0, "total_charging_s": 0, "session_id": f"#NA/{cdr.cdr_id}"}
    return replace(
        cdr,
        started_at=held.started_at,
        ended_at=ended_at,
        periods=periods,
        total_cost=priced.total,
        total_energy_cost=priced.energy,
        total_reservation_cost=priced.reservation,
        **({} if is_used else nothing),
    )


async def test_a_reservation_before_a_charge_is_part_of_an_accepted_cdr(memory_world: Any) -> None:
    cpo, driver_id = memory_world.cpo, await memory_world.enrol()
    cpo.tariff = holding_tariff()
    await cpo.push_tariff(cpo.tariff)
    session, cdr = await cpo.charge("S1", reference=None, auth_method=AuthMethod.WHITELIST)
    await cpo.begin(session)
    await cpo.push_session(session)
    await cpo.post_cdr(with_reservation(cdr, minutes=20, is_used=True))
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"S1": "ACCEPTED"}
    assert cpo.disputes == []
    # The driver's plan has one price per kWh; what the reservation cost is the MSP's.
    assert (await memory_world.account(driver_id))["billed_e4"] == 54_450


async def test_reservations_that_expired_are_accepted_each_by_itself(memory_world: Any) -> None:
    cpo = memory_world.cpo
    await memory_world.enrol()
    cpo.tariff = holding_tariff()
    await cpo.push_tariff(cpo.tariff)
    for number in range(2):
        started_at = T0 + timedelta(hours=2 * (number + 1))
        _, cdr = await cpo.charge(f"R{number}", reference=None, auth_method=AuthMethod.COMMAND, started_at=started_at)
        answer = await cpo.post_cdr(with_reservation(cdr, minutes=30, is_used=False))
        assert answer.status == 201
    await memory_world.quiet()

    assert await memory_world.cdr_states() == {"R0": "ACCEPTED", "R1": "ACCEPTED"}
    assert cpo.disputes == []
