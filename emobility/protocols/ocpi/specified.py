"""What each version of OCPI says an object holds: names, cardinality, types, lengths and enums, as tables.

`faults` holds a document against them. Our own types read what our services need; this reads all of it, so it is what
bridged bodies, examples and other people's answers are checked with.

A line is `Class: field[card] type, ...` (card: nothing for 1, `?`, `*`, `+`) or `Enum = VALUES`; `~=` is an OpenEnum,
which may have others. 2.3.0 and 2.1.1 are written as what differs from 2.2.1, `-field` being gone. Facts from the texts
of the EV Roaming Foundation (2.1.1-d2, 2.2.1-d2, 2.3.0-ed2, its payments and bookings branches), compared with them by
`bench/ocpi_texts.py`. Where the bookings branch spells a type in two ways, the one it defines stands
here. 2.1.1 calls a CommandResult a CommandResponse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final

import msgspec

_V221: Final = """
Credentials: token string(64), url URL, roles+ CredentialsRole
CredentialsRole: role Role, business_details BusinessDetails, party_id CiString(3), country_code CiString(2)
CDR: country_code CiString(2), party_id CiString(3), id CiString(39), start_date_time DateTime, end_date_time
    DateTime, session_id? CiString(36), cdr_token CdrToken, auth_method AuthMethod, authorization_reference?
    CiString(36), cdr_location CdrLocation, meter_id? string(255), currency string(3), tariffs* Tariff,
    charging_periods+ ChargingPeriod, signed_data? SignedData, total_cost Price, total_fixed_cost? Price, total_energy
    number, total_energy_cost? Price, total_time number, total_time_cost? Price, total_parking_time? number,
    total_parking_cost? Price, total_reservation_cost? Price, remark? string(255), invoice_reference_id? CiString(39),
    credit? boolean, credit_reference_id? CiString(39), home_charging_compensation? boolean, last_updated DateTime
CdrDimension: type CdrDimensionType, volume number
CdrLocation: id CiString(36), name? string(255), address string(45), city string(45), postal_code? string(10), state?
    string(20), country string(3), coordinates GeoLocation, evse_uid CiString(36), evse_id CiString(48), connector_id
    CiString(36), connector_standard ConnectorType, connector_format ConnectorFormat, connector_power_type PowerType
CdrToken: country_code CiString(2), party_id CiString(3), uid CiString(36), type TokenType, contract_id CiString(36)
ChargingPeriod: start_date_time DateTime, dimensions+ CdrDimension, tariff_id? CiString(36)
SignedData: encoding_method CiString(36), encoding_method_version? int, public_key? string(512), signed_values+
    SignedValue, url? string(512)
SignedValue: nature CiString(32), plain_data string(5000), signed_data string(5000)
ChargingProfileResponse: result ChargingProfileResponseType, timeout int
ActiveChargingProfileResult: result ChargingProfileResultType, profile? ActiveChargingProfile
ChargingProfileResult: result ChargingProfileResultType
ClearProfileResult: result ChargingProfileResultType
SetChargingProfile: charging_profile ChargingProfile, response_url URL
ActiveChargingProfile: start_date_time DateTime, charging_profile ChargingProfile
ChargingProfile: start_date_time? DateTime, duration? int, charging_rate_unit ChargingRateUnit, min_charging_rate?
    number, charging_profile_period* ChargingProfilePeriod
ChargingProfilePeriod: start_period int, limit number
CancelReservation: response_url URL, reservation_id CiString(36)
CommandResponse: result CommandResponseType, timeout int, message* DisplayText
CommandResult: result CommandResultType, message* DisplayText
ReserveNow: response_url URL, token Token, expiry_date DateTime, reservation_id CiString(36), location_id
    CiString(36), evse_uid? CiString(36), authorization_reference? CiString(36)
StartSession: response_url URL, token Token, location_id CiString(36), evse_uid? CiString(36), connector_id?
    CiString(36), authorization_reference? CiString(36)
