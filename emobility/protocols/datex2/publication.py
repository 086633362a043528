"""Write locations as DATEX II publications: the table of what stands where, and the status of what it does now.

Element names and their order are those of the XML schemas of DATEX II 3.5 (EnergyInfrastructure, Facilities,
LocationReferencing). OCPI knows no stations, so a location is a site with one station, and an EVSE is a charging point
of it. `version` of an object is a digest of what stands still of it, so a status names the very table it belongs to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final
from xml.etree.ElementTree import Element, QName, SubElement, register_namespace, tostring

import msgspec

from emobility.domain.charging_station import EVSEStatus
from emobility.domain.countries import ALPHA_2
from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.tariff import TariffDimension
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.place_facts import EnergyMix, Hours

NAMESPACES: Final = {
    "d2": "http://datex2.eu/schema/3/d2Payload",
    "com": "http://datex2.eu/schema/3/common",
    "egi": "http://datex2.eu/schema/3/energyInfrastructure",
    "fac": "http://datex2.eu/schema/3/facilities",
    "loc": "http://datex2.eu/schema/3/locationReferencing",
    "locx": "http://datex2.eu/schema/3/locationExtension",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
VERSION_CHARACTERS: Final = 12
CENT: Final = Decimal("0.01")
"""AmountOfMoney has two decimals; what doesn't fit is written out beside it."""
MINUTES_PER_HOUR: Final = 60

STATUS: Final = {
    EVSEStatus.AVAILABLE: ("available", "inOperation"),
    EVSEStatus.BLOCKED: ("blocked", "inOperation"),
    EVSEStatus.CHARGING: ("charging", "inOperation"),
    EVSEStatus.INOPERATIVE: ("inoperative", "notInOperation"),
    EVSEStatus.OUTOFORDER: ("outOfOrder", "technicalDefect"),
    EVSEStatus.PLANNED: ("planned", "notInOperation"),
    EVSEStatus.REMOVED: ("removed", "notInOperation"),
    EVSEStatus.RESERVED: ("reserved", "inOperation"),
    EVSEStatus.UNKNOWN: ("unknown", "unknown"),
}
"""RefillPointStatusEnum and OperationStatusEnum of each status."""
_CONNECTORS: Final = {
    "CHADEMO": "chademo",
    "IEC_62196_T1": "iec62196T1",
    "IEC_62196_T1_COMBO": "iec62196T1COMBO",
    "IEC_62196_T2": "iec62196T2",
    "IEC_62196_T2_COMBO": "iec62196T2COMBO",
    "IEC_62196_T3A": "iec62196T3A",
    "IEC_62196_T3C": "iec62196T3C",
    "IEC_60309_2_single_16": "iec60309x2single16",
    "IEC_60309_2_three_16": "iec60309x2three16",
    "IEC_60309_2_three_32": "iec60309x2three32",
    "IEC_60309_2_three_64": "iec60309x2three64",
    "MCS": "mcs",
    "PANTOGRAPH_BOTTOM_UP": "pantographBottomUp",
    "PANTOGRAPH_TOP_DOWN": "pantographTopDown",
    "TESLA_R": "teslaR",
    "TESLA_S": "teslaS",
    **{f"DOMESTIC_{letter}": f"domestic{letter}" for letter in "ABCDEFGHIJKLMNO"},
}
_AUTHENTICATION: Final = {
    "RFID_READER": "rfid",
    "REMOTE_START_STOP_CAPABLE": "apps",
    "CREDIT_CARD_PAYABLE": "creditCard",
    "DEBIT_CARD_PAYABLE": "debitCard",
    "CONTACTLESS_CARD_SUPPORT": "nfc",
    "PED_TERMINAL": "pinpad",
    "PLUG_AND_CHARGE_CAPABLE": "plc",
}
_PAYMENT: Final = {
    "CREDIT_CARD_PAYABLE": "paymentCreditCard",
    "DEBIT_CARD_PAYABLE": "paymentDebitCard",
    "CONTACTLESS_CARD_SUPPORT": "nfc",
    "CHIP_CARD_SUPPORT": "emv",
}
_SITE_TYPES: Final = {"PARKING_GARAGE": "inBuilding", "UNDERGROUND_GARAGE": "inBuilding", "PARKING_LOT": "openSpace"}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

