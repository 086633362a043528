"""Documents of each version, written here by the text, with every kind of field filled."""

from __future__ import annotations

from typing import Any

import msgspec

T = "2026-03-01T12:00:00Z"
OWNED = {"country_code": "NL", "party_id": "TNM"}
PLACE = {"latitude": "52.09073", "longitude": "5.12142"}
DETAILS = {
    "name": "TNM",
    "website": "https://tnm.test",
    "logo": {"url": "https://tnm.test/l.png", "category": "OPERATOR", "type": "png"},
}
HOURS = {
    "twentyfourseven": False,
    "regular_hours": [{"weekday": 1, "period_begin": "08:00", "period_end": "20:00"}],
    "exceptional_closings": [{"period_begin": T, "period_end": T}],
}
MIX = {
    "is_green_energy": True,
    "energy_sources": [{"source": "WIND", "percentage": 100.0}],
    "environ_impact": [{"category": "CARBON_DIOXIDE", "amount": 0.5}],
    "supplier_name": "Wind",
}
CONNECTOR: dict[str, Any] = {
    "id": "1",
    "standard": "IEC_62196_T2",
    "format": "SOCKET",
    "power_type": "AC_3_PHASE",
    "max_voltage": 230,
    "max_amperage": 32,
    "max_electric_power": 22000,
    "tariff_ids": ["T1"],
    "terms_and_conditions": "https://tnm.test/terms",
    "last_updated": T,
}
EVSE: dict[str, Any] = {
    "uid": "E1",
    "evse_id": "NL*TNM*E1",
    "status": "AVAILABLE",
    "status_schedule": [{"period_begin": T, "status": "INOPERATIVE"}],
    "capabilities": ["RFID_READER", "REMOTE_START_STOP_CAPABLE"],
    "connectors": [CONNECTOR],
    "floor_level": "-1",
    "coordinates": PLACE,
    "physical_reference": "7",
    "directions": [{"language": "nl", "text": "links"}],
    "parking_restrictions": ["EV_ONLY"],
    "last_updated": T,
}
LOCATION: dict[str, Any] = OWNED | {
    "id": "L1",
    "publish": True,
    "name": "Plein",
    "address": "Plein 1",
    "city": "Utrecht",
    "postal_code": "3511 AA",
    "state": "Utrecht",
    "country": "NLD",
    "coordinates": PLACE,
    "related_locations": [PLACE | {"name": {"language": "nl", "text": "ingang"}}],
    "parking_type": "PARKING_LOT",
    "evses": [EVSE],
    "operator": DETAILS,
    "facilities": ["HOTEL", "WIFI"],
    "time_zone": "Europe/Amsterdam",
    "opening_times": HOURS,
    "charging_when_closed": True,
    "images": [{"url": "https://tnm.test/i.png", "category": "CHARGER", "type": "png", "width": 10, "height": 10}],
    "energy_mix": MIX,
    "last_updated": T,
}
TARIFF: dict[str, Any] = OWNED | {
    "id": "T1",
    "currency": "EUR",
    "type": "REGULAR",
    "tariff_alt_text": [{"language": "nl", "text": "40 cent"}],
    "tariff_alt_url": "https://tnm.test/t1",
    "min_price": {"excl_vat": 0.50, "incl_vat": 0.605},
    "max_price": {"excl_vat": 100},
    "elements": [
        {
            "price_components": [{"type": "ENERGY", "price": 0.40, "vat": 21.0, "step_size": 1}],
            "restrictions": {"start_time": "08:00", "end_time": "20:00", "day_of_week": ["MONDAY"], "max_kwh": 30.5},
        },
        {"price_components": [{"type": "TIME", "price": 1.2000, "step_size": 300}]},
    ],
    "start_date_time": T,
    "energy_mix": MIX,
    "last_updated": T,
}
TOKEN: dict[str, Any] = {
    "country_code": "DE",
    "party_id": "MSP",
    "uid": "012345",
    "type": "RFID",
    "contract_id": "DE-MSP-C12345678-X",
    "visual_number": "DF000-2001-8999",
    "issuer": "MSP",
    "group_id": "G1",
    "valid": True,
    "whitelist": "ALWAYS",
    "language": "de",
    "default_profile_type": "GREEN",
    "energy_contract": {"supplier_name": "Wind", "contract_id": "W1"},
    "last_updated": T,
}
CDR_TOKEN = {key: TOKEN[key] for key in ("country_code", "party_id", "uid", "type", "contract_id")}
PERIOD = {
    "start_date_time": T,
    "dimensions": [{"type": "ENERGY", "volume": 11.1000}, {"type": "TIME", "volume": 0.5}],
    "tariff_id": "T1",
}
SESSION: dict[str, Any] = OWNED | {
    "id": "S1",
    "start_date_time": T,
    "end_date_time": T,
    "kwh": 11.1000,
    "cdr_token": CDR_TOKEN,
    "auth_method": "WHITELIST",
    "authorization_reference": "A1",
    "location_id": "L1",
    "evse_uid": "E1",
    "connector_id": "1",
    "meter_id": "M1",
    "currency": "EUR",
    "charging_periods": [PERIOD],
    "total_cost": {"excl_vat": 4.4400, "incl_vat": 5.3724},
    "status": "COMPLETED",
    "last_updated": T,
}
CDR_LOCATION = {
    "id": "L1",
    "name": "Plein",
    "address": "Plein 1",
    "city": "Utrecht",
    "postal_code": "3511 AA",
    "country": "NLD",
    "coordinates": PLACE,
    "evse_uid": "E1",
    "evse_id": "NL*TNM*E1",
    "connector_id": "1",
    "connector_standard": "IEC_62196_T2",
    "connector_format": "SOCKET",
    "connector_power_type": "AC_3_PHASE",
}
CDR: dict[str, Any] = OWNED | {
    "id": "C1",
    "start_date_time": T,
    "end_date_time": T,
    "session_id": "S1",
    "cdr_token": CDR_TOKEN,
    "auth_method": "WHITELIST",
    "authorization_reference": "A1",
    "cdr_location": CDR_LOCATION,
    "meter_id": "M1",
    "currency": "EUR",
    "tariffs": [TARIFF],
    "charging_periods": [PERIOD],
    "signed_data": {
        "encoding_method": "OCMF",
        "signed_values": [{"nature": "End", "plain_data": "{}", "signed_data": "e30="}],
    },
    "total_cost": {"excl_vat": 4.4400, "incl_vat": 5.3724},
    "total_energy": 11.1000,
    "total_energy_cost": {"excl_vat": 4.44, "incl_vat": 5.3724},
    "total_time": 0.5,
    "total_time_cost": {"excl_vat": 0.00, "incl_vat": 0.00},
    "total_parking_time": 0.0,
    "remark": "merci",
    "invoice_reference_id": "I1",
    "home_charging_compensation": False,
    "last_updated": T,
}
PROFILE = {
    "start_date_time": T,
    "duration": 3600,
    "charging_rate_unit": "W",
    "min_charging_rate": 1380.0,
    "charging_profile_period": [{"start_period": 0, "limit": 11000.0}],
}

