"""What OCPI 2.3.0 (edition 2) says differently from 2.2.1, with its payments and bookings branches.

Objects that are the same are those of `v221`. Section names are those of the text's modules.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from emobility.domain.identifiers import Role
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.v221 import (
    URL,
    CDRFields,
    CdrTokenFields,
    ConnectorFormat,
    Currency,
    EVSEFields,
    GeoLocation,
    Id3,
    Id36,
    LocationFields,
    Number,
    OCPIObject,
    Owned,
    Printed,
    SessionFields,
    TariffFields,
    Text10,
    Text20,
    Text45,
    Untyped,
    Whole,
)

VERSION: Final = "2.3.0"
ROLES_MAX: Final = 5_000
"""Most roles of one platform: a hub lists every party behind it."""

Id255 = Annotated[str, Meta(max_length=255)]
Text12 = Annotated[str, Meta(max_length=12)]
Text25 = Annotated[str, Meta(max_length=25)]
Text50 = Annotated[str, Meta(max_length=50)]


# Credentials


class Credentials(OCPIObject, frozen=True, kw_only=True):
    """How to reach a platform. A hub names itself in `hub_party_id` and lists every party behind it in `roles`."""

    token: Printed
    url: URL
    hub_party_id: Annotated[str, Meta(pattern=r"^[A-Za-z]{2}[A-Za-z0-9]{3}$")] | None = None
    roles: Annotated[list[v221.CredentialsRole], Meta(min_length=1, max_length=ROLES_MAX)]


# Types


class TaxAmount(OCPIObject, frozen=True, kw_only=True):
    """One tax that is due on a price."""

    name: str
    account_number: str | None = None
    percentage: Number | None = None
    amount: Number


class Price(OCPIObject, frozen=True, kw_only=True):
    """An amount in currency units before taxes, and the taxes on it."""

    before_taxes: Number
    taxes: list[TaxAmount] = []


class PriceLimit(OCPIObject, frozen=True, kw_only=True):
    """A least or highest cost; the two bounds hold each on its own."""

    before_taxes: Number
    after_taxes: Number | None = None


# Locations


class EVSEPosition(StrEnum):
    """Where an EVSE stands, seen from a parked vehicle's rear."""

    LEFT = "LEFT"
    RIGHT = "RIGHT"
    CENTER = "CENTER"


class ParkingDirection(StrEnum):
    """How vehicles stand to the road."""

    PARALLEL = "PARALLEL"
    PERPENDICULAR = "PERPENDICULAR"
    ANGLE = "ANGLE"


class ParkingFields(OCPIObject, frozen=True, kw_only=True):
    """What fits on a parking place; metres and kilograms."""

    vehicle_types: Annotated[list[Text45], Meta(min_length=1)]
    max_vehicle_weight: Number | None = None
    max_vehicle_height: Number | None = None
    max_vehicle_length: Number | None = None
    max_vehicle_width: Number | None = None
    parking_space_length: Number | None = None
    parking_space_width: Number | None = None
    dangerous_goods_allowed: bool | None = None
    drive_through: bool | None = None
    restricted_to_type: bool
    refrigeration_outlet: bool | None = None


class Parking(ParkingFields, frozen=True, kw_only=True):
    """A parking place of a location; `time_limit` in minutes."""

    id: Id36
    physical_reference: Text12 | None = None
    direction: ParkingDirection | None = None
    reservation_required: bool
    time_limit: Number | None = None
    roofed: bool | None = None
    images: list[Untyped] = []
    lighting: bool | None = None
    standards: list[Id36] = []
    apds_reference: str | None = None


class EVSEParking(OCPIObject, frozen=True, kw_only=True):
    """That an EVSE serves a parking place."""

    parking_id: Id36
    evse_position: EVSEPosition | None = None


class Connector(v221.Connector, frozen=True, kw_only=True):
    """A plug, with what it can do beside charging (Plug and Charge)."""

    capabilities: list[Text45] = []


class EVSE(EVSEFields, frozen=True, kw_only=True):
    """A unit that charges one vehicle at a time."""

    connectors: Annotated[list[Connector], Meta(min_length=1)]
    parking: list[EVSEParking] = []
    accepted_service_providers: list[Text50] = []


class Location(LocationFields, frozen=True, kw_only=True):
    """Where stations stand."""

    evses: list[EVSE] = []
    parking_places: list[Parking] = []
    help_phone: Text25 | None = None


# Tokens and commands: kinds of tokens are an OpenEnum


