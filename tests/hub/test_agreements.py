"""Agreements between two back offices, through the hub: offered, countered, accepted, changed, ended - and attacked."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from emobility.adapters.signing import Ed25519Signer
from emobility.domain.agreement import NoAgreementInForce, document_hash, signing_bytes
from emobility.domain.agreement_offer import OfferRefusal, OfferRefused, OfferState
from emobility.domain.identifiers import PartyId
from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.agreement_exchange import Word, WordKind
from emobility.protocols.ocpi.client import PeerRefused
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.charging_operations.office import agreement_at as cpo_agreement_at
from services.charging_operations.records import AGREEMENT as CPO_AGREEMENT
from services.driver_mobility.records import AGREEMENT as MSP_AGREEMENT
from services.driver_mobility.terms import agreement_at as msp_agreement_at
from tests.hub.two_offices import DAY, EMMA, MSP_ORIGIN, TULIP, Office, TwoOffices, at, terms, two_offices
from tests.hub.world import INTERNAL_TOKEN, until

STRANGER = Ed25519Signer(b"x" * 32)


async def in_force(here: TwoOffices, days: float) -> list[int | str]:
    """The version in force at both, or why there is none."""
    found: list[int | str] = []
    async with here.cpo.exchange.ports.units.begin() as unit:
        try:
            found.append((await cpo_agreement_at(unit, TULIP, EMMA, at(days))).version)
        except NoAgreementInForce as missing:
            found.append(str(missing.reason))
    async with here.msp.exchange.ports.units.begin() as unit:
        try:
            found.append((await msp_agreement_at(unit, EMMA, TULIP, at(days))).version)
        except NoAgreementInForce as missing:
            found.append(str(missing.reason))
    return found


async def test_an_offer_a_counter_offer_and_an_acceptance_make_an_agreement_at_both() -> None:
    async with two_offices() as here:
        offered = await here.cpo.api("POST", "/agreement-offers", terms())
        await here.quiet()
        countered = await here.msp.api("POST", "/agreement-offers", terms(dispute_period_h=336))
        await here.quiet()
        talk = await here.cpo.talk()
        answer = await here.cpo.api("POST", f"/agreement-offers/{EMMA}/1/1", {"accepts": True, "round": 2})
        await here.quiet()

        assert (offered.status, countered.status, answer.status) == (201, 201, 200)
        assert talk is not None
        assert (talk.round, talk.said_by, talk.agreement.dispute_period_h) == (2, EMMA, 336)
        async with here.cpo.exchange.ports.units.begin() as unit:
            (cpo_row,) = await unit.table(CPO_AGREEMENT).select()
        async with here.msp.exchange.ports.units.begin() as unit:
            (msp_row,) = await unit.table(MSP_AGREEMENT).select()
        assert cpo_row.agreement == msp_row.agreement
        assert document_hash(cpo_row.agreement) == document_hash(terms(dispute_period_h=336))
        assert await in_force(here, 1) == [1, 1]
        assert await in_force(here, 0.9) == ["NOT_YET_VALID", "NOT_YET_VALID"]


async def test_what_was_rejected_or_taken_back_is_offered_anew() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        await here.msp.exchange.reject(EMMA, TULIP, "1", 1)
        await here.quiet()
        refused = await here.cpo.talk()
        await here.cpo.exchange.offer(TULIP, terms(payment_terms_d=14))
        await here.quiet()
        await here.msp.exchange.accept(EMMA, TULIP, "1", 1, round_=2)
        await here.quiet()

        assert refused is not None
        assert (refused.state, refused.said_by) == (OfferState.REJECTED, EMMA)
        assert await in_force(here, 1) == [1, 1]


async def test_a_change_is_a_version_in_the_future_that_overlaps_no_other() -> None:
    async with two_offices() as here:
        await here.agreed(terms())

        for wrong, reason in (
            (terms(version=1), OfferRefusal.NOT_NEXT_VERSION),
            (terms(version=3, valid_from=at(9)), OfferRefusal.NOT_NEXT_VERSION),
            (terms(version=2, valid_from=at(0)), OfferRefusal.NOT_IN_FUTURE),
            (terms(version=2, valid_from=at(1)), OfferRefusal.OVERLAPS),
            (terms(agreement_id="2", valid_from=at(9)), OfferRefusal.OVERLAPS),
            (terms(version=2, valid_from=at(9), tariff_ids=()), OfferRefusal.TERMS_INCOMPLETE),
        ):
            with pytest.raises(OfferRefused) as refusal:
                await here.cpo.exchange.offer(TULIP, wrong)
            assert refusal.value.reason is reason
        await here.agreed(terms(version=2, valid_from=at(9), tariff_ids=("W2", "W1")))

        assert [await in_force(here, days) for days in (1, 8.9, 9)] == [[1, 1], [1, 1], [2, 2]]


async def test_a_notice_ends_the_agreement_for_what_begins_later() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        here.clock.step_to(at(2))

        with pytest.raises(OfferRefused) as refusal:
            await here.msp.exchange.give_notice(EMMA, TULIP, "1", ends_at=at(31))
        answer = await here.msp.api("POST", f"/agreement-offers/{TULIP}/1/notice", {"ends_at": at(32).isoformat()})
        await here.quiet()
        with pytest.raises(OfferRefused) as later:
            await here.msp.exchange.give_notice(EMMA, TULIP, "1", ends_at=at(90))

        assert refusal.value.reason is OfferRefusal.NOTICE_TOO_SHORT
        assert answer.status == 201
        assert later.value.reason is OfferRefusal.OVERTAKEN, "notice is not taken back"
        # A session that began before runs on: it is judged by when it began.
        assert await in_force(here, 31.9) == [1, 1]
        assert await in_force(here, 32) == ["EXPIRED", "EXPIRED"]
        await here.agreed(terms(agreement_id="2", valid_from=at(32)))
        assert await in_force(here, 33) == [1, 1]


async def test_of_words_that_cross_an_acceptance_stands() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        here.world.http.cut(MSP_ORIGIN)  # nobody hears the CPO's next word
        await here.cpo.exchange.offer(TULIP, terms(payment_terms_d=7))
        await here.msp.exchange.accept(EMMA, TULIP, "1", 1, round_=1)

        async def has_heard() -> bool:
            talk = await here.cpo.talk()
            return talk is not None and talk.state is OfferState.AGREED

        await until(has_heard, what="the acceptance to arrive")
        here.world.http.mend(MSP_ORIGIN)

        cpo, msp = await here.cpo.talk(), await here.msp.talk()
        assert cpo is not None
        assert msp is not None
        assert cpo.agreement == msp.agreement
        assert msp.agreement.payment_terms_d == 30


# By hand, as an external party would with curl, and as an attacker might


async def said(here: TwoOffices, word: Word, *, version: int = 1) -> None:
    """Send a word in the MSP's name, with its OCPI token, through the hub."""
    client = await here.msp.service.host.connect(EMMA, TULIP)
    url = client.url_of(ModuleID.AGREEMENTS, InterfaceRole.RECEIVER, f"/1/{version}", {})
    await client.send("PUT", url, word, to_party=TULIP, correlation_id="c")


