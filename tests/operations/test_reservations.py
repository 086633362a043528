"""Reservations by operators and eMSPs: asked, held, used, given up, and over by our own clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest

from emobility.domain.money import Price
from emobility.domain.tariff.tariff import (
    PriceComponent,
    Reservation,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
)
from emobility.events.reservations import ReservationEnded
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import PeerRefused
from emobility.protocols.ocpi.mapping import cdr_to_ocpi
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, OCPPCall
from services.charging_operations import reservations
from services.charging_operations.records import CDRS, EVSES
from services.charging_operations.reservations import RESERVATION
from services.charging_operations.tariffs import TariffTerms
from tests.operations.test_commands import send, start_session
from tests.operations.world import (
    CARD,
    CPO,
    EMSP,
    GATEWAY,
    OTHER_CPO,
    RESULTS,
    START,
    STATION,
    World,
    open_for_business,
    tariff_terms,
)

PATH: Final = f"/{CPO}/stations/{STATION}/reservations"
HELD_AT: Final = START + timedelta(minutes=2)
UNTIL: Final = START + timedelta(hours=1)
OCCUPIED: Final = CommandOutcome(result=CommandResult.REJECTED, station_status="Occupied")
TIMED_OUT: Final = CommandOutcome(result=CommandResult.TIMED_OUT)


async def reserve(here: World, status: int = 201, **fields: Any) -> dict[str, Any]:
    """Reserve EVSE 1 for the card, unless told otherwise."""
    body = {"expires_at": UNTIL, "id_token": CARD, "ocpp_evse_id": 1, **fields}
    answer = await here.api("POST", PATH, body)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def state(here: World) -> str:
    (shown,) = (await here.api("GET", PATH)).json()
    return str(shown["state"])


async def evse_status(here: World, number: int = 1) -> str:
    (row,) = await here.rows(EVSES, ocpp_evse_id=number)
    return str(row.status)


def calls(here: World) -> list[OCPPCall]:
    return [command.ocpp_call for command in here.gateway.commands if command.ocpp_call is not None]


def ended(number: int, status: str) -> ReservationEnded:
    return ReservationEnded(party_id=CPO, charging_station_id=STATION, reservation_id=number, status=status)


def reserve_now(**changes: Any) -> v221.ReserveNow:
    fields: dict[str, Any] = {
        "response_url": f"{RESULTS}/r1",
        "token": start_session().token,
        "expiry_date": UNTIL,
        "reservation_id": "R-1",
        "location_id": "LOC1",
        "evse_uid": "CS1-2",
    }
    return v221.ReserveNow(**(fields | changes))


def cancel_reservation(name: str = "R-1") -> v221.CancelReservation:
    return v221.CancelReservation(response_url=f"{RESULTS}/r2", reservation_id=name)


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_a_station_holds_an_evse_for_a_card_and_its_group(version: str) -> None:
    async with open_for_business() as here:
        here.gateway.ocpp_version = version
        await here.put_token(group_id="FLEET")
        shown = await reserve(here)

        (call,) = calls(here)
        name = call.payload.get("parentIdTag") or call.payload["groupIdToken"]["idToken"]
        assert name == (await here.authorize()).group_id
        if version == "1.6":
            told = {"connectorId": 1, "idTag": CARD, "reservationId": shown["reservation_id"], "parentIdTag": name}
            assert call.payload == told | {"expiryDate": "2022-03-27T09:00:00.000Z"}
        else:
            assert call.payload["idToken"] == {"idToken": CARD, "type": "ISO14443"}
            assert (call.payload["id"], call.payload["evseId"]) == (shown["reservation_id"], 1)
        assert (shown["state"], shown["is_for_group"], await evse_status(here)) == ("ACTIVE", True, "RESERVED")
        await here.settle()
        assert here.emsp.got("locations")[-1]["status"] == "RESERVED"
        assert CARD not in repr(await here.rows(RESERVATION)) + (await here.api("GET", PATH)).text


async def test_a_whole_station_a_kind_of_connector_and_a_whole_group_can_be_held() -> None:
    async with open_for_business() as here:
        await reserve(here, ocpp_evse_id=None, connector_type="cType2")
        await reserve(here, id_token=None, group={"emsp_id": "NL-EMP", "group_id": "FLEET"})
        here.gateway.ocpp_version = "1.6"
        await reserve(here, ocpp_evse_id=None)
        refused = await reserve(here, 501, ocpp_evse_id=None, connector_type="cType2")

        kind, group, station = (call.payload for call in calls(here))
        assert (kind["connectorType"], "evseId" in kind) == ("cType2", False)
        assert group["idToken"] == group["groupIdToken"]
        assert station["connectorId"] == 0
        assert refused["state"] == "REFUSED"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"expires_at": START}, 422),
        ({"expires_at": START + timedelta(days=8)}, 422),
        ({"id_token": None}, 422),
        ({"ocpp_evse_id": 9}, 404),
    ],
)
async def test_what_can_not_be_is_not_asked_of_the_station(changes: dict[str, Any], status: int) -> None:
    async with open_for_business() as here:
        await reserve(here, status, **changes)

        assert (calls(here), await here.rows(RESERVATION)) == ([], [])


async def test_a_station_has_so_many_reservations_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "RESERVATIONS_PER_STATION_MAX", 1)
    async with open_for_business() as here:
        await reserve(here)
        await reserve(here, 409)


async def test_a_station_that_says_no_or_is_away_holds_nothing() -> None:
    async with open_for_business() as here:
        here.gateway.outcome = OCCUPIED
        refused = await reserve(here, 200)
        here.gateway.is_online = False
        await reserve(here, 409)

        assert (refused["state"], refused["answer"]) == ("REFUSED", "Occupied")
        assert await state(here) == "REFUSED"


async def test_what_a_station_did_not_answer_is_cancelled_until_it_answers() -> None:
    async with open_for_business() as here:
        here.gateway.outcome = TIMED_OUT
        assert (await reserve(here, 504))["state"] == "CANCELLING"
        await here.operations.reservations.watch()
        assert await state(here) == "CANCELLING"

        here.gateway.outcome = CommandOutcome(result=CommandResult.REJECTED, station_status="Rejected")
        await here.operations.reservations.watch()
        await here.operations.reservations.watch()

        assert await state(here) == "CANCELLED"
        assert [call.action for call in calls(here)] == ["ReserveNow"] + ["CancelReservation"] * 2


async def test_an_operator_gives_a_reservation_up_and_can_not_do_so_twice() -> None:
    async with open_for_business() as here:
        number = (await reserve(here))["reservation_id"]

        assert (await here.api("DELETE", f"{PATH}/{number}")).json()["state"] == "CANCELLED"
        assert (await here.api("DELETE", f"{PATH}/{number}")).status_code == 409
        assert (await here.api("DELETE", f"{PATH}/nothing")).status_code == 404
        assert (await here.api("DELETE", f"/{OTHER_CPO}/stations/{STATION}/reservations/{number}")).status_code == 404
        assert calls(here)[-1].payload == {"reservationId": number}
        assert await evse_status(here) == "AVAILABLE"
        assert (await here.api("GET", f"/{CPO}/reservations?state=CANCELLED")).json()[0]["reservation_id"] == number
        assert (await here.api("GET", f"/{CPO}/reservations?state=ACTIVE")).json() == []
        assert (await here.api("GET", f"/{CPO}/reservations?state=NONE")).status_code == 422


async def test_a_reservation_that_no_station_gives_up_stays_wanted_away() -> None:
    async with open_for_business() as here:
        number = (await reserve(here))["reservation_id"]
        here.gateway.outcome = TIMED_OUT

        answer = await here.api("DELETE", f"{PATH}/{number}")

        assert (answer.status_code, answer.json()["state"]) == (202, "CANCELLING")


async def test_a_reservation_is_over_by_our_clock_though_its_station_is_silent() -> None:
    async with open_for_business() as here:
        await reserve(here)
        here.http.cut(GATEWAY)
        here.clock.step_by(timedelta(hours=1, minutes=1))
        assert await state(here) == "EXPIRED"
        (row,) = await here.rows(RESERVATION)
        assert row.state == "ACTIVE"

        await here.operations.reservations.watch()

        (row,) = await here.rows(RESERVATION)
        assert (row.state, row.id_token, await evse_status(here)) == ("EXPIRED", None, "AVAILABLE")


@pytest.mark.parametrize("is_started", [True, False])
async def test_a_transaction_uses_it_up_whatever_came_before(*, is_started: bool) -> None:
    async with open_for_business() as here:
        number = (await reserve(here))["reservation_id"]
        here.clock.step_by(timedelta(hours=2))
        await here.operations.reservations.watch()
        used = await here.started(reservation_id=number) if is_started else here.updated(reservation_id=number)
        elsewhere = await here.started("2", station="CS9", reservation_id=number)

        await here.report(elsewhere, used, used, ended(number, "Expired"), ended(number, "Removed"))

        (row,) = await here.rows(RESERVATION)
        assert (row.state, row.transaction_id) == ("USED", "1")


@pytest.mark.parametrize(
    ("status", "expected"), [("Expired", "EXPIRED"), ("Removed", "REMOVED"), ("NoTransaction", "REMOVED")]
)
async def test_a_station_says_that_it_is_over(status: str, expected: str) -> None:
    async with open_for_business() as here:
        number = (await reserve(here))["reservation_id"]

        await here.report(ended(number + 1, status), ended(number, status), ended(number, status))

        (row,) = await here.rows(RESERVATION)
        assert (row.state, row.answer, await evse_status(here)) == (expected, status, "AVAILABLE")


async def test_a_crash_between_question_and_answer_leaves_nothing_held() -> None:
    async with open_for_business() as here:
        desk = here.operations.reservations
        async with here.ports.units.begin() as unit:
            lost = desk.record(
                party_id=CPO,
                charging_station_id=STATION,
                expires_at=UNTIL,
                ocpp_evse_id=1,
                id_token=await here.seal(),
                id_token_type="ISO14443",
                group_key=None,
                correlation_id="lost",
            )
            await desk.enter(unit, lost)
            await unit.commit()
        await desk.watch()
        assert await state(here) == "ASKED"

        here.clock.step_by(timedelta(minutes=6))
        await desk.watch()
        await desk.watch()

        assert await state(here) == "CANCELLED"


# eMSPs


async def test_an_emsp_reserves_and_cancels_through_ocpi() -> None:
    async with open_for_business() as here:
        assert await send(here, reserve_now(), "RESERVE_NOW") == "ACCEPTED"
        assert await evse_status(here, 2) == "RESERVED"
        assert await send(here, reserve_now(), "RESERVE_NOW") == "ACCEPTED"
        assert await send(here, cancel_reservation(), "CANCEL_RESERVATION") == "ACCEPTED"
        assert await send(here, cancel_reservation("R-2"), "CANCEL_RESERVATION") == "REJECTED"

        assert here.emsp.got("result") == [{"result": "ACCEPTED"}] * 2
        assert [call.action for call in calls(here)] == ["ReserveNow", "CancelReservation"]
        assert await state(here) == "CANCELLED"


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (OCCUPIED, "EVSE_OCCUPIED"),
        (CommandOutcome(result=CommandResult.REJECTED, station_status="Faulted"), "EVSE_INOPERATIVE"),
        (CommandOutcome(result=CommandResult.REJECTED, station_status="Rejected"), "REJECTED"),
        (TIMED_OUT, "TIMEOUT"),
    ],
)
async def test_the_station_s_word_on_a_reservation_reaches_the_emsp(outcome: CommandOutcome, told: str) -> None:
    async with open_for_business() as here:
        here.gateway.outcome = outcome
        await send(here, reserve_now(), "RESERVE_NOW")

        assert here.emsp.got("result") == [{"result": told}]


async def test_a_station_that_is_away_is_inoperative_for_the_emsp() -> None:
    async with open_for_business() as here:
        here.gateway.is_online = False
        await send(here, reserve_now(), "RESERVE_NOW")

        assert here.emsp.got("result") == [{"result": "EVSE_INOPERATIVE"}]


async def test_the_same_id_again_replaces_the_reservation() -> None:
    async with open_for_business() as here:
        later: datetime = UNTIL + timedelta(hours=1)
        await send(here, reserve_now(), "RESERVE_NOW")
        await send(here, reserve_now(expiry_date=later), "RESERVE_NOW")

        first, second = calls(here)
        assert first.payload["id"] == second.payload["id"]
        (row,) = await here.rows(RESERVATION)
        assert (row.state, row.expires_at) == ("ACTIVE", later)


@pytest.mark.parametrize("by_station", [True, False])
async def test_an_emsp_hears_that_its_reservation_was_given_up(*, by_station: bool) -> None:
    async with open_for_business() as here:
        await send(here, reserve_now(), "RESERVE_NOW")
        (row,) = await here.rows(RESERVATION)

        if by_station:
            await here.report(ended(row.reservation_id, "Removed"))
        else:
            await here.api("DELETE", f"{PATH}/{row.reservation_id}")
            await here.settle()

        assert here.emsp.got("result") == [{"result": "ACCEPTED"}, {"result": "CANCELED_RESERVATION"}]


async def test_an_emsp_can_not_reserve_in_the_past_nor_for_another_s_token_nor_nowhere() -> None:
    async with open_for_business() as here:
        foreign = v221.read(v221.write(start_session().token).replace(b'"EMP"', b'"EMX"'), v221.Token)

        for command in (reserve_now(expiry_date=START), reserve_now(token=foreign)):
            with pytest.raises(PeerRefused):
                await send(here, command, "RESERVE_NOW")
        assert await send(here, reserve_now(evse_uid="NOWHERE"), "RESERVE_NOW") == "REJECTED"
        assert calls(here) == []


@pytest.mark.postgres
async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        number = (await reserve(here))["reservation_id"]
        await send(here, reserve_now(), "RESERVE_NOW")
        await here.report(await here.started(reservation_id=number))
        here.clock.step_by(timedelta(hours=2))
        await here.operations.reservations.watch()

        assert sorted(row.state for row in await here.rows(RESERVATION)) == ["EXPIRED", "USED"]


async def test_silent_stations_keep_no_reservation_of_others_from_being_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reservations, "CANCELS_PER_LOOK", 1)
    async with open_for_business() as here:
        here.gateway.outcome = TIMED_OUT
        await reserve(here, status=504)
        async with here.ports.units.begin() as unit:
            (ours,) = await unit.table(RESERVATION).select()
            earlier = ours.made_at - timedelta(minutes=1)
            await unit.table(RESERVATION).put(replace(ours, party_id=OTHER_CPO, made_at=earlier))
            await unit.commit()
        here.gateway.outcome = CommandOutcome(result=CommandResult.ACCEPTED, station_status="Accepted")
        here.gateway.hangs_for = OTHER_CPO.code

        looking = asyncio.create_task(here.operations.reservations.watch())
        async with asyncio.timeout(10):
            await here.until(lambda: is_in(here, "CANCELLED"))
        looking.cancel()


async def is_in(here: World, wanted: str) -> bool:
    return await state(here) == wanted


def holding_terms() -> TariffTerms:
    """The world's wholesale tariff, with 6.00 per hour of reservation and 4.00 where it expires."""
    fee = PriceComponent(dimension=TariffDimension.FLAT, price=Decimal(4))
    expires = TariffElement(
        components=(fee,), restrictions=TariffRestrictions(reservation=Reservation.RESERVATION_EXPIRES)
    )
    per_hour = PriceComponent(dimension=TariffDimension.TIME, price=Decimal(6), step_size=600)
    element = TariffElement(
        components=(per_hour,), restrictions=TariffRestrictions(reservation=Reservation.RESERVATION)
    )
    terms = tariff_terms()
    return replace(terms, elements=(expires, element, *terms.elements))


