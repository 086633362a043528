"""The gateway's question, through the whole back office: who is asked, what is answered, what is kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from emobility.domain.token import Whitelist
from emobility.events.charging import AuthorizationDecided, IdTokenKind
from emobility.ports.authorizer import AuthorizationStatus
from services.charging_operations.office import Limits
from services.charging_operations.records import AGREEMENT, AUTHORIZATION
from tests.operations.world import CARD, CPO, PARTNERS, START, agreement, open_for_business, world

EMAID = "NL-EMP-C12345678-X"


@pytest.mark.parametrize(
    ("allowed", "status", "reason"),
    [
        ("ALLOWED", AuthorizationStatus.ACCEPTED, "EMSP_ALLOWED"),
        ("BLOCKED", AuthorizationStatus.BLOCKED, "EMSP_BLOCKED"),
        ("EXPIRED", AuthorizationStatus.EXPIRED, "EMSP_EXPIRED"),
        ("NO_CREDIT", AuthorizationStatus.NO_CREDIT, "EMSP_NO_CREDIT"),
        ("NOT_ALLOWED", AuthorizationStatus.NOT_AT_THIS_LOCATION, "EMSP_NOT_ALLOWED"),
        (None, AuthorizationStatus.UNKNOWN, "EMSP_TOKEN_UNKNOWN"),
    ],
)
async def test_the_emsps_word_is_the_answer(allowed: str | None, status: AuthorizationStatus, reason: str) -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        here.emsp.allowed = allowed

        answer = await here.authorize()

        assert (answer.status, answer.reason) == (status, reason)
        (row,) = await here.rows(AUTHORIZATION)
        (fact,) = await here.events(AuthorizationDecided)
        assert row.is_accepted == fact.is_accepted == (allowed == "ALLOWED")


async def test_an_emsp_that_does_not_answer_in_time_leaves_a_real_time_card_outside() -> None:
    async with open_for_business(limits=Limits(authorization_timeout_s=0.05)) as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        here.emsp.delay_s = 5

        answer = await here.authorize()

        assert (answer.status, answer.reason) == (AuthorizationStatus.INVALID, "EMSP_UNREACHABLE")


@pytest.mark.parametrize(
    ("whitelist", "status"),
    [
        (Whitelist.ALWAYS, AuthorizationStatus.ACCEPTED),
        (Whitelist.ALLOWED, AuthorizationStatus.ACCEPTED),
        (Whitelist.ALLOWED_OFFLINE, AuthorizationStatus.ACCEPTED),
        (Whitelist.NEVER, AuthorizationStatus.INVALID),
    ],
)
async def test_with_the_hub_away_the_whitelist_decides(whitelist: Whitelist, status: AuthorizationStatus) -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=whitelist)
        here.http.cut(PARTNERS)

        assert (await here.authorize()).status is status


async def test_nobody_is_asked_about_a_card_nobody_sent() -> None:
    async with open_for_business() as here:
        answer = await here.authorize("DEADBEEF")

        assert (answer.status, answer.reason) == (AuthorizationStatus.UNKNOWN, "TOKEN_UNKNOWN")
        assert here.emsp.asked == 0


async def test_a_contract_id_names_its_emsp_though_no_token_was_sent() -> None:
    async with open_for_business() as here:
        answer = await here.authorize(EMAID, kind=IdTokenKind.PLUG_AND_CHARGE)

        assert answer.status is AuthorizationStatus.ACCEPTED
        (row,) = await here.rows(AUTHORIZATION)
        assert str(row.emsp_id) == "NL-EMP"
        assert row.uid is not None


async def test_without_an_agreement_nobody_gets_in_and_nobody_is_asked() -> None:
    async with open_for_business() as here:
        here.clock.step_by(timedelta(days=1))
        await here.sign(agreement(version=2, valid_from=START - timedelta(days=1), valid_until=START))
        async with here.ports.units.begin() as unit:
            await unit.table(AGREEMENT).delete(CPO, "TNM-EMP", 1)
            await unit.commit()

        answer = await here.authorize()

        assert (answer.status, answer.reason) == (AuthorizationStatus.INVALID, "NO_AGREEMENT")
        assert here.emsp.asked == 0


async def test_an_agreement_that_only_the_cpo_signed_lets_nobody_in() -> None:
    async with world() as here:
        unsigned = {"agreement": agreement(), "emsp_public_key": await here.ports.signer.public_key(CPO)}
        answer = await here.api("PUT", f"/{CPO}/agreements", unsigned)
        assert answer.json()["state"] == "PROPOSED"
        await here.put_token()

        assert (await here.authorize()).reason == "UNKNOWN_STATION"


async def test_a_station_nobody_entered_authorises_nobody() -> None:
    async with open_for_business() as here:
        answer = await here.authorize(charging_station_id="GHOST")

        assert (answer.status, answer.reason) == (AuthorizationStatus.INVALID, "UNKNOWN_STATION")


async def test_an_authorisation_that_nobody_used_is_worth_nothing_later() -> None:
    async with open_for_business() as here:
        await here.put_token(whitelist=Whitelist.NEVER)
        await here.authorize()
        here.clock.step_by(timedelta(minutes=16))

        await here.authorize()

        assert here.emsp.asked == 2


async def test_the_card_is_found_whatever_case_its_number_is_written_in() -> None:
    async with open_for_business() as here:
        assert (await here.authorize(CARD.lower())).status is AuthorizationStatus.ACCEPTED


async def test_the_card_number_stands_nowhere_in_plain() -> None:
    async with open_for_business() as here:
        await here.authorize(transaction_id="1", ocpp_evse_id=1)
        await here.report(await here.started(), here.ended())

        stored = repr([await here.rows(spec) for spec in (AUTHORIZATION,)]) + repr(await here.events())
        assert CARD not in stored


async def test_only_our_own_gateway_may_ask() -> None:
    async with open_for_business() as here:
        answer = await here.api("POST", "/station_control/authorize", {}, token="x" * 40)

        assert answer.status_code == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"party_id": "nowhere"}', b"[" * 10_000])
async def test_a_question_that_is_none_is_refused(body: bytes) -> None:
    async with open_for_business() as here:
        assert (await here.api("POST", "/station_control/authorize", body)).status_code == 422