class Token(v221.TokenFields, frozen=True, kw_only=True):
    """What a driver presents; EMAID is new, LICENSE_PLATE is of the bookings branch."""

    type: Text45


class AuthorizationInfo(v221.AuthorizationInfoFields, frozen=True, kw_only=True):
    """Answer of real-time authorisation."""

    token: Token


class ReserveNow(v221.ReserveNowFields, frozen=True, kw_only=True):
    """Reserve an EVSE from now on."""

    token: Token


class StartSession(v221.StartSessionFields, frozen=True, kw_only=True):
    """Start a charge for a token."""

    token: Token


class CdrToken(CdrTokenFields, frozen=True, kw_only=True):
    """The token a session belongs to."""

    type: Text45


# Tariffs, sessions, CDRs


class TaxIncluded(StrEnum):
    """Whether a tariff's prices hold the taxes."""

    YES = "YES"
    NO = "NO"
    NOT_APPLICABLE = "N/A"


class Tariff(TariffFields, frozen=True, kw_only=True):
    """What a charge costs. `preauthorize_amount` (payments) is what a terminal reserves first."""

    min_price: PriceLimit | None = None
    max_price: PriceLimit | None = None
    tax_included: TaxIncluded
    preauthorize_amount: Number | None = None


class Session(SessionFields, frozen=True, kw_only=True):
    """A charge while it runs."""

    cdr_token: CdrToken
    total_cost: Price | None = None


class CDR(CDRFields, frozen=True, kw_only=True):
    """A closed, priced charge. `booking_id` is of the bookings branch."""

    cdr_token: CdrToken
    tariffs: list[Tariff] = []
    total_cost: Price
    total_fixed_cost: Price | None = None
    total_energy_cost: Price | None = None
    total_time_cost: Price | None = None
    total_parking_cost: Price | None = None
    total_reservation_cost: Price | None = None
    booking_id: Id36 | None = None


# Invoice reconciliation


class InvoiceReconciliationRecord(Owned, frozen=True, kw_only=True):
    """Which CDRs an invoice is made of."""

    id: Id36
    invoice_id: Id255
    cdrs: Annotated[list[v221.Id39], Meta(min_length=1)]
    last_updated: datetime


# Payments (branch of 2.3.0; one module, two lists: `terminals`, `financial-advice-confirmations`)


class InvoiceCreator(StrEnum):
    """Who writes the driver's invoice: the CPO or the provider of the payment terminal."""

    CPO = "CPO"
    PTP = "PTP"


class Terminal(OCPIObject, frozen=True, kw_only=True):
    """A payment terminal and the places it serves."""

    terminal_id: Id36
    customer_reference: Id36 | None = None
    party_id: v221.PartyCode | None = None
    country_code: v221.CountryCode | None = None
    address: Text45 | None = None
    city: Text45 | None = None
    postal_code: Text10 | None = None
    state: Text20 | None = None
    country: Id3 | None = None
    coordinates: GeoLocation | None = None
    invoice_base_url: URL | None = None
    invoice_creator: InvoiceCreator | None = None
    reference: Id36 | None = None
    location_ids: list[Id36] = []
    evse_uids: list[Id36] = []
    last_updated: datetime


class CaptureStatusCode(StrEnum):
    """What became of a capture."""

    SUCCESS = "SUCCESS"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILED = "FAILED"


class FinancialAdviceConfirmation(OCPIObject, frozen=True, kw_only=True):
    """What was captured for a charge paid at a terminal."""

    id: Id36
    authorization_reference: Id36
    total_costs: Price
    currency: Currency
    eft_data: Annotated[list[Id255], Meta(min_length=1)]
    capture_status_code: CaptureStatusCode
    capture_status_message: Id255 | None = None
    last_updated: datetime


# Bookings (branch of 2.3.0)


class LocationAccess(StrEnum):
    """How a driver with a booking gets in."""

    OPEN = "OPEN"
    TOKEN = "TOKEN"  # noqa: S105 - a way in, no secret
    LICENSE_PLATE = "LICENSE_PLATE"
    ACCESS_CODE = "ACCESS_CODE"
    INTERCOM = "INTERCOM"
    PARKING_TICKET = "PARKING_TICKET"


