"""The credentials handshake (OCPI 2.2.1, section 7; so in 2.3.0 and 2.1.1), from both sides, with rotation and end.

The one who holds TOKEN_A posts; the other fetches the poster's versions with TOKEN_B before it answers with TOKEN_C.
Calls go only to the origin that the operator registered along with TOKEN_A: a URL from a body never widens that.
No unit of work is open while the other side is called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from emobility.domain.errors import EmobilityError, MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.ports.http import TIMEOUT_S
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.client import OCPIClient, PeerFailed
from emobility.protocols.ocpi.peers import (
    INCOMING_TOKEN,
    PEER,
    PEER_ROLE,
    STRICT,
    Peer,
    PeerEndpoint,
    PeerRole,
    PeerState,
    PeerTolerances,
    TokenUse,
    add_incoming_token,
    new_token,
    replace_incoming_tokens,
    roles_of,
    token_hash,
)
from emobility.protocols.ocpi.status import MethodNotAllowed, OCPIError, StatusCode
from emobility.protocols.ocpi.v221 import (
    BusinessDetails,
    Credentials,
    CredentialsRole,
    InterfaceRole,
    ModuleID,
    NotAnOCPIObject,
    NotJSON,
    Version,
)
from emobility.protocols.ocpi.versions import (
    NATIVE,
    SPOKEN,
    credentials_in,
    highest_common,
    opposite,
    read_credentials,
    read_endpoints,
)

EndpointNeed = tuple[str, InterfaceRole]


class NotAnOrigin(MalformedInput):
    """A URL has no http(s) scheme, no host, or carries a user and password."""


class RoleTaken(OCPIError):
    """Another platform registered as this party in this role; a role has one platform (S 2000)."""

    def __init__(self, party: PartyId, role: Role) -> None:
        super().__init__(StatusCode.CLIENT_ERROR, f"{role} {party} is registered by another platform")


class RegistrationRefused(RuleBroken):
    """The peer did not take our credentials, or what it answered can't be used."""


