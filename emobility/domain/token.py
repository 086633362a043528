"""What a driver presents to start a charge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from emobility.domain.identifiers import PartyId
from emobility.domain.personal import Sealed


class TokenType(StrEnum):
    """Kind of token (OCPI 2.2.1, 12.4.5)."""

    AD_HOC_USER = "AD_HOC_USER"
    APP_USER = "APP_USER"
    OTHER = "OTHER"
    RFID = "RFID"


class Whitelist(StrEnum):
    """When a CPO may decide without asking the eMSP (OCPI 2.2.1, 12.4.6)."""

    ALWAYS = "ALWAYS"
    ALLOWED = "ALLOWED"
    ALLOWED_OFFLINE = "ALLOWED_OFFLINE"
    NEVER = "NEVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An eMSP's token. What names a person is sealed; `uid.subject` finds the row.

    `group_id` joins tokens that work as one (OCPI 2.2.1, 12.3.2); it means something to its own eMSP only.
    """

    emsp_id: PartyId
    uid: Sealed
    contract_id: Sealed
    token_type: TokenType
    issuer: str
    is_valid: bool
    whitelist: Whitelist
    last_updated: datetime
    group_id: Sealed | None = None