@pytest.mark.parametrize("is_told_late", [False, True])
async def test_a_reservation_that_was_used_is_billed_from_the_moment_it_was_made(*, is_told_late: bool) -> None:
    async with open_for_business() as here:
        assert (await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", holding_terms())).is_success
        number = (await reserve(here))["reservation_id"]
        await here.authorize()
        naming = {"reservation_id": number}
        await here.report(await here.started(at=22, **({} if is_told_late else naming)))
        await here.report(here.updated(at=40, import_wh=3_000, **(naming if is_told_late else {})))
        await here.report(here.ended(at=60, import_wh=6_000))

        cdr = here.emsp.got("cdrs")[-1]
        # 22 minutes in steps of ten are 30: EUR 3.00; 5 kWh at 0.30 and the fee of 0.50 make 2.00.
        assert (cdr["total_cost"]["excl_vat"], cdr["total_reservation_cost"]["excl_vat"]) == (5, 3)
        held = cdr["charging_periods"][0]
        assert held["start_date_time"] == cdr["start_date_time"] == "2022-03-27T08:00:00Z"
        assert {each["type"]: each["volume"] for each in held["dimensions"]}["RESERVATION_TIME"] == 0.3667


async def held_for_emsp(here: World) -> int:
    """Have the station hold EVSE 2 for the eMSP's card from `HELD_AT` until `UNTIL`; the tariff charges for it."""
    here.clock.step_by(timedelta(minutes=1))
    assert (await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", holding_terms())).is_success
    here.clock.step_by(timedelta(minutes=1))
    desk = here.operations.reservations
    async with here.ports.units.begin() as unit:
        wanted = desk.record(
            party_id=CPO,
            charging_station_id=STATION,
            ocpp_evse_id=2,
            id_token=await here.seal(CARD),
            id_token_type="ISO14443",
            group_key=None,
            expires_at=UNTIL,
            emsp_id=EMSP,
            external_id="R-1",
            correlation_id="r1",
        )
        record = await desk.enter(unit, wanted)
        await unit.commit()
    assert (await desk.send(record)).result is CommandResult.ACCEPTED
    return record.reservation_id


async def is_billed(here: World) -> bool:
    return bool(await here.rows(CDRS))


async def is_credited(here: World) -> bool:
    return len(await here.rows(CDRS)) == 2


@pytest.mark.parametrize("by_station", [False, True])
async def test_a_reservation_that_expired_is_billed_without_a_session(*, by_station: bool) -> None:
    async with open_for_business() as here:
        number = await held_for_emsp(here)
        here.clock.step_by(UNTIL - HELD_AT)
        if by_station:
            await here.report(ended(number, "Expired"), settle=False)
            await here.until(lambda: is_billed(here))
        else:
            here.clock.step_by(timedelta(seconds=1))
            await here.operations.reservations.watch()
            await here.operations.reservations.watch()

        (row,) = await here.rows(CDRS)
        # 4.00 for the expiry; 58 minutes in steps of ten are an hour at 6.00.
        assert row.cdr.total_cost == row.cdr.total_reservation_cost == Price(excl_e4=100_000)
        assert (row.cdr.started_at, row.cdr.ended_at) == (HELD_AT, UNTIL)
        assert (row.emsp_id, row.energy_import_wh, row.session_id) == (EMSP, 0, f"#NA/{row.cdr_id}")
        body = await cdr_to_ocpi(row.cdr, here.ports.vault.evidence)
        assert (body.session_id, len(body.id)) == (None, 32)


async def test_a_reservation_that_was_used_after_all_is_credited_and_billed_with_the_charge() -> None:
    async with open_for_business() as here:
        number = await held_for_emsp(here)
        here.clock.step_by(timedelta(minutes=61))
        await here.operations.reservations.watch()
        await here.report(await here.started(at=59, evse=2, reservation_id=number), settle=False)
        await here.until(lambda: is_credited(here))

        bill, credit = sorted(await here.rows(CDRS), key=lambda row: row.is_credit)
        assert (credit.cdr_id, credit.cdr.total_cost) == (f"{bill.cdr_id}-C1", Price(excl_e4=-100_000))
        assert bill.credited_by == credit.cdr_id


async def test_what_no_emsp_asked_for_has_no_cdr() -> None:
    async with open_for_business() as here:
        assert (await here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", holding_terms())).is_success
        await reserve(here)
        here.clock.step_by(timedelta(minutes=61))
        await here.operations.reservations.watch()

        assert {row.state for row in await here.rows(RESERVATION)} == {"EXPIRED"}
        assert await here.rows(CDRS) == []


async def test_the_operator_takes_back_what_an_expired_reservation_was_billed() -> None:
    async with open_for_business() as here:
        await held_for_emsp(here)
        here.clock.step_by(timedelta(minutes=61))
        await here.operations.reservations.watch()
        (bill,) = await here.rows(CDRS)
        path = f"/{CPO}/cdrs/{bill.cdr_id}/credit"

        more = await here.api("POST", path, {"reason": "goodwill", "replacement": {}})
        done = await here.api("POST", path, {"reason": "goodwill"})
        again = await here.api("POST", path, {"reason": "goodwill"})

        assert (more.status_code, done.status_code, again.status_code) == (422, 200, 409)
        credited, credit = sorted(await here.rows(CDRS), key=lambda row: row.is_credit)
        assert (credit.cdr.total_cost, credited.credited_by) == (-bill.cdr.total_cost, credit.cdr_id)
