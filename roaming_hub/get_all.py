"""All parties' objects of a module, from the hub (OCPI 2.3.0, 4.3.3.4): asked of their owners page by page and merged.

The hub keeps no objects, so it asks whoever owns them, in the requester's name; what an owner serves to that party is
what is in the list. So what was sent to one party alone is not, and what a CPO pushed to all is, for it serves it too.

Each source's own order is kept, and of the sources' next objects the oldest comes first. Where a list was read to is
kept behind the URL of its next page: of each source how many objects, and the last few, by which a source whose
objects moved meanwhile is found again. So an object that does not change is there once; one that changes while the
list is read may come again in its new state. Sources that can't be read are named in `Wattroam-Missing-Parties`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
import structlog
from starlette.responses import Response

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import HttpResponse
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import headers as names
from emobility.protocols.ocpi.client import Envelope
from emobility.protocols.ocpi.headers import Routing, link_to, routing_headers
from emobility.protocols.ocpi.server import PAGE_OBJECTS_DEFAULT, PAGE_OBJECTS_MAX, Reply, envelope
from emobility.protocols.ocpi.status import InvalidParameters, StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, NotAnOCPIObject, NotJSON, read
from roaming_hub.addressing import Addressee, Addressing
from roaming_hub.forwarding import Forwarding, status_code_of
from roaming_hub.messages import Incoming
from roaming_hub.proxies import NoSuchResource, Proxies
from roaming_hub.records import ProxiedResource
from roaming_hub.routed_modules import BETWEEN_TWO, OWNERS

MISSING: Final = "Wattroam-Missing-Parties"
MISSING_NAMED_MAX: Final = 50
"""Parties that the header names; their number stands before them."""
SOURCES_MAX: Final = 1_000
SOURCES_AT_ONCE: Final = 32
"""Sources asked side by side."""
REMEMBERED_MAX: Final = 32
"""Last objects of a source by which its place is found again."""
FETCH_MIN: Final = 10
FETCHES_MAX: Final = 200
"""Pages read of one source for one page of ours: a source that moves faster than it is read counts as missing."""
OFFSET_MAX: Final = 10_000
"""Furthest `offset` that is read up to; further on, follow the links."""

_log = structlog.get_logger(__name__)


class SourceUnreadable(EmobilityError):
    """A party did not serve its list."""


class _Place(msgspec.Struct, kw_only=True):
    """Where one source was read to."""

    party: str
    taken: int = 0
    remembered: list[str] = []
    head: datetime | None = None
    """`last_updated` of its next object, as far as known."""
    total: int = 0
    is_over: bool = False
    is_asked_by_hub: bool = False
    is_missing: bool = False


class _Listing(msgspec.Struct, kw_only=True):
    """Where a list was read to."""

    query: list[tuple[str, str]]
    limit: int
    rest: str
    places: list[_Place]


class _Object(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub looks at in an object."""

    country_code: str
    party_id: str
    last_updated: datetime
    id: str = ""
    uid: str = ""
    type: str = ""
    cdr_token: _CdrToken | None = None


class _CdrToken(msgspec.Struct, frozen=True):
    country_code: str = ""
    party_id: str = ""


@dataclass(slots=True)
class _Source:
    """A source while a page is made."""

    place: _Place
    addressee: Addressee
    seen: frozenset[str]
    """What it listed last, before this page."""
    is_found: bool = False
    """Whether the place where it was left was found again."""
    ahead: deque[tuple[_Object, bytes]] = field(default_factory=deque)
    fetches: int = 0

    @property
    def head(self) -> datetime:
        return self.ahead[0][0].last_updated if self.ahead else (self.place.head or _NEVER)

    @property
    def is_live(self) -> bool:
        return not self.place.is_missing and (bool(self.ahead) or not self.place.is_over)


