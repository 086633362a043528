"""Bring one station's local list into line: ask for its version, plan, send in messages, keep what it has.

Only what the station accepted is entered. A Full that needs more messages is `needs_full` until its last one, so one
that broke off is begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement
from emobility.domain.authorization import EMSPContact, Means
from emobility.domain.device_model import AttributeType
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.local_list import in_messages, list_changes
from emobility.domain.personal import SubjectErased, SubjectRestricted
from emobility.domain.token import TokenType
from emobility.events import codec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult
from services.charging_operations.authorizing import decide_by
from services.charging_operations.concurrency import policy_of
from services.charging_operations.local_list_records import (
    LOCAL_LIST,
    LOCAL_LIST_ENTRY,
    ROWS_MAX,
    LocalListEntryRecord,
    LocalListMode,
    LocalListRecord,
    LocalListState,
    all_rows,
)
from services.charging_operations.office import NotAllowedNow, NotFound, Office, agreement_at, short_hash
from services.charging_operations.own_tokens import ends_of_own, own_key
from services.charging_operations.records import TOKEN, TokenRecord
from services.charging_operations.station_calls import OCPP_16, call_station, rfc3339, version_of
from services.charging_operations.station_records import STATION_VARIABLE
from services.charging_operations.token_changes import (
    LISTED_TYPES,
    LISTED_WHITELISTS,
    TOKEN_REVISION,
    TOKEN_USE,
)
from services.charging_operations.tokens import group_at_stations

ENTRIES_UNTOLD: Final = 500
"""Entries of a list whose station has not told how many it holds."""
ITEMS_UNTOLD: Final = 50
"""Entries in one SendLocalList to such a station."""
MESSAGE_BYTES_MAX: Final = 60_000
"""Bytes of entries in one SendLocalList, whatever a station says it can take."""
ID_TAG_CHARACTERS_MAX: Final = 20
"""OCPP 1.6, 7.28: a longer token does not exist for its stations."""
VERSION_MAX: Final = 2**31 - 1
SEND_ATTEMPTS: Final = 2
"""What is there, then everything."""
LEASE: Final = timedelta(minutes=10)
"""How long one process may be at a station's list; then it has died."""

