"""Tries by the address they came from: who guesses at a driver's password rests, and the driver does not.

Kept in this process alone. What it forgets or never saw, guesses from very many addresses, the account itself counts.
Files that strangers have checked are counted the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from emobility.domain.identifiers import PartyId

TRIES_MAX: Final = 5
"""Wrong passwords in a row that one address may try at one driver before it rests."""
REST: Final = timedelta(minutes=5)
REMEMBERED_MAX: Final = 10_000
"""Pairs of address and what it tried at that are remembered; the longest unheard of go first."""
IPV6_PREFIX_BITS: Final = 64
"""Whoever has one IPv6 address has all with its first half."""

Key = tuple[PartyId, str, str]


@dataclass(frozen=True, slots=True)
class _Tries:
    count: int
    last_at: datetime


class TriesByAddress:
    """Counts tries from when they begin, so that many at once are no way around the limit.

    `tries_max`: how many in a row one address has at one thing, a driver's password say, before it rests.
    """

    def __init__(self, tries_max: int = TRIES_MAX) -> None:
        self._tries_max = tries_max
        self._tries: OrderedDict[Key, _Tries] = OrderedDict()

    def may_try(self, party_id: PartyId, thing: str, address: str, *, now: datetime) -> bool:
        """Tell whether an address may try, and count it as in vain until `forget` says otherwise."""
        key = (party_id, thing, _holder_of(address))
        earlier = self._tries.get(key)
        if earlier is None or now >= earlier.last_at + REST:
            earlier = _Tries(0, now)
        if earlier.count >= self._tries_max:
            return False
        self._tries[key] = _Tries(earlier.count + 1, now)
        self._tries.move_to_end(key)
        if len(self._tries) > REMEMBERED_MAX:
            self._tries.popitem(last=False)
        return True

    def forget(self, party_id: PartyId, thing: str, address: str) -> None:
        """Forget an address's tries: the password was right."""
        self._tries.pop((party_id, thing, _holder_of(address)), None)


def _holder_of(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Network((parsed, IPV6_PREFIX_BITS), strict=False)) if isinstance(parsed, IPv6Address) else address
