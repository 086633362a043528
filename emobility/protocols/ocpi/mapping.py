"""Between the domain's records and OCPI's objects: exact both ways, personal fields opened going out, sealed coming in.

What the other side must agree on is kept to the last digit: prices, register energy in Wh, seconds, signed records.
An EVSE goes out without its number at the station and without the station's OCPP identity.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from emobility.domain.cdr import CDR, CDRLocation, SignedMeterData
from emobility.domain.charging_station import EVSE, Connector, EVSEStatus, Location, PowerType
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.location_facts import NOTHING_STATED, LocationFacts
from emobility.domain.money import Price, decimal_from_e4, e4_from_decimal
from emobility.domain.quantities import kwh
from emobility.domain.session import ChargingPeriod, Session, SessionToken
from emobility.domain.tariff.selection import only_reserves, states_rate
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffElement, TariffRestrictions, TaxIncluded
from emobility.domain.tariff.taxes import TaxAmount
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import Token
from emobility.ports.vault import Vault
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.facts_mapping import facts_to_ocpi
from emobility.protocols.ocpi.v221 import CdrDimension, CdrDimensionType, ConnectorFormat

HOUR_S: Final = 3600
COORDINATE_DECIMALS_MIN: Final = 5
COORDINATE_DECIMALS_MAX: Final = 6
"""11 cm. The text allows seven decimals, but then -10.0000001 exceeds its own limit of ten characters."""
_ONE: Final = Decimal(1)
_FOUR_DECIMALS: Final = Decimal("0.0001")


class NotInOurWords(MalformedInput):
    """An OCPI object, right by the text, says something the domain has no word for."""


class NotInTheirWords(RuleBroken):
    """Something of ours can't be said in the version of OCPI that the other side speaks."""


# Numbers


def wh_of(energy_kwh: Decimal) -> int:
    """Round kWh to whole Wh, half to even."""
    return int((energy_kwh * 1000).quantize(_ONE, rounding=ROUND_HALF_EVEN))


def hours(duration_s: int) -> Decimal:
    """Return seconds as hours with four decimals; at most 0.18 s off, so `seconds_of` finds the whole second again."""
    return (Decimal(duration_s) / HOUR_S).quantize(_FOUR_DECIMALS)


def seconds_of(duration_h: Decimal) -> int:
    """Return hours as whole seconds."""
    return int((duration_h * HOUR_S).quantize(_ONE, rounding=ROUND_HALF_EVEN))


def price_to_ocpi(price: Price) -> v221.Price:
    """Return an amount in currency units."""
    return v221.Price(
        excl_vat=decimal_from_e4(price.excl_e4),
        incl_vat=None if price.incl_e4 is None else decimal_from_e4(price.incl_e4),
    )


def price_from_ocpi(price: v221.Price) -> Price:
    """Return an amount in ten-thousandths, rounded half away from zero."""
    return Price(
        excl_e4=e4_from_decimal(price.excl_vat),
        incl_e4=None if price.incl_vat is None else e4_from_decimal(price.incl_vat),
    )


def _maybe_price_to_ocpi(price: Price | None) -> v221.Price | None:
    return None if price is None else price_to_ocpi(price)


def _maybe_price_from_ocpi(price: v221.Price | None) -> Price | None:
    return None if price is None else price_from_ocpi(price)


# Locations


CAPABILITIES: Final = ("REMOTE_START_STOP_CAPABLE", "RFID_READER")
"""What every EVSE of ours can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedEVSE:
    """An EVSE as partners may see it."""

    evse_uid: str
    emi3_id: str
    status: EVSEStatus
    connectors: tuple[Connector, ...]
    tariff_ids: tuple[str, ...]
    last_updated: datetime
    capabilities: tuple[str, ...] = CAPABILITIES
    parking_restrictions: tuple[str, ...] = ()


def published(
    evse: EVSE,
    *,
    status: EVSEStatus,
    tariff_ids: Sequence[str],
    last_updated: datetime,
    facts: LocationFacts = NOTHING_STATED,
) -> PublishedEVSE:
    """Return what partners may see of an EVSE. `tariff_ids`: only those the receiver may know."""
    return PublishedEVSE(
        evse_uid=evse.evse_uid,
        emi3_id=evse.emi3_id,
        status=status,
        connectors=evse.connectors,
        tariff_ids=tuple(tariff_ids),
        last_updated=last_updated,
        capabilities=tuple(dict.fromkeys((*CAPABILITIES, *facts.capabilities))),
        parking_restrictions=facts.parking_restrictions,
    )


def connector_format(standard: str, power_type: PowerType) -> ConnectorFormat:
    """Tell whether the cable is the station's: always with DC, CHAdeMO and type 1; AC type 2 has a socket."""
    fixed = power_type is PowerType.DC or standard.endswith("COMBO") or standard in {"CHADEMO", "IEC_62196_T1"}
    return ConnectorFormat.CABLE if fixed else ConnectorFormat.SOCKET


