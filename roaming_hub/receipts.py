"""Write a receipt per message and receiver, bind them in signed batches, and have each day's root anchored.

A receipt is a row that becomes durable with the hub's own record, before the sender is answered. Signing comes a moment
later and for many at once: one signature, one tree. A crash in between leaves rows that the next batch takes up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

import structlog

from emobility.domain.delivery_receipt import (
    ANCHOR_KIND,
    FIRST_OF_ALL,
    RECEIPTS_MAX,
    ReceiptBatch,
    day_tree,
    receipts_tree,
    start_of,
)
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.events.anchoring import ANCHORING, Anchored, AnchorRequested
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.ports import Ports
from emobility.ports.stores import SELECT_ROWS_MAX
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.message_signatures import (
    DIGEST,
    RESPONSE_FIELDS_IF_THERE,
    SIGNATURE,
    SIGNATURE_INPUT,
    Presented,
)
from emobility.protocols.ocpi.party_keys import ensure_own_key, own_key
from emobility.protocols.ocpi.v221 import ModuleID
from roaming_hub.messages import Message
from roaming_hub.receipt_records import (
    RECEIPT,
    RECEIPT_BATCH,
    RECEIPT_DAY,
    RECEIPT_LEDGER,
    ReceiptBatchRow,
    ReceiptDay,
    ReceiptLedger,
    ReceiptRow,
)
from roaming_hub.recording import Row
from roaming_hub.steps import Outcome, Step
from roaming_hub.waiting import first_of

GROUP: Final = "hub-receipts"
SIGN_EVERY_S: Final = 1.0
"""How soon a receipt is signed; all of that time share a signature."""
LOOK_EVERY_S: Final = 10.0
"""How often it is looked for receipts that another process wrote, and for days that are over."""
KEPT_FOR: Final = timedelta(days=400)
"""Receipts older than this are dropped, whole days at a time; the days' roots stay."""
PURGE_BATCHES: Final = 50
BASE_CHARACTERS_MAX: Final = 8_192
"""A receiver's signature over more than this is not kept."""
NAMES_NOBODY: Final = frozenset({"@status", DIGEST, SIGNATURE, SIGNATURE_INPUT, *RESPONSE_FIELDS_IF_THERE})
"""What a receiver's signature may cover and be kept in clear. A token's URL names it, and so does a request's path."""

_log = structlog.get_logger(__name__)


def may_be_kept(word: Presented, *, module: str) -> bool:
    """Tell whether what a receiver signed can stand in a receipt: short, and without what may name a person."""
    covered = {line.partition('"')[2].partition('"')[0] for line in word.base.decode().split("\n")[:-1]}
    allowed = NAMES_NOBODY - {"location"} if module == ModuleID.TOKENS else NAMES_NOBODY
    return len(word.base) <= BASE_CHARACTERS_MAX and covered <= allowed


