"""Files for banks against the schemas that an independent library (sepaxml) ships, and files from them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import sepaxml
from lxml import etree

from emobility.domain.banking.account import BankAccount, MalformedAccount, UnpaidCurrency, latin, plain_iban
from emobility.domain.banking.matching import Direction
from emobility.protocols.iso20022.camt import read_camt
from emobility.protocols.iso20022.pain import (
    BankOrder,
    Mandate,
    MandateScheme,
    UnsuitableOrders,
    credit_transfers,
    direct_debits,
)
from emobility.protocols.xml import DEPTH_MAX, DOCUMENT_BYTES_MAX, UnreadableXML, text
from tests.banking.bank_files import CAMT_053, CAMT_054, TNM, ZON, camt, entry

AT: Final = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MANDATE: Final = Mandate(
    mandate_id="M-1", signed_on=date(2026, 1, 2), scheme=MandateScheme.B2B, creditor_id="NL98ZZZ999999999999"
)
ORDER: Final = BankOrder(end_to_end_id="WR01", cents=2_778, partner=TNM, remittance="Statement 1, März — <2026>")


@cache
def schema(name: str) -> Any:
    return etree.XMLSchema(etree.parse(Path(sepaxml.__file__).parent / "schemas" / f"{name}.xsd"))


def said(document: bytes, name: str) -> list[str | None]:
    return [each.text for each in etree.fromstring(document).iter(f"{{*}}{name}")]


def transfers(*orders: BankOrder, account: BankAccount = ZON) -> bytes:
    return credit_transfers(orders, account=account, message_id="M-1", made_at=AT, execute_on=date(2026, 12, 1))


def debits(*orders: BankOrder) -> bytes:
    return direct_debits(orders, account=TNM, message_id="M-2", made_at=AT, collect_on=date(2026, 12, 5))


@pytest.mark.parametrize("currency", ["CHF", "EUR", "GBP", "PLN", "SEK"])
def test_credit_transfers_are_as_the_schema_wants_them(currency: str) -> None:
    payer = BankAccount(name=ZON.name, iban=ZON.iban, bic="COBADEFFXXX", currency=currency)
    payee = BankAccount(name=TNM.name, iban=TNM.iban, bic=TNM.bic, currency=currency)
    orders = [BankOrder(end_to_end_id=f"WR{at}", cents=at, partner=payee, remittance="x") for at in (1, 99, 10_000)]

    document = transfers(*orders, account=payer)

    schema("pain.001.001.09").assertValid(etree.fromstring(document))
    assert said(document, "InstdAmt") == ["0.01", "0.99", "100.00"]
    assert said(document, "CtrlSum") == ["101.00", "101.00"]
    assert said(document, "EndToEndId") == ["WR1", "WR99", "WR10000"]
    assert said(document, "SvcLvl") == ([None] if currency == "EUR" else [])


def test_direct_debits_are_as_the_schema_wants_them() -> None:
    core = Mandate(mandate_id="M-2", signed_on=date(2026, 1, 3), scheme=MandateScheme.CORE, creditor_id="NL98ZZZ1")
    orders = [
        BankOrder(end_to_end_id="WR1", cents=2_778, partner=ZON, remittance="one", mandate=MANDATE),
        BankOrder(end_to_end_id="WR2", cents=1, partner=ZON, remittance="two", mandate=core),
    ]

    document = debits(*orders)

    schema("pain.008.001.08").assertValid(etree.fromstring(document))
    assert said(document, "CtrlSum") == ["27.79", "27.78", "0.01"]
    assert said(document, "MndtId") == ["M-1", "M-2"]
    assert said(document, "BICFI") == ["ABNANL2A", "ABNANL2A"]


def test_texts_reach_the_bank_in_its_own_characters() -> None:
    document = transfers(ORDER)

    assert said(document, "Nm")[0] == "Zon Ladt GmbH"
    assert said(document, "Ustrd") == ["Statement 1, Marz 2026"]


@pytest.mark.parametrize(
    "orders",
    [
        (),
        (ORDER, ORDER),
        (BankOrder(end_to_end_id="WR1", cents=0, partner=TNM, remittance=""),),
        (
            BankOrder(
                end_to_end_id="WR1",
                cents=1,
                partner=BankAccount(name="A", iban=TNM.iban, bic=None, currency="CHF"),
                remittance="",
            ),
        ),
    ],
)
def test_what_no_bank_can_carry_out_is_not_written(orders: tuple[BankOrder, ...]) -> None:
    with pytest.raises(UnsuitableOrders):
        transfers(*orders)


def test_nothing_is_collected_without_a_mandate() -> None:
    with pytest.raises(UnsuitableOrders):
        debits(BankOrder(end_to_end_id="WR1", cents=1, partner=ZON, remittance=""))


@pytest.mark.parametrize("iban", ["NL91ABNA0417164301", "NL91", "", "nl91abna0417164300"])
def test_an_account_that_cannot_be_is_refused(iban: str) -> None:
    with pytest.raises(MalformedAccount):
        BankAccount(name="A", iban=iban, bic=None, currency="EUR")


def test_an_account_is_in_a_currency_that_is_paid() -> None:
    with pytest.raises(UnpaidCurrency):
        BankAccount(name="A", iban=plain_iban("nl91 abna 0417 1643 00"), bic=None, currency="JPY")


def test_a_name_of_nothing_a_bank_writes_is_none() -> None:
    assert latin("— 東京 —", 70) == ""


def test_what_no_document_may_hold_is_left_out() -> None:
    said_so = text("Nm", "T\x00a\x1bn\ud800k\uffff\tN & M\n\U0001f50c")

    assert etree.fromstring(said_so).text == "Tank\tN & M\n\U0001f50c"


@pytest.mark.parametrize("namespace", [CAMT_053, CAMT_054])
def test_booked_entries_are_read_and_pending_ones_left(namespace: str) -> None:
    entries = [
        entry("WR1", "27.78", reference="B-1"),
        entry(None, "1", reference="B-2", way="DBIT"),
        entry("WR2", "5.00", reference="B-3", status="PDNG"),
        entry("WR2", "5.00", reference="B-3", currency="USD"),
        entry("NOTPROVIDED", "5.10", reference="B-4", way="DBIT", reason="AC04"),
    ]

    read = read_camt(camt(entries, namespace=namespace))

    assert [(each.end_to_end_id, each.cents, each.direction, each.is_return) for each in read.entries] == [
        ("WR1", 2_778, Direction.IN, False),
        (None, 100, Direction.OUT, False),
        (None, 510, Direction.OUT, True),
    ]
    assert read.entries[-1].reason == "AC04"
    assert read.skipped == 2


def test_the_same_entry_in_notification_and_statement_is_one() -> None:
    said_once, said_again = (
        read_camt(camt([entry("WR1", "27.78", reference="B-1")], namespace=each)) for each in (CAMT_054, CAMT_053)
    )

    assert said_once.entries[0].entry_id == said_again.entries[0].entry_id


@pytest.mark.parametrize("reference", ["<AcctSvcrRef>B-1</AcctSvcrRef>", ""])
def test_an_entrys_place_in_its_file_is_not_its_name(reference: str) -> None:
    """A notification's first entry stands elsewhere in the statement, there named where its transaction is told."""
    named = "<AcctSvcrRef>B-1</AcctSvcrRef>"
    whole = entry("WR1", "27.78", reference="B-1")
    notified = whole.replace("<Ntry>", "<Ntry><NtryRef>1</NtryRef>").replace(named, reference)
    stated = whole.replace("<Ntry>", "<Ntry><NtryRef>7</NtryRef>").replace(named, "")
    stated = stated.replace("<Refs>", f"<Refs>{reference}")

    told, told_again = (
        read_camt(camt([each], namespace=namespace)) for each, namespace in ((notified, CAMT_054), (stated, CAMT_053))
    )

    assert told.entries[0].entry_id == told_again.entries[0].entry_id