async def word(made: Any, *, kind: WordKind = WordKind.OFFER, signer: Any = None, **changes: Any) -> Word:
    by = signer or Ed25519Signer(b"m" * 32)
    document = signing_bytes(made)
    plain: dict[str, Any] = {
        "kind": kind,
        "round": 1,
        "terms": base64.b64encode(document).decode(),
        "public_key": await by.public_key(EMMA),
        "signature": await by.sign(EMMA, document),
    }
    return Word(**(plain | changes))


async def test_an_offer_made_by_hand_is_an_offer() -> None:
    async with two_offices() as here:
        await said(here, await word(terms()))
        await said(here, await word(terms()))  # twice is as once

        talk = await here.cpo.talk()

        assert talk is not None
        assert (talk.state, talk.said_by, talk.round) == (OfferState.OPEN, EMMA, 1)


async def test_words_that_are_not_the_partys_own_do_not_count() -> None:
    async with two_offices() as here:
        document = signing_bytes(terms())
        spaced = base64.b64encode(document.replace(b'":', b'": ')).decode()
        elsewhere = base64.b64encode(signing_bytes(terms(emsp_id=TULIP, cpo_id=EMMA))).decode()
        wrong = [
            await word(terms(), signature="0" * 128),
            await word(terms(), terms=base64.b64encode(signing_bytes(terms(payment_terms_d=1))).decode()),
            await word(terms(), terms=spaced),
            await word(terms(), terms="e30="),
            await word(terms(), terms="!"),
            await word(terms(), terms=elsewhere),
            await word(terms(), public_key=None),
            await word(terms(agreement_id="2")),
            await word(terms(), kind=WordKind.ACCEPT),
            await word(terms(), kind=WordKind.REJECT),
        ]
        for each in wrong:
            with pytest.raises(PeerRefused):
                await said(here, each)
        with pytest.raises(PeerRefused):
            await said(here, await word(terms(valid_from=at(-1))))

        assert await here.cpo.talk() is None


