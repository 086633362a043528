"""What an eMSP owes for a reservation that expired: a CDR without a session (OCPI 2.2.1, 10.3.1; 11.4.3).

Only what a station held counts, and only where the tariff charges for it. A use that is told after all takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.cdr import CDR
from emobility.domain.charging_periods import whole_second
from emobility.domain.errors import EmobilityError
from emobility.domain.identifiers import PartyId
from emobility.domain.session import AuthMethod, ChargingPeriod, SessionToken
from emobility.domain.tariff.periods import split_at_price_changes
from emobility.domain.tariff.pricing import price_session
from emobility.domain.tariff.rounding import rounding_policy
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.mapping import NOT_AVAILABLE
from services.charging_operations.cdrs import CDRDesk, live_cdr, place_of
from services.charging_operations.office import Office, agreement_at, short_hash
from services.charging_operations.records import STATION, TokenRecord
from services.charging_operations.stations import KnownEVSE, evse_at
from services.charging_operations.tariffs import tariff_for
from services.charging_operations.tokens import tokens_of

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """An EVSE, or any of a station (`ocpp_evse_id` None), that was held from `made_at` until `until` in vain."""

    party_id: PartyId
    charging_station_id: str
    reservation_id: int
    ocpp_evse_id: int | None
    emsp_id: PartyId | None
    token_subject: str | None
    made_at: datetime
    until: datetime
    correlation_id: str

    @property
    def session_id(self) -> str:
        """What stands for the session it never became."""
        made_at = self.made_at.isoformat()
        name = short_hash(str(self.party_id), self.charging_station_id, str(self.reservation_id), made_at)
        return f"{NOT_AVAILABLE}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Billed:
    party_id: PartyId
    session_id: str
    emsp_id: PartyId
    agreement_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryDesk:
    """Bills reservations that expired."""

    office: Office
    cdrs: CDRDesk

    async def bill(self, unit: UnitOfWork, holding: Holding) -> CDR | None:
        """Issue the CDR of a reservation that expired; None where nothing is owed, or nobody can be billed."""
        known = await self._place(unit, holding)
        token = await self._token(unit, holding)
        if known is None or token is None:
            return None
        try:
            agreement = await agreement_at(unit, holding.party_id, token.emsp_id, holding.made_at)
        except NoAgreementInForce:
            return None
        started_at, ended_at = whole_second(holding.made_at), whole_second(holding.until)
        version = await tariff_for(unit, known.station, agreement.tariff_ids, started_at)
        reserved_s = (ended_at - started_at) // timedelta(seconds=1)
        if version is None or version.tariff.currency != agreement.currency or reserved_s <= 0:
            return None
        whole = ChargingPeriod(
            started_at=started_at, energy_import_wh=0, charging_s=0, parking_s=0, reserved_s=reserved_s
        )
        time_zone = known.location.time_zone
        try:
            periods = split_at_price_changes(version.tariff, (whole,), ended_at=ended_at, time_zone=time_zone)
            cost = price_session(
                version.tariff,
                periods,
                ended_at=ended_at,
                time_zone=time_zone,
                rounding=rounding_policy(agreement.rounding_policy),
            )
        except EmobilityError as error:
            _log.warning("expiry_not_priced", correlation_id=holding.correlation_id, reason=str(error))
            return None
        billed = _Billed(
            party_id=holding.party_id,
            session_id=holding.session_id,
            emsp_id=token.emsp_id,
            agreement_id=agreement.agreement_id,
        )
        if not cost.total.excl_e4 or await live_cdr(unit, billed) is not None:
            return None
        place = place_of(known, known.evse.connectors[0])
        if holding.ocpp_evse_id is None:
            # 10.4.3: there is no EVSE to name when a reservation never resulted in a session.
            place = replace(place, evse_uid=NOT_AVAILABLE, emi3_id=NOT_AVAILABLE, connector_id=0)
        cdr = CDR(
            party_id=holding.party_id,
            cdr_id=holding.session_id.removeprefix(f"{NOT_AVAILABLE}/"),
            session_id=holding.session_id,
            started_at=started_at,
            ended_at=ended_at,
            token=SessionToken(
                emsp_id=token.emsp_id, uid=token.uid, token_type=token.token_type, contract_id=token.contract_id
            ),
            auth_method=AuthMethod.COMMAND,
            authorization_reference=None,
            location=place,
            currency=version.tariff.currency,
            tariff=version.tariff,
            tariff_hash=version.tariff_hash,
            periods=periods,
            total_cost=cost.total,
            total_fixed_cost=None,
            total_energy_cost=None,
            total_time_cost=None,
            total_parking_cost=None,
            total_reservation_cost=cost.reservation,
            total_energy_import_wh=0,
            total_energy_export_wh=0,
            total_charging_s=0,
            total_parking_s=0,
            signed_data=None,
            issued_at=self.office.now(),
            rounding_policy=agreement.rounding_policy,
            remark="a reservation that expired",
        )
        await self.cdrs.send(unit, billed, cdr, correlation_id=holding.correlation_id)
        return cdr

    async def take_back(self, unit: UnitOfWork, holding: Holding) -> None:
        """Credit the CDR of a reservation that was used after all; where there is none, nothing happens."""
        if holding.emsp_id is None:
            return
        billed = _Billed(
            party_id=holding.party_id, session_id=holding.session_id, emsp_id=holding.emsp_id, agreement_id=""
        )
        standing = await live_cdr(unit, billed)
        if standing is not None:
            await self.cdrs.credit(
                unit,
                replace(billed, agreement_id=standing.agreement_id),
                standing,
                remark="the reservation was used",
                correlation_id=holding.correlation_id,
            )

    async def _place(self, unit: UnitOfWork, holding: Holding) -> KnownEVSE | None:
        number = holding.ocpp_evse_id
        if number is None:
            station = await unit.table(STATION).get(holding.party_id, holding.charging_station_id)
            if station is None or not station.station.evses:
                return None
            number = station.station.evses[0].ocpp_evse_id
        return await evse_at(unit, holding.party_id, holding.charging_station_id, number)

    async def _token(self, unit: UnitOfWork, holding: Holding) -> TokenRecord | None:
        """The token that was reserved for; a whole group, or a card that no eMSP asked for, owes nothing."""
        if holding.emsp_id is None or holding.token_subject is None:
            return None
        tokens = await tokens_of(unit, holding.party_id, holding.token_subject)
        return next((token for token in tokens if token.emsp_id == holding.emsp_id), None)
