"""One charge per token or group where a CPO wants it so; groups that stop each other's, and the master pass."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from emobility.domain.token import Whitelist
from emobility.ports.authorizer import AuthorizationAnswer
from services.charging_operations.concurrency import TOKEN_CLAIM
from services.charging_operations.records import AUTHORIZATION, TOKEN
from services.charging_operations.station_records import STATION_CONNECTION, StationConnectionRecord
from services.charging_operations.stations import StationTerms
from services.charging_operations.tokens import group_key_of
from tests.operations.world import CARD, CPO, EMSP, OTHER_CPO, OTHER_EMSP, STATION, World, evse, open_for_business

FOB = "04FFEEDDCC"
GROUP = "FLEET-SEVENTEEN-OF-NO-COMPANY"
OTHER_STATION = "CS2"


async def decide(here: World, concurrent: str = "ALLOWED", master: str | None = None) -> dict[str, Any]:
    """Enter a policy and a second station."""
    terms = StationTerms(location_id="LOC1", evses=(evse(1, station=OTHER_STATION), evse(2, station=OTHER_STATION)))
    answer = await here.api("PUT", f"/{CPO}/stations/{OTHER_STATION}", terms)
    assert answer.status_code == 200, answer.text
    group = None if master is None else {"emsp_id": "NL-EMP", "group_id": master}
    body = {"concurrent_transactions": concurrent, "master_pass": group}
    answer = await here.api("PUT", f"/{CPO}/authorization-policy", body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert (await here.api("GET", f"/{CPO}/authorization-policy")).json() == shown
    return shown


async def start(
    here: World, station: str = STATION, transaction: str = "1", number: int = 1, card: str = CARD, **fields: Any
) -> AuthorizationAnswer:
    """Let a station ask for a start, and tell of it whatever the answer."""
    answer = await here.authorize(
        card, charging_station_id=station, transaction_id=transaction, ocpp_evse_id=number, **fields
    )
    at = int((here.clock.now() - (await here.started()).occurred_at).total_seconds() // 60)
    await here.report(await here.started(transaction, station=station, evse=number, card=card, at=at))
    return answer


async def tap(here: World, station: str = OTHER_STATION, card: str = CARD, **fields: Any) -> AuthorizationAnswer:
    """Hold a card to a station."""
    return await here.authorize(card, charging_station_id=station, **fields)


async def test_a_token_may_charge_at_two_places_unless_its_cpo_says_otherwise() -> None:
    async with open_for_business() as here:
        await decide(here)
        await start(here)

        assert (await start(here, OTHER_STATION, "2")).status == "Accepted"
        assert await here.rows(TOKEN_CLAIM) == []


async def test_a_token_that_charges_is_refused_elsewhere_until_it_is_done() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        assert (await start(here)).status == "Accepted"

        refused = await tap(here), await start(here, OTHER_STATION, "2"), await start(here, number=2, transaction="3")
        await here.report(here.ended())

        assert [(each.status, each.reason) for each in refused] == [("ConcurrentTx", "CONCURRENT_TX")] * 3
        assert (await tap(here)).status == "Accepted"
        assert (await start(here, OTHER_STATION, "4")).status == "Accepted"


async def test_another_party_s_policy_and_transactions_are_its_own() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")

        shown = await here.api("GET", f"/{OTHER_CPO}/authorization-policy")

        assert shown.json()["concurrent_transactions"] == "ALLOWED"


async def test_the_same_transaction_its_repetition_and_what_follows_at_its_evse_are_no_second_charge() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        await tap(here, STATION)
        await start(here)

        again = await start(here)
        held_to_the_same_station = await tap(here, STATION)
        follows = await start(here, transaction="2")

        assert [again.status, held_to_the_same_station.status, follows.status] == ["Accepted"] * 3


async def test_before_its_start_is_reported_an_accepted_token_is_taken_already() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        await here.authorize(transaction_id="1", ocpp_evse_id=1)

        assert (await tap(here)).status == "ConcurrentTx"
        here.clock.step_by(timedelta(minutes=16))
        assert (await tap(here)).status == "Accepted"


async def test_a_station_that_was_gone_too_long_or_a_charge_that_was_silent_too_long_holds_nobody() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        await start(here)
        async with here.ports.units.begin() as unit:
            gone = StationConnectionRecord(
                party_id=CPO,
                charging_station_id=STATION,
                began_at=here.clock.now() + timedelta(minutes=10),
                is_online=False,
            )
            await unit.table(STATION_CONNECTION).put(gone)
            await unit.commit()

        here.clock.step_by(timedelta(minutes=65))
        assert (await tap(here)).status == "ConcurrentTx"
        here.clock.step_by(timedelta(minutes=10))
        assert (await tap(here)).status == "Accepted"

        async with here.ports.units.begin() as unit:
            await unit.table(STATION_CONNECTION).put(replace(gone, is_online=True))
            await unit.commit()
        assert (await tap(here, "CS2", transaction_id="9", ocpp_evse_id=2)).status == "ConcurrentTx"
        here.clock.step_by(timedelta(hours=24))
        assert (await tap(here)).status == "Accepted"


async def test_a_start_that_is_told_late_was_the_station_s_to_decide() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        await start(here)
        long_ago = here.clock.now() - timedelta(hours=3)

        assert (await start(here, OTHER_STATION, "2", began_at=long_ago)).status == "Accepted"


async def test_a_refused_start_holds_nobody_and_takes_the_tap_that_was_accepted_with_it() -> None:
    async with open_for_business() as here:
        await decide(here, "ONE_PER_TOKEN")
        await tap(here)
        await start(here)
        assert (await start(here, OTHER_STATION, "2")).status == "ConcurrentTx"
        await here.report(here.ended())

        assert (await start(here, number=2, transaction="3")).status == "Accepted"
        await here.report(here.ended("2", station=OTHER_STATION))
        assert [row.reasons for row in await here.quarantine()] == [("NO_AUTHORIZATION",)]


async def test_tokens_of_one_group_share_one_charge_where_that_is_wanted() -> None:
    async with open_for_business() as here:
        await here.put_token(group_id=GROUP)
        await here.put_token(uid=FOB, group_id=GROUP)
        await decide(here, "ONE_PER_TOKEN")
        await start(here)
        assert (await tap(here, card=FOB)).status == "Accepted"

        await decide(here, "ONE_PER_GROUP")
        assert (await tap(here, card=FOB)).status == "ConcurrentTx"
        assert (await start(here, OTHER_STATION, "2", card=FOB)).status == "ConcurrentTx"


async def test_a_group_has_one_name_at_all_stations_and_no_other_emsp_s_group_has_it() -> None:
    async with open_for_business() as here:
        await here.put_token(group_id=GROUP)
        await here.put_token(uid=FOB, group_id=GROUP)
        await here.put_token(uid="04AA", group_id=GROUP + "X")

        (card, fob, other) = [(await tap(here, STATION, each)).group_id for each in (CARD, FOB, "04AA")]

        assert card is not None
        assert (len(card), fob) == (20, card)
        assert other not in {card, None}
        vault = here.ports.vault
        assert group_key_of(vault, EMSP, GROUP) != group_key_of(vault, OTHER_EMSP, GROUP)
        stored = repr([await here.rows(spec) for spec in (TOKEN, AUTHORIZATION)]) + repr(await here.events())
        assert GROUP not in stored


async def test_the_group_of_a_blocked_card_is_told_to_nobody() -> None:
    async with open_for_business() as here:
        await here.put_token(group_id=GROUP, valid=False, whitelist=Whitelist.ALWAYS)

        answer = await tap(here, STATION)

        assert (answer.status, answer.group_id) == ("Blocked", None)


async def test_a_card_of_the_same_group_may_stop_and_its_emsp_is_not_asked() -> None:
    async with open_for_business() as here:
        await here.put_token(group_id=GROUP)
        await here.put_token(uid=FOB, group_id=GROUP, whitelist=Whitelist.NEVER)
        await here.put_token(uid="04AA", whitelist=Whitelist.NEVER)
        await decide(here, "ONE_PER_GROUP")
        await start(here)
        here.emsp.allowed = "NO_CREDIT"
        stop: dict[str, Any] = {"transaction_id": "1", "ocpp_evse_id": 1, "is_stop": True}

        sibling, opener = await here.authorize(FOB, **stop), await here.authorize(CARD, **stop)
        asked = here.emsp.asked
        stranger = await here.authorize("04AA", **stop)
        await here.report(here.ended())

        assert [(each.status, each.reason) for each in (sibling, opener)] == [("Accepted", "STOPS_ITS_OWN")] * 2
        assert (asked, stranger.status) == (0, "NoCredit")
        (cdr,) = await here.issued()
        assert cdr.token.uid.subject == here.ports.vault.subject_of(CARD)


async def test_the_master_pass_stops_every_transaction_and_starts_none() -> None:
    async with open_for_business() as here:
        await here.put_token(uid=FOB, group_id="MASTERS")
        shown = await decide(here, master="MASTERS")
        await start(here)

        shown_to_a_station = await tap(here, STATION, FOB, ocpp_version="2.0.1")
        stop = await here.authorize(FOB, transaction_id="1", ocpp_evse_id=1, is_stop=True)
        begun = await start(here, transaction="2", number=2, card=FOB)
        of_1_6 = await tap(here, STATION, FOB, ocpp_version="1.6")
        await here.report(here.ended("2"))

        assert (shown_to_a_station.status, stop.status) == ("Accepted", "Accepted")
        assert shown_to_a_station.group_id == shown["master_pass_group_id"]
        assert [(each.status, each.reason) for each in (begun, of_1_6)] == [
            ("Invalid", "MASTER_PASS_STARTS_NOTHING")
        ] * 2
        assert await here.issued() == []
        assert [row.reasons for row in await here.quarantine()] == [("NO_AUTHORIZATION",)]


async def test_a_blocked_master_pass_is_a_blocked_card() -> None:
    async with open_for_business() as here:
        await here.put_token(uid=FOB, group_id="MASTERS", valid=False, whitelist=Whitelist.ALWAYS)
        await decide(here, master="MASTERS")

        assert (await tap(here, STATION, FOB)).status == "Blocked"


@pytest.mark.postgres
async def test_of_stations_that_ask_at_once_exactly_one_gets_the_token(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await decide(here, "ONE_PER_TOKEN")
        for number in range(3, 9):
            terms = StationTerms(location_id="LOC1", evses=(evse(1, station=f"CS{number}"),))
            await here.api("PUT", f"/{CPO}/stations/CS{number}", terms)
        for attempt in range(6):
            transaction = f"race-{attempt}"
            stations = [f"CS{number}" for number in range(1, 9)]

            answers = await asyncio.gather(*(start(here, station, transaction) for station in stations))

            winners = [
                station for station, answer in zip(stations, answers, strict=True) if answer.status == "Accepted"
            ]
            assert len(winners) == 1, answers
            assert {each.status for each in answers} == {"Accepted", "ConcurrentTx"}
            await here.report(*(here.ended(transaction, station=station, at=1) for station in stations))
