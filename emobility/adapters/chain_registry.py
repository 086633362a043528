"""The registry on a chain: `PartyRegistry.sol`, read with one call per party."""

from __future__ import annotations

from datetime import UTC, datetime

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.identifiers import PartyId
from emobility.domain.party_claims import PartyEntry, modules_of_bits, roles_of_bits
from emobility.ports.chain import CallReverted, ChainReader, ChainUnavailable

_FOREVER = datetime.max.replace(tzinfo=UTC)


class ChainPartyRegistry:
    """Reads the contract at `address` (20 bytes)."""

    def __init__(self, chain: ChainReader, address: bytes) -> None:
        self._chain = chain
        self._address = address

    async def entry(self, party_id: PartyId) -> PartyEntry | None:
        """See `PartyRegistry`. Raises `ChainUnavailable`, also when the contract is not there."""
        asked = contracts.ENTRY.call(party_id.country_code.encode(), party_id.party_id.encode())
        try:
            (words,) = contracts.ENTRY.answer(await self._chain.call(self._address, asked))
        except (CallReverted, MalformedCall) as error:
            raise ChainUnavailable("there is no party registry at this address") from error
        number, party, attested_until, roles, modules, platform, message_key, _, _ = words
        if not number:
            return None
        return PartyEntry(
            party_id=party_id,
            number=number,
            nonce=party[2],
            signer=party[3],
            attested_until=_moment(attested_until) if attested_until else None,
            roles=roles_of_bits(roles),
            modules=modules_of_bits(modules),
            platform=platform,
            message_key=message_key.hex() if any(message_key) else None,
        )


def _moment(seconds: int) -> datetime:
    """A chain knows later moments than a calendar does."""
    return _FOREVER if seconds >= _FOREVER.timestamp() else datetime.fromtimestamp(seconds, UTC)
