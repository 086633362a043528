"""Messages of OCPP 2.0.1 that are kept as they came: their subjects are not managed here yet.

Where the answer has to mean something - a charging profile for these needs - it is the standard's own no; the station
goes on by itself.
"""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.notice import Notice


class ClearedChargingLimit(Notice):
    """An external charging limit is gone (K13)."""

    action: ClassVar[str] = "ClearedChargingLimit"


class NotifyChargingLimit(Notice):
    """An external charging limit applies (K12)."""

    action: ClassVar[str] = "NotifyChargingLimit"


class NotifyCustomerInformation(Notice):
    """Customer data that were asked for (N09)."""

    action: ClassVar[str] = "NotifyCustomerInformation"


class NotifyDisplayMessages(Notice):
    """Display messages that were asked for (O03)."""

    action: ClassVar[str] = "NotifyDisplayMessages"


class NotifyEVChargingSchedule(Notice):
    """The EV's own schedule; Accepted says it was understood, not that it is followed (K15)."""

    action: ClassVar[str] = "NotifyEVChargingSchedule"
    answer: ClassVar[dict[str, Any]] = {"status": "Accepted"}


class NotifyEvent(Notice):
    """A monitored variable changed (N07)."""

    action: ClassVar[str] = "NotifyEvent"
    is_told_once: ClassVar[bool] = True


class ReportChargingProfiles(Notice):
    """Charging profiles that were asked for (K09)."""

    action: ClassVar[str] = "ReportChargingProfiles"


class NotifyEVChargingNeeds(Notice):
    """An EV tells what it needs (K15); Rejected: no profile will follow, so it charges by the one it has."""

    action: ClassVar[str] = "NotifyEVChargingNeeds"
    answer: ClassVar[dict[str, Any]] = {"status": "Rejected"}
