"""Rows of money by bank. What belongs to a pair begins with its CPO; what is one company's own, with that company."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from emobility.domain.agreement import TaxRegime
from emobility.domain.banking.matching import BankEntry, Outcome
from emobility.domain.banking.payout import CENT_E4, Payable
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.iso20022.pain import MandateScheme


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """A company's bank account in one currency, from which it pays and onto which it is paid."""

    party_id: PartyId
    currency: str
    name: str
    iban: str
    bic: str | None
    entered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MandateRecord:
    """An MSP's word that a CPO may collect by direct debit; `is_ended`: from now on it pays by itself again."""

    cpo_id: PartyId
    emsp_id: PartyId
    mandate_id: str
    signed_on: date
    scheme: MandateScheme
    creditor_id: str
    is_ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PayableRecord:
    """A final statement as it is invoiced and paid, in cents of `currency`; below zero it is a credit.

    Attributes:
        exact_e4: Due less credit; with `carried_e4` from the statement before it, cents and `residue_e4`.
        is_prepaid: The net moved in the vault; what a bank still moves is the VAT alone.
        vat_cents: On top, where the CPO charges it.
        regime: How it is taxed; None: the table has no rule, `tax_waits` says which, and no invoice is made.
        end_to_end_id: Of the payment, should this be its youngest statement.
        paid_by: EndToEndId of the payment that it is in; None: in none yet.
        invoice_number: Of the document about it.
    """

    cpo_id: PartyId
    agreement_id: str
    version: int
    sequence: int
    emsp_id: PartyId
    currency: str
    statement_hash: bytes
    exact_e4: int
    carried_e4: int
    net_cents: int
    residue_e4: int
    is_prepaid: bool
    vat_cents: int
    regime: TaxRegime | None
    vat_percent: Decimal
    legal_reference: str | None
    tax_waits: str | None
    final_at: datetime
    due_on: date
    end_to_end_id: str
    paid_by: str | None = None
    invoice_number: str | None = None

    @property
    def payable(self) -> Payable:
        """Return what of it a bank moves."""
        net_cents = 0 if self.is_prepaid else self.net_cents
        return Payable(statement_hash=self.statement_hash, net_cents=net_cents, vat_cents=self.vat_cents)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRecord:
    """One payment of an MSP to a CPO, in cents.

    Attributes:
        net_cents: For charges; counts against what is owed on the chain.
        arrived_cents: On the CPO's account, returns taken off.
        sent_cents: From the MSP's account, returns taken off.
        discharged_e4: Of the net, in discharges that both sides sign.
        taken_cents: Of the net, taken out of the guarantee; a bank need not move it any more.
        exported_in: Message of the bank file that it went out in; None: in none, or it came back and goes out again.
    """

    cpo_id: PartyId
    end_to_end_id: str
    emsp_id: PartyId
    agreement_id: str
    version: int
    currency: str
    net_cents: int
    vat_cents: int
    due_on: date
    made_at: datetime
    arrived_cents: int = 0
    sent_cents: int = 0
    discharged_e4: int = 0
    exported_in: str | None = None
    taken_cents: int = 0

    @property
    def cents(self) -> int:
        """All that is to be paid."""
        return self.net_cents + self.vat_cents

    @property
    def bank_cents(self) -> int:
        """What of it the bank is to move."""
        return self.cents - self.taken_cents

    def net_paid_e4(self, *, as_payee: bool) -> int:
        """Return what of the charges a bank paid, as the payee's says, or the payer's: they come before the VAT.

        Where the payee's books are here its bank decides, or a payer could pay by a file of its own alone.
        """
        moved_cents = self.arrived_cents if as_payee else self.sent_cents
        return min(moved_cents, self.net_cents - self.taken_cents) * CENT_E4


class BankFileKind(StrEnum):
    """What a bank file asks for."""

    CREDIT_TRANSFERS = "pain.001.001.09"
    DIRECT_DEBITS = "pain.008.001.08"


@dataclass(frozen=True, slots=True, kw_only=True)
class BankExportRecord:
    """A bank file as it was made; asked for again, the same bytes."""

    party_id: PartyId
    message_id: str
    kind: BankFileKind
    currency: str
    orders: int
    cents: int
    document: bytes
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BankEntryRecord:
    """An entry of a company's account, booked once, and what it is (`domain/banking/matching`).

    `end_to_end_id`: of the payment it belongs to; what the bank said is in `entry`. `is_open`: it waits in the work
    list; `resolution` says what somebody made of it.
    """

    party_id: PartyId
    entry_id: str
    currency: str
    outcome: Outcome
    is_late: bool
    is_open: bool
    booked_cents: int
    excess_cents: int
    cpo_id: PartyId | None
    end_to_end_id: str | None
    entry: BankEntry
    message_id: str
    imported_at: datetime
    resolution: str | None = None


class DischargeState(StrEnum):
    """Life of a discharge."""

    OPEN = "OPEN"
    """It waits for its turn, for signatures, or for the day from which nobody can take the money back."""
    SENDING = "SENDING"
    FINAL = "FINAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DischargeRecord:
    """What both parties sign once the bank moved what was owed; `number`: how many came before it in the book.

    `by_cpo`, `by_msp`: compact signatures over exactly this number and amount; None: not given yet.
    """

    cpo_id: PartyId
    discharge_id: str
    emsp_id: PartyId
    agreement_id: str
    version: int
    currency: str
    end_to_end_id: str
    amount_e4: int
    state: DischargeState
    not_before: datetime
    made_at: datetime
    number: int | None = None
    by_cpo: bytes | None = None
    by_msp: bytes | None = None
    waiting: str | None = None


ACCOUNT: Final = TableSpec(name="settlement_bank_account", record=AccountRecord, key=("party_id", "currency"))
MANDATE: Final = TableSpec(name="settlement_mandate", record=MandateRecord, key=("cpo_id", "emsp_id"))
PAYABLE: Final = TableSpec(
    name="settlement_payable", record=PayableRecord, key=("cpo_id", "agreement_id", "version", "sequence")
)
PAYOUT: Final = TableSpec(name="settlement_payout", record=PayoutRecord, key=("cpo_id", "end_to_end_id"))
BANK_EXPORT: Final = TableSpec(name="settlement_bank_export", record=BankExportRecord, key=("party_id", "message_id"))
BANK_ENTRY: Final = TableSpec(name="settlement_bank_entry", record=BankEntryRecord, key=("party_id", "entry_id"))
DISCHARGE: Final = TableSpec(name="settlement_discharge", record=DischargeRecord, key=("cpo_id", "discharge_id"))
