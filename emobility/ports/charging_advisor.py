"""The gateway's questions to the CPO's back office about how an EV may charge, asked before a station is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId


class AdvisorUnavailable(Unavailable):
    """The back office did not answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingQuestion:
    """A station asks; exactly one of the two is given.

    `evse_with_needs`: an EV told its needs there (NotifyEVChargingNeeds); will a profile follow? `dynamic_profile_id`:
    what are the present values of this dynamic profile (2.1, PullDynamicScheduleUpdate)?
    """

    party_id: PartyId
    charging_station_id: str
    evse_with_needs: int | None = None
    dynamic_profile_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingAdvice:
    """The answer. Without one - the back office is away - a station is told no, and goes on as it does.

    `is_accepted`: a profile follows, or the values are `schedule_update` (ChargingScheduleUpdateType of 2.1).
    """

    is_accepted: bool = False
    schedule_update: dict[str, Any] = field(default_factory=dict)


class ChargingAdvisor(Protocol):
    """Asks the back office."""

    async def advise(self, question: ChargingQuestion) -> ChargingAdvice:
        """Return the advice. Raises `AdvisorUnavailable`."""
