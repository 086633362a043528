"""`wattroam key`: the encrypted keys that send settlement transactions. Needs no database and no chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

key: Final = typer.Typer(
    help="Encrypted keys that send settlement transactions: make, list, hand over.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Folder = Annotated[Path, typer.Option("--keystore", envvar="WATTROAM_CHAIN_KEYSTORE", help="Folder of the keys.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(envvar="WATTROAM_CHAIN_PASSPHRASE_FILE", help="Holds the passphrase; mode 600."),
]
PassphraseFD = Annotated[
    int | None,
    typer.Option(envvar="WATTROAM_CHAIN_PASSPHRASE_FD", help="Open file descriptor to read the passphrase from."),
]


@key.command("new")
def key_new(keystore: Folder, *, passphrase_file: PassphraseFile = None, passphrase_fd: PassphraseFD = None) -> None:
    """Make the first key of a keystore and print its account."""
    from emobility.adapters.chain_keys.keystore import KeyRefused, key_files

    if key_files(keystore):
        raise KeyRefused(f"{keystore} has a key; `wattroam key rotate` makes one that takes over from it")
    print(f"0x{_made(keystore, passphrase_file, passphrase_fd).hex()}")  # noqa: T201 - what was asked for


@key.command("show")
def key_show(keystore: Folder) -> None:
    """List a keystore's accounts, in the order in which they take over; no key is opened."""
    from emobility.adapters.chain_keys.keystore import KeyRefused, address_in, key_files

    if not (files := key_files(keystore)):
        raise KeyRefused(f"{keystore} holds no key; `wattroam key new` makes the first")
    for path in files:
        print(f"0x{address_in(path).hex()}  {path.name}")  # noqa: T201 - what was asked for


@key.command("rotate")
def key_rotate(keystore: Folder, *, passphrase_file: PassphraseFile = None, passphrase_fd: PassphraseFD = None) -> None:
    """Make a key that takes over from the last one, and print what its account must be granted first."""
    from emobility.adapters.chain_keys.keystore import KeyRefused, key_files
    from emobility.domain.batch.contracts import ANCHOR_ROLE, PROPOSER_ROLE

    if not key_files(keystore):
        raise KeyRefused(f"{keystore} has no key; `wattroam key new` makes the first")
    account = f"0x{_made(keystore, passphrase_file, passphrase_fd).hex()}"
    lines = [
        account,
        "It signs nothing before the contracts' administrator has granted it, and it can pay fees:",
        f"  each SettlementBook   grantRole(0x{PROPOSER_ROLE.hex()}, {account})",
        f"  RootAnchor            grantRole(0x{ANCHOR_ROLE.hex()}, {account})",
        "Then it takes over by itself when the old account's transactions are final. When none of those in",
        "`settlement_transaction` is on its way any more, revoke the old account's roles and take its file away.",
    ]
    print("\n".join(lines))  # noqa: T201 - what was asked for


def _made(keystore: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> bytes:
    from emobility.adapters.chain_keys.keystore import KeyRefused, address_in, new_key, read_passphrase
    from emobility.adapters.system import SystemRandomness

    if (passphrase_file is None) == (passphrase_fd is None):
        raise KeyRefused("name the passphrase by --passphrase-file or --passphrase-fd")
    passphrase = read_passphrase(file=passphrase_file, descriptor=passphrase_fd)
    return address_in(new_key(keystore, passphrase, randomness=SystemRandomness()))
