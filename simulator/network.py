"""The companies, places and stations of the demo, and the drivers of its MSPs."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from emobility.domain.identifiers import PartyId
from simulator.scenario import (
    TIME_ZONE,
    Company,
    ConnectorPlan,
    DriverPlan,
    LocationPlan,
    PlanKind,
    Scenario,
    StationPlan,
)
from simulator.stations.profile import EVSEProfile, OCPPVersion, StationProfile
from simulator.vehicles import draw_vehicle

TULIP: Final = Company(party_id=PartyId("NL-TUL"), name="Tulip Charging")
POLDER: Final = Company(party_id=PartyId("NL-POL"), name="Polder Power")
ZON: Final = Company(party_id=PartyId("NL-ZON"), name="Zonrijder")
RHEIN: Final = Company(party_id=PartyId("DE-RHN"), name="Rheinstrom Mobil")
KAART: Final = Company(party_id=PartyId("NL-KRT"), name="Laadkaart")
HUB: Final = Company(party_id=PartyId("NL-HUB"), name="Wattroam Hub")
HOME_OF: Final = {TULIP.party_id: ZON.party_id, POLDER.party_id: RHEIN.party_id}

EVSES_PER_STATION: Final = 2
STATIONS_PER_LOCATION: Final = (3, 2, 3, 2)
DRIVERS_PER_EMSP: Final = 24
DECLINED_DRIVERS: Final = 2
"""One of each plan."""

_PLACES: Final = {
    TULIP.party_id: (
        ("Museumplein", "Paulus Potterstraat 13", "Amsterdam", "1071CX", "52.357600", "4.880300"),
        ("Station Haarlem", "Stationsplein 11", "Haarlem", "2011LR", "52.387800", "4.638500"),
        ("Jaarbeurs P1", "Croeselaan 6", "Utrecht", "3521CA", "52.087700", "5.105100"),
        ("Zwolle Noord", "Ceintuurbaan 28", "Zwolle", "8024AA", "52.521900", "6.117600"),
    ),
    POLDER.party_id: (
        ("Maasboulevard", "Boompjes 40", "Rotterdam", "3011XB", "51.915800", "4.485600"),
        ("Markt Delft", "Markt 80", "Delft", "2611GW", "52.011500", "4.358400"),
        ("Strijp-S", "Torenallee 20", "Eindhoven", "5617BC", "51.447300", "5.456700"),
        ("Europapark", "Boumaboulevard 45", "Groningen", "9723ZS", "53.205200", "6.587300"),
    ),
}
AC_11: Final = ConnectorPlan(
    standard="IEC_62196_T2", power_type="AC_3_PHASE", voltage_v=230, current_a=16, power_w=11_000
)
AC_22: Final = ConnectorPlan(
    standard="IEC_62196_T2", power_type="AC_3_PHASE", voltage_v=230, current_a=32, power_w=22_000
)
DC_50: Final = ConnectorPlan(
    standard="IEC_62196_T2_COMBO", power_type="DC", voltage_v=500, current_a=125, power_w=50_000
)
DC_150: Final = ConnectorPlan(
    standard="IEC_62196_T2_COMBO", power_type="DC", voltage_v=920, current_a=200, power_w=150_000
)
_CONNECTORS: Final = (AC_11, AC_22, AC_11, AC_22, DC_50, AC_11, AC_22, AC_11, AC_11, DC_150)
"""By number of the station at its CPO."""
_NAMES: Final = (
    ("Anna", "Bram", "Chris", "Daan", "Eva", "Finn", "Guus", "Hanna", "Iris", "Jan", "Kees", "Lotte"),
    ("de Vries", "Jansen", "Bakker", "Visser", "Smit", "Meijer", "de Boer", "Mulder", "Schmitz", "Weber", "Hoffmann"),
)


def locations() -> tuple[LocationPlan, ...]:
    """Return the eight locations, four of each CPO."""
    return tuple(
        LocationPlan(
            party_id=party_id,
            location_id=f"LOC{number:02d}",
            name=name,
            address=address,
            city=city,
            postal_code=postal_code,
            latitude=latitude,
            longitude=longitude,
        )
        for party_id, places in _PLACES.items()
        for number, (name, address, city, postal_code, latitude, longitude) in enumerate(places, start=1)
    )


def stations(seed: int) -> tuple[StationPlan, ...]:
    """Return the twenty stations: ten of each CPO, half of them 1.6; keys, passwords and registers follow the seed."""
    return tuple(
        _station(seed, cpo, number, f"LOC{place:02d}")
        for cpo in (TULIP.party_id, POLDER.party_id)
        for number, place in enumerate(
            (place for place, count in enumerate(STATIONS_PER_LOCATION, start=1) for _ in range(count)), start=1
        )
    )


def load_scenario(seed: int, count: int) -> Scenario:
    """Return `count` stations of one CPO and a driver for each, without a single planned session.

    They start also while they are offline: an outage then fills their queues.
    """
    plans = [_station(seed, TULIP.party_id, number, "LOC01") for number in range(1, count + 1)]
    now = datetime(2022, 3, 26, 12, tzinfo=UTC)
    return Scenario(
        seed=seed,
        time_zone=TIME_ZONE,
        days=(),
        begins_at=now,
        ends_at=now,
        cpos=(TULIP,),
        emsps=(ZON,),
        nsp=KAART,
        hub=HUB,
        home_of=dict(HOME_OF),
        locations=locations()[:1],
        stations=tuple(replace(each, profile=replace(each.profile, starts_offline=True)) for each in plans),
        drivers=tuple(
            replace(_driver(seed, ZON.party_id, number), card_is_declined=False) for number in range(1, count + 1)
        ),
        sessions=(),
        outages=(),
        intrusions=(),
    )


def _station(seed: int, party_id: PartyId, number: int, location_id: str) -> StationPlan:
    chance = random.Random(f"{seed} station {party_id} {number}")
    connector = _CONNECTORS[(number - 1) % len(_CONNECTORS)]
    operator = party_id.party_id
    profile = StationProfile(
        party_id=party_id,
        charging_station_id=f"{operator}-{number:03d}",
        version=_version(number, operator),
        password=f"{chance.getrandbits(128):032x}",
        time_zone=TIME_ZONE,
        seed=f"{seed} {party_id} {number}",
        evses=tuple(
            EVSEProfile(
                ocpp_evse_id=evse,
                evse_name=f"NL*{operator}*E{number:04d}*{evse}",
                power_w_max=connector.power_w,
                is_dc=connector.power_type == "DC",
                meter_serial=f"WR{operator}{number:03d}{evse}",
                meter_seed=f"{seed} {party_id} {number} {evse}",
                register_wh=chance.randrange(1_000_000, 90_000_000),
                first_page=chance.randrange(1, 5_000),
            )
            for evse in range(1, EVSES_PER_STATION + 1)
        ),
    )
    return StationPlan(
        profile=profile,
        location_id=location_id,
        connector=connector,
        evse_uids=tuple(f"{operator}{number:03d}{evse}" for evse in range(1, EVSES_PER_STATION + 1)),
    )


def _version(number: int, operator: str) -> OCPPVersion:
    """Half the stations speak 1.6; of the others, those whose number is a multiple of 4 or 5 speak 2.1 already."""
    if (number + (operator == "POL")) % 2:
        return OCPPVersion.OCPP16
    return OCPPVersion.OCPP201 if number % 4 and number % 5 else OCPPVersion.OCPP21


def drivers(seed: int) -> tuple[DriverPlan, ...]:
    """Return the drivers of both MSPs; the first has one of each plan whose card is declined."""
    return tuple(
        _driver(seed, emsp, number)
        for emsp in (ZON.party_id, RHEIN.party_id)
        for number in range(1, DRIVERS_PER_EMSP + 1)
    )


def _driver(seed: int, emsp_id: PartyId, number: int) -> DriverPlan:
    chance = random.Random(f"{seed} driver {emsp_id} {number}")
    first, last = _NAMES
    return DriverPlan(
        emsp_id=emsp_id,
        number=number,
        name=f"{chance.choice(first)} {chance.choice(last)}",
        contract_id=f"{emsp_id.country_code}-{emsp_id.party_id}-C{number:08d}",
        plan=PlanKind.PASS_THROUGH if number % 2 else PlanKind.FLAT,
        # A card of ISO 14443 with a UID of 7 bytes begins with the chip maker's number; 04 is NXP.
        rfid_uid=f"04{chance.getrandbits(48):012X}",
        vehicle=draw_vehicle(chance),
        card_is_declined=emsp_id == ZON.party_id and number > DRIVERS_PER_EMSP - DECLINED_DRIVERS,
    )
