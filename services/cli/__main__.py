"""The `wattroam` command. Each command imports what it needs when it runs, so `--help` is instant."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli.chain_commands import chain
from services.cli.key_commands import key
from services.cli.ledger_commands import ledger as ledger_app
from services.cli.money_commands import bank, invoice
from services.cli.ocpi_commands import ocpi
from services.cli.settlement_commands import settlement

app: Final = typer.Typer(
    name="wattroam",
    help="EV-charging roaming and settlement: gateway, hub, back offices, audit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich takes longer than everything else that --help does
)
quarantine: Final = typer.Typer(
    help="Sessions that can't be trusted: see why, decide what becomes of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
parked: Final = typer.Typer(
    help="Events that could not be handled: see why, hand them on again or discard them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
token: Final = typer.Typer(
    help="API tokens, by which a party or one of its systems reads its own statements and books.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
imports: Final = typer.Typer(
    help="Stations and cards out of files: tables (CSV) or a dump of a SteVe database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(imports, name="import")
app.add_typer(chain, name="chain")
app.add_typer(key, name="key")
app.add_typer(ledger_app, name="ledger")
app.add_typer(bank, name="bank")
app.add_typer(invoice, name="invoice")
app.add_typer(ocpi, name="ocpi")
app.add_typer(settlement, name="settlement")
app.add_typer(quarantine, name="quarantine")
app.add_typer(parked, name="parked")
app.add_typer(token, name="token")

RUN_FOLDER: Final = Path("run")
CANNOT_RUN: Final = 2
Json = Annotated[bool, typer.Option("--json", help="Print figures for machines instead of a screen.")]
Party = Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")]
Group = Annotated[
    str,
    typer.Argument(
        help="charging_operations, charging_operations_exposure, driver_mobility, driver_mobility_unpaid, settlement "
        "or settlement-money."
    ),
]
RunFolder = Annotated[Path, typer.Option(help="Where data, secrets and logs of the embedded servers live.")]


class ServedLog(StrEnum):
    """Where events live in what goes on serving."""

    POSTGRES = "postgres"
    KAFKA = "kafka"


class FileFormat(StrEnum):
    """What a file to import is."""

    CSV = "csv"
    STEVE = "steve"


File = Annotated[Path, typer.Argument(help="CSV with a header, or a MySQL dump.")]
Owner = Annotated[str, typer.Option("--party", help="Country and party id of the CPO, as in NL-TUL.")]
Format = Annotated[FileFormat, typer.Option("--format", help="What the file is.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be entered, and enter nothing.")]


class EventLogChoice(StrEnum):
    """Where events live."""

    POSTGRES = "postgres"
    KAFKA = "kafka"
    MEMORY = "memory"


@app.command()
def demo(
    *,
    json: Json = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything serving afterwards, with a live page.")
    ] = False,
    event_log: Annotated[
        EventLogChoice, typer.Option(help="memory: one process, virtual time.")
    ] = EventLogChoice.POSTGRES,
    seed: Annotated[int, typer.Option(help="Draws arrivals, vehicles and faults.")] = 7,
    run_folder: Annotated[Path | None, typer.Option(help="Keep data and logs here; default: a fresh run/demo.")] = None,
) -> None:
    """Run two days of charging through every component and print what everybody owes, paid and metered."""
    from services.embedded.demo import run_demo

    sys.exit(run_demo(json=json, keep=keep, event_log=event_log.value, seed=seed, run_folder=run_folder))


@app.command()
def up(
    *,
    run_folder: RunFolder = RUN_FOLDER,
    event_log: Annotated[ServedLog, typer.Option(help="Where events live.")] = ServedLog.POSTGRES,
    partners_here: Annotated[
        str | None,
        typer.Option(help="Ports of this machine at which parties may be called, as in 9101-9160, to try the hub."),
    ] = None,
) -> None:
    """Serve on one machine: PostgreSQL, gateway, hub and back offices, until Ctrl-C. Data stay for the next time."""
    from ocpi_check.command import OptionsUnusable, ports_of
    from services.embedded.up import serve

    try:
        ports = ports_of(partners_here)
    except OptionsUnusable as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(serve(run_folder=run_folder, event_log=event_log.value, partner_ports=ports))


@app.command()
def lab(
    *,
    json: Json = False,
    short: Annotated[bool, typer.Option("--short", help="Nine days and no street of stations.")] = False,
    seed: Annotated[int, typer.Option(help="Draws everything.")] = 7,
) -> None:
    """Play a month of faults in five currencies, settled on a chain and on a ledger, and print the audits of both."""
    from emobility.runtime.telemetry import configure_logging
    from services.embedded.lab import run_lab

    configure_logging(process="lab", level=logging.CRITICAL)  # what befalls it is told at its end
    sys.exit(run_lab(seed=seed, short=short, json=json))


@app.command()
def gateway() -> None:
    """Run the OCPP gateway alone; settings come from WATTROAM_* variables."""
    from charge_point_gateway.__main__ import main as run

    run()


@app.command()
def hub() -> None:
    """Run the roaming hub alone."""
    from roaming_hub.__main__ import main as run

    run()


@app.command()
def operations() -> None:
    """Run the CPO back office alone."""
    from services.charging_operations.__main__ import main as run

    run()


@app.command()
def mobility() -> None:
    """Run the MSP back office alone."""
    from services.driver_mobility.__main__ import main as run

    run()


@app.command()
def navigation() -> None:
    """Run the NSP alone."""
    from services.navigation.__main__ import main as run

    run()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def simulate(context: typer.Context) -> None:
    """Put simulated stations on a running gateway; `wattroam simulate -- --help` lists the options."""
    from simulator.__main__ import main as run

    sys.exit(run(context.args))


@app.command()
def migrate() -> None:
    """Bring the database at WATTROAM_DATABASE_URL to this version's tables."""
    import asyncio

    from emobility.adapters.postgres.connections import translated
    from emobility.adapters.postgres.migrations import migrate as run
    from emobility.wiring import DatabaseNotNamed

    database_url = os.environ.get("WATTROAM_DATABASE_URL")  # no other setting is of use here
    if database_url is None:
        raise DatabaseNotNamed
    with translated():
        applied = asyncio.run(run(database_url))
    typer.echo(f"{len(applied)} migrations applied" if applied else "nothing to do")


