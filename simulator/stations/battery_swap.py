"""A battery swap station (OCPP 2.1, block S): slots with batteries, and swaps that drivers or the CSMS begin.

A driver first puts the empty batteries in, then takes charged ones; both messages have the same requestId. One who
does not take them in time leaves them to the next, and the station says so (S04).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept

if TYPE_CHECKING:
    from simulator.stations.station import Station

CHARGED_PERCENT: Final = 80
"""State of charge from which a battery is given out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One battery: who it is, how full (`soc_percent`) and how well (`soh_percent`)."""

    serial_number: str
    soc_percent: float
    soh_percent: float
    produced_at: str | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """Who swaps, under which number, and into which slots the old ones went."""

    request_id: int
    id_token: str
    id_kind: str
    slots_in: tuple[int, ...] = ()
    slots_out: tuple[int, ...] = ()


class BatterySwap(Concept):
    """One swap at a time. `slots`: by EVSE, the battery in it."""

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self.slots: dict[int, Battery | None] = {}
        self.swap: Swap | None = None
        self._requests = 0

    def commands(self) -> Commands:
        """A swap begun from afar (S02)."""
        return {"RequestBatterySwap": self._request}

    # What drivers do

    def stock(self, slots: dict[int, Battery | None]) -> None:
        """Say what is in the station."""
        self.slots = dict(slots)

    def begin(self, id_token: str, id_kind: str = "ISO14443") -> Swap:
        """A driver identified and may swap (S01)."""
        assert self.swap is None, "a swap is under way"
        self._requests += 1
        self.swap = Swap(self._requests, id_token, id_kind)
        return self.swap

    def put_in(self, batteries: list[Battery]) -> None:
        """The driver puts batteries into free slots."""
        assert self.swap is not None, "nobody swaps"
        free = [number for number, battery in self.slots.items() if battery is None][: len(batteries)]
        assert len(free) == len(batteries), "no slot is free"
        self.slots |= dict(zip(free, batteries, strict=True))
        self.swap = Swap(self.swap.request_id, self.swap.id_token, self.swap.id_kind, tuple(free))
        self._tell("BatteryIn", tuple(free))

    def take_out(self) -> list[Battery]:
        """The driver takes as many charged batteries as went in; the swap is done."""
        offered = self._offered()
        self._tell("BatteryOut", offered)
        taken = [battery for number in offered if (battery := self.slots[number]) is not None]
        self.slots |= dict.fromkeys(offered)
        self.swap = None
        return taken

    def leave(self) -> None:
        """The driver did not take what was offered in time; it stays."""
        self._tell("BatteryOutTimeout", self._offered())
        self.swap = None

    def charge(self, evse_id: int, soc_percent: float) -> None:
        """A battery in its slot was charged to a state."""
        battery = self.slots[evse_id]
        assert battery is not None, "the slot is empty"
        self.slots[evse_id] = Battery(
            serial_number=battery.serial_number,
            soc_percent=soc_percent,
            soh_percent=battery.soh_percent,
            produced_at=battery.produced_at,
        )

    # Inner workings

    def _offered(self) -> tuple[int, ...]:
        assert self.swap is not None, "nobody swaps"
        charged = [each for each in self._charged() if each not in self.swap.slots_in]
        return tuple(charged[: max(1, len(self.swap.slots_in))])

    def _charged(self) -> list[int]:
        return [
            number
            for number, battery in self.slots.items()
            if battery is not None and battery.soc_percent >= CHARGED_PERCENT
        ]

    def _tell(self, event: str, slots: tuple[int, ...]) -> None:
        swap = self.swap
        assert swap is not None, "nobody swaps"
        told = {
            "eventType": event,
            "requestId": swap.request_id,
            "idToken": {"idToken": swap.id_token, "type": swap.id_kind},
            "batteryData": [_data(number, battery) for number in slots if (battery := self.slots[number]) is not None],
        }
        self.station.tell("BatterySwap", told)

    def _request(self, payload: Payload) -> Reply:
        if self.swap is not None or not self._charged():
            return Reply(payload={"status": "Rejected"})
        token = payload["idToken"]
        self.swap = Swap(payload["requestId"], token["idToken"], token["type"])
        return Reply(payload={"status": "Accepted"})


def _data(evse_id: int, battery: Battery) -> dict[str, Any]:
    data = {
        "evseId": evse_id,
        "serialNumber": battery.serial_number,
        "soC": battery.soc_percent,
        "soH": battery.soh_percent,
    }
    return data if battery.produced_at is None else data | {"productionDate": battery.produced_at}
