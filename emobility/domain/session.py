"""A charge as partners see it while it runs: charging periods under the tariff that was frozen at its start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.tariff.rounding import RoundingPolicyName
from emobility.domain.token import TokenType


class AuthMethod(StrEnum):
    """How the charge was authorised (OCPI 2.2.1, 10.4.1)."""

    AUTH_REQUEST = "AUTH_REQUEST"
    COMMAND = "COMMAND"
    WHITELIST = "WHITELIST"


class SessionStatus(StrEnum):
    """Life of a session (OCPI 2.2.1, 9.4.2)."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    INVALID = "INVALID"
    PENDING = "PENDING"
    RESERVATION = "RESERVATION"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingPeriod:
    """A stretch of a session in which nothing relevant to its price changed (OCPI 2.2.1, 10.4.4).

    It ends where the next begins. Energy is what the register moved, in Wh; `charging_s` and `parking_s` are the
    seconds the vehicle took power and the seconds it only occupied the EVSE; one of the two is zero.

    Our own periods hold whole Wh. A partner's document may state less than a Wh: `energy_rest_wh` is what its net
    energy is beyond the whole Wh of the two registers, down to minus half a Wh; None: nothing.
    """

    started_at: datetime
    energy_import_wh: int
    charging_s: int
    parking_s: int
    energy_export_wh: int = 0
    reserved_s: int = 0
    power_w_min: int | None = None
    power_w_max: int | None = None
    current_a_min: Decimal | None = None
    current_a_max: Decimal | None = None
    tariff_id: str | None = None
    energy_rest_wh: Decimal | None = None

    @property
    def net_wh(self) -> int | Fraction:
        """What came in less what was fed in, exactly as stated; whole Wh are an `int`."""
        whole_wh = self.energy_import_wh - self.energy_export_wh
        return whole_wh + Fraction(self.energy_rest_wh) if self.energy_rest_wh else whole_wh


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionToken:
    """The token a session belongs to, as the eMSP will know it (OCPI 2.2.1, `CdrToken`)."""

    emsp_id: PartyId
    uid: Sealed
    token_type: TokenType
    contract_id: Sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open or just closed charge of a CPO at one EVSE. Energy and cost are net totals so far.

    Two fields are the CPO's own, which OCPI does not carry: `rounding_policy`, the agreement's as the session opened
    (None: `EXACT`), and `reserved_from`, since when its EVSE had been reserved (None: it was not).
    """

    party_id: PartyId
    session_id: str
    started_at: datetime
    ended_at: datetime | None
    energy_import_wh: int
    energy_export_wh: int
    token: SessionToken
    auth_method: AuthMethod
    authorization_reference: str | None
    location_id: str
    evse_uid: str
    connector_id: int
    currency: str
    tariff_hash: str
    periods: tuple[ChargingPeriod, ...]
    total_cost: Price | None
    status: SessionStatus
    last_updated: datetime
    rounding_policy: RoundingPolicyName | None = None
    reserved_from: datetime | None = None
