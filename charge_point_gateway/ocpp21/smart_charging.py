"""OCPP 2.1, block K: charging by schedules that change while they run."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.notice import Notice


class NotifyEVChargingNeeds(Notice):
    """An EV tells what it needs (K15-K18, Q01); unlike 2.0.1, 2.1 can say that no profile will follow."""

    action: ClassVar[str] = "NotifyEVChargingNeeds"
    answer: ClassVar[dict[str, Any]] = {"status": "NoChargingProfile"}


class NotifyPriorityCharging(Notice):
    """A transaction charges by its priority profile, or does so no more (K21, K22)."""

    action: ClassVar[str] = "NotifyPriorityCharging"


class PullDynamicScheduleUpdate(Notice):
    """A station asks for the next values of a dynamic profile (K28). Rejected: none is managed here."""

    action: ClassVar[str] = "PullDynamicScheduleUpdate"
    answer: ClassVar[dict[str, Any]] = {"status": "Rejected"}
