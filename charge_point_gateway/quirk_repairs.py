"""Read a payload that departs from its schema as the tolerances of a station's profiles say; pure.

The schema's own errors are the guide: each must be one that a tolerance repairs, in a copy of the payload, or the
payload is refused as without any profile. A payload that keeps its schema is never touched by these repairs. What a
station means by its energy no schema can tell, so `corrected` is asked of every metering message of a station whose
profile says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import jsonschema_rs
from msgspec import structs

from charge_point_gateway import strict_json
from charge_point_gateway.message import Fact, rfc3339
from emobility.domain.errors import MalformedInput
from emobility.events.charging import EVSEMetered, TransactionEvent
from emobility.protocols.station_control.quirks import NOW, QuirkProfile, Tolerance

ROUNDS_MAX: Final = 4
"""A repair may lay open another departure; after so many rounds the payload is refused."""
REPAIRS_MAX: Final = 500
"""Departures of one payload: a long transactionData has one in each value."""
ID_TAG_CHARACTERS_MAX: Final = 36
"""OCPI 2.2.1, 12.3.2: Token.uid."""
WH_PER_KWH: Final = 1_000
NEVER_CUT: Final = frozenset(
    {
        "idTag",
        "parentIdTag",
        "idToken",
        "transactionId",
        "value",
        "signedMeterData",
        "publicKey",
        "csr",
        "certificate",
        "serialNumber",
    }
)
"""Texts that identify, measure or prove: half of one is another."""
_WH: Final = (None, "Wh")
_ENERGY: Final = "Energy."


@dataclass(frozen=True, slots=True)
class Leniency:
    """All that is tolerated of one station, out of all profiles that match it."""

    tolerances: frozenset[Tolerance] = frozenset()
    spellings: dict[str, str] = field(default_factory=dict)
    missing: dict[str, dict[str, Any]] = field(default_factory=dict)
    time_zone: str = "UTC"
    heartbeat_interval_s: int | None = None
    names: dict[Tolerance, str] = field(default_factory=dict)
    """By which profile each is tolerated."""

    def told(self, applied: Iterable[Tolerance]) -> tuple[str, ...]:
        """Return each tolerance that was used, with its profile: `growatt_times: loose_times`."""
        return tuple(f"{self.names[each]}: {each.value}" for each in sorted(applied))


def leniency_of(profiles: Iterable[tuple[str, QuirkProfile]]) -> Leniency | None:
    """Join profiles; where two say the same thing differently, the first counts. None: there are none."""
    joined: Leniency | None = None
    for name, profile in profiles:
        known = joined or Leniency(time_zone="")
        has_zone = not known.time_zone and Tolerance.LOOSE_TIMES in profile.tolerances
        joined = Leniency(
            tolerances=known.tolerances | set(profile.tolerances),
            spellings=profile.spellings | known.spellings,
            missing={
                action: profile.missing.get(action, {}) | known.missing.get(action, {})
                for action in profile.missing.keys() | known.missing
            },
            time_zone=profile.time_zone if has_zone else known.time_zone,
            heartbeat_interval_s=known.heartbeat_interval_s or profile.heartbeat_interval_s,
            names=dict.fromkeys(profile.tolerances, name) | known.names,
        )
    return joined


class NotTolerated(MalformedInput):
    """The payload departs in a way that no profile tolerates."""


@dataclass(slots=True)
class _Repair:
    leniency: Leniency
    action: str
    now: datetime
    payload: Any
    applied: set[Tolerance] = field(default_factory=set)
    restored: list[tuple[dict[str, Any], str, str]] = field(default_factory=list)
    """Where a text was cut for the schema alone, and the whole text."""

    def mend(self, violation: jsonschema_rs.ValidationError) -> bool:
        keyword = type(violation.kind).__name__.rpartition("_")[2]
        place = list(violation.instance_path)
        mend, at, last = _MENDS.get(keyword), self.payload, place[-1] if place else None
        try:
            for step in place[:-1]:
                at = at[step]
            tolerance = None if mend is None else mend(self, violation.kind, at, last)
        except KeyError:  # another repair took it out
            return False
        if tolerance is None or tolerance not in self.leniency.tolerances:
            return False
        self.applied.add(tolerance)
        return True

    # One per keyword: mend `at[last]`, or the payload itself, and say what that takes to be tolerated.

    def unexpected(self, kind: Any, at: Any, last: Any) -> Tolerance | None:
        for name in kind.unexpected:
            del (at if last is None else at[last])[name]
        return Tolerance.UNKNOWN_PROPERTIES

    def required(self, kind: Any, _at: Any, last: Any) -> Tolerance | None:
        supplied = self.leniency.missing.get(self.action, {})
        if last is not None or kind.property not in supplied:
            return None
        value = supplied[kind.property]
        self.payload[kind.property] = rfc3339(self.now) if value == NOW else deepcopy(value)
        return Tolerance.MISSING_PROPERTIES

    def type(self, kind: Any, at: Any, last: Any) -> Tolerance | None:
        if last is None:
            return None
        value, wanted = at[last], set(kind.types)
        if value is None and isinstance(at, dict):
            del at[last]
            return Tolerance.NULL_PROPERTIES
        if isinstance(value, str) and wanted & {"integer", "number"}:
            number = _number(value)
            if number is None:
                return None
            at[last] = number
            return Tolerance.NUMBERS_AS_TEXT
        if type(value) in (int, Decimal) and wanted == {"string"}:
            at[last] = format(value, "f")
            return Tolerance.TEXTS_AS_NUMBERS
        return None

    def enum(self, kind: Any, at: Any, last: Any) -> Tolerance | None:
        value = at[last]
        if not isinstance(value, str):
            return None
        meant = self.leniency.spellings.get(value)
        if meant in kind.options:
            at[last] = meant
            return Tolerance.OTHER_SPELLINGS
        known = [each for each in kind.options if str(each).casefold() == value.casefold()]
        if len(known) != 1:
            return None
        at[last] = known[0]
        return Tolerance.OTHER_CASE

    def format(self, kind: Any, at: Any, last: Any) -> Tolerance | None:
        if kind.format != "date-time":
            return None
        moment = _loose_time(at[last], self.leniency.time_zone)
        if moment is None:
            return None
        at[last] = moment
        return Tolerance.LOOSE_TIMES

    def max_length(self, kind: Any, at: Any, last: Any) -> Tolerance | None:
        whole = at[last]
        if last == "idTag":
            if len(whole) > ID_TAG_CHARACTERS_MAX:
                return None
            self.restored.append((at, last, whole))
            at[last] = whole[: kind.limit]
            return Tolerance.LONG_ID_TAGS
        if last in NEVER_CUT:
            return None
        at[last] = whole[: kind.limit]
        return Tolerance.LONG_TEXTS

    def min_items(self, _kind: Any, at: Any, last: Any) -> Tolerance | None:
        if at[last]:
            return None
        del at[last]
        return Tolerance.EMPTY_LISTS


_MENDS: Final[dict[str, Callable[[_Repair, Any, Any, Any], Tolerance | None]]] = {
    "AdditionalProperties": _Repair.unexpected,
    "Required": _Repair.required,
    "Type": _Repair.type,
    "Enum": _Repair.enum,
    "Format": _Repair.format,
    "MaxLength": _Repair.max_length,
    "MinItems": _Repair.min_items,
}


def repaired(
    validator: jsonschema_rs.Validator, payload: Any, *, action: str, leniency: Leniency, now: datetime
) -> tuple[Any, frozenset[Tolerance]]:
    """Return a payload that keeps the schema, and what had to be tolerated for it; the given one is not touched.

    Raises:
        NotTolerated: some departure is none that the leniency repairs.
    """
    repair = _Repair(leniency, action, now, deepcopy(payload))
    for _ in range(ROUNDS_MAX):
        violations = list(itertools.islice(validator.iter_errors(repair.payload), REPAIRS_MAX))
        if not violations:
            for owner, name, whole in repair.restored:
                owner[name] = whole
            return repair.payload, frozenset(repair.applied)
        # One value may break two rules, and be mended by one repair: null is neither a text nor one of its words.
        outcomes = [(tuple(each.instance_path), repair.mend(each)) for each in violations]
        mended = {place for place, is_mended in outcomes if is_mended}
        if any(place not in mended for place, _ in outcomes):
            break
    raise NotTolerated("the payload breaks its schema in a way that is not tolerated")


def _number(text: str) -> int | Decimal | None:
    try:
        value, _ = strict_json.decode(text.strip())
    except MalformedInput:
        return None
    return value if type(value) in (int, Decimal) else None


def _loose_time(text: Any, time_zone: str) -> str | None:
    if not isinstance(text, str) or ":" not in text:  # a day alone is no moment
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        # In the hour that autumn repeats, the first: what that makes of a transaction, its readings' order shows.
        moment = moment.replace(tzinfo=ZoneInfo(time_zone))
    try:
        return rfc3339(moment.astimezone(UTC))
    except OverflowError:
        return None


# -- what no schema can tell -----------------------------------------------------------------------------------------


def corrected(
    payload: dict[str, Any], *, leniency: Leniency, transaction_number: int | None
) -> tuple[dict[str, Any], frozenset[Tolerance]]:
    """Return a metering message as its station means it, and what was corrected; the given one is not touched.

    Args:
        payload: It keeps its schema.
        leniency: What is tolerated of the station.
        transaction_number: Whose the message is, where its transactionId 0 does not say it.
    """
    payload, applied, tolerated = deepcopy(payload), set[Tolerance](), leniency.tolerances
    if Tolerance.SAMPLED_KWH_AS_WH in tolerated:
        values = [*(payload.get("meterValue") or ()), *(payload.get("transactionData") or ())]
        sampled = [each for value in values for each in value["sampledValue"]]
        if sum(map(_in_wh, sampled)):
            applied.add(Tolerance.SAMPLED_KWH_AS_WH)
    if Tolerance.REGISTERS_KWH_AS_WH in tolerated:
        for name in ("meterStart", "meterStop"):
            if name in payload:
                payload[name] *= WH_PER_KWH
                applied.add(Tolerance.REGISTERS_KWH_AS_WH)
    if transaction_number is not None:
        payload["transactionId"] = transaction_number
        applied.add(Tolerance.TRANSACTION_ID_ZERO)
    return payload, frozenset(applied)


def _in_wh(sampled: dict[str, Any]) -> bool:
    """Turn a value that means kWh into Wh, in place; tell whether it was one."""
    unit = sampled.get("unit", sampled.get("unitOfMeasure", {}).get("unit"))
    is_energy = str(sampled.get("measurand", "Energy.")).startswith(_ENERGY)
    is_scaled = sampled.get("unitOfMeasure", {}).get("multiplier", 0) != 0
    if not is_energy or unit not in _WH or is_scaled or sampled.get("format") == "SignedData":
        return False
    value = sampled["value"]
    number = _number(value) if isinstance(value, str) else value
    if number is None:  # NaN and the like stay what they are: a fault of the reading
        return False
    wh = number * WH_PER_KWH
    sampled["value"] = format(wh, "f") if isinstance(value, str) else wh
    return True


def noted(fact: Fact, note: str) -> Fact:
    """Return a fact whose readings say what was corrected."""
    event = fact.event
    if not isinstance(event, TransactionEvent | EVSEMetered) or not event.readings:
        return fact
    readings = tuple(structs.replace(reading, note=note) for reading in event.readings)
    return Fact(fact.event_id, replace(event, readings=readings))
