"""The objects of OCPI 2.2.1, field by field as the text names them, with its limits.

Numbers are exact decimals, timestamps aware and UTC. Fields the text does not know are accepted and dropped here (the
hub forwards bytes and so keeps them). Parts no back office of ours reads (opening hours, images, energy mix) stay
untyped: what came in goes out again. Section numbers below are those of OCPI 2.2.1-d2.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import Meta

from emobility.domain.charging_station import EVSEStatus
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.session import AuthMethod, SessionStatus
from emobility.domain.tariff.tariff import DayOfWeek, Reservation, TariffDimension, TariffType
from emobility.domain.token import TokenType, Whitelist

VERSION: Final = "2.2.1"
NUMBER_MAX: Final = Decimal(10) ** 15
"""No price, energy or percentage is larger; 1e400 is noise."""
NUMBER_DECIMALS_MAX: Final = 18
"""Most decimals of a number; the text asks for four."""

_PRINTABLE_ASCII: Final = r"^[\x20-\x7e]+\Z"
_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*\Z"

CountryCode = Annotated[str, Meta(pattern=r"^[A-Za-z]{2}$")]
PartyCode = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{3}$")]
Id3 = Annotated[str, Meta(min_length=3, max_length=3, pattern=_PRINTABLE_ASCII)]
Id36 = Annotated[str, Meta(max_length=36, pattern=_PRINTABLE_ASCII)]
Id39 = Annotated[str, Meta(max_length=39, pattern=_PRINTABLE_ASCII)]
Id48 = Annotated[str, Meta(max_length=48, pattern=_PRINTABLE_ASCII)]
Text4 = Annotated[str, Meta(max_length=4, pattern=_PRINTABLE)]
Text10 = Annotated[str, Meta(max_length=10, pattern=_PRINTABLE)]
Text20 = Annotated[str, Meta(max_length=20, pattern=_PRINTABLE)]
Text25 = Annotated[str, Meta(max_length=25, pattern=_PRINTABLE)]
Text45 = Annotated[str, Meta(max_length=45, pattern=_PRINTABLE)]
Text64 = Annotated[str, Meta(max_length=64, pattern=_PRINTABLE)]
Text100 = Annotated[str, Meta(max_length=100, pattern=_PRINTABLE)]
Text255 = Annotated[str, Meta(max_length=255, pattern=_PRINTABLE)]
Text512 = Annotated[str, Meta(max_length=512)]
Text5000 = Annotated[str, Meta(max_length=5000)]
URL = Annotated[str, Meta(max_length=255, pattern=r"^https?://[\x21-\x7e]+$")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]
TimeOfDay = Annotated[str, Meta(pattern=r"^([0-1][0-9]|2[0-3]):[0-5][0-9]$")]
LocalDate = Annotated[str, Meta(pattern=r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Latitude = Annotated[str, Meta(max_length=11, pattern=r"^-?[0-9]{1,2}\.[0-9]{1,7}$")]
Longitude = Annotated[str, Meta(max_length=12, pattern=r"^-?[0-9]{1,3}\.[0-9]{1,7}$")]
Whole = Annotated[int, Meta(ge=0, le=10**12)]
Printed = Annotated[str, Meta(max_length=64, pattern=r"^[\x21-\x7e]+$")]
Number = Decimal
"""A JSON number, kept exact; bounded by `NUMBER_MAX` and `NUMBER_DECIMALS_MAX`."""

Untyped = dict[str, Any]


class NotAnOCPIObject(MalformedInput):
    """A JSON body breaks the shape of the object it should be; S 2001."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind = kind
        self.reason = reason
        super().__init__(f"this is no {kind}: {reason}")


class NotJSON(MalformedInput):
    """A body is not JSON at all; HTTP 400."""


class OCPIObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all objects: bounds numbers and reads a timestamp without a zone as UTC (types, DateTime)."""

    _exact: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = [name for name, kind in cls.__annotations__.items() if "Number" in kind or "datetime" in kind]
        cls._exact = (*cls._exact, *own)

    def __post_init__(self) -> None:
        for name in self._exact:
            value = getattr(self, name)
            if isinstance(value, Decimal):
                _check_number(name, value)
            elif isinstance(value, datetime) and value.tzinfo is not UTC:
                aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
                msgspec.structs.force_setattr(self, name, aware)


def _check_number(name: str, value: Decimal) -> None:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(value) > NUMBER_MAX or exponent < -NUMBER_DECIMALS_MAX:
        raise ValueError(f"{name} is not a number of OCPI's size")


class Owned(OCPIObject, frozen=True, kw_only=True):
    """An object that belongs to a party."""

    country_code: CountryCode
    party_id: PartyCode

    @property
    def owner(self) -> PartyId:
        """The party that owns the object."""
        return PartyId.of(self.country_code, self.party_id)


# Versions and credentials (sections 6 and 7)


class InterfaceRole(StrEnum):
    """Which side of a module an endpoint is: the owner's or the receiver's."""

    SENDER = "SENDER"
    RECEIVER = "RECEIVER"


class ModuleID(StrEnum):
    """Modules we know, of all versions; those that begin with `wattroam` are our own (6.3.3 custom modules)."""

    AGREEMENTS = "wattroam-agreements"
    BOOKINGS = "bookings"
    CDRS = "cdrs"
    CHARGINGPROFILES = "chargingprofiles"
    COMMANDS = "commands"
    CREDENTIALS = "credentials"
    DISPUTES = "wattroam-disputes"
    HUBCLIENTINFO = "hubclientinfo"
    INVOICERECONCILIATION = "invoicereconciliation"
    LOCATIONS = "locations"
    PAYMENTS = "payments"
    RECONCILIATION = "wattroam-reconciliation"
    RULES = "wattroam-rules"
    SESSIONS = "sessions"
    TARIFFS = "tariffs"
    TOKENS = "tokens"


class Version(OCPIObject, frozen=True, kw_only=True):
    """A version a platform speaks and where its endpoints are listed."""

    version: Text10
    url: URL


class Endpoint(OCPIObject, frozen=True, kw_only=True):
    """Where one side of a module is served. `identifier` stays text: custom modules are allowed."""

    identifier: Text64
    role: InterfaceRole
    url: URL


class VersionDetails(OCPIObject, frozen=True, kw_only=True):
    """All endpoints of one version."""

    version: Text10
    endpoints: list[Endpoint]


class BusinessDetails(OCPIObject, frozen=True, kw_only=True):
    """Name of a company."""

    name: Text100
    website: URL | None = None
    logo: Untyped | None = None


class CredentialsRole(Owned, frozen=True, kw_only=True):
    """A role a platform plays for a party."""

    role: Role
    business_details: BusinessDetails


class Credentials(OCPIObject, frozen=True, kw_only=True):
    """How to reach a platform and with which token."""

    token: Printed
    url: URL
    roles: Annotated[list[CredentialsRole], Meta(min_length=1, max_length=100)]


# Types (section 16)


class DisplayText(OCPIObject, frozen=True, kw_only=True):
    """Text for people, in one language."""

    language: Annotated[str, Meta(max_length=2)]
    text: Text512


class Price(OCPIObject, frozen=True, kw_only=True):
    """An amount in currency units, before and after VAT."""

    excl_vat: Number
    incl_vat: Number | None = None


class GeoLocation(OCPIObject, frozen=True, kw_only=True):
    """Decimal degrees, WGS 84, as text."""

    latitude: Latitude
    longitude: Longitude


# Locations (section 8)


class ConnectorFormat(StrEnum):
    """Whether the cable is fixed to the station."""

    CABLE = "CABLE"
    SOCKET = "SOCKET"


class Connector(OCPIObject, frozen=True, kw_only=True):
    """A plug of an EVSE. `standard` stays text: later versions add plugs."""

    id: Id36
    standard: Text45
    format: ConnectorFormat
    power_type: Text45
    max_voltage: Whole
    max_amperage: Whole
    max_electric_power: Whole | None = None
    tariff_ids: list[Id36] = []
    terms_and_conditions: URL | None = None
    last_updated: datetime


class EVSEFields(OCPIObject, frozen=True, kw_only=True):
    """What an EVSE is in every version since 2.2.1."""

    uid: Id36
    evse_id: Id48 | None = None
    status: EVSEStatus
    status_schedule: list[Untyped] = []
    capabilities: list[Text45] = []
    floor_level: Text4 | None = None
    coordinates: GeoLocation | None = None
    physical_reference: Annotated[str, Meta(max_length=16)] | None = None
    directions: list[DisplayText] = []
    parking_restrictions: list[Text45] = []
    images: list[Untyped] = []
    last_updated: datetime


class EVSE(EVSEFields, frozen=True, kw_only=True):
    """A unit that charges one vehicle at a time. Never carries the station's OCPP identity."""

    connectors: Annotated[list[Connector], Meta(min_length=1)]


