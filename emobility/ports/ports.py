"""The bundle that wiring hands to `build(settings, ports)` of each deployable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from emobility.ports.clock import Clock, Randomness, Timer
from emobility.ports.event_log import EventLog
from emobility.ports.http import HttpClient
from emobility.ports.party_registry import PartyRegistry
from emobility.ports.payments import Payments
from emobility.ports.reconciliation import Reconciliation
from emobility.ports.signer import Signer
from emobility.ports.unit_of_work import Units
from emobility.ports.vault import Vault


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a deployable is given; it asks for nothing else."""

    clock: Clock
    timer: Timer
    randomness: Randomness
    event_log: EventLog
    units: Units
    vault: Vault
    http: HttpClient
    signer: Signer
    payments: Payments
    party_registry: PartyRegistry | None = None
    """None: no registry is in use, and whoever operates a hub knows its parties."""
    reconciliation: Reconciliation | None = None
    """None: nobody audits here."""


class Service(Protocol):
    """A deployable, built but not yet running."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain and return."""
