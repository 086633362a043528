"""OCPP 2.1, block R: the grid rules that a station follows as a distributed energy resource."""

from __future__ import annotations

from typing import ClassVar

from charge_point_gateway.notice import Notice


class NotifyDERAlarm(Notice):
    """A grid rule was broken, or holds again (R02, R03)."""

    action: ClassVar[str] = "NotifyDERAlarm"
    is_told_once: ClassVar[bool] = True


class NotifyDERStartStop(Notice):
    """A scheduled control began or ended (R04)."""

    action: ClassVar[str] = "NotifyDERStartStop"
    is_told_once: ClassVar[bool] = True


class ReportDERControl(Notice):
    """The controls that were asked for (R04)."""

    action: ClassVar[str] = "ReportDERControl"