StopSession: response_url URL, session_id CiString(36)
UnlockConnector: response_url URL, location_id CiString(36), evse_uid CiString(36), connector_id CiString(36)
ClientInfo: party_id CiString(3), country_code CiString(2), role Role, status ConnectionStatus, last_updated DateTime
Location: country_code CiString(2), party_id CiString(3), id CiString(36), publish boolean, publish_allowed_to*
    PublishTokenType, name? string(255), address string(255), city string(45), postal_code? string(10), state?
    string(45), country string(3), coordinates GeoLocation, related_locations* AdditionalGeoLocation, parking_type?
    ParkingType, evses* EVSE, directions* DisplayText, operator? BusinessDetails, suboperator? BusinessDetails, owner?
    BusinessDetails, facilities* Facility, time_zone string(255), opening_times? Hours, charging_when_closed? boolean,
    images* Image, energy_mix? EnergyMix, last_updated DateTime
EVSE: uid CiString(36), evse_id? CiString(48), status Status, status_schedule* StatusSchedule, capabilities*
    Capability, connectors+ Connector, floor_level? string(4), coordinates? GeoLocation, physical_reference?
    string(16), directions* DisplayText, parking_restrictions* ParkingRestriction, images* Image, last_updated
    DateTime
Connector: id CiString(36), standard ConnectorType, format ConnectorFormat, power_type PowerType, max_voltage int,
    max_amperage int, max_electric_power? int, tariff_ids* CiString(36), terms_and_conditions? URL, last_updated
    DateTime
AdditionalGeoLocation: latitude string(10), longitude string(11), name? DisplayText
BusinessDetails: name string(100), website? URL, logo? Image
EnergyMix: is_green_energy boolean, energy_sources* EnergySource, environ_impact* EnvironmentalImpact, supplier_name?
    string(64), energy_product_name? string(64)
EnergySource: source EnergySourceCategory, percentage number
EnvironmentalImpact: category EnvironmentalImpactCategory, amount number
ExceptionalPeriod: period_begin DateTime, period_end DateTime
GeoLocation: latitude string(10), longitude string(11)
Hours: twentyfourseven boolean, regular_hours* RegularHours, exceptional_openings* ExceptionalPeriod,
    exceptional_closings* ExceptionalPeriod
Image: url URL, thumbnail? URL, category ImageCategory, type CiString(4), width? int(5), height? int(5)
PublishTokenType: uid? CiString(36), type? TokenType, visual_number? string(64), issuer? string(64), group_id?
    CiString(36)
RegularHours: weekday int(1), period_begin string(5), period_end string(5)
StatusSchedule: period_begin DateTime, period_end? DateTime, status Status
Session: country_code CiString(2), party_id CiString(3), id CiString(36), start_date_time DateTime, end_date_time?
    DateTime, kwh number, cdr_token CdrToken, auth_method AuthMethod, authorization_reference? CiString(36),
    location_id CiString(36), evse_uid CiString(36), connector_id CiString(36), meter_id? string(255), currency
    string(3), charging_periods* ChargingPeriod, total_cost? Price, status SessionStatus, last_updated DateTime
ChargingPreferences: profile_type ProfileType, departure_time? DateTime, energy_need? number, discharge_allowed?
    boolean
Tariff: country_code CiString(2), party_id CiString(3), id CiString(36), currency string(3), type? TariffType,
    tariff_alt_text* DisplayText, tariff_alt_url? URL, min_price? Price, max_price? Price, elements+ TariffElement,
    start_date_time? DateTime, end_date_time? DateTime, energy_mix? EnergyMix, last_updated DateTime
PriceComponent: type TariffDimensionType, price number, vat? number, step_size int
TariffElement: price_components+ PriceComponent, restrictions? TariffRestrictions
TariffRestrictions: start_time? string(5), end_time? string(5), start_date? string(10), end_date? string(10), min_kwh?
    number, max_kwh? number, min_current? number, max_current? number, min_power? number, max_power? number,
    min_duration? int, max_duration? int, day_of_week* DayOfWeek, reservation? ReservationRestrictionType
AuthorizationInfo: allowed AllowedType, token Token, location? LocationReferences, authorization_reference?
    CiString(36), info? DisplayText
