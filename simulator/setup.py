"""Bring a scenario into a running system by HTTP, as operators do: parties, stations, tariffs, agreements."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.market import MarketPrice, MarketTerms
from simulator.api_client import ApiClient, side_by_side
from simulator.market import day_ahead
from simulator.scenario import DriverPlan, PlanKind, Scenario, StationPlan
from simulator.stations.ocmf import MeterKey
from simulator.stations.profile import OCPPVersion
from simulator.terms import (
    AD_HOC_AC,
    AD_HOC_DC,
    CREDIT_LIMIT_E4,
    CURRENCY,
    DECLINED_CARD,
    FALLBACK_PER_KWH,
    GOOD_CARD,
    HOUSE,
    PLAN_IDS,
    ROAMING,
    WholesaleTerms,
    agreement_of,
    retail_plans,
    tariff_ids_at,
)

DUTCH_VAT_PERCENT: Final = Decimal(21)
AD_HOC_PER_KWH: Final = {AD_HOC_AC: Decimal("0.4500"), AD_HOC_DC: Decimal("0.6500")}
HOUR_S: Final = 3_600
_VERSION_NAMES: Final = {OCPPVersion.OCPP16: "1.6", OCPPVersion.OCPP201: "2.0.1", OCPPVersion.OCPP21: "2.1"}


class SetUp:
    """Sets one scenario up. What it learns on the way (drivers' numbers) is kept for the play."""

    def __init__(self, scenario: Scenario, *, business: ApiClient, business_url: str) -> None:
        self._scenario = scenario
        self._business = business
        self._business_url = business_url.rstrip("/")
        self.driver_ids: dict[str, str] = {}
        """Number of each driver at the MSP, by contract id."""

    async def run(self, now: datetime) -> None:
        """Do all of it, in the order in which one needs the other."""
        public_keys = await self._host_parties()
        for party_id, role, service in self._connections():
            await self._connect(party_id, role, service)
        for cpo in self._scenario.cpos:
            await self._open_network(cpo.party_id, now)
        for emsp in self._scenario.emsps:
            await self._open_sales(emsp.party_id)
        for cpo in self._scenario.cpos:
            for emsp in self._scenario.emsps:
                await self._agree(cpo.party_id, emsp.party_id, public_keys)

    async def publish_prices(self, day: date, now: datetime) -> None:
        """Add a local day's prices to every tariff that follows the market."""
        prices = market_prices(day)
        for cpo in self._scenario.cpos:
            for terms in (*HOUSE, *ROAMING):
                path = f"/operations/{cpo.party_id}/tariffs/{terms.tariff_id}/market"
                await self._business.call("POST", path, {"prices": prices, "keep_from": now})

    # Parties ---------------------------------------------------------------------------------------------------

    async def _host_parties(self) -> dict[PartyId, str]:
        """Host every party; return the keys they sign with."""
        keys: dict[PartyId, str] = {}
        for service, companies in (
            ("operations", self._scenario.cpos),
            ("mobility", self._scenario.emsps),
            ("navigation", (self._scenario.nsp,)),
        ):
            for company in companies:
                hosted = await self._business.call("PUT", f"/{service}/{company.party_id}", {"name": company.name})
                keys[company.party_id] = (hosted or {}).get("public_key", "")
        return keys

    def _connections(self) -> list[tuple[PartyId, str, str]]:
        return [
            *((each.party_id, "CPO", "operations") for each in self._scenario.cpos),
            *((each.party_id, "EMSP", "mobility") for each in self._scenario.emsps),
            (self._scenario.nsp.party_id, "NSP", "navigation"),
        ]

    async def _connect(self, party_id: PartyId, role: str, service: str) -> None:
        """Register a party at the hub by OCPI's handshake: TOKEN_A from the hub's operator, the rest by the party."""
        invited = await self._business.call(
            "POST",
            "/hub/admin/registrations",
            {
                "party_id": party_id,
                "role": role,
                "versions_url": f"{self._business_url}/{service}/{party_id}/ocpi/versions",
            },
        )
        await self._business.call(
            "POST",
            f"/{service}/{party_id}/ocpi-register",
            # The parties' own version: what the hub carries is then, byte for byte, what their books hold.
            {"versions_url": invited["versions_url"], "token_a": invited["token_a"], "version": "2.2.1"},
        )

    # The CPO ---------------------------------------------------------------------------------------------------

    async def _open_network(self, cpo_id: PartyId, now: datetime) -> None:
        base = f"/operations/{cpo_id}"
        await self._business.call("PUT", f"{base}/subscribers/{self._scenario.nsp.party_id}")
        for location in self._scenario.locations:
            if location.party_id == cpo_id:
                await self._business.call(
                    "PUT",
                    f"{base}/locations/{location.location_id}",
                    {
                        "name": location.name,
                        "address": location.address,
                        "city": location.city,
                        "postal_code": location.postal_code,
                        "country": "NLD",
                        "latitude": location.latitude,
                        "longitude": location.longitude,
                        "time_zone": self._scenario.time_zone,
                    },
                )
        today = now.astimezone(ZoneInfo(self._scenario.time_zone)).date()
        for terms in (*HOUSE, *ROAMING):
            body = {"terms": self._market_terms(cpo_id, terms, now), "prices": _prices_known_on(today)}
            await self._business.call("PUT", f"{base}/tariffs/{terms.tariff_id}/market", body)
        for tariff_id, price in AD_HOC_PER_KWH.items():
            await self._business.call("PUT", f"{base}/tariffs/{tariff_id}", _ad_hoc(price))
        await side_by_side(self._put_station(each) for each in self._scenario.stations if each.party_id == cpo_id)

    def _market_terms(self, cpo_id: PartyId, terms: WholesaleTerms, now: datetime) -> MarketTerms:
        return MarketTerms(
            party_id=cpo_id,
            tariff_id=terms.tariff_id,
            currency=CURRENCY,
            time_zone=self._scenario.time_zone,
            last_updated=now,
            markup_per_kwh=terms.markup_per_kwh,
            fallback_per_kwh=FALLBACK_PER_KWH,
            session_fee=terms.session_fee,
            parking_per_hour=terms.parking_per_hour,
        )

    async def _put_station(self, station: StationPlan) -> None:
        profile, connector = station.profile, station.connector
        evses = [
            {
                "evse_uid": station.evse_uid(evse.ocpp_evse_id),
                "emi3_id": evse.evse_name,
                "ocpp_evse_id": evse.ocpp_evse_id,
                "connectors": [
                    {
                        "connector_id": 1,
                        "standard": connector.standard,
                        "power_type": connector.power_type,
                        "voltage_v_max": connector.voltage_v,
                        "current_a_max": connector.current_a,
                        "power_w_max": connector.power_w,
                    }
                ],
                "meter_public_key": MeterKey(evse.meter_seed).public_hex,
            }
            for evse in profile.evses
        ]
        await self._business.call(
            "PUT",
            f"/operations/{station.party_id}/stations/{station.charging_station_id}",
            {"location_id": station.location_id, "evses": evses, "tariff_ids": tariff_ids_at(station)},
        )
        await self._business.call(
            "PUT",
            f"/operations/{station.party_id}/stations/{station.charging_station_id}/credential",
            {"password": profile.password, "ocpp_version": _VERSION_NAMES[profile.version]},
        )

    # The MSP ---------------------------------------------------------------------------------------------------

    async def _open_sales(self, emsp_id: PartyId) -> None:
        base = f"/mobility/{emsp_id}"
        for plan_id, plan in retail_plans().items():
            await self._business.call("PUT", f"{base}/plans/{plan_id}", plan)
        await side_by_side(
            self._business.call(
                "PUT",
                f"{base}/meter-keys/{station.party_id}/{station.evse_uid(evse.ocpp_evse_id)}",
                {"public_key": MeterKey(evse.meter_seed).public_hex},
            )
            for station in self._scenario.stations
            for evse in station.profile.evses
        )
        await side_by_side(self._enrol(each) for each in self._scenario.drivers if each.emsp_id == emsp_id)

    async def _enrol(self, driver: DriverPlan) -> None:
        base = f"/mobility/{driver.emsp_id}/drivers"
        entered = await self._business.call(
            "POST",
            base,
            {
                "driver_id": f"D{driver.number:04d}",
                "name": driver.name,
                "contract_id": driver.contract_id,
                "plan_id": PLAN_IDS[driver.plan],
                "currency": CURRENCY,
                "credit_limit_e4": CREDIT_LIMIT_E4,
                "card": DECLINED_CARD if driver.card_is_declined else GOOD_CARD,
                "password": None,
            },
        )
        self.driver_ids[driver.contract_id] = entered["driver_id"]
        # A plan that holds the card has to be asked each time; the other trusts the CPO's list.
        whitelist = "NEVER" if driver.plan is PlanKind.PASS_THROUGH else "ALLOWED"
        await self._business.call(
            "POST", f"{base}/{entered['driver_id']}/tokens", {"uid": driver.rfid_uid, "whitelist": whitelist}
        )

    # Both ------------------------------------------------------------------------------------------------------

    async def _agree(self, cpo_id: PartyId, emsp_id: PartyId, keys: dict[PartyId, str]) -> None:
        """Sign an agreement: the CPO proposes, the MSP signs what it was shown, the CPO keeps both signatures."""
        path = f"/operations/{cpo_id}/agreements"
        terms: Any = agreement_of(self._scenario, cpo_id, emsp_id)
        proposed = await self._business.call("PUT", path, {"agreement": terms, "emsp_public_key": keys[emsp_id]})
        signed = await self._business.call(
            "PUT",
            f"/mobility/{emsp_id}/agreements",
            {"agreement": proposed["agreement"], "cpo_public_key": keys[cpo_id]},
        )
        await self._business.call("PUT", path, {"agreement": signed["agreement"], "emsp_public_key": keys[emsp_id]})


def market_prices(day: date) -> list[MarketPrice]:
    """Return a local day's prices in the shape operators enter them."""
    return [MarketPrice(start=each.start, duration_s=HOUR_S, price_per_mwh=each.eur_per_mwh) for each in day_ahead(day)]


def _prices_known_on(day: date) -> list[MarketPrice]:
    """Return a day's prices; none for a day beyond the data (load in real time): the terms' fallback holds then."""
    try:
        return market_prices(day)
    except LookupError:
        return []


def _ad_hoc(price: Decimal) -> dict[str, Any]:
    component = {"dimension": "ENERGY", "price": price, "vat_percent": DUTCH_VAT_PERCENT}
    return {"currency": CURRENCY, "elements": [{"components": [component]}], "tariff_type": "AD_HOC_PAYMENT"}
