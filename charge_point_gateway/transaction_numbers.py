"""The transaction ids of OCPP 1.6, which the central system gives: whole numbers, one per transaction, for ever.

A station repeats a StartTransaction until it is answered, so the number hangs on the content; it is written before the
event, so a crash in between changes nothing. Numbers grow per station and are never given twice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from charge_point_gateway.message import NumberWanted, TransactionNumber
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.clock import Timer
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import Units
from emobility.protocols.station_control.messages import StartTransaction

FIRST_NUMBER: Final = 1
"""0 and -1 are what stations send when they have no number."""
ATTEMPTS_MAX: Final = 5
"""Two connections of one station may ask at once, for a moment; one of them tries again."""
REMOTE_STARTS_MAX: Final = 20_000
"""Remote starts that wait for their StartTransaction, over all stations."""


REMOTE_START_S_MAX: Final = 600.0
"""How long an accepted remote start is waited for: stations give a driver a minute or a few to plug in."""


class NumberContended(Unavailable):
    """No number could be given in `ATTEMPTS_MAX` attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionNumberRow:
    """One number given."""

    party_id: PartyId
    charging_station_id: str
    content_key: str
    number: int
    remote_start_id: int | None


TRANSACTION_NUMBER: Final = TableSpec(
    name="transaction_number",
    record=TransactionNumberRow,
    key=("party_id", "charging_station_id", "content_key"),
    unique=(("party_id", "charging_station_id", "number"),),
)


RemoteKey = tuple[PartyId, str, str]
"""Party, station and token."""


@dataclass(frozen=True, slots=True)
class _RemoteStart:
    remote_start_id: int
    ocpp_evse_id: int
    expires_s: float


class TransactionNumbers:
    """Gives numbers, and tells which of them answer a remote start."""

    def __init__(self, units: Units, timer: Timer) -> None:
        self._units = units
        self._timer = timer
        self._remote_starts: OrderedDict[RemoteKey, _RemoteStart] = OrderedDict()

    def expect(self, party_id: PartyId, charging_station_id: str, start: StartTransaction) -> None:
        """Remember a remote start: the station's next StartTransaction with its token at its connector answers it."""
        key = (party_id, charging_station_id, start.id_token.casefold())
        expires_s = self._timer.monotonic_s() + REMOTE_START_S_MAX
        self._remote_starts[key] = _RemoteStart(start.remote_start_id, start.ocpp_evse_id, expires_s)
        self._remote_starts.move_to_end(key)
        if len(self._remote_starts) > REMOTE_STARTS_MAX:
            self._remote_starts.popitem(last=False)

    def expect_no_longer(self, party_id: PartyId, charging_station_id: str, start: StartTransaction) -> None:
        """Forget a remote start that the station refused, unless a later one took its place."""
        key = (party_id, charging_station_id, start.id_token.casefold())
        known = self._remote_starts.get(key)
        if known is not None and known.remote_start_id == start.remote_start_id:
            del self._remote_starts[key]

    def _answered_by(self, key: RemoteKey, wanted: NumberWanted) -> int | None:
        known = self._remote_starts.get(key)
        if known is None or known.expires_s <= self._timer.monotonic_s():
            return None
        return known.remote_start_id if known.ocpp_evse_id == wanted.ocpp_evse_id else None

    async def number_for(self, party_id: PartyId, charging_station_id: str, wanted: NumberWanted) -> TransactionNumber:
        """Return the number of this content, giving one if it has none. Raises `Unavailable`."""
        for _ in range(ATTEMPTS_MAX):
            row = await self._find_or_insert(party_id, charging_station_id, wanted)
            if row is not None:
                return TransactionNumber(number=row.number, remote_start_id=row.remote_start_id)
        raise NumberContended(f"no transaction number for {charging_station_id}")

    async def is_given(self, party_id: PartyId, charging_station_id: str, number: int) -> bool:
        """Tell whether a number was given to this station. Raises `Unavailable`."""
        where = {"party_id": party_id, "charging_station_id": charging_station_id, "number": number}
        async with self._units.begin() as unit:
            return await unit.table(TRANSACTION_NUMBER).count(where) > 0

    async def _find_or_insert(
        self, party_id: PartyId, charging_station_id: str, wanted: NumberWanted
    ) -> TransactionNumberRow | None:
        remote_key = (party_id, charging_station_id, wanted.id_token.casefold())
        async with self._units.begin() as unit:
            table = unit.table(TRANSACTION_NUMBER)
            known = await table.get(party_id, charging_station_id, wanted.content_key)
            if known is not None:
                return known
            station = {"party_id": party_id, "charging_station_id": charging_station_id}
            last = await table.select(station, order_by=("-number",), limit=1)
            row = TransactionNumberRow(
                party_id=party_id,
                charging_station_id=charging_station_id,
                content_key=wanted.content_key,
                number=last[0].number + 1 if last else FIRST_NUMBER,
                remote_start_id=self._answered_by(remote_key, wanted),
            )
            try:
                await table.insert(row)
            except RecordExists:
                return None
            await unit.commit()
        if row.remote_start_id is not None:
            self._remote_starts.pop(remote_key, None)
        return row