async def test_an_acceptance_needs_our_own_signature_on_what_is_accepted() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        cheaper = terms(tariff_ids=("FREE",))
        forged = await STRANGER.sign(TULIP, signing_bytes(cheaper))
        theirs = (await here.msp.talk()).agreement.cpo_signature  # type: ignore[union-attr]

        for changes in ({"offer_signature": forged}, {"offer_signature": theirs}, {}):
            with pytest.raises(PeerRefused):
                await said(here, await word(cheaper, kind=WordKind.ACCEPT, **changes))

        assert await in_force(here, 2) == ["NONE", "NONE"]


async def test_terms_that_we_never_offered_are_not_accepted_even_while_words_cross() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        here.world.http.cut(MSP_ORIGIN)
        await here.cpo.exchange.offer(TULIP, terms(payment_terms_d=7))  # on its way
        cheaper = terms(tariff_ids=("FREE",))
        forged = await STRANGER.sign(TULIP, signing_bytes(cheaper))

        with pytest.raises(PeerRefused, match="SIGNATURE_INVALID"):
            await said(here, await word(cheaper, kind=WordKind.ACCEPT, offer_signature=forged))

        assert await in_force(here, 2) == ["NONE", "NONE"]


async def test_what_was_taken_back_and_heard_is_not_accepted_afterwards() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        ours = (await here.msp.talk()).agreement.cpo_signature  # type: ignore[union-attr]
        await here.cpo.exchange.reject(TULIP, EMMA, "1", 1)
        await here.quiet()

        with pytest.raises(PeerRefused, match="OVERTAKEN"):
            await said(here, await word(terms(), kind=WordKind.ACCEPT, offer_signature=ours))

        assert await in_force(here, 2) == ["NONE", "NONE"]


async def test_a_pair_whose_keys_are_pinned_hears_no_other_key() -> None:
    async with two_offices() as here:
        await here.agreed(terms())

        with pytest.raises(PeerRefused, match="KEY_DIFFERS"):
            await said(here, await word(terms(version=2, valid_from=at(9)), signer=STRANGER), version=2)


async def test_an_offer_is_not_accepted_after_it_should_have_begun() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.quiet()
        here.clock.step_to(at(1))

        with pytest.raises(OfferRefused, match="NOT_IN_FUTURE"):
            await here.msp.exchange.accept(EMMA, TULIP, "1", 1, round_=1)