for _prefix, _uri in NAMESPACES.items():
    register_namespace(_prefix, _uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocPrice:
    """What one unit costs a passer-by; `price` net, per kWh, hour or session; `vat_percent` None: no tax is stated."""

    dimension: TariffDimension
    price: Decimal
    vat_percent: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocRate:
    """The ad hoc tariff of an EVSE and the prices that hold now."""

    tariff_id: str
    currency: str
    last_updated: datetime
    prices: tuple[AdHocPrice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSite:
    """A location that may be shown, and the rate at each EVSE that has one, by uid."""

    location: v221.Location
    rates: Mapping[str, AdHocRate]


def table_publication(sites: Sequence[PublicSite], *, creator: PartyId, now: datetime) -> bytes:
    """Return an EnergyInfrastructureTablePublication as XML: where one can charge, how, and at what price."""
    root = _publication("EnergyInfrastructureTablePublication", creator, now)
    if sites:
        # The table may not be empty, and so is left out when there are no sites.
        table = _add(root, "egi:energyInfrastructureTable", id=creator.code, version=_version(map(_static, sites)))
        for site in sites:
            _add_site(table, site)
    return _written(root)


def status_publication(sites: Sequence[PublicSite], *, creator: PartyId, now: datetime) -> bytes:
    """Return an EnergyInfrastructureStatusPublication as XML: which points work, which are free, at what price."""
    root = _publication("EnergyInfrastructureStatusPublication", creator, now)
    for site in sites:
        _add_site_status(root, site)
    return _written(root)


def _publication(kind: str, creator: PartyId, now: datetime) -> Element:
    root = Element(_name("d2:payload"), {"lang": "en", "modelBaseVersion": "3"})
    root.set(_name("xsi:type"), QName(NAMESPACES["egi"], kind))  # type: ignore[arg-type]
    _add(root, "com:publicationTime", _moment(now))
    made_by = _add(root, "com:publicationCreator")
    _add(made_by, "com:country", creator.country_code.lower())
    _add(made_by, "com:nationalIdentifier", creator.code)
    header = _add(root, "egi:headerInformation")
    _add(header, "com:informationStatus", "real")
    return root


# The table


def _add_site(table: Element, site: PublicSite) -> None:
    location = site.location
    version = _version([_static(site)])
    made = _add(table, "egi:energyInfrastructureSite", id=_site_id(location), version=version)
    _add_words(made, "fac:name", location.name or location.address)
    _add(made, "fac:lastUpdated", _moment(location.last_updated))
    if any("DISABLED" in evse.parking_restrictions for evse in points_of(location)):
        _add(made, "fac:accessibility", "disabilityAccessible")
    for words in location.directions:
        _add_words(made, "fac:additionalInformation", words.text, language=words.language)
    _add_hours(made, location, version)
    _add_place(made, location)
    _add_operator(made, location)
    _add(made, "egi:typeOfSite", _SITE_TYPES.get(location.parking_type or "", "other"))
    _add_station(made, site, version)


def _add_hours(site: Element, location: v221.Location, version: str) -> None:
    hours = Hours.of(location.opening_times)
    if hours is None:
        return
    if hours.twentyfourseven:
        _add(site, "fac:operatingHours", kind="fac:OpenAllHours")
        return
    made = _add(
        *(site, "fac:operatingHours"),
        kind="fac:OperatingHoursSpecification",
        id=f"{_site_id(location)}/hours",
        version=version,
    )
    period = _add(made, "fac:overallPeriod")
    _add(period, "com:overallStartTime", _moment(location.last_updated))
    for regular in hours.regular_hours:
        valid = _add(period, "com:validPeriod")
        day = _add(valid, "com:recurringTimePeriodOfDay")
        _add(day, "com:startTimeOfPeriod", f"{regular.period_begin}:00")
        _add(day, "com:endTimeOfPeriod", f"{regular.period_end}:00")
        _add(_add(valid, "com:recurringDayWeekMonthPeriod"), "com:applicableDay", _DAYS[regular.weekday - 1])


def _add_place(site: Element, location: v221.Location) -> None:
    made = _add(site, "fac:locationReference", kind="loc:PointLocation")
    facility = _add(made, "loc:facilityLocation")
    address = _add(facility, "locx:address")
    if location.postal_code:
        _add(address, "locx:postcode", location.postal_code)
    _add_words(address, "locx:city", location.city)
    country = ALPHA_2.get(location.country.upper())
    if country is not None:
        _add(address, "locx:countryCode", country.lower())
    line = _add(address, "locx:addressLine", order="1")
    _add(line, "locx:type", "generalTextLine")
    _add_words(line, "locx:text", location.address)
    point = _add(_add(made, "loc:pointByCoordinates"), "loc:pointCoordinates")
    _add(point, "loc:latitude", location.coordinates.latitude)
    _add(point, "loc:longitude", location.coordinates.longitude)


def _add_operator(site: Element, location: v221.Location) -> None:
    made = _add(site, "fac:operator", kind="fac:OrganisationSpecification", id=location.owner.code, version="1")
    _add_words(made, "fac:name", location.operator.name if location.operator else location.owner.code)
    if location.operator and location.operator.website:
        _add(made, "fac:linkToGeneralInformation", location.operator.website)
    if location.wattroam_help_phone:
        desk = _add(
            site, "fac:helpdesk", kind="fac:OrganisationSpecification", id=f"{location.owner.code}/help", version="1"
        )
        _add_words(desk, "fac:name", location.operator.name if location.operator else location.owner.code)
        contact = _add(_add(desk, "fac:organisationUnit"), "fac:contactInformation")
        _add(contact, "fac:telephoneNumber", location.wattroam_help_phone)


def _add_station(site: Element, shown: PublicSite, version: str) -> None:
    location = shown.location
    made = _add(site, "egi:energyInfrastructureStation", id=_station_id(location), version=version)
    evses = points_of(location)
    total = sum(max(power_w(connector) for connector in evse.connectors) for evse in evses)
    _add(made, "egi:totalMaximumPower", str(total))
    capabilities = [capability for evse in evses for capability in evse.capabilities]
    for method in _mapped(_AUTHENTICATION, capabilities):
        _add(made, "egi:authenticationAndIdentificationMethods", method)
    _add(made, "egi:numberOfRefillPoints", str(len(evses)))
    for evse in evses:
        _add_point(made, shown, evse, version)


def _add_point(station: Element, shown: PublicSite, evse: v221.EVSE, version: str) -> None:
    made = _add(
        *(station, "egi:refillPoint"),
        kind="egi:ElectricChargingPoint",
        id=_point_id(shown.location, evse),
        version=version,
    )
    if evse.evse_id:
        _add(made, "fac:externalIdentifier", evse.evse_id)
    _add(made, "fac:lastUpdated", _moment(evse.last_updated))
    if evse.physical_reference:
        _add_words(made, "fac:additionalInformation", evse.physical_reference)
    _add(made, "egi:deliveryUnit", "kWh")
    _add(made, "egi:numberOfConnectors", str(len(evse.connectors)))
    for voltage in sorted({connector.max_voltage for connector in evse.connectors}):
        _add(made, "egi:availableVoltage", str(voltage))
    for power in sorted({power_w(connector) for connector in evse.connectors}):
        _add(made, "egi:availableChargingPower", str(power))
    for connector in evse.connectors:
        _add_connector(made, connector)
    _add_energy(made, shown, evse)


def _add_connector(point: Element, connector: v221.Connector) -> None:
    made = _add(point, "egi:connector")
    _add(made, "egi:connectorType", _CONNECTORS.get(connector.standard, "other"))
    if connector.standard not in _CONNECTORS:
        _add(made, "egi:otherConnector", connector.standard)
    is_dc = connector.power_type == "DC"
    if is_dc or connector.power_type == "AC_3_PHASE":
        # ChargingModeEnum has no mode 3 with one phase.
        _add(made, "egi:chargingMode", "mode4DC" if is_dc else "mode3AC3p")
    fixed = "otherCable" if is_dc else "cableMode3"
    _add(*(made, "egi:connectorFormat"), "socket" if connector.format is v221.ConnectorFormat.SOCKET else fixed)
    _add(made, "egi:maxPowerAtSocket", str(power_w(connector)))
    _add(made, "egi:voltage", str(connector.max_voltage))
    _add(made, "egi:maximumCurrent", str(connector.max_amperage))


def _add_energy(point: Element, shown: PublicSite, evse: v221.EVSE) -> None:
    mix, rate = EnergyMix.of(shown.location.energy_mix), shown.rates.get(evse.uid)
    if mix is None and rate is None:
        return
    made = _add(point, "egi:electricEnergy")
    if mix is not None:
        _add(made, "egi:isGreenEnergy", str(mix.is_green_energy).lower())
    if rate is None:
        return
    priced = _add(made, "egi:energyRate", id=_rate_id(shown.location, evse, rate))
    _add(priced, "egi:ratePolicy", "adHoc")
    _add(priced, "egi:lastUpdated", _moment(rate.last_updated))
    _add(priced, "egi:applicableCurrency", rate.currency)
    means = _mapped(_PAYMENT, evse.capabilities)
    if means:
        payment = _add(priced, "egi:paymentMethod")
        for each in means:
            _add(payment, "fac:paymentMeans", each)
    _add_prices(priced, rate)


# The status


def _add_site_status(root: Element, site: PublicSite) -> None:
    location, version = site.location, _version([_static(site)])
    made = _add(root, "egi:energyInfrastructureSiteStatus")
    _add_reference(made, _site_id(location), version)
    station = _add(made, "egi:energyInfrastructureStationStatus")
    _add_reference(station, _station_id(location), version)
    evses = points_of(location)
    free = any(evse.status is EVSEStatus.AVAILABLE for evse in evses)
    _add(station, "egi:isAvailable", str(free).lower())
    for evse in evses:
        point = _add(station, "egi:refillPointStatus", kind="egi:ElectricChargingPointStatus")
        _add_reference(point, _point_id(location, evse), version)
        _add(point, "fac:lastUpdated", _moment(evse.last_updated))
        status, operation = STATUS[evse.status]
        _add(point, "fac:operationStatus", operation)
        _add(point, "egi:status", status)
        rate = site.rates.get(evse.uid)
        if rate is not None:
            update = _add(point, "egi:energyRateUpdate")
            _add(update, "egi:lastUpdated", _moment(rate.last_updated))
            _add(update, "egi:energyRateReference", id=_rate_id(location, evse, rate), targetClass="egi:EnergyRate")
            _add_prices(update, rate)


def _add_reference(parent: Element, object_id: str, version: str) -> None:
    _add(parent, "fac:reference", id=object_id, version=version, targetClass="fac:FacilityObject")


def _add_prices(parent: Element, rate: AdHocRate) -> None:
    if not rate.prices:
        free = _add(parent, "egi:energyPrice")
        _add(free, "egi:priceType", "free")
        _add(free, "egi:value", "0.00")
    for each in rate.prices:
        kind, per, words = {
            TariffDimension.ENERGY: ("pricePerKWh", 1, "per kWh"),
            TariffDimension.TIME: ("pricePerMinute", MINUTES_PER_HOUR, "per minute of charging"),
            TariffDimension.PARKING_TIME: ("other", MINUTES_PER_HOUR, "per minute of parking"),
            TariffDimension.FLAT: ("basePrice", 1, "per session"),
        }[each.dimension]
        gross = each.price * (100 + (each.vat_percent or 0)) / 100 / per
        shown = gross.quantize(CENT, rounding=ROUND_HALF_UP)
        made = _add(parent, "egi:energyPrice")
        _add(made, "egi:priceType", kind)
        _add(made, "egi:value", str(shown))
        _add(made, "egi:taxIncluded", str(each.vat_percent is not None).lower())
        if each.vat_percent is not None:
            _add(made, "egi:taxRate", f"{each.vat_percent.normalize():f}")
        if kind == "other" or shown != gross:
            exact = gross.quantize(Decimal("0.000001")).normalize()
            _add_words(made, "egi:additionalInformation", f"{exact:f} {rate.currency} {words}")


# Parts


def points_of(location: v221.Location) -> list[v221.EVSE]:
    """Return the EVSEs that stand there."""
    return [evse for evse in location.evses if evse.status is not EVSEStatus.REMOVED]


def power_w(connector: v221.Connector) -> int:
    """Return a connector's power: stated, else voltage times current times phases (OCPI 2.2.1, 8.3.3)."""
    phases = 3 if connector.power_type == "AC_3_PHASE" else 1
    return connector.max_electric_power or connector.max_voltage * connector.max_amperage * phases


def _site_id(location: v221.Location) -> str:
    return f"{location.owner.code}/{location.id}"


def _station_id(location: v221.Location) -> str:
    return f"{_site_id(location)}/station"


def _point_id(location: v221.Location, evse: v221.EVSE) -> str:
    return f"{_site_id(location)}/{evse.uid}"


def _rate_id(location: v221.Location, evse: v221.EVSE, rate: AdHocRate) -> str:
    return f"{_point_id(location, evse)}/{rate.tariff_id}"


def _static(site: PublicSite) -> bytes:
    """Return what of a site stands still: no status, no price, no moment."""
    replace = msgspec.structs.replace
    evses = [
        replace(
            evse,
            status=EVSEStatus.UNKNOWN,
            last_updated=_NEVER,
            connectors=[replace(connector, last_updated=_NEVER, tariff_ids=[]) for connector in evse.connectors],
        )
        for evse in points_of(site.location)
    ]
    rates = sorted((uid, rate.tariff_id, rate.currency) for uid, rate in site.rates.items())
    return v221.write([replace(site.location, evses=evses, last_updated=_NEVER), rates])


_NEVER: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _version(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:VERSION_CHARACTERS]


def _mapped(words: Mapping[str, str], given: Iterable[str]) -> list[str]:
    return sorted({words[each] for each in given if each in words})


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _name(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def _add(parent: Element, name: str, text: str | None = None, *, kind: str | None = None, **attributes: str) -> Element:
    made = SubElement(parent, _name(name), {key: _clean(value) for key, value in attributes.items()})
    if kind is not None:
        prefix, _, local = kind.partition(":")
        typed: Any = QName(NAMESPACES[prefix], local)
        made.set(_name("xsi:type"), typed)
    if text is not None:
        made.text = _clean(text)
    return made


def _add_words(parent: Element, name: str, text: str, *, language: str = "en") -> None:
    values = _add(_add(parent, name), "com:values")
    _add(values, "com:value", text, lang=language)


def _clean(text: str) -> str:
    """XML 1.0, 2.2: control characters can't be written, not even escaped."""
    return _NOT_XML.sub("", text)


def _written(root: Element) -> bytes:
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written
