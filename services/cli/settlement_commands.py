"""`wattroam settlement`: runs it, and tells what its rows say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

RUN_FOLDER: Final = Path("run")
Json = Annotated[bool, typer.Option("--json", help="Print rows for machines instead of a table.")]
Party = Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")]
RunFolder = Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")]

settlement: Final = typer.Typer(
    help="Run the settlement alone; or show statements, what is contested, and what netting would save.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@settlement.callback()
def run_settlement(context: typer.Context) -> None:
    """Run the settlement alone; or show statements, what is contested, and what netting would save."""
    if context.invoked_subcommand is None:
        from services.settlement.__main__ import main as run

        run()


@settlement.command("netting")
def settlement_netting(
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show the payments that would settle what is due by bank, and the liquidity that they save."""
    from services.embedded.netting import print_netting

    sys.exit(print_netting(json=json, run_folder=run_folder))


@settlement.command("statements")
def settlement_statements(
    party: Party,
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show a party's statements, newest first: what each comes to, how far it is, and what it waits for."""
    from services.embedded.statements_shown import show_statements

    sys.exit(show_statements(party=party, json=json, run_folder=run_folder))


@settlement.command("disputes")
def settlement_disputes(
    party: Party,
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show which CDRs of final statements are contested, by whom, and what the party must answer until when."""
    from services.embedded.disputes_shown import show_disputes

    sys.exit(show_disputes(party=party, json=json, run_folder=run_folder))


@settlement.command("taken-out")
def settlement_taken_out(
    party: Party,
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show what verdicts took out of the party's statements before these were final, and whose word it waits for."""
    from services.embedded.taken_out_shown import show_taken_out

    sys.exit(show_taken_out(party=party, json=json, run_folder=run_folder))


@settlement.command("missing-batches")
def settlement_missing_batches(
    *,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show the confidential batches that the chain has and a restored database has not, and which pairs they hold."""
    from services.embedded.missing_batches_shown import show_missing_batches

    sys.exit(show_missing_batches(json=json, run_folder=run_folder))


@settlement.command("not-in-batch")
def settlement_not_in_batch(
    batch: Annotated[str, typer.Argument(help="Its id, as `missing-batches` shows it.")],
    *,
    why: Annotated[str, typer.Option(help="How you know; it is kept with your name.")],
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Say that nothing that waits here, or will come in again, is in a batch: its pairs go on."""
    from services.embedded.missing_batches_shown import give_word

    sys.exit(give_word(batch=batch, why=why, run_folder=run_folder))
