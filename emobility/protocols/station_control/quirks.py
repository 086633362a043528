"""Quirk profiles: which departures from the standard are tolerated, and of which stations. They are data.

Downwards: PUT, DELETE {gateway}/quirks/{party}/{name} with a `QuirkProfile`, GET {gateway}/quirks/{party}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from emobility.domain.errors import MalformedInput

SENTENCE_CHARACTERS_MAX: Final = 500
PATTERN_CHARACTERS_MAX: Final = 100
ENTRIES_MAX: Final = 100
"""Spellings of one profile, and properties it supplies."""
ANY: Final = "*"
NOW: Final = "now"
"""As a missing property's value: the moment of arrival."""
METERING_ACTIONS: Final = frozenset({"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"})
"""What money is made of: nothing missing is ever supplied here."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,49}")


class QuirkProfileRefused(MalformedInput):
    """A profile says something that no profile may say."""


class Tolerance(StrEnum):
    """One kind of departure."""

    UNKNOWN_PROPERTIES = "unknown_properties"
    """A property that the schema does not know is left out."""
    NULL_PROPERTIES = "null_properties"
    """A property that is null is absent."""
    MISSING_PROPERTIES = "missing_properties"
    """The profile's `missing` supplies them; never in `METERING_ACTIONS`."""
    EMPTY_LISTS = "empty_lists"
    """An optional list that is empty is absent."""
    LOOSE_TIMES = "loose_times"
    """A time without zone is the profile's `time_zone`'s; one in another form of ISO 8601 is read."""
    NUMBERS_AS_TEXT = "numbers_as_text"
    """A number in quotes is the number."""
    TEXTS_AS_NUMBERS = "texts_as_numbers"
    """A number where a text belongs is its digits."""
    OTHER_CASE = "other_case"
    """An enumeration value is known in other letter case."""
    OTHER_SPELLINGS = "other_spellings"
    """The profile's `spellings` say which enumeration value is meant."""
    LONG_TEXTS = "long_texts"
    """A text for people is cut to its length; what identifies, proves or measures is not."""
    LONG_ID_TAGS = "long_id_tags"
    """An idTag of 1.6 may have 36 characters, as OCPI's token uid; it is kept whole."""
    SAMPLED_KWH_AS_WH = "sampled_kwh_as_wh"
    """Sampled energy that is said to be in Wh, or says no unit, is in kWh."""
    REGISTERS_KWH_AS_WH = "registers_kwh_as_wh"
    """1.6: meterStart and meterStop are in kWh."""
    TRANSACTION_ID_ZERO = "transaction_id_zero"
    """1.6: transactionId 0 is the transaction that runs at the connector, where the gateway knows just one."""


CORRECTIONS: Final = frozenset(
    {
        Tolerance.LOOSE_TIMES,
        Tolerance.SAMPLED_KWH_AS_WH,
        Tolerance.REGISTERS_KWH_AS_WH,
        Tolerance.TRANSACTION_ID_ZERO,
    }
)
"""They change what a reading means, so each reading of the message says so (`MeterReading.note`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuirkProfile:
    """What is tolerated (`tolerances`), why and in whose judgement (`who`), and of which stations: all patterns match.

    Patterns are of the shell's kind (`*`, `?`), in any letter case; what a station has not told matches only `*`.
    """

    tolerances: tuple[Tolerance, ...]
    who: str
    why: str
    vendor: str = ANY
    model: str = ANY
    firmware_version: str = ANY
    charging_station_id: str = ANY
    ocpp_version: str | None = None
    spellings: dict[str, str] = field(default_factory=dict)
    """What the station says, and what it means."""
    missing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By action: property and value; a value `now` is the moment of arrival."""
    time_zone: str = "UTC"
    heartbeat_interval_s: int | None = None
    """Told at boot instead of the gateway's: for stations that beat too often at that."""

    def matches(self, make: StationMake, *, charging_station_id: str, ocpp_version: str) -> bool:
        """Tell whether a station is meant."""
        return self.ocpp_version in {None, ocpp_version} and all(
            pattern == ANY or (text is not None and fnmatchcase(text.casefold(), pattern.casefold()))
            for pattern, text in (
                (self.vendor, make.vendor),
                (self.model, make.model),
                (self.firmware_version, make.firmware_version),
                (self.charging_station_id, charging_station_id),
            )
        )


@dataclass(frozen=True, slots=True)
class StationMake:
    """What a station last said it is (BootNotification)."""

    vendor: str | None = None
    model: str | None = None
    firmware_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedQuirkProfile:
    """A profile in force at a party; `is_built_in`: it came with this version, and one of the same name replaces it."""

    name: str
    profile: QuirkProfile
    is_built_in: bool
    changed_at: datetime | None = None


def check_profile(name: str, profile: QuirkProfile) -> None:
    """Check an operator's profile. Raises `QuirkProfileRefused`."""
    patterns = (profile.vendor, profile.model, profile.firmware_version, profile.charging_station_id)
    tolerances = set(profile.tolerances)
    rules = {
        "a name is 1 to 50 of a-z, 0-9, '.', '_' and '-'": _NAME.fullmatch(name),
        "it says who and why": all(
            len(text.strip()) > 0 and len(text) <= SENTENCE_CHARACTERS_MAX for text in (profile.who, profile.why)
        ),
        f"a pattern has 1 to {PATTERN_CHARACTERS_MAX} characters": all(
            0 < len(each) <= PATTERN_CHARACTERS_MAX for each in patterns
        ),
        "a profile is for some stations, not for all": any(each.strip("*") for each in patterns),
        "spellings belong to other_spellings": bool(profile.spellings) is (Tolerance.OTHER_SPELLINGS in tolerances),
        "missing belongs to missing_properties": bool(profile.missing) is (Tolerance.MISSING_PROPERTIES in tolerances),
        f"nothing is supplied in {', '.join(sorted(METERING_ACTIONS))}": METERING_ACTIONS.isdisjoint(profile.missing),
        f"at most {ENTRIES_MAX} entries": max(len(profile.spellings), sum(map(len, profile.missing.values())))
        <= ENTRIES_MAX,
        "heartbeat_interval_s is 1 to 86400": profile.heartbeat_interval_s is None
        or 1 <= profile.heartbeat_interval_s <= 86_400,
        f"{profile.time_zone!r:.40} is no time zone": _is_zone(profile.time_zone),
    }
    for rule, holds in rules.items():
        if not holds:
            raise QuirkProfileRefused(rule)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