Token: country_code CiString(2), party_id CiString(3), uid CiString(36), type TokenType, contract_id CiString(36),
    visual_number? string(64), issuer string(64), group_id? CiString(36), valid boolean, whitelist WhitelistType,
    language? string(2), default_profile_type? ProfileType, energy_contract? EnergyContract, last_updated DateTime
EnergyContract: supplier_name string(64), contract_id? string(64)
LocationReferences: location_id CiString(36), evse_uids* CiString(36)
DisplayText: language string(2), text string(512)
Price: excl_vat number, incl_vat? number
Version: version VersionNumber, url URL
Endpoint: identifier ModuleID, role InterfaceRole, url URL
AuthMethod = AUTH_REQUEST COMMAND WHITELIST
CdrDimensionType = CURRENT ENERGY ENERGY_EXPORT ENERGY_IMPORT MAX_CURRENT MIN_CURRENT MAX_POWER MIN_POWER PARKING_TIME
    POWER RESERVATION_TIME STATE_OF_CHARGE TIME
ChargingRateUnit = W A
ChargingProfileResponseType = ACCEPTED NOT_SUPPORTED REJECTED TOO_OFTEN UNKNOWN_SESSION
ChargingProfileResultType = ACCEPTED REJECTED UNKNOWN
CommandResponseType = NOT_SUPPORTED REJECTED ACCEPTED UNKNOWN_SESSION
CommandResultType = ACCEPTED CANCELED_RESERVATION EVSE_OCCUPIED EVSE_INOPERATIVE FAILED NOT_SUPPORTED REJECTED TIMEOUT
    UNKNOWN_RESERVATION
CommandType = CANCEL_RESERVATION RESERVE_NOW START_SESSION STOP_SESSION UNLOCK_CONNECTOR
ConnectionStatus = CONNECTED OFFLINE PLANNED SUSPENDED
Capability = CHARGING_PROFILE_CAPABLE CHARGING_PREFERENCES_CAPABLE CHIP_CARD_SUPPORT CONTACTLESS_CARD_SUPPORT
    CREDIT_CARD_PAYABLE DEBIT_CARD_PAYABLE PED_TERMINAL REMOTE_START_STOP_CAPABLE RESERVABLE RFID_READER
    START_SESSION_CONNECTOR_REQUIRED TOKEN_GROUP_CAPABLE UNLOCK_CAPABLE
ConnectorFormat = SOCKET CABLE
ConnectorType = CHADEMO CHAOJI DOMESTIC_A DOMESTIC_B DOMESTIC_C DOMESTIC_D DOMESTIC_E DOMESTIC_F DOMESTIC_G DOMESTIC_H
    DOMESTIC_I DOMESTIC_J DOMESTIC_K DOMESTIC_L DOMESTIC_M DOMESTIC_N DOMESTIC_O GBT_AC GBT_DC IEC_60309_2_single_16
    IEC_60309_2_three_16 IEC_60309_2_three_32 IEC_60309_2_three_64 IEC_62196_T1 IEC_62196_T1_COMBO IEC_62196_T2
    IEC_62196_T2_COMBO IEC_62196_T3A IEC_62196_T3C NEMA_5_20 NEMA_6_30 NEMA_6_50 NEMA_10_30 NEMA_10_50 NEMA_14_30
    NEMA_14_50 PANTOGRAPH_BOTTOM_UP PANTOGRAPH_TOP_DOWN TESLA_R TESLA_S
EnergySourceCategory = NUCLEAR GENERAL_FOSSIL COAL GAS GENERAL_GREEN SOLAR WIND WATER
EnvironmentalImpactCategory = NUCLEAR_WASTE CARBON_DIOXIDE
Facility = HOTEL RESTAURANT CAFE MALL SUPERMARKET SPORT RECREATION_AREA NATURE MUSEUM BIKE_SHARING BUS_STOP TAXI_STAND
    TRAM_STOP METRO_STATION TRAIN_STATION AIRPORT PARKING_LOT CARPOOL_PARKING FUEL_STATION WIFI
