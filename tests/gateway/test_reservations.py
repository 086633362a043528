"""What stations tell of reservations becomes facts: their use with the transaction, their end by itself."""

from __future__ import annotations

from typing import Any

import pytest

from emobility.events.reservations import ReservationEnded
from tests.gateway.test_messages_over_a_connection import event_201, start_16


async def test_a_1_6_start_names_the_reservation_it_uses(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    await station.call("StartTransaction", start_16(reservationId=7))

    (event,) = await world.events()
    assert event.reservation_id == 7


@pytest.mark.parametrize("kind", ["Started", "Updated", "Ended"])
async def test_a_2_0_1_transaction_names_the_reservation_it_uses_in_any_event(world: Any, kind: str) -> None:
    station = await world.dial()

    await station.call("TransactionEvent", event_201(kind, 0, reservationId=7))

    (event,) = await world.events()
    assert event.reservation_id == 7


@pytest.mark.parametrize("subprotocol", ["ocpp2.0.1", "ocpp2.1"])
async def test_the_end_of_a_reservation_is_one_fact_however_often_it_is_told(world: Any, subprotocol: str) -> None:
    station = await world.dial(subprotocol)

    for _ in range(2):
        told = {"reservationId": 7, "reservationUpdateStatus": "Expired"}
        assert (await station.call("ReservationStatusUpdate", told))[2] == {}

    event, again = await world.events()
    assert isinstance(event, ReservationEnded)
    assert (event.reservation_id, event.status, again) == (7, "Expired", event)
    assert len(set(await world.event_ids())) == 1
