"""How far a charge's energy and money came, stage by stage, and why not further: one document at a time.

Each stage is compared with the one before it. What is less, or more, has one cause; a cause that is nobody's decision
and nobody's waiting is a fault.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from emobility.ports.reconciliation import Document, MeteredSession


class Stage(StrEnum):
    """Where figures are taken."""

    METERED = "metered"
    CDR = "cdr"
    ACCEPTED = "accepted"
    SETTLED = "settled"
    INVOICED = "invoiced"
    PAID = "paid"


STAGES: Final = tuple(Stage)


class Cause(StrEnum):
    """Why a stage has less than the one before it, or more."""

    RUNNING = "the transaction is open, or not priced yet"
    HELD = "it is in quarantine, and nobody decided yet"
    FORGONE = "it was waived or written off"
    SOLD = "it was sold ad hoc, in no CDR"
    RESERVED = "a reservation is billed that nobody used"
    OTHER_PERIOD = "a document of the session ended in another period"
    UNBILLED = "it was metered, and no CDR, sale or quarantine has it"
    METERED_OTHERWISE = "the CDRs state other energy than was metered"
    CDR_OF_NOTHING = "a CDR bills a session that no transaction has"

    UNDECIDED = "the MSP has not decided yet"
    DISPUTED = "the MSP disputes it"
    WITHDRAWN = "it was credited before it was accepted, or is that credit"
    ON_ITS_WAY = "it is on its way to the MSP"
    MSP_ELSEWHERE = "its MSP's books are kept elsewhere"
    CPO_ELSEWHERE = "its CPO's books are kept elsewhere"
    REFUSED = "the MSP refused the message that carries it"
    NOT_ARRIVED = "the CPO issued it, the MSP has it not, and nothing is on its way"
    NEVER_ISSUED = "the MSP has it, and the CPO never issued it"
    CDR_DIFFERS = "CPO and MSP hold different figures under one id"

    NO_SETTLEMENT = "no settlement is at work here"
    UNREAD = "the settlement has not read it yet"
    PARKED = "its event is in the dead letters of the settlement"
    DISCARDED = "somebody discarded its event"
    OFF_CHAIN = "its parties settle elsewhere, by their agreement"
    UNBOUND = "it stands in no statement yet"
    TAKEN_OUT = "a verdict took it out of its statement, and it waits for its parties"
    CLOSED = "its statement is closed and not proposed yet"
    PROPOSED = "its statement is on its way into the chain"
    RIPENING = "its statement ripens: one side has signed"
    CHALLENGED = "its statement is contested"
    VOID = "its statement was taken out by a verdict"
    UNFUNDED = "its statement lacks cover"
    NO_LEAF = "it was accepted, and the settlement passed its event and has no leaf of it"
    LEAF_OF_NOTHING = "the settlement has a leaf of it, and its MSP did not accept it"
    LEAF_DIFFERS = "its leaf says otherwise than what the MSP accepted"
    STATEMENT_GONE = "the statement that it stands in is not there"

    NOT_INVOICED = "no document about its statement was issued yet"
    TAX_UNKNOWN = "the tax table has no rule for its pair, so no document is made"
    MONEY_BEHIND = "what is final was not all read yet"
    NOT_ASKED_FOR = "its statement is final, and nobody is asked for it"
    INVOICE_GONE = "the document about its statement is gone"

    IN_NO_PAYMENT = "its statement is in no payment yet"
    DUE = "its payment was not ordered yet"
    ORDERED = "its payment is in a bank file"
    SENT = "its payment left the MSP's account"
    PARTLY_PAID = "its payment arrived in part"
    PAID_FIRST = "it was paid before a document was issued"
    PAYMENT_GONE = "the payment that it is in is gone"


FAULTS: Final = frozenset(
    {
        Cause.UNBILLED,
        Cause.METERED_OTHERWISE,
        Cause.CDR_OF_NOTHING,
        Cause.REFUSED,
        Cause.NOT_ARRIVED,
        Cause.NEVER_ISSUED,
        Cause.CDR_DIFFERS,
        Cause.NO_LEAF,
        Cause.LEAF_OF_NOTHING,
        Cause.LEAF_DIFFERS,
        Cause.STATEMENT_GONE,
        Cause.NOT_ASKED_FOR,
        Cause.INVOICE_GONE,
        Cause.PAYMENT_GONE,
    }
)
_UNDECIDED: Final = {"RECEIVED": Cause.UNDECIDED, "WAITING": Cause.UNDECIDED, "DISPUTED": Cause.DISPUTED}
_RESERVATION: Final = "#NA/"


class Amounts(NamedTuple):
    """How many documents, what they count in Wh, and net of tax in ten-thousandths; credits with a minus sign."""

    documents: int = 0
    import_wh: int = 0
    export_wh: int = 0
    net_e4: int = 0

    def less(self, other: Amounts) -> Amounts:
        """Return what is here and not there."""
        return Amounts(
            self.documents - other.documents,
            self.import_wh - other.import_wh,
            self.export_wh - other.export_wh,
            self.net_e4 - other.net_e4,
        )

    def plus(self, other: Amounts) -> Amounts:
        """Return both together."""
        return Amounts(
            self.documents + other.documents,
            self.import_wh + other.import_wh,
            self.export_wh + other.export_wh,
            self.net_e4 + other.net_e4,
        )


NOTHING: Final = Amounts()


class Reached(NamedTuple):
    """How far a statement came; at each stage None says that it got there."""

    settled: Cause | None
    invoiced: Cause | None
    paid: Cause | None


NOT_SETTLED: Final = Reached(None, None, None)


class Step(NamedTuple):
    """What a stage has of a document, and why it is not what the stage before has; None: it is."""

    amounts: Amounts
    cause: Cause | None


def claim_of(each: MeteredSession) -> Cause | None:
    """Say why what a session's CDRs state is not what it metered; None: it is."""
    metered = each.metered_import_wh, each.metered_export_wh
    claimed = each.cdr_import_wh, each.cdr_export_wh
    if each.name is None:
        return None
    if each.state is None:
        # Under a reservation that nobody used no energy flowed.
        is_reserved = each.name.startswith(_RESERVATION) and claimed == (0, 0)
        return Cause.RESERVED if is_reserved else Cause.CDR_OF_NOTHING
    if each.state == "OPEN":
        return Cause.RUNNING
    held = each.held_import_wh, each.held_export_wh
    forgone = each.forgone_import_wh, each.forgone_export_wh
    sold = each.sold_import_wh, each.sold_export_wh
    elsewhere = [sum(parts) for parts in zip(held, forgone, sold, strict=True)]
    if [one + other for one, other in zip(claimed, elsewhere, strict=True)] != list(metered):
        return Cause.METERED_OTHERWISE if each.cdrs or any(elsewhere) else Cause.UNBILLED
    if any(sold):
        return Cause.SOLD
    if any(held):
        return Cause.HELD
    return Cause.FORGONE if any(forgone) else None