Key = tuple[PartyId, str]
"""Party and station."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bounds:
    entries: int = ENTRIES_UNTOLD
    items: int = ITEMS_UNTOLD
    message_bytes: int = MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """One entry of a message: put where `info` says something of the token, else taken out."""

    entry: LocalListEntryRecord
    info: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a station is to be sent; `entries` is the whole list afterwards."""

    row: LocalListRecord
    is_16: bool
    is_full: bool
    changes: tuple[_Change, ...]
    entries: Mapping[str, LocalListEntryRecord]
    bounds: _Bounds
    token_revision: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalListSender:
    """Sends lists."""

    office: Office

    async def sync(self, party_id: PartyId, station_id: str, *, correlation_id: str) -> None:
        """Bring a station's list into line now; how that went stands in its row.

        Raises:
            StationOffline: it is not connected.
            NotFound: nobody decided about its list.
            NotAllowedNow: another process is at it.
        """
        key = (party_id, station_id)
        is_16 = await version_of(self.office, *key) == OCPP_16
        await self._lease(key)
        try:
            for _ in range(SEND_ATTEMPTS):
                if not await self._ask_version(key, correlation_id):
                    return
                plan = await self._planned(key, is_16=is_16)
                if await self._sent(plan, correlation_id):
                    return
        finally:
            await self._change(key, leased_until=None)

    async def _lease(self, key: Key) -> None:
        now = self.office.now()
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get_for_update(*key)
            if row is None:
                raise NotFound(f"nobody decided about the local list of {key[1]}")
            if row.leased_until is not None and row.leased_until > now:
                raise NotAllowedNow(f"the local list of {key[1]} is being sent")
            await unit.table(LOCAL_LIST).put(replace(row, leased_until=now + LEASE, tried_at=now))
            await unit.commit()

    async def _change(self, key: Key, **changes: Any) -> LocalListRecord:
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get_for_update(*key)
            assert row is not None
            row = replace(row, **changes)
            await unit.table(LOCAL_LIST).put(row)
            await unit.commit()
        return row

    async def _call(self, key: Key, action: str, payload: dict[str, Any], correlation_id: str) -> CommandOutcome:
        try:
            return await call_station(self.office, *key, action, payload, correlation_id=correlation_id)
        except Unavailable:
            return CommandOutcome(result=CommandResult.TIMED_OUT)

    async def _ask_version(self, key: Key, correlation_id: str) -> bool:
        """Make sure which version the station has; tell whether to go on."""
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get(*key)
        if row is None or row.version_checked_at is not None:
            return row is not None
        outcome = await self._call(key, "GetLocalListVersion", {}, correlation_id)
        answer = outcome.answer or {}
        told = answer.get("versionNumber", answer.get("listVersion"))
        if outcome.result is not CommandResult.ACCEPTED or told is None or told < 0:
            # 1.6, 5.10: -1 says that there are no local lists at this station.
            await self._give_up(key, outcome, is_unsupported=told is not None)
            return False
        doubt = {} if told == row.version else {"version": int(told), "needs_full": True}
        await self._change(key, version_checked_at=self.office.now(), **doubt)
        return True

    async def _give_up(self, key: Key, outcome: CommandOutcome, *, is_unsupported: bool = False) -> None:
        """Note why a station has no list, or not this one; one that does not answer stays due."""
        state = LocalListState.FAILED
        if is_unsupported or outcome.result is CommandResult.NOT_SUPPORTED:
            state = LocalListState.NOT_SUPPORTED
        elif outcome.result in {CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE}:
            state = LocalListState.DUE
        word = outcome.station_status or outcome.result
        await self._change(key, state=state, answer=word, version_checked_at=None, needs_full=True)

    async def _planned(self, key: Key, *, is_16: bool) -> _Plan:
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get(*key)
            assert row is not None
            revision = await unit.table(TOKEN_REVISION).get(row.party_id)
            bounds = await self._bounds(unit, key)
            tokens, terms = await self._tokens(unit, row, is_16=is_16)
            ends = await ends_of_own(unit, row.party_id)
            where = {"party_id": row.party_id, "charging_station_id": row.charging_station_id}
            known: dict[str, LocalListEntryRecord] = {
                each.token_subject: each for each in await all_rows(unit, LOCAL_LIST_ENTRY, where)
            }
        infos = {
            each.token_subject: _info(each, terms[each.emsp_id], ends.get(own_key(each)), is_16=is_16)
            for each in tokens[: bounds.entries]
        }
        entries = {
            each.token_subject: LocalListEntryRecord(
                party_id=row.party_id,
                charging_station_id=row.charging_station_id,
                token_subject=each.token_subject,
                uid=each.uid,
                id_token_type=_id_token_type(each),
                fingerprint=short_hash(codec.encode(infos[each.token_subject]).decode(), _id_token_type(each)),
            )
            for each in tokens[: bounds.entries]
        }
        gone, put = list_changes(
            {} if row.needs_full else {subject: each.fingerprint for subject, each in known.items()},
            {subject: each.fingerprint for subject, each in entries.items()},
        )
        changes = [_Change(entry=known[subject], info=None) for subject in gone]
        changes += [_Change(entry=entries[subject], info=infos[subject]) for subject in put]
        return _Plan(
            row=row,
            is_16=is_16,
            is_full=row.needs_full,
            changes=tuple(changes),
            entries=entries,
            bounds=bounds,
            token_revision=revision.revision if revision else 0,
            wanted=len(tokens),
        )

    async def _tokens(
        self, unit: UnitOfWork, row: LocalListRecord, *, is_16: bool
    ) -> tuple[list[TokenRecord], dict[PartyId, RoamingAgreement | None]]:
        """Return who may be let in, the last to charge first, and each eMSP's agreement."""
        terms: dict[PartyId, RoamingAgreement | None] = {}
        if row.mode is LocalListMode.NONE:
            return [], terms
        where = {
            "party_id": row.party_id,
            "is_valid": True,
            "whitelist": LISTED_WHITELISTS,
            "token_type": LISTED_TYPES,
        }
        policy = await policy_of(unit, row.party_id)
        chosen = {(each.emsp_id, each.token_subject) for each in row.chosen}
        found: dict[str, TokenRecord] = {}
        rows: list[TokenRecord] = await all_rows(unit, TOKEN, where, most=ROWS_MAX)
        for token in sorted(rows, key=lambda each: each.emsp_id == row.party_id):  # an eMSP's word counts before ours
            if row.mode is LocalListMode.CHOSEN and (token.emsp_id, token.token_subject) not in chosen:
                continue
            if is_16 and token.group_key is not None and token.group_key == policy.master_pass_key:
                continue  # 1.6 would let a master pass start
            if token.emsp_id not in terms:
                terms[token.emsp_id] = await self._agreement(unit, row.party_id, token.emsp_id)
            means = Means.RFID if token.token_type is TokenType.RFID else Means.PLUG_AND_CHARGE
            is_let_in = token.emsp_id == row.party_id or terms[token.emsp_id] is not None  # the CPO's own need none
            decision = decide_by(token, means, EMSPContact.STATION_OFFLINE, has_agreement=is_let_in)
            if decision.is_accepted and decision.may_cache:
                found.setdefault(token.token_subject, token)
        used = {
            each.token_subject: each.last_used_at
            for each in await all_rows(unit, TOKEN_USE, {"party_id": row.party_id})
        }
        never = datetime.min.replace(tzinfo=self.office.now().tzinfo)
        by_newest = sorted(found.values(), key=lambda each: each.last_updated, reverse=True)
        return sorted(by_newest, key=lambda each: used.get(each.token_subject, never), reverse=True), terms

    async def _agreement(self, unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId) -> RoamingAgreement | None:
        try:
            return await agreement_at(unit, party_id, emsp_id, self.office.now())
        except NoAgreementInForce:
            return None

    async def _bounds(self, unit: UnitOfWork, key: Key) -> _Bounds:
        """What the station told of LocalAuthListCtrlr; 1.6 calls it LocalAuthListMaxLength, SendLocalListMaxLength."""
        rows = await unit.table(STATION_VARIABLE).select(
            {"party_id": key[0], "charging_station_id": key[1], "component": "LocalAuthListCtrlr"}
        )
        told: dict[str, int] = {}
        for row in rows:
            value = next((each.value for each in row.attributes if each.type is AttributeType.ACTUAL), None)
            if row.variable == "Entries" and row.configuration_key is None:
                # 2.0.1: Actual counts the entries there are; the limit of what may be there is the maximum.
                most = row.characteristics.max_limit if row.characteristics else None
                value = None if most is None else str(int(most))
            if value is not None and value.isascii() and value.isdigit() and len(value) < 10:
                told[row.variable] = int(value)
        return _Bounds(
            entries=told.get("Entries", ENTRIES_UNTOLD),
            items=max(1, told.get("ItemsPerMessage", ITEMS_UNTOLD)),
            message_bytes=min(told.get("BytesPerMessage", MESSAGE_BYTES_MAX), MESSAGE_BYTES_MAX),
        )

    async def _sent(self, plan: _Plan, correlation_id: str) -> bool:
        """Send what is planned; tell whether that was the last word: what failed in part is tried as a whole."""
        try:
            changes, entries = await self._in_words(plan)
        except (SubjectErased, SubjectRestricted):
            await self._change(plan.row.key, needs_full=True)  # whom it has too much can't be named any more
            return False
        messages = list(
            in_messages(
                [((change, words), len(codec.encode(words))) for change, words in changes],
                items_max=plan.bounds.items,
                bytes_max=plan.bounds.message_bytes,
            )
        )
        if plan.is_full and not messages:
            messages = [[]]
        version = plan.row.version
        for place, message in enumerate(messages):
            is_full = plan.is_full and place == 0
            if version >= VERSION_MAX:
                version = 0
                if not is_full:
                    await self._change(plan.row.key, needs_full=True)
                    return False
            version += 1
            payload = _send_local_list(version, [words for _, words in message], is_16=plan.is_16, is_full=is_full)
            outcome = await self._call(plan.row.key, "SendLocalList", payload, correlation_id)
            if outcome.result is not CommandResult.ACCEPTED:
                is_doubt = outcome.result is CommandResult.REJECTED
                await self._give_up(plan.row.key, outcome)
                # A list that is in doubt is asked for and sent whole, once.
                return plan.is_full or not is_doubt
            if plan.is_full:
                await self._change(plan.row.key, version=version, leased_until=self.office.now() + LEASE)
            else:
                await self._keep_part(plan.row.key, version, [change for change, _ in message])
        await self._finish(plan, entries)
        return True

    async def _in_words(
        self, plan: _Plan
    ) -> tuple[list[tuple[_Change, dict[str, Any]]], dict[str, LocalListEntryRecord]]:
        """Return the changes as they are sent, and the entries that the station will have.

        What can't be said to it - an erased driver's token, one too long for 1.6 - is left out.
        """
        words: list[tuple[_Change, dict[str, Any]]] = []
        entries = dict(plan.entries)
        for change in plan.changes:
            try:
                uid = await self.office.ports.vault.open(change.entry.uid)
            except (SubjectErased, SubjectRestricted):
                if change.info is None:
                    raise
                del entries[change.entry.token_subject]
                continue
            if plan.is_16 and len(uid) > ID_TAG_CHARACTERS_MAX:
                entries.pop(change.entry.token_subject, None)
                continue
            words.append((change, _authorization_data(uid, change, is_16=plan.is_16)))
        return words, entries

    async def _keep_part(self, key: Key, version: int, changes: Iterable[_Change]) -> None:
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get_for_update(*key)
            assert row is not None
            await unit.table(LOCAL_LIST).put(replace(row, version=version, leased_until=self.office.now() + LEASE))
            table = unit.table(LOCAL_LIST_ENTRY)
            for change in changes:
                if change.info is None:
                    await table.remove(*key, change.entry.token_subject)
            await table.put_all([change.entry for change in changes if change.info is not None])
            await unit.commit()

    async def _finish(self, plan: _Plan, entries: Mapping[str, LocalListEntryRecord]) -> None:
        key, now = plan.row.key, self.office.now()
        async with self.office.ports.units.begin() as unit:
            row = await unit.table(LOCAL_LIST).get_for_update(*key)
            assert row is not None
            if plan.is_full:
                where = {"party_id": key[0], "charging_station_id": key[1]}
                for old in await all_rows(unit, LOCAL_LIST_ENTRY, where):
                    if old.token_subject not in entries:
                        await unit.table(LOCAL_LIST_ENTRY).remove(*key, old.token_subject)
                await unit.table(LOCAL_LIST_ENTRY).put_all(list(entries.values()))
            is_current = row.change_no == plan.row.change_no
            await unit.table(LOCAL_LIST).put(
                replace(
                    row,
                    needs_full=False,
                    state=LocalListState.IN_SYNC if is_current else LocalListState.DUE,
                    token_revision=plan.token_revision,
                    wanted=plan.wanted,
                    answer="Accepted",
                    synced_at=now,
                )
            )
            await unit.commit()


