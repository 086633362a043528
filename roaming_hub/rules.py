"""Who may send what to whom: a receiver's own rules, asked before it sees anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    return _decided(rules, sender, module)


async def permitted(
    unit: UnitOfWork, *, receivers: Collection[PartyId], sender: PartyId, module: str
) -> frozenset[PartyId]:
    """Return which of many receivers take messages of a module from a sender, by one reading of the rules."""
    rules: dict[PartyId, dict[tuple[str, str], bool]] = {}
    for rule in await unit.table(ROUTING_RULE).select():
        rules.setdefault(rule.receiver, {})[rule.sender, rule.module] = rule.is_allowed
    return frozenset(each for each in receivers if _decided(rules.get(each, {}), sender, module))


def _decided(rules: Mapping[tuple[str, str], bool], sender: PartyId, module: str) -> bool:
    asked = ((sender.code, module), (sender.code, ANY), (ANY, module), (ANY, ANY))
    return next((rules[each] for each in asked if each in rules), True)
