"""What an audit says: how much it compared, and every difference with its cause."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from emobility.ports.event_log import DiscardedEvent

DIFFERENCES_MAX: Final = 10_000
"""Most differences of one rule of a period that are told one by one; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it must be.

    Attributes:
        rule: The broken rule, as in `energy is conserved`.
        scope: Where: party, station and transaction; pair; driver.
        expected: What the rule asks for.
        found: What is stored.
        unit: Of both: Wh, e4 with currency, documents, events.
        cause: What an operator should look at.
    """

    rule: str
    scope: str
    expected: int
    found: int
    unit: str
    cause: str


def amount_difference(rule: str, scope: str, amounts_e4: tuple[int, int], currency: str, cause: str) -> Difference:
    """Return a difference in money; `amounts_e4` are what is expected and what is found."""
    expected, found = amounts_e4
    return Difference(rule=rule, scope=scope, expected=expected, found=found, unit=f"e4 {currency}", cause=cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """A partition of the log whose first `events` offsets are gone, the last of them just before `events`."""

    topic: str
    partition: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """CDRs that are not settled yet for one reason; in a credit energy and money count with a minus sign.

    Attributes:
        reason: What they wait for.
        currency: ISO 4217.
        cdrs: How many.
        energy_wh: Drawn from the grid, in Wh.
        net_e4: What MSPs will owe, in ten-thousandths of the currency unit.
    """

    reason: str
    currency: str
    cdrs: int
    energy_wh: int
    net_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule, on how many things it was tried, on how many it could not be (`unknown`), and where it failed.

    `untold`: differences beyond `DIFFERENCES_MAX`, of which only the number is known.
    """

    rule: str
    compared: int
    unknown: int = 0
    differences: tuple[Difference, ...] = ()
    untold: int = 0

    def plus(self, other: Check) -> Check:
        """Return what two parts of one rule found together."""
        both = self.differences + other.differences
        return Check(
            rule=self.rule,
            compared=self.compared + other.compared,
            unknown=self.unknown + other.unknown,
            differences=both[:DIFFERENCES_MAX],
            untold=self.untold + other.untold + max(0, len(both) - DIFFERENCES_MAX),
        )

    def closed(self) -> Check:
        """Return it with the number of untold differences as its last one."""
        if not self.untold:
            return self
        more = Difference(
            rule=self.rule,
            scope="",
            expected=0,
            found=self.untold,
            unit="differences",
            cause=f"and {self.untold} more, which are not told one by one",
        )
        return replace(self, differences=(*self.differences, more), untold=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """All checks of one audit, what the log could not tell it any more, and what operators had discarded.

    Attributes:
        waiting: What is not settled yet; no difference.
        why_quick: Why neither signatures nor the chain were looked at; None: they were.
    """

    checks: tuple[Check, ...]
    pruned: tuple[Pruned, ...] = ()
    discarded: tuple[DiscardedEvent, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    why_quick: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether signatures were recovered and the chain was compared."""
        return self.why_quick is None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Every difference, by rule."""
        return tuple(difference for check in self.checks for difference in check.differences)

    @property
    def is_clean(self) -> bool:
        """Whether every rule holds for all that could be compared; see `is_complete`."""
        return not self.differences

    @property
    def is_complete(self) -> bool:
        """Whether nothing was pruned that an audit has to read."""
        return not self.pruned

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "clean": self.is_clean,
            "complete": self.is_complete,
            "full": self.is_full,
            "why_quick": self.why_quick,
            "checks": [
                {
                    "rule": check.rule,
                    "compared": check.compared,
                    "unknown": check.unknown,
                    "differences": len(check.differences),
                }
                for check in self.checks
            ],
            "waiting": [asdict(each) for each in self.waiting],
            "pruned": [asdict(each) for each in self.pruned],
            "discarded": [_discard_as_json(each) for each in self.discarded],
            "differences": [asdict(difference) for difference in self.differences],
        }


def _discard_as_json(each: DiscardedEvent) -> dict[str, Any]:
    logged = each.parked.logged
    return {
        "group": each.parked.group,
        "topic": logged.topic,
        "partition": logged.partition,
        "offset": logged.offset,
        "event": logged.envelope.event.wire_name,
        "reason": each.parked.reason,
        "who": each.who,
        "why": each.why,
        "discarded_at": each.discarded_at.isoformat(),
    }
