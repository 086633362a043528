"""Cards that a CPO gives out itself, to staff and guests: they may charge at its stations, and nobody is billed.

A card is a row of the token cache whose eMSP is the CPO, with whitelist ALWAYS: there is nobody to ask, and a station
may keep it in its list and cache. What is charged by it is metered, kept in the energy ledger as waived, and no session
or CDR of a partner (`own_use`). Where an eMSP told us of the same card and has an agreement, the eMSP's word counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.identifiers import PartyId
from emobility.domain.token import TokenType, Whitelist
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.local_list_records import all_rows
from services.charging_operations.office import NotFound, Office, agreement_at
from services.charging_operations.records import TOKEN, TokenRecord
from services.charging_operations.token_changes import count_change, note_change
from services.charging_operations.tokens import group_key_of

EXPIRED_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnToken:
    """What an operator states of a card.

    `contract_id`: whose it is, for the operator's own books. `group_id`: cards of one group stop each other's charges.
    """

    uid: str
    token_type: TokenType = TokenType.RFID
    contract_id: str | None = None
    group_id: str | None = None
    is_blocked: bool = False
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokenRecord:
    """A card of the CPO's own beside its row in the token cache: the same subject, the same `is_valid`."""

    party_id: PartyId
    token_subject: str
    token_type: TokenType
    is_valid: bool
    is_blocked: bool
    expires_at: datetime | None
    entered_at: datetime


OWN_TOKEN: Final = TableSpec(
    name="cpo_own_token", record=OwnTokenRecord, key=("party_id", "token_subject", "token_type")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokenDesk:
    """Keeps a CPO's own cards."""

    office: Office

    async def put(self, unit: UnitOfWork, party_id: PartyId, token: OwnToken) -> bool:
        """Enter or change a card; tell whether anything changed. Raises `SubjectErased`."""
        vault, now = self.office.ports.vault, self.office.now()
        uid = await vault.seal(token.uid)
        key = (party_id, uid.subject, token.token_type)
        known = await unit.table(OWN_TOKEN).get_for_update(*key)
        own = OwnTokenRecord(
            party_id=party_id,
            token_subject=uid.subject,
            token_type=token.token_type,
            is_valid=_may_charge(token.expires_at, now, is_blocked=token.is_blocked),
            is_blocked=token.is_blocked,
            expires_at=token.expires_at,
            entered_at=known.entered_at if known else now,
        )
        cached = await unit.table(TOKEN).get_for_update(party_id, party_id, uid.subject, token.token_type)
        contract_id = token.contract_id or f"{party_id}-OWN-{uid.subject[:12]}"
        row = TokenRecord(
            party_id=party_id,
            emsp_id=party_id,
            token_subject=uid.subject,
            token_type=token.token_type,
            uid=uid,
            contract_id=await vault.seal(contract_id, identifier=token.uid),
            issuer=party_id.code,
            is_valid=own.is_valid,
            whitelist=Whitelist.ALWAYS,
            last_updated=now,
            group_id=None if token.group_id is None else await vault.seal(token.group_id),
            group_key=None if token.group_id is None else group_key_of(vault, party_id, token.group_id),
        )
        is_same_row = cached is not None and replace(row, last_updated=cached.last_updated) == cached
        if own == known and is_same_row:
            return False
        await unit.table(OWN_TOKEN).put(own)
        await unit.table(TOKEN).put(row)
        await note_change(unit, cached, row)
        if known is not None and known.expires_at != own.expires_at:
            await count_change(unit, party_id, is_withdrawn=True)  # lists say until when it is good
        return True

    async def block(
        self, unit: UnitOfWork, party_id: PartyId, token_subject: str, *, is_blocked: bool
    ) -> list[OwnTokenRecord]:
        """Block a card, or let it charge again. Raises `NotFound`."""
        rows = await unit.table(OWN_TOKEN).select({"party_id": party_id, "token_subject": token_subject})
        if not rows:
            raise NotFound(f"no own token {token_subject[:12]}")
        changed = [replace(row, is_blocked=is_blocked) for row in rows]
        return [await self._judge(unit, row) for row in changed]

    async def expire(self) -> None:
        """Make worthless whose date has come."""
        is_more = True
        while is_more:
            async with self.office.ports.units.begin() as unit:
                due = await unit.table(OWN_TOKEN).select(
                    {"is_valid": True}, before=("expires_at", self.office.now()), limit=EXPIRED_AT_ONCE
                )
                for row in due:
                    await self._judge(unit, row)
                await unit.commit()
            is_more = len(due) == EXPIRED_AT_ONCE

    async def _judge(self, unit: UnitOfWork, own: OwnTokenRecord) -> OwnTokenRecord:
        """Store a card, and in the token cache whether it may charge now."""
        now = self.office.now()
        judged = replace(own, is_valid=_may_charge(own.expires_at, now, is_blocked=own.is_blocked))
        await unit.table(OWN_TOKEN).put(judged)
        key = (own.party_id, own.party_id, own.token_subject, own.token_type)
        cached = await unit.table(TOKEN).get_for_update(*key)
        if cached is not None and cached.is_valid != judged.is_valid:
            changed = replace(cached, is_valid=judged.is_valid, last_updated=now)
            await unit.table(TOKEN).put(changed)
            await note_change(unit, cached, changed)
        return judged


OwnKey = tuple[PartyId, str, TokenType]
"""Issuer, subject and type of a card."""


def own_key(token: TokenRecord) -> OwnKey:
    """Return what finds a token among the CPO's own cards."""
    return (token.emsp_id, token.token_subject, token.token_type)


async def ends_of_own(unit: UnitOfWork, party_id: PartyId) -> dict[OwnKey, datetime]:
    """Return when cards of the CPO's own end, of those that do: a station that is offline is told by nobody."""
    ends: dict[OwnKey, datetime] = {}
    for row in await all_rows(unit, OWN_TOKEN, {"party_id": party_id, "is_valid": True}):
        if row.expires_at is not None:
            ends[row.party_id, row.token_subject, row.token_type] = row.expires_at
    return ends


def _may_charge(expires_at: datetime | None, now: datetime, *, is_blocked: bool) -> bool:
    return not is_blocked and (expires_at is None or now <= expires_at)


async def may_charge_under(unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId, at: datetime) -> bool:
    """Tell whether an issuer's tokens are let in: an eMSP's under an agreement in force, the CPO's own always."""
    if emsp_id == party_id:
        return True
    try:
        await agreement_at(unit, party_id, emsp_id, at)
    except NoAgreementInForce:
        return False
    return True
