"""What a mock party keeps and answers by itself: a decent receiver and a small sender, as the text describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlencode

from ocpi_check import objects
from ocpi_check.wire import Party

if TYPE_CHECKING:
    from ocpi_check.mock import Heard, Reply

PAGE_MAX: Final = 50
SAMPLES: Final = 3
"""Objects of each kind that a CPO holds from the start."""
COMMANDS: Final = ("START_SESSION", "STOP_SESSION", "RESERVE_NOW", "CANCEL_RESERVATION", "UNLOCK_CONNECTOR")
COMMAND_TIMEOUT_S: Final = 30

_PUSHED: Final = ("locations", "tariffs", "hubclientinfo")
_SERVED: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "CPO": (
        ("locations", "sessions", "cdrs", "tariffs"),
        ("tokens", "commands", "chargingprofiles", "hubclientinfo"),
    ),
    "EMSP": (
        ("tokens", "commands", "chargingprofiles"),
        ("locations", "sessions", "cdrs", "tariffs", "hubclientinfo"),
    ),
    "NSP": ((), _PUSHED),
    "NAP": ((), _PUSHED),
    "OTHER": (("tokens",), ("locations", "hubclientinfo")),
    "SCSP": (("chargingprofiles",), ("sessions", "hubclientinfo")),
    "PTP": ((), ("hubclientinfo",)),
}
_SERVED_SINCE_230: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "CPO": (("invoicereconciliation", "bookings"), ("invoicereconciliation", "payments")),
    "EMSP": (("invoicereconciliation",), ("invoicereconciliation", "bookings")),
    "PTP": (("payments",), ()),
}
_ID_FIELD: Final = {"tokens": "uid"}


def served_by(role: str, version: str) -> list[tuple[str, str]]:
    """Return the interfaces of a role, as (module, SENDER or RECEIVER)."""
    tables = [_SERVED] if version == "2.2.1" else [_SERVED, _SERVED_SINCE_230]
    return [
        (module, side)
        for table in tables
        for side, modules in zip(("SENDER", "RECEIVER"), table.get(role, ((), ())), strict=True)
        for module in modules
    ]


class Modules:
    """Keeps what is pushed, pages what it owns. `own[module]` may be filled by whoever plays with it."""

    def __init__(self, *, party: Party, role: str, now: Callable[[], datetime]) -> None:
        self.party = party
        self.role = role
        self.hub: Party | None = None
        self.whitelists: dict[str, str] = {"CARD1": "ALLOWED", "CARD-ALWAYS": "ALWAYS", "CARD-NEVER": "NEVER"}
        """This MSP's cards."""
        self.own: dict[str, list[dict[str, Any]]] = {}
        self._kept: dict[tuple[str, ...], dict[str, Any]] = {}
        self._now = now
        self._began = now()

    def listed(self, module: str, version: str) -> list[dict[str, Any]]:
        """Return the objects it owns, oldest first."""
        if module in self.own:
            return self.own[module]
        made: list[dict[str, Any]] = []
        for number in range(1, SAMPLES + 1):
            at = self._began - timedelta(hours=SAMPLES + 1 - number)
            if module == "locations":
                made.append(objects.location(self.party, number, at))
            elif module == "tariffs":
                made.append(objects.tariff(self.party, number, at, version))
        if module == "tokens" and self.role == "EMSP":
            at = self._began - timedelta(hours=1)
            made += [objects.token(self.party, uid, at, each) for uid, each in self.whitelists.items()]
        self.own[module] = made
        return made

    def reply(self, heard: Heard, version: str, module: str, side: str, rest: Sequence[str]) -> Reply:
        """Answer a request to a module."""
        from ocpi_check.mock import Reply  # noqa: PLC0415 - the two modules are one thing

        rest = [unquote(each) for each in rest if each]
        if (module, side.upper()) not in served_by(self.role, version):
            return Reply(http=404, code=2000)
        if side == "sender":
            http, code, data, headers = self._as_sender(heard, version, module, rest)
        else:
            http, code, data, headers = self._as_receiver(heard, module, rest)
        return Reply(http=http, code=code, data=data, headers=headers)

    # As the owner

    def _as_sender(self, heard: Heard, version: str, module: str, rest: Sequence[str]) -> _Said:
        if module in {"commands", "chargingprofiles"}:
            return _ok()  # a result for a command
        if module == "tokens" and heard.method == "POST":
            return self._authorized(heard, rest)
        if module == "sessions" and heard.method == "PUT":
            return _ok("ACCEPTED")  # charging preferences
        if module in {"payments", "bookings"} and heard.method != "GET":
            return _ok(_body(heard))
        if heard.method != "GET":
            return _no(405)
        if rest and rest not in (["terminals"], ["booking_locations"]):
            return self._one(self.listed(module, version), module, rest)
        if module == "sessions" and "date_from" not in heard.query:
            return _said(2001)
        return self._page(heard, self.listed(module, version))

    def _page(self, heard: Heard, owned: Sequence[dict[str, Any]]) -> _Said:
        try:
            since, before = (_moment(heard.query.get(name)) for name in ("date_from", "date_to"))
            offset, limit = int(heard.query.get("offset", 0)), int(heard.query.get("limit", PAGE_MAX))
        except ValueError:
            return _said(2001)
        limit = max(1, min(limit, PAGE_MAX))
        found = [
            each
            for each in owned
            if (since is None or _moment(each["last_updated"]) >= since)  # type: ignore[operator]  # always there
            and (before is None or _moment(each["last_updated"]) < before)  # type: ignore[operator]
        ]
        headers = {"x-total-count": str(len(found)), "x-limit": str(limit)}
        if offset + limit < len(found):
            query = {**heard.query, "offset": str(offset + limit), "limit": str(limit)}
            host = heard.headers.get("host", "")
            scheme = heard.headers.get("x-forwarded-proto", "http")
            headers["link"] = f'<{scheme}://{host}{heard.path}?{urlencode(query, safe=":")}>; rel="next"'
        return 200, 1000, found[offset : offset + limit], headers

    def _one(self, owned: Sequence[dict[str, Any]], module: str, rest: Sequence[str]) -> _Said:
        found: Any = _by_id(owned, rest[0], _ID_FIELD.get(module, "id"))
        for name, field, wanted in zip(("evses", "connectors"), ("uid", "id"), rest[1:], strict=False):
            found = _by_id((found or {}).get(name, []), wanted, field)
        return _ok(found) if found else _no(404)

    def _authorized(self, heard: Heard, rest: Sequence[str]) -> _Said:
        """mod_tokens, real-time authorization: unknown 2004 with HTTP 404; a NEVER card needs to know where."""
        whitelist = self.whitelists.get(rest[0].upper()) if rest else None
        if whitelist is None:
            return 404, 2004, None, {}
        where = _body(heard) if heard.body else None
        if whitelist == "NEVER" and not where:
            return _said(2002)
        info = {
            "allowed": "ALLOWED",
            "token": objects.token(self.party, rest[0], self._now(), whitelist),
            "authorization_reference": f"AUTH-{rest[0]}",
        }
        return _ok(info if where is None else {**info, "location": where})

    # As the one who is told

    def _as_receiver(self, heard: Heard, module: str, rest: Sequence[str]) -> _Said:
        if module == "commands":
            return self._command(heard, rest)
        if module == "chargingprofiles":
            return _ok({"result": "ACCEPTED", "timeout": COMMAND_TIMEOUT_S})
        if module == "cdrs":
            return self._cdr(heard, rest)
        if module in {"payments", "bookings"} and heard.method == "POST":
            return 201, 1000, None, {}
        if module == "invoicereconciliation" and heard.method == "POST":
            return self._reconciliation(heard)
        if module == "hubclientinfo" and heard.method == "DELETE":
            return _no(405)
        return self._client_owned(heard, module, rest)

    def _command(self, heard: Heard, rest: Sequence[str]) -> _Said:
        posted = _body(heard)
        if heard.method != "POST" or not rest or rest[0] not in COMMANDS:
            return _no(404)
        if not isinstance(posted, dict) or "response_url" not in posted:
            return _said(2001)
        known = {f"loc{number}" for number in range(1, SAMPLES + 1)}
        if "location_id" in posted and str(posted["location_id"]).lower() not in known:
            return _said(2003)
        return _ok({"result": "ACCEPTED", "timeout": COMMAND_TIMEOUT_S})

    def _cdr(self, heard: Heard, rest: Sequence[str]) -> _Said:
        if heard.method == "GET" and rest:
            found = self._kept.get(("cdrs", rest[0].lower()))
            return _ok(found) if found else _no(404)
        if heard.method != "POST" or rest:
            return _no(405)
        posted = _body(heard)
        if not isinstance(posted, dict) or "id" not in posted:
            return _said(2001)
        if posted.get("credit") and not posted.get("credit_reference_id"):
            return _said(2001)
        self._kept.setdefault(("cdrs", str(posted["id"]).lower()), posted)
        scheme, host = heard.headers.get("x-forwarded-proto", "http"), heard.headers.get("host", "")
        return 201, 1000, None, {"location": f"{scheme}://{host}{heard.path}/{posted['id']}"}

    def _reconciliation(self, heard: Heard) -> _Said:
        posted = _body(heard)
        if not isinstance(posted, dict) or "id" not in posted:
            return _said(2001)
        key = ("invoicereconciliation", *(str(posted[name]).lower() for name in ("country_code", "party_id", "id")))
        self._kept[key] = posted
        return 201, 1000, None, {}

    def _client_owned(self, heard: Heard, module: str, rest: Sequence[str]) -> _Said:
        """transport_and_format, client owned object push: `/{country_code}/{party_id}/{object_id}`."""
        if len(rest) < 2 or not self._may_speak_for(heard, Party(rest[0], rest[1])):
            return _no(404)
        key = (module, *(each.lower() for each in rest[:3]))
        kept, below = self._kept.get(key), rest[3:]
        if heard.method == "GET":
            found: Any = kept
            for name, field, wanted in zip(("evses", "connectors"), ("uid", "id"), below, strict=False):
                found = _by_id((found or {}).get(name, []), wanted, field)
            return _ok(found) if found else _no(404)
        if heard.method == "DELETE":
            return _ok() if self._kept.pop(key, None) else _no(404)
        pushed = _body(heard)
        if not isinstance(pushed, dict):
            return _said(2001)
        if module != "hubclientinfo" and "last_updated" not in pushed:
            return _said(2001)
        if below:
            return self._part(kept, below, pushed, is_whole=heard.method == "PUT")
        if heard.method == "PATCH":
            return _merged(kept, pushed)
        field = _ID_FIELD.get(module, "id")
        if len(rest) > 2 and str(pushed.get(field, "")).lower() != rest[2].lower():
            return _said(2001)
        self._kept[key] = pushed
        return (201 if kept is None else 200), 1000, None, {}

    def _part(self, place: Any, below: Sequence[str], pushed: Any, *, is_whole: bool) -> _Said:
        """Change an EVSE or a connector; what it stands in is as new as it (mod_locations, PATCH)."""
        if place is None:
            return _no(404)
        parents, found, status = [], place, 200
        for name, field, wanted in zip(("evses", "connectors"), ("uid", "id"), below, strict=False):
            parents.append(found)
            siblings = found.setdefault(name, [])
            found = _by_id(siblings, wanted, field)
            if found is None:
                if not is_whole:
                    return _no(404)
                found, status = {field: wanted}, 201
                siblings.append(found)
        if is_whole:
            found.clear()
        found.update(pushed)
        for parent in parents:
            parent["last_updated"] = pushed["last_updated"]
        return status, 1000, None, {}

    def _may_speak_for(self, heard: Heard, owner: Party) -> bool:
        sender = heard.from_party
        return sender is None or sender == self.hub or str(sender).lower() == str(owner).lower()


_Said = tuple[int, int, Any, Mapping[str, str]]


def _ok(data: Any = None) -> _Said:
    return 200, 1000, data, {}


def _said(code: int) -> _Said:
    return 200, code, None, {}


def _no(http: int) -> _Said:
    return http, 2000, None, {}


def _merged(kept: dict[str, Any] | None, pushed: dict[str, Any]) -> _Said:
    if kept is None:
        return _no(404)
    if "charging_periods" in pushed:  # mod_sessions, PATCH: they are added
        pushed = {**pushed, "charging_periods": [*kept.get("charging_periods", []), *pushed["charging_periods"]]}
    kept.update(pushed)
    return _ok()


def _by_id(among: Sequence[Any], wanted: str, field: str) -> Any:
    return next((each for each in among if str(each.get(field, "")).lower() == wanted.lower()), None)


def _body(heard: Heard) -> Any:
    try:
        return heard.json
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