ImageCategory = CHARGER ENTRANCE LOCATION NETWORK OPERATOR OTHER OWNER
ParkingRestriction = EV_ONLY PLUGGED DISABLED CUSTOMERS MOTORCYCLES
ParkingType = ALONG_MOTORWAY PARKING_GARAGE PARKING_LOT ON_DRIVEWAY ON_STREET UNDERGROUND_GARAGE
PowerType = AC_1_PHASE AC_2_PHASE AC_2_PHASE_SPLIT AC_3_PHASE DC
Status = AVAILABLE BLOCKED CHARGING INOPERATIVE OUTOFORDER PLANNED REMOVED RESERVED UNKNOWN
ChargingPreferencesResponse = ACCEPTED DEPARTURE_REQUIRED ENERGY_NEED_REQUIRED NOT_POSSIBLE PROFILE_TYPE_NOT_SUPPORTED
ProfileType = CHEAP FAST GREEN REGULAR
SessionStatus = ACTIVE COMPLETED INVALID PENDING RESERVATION
DayOfWeek = MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY
ReservationRestrictionType = RESERVATION RESERVATION_EXPIRES
TariffDimensionType = ENERGY FLAT PARKING_TIME TIME
TariffType = AD_HOC_PAYMENT PROFILE_CHEAP PROFILE_FAST PROFILE_GREEN REGULAR
AllowedType = ALLOWED BLOCKED EXPIRED NO_CREDIT NOT_ALLOWED
TokenType = AD_HOC_USER APP_USER OTHER RFID
WhitelistType = ALWAYS ALLOWED ALLOWED_OFFLINE NEVER
Role = CPO EMSP HUB NAP NSP OTHER SCSP
InterfaceRole = SENDER RECEIVER
VersionNumber = 2.0 2.1 2.1.1 2.2 2.2.1
VersionDetails: version VersionNumber, endpoints+ Endpoint
"""

_V230: Final = """
Credentials: hub_party_id? CiString(5)
InvoiceReconciliationRecord: country_code CiString(2), party_id CiString(3), id CiString(36), invoice_id
    CiString(255), cdrs+ CiString(36), last_updated DateTime
Location: parking_places* Parking, help_phone? CiString(25)
EVSE: parking* EVSEParking, accepted_service_providers* string(50)
Connector: capabilities* ConnectorCapability
Parking: id CiString(36), physical_reference? string(12), vehicle_types+ VehicleType, max_vehicle_weight? number,
    max_vehicle_height? number, max_vehicle_length? number, max_vehicle_width? number, parking_space_length? number,
    parking_space_width? number, dangerous_goods_allowed? boolean, direction? ParkingDirection, drive_through?
    boolean, restricted_to_type boolean, reservation_required boolean, time_limit? number, roofed? boolean, images*
    Image, lighting? boolean, refrigeration_outlet? boolean, standards* CiString(36), apds_reference? CiString
EVSEParking: parking_id CiString(36), evse_position? EVSEPosition
Tariff: min_price? PriceLimit, max_price? PriceLimit, tax_included TaxIncluded
PriceLimit: before_taxes number, after_taxes? number
Price: -excl_vat, -incl_vat, before_taxes number, taxes* TaxAmount
TaxAmount: name string, account_number? string, percentage? number, amount number
CommandType ~= CANCEL_RESERVATION RESERVE_NOW START_SESSION STOP_SESSION UNLOCK_CONNECTOR
Capability ~= CHARGING_PROFILE_CAPABLE CHARGING_PREFERENCES_CAPABLE CHIP_CARD_SUPPORT CONTACTLESS_CARD_SUPPORT
    CREDIT_CARD_PAYABLE DEBIT_CARD_PAYABLE PED_TERMINAL REMOTE_START_STOP_CAPABLE RESERVABLE RFID_READER
    START_SESSION_CONNECTOR_REQUIRED TOKEN_GROUP_CAPABLE UNLOCK_CAPABLE
