"""Why a signed record is not believed, each rule by its name."""

from __future__ import annotations

from enum import StrEnum

from emobility.domain.errors import RuleBroken


class OCMFRule(StrEnum):
    """The rules that a record or a charge must keep."""

    BEGIN_AND_END = "BEGIN_AND_END"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    ERROR_FLAG = "ERROR_FLAG"
    KEY_INSIDE_RECORD = "KEY_INSIDE_RECORD"
    MALFORMED = "MALFORMED"
    METER_STATUS = "METER_STATUS"
    NUMBER_TEXT = "NUMBER_TEXT"
    ONE_METER = "ONE_METER"
    PAGINATION = "PAGINATION"
    PUBLIC_KEY = "PUBLIC_KEY"
    READING_CONTEXT = "READING_CONTEXT"
    RECORD_REUSED = "RECORD_REUSED"
    REGISTER_MATCHES = "REGISTER_MATCHES"
    REGISTER_RISES = "REGISTER_RISES"
    SIGNATURE = "SIGNATURE"
    TIME_RISES = "TIME_RISES"
    UNIT = "UNIT"


class OCMFRefused(RuleBroken):
    """A signed record broke a rule; `rule` says which, `seen` what was there."""

    def __init__(self, rule: OCMFRule, seen: str) -> None:
        self.rule = rule
        self.seen = seen[:200]
        super().__init__(f"{rule}: {self.seen}")