async def test_an_operator_accepts_the_round_that_was_seen() -> None:
    async with two_offices() as here:
        await here.cpo.exchange.offer(TULIP, terms())
        await here.cpo.exchange.offer(TULIP, terms(tariff_ids=("DEAR",)))
        await here.quiet()

        with pytest.raises(OfferRefused, match="OVERTAKEN"):
            await here.msp.exchange.accept(EMMA, TULIP, "1", 1, round_=1)


# The page


async def page(
    office: Office, method: str, path: str, form: dict[str, str] | None = None, cookie: str = ""
) -> HttpResponse:
    body = urlencode(form or {}).encode() if method == "POST" else b""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie, "Authorization": ""}
    return await office.api(method, f"/agreement-page{path}", body, **headers)


async def logged_in(office: Office) -> tuple[str, dict[str, str]]:
    answer = await page(office, "POST", "/login", {"token": INTERNAL_TOKEN})
    cookie = answer.headers["set-cookie"].partition(";")[0]
    shown = (await page(office, "GET", "/", cookie=cookie)).body.decode()
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', shown)
    assert found is not None
    return cookie, {"csrf": found[1]}


async def test_operators_of_both_sides_agree_on_their_pages() -> None:
    async with two_offices() as here:
        cookie, csrf = await logged_in(here.cpo)
        form = {
            **csrf,
            "agreement_id": "1",
            "version": "1",
            "cpo_id": "NL-TUL",
            "emsp_id": "DE-EMA",
            "valid_from": (at(0) + DAY).isoformat(),
            "currency": "EUR",
            "tariff_ids": "W1, W2",
            "tax_regime": "REVERSE_CHARGE",
            "cdr_deadline_h": "48",
            "dispute_period_h": "168",
            "statement_period": "WEEKLY",
            "time_zone": "Europe/Amsterdam",
            "payment_terms_d": "30",
            "settlement_mode": "OFF_CHAIN",
            "credit_limit_e4": "0",
            "signed_meter_policy": "REQUIRED",
            "roaming_fee_e4": "0",
        }
        offered = await page(here.cpo, "POST", "/offer", form, cookie)
        await here.quiet()
        msp_cookie, msp_csrf = await logged_in(here.msp)
        seen = await page(here.msp, "GET", "/NL-TUL/1/1", cookie=msp_cookie)
        accepted = await page(here.msp, "POST", "/NL-TUL/1/1/accept", msp_csrf | {"round": "1"}, msp_cookie)
        await here.quiet()
        wrong = await page(here.cpo, "POST", "/offer", form | {"version": "x"}, cookie)
        foreign = await page(here.cpo, "GET", "/", cookie=msp_cookie)

        assert (offered.status, seen.status, accepted.status) == (200, 200, 200)
        assert "W1, W2" in seen.body.decode()
        assert "compare it out of band" in seen.body.decode()
        assert "Give notice" in accepted.body.decode()
        assert (wrong.status, foreign.status) == (422, 303)
        assert await in_force(here, 1) == [1, 1]


async def test_a_login_is_good_for_its_own_partys_pages_alone() -> None:
    async with two_offices() as here:
        cookie, _ = await logged_in(here.cpo)
        other = replace(here.cpo, party=PartyId("NL-OTH"))
        await other.api("PUT", "", {"name": "Other"})

        assert (await page(here.cpo, "GET", "/", cookie=cookie)).status == 200
        assert (await page(other, "GET", "/", cookie=cookie)).status == 303
        here.clock.step_to(at(1))
        assert (await page(here.cpo, "GET", "/", cookie=cookie)).status == 303, "it is over"


async def test_a_name_from_afar_is_text_on_the_page() -> None:
    async with two_offices() as here:
        await said(here, await word(replace(terms(), tariff_ids=("<script>alert(1)</script>",))))
        cookie, _ = await logged_in(here.cpo)

        shown = (await page(here.cpo, "GET", "/DE-EMA/1/1", cookie=cookie)).body.decode()

        assert "&lt;script&gt;" in shown
        assert "<script" not in shown
