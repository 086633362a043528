"""What an account may spend: most per gas, most per day, most signatures per hour. Beyond it waits, with an alarm.

A key that is stolen with its process can spend no more than this by it; a runaway loop stops here. What may be spent is
counted when bytes are stored: gas limit times offer, the most that they can cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.ports.chain import Fees
from services.settlement.records import AccountRecord

GWEI: Final = 10**9
FEE_GWEI_MAX: Final = 500
"""Most wei per gas, in 10^9, where settings say nothing."""
REPLACEMENT_PERMILLE: Final = 1_125
"""A transaction that replaces another offers at least this much of what that did; nodes ask for 1,100."""


class Hold(StrEnum):
    """Why nothing is signed."""

    FEES = "fees"
    """The chain asks for more per gas than we give."""
    SPENT = "spent"
    """The day's money is spent."""
    RATE = "rate"
    """The hour's signatures are given."""


class CapReached(RuleBroken):
    """An account may not sign this now."""

    def __init__(self, hold: Hold, sentence: str) -> None:
        self.hold = hold
        super().__init__(sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of one account.

    Attributes:
        fee_gwei_max: Most that is offered per gas, in 10^9 wei.
        gwei_per_day: Most that a day's (UTC) transactions may cost, in 10^9 wei; None: no limit.
        transactions_per_hour: Most signatures in an hour; None: no limit.
    """

    fee_gwei_max: int = FEE_GWEI_MAX
    gwei_per_day: int | None = None
    transactions_per_hour: int | None = None

    def refuse_dear(self, fees: Fees) -> None:
        """Let an offer pass that is within the cap. Raises `CapReached`."""
        if fees.max_fee_per_gas > self.fee_gwei_max * GWEI:
            asked = -(-fees.max_fee_per_gas // GWEI)
            raise CapReached(Hold.FEES, f"the chain asks for {asked} gwei per gas, the cap is {self.fee_gwei_max}")

    def charged(self, account: AccountRecord, *, cost_wei: int, now: datetime) -> AccountRecord:
        """Return the account after one more signature.

        Args:
            account: As it stands.
            cost_wei: What the transaction may cost at most, beyond what the one that it replaces may.
            now: Business time.

        Raises:
            CapReached: it may not.
        """
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        hour = now.replace(minute=0, second=0, microsecond=0)
        spent = (account.spent_gwei if account.spent_since == day else 0) + -(-cost_wei // GWEI)
        signed = (account.signed_count if account.signed_since == hour else 0) + 1
        if self.gwei_per_day is not None and spent > self.gwei_per_day:
            raise CapReached(Hold.SPENT, f"today's transactions may cost {spent} gwei, the cap is {self.gwei_per_day}")
        if self.transactions_per_hour is not None and signed > self.transactions_per_hour:
            raise CapReached(Hold.RATE, f"{self.transactions_per_hour} signatures were given in this hour")
        return replace(account, spent_gwei=spent, spent_since=day, signed_count=signed, signed_since=hour)


def outbidding(offer: Fees, suggested: Fees) -> Fees:
    """Return an offer that every node takes in place of another, and not below what is suggested."""
    return Fees(
        max_fee_per_gas=max(_raised(offer.max_fee_per_gas), suggested.max_fee_per_gas),
        max_priority_fee_per_gas=max(_raised(offer.max_priority_fee_per_gas), suggested.max_priority_fee_per_gas),
    )


def _raised(wei: int) -> int:
    return -(-max(wei, 1) * REPLACEMENT_PERMILLE // 1_000)
