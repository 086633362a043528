"""What a party asks the settlement about one of its CDRs: where it stands and, once it is final, what a receipt needs.

GET {settlement}/{party}/cdrs/{cpo}/{cdr}, with the party's own API token or, by our own processes, the internal one;
answered by a `CDRStanding`. It holds no amount, so a receipt made from it can tell none.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote

import msgspec

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.document import SettledPlace
from emobility.events import codec
from emobility.ports.http import HttpClient

TIMEOUT_S: Final = 5.0


class SettlementUnavailable(Unavailable):
    """The settlement did not answer, or not as it should."""


class Stage(StrEnum):
    """How far a CDR is."""

    UNKNOWN = "UNKNOWN"
    """The settlement has not heard of it; what was accepted just now is on its way there."""
    COLLECTED = "COLLECTED"
    """In no statement yet: its period still runs, or its agreement is not open in a book."""
    CLOSED = "CLOSED"
    """In a statement that waits for signatures or for its turn."""
    PROPOSED = "PROPOSED"
    """Signed; on its way into the chain."""
    RIPENING = "RIPENING"
    """On chain with one signature; the other side may object until its window ends."""
    CHALLENGED = "CHALLENGED"
    """On chain; one side objects, and a verdict is to come."""
    VOID = "VOID"
    """Taken out by a verdict; the two will state it anew."""
    UNFUNDED = "UNFUNDED"
    """Both signed; who pays lacks cover."""
    FINAL = "FINAL"


class CDRStanding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a CDR stands.

    Attributes:
        settled: Of a FINAL one, what its receipt names.
        final_at: When the settlement saw that it is final.
        block_number: Block of the transaction that proposed it; None while a chain that lost it has it sent again.
    """

    stage: Stage
    settled: SettledPlace | None = None
    final_at: datetime | None = None
    block_number: int | None = None


class SettlementClient:
    """Asks the settlement, wherever it runs."""

    def __init__(self, http: HttpClient, *, settlement_url: str, internal_token: str) -> None:
        http.allow_origin(settlement_url)
        self._http = http
        self._url = f"{settlement_url.rstrip('/')}/settlement"
        self._headers = {"authorization": f"Bearer {internal_token}"}

    async def standing(self, party_id: PartyId, cpo_id: PartyId, cdr_id: str) -> CDRStanding:
        """Return where a CDR of the party stands. Raises `SettlementUnavailable`."""
        url = f"{self._url}/{party_id}/cdrs/{cpo_id}/{quote(cdr_id, safe='')}"
        try:
            answer = await self._http.request("GET", url, headers=self._headers, timeout_s=TIMEOUT_S)
        except (Unavailable, RuleBroken) as error:
            raise SettlementUnavailable(str(error)) from error
        if answer.status == 404:
            return CDRStanding(stage=Stage.UNKNOWN)
        if answer.status != 200:
            raise SettlementUnavailable(f"the settlement answered {answer.status}")
        try:
            return codec.decode(answer.body, CDRStanding)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SettlementUnavailable("the settlement's answer can't be read") from error
