"""One station's messages, read as strictly as the standard or as leniently as the profiles that match it.

A station without a matching profile, as nearly all are, costs one comparison of numbers here.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from charge_point_gateway.connection import IncomingCall, IncomingSend
from charge_point_gateway.message import content_key
from charge_point_gateway.metrics import GatewayMetrics
from charge_point_gateway.quirk_repairs import Leniency, NotTolerated, corrected, repaired
from charge_point_gateway.quirks import QuirkBook, make_of
from charge_point_gateway.rpc_errors import CallRefused
from charge_point_gateway.schemas import Schemas
from charge_point_gateway.security import StationIdentity
from emobility.ports.clock import Clock
from emobility.protocols.station_control.quirks import CORRECTIONS, METERING_ACTIONS, StationMake, Tolerance

Incoming = TypeVar("Incoming", IncomingCall, IncomingSend)
BOOT: Final = "BootNotification"


class Tolerating:
    """What a session asks before it believes a payload."""

    __slots__ = ("_book", "_clock", "_generation", "_identity", "_leniency", "_make", "_metrics", "_schemas")

    def __init__(
        self, identity: StationIdentity, schemas: Schemas, *, book: QuirkBook, metrics: GatewayMetrics, clock: Clock
    ) -> None:
        self._identity = identity
        self._schemas = schemas
        self._book = book
        self._metrics = metrics
        self._clock = clock
        self._make = StationMake()
        self._generation = -1
        self._leniency: Leniency | None = None

    def knows(self, make: StationMake) -> bool:
        """Take in what the station says it is; tell whether that was known."""
        if make == self._make:
            return True
        self._make, self._generation = make, -1
        return False

    def new_make(self, call: IncomingCall) -> StationMake | None:
        """Return what a boot says of the station, if it is news; it counts from this very message on."""
        if call.action != BOOT:
            return None
        make = make_of(self._schemas.version, call.payload)
        return None if self.knows(make) else make

    @property
    def leniency(self) -> Leniency | None:
        """What is tolerated now."""
        if self._generation != self._book.generation:
            self._generation = self._book.generation
            self._leniency = self._book.leniency(self._identity, self._schemas.version, self._make)
        return self._leniency

    def request(self, call: Incoming) -> Incoming:
        """Return the message with a payload that keeps its schema. Raises `CallRefused`."""
        leniency = self.leniency
        if leniency is None:
            self._schemas.check_request(call.action, call.payload)
            return call
        payload, applied = call.payload, frozenset[Tolerance]()
        try:
            self._schemas.check_request(call.action, payload)
        except CallRefused as refused:
            payload, applied = self._repaired(refused, call.action, payload, leniency, is_response=False)
        corrections = frozenset[Tolerance]()
        if call.action in METERING_ACTIONS:
            corrections = applied & CORRECTIONS
            if not CORRECTIONS.isdisjoint(leniency.tolerances):
                number = self._number_meant(call.action, payload, leniency)
                payload, changed = corrected(payload, leniency=leniency, transaction_number=number)
                applied, corrections = applied | changed, corrections | changed
        if not applied:
            return call
        self._count(call.action, applied)
        note = "; ".join(leniency.told(corrections)) or None
        return replace(call, payload=payload, came=call.payload, tolerated=leniency.told(applied), correction=note)

    def response(self, action: str, payload: Any) -> Any:
        """Return the station's CALLRESULT so that it keeps its schema. Raises `CallRefused`."""
        try:
            self._schemas.check_response(action, payload)
        except CallRefused as refused:
            leniency = self.leniency
            if leniency is None:
                raise
            payload, applied = self._repaired(refused, action, payload, leniency, is_response=True)
            self._count(action, applied)
        return payload

    def transaction_began(self, connector: int, number: int) -> None:
        """A 1.6 transaction has its number; remembered only where `transaction_id_zero` asks for it."""
        if self._leniency is not None and Tolerance.TRANSACTION_ID_ZERO in self._leniency.tolerances:
            self._book.running.began(self._identity, connector, number)

    def _number_meant(self, action: str, payload: dict[str, Any], leniency: Leniency) -> int | None:
        """Return whose transaction 0 is, where that is no guess."""
        number = payload.get("transactionId")
        if Tolerance.TRANSACTION_ID_ZERO not in leniency.tolerances or type(number) is not int:
            return None
        running = self._book.running
        if number != 0:
            if action == "StopTransaction":
                running.ended(self._identity, number)
            return None
        if action == "MeterValues":
            return running.metered_at(self._identity, payload["connectorId"])
        return running.ended_by(self._identity, content_key(payload))

    def _repaired(
        self, refused: CallRefused, action: str, payload: Any, leniency: Leniency, *, is_response: bool
    ) -> tuple[Any, frozenset[Tolerance]]:
        validator = self._schemas.validator(action, is_response=is_response)
        if validator is None:
            raise refused
        try:
            return repaired(validator, payload, action=action, leniency=leniency, now=self._clock.now())
        except (NotTolerated, ValueError) as error:
            raise refused from error

    def _count(self, action: str, applied: frozenset[Tolerance]) -> None:
        for tolerance in applied:
            self._metrics.tolerated.labels(action, tolerance.value).inc()
