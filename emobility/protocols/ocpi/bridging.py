"""Say a body of one version of OCPI in another, on the way: exact, and never silent about what does not fit.

Work is done on the JSON as it is written: what needs no change keeps its bytes, so 0.10 stays 0.10 and fields that no
text knows go through. `specified` says which fields and values a version has; `bridge_rules` says what is only called
otherwise. What is left is a `Loss`: left out, replaced by a documented fallback, filled in because it is required, or
rounded. What would be a different price, or not true at all, is refused (`NotBridgeable`), decision 17.

2.1.1 and 2.3.0 meet by way of 2.2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from emobility.protocols.ocpi import v211, v221
from emobility.protocols.ocpi.bridge_rules import RULES
from emobility.protocols.ocpi.bridge_walk import Loss, LossReason, NotBridgeable, Walk, Way
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from emobility.protocols.ocpi.versions import ONLY_230, SPOKEN

__all__ = [
    "ANSWER_LOSSES_HEADER",
    "LOSSES_HEADER",
    "Bridged",
    "Loss",
    "LossReason",
    "NotBridgeable",
    "Way",
    "bridge",
    "kind_of",
    "losses_header",
    "query_in",
]

LOSSES_HEADER: Final = "X-Wattroam-Losses"
"""On an answer: what the requester's own message lost on its way to the receiver."""
ANSWER_LOSSES_HEADER: Final = "X-Wattroam-Answer-Losses"
"""On an answer: what the answer itself lost."""
LOSSES_NAMED_MAX: Final = 20
"""Most losses that a header names; it counts the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridged:
    """A body in the other version, and what it lost."""

    body: bytes
    losses: tuple[Loss, ...] = ()


def bridge(body: bytes, way: Way, *, from_version: str, to_version: str) -> Bridged:
    """Return a body as the other version says it; of the same version, or no object that differs: the very bytes.

    Raises:
        NotBridgeable: it can't be said there; see the module's docstring.
        NotJSON: the body is no JSON.
    """
    if from_version == to_version or not body:
        return Bridged(body=body)
    losses: list[Loss] = []
    for step in _steps(from_version, to_version):
        _refuse_missing_module(way, step[1])
        kind = kind_of(way)
        if kind is None:
            continue
        walk = Walk(step=step, rules=RULES[step], way=way, losses=losses)
        body = walk.envelope(body, kind) if way.is_answer else walk.root(body, kind)
    return Bridged(body=body, losses=tuple(losses))


def losses_header(losses: Sequence[Loss]) -> str:
    """Return what a losses header says: how many, and for the first ones reason, pointer and `money`."""
    named = [
        f"{loss.reason} {quote(loss.pointer, safe='/~')}{';money' if loss.concerns_money else ''}"
        for loss in losses[:LOSSES_NAMED_MAX]
    ]
    return ", ".join([str(len(losses)), *named])


def query_in(query: str, way: Way, version: str) -> str:
    """Return a request's query as a version says it: the kind of a token is `type`, but 2.1.1 calls it `token_type`.

    Its text has both; a receiver of 2.1.1 is sent both, and one of a newer version `type`.
    """
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    if way.module != ModuleID.TOKENS or not pairs:
        return query
    kinds = [value for name, value in pairs if name in {"type", "token_type"}]
    others = [f"{name}={value}" for name, value in pairs if name not in {"type", "token_type"}]
    names = ("type", "token_type") if version == v211.VERSION else ("type",)
    return "&".join([*others, *(f"{name}={kinds[0]}" for name in names if kinds)])


def kind_of(way: Way) -> str | None:
    """Return the class of the body's object or objects; None: no version says it differently."""
    parts = [part for part in way.path.split("/") if part]
    last = parts[-1] if parts else ""
    if way.is_answer and way.method != "GET":
        if way.module == ModuleID.TOKENS and last == "authorize":
            return "AuthorizationInfo"
        is_command = way.module == ModuleID.COMMANDS and way.side is InterfaceRole.RECEIVER
        return "CommandResponse" if is_command else None
    if way.module == ModuleID.LOCATIONS:
        depth = len(parts) - (2 if way.side is InterfaceRole.RECEIVER else 0)
        return {2: "EVSE", 3: "Connector"}.get(depth, "Location")
    if way.module == ModuleID.TOKENS:
        return "LocationReferences" if last == "authorize" else "Token"
    if way.module == ModuleID.SESSIONS:
        return "ChargingPreferences" if last == "charging_preferences" else "Session"
    if way.module == ModuleID.COMMANDS:
        return _COMMANDS.get(last.upper()) if way.side is InterfaceRole.RECEIVER else "CommandResult"
    return _OBJECTS.get(way.module)


_OBJECTS: Final[dict[str, str]] = {
    ModuleID.CDRS: "CDR",
    ModuleID.TARIFFS: "Tariff",
    ModuleID.HUBCLIENTINFO: "ClientInfo",
}
_COMMANDS: Final = {name.value: kind.__name__ for name, kind in v221.COMMANDS.items()}
_NOT_211: Final = ONLY_230 | {ModuleID.CHARGINGPROFILES, ModuleID.HUBCLIENTINFO}


def _steps(from_version: str, to_version: str) -> list[tuple[str, str]]:
    start, end = SPOKEN.index(from_version), SPOKEN.index(to_version)
    turn = 1 if end > start else -1
    return [(SPOKEN[at], SPOKEN[at + turn]) for at in range(start, end, turn)]


def _refuse_missing_module(way: Way, version: str) -> None:
    missing = {v211.VERSION: _NOT_211, v221.VERSION: ONLY_230}.get(version, frozenset())
    if way.module in missing:
        raise NotBridgeable(f"{version} has no module {way.module}")
    is_command = way.module == ModuleID.COMMANDS and way.side is InterfaceRole.RECEIVER
    if is_command and version == v211.VERSION and way.path.strip("/").upper() == "CANCEL_RESERVATION":
        raise NotBridgeable("2.1.1 has no CANCEL_RESERVATION")