TAXES = [{"name": "VAT", "account_number": "NL1", "percentage": 21.0, "amount": 0.9324}]
PRICE_230 = {"before_taxes": 4.4400, "taxes": TAXES}
PARKING = {
    "id": "P1",
    "physical_reference": "A7",
    "vehicle_types": ["PERSONAL_VEHICLE"],
    "max_vehicle_height": 2.1,
    "direction": "PERPENDICULAR",
    "restricted_to_type": True,
    "reservation_required": False,
    "roofed": True,
    "lighting": True,
    "standards": ["ISO 17840"],
}
CONNECTOR_230 = CONNECTOR | {"standard": "MCS", "capabilities": ["ISO_15118_20_PLUG_AND_CHARGE"]}
EVSE_230 = EVSE | {
    "connectors": [CONNECTOR, CONNECTOR_230 | {"id": "2"}],
    "parking": [{"parking_id": "P1", "evse_position": "LEFT"}],
    "accepted_service_providers": ["MSP"],
}
LOCATION_230 = LOCATION | {"evses": [EVSE_230], "parking_places": [PARKING], "help_phone": "+31 800 1"}
TARIFF_230 = TARIFF | {
    "min_price": {"before_taxes": 0.50, "after_taxes": 0.605},
    "max_price": {"before_taxes": 100},
    "tax_included": "NO",
    "preauthorize_amount": 50,
}
SESSION_230 = SESSION | {"total_cost": PRICE_230, "cdr_token": CDR_TOKEN | {"type": "EMAID"}}
CDR_230 = CDR | {
    "tariffs": [TARIFF_230],
    "total_cost": PRICE_230,
    "total_energy_cost": {"before_taxes": 4.44, "taxes": []},
    "total_time_cost": {"before_taxes": 0.00},
    "booking_id": "B1",
}
TERMS = {
    "RFID_auth_required": True,
    "supported_access_methods": ["TOKEN", "ACCESS_CODE"],
    "change_until_minutes": 60,
    "cancel_until_minutes": 30,
    "noshow_fee": True,
    "booking_terms": "https://tnm.test/terms",
}
SLOT = {"start_from": T, "end_before": T, "min_power": 11, "max_power": 150.5, "green_energy_support": True}
OPTIONS = {"vehicle_types": ["VAN"], "format": "CABLE", "restricted_to_type": False, "evse_position": "RIGHT"}
REQUEST = OWNED | {
    "request_id": "R1",
    "location_id": "L1",
    "tokens": [CDR_TOKEN],
    "period": SLOT,
    "authorization_reference": "A1",
    "power_required": 50000,
    "canceled": {"cancellation_reason": "TRAFFIC", "who_canceled": "EMSP"},
}