ConnectorCapability ~= ISO_15118_2_PLUG_AND_CHARGE ISO_15118_20_PLUG_AND_CHARGE
ConnectorType ~= CHADEMO CHAOJI DOMESTIC_A DOMESTIC_B DOMESTIC_C DOMESTIC_D DOMESTIC_E DOMESTIC_F DOMESTIC_G
    DOMESTIC_H DOMESTIC_I DOMESTIC_J DOMESTIC_K DOMESTIC_L DOMESTIC_M DOMESTIC_N DOMESTIC_O GBT_AC GBT_DC
    IEC_60309_2_single_16 IEC_60309_2_three_16 IEC_60309_2_three_32 IEC_60309_2_three_64 IEC_62196_T1
    IEC_62196_T1_COMBO IEC_62196_T2 IEC_62196_T2_COMBO IEC_62196_T3A IEC_62196_T3C MCS NEMA_5_20 NEMA_6_30 NEMA_6_50
    NEMA_10_30 NEMA_10_50 NEMA_14_30 NEMA_14_50 PANTOGRAPH_BOTTOM_UP PANTOGRAPH_TOP_DOWN SAE_J3400 TESLA_R TESLA_S
EnvironmentalImpactCategory ~= NUCLEAR_WASTE CARBON_DIOXIDE
EVSEPosition = LEFT RIGHT CENTER
Facility ~= HOTEL RESTAURANT CAFE MALL SUPERMARKET SPORT RECREATION_AREA NATURE MUSEUM BIKE_SHARING BUS_STOP
    TAXI_STAND TRAM_STOP METRO_STATION TRAIN_STATION AIRPORT PARKING_LOT CARPOOL_PARKING FUEL_STATION WIFI
ImageCategory ~= CHARGER ENTRANCE LOCATION NETWORK OPERATOR OTHER OWNER
ParkingDirection = PARALLEL PERPENDICULAR ANGLE
ParkingRestriction ~= CUSTOMERS DISABLED EMPLOYEES EV_ONLY MOTORCYCLES PLUGGED TAXIS TENANTS
ParkingType ~= ALONG_MOTORWAY PARKING_GARAGE PARKING_LOT ON_DRIVEWAY ON_STREET UNDERGROUND_GARAGE
VehicleType ~= MOTORCYCLE PERSONAL_VEHICLE PERSONAL_VEHICLE_WITH_TRAILER VAN SEMI_TRACTOR RIGID TRUCK_WITH_TRAILER BUS
    DISABLED
TaxIncluded = YES NO N/A
TokenType ~= AD_HOC_USER APP_USER EMAID OTHER RFID
Role = CPO EMSP NAP NSP OTHER SCSP
VersionNumber ~= 2.0 2.1 2.1.1 2.2 2.2.1 2.3.0
"""

_PAYMENTS: Final = """
Terminal: terminal_id CiString(36), customer_reference? CiString(36), party_id? CiString(3), country_code?
    CiString(2), address? CiString(45), city? CiString(45), postal_code? CiString(10), state? CiString(20), country?
    CiString(3), coordinates? GeoLocation, invoice_base_url? URL, invoice_creator? InvoiceCreator, reference?
    CiString(36), location_ids* CiString(36), evse_uids* CiString(36), last_updated DateTime
FinancialAdviceConfirmation: id CiString(36), authorization_reference CiString(36), total_costs Price, currency
    CiString(3), eft_data+ CiString(255), capture_status_code CaptureStatusCode, capture_status_message?
    CiString(255), last_updated DateTime
Tariff: preauthorize_amount? number
InvoiceCreator = CPO PTP
CaptureStatusCode = SUCCESS PARTIAL_SUCCESS FAILED
"""

_BOOKINGS: Final = """
BookingLocation: country_code CiString(2), party_id CiString(3), id CiString(36), location_id CiString(36), evse_uid?
    CiString(36), connector_id? CiString(36), bookable_parking_options* BookableParkingOptions, bookable? Bookable,
    tariff_id* CiString(36), booking_terms* BookingTerms, calendars* Calendar, last_updated DateTime
Calendar: id CiString(36), begin_from DateTime, end_before DateTime, step_size? int, available_timeslots+ Timeslot,
    last_updated DateTime