class LocationFields(Owned, frozen=True, kw_only=True):
    """What a Location is in every version since 2.2.1."""

    id: Id36
    publish: bool
    publish_allowed_to: list[Untyped] = []
    name: Text255 | None = None
    address: Text255
    city: Text45
    postal_code: Text10 | None = None
    state: Text45 | None = None
    country: Id3
    coordinates: GeoLocation
    related_locations: list[Untyped] = []
    parking_type: Text45 | None = None
    directions: list[DisplayText] = []
    operator: BusinessDetails | None = None
    suboperator: BusinessDetails | None = None
    owner_details: BusinessDetails | None = msgspec.field(default=None, name="owner")
    facilities: list[Text45] = []
    time_zone: Text255
    opening_times: Untyped | None = None
    charging_when_closed: bool | None = None
    images: list[Untyped] = []
    energy_mix: Untyped | None = None
    last_updated: datetime


class Location(LocationFields, frozen=True, kw_only=True):
    """Where stations stand. `wattroam_help_phone` is our own addition (`help_phone` of 2.3.0); others ignore it."""

    evses: list[EVSE] = []
    wattroam_help_phone: Text25 | None = None


# Tariffs (section 11)


class PriceComponent(OCPIObject, frozen=True, kw_only=True):
    """Price of one dimension; `vat` is a percentage, absent when no VAT applies."""

    type: TariffDimension
    price: Number
    vat: Number | None = None
    step_size: Whole


class TariffRestrictions(OCPIObject, frozen=True, kw_only=True):
    """When an element applies; energy in kWh, current in A, power in kW, duration in s."""

    start_time: TimeOfDay | None = None
    end_time: TimeOfDay | None = None
    start_date: LocalDate | None = None
    end_date: LocalDate | None = None
    min_kwh: Number | None = None
    max_kwh: Number | None = None
    min_current: Number | None = None
    max_current: Number | None = None
    min_power: Number | None = None
    max_power: Number | None = None
    min_duration: Whole | None = None
    max_duration: Whole | None = None
    day_of_week: list[DayOfWeek] = []
    reservation: Reservation | None = None


class TariffElement(OCPIObject, frozen=True, kw_only=True):
    """Components that apply while the restrictions hold."""

    price_components: Annotated[list[PriceComponent], Meta(min_length=1)]
    restrictions: TariffRestrictions | None = None


class TariffFields(Owned, frozen=True, kw_only=True):
    """What a Tariff is in every version since 2.2.1."""

    id: Id36
    currency: Currency
    type: TariffType | None = None
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: URL | None = None
    elements: Annotated[list[TariffElement], Meta(min_length=1)]
    start_date_time: datetime | None = None
    end_date_time: datetime | None = None
    energy_mix: Untyped | None = None
    last_updated: datetime


class Tariff(TariffFields, frozen=True, kw_only=True):
    """What a charge costs."""

    min_price: Price | None = None
    max_price: Price | None = None


# Tokens (section 12)


class AllowedType(StrEnum):
    """An eMSP's word on a token."""

    ALLOWED = "ALLOWED"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    NO_CREDIT = "NO_CREDIT"
    NOT_ALLOWED = "NOT_ALLOWED"


class TokenFields(Owned, frozen=True, kw_only=True):
    """What a Token is in every version since 2.2.1."""

    uid: Id36
    contract_id: Id36
    visual_number: Text64 | None = None
    issuer: Text64
    group_id: Id36 | None = None
    valid: bool
    whitelist: Whitelist
    language: Annotated[str, Meta(max_length=2)] | None = None
    default_profile_type: Text45 | None = None
    energy_contract: Untyped | None = None
    last_updated: datetime


class Token(TokenFields, frozen=True, kw_only=True):
    """What a driver presents. `uid` and `contract_id` name a person."""

    type: TokenType


class LocationReferences(OCPIObject, frozen=True, kw_only=True):
    """Where a driver wants to charge."""

    location_id: Id36
    evse_uids: list[Id36] = []


class AuthorizationInfoFields(OCPIObject, frozen=True, kw_only=True):
    """What AuthorizationInfo is in every version since 2.2.1."""

    allowed: AllowedType
    location: LocationReferences | None = None
    authorization_reference: Id36 | None = None
    info: DisplayText | None = None


class AuthorizationInfo(AuthorizationInfoFields, frozen=True, kw_only=True):
    """Answer of real-time authorisation."""

    token: Token


