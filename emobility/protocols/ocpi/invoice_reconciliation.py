"""Invoice reconciliation (OCPI 2.3.0) between parties, with an answer per CDR in a custom module of ours beside it.

Who invoices sends a record: POST, changes by PUT, takes back by DELETE; records can be fetched by GET as well. In the
text a record names CDRs alone; ours say their amounts, the currency and the period too, in fields of our own that
others pass over. Who receives it compares each CDR with its own books and answers by PUT `/{record_id}` to the module
`wattroam-reconciliation` of who invoiced, again whenever an answer changes. Either side may invoice: directly the CPO,
in reverse billing the eMSP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import structlog

from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.invoice_reconciliation import (
    BookedCDR,
    Invoice,
    InvoicedCDR,
    LineAnswer,
    LineVerdict,
    accepted_e4,
    agrees,
    reconcile,
)
from emobility.domain.money import decimal_from_e4, e4_from_decimal
from emobility.ports.ports import Ports
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v230
from emobility.protocols.ocpi.deliveries import Deliveries
from emobility.protocols.ocpi.mapping import owner_path
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject
from emobility.protocols.ocpi.v221 import Currency, Id36, Id39, InterfaceRole, ModuleID, Number, OCPIObject

CDRS_SENT_MAX: Final = 1_000
"""CDRs of one record of ours; a period with more has several records under one invoice."""
CDRS_TAKEN_MAX: Final = 5_000
PERIOD_MAX: Final = timedelta(days=400)
"""Longest period that one record covers."""
OWED_MAX: Final = 20_000
"""CDRs of a stated period that are looked at, by id; what lies beyond is not told as missing."""
ASKED_AT_ONCE: Final = 500
"""Ids in one question to the books."""
LOOKED_AT_AGAIN_FOR: Final = timedelta(days=90)
"""How long after a record arrived its answers are looked at again: by then a dispute is over, or is for people."""
T = TypeVar("T")

_log = structlog.get_logger(__name__)


class CutsShort(RuleBroken):
    """A longer period with the same start is invoiced; what lies beyond this one would be on no invoice any more."""

    def __init__(self, until: datetime) -> None:
        self.until = until
        super().__init__(f"from then on is invoiced until {until.isoformat()}: name all of it, or withdraw it first")


class NothingToInvoice(RuleBroken):
    """No CDR of the counterparty is of this period."""


class NoSuchRecord(RuleBroken):
    """There is no such record between the two."""


class NotAPeriod(MalformedInput):
    """A period begins before it ends, is over when it is invoiced, and is at most `PERIOD_MAX` long."""


class StatedAmount(OCPIObject, frozen=True, kw_only=True):
    """What is invoiced for a CDR, before tax."""

    cdr_id: Id39
    amount: Number


class InvoiceRecord(v230.InvoiceReconciliationRecord, frozen=True, kw_only=True):
    """A record with what we say beyond the text: an amount per CDR, the currency, and the period."""

    wattroam_amounts: tuple[StatedAmount, ...] = ()
    wattroam_currency: Currency | None = None
    wattroam_since: datetime | None = None
    wattroam_until: datetime | None = None


class AnsweredCDR(OCPIObject, frozen=True, kw_only=True):
    """An answer to one line (`domain/invoice_reconciliation.py`); amounts in currency units, before tax."""

    cdr_id: Id39
    verdict: LineVerdict
    stated: Number | None = None
    booked: Number | None = None
    see: Id39 | None = None


class InvoiceAnswer(OCPIObject, frozen=True, kw_only=True):
    """All answers to a record, as it was when it said `record_last_updated`."""

    id: Id36
    invoice_id: v230.Id255
    record_last_updated: datetime
    accepted_total: Number
    cdrs: list[AnsweredCDR]
    last_updated: datetime


class ReconciliationState(StrEnum):
    """Where a record stands."""

    SENT = "SENT"
    """Nobody answered yet."""
    AGREED = "AGREED"
    DIFFERS = "DIFFERS"
    WITHDRAWN = "WITHDRAWN"
    """We took it back. It stays, so that its period counts as one that was invoiced, and is not invoiced by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRecord:
    """A record as one of our parties has it, whoever issued it; amounts in ten-thousandths of `currency`.

    Attributes:
        issued_at: The document's `last_updated`.
        period_since: Start of the period it covers, as far as it says.
        answers: Per line, then per CDR that is missing.
        answered_at: When they changed last.
    """

    party_id: PartyId
    counterparty: PartyId
    issued_by: PartyId
    record_id: str
    invoice_id: str
    currency: str | None
    lines: tuple[InvoicedCDR, ...]
    period_since: datetime | None
    period_until: datetime | None
    issued_at: datetime
    state: ReconciliationState
    answers: tuple[LineAnswer, ...]
    answered_at: datetime | None
    entered_at: datetime

    @property
    def stated_e4(self) -> int | None:
        """What is invoiced; None: its issuer does not say."""
        amounts = [line.amount_e4 for line in self.lines if line.amount_e4 is not None]
        return sum(amounts) if len(amounts) == len(self.lines) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicedRecord:
    """Which record first invoiced a CDR to one of our parties."""

    party_id: PartyId
    counterparty: PartyId
    cdr_id: str
    record_id: str


