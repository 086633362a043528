"""Sample objects of both versions, small and complete: what the text requires and little else."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ocpi_check.wire import Party


def stamp(moment: datetime) -> str:
    """Return an OCPI DateTime in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def location(owner: Party, number: int, at: datetime) -> dict[str, Any]:
    """A place with one EVSE and one connector."""
    return {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "id": f"LOC{number}",
        "publish": True,
        "name": f"Check {number}",
        "address": f"Plein {number}",
        "city": "Utrecht",
        "postal_code": "3511 AA",
        "country": "NLD",
        "coordinates": {"latitude": "52.090737", "longitude": "5.121420"},
        "evses": [evse(owner, number, at)],
        "time_zone": "Europe/Amsterdam",
        "last_updated": stamp(at),
    }


def evse(owner: Party, number: int, at: datetime) -> dict[str, Any]:
    """The EVSE of `location(number)`."""
    return {
        "uid": f"EVSE{number}",
        "evse_id": f"{owner.country_code}*{owner.party_id}*E{number}",
        "status": "AVAILABLE",
        "capabilities": ["REMOTE_START_STOP_CAPABLE"],
        "connectors": [connector(at)],
        "last_updated": stamp(at),
    }


def connector(at: datetime) -> dict[str, Any]:
    """The connector of each EVSE."""
    return {
        "id": "1",
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "max_voltage": 230,
        "max_amperage": 32,
        "tariff_ids": ["TARIFF1"],
        "last_updated": stamp(at),
    }


def tariff(owner: Party, number: int, at: datetime, version: str) -> dict[str, Any]:
    """So much per kWh."""
    written: dict[str, Any] = {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "id": f"TARIFF{number}",
        "currency": "EUR",
        "elements": [
            {"price_components": [{"type": "ENERGY", "price": Decimal("0.30"), "vat": Decimal("21.0"), "step_size": 1}]}
        ],
        "last_updated": stamp(at),
    }
    return written if version == "2.2.1" else {**written, "tax_included": "NO"}


def token(owner: Party, uid: str, at: datetime, whitelist: str = "ALLOWED") -> dict[str, Any]:
    """A card of an MSP's driver."""
    return {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "uid": uid,
        "type": "RFID",
        "contract_id": f"{owner.country_code}-{owner.party_id}-C{uid}-0",
        "issuer": "Check",
        "valid": True,
        "whitelist": whitelist,
        "last_updated": stamp(at),
    }


def cdr_token(msp: Party, uid: str, at: datetime) -> dict[str, Any]:
    """The token as it stands in a session and a CDR."""
    whole = token(msp, uid, at)
    return {name: whole[name] for name in ("country_code", "party_id", "uid", "type", "contract_id")}


def price(version: str, net: str, gross: str) -> dict[str, Any]:
    """A sum of money."""
    if version == "2.2.1":
        return {"excl_vat": Decimal(net), "incl_vat": Decimal(gross)}
    return {"before_taxes": Decimal(net), "taxes": [{"name": "VAT", "amount": Decimal(gross) - Decimal(net)}]}


def _periods(at: datetime) -> list[dict[str, Any]]:
    return [{"start_date_time": stamp(at), "dimensions": [{"type": "ENERGY", "volume": Decimal("1.10")}]}]


def session(owner: Party, msp: Party, number: int, at: datetime, version: str) -> dict[str, Any]:
    """A session under way."""
    return {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "id": f"SESSION{number}",
        "start_date_time": stamp(at - timedelta(hours=1)),
        "kwh": Decimal("1.10"),
        "cdr_token": cdr_token(msp, "CARD1", at),
        "auth_method": "WHITELIST",
        "location_id": "LOC1",
        "evse_uid": "EVSE1",
        "connector_id": "1",
        "currency": "EUR",
        "charging_periods": _periods(at - timedelta(hours=1)),
        "total_cost": price(version, "0.33", "0.40"),
        "status": "ACTIVE",
        "last_updated": stamp(at),
    }


def cdr(owner: Party, msp: Party, cdr_id: str, at: datetime, version: str) -> dict[str, Any]:
    """What a charge cost."""
    return {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "id": cdr_id,
        "start_date_time": stamp(at - timedelta(hours=1)),
        "end_date_time": stamp(at),
        "session_id": "SESSION1",
        "cdr_token": cdr_token(msp, "CARD1", at),
        "auth_method": "WHITELIST",
        "cdr_location": {
            "id": "LOC1",
            "name": "Check 1",
            "address": "Plein 1",
            "city": "Utrecht",
            "postal_code": "3511 AA",
            "country": "NLD",
            "coordinates": {"latitude": "52.090737", "longitude": "5.121420"},
            "evse_uid": "EVSE1",
            "evse_id": f"{owner.country_code}*{owner.party_id}*E1",
            "connector_id": "1",
            "connector_standard": "IEC_62196_T2",
            "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        },
        "currency": "EUR",
        "tariffs": [tariff(owner, 1, at, version)],
        "charging_periods": _periods(at - timedelta(hours=1)),
        "total_cost": price(version, "0.33", "0.40"),
        "total_energy": Decimal("1.10"),
        "total_time": Decimal("1.0"),
        "last_updated": stamp(at),
    }


def credit_of(original: dict[str, Any], at: datetime, version: str) -> dict[str, Any]:
    """The credit CDR: the original's data, `total_cost` negated (mod_cdrs, credit CDRs)."""
    return {
        **original,
        "id": f"{original['id']}-C",
        "credit": True,
        "credit_reference_id": original["id"],
        "total_cost": price(version, "-0.33", "-0.40"),
        "last_updated": stamp(at),
    }


def reconciliation(owner: Party, record_id: str, at: datetime) -> dict[str, Any]:
    """Which CDRs an invoice is about (2.3.0)."""
    return {
        "country_code": owner.country_code,
        "party_id": owner.party_id,
        "id": record_id,
        "invoice_id": f"INV-{record_id}",
        "cdrs": ["CDR1"],
        "last_updated": stamp(at),
    }