_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class GetAll:
    """Makes the pages."""

    def __init__(
        self, ports: Ports, hub: PartyId, addressing: Addressing, forwarding: Forwarding, proxies: Proxies
    ) -> None:
        self._ports = ports
        self._hub = hub
        self._addressing = addressing
        self._forwarding = forwarding
        self._proxies = proxies

    async def first_page(self, incoming: Incoming, requester: PartyId) -> Response:
        """Answer GET of a sender interface with OCPI-to = hub. Raises `OCPIError` S 2001, 4000."""
        if incoming.module not in OWNERS or incoming.rest.strip("/"):
            raise InvalidParameters("the hub lists locations, tariffs, tokens, sessions and CDRs; else name OCPI-to")
        query = parse_qsl(incoming.query, keep_blank_values=True)
        asked = dict(query)
        if incoming.module in BETWEEN_TWO and "date_from" not in asked:
            raise InvalidParameters("date_from is needed")
        for name in ("date_from", "date_to"):
            _moment(asked.get(name), name)
        sources = await self._sources(incoming, requester)
        listing = _Listing(
            query=[(name, value) for name, value in query if name not in {"offset", "limit"}],
            limit=max(1, min(_whole(asked.get("limit"), "limit", PAGE_OBJECTS_DEFAULT), PAGE_OBJECTS_MAX)),
            rest=incoming.rest,
            places=[_Place(party=each.party.code) for each in sources],
        )
        offset = _whole(asked.get("offset"), "offset", 0)
        if offset > OFFSET_MAX:
            raise InvalidParameters(f"offset is above {OFFSET_MAX}: follow the links")
        return await self._page(incoming, requester, listing, sources, skip=offset)

    async def next_page(self, incoming: Incoming, kept: ProxiedResource) -> Response:
        """Answer GET of a further page's URL. Raises `OCPIError`."""
        listing = msgspec.json.decode(kept.url, type=_Listing)
        of_module = replace(incoming, module=kept.module, side=InterfaceRole.SENDER, rest=listing.rest)
        if all(role.party_id != kept.user_party for role in incoming.roles):
            raise NoSuchResource
        sources = await self._sources(of_module, kept.user_party)
        return await self._page(of_module, kept.user_party, listing, sources, skip=0)

    async def _sources(self, incoming: Incoming, requester: PartyId) -> list[Addressee]:
        """Return whom to ask. Who may see nothing of a module's objects is given nobody's."""
        own = {role.role for role in incoming.roles if role.party_id == requester}
        if incoming.module in BETWEEN_TWO and not own & {Role.CPO, Role.EMSP, Role.SCSP}:
            return []
        if incoming.module == ModuleID.TOKENS and not own & {Role.CPO}:
            return []
        async with self._ports.units.begin() as unit:
            found = await self._addressing.connected(
                unit,
                roles=OWNERS[incoming.module],
                module=incoming.module,
                side=InterfaceRole.SENDER,
                sender=requester,
            )
        return found[:SOURCES_MAX]

    async def _page(
        self, incoming: Incoming, requester: PartyId, listing: _Listing, addressees: Sequence[Addressee], *, skip: int
    ) -> Response:
        by_party = {each.party.code: each for each in addressees}
        sources: list[_Source] = []
        for place in listing.places:
            if place.party in by_party:
                sources.append(_Source(place, by_party[place.party], frozenset(place.remembered)))
            elif not place.is_over:
                place.is_missing = True  # it left, or may not be asked any more
        merge = _Merge(self, incoming, requester, listing, sources)
        await merge.prepare()
        for _ in range(skip):
            if await merge.following() is None:
                break
        objects: list[bytes] = []
        while len(objects) < listing.limit:
            found = await merge.following()
            if found is None:
                break
            objects.append(found)
        has_more = await merge.has_more()
        missing = [place.party for place in listing.places if place.is_missing]
        headers = {
            **routing_headers(Routing(to_party=requester, from_party=self._hub)),
            names.TOTAL_COUNT: str(sum(place.total for place in listing.places)),
            names.LIMIT: str(listing.limit),
        }
        if missing:
            headers[MISSING] = f"{len(missing)}; {', '.join(missing[:MISSING_NAMED_MAX])}"
        if has_more:
            url = await self._proxies.keep_listing(
                msgspec.json.encode(listing).decode(),
                user=incoming.sender,
                user_party=requester,
                module=incoming.module,
                version=incoming.version,
            )
            headers[names.LINK] = link_to(url)
        data = msgspec.Raw(b"[" + b",".join(objects) + b"]")
        return envelope(Reply(data=data, headers=headers), clock=self._ports.clock, ids=incoming.ids)

    async def fetch(
        self, source: _Source, incoming: Incoming, requester: PartyId, *, query: Sequence[tuple[str, str]]
    ) -> tuple[list[tuple[_Object | None, bytes]], int | None, bool]:
        """Ask a source for a part of its list: objects (None: unreadable), total, and whether more follows.

        Raises:
            SourceUnreadable: for whatever reason.
        """
        asking = replace(incoming, query=urlencode(query, safe=":"), signed=None, body=b"")
        try:
            answer = await self._asked(source, asking, requester)
            raw = read(bytes(read(answer.body, Envelope).data), list[msgspec.Raw])
        except (NotJSON, NotAnOCPIObject) as error:
            raise SourceUnreadable(f"{source.addressee.party} answered no list") from error
        total = answer.headers.get("x-total-count", "")
        objects = [(_object(bytes(each)), bytes(each)) for each in raw]
        return objects, int(total) if total.isdigit() and len(total) < 10 else None, "link" in answer.headers

    async def _asked(self, source: _Source, asking: Incoming, requester: PartyId) -> HttpResponse:
        """Ask in the requester's name; where that must be signed, which only it could do, in the hub's."""
        for from_party in (self._hub,) if source.place.is_asked_by_hub else (requester, self._hub):
            message = self._addressing.message(asking, requester, source.addressee, from_party=from_party)
            try:
                answer = await self._forwarding.exchange(message)
                code = status_code_of(answer)
            except EmobilityError as error:
                raise SourceUnreadable(str(error)) from error
            if code == StatusCode.SIGNATURE_REFUSED:
                source.place.is_asked_by_hub = True
            elif 200 <= answer.status < 300 and 1000 <= code < 2000:
                return answer
            else:
                break
        raise SourceUnreadable(f"{source.addressee.party} answered HTTP {answer.status} with S {code}")