def origin_of(url: str) -> str:
    """Return scheme://host[:port]. Raises `NotAnOrigin`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NotAnOrigin(f"{url!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        raise NotAnOrigin(f"{url!r} is no plain http(s) URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnIdentity:
    """What we say of ourselves in a handshake."""

    party_id: PartyId
    role: Role
    business_name: str
    versions_url: str

    reachable: tuple[CredentialsRole, ...] = ()
    """Who is reached through us, if we are a hub."""

    def credentials(self, token: str, version: str = NATIVE) -> Any:
        """Return our credentials object in a version, with the token for the other side."""
        own = CredentialsRole(
            country_code=self.party_id.country_code,
            party_id=self.party_id.party_id,
            role=self.role,
            business_details=BusinessDetails(name=self.business_name),
        )
        return credentials_in(version, token=token, url=self.versions_url, own=own, reachable=self.reachable)


Admits = Callable[[Peer, Sequence[CredentialsRole]], Awaitable[None]]


async def _admit(_: Peer, __: Sequence[CredentialsRole]) -> None:
    """Admit whoever holds the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Makes and ends registrations of our parties.

    Attributes:
        needs: Endpoints a platform with these roles must have; else S 3003.
        admits: Told a platform and what it claims before that counts; raises what refuses it. No unit is open.
        versions: What we speak.
    """

    ports: Ports
    needs: Callable[[Sequence[CredentialsRole]], frozenset[EndpointNeed]] = field(default=lambda _: frozenset())
    admits: Admits = field(default=_admit)
    timeout_s: float = TIMEOUT_S
    versions: tuple[str, ...] = SPOKEN

    def versions_with(self, peer: Peer) -> list[str]:
        """Return the versions that may be spoken with a platform, oldest first."""
        return [version for version in peer.versions if version in self.versions]

    # As the one who is called

    async def invite(
        self,
        unit: UnitOfWork,
        *,
        own_party: PartyId,
        peer_id: str,
        versions_url: str,
        expected_party: PartyId | None = None,
        expected_role: Role | None = None,
        tolerances: PeerTolerances = STRICT,
    ) -> str:
        """Issue TOKEN_A for a platform that will register from `versions_url`'s origin; an older one is void.

        Raises:
            MethodNotAllowed: the platform is registered already.
            NotAnOrigin: the URL can't be an origin.
        """
        known = await unit.table(PEER).get_for_update(own_party, peer_id)
        if known is not None and known.state is PeerState.REGISTERED:
            raise MethodNotAllowed(f"{peer_id} is registered already")
        peer = Peer(
            own_party=own_party,
            peer_id=peer_id,
            state=PeerState.INVITED,
            origin=origin_of(versions_url),
            versions_url=versions_url,
            endpoints=(),
            outgoing_token=None,
            last_updated=self.ports.clock.now(),
            expected_party=expected_party,
            expected_role=expected_role,
            tolerances=tolerances,
        )
        await unit.table(PEER).put(peer)
        token_a = new_token(self.ports.randomness)
        await replace_incoming_tokens(unit, peer, token_a, TokenUse.REGISTRATION)
        return token_a

    async def accept(
        self,
        peer: Peer,
        use: TokenUse,
        posted: Credentials,
        own: OwnIdentity,
        *,
        is_update: bool,
        version: str = NATIVE,
    ) -> Any:
        """Answer POST (register) or PUT (`is_update`: rotate) of credentials; from now on `version` is spoken.

        Raises:
            MethodNotAllowed: POST of a registered platform, PUT of one that is not (HTTP 405).
            OCPIError: S 3001 when its API can't be used, 3002 without the version, 3003 when endpoints are missing.
            RoleTaken: another platform holds one of the roles.
        """
        is_registered = use is TokenUse.REQUESTS and peer.state is PeerState.REGISTERED
        if is_registered != is_update and not (is_registered and peer.tolerances.posts_again):
            raise MethodNotAllowed("registered already" if is_registered else "not registered")
        peer = replace(peer, version=version)
        self._refuse_foreign(peer, posted)
        async with self.ports.units.begin() as unit:
            await self._refuse_taken(unit, peer, posted)
        await self.admits(peer, posted.roles)
        endpoints = await self._fetch_endpoints(peer, posted, own)
        token_c = new_token(self.ports.randomness)
        sealed = await self.ports.vault.seal(posted.token, identifier=_vault_identifier(peer))
        async with self.ports.units.begin() as unit:
            current = await unit.table(PEER).get_for_update(peer.own_party, peer.peer_id)
            if current is None or current.state is not peer.state:
                raise MethodNotAllowed("the registration changed meanwhile")
            await self._refuse_taken(unit, peer, posted)
            await replace_incoming_tokens(unit, peer, token_c, TokenUse.REQUESTS)
            registered = replace(
                peer,
                state=PeerState.REGISTERED,
                versions_url=posted.url,
                endpoints=endpoints,
                outgoing_token=sealed,
                last_updated=self.ports.clock.now(),
            )
            await unit.table(PEER).put(registered)
            await self._store_roles(unit, registered, posted.roles)
            await unit.commit()
        return own.credentials(token_c, version)

    async def end(self, peer: Peer, use: TokenUse) -> None:
        """Answer DELETE of credentials: the peer's token is void at once. Raises `MethodNotAllowed`."""
        if use is not TokenUse.REQUESTS or peer.state is not PeerState.REGISTERED:
            raise MethodNotAllowed("not registered")
        async with self.ports.units.begin() as unit:
            await self.forget(unit, peer, state=PeerState.UNREGISTERED)
            await unit.commit()

    async def forget(self, unit: UnitOfWork, peer: Peer, *, state: PeerState) -> None:
        """Void the peer's tokens and ours; its roles are free again unless it is only suspended."""
        await replace_incoming_tokens(unit, peer, None, TokenUse.REQUESTS)
        await unit.table(PEER).put(replace(peer, state=state, outgoing_token=None, last_updated=self.ports.clock.now()))
        if state is not PeerState.SUSPENDED:
            for role in await roles_of(unit, peer):
                await unit.table(PEER_ROLE).delete(role.own_party, role.party_id, role.role)

    # As the one who calls

    async def register(
        self,
        own: OwnIdentity,
        *,
        peer_id: str,
        versions_url: str,
        token_a: str,
        expected_party: PartyId | None,
        expected_role: Role,
        tolerances: PeerTolerances = STRICT,
        version: str | None = None,
    ) -> Peer:
        """Register `own` at a platform whose operator gave us its versions URL and TOKEN_A.

        Args:
            own: Who registers.
            peer_id: Our name for the platform.
            versions_url: Where it lists its versions.
            token_a: What we present there.
            expected_party: The only party it may answer as; None: any.
            expected_role: The only role it may answer in.
            tolerances: What it does otherwise than the text.
            version: The only version to speak; None: the highest that both sides have.

        Raises:
            RegistrationRefused: `own` is registered there already.
            OCPIError: it has no common version or no credentials endpoint, or answers as another party or role
                (`RoleTaken`).
            PeerRefused, PeerFailed, PeerUnreachable, EgressRefused: see `OCPIClient.send`.
        """
        self.ports.http.allow_origin(versions_url)
        peer = Peer(
            own_party=own.party_id,
            peer_id=peer_id,
            state=PeerState.REGISTERING,
            origin=origin_of(versions_url),
            versions_url=versions_url,
            endpoints=(),
            outgoing_token=None,
            last_updated=self.ports.clock.now(),
            expected_party=expected_party,
            expected_role=expected_role,
            tolerances=tolerances,
        )
        peer, endpoints = await self._endpoints_at(
            self._client(peer, token_a),
            peer,
            versions_url,
            wanted=(version,) if version else self.versions_with(peer),
            own=own,
        )
        async with self.ports.units.begin() as unit:
            token_b = new_token(self.ports.randomness)
            known = await unit.table(PEER).get_for_update(own.party_id, peer_id)
            if known is not None and known.state is PeerState.REGISTERED:
                raise RegistrationRefused(f"{own.party_id} is registered at {peer_id} already")
            await unit.table(PEER).put(peer)
            await replace_incoming_tokens(unit, peer, token_b, TokenUse.REQUESTS)
            await unit.commit()
        return await self._exchange("POST", own, peer, endpoints=endpoints, presented=token_a, token_b=token_b)

    async def rotate(self, own: OwnIdentity, peer: Peer) -> Peer:
        """Renew the tokens of both sides and fetch the endpoints again. Raises as `register` does."""
        if peer.outgoing_token is None:
            raise RegistrationRefused(f"{own.party_id} is not registered at {peer.peer_id}")
        presented = await self.ports.vault.open(peer.outgoing_token)
        _, endpoints = await self._endpoints_at(
            self._client(peer, presented), peer, peer.versions_url, wanted=(peer.version,), own=own
        )
        token_b = new_token(self.ports.randomness)
        async with self.ports.units.begin() as unit:
            await add_incoming_token(unit, peer, token_b, TokenUse.REQUESTS)
            await unit.commit()
        return await self._exchange("PUT", own, peer, endpoints=endpoints, presented=presented, token_b=token_b)

    async def leave(self, own: OwnIdentity, peer: Peer) -> None:
        """End a registration with DELETE. Raises as `register` does."""
        if peer.outgoing_token is None:
            raise RegistrationRefused(f"{own.party_id} is not registered at {peer.peer_id}")
        client = self._client(peer, await self.ports.vault.open(peer.outgoing_token))
        url = _credentials_url(peer.endpoints)
        await client.send("DELETE", url, to_party=None, correlation_id=self.ports.randomness.uuid())
        async with self.ports.units.begin() as unit:
            await self.forget(unit, peer, state=PeerState.UNREGISTERED)
            await unit.commit()

    async def _exchange(
        self,
        method: str,
        own: OwnIdentity,
        peer: Peer,
        *,
        endpoints: tuple[PeerEndpoint, ...],
        presented: str,
        token_b: str,
    ) -> Peer:
        client = self._client(peer, presented)
        answer = await client.send(
            method,
            _credentials_url(endpoints),
            own.credentials(token_b, peer.version),
            to_party=None,
            correlation_id=self.ports.randomness.uuid(),
        )
        try:
            theirs = read_credentials(answer.data, peer.version, role=peer.expected_role)
        except (NotAnOCPIObject, NotJSON) as error:
            raise PeerFailed(http_status=answer.http_status, status_code=None, message=str(error)) from error
        self._refuse_foreign(peer, theirs)
        await self.admits(peer, theirs.roles)
        sealed = await self.ports.vault.seal(theirs.token, identifier=_vault_identifier(peer))
        registered = replace(
            peer,
            state=PeerState.REGISTERED,
            endpoints=endpoints,
            outgoing_token=sealed,
            last_updated=self.ports.clock.now(),
        )
        async with self.ports.units.begin() as unit:
            for old in await unit.table(INCOMING_TOKEN).select({"own_party": own.party_id, "peer_id": peer.peer_id}):
                if old.token_hash != token_hash(token_b):
                    await unit.table(INCOMING_TOKEN).delete(old.token_hash)
            await unit.table(PEER).put(registered)
            await self._refuse_taken(unit, peer, theirs)
            await self._store_roles(unit, registered, theirs.roles)
            await unit.commit()
        return registered

    # Parts of both

    def _client(self, peer: Peer, token: str) -> OCPIClient:
        return OCPIClient(
            http=self.ports.http,
            randomness=self.ports.randomness,
            own_party=peer.own_party,
            token=token,
            endpoints={},
            timeout_s=self.timeout_s,
            sends_plain_token=peer.takes_plain_token,
        )

    def _refuse_foreign(self, peer: Peer, posted: Credentials) -> None:
        if peer.expected_party is not None and any(role.owner != peer.expected_party for role in posted.roles):
            raise OCPIError(StatusCode.INVALID_PARAMETERS, f"only {peer.expected_party} is expected here")
        if peer.expected_role is not None and any(role.role is not peer.expected_role for role in posted.roles):
            raise OCPIError(StatusCode.INVALID_PARAMETERS, f"only the role {peer.expected_role} is expected here")
        try:
            is_at_home = origin_of(posted.url) == peer.origin
        except NotAnOrigin:
            is_at_home = False
        if not is_at_home:
            raise OCPIError(StatusCode.CLIENT_API_UNUSABLE, "the url is not at the origin registered for this platform")

    async def _refuse_taken(self, unit: UnitOfWork, peer: Peer, posted: Credentials) -> None:
        for claimed in posted.roles:
            holder = await unit.table(PEER_ROLE).get(peer.own_party, claimed.owner, claimed.role)
            if claimed.owner == peer.own_party or (holder is not None and holder.peer_id != peer.peer_id):
                raise RoleTaken(claimed.owner, claimed.role)

    async def _store_roles(self, unit: UnitOfWork, peer: Peer, roles: Sequence[CredentialsRole]) -> None:
        claimed = {(role.owner, role.role) for role in roles}
        for old in await roles_of(unit, peer):
            if (old.party_id, old.role) not in claimed:
                await unit.table(PEER_ROLE).delete(old.own_party, old.party_id, old.role)
        for role in roles:
            await unit.table(PEER_ROLE).put(
                PeerRole(
                    own_party=peer.own_party,
                    party_id=role.owner,
                    role=role.role,
                    peer_id=peer.peer_id,
                    business_name=role.business_details.name,
                    last_updated=self.ports.clock.now(),
                )
            )

    async def _fetch_endpoints(self, peer: Peer, posted: Credentials, own: OwnIdentity) -> tuple[PeerEndpoint, ...]:
        """Fetch versions and details with TOKEN_B. Raises `OCPIError` S 3001, 3002, 3003."""
        client = self._client(peer, posted.token)
        try:
            self.ports.http.allow_origin(peer.origin)
            _, endpoints = await self._endpoints_at(client, peer, posted.url, wanted=(peer.version,), own=own)
        except OCPIError:
            raise
        except EmobilityError as error:
            raise OCPIError(StatusCode.CLIENT_API_UNUSABLE, f"your versions can't be used: {error}") from error
        have = {(each.module, each.role) for each in endpoints}
        missing = sorted(need for need in self.needs(posted.roles) if need not in have)
        if missing:
            named = ", ".join(f"{module} {role}" for module, role in missing)
            raise OCPIError(StatusCode.ENDPOINTS_MISSING, f"you have no {named}")
        return endpoints

    async def _endpoints_at(
        self, client: OCPIClient, peer: Peer, versions_url: str, *, wanted: Sequence[str], own: OwnIdentity
    ) -> tuple[Peer, tuple[PeerEndpoint, ...]]:
        """Return the peer with the highest version of `wanted` that it lists, and its endpoints in it."""
        correlation_id = self.ports.randomness.uuid()
        answer = await client.send("GET", versions_url, to_party=None, correlation_id=correlation_id)
        urls = {each.version: each.url for each in answer.as_(list[Version])}
        version = highest_common(wanted, urls)
        if version is None:
            raise OCPIError(StatusCode.NO_COMMON_VERSION, f"we speak {', '.join(wanted)}")
        peer = replace(peer, version=version)
        _refuse_elsewhere(peer, urls[version])
        answer = await client.send("GET", urls[version], to_party=None, correlation_id=correlation_id)
        try:
            listed = read_endpoints(answer.data, version, role=_as_role(peer, own))
        except (NotAnOCPIObject, NotJSON) as error:
            raise PeerFailed(http_status=answer.http_status, status_code=None, message=str(error)) from error
        for each in listed:
            _refuse_elsewhere(peer, each.url)
        endpoints = tuple(PeerEndpoint(module=each.identifier, role=each.role, url=each.url) for each in listed)
        _credentials_url(endpoints)
        return peer, endpoints


def _as_role(peer: Peer, own: OwnIdentity) -> Role | None:
    """Return as which role a platform is met that says none (2.1.1): the agreed one; a hub is our opposite."""
    return opposite(own.role) if peer.expected_role is Role.HUB else peer.expected_role


def _refuse_elsewhere(peer: Peer, url: str) -> None:
    if origin_of(url) != peer.origin:
        raise OCPIError(StatusCode.CLIENT_API_UNUSABLE, f"{url} is not at the origin registered for this platform")


def _credentials_url(endpoints: Sequence[PeerEndpoint]) -> str:
    for each in endpoints:
        if each.module == ModuleID.CREDENTIALS:
            return each.url
    raise OCPIError(StatusCode.ENDPOINTS_MISSING, "there is no credentials endpoint")


def _vault_identifier(peer: Peer) -> str:
    return f"ocpi token of {peer.own_party} at {peer.peer_id}"