def issued(document: Document) -> Amounts:
    """Return what the CPO claims."""
    if document.issued_to is None:
        return NOTHING
    return Amounts(1, document.issued_import_wh or 0, document.issued_export_wh or 0, document.issued_e4 or 0)


def _received(document: Document) -> Amounts:
    if document.received_by is None:
        return NOTHING
    return Amounts(1, document.received_import_wh or 0, document.received_export_wh or 0, document.received_e4 or 0)


def _booked(document: Document) -> Amounts:
    if document.leaf_of is None:
        return NOTHING
    sign = -1 if document.leaf_is_credit else 1
    net_e4 = (document.due_e4 or 0) - (document.credit_e4 or 0)
    return Amounts(1, sign * (document.import_wh or 0), sign * (document.export_wh or 0), net_e4)


def _was_accepted(document: Document) -> bool:
    """Whether the MSP accepted it, if only until it was credited: what was accepted has, or had, a bill."""
    if document.received_state == "ACCEPTED" and not document.is_credit:
        return True
    return document.received_state in {"ACCEPTED", "CREDITED"} and document.bills > 0


def accepted(document: Document, *, has_cpo: bool, has_msp: bool) -> Step:
    """Return what the MSP accepted.

    Args:
        document: All sides of it.
        has_cpo: The CPO's books are here.
        has_msp: The MSP's books are here; where they are not, what was accepted is what the settlement was told of.
    """
    if document.received_by is None:
        if not has_msp:
            return _told_of(document, has_cpo=has_cpo)
        if document.issued_to is None:
            return Step(NOTHING, None)
        waits = {"PENDING": Cause.ON_ITS_WAY, "FAILED": Cause.REFUSED}
        return Step(NOTHING, waits.get(document.undelivered or "", Cause.NOT_ARRIVED))
    amounts = _received(document) if _was_accepted(document) else NOTHING
    if document.issued_to is None:
        return Step(amounts, Cause.NEVER_ISSUED if has_cpo else Cause.CPO_ELSEWHERE)
    sides = (document.issued_to, document.issued_currency), (document.received_by, document.received_currency)
    if sides[0] != sides[1] or issued(document) != _received(document):
        return Step(amounts, Cause.CDR_DIFFERS)
    if amounts is NOTHING:
        return Step(NOTHING, _UNDECIDED.get(document.received_state or "", Cause.WITHDRAWN))
    return Step(amounts, None)