Booking: id CiString(36), country_code CiString(2), party_id CiString(3), request_id CiString(36),
    bookable_parking_option? BookableParkingOptions, parking_id? CiString(36), location_id CiString(36), evse_uid?
    CiString(36), connector_id? CiString(36), booking_tokens* BookingToken, tariff_id* CiString(36), period Timeslot,
    reservation_status ReservationStatus, canceled? Cancellation, access_methods* AccessMethod,
    authorization_reference CiString(36), booking_terms BookingTerms, booking_requests+ BookingRequestStatus,
    last_updated DateTime
BookingRequest: country_code CiString(2), party_id CiString(3), request_id CiString(36), bookable_parking_option?
    BookableParkingOptions, location_id CiString(36), evse_uid? CiString(36), connector_id? CiString(36), tokens*
    BookingToken, period Timeslot, authorization_reference CiString(36), power_required? int, canceled? Cancellation
BookingTerms: RFID_auth_required? boolean, token_groups_supported? boolean, remote_auth_supported? boolean,
    supported_access_methods+ LocationAccess, change_until_minutes number, cancel_until_minutes number,
    change_not_allowed? boolean, early_start_allowed? boolean, early_start_time? number, noshow_timeout? number,
    noshow_fee? boolean, late_stop_allowed? boolean, late_stop_time? number, overlapping_bookings_allowed? boolean,
    booking_terms? URL
BookableParkingOptions: evse_position? EVSEPosition, vehicle_types+ VehicleType, format ConnectorFormat,
    max_vehicle_weight? number, max_vehicle_height? number, max_vehicle_length? number, max_vehicle_width? number,
    parking_space_length? number, parking_space_width? number, dangerous_goods_allowed? boolean, drive_through?
    boolean, restricted_to_type boolean, refrigeration_outlet? boolean
Cancellation: cancellation_reason CanceledReason, who_canceled Role
AccessMethod: location_access LocationAccess, value? string
BookingRequestStatus: request_status ReservationRequestStatus, booking_request BookingRequest, request_received
    DateTime
Timeslot: start_from DateTime, end_before DateTime, min_power? number, max_power? number, green_energy_support?
    boolean
BookingToken: country_code CiString(2), party_id CiString(3), uid CiString(36), type TokenType, contract_id
    CiString(36)
Bookable: reservation_required boolean, ad_hoc? number
CDR: booking_id? CiString(36)
LocationAccess = OPEN TOKEN LICENSE_PLATE ACCESS_CODE INTERCOM PARKING_TICKET
ReservationStatus = PENDING RESERVED CANCELED FAILED NO_SHOW FULFILLED REJECTED UNKNOWN
ReservationRequestStatus = PENDING ACCEPTED DECLINED FAILED
CanceledReason = POWER_OUTAGE BROKEN_CHARGER FULL BLOCKED TRAFFIC BROKEN_VEHICLE NO_CANCELED UNKNOWN
CdrDimensionType = CURRENT ENERGY ENERGY_EXPORT ENERGY_IMPORT MAX_CURRENT MIN_CURRENT MAX_POWER MIN_POWER PARKING_TIME
    POWER RESERVATION_TIME RESERVATION_EXPIRES RESERVATION_OVERTIME STATE_OF_CHARGE TIME
ReservationRestrictionType = RESERVATION RESERVATION_EXPIRES RESERVATION_CANCELLATION_FEES RESERVATION_OVERTIME
TokenType ~= AD_HOC_USER APP_USER EMAID LICENSE_PLATE OTHER RFID
"""

_V211: Final = """
Credentials: -roles, business_details BusinessDetails, party_id string(3), country_code string(2)
CDR: -country_code, -party_id, -end_date_time, -session_id, -cdr_token, -authorization_reference, -cdr_location,
    -signed_data, -total_fixed_cost, -total_energy_cost, -total_time_cost, -total_parking_cost,
    -total_reservation_cost, -invoice_reference_id, -credit, -credit_reference_id, -home_charging_compensation, id
    CiString(36), stop_date_time DateTime, auth_id string(36), location Location, total_cost number
