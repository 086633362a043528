"""NotifyReport (OCPP 2.0.1, B07) and NotifyMonitoringReport (N02): pages of what a station is made of.

A page is stored as it came but for secrets, which never reach the log. It is read before that, so what is stored can be
read; the back office puts the pages together.
"""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import (
    Context,
    Fact,
    Message,
    PersonalText,
    canonical_text,
    content_key,
    moment,
)
from charge_point_gateway.rpc_errors import CallRefused, RPCError
from emobility.domain.errors import MalformedInput
from emobility.events.charging import DeviceModelReported, MonitorsReported
from emobility.protocols.station_control.device_model import monitors_of, page_of, variables_of, without_secrets


class Report(Message):
    """A page; subclasses name the action, how its entries are read and what event it becomes."""

    event: ClassVar[type[DeviceModelReported | MonitorsReported]]

    def read(self, payload: dict[str, Any]) -> object:
        """Read the entries. Raises `MalformedInput`."""
        raise NotImplementedError

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """Seal the page under the station: what a vendor wrote into it, nobody knows."""
        return (_page_text(payload, context),)

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The page, the same however often it is sent."""
        sealed = context.sealed.get(_page_text(payload, context))
        if sealed is None:
            return ()
        try:
            page = page_of(payload)
            self.read(payload)
        except MalformedInput as error:
            raise CallRefused(RPCError.PROPERTY, str(error)) from error
        event = self.event(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            ocpp_version=context.ocpp_version,
            request_id=page.request_id,
            seq_no=page.seq_no,
            is_last=page.is_last,
            generated_at=moment(payload["generatedAt"]),
            page=sealed,
        )
        return (Fact(f"{context.station_key}/report/{self.action}/{content_key(without_secrets(payload))}", event),)


class NotifyReport(Report):
    """Variables of the device model, asked for by GetBaseReport or GetReport."""

    action: ClassVar[str] = "NotifyReport"
    event = DeviceModelReported

    def read(self, payload: dict[str, Any]) -> object:
        """Read variables."""
        return variables_of(payload)


class NotifyMonitoringReport(Report):
    """Monitors, asked for by GetMonitoringReport."""

    action: ClassVar[str] = "NotifyMonitoringReport"
    event = MonitorsReported

    def read(self, payload: dict[str, Any]) -> object:
        """Read monitors."""
        return monitors_of(payload)


def _page_text(payload: dict[str, Any], context: Context) -> PersonalText:
    return PersonalText(canonical_text(without_secrets(payload)), context.station_key)
