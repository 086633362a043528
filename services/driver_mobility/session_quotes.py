"""Find the quote a session or CDR belongs to; where the CPO started by its whitelist, make the one the plan implies."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.cdr import CDR
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.session import Session
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.version import tariff_hash
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.quoting import Quoting, driver_for_update, end_unbilled
from services.driver_mobility.records import (
    OPEN_QUOTE_STATES,
    QUOTE,
    SESSION,
    TOKEN,
    DriverToken,
    QuoteOrigin,
    QuoteRecord,
    QuoteState,
    SessionRecord,
)
from services.driver_mobility.terms import (
    NoTariffKnown,
    Place,
    UnknownPlace,
    WholesaleTerms,
    agreement_at,
    known_tariffs,
    place_at,
    tariff_versions,
    wholesale_terms,
)

POWER_W_ASSUMED: Final = 11_000
"""What a connector gives when the CDR is all that is known of it."""


class TermsNotKnownYet(Unavailable):
    """The price for this charge can't be made yet: its location or tariff has not arrived, or the plan is broken."""


class SessionQuotes:
    """Joins what CPOs send with what drivers were promised."""

    def __init__(self, quoting: Quoting) -> None:
        self._quoting = quoting

    async def for_session(
        self, unit: UnitOfWork, token: DriverToken, session: Session, known: SessionRecord | None, *, at: datetime
    ) -> QuoteRecord:
        """Return the quote of a session, RUNNING unless it is closed.

        `known` is the session as it was. Where its CPO names another quote by now, the charge leaves the first, with
        its hold; once it is billed it stays where it is.

        Raises:
            TermsNotKnownYet: there is none, and none can be made yet.
        """
        earlier = None if known is None else await unit.table(QUOTE).get_for_update(token.party_id, known.quote_id)
        is_billed = earlier is not None and earlier.state is QuoteState.BILLED
        if earlier is not None and is_billed and earlier.driver_id == token.driver_id:
            return earlier
        quote = await self._named_or_made(unit, token, session)
        if earlier is not None and not is_billed and earlier.quote_id != quote.quote_id:
            left = await end_unbilled(unit, earlier, reason="the charge runs under another quote", at=at)
            await unit.table(QUOTE).put(replace(left, session_id=None))
        return quote

    async def _named_or_made(self, unit: UnitOfWork, token: DriverToken, session: Session) -> QuoteRecord:
        known = await self._promised(unit, token, session.party_id, session.authorization_reference)
        if known is None or known.session_id not in {None, session.session_id}:
            return await self._make_for_session(unit, token, session)
        state = QuoteState.RUNNING if known.state in _MAY_RUN else known.state
        running = replace(known, state=state, session_id=session.session_id)
        if running != known:
            await unit.table(QUOTE).put(running)
        return running

    async def for_cdr(self, unit: UnitOfWork, token: DriverToken, cdr: CDR) -> QuoteRecord:
        """Return the quote a CDR is billed under. Raises `TermsNotKnownYet`."""
        session = await unit.table(SESSION).get(token.party_id, cdr.party_id, cdr.session_id)
        if session is not None and session.driver_id == token.driver_id:
            quote = await unit.table(QUOTE).get_for_update(token.party_id, session.quote_id)
            if quote is not None:
                return quote
        known = await self._promised(unit, token, cdr.party_id, cdr.authorization_reference)
        if known is not None and known.session_id in {None, cdr.session_id}:
            if known.session_id is None:
                known = replace(known, session_id=cdr.session_id)
                await unit.table(QUOTE).put(known)
            return known
        earlier = await self._of_session(unit, token, cdr.party_id, cdr.session_id)
        return earlier or await self._make_for_cdr(unit, token, cdr)

    async def _promised(
        self, unit: UnitOfWork, token: DriverToken, cpo_id: PartyId, reference: str | None
    ) -> QuoteRecord | None:
        """A reference counts only when it is a quote to this driver for this CPO."""
        if reference is None:
            return None
        quote = await unit.table(QUOTE).get_for_update(token.party_id, reference)
        if quote is None or (quote.driver_id, quote.cpo_id) != (token.driver_id, cpo_id):
            return None
        return quote

    async def _of_session(
        self, unit: UnitOfWork, token: DriverToken, cpo_id: PartyId, session_id: str
    ) -> QuoteRecord | None:
        found = await unit.table(QUOTE).select(
            {
                "party_id": token.party_id,
                "driver_id": token.driver_id,
                "cpo_id": cpo_id,
                "session_id": session_id,
            },
            limit=1,
        )
        return await unit.table(QUOTE).get_for_update(token.party_id, found[0].quote_id) if found else None

    async def _make_for_session(self, unit: UnitOfWork, token: DriverToken, session: Session) -> QuoteRecord:
        earlier = await self._of_session(unit, token, session.party_id, session.session_id)
        if earlier is not None:
            return earlier
        try:
            driver = await driver_for_update(unit, token.party_id, token.driver_id)
            place = await place_at(
                unit,
                token.party_id,
                session.party_id,
                location_id=session.location_id,
                evse_uid=session.evse_uid,
                connector_id=str(session.connector_id),
            )
            terms = await wholesale_terms(unit, token.party_id, place, session.started_at)
            claimed = await _claimed(unit, terms, place, session.tariff_hash, session.started_at)
            return await self._quoting.make(
                unit,
                driver=driver,
                place=place,
                wholesale=claimed or terms.tariff,
                roaming_fee_e4=terms.agreement.roaming_fee_e4,
                origin=QuoteOrigin.UNSEEN_START,
                token_subject=token.token_subject,
                starts_at=session.started_at,
                session_id=session.session_id,
            )
        except RuleBroken as error:
            raise TermsNotKnownYet(f"session {session.session_id}: {error}") from error

    async def _make_for_cdr(self, unit: UnitOfWork, token: DriverToken, cdr: CDR) -> QuoteRecord:
        try:
            driver = await driver_for_update(unit, token.party_id, token.driver_id)
            place = await _place_of(unit, token.party_id, cdr)
            wholesale, roaming_fee_e4 = await self._terms_of(unit, token.party_id, place, cdr)
            return await self._quoting.make(
                unit,
                driver=driver,
                place=place,
                wholesale=wholesale,
                roaming_fee_e4=roaming_fee_e4,
                origin=QuoteOrigin.UNSEEN_START,
                token_subject=token.token_subject,
                starts_at=cdr.charging_started_at,
                session_id=cdr.session_id,
            )
        except RuleBroken as error:
            raise TermsNotKnownYet(f"CDR {cdr.cdr_id}: {error}") from error

    async def _terms_of(self, unit: UnitOfWork, emsp_id: PartyId, place: Place, cdr: CDR) -> tuple[Tariff, int]:
        """The wholesale tariff and the roaming fee in e4; a CDR that nothing backs goes by its own, and is disputed."""
        fee_e4 = 0
        try:
            fee_e4 = (await agreement_at(unit, emsp_id, cdr.party_id, cdr.charging_started_at)).roaming_fee_e4
            terms = await wholesale_terms(unit, emsp_id, place, cdr.charging_started_at)
        except (NoAgreementInForce, NoTariffKnown):
            return cdr.tariff, fee_e4
        return await _claimed(unit, terms, place, cdr.tariff_hash, cdr.charging_started_at) or terms.tariff, fee_e4