LOCATION_211: dict[str, Any] = {
    key: value
    for key, value in LOCATION.items()
    if key not in {"country_code", "party_id", "publish", "state", "parking_type", "energy_mix"}
} | {
    "type": "PARKING_LOT",
    "evses": [
        EVSE
        | {
            "connectors": [
                {key: value for key, value in CONNECTOR.items() if not key.startswith(("max_", "tariff"))}
                | {"voltage": 230, "amperage": 32, "tariff_id": "T1"}
            ]
        }
    ],
}
TARIFF_211 = {
    "id": "T1",
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.40, "step_size": 1}]}],
    "last_updated": T,
}
PERIOD_211 = {key: value for key, value in PERIOD.items() if key != "tariff_id"}
CHARGE_211 = {"auth_id": "DE-MSP-C12345678-X", "auth_method": "WHITELIST", "location": LOCATION_211, "currency": "EUR"}
SESSION_211 = CHARGE_211 | {
    "id": "S1",
    "start_datetime": T,
    "kwh": 11.1000,
    "charging_periods": [PERIOD_211],
    "total_cost": 4.4400,
    "status": "ACTIVE",
    "last_updated": T,
}
CDR_211 = CHARGE_211 | {
    "id": "C1",
    "start_date_time": T,
    "stop_date_time": T,
    "tariffs": [TARIFF_211],
    "charging_periods": [PERIOD_211],
    "total_cost": 4.4400,
    "total_energy": 11.1000,
    "total_time": 0.5,
    "last_updated": T,
}
TOKEN_211 = {
    "uid": "012345",
    "type": "RFID",
    "auth_id": "DE-MSP-C12345678-X",
    "issuer": "MSP",
    "valid": True,
    "whitelist": "ALWAYS",
    "last_updated": T,
}