def location_to_ocpi(location: Location, evses: Sequence[PublishedEVSE]) -> v221.Location:
    """Return a location with its EVSEs; `last_updated` is the latest of all (8.3.1)."""
    return v221.Location(
        country_code=location.party_id.country_code,
        party_id=location.party_id.party_id,
        id=location.location_id,
        name=location.name,
        address=location.address,
        city=location.city,
        postal_code=location.postal_code,
        country=location.country,
        coordinates=_geo(location.latitude, location.longitude),
        evses=[evse_to_ocpi(evse) for evse in evses],
        time_zone=location.time_zone,
        last_updated=max([location.last_updated, *(evse.last_updated for evse in evses)]),
        **facts_to_ocpi(location.facts),
    )


def evse_to_ocpi(evse: PublishedEVSE) -> v221.EVSE:
    """Return an EVSE."""
    return v221.EVSE(
        uid=evse.evse_uid,
        evse_id=evse.emi3_id,
        status=evse.status,
        capabilities=list(evse.capabilities),
        parking_restrictions=list(evse.parking_restrictions),
        connectors=[_connector_to_ocpi(connector, evse) for connector in evse.connectors],
        last_updated=evse.last_updated,
    )


def _connector_to_ocpi(connector: Connector, evse: PublishedEVSE) -> v221.Connector:
    return v221.Connector(
        id=str(connector.connector_id),
        standard=connector.standard,
        format=connector_format(connector.standard, connector.power_type),
        power_type=connector.power_type.value,
        max_voltage=connector.voltage_v_max,
        max_amperage=connector.current_a_max,
        max_electric_power=connector.power_w_max,
        tariff_ids=list(evse.tariff_ids),
        last_updated=evse.last_updated,
    )


def location_from_ocpi(location: v221.Location) -> tuple[Location, tuple[PublishedEVSE, ...]]:
    """Return a location and what its owner published of its EVSEs. Raises `NotInOurWords`."""
    ours = Location(
        party_id=location.owner,
        location_id=location.id,
        name=location.name or location.address,
        address=location.address,
        city=location.city,
        postal_code=location.postal_code or "",
        country=location.country,
        latitude=Decimal(location.coordinates.latitude),
        longitude=Decimal(location.coordinates.longitude),
        time_zone=location.time_zone,
        last_updated=location.last_updated,
    )
    return ours, tuple(evse_from_ocpi(evse) for evse in location.evses)


def evse_from_ocpi(evse: v221.EVSE) -> PublishedEVSE:
    """Return an EVSE. Raises `NotInOurWords`."""
    tariff_ids = dict.fromkeys(tariff_id for connector in evse.connectors for tariff_id in connector.tariff_ids)
    return PublishedEVSE(
        evse_uid=evse.uid,
        emi3_id=evse.evse_id or "",
        status=evse.status,
        connectors=tuple(_connector_from_ocpi(connector) for connector in evse.connectors),
        tariff_ids=tuple(tariff_ids),
        last_updated=evse.last_updated,
        capabilities=tuple(evse.capabilities),
    )


def _connector_from_ocpi(connector: v221.Connector) -> Connector:
    power_type = _power_type(connector.power_type)
    return Connector(
        connector_id=_connector_id(connector.id),
        standard=connector.standard,
        power_type=power_type,
        voltage_v_max=connector.max_voltage,
        current_a_max=connector.max_amperage,
        power_w_max=connector.max_electric_power or _power_w(connector, power_type),
    )


def _power_w(connector: v221.Connector, power_type: PowerType) -> int:
    """8.3.3: without `max_electric_power` the product of voltage, current and phases stands."""
    phases = 3 if power_type is PowerType.AC_3_PHASE else 1
    return connector.max_voltage * connector.max_amperage * phases


