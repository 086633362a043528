"""`wattroam ocpi`: look at an OCPI platform from outside, or be a party for one to be tried against."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

ocpi: Final = typer.Typer(
    help="Check an OCPI platform or hub from outside, line by line; play a party to try one against.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class OCPIVersion(StrEnum):
    """A version to speak."""

    V221 = "2.2.1"
    V230 = "2.3.0"


class PlatformRole(StrEnum):
    """What the platform under test is."""

    HUB = "HUB"
    CPO = "CPO"
    EMSP = "EMSP"
    NSP = "NSP"


class MockRole(StrEnum):
    """What a mock party is."""

    CPO = "CPO"
    EMSP = "EMSP"
    NSP = "NSP"
    NAP = "NAP"
    OTHER = "OTHER"
    SCSP = "SCSP"
    PTP = "PTP"


Version = Annotated[OCPIVersion, typer.Option("--version", help="OCPI version to speak.")]
Host = Annotated[str, typer.Option("--host", help="Address on which mock parties listen.")]
PublicURL = Annotated[
    str, typer.Option("--public-url", help="How the other side reaches a mock party; {port} is its port.")
]


@ocpi.command()
def check(
    url: Annotated[str, typer.Argument(help="The platform's versions URL.")],
    *,
    token: Annotated[
        list[str] | None,
        typer.Option(help="TOKEN_A, or ROLE:PARTY=TOKEN_A; again for each party that a hub is to be tried with."),
    ] = None,
    registered: Annotated[
        bool, typer.Option("--registered", help="The tokens are those of registrations that exist: no handshake.")
    ] = False,
    operator: Annotated[
        str | None, typer.Option(help="A Wattroam hub's /admin: parties are admitted and rules set there.")
    ] = None,
    operator_token: Annotated[str, typer.Option(envvar="WATTROAM_OPERATOR_TOKEN", help="Its internal token.")] = "",
    role: Annotated[PlatformRole, typer.Option(help="What the platform is.")] = PlatformRole.HUB,
    version: Version = OCPIVersion.V221,
    only: Annotated[str, typer.Option(help="Rules to check, as in T1,R3; all of them by default.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print findings for machines.")] = False,
    host: Host = "127.0.0.1",
    ports: Annotated[
        str | None, typer.Option(help="Ports for mock parties, as in 9101-9160; by default any that is free.")
    ] = None,
    public_url: PublicURL = "http://127.0.0.1:{port}",
    patience: Annotated[float, typer.Option(help="Seconds that one check may take; others are skipped.")] = 60.0,
    silence: Annotated[float, typer.Option(help="Seconds of silence after which the hub probes a party.")] = 300.0,
) -> None:
    """Run the checklist against a platform; exit 1 when a check fails, 2 when it can't be run."""
    import asyncio

    from emobility.adapters.system import SystemClock
    from ocpi_check.command import CANNOT_RUN, OptionsUnusable, check_platform, ports_of
    from ocpi_check.run import Target

    try:
        target = Target(
            versions_url=url,
            role=role.value,
            version=version.value,
            host=host,
            ports=ports_of(ports),
            public_url=public_url,
            patience_s=patience,
            silence_s=silence,
            is_registered=registered,
        )
        code = asyncio.run(
            check_platform(
                target,
                tokens=token or [],
                operator_url=operator,
                operator_token=operator_token,
                only=[each for each in only.replace(" ", ",").split(",") if each],
                json=json,
                now=SystemClock().now,
            )
        )
    except OptionsUnusable as error:
        typer.echo(f"wattroam: {error}", err=True)
        code = CANNOT_RUN
    sys.exit(code)


@ocpi.command()
def mock(
    *,
    role: Annotated[MockRole, typer.Option(help="What it is.")] = MockRole.CPO,
    party: Annotated[str, typer.Option(help="Country and party id.")] = "NL-MCK",
    register: Annotated[str | None, typer.Option(help="Register it at this versions URL.")] = None,
    token: Annotated[
        str | None, typer.Option(help="TOKEN_A: to register with; without --register, what others register with.")
    ] = None,
    accepts: Annotated[list[str] | None, typer.Option(help="A token that others may present; again for each.")] = None,
    charges: Annotated[
        bool, typer.Option("--charges", help="A CPO that accepts START_SESSION sends result, session and CDR.")
    ] = False,
    driven: Annotated[
        bool, typer.Option("--driven", help="Serve /mock/heard and /mock/answers, to anybody who reaches it.")
    ] = False,
    version: Version = OCPIVersion.V221,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 0,
    public_url: PublicURL = "http://127.0.0.1:{port}",
) -> None:
    """Play a party with sample objects until Ctrl-C, and print every request it gets."""
    import asyncio
    import signal

    from emobility.adapters.system import SystemClock
    from ocpi_check.command import CANNOT_RUN, OptionsUnusable, mock_party
    from ocpi_check.wire import Party

    async def play() -> int:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop.set)
        return await mock_party(
            Party.of(party),
            role.value,
            version=version.value,
            host=host,
            port=port,
            public_url=public_url,
            register_at=register,
            token=token,
            accepts=accepts or [],
            charges=charges,
            is_driven=driven,
            now=SystemClock().now,
            stop=stop,
        )

    try:
        code = asyncio.run(play())
    except (OptionsUnusable, ValueError) as error:
        typer.echo(f"wattroam: {error}", err=True)
        code = CANNOT_RUN
    sys.exit(code)


@ocpi.command()
def receipt(
    file: Annotated[str, typer.Argument(help="A receipt of delivery as the hub gives it; - for standard input.")],
    *,
    hub_key: Annotated[str, typer.Option(help="The hub's Ed25519 key, hex, from somebody who knows.")],
    receiver_key: Annotated[
        str | None,
        typer.Option(help="The receiver's Ed25519 key, hex; without it, its word proves nothing."),
    ] = None,
    root: Annotated[str | None, typer.Option(help="The day's root as the chain has it, hex.")] = None,
) -> None:
    """Say whose word a receipt of delivery is and what it proves; exit 1 when it is false."""
    from emobility.ports.party_keys import KeyAlgorithm
    from emobility.protocols.ocpi.receipt_checking import ReceiptFalse, check_receipt

    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as opened:
            document = opened.read()
        checked = check_receipt(
            document,
            hub_key=bytes.fromhex(hub_key),
            receiver_key=None if receiver_key is None else (KeyAlgorithm.ED25519, bytes.fromhex(receiver_key)),
            root_on_chain=None if root is None else bytes.fromhex(root.removeprefix("0x")),
        )
    except (ReceiptFalse, OSError, ValueError) as error:
        typer.echo(f"wattroam: {error}", err=True)
        sys.exit(1)
    told = checked.receipt
    answer = "no answer" if told.http_status is None else f"HTTP {told.http_status}"
    typer.echo(f"{checked.claim}: {told.method} {told.module} from {told.from_party} to {told.to_party}")
    typer.echo(f"{answer}, S {told.ocpi_status}, at {told.at.isoformat()}")
    if checked.day_root is not None and checked.day_starts_at is not None:
        anchored = "stands on the chain" if checked.is_anchored else "should stand on the chain"
        typer.echo(f"day {checked.day_starts_at.date()}: root 0x{checked.day_root.hex()} {anchored}")