_WRITTEN: list[tuple[str, str, Any]] = [
    ("2.2.1", "Location", LOCATION),
    ("2.2.1", "EVSE", EVSE),
    ("2.2.1", "Connector", CONNECTOR),
    ("2.2.1", "Tariff", TARIFF),
    ("2.2.1", "Token", TOKEN),
    ("2.2.1", "Session", SESSION),
    ("2.2.1", "CDR", CDR),
    ("2.2.1", "AuthorizationInfo", {"allowed": "ALLOWED", "token": TOKEN, "location": {"location_id": "L1"}}),
    ("2.2.1", "StartSession", {"response_url": "https://msp.test/r", "token": TOKEN, "location_id": "L1"}),
    (
        "2.2.1",
        "ReserveNow",
        {"response_url": "https://msp.test/r", "token": TOKEN, "expiry_date": T}
        | {"reservation_id": "R1", "location_id": "L1"},
    ),
    ("2.2.1", "CommandResponse", {"result": "ACCEPTED", "timeout": 30}),
    ("2.2.1", "ChargingPreferences", {"profile_type": "GREEN", "departure_time": T, "energy_need": 20.50}),
    ("2.2.1", "SetChargingProfile", {"charging_profile": PROFILE, "response_url": "https://scsp.test/r"}),
    (
        "2.2.1",
        "ActiveChargingProfileResult",
        {"result": "ACCEPTED"} | {"profile": {"start_date_time": T, "charging_profile": PROFILE}},
    ),
    ("2.2.1", "ChargingProfileResponse", {"result": "TOO_OFTEN", "timeout": 30}),
    ("2.2.1", "ClientInfo", OWNED | {"role": "HUB", "status": "CONNECTED", "last_updated": T}),
    ("2.3.0", "Location", LOCATION_230),
    ("2.3.0", "EVSE", EVSE_230),
    ("2.3.0", "Tariff", TARIFF_230),
    ("2.3.0", "Session", SESSION_230),
    ("2.3.0", "CDR", CDR_230),
    ("2.3.0", "Token", TOKEN | {"type": "EMAID"}),
    (
        "2.3.0",
        "Credentials",
        {"token": "t", "url": "https://hub.test/versions", "hub_party_id": "NLHUB"}
        | {"roles": [OWNED | {"role": "CPO", "business_details": DETAILS}]},
    ),
    (
        "2.3.0",
        "InvoiceReconciliationRecord",
        OWNED | {"id": "I1", "invoice_id": "2026/7", "cdrs": ["C1"]} | {"last_updated": T},
    ),
    (
        "2.3.0",
        "Terminal",
        OWNED
        | {"terminal_id": "T1", "coordinates": PLACE, "invoice_creator": "PTP"}
        | {"location_ids": ["L1"], "last_updated": T},
    ),
    (
        "2.3.0",
        "FinancialAdviceConfirmation",
        {"id": "F1", "authorization_reference": "A1", "total_costs": PRICE_230}
        | {"currency": "EUR", "eft_data": ["VISA"], "capture_status_code": "SUCCESS", "last_updated": T},
    ),
    (
        "2.3.0",
        "BookingLocation",
        OWNED
        | {"id": "BL1", "location_id": "L1", "bookable_parking_options": [OPTIONS]}
        | {"bookable": {"reservation_required": True, "ad_hoc": 20}, "booking_terms": [TERMS], "last_updated": T}
        | {
            "calendars": [
                {"id": "K1", "begin_from": T, "end_before": T, "step_size": 15, "available_timeslots": [SLOT]}
                | {"last_updated": T}
            ]
        },
    ),
    (
        "2.3.0",
        "Booking",
        OWNED
        | {"id": "B1", "request_id": "R1", "location_id": "L1", "booking_tokens": [CDR_TOKEN]}
        | {"period": SLOT, "reservation_status": "RESERVED", "authorization_reference": "A1", "booking_terms": TERMS}
        | {"access_methods": [{"location_access": "ACCESS_CODE", "value": "1234"}], "last_updated": T}
        | {"booking_requests": [{"request_status": "ACCEPTED", "booking_request": REQUEST, "request_received": T}]},
    ),
    ("2.1.1", "Location", LOCATION_211),
    ("2.1.1", "Tariff", TARIFF_211),
    ("2.1.1", "Session", SESSION_211),
    ("2.1.1", "CDR", CDR_211),
    ("2.1.1", "Token", TOKEN_211),
    ("2.1.1", "Credentials", OWNED | {"token": "t", "url": "https://tnm.test/versions", "business_details": DETAILS}),
]

DOCUMENTS: list[tuple[str, str, bytes]] = [
    (version, name, msgspec.json.encode(document)) for version, name, document in _WRITTEN
]
