"""One thing a station can do beside charging, with its own state: reservations, a local list, DER controls.

A station is its charging and a list of these. Each answers the CALLs it is about and takes part in what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.stations.calls import Payload, Reply

if TYPE_CHECKING:
    from simulator.stations.station import SimulatedEVSE, Station, Transaction

Commands = dict[str, Callable[[Payload], Reply]]


class Concept:
    """Base; a subclass says only what differs from doing nothing."""

    def __init__(self, station: Station) -> None:
        self.station = station

    def commands(self) -> Commands:
        """CALLs of the CSMS that it answers."""
        return {}

    def tick(self) -> None:
        """Time went by."""

    def booted(self) -> None:
        """The CSMS accepted the station's boot."""

    def began(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """A transaction began; its start is not reported yet."""

    def ended(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """A transaction ended; its end is not reported yet."""
