"""Walk a JSON document from one version of OCPI to its neighbour: what changes is rewritten, what does not keeps bytes.

`specified` says which fields and values each version has, `Rules` what is only called otherwise; see `bridging`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi.specified import Enumeration, Field, Specification, specification
from emobility.protocols.ocpi.status import InvalidParameters
from emobility.protocols.ocpi.v221 import InterfaceRole, NotAnOCPIObject, NotJSON, read, write

LOSSES_MAX: Final = 1_000
"""Most losses of one body; a body with more is refused."""

Members = dict[str, msgspec.Raw]


class LossReason(StrEnum):
    """Why something did not arrive as it was sent."""

    NO_FIELD = "NO_FIELD"
    """The version has no such field; it was left out."""
    NO_VALUE = "NO_VALUE"
    """The version's enum has no such value; the documented fallback took its place, or it was left out."""
    LEFT_OUT = "LEFT_OUT"
    """An entry of a list can't be said without being another one; it was left out."""
    MERGED = "MERGED"
    """Several became one: the sum is right, the parts are gone."""
    FILLED = "FILLED"
    """The version demands a field that was not sent; a placeholder stands there."""
    CONVERTED = "CONVERTED"
    """The same amount, said otherwise, to the last digit."""
    ROUNDED = "ROUNDED"
    """The amount can't be said exactly; it is off by less than 10^-18."""
    SHORTENED = "SHORTENED"
    """A text for people was longer than the version allows."""
    TOO_LONG = "TOO_LONG"
    """An id is longer than the version allows, and went as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One thing that did not arrive as it was sent.

    Attributes:
        pointer: Where it stood (RFC 6901) in the body, of an answer in `data`, as `version` has it.
        version: Whose field it is; between 2.1.1 and 2.3.0 there are losses of the way through 2.2.1 as well.
        value_sha256: Hash of the JSON that was lost, hex; never the value.
        instead: What stands there now, if that is one of our fallbacks.
        concerns_money: Whether a reader could compute another amount than the sender.
    """

    pointer: str
    version: str
    reason: LossReason
    value_sha256: str
    instead: str | None = None
    concerns_money: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Which message a body belongs to; it decides which object it is.

    Attributes:
        module: `locations`, ...
        side: The interface that is called.
        method: HTTP method of the request.
        path: Path below the module's endpoint, of the request.
        is_answer: The body is the envelope that comes back.
        caller: The party that calls; 2.1.1 has the owner of an object nowhere else.
        callee: The party that is called.
    """

    module: str
    side: InterfaceRole
    method: str
    path: str = ""
    is_answer: bool = False
    caller: PartyId | None = None
    callee: PartyId | None = None

    @property
    def owner(self) -> PartyId | None:
        """The party whose objects the module holds: it pushes to receivers and serves the sender interface."""
        return self.caller if self.side is InterfaceRole.RECEIVER else self.callee

    @property
    def partner(self) -> PartyId | None:
        """The other party."""
        return self.callee if self.side is InterfaceRole.RECEIVER else self.caller


class NotBridgeable(InvalidParameters):
    """The other side's version has no way to say this without saying something else; S 2001."""


class Unsayable(Exception):
    """What stands at `pointer` has no place in the other version; whoever may, leaves out the entry that holds it.

    `until`: the class that must go as a whole, because the rest of it would mean something else.
    """

    def __init__(self, pointer: str, why: str, *, until: str | None = None) -> None:
        self.pointer = pointer
        self.why = why
        self.until = until
        super().__init__(f"{pointer}: {why}")


