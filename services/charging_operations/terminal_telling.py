"""What the provider of a payment terminal (PTP) is told of a charge that is paid there: its session, and its CDR.

They look like a partner's, with consumer prices and tax, and are none: they stand in no row of sessions or CDRs, so
nothing of them can enter a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from emobility.domain.cdr import CDR
from emobility.domain.session import AuthMethod, ChargingPeriod, Session, SessionStatus, SessionToken
from emobility.domain.tariff.priced import PricedSession
from emobility.domain.token import TokenType
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.mapping import cdr_to_ocpi, owner_path, session_to_ocpi
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.charging_operations.ad_hoc_records import AdHocSaleRecord, invoice_number
from services.charging_operations.office import Office


async def tell_session(
    office: Office,
    unit: UnitOfWork,
    sale: AdHocSaleRecord,
    periods: Sequence[ChargingPeriod],
    cost: PricedSession | None,
    *,
    status: SessionStatus,
    ended_at: datetime | None = None,
) -> None:
    """Owe the provider the session as it stands; one that never began is none."""
    if sale.ptp_id is None or sale.session_id is None or sale.started_at is None:
        return
    session = Session(
        party_id=sale.party_id,
        session_id=sale.session_id,
        started_at=sale.started_at,
        ended_at=ended_at,
        energy_import_wh=sale.energy_import_wh,
        energy_export_wh=sale.energy_export_wh,
        token=_token(sale),
        auth_method=AuthMethod.COMMAND,
        authorization_reference=sale.authorization_reference,
        location_id=sale.location.location_id,
        evse_uid=sale.evse_uid,
        connector_id=sale.connector_id,
        currency=sale.currency,
        tariff_hash=sale.tariff_hash,
        periods=tuple(periods),
        total_cost=None if cost is None else cost.total,
        status=status,
        last_updated=office.now(),
    )
    await office.host.deliveries.enqueue(
        unit,
        own_party=sale.party_id,
        to_party=sale.ptp_id,
        method="PUT",
        module=ModuleID.SESSIONS,
        interface_role=InterfaceRole.RECEIVER,
        path=owner_path(sale.party_id, sale.session_id),
        object_key=f"sale-session/{sale.session_id}",
        body=await session_to_ocpi(session, office.ports.vault.evidence),
        correlation_id=sale.correlation_id,
        subject=sale.uid.subject,
    )


async def tell_cdr(office: Office, unit: UnitOfWork, sale: AdHocSaleRecord, cost: PricedSession) -> None:
    """Owe the provider the CDR of a charge that is over; its invoice, if it is ours, stands on it."""
    if sale.ptp_id is None or sale.session_id is None or sale.started_at is None or sale.ended_at is None:
        return
    cdr = CDR(
        party_id=sale.party_id,
        cdr_id=sale.session_id,
        session_id=sale.session_id,
        started_at=sale.started_at,
        ended_at=sale.ended_at,
        token=_token(sale),
        auth_method=AuthMethod.COMMAND,
        authorization_reference=sale.authorization_reference,
        location=sale.location,
        currency=sale.currency,
        tariff=sale.tariff,
        tariff_hash=sale.tariff_hash,
        periods=sale.periods,
        total_cost=cost.total,
        total_fixed_cost=cost.fixed,
        total_energy_cost=cost.energy,
        total_time_cost=cost.time,
        total_parking_cost=cost.parking,
        total_reservation_cost=cost.reservation,
        total_energy_import_wh=sale.energy_import_wh,
        total_energy_export_wh=sale.energy_export_wh,
        total_charging_s=sum(period.charging_s for period in sale.periods),
        total_parking_s=sum(period.parking_s for period in sale.periods),
        signed_data=sale.signed_data,
        issued_at=office.now(),
    )
    document = await cdr_to_ocpi(cdr, office.ports.vault.evidence)
    if sale.invoice_number is not None:
        document = msgspec.structs.replace(document, invoice_reference_id=invoice_number(sale))
    await office.host.deliveries.enqueue(
        unit,
        own_party=sale.party_id,
        to_party=sale.ptp_id,
        method="POST",
        module=ModuleID.CDRS,
        interface_role=InterfaceRole.RECEIVER,
        path="",
        object_key=f"sale-cdr/{sale.session_id}",
        body=document,
        correlation_id=sale.correlation_id,
        is_replaceable=False,
        subject=sale.uid.subject,
    )


def _token(sale: AdHocSaleRecord) -> SessionToken:
    assert sale.ptp_id is not None, "a terminal's provider has a token"
    return SessionToken(
        emsp_id=sale.ptp_id,
        uid=sale.told_uid or sale.uid,
        token_type=TokenType.AD_HOC_USER,
        contract_id=sale.told_contract_id or sale.uid,
    )