class _Merge:
    """Objects of several sources, one after the other."""

    def __init__(
        self, get_all: GetAll, incoming: Incoming, requester: PartyId, listing: _Listing, sources: list[_Source]
    ) -> None:
        self._get_all = get_all
        self._incoming = incoming
        self._requester = requester
        self._listing = listing
        self._sources = sources
        self._fetch_limit = max(FETCH_MIN, min(listing.limit, -(-2 * listing.limit // max(1, len(sources)))))

    async def prepare(self) -> None:
        """Ask the sources whose next object may be in the page, side by side: all of them at first."""
        live = sorted((each for each in self._sources if each.is_live), key=lambda each: each.head)
        near = [each for index, each in enumerate(live) if each.place.head is None or index < self._listing.limit]
        places = asyncio.Semaphore(SOURCES_AT_ONCE)

        async def fill(source: _Source) -> None:
            async with places:
                await self._fill(source)

        await asyncio.gather(*(fill(each) for each in near))

    async def following(self) -> bytes | None:
        """Return the next object's bytes, None at the end."""
        source = await self._next_source()
        if source is None:
            return None
        found, raw = source.ahead.popleft()
        source.place.taken += 1
        _remember(source.place, _key(found, raw))
        source.place.head = source.ahead[0][0].last_updated if source.ahead else None
        return raw

    async def has_more(self) -> bool:
        """Tell whether anything follows, and keep where each source stands."""
        source = await self._next_source()
        for each in self._sources:
            if each.ahead:
                each.place.is_over = False
                each.place.head = each.ahead[0][0].last_updated
        return source is not None

    async def _next_source(self) -> _Source | None:
        while True:
            live = [each for each in self._sources if each.is_live]
            if not live:
                return None
            source = min(live, key=lambda each: (each.head, each.place.party))
            if source.ahead:
                return source
            await self._fill(source)

    async def _fill(self, source: _Source) -> None:
        """Read on at a source until it has an object ahead, or none is left, or it can't be read."""
        try:
            while not source.ahead and not source.place.is_over:
                await self._read_on(source)
        except SourceUnreadable as error:
            _log.warning("source_unreadable", party=source.place.party, reason=str(error))
            source.place.is_missing = True
            source.ahead.clear()

    async def _read_on(self, source: _Source) -> None:
        """Read the next part of a source's list; the first time from before where it was left, to find that place."""
        place = source.place
        if source.is_found or not source.seen:
            source.is_found = True
            objects = await self._part(source, place.taken, self._fetch_limit)
            self._enter(source, objects)
            return
        left_at, back = place.taken, len(place.remembered)
        while True:
            position = start = max(0, left_at - back)
            while position <= left_at:
                objects = await self._part(source, position, left_at - position + self._fetch_limit)
                known = [index for index, each in enumerate(objects) if _key(*each) in source.seen]
                if known or (start == 0 and position + len(objects) >= left_at) or not objects:
                    break
                position += len(objects)
            if known or start == 0:
                break
            # All that it listed last was moved or taken away: look further back for something we had.
            back += PAGE_OBJECTS_MAX
        source.is_found = True
        if not known:
            # Nothing it listed to us is as it was: all of it is new.
            position, objects = 0, objects if position == 0 else await self._part(source, 0, self._fetch_limit)
        first = known[-1] + 1 if known else 0
        place.taken = position + first
        self._enter(source, objects[first:])

    async def _part(self, source: _Source, offset: int, limit: int) -> list[tuple[_Object | None, bytes]]:
        """Fetch objects from `offset` on, and note whether they are the last. Raises `SourceUnreadable`."""
        source.fetches += 1
        if source.fetches > FETCHES_MAX:
            raise SourceUnreadable(f"{source.place.party} moves faster than it is read")
        query = [*self._listing.query, ("offset", str(offset)), ("limit", str(min(limit, PAGE_OBJECTS_MAX)))]
        objects, total, has_link = await self._get_all.fetch(source, self._incoming, self._requester, query=query)
        source.place.total = source.place.total if total is None else total
        is_last = not has_link and (total is None or offset + len(objects) >= total)
        source.place.is_over = is_last or not objects
        return objects

    def _enter(self, source: _Source, objects: Sequence[tuple[_Object | None, bytes]]) -> None:
        """Put what follows ahead, but for what was listed before or is not shown."""
        place = source.place
        for found, raw in objects:
            key = _key(found, raw)
            if found is not None and key not in source.seen and self._may_see(source, found):
                source.ahead.append((found, raw))
            elif not source.ahead:
                place.taken += 1
                _remember(place, key)
            else:
                # What is not shown after something that is ends this reading, so that `taken` counts both.
                place.is_over = False
                break

    def _may_see(self, source: _Source, found: _Object) -> bool:
        """A source lists its own objects, and of Sessions and CDRs the requester sees those it is part of."""
        if f"{found.country_code}-{found.party_id}".upper() != source.place.party:
            return False
        if self._incoming.module not in BETWEEN_TWO:
            return True
        token = found.cdr_token
        return token is not None and f"{token.country_code}-{token.party_id}".upper() == self._requester.code


def _remember(place: _Place, key: str) -> None:
    place.remembered = [*place.remembered, key][-REMEMBERED_MAX:]


def _key(found: _Object | None, raw: bytes) -> str:
    """Return what an object in one state is known by; a hash, for the id may be a token's."""
    stated = f"{found.id} {found.uid} {found.type} {found.last_updated.isoformat()}".lower().encode() if found else raw
    return hashlib.sha256(stated).hexdigest()[:16]


def _object(raw: bytes) -> _Object | None:
    try:
        found = read(raw, _Object)
    except (NotJSON, NotAnOCPIObject):
        return None
    aware = found.last_updated
    aware = aware.replace(tzinfo=UTC) if aware.tzinfo is None else aware.astimezone(UTC)
    return msgspec.structs.replace(found, last_updated=aware)


def _moment(text: str | None, name: str) -> None:
    if text is None:
        return
    try:
        msgspec.convert(text.strip().replace(" ", "+"), datetime)
    except msgspec.ValidationError as error:
        raise InvalidParameters(f"{name} is no RFC 3339 timestamp") from error


def _whole(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise InvalidParameters(f"{name} is no whole number")
    return int(text)
