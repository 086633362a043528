"""Read what a bank says moved: camt.053 (statement) and camt.054 (notification), versions .02 to .14.

Only what is booked counts; what is pending or announced comes again. Of an entry that the bank booked as a sum, each
transaction in it is an entry of its own if they add up to it; else the sum is one that nobody awaits.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from emobility.domain.banking.account import CENTS
from emobility.domain.banking.matching import BankEntry, Direction
from emobility.protocols.xml import Element, UnreadableXML, read

ENTRIES_MAX: Final = 50_000
_NAMESPACE: Final = re.compile(r"urn:iso:std:iso:20022:tech:xsd:camt\.05([34])\.001\.(0[2-9]|1[0-4])")
_AMOUNT: Final = re.compile(r"\d{1,13}(\.\d{1,5})?")
_STATEMENTS: Final = {"3": ("BkToCstmrStmt", "Stmt"), "4": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}
NOT_PROVIDED: Final = "NOTPROVIDED"
_BOOKED: Final = "BOOK"
_RETURNS: Final = frozenset({"RRTN", "RPCR", "RRCT", "UPDD", "RCDD", "PRDD"})
"""SubFamilyCode of entries that undo one (ExternalBankTransactionSubFamily1Code): returns, reversals, refusals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankFile:
    """What a file says. `skipped`: entries that are not booked yet, or in a currency we don't pay in."""

    message_id: str
    entries: tuple[BankEntry, ...]
    skipped: int


def read_camt(document: bytes) -> BankFile:
    """Read a file. Raises `UnreadableXML`."""
    root = read(document)
    kind = _NAMESPACE.fullmatch(root.namespace)
    if kind is None or root.name != "Document":
        raise UnreadableXML(f"{root.namespace[:80]!r} is neither camt.053 nor camt.054")
    message, statement = _STATEMENTS[kind[1]]
    said = root.one(message, "GrpHdr", "MsgId")
    if said is None:
        raise UnreadableXML("the file has no message id")
    entries: list[BankEntry] = []
    skipped = 0
    named: Counter[tuple[str, str]] = Counter()
    for each in root.every(message, statement):
        iban = each.said("Acct", "Id", "IBAN")
        if iban is None:
            raise UnreadableXML("an account without an IBAN")
        for entry in each.every("Ntry"):
            if _status_of(entry) != _BOOKED or _currency_of(entry) not in CENTS:
                skipped += 1
                continue
            for found in _movements(entry, iban, named):
                if len(entries) == ENTRIES_MAX:
                    raise UnreadableXML(f"a file has at most {ENTRIES_MAX} entries")
                entries.append(found)
    return BankFile(message_id=said.text.strip()[:35], entries=tuple(entries), skipped=skipped)


def _movements(entry: Element, iban: str, named: Counter[tuple[str, str]]) -> Iterator[BankEntry]:
    cents, currency = _amount_of(entry)
    way = _direction_of(entry, None)
    booked_on = _booked_on(entry)
    details = list(entry.every("NtryDtls", "TxDtls"))
    movements: list[tuple[Element | None, int, Direction]] = [(each, cents, way) for each in details]
    if len(details) > 1:
        parts: list[tuple[Element | None, int, Direction]] = [
            (each, _part_of(each, currency), _direction_of(entry, each)) for each in details
        ]
        # A return may stand among collections, so parts have a sign of their own.
        summed = sum(part if direction is way else -part for _, part, direction in parts)
        movements = parts if summed == cents and all(part for _, part, _ in parts) else []
    for detail, part, direction in movements or [(None, cents, way)]:
        bank_name = _reference_of(entry, detail, is_part=len(movements) > 1)
        end_to_end_id = None if detail is None else detail.said("Refs", "EndToEndId")
        if bank_name is None:
            # Some banks name nothing: what it says, and the how many-th of its like it is in its file, must do.
            said = f"{booked_on}|{direction}|{part}|{currency}|{end_to_end_id}"
            bank_name = f"#{hashlib.sha256(said.encode()).hexdigest()[:24]}"
            named[iban, bank_name] += 1
            bank_name += f"-{named[iban, bank_name]}"
        yield BankEntry(
            iban=iban,
            reference=bank_name,
            booked_on=booked_on,
            cents=part,
            currency=currency,
            direction=direction,
            end_to_end_id=None if end_to_end_id in {None, NOT_PROVIDED} else end_to_end_id,
            is_return=_is_return(entry, detail),
            reason=None if detail is None else _reason_of(detail),
        )


def _status_of(entry: Element) -> str | None:
    return entry.said("Sts", "Cd") or entry.said("Sts")  # a code of its own since version .08


def _currency_of(entry: Element) -> str:
    amount = entry.one("Amt")
    return "" if amount is None else amount.attributes.get("Ccy", "")


def _amount_of(entry: Element) -> tuple[int, str]:
    amount = entry.one("Amt")
    if amount is None:
        raise UnreadableXML("an entry without an amount")
    return _cents(amount.text), _currency_of(entry)


def _part_of(detail: Element, currency: str) -> int:
    """Return what one transaction of a sum moved on the account, in cents; 0 where the bank does not say."""
    for path in (("Amt",), ("AmtDtls", "TxAmt", "Amt")):
        amount = detail.one(*path)
        if amount is not None and amount.attributes.get("Ccy") == currency:
            return _cents(amount.text)
    return 0


def _cents(said: str) -> int:
    said = said.strip()
    cents = Decimal(said).scaleb(2) if _AMOUNT.fullmatch(said) else None
    if cents is None or cents != cents.to_integral_value():
        raise UnreadableXML(f"{said[:30]!r} is no amount in cents")
    return int(cents)


def _direction_of(entry: Element, detail: Element | None) -> Direction:
    said = (None if detail is None else detail.said("CdtDbtInd")) or entry.said("CdtDbtInd")
    if said not in {each.value for each in Direction}:
        raise UnreadableXML("an entry says neither credit nor debit")
    return Direction(said)


def _booked_on(entry: Element) -> date:
    said = entry.said("BookgDt", "Dt") or entry.said("BookgDt", "DtTm") or entry.said("ValDt", "Dt")
    try:
        return datetime.fromisoformat(said or "").date()
    except ValueError as error:
        raise UnreadableXML("an entry without the day on which it was booked") from error


def _reference_of(entry: Element, detail: Element | None, *, is_part: bool) -> str | None:
    """Return the bank's name of a movement, the same in a notification and in the statement after it."""
    own = None
    if detail is not None:
        own = detail.said("Refs", "AcctSvcrRef") or detail.said("Refs", "TxId")
    of_entry = entry.said("AcctSvcrRef")  # not NtryRef: that is its place in the file (ISO 20022, camt.053)
    if not is_part:
        return of_entry or own
    # Parts of a sum: the sum's name alone would make them one. Without a name of its own a part has none.
    return None if own is None else f"{of_entry or ''}/{own}"


def _is_return(entry: Element, detail: Element | None) -> bool:
    if entry.said("RvslInd") in {"true", "1"}:  # both are true (XML Schema 2, 3.2.2)
        return True
    if detail is not None and detail.one("RtrInf") is not None:
        return True
    paths = ("BkTxCd", "Domn", "Fmly", "SubFmlyCd")
    codes = {entry.said(*paths), None if detail is None else detail.said(*paths)}
    return not codes.isdisjoint(_RETURNS)


def _reason_of(detail: Element) -> str | None:
    said = detail.said("RtrInf", "Rsn", "Cd") or detail.said("RtrInf", "Rsn", "Prtry")
    return None if said is None else said[:35]
