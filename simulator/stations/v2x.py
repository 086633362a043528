"""Vehicles that give energy back (OCPP 2.1, block Q): operation modes, set-points, frequency curves, aFRR signals.

A vehicle that can discharge says so once its transaction began (NotifyEVChargingNeeds with v2x parameters). The period
of the transaction's profile then says how: idle, charging only, at a set-point of the CSMS, or along a curve of the
grid's frequency or of the signal that AFRRSignal brings. Modes that another controller at the site steers have no such
controller here, and rest.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.charging_profiles import ChargingProfiles, in_w
from simulator.stations.concept import Commands, Concept
from simulator.stations.der_controls import DERControls
from simulator.stations.station import SimulatedEVSE, Transaction

if TYPE_CHECKING:
    from simulator.stations.ocpp201 import Station201

CHARGING_ONLY: Final = "ChargingOnly"
NOMINAL_MHZ: Final = 50_000
_RESTS: Final = ("Idle", "ExternalSetpoint", "ExternalLimits", "LocalLoadBalancing")


class V2X(Concept):
    """`frequency_mhz` is the grid's; `signal` the last of AFRRSignal; `allowed` the transfers that the CSMS allows."""

    station: Station201

    def __init__(self, station: Station201, profiles: ChargingProfiles, der: DERControls) -> None:
        super().__init__(station)
        self.profiles = profiles
        self.der = der
        self.frequency_mhz = NOMINAL_MHZ
        self.signal = 0
        self.allowed: dict[str, list[str]] = {}
        self._modes: dict[int, str] = {}

    def commands(self) -> Commands:
        """The two of the block."""
        return {"AFRRSignal": self._afrr_signal, "NotifyAllowedEnergyTransfer": self._allowed}

    def mode(self, evse: SimulatedEVSE, at: datetime) -> str:
        """Return the operation mode of an EVSE."""
        period = self.profiles.period_of_transaction(evse.profile.ocpp_evse_id, at)
        mode: str = CHARGING_ONLY if period is None else period.get("operationMode", CHARGING_ONLY)
        return mode

    def setpoint_w(self, evse: SimulatedEVSE, at: datetime) -> int | None:
        """Return what is to flow, in W, negative out of the vehicle; None: as much as it takes."""
        if not evse.discharge_w:
            return None
        period = self.profiles.period_of_transaction(evse.profile.ocpp_evse_id, at)
        mode = self.mode(evse, at)
        if period is None or mode == CHARGING_ONLY:
            return None
        if mode in _RESTS:
            return 0
        wanted = in_w(period, "setpoint") or 0
        if mode == "CentralFrequency":
            wanted += _along(period.get("v2xSignalWattCurve", []), "signal", Decimal(self.signal))
        elif mode == "LocalFrequency":
            wanted += _along(period.get("v2xFreqWattCurve", []), "frequency", Decimal(self.frequency_mhz) / 1000)
        most_out = evse.discharge_w * self.der.discharge_percent() // 100
        bound = in_w(period, "dischargeLimit")
        if bound is not None:
            most_out = min(most_out, abs(bound))
        return max(-most_out, wanted) if self._may_discharge(evse) else max(0, wanted)

    def tick(self) -> None:
        """Tell when an EVSE comes to another mode."""
        now = self.station.now()
        for number, evse in self.station.evses.items():
            if evse.transaction is None:
                self._modes.pop(number, None)
                continue
            mode = self.mode(evse, now)
            if self._modes.get(number, CHARGING_ONLY) != mode:
                self._modes[number] = mode
                self.station.update(evse, "OperationModeChanged")

    def began(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """Tell what the vehicle needs and could give."""
        del transaction
        if not evse.discharge_w:
            return
        needs = {
            "requestedEnergyTransfer": "DC_BPT" if evse.profile.is_dc else "AC_BPT",
            "controlMode": "DynamicControl",
            "v2xChargingParameters": {
                "maxChargePower": evse.vehicle_power_w,
                "maxDischargePower": evse.discharge_w,
                "evTargetEnergyRequest": (evse.meter.remaining_ws or 0) // 3_600,
            },
        }
        told = {"evseId": evse.profile.ocpp_evse_id, "chargingNeeds": needs, "timestamp": self.station.timestamp()}
        self.station.tell("NotifyEVChargingNeeds", told)

    def _may_discharge(self, evse: SimulatedEVSE) -> bool:
        transaction = evse.transaction
        allowed = None if transaction is None else self.allowed.get(transaction.local_id)
        return allowed is None or any("BPT" in each for each in allowed)

    def _afrr_signal(self, payload: Payload) -> Reply:
        self.signal = payload["signal"]
        follows = [
            evse for evse in self.station.evses.values() if self.mode(evse, self.station.now()) == "CentralFrequency"
        ]
        for evse in self.station.evses.values():
            self.station.advance(evse)
        return Reply(payload={"status": "Accepted" if follows else "Rejected"})

    def _allowed(self, payload: Payload) -> Reply:
        if self.station.running(payload["transactionId"]) is None:
            return Reply(payload={"status": "Rejected"})
        self.allowed[payload["transactionId"]] = payload["allowedEnergyTransfer"]
        for evse in self.station.evses.values():
            self.station.advance(evse)
        return Reply(payload={"status": "Accepted"})


def _along(curve: list[dict[str, Any]], name: str, at: Decimal) -> int:
    """Return the power of a curve at a place, in W: straight between its points, level beyond them."""
    points = sorted((Decimal(str(each[name])), Decimal(str(each["power"]))) for each in curve)
    if not points:
        return 0
    if at <= points[0][0]:
        return int(points[0][1])
    for (left, low), (right, high) in itertools.pairwise(points):
        if at <= right:
            return int(low + (high - low) * (at - left) / (right - left))
    return int(points[-1][1])
