"""A charge as an OCPP 1.6 station reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.conformance.scenario import (
    ANYTHING,
    BETWEEN_REPORTS,
    STARTED_BEFORE,
    WH_BETWEEN_REPORTS,
    Station,
    csms_answers,
)

REGISTER_WH: Final = 1_000


async def reports(station: Station, status: str, *, connector: int = 1, error: str = "NoError") -> None:
    """Report what a connector is."""
    words = {"connectorId": connector, "status": status, "errorCode": error, "timestamp": station.moment()}
    csms_answers(await station.sends("StatusNotification", **words))


async def authorizes(station: Station, card: str | None = None, *, status: str = "Accepted") -> Any:
    """Show a card; return what the CSMS says of it."""
    answer = await station.sends("Authorize", idTag=card or station.card)
    csms_answers(answer, idTagInfo={"status": status})
    return answer["idTagInfo"]


@dataclass(slots=True)
class Charge:
    """A transaction at a connector. Each report is minutes later than the last, and the register counts on."""

    station: Station
    connector: int = 1
    card: str = ""
    transaction_id: int = 0
    reported: int = 0

    def __post_init__(self) -> None:
        self.card = self.card or self.station.card

    @property
    def metered_wh(self) -> int:
        """What was charged so far."""
        return WH_BETWEEN_REPORTS * (self.reported - 1)

    async def starts(self, *, status: str = "Accepted", **more: Any) -> None:
        """Start; the CSMS gives the transaction its number and says what it thinks of the card."""
        at, register = self._next()
        words = {"connectorId": self.connector, "idTag": self.card, "meterStart": register, "timestamp": at}
        answer = await self.station.sends("StartTransaction", **(words | more))
        csms_answers(answer, transactionId=ANYTHING, idTagInfo={"status": status})
        self.transaction_id = answer["transactionId"]

    async def meters(self) -> None:
        """Report the register."""
        at, register = self._next()
        value = {"timestamp": at, "sampledValue": [{"value": str(register), "unit": "Wh"}]}
        words = {"connectorId": self.connector, "transactionId": self.transaction_id, "meterValue": [value]}
        csms_answers(await self.station.sends("MeterValues", **words))

    async def stops(self, reason: str = "Local", **more: Any) -> Any:
        """Stop; return the answer."""
        at, register = self._next()
        words = {"transactionId": self.transaction_id, "meterStop": register, "timestamp": at, "reason": reason}
        return await self.station.sends("StopTransaction", **(words | more))

    def _next(self) -> tuple[str, int]:
        minutes = (self.reported * BETWEEN_REPORTS - STARTED_BEFORE).total_seconds() / 60
        register = REGISTER_WH + self.reported * WH_BETWEEN_REPORTS
        self.reported += 1
        return self.station.moment(minutes), register


async def charges(station: Station, **options: Any) -> Charge:
    """Plug in, show the card, and charge (reusable state Charging)."""
    charge = Charge(station, **options)
    await reports(station, "Preparing", connector=charge.connector)
    await authorizes(station, charge.card)
    await charge.starts()
    await reports(station, "Charging", connector=charge.connector)
    await charge.meters()
    return charge