# Sessions and CDRs (sections 9 and 10)


class CdrDimensionType(StrEnum):
    """What a dimension of a charging period measures: kWh, A, kW, h, percent."""

    CURRENT = "CURRENT"
    ENERGY = "ENERGY"
    ENERGY_EXPORT = "ENERGY_EXPORT"
    ENERGY_IMPORT = "ENERGY_IMPORT"
    MAX_CURRENT = "MAX_CURRENT"
    MIN_CURRENT = "MIN_CURRENT"
    MAX_POWER = "MAX_POWER"
    MIN_POWER = "MIN_POWER"
    PARKING_TIME = "PARKING_TIME"
    POWER = "POWER"
    RESERVATION_TIME = "RESERVATION_TIME"
    STATE_OF_CHARGE = "STATE_OF_CHARGE"
    TIME = "TIME"


class CdrDimension(OCPIObject, frozen=True, kw_only=True):
    """One measured value."""

    type: CdrDimensionType
    volume: Number


class ChargingPeriod(OCPIObject, frozen=True, kw_only=True):
    """A stretch of a session; it ends where the next begins."""

    start_date_time: datetime
    dimensions: Annotated[list[CdrDimension], Meta(min_length=1)]
    tariff_id: Id36 | None = None


class CdrTokenFields(Owned, frozen=True, kw_only=True):
    """What a CdrToken is in every version since 2.2.1."""

    uid: Id36
    contract_id: Id36


class CdrToken(CdrTokenFields, frozen=True, kw_only=True):
    """The token a session belongs to."""

    type: TokenType


class SessionFields(Owned, frozen=True, kw_only=True):
    """What a Session is in every version since 2.2.1."""

    id: Id36
    start_date_time: datetime
    end_date_time: datetime | None = None
    kwh: Number
    auth_method: AuthMethod
    authorization_reference: Id36 | None = None
    location_id: Id36
    evse_uid: Id36
    connector_id: Id36
    meter_id: Text255 | None = None
    currency: Currency
    charging_periods: list[ChargingPeriod] = []
    status: SessionStatus
    last_updated: datetime
    wattroam_tariff_hash: Text64 | None = None


class Session(SessionFields, frozen=True, kw_only=True):
    """A charge while it runs. `wattroam_tariff_hash` is our own addition; others ignore it."""

    cdr_token: CdrToken
    total_cost: Price | None = None


class CdrLocation(OCPIObject, frozen=True, kw_only=True):
    """Where a charge took place, with only the EVSE and connector used."""

    id: Id36
    name: Text255 | None = None
    address: Text255
    city: Text45
    postal_code: Text10 | None = None
    state: Text20 | None = None
    country: Id3
    coordinates: GeoLocation
    evse_uid: Id36
    evse_id: Id48
    connector_id: Id36
    connector_standard: Text45
    connector_format: ConnectorFormat
    connector_power_type: Text45


class SignedValue(OCPIObject, frozen=True, kw_only=True):
    """One signed record: readable, and base64 of the original bytes."""

    nature: Annotated[str, Meta(max_length=32)]
    plain_data: Text5000
    signed_data: Text5000


class SignedData(OCPIObject, frozen=True, kw_only=True):
    """The meter's proof."""

    encoding_method: Id36
    encoding_method_version: Whole | None = None
    public_key: Text512 | None = None
    signed_values: Annotated[list[SignedValue], Meta(min_length=1)]
    url: Text512 | None = None


class CDRFields(Owned, frozen=True, kw_only=True):
    """What a CDR is in every version since 2.2.1; the amounts are each version's own."""

    id: Id39
    start_date_time: datetime
    end_date_time: datetime
    session_id: Id36 | None = None
    auth_method: AuthMethod
    authorization_reference: Id36 | None = None
    cdr_location: CdrLocation
    meter_id: Text255 | None = None
    currency: Currency
    charging_periods: Annotated[list[ChargingPeriod], Meta(min_length=1)]
    signed_data: SignedData | None = None
    total_energy: Number
    total_time: Number
    total_parking_time: Number | None = None
    remark: Text255 | None = None
    invoice_reference_id: Id39 | None = None
    credit: bool | None = None
    credit_reference_id: Id39 | None = None
    home_charging_compensation: bool | None = None
    last_updated: datetime


