"""`/navigation/{party}/public/...`: a national access point's data, open to everybody, at no more than a fair rate."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Query, Request
from starlette.responses import Response

from emobility.domain.identifiers import MalformedPartyId, PartyId, Role
from emobility.ports.ports import Ports
from emobility.protocols.datex2.publication import status_publication, table_publication
from emobility.protocols.ocpi import v221, v230
from emobility.protocols.ocpi.bridging import Way, bridge
from emobility.protocols.ocpi.host import HOSTED_PARTY
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, write
from services.navigation.public_data import SITES_MAX, PublicLocations, PublicTariffs, PublicView, Wanted, packed, view

CALLS_PER_S: Final = 5.0
CALLS_BURST: Final = 60.0
"""Answers to one address: per second for good, and at once after a pause."""
ADDRESSES_MAX: Final = 10_000
"""Addresses that are remembered; the one unheard longest is forgotten first."""

Written = Callable[[PublicView, PartyId, datetime], bytes]
Since = Annotated[datetime | None, Query()]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=SITES_MAX)]


class PublicAPI:
    """The routes."""

    def __init__(self, ports: Ports, *, service: str) -> None:
        self._ports = ports
        self._service = service
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for path, media_type, written in (
            ("locations", "application/json", _locations),
            ("tariffs", "application/json", _tariffs),
            ("2.3.0/locations", "application/json", _in_230(_locations, ModuleID.LOCATIONS)),
            ("2.3.0/tariffs", "application/json", _in_230(_tariffs, ModuleID.TARIFFS)),
            ("datex2/table", "application/xml", _table),
            ("datex2/status", "application/xml", _status),
        ):
            app.add_api_route(f"/{{party}}/public/{path}", self._route(media_type, written), methods=["GET", "HEAD"])

    def _route(self, media_type: str, written: Written) -> Callable[..., Awaitable[Response]]:
        async def answer(
            request: Request,
            party: str,
            *,
            cpo: Annotated[str | None, Query(max_length=6)] = None,
            changed_since: Since = None,
            offset: Offset = 0,
            limit: Limit = SITES_MAX,
        ) -> Response:
            self._draw(request)
            since = None if changed_since is None else _utc(changed_since)
            wanted = Wanted(
                cpo_id=None if cpo is None else _party(cpo), changed_since=since, offset=offset, limit=limit
            )
            return await self._answer(request, _party(party), wanted, media_type=media_type, written=written)

        return answer

    async def _answer(
        self, request: Request, nap_id: PartyId, wanted: Wanted, *, media_type: str, written: Written
    ) -> Response:
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            hosted = await unit.table(HOSTED_PARTY).get(self._service, nap_id)
            if hosted is None or hosted.role is not Role.NAP:
                raise HTTPException(status_code=404, detail="no such access point")
            found = await view(unit, nap_id, wanted, now=now)
        headers = {
            "ETag": found.digest(request.url.path, wanted),
            # A kept answer is asked about again each time: dynamic data may be a minute old, and no older (AFIR).
            "Cache-Control": "public, no-cache",
            "X-Total-Count": str(found.total),
            "Vary": "Accept-Encoding",
        }
        if wanted.offset + wanted.limit < found.total:
            headers["Link"] = f'<{_next(request, wanted)}>; rel="next"'
        if headers["ETag"] in [each.strip() for each in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        body, said = packed(written(found, nap_id, now), request.headers.get("accept-encoding", ""))
        return Response(body, headers=headers | said, media_type=media_type)

    def _draw(self, request: Request) -> None:
        address, now_s = request.client.host if request.client else "", self._ports.timer.monotonic_s()
        left, at_s = self._left.get(address, (CALLS_BURST, now_s))
        left = min(CALLS_BURST, left + (now_s - at_s) * CALLS_PER_S)
        if left < 1:
            again_s = math.ceil((1 - left) / CALLS_PER_S)
            raise HTTPException(
                status_code=429, detail="too many requests", headers={"Retry-After": str(max(1, again_s))}
            )
        self._left[address] = (left - 1, now_s)
        self._left.move_to_end(address)
        if len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)


def _locations(found: PublicView, _: PartyId, now: datetime) -> bytes:
    return write(
        PublicLocations(
            publication_time=now,
            total=found.total,
            data=[site.location for site in found.sites],
            removed=list(found.removed),
        )
    )


def _tariffs(found: PublicView, _: PartyId, now: datetime) -> bytes:
    return write(PublicTariffs(publication_time=now, total=len(found.tariffs), data=list(found.tariffs)))


def _in_230(written: Written, module: ModuleID) -> Written:
    """Return what writes the same in the words of 2.3.0, which can say all that 2.2.1 says of these objects."""
    way = Way(module=module, side=InterfaceRole.SENDER, method="GET", is_answer=True)

    def bridged(found: PublicView, nap_id: PartyId, now: datetime) -> bytes:
        body = written(found, nap_id, now)
        return bridge(body, way, from_version=v221.VERSION, to_version=v230.VERSION).body

    return bridged


def _table(found: PublicView, nap_id: PartyId, now: datetime) -> bytes:
    return table_publication(found.sites, creator=nap_id, now=now)


def _status(found: PublicView, nap_id: PartyId, now: datetime) -> bytes:
    return status_publication(found.sites, creator=nap_id, now=now)


def _next(request: Request, wanted: Wanted) -> str:
    following = replace(wanted, offset=wanted.offset + wanted.limit)
    query: dict[str, Any] = {"offset": following.offset, "limit": following.limit}
    if following.cpo_id is not None:
        query["cpo"] = following.cpo_id.code
    if following.changed_since is not None:
        query["changed_since"] = following.changed_since.isoformat().replace("+00:00", "Z")
    return f"{request.url.path}?{urlencode(query)}"


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _party(text: str) -> PartyId:
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise HTTPException(status_code=404, detail="no such party") from error