RECONCILIATION: Final = TableSpec(
    name="invoice_reconciliation",
    record=ReconciliationRecord,
    key=("party_id", "counterparty", "issued_by", "record_id"),
)
INVOICED: Final = TableSpec(name="invoiced_cdr", record=InvoicedRecord, key=("party_id", "counterparty", "cdr_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationShown:
    """A record for operators: sums, and the answers that are no acceptance."""

    counterparty: PartyId
    issued_by: PartyId
    record_id: str
    invoice_id: str
    state: ReconciliationState
    currency: str | None
    cdrs: int
    stated_e4: int | None
    accepted_e4: int
    period_since: datetime | None
    period_until: datetime | None
    issued_at: datetime
    answered_at: datetime | None
    differing: tuple[LineAnswer, ...] = field(default_factory=tuple)


def shown(record: ReconciliationRecord) -> ReconciliationShown:
    """Return a record as operators see it."""
    return ReconciliationShown(
        counterparty=record.counterparty,
        issued_by=record.issued_by,
        record_id=record.record_id,
        invoice_id=record.invoice_id,
        state=record.state,
        currency=record.currency,
        cdrs=len(record.lines),
        stated_e4=record.stated_e4,
        accepted_e4=accepted_e4(record.answers),
        period_since=record.period_since,
        period_until=record.period_until,
        issued_at=record.issued_at,
        answered_at=record.answered_at,
        differing=tuple(each for each in record.answers if each.verdict is not LineVerdict.ACCEPTED),
    )


class Books(Protocol):
    """What a back office knows of its CDRs with a counterparty."""

    async def booked(
        self, unit: UnitOfWork, own: PartyId, counterparty: PartyId, cdr_ids: Sequence[str]
    ) -> list[BookedCDR]:
        """Return those of these CDRs that are known."""

    async def owed(
        self,
        unit: UnitOfWork,
        own: PartyId,
        counterparty: PartyId,
        *,
        since: datetime,
        until: datetime,
        at_most: int | None = None,
    ) -> list[BookedCDR]:
        """Return what counts between the two of all that was issued from `since` until before `until`, by id.

        `at_most`: about how many CDRs to look at; None: all, which is for periods of one's own alone.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliations:
    """Invoices and answers for the parties that one service hosts."""

    ports: Ports
    deliveries: Deliveries
    books: Books

    # What our parties invoice

    async def issue(
        self, own: PartyId, other: PartyId, *, since: datetime, until: datetime, invoice_id: str | None = None
    ) -> list[ReconciliationRecord]:
        """Tell the other which CDRs of a period are invoiced; twice is as once, and what changed since is told.

        Raises:
            NotAPeriod: it ends before it begins, lies ahead, or is too long.
            CutsShort: CDRs that were invoiced for a longer one would be on no invoice.
            NothingToInvoice: it has no CDR.
        """
        if not since < until <= self.ports.clock.now():
            raise NotAPeriod(f"{since.isoformat()} to {until.isoformat()} is no period that is over")
        if until - since > PERIOD_MAX:
            raise NotAPeriod(f"a period has at most {PERIOD_MAX.days} days")
        async with self.ports.units.begin() as unit:
            reaches_to = await self._reaches_to(unit, own, other, since)
            if reaches_to is not None and reaches_to > until:
                raise CutsShort(reaches_to)
            owed = await self.books.owed(unit, own, other, since=since, until=until)
            records = list(self._records(own, other, owed, since, until, invoice_id))
            if records:
                await self._withdraw_others(unit, own, other, since, {each.record_id for each in records})
            made = [await self._issue(unit, record) for record in records]
            await unit.commit()
        if not made:
            raise NothingToInvoice(f"no CDR of {own} and {other} was issued in that period")
        return made

    def _records(  # noqa: PLR0917 - who, to whom, what, of when, under which number
        self,
        own: PartyId,
        other: PartyId,
        owed: Sequence[BookedCDR],
        since: datetime,
        until: datetime,
        invoice_id: str | None,
    ) -> Iterable[ReconciliationRecord]:
        """One record per currency and `CDRS_SENT_MAX` CDRs, under ids that follow from the period."""
        now = self.ports.clock.now()
        for currency in sorted({each.currency for each in owed}):
            of_currency = [each for each in owed if each.currency == currency]
            for number, lines in enumerate(_parts(of_currency, CDRS_SENT_MAX), start=1):
                name = f"{own.code}-{other.code}-{since:%y%m%d%H%M%S}-{currency}"
                yield ReconciliationRecord(
                    party_id=own,
                    counterparty=other,
                    issued_by=own,
                    record_id=f"{name}-{number}",
                    invoice_id=invoice_id or name,
                    currency=currency,
                    lines=tuple(InvoicedCDR(cdr_id=each.cdr_id, amount_e4=each.amount_e4) for each in lines),
                    period_since=since,
                    period_until=until,
                    issued_at=now,
                    state=ReconciliationState.SENT,
                    answers=(),
                    answered_at=None,
                    entered_at=now,
                )

    async def _issue(self, unit: UnitOfWork, record: ReconciliationRecord) -> ReconciliationRecord:
        table = unit.table(RECONCILIATION)
        known = await table.get_for_update(record.party_id, record.counterparty, record.issued_by, record.record_id)
        if known is not None and known.state is ReconciliationState.WITHDRAWN:
            known = None  # the other has it no more
        if known is not None and _content(known) == _content(record):
            return known
        if known is not None:
            record = replace(record, entered_at=known.entered_at)
        await table.put(record)
        await self._send(
            unit,
            record,
            method="POST" if known is None else "PUT",
            path="" if known is None else owner_path(record.party_id, record.record_id),
            body=_document(record),
        )
        return record

    async def _withdraw_others(
        self, unit: UnitOfWork, own: PartyId, other: PartyId, since: datetime, needed: AbstractSet[str]
    ) -> None:
        """Take back what a period had when it had more CDRs, or they would be invoiced twice."""
        of_period = {"party_id": own, "counterparty": other, "issued_by": own, "period_since": since}
        for row in await unit.table(RECONCILIATION).select(of_period, order_by=("record_id",)):
            if row.record_id not in needed and row.state is not ReconciliationState.WITHDRAWN:
                await self._withdraw(unit, own, other, row.record_id)

    async def withdraw(self, own: PartyId, other: PartyId, record_id: str) -> None:
        """Take a record of ours back. Raises `NoSuchRecord`."""
        async with self.ports.units.begin() as unit:
            await self._withdraw(unit, own, other, record_id)
            await unit.commit()

    async def _withdraw(self, unit: UnitOfWork, own: PartyId, other: PartyId, record_id: str) -> None:
        known = await unit.table(RECONCILIATION).get_for_update(own, other, own, record_id)
        if known is None or known.state is ReconciliationState.WITHDRAWN:
            raise NoSuchRecord(f"{own} issued no {record_id} to {other}")
        await unit.table(RECONCILIATION).put(
            replace(known, state=ReconciliationState.WITHDRAWN, answers=(), answered_at=None)
        )
        await self._send(unit, known, method="DELETE", path=owner_path(own, record_id), body=None)

    async def _send(self, unit: UnitOfWork, record: ReconciliationRecord, *, method: str, path: str, body: Any) -> None:
        await self.deliveries.enqueue(
            unit,
            own_party=record.party_id,
            to_party=record.counterparty,
            method=method,
            module=ModuleID.INVOICERECONCILIATION,
            interface_role=InterfaceRole.RECEIVER,
            path=path,
            object_key=f"invoice/{record.record_id}",
            body=body,
            correlation_id=self.ports.randomness.uuid(),
            # POST and DELETE of one id go in turn, so none may take the place of an earlier one in the queue.
            is_replaceable=False,
        )

    async def records(self, own: PartyId) -> list[ReconciliationShown]:
        """Return all records of a party, those it issued and those it received, by counterparty."""
        async with self.ports.units.begin() as unit:
            rows = await unit.table(RECONCILIATION).select(
                {"party_id": own}, order_by=("counterparty", "-issued_at", "record_id")
            )
        return [shown(row) for row in rows]

    async def record(self, own: PartyId, other: PartyId, record_id: str) -> ReconciliationRecord:
        """Return one, with every line and answer. Raises `NoSuchRecord`."""
        async with self.ports.units.begin() as unit:
            for issuer in (own, other):
                found = await unit.table(RECONCILIATION).get(own, other, issuer, record_id)
                if found is not None:
                    return found
        raise NoSuchRecord(f"{own} and {other} have no {record_id}")

    async def _reaches_to(self, unit: UnitOfWork, own: PartyId, other: PartyId, since: datetime) -> datetime | None:
        """Return the end of what stands invoiced to the other from a moment on."""
        of_period = {"party_id": own, "counterparty": other, "issued_by": own, "period_since": since}
        rows = await unit.table(RECONCILIATION).select(of_period)
        ends = [row.period_until for row in rows if row.state is not ReconciliationState.WITHDRAWN]
        return max((end for end in ends if end is not None), default=None)

    async def last_until(self, unit: UnitOfWork, own: PartyId, other: PartyId) -> datetime | None:
        """Return the end of the last period that was invoiced to the other."""
        of_pair = {"party_id": own, "counterparty": other, "issued_by": own}
        rows = await unit.table(RECONCILIATION).select(of_pair, order_by=("-period_until",), limit=1)
        return rows[0].period_until if rows else None

    # What others invoice, and what they answer

    def interfaces(self) -> tuple[Interface, ...]:
        """Return both sides of the module, and the receiver of answers."""
        return self._sender(), self._receiver(), self._answers()

    def _sender(self) -> Interface:
        module = Interface(ModuleID.INVOICERECONCILIATION.value, InterfaceRole.SENDER)

        @module.route("GET")
        async def records(call: OCPICall) -> Reply:
            page = call.page()
            where = {
                "party_id": call.own_party,
                "counterparty": call.caller,
                "issued_by": call.own_party,
                "state": tuple(each for each in ReconciliationState if each is not ReconciliationState.WITHDRAWN),
            }
            window: dict[str, Any] = {
                "since": None if page.date_from is None else ("issued_at", page.date_from),
                "before": None if page.date_to is None else ("issued_at", page.date_to),
            }
            async with self.ports.units.begin() as unit:
                table = unit.table(RECONCILIATION)
                total = await table.count(where, **window)
                rows = await table.select(
                    where, **window, order_by=("issued_at",), offset=page.offset, limit=page.limit
                )
            return call.paged([_document(row) for row in rows], page=page, total=total)

        return module

    def _receiver(self) -> Interface:
        module = Interface(ModuleID.INVOICERECONCILIATION.value, InterfaceRole.RECEIVER)
        path = "/{country_code}/{party_id}/{record_id}"

        @module.route("POST")
        async def post(call: OCPICall) -> Reply:
            return await self._hear(call, call.read(InvoiceRecord), is_update=False)

        @module.route("PUT", path)
        async def put(call: OCPICall) -> Reply:
            record = call.read_owned(InvoiceRecord, object_id=call.path["record_id"])
            return await self._hear(call, record, is_update=True)

        @module.route("GET", path)
        async def get(call: OCPICall) -> Reply:
            async with self.ports.units.begin() as unit:
                return Reply(data=_document(await self._received(unit, call)))

        @module.route("DELETE", path)
        async def delete(call: OCPICall) -> Reply:
            async with self.ports.units.begin() as unit:
                known = await self._received(unit, call)
                await self._forget_lines(unit, known)
                await unit.table(RECONCILIATION).delete(
                    known.party_id, known.counterparty, known.issued_by, known.record_id
                )
                await unit.commit()
            return Reply()

        return module

    async def _received(self, unit: UnitOfWork, call: OCPICall) -> ReconciliationRecord:
        owner = call.owner()
        known = await unit.table(RECONCILIATION).get_for_update(call.own_party, owner, owner, call.path["record_id"])
        if known is None:
            raise NoSuchObject("record")
        return known

    async def _hear(self, call: OCPICall, said: InvoiceRecord, *, is_update: bool) -> Reply:
        record = _read(said, own=call.own_party, other=call.caller, at=self.ports.clock.now())
        async with self.ports.units.begin() as unit:
            known = await unit.table(RECONCILIATION).get_for_update(
                record.party_id, record.counterparty, record.issued_by, record.record_id
            )
            if known is not None:
                if _content(known) == _content(record) or (is_update and known.issued_at > record.issued_at):
                    return Reply()
                if not is_update:
                    raise InvalidParameters("this record is known with other content; PUT changes it")
                await self._forget_lines(unit, known)
                record = replace(record, entered_at=known.entered_at)
            await self._answer(unit, record)
            await unit.commit()
        return Reply(http_status=201 if known is None else 200)

    async def _forget_lines(self, unit: UnitOfWork, known: ReconciliationRecord) -> None:
        for line in known.lines:
            await unit.table(INVOICED).remove(
                known.party_id, known.counterparty, line.cdr_id, where={"record_id": known.record_id}
            )

    async def look_again(self, own: PartyId) -> int:
        """Answer anew what differed and may differ no more; return how many answers changed."""
        async with self.ports.units.begin() as unit:
            rows = await unit.table(RECONCILIATION).select(
                {"party_id": own, "state": ReconciliationState.DIFFERS},
                since=("entered_at", self.ports.clock.now() - LOOKED_AT_AGAIN_FOR),
                order_by=("entered_at",),
            )
        changed = 0
        for row in rows:
            if row.issued_by == own:
                continue
            async with self.ports.units.begin() as unit:
                known = await unit.table(RECONCILIATION).get_for_update(
                    row.party_id, row.counterparty, row.issued_by, row.record_id
                )
                if known is not None and known.state is ReconciliationState.DIFFERS:
                    changed += await self._answer(unit, known)
                await unit.commit()
        return changed

    async def _answer(self, unit: UnitOfWork, record: ReconciliationRecord) -> bool:
        """Compare a record with the books, keep it, and owe its issuer what is new; tell whether anything is."""
        own, other = record.party_id, record.counterparty
        # Whenever it is answered: what another record had and gave up is this one's from now on, and no third one's.
        await unit.table(INVOICED).insert_all(
            [
                InvoicedRecord(party_id=own, counterparty=other, cdr_id=line.cdr_id, record_id=record.record_id)
                for line in record.lines
            ]
        )
        booked: dict[str, BookedCDR] = {}
        for some in _parts([line.cdr_id for line in record.lines], ASKED_AT_ONCE):
            booked |= {each.cdr_id: each for each in await self.books.booked(unit, own, other, some)}
        owed: list[BookedCDR] = []
        if record.period_since is not None and record.period_until is not None:
            owed = await self.books.owed(
                unit, own, other, since=record.period_since, until=record.period_until, at_most=OWED_MAX
            )
        names = {line.cdr_id for line in record.lines} | {each.cdr_id for each in owed}
        answers = reconcile(
            Invoice(lines=record.lines, currency=record.currency, until=record.period_until),
            booked=booked,
            invoiced_by=await self._invoiced_elsewhere(unit, record, sorted(names)),
            owed=owed,
            answered=record.answers,
        )
        if record.answered_at is not None and answers == record.answers:
            return False
        state = ReconciliationState.AGREED if agrees(answers) else ReconciliationState.DIFFERS
        answered = replace(record, answers=answers, answered_at=self.ports.clock.now(), state=state)
        await unit.table(RECONCILIATION).put(answered)
        await self.deliveries.enqueue(
            unit,
            own_party=own,
            to_party=other,
            method="PUT",
            module=ModuleID.RECONCILIATION,
            interface_role=InterfaceRole.RECEIVER,
            path=f"/{record.record_id}",
            object_key=f"invoice-answer/{record.record_id}",
            body=_answer_document(answered),
            correlation_id=self.ports.randomness.uuid(),
        )
        _log.info("invoice_answered", own=own.code, by=other.code, record=record.record_id, state=state.value)
        return True

    async def _invoiced_elsewhere(
        self, unit: UnitOfWork, record: ReconciliationRecord, cdr_ids: Sequence[str]
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        for some in _parts(cdr_ids, ASKED_AT_ONCE):
            of_pair = {"party_id": record.party_id, "counterparty": record.counterparty, "cdr_id": some}
            rows = await unit.table(INVOICED).select(of_pair)
            found |= {row.cdr_id: row.record_id for row in rows if row.record_id != record.record_id}
        return found

    def _answers(self) -> Interface:
        module = Interface(ModuleID.RECONCILIATION.value, InterfaceRole.RECEIVER)

        @module.route("PUT", "/{record_id}")
        async def put(call: OCPICall) -> Reply:
            said = call.read(InvoiceAnswer)
            if said.id != call.path["record_id"]:
                raise InvalidParameters("id differs between URL and body")
            async with self.ports.units.begin() as unit:
                known = await unit.table(RECONCILIATION).get_for_update(
                    call.own_party, call.caller, call.own_party, said.id
                )
                if known is None or known.state is ReconciliationState.WITHDRAWN:
                    raise NoSuchObject("record")
                is_older = known.answered_at is not None and known.answered_at > said.last_updated
                if said.record_last_updated == known.issued_at and not is_older:
                    await unit.table(RECONCILIATION).put(_answered(known, said))
                    await unit.commit()
            return Reply()

        return module


def _read(said: InvoiceRecord, *, own: PartyId, other: PartyId, at: datetime) -> ReconciliationRecord:
    """Return a record that was sent. Raises `InvalidParameters`."""
    if said.owner != other:
        raise InvalidParameters("a record belongs to who sends it")
    if len(said.cdrs) > CDRS_TAKEN_MAX:
        raise InvalidParameters(f"a record has at most {CDRS_TAKEN_MAX} CDRs")
    if len(set(said.cdrs)) != len(said.cdrs):
        raise InvalidParameters("a CDR stands twice")
    amounts = {each.cdr_id: e4_from_decimal(each.amount) for each in said.wattroam_amounts}
    if len(amounts) != len(said.wattroam_amounts) or not amounts.keys() <= set(said.cdrs):
        raise InvalidParameters("there is an amount of a CDR that is not invoiced, or two of one")
    since, until = said.wattroam_since, said.wattroam_until
    if (since is None) is not (until is None):
        raise InvalidParameters("a period has both its ends")
    if since is not None and until is not None and not timedelta(0) < until - since <= PERIOD_MAX:
        raise InvalidParameters(f"a period begins before it ends, and has at most {PERIOD_MAX.days} days")
    return ReconciliationRecord(
        party_id=own,
        counterparty=other,
        issued_by=other,
        record_id=said.id,
        invoice_id=said.invoice_id,
        currency=said.wattroam_currency,
        lines=tuple(InvoicedCDR(cdr_id=cdr_id, amount_e4=amounts.get(cdr_id)) for cdr_id in said.cdrs),
        period_since=since,
        period_until=until,
        issued_at=said.last_updated,
        state=ReconciliationState.SENT,
        answers=(),
        answered_at=None,
        entered_at=at,
    )


def _parts(whole: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    for start in range(0, len(whole), size):
        yield tuple(whole[start : start + size])


def _content(record: ReconciliationRecord) -> tuple[Any, ...]:
    return record.invoice_id, record.currency, record.lines, record.period_since, record.period_until


def _document(record: ReconciliationRecord) -> InvoiceRecord:
    return InvoiceRecord(
        country_code=record.issued_by.country_code,
        party_id=record.issued_by.party_id,
        id=record.record_id,
        invoice_id=record.invoice_id,
        cdrs=[line.cdr_id for line in record.lines],
        last_updated=record.issued_at,
        wattroam_amounts=tuple(
            StatedAmount(cdr_id=line.cdr_id, amount=decimal_from_e4(line.amount_e4))
            for line in record.lines
            if line.amount_e4 is not None
        ),
        wattroam_currency=record.currency,
        wattroam_since=record.period_since,
        wattroam_until=record.period_until,
    )


def _answer_document(record: ReconciliationRecord) -> InvoiceAnswer:
    assert record.answered_at is not None, "there is an answer"
    return InvoiceAnswer(
        id=record.record_id,
        invoice_id=record.invoice_id,
        record_last_updated=record.issued_at,
        accepted_total=decimal_from_e4(accepted_e4(record.answers)),
        cdrs=[
            AnsweredCDR(
                cdr_id=each.cdr_id,
                verdict=each.verdict,
                stated=None if each.stated_e4 is None else decimal_from_e4(each.stated_e4),
                booked=None if each.booked_e4 is None else decimal_from_e4(each.booked_e4),
                see=each.see,
            )
            for each in record.answers
        ],
        last_updated=record.answered_at,
    )


def _answered(known: ReconciliationRecord, said: InvoiceAnswer) -> ReconciliationRecord:
    answers = tuple(
        LineAnswer(
            cdr_id=each.cdr_id,
            verdict=each.verdict,
            stated_e4=None if each.stated is None else e4_from_decimal(each.stated),
            booked_e4=None if each.booked is None else e4_from_decimal(each.booked),
            see=each.see,
        )
        for each in said.cdrs
    )
    # Agreement is ours to see: every line of ours was accepted at our amount, and nothing is missing.
    accepted = {(each.cdr_id, each.booked_e4) for each in answers if each.verdict is LineVerdict.ACCEPTED}
    is_whole = agrees(answers) and accepted == {(line.cdr_id, line.amount_e4) for line in known.lines}
    state = ReconciliationState.AGREED if is_whole else ReconciliationState.DIFFERS
    return replace(known, answers=answers, answered_at=said.last_updated, state=state)
