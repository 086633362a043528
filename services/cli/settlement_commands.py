"""`wattroam settlement`: runs it, and tells what its rows say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

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
    json: Annotated[bool, typer.Option("--json", help="Print figures for machines instead of a screen.")] = False,
    run_folder: Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")] = Path(
        "run"
    ),
) -> None:
    """Show the payments that would settle what is due by bank, and the liquidity that they save."""
    from services.embedded.netting import print_netting

    sys.exit(print_netting(json=json, run_folder=run_folder))


@settlement.command("statements")
def settlement_statements(
    party: Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print rows for machines instead of a table.")] = False,
    run_folder: Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")] = Path(
        "run"
    ),
) -> None:
    """Show a party's statements, newest first: what each comes to, how far it is, and what it waits for."""
    from services.embedded.statements_shown import show_statements

    sys.exit(show_statements(party=party, json=json, run_folder=run_folder))


@settlement.command("disputes")
def settlement_disputes(
    party: Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print rows for machines instead of a table.")] = False,
    run_folder: Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")] = Path(
        "run"
    ),
) -> None:
    """Show which CDRs of final statements are contested, by whom, and what the party must answer until when."""
    from services.embedded.disputes_shown import show_disputes

    sys.exit(show_disputes(party=party, json=json, run_folder=run_folder))


@settlement.command("taken-out")
def settlement_taken_out(
    party: Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print rows for machines instead of a table.")] = False,
    run_folder: Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")] = Path(
        "run"
    ),
) -> None:
    """Show what verdicts took out of the party's statements before these were final, and whose word it waits for."""
    from services.embedded.taken_out_shown import show_taken_out

    sys.exit(show_taken_out(party=party, json=json, run_folder=run_folder))
