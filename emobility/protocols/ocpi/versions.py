"""Which versions of OCPI we speak, and what differs between them before the first object: credentials and endpoints.

A registration holds one version: a server takes the one whose `credentials` was called, a client the highest that both
sides list. Inside a registration everything is said in that version; `v221.Credentials` is the form we work with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi import v211, v221, v230
from emobility.protocols.ocpi.status import InvalidParameters
from emobility.protocols.ocpi.v221 import BusinessDetails, CredentialsRole, Endpoint, InterfaceRole, ModuleID, read

NATIVE: Final = v221.VERSION
"""The version our back offices work in; others are bridged to and from it."""
OFFERED: Final = (v221.VERSION, v230.VERSION)
"""What every peer is offered."""
SPOKEN: Final = (v211.VERSION, *OFFERED)
"""What a peer may be let to speak, oldest first (`PeerTolerances.speaks_2_1_1`)."""


def highest_common(ours: Iterable[str], theirs: Iterable[str]) -> str | None:
    """Return the newest version in both, None without one."""
    common = set(ours) & set(theirs)
    return next((version for version in reversed(SPOKEN) if version in common), None)


def read_credentials(body: bytes, version: str, *, role: Role | None) -> v221.Credentials:
    """Read a credentials object of a version.

    Args:
        body: The JSON.
        version: One of `SPOKEN`.
        role: In which role the platform is expected; 2.1.1 does not say it.

    Raises:
        InvalidParameters: 2.1.1 without an expected role.
        NotAnOCPIObject, NotJSON: it is no credentials object of this version.
    """
    if version == v230.VERSION:
        return _from_230(read(body, v230.Credentials))
    if version != v211.VERSION:
        return read(body, v221.Credentials)
    old = read(body, v211.Credentials)
    if role is None:
        raise InvalidParameters("2.1.1 does not say in which role a platform registers, and none was agreed")
    claimed = CredentialsRole(
        country_code=old.country_code, party_id=old.party_id, role=role, business_details=old.business_details
    )
    return v221.Credentials(token=old.token, url=old.url, roles=[claimed])


def _from_230(new: v230.Credentials) -> v221.Credentials:
    """A hub is known by `hub_party_id`; the parties behind it are those of other platforms, so they are not its roles.

    Raises:
        InvalidParameters: a role HUB, which 2.3.0 has not.
    """
    if any(role.role is Role.HUB for role in new.roles):
        raise InvalidParameters("2.3.0 has no role HUB; a hub sends hub_party_id")
    if new.hub_party_id is None:
        # `roles` is bounded by the text's `+` alone; `v221.Credentials` bounds it for a platform that is no hub.
        return v221.Credentials(token=new.token, url=new.url, roles=new.roles)
    hub = PartyId.of(new.hub_party_id[:2], new.hub_party_id[2:])
    own = next((role for role in new.roles if role.owner == hub), None)
    as_hub = CredentialsRole(
        country_code=hub.country_code,
        party_id=hub.party_id,
        role=Role.HUB,
        business_details=own.business_details if own else BusinessDetails(name=f"hub {hub}"),
    )
    return v221.Credentials(token=new.token, url=new.url, roles=[as_hub])


def credentials_in(
    version: str, *, token: str, url: str, own: CredentialsRole, reachable: Sequence[CredentialsRole] = ()
) -> Any:
    """Return our credentials object in a version; a hub lists in 2.3.0 who is `reachable` through it (C13)."""
    if version == v211.VERSION:
        return v211.Credentials(
            token=token,
            url=url,
            country_code=own.country_code,
            party_id=own.party_id,
            business_details=own.business_details,
        )
    if version != v230.VERSION:
        return v221.Credentials(token=token, url=url, roles=[own])
    if own.role is not Role.HUB:
        return v230.Credentials(token=token, url=url, roles=[own])
    # `roles` must not be empty, so the hub itself stands in it as well, in the role that is left for it.
    itself = CredentialsRole(
        country_code=own.country_code, party_id=own.party_id, role=Role.OTHER, business_details=own.business_details
    )
    roles = [itself, *reachable][: v230.ROLES_MAX]
    return v230.Credentials(token=token, url=url, hub_party_id=own.country_code + own.party_id, roles=roles)


def opposite(role: Role) -> Role:
    """Return as which of the two a platform is met that has no role of its own here: a hub by a CPO is its eMSP."""
    return Role.EMSP if role is Role.CPO else Role.CPO


def read_endpoints(data: bytes, version: str, *, role: Role | None) -> list[Endpoint]:
    """Read version details. 2.1.1 has no interface roles: they follow from the platform's `role`.

    Raises:
        NotAnOCPIObject, NotJSON: they are no version details.
    """
    if version != v211.VERSION:
        return read(data, v221.VersionDetails).endpoints
    listed = read(data, v211.VersionDetails).endpoints
    sided = [(each, v211.interface_role(each.identifier, role) if role else None) for each in listed]
    return [
        Endpoint(identifier=each.identifier, role=side or InterfaceRole.SENDER, url=each.url)
        for each, side in sided
        if side or each.identifier == ModuleID.CREDENTIALS
    ]


def details_in(version: str, endpoints: Sequence[Endpoint], *, role: Role) -> Any:
    """Return version details: what the version has no module for is left out, in 2.1.1 also the side not `role`'s."""
    if version == v211.VERSION:
        shown = [
            v211.Endpoint(identifier=each.identifier, url=each.url)
            for each in endpoints
            if each.identifier == ModuleID.CREDENTIALS or v211.interface_role(each.identifier, role) is each.role
        ]
        return v211.VersionDetails(version=version, endpoints=shown)
    newer = frozenset() if version == v230.VERSION else ONLY_230
    return v221.VersionDetails(version=version, endpoints=[each for each in endpoints if each.identifier not in newer])


ONLY_230: Final = frozenset({ModuleID.BOOKINGS.value, ModuleID.INVOICERECONCILIATION.value, ModuleID.PAYMENTS.value})
"""Modules that no other version has; their objects are said in it alone."""


def native_to(module: str) -> str:
    """Return the version in which our back offices work with a module's objects."""
    return v230.VERSION if module in ONLY_230 else NATIVE