class CDR(CDRFields, frozen=True, kw_only=True):
    """A closed, priced charge. Energy in kWh, time in hours."""

    cdr_token: CdrToken
    tariffs: list[Tariff] = []
    total_cost: Price
    total_fixed_cost: Price | None = None
    total_energy_cost: Price | None = None
    total_time_cost: Price | None = None
    total_parking_cost: Price | None = None
    total_reservation_cost: Price | None = None


class DisputedAmount(OCPIObject, frozen=True, kw_only=True):
    """An amount of a CDR that is not what its periods give, as `domain/cdr_difference.py` explains it.

    Indices count from 0, in the CDR's periods and in its tariff's elements; amounts in ten-thousandths.
    """

    part: Text64
    is_after_tax: bool
    cause: Text64
    expected_e4: int
    stated_e4: int
    period_index: int | None = None
    dimension: Text64 | None = None
    element_index: int | None = None
    other_element_index: int | None = None
    rounding_policy: Text64 | None = None


class Dispute(OCPIObject, frozen=True, kw_only=True):
    """An eMSP's quarrel with a CDR, in our module `wattroam-disputes`; amounts in ten-thousandths.

    Where nothing but amounts is wrong, the CPO finds the credit and the replacement that would end it, ready to be
    issued; their ids are the eMSP's proposal, too.
    """

    cdr_id: Id39
    reason: Text64
    detail: Text512
    expected_e4: int | None = None
    stated_e4: int | None = None
    clause: Text255 | None = None
    differences: list[DisputedAmount] = []
    proposed_credit: CDR | None = None
    proposed_replacement: CDR | None = None


# Commands (section 13)


class CommandType(StrEnum):
    """What an eMSP may ask of a CPO."""

    CANCEL_RESERVATION = "CANCEL_RESERVATION"
    RESERVE_NOW = "RESERVE_NOW"
    START_SESSION = "START_SESSION"
    STOP_SESSION = "STOP_SESSION"
    UNLOCK_CONNECTOR = "UNLOCK_CONNECTOR"


class Command(OCPIObject, frozen=True, kw_only=True):
    """Base of commands: where the result is to be sent."""

    response_url: URL


class CancelReservation(Command, frozen=True, kw_only=True):
    """Give up a reservation."""

    reservation_id: Id36


class ReserveNowFields(Command, frozen=True, kw_only=True):
    """What ReserveNow is in every version since 2.2.1."""

    expiry_date: datetime
    reservation_id: Id36
    location_id: Id36
    evse_uid: Id36 | None = None
    authorization_reference: Id36 | None = None


class ReserveNow(ReserveNowFields, frozen=True, kw_only=True):
    """Reserve an EVSE from now on."""

    token: Token


class StartSessionFields(Command, frozen=True, kw_only=True):
    """What StartSession is in every version since 2.2.1."""

    location_id: Id36
    evse_uid: Id36 | None = None
    connector_id: Id36 | None = None
    authorization_reference: Id36 | None = None


class StartSession(StartSessionFields, frozen=True, kw_only=True):
    """Start a charge for a token; it needs no second authorisation (13.3.5)."""

    token: Token


class StopSession(Command, frozen=True, kw_only=True):
    """End a charge."""

    session_id: Id36


class UnlockConnector(Command, frozen=True, kw_only=True):
    """Unlock a stuck plug; for a help desk only."""

    location_id: Id36
    evse_uid: Id36
    connector_id: Id36


class CommandResponseType(StrEnum):
    """The CPO's word on the request."""

    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class CommandResponse(OCPIObject, frozen=True, kw_only=True):
    """Synchronous answer; a result follows within `timeout` seconds when accepted."""

    result: CommandResponseType
    timeout: Whole
    message: list[DisplayText] = []


class CommandResultType(StrEnum):
    """The station's word on the command."""

    ACCEPTED = "ACCEPTED"
    CANCELED_RESERVATION = "CANCELED_RESERVATION"
    EVSE_OCCUPIED = "EVSE_OCCUPIED"
    EVSE_INOPERATIVE = "EVSE_INOPERATIVE"
    FAILED = "FAILED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN_RESERVATION = "UNKNOWN_RESERVATION"


class CommandResult(OCPIObject, frozen=True, kw_only=True):
    """Asynchronous answer, POSTed to the `response_url`."""

    result: CommandResultType
    message: list[DisplayText] = []


COMMANDS: Final[dict[CommandType, type[Command]]] = {
    CommandType.CANCEL_RESERVATION: CancelReservation,
    CommandType.RESERVE_NOW: ReserveNow,
    CommandType.START_SESSION: StartSession,
    CommandType.STOP_SESSION: StopSession,
    CommandType.UNLOCK_CONNECTOR: UnlockConnector,
}
"""The body that belongs to each command."""


