"""What a CPO publishes, held against what the law wants told: for its operator, who can add what is missing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from emobility.domain.identifiers import PartyId
from emobility.domain.tariff.tariff import TariffType
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.protocols.datex2.ad_hoc_prices import rates_at
from emobility.protocols.datex2.completeness import Completeness, completeness
from emobility.protocols.datex2.publication import PublicSite
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import NotInTheirWords, tariff_to_ocpi
from emobility.runtime.access import TokenRole
from services.charging_operations.office import require_hosted
from services.charging_operations.operator_api import OperatorAPI
from services.charging_operations.publishing import Partner, Publisher, newest_tariffs
from services.charging_operations.records import LOCATION, LocationRecord
from services.charging_operations.routes import Route, RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletenessAPI:
    """The report, as an access point would see the CPO now."""

    operator: OperatorAPI
    publisher: Publisher

    def mount_on(self, routes: RouteTable) -> None:
        """Add the route."""
        routes.add(
            "Public data",
            [Route("GET", "/afir", self.report, None, Completeness)],
            writes=TokenRole.OWNER,
        )

    async def report(self, _: Request, party_id: PartyId) -> Any:
        """Report, for each field of AFIR, how many of the CPO's public objects have it and which do not."""
        office = self.operator.office
        anyone = Partner(party_id=party_id, tariff_ids=frozenset(), sees_ad_hoc=True)
        async with office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
            tariffs: dict[str, v221.Tariff] = {}
            for version in await newest_tariffs(unit, party_id):
                if version.tariff.tariff_type is TariffType.AD_HOC_PAYMENT:
                    # A price that includes tax can't be said in 2.2.1: an access point doesn't see it either.
                    with suppress(NotInTheirWords):
                        tariffs[version.tariff_id.lower()] = tariff_to_ocpi(version.tariff)
            rows: list[LocationRecord] = []
            while True:
                page = await unit.table(LOCATION).select(
                    {"party_id": party_id}, order_by=("location_id",), offset=len(rows)
                )
                rows += page
                if len(page) < SELECT_ROWS_MAX:
                    break
            shown = [await self.publisher.location_for(unit, row.location, anyone) for row in rows]
        now = office.ports.clock.now()
        sites = [PublicSite(location=each, rates=rates_at(each, tariffs, now)) for each in shown if each.publish]
        return completeness(sites, hidden=len(shown) - len(sites))
