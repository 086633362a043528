"""Operators and drivers of a scenario, by HTTP: what `Simulation` asks them to do (`simulation.Backstage`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from emobility.ports.http import HttpClient
from simulator.api_client import Addresses, ApiClient, CallRefused
from simulator.scenario import Scenario, SessionPlan
from simulator.setup import SetUp
from simulator.stations.ocmf import MeterKey

CREDIT_REASON: Final = "the MSP had pinned another meter's key; billed again under the right one"


class DisputeMissing(AssertionError):
    """The CPO was not told of the dispute it is to answer."""


class HttpBackstage:
    """Acts through the public APIs of the business process."""

    def __init__(
        self, scenario: Scenario, *, addresses: Addresses, http: HttpClient, now: Callable[[], datetime]
    ) -> None:
        self._scenario = scenario
        self._now = now
        self._business = ApiClient(http, base_url=addresses.business_url, token=addresses.internal_token)
        self._set_up = SetUp(scenario, business=self._business, business_url=addresses.business_url)
        self.quotes: dict[int, dict[str, Any]] = {}
        """What each app session was quoted, by number."""
        self.running_costs_e4: dict[int, int] = {}
        """What the driver saw while it ran."""
        self.credits: list[dict[str, Any]] = []

    async def set_up(self) -> None:
        """Bring parties, stations, tariffs, contracts and agreements into the system."""
        await self._set_up.run(self._now())

    async def publish_prices(self, day: date) -> None:
        """Tell the CPOs the day-ahead prices of a local day."""
        await self._set_up.publish_prices(day, self._now())

    # Drivers ---------------------------------------------------------------------------------------------------

    async def start(self, session: SessionPlan) -> str | None:
        """Ask for a quote, accept it, start. Return the API's word when it refuses."""
        station = self._scenario.station(session.party_id, session.charging_station_id)
        base = self._driver_path(session)
        try:
            quote = await self._business.call(
                "POST",
                f"{base}/quotes",
                {
                    "cpo_id": session.party_id,
                    "location_id": station.location_id,
                    "evse_uid": station.evse_uid(session.ocpp_evse_id),
                    "connector_id": "1",
                    "energy_wh": session.wanted_wh,
                    "connection_s": int((session.leaves_at - session.arrives_at).total_seconds()),
                },
            )
            self.quotes[session.number] = quote
            await self._business.call("POST", f"{base}/sessions", {"quote_id": quote["quote_id"]})
        except CallRefused as refusal:
            return refusal.error
        return None

    async def watch(self, session: SessionPlan) -> None:
        """Look at the running charge."""
        charge = await self._charge(session)
        if charge is not None:
            self.running_costs_e4[session.number] = charge["running_cost_e4"]

    async def stop(self, session: SessionPlan) -> None:
        """Stop by app; a charge whose session the MSP has not seen can only be stopped at the station."""
        charge = await self._charge(session)
        if charge is not None and charge["session_id"] is not None:
            await self._business.call("POST", f"{self._driver_path(session)}/sessions/{charge['session_id']}/stop")

    async def _charge(self, session: SessionPlan) -> dict[str, Any] | None:
        quote = self.quotes.get(session.number)
        if quote is None:
            return None
        charges = await self._business.call("GET", f"{self._driver_path(session)}/sessions")
        found: dict[str, Any] | None = next((each for each in charges if each["quote_id"] == quote["quote_id"]), None)
        return found

    def _driver_path(self, session: SessionPlan) -> str:
        driver = session.driver
        return f"/mobility/{driver.emsp_id}/drivers/{self._set_up.driver_ids[driver.contract_id]}"

    # Operators -------------------------------------------------------------------------------------------------

    async def mistake_meter_key(self, session: SessionPlan) -> None:
        """The MSP's operator pins the key of the meter beside it: the CDR of this session will be disputed."""
        evses = self._scenario.station(session.party_id, session.charging_station_id).profile.evses
        other = next(each for each in evses if each.ocpp_evse_id != session.ocpp_evse_id)
        await self._pin(session, MeterKey(other.meter_seed))

    async def answer_dispute(self, session: SessionPlan) -> None:
        """The MSP's operator corrects the key; the CPO's credits the disputed CDR and issues it again."""
        evses = self._scenario.station(session.party_id, session.charging_station_id).profile.evses
        own = next(each for each in evses if each.ocpp_evse_id == session.ocpp_evse_id)
        await self._pin(session, MeterKey(own.meter_seed))
        disputes = await self._business.call("GET", f"/operations/{session.party_id}/disputes")
        unanswered = [each for each in disputes if each["answer"] is None]
        if not unanswered:
            raise DisputeMissing(f"{session.party_id} knows no dispute over session {session.number}")
        for dispute in unanswered:
            self.credits.append(
                await self._business.call(
                    "POST",
                    f"/operations/{session.party_id}/cdrs/{dispute['cdr_id']}/credit",
                    {"reason": CREDIT_REASON, "who": "demo operator", "replacement": {}},
                )
            )

    async def _pin(self, session: SessionPlan, key: MeterKey) -> None:
        station = self._scenario.station(session.party_id, session.charging_station_id)
        evse_uid = station.evse_uid(session.ocpp_evse_id)
        await self._business.call(
            "PUT",
            f"/mobility/{session.driver.emsp_id}/meter-keys/{session.party_id}/{evse_uid}",
            {"public_key": key.public_hex},
        )
