"""What an audit says: how much it compared, and every difference with its cause."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
class Check:
    """One rule, on how many things it was tried, and where it failed."""

    rule: str
    compared: int
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """All checks of one audit."""

    checks: tuple[Check, ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Every difference, by rule."""
        return tuple(difference for check in self.checks for difference in check.differences)

    @property
    def is_clean(self) -> bool:
        """Whether every rule holds."""
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "clean": self.is_clean,
            "checks": [
                {"rule": check.rule, "compared": check.compared, "differences": len(check.differences)}
                for check in self.checks
            ],
            "differences": [asdict(difference) for difference in self.differences],
        }
