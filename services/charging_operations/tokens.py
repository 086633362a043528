"""Tokens as eMSPs push them: the CPO's cache, every row its eMSP's own."""

from __future__ import annotations

from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.domain.token import Token, TokenType
from emobility.ports.unit_of_work import UnitOfWork
from emobility.ports.vault import Vault
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.mapping import token_from_ocpi
from services.charging_operations.records import TOKEN, TokenRecord
from services.charging_operations.token_changes import note_change

GROUP_CHARACTERS: Final = 20
"""OCPP 1.6, 7.28 IdToken: CiString20. 80 bits of a keyed hash: no two groups meet."""


async def record_of(party_id: PartyId, token: v221.Token, vault: Vault) -> TokenRecord:
    """Return the row of a pushed token, sealed. Raises `SubjectErased`."""
    sealed: Token = await token_from_ocpi(token, vault)
    return TokenRecord(
        party_id=party_id,
        emsp_id=sealed.emsp_id,
        token_subject=sealed.uid.subject,
        token_type=sealed.token_type,
        uid=sealed.uid,
        contract_id=sealed.contract_id,
        issuer=sealed.issuer,
        is_valid=sealed.is_valid,
        whitelist=sealed.whitelist,
        last_updated=sealed.last_updated,
        group_id=sealed.group_id,
        group_key=None if token.group_id is None else group_key_of(vault, sealed.emsp_id, token.group_id),
    )


def group_key_of(vault: Vault, emsp_id: PartyId, group_id: str) -> str:
    """Return the keyed hash that finds a group's tokens; two eMSPs may call their groups the same."""
    return vault.subject_of(f"group {emsp_id.code}/{group_id}")


def group_at_stations(group_key: str) -> str:
    """Return what stations know a group by: `parentIdTag`, `groupIdToken`, `MasterPassGroupId`.

    Not the eMSP's own name of it: a station compares nothing but texts, so groups of two eMSPs that are called the
    same, or alike in the first 20 characters that 1.6 can hold, would stop each other's transactions.
    """
    return group_key[:GROUP_CHARACTERS]


async def keep(unit: UnitOfWork, record: TokenRecord) -> bool:
    """Keep a token unless a newer state of it is known; tell whether it was not known before."""
    known = await unit.table(TOKEN).get_for_update(
        record.party_id, record.emsp_id, record.token_subject, record.token_type
    )
    if known is None or known.last_updated <= record.last_updated:
        await unit.table(TOKEN).put(record)
        await note_change(unit, known, record)
    return known is None


async def tokens_of(unit: UnitOfWork, party_id: PartyId, subject: str) -> list[TokenRecord]:
    """Return all tokens with this uid; two eMSPs may have issued the same, and the CPO's own counts last."""
    rows = await unit.table(TOKEN).select(
        {"party_id": party_id, "token_subject": subject}, order_by=("emsp_id", "token_type")
    )
    return sorted(rows, key=lambda row: row.emsp_id == party_id)


async def token_of(
    unit: UnitOfWork, party_id: PartyId, emsp_id: PartyId, subject: str, token_type: TokenType
) -> TokenRecord | None:
    """Return one token of one eMSP."""
    return await unit.table(TOKEN).get(party_id, emsp_id, subject, token_type)