async def frozen_hashes(unit: UnitOfWork, quote: QuoteRecord, cdr: CDR) -> frozenset[str]:
    """Return which wholesale versions may price a charge: the quote's, or the one in force when the charge began.

    They differ where a new version came between the two: a driver holds an offer for minutes, and a transaction may
    begin before its card is shown. A version that was received only after both raises no price that was promised.
    Where the CPO let the driver charge by its whitelist, nothing was: what is known by now counts.
    """
    is_promised = quote.origin is not QuoteOrigin.UNSEEN_START
    known_by = max(quote.quote.issued_at, cdr.charging_started_at) if is_promised else None
    place = await _place_of(unit, quote.party_id, cdr)
    try:
        terms = await wholesale_terms(unit, quote.party_id, place, cdr.charging_started_at, known_by=known_by)
    except (NoAgreementInForce, NoTariffKnown):
        return frozenset({quote.wholesale_hash})
    return frozenset({quote.wholesale_hash, tariff_hash(terms.tariff)})


async def _claimed(
    unit: UnitOfWork, terms: WholesaleTerms, place: Place, claimed_hash: str, started_at: datetime
) -> Tariff | None:
    """The version a CPO says it froze, if the agreement, the connector and the time bear it out."""
    for tariff_id in terms.agreement.tariff_ids:
        versions = await tariff_versions(unit, terms.agreement.emsp_id, place.cpo_id, tariff_id)
        known = known_tariffs(versions, started_at).get(claimed_hash)
        if known is not None and tariff_id in place.tariff_ids and known.may_price(started_at):
            return known.tariff
    return None


async def token_of(unit: UnitOfWork, emsp_id: PartyId, token_subject: str) -> DriverToken | None:
    """Return the token that a session or CDR names."""
    return await unit.table(TOKEN).get(emsp_id, token_subject)


_MAY_RUN = (*OPEN_QUOTE_STATES, QuoteState.OFFERED, QuoteState.REFUSED, QuoteState.EXPIRED)
"""A charge the CPO reports did begin, even where we thought that it would not."""


async def _place_of(unit: UnitOfWork, emsp_id: PartyId, cdr: CDR) -> Place:
    """Where a CDR says that the car stood, as the CPO published it; one it never published is taken from the CDR."""
    place = cdr.location
    try:
        return await place_at(
            unit,
            emsp_id,
            cdr.party_id,
            location_id=place.location_id,
            evse_uid=place.evse_uid,
            connector_id=str(place.connector_id),
        )
    except UnknownPlace:
        return _stated_place(cdr)


def _stated_place(cdr: CDR) -> Place:
    place = cdr.location
    return Place(
        cpo_id=cdr.party_id,
        location_id=place.location_id,
        name=place.name,
        evse_uid=place.evse_uid,
        connector_id=str(place.connector_id),
        tariff_ids=(cdr.tariff.tariff_id,),
        power_w=POWER_W_ASSUMED,
        time_zone=place.time_zone,
        country=place.country,
    )
