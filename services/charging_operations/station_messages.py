"""What stations tell that changes no state of ours: monitored events, vendor data, customer information.

Each is kept for `Limits.told_retention` and shown to the operator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from emobility.domain.device_model import is_secret
from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed, SubjectErased
from emobility.events.charging import DataTransferred
from emobility.events.event import Envelope
from emobility.events.station_told import CustomerInformationReported, MonitoredEventsReported
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.station_control.redaction import MASK, redacted
from emobility.protocols.station_control.told import moment_of, monitored_events_of
from services.charging_operations.office import NotFound, Office
from services.charging_operations.station_records import STATION_MONITOR


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEventRecord:
    """An event of a NotifyEvent. EVSE 0 is the station itself.

    `severity`, 0 to 9, is the event's own in 2.1, else its monitor's as the station reported it; None: nobody told it.
    """

    party_id: PartyId
    charging_station_id: str
    monitor_event_id: str
    event_id: int
    occurred_at: datetime
    heard_at: datetime
    component: str
    component_instance: str
    ocpp_evse_id: int
    connector_id: int
    variable: str
    variable_instance: str
    trigger: str
    notification_type: str
    value: str
    is_cleared: bool
    severity: int | None
    variable_monitoring_id: int | None
    cause_event_id: int | None
    transaction_id: str | None
    tech_code: str | None
    tech_info: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTransferRecord:
    """Vendor data, sealed: nobody knows what they say."""

    party_id: PartyId
    charging_station_id: str
    transfer_id: str
    vendor_id: str
    message_id: str | None
    payload: Sealed | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerInformationRecord:
    """A page of what a station keeps of a customer, sealed."""

    party_id: PartyId
    charging_station_id: str
    request_id: int
    seq_no: int
    is_last: bool
    generated_at: datetime
    heard_at: datetime
    page: Sealed


MONITOR_EVENT: Final = TableSpec(
    name="cpo_monitor_event", record=MonitorEventRecord, key=("party_id", "charging_station_id", "monitor_event_id")
)
DATA_TRANSFER: Final = TableSpec(
    name="cpo_data_transfer", record=DataTransferRecord, key=("party_id", "charging_station_id", "transfer_id")
)
CUSTOMER_INFORMATION: Final = TableSpec(
    name="cpo_customer_information",
    record=CustomerInformationRecord,
    key=("party_id", "charging_station_id", "request_id", "seq_no"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferShown:
    """Vendor data for the operator: in JSON, what may name a person is masked; any other text is masked whole."""

    transfer_id: str
    vendor_id: str
    message_id: str | None
    occurred_at: datetime
    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerPageShown:
    """That a page of customer information came; what it says has a route of its own."""

    request_id: int
    seq_no: int
    is_last: bool
    generated_at: datetime
    heard_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerText:
    """What a station keeps of a customer; not complete: a page is missing yet."""

    request_id: int
    is_complete: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDesk:
    """Keeps these."""

    office: Office

    async def take_events(
        self, unit: UnitOfWork, envelope: Envelope, event: MonitoredEventsReported, payload: dict[str, Any]
    ) -> None:
        """Keep each event of a NotifyEvent."""
        told = monitored_events_of(payload)
        where = {"party_id": event.party_id, "charging_station_id": event.charging_station_id}
        monitors = {each.variable_monitoring_id for each in told if each.severity is None} - {None}
        rows = await unit.table(STATION_MONITOR).select(where | {"monitor_id": tuple(monitors)}) if monitors else []
        severity_of = {row.monitor_id: row.monitor.severity for row in rows}
        await unit.table(MONITOR_EVENT).put_all(
            [
                MonitorEventRecord(
                    party_id=event.party_id,
                    charging_station_id=event.charging_station_id,
                    monitor_event_id=f"{envelope.event_id}/{number}",
                    heard_at=envelope.recorded_at,
                    event_id=each.event_id,
                    occurred_at=each.occurred_at,
                    component=each.component,
                    component_instance=each.component_instance,
                    ocpp_evse_id=each.ocpp_evse_id,
                    connector_id=each.connector_id,
                    variable=each.variable,
                    variable_instance=each.variable_instance,
                    trigger=each.trigger,
                    notification_type=each.notification_type,
                    value=MASK if is_secret(each.variable) else each.value,
                    is_cleared=each.is_cleared,
                    severity=severity_of.get(each.variable_monitoring_id or -1)
                    if each.severity is None
                    else each.severity,
                    variable_monitoring_id=each.variable_monitoring_id,
                    cause_event_id=each.cause_event_id,
                    transaction_id=each.transaction_id,
                    tech_code=each.tech_code,
                    tech_info=each.tech_info,
                )
                for number, each in enumerate(told)
            ]
        )

    async def take_data(self, unit: UnitOfWork, envelope: Envelope, event: DataTransferred) -> None:
        """Keep vendor data."""
        await unit.table(DATA_TRANSFER).put(
            DataTransferRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                transfer_id=envelope.event_id,
                vendor_id=event.vendor_id,
                message_id=event.message_id,
                payload=event.payload,
                occurred_at=event.occurred_at,
            )
        )

    async def take_customer(
        self, unit: UnitOfWork, envelope: Envelope, event: CustomerInformationReported, payload: dict[str, Any]
    ) -> None:
        """Keep a page."""
        page = await self.office.ports.vault.seal(
            payload["data"], identifier=f"customers of {event.party_id.code}/{event.charging_station_id}"
        )
        await unit.table(CUSTOMER_INFORMATION).put(
            CustomerInformationRecord(
                party_id=event.party_id,
                charging_station_id=event.charging_station_id,
                request_id=event.request_id,
                seq_no=event.seq_no,
                is_last=event.is_last,
                generated_at=moment_of(payload["generatedAt"]),
                heard_at=envelope.recorded_at,
                page=page,
            )
        )

    async def customer_text(self, party_id: PartyId, station_id: str, request_id: int) -> CustomerText:
        """Return all that a station told in answer to one CustomerInformation. Raises `NotFound`.

        The one place where personal data leave this API: the person has asked for them (GDPR, art. 15).
        """
        where = {"party_id": party_id, "charging_station_id": station_id, "request_id": request_id}
        async with self.office.ports.units.begin() as unit:
            rows = await unit.table(CUSTOMER_INFORMATION).select(where, order_by=("seq_no",))
        if not rows:
            raise NotFound(f"no customer information {request_id}")
        came = [row.seq_no for row in rows]
        is_complete = rows[-1].is_last and came == list(range(came[-1] + 1))
        vault = self.office.ports.vault
        text = "".join([await vault.open(row.page) for row in rows])
        return CustomerText(request_id=request_id, is_complete=is_complete, text=text)


async def shown_transfer(vault: Vault, row: DataTransferRecord) -> TransferShown:
    """Return vendor data for the operator."""
    return TransferShown(
        transfer_id=row.transfer_id,
        vendor_id=row.vendor_id,
        message_id=row.message_id,
        occurred_at=row.occurred_at,
        data=await _shown_data(vault, row.payload),
    )


def shown_page(row: CustomerInformationRecord) -> CustomerPageShown:
    """Return that a page came, without what it says."""
    return CustomerPageShown(
        request_id=row.request_id,
        seq_no=row.seq_no,
        is_last=row.is_last,
        generated_at=row.generated_at,
        heard_at=row.heard_at,
    )


async def _shown_data(vault: Vault, payload: Sealed | None) -> Any:
    if payload is None:
        return None
    try:
        data = json.loads(await vault.open(payload))
    except SubjectErased:
        return None
    except ValueError:
        return MASK
    return redacted(data) if isinstance(data, dict | list) else MASK
