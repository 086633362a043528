"""The meter of one EVSE: registers in whole Wh, one for each direction, over exact counts of watt-seconds.

Energy is power times time, both integers, so nothing is lost: a register shows the whole Wh of what has flowed and the
remainder stays in the count until it fills the next Wh.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

WATT_SECONDS_PER_WH: Final = 3_600
_SECOND: Final = timedelta(seconds=1)


class Meter:
    """Counts what flows into a vehicle, and out of it. Time only goes forward; power is constant between two calls."""

    def __init__(self, *, register_wh: int, since: datetime, export_register_wh: int = 0) -> None:
        self._watt_seconds = register_wh * WATT_SECONDS_PER_WH
        self._export_watt_seconds = export_register_wh * WATT_SECONDS_PER_WH
        self._at = since
        self._power_w = 0
        self._allowance_ws: int | None = None
        self._stored_ws = 0

    @property
    def register_wh(self) -> int:
        """Energy.Active.Import.Register, in whole Wh."""
        return self._watt_seconds // WATT_SECONDS_PER_WH

    @property
    def export_register_wh(self) -> int:
        """Energy.Active.Export.Register, in whole Wh."""
        return self._export_watt_seconds // WATT_SECONDS_PER_WH

    @property
    def power_w(self) -> int:
        """What flows now, in W, negative out of the vehicle; 0 once it has all it wanted, or nothing left to give."""
        is_over = self._allowance_ws == 0 if self._power_w > 0 else not self._stored_ws
        return 0 if is_over else self._power_w

    @property
    def remaining_ws(self) -> int | None:
        """Watt-seconds the vehicle still wants; None when nothing is plugged in."""
        return self._allowance_ws

    def connect(self, *, wanted_wh: int, stored_wh: int = 0) -> None:
        """Plug a vehicle in that takes `wanted_wh` at most and could give `stored_wh`."""
        # The register shows whole Wh, so the count is brought to one: the vehicle then gets just what it asked for.
        surplus_ws = self._watt_seconds % WATT_SECONDS_PER_WH
        self._allowance_ws = max(0, wanted_wh * WATT_SECONDS_PER_WH - surplus_ws)
        self._stored_ws = stored_wh * WATT_SECONDS_PER_WH

    def disconnect(self) -> None:
        """Unplug the vehicle."""
        self._power_w = 0
        self._allowance_ws = None
        self._stored_ws = 0

    def draw(self, power_w: int) -> None:
        """Let `power_w` W flow from now on; negative: out of the vehicle."""
        self._power_w = power_w

    def advance(self, to: datetime) -> None:
        """Count what flowed until `to`; a moment already passed counts nothing."""
        elapsed_s = (to - self._at) // _SECOND
        if elapsed_s <= 0:
            return
        self._at += elapsed_s * _SECOND
        if self._allowance_ws is None:
            return
        if self._power_w >= 0:
            flowed_ws = min(self._power_w * elapsed_s, self._allowance_ws)
            self._watt_seconds += flowed_ws
        else:
            flowed_ws = -min(-self._power_w * elapsed_s, self._stored_ws)
            self._export_watt_seconds -= flowed_ws
        self._allowance_ws -= flowed_ws
        self._stored_ws += flowed_ws

    def full_at(self) -> datetime | None:
        """Return when the vehicle will have what it wants, rounded up to a second; None while nothing flows into it."""
        if not self._allowance_ws or self._power_w <= 0:
            return None
        return self._at - (self._allowance_ws // -self._power_w) * _SECOND
