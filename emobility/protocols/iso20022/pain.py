"""Write payment orders: pain.001.001.09 (credit transfers) and pain.008.001.08 (direct debits).

Versions of 2019, which SEPA (EPC rulebooks from 2023 on) and Swiss banks (SPS 2022 on) take; earlier ones we don't
write. Element names and their order are those of the schemas. Amounts have two decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from emobility.domain.banking.account import BankAccount, latin
from emobility.domain.errors import MalformedInput
from emobility.protocols.xml import document, text, written

CREDIT_TRANSFERS: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
DIRECT_DEBITS: Final = "urn:iso:std:iso:20022:tech:xsd:pain.008.001.08"
ORDERS_MAX: Final = 10_000
REMITTANCE_CHARACTERS_MAX: Final = 140


class UnsuitableOrders(MalformedInput):
    """Orders of one file are between one and `ORDERS_MAX`, in the currency of its account, each for more than 0."""


class MandateScheme(StrEnum):
    """SEPA direct debit scheme (ExternalLocalInstrument1Code); until when the payer may have it undone differs."""

    B2B = "B2B"
    CORE = "CORE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """A payer's word that the payee may collect; `creditor_id`: the payee's, given by its country (AT-02)."""

    mandate_id: str
    signed_on: date
    scheme: MandateScheme
    creditor_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BankOrder:
    """One payment: to `partner`, or with a mandate from it. `remittance`: what its statement says of it."""

    end_to_end_id: str
    cents: int
    partner: BankAccount
    remittance: str
    mandate: Mandate | None = None


def credit_transfers(
    orders: Sequence[BankOrder], *, account: BankAccount, message_id: str, made_at: datetime, execute_on: date
) -> bytes:
    """Return a pain.001.001.09 that pays from `account`. Raises `UnsuitableOrders`."""
    _refuse(orders, account)
    method = "SEPA" if account.currency == "EUR" else None
    return document(
        CREDIT_TRANSFERS,
        written(
            "CstmrCdtTrfInitn",
            _group_header(orders, account, message_id, made_at),
            written(
                "PmtInf",
                *_payment_head(orders, message_id, "TRF"),
                written("PmtTpInf", written("SvcLvl", text("Cd", method))),
                written("ReqdExctnDt", text("Dt", execute_on.isoformat())),
                _party("Dbtr", account),
                _account("DbtrAcct", account, with_currency=True),
                _agent("DbtrAgt", account),
                text("ChrgBr", "SLEV"),
                *(_transfer(order) for order in orders),
            ),
        ),
    )


def _transfer(order: BankOrder) -> str:
    return written(
        "CdtTrfTxInf",
        written("PmtId", text("InstrId", order.end_to_end_id), text("EndToEndId", order.end_to_end_id)),
        written("Amt", text("InstdAmt", _amount(order.cents), Ccy=order.partner.currency)),
        _agent("CdtrAgt", order.partner, is_optional=True),
        _party("Cdtr", order.partner),
        _account("CdtrAcct", order.partner),
        _remittance(order),
    )


def direct_debits(
    orders: Sequence[BankOrder], *, account: BankAccount, message_id: str, made_at: datetime, collect_on: date
) -> bytes:
    """Return a pain.008.001.08 that collects onto `account`, one group per scheme and creditor id.

    Raises:
        UnsuitableOrders: one lacks a mandate, or the currency is not EUR: SEPA has no other.
    """
    _refuse(orders, account)
    if account.currency != "EUR" or any(order.mandate is None for order in orders):
        raise UnsuitableOrders("direct debits are in EUR, each with a mandate")
    groups: dict[tuple[MandateScheme, str], list[BankOrder]] = {}
    for order in orders:
        assert order.mandate is not None
        groups.setdefault((order.mandate.scheme, order.mandate.creditor_id), []).append(order)
    return document(
        DIRECT_DEBITS,
        written(
            "CstmrDrctDbtInitn",
            _group_header(orders, account, message_id, made_at),
            *(
                written(
                    "PmtInf",
                    *_payment_head(group, f"{message_id}-{place}", "DD"),
                    written(
                        "PmtTpInf",
                        written("SvcLvl", text("Cd", "SEPA")),
                        written("LclInstrm", text("Cd", scheme.value)),
                        text("SeqTp", "RCUR"),
                    ),
                    text("ReqdColltnDt", collect_on.isoformat()),
                    _party("Cdtr", account),
                    _account("CdtrAcct", account, with_currency=True),
                    _agent("CdtrAgt", account),
                    text("ChrgBr", "SLEV"),
                    _creditor_id(creditor_id),
                    *(_debit(order) for order in group),
                )
                for place, ((scheme, creditor_id), group) in enumerate(sorted(groups.items()), start=1)
            ),
        ),
    )


def _debit(order: BankOrder) -> str:
    assert order.mandate is not None
    mandate = order.mandate
    return written(
        "DrctDbtTxInf",
        written("PmtId", text("InstrId", order.end_to_end_id), text("EndToEndId", order.end_to_end_id)),
        text("InstdAmt", _amount(order.cents), Ccy=order.partner.currency),
        written(
            "DrctDbtTx",
            written(
                "MndtRltdInf", text("MndtId", mandate.mandate_id), text("DtOfSgntr", mandate.signed_on.isoformat())
            ),
        ),
        _agent("DbtrAgt", order.partner),
        _party("Dbtr", order.partner),
        _account("DbtrAcct", order.partner),
        _remittance(order),
    )


def _creditor_id(creditor_id: str) -> str:
    scheme = written("SchmeNm", text("Prtry", "SEPA"))
    return written("CdtrSchmeId", written("Id", written("PrvtId", written("Othr", text("Id", creditor_id), scheme))))


def _group_header(orders: Sequence[BankOrder], account: BankAccount, message_id: str, made_at: datetime) -> str:
    return written(
        "GrpHdr",
        text("MsgId", message_id),
        text("CreDtTm", made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
        text("NbOfTxs", str(len(orders))),
        text("CtrlSum", _amount(sum(order.cents for order in orders))),
        _party("InitgPty", account),
    )


def _payment_head(orders: Sequence[BankOrder], payment_id: str, method: str) -> tuple[str, ...]:
    return (
        text("PmtInfId", payment_id),
        text("PmtMtd", method),
        # Each on its own in the account's statement: a sum would carry no EndToEndId.
        text("BtchBookg", "false"),
        text("NbOfTxs", str(len(orders))),
        text("CtrlSum", _amount(sum(order.cents for order in orders))),
    )


def _party(name: str, account: BankAccount) -> str:
    return written(name, text("Nm", latin(account.name, 70)))


def _account(name: str, account: BankAccount, *, with_currency: bool = False) -> str:
    currency = account.currency if with_currency else None
    return written(name, written("Id", text("IBAN", account.iban)), text("Ccy", currency))


def _agent(name: str, account: BankAccount, *, is_optional: bool = False) -> str:
    if account.bic is not None:
        return written(name, written("FinInstnId", text("BICFI", account.bic)))
    if is_optional:
        return ""
    # SEPA, IBAN only: the schema wants an agent, the EPC's guidelines this word in its place.
    return written(name, written("FinInstnId", written("Othr", text("Id", "NOTPROVIDED"))))


def _remittance(order: BankOrder) -> str:
    said = latin(order.remittance, REMITTANCE_CHARACTERS_MAX)
    return written("RmtInf", text("Ustrd", said or None))


def _amount(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):.2f}"


def _refuse(orders: Sequence[BankOrder], account: BankAccount) -> None:
    if not 0 < len(orders) <= ORDERS_MAX:
        raise UnsuitableOrders(f"a file has 1 to {ORDERS_MAX} orders, not {len(orders)}")
    if any(order.cents <= 0 or order.partner.currency != account.currency for order in orders):
        raise UnsuitableOrders(f"each order is for more than 0 {account.currency}")
    if len({order.end_to_end_id for order in orders}) != len(orders):
        raise UnsuitableOrders("an EndToEndId is there twice")
