"""Who may send what to whom: a receiver's own rules, asked before it sees anything."""

from __future__ import annotations

from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.ports.unit_of_work import UnitOfWork
from roaming_hub.records import ROUTING_RULE

ANY: Final = "*"


async def is_allowed(unit: UnitOfWork, *, receiver: PartyId, sender: PartyId, module: str) -> bool:
    """Decide by the most particular rule: sender and module, sender, module, any; without a rule all is allowed."""
    rules = {
        (rule.sender, rule.module): rule.is_allowed
        for rule in await unit.table(ROUTING_RULE).select({"receiver": receiver})
    }
    asked = ((sender.code, module), (sender.code, ANY), (ANY, module), (ANY, ANY))
    return next((rules[each] for each in asked if each in rules), True)
