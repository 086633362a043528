"""May this driver charge here, now? One decision table, as rows, and the one function that reads it.

The whitelist of a token says when the CPO may decide without its eMSP (OCPI 2.2.1, 12.4.6 WhitelistType):
ALWAYS never asks, ALLOWED may go by the cached token, ALLOWED_OFFLINE only when the eMSP can't be reached, NEVER is
decided in real time or not at all and enters no station's list or cache. The CPO bears an accepted offline charge on
the eMSP's word; so a token cached as invalid is asked about again wherever asking is allowed, and else refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emobility.domain.token import Whitelist


class TokenState(StrEnum):
    """What the CPO's token cache knows."""

    CACHED_VALID = "CACHED_VALID"
    CACHED_INVALID = "CACHED_INVALID"
    UNKNOWN = "UNKNOWN"


class EMSPContact(StrEnum):
    """What comes back when the eMSP is asked, or why it can't be."""

    ALLOWED = "ALLOWED"
    BLOCKED = "BLOCKED"
    EXPIRED = "EXPIRED"
    NO_CREDIT = "NO_CREDIT"
    NOT_ALLOWED = "NOT_ALLOWED"
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"  # noqa: S105 - a status of OCPI, no secret
    TIMED_OUT = "TIMED_OUT"
    HUB_OFFLINE = "HUB_OFFLINE"
    STATION_OFFLINE = "STATION_OFFLINE"


class Means(StrEnum):
    """How the driver identified."""

    RFID = "RFID"
    APP = "APP"
    PLUG_AND_CHARGE = "PLUG_AND_CHARGE"


class Answer(StrEnum):
    """What the station is told; the words are OCPP's."""

    ACCEPTED = "Accepted"
    BLOCKED = "Blocked"
    EXPIRED = "Expired"
    INVALID = "Invalid"
    UNKNOWN = "Unknown"
    NO_CREDIT = "NoCredit"
    NOT_AT_THIS_LOCATION = "NotAtThisLocation"
    CONCURRENT_TX = "ConcurrentTx"


