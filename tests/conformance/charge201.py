"""A charge as an OCPP 2.0.1 station reports it; the functions are the reusable states of the test case document."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

from tests.conformance.scenario import (
    BETWEEN_REPORTS,
    STARTED_BEFORE,
    WH_BETWEEN_REPORTS,
    Station,
    csms_answers,
)

ACCEPTED: Final = {"status": "Accepted"}
REGISTER_WH: Final = 1_000
_NUMBERS: Final = itertools.count(1)


def token(card: str, kind: str = "ISO14443") -> dict[str, str]:
    """Return an IdTokenType."""
    return {"idToken": card, "type": kind}


async def reports(station: Station, status: str, *, evse: int = 1, connector: int = 1) -> None:
    """Report what a connector is."""
    words = {"connectorStatus": status, "evseId": evse, "connectorId": connector, "timestamp": station.moment()}
    csms_answers(await station.sends("StatusNotification", **words))


async def authorizes(station: Station, card: str | None = None, *, status: str = "Accepted") -> Any:
    """Show a card; return what the CSMS says of it."""
    answer = await station.sends("Authorize", idToken=token(card or station.card))
    csms_answers(answer, idTokenInfo={"status": status})
    return answer["idTokenInfo"]


@dataclass(slots=True)
class Charge:
    """A transaction at an EVSE. Each event is minutes later than the last; the register counts while energy flows."""

    station: Station
    evse: int = 1
    card: str = ""
    transaction_id: str = field(default_factory=lambda: f"tx-{next(_NUMBERS)}")
    seq_no: int = 0
    flowed: int = 0
    """Reports between which energy flowed."""

    def __post_init__(self) -> None:
        self.card = self.card or self.station.card

    @property
    def metered_wh(self) -> int:
        """What was charged."""
        return self.flowed * WH_BETWEEN_REPORTS

    async def tells(
        self,
        trigger: str,
        state: str | None = None,
        *,
        card: str | None = None,
        ends: str | None = None,
        flowing: bool = False,
        info: dict[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        """Send the next TransactionEvent: the first starts, `ends` names why the last one ends. Return the answer."""
        event = "Ended" if ends is not None else "Updated" if self.seq_no else "Started"
        self.flowed += flowing
        about = {"transactionId": self.transaction_id, "chargingState": state, "stoppedReason": ends} | (info or {})
        words: dict[str, Any] = {
            "eventType": event,
            "timestamp": self.at,
            "triggerReason": trigger,
            "seqNo": self.seq_no,
            "evse": {"id": self.evse, "connectorId": 1},
            "transactionInfo": {name: value for name, value in about.items() if value is not None},
            "meterValue": [self.meter(event)],
        }
        if card is not None:
            words["idToken"] = token(card)
        self.seq_no += 1
        said = {name: value for name, value in (words | more).items() if value is not None}
        return await self.station.sends("TransactionEvent", **said)

    @property
    def at(self) -> str:
        """When the next event happens."""
        return self.station.moment((self.seq_no * BETWEEN_REPORTS - STARTED_BEFORE).total_seconds() / 60)

    def meter(self, event: str = "Updated", **more: Any) -> dict[str, Any]:
        """Return the register as it is at an event."""
        context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}.get(event, "Sample.Periodic")
        value = {
            "value": REGISTER_WH + self.metered_wh,
            "context": context,
            "measurand": "Energy.Active.Import.Register",
            "unitOfMeasure": {"unit": "Wh"},
        }
        return {"timestamp": self.at, "sampledValue": [value | more]}

    # Reusable states

    async def connects_ev(self) -> None:
        """EVConnectedPreSession."""
        await reports(self.station, "Occupied", evse=self.evse)
        csms_answers(await self.tells("CablePluggedIn", "EVConnected"))

    async def is_authorized(self) -> None:
        """Authorized: the card is shown, and told in the transaction."""
        await authorizes(self.station, self.card)
        answer = await self.tells("Authorized", "EVConnected" if self.seq_no else None, card=self.card)
        csms_answers(answer, idTokenInfo=ACCEPTED)

    async def flows(self) -> None:
        """EnergyTransferStarted, and the first energy."""
        csms_answers(await self.tells("ChargingStateChanged", "Charging"))
        csms_answers(await self.tells("MeterValuePeriodic", "Charging", flowing=True))

    async def stops_flowing(self, trigger: str = "StopAuthorized", **more: Any) -> None:
        """EVConnectedPostSession."""
        csms_answers(await self.tells(trigger, "EVConnected", flowing=True, **more))

    async def disconnects_ev(self) -> None:
        """EVDisconnected, which ends the transaction."""
        csms_answers(await self.tells("EVCommunicationLost", "Idle", ends="EVDisconnected"))
        await reports(self.station, "Available", evse=self.evse)


async def charges(station: Station, **options: Any) -> Charge:
    """Return a charge that is under way (EnergyTransferStarted)."""
    charge = Charge(station, **options)
    await charge.connects_ev()
    await charge.is_authorized()
    await charge.flows()
    return charge
