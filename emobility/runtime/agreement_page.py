"""A party's page about its roaming agreements: what is offered, agreed and ended, and the forms to do so."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from types import UnionType
from typing import Any, Final

from starlette.routing import BaseRoute

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.agreement_offer import OfferRefusal, OfferRefused, OfferState
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.agreement_exchange import AgreementExchange, OfferRecord
from emobility.runtime.access import Access
from emobility.runtime.operator_page import Field, Form, Link, OperatorPages, Section, Shown, Visit
from emobility.runtime.settings import Settings

BELOW: Final = "/{party}/agreement-page"
LINKS: Final = (Link(text="Agreements", path="/"), Link(text="Offer", path="/offer"))
_SIGNATURES: Final = frozenset({"cpo_signature", "emsp_signature"})
_SUGGESTED: Final = {
    "version": "1",
    "currency": "EUR",
    "cdr_deadline_h": "48",
    "dispute_period_h": "168",
    "payment_terms_d": "30",
    "credit_limit_e4": "0",
    "roaming_fee_e4": "0",
    "notice_period_d": "30",
    "dispute_answer_h": "720",
    "time_zone": "Europe/Amsterdam",
}


class NotATerm(MalformedInput):
    """A field of the form is no term."""


class AgreementPage:
    """Its pages."""

    def __init__(self, exchange: AgreementExchange) -> None:
        self._exchange = exchange
        self.routes = (
            ("GET", "/", self.overview),
            ("GET", "/offer", self.blank),
            ("POST", "/offer", self.offer),
            ("GET", "/{other}/{agreement_id}/{version}", self.talk),
            ("POST", "/{other}/{agreement_id}/{version}/{what}", self.answer),
            ("POST", "/{other}/{agreement_id}/notice", self.give_notice),
        )

    async def overview(self, visit: Visit) -> Shown:
        """List what was talked about, and notices."""
        return await self._overview(_own(visit))

    async def blank(self, visit: Visit) -> Shown:
        """Show an empty offer."""
        form = Form(action="/offer", button="Offer", fields=_fields(None, own=_own(visit)))
        text = "Signed by us when it is sent; in force once the other side accepts, from the day you name on."
        return Shown(title="Offer an agreement", sections=(Section(text=text, forms=(form,)),))

    async def offer(self, visit: Visit) -> Shown:
        """Send an offer or a counter-offer."""
        own = _own(visit)
        record = await self._exchange.offer(own, _terms(visit))
        return _shown(record, own, notice=f"Offered to {record.counterparty}.")

    async def talk(self, visit: Visit) -> Shown:
        """Show one version with all its terms."""
        own, other, agreement_id, version = _named(visit)
        for record in await self._exchange.offers(own):
            if (record.counterparty, record.agreement_id, record.version) == (other, agreement_id, version):
                return _shown(record, own)
        raise OfferRefused(OfferRefusal.NOTHING_OFFERED, f"{other} and {own} talked about no {agreement_id} v{version}")

    async def answer(self, visit: Visit) -> Shown:
        """Accept or reject."""
        own, other, agreement_id, version = _named(visit)
        if visit.request.path_params["what"] == "accept":
            seen = int(visit.said("round")) if visit.said("round").isdigit() else 0
            record = await self._exchange.accept(own, other, agreement_id, version, round_=seen)
        else:
            record = await self._exchange.reject(own, other, agreement_id, version)
        return _shown(record, own, notice="Done.")

    async def give_notice(self, visit: Visit) -> Shown:
        """End an agreement."""
        own, other = _own(visit), PartyId(visit.request.path_params["other"])
        ends_at = _moment(visit.said("ends_at"))
        await self._exchange.give_notice(own, other, visit.request.path_params["agreement_id"], ends_at=ends_at)
        return await self._overview(own, notice="Notice was given.")

    async def _overview(self, own: PartyId, *, notice: str | None = None) -> Shown:
        offers, notices = await self._exchange.offers(own), await self._exchange.notices(own)
        rows = [
            (
                each.counterparty,
                Link(text=f"{each.agreement_id} v{each.version}", path=_path(each)),
                each.state,
                each.said_by,
                each.round,
                _said(each.agreement.valid_from),
            )
            for each in offers
        ]
        ended = [(each.counterparty, each.agreement_id, each.given_by, _said(each.ends_at)) for each in notices]
        columns = ("With", "Version", "State", "Last word by", "Round", "Valid from")
        return Shown(
            title="Agreements",
            notice=notice,
            sections=(
                Section(heading="Offered and agreed", columns=columns, rows=rows),
                Section(heading="Notices", columns=("With", "Agreement", "Given by", "Ends"), rows=ended),
            ),
        )


def _shown(record: OfferRecord, own: PartyId, *, notice: str | None = None) -> Shown:
    rows = [
        (each.name, _said(getattr(record.agreement, each.name)))
        for each in fields(RoamingAgreement)
        if each.name not in _SIGNATURES
    ]
    text = f"{record.state}; the last word, round {record.round}, is {record.said_by}'s."
    if record.counterparty_key is not None:
        text += f" {record.counterparty} signs with the key {record.counterparty_key}: compare it out of band."
    return Shown(
        title=f"{record.agreement_id} v{record.version} with {record.counterparty}",
        notice=notice,
        sections=(
            Section(heading="Terms", text=text, columns=("Term", "Value"), rows=rows, forms=_answers(record, own)),
            *_counter(record, own),
        ),
    )


def _answers(record: OfferRecord, own: PartyId) -> tuple[Form, ...]:
    path = _path(record)
    if record.state is OfferState.AGREED:
        at = Field(name="ends_at", label="Ends at (UTC, such as 2026-12-31T23:00:00)")
        return (Form(action=f"{path.rpartition('/')[0]}/notice", button="Give notice", fields=(at,)),)
    if record.state is not OfferState.OPEN:
        return ()
    if record.said_by == own:
        return (Form(action=f"{path}/reject", button="Take back"),)
    seen = Field(name="round", value=str(record.round), kind="hidden")
    return (
        Form(action=f"{path}/accept", button="Accept", fields=(seen,)),
        Form(action=f"{path}/reject", button="Reject"),
    )


def _counter(record: OfferRecord, own: PartyId) -> Sequence[Section]:
    if record.state is OfferState.AGREED:
        return ()
    form = Form(action="/offer", button="Offer these terms", fields=_fields(record.agreement, own=own))
    return (Section(heading="Offer other terms", forms=(form,)),)


def _path(record: OfferRecord) -> str:
    return f"/{record.counterparty}/{record.agreement_id}/{record.version}"


def _fields(terms: RoamingAgreement | None, *, own: PartyId) -> tuple[Field, ...]:
    hints = typing.get_type_hints(RoamingAgreement)
    made = []
    for each in fields(RoamingAgreement):
        if each.name in _SIGNATURES:
            continue
        kind, is_required = _kind(hints[each.name])
        suggested = _SUGGESTED.get(each.name, own.code if each.name == "cpo_id" else "")
        value = suggested if terms is None else _said(getattr(terms, each.name), nothing="")
        choices = tuple(one.value for one in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ()
        made.append(
            Field(
                name=each.name,
                label=each.name,
                value=value,
                choices=choices if is_required or not choices else ("", *choices),
                is_required=is_required,
            )
        )
    return tuple(made)


def _terms(visit: Visit) -> RoamingAgreement:
    """Read the terms of a form. Raises `NotATerm`."""
    hints = typing.get_type_hints(RoamingAgreement)
    said: dict[str, Any] = {}
    for each in fields(RoamingAgreement):
        if each.name in _SIGNATURES:
            continue
        kind, is_required = _kind(hints[each.name])
        text = visit.said(each.name) if is_required else visit.maybe(each.name)
        said[each.name] = None if text is None else _term(each.name, kind, text)
    return RoamingAgreement(**said)


def _term(name: str, kind: Any, text: str) -> Any:
    if kind is datetime:
        return _moment(text)
    try:
        if typing.get_origin(kind) is tuple:
            return tuple(each.strip() for each in text.split(",") if each.strip())
        return kind(text)
    except (ValueError, MalformedInput) as error:
        raise NotATerm(f"{name}: {text[:40]!r} can't be read") from error


def _kind(hint: Any) -> tuple[Any, bool]:
    """Return a term's type, and whether it must be said."""
    if typing.get_origin(hint) in {typing.Union, UnionType}:
        (kind,) = (each for each in typing.get_args(hint) if each is not type(None))
        return kind, False
    return hint, True


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotATerm(f"{text[:40]!r} is no moment such as 2026-12-31T23:00:00") from error
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _said(value: Any, *, nothing: str = "-") -> str:
    if value is None:
        return nothing
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _own(visit: Visit) -> PartyId:
    assert visit.party_id is not None, "the page is a party's"
    return visit.party_id


def _named(visit: Visit) -> tuple[PartyId, PartyId, str, int]:
    named = visit.request.path_params
    version = int(named["version"]) if named["version"].isdigit() else 0
    return _own(visit), PartyId(named["other"]), named["agreement_id"], version


def agreement_pages(exchange: AgreementExchange, access: Access, settings: Settings) -> list[BaseRoute]:
    """Return the routes of the page, for a service's app."""
    ports = exchange.ports
    pages = OperatorPages(
        access=access,
        clock=ports.clock,
        randomness=ports.randomness,
        master_key=settings.master_key_bytes,
        below=BELOW,
        owner="Agreements",
        links=LINKS,
        is_https=settings.public_url.startswith("https://"),
    )
    return pages.routes(AgreementPage(exchange).routes)
