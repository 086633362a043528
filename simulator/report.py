"""What a simulation tells when it is over."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from simulator.truth import Truth

TRUTH_FILE: Final = "truth.json"
REPORT_FILE: Final = "simulation.json"
"""What a simulator leaves in its folder."""


class Outcome(StrEnum):
    """What became of a planned session."""

    PLANNED = "PLANNED"
    CHARGED = "CHARGED"
    REFUSED = "REFUSED"


@dataclass(slots=True, kw_only=True)
class SessionOutcome:
    """A planned session and what the driver saw of it.

    Amounts in ten-thousandths. `quoted_excl_e4`, `quoted_incl_e4`: the estimate the app showed. `local_id` joins the
    transaction in `Truth`.
    """

    number: int
    party_id: str
    emsp_id: str
    charging_station_id: str
    ocpp_evse_id: int
    started_by: str
    is_roaming: bool
    fault: str
    arrives_at: datetime
    leaves_at: datetime
    outcome: Outcome = Outcome.PLANNED
    refusal: str | None = None
    quote_id: str | None = None
    local_id: str | None = None
    watched: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SimulationReport:
    """Counts, outcomes and the truth.

    `messages` counts CALLs of stations by OCPP version and action, `commands` those of the CSMS; `call_errors` lists
    what was answered with CALLERROR; `intrusions` says how each was refused.
    """

    seed: int
    began_at: datetime
    ended_at: datetime
    sessions: list[SessionOutcome]
    truth: Truth
    moments: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    call_errors: list[str] = field(default_factory=list)
    intrusions: list[str] = field(default_factory=list)
    connections: int = 0

    def figures(self) -> dict[str, Any]:
        """Return a summary as plain JSON."""
        outcomes = Counter(each.outcome.value for each in self.sessions)
        return {
            "seed": self.seed,
            "moments": self.moments,
            "sessions": dict(sorted(outcomes.items())),
            "roaming": sum(each.is_roaming and each.outcome is Outcome.CHARGED for each in self.sessions),
            "metered_wh": self.truth.metered_wh,
            "messages": sum(self.messages.values()),
            "messages_by_action": dict(sorted(self.messages.items())),
            "commands": dict(sorted(self.commands.items())),
            "call_errors": self.call_errors,
            "refusals": {each.number: each.refusal for each in self.sessions if each.refusal is not None},
            "intrusions": self.intrusions,
            "connections": self.connections,
        }