# Charging preferences (section 9.3.2) and charging profiles (section 14)


class ProfileType(StrEnum):
    """How a driver wants to charge."""

    CHEAP = "CHEAP"
    FAST = "FAST"
    GREEN = "GREEN"
    REGULAR = "REGULAR"


class ChargingPreferences(OCPIObject, frozen=True, kw_only=True):
    """What a driver needs; energy in kWh."""

    profile_type: ProfileType
    departure_time: datetime | None = None
    energy_need: Number | None = None
    discharge_allowed: bool | None = None


class ChargingPreferencesResponse(StrEnum):
    """The CPO's word on preferences."""

    ACCEPTED = "ACCEPTED"
    DEPARTURE_REQUIRED = "DEPARTURE_REQUIRED"
    ENERGY_NEED_REQUIRED = "ENERGY_NEED_REQUIRED"
    NOT_POSSIBLE = "NOT_POSSIBLE"
    PROFILE_TYPE_NOT_SUPPORTED = "PROFILE_TYPE_NOT_SUPPORTED"


class ChargingRateUnit(StrEnum):
    """Unit of a profile's limits."""

    W = "W"
    A = "A"


class ChargingProfilePeriod(OCPIObject, frozen=True, kw_only=True):
    """A limit from `start_period` seconds after the profile's start."""

    start_period: Whole
    limit: Number


class ChargingProfile(OCPIObject, frozen=True, kw_only=True):
    """Limits over time; `duration` in seconds."""

    start_date_time: datetime | None = None
    duration: Whole | None = None
    charging_rate_unit: ChargingRateUnit
    min_charging_rate: Number | None = None
    charging_profile_period: list[ChargingProfilePeriod] = []


class ActiveChargingProfile(OCPIObject, frozen=True, kw_only=True):
    """What a station follows."""

    start_date_time: datetime
    charging_profile: ChargingProfile


class SetChargingProfile(OCPIObject, frozen=True, kw_only=True):
    """PUT of a profile for a session; the result is POSTed to `response_url`."""

    charging_profile: ChargingProfile
    response_url: URL


class ChargingProfileResponseType(StrEnum):
    """The receiver's word on a request."""

    ACCEPTED = "ACCEPTED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    REJECTED = "REJECTED"
    TOO_OFTEN = "TOO_OFTEN"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"


class ChargingProfileResponse(OCPIObject, frozen=True, kw_only=True):
    """Synchronous answer; a result follows within `timeout` seconds when accepted."""

    result: ChargingProfileResponseType
    timeout: Whole


class ChargingProfileResultType(StrEnum):
    """The station's word."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class ChargingProfileResult(OCPIObject, frozen=True, kw_only=True):
    """Result of PUT; of DELETE too, where the text calls it ClearProfileResult."""

    result: ChargingProfileResultType


class ActiveChargingProfileResult(OCPIObject, frozen=True, kw_only=True):
    """Result of GET."""

    result: ChargingProfileResultType
    profile: ActiveChargingProfile | None = None


# Hub client info (section 15)


class ConnectionStatus(StrEnum):
    """State of a party at the hub."""

    CONNECTED = "CONNECTED"
    OFFLINE = "OFFLINE"
    PLANNED = "PLANNED"
    SUSPENDED = "SUSPENDED"


class ClientInfo(Owned, frozen=True, kw_only=True):
    """A party at the hub and whether it can be reached."""

    role: Role
    status: ConnectionStatus
    last_updated: datetime


# Reading and writing

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def write(value: Any) -> bytes:
    """Write an object as JSON; decimals become JSON numbers, digit for digit."""
    return _ENCODER.encode(value)


def read(body: bytes, kind: type[T]) -> T:
    """Read an object.

    Raises:
        NotJSON: the bytes are no JSON.
        NotAnOCPIObject: the JSON is not of this kind.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        decoded: T = decoder.decode(body)
    except msgspec.ValidationError as error:
        _refuse_no_json(body)
        raise NotAnOCPIObject(getattr(kind, "__name__", str(kind)), str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJSON(str(error)) from error
    return decoded


def _refuse_no_json(body: bytes) -> None:
    """The decoder stops at the first wrong type; what follows it may still be no JSON. Raises `NotJSON`."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJSON(str(error)) from error