ChargingPeriod: -tariff_id
CommandResponse: -timeout, -message
CommandResult: -message, result CommandResponseType
ReserveNow: -authorization_reference, reservation_id int, location_id string(39), evse_uid? string(39)
StartSession: -connector_id, -authorization_reference, location_id string(39), evse_uid? string(39)
StopSession: session_id string(36)
UnlockConnector: location_id string(39), evse_uid string(39), connector_id string(36)
Location: -country_code, -party_id, -publish, -publish_allowed_to, -state, -parking_type, id string(39), type
    LocationType, address string(45), postal_code string(10), time_zone? string(255)
EVSE: uid string(39), evse_id? string(48)
Connector: -max_voltage, -max_amperage, -max_electric_power, -tariff_ids, id string(36), voltage int, amperage int,
    tariff_id? string(36)
EnvironmentalImpact: -category, source EnvironmentalImpactCategory
Image: type string(4)
Session: -country_code, -party_id, -start_date_time, -end_date_time, -cdr_token, -authorization_reference,
    -location_id, -evse_uid, -connector_id, id string(36), start_datetime DateTime, end_datetime? DateTime, auth_id
    string(36), location Location, total_cost? number
Tariff: -country_code, -party_id, -type, -min_price, -max_price, -start_date_time, -end_date_time, id string(36)
PriceComponent: -vat
TariffRestrictions: -min_current, -max_current, -reservation
Token: -country_code, -party_id, -contract_id, -group_id, -default_profile_type, -energy_contract, uid string(36),
    auth_id string(36)
LocationReferences: location_id string(39), evse_uids* string(39), connector_ids* string(36)
Endpoint: -role
AuthMethod = AUTH_REQUEST WHITELIST
CdrDimensionType = ENERGY FLAT MAX_CURRENT MIN_CURRENT PARKING_TIME TIME
CommandResponseType = NOT_SUPPORTED REJECTED ACCEPTED TIMEOUT UNKNOWN_SESSION
CommandType = RESERVE_NOW START_SESSION STOP_SESSION UNLOCK_CONNECTOR
Capability = CHARGING_PROFILE_CAPABLE CREDIT_CARD_PAYABLE REMOTE_START_STOP_CAPABLE RESERVABLE RFID_READER
    UNLOCK_CAPABLE
ConnectorType = CHADEMO DOMESTIC_A DOMESTIC_B DOMESTIC_C DOMESTIC_D DOMESTIC_E DOMESTIC_F DOMESTIC_G DOMESTIC_H
    DOMESTIC_I DOMESTIC_J DOMESTIC_K DOMESTIC_L IEC_60309_2_single_16 IEC_60309_2_three_16 IEC_60309_2_three_32
    IEC_60309_2_three_64 IEC_62196_T1 IEC_62196_T1_COMBO IEC_62196_T2 IEC_62196_T2_COMBO IEC_62196_T3A IEC_62196_T3C
    TESLA_R TESLA_S
Facility = HOTEL RESTAURANT CAFE MALL SUPERMARKET SPORT RECREATION_AREA NATURE MUSEUM BUS_STOP TAXI_STAND
    TRAIN_STATION AIRPORT CARPOOL_PARKING FUEL_STATION WIFI
LocationType = ON_STREET PARKING_GARAGE UNDERGROUND_GARAGE PARKING_LOT OTHER UNKNOWN
PowerType = AC_1_PHASE AC_3_PHASE DC
SessionStatus = ACTIVE COMPLETED INVALID PENDING
TokenType = OTHER RFID
VersionNumber = 2.0 2.1 2.1.1
AuthorizationInfo: -token, -authorization_reference
"""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a class. `card` is one of `1?*+`; `kind` the type without its length."""

    card: str
    kind: str
    length: int | None