def _power_type(text: str) -> PowerType:
    if text in {"AC_2_PHASE", "AC_2_PHASE_SPLIT"}:
        return PowerType.AC_1_PHASE
    try:
        return PowerType(text)
    except ValueError as error:
        raise NotInOurWords(f"power type {text}") from error


def _connector_id(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise NotInOurWords(f"connector id {text}: ours are numbers")
    return int(text)


def _geo(latitude: Decimal, longitude: Decimal) -> v221.GeoLocation:
    return v221.GeoLocation(latitude=_coordinate(latitude), longitude=_coordinate(longitude))


def _coordinate(value: Decimal) -> str:
    """Write with at least five and at most six decimals (8.4.13)."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    decimals = min(max(-exponent, COORDINATE_DECIMALS_MIN), COORDINATE_DECIMALS_MAX)
    return f"{value:.{decimals}f}"


# Tariffs


def tariff_to_ocpi(tariff: Tariff) -> v221.Tariff:
    """Return a tariff; its hash survives.

    Raises:
        NotInTheirWords: its prices include tax; those of 2.2.1 never do, and taking it out would change them.
    """
    if tariff.tax_included is TaxIncluded.YES:
        raise NotInTheirWords(f"the prices of tariff {tariff.tariff_id} include tax, which 2.2.1 can't say")
    return v221.Tariff(
        country_code=tariff.party_id.country_code,
        party_id=tariff.party_id.party_id,
        id=tariff.tariff_id,
        currency=tariff.currency,
        type=tariff.tariff_type,
        tariff_alt_text=[v221.DisplayText(language="en", text=tariff.text_en)] if tariff.text_en else [],
        min_price=_maybe_price_to_ocpi(tariff.price_min),
        max_price=_maybe_price_to_ocpi(tariff.price_max),
        elements=[element_to_ocpi(tariff, element) for element in tariff.elements],
        start_date_time=tariff.valid_from,
        end_date_time=tariff.valid_until,
        last_updated=tariff.last_updated,
    )


def element_to_ocpi(tariff: Tariff, element: TariffElement) -> v221.TariffElement:
    """Return an element, which every version since 2.2.1 writes alike."""
    restrictions = _restrictions_to_ocpi(element.restrictions)
    return v221.TariffElement(
        price_components=[
            v221.PriceComponent(
                type=component.dimension,
                price=component.price,
                vat=component.vat_percent if states_rate(tariff, component) else None,
                step_size=component.step_size,
            )
            for component in element.components
        ],
        restrictions=None if restrictions == v221.TariffRestrictions() else restrictions,
    )


def _restrictions_to_ocpi(given: TariffRestrictions) -> v221.TariffRestrictions:
    return v221.TariffRestrictions(
        start_time=_minute(given.start_time),
        end_time=_minute(given.end_time),
        start_date=None if given.start_date is None else given.start_date.isoformat(),
        end_date=None if given.end_date is None else given.end_date.isoformat(),
        min_kwh=_thousandths(given.energy_wh_min),
        max_kwh=_thousandths(given.energy_wh_max),
        min_current=given.current_a_min,
        max_current=given.current_a_max,
        min_power=_thousandths(given.power_w_min),
        max_power=_thousandths(given.power_w_max),
        min_duration=given.duration_s_min,
        max_duration=given.duration_s_max,
        day_of_week=list(given.days_of_week),
        reservation=given.reservation,
    )


def _minute(given: time | None) -> str | None:
    if given is None:
        return None
    if given.second or given.microsecond:
        raise AssertionError(f"OCPI's times of day are whole minutes, not {given}")
    return f"{given:%H:%M}"


def _thousandths(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value).scaleb(-3)


def tariff_from_ocpi(tariff: v221.Tariff) -> Tariff:
    """Return a tariff; its hash survives."""
    english = next((text.text for text in tariff.tariff_alt_text if text.language.lower() == "en"), None)
    return Tariff(
        party_id=tariff.owner,
        tariff_id=tariff.id,
        currency=tariff.currency,
        elements=tuple(element_from_ocpi(element) for element in tariff.elements),
        last_updated=tariff.last_updated,
        tariff_type=tariff.type,
        price_min=_maybe_price_from_ocpi(tariff.min_price),
        price_max=_maybe_price_from_ocpi(tariff.max_price),
        valid_from=tariff.start_date_time,
        valid_until=tariff.end_date_time,
        text_en=english,
    )


def element_from_ocpi(element: v221.TariffElement) -> TariffElement:
    """Return an element. Raises `NotInOurWords`."""
    return TariffElement(
        components=tuple(
            PriceComponent(
                dimension=component.type,
                price=component.price,
                step_size=component.step_size,
                vat_percent=component.vat,
            )
            for component in element.price_components
        ),
        restrictions=_restrictions_from_ocpi(element.restrictions or v221.TariffRestrictions()),
    )


def _restrictions_from_ocpi(given: v221.TariffRestrictions) -> TariffRestrictions:
    try:
        dates = [None if text is None else date.fromisoformat(text) for text in (given.start_date, given.end_date)]
    except ValueError as error:
        raise NotInOurWords(f"a restriction's date: {error}") from error
    return TariffRestrictions(
        start_time=None if given.start_time is None else time.fromisoformat(given.start_time),
        end_time=None if given.end_time is None else time.fromisoformat(given.end_time),
        start_date=dates[0],
        end_date=dates[1],
        energy_wh_min=None if given.min_kwh is None else wh_of(given.min_kwh),
        energy_wh_max=None if given.max_kwh is None else wh_of(given.max_kwh),
        current_a_min=given.min_current,
        current_a_max=given.max_current,
        power_w_min=None if given.min_power is None else wh_of(given.min_power),
        power_w_max=None if given.max_power is None else wh_of(given.max_power),
        duration_s_min=given.min_duration,
        duration_s_max=given.max_duration,
        days_of_week=tuple(given.day_of_week),
        reservation=given.reservation,
    )


# Tokens


async def token_to_ocpi(token: Token, vault: Vault) -> v221.Token:
    """Return a token with its personal fields open. Raises `SubjectErased`."""
    return v221.Token(
        country_code=token.emsp_id.country_code,
        party_id=token.emsp_id.party_id,
        uid=await vault.open(token.uid),
        type=token.token_type,
        contract_id=await vault.open(token.contract_id),
        issuer=token.issuer,
        valid=token.is_valid,
        whitelist=token.whitelist,
        group_id=None if token.group_id is None else await vault.open(token.group_id),
        last_updated=token.last_updated,
    )


async def token_from_ocpi(token: v221.Token, vault: Vault) -> Token:
    """Return a token, sealed. Raises `SubjectErased`."""
    return Token(
        emsp_id=token.owner,
        uid=await vault.seal(token.uid),
        contract_id=await vault.seal(token.contract_id),
        token_type=token.type,
        issuer=token.issuer,
        is_valid=token.valid,
        whitelist=token.whitelist,
        last_updated=token.last_updated,
        # Under the key of the token: the group of an erased driver is erased with them.
        group_id=None if token.group_id is None else await vault.seal(token.group_id, identifier=token.uid),
    )


async def session_token_to_ocpi(token: SessionToken, vault: Vault) -> v221.CdrToken:
    """Return the token of a session or CDR, open. Raises `SubjectErased`."""
    return v221.CdrToken(
        country_code=token.emsp_id.country_code,
        party_id=token.emsp_id.party_id,
        uid=await vault.open(token.uid),
        type=token.token_type,
        contract_id=await vault.open(token.contract_id),
    )


async def session_token_from_ocpi(token: v221.CdrToken, vault: Vault) -> SessionToken:
    """Return the token of a session or CDR, sealed. Raises `SubjectErased`."""
    return SessionToken(
        emsp_id=token.owner,
        uid=await vault.seal(token.uid),
        token_type=token.type,
        contract_id=await vault.seal(token.contract_id),
    )


# Sessions and CDRs


def period_to_ocpi(period: ChargingPeriod) -> v221.ChargingPeriod:
    """Return a charging period. ENERGY is net (10.4.2); what was fed in stands beside it as ENERGY_EXPORT."""
    kind = CdrDimensionType
    volumes: list[tuple[CdrDimensionType, Decimal | None]] = [
        (kind.ENERGY, _net_kwh(period)),
        (kind.ENERGY_EXPORT, kwh(period.energy_export_wh) if period.energy_export_wh else None),
        (kind.TIME, hours(period.charging_s) if period.charging_s else None),
        (kind.PARKING_TIME, hours(period.parking_s) if period.parking_s else None),
        (kind.RESERVATION_TIME, hours(period.reserved_s) if period.reserved_s else None),
        (kind.MIN_POWER, _thousandths(period.power_w_min)),
        (kind.MAX_POWER, _thousandths(period.power_w_max)),
        (kind.MIN_CURRENT, period.current_a_min),
        (kind.MAX_CURRENT, period.current_a_max),
    ]
    return v221.ChargingPeriod(
        start_date_time=period.started_at,
        dimensions=[CdrDimension(type=each, volume=volume) for each, volume in volumes if volume is not None],
        tariff_id=period.tariff_id,
    )


def _net_kwh(period: ChargingPeriod) -> Decimal:
    whole = kwh(period.energy_import_wh - period.energy_export_wh)
    return whole if period.energy_rest_wh is None else whole + period.energy_rest_wh / 1000


def period_from_ocpi(period: v221.ChargingPeriod) -> ChargingPeriod:
    """Return a charging period, with what it states below a Wh. Raises `NotInOurWords`: a dimension stands twice."""
    kind = CdrDimensionType
    volumes: dict[CdrDimensionType, Decimal] = {}
    for dimension in period.dimensions:
        if dimension.type in volumes:
            raise NotInOurWords(f"dimension {dimension.type} stands twice in one charging period")
        volumes[dimension.type] = dimension.volume
    exported = wh_of(volumes.get(kind.ENERGY_EXPORT, Decimal(0)))
    if kind.ENERGY_IMPORT in volumes:
        imported = wh_of(volumes[kind.ENERGY_IMPORT])
        net_kwh = volumes[kind.ENERGY_IMPORT] - volumes.get(kind.ENERGY_EXPORT, Decimal(0))
    else:
        net_kwh = volumes.get(kind.ENERGY, Decimal(0))
        imported = wh_of(net_kwh) + exported

    def whole(dimension: CdrDimensionType) -> int | None:
        return wh_of(volumes[dimension]) if dimension in volumes else None

    return ChargingPeriod(
        started_at=period.start_date_time,
        energy_import_wh=imported,
        energy_export_wh=exported,
        charging_s=seconds_of(volumes.get(kind.TIME, Decimal(0))),
        parking_s=seconds_of(volumes.get(kind.PARKING_TIME, Decimal(0))),
        reserved_s=seconds_of(volumes.get(kind.RESERVATION_TIME, Decimal(0))),
        power_w_min=whole(kind.MIN_POWER),
        power_w_max=whole(kind.MAX_POWER),
        current_a_min=volumes.get(kind.MIN_CURRENT),
        current_a_max=volumes.get(kind.MAX_CURRENT),
        tariff_id=period.tariff_id,
        energy_rest_wh=(net_kwh * 1000 - (imported - exported)) or None,
    )


async def session_to_ocpi(session: Session, vault: Vault) -> v221.Session:
    """Return a session with its token open. Raises `SubjectErased`."""
    return v221.Session(
        country_code=session.party_id.country_code,
        party_id=session.party_id.party_id,
        id=session.session_id,
        start_date_time=session.started_at,
        end_date_time=session.ended_at,
        kwh=kwh(session.energy_import_wh),
        cdr_token=await session_token_to_ocpi(session.token, vault),
        auth_method=session.auth_method,
        authorization_reference=session.authorization_reference,
        location_id=session.location_id,
        evse_uid=session.evse_uid,
        connector_id=str(session.connector_id),
        currency=session.currency,
        charging_periods=[period_to_ocpi(period) for period in session.periods],
        total_cost=_maybe_price_to_ocpi(session.total_cost),
        status=session.status,
        last_updated=session.last_updated,
        wattroam_tariff_hash=session.tariff_hash or None,
    )


async def session_from_ocpi(session: v221.Session, vault: Vault) -> Session:
    """Return a session, sealed; `tariff_hash` is empty when the CPO did not state it. Raises `NotInOurWords`."""
    periods = tuple(period_from_ocpi(period) for period in session.charging_periods)
    return Session(
        party_id=session.owner,
        session_id=session.id,
        started_at=session.start_date_time,
        ended_at=session.end_date_time,
        energy_import_wh=wh_of(session.kwh),
        energy_export_wh=sum(period.energy_export_wh for period in periods),
        token=await session_token_from_ocpi(session.cdr_token, vault),
        auth_method=session.auth_method,
        authorization_reference=session.authorization_reference,
        location_id=session.location_id,
        evse_uid=session.evse_uid,
        connector_id=_connector_id(session.connector_id),
        currency=session.currency,
        tariff_hash=session.wattroam_tariff_hash or "",
        periods=periods,
        total_cost=_maybe_price_from_ocpi(session.total_cost),
        status=session.status,
        last_updated=session.last_updated,
    )


NOT_AVAILABLE: Final = "#NA"
"""What stands where something does not exist (transport and format, "#NA")."""
COSTS: Final = (
    "total_cost",
    "total_fixed_cost",
    "total_energy_cost",
    "total_time_cost",
    "total_parking_cost",
    "total_reservation_cost",
)
"""Amounts of a CDR, by the same name in the domain and in OCPI."""


async def cdr_to_ocpi(cdr: CDR, vault: Vault) -> v221.CDR:
    """Return a CDR with its token and signed records open.

    Raises:
        SubjectErased: its driver was forgotten.
        NotInTheirWords: its prices include tax.
    """
    costs: dict[str, Any] = {name: _maybe_price_to_ocpi(getattr(cdr, name)) for name in COSTS}
    return v221.CDR(
        **msgspec.structs.asdict(await cdr_fields(cdr, vault)),
        cdr_token=await session_token_to_ocpi(cdr.token, vault),
        tariffs=[tariff_to_ocpi(tariff) for tariff in cdr.tariffs],
        **costs,
    )


async def cdr_fields(cdr: CDR, vault: Vault) -> v221.CDRFields:
    """Return what a CDR says in every version: all but its token, tariffs and amounts."""
    place = cdr.location
    total_s = cdr.total_charging_s + cdr.total_parking_s
    return v221.CDRFields(
        country_code=cdr.party_id.country_code,
        party_id=cdr.party_id.party_id,
        id=cdr.cdr_id,
        start_date_time=cdr.started_at,
        end_date_time=cdr.ended_at,
        session_id=None if cdr.session_id.startswith(NOT_AVAILABLE) else cdr.session_id,
        auth_method=cdr.auth_method,
        authorization_reference=cdr.authorization_reference,
        cdr_location=v221.CdrLocation(
            id=place.location_id,
            name=place.name,
            address=place.address,
            city=place.city,
            postal_code=place.postal_code or None,
            country=place.country,
            coordinates=_geo(place.latitude, place.longitude),
            evse_uid=place.evse_uid,
            evse_id=place.emi3_id,
            connector_id=NOT_AVAILABLE if place.evse_uid == NOT_AVAILABLE else str(place.connector_id),
            connector_standard=place.connector_standard,
            connector_format=connector_format(place.connector_standard, place.power_type),
            connector_power_type=place.power_type.value,
        ),
        currency=cdr.currency,
        charging_periods=[period_to_ocpi(period) for period in cdr.periods],
        signed_data=None if cdr.signed_data is None else await _signed_data_to_ocpi(cdr.signed_data, vault),
        total_energy=kwh(cdr.total_energy_import_wh),
        total_time=hours(total_s),
        total_parking_time=hours(cdr.total_parking_s),
        remark=cdr.remark,
        credit=True if cdr.is_credit else None,
        credit_reference_id=cdr.credit_reference_id,
        last_updated=cdr.issued_at,
    )


async def cdr_from_ocpi(cdr: v221.CDR, vault: Vault, *, time_zone: str) -> CDR:
    """Return a CDR, sealed; the tariff's hash is computed from the tariff it states.

    Args:
        cdr: The document.
        vault: Seals the token and the signed records, all under the token's subject.
        time_zone: IANA zone of the location; OCPI's CdrLocation has none, so the Location must be known.

    Raises:
        NotInOurWords: no tariff, a charge without a session, or a credit that names no original.
    """
    return await cdr_from_fields(
        cdr,
        vault,
        time_zone=time_zone,
        token=await session_token_from_ocpi(cdr.cdr_token, vault),
        tariffs=[tariff_from_ocpi(tariff) for tariff in cdr.tariffs],
        costs={name: _maybe_price_from_ocpi(getattr(cdr, name)) for name in COSTS},
    )


async def cdr_from_fields(
    cdr: v221.CDRFields,
    vault: Vault,
    *,
    time_zone: str,
    token: SessionToken,
    tariffs: Sequence[Tariff],
    costs: dict[str, Price | None],
    taxes: tuple[TaxAmount, ...] = (),
) -> CDR:
    """Return a CDR of any version; token, tariffs and amounts were read as the version has them.

    A reservation that expired has no session; the domain, where everything hangs on one, calls it by the CDR's id.

    Raises:
        NotInOurWords: as `cdr_from_ocpi`.
    """
    if not tariffs:
        raise NotInOurWords("a CDR without a tariff")
    periods = tuple(period_from_ocpi(period) for period in cdr.charging_periods)
    if cdr.session_id is None and not all(only_reserves(period) for period in periods):
        raise NotInOurWords("a CDR without a session")
    if bool(cdr.credit) != (cdr.credit_reference_id is not None):
        raise NotInOurWords("a credit CDR names its original, and only a credit CDR does")
    parking_s = seconds_of(cdr.total_parking_time or Decimal(0))
    amounts: dict[str, Any] = dict(costs)
    return CDR(
        party_id=cdr.owner,
        cdr_id=cdr.id,
        session_id=cdr.session_id or f"{NOT_AVAILABLE}/{cdr.credit_reference_id or cdr.id}",
        started_at=cdr.start_date_time,
        ended_at=cdr.end_date_time,
        token=token,
        auth_method=cdr.auth_method,
        authorization_reference=cdr.authorization_reference,
        location=_cdr_location(cdr.cdr_location, time_zone=time_zone),
        currency=cdr.currency,
        tariff=tariffs[0],
        tariff_hash=tariff_hash(tariffs[0]),
        periods=periods,
        total_energy_import_wh=wh_of(cdr.total_energy),
        total_energy_export_wh=sum(period.energy_export_wh for period in periods),
        total_charging_s=seconds_of(cdr.total_time) - parking_s,
        total_parking_s=parking_s,
        signed_data=None
        if cdr.signed_data is None
        else await _signed_data_from_ocpi(cdr.signed_data, vault, subject=token.uid.subject),
        issued_at=cdr.last_updated,
        is_credit=bool(cdr.credit),
        credit_reference_id=cdr.credit_reference_id,
        remark=cdr.remark,
        further_tariffs=tuple(tariffs[1:]),
        taxes=taxes,
        **amounts,
    )


def _cdr_location(place: v221.CdrLocation, *, time_zone: str) -> CDRLocation:
    return CDRLocation(
        location_id=place.id,
        name=place.name or place.address,
        address=place.address,
        city=place.city,
        postal_code=place.postal_code or "",
        country=place.country,
        latitude=Decimal(place.coordinates.latitude),
        longitude=Decimal(place.coordinates.longitude),
        time_zone=time_zone,
        evse_uid=place.evse_uid,
        emi3_id=place.evse_id,
        connector_id=0 if place.connector_id == NOT_AVAILABLE else _connector_id(place.connector_id),
        connector_standard=place.connector_standard,
        power_type=_power_type(place.connector_power_type),
    )


async def _signed_data_to_ocpi(signed: SignedMeterData, vault: Vault) -> v221.SignedData:
    last = len(signed.records) - 1
    values = []
    for position, record in enumerate(signed.records):
        text = await vault.open(record)
        nature = "Start" if position == 0 else "End" if position == last else "Intermediate"
        encoded = base64.b64encode(text.encode()).decode("ascii")
        values.append(v221.SignedValue(nature=nature, plain_data=text, signed_data=encoded))
    return v221.SignedData(
        encoding_method=signed.encoding_method,
        public_key=base64.b64encode(bytes.fromhex(signed.public_key)).decode("ascii"),
        signed_values=values,
    )


async def _signed_data_from_ocpi(signed: v221.SignedData, vault: Vault, *, subject: str) -> SignedMeterData:
    try:
        texts = [base64.b64decode(value.signed_data, validate=True).decode() for value in signed.signed_values]
        public_key = base64.b64decode(signed.public_key or "", validate=True).hex()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise NotInOurWords("signed_data is not base64 of text") from error
    return SignedMeterData(
        encoding_method=signed.encoding_method,
        public_key=public_key,
        records=tuple([await vault.seal_under(text, subject=subject) for text in texts]),
    )


def owner_path(party: PartyId, *parts: str) -> str:
    """Return the path of a client-owned object, escaped: `/{country_code}/{party_id}/{id}...`."""
    return "/".join(["", party.country_code, party.party_id, *(quote(part, safe="") for part in parts)])