class Receipts(Step):
    """See the module's docstring."""

    def __init__(self, ports: Ports, hub: PartyId) -> None:
        self._ports = ports
        self._hub = hub
        self._written = asyncio.Event()
        self._last_number = -1
        """Of the batch that this process made last."""
        self._closed_until = datetime.min.replace(tzinfo=UTC)
        """Days before this are closed, as far as this process knows."""
        ports.units.on_change(RECEIPT, self._written.set)

    # Writing

    async def ended(self, message: Message, outcome: Outcome) -> Sequence[Row]:
        """Return the receipt of a message that was sent to one receiver."""
        answer, signed = outcome.answer, message.incoming.signed
        word = outcome.word if outcome.word and may_be_kept(outcome.word, module=message.module) else None
        row = ReceiptRow(
            receipt_id=self._ports.randomness.uuid(),
            hub=self._hub,
            correlation_id=message.ids.correlation_id,
            from_party=message.sender_party,
            to_party=message.receiver_party,
            module=message.module,
            method=message.method,
            sent_sha256=sha256(message.incoming.body).digest(),
            forwarded_sha256=sha256(message.body).digest(),
            request_signature=None if signed is None else signed.presented.by_party.signature,
            http_status=None if answer is None else answer.status,
            ocpi_status=outcome.status_code,
            response_sha256=None if answer is None else sha256(answer.body).digest(),
            at=self._ports.clock.now(),
            countersigner=None if word is None else str(word.key),
            countersigned_base=None if word is None else word.base.decode(),
            countersignature=None if word is None else word.signature,
        )
        return [(RECEIPT, row)]

    # Binding

    async def run(self, stop: asyncio.Event) -> None:
        """Sign what is written, close days and take in what was anchored, until `stop` is set."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ports.event_log.consume(GROUP, [ANCHORING], self.handle, stop=stop))
            tasks.create_task(self._bind_for_ever(stop))

    async def _bind_for_ever(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._written.clear()
            try:
                await self.bind()
                await self.close_days()
            except Unavailable as error:
                _log.warning("receipts_not_bound", reason=str(error))
            await first_of(self._ports.timer, stop, self._written, within_s=LOOK_EVERY_S)
            await first_of(self._ports.timer, stop, within_s=SIGN_EVERY_S)

    async def bind(self) -> int:
        """Sign all receipts that are in no batch; return how many."""
        bound = 0
        while True:
            taken = await self._bind_some()
            bound += taken
            if taken < RECEIPTS_MAX:
                return bound

    async def _bind_some(self) -> int:
        async with self._ports.units.begin() as unit:
            rows = await self._unbound(unit)  # without the lock: many looks find nothing
            if not rows:
                return 0
            ledger = await self._ledger(unit)
            if ledger.last_number != self._last_number:
                rows = await self._unbound(unit)  # another process may have bound some of them meanwhile
            if not rows:
                return 0
            batch = ReceiptBatch(
                hub=self._hub,
                number=ledger.last_number + 1,
                previous=ledger.last_hash,
                root=receipts_tree([row.receipt() for row in rows]).root,
                count=len(rows),
                # A clock that went back must not put a batch into a day that is closed.
                closed_at=max(self._ports.clock.now(), ledger.days_closed_until),
            )
            await unit.table(RECEIPT_BATCH).put(await self._signed(unit, batch))
            places = [(row.receipt_id, batch.number, place) for place, row in enumerate(rows)]
            await unit.table(RECEIPT).set_all(("batch_number", "place"), places)
            await unit.table(RECEIPT_LEDGER).put(replace(ledger, last_number=batch.number, last_hash=batch.leaf))
            await unit.commit()
        self._last_number = batch.number
        return len(rows)

    @staticmethod
    async def _unbound(unit: UnitOfWork) -> list[ReceiptRow]:
        return await unit.table(RECEIPT).select(
            {"batch_number": None}, order_by=("at", "receipt_id"), limit=RECEIPTS_MAX
        )

    async def _ledger(self, unit: UnitOfWork) -> ReceiptLedger:
        """Return the hub's ledger, locked."""
        table = unit.table(RECEIPT_LEDGER)
        ledger = await table.get_for_update(self._hub)
        if ledger is None:
            today = start_of(self._ports.clock.now().date())
            first = ReceiptLedger(hub=self._hub, last_number=0, last_hash=FIRST_OF_ALL, days_closed_until=today)
            await table.insert_all([first])  # two at once: one of them is there
            ledger = await table.get_for_update(self._hub)
        assert ledger is not None
        return ledger

    async def _signed(self, unit: UnitOfWork, batch: ReceiptBatch) -> ReceiptBatchRow:
        now = self._ports.clock.now()
        key = await own_key(unit, self._hub, now=now)
        if key is None:
            await ensure_own_key(unit, self._hub, self._ports.signer, now=now)
            key = await own_key(unit, self._hub, now=now)
        assert key is not None, f"{self._hub} has no key that is valid"
        signature = await self._ports.signer.sign(self._hub, batch.signed_text, generation=key.generation or 0)
        return ReceiptBatchRow(
            hub=self._hub,
            number=batch.number,
            previous=batch.previous,
            root=batch.root,
            count=batch.count,
            closed_at=batch.closed_at,
            key_id=key.key_id,
            signature=bytes.fromhex(signature),
        )

    # Days

    async def close_days(self) -> int:
        """Bind the batches of each day that is over, ask for its root to be anchored; return how many days."""
        today = start_of(self._ports.clock.now().date())
        if self._closed_until >= today:
            return 0
        async with self._ports.units.begin() as unit:
            if await unit.table(RECEIPT_LEDGER).get(self._hub) is None:
                return 0
            ledger = await self._ledger(unit)
            if ledger.days_closed_until >= today:
                self._closed_until = ledger.days_closed_until
                return 0
            batches = await batches_between(unit, self._hub, ledger.days_closed_until, today)
            days = sorted({start_of(each.closed_at.date()) for each in batches})
            for day in days:
                of_day = [each for each in batches if start_of(each.closed_at.date()) == day]
                await self._close(unit, day, of_day)
            await unit.table(RECEIPT_LEDGER).put(replace(ledger, days_closed_until=today))
            await unit.commit()
        self._closed_until = today
        return len(days)

    async def _close(self, unit: UnitOfWork, day: datetime, batches: Sequence[ReceiptBatchRow]) -> None:
        root = day_tree([each.batch() for each in batches]).root
        await unit.table(RECEIPT_DAY).insert(
            ReceiptDay(
                hub=self._hub,
                starts_at=day,
                first_number=batches[0].number,
                last_number=batches[-1].number,
                root=root,
            )
        )
        now = self._ports.clock.now()
        event = AnchorRequested(kind=ANCHOR_KIND, party_id=self._hub, period_start=day, root=root, requested_at=now)
        name = f"{event.wire_name}/{ANCHOR_KIND.hex()}/{self._hub}/{day.isoformat()}"
        unit.emit(Envelope(event=event, event_id=name, correlation_id=name[-64:], recorded_at=now))

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Note where our days are anchored."""
        for logged in batch:
            event = logged.envelope.event
            if not isinstance(event, Anchored) or (event.kind, event.party_id) != (ANCHOR_KIND, self._hub):
                continue
            day = await unit.table(RECEIPT_DAY).get_for_update(self._hub, event.period_start)
            if day is None or day.root != event.root:
                _log.error("foreign_root_anchored", day=event.period_start.isoformat(), root=event.root.hex())
                continue
            await unit.table(RECEIPT_DAY).put(
                replace(
                    day,
                    chain_id=event.chain_id,
                    contract=event.contract,
                    transaction=event.transaction,
                    anchored_at=event.anchored_at,
                )
            )

    async def purge(self, unit: UnitOfWork) -> int:
        """Drop receipts older than `KEPT_FOR` with their batches, at most `PURGE_BATCHES`; return how many batches."""
        before = ("closed_at", self._ports.clock.now() - KEPT_FOR)
        old = await unit.table(RECEIPT_BATCH).select(before=before, order_by=("number",), limit=PURGE_BATCHES)
        for batch in old:
            for row in await unit.table(RECEIPT).select({"batch_number": batch.number}):
                await unit.table(RECEIPT).remove(row.receipt_id)
            await unit.table(RECEIPT_BATCH).remove(batch.hub, batch.number)
        return len(old)


async def batches_between(unit: UnitOfWork, hub: PartyId, since: datetime, before: datetime) -> list[ReceiptBatchRow]:
    """Return a hub's batches of a time, by number."""
    found: list[ReceiptBatchRow] = []
    while True:
        page = await unit.table(RECEIPT_BATCH).select(
            {"hub": hub},
            since=("closed_at", since),
            before=("closed_at", before),
            order_by=("number",),
            offset=len(found),
        )
        found += page
        if len(page) < SELECT_ROWS_MAX:
            return found
