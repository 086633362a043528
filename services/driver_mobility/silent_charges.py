"""End charges that nothing is heard of: their quotes hold a card and use up credit, and perhaps no CDR ever comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import structlog

from emobility.domain.identifiers import PartyId
from emobility.domain.session import SessionStatus
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.driver_mobility.quoting import end_unbilled
from services.driver_mobility.records import CDRS, QUOTE, SESSION, CDRState, QuoteRecord, QuoteState
from services.driver_mobility.sweeping import deal_with_each

SILENCE_MAX: Final = timedelta(days=14)
"""How long a charge counts without a word of its session, and an ended one without its CDR: no hold lasts longer."""
_LIVE: Final = (CDRState.RECEIVED, CDRState.WAITING, CDRState.DISPUTED, CDRState.ACCEPTED)

_log = structlog.get_logger(__name__)


class SilentCharges:
    """Frees the cards and the credit of drivers whose charge was forgotten by its CPO."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def end(self, emsp_id: PartyId) -> int:
        """End what was silent for too long; return how many charges."""
        async with self._ports.units.begin() as unit:
            running = await unit.table(QUOTE).select(
                {"party_id": emsp_id, "state": QuoteState.RUNNING},
                before=("valid_until", self._ports.clock.now() - SILENCE_MAX),
            )
        return await deal_with_each(running, self._end_if_silent, name=lambda quote: f"quote {quote.quote_id}")

    async def _end_if_silent(self, quote: QuoteRecord) -> bool:
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            current = await unit.table(QUOTE).get_for_update(quote.party_id, quote.quote_id)
            is_running = current is not None and current.state is QuoteState.RUNNING
            if current is None or not is_running or await _is_heard_of(unit, current, since=now - SILENCE_MAX):
                return False
            await end_unbilled(unit, current, reason="nothing was heard of the charge any more", at=now)
            await unit.commit()
        _log.warning("charge_ended_unheard", emsp=quote.party_id.code, cpo=quote.cpo_id.code, quote_id=quote.quote_id)
        return True


async def _is_heard_of(unit: UnitOfWork, quote: QuoteRecord, *, since: datetime) -> bool:
    """Tell whether the session moved on or ended since, or its CDR is here: that one is decided on, not forgotten."""
    where = {"party_id": quote.party_id, "cpo_id": quote.cpo_id, "session_id": quote.session_id}
    if await unit.table(CDRS).count(where | {"state": _LIVE}):
        return True
    session = await unit.table(SESSION).get(quote.party_id, quote.cpo_id, quote.session_id)
    if session is None or session.quote_id != quote.quote_id:
        return False
    # That an ended session is told of again is no news of it.
    ended_at = session.session.ended_at if session.status is SessionStatus.COMPLETED else None
    return min(session.heard_at, ended_at or session.heard_at) >= since