Rule = Callable[["Place"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a step between two versions does beyond leaving out what the other has not.

    Attributes:
        by_class: Renames and rewrites the members of an object of a class, before its fields are looked at.
        fallbacks: (enum, value) → the value to say instead; ("enum", "") for all values that are not named.
        needed: (class, field) whose loss would change what the rest means: then the whole object goes.
    """

    by_class: Mapping[str, Rule]
    fallbacks: Mapping[tuple[str, str], str]
    needed: frozenset[tuple[str, str]] = frozenset()


MONEY: Final = frozenset({"CdrDimension", "ChargingPeriod", "PriceComponent", "Tariff", "TariffElement"})
"""Classes of which a reader computes an amount."""


@dataclass(slots=True)
class Walk:
    """One step between neighbouring versions, over one body."""

    step: tuple[str, str]
    rules: Rules
    way: Way
    losses: list[Loss]

    @property
    def source(self) -> Specification:
        """What the sender's version says."""
        return specification(self.step[0])

    @property
    def target(self) -> Specification:
        """What the receiver's version says."""
        return specification(self.step[1])

    def root(self, body: bytes, kind: str) -> bytes:
        """Bridge the body of a request, or the `data` of an answer. Raises `NotBridgeable`."""
        raw = body.strip()
        try:
            if raw.startswith(b"["):
                return self._list(raw, Field("*", kind, None), Field("*", kind, None), "", kind)
            return self.object(raw, kind, "", is_root=True)
        except Unsayable as error:
            raise NotBridgeable(f"{self.step[1]} can't say {error}") from error

    def envelope(self, body: bytes, kind: str) -> bytes:
        """Bridge `data` of an envelope; the rest of it keeps its bytes. Raises `NotBridgeable`."""
        members = members_of(body)
        if members is None or bytes(members.get("data", b"null")) == b"null":
            return body
        before = bytes(members["data"])
        after = self.root(before, kind)
        if after == before:
            return body
        members["data"] = msgspec.Raw(after)
        return write(members)

    def object(self, raw: bytes, kind: str, pointer: str, *, is_root: bool = False) -> bytes:
        """Bridge one object of a class. Raises `Unsayable`."""
        members = members_of(raw)
        if members is None or kind not in self.source.classes:
            return raw  # no object: the receiver says what is wrong with it
        before = dict(members)
        is_partial = is_root and self.way.method == "PATCH" and not self.way.is_answer
        place = Place(walk=self, kind=kind, members=members, pointer=pointer, is_partial=is_partial)
        if (rule := self.rules.by_class.get(kind)) is not None:
            rule(place)
        self._fields(place)
        return raw if members == before else write(members)

    def _fields(self, place: Place) -> None:
        source, target = self.source.classes[place.kind], self.target.classes.get(place.kind, {})
        for name in list(place.members):
            said = source.get(name)
            if said is None or name in place.done:
                continue  # a field that no text knows, or one that a rule has seen to
            raw = bytes(place.members[name])
            if name not in target:
                place.lose(name, LossReason.NO_FIELD)
            elif raw != b"null":
                pointer = f"{place.pointer}/{name}"
                after = self._list(raw, said, target[name], pointer, place.kind) if said.card in "*+" else None
                after = after if after is not None else self._one(place, name, said, target[name], pointer)
                if after is None:
                    del place.members[name]
                elif after != raw:
                    place.members[name] = msgspec.Raw(after)

    def _one(self, place: Place, name: str, said: Field, wanted: Field, pointer: str) -> bytes | None:
        """Bridge the value of a field; None: it is left out. Raises `Unsayable` when the field is required."""
        raw = bytes(place.members[name])
        is_needed = wanted.card == "1" or (place.kind, name) in self.rules.needed
        try:
            return self._value(raw, said, wanted, pointer)
        except Unsayable as error:
            if is_needed or (error.until and error.until != said.kind):
                raise
            reason = LossReason.NO_VALUE if said.kind in self.source.enums else LossReason.LEFT_OUT
            self.lose(pointer, raw, reason, concerns_money=said.kind in MONEY)
            return None

    def _list(self, raw: bytes, said: Field, wanted: Field, pointer: str, within: str) -> bytes:
        try:
            items = read(raw, list[msgspec.Raw])
        except (NotAnOCPIObject, NotJSON):
            return raw
        after: list[msgspec.Raw] = []
        for index, item in enumerate(items):
            below = f"{pointer}/{index}"
            try:
                after.append(msgspec.Raw(self._value(bytes(item), said, wanted, below)))
            except Unsayable as error:
                if error.until and error.until != said.kind:
                    raise
                is_value = said.kind in self.source.enums
                reason = LossReason.NO_VALUE if is_value else LossReason.LEFT_OUT
                self.lose(below, bytes(item), reason, concerns_money=said.kind in MONEY)
        if items and not after and wanted.card == "+":
            raise Unsayable(pointer, f"nothing of it is left, and {within} must have one")
        return raw if after == items else write(after)

    def _value(self, raw: bytes, said: Field, wanted: Field, pointer: str) -> bytes:
        if said.kind in self.source.classes:
            return self.object(raw, said.kind, pointer)
        if (enum := self.target.enums.get(wanted.kind)) is not None:
            return self._enum(raw, wanted.kind, enum, pointer)
        return self._text(raw, said, wanted, pointer)

    def _enum(self, raw: bytes, kind: str, enum: Enumeration, pointer: str) -> bytes:
        value = text_of(raw)
        if value is None or enum.is_open or value in enum.values:
            return raw
        instead = self.rules.fallbacks.get((kind, value)) or self.rules.fallbacks.get((kind, ""))
        if instead is None:
            raise Unsayable(pointer, f"it has no such {kind}")
        self.lose(pointer, raw, LossReason.NO_VALUE, instead=instead)
        return write(instead)

    def _text(self, raw: bytes, said: Field, wanted: Field, pointer: str) -> bytes:
        longest = wanted.length
        if longest is None or (said.length is not None and said.length <= longest):
            return raw
        value = text_of(raw)
        if value is None or len(value) <= longest:
            return raw
        if wanted.kind == "string":
            self.lose(pointer, raw, LossReason.SHORTENED)
            return write(value[:longest])
        self.lose(pointer, raw, LossReason.TOO_LONG)
        return raw

    def lose(
        self,
        pointer: str,
        raw: bytes,
        reason: LossReason,
        *,
        instead: str | None = None,
        concerns_money: bool = False,
    ) -> None:
        """Enter a loss. Raises `NotBridgeable` at the thousandth and first."""
        if len(self.losses) >= LOSSES_MAX:
            raise NotBridgeable(f"more than {LOSSES_MAX} things would be lost in {self.step[1]}")
        self.losses.append(
            Loss(
                pointer=pointer,
                version=self.step[0],
                reason=reason,
                value_sha256=hashlib.sha256(raw).hexdigest(),
                instead=instead,
                concerns_money=concerns_money,
            )
        )


@dataclass(slots=True)
class Place:
    """An object that a rule works on.

    Attributes:
        done: Members that need no more bridging.
        is_partial: It is the body of a PATCH: what is not there was not meant.
    """

    walk: Walk
    kind: str
    members: Members
    pointer: str
    is_partial: bool
    done: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Tell whether a member is there and not null."""
        return bytes(self.members.get(name, b"null")) != b"null"

    def raw(self, name: str) -> bytes:
        """Return a member as it is written."""
        return bytes(self.members[name])

    def put(self, name: str, value: Any) -> None:
        """Set a member: bytes are JSON already."""
        self.members[name] = msgspec.Raw(value if isinstance(value, bytes) else write(value))
        self.done.add(name)

    def rename(self, name: str, to: str) -> None:
        """Call a member otherwise."""
        if name in self.members:
            self.put(to, bytes(self.members.pop(name)))

    def drop(self, *names: str) -> None:
        """Leave members out whose meaning is not lost."""
        for name in names:
            self.members.pop(name, None)

    def lose(self, name: str, reason: LossReason, *, instead: str | None = None, concerns_money: bool = False) -> None:
        """Leave a member out and say so, unless it said nothing."""
        raw = bytes(self.members.pop(name, b"null"))
        if raw not in {b"null", b"[]"}:
            self.note(name, raw, reason, instead=instead, concerns_money=concerns_money)

    def note(
        self, name: str, raw: bytes, reason: LossReason, *, instead: str | None = None, concerns_money: bool = False
    ) -> None:
        """Enter a loss at a member."""
        pointer = f"{self.pointer}/{name}"
        self.walk.lose(pointer, raw, reason, instead=instead, concerns_money=concerns_money)

    def fill(self, name: str, value: Any, *, concerns_money: bool = False) -> None:
        """Set a member that is required and was not sent."""
        self.put(name, value)
        written = self.raw(name)
        self.note(name, b"null", LossReason.FILLED, instead=written.decode()[:64], concerns_money=concerns_money)

    def unsayable(self, name: str, why: str, *, until: str | None = None) -> Unsayable:
        """Return what to raise when this object can't be said."""
        return Unsayable(f"{self.pointer}/{name}", why, until=until)


def members_of(raw: bytes) -> Members | None:
    """Return an object's members, None for anything else."""
    try:
        return read(raw, Members)
    except (NotAnOCPIObject, NotJSON):
        return None


def text_of(raw: bytes) -> str | None:
    """Return a JSON string, None for anything else."""
    try:
        return read(raw, str)
    except (NotAnOCPIObject, NotJSON):
        return None
