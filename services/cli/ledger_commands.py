"""`wattroam ledger`: hand a co-signed ledger out as a file, and check such a file against the heads that one kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

ledger: Final = typer.Typer(
    help="The co-signed ledger: hand it out, check it against kept heads.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@ledger.command("export")
def ledger_export(
    file: Annotated[Path, typer.Argument(help="Written anew.")],
    *,
    run_folder: Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")] = Path(
        "run"
    ),
) -> None:
    """Write all entries and countersignatures into a file, for whoever wants to check them."""
    from services.embedded.ledger_desk import export_ledger

    sys.exit(export_ledger(file, run_folder=run_folder))


@ledger.command("check")
def ledger_check(
    file: Annotated[Path, typer.Argument(help="A ledger, as `wattroam ledger export` writes it.")],
    *,
    kept: Annotated[
        list[Path] | None, typer.Option(help="Heads that were kept, your own or a partner's; may be named again.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Add the ledger's newest head to this file if all is well.")] = None,
) -> None:
    """Carry out every entry and compare with kept heads; exit 1, with the evidence, when history was rewritten."""
    from services.cli.ledger_checking import run_check

    sys.exit(run_check(file, kept=kept or (), keep=keep))