def _id_token_type(token: TokenRecord) -> str:
    return "ISO14443" if token.token_type is TokenType.RFID else "eMAID"


def _info(
    token: TokenRecord, agreement: RoamingAgreement | None, ends_at: datetime | None, *, is_16: bool
) -> dict[str, Any]:
    """Return IdTagInfo (1.6) or IdTokenInfoType (2.x) of a listed token; `ends_at`: of one of the CPO's own."""
    info: dict[str, Any] = {"status": "Accepted"}
    if token.group_key is not None:
        group = group_at_stations(token.group_key)
        info |= {"parentIdTag": group} if is_16 else {"groupIdToken": {"idToken": group, "type": "Central"}}
    until = ends_at if agreement is None else agreement.valid_until
    if until is not None:
        info["expiryDate" if is_16 else "cacheExpiryDateTime"] = rfc3339(until)
    return info


def _authorization_data(uid: str, change: _Change, *, is_16: bool) -> dict[str, Any]:
    """Return AuthorizationData; without information the entry is taken out."""
    data: dict[str, Any] = (
        {"idTag": uid} if is_16 else {"idToken": {"idToken": uid, "type": change.entry.id_token_type}}
    )
    if change.info is not None:
        data["idTagInfo" if is_16 else "idTokenInfo"] = change.info
    return data


def _send_local_list(version: int, items: Sequence[dict[str, Any]], *, is_16: bool, is_full: bool) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "listVersion" if is_16 else "versionNumber": version,
        "updateType": "Full" if is_full else "Differential",
    }
    # 2.0.1, D01: a Full without entries empties the list; an empty array breaks the schema.
    return payload | {"localAuthorizationList": list(items)} if items else payload
