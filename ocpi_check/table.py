"""The checklist: one row per rule, entered by the module of its group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ocpi_check.wire import Answer

if TYPE_CHECKING:
    from ocpi_check.run import Run

ALL: Final = ("HUB", "CPO", "EMSP", "NSP")
HUB: Final = ("HUB",)
CPO: Final = ("HUB", "CPO")
EMSP: Final = ("HUB", "EMSP")
BOTH: Final = ("2.2.1", "2.3.0")
SINCE_230: Final = ("2.3.0",)


class Verdict(StrEnum):
    """What came of a check."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    SKIP = "SKIP"


class Broken(Exception):
    """A rule is broken: what was sent, what the text expects, what came."""

    def __init__(self, *, expected: str, got: Answer | str, sent: str = "") -> None:
        self.expected = expected
        self.got = str(got)
        self.sent = sent or (got.sent if isinstance(got, Answer) else "")
        super().__init__(f"{self.sent}: expected {expected}, got {self.got}")


class NotApplicable(Exception):
    """The check can't be made here; says why."""


Body = Callable[["Run"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line.

    Attributes:
        rule: Its id in the checklist, as T1.
        title: What must hold.
        anchor: Where the text says so, file and anchor.
        roles: Roles of a platform under test that it applies to.
        versions: Versions that it applies to.
    """

    rule: str
    title: str
    anchor: str
    roles: tuple[str, ...]
    versions: tuple[str, ...]
    body: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a check."""

    check: Check
    verdict: Verdict
    sent: str = ""
    expected: str = ""
    got: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "rule": self.check.rule,
            "title": self.check.title,
            "anchor": self.check.anchor,
            "verdict": self.verdict.value,
            "sent": self.sent,
            "expected": self.expected,
            "got": self.got,
        }


CHECKS: Final[list[Check]] = []
"""Filled by the groups' modules, in the order of `ocpi_check.checks`."""


def check(
    rule: str, anchor: str, *, roles: tuple[str, ...] = ALL, versions: tuple[str, ...] = BOTH
) -> Callable[[Body], Body]:
    """Enter a check; its docstring is its title."""

    def enter(body: Body) -> Body:
        title = (body.__doc__ or "").strip().splitlines()[0]
        CHECKS.append(Check(rule=rule, title=title, anchor=anchor, roles=roles, versions=versions, body=body))
        return body

    return enter


def expect(
    answer: Answer, expected: str = "", *, http: int | tuple[int, ...] | None = None, code: int | range | None = None
) -> Answer:
    """Return the answer if HTTP status and status code are as expected. Raises `Broken`."""
    statuses = (http,) if isinstance(http, int) else http
    codes = range(code, code + 1) if isinstance(code, int) else code
    if (statuses is None or answer.http in statuses) and (codes is None or answer.code in codes):
        return answer
    parts = [f"HTTP {' or '.join(map(str, statuses))}"] if statuses else []
    if codes:
        parts.append(f"S {codes.start}" if len(codes) == 1 else f"S {codes.start // 1000}xxx")
    raise Broken(expected=", ".join([*parts, *([expected] if expected else [])]), got=answer)


def hold(fact: object, *, expected: str, got: Answer | str, sent: str = "") -> None:
    """Raise `Broken` unless the fact holds."""
    if not fact:
        raise Broken(expected=expected, got=got, sent=sent)


SUCCESS: Final = range(1000, 2000)
CLIENT_ERRORS: Final = range(2000, 3000)