class DecisionReason(StrEnum):
    """Why."""

    COMMANDED = "COMMANDED"
    CONCURRENT_TX = "CONCURRENT_TX"
    CREDIT_LINE_EXCEEDED = "CREDIT_LINE_EXCEEDED"
    EMSP_ALLOWED = "EMSP_ALLOWED"
    EMSP_BLOCKED = "EMSP_BLOCKED"
    EMSP_EXPIRED = "EMSP_EXPIRED"
    EMSP_NO_CREDIT = "EMSP_NO_CREDIT"
    EMSP_NOT_ALLOWED = "EMSP_NOT_ALLOWED"
    EMSP_TOKEN_UNKNOWN = "EMSP_TOKEN_UNKNOWN"  # noqa: S105 - a reason, no secret
    EMSP_UNREACHABLE = "EMSP_UNREACHABLE"
    MASTER_PASS = "MASTER_PASS"  # noqa: S105 - a reason, no secret
    MASTER_PASS_STARTS_NOTHING = "MASTER_PASS_STARTS_NOTHING"  # noqa: S105 - a reason, no secret
    NO_AGREEMENT = "NO_AGREEMENT"
    REAL_TIME_ONLY = "REAL_TIME_ONLY"
    STOPS_ITS_OWN = "STOPS_ITS_OWN"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - a reason, no secret
    TOKEN_UNKNOWN = "TOKEN_UNKNOWN"  # noqa: S105 - a reason, no secret
    WHITELISTED = "WHITELISTED"
    WHITELISTED_OFFLINE = "WHITELISTED_OFFLINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to tell the station.

    Attributes:
        answer: Accepted, or the refusal in OCPP's words.
        ask_emsp: Whether the eMSP is asked before this is decided.
        reason: Why.
        may_cache: Whether a station may keep the answer in its list or cache.
    """

    answer: Answer
    ask_emsp: bool
    reason: DecisionReason
    may_cache: bool = False

    @property
    def is_accepted(self) -> bool:
        """Whether the driver may charge."""
        return self.answer is Answer.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """One row: it holds for each combination of its columns."""

    whitelists: frozenset[Whitelist]
    tokens: frozenset[TokenState]
    means: frozenset[Means]
    contacts: frozenset[EMSPContact]
    decision: Decision

    def holds_for(self, whitelist: Whitelist, token: TokenState, means: Means, contact: EMSPContact) -> bool:
        """Tell whether the row decides this cell."""
        return (
            whitelist in self.whitelists and token in self.tokens and means in self.means and contact in self.contacts
        )


_ANY_LIST: Final = frozenset(Whitelist)
_ANY_MEANS: Final = frozenset(Means)
_ANY_CONTACT: Final = frozenset(EMSPContact)
_UNREACHABLE: Final = frozenset({EMSPContact.TIMED_OUT, EMSPContact.HUB_OFFLINE})
_STATION_OFFLINE: Final = frozenset({EMSPContact.STATION_OFFLINE})
_ANSWERS: Final = {
    EMSPContact.ALLOWED: (Answer.ACCEPTED, DecisionReason.EMSP_ALLOWED),
    EMSPContact.BLOCKED: (Answer.BLOCKED, DecisionReason.EMSP_BLOCKED),
    EMSPContact.EXPIRED: (Answer.EXPIRED, DecisionReason.EMSP_EXPIRED),
    EMSPContact.NO_CREDIT: (Answer.NO_CREDIT, DecisionReason.EMSP_NO_CREDIT),
    EMSPContact.NOT_ALLOWED: (Answer.NOT_AT_THIS_LOCATION, DecisionReason.EMSP_NOT_ALLOWED),
    EMSPContact.TOKEN_UNKNOWN: (Answer.UNKNOWN, DecisionReason.EMSP_TOKEN_UNKNOWN),
}


def _row(
    whitelists: Iterable[Whitelist],
    token: TokenState,
    means: Iterable[Means],
    contacts: Iterable[EMSPContact],
    decision: Decision,
) -> DecisionRow:
    return DecisionRow(
        whitelists=frozenset(whitelists),
        tokens=frozenset({token}),
        means=frozenset(means),
        contacts=frozenset(contacts),
        decision=decision,
    )


def _answered(
    whitelists: Iterable[Whitelist], token: TokenState, means: Iterable[Means], *, may_cache: bool
) -> tuple[DecisionRow, ...]:
    """Return one row per answer of the eMSP; its word is the decision."""
    lists, ways = frozenset(whitelists), frozenset(means)
    return tuple(
        _row(
            lists,
            token,
            ways,
            {contact},
            Decision(answer=answer, ask_emsp=True, reason=reason, may_cache=may_cache and answer is Answer.ACCEPTED),
        )
        for contact, (answer, reason) in _ANSWERS.items()
    )


def _said(answer: Answer, reason: DecisionReason, *, asked: bool = False, may_cache: bool = False) -> Decision:
    return Decision(answer=answer, ask_emsp=asked, reason=reason, may_cache=may_cache)


_VALID, _INVALID, _UNKNOWN = TokenState.CACHED_VALID, TokenState.CACHED_INVALID, TokenState.UNKNOWN
_ALWAYS, _ALLOWED = Whitelist.ALWAYS, Whitelist.ALLOWED
_OFFLINE, _NEVER = Whitelist.ALLOWED_OFFLINE, Whitelist.NEVER
_CARD: Final = frozenset({Means.RFID, Means.PLUG_AND_CHARGE})
"""What a station can recognise again by itself, and so may keep."""
_APP: Final = frozenset({Means.APP})
_ONLINE: Final = _ANY_CONTACT - _STATION_OFFLINE
_WHITELISTED: Final = DecisionReason.WHITELISTED
_WHITELISTED_OFFLINE: Final = DecisionReason.WHITELISTED_OFFLINE
_TOKEN_INVALID: Final = DecisionReason.TOKEN_INVALID

DECISION_TABLE: Final[tuple[DecisionRow, ...]] = (
    # A valid token that may be decided on the spot: the eMSP is not asked while the station is connected.
    _row({_ALWAYS, _ALLOWED}, _VALID, _CARD, _ONLINE, _said(Answer.ACCEPTED, _WHITELISTED, may_cache=True)),
    _row({_ALWAYS, _ALLOWED}, _VALID, _APP, _ONLINE, _said(Answer.ACCEPTED, _WHITELISTED)),
    # A station that was offline decided by its own list: whoever may be whitelisted was let in rightly.
    _row(
        {_ALWAYS, _ALLOWED, _OFFLINE},
        _VALID,
        _CARD,
        _STATION_OFFLINE,
        _said(Answer.ACCEPTED, _WHITELISTED_OFFLINE, may_cache=True),
    ),
    _row({_ALWAYS, _ALLOWED, _OFFLINE}, _VALID, _APP, _STATION_OFFLINE, _said(Answer.ACCEPTED, _WHITELISTED_OFFLINE)),
    # ALLOWED_OFFLINE: the eMSP decides as long as it can be reached.
    *_answered({_OFFLINE}, _VALID, _CARD, may_cache=True),
    *_answered({_OFFLINE}, _VALID, _APP, may_cache=False),
    _row(
        {_OFFLINE},
        _VALID,
        _CARD,
        _UNREACHABLE,
        _said(Answer.ACCEPTED, _WHITELISTED_OFFLINE, asked=True, may_cache=True),
    ),
    _row({_OFFLINE}, _VALID, _APP, _UNREACHABLE, _said(Answer.ACCEPTED, _WHITELISTED_OFFLINE, asked=True)),
    # NEVER: in real time or not at all, whatever the cache says.
    *_answered({_NEVER}, _VALID, _ANY_MEANS, may_cache=False),
    *_answered({_NEVER}, _INVALID, _ANY_MEANS, may_cache=False),
    _row(
        {_NEVER},
        _VALID,
        _ANY_MEANS,
        _UNREACHABLE,
        _said(Answer.INVALID, DecisionReason.EMSP_UNREACHABLE, asked=True),
    ),
    _row(
        {_NEVER},
        _INVALID,
        _ANY_MEANS,
        _UNREACHABLE,
        _said(Answer.INVALID, DecisionReason.EMSP_UNREACHABLE, asked=True),
    ),
    _row({_NEVER}, _VALID, _ANY_MEANS, _STATION_OFFLINE, _said(Answer.INVALID, DecisionReason.REAL_TIME_ONLY)),
    _row({_NEVER}, _INVALID, _ANY_MEANS, _STATION_OFFLINE, _said(Answer.INVALID, DecisionReason.REAL_TIME_ONLY)),
    # Cached as invalid: the cache may be old, so ask where asking is allowed; without an answer it stays refused.
    _row({_ALWAYS}, _INVALID, _ANY_MEANS, _ANY_CONTACT, _said(Answer.BLOCKED, _TOKEN_INVALID)),
    *_answered({_ALLOWED, _OFFLINE}, _INVALID, _CARD, may_cache=True),
    *_answered({_ALLOWED, _OFFLINE}, _INVALID, _APP, may_cache=False),
    _row({_ALLOWED, _OFFLINE}, _INVALID, _ANY_MEANS, _UNREACHABLE, _said(Answer.BLOCKED, _TOKEN_INVALID, asked=True)),
    _row({_ALLOWED, _OFFLINE}, _INVALID, _ANY_MEANS, _STATION_OFFLINE, _said(Answer.BLOCKED, _TOKEN_INVALID)),
    # Nobody sent us the token, so its whitelist is unknown too. A contract id (eMAID) names its eMSP and can be asked
    # about; the number of a card or an app names nobody.
    _row(
        _ANY_LIST, _UNKNOWN, {Means.RFID, Means.APP}, _ANY_CONTACT, _said(Answer.UNKNOWN, DecisionReason.TOKEN_UNKNOWN)
    ),
    *_answered(_ANY_LIST, _UNKNOWN, {Means.PLUG_AND_CHARGE}, may_cache=False),
    _row(
        _ANY_LIST,
        _UNKNOWN,
        {Means.PLUG_AND_CHARGE},
        _UNREACHABLE,
        _said(Answer.UNKNOWN, DecisionReason.EMSP_UNREACHABLE, asked=True),
    ),
    _row(
        _ANY_LIST,
        _UNKNOWN,
        {Means.PLUG_AND_CHARGE},
        _STATION_OFFLINE,
        _said(Answer.UNKNOWN, DecisionReason.TOKEN_UNKNOWN),
    ),
)
"""Every cell once; tests/domain/test_authorization_table.py goes through all of them."""

COMMANDED: Final = Decision(answer=Answer.ACCEPTED, ask_emsp=False, reason=DecisionReason.COMMANDED)
"""START_SESSION is the eMSP's own word: no second authorisation (OCPI 2.2.1, 13.3.4)."""
CONCURRENT: Final = Decision(answer=Answer.CONCURRENT_TX, ask_emsp=False, reason=DecisionReason.CONCURRENT_TX)
CREDIT_LINE_EXCEEDED: Final = Decision(
    answer=Answer.NO_CREDIT, ask_emsp=False, reason=DecisionReason.CREDIT_LINE_EXCEEDED
)
"""The eMSP has as much open with the CPO as the two agreed on (`domain/exposure`); its drivers wait until it paid."""
STOPS_ITS_OWN: Final = Decision(answer=Answer.ACCEPTED, ask_emsp=False, reason=DecisionReason.STOPS_ITS_OWN)
"""Whoever started a transaction, or has a token of the same group, may end it (2.0.1, C09 and E07)."""
MASTER_PASS: Final = Decision(answer=Answer.ACCEPTED, ask_emsp=False, reason=DecisionReason.MASTER_PASS)
MASTER_PASS_STARTS_NOTHING: Final = Decision(
    answer=Answer.INVALID, ask_emsp=False, reason=DecisionReason.MASTER_PASS_STARTS_NOTHING
)
"""2.0.1, C16: a token of the master pass group stops any transaction and may start none."""
WITHOUT_AGREEMENT: Final = Decision(answer=Answer.INVALID, ask_emsp=False, reason=DecisionReason.NO_AGREEMENT)


