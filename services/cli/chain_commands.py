"""`wattroam chain`: settle in contracts on a chain that is not our own: make them, check them, vouch for parties."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli.key_commands import Folder, PassphraseFD, PassphraseFile

chain: Final = typer.Typer(
    help="Settle on a chain that is not our own: make a consortium's contracts there, check them, vouch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print figures for machines instead of a screen.")]
RPC = Annotated[
    str,
    typer.Option(
        "--rpc",
        envvar="WATTROAM_CHAIN_RPC_URL",
        help="JSON-RPC endpoint, or several with commas between, of which more than half must agree.",
    ),
]
RunFolder = Annotated[
    Path,
    typer.Option(help="Installation on this machine; not looked at where WATTROAM_DATABASE_URL is set."),
]
Party = Annotated[str, typer.Argument(help="Country and party id, as in NL-TUL.")]
Deployment = Annotated[
    Path, typer.Option(envvar="WATTROAM_CHAIN_DEPLOYMENT", help="What `wattroam chain deploy` wrote.")
]
FinalBlocks = Annotated[
    int | None,
    typer.Option(
        envvar="WATTROAM_CHAIN_FINAL_BLOCKS",
        help="A block is final when so many follow it: 0 on Besu with QBFT; default: as the chain itself says.",
    ),
]


@chain.command("deploy")
def chain_deploy(
    rpc: RPC,
    keystore: Folder,
    *,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFD = None,
    token: Annotated[
        list[str] | None, typer.Option(help="A currency and the ERC-20 that it is settled in, as in EUR=0x...")
    ] = None,
    currency: Annotated[
        list[str] | None, typer.Option(help="A currency for which a token is made that the administrator mints.")
    ] = None,
    admin: Annotated[
        str | None, typer.Option(help="Gets every administrator's role; default: the key's account.")
    ] = None,
    proposer: Annotated[str | None, typer.Option(help="Account of the settlement process; default: the key's.")] = None,
    issuer: Annotated[
        list[str] | None, typer.Option(help="A country and an account that vouches for its parties, as in NL=0x...")
    ] = None,
    out: Annotated[Path, typer.Option(help="Written while it goes on; where it was cut, it goes on.")] = Path(
        "deployment.json"
    ),
    final_blocks: FinalBlocks = None,
    json: Json = False,
) -> None:
    """Make all contracts of a consortium, grant the roles, hand the administrator's over, and check what came of it."""
    from services.embedded.chain_command import run_deploy

    sys.exit(
        run_deploy(
            rpc_url=rpc,
            final_blocks=final_blocks,
            keystore=keystore,
            passphrase_file=passphrase_file,
            passphrase_fd=passphrase_fd,
            tokens=token or (),
            currencies=currency or (),
            admin=admin,
            proposer=proposer,
            issuers=issuer or (),
            out=out,
            json=json,
        )
    )


@chain.command("check")
def chain_check(
    rpc: RPC,
    deployment: Deployment = Path("deployment.json"),
    *,
    final_blocks: FinalBlocks = None,
    json: Json = False,
) -> None:
    """Compare contracts with our build, and what they name and who holds which role with the file; exit 1 if not so."""
    from services.embedded.chain_command import run_check

    sys.exit(run_check(rpc_url=rpc, final_blocks=final_blocks, deployment=deployment, json=json))


@chain.command("registrations")
def chain_registrations(*, json: Json = False, run_folder: RunFolder = Path("run")) -> None:
    """Show which parties wait for an issuer of their country; with --json as `wattroam chain vouch` reads it."""
    from services.embedded.chain_desk import show_registrations

    sys.exit(show_registrations(json=json, run_folder=run_folder))


@chain.command("register")
def chain_register(
    party: Party,
    payout: Annotated[str, typer.Option(help="Account that gets collateral which the party withdraws.")],
    *,
    run_folder: RunFolder = Path("run"),
) -> None:
    """Have a party that is signed for here consent to its registration; then an issuer of its country vouches."""
    from services.embedded.chain_desk import register

    sys.exit(register(party=party, payout=payout, run_folder=run_folder))


@chain.command("vouch")
def chain_vouch(
    registrations: Annotated[Path, typer.Argument(help="What `wattroam chain registrations --json` printed.")],
    keystore: Folder,
    *,
    party: Annotated[
        list[str] | None, typer.Option(help="For these alone, as in NL-TUL, and anew; may be named again.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long you vouch for the ids.")] = 365,
    nonce: Annotated[
        int | None, typer.Option(min=0, help="Of your account's next transaction, where the file does not know it.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFD = None,
) -> None:
    """Sign registrations as an issuer, without a chain at hand; print what `wattroam chain relay` hands in."""
    from services.embedded.chain_command import run_vouch

    sys.exit(
        run_vouch(
            registrations=registrations,
            keystore=keystore,
            passphrase_file=passphrase_file,
            passphrase_fd=passphrase_fd,
            parties=party or (),
            days=days,
            nonce=nonce,
        )
    )


@chain.command("relay")
def chain_relay(
    vouched: Annotated[Path, typer.Argument(help="What `wattroam chain vouch` printed.")],
    *,
    run_folder: RunFolder = Path("run"),
) -> None:
    """Hand an issuer's registrations in; the settlement carries them to the chain and follows them until final."""
    from services.embedded.chain_desk import relay

    sys.exit(relay(vouched=vouched, run_folder=run_folder))


@chain.command("agreements")
def chain_agreements(party: Party, *, run_folder: RunFolder = Path("run")) -> None:
    """Print a party's agreements as a book has them: what it must sign, what they wait for, what cover is missing."""
    from services.embedded.chain_desk import show_agreements

    sys.exit(show_agreements(party=party, run_folder=run_folder))


@chain.command("deposit")
def chain_deposit(
    party: Party,
    rpc: RPC,
    keystore: Folder,
    currency: Annotated[str, typer.Option(help="ISO 4217, as in EUR.")],
    up_to: Annotated[str, typer.Option(help="What the party shall have free, as in 150.00; the rest is paid in.")],
    *,
    deployment: Deployment = Path("deployment.json"),
    passphrase_file: PassphraseFile = None,
    passphrase_fd: PassphraseFD = None,
    final_blocks: FinalBlocks = None,
) -> None:
    """Pay cover in for a party out of the tokens of the key's account; said twice, it is paid once."""
    from services.embedded.chain_command import run_deposit

    sys.exit(
        run_deposit(
            rpc_url=rpc,
            final_blocks=final_blocks,
            keystore=keystore,
            passphrase_file=passphrase_file,
            passphrase_fd=passphrase_fd,
            deployment=deployment,
            party=party,
            currency=currency,
            up_to=up_to,
        )
    )
