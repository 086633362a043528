"""A CPO's own cards out of a table (CSV) or a SteVe dump, and of every row that could not be taken, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from emobility.domain.token import TokenType
from services.charging_operations.mysql_dump import rows_of
from services.charging_operations.office import NotUnderstood
from services.charging_operations.own_tokens import OwnToken
from services.charging_operations.station_import import ROWS_MAX, Plan, Refusal, RowRefused, table_of

UID_CHARACTERS_MAX: Final = 36
"""OCPI 2.2.1, 12.3.2 Token.uid; OCPP 1.6 reads 20, 2.x 36 or more."""
REQUIRED: Final = ("uid",)
_OPTIONAL: Final = ("type", "contract_id", "is_blocked", "expires_at")
OCPP_TAG: Final = "ocpp_tag"
_TRUE: Final = frozenset({"true", "yes", "1"})
_FALSE: Final = frozenset({"", "false", "no", "0"})
SHOWN_CHARACTERS: Final = 4
"""Of a uid that a refusal names: enough to find its row beside the line, too little to use."""


@dataclass(frozen=True, slots=True)
class PlannedToken:
    """A card that could be entered, and the line it stands in."""

    line: int
    token: OwnToken


def tokens_of_csv(text: str) -> Plan[PlannedToken]:
    """Plan a table with one line per card. Raises `NotUnderstood`: it is no such table."""
    rows, columns = table_of(text, REQUIRED)
    planned: list[PlannedToken] = []
    refused: list[Refusal] = []
    for line, row in rows:
        try:
            planned.append(PlannedToken(line, _token_of_row(row)))
        except RowRefused as error:
            refused.append(Refusal(line=line, row=masked(row.get("uid", "")), why=str(error)))
    ignored = tuple(name for name in columns if name not in (*REQUIRED, *_OPTIONAL))
    return _without_repeats(Plan(planned=tuple(planned), refused=tuple(refused), ignored=ignored))


def tokens_of_steve(dump: str) -> Plan[PlannedToken]:
    """Plan the OCPP tags of a SteVe database.

    SteVe lets a tag with `max_active_transaction_count` 0 charge nowhere: it is taken as blocked. Other counts and
    parents are not taken. Raises `NoDump`, `NotUnderstood`: it has no tag.
    """
    planned: list[PlannedToken] = []
    refused: list[Refusal] = []
    for count, row in enumerate(rows_of(dump, (OCPP_TAG,))):
        if count >= ROWS_MAX:
            raise NotUnderstood(f"more than {ROWS_MAX} tags: import in parts")
        try:
            planned.append(PlannedToken(row.line, _token_of_tag(row.values)))
        except RowRefused as error:
            refused.append(Refusal(line=row.line, row=masked(row.values.get("id_tag") or ""), why=str(error)))
    if not planned and not refused:
        raise NotUnderstood(f"no row of {OCPP_TAG}: dump it with its data")
    ignored = ("parent_id_tag", "max_active_transaction_count", "note")
    return _without_repeats(Plan(planned=tuple(planned), refused=tuple(refused), ignored=ignored))


def masked(uid: str) -> str:
    """Return a uid as it may be shown."""
    return f"{uid[:SHOWN_CHARACTERS]}..."


def _token_of_row(row: Mapping[str, str]) -> OwnToken:
    blocked = row.get("is_blocked", "").lower()
    if blocked not in _TRUE | _FALSE:
        raise RowRefused("is_blocked is true or false")
    try:
        token_type = TokenType(row.get("type") or TokenType.RFID)
    except ValueError as error:
        raise RowRefused(f"type is one of {', '.join(TokenType)}") from error
    return OwnToken(
        uid=_uid(row.get("uid", "")),
        token_type=token_type,
        contract_id=row.get("contract_id") or None,
        is_blocked=blocked in _TRUE,
        expires_at=_moment(row.get("expires_at", ""), "expires_at", zone_is_told=True),
    )


def _token_of_tag(values: Mapping[str, str | None]) -> OwnToken:
    return OwnToken(
        uid=_uid(values.get("id_tag") or ""),
        is_blocked=(values.get("max_active_transaction_count") or "1") == "0",
        # A dump says SET TIME_ZONE='+00:00' above its rows, so its moments are UTC without saying so.
        expires_at=_moment(values.get("expiry_date") or "", "expiry_date", zone_is_told=False),
    )


def _uid(text: str) -> str:
    if not (1 <= len(text) <= UID_CHARACTERS_MAX and text.isascii() and text.isprintable()):
        raise RowRefused(f"a uid has 1 to {UID_CHARACTERS_MAX} printable ASCII characters")
    return text


def _moment(text: str, name: str, *, zone_is_told: bool) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None and not zone_is_told else at
        moment = at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RowRefused(f"{name} is no date-time") from error
    if at.tzinfo is None:
        raise RowRefused(f"{name} is an RFC 3339 date-time with its offset")
    return moment


def _without_repeats(plan: Plan[PlannedToken]) -> Plan[PlannedToken]:
    """Refuse cards that stand twice; case does not tell cards apart (OCPP CiString)."""
    first: dict[tuple[str, TokenType], int] = {}
    planned: list[PlannedToken] = []
    refused = list(plan.refused)
    for each in plan.planned:
        key = (each.token.uid.casefold(), each.token.token_type)
        if key in first:
            why = f"the card stands in line {first[key]} already"
            refused.append(Refusal(line=each.line, row=masked(each.token.uid), why=why))
        else:
            first[key] = each.line
            planned.append(each)
    return Plan(planned=tuple(planned), refused=tuple(refused), ignored=plan.ignored)
