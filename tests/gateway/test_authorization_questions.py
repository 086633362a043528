"""What the back office is asked about a token, and how its answer reads in each version."""

from __future__ import annotations

from typing import Any, Final

import pytest

from charge_point_gateway.message import id_tag_info, id_token_info
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationStatus
from tests.gateway.conftest import NOW
from tests.gateway.test_messages_over_a_connection import AT_MOMENT, event_201, start_16

ID_TOKEN: Final = {"idToken": "04A1B2C3", "type": "ISO14443"}


async def test_a_start_says_when_it_happened_and_by_which_version(world: Any) -> None:
    station = await world.dial("ocpp1.6")

    await station.call("StartTransaction", start_16())

    (asked,) = world.back_office.asked
    assert (asked.began_at, asked.ocpp_version, asked.is_stop) == (AT_MOMENT, "1.6", False)


@pytest.mark.parametrize(("trigger", "is_stop"), [("StopAuthorized", True), ("Authorized", False)])
async def test_a_token_that_stops_is_told_from_one_that_starts(world: Any, trigger: str, *, is_stop: bool) -> None:
    station = await world.dial()

    await station.call("TransactionEvent", event_201("Updated", 1, triggerReason=trigger, idToken=ID_TOKEN))

    (asked,) = world.back_office.asked
    assert (asked.is_stop, asked.began_at, asked.transaction_id) == (is_stop, AT_MOMENT, "tx-1")


@pytest.mark.parametrize("status", [AuthorizationStatus.ACCEPTED, AuthorizationStatus.CONCURRENT_TX])
def test_what_may_change_a_moment_later_is_not_cached_and_carries_its_group(status: AuthorizationStatus) -> None:
    answer = AuthorizationAnswer(status=status, reason="told", group_id="0123456789abcdef0123")

    assert id_tag_info(answer, now=NOW) == {
        "status": status.value,
        "parentIdTag": "0123456789abcdef0123",
        "expiryDate": "2022-03-27T00:30:00.000Z",
    }
    assert id_token_info(answer, now=NOW) == {
        "status": status.value,
        "groupIdToken": {"idToken": "0123456789abcdef0123", "type": "Central"},
        "cacheExpiryDateTime": "2022-03-27T00:30:00.000Z",
    }


async def test_who_needs_no_authorization_is_accepted_and_nobody_is_asked(world: Any) -> None:
    """OCPP 2.0.1, C02: a start button."""
    station = await world.dial()
    button = {"idToken": "", "type": "NoAuthorization"}

    answer = await station.call("TransactionEvent", event_201("Started", 0, idToken=button))

    assert answer[2]["idTokenInfo"]["status"] == "Accepted"
    assert "cacheExpiryDateTime" in answer[2]["idTokenInfo"], "it lets nobody in later"
    assert world.back_office.asked == []
    (started,) = await world.events()
    assert (started.id_token, started.id_token_kind) == (None, "NONE")