@dataclass(frozen=True, slots=True)
class Enumeration:
    """Values of an enum; an open one may have others."""

    is_open: bool
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Specification:
    """One version's classes and enums, by name."""

    classes: dict[str, dict[str, Field]]
    enums: dict[str, Enumeration]


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a document departs from the text: JSON pointer and why."""

    pointer: str
    reason: str


TABLES: Final = {
    "2.1.1": (_V221, _V211),
    "2.2.1": (_V221,),
    "2.3.0": (_V221, _V230, _PAYMENTS, _BOOKINGS),
}
_FIELD: Final = re.compile(r"([A-Za-z_0-9]+)([?*+]?) ([A-Za-z]+)(?:\((\d+)\))?")
_DATE_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")


@cache
def specification(version: str) -> Specification:
    """Return what a version says. Raises `KeyError` for one that is not in `TABLES`."""
    classes: dict[str, dict[str, Field]] = {}
    enums: dict[str, Enumeration] = {}
    for table in TABLES[version]:
        for line in re.sub(r"\n {4}", " ", table.strip()).split("\n"):
            name, mark, rest = re.split(r"(: | ~?= )", line, maxsplit=1)
            if mark.strip() == ":":
                fields = dict(classes.get(name, {}))
                for item in rest.split(", "):
                    if item.startswith("-"):
                        del fields[item[1:]]
                        continue
                    found = _FIELD.fullmatch(item)
                    assert found is not None, f"{name} of {version} has a line that says nothing: {item!r}"
                    field, card, kind, length = found.groups()
                    fields[field] = Field(card or "1", kind, int(length) if length else None)
                classes[name] = fields
            else:
                enums[name] = Enumeration("~" in mark, frozenset(rest.split()))
    return Specification(classes, enums)


def faults(document: Any, kind: str, version: str, *, is_partial: bool = False) -> list[Fault]:
    """Return where a decoded JSON document departs from class `kind` of a version; unknown fields are none (T9).

    Args:
        document: As `msgspec.json.decode` gives it, or with decimals.
        kind: A class of the version, such as `Location`.
        version: `2.1.1`, `2.2.1` or `2.3.0`.
        is_partial: It is the body of a PATCH: what it lacks is no fault at its own level.
    """
    return list(_faults(document, kind, specification(version), "", is_partial=is_partial))


def _faults(
    value: Any, kind: str, said: Specification, pointer: str, *, is_partial: bool = False, length: int | None = None
) -> Iterator[Fault]:
    fields = said.classes.get(kind)
    if fields is None:
        if (reason := _scalar_fault(value, kind, said, length)) is not None:
            yield Fault(pointer, reason)
        return
    if not isinstance(value, dict):
        yield Fault(pointer, f"it is no {kind}")
        return
    for name, field in fields.items():
        below = f"{pointer}/{name}"
        held = value.get(name)
        if held is not None:
            yield from _field_faults(held, field, said, below)
        elif field.card in "1+" and not is_partial:
            yield Fault(below, f"{kind} must have it")


def _field_faults(held: Any, field: Field, said: Specification, pointer: str) -> Iterator[Fault]:
    if field.card in "1?":
        yield from _faults(held, field.kind, said, pointer, length=field.length)
    elif not isinstance(held, list):
        yield Fault(pointer, "it is no list")
    elif field.card == "+" and not held:
        yield Fault(pointer, "it must not be empty")
    else:
        for index, each in enumerate(held):
            yield from _faults(each, field.kind, said, f"{pointer}/{index}", length=field.length)


def _scalar_fault(value: Any, kind: str, said: Specification, length: int | None) -> str | None:
    if (enum := said.enums.get(kind)) is not None:
        is_known = isinstance(value, str) and (enum.is_open or value in enum.values)
        return None if is_known else f"{value!r} is no {kind}"
    if kind == "boolean":
        return None if isinstance(value, bool) else "it is no boolean"
    if kind in {"int", "number"}:
        types = (int,) if kind == "int" else (int, float, Decimal)
        return None if isinstance(value, types) and not isinstance(value, bool) else f"it is no {kind}"
    if not isinstance(value, str):
        return f"it is no {kind}"
    if kind == "DateTime":
        return None if _is_date_time(value) else "it is no DateTime in UTC"
    longest = 255 if kind == "URL" else length
    return f"it has more than {longest} characters" if longest is not None and len(value) > longest else None


def _is_date_time(text: str) -> bool:
    if _DATE_TIME.fullmatch(text) is None:
        return False
    try:
        msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return False
    return True