@app.command()
def audit(
    *,
    json: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="Rows and log only: verdicts, prices, sums, roots.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Signatures and the chain as well; fails where there is no chain to look at.")
    ] = False,
    run_folder: RunFolder = RUN_FOLDER,
    truth: Annotated[
        Path | None, typer.Option(help="What the simulator knows: acknowledged messages, true Wh.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--from", help="Only charges that ended then or later, UTC, as in 2022-03-01."),
    ] = None,
    before: Annotated[datetime | None, typer.Option("--to", help="Only charges that ended before then, UTC.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the auditor's page of the period there, as HTML.")] = None,
) -> None:
    """Recompute every conservation equation; exit 1 on any difference, each with its cause.

    Signatures and the chain are looked at, too, if there is one that answers or can be started; else it says why not.
    Of a period: metered, in CDRs, accepted, settled, invoiced, paid, by pair, and what makes each differ.
    """
    import asyncio

    from emobility.ports.reconciliation import Period
    from services.audit.command import read_truth
    from services.embedded.auditing import Depth, audit_installation, audit_period

    if quick and full:
        raise typer.BadParameter("--quick and --full exclude each other")
    known = None if truth is None else read_truth(truth)
    depth = Depth.QUICK if quick else Depth.FULL if full else Depth.AS_DEEP_AS_CAN_BE
    if since is None and before is None and page is None:
        sys.exit(asyncio.run(audit_installation(run_folder, depth=depth, json=json, truth=known)))
    if since is None or before is None or known is not None:
        raise typer.BadParameter("a period needs both --from and --to; --page is of a period, --truth of none")
    period = Period(since=since.replace(tzinfo=UTC), before=before.replace(tzinfo=UTC))
    sys.exit(asyncio.run(audit_period(run_folder, period, depth=depth, json=json, page=page)))


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Receipts, or folders of them.")],
    *,
    rpc: Annotated[
        str | None, typer.Option(help="JSON-RPC endpoint of the chain: asks it whether the statement is final.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="File of the ledger (`wattroam ledger export`): carries it out and looks there.")
    ] = None,
    json: Json = False,
) -> None:
    """Check receipts of charges and say in plain words what each check proves; exit 1 when one is refused."""
    from services.cli.verifying import run_verify

    if rpc is not None and ledger is not None:
        raise typer.BadParameter("--rpc and --ledger exclude each other")
    sys.exit(run_verify(paths=files, rpc_url=rpc, ledger=ledger, json=json))