def _told_of(document: Document, *, has_cpo: bool) -> Step:
    """Return what a settlement was told that an MSP elsewhere accepted: what its leaf says."""
    if document.leaf_of is None:
        return Step(NOTHING, Cause.MSP_ELSEWHERE)
    booked = _booked(document)
    if document.issued_to is None:
        return Step(booked, Cause.NEVER_ISSUED if has_cpo else Cause.CPO_ELSEWHERE)
    sides = (document.issued_to, document.issued_currency), (document.leaf_of, document.leaf_currency)
    is_alike = sides[0] == sides[1] and issued(document) == booked
    return Step(booked, None if is_alike else Cause.LEAF_DIFFERS)


def settled(document: Document, before: Amounts, reached: Reached, *, no_leaf: Cause, unbound: Cause) -> Step:
    """Return what a final statement has of it.

    Args:
        document: All sides of it.
        before: What the MSP accepted.
        reached: How far its statement came.
        no_leaf: Why it has no leaf, should it have none.
        unbound: Why its leaf is in no statement, should it be in none.
    """
    booked = _booked(document)
    if document.leaf_of is None:
        return Step(NOTHING, no_leaf if before != NOTHING else None)
    is_final = document.sequence is not None and reached.settled is None
    amounts = booked if is_final else NOTHING
    if before is NOTHING:
        return Step(amounts, Cause.LEAF_OF_NOTHING)
    is_told = document.received_by is not None
    sides = (document.received_by, document.received_currency), (document.leaf_of, document.leaf_currency)
    if before != booked or (is_told and sides[0] != sides[1]):
        return Step(amounts, Cause.LEAF_DIFFERS)
    return Step(amounts, None if is_final else unbound if document.sequence is None else reached.settled)


def invoiced(before: Amounts, reached: Reached) -> Step:
    """Return what a document between the companies has of it."""
    return Step(before, None) if reached.invoiced is None or before is NOTHING else Step(NOTHING, reached.invoiced)


def paid(settled_amounts: Amounts, before: Amounts, reached: Reached) -> Step:
    """Return what was paid of it; money may come before its document does."""
    if settled_amounts is NOTHING:
        return Step(NOTHING, None)
    if reached.paid is None:
        return Step(settled_amounts, Cause.PAID_FIRST if before is NOTHING else None)
    return Step(NOTHING, None if before is NOTHING else reached.paid)