class ReservationStatus(StrEnum):
    """Life of a booking."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    NO_SHOW = "NO_SHOW"
    FULFILLED = "FULFILLED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class ReservationRequestStatus(StrEnum):
    """What became of a request for a booking."""

    PENDING = "PENDING"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    FAILED = "FAILED"


class CanceledReason(StrEnum):
    """Why a booking was cancelled."""

    POWER_OUTAGE = "POWER_OUTAGE"
    BROKEN_CHARGER = "BROKEN_CHARGER"
    FULL = "FULL"
    BLOCKED = "BLOCKED"
    TRAFFIC = "TRAFFIC"
    BROKEN_VEHICLE = "BROKEN_VEHICLE"
    NO_CANCELED = "NO_CANCELED"
    UNKNOWN = "UNKNOWN"


class Timeslot(OCPIObject, frozen=True, kw_only=True):
    """A stretch of time in which a place can be had; power in kW."""

    start_from: datetime
    end_before: datetime
    min_power: Number | None = None
    max_power: Number | None = None
    green_energy_support: bool | None = None


class Calendar(OCPIObject, frozen=True, kw_only=True):
    """Free slots; `step_size` in minutes."""

    id: Id36
    begin_from: datetime
    end_before: datetime
    step_size: Whole | None = None
    available_timeslots: Annotated[list[Timeslot], Meta(min_length=1)]
    last_updated: datetime


class BookableParkingOptions(ParkingFields, frozen=True, kw_only=True):
    """What can be booked, as vehicles see it."""

    evse_position: EVSEPosition | None = None
    format: ConnectorFormat


class Bookable(OCPIObject, frozen=True, kw_only=True):
    """Whether a place must be booked, and how much of it is left to those who did not (percent)."""

    reservation_required: bool
    ad_hoc: Number | None = None


class BookingTerms(OCPIObject, frozen=True, kw_only=True):
    """Terms of a booking; times in minutes."""

    RFID_auth_required: bool | None = None
    token_groups_supported: bool | None = None
    remote_auth_supported: bool | None = None
    supported_access_methods: Annotated[list[LocationAccess], Meta(min_length=1)]
    change_until_minutes: Number
    cancel_until_minutes: Number
    change_not_allowed: bool | None = None
    early_start_allowed: bool | None = None
    early_start_time: Number | None = None
    noshow_timeout: Number | None = None
    noshow_fee: bool | None = None
    late_stop_allowed: bool | None = None
    late_stop_time: Number | None = None
    overlapping_bookings_allowed: bool | None = None
    booking_terms: URL | None = None


class BookingLocation(Owned, frozen=True, kw_only=True):
    """A place that can be booked."""

    id: Id36
    location_id: Id36
    evse_uid: Id36 | None = None
    connector_id: Id36 | None = None
    bookable_parking_options: list[BookableParkingOptions] = []
    bookable: Bookable | None = None
    tariff_id: list[Id36] = []
    booking_terms: list[BookingTerms] = []
    calendars: list[Calendar] = []
    last_updated: datetime


class BookingToken(CdrToken, frozen=True, kw_only=True):
    """The token that a booking is for."""


class Cancellation(OCPIObject, frozen=True, kw_only=True):
    """Who cancelled, and why."""

    cancellation_reason: CanceledReason
    who_canceled: Role


class BookingRequest(Owned, frozen=True, kw_only=True):
    """What an eMSP asks for; power in W."""

    request_id: Id36
    bookable_parking_option: BookableParkingOptions | None = None
    location_id: Id36
    evse_uid: Id36 | None = None
    connector_id: Id36 | None = None
    tokens: list[BookingToken] = []
    period: Timeslot
    authorization_reference: Id36
    power_required: Whole | None = None
    canceled: Cancellation | None = None


class BookingRequestStatus(OCPIObject, frozen=True, kw_only=True):
    """A request as the CPO keeps it."""

    request_status: ReservationRequestStatus
    booking_request: BookingRequest
    request_received: datetime


class AccessMethod(OCPIObject, frozen=True, kw_only=True):
    """How this driver gets in; `value` is a code or a plate."""

    location_access: LocationAccess
    value: str | None = None


class Booking(Owned, frozen=True, kw_only=True):
    """A place held for a driver."""

    id: Id36
    request_id: Id36
    bookable_parking_option: BookableParkingOptions | None = None
    parking_id: Id36 | None = None
    location_id: Id36
    evse_uid: Id36 | None = None
    connector_id: Id36 | None = None
    booking_tokens: list[BookingToken] = []
    tariff_id: list[Id36] = []
    period: Timeslot
    reservation_status: ReservationStatus
    canceled: Cancellation | None = None
    access_methods: list[AccessMethod] = []
    authorization_reference: Id36
    booking_terms: BookingTerms
    booking_requests: Annotated[list[BookingRequestStatus], Meta(min_length=1)]
    last_updated: datetime
