"""URLs of one platform that another uses through the hub: next pages, created objects, command results.

A platform is known to the hub alone, so a `Link`, a `Location` and a `response_url` are replaced by a URL of the hub
that only the other platform may use. What a platform names lies at its own registered origin, or is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote, unquote_plus

import msgspec

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.peers import Peer
from emobility.protocols.ocpi.registration import origin_of
from emobility.protocols.ocpi.status import InvalidParameters, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import VERSION, read, write
from roaming_hub.records import PROXIED_RESOURCE, ProxiedResource, ResourceKind

RESOURCE_BYTES: Final = 16
RESOURCE_AGE: Final = timedelta(days=7)
"""A page or callback that nobody used for so long is dropped; a created object is kept."""
PURGE_ROWS: Final = 1_000
_RESOURCE_ID: Final = re.compile(r"[0-9a-f]{1,64}")
_URL: Final = re.compile(r"https?://[\x21-\x7e]{1,247}")


class NoSuchResource(OCPIError):
    """Unknown, used, or another platform's; HTTP 404 with S 2001, and no word on which."""

    def __init__(self) -> None:
        super().__init__(StatusCode.INVALID_PARAMETERS, "no such resource", http_status=404)


class Proxies:
    """Makes and finds the hub's URLs, which begin at `ocpi_url`."""

    def __init__(self, ports: Ports, ocpi_url: str) -> None:
        self._ports = ports
        self._ocpi_url = ocpi_url

    async def stand_in(
        self,
        kind: ResourceKind,
        url: str,
        *,
        owner: Peer,
        owner_party: PartyId,
        user: Peer,
        user_party: PartyId,
        module: str,
        version: str = VERSION,
    ) -> str:
        """Return a URL of the hub, in the version that `user` speaks, that leads it to `url` of `owner`.

        Raises:
            InvalidParameters: the URL does not lie at the owner's registered origin.
        """
        try:
            is_at_home = _URL.fullmatch(url) is not None and origin_of(url) == owner.origin
        except EmobilityError:
            is_at_home = False
        if not is_at_home:
            raise InvalidParameters("a URL does not lie at the origin registered for its platform")
        resource = ProxiedResource(
            resource_id=self._ports.randomness.token_bytes(RESOURCE_BYTES).hex(),
            kind=kind,
            user_peer_id=user.peer_id,
            user_party=user_party,
            owner_peer_id=owner.peer_id,
            owner_party=owner_party,
            url=url,
            made_at=self._ports.clock.now(),
            module=module,
        )
        return await self._kept(resource, version)

    async def find(self, resource_id: str, *, user: Peer, method: str) -> ProxiedResource:
        """Return what stands behind a URL of the hub; a callback is taken, so a second call finds it used.

        Raises:
            NoSuchResource: unknown, used, not this platform's, or not for this method.
        """
        if _RESOURCE_ID.fullmatch(resource_id) is None:
            raise NoSuchResource
        async with self._ports.units.begin() as unit:
            found = await unit.table(PROXIED_RESOURCE).get_for_update(resource_id)
            if found is None or found.user_peer_id != user.peer_id or found.used_at is not None:
                raise NoSuchResource
            if found.kind is ResourceKind.LISTING or (method == "POST") != (found.kind is ResourceKind.CALLBACK):
                raise NoSuchResource
            if found.kind is ResourceKind.CALLBACK:
                await unit.table(PROXIED_RESOURCE).put(replace(found, used_at=self._ports.clock.now()))
                await unit.commit()
        return found

    async def listing(self, resource_id: str, *, user: Peer) -> ProxiedResource | None:
        """Return a LISTING of this platform, None where the URL is something else."""
        if _RESOURCE_ID.fullmatch(resource_id) is None:
            return None
        async with self._ports.units.begin() as unit:
            found = await unit.table(PROXIED_RESOURCE).get(resource_id)
        is_theirs = found is not None and found.kind is ResourceKind.LISTING and found.user_peer_id == user.peer_id
        return found if is_theirs else None

    async def keep_listing(self, state: str, *, user: Peer, user_party: PartyId, module: str, version: str) -> str:
        """Return a URL of the hub that leads `user` on in a list of all parties' objects."""
        resource = ProxiedResource(
            resource_id=self._ports.randomness.token_bytes(RESOURCE_BYTES).hex(),
            kind=ResourceKind.LISTING,
            user_peer_id=user.peer_id,
            user_party=user_party,
            owner_peer_id="",
            owner_party=user_party,
            url=state,
            made_at=self._ports.clock.now(),
            module=module,
        )
        return await self._kept(resource, version)

    async def _kept(self, resource: ProxiedResource, version: str) -> str:
        async with self._ports.units.begin() as unit:
            await unit.table(PROXIED_RESOURCE).insert(resource)
            await unit.commit()
        return f"{self._ocpi_url}/{version}/proxy/{resource.resource_id}"

    async def give_back(self, resource: ProxiedResource) -> None:
        """The requester could not be reached with a result or did not take it: the callback may be used again."""
        async with self._ports.units.begin() as unit:
            await unit.table(PROXIED_RESOURCE).put(replace(resource, used_at=None))
            await unit.commit()

    async def drop(self, url: str) -> None:
        """Forget a URL of ours: no result will follow."""
        async with self._ports.units.begin() as unit:
            await unit.table(PROXIED_RESOURCE).delete(url.rsplit("/", 1)[-1])
            await unit.commit()

    async def purge(self, unit: UnitOfWork) -> int:
        """Drop old pages and callbacks, at most `PURGE_ROWS`; return how many."""
        old = await unit.table(PROXIED_RESOURCE).select(
            {"kind": (ResourceKind.PAGE, ResourceKind.LISTING, ResourceKind.CALLBACK)},
            before=("made_at", self._ports.clock.now() - RESOURCE_AGE),
            limit=PURGE_ROWS,
        )
        for each in old:
            await unit.table(PROXIED_RESOURCE).delete(each.resource_id)
        return len(old)


def response_url_of(body: bytes) -> str:
    """Return the `response_url` in a body. Raises `NotJSON` or `NotAnOCPIObject`."""
    return read(body, _WithResponseURL).response_url


def with_response_url(body: bytes, url: str) -> bytes:
    """Return a body with another `response_url`; every other value keeps its bytes."""
    members = read(body, dict[str, msgspec.Raw])
    members["response_url"] = msgspec.Raw(write(url))
    return write(members)


def response_url_in(query: str) -> str:
    """Return the `response_url` of a query. Raises `InvalidParameters` when there is none, or more than one."""
    found = [value for name, value in map(_parameter, query.split("&")) if name == "response_url"]
    if len(found) != 1:
        raise InvalidParameters("the query must name one response_url")
    return found[0]


def with_response_url_in(query: str, url: str) -> str:
    """Return a query with another `response_url`; every other parameter keeps its spelling."""
    written = f"response_url={quote(url, safe='')}"
    return "&".join(written if _parameter(each)[0] == "response_url" else each for each in query.split("&"))


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return unquote_plus(name), unquote_plus(value)


class _WithResponseURL(msgspec.Struct, frozen=True):
    response_url: str
