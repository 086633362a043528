"""The objects of OCPI 2.1.1, as far as they differ from 2.2.1: no owner in the object, one party per platform, no hub.

A token may be sent without base64 (`peers.PeerTolerances`), endpoints have no role, and there are no routing headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from emobility.domain.identifiers import Role
from emobility.domain.session import AuthMethod, SessionStatus
from emobility.domain.tariff.tariff import TariffDimension
from emobility.domain.token import Whitelist
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.v221 import (
    URL,
    BusinessDetails,
    Currency,
    DisplayText,
    EVSEFields,
    GeoLocation,
    Id3,
    Id36,
    InterfaceRole,
    ModuleID,
    Number,
    OCPIObject,
    Owned,
    Printed,
    Text10,
    Text45,
    Text64,
    Text255,
    Untyped,
    Whole,
)

VERSION: Final = "2.1.1"
Id39 = v221.Id39

OWNER_OF: Final[Mapping[str, Role]] = {
    ModuleID.CDRS: Role.CPO,
    ModuleID.COMMANDS: Role.EMSP,
    ModuleID.LOCATIONS: Role.CPO,
    ModuleID.SESSIONS: Role.CPO,
    ModuleID.TARIFFS: Role.CPO,
    ModuleID.TOKENS: Role.EMSP,
}
"""Who is the sender of each module. An endpoint has no role: a CPO's `locations` is the sender's interface."""


def interface_role(module: str, role: Role) -> InterfaceRole | None:
    """Return which side of a module a platform of this role serves; None for a module that 2.1.1 has not."""
    owner = OWNER_OF.get(module)
    if owner is None:
        return None
    is_owner = (role is Role.CPO) == (owner is Role.CPO)
    return InterfaceRole.SENDER if is_owner else InterfaceRole.RECEIVER


class Endpoint(OCPIObject, frozen=True, kw_only=True):
    """Where a module is served."""

    identifier: Text64
    url: URL


class VersionDetails(OCPIObject, frozen=True, kw_only=True):
    """All endpoints of the version."""

    version: Text10
    endpoints: list[Endpoint]


class Credentials(Owned, frozen=True, kw_only=True):
    """How to reach a platform: of one party, whose role nobody says."""

    token: Printed
    url: URL
    business_details: BusinessDetails


class LocationType(StrEnum):
    """Where vehicles stand."""

    ON_STREET = "ON_STREET"
    PARKING_GARAGE = "PARKING_GARAGE"
    UNDERGROUND_GARAGE = "UNDERGROUND_GARAGE"
    PARKING_LOT = "PARKING_LOT"
    OTHER = "OTHER"
    UNKNOWN = "UNKNOWN"


class Connector(OCPIObject, frozen=True, kw_only=True):
    """A plug, with at most one tariff."""

    id: Id36
    standard: Text45
    format: v221.ConnectorFormat
    power_type: Text45
    voltage: Whole
    amperage: Whole
    tariff_id: Id36 | None = None
    terms_and_conditions: URL | None = None
    last_updated: datetime


class EVSE(EVSEFields, frozen=True, kw_only=True):
    """A unit that charges one vehicle at a time."""

    connectors: Annotated[list[Connector], Meta(min_length=1)]


class Location(OCPIObject, frozen=True, kw_only=True):
    """Where stations stand; always published."""

    id: Id39
    type: LocationType
    name: Text255 | None = None
    address: Text45
    city: Text45
    postal_code: Text10
    country: Id3
    coordinates: GeoLocation
    related_locations: list[Untyped] = []
    evses: list[EVSE] = []
    directions: list[DisplayText] = []
    operator: BusinessDetails | None = None
    suboperator: BusinessDetails | None = None
    owner: BusinessDetails | None = None
    facilities: list[Text45] = []
    time_zone: Text255 | None = None
    opening_times: Untyped | None = None
    charging_when_closed: bool | None = None
    images: list[Untyped] = []
    energy_mix: Untyped | None = None
    last_updated: datetime


class PriceComponent(OCPIObject, frozen=True, kw_only=True):
    """Price of one dimension, without VAT."""

    type: TariffDimension
    price: Number
    step_size: Whole


class TariffElement(OCPIObject, frozen=True, kw_only=True):
    """Components that apply while the restrictions hold; currents and reservations restrict nothing yet."""

    price_components: Annotated[list[PriceComponent], Meta(min_length=1)]
    restrictions: v221.TariffRestrictions | None = None


class Tariff(OCPIObject, frozen=True, kw_only=True):
    """What a charge costs."""

    id: Id36
    currency: Currency
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: URL | None = None
    elements: Annotated[list[TariffElement], Meta(min_length=1)]
    energy_mix: Untyped | None = None
    last_updated: datetime


class Token(OCPIObject, frozen=True, kw_only=True):
    """What a driver presents; `auth_id` is the contract."""

    uid: Id36
    type: Text45
    auth_id: Id36
    visual_number: Text64 | None = None
    issuer: Text64
    valid: bool
    whitelist: Whitelist
    language: Annotated[str, Meta(max_length=2)] | None = None
    last_updated: datetime


class LocationReferences(OCPIObject, frozen=True, kw_only=True):
    """Where a driver wants to charge."""

    location_id: Id39
    evse_uids: list[Id39] = []
    connector_ids: list[Id36] = []


class AuthorizationInfo(OCPIObject, frozen=True, kw_only=True):
    """Answer of real-time authorisation."""

    allowed: v221.AllowedType
    location: LocationReferences | None = None
    info: DisplayText | None = None


class CdrDimension(OCPIObject, frozen=True, kw_only=True):
    """One measured value; FLAT still is one."""

    type: Text45
    volume: Number


class ChargingPeriod(OCPIObject, frozen=True, kw_only=True):
    """A stretch of a session."""

    start_date_time: datetime
    dimensions: Annotated[list[CdrDimension], Meta(min_length=1)]


class Session(OCPIObject, frozen=True, kw_only=True):
    """A charge while it runs; `total_cost` is without VAT."""

    id: Id36
    start_datetime: datetime
    end_datetime: datetime | None = None
    kwh: Number
    auth_id: Id36
    auth_method: AuthMethod
    location: Location
    meter_id: Text255 | None = None
    currency: Currency
    charging_periods: list[ChargingPeriod] = []
    total_cost: Number | None = None
    status: SessionStatus
    last_updated: datetime


class CDR(OCPIObject, frozen=True, kw_only=True):
    """A closed charge; `total_cost` is without VAT. There are no credits."""

    id: Id36
    start_date_time: datetime
    stop_date_time: datetime
    auth_id: Id36
    auth_method: AuthMethod
    location: Location
    meter_id: Text255 | None = None
    currency: Currency
    tariffs: list[Tariff] = []
    charging_periods: Annotated[list[ChargingPeriod], Meta(min_length=1)]
    total_cost: Number
    total_energy: Number
    total_time: Number
    total_parking_time: Number | None = None
    remark: Text255 | None = None
    last_updated: datetime


class CommandResponseType(StrEnum):
    """The CPO's word on a command, and the station's: TIMEOUT is only the latter's."""

    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class CommandResponse(OCPIObject, frozen=True, kw_only=True):
    """Answer to a command, and, POSTed to the `response_url`, its result."""

    result: CommandResponseType


class ReserveNow(v221.Command, frozen=True, kw_only=True):
    """Reserve an EVSE from now on; the reservation is a number."""

    token: Token
    expiry_date: datetime
    reservation_id: Whole
    location_id: Id39
    evse_uid: Id39 | None = None


class StartSession(v221.Command, frozen=True, kw_only=True):
    """Start a charge for a token."""

    token: Token
    location_id: Id39
    evse_uid: Id39 | None = None