@app.command()
def timeline(
    party: Party,
    station: str,
    transaction: Annotated[str | None, typer.Argument(help="None: what happened at the station in a time.")] = None,
    *,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 date-time; a day before the end.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 date-time; now.")] = None,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Say why a charge failed: a verdict, then connections, decisions, commands, reports and money in order."""
    from services.embedded.operator import show_timeline

    sys.exit(
        show_timeline(
            party=party,
            station=station,
            transaction=transaction,
            since=since,
            until=until,
            json=json,
            run_folder=run_folder,
        )
    )


@app.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the operations API, as it is served at /operations/openapi.json."""
    from services.embedded.openapi import operations_document

    typer.echo(operations_document())


@app.command()
def prune(
    *,
    json: Json = False,
    yes: Annotated[bool, typer.Option("--yes", help="Drop it; without this, only say what would go.")] = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Drop events that every consumer has passed and that are older than the log keeps them (90 days)."""
    from services.embedded.pruning import prune_log

    sys.exit(prune_log(json=json, yes=yes, run_folder=run_folder))


@app.command()
def bench(
    *,
    json: Json = False,
    short: Annotated[bool, typer.Option("--short", help="Seconds instead of minutes; figures are noisier.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Names of figures to measure.")] = None,
) -> None:
    """Measure speed and memory against rivals in the same run."""
    from bench.command import run_bench

    sys.exit(run_bench(json=json, short=short, only=only or []))


@app.command()
def erase(
    party: Party,
    driver_id: Annotated[str, typer.Argument(help="A driver of an MSP; with --sale an ad hoc sale of a CPO.")],
    *,
    sale: Annotated[bool, typer.Option("--sale", help="An ad hoc sale, by the id in its driver's link.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: there is no way back.")] = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Erase a driver of an MSP for good; what the law makes it keep is closed to all other use until a date shown."""
    from services.embedded.retention import erase_person

    if not yes:
        typer.confirm(f"Erase {'sale' if sale else 'driver'} {driver_id} of {party} for good?", abort=True)
    sys.exit(erase_person(party=party, name=driver_id, is_sale=sale, run_folder=run_folder))


@app.command()
def retention(
    party: Party,
    *,
    driver: Annotated[str | None, typer.Option(help="Of this driver alone.")] = None,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Show what a party keeps of whom, by which law and until when."""
    from services.embedded.retention import show_retention

    sys.exit(show_retention(party=party, driver_id=driver, json=json, run_folder=run_folder))


@imports.command("stations")
def import_stations(
    file: File,
    *,
    party: Owner,
    file_format: Format = FileFormat.CSV,
    connector: Annotated[
        str | None,
        typer.Option(help="steve: what all connectors can do, as in IEC_62196_T2,AC_3_PHASE,230,32,22080."),
    ] = None,
    location: Annotated[str | None, typer.Option(help="steve: where stations without a whole address stand.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="steve: of all addresses, as in Europe/Amsterdam.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Enter stations with EVSEs, connectors and passwords; exit 1 when a row is refused, each named with its line."""
    from services.embedded.operator import import_file

    given = {"connector": connector, "location_id": location, "time_zone": time_zone}
    query = {"format": file_format.value, "dry_run": str(dry_run).lower()}
    query |= {name: value for name, value in given.items() if value is not None}
    sys.exit(import_file(party=party, what="stations", file=file, query=query, json=json, run_folder=run_folder))


@imports.command("tokens")
def import_tokens(
    file: File,
    *,
    party: Owner,
    file_format: Format = FileFormat.CSV,
    dry_run: DryRun = False,
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Enter the CPO's own cards, which charge at its stations unbilled; exit 1 when a row is refused."""
    from services.embedded.operator import import_file

    query = {"format": file_format.value, "dry_run": str(dry_run).lower()}
    sys.exit(import_file(party=party, what="tokens", file=file, query=query, json=json, run_folder=run_folder))


@app.command()
def afir(party: Party, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """Show which of the fields that AFIR has published a CPO states, and for which of its points it doesn't."""
    from services.embedded.public_completeness import show_completeness

    sys.exit(show_completeness(party=party, json=json, run_folder=run_folder))


@quarantine.command("list")
def quarantine_list(party: Party, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """List a CPO's quarantined sessions with their reasons and evidence."""
    from services.embedded.operator import list_quarantine

    sys.exit(list_quarantine(party=party, json=json, run_folder=run_folder))


class Outcome(StrEnum):
    """What becomes of quarantined energy."""

    BILL = "BILL"
    WAIVE = "WAIVE"
    WRITE_OFF = "WRITE_OFF"


@quarantine.command("resolve")
def quarantine_resolve(
    party: Party,
    quarantine_id: str,
    *,
    outcome: Annotated[Outcome, typer.Option(case_sensitive=False)],
    why: Annotated[str, typer.Option(help="Kept in the audit trail.")],
    proven_wh: Annotated[int | None, typer.Option(help="Bill only this part; the rest is waived.")] = None,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Bill the proven part of a session, waive it or write it off."""
    from services.embedded.operator import resolve_quarantine

    sys.exit(
        resolve_quarantine(
            party=party,
            quarantine_id=quarantine_id,
            outcome=outcome.value,
            why=why,
            proven_wh=proven_wh,
            run_folder=run_folder,
        )
    )


@token.command("issue")
def token_issue(
    party: Party,
    *,
    purpose: Annotated[str, typer.Option(help="Which system gets it; shown in the list.")],
    role: Annotated[
        str, typer.Option(help="reader: to look; operator: to run stations too; owner: for everything.")
    ] = "reader",
    json: Json = False,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Make an API token for a party and print it; it can't be shown again."""
    from emobility.runtime.access import TokenRole
    from services.embedded.tokens import issue_token

    if role.upper() not in {each.value for each in TokenRole}:
        raise typer.BadParameter(f"role is one of {', '.join(each.lower() for each in TokenRole)}")
    sys.exit(issue_token(party=party, purpose=purpose, role=TokenRole(role.upper()), json=json, run_folder=run_folder))


@token.command("list")
def token_list(party: Party, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """List a party's API tokens by their ids."""
    from services.embedded.tokens import list_tokens

    sys.exit(list_tokens(party=party, json=json, run_folder=run_folder))


@token.command("revoke")
def token_revoke(
    party: Party,
    token_id: Annotated[str, typer.Argument(help="As `wattroam token list` shows it.")],
    *,
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Make an API token worthless, at once."""
    from services.embedded.tokens import revoke_token

    sys.exit(revoke_token(party=party, token_id=token_id, run_folder=run_folder))


@parked.command("list")
def parked_list(group: Group, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """List a consumer group's dead letters: which, of which key, why and since when."""
    from services.embedded.dead_letters import list_parked

    sys.exit(list_parked(group=group, json=json, run_folder=run_folder))


@parked.command("replay")
def parked_replay(group: Group, key: str, *, run_folder: RunFolder = RUN_FOLDER) -> None:
    """Hand a key's dead letters to their group again, in order; on success the key goes on."""
    from services.embedded.dead_letters import replay_parked

    sys.exit(replay_parked(group=group, key=key, run_folder=run_folder))


@parked.command("discard")
def parked_discard(
    group: Group,
    event: Annotated[str, typer.Argument(help="As `parked list` names it: TOPIC/PARTITION@OFFSET.")],
    *,
    why: Annotated[str, typer.Option(help="Kept for ever, with who and when; the audit tells it.")],
    run_folder: RunFolder = RUN_FOLDER,
) -> None:
    """Take one dead letter out for good; the rest of its key then waits for its replay."""
    from services.embedded.dead_letters import discard_parked

    sys.exit(discard_parked(group=group, event=event, why=why, run_folder=run_folder))


@parked.command("discarded")
def parked_discarded(group: Group, *, json: Json = False, run_folder: RunFolder = RUN_FOLDER) -> None:
    """List what was discarded of a consumer group's dead letters: by whom, when and why."""
    from services.embedded.dead_letters import list_discarded

    sys.exit(list_discarded(group=group, json=json, run_folder=run_folder))


def main() -> None:
    """Entry point of the `wattroam` script. What a user can put right is told in one line, with exit code 2."""
    try:
        app(prog_name="wattroam")
    except Exception as error:
        from services.cli.failures import sentence_of

        sentence = sentence_of(error)
        if sentence is None:
            raise
        typer.echo(f"wattroam: {sentence}", err=True)
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main()