def decide(
    *,
    whitelist: Whitelist,
    token: TokenState,
    means: Means,
    contact: EMSPContact,
    has_agreement: bool = True,
    is_commanded: bool = False,
) -> Decision:
    """Decide one authorisation.

    Args:
        whitelist: Of the cached token; NEVER when none is cached.
        token: What the cache knows.
        means: How the driver identified.
        contact: The eMSP's answer, or what stands between. It counts only where the decision asks; so calling this
            with any value first tells whether to ask.
        has_agreement: Whether a signed agreement of this CPO with the token's eMSP is in force.
        is_commanded: Whether the eMSP's START_SESSION announced this charge.
    """
    if not has_agreement and not (token is TokenState.UNKNOWN and means is not Means.PLUG_AND_CHARGE):
        return WITHOUT_AGREEMENT
    if is_commanded:
        return COMMANDED
    for row in DECISION_TABLE:
        if row.holds_for(whitelist, token, means, contact):
            return row.decision
    raise AssertionError(f"the table has a gap at {whitelist}, {token}, {means}, {contact}")


def must_ask(*, whitelist: Whitelist, token: TokenState, means: Means) -> bool:
    """Tell whether a connected station's driver is decided by asking the eMSP."""
    return decide(whitelist=whitelist, token=token, means=means, contact=EMSPContact.ALLOWED).ask_emsp
