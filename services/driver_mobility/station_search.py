"""Find stations as the NSP gives them: one call to its search, read with care, since it is another party's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import structlog

from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.ports.http import HttpClient
from emobility.runtime.settings import Settings

SEARCH_CHARACTERS_MAX: Final = 100
STATIONS_MAX: Final = 50

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEVSE:
    """An EVSE on the list; `query` leads to its price."""

    evse_uid: str
    emi3_id: str
    status: str
    power_kw: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStation:
    """A location on the list."""

    name: str
    address: str
    city: str
    evses: tuple[FoundEVSE, ...]


class StationSearch:
    """Asks an NSP."""

    def __init__(self, http: HttpClient, settings: Settings) -> None:
        self._http = http
        self._base_url = f"{settings.business_url.rstrip('/')}/navigation"
        self._bearer = settings.internal_token

    async def find(self, nsp_id: PartyId, text: str) -> list[FoundStation]:
        """Return stations that fit a text; none when the NSP can't be asked."""
        url = f"{self._base_url}/{nsp_id}/stations?{urlencode({'search': text[:SEARCH_CHARACTERS_MAX]})}"
        headers = {"Authorization": f"Bearer {self._bearer.get_secret_value()}", "Accept": "application/json"}
        try:
            answer = await self._http.request("GET", url, headers=headers)
            listed = msgspec.json.decode(answer.body) if answer.status == 200 else []
        except (EmobilityError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("station_search_failed", nsp=nsp_id.code, reason=str(error))
            return []
        stations = listed.get("stations", []) if isinstance(listed, Mapping) else listed
        if not isinstance(stations, Sequence):
            return []
        return [_station(each) for each in stations[:STATIONS_MAX] if isinstance(each, Mapping)]


def _station(given: Mapping[str, Any]) -> FoundStation:
    evses = given.get("evses")
    listed = [each for each in evses if isinstance(each, Mapping)] if isinstance(evses, list) else []
    return FoundStation(
        name=_text(given, "name") or _text(given, "location_id"),
        address=_text(given, "address"),
        city=_text(given, "city"),
        evses=tuple(_evse(given, each) for each in listed),
    )


def _evse(station: Mapping[str, Any], given: Mapping[str, Any]) -> FoundEVSE:
    query = {
        "cpo_id": _text(station, "cpo_id") or _text(station, "party_id"),
        "location_id": _text(station, "location_id"),
        "evse_uid": _text(given, "evse_uid"),
    }
    return FoundEVSE(
        evse_uid=_text(given, "evse_uid"),
        emi3_id=_text(given, "emi3_id"),
        status=_text(given, "status") or "UNKNOWN",
        power_kw=_power_kw(given),
        query=urlencode(query),
    )


def _power_kw(evse: Mapping[str, Any]) -> str:
    connectors = evse.get("connectors")
    listed = connectors if isinstance(connectors, list) else []
    powers = [each.get("power_w_max") for each in [evse, *listed] if isinstance(each, Mapping)]
    known = [power for power in powers if isinstance(power, int) and power > 0]
    return f"{Decimal(max(known)).scaleb(-3).normalize():f}" if known else ""


def _text(given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    return value[:255] if isinstance(value, str) else ""
