"""Pages for operators, rendered here without a script: a login by API token, tables and forms, escaped always.

What a page holds is data (`Section`), so that no page writes HTML of its own. The login is a cookie that this process
signs: HttpOnly, SameSite=Strict, good for `LOGIN_FOR` and for the pages of one owner. A form that changes something
carries a token of that login, and is refused when a browser says that it comes from elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from emobility.domain.errors import EmobilityError, MalformedInput, RuleBroken, Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.ports.clock import Clock, Randomness
from emobility.runtime.access import Access
from emobility.runtime.html_pages import HEADERS, templates_in

LOGIN_FOR: Final = timedelta(hours=8)
FORM_FIELDS_MAX: Final = 40
COOKIE: Final = "wattroam_operator"
TEMPLATES: Final = Path(__file__).parent / "templates"
_ENVIRONMENT: Final = templates_in(TEMPLATES)


class NotAForm(RuleBroken):
    """The form was not made for this login by one of its pages."""


class FieldMissing(MalformedInput):
    """A form lacks a field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Text that leads to another page; `path` below the pages' own."""

    text: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something to fill in; with `choices` one of them."""

    name: str
    label: str = ""
    value: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    is_required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What may be done, and what must be said for it; `action` below the pages' own path."""

    action: str
    button: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page: a sentence, a table, forms."""

    heading: str = ""
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: Sequence[Sequence[Any]] = ()
    forms: tuple[Form, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page."""

    title: str
    sections: tuple[Section, ...]
    notice: str | None = None
    problem: str | None = None
    status_code: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request of an operator who is logged in; `party_id`: whose pages these are, None: our own."""

    request: Request
    party_id: PartyId | None
    form: FormData = field(default_factory=FormData)

    def said(self, name: str) -> str:
        """Return a field of the form, without spaces around it. Raises `FieldMissing`."""
        value = self.form.get(name)
        if not isinstance(value, str) or not value.strip():
            raise FieldMissing(f"{name} is missing")
        return value.strip()

    def maybe(self, name: str) -> str | None:
        """Return a field of the form, None where it is empty."""
        value = self.form.get(name)
        return value.strip() or None if isinstance(value, str) else None


Page = Callable[[Visit], Awaitable[Shown]]


class _Login(msgspec.Struct, frozen=True, kw_only=True):
    owner: str
    until: int
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorPages:
    """Pages of one service below one path.

    Attributes:
        below: Path of the pages within the app; `{party}` in it stands for whose they are.
        owner: Whose pages they are, for people, where `below` names no party.
        links: The menu.
        is_https: Whether browsers reach us by https; then the cookie is sent only so.
    """

    access: Access
    clock: Clock
    randomness: Randomness
    master_key: bytes
    below: str
    owner: str
    links: tuple[Link, ...]
    is_https: bool

    def routes(self, shown: Sequence[tuple[str, str, Page]]) -> list[BaseRoute]:
        """Return the routes of pages, each by method and path, with login, logout and style."""
        return [
            Route(f"{self.below}/login", self._log_in, methods=["GET", "POST"]),
            Route(f"{self.below}/logout", self._log_out, methods=["POST"]),
            Route(f"{self.below}/style.css", self._style, methods=["GET"]),
            *(Route(f"{self.below}{path}", self._served(page), methods=[method]) for method, path, page in shown),
        ]

    def _served(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            party_id = _party_of(request)
            base, cookie = self._base(request), request.cookies.get(COOKIE, "")
            if not self._is_login(cookie, party_id):
                return RedirectResponse(f"{base}/login", status_code=303, headers=dict(HEADERS))
            try:
                form = await _form_of(request)
                if request.method == "POST":
                    self._refuse_forged(request, cookie, form)
                shown = await page(Visit(request=request, party_id=party_id, form=form))
            except EmobilityError as error:
                shown = Shown(title="That did not work", sections=(), problem=str(error), status_code=_status_of(error))
            return self._rendered(request, shown, csrf=self._csrf(cookie))

        return serve

    async def _log_in(self, request: Request) -> Response:
        party_id, base = _party_of(request), self._base(request)
        form = Form(action="/login", button="Log in", fields=(Field(name="token", label="API token", kind="password"),))
        asked = Shown(title="Log in", sections=(Section(forms=(form,)),))
        if request.method == "GET":
            return self._rendered(request, asked)
        given = (await _form_of(request)).get("token")
        if not _is_same_origin(request) or not isinstance(given, str) or not await self.access.opens(given, party_id):
            refused = Shown(
                title="Log in", sections=asked.sections, problem="This token does not open this.", status_code=401
            )
            return self._rendered(request, refused)
        answer = RedirectResponse(f"{base}/", status_code=303, headers=dict(HEADERS))
        answer.set_cookie(
            COOKIE,
            self._login(party_id),
            max_age=int(LOGIN_FOR.total_seconds()),
            path=f"{base}/",
            httponly=True,
            samesite="strict",
            secure=self.is_https,
        )
        return answer

    async def _log_out(self, request: Request) -> Response:
        base = self._base(request)
        answer = RedirectResponse(f"{base}/login", status_code=303, headers=dict(HEADERS))
        answer.delete_cookie(COOKIE, path=f"{base}/", httponly=True, samesite="strict", secure=self.is_https)
        return answer

    async def _style(self, _: Request) -> Response:
        css = (TEMPLATES / "operator.css").read_bytes()
        return Response(css, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    def _rendered(self, request: Request, shown: Shown, *, csrf: str = "") -> Response:
        party_id = _party_of(request)
        values = {
            "base": self._base(request),
            "owner": self.owner if party_id is None else str(party_id),
            "links": self.links,
            "csrf": csrf,
            "title": shown.title,
            "notice": shown.notice,
            "problem": shown.problem,
            "sections": shown.sections,
        }
        html = _ENVIRONMENT.get_template("operator.html").render(values)
        return HTMLResponse(html, status_code=shown.status_code, headers=dict(HEADERS))

    def _base(self, request: Request) -> str:
        below = self.below.replace("{party}", str(_party_of(request)))
        return f"{request.scope.get('root_path', '')}{below}"

    # The login

    def _login(self, party_id: PartyId | None) -> str:
        until = int((self.clock.now() + LOGIN_FOR).timestamp())
        nonce = self.randomness.token_bytes(16).hex()
        said = msgspec.json.encode(_Login(owner=self._name(party_id), until=until, nonce=nonce)).hex()
        return f"{said}.{self._word(said)}"

    def _is_login(self, cookie: str, party_id: PartyId | None) -> bool:
        said, _, word = cookie.partition(".")
        if not hmac.compare_digest(word.encode(), self._word(said).encode()):
            return False
        login = msgspec.json.decode(bytes.fromhex(said), type=_Login)
        is_over = self.clock.now() >= datetime.fromtimestamp(login.until, UTC)
        return login.owner == self._name(party_id) and not is_over

    def _name(self, party_id: PartyId | None) -> str:
        return f"{self.below} of {party_id}"

    def _refuse_forged(self, request: Request, cookie: str, form: FormData) -> None:
        given = form.get("csrf")
        is_ours = isinstance(given, str) and hmac.compare_digest(given.encode(), self._csrf(cookie).encode())
        if not is_ours or not _is_same_origin(request):
            raise NotAForm("the form was not made for you by this page")

    def _csrf(self, cookie: str) -> str:
        return self._word(f"form {cookie}")

    def _word(self, said: str) -> str:
        key = hmac.new(self.master_key, b"wattroam operator pages v1", hashlib.sha256).digest()
        return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


async def _form_of(request: Request) -> FormData:
    if request.method != "POST":
        return FormData()
    return await request.form(max_files=0, max_fields=FORM_FIELDS_MAX)


def _party_of(request: Request) -> PartyId | None:
    named = request.path_params.get("party")
    try:
        return None if named is None else PartyId(named)
    except MalformedPartyId:
        raise HTTPException(404) from None


def _is_same_origin(request: Request) -> bool:
    """A browser says where a form comes from; without a word the form's token alone decides."""
    origin = request.headers.get("origin")
    if origin is None or origin == "null":
        return origin is None
    return urlsplit(origin).netloc == request.headers.get("host")


def _status_of(error: EmobilityError) -> int:
    if isinstance(error, NotAForm):
        return 403
    if isinstance(error, Unavailable):
        return 503
    return 422 if isinstance(error, MalformedInput) else 409