@pytest.mark.parametrize(("said", "is_return"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_reversal_is_a_return(*, said: str, is_return: bool) -> None:
    reversal = entry("WR1", "5.00", reference="B-1").replace("<Sts>", f"<RvslInd>{said}</RvslInd><Sts>")

    assert read_camt(camt([reversal])).entries[0].is_return is is_return


def test_a_bank_that_counts_anew_in_each_statement_loses_no_payment() -> None:
    november, december = (
        read_camt(camt([entry("WR1", "27.78", reference="1", on=day)])).entries[0]
        for day in (date(2026, 11, 30), date(2026, 12, 31))
    )

    assert november.entry_id != december.entry_id


def summed(parts: list[tuple[str, str, str]], total: str) -> bytes:
    details = "".join(
        f"<TxDtls><Refs><AcctSvcrRef>{name}</AcctSvcrRef><EndToEndId>{name}</EndToEndId></Refs>"
        f'<Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{way}</CdtDbtInd></TxDtls>'
        for name, amount, way in parts
    )
    whole = entry(None, total, reference="SUM")
    before, _, after = whole.partition("<NtryDtls>")
    return camt([f"{before}<NtryDtls>{details}</NtryDtls>{after.partition('</NtryDtls>')[2]}"])


def test_a_sum_is_taken_apart_where_its_parts_add_up() -> None:
    read = read_camt(summed([("WR1", "100.00", "CRDT"), ("WR2", "25.00", "DBIT")], "75.00"))

    assert [(each.end_to_end_id, each.cents, each.direction) for each in read.entries] == [
        ("WR1", 10_000, Direction.IN),
        ("WR2", 2_500, Direction.OUT),
    ]
    assert len({each.entry_id for each in read.entries}) == 2


def test_a_sum_whose_parts_do_not_add_up_is_booked_as_nobodys() -> None:
    read = read_camt(summed([("WR1", "100.00", "CRDT"), ("WR2", "25.00", "CRDT")], "75.00"))

    assert [(each.end_to_end_id, each.cents) for each in read.entries] == [(None, 7_500)]


def test_entries_without_a_name_are_told_apart_and_known_again() -> None:
    twice = [entry("WR1", "5.00", reference="X").replace("<AcctSvcrRef>X</AcctSvcrRef>", "")] * 2

    first, again = read_camt(camt(twice)), read_camt(camt(twice))

    assert len({each.entry_id for each in first.entries}) == 2
    assert [each.entry_id for each in first.entries] == [each.entry_id for each in again.entries]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<a>",
        b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"/>',
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + camt([entry("WR1", "1", reference="&a;")]).partition(b"?>")[2],
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Document/>',
        *(
            f'<?xml version="1.0" encoding="{each}"?><Document/>'.encode()
            for each in ("foo", "utf-7", "utf-32", "idna")
        ),
        b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1),
        b" " * (DOCUMENT_BYTES_MAX + 1),
        camt([entry("WR1", "1.005", reference="B")]),
        camt([entry("WR1", "-1", reference="B")]),
        camt([entry("WR1", "1e5", reference="B")]),
        camt([entry("WR1", "1", reference="B", way="BOTH")]),
        camt([entry("WR1", "1", reference="B")]).replace(b"<Dt>2026-12-01</Dt></BookgDt>", b"<Dt>soon</Dt></BookgDt>"),
        camt([entry("WR1", "1", reference="B")]).replace(b"<IBAN>", b"<Othr>").replace(b"</IBAN>", b"</Othr>"),
    ],
)
def test_what_is_no_bank_file_is_refused(document: bytes) -> None:
    with pytest.raises(UnreadableXML):
        read_camt(document)
