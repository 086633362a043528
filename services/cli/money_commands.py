"""`wattroam bank` and `wattroam invoice`: files for and from the bank, what is owed, and documents."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

bank: Final = typer.Typer(
    help="Pay and be paid by bank: files out and in, what is owed, entries that wait for somebody.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
invoice: Final = typer.Typer(
    help="Invoices between companies and to drivers: issue, list, hand out.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RUN_FOLDER: Final = Path("run")
Json = Annotated[bool, typer.Option("--json", help="Print figures for machines instead of a table.")]
Party = Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")]
RunFolder = Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")]


class BankFile(StrEnum):
    """What a bank file asks for."""

    PAY = "pay"
    COLLECT = "collect"


class DocumentForm(StrEnum):
    """How a document is written."""

    XML = "xml"
    HTML = "html"
    PDF = "pdf"
    ANNEX = "annex"


@bank.command("account")
def bank_account(
    party: Party,
    currency: str,
    *,
    iban: Annotated[str, typer.Option(help="Of the account, with or without spaces.")],
    name: Annotated[str, typer.Option(help="Of its holder, as the bank has it.")],
    bic: Annotated[str | None, typer.Option(help="Of the bank; not needed within SEPA.")] = None,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Enter the account that a company pays from and is paid onto, in one currency."""
    from services.embedded.bank_desk import enter_account

    sys.exit(enter_account(party=party, currency=currency, iban=iban, name=name, bic=bic, run_folder=run_folder))


@bank.command("export")
def bank_export(
    party: Party,
    *,
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "EUR",
    what: Annotated[
        BankFile, typer.Option("--what", help="pay: credit transfers (pain.001); collect: direct debits (pain.008).")
    ] = BankFile.PAY,
    on: Annotated[str | None, typer.Option(help="Day on which the bank carries it out; the next.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Make a bank file of all final statements that are open; what is in one is in no other."""
    from services.embedded.bank_desk import export

    sys.exit(export(party=party, currency=currency, what=what.value, on=on, out=out, json=json, run_folder=run_folder))


@bank.command("import")
def bank_import(
    party: Party,
    file: Annotated[Path, typer.Argument(help="camt.053 or camt.054.")],
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Book what a bank says moved; a file that is read again changes nothing."""
    from services.embedded.bank_desk import take_statement

    sys.exit(take_statement(party=party, file=file, json=json, run_folder=run_folder))


@bank.command("payments")
def bank_payments(
    party: Party,
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """List payments between companies, each with the statements and invoices that it pays, and what arrived."""
    from services.embedded.bank_desk import list_payments

    sys.exit(list_payments(party=party, json=json, run_folder=run_folder))


@bank.command("entries")
def bank_entries(
    party: Party,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that need nobody as well.")] = False,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """List the bank's entries that wait for somebody, with what they are."""
    from services.embedded.bank_desk import list_entries

    sys.exit(list_entries(party=party, everything=everything, json=json, run_folder=run_folder))


@bank.command("resolve")
def bank_resolve(
    party: Party,
    entry: Annotated[str, typer.Argument(help="As `wattroam bank entries` names it.")],
    *,
    why: Annotated[str, typer.Option(help="What was made of it; kept.")],
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Take an entry off the list."""
    from services.embedded.bank_desk import resolve

    sys.exit(resolve(party=party, entry=entry, why=why, run_folder=run_folder))


@bank.command("owed")
def bank_owed(party: Party, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """Show what is open in each agreement, against its limit, and how old it is."""
    from services.embedded.bank_desk import show_owed

    sys.exit(show_owed(party=party, json=json, run_folder=run_folder))


@bank.command("guarantees")
def bank_guarantees(party: Party, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """Show what may be taken out of guarantees and since when, what was taken, and what is left."""
    from services.embedded.bank_desk import show_guarantees

    sys.exit(show_guarantees(party=party, json=json, run_folder=run_folder))


@bank.command("call")
def bank_call(
    party: Party,
    agreement: Annotated[str, typer.Argument(help="As `wattroam bank guarantees` names it, without its version.")],
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Take what is overdue beyond the grace out of the MSP's guarantee, as the CPO."""
    from services.embedded.bank_desk import call_guarantee

    sys.exit(call_guarantee(party=party, agreement=agreement, json=json, run_folder=run_folder))


@bank.command("guarantee-policy")
def bank_guarantee_policy(
    party: Party,
    *,
    automatic: Annotated[
        bool | None, typer.Option("--automatic/--by-operator", help="Whether guarantees are called without asking.")
    ] = None,
    grace: Annotated[
        int | None, typer.Option(help="Days that a payment may be late before any of it is taken.")
    ] = None,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show, or choose, when a CPO takes what is overdue out of guarantees."""
    from services.embedded.bank_desk import choose_guarantee_policy

    sys.exit(choose_guarantee_policy(party=party, is_automatic=automatic, grace_d=grace, run_folder=run_folder))


@invoice.command("issue")
def invoice_issue(
    party: Party,
    *,
    month: Annotated[
        str | None, typer.Option(help="As in 2026-11: invoices to drivers of that month; else to companies.")
    ] = None,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Issue what is a company's to issue; exit 1 when something waits, with what for."""
    from services.embedded.bank_desk import issue_invoices

    sys.exit(issue_invoices(party=party, month=month, run_folder=run_folder))


@invoice.command("list")
def invoice_list(
    party: Party,
    *,
    drivers: Annotated[bool, typer.Option("--drivers", help="Those to drivers.")] = False,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """List documents, newest first."""
    from services.embedded.bank_desk import list_invoices

    sys.exit(list_invoices(party=party, drivers=drivers, json=json, run_folder=run_folder))


@invoice.command("show")
def invoice_show(
    party: Party,
    number: str,
    *,
    form: Annotated[
        DocumentForm,
        typer.Option("--as", help="xml: EN 16931 (CII); pdf: Factur-X, with the XML and the annex in it; annex: CDRs."),
    ] = DocumentForm.XML,
    drivers: Annotated[bool, typer.Option("--drivers", help="One to a driver.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Hand out a document, or its annex."""
    from services.embedded.bank_desk import show_invoice

    sys.exit(show_invoice(party=party, number=number, form=form.value, drivers=drivers, out=out, run_folder=run_folder))
