"""Errors named after the rule that was broken.

The tree; each module defines the errors of its own rules below one of these::

    EmobilityError
    ├── MalformedInput        a value no rule can be applied to (peer's fault, never stored as fact)
    ├── RuleBroken            a well-formed request that a business rule refuses (peer's fault)
    │   ├── CurrencyMismatch
    │   └── MeterRanBackwards
    └── Unavailable           something of ours or beyond us did not answer; trying again may help

A broken invariant of our own is an `AssertionError`, raised before wrong money is written.
Facts are attributes; the sentence is for people. Only the edge maps these to OCPP, OCPI or HTTP codes.
"""

from __future__ import annotations


class EmobilityError(Exception):
    """Root of every error this project raises on purpose."""


class MalformedInput(EmobilityError):
    """The input is not of the form its standard asks for."""


class RuleBroken(EmobilityError):
    """The input is well-formed, and a rule of the business refuses it."""


class Unavailable(EmobilityError):
    """A component or a counterparty did not answer; the same call may succeed later."""


class CurrencyMismatch(RuleBroken):
    """Amounts of two currencies met in one sum."""

    def __init__(self, *, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(f"an amount in {found} met a sum in {expected}")


class MeterRanBackwards(RuleBroken):
    """A register fell between two readings."""

    def __init__(self, *, start_wh: int, end_wh: int) -> None:
        self.start_wh = start_wh
        self.end_wh = end_wh
        super().__init__(f"the register fell from {start_wh} Wh to {end_wh} Wh")
