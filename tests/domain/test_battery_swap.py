from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.battery_swap import BatterySwap, SwapBattery, SwapEvent, SwapState, SwapStep, with_step

AT = datetime(2022, 3, 27, tzinfo=UTC)
EVENTS = st.sampled_from(SwapEvent)


def step(event: SwapEvent, serial_number: str = "B-1") -> SwapStep:
    battery = SwapBattery(
        battery_slot=1, serial_number=serial_number, soc_percent=Decimal("20.5"), soh_percent=Decimal(98)
    )
    return SwapStep(event=event, batteries=(battery,), heard_at=AT)


def after(*events: SwapEvent, swap: BatterySwap | None = None) -> BatterySwap:
    swap = swap or BatterySwap()
    for event in events:
        swap = with_step(swap, step(event)) or swap
    return swap


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), SwapState.REQUESTED),
        ((SwapEvent.BATTERY_IN,), SwapState.BATTERY_IN),
        ((SwapEvent.BATTERY_OUT,), SwapState.BATTERY_OUT),
        ((SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT), SwapState.COMPLETED),
        ((SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT_TIMEOUT), SwapState.TIMED_OUT),
        ((SwapEvent.BATTERY_OUT_TIMEOUT,), SwapState.TIMED_OUT),
        ((SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT_TIMEOUT, SwapEvent.BATTERY_OUT), SwapState.COMPLETED),
    ],
)
def test_a_swap_is_where_its_messages_leave_it(events: tuple[SwapEvent, ...], state: SwapState) -> None:
    assert after(*events).state is state


@given(events=st.lists(EVENTS, max_size=6), data=st.data())
def test_order_and_repetition_change_no_state(events: list[SwapEvent], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(events + events))

    assert after(*events).state is after(*shuffled).state


def test_a_second_message_of_a_kind_changes_nothing() -> None:
    assert with_step(after(SwapEvent.BATTERY_IN), step(SwapEvent.BATTERY_IN, "B-2")) is None


@pytest.mark.parametrize("event", [SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT])
def test_what_was_given_up_is_completed_by_what_comes_after_all(event: SwapEvent) -> None:
    (other,) = {SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT} - {event}
    given_up = after(event, swap=BatterySwap(is_given_up=True))

    assert (given_up.state, given_up.is_over) == (SwapState.INCOMPLETE, True)
    assert after(other, swap=given_up).state is SwapState.COMPLETED


def test_a_station_that_refused_and_swaps_all_the_same_has_swapped() -> None:
    refused = BatterySwap(is_requested=True, is_refused=True)

    assert refused.state is SwapState.REFUSED
    assert after(SwapEvent.BATTERY_IN, SwapEvent.BATTERY_OUT, swap=refused).state is SwapState.COMPLETED
