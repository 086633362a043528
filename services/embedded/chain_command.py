"""What `wattroam chain deploy`, `check`, `vouch` and `deposit` do. They need no database and no installation."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from emobility.adapters.chain_keys.keystore import KeyRefused, key_files, open_key, read_passphrase
from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.system import SystemClock, SystemTimer
from emobility.domain.batch import contracts
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4, e4_from_decimal
from emobility.ports.chain_signer import ChainSigner
from services.settlement.deployment import Deployer
from services.settlement.founding import Founding
from services.settlement.inspecting import DeploymentWrong, Inspection, inspect
from services.settlement.manifest import (
    Charter,
    Manifest,
    account_of,
    country_of,
    currency_of,
    read_manifest,
    write_manifest,
)
from services.settlement.registering import RegistrationRequests
from services.settlement.vouching import vouched

FILE_BYTES_MAX: Final = 10_000_000
AMOUNT_E4_MAX: Final = 2**64
REFUSED: Final = 1
DEPOSIT_FINAL_TIMEOUT_S: Final = 1_800.0
"""How long each of a deposit's two transactions may take until it is final: Ethereum takes a quarter of an hour."""


class OptionRefused(MalformedInput):
    """An option is not of its form, or something is missing."""


def run_deploy(
    *,
    rpc_url: str,
    final_blocks: int | None,
    keystore: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    tokens: Sequence[str],
    currencies: Sequence[str],
    admin: str | None,
    proposer: str | None,
    issuers: Sequence[str],
    out: Path,
    json: bool,
) -> int:
    """Make a consortium's contracts, or go on where that was cut; return 0 when a check finds nothing wrong, else 1.

    Raises:
        KeyRefused: the key can't be opened.
        ManifestRefused, OptionRefused: an option is not understood, or what was begun is no deployment.
        OtherFounding, StepCannotBe, StepRefused: it can't be made.
        ChainUnavailable: the endpoint does not answer.
        OSError: the file can't be written.
    """
    signer = opened_key(keystore, passphrase_file, passphrase_fd)
    charter = charter_of(
        signer.address, tokens=tokens, currencies=currencies, admin=admin, proposer=proposer, issuers=issuers
    )

    def progress(done: int, steps: int, title: str) -> None:
        sys.stderr.write(f"{done:>3} of {steps}  {title}\n")

    begun = read_manifest(out) if out.exists() else None

    async def deploy() -> tuple[Manifest, Inspection]:
        async with open_ethereum(rpc_url, final_blocks=final_blocks) as chain:
            founding = Founding(chain, signer, SystemTimer(), progress)
            plan = await founding.planned(charter, begun)
            if begun is None:
                write_manifest(out, plan)
            if begun is None or begun.block is None:
                plan = await founding.found(plan)
                write_manifest(out, plan)
            else:
                plan = begun
            return plan, await inspect(chain, plan)

    manifest, found = asyncio.run(deploy())
    if json:
        _print({"deployment": msgspec.to_builtins(manifest), **_shown(found)})
    else:
        _tell(manifest, found, written=out)
    return REFUSED if found.wrong else 0


def run_check(*, rpc_url: str, final_blocks: int | None, deployment: Path, json: bool) -> int:
    """Hold a chain against a deployment's file; return 0 when nothing is wrong, else 1.

    Raises:
        ManifestRefused: the file is none, or its deployment was cut short.
        ChainUnavailable: the endpoint does not answer.
        OSError: the file can't be read.
    """
    manifest = read_manifest(deployment)

    async def check() -> Inspection:
        async with open_ethereum(rpc_url, final_blocks=final_blocks) as chain:
            return await inspect(chain, manifest)

    found = asyncio.run(check())
    if json:
        _print({"chain_id": manifest.chain_id, **_shown(found)})
    else:
        _tell(manifest, found)
    return REFUSED if found.wrong else 0


def run_vouch(
    *,
    registrations: Path,
    keystore: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    parties: Sequence[str],
    days: int,
    nonce: int | None,
) -> int:
    """Sign registrations as an issuer and print the transactions; whom they are for is told beside. Return 0.

    Raises:
        KeyRefused: the key can't be opened.
        OptionRefused: the file is not what `wattroam chain registrations --json` prints.
        NothingToVouchFor, ConsentForged, RequestsNotTrusted: see `vouching`.
        OSError: the file can't be read.
    """
    with registrations.open("rb") as file:
        content = file.read(FILE_BYTES_MAX)
    try:
        requests = msgspec.json.decode(content, type=RegistrationRequests)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OptionRefused(f"{registrations} holds no registrations: {error}") from None
    signer = opened_key(keystore, passphrase_file, passphrase_fd)
    until = SystemClock().now() + timedelta(days=days)
    signed = asyncio.run(
        vouched(
            requests,
            signer,
            recovered_address,
            parties=[PartyId(each) for each in parties],
            until=until,
            first_nonce=nonce,
        )
    )
    sys.stderr.write(
        f"chain {requests.chain_id}, registry {requests.registry}, at most "
        f"{requests.gas * requests.max_fee_per_gas} wei for each\n"
    )
    for party_id, each in signed.items():
        sys.stderr.write(
            f"you vouch until {until:%Y-%m-%d} that {each.asked.signer} signs for {party_id}, which is paid out to "
            f"{each.asked.payout}\n"
        )
    _print({"transactions": [f"0x{each.raw.hex()}" for each in signed.values()]})
    return 0


def run_deposit(
    *,
    rpc_url: str,
    final_blocks: int | None,
    keystore: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    deployment: Path,
    party: str,
    currency: str,
    up_to: str,
) -> int:
    """Pay cover in for a party, out of the tokens of a keystore's account; return 0.

    Raises:
        KeyRefused: the key can't be opened.
        ManifestRefused, OptionRefused: the file or an option is not understood.
        DeploymentWrong: a check of the contracts finds something wrong.
        TokensShort: the account has less.
        ChainUnavailable: the endpoint does not answer.
    """
    manifest, party_id, amount_e4 = read_manifest(deployment), PartyId(party), _amount_e4(up_to)
    given = manifest.deployment
    into = given.of(currency)
    if into is None:
        raise OptionRefused(f"{deployment} settles no {currency}")
    signer = opened_key(keystore, passphrase_file, passphrase_fd)

    def progress(waits_for: str) -> None:
        sys.stderr.write(f"{waits_for}\n")

    async def pay() -> int:
        async with open_ethereum(rpc_url, final_blocks=final_blocks) as chain:
            if wrong := (await inspect(chain, manifest)).wrong:
                raise DeploymentWrong(f"{deployment}: {'; '.join(wrong)}")
            codes = party_id.country_code.encode(), party_id.party_id.encode()
            asked = contracts.NUMBER_OF.call(*codes)
            (number,) = contracts.NUMBER_OF.answer(await chain.call(given.registry, asked))
            if not number:
                raise OptionRefused(f"{party_id} is not registered")
            holder = Deployer(chain, signer, SystemTimer(), mints=False, final_timeout_s=DEPOSIT_FINAL_TIMEOUT_S)
            return await holder.pay_in(into, number, up_to_e4=amount_e4, progress=progress)

    paid_e4 = asyncio.run(pay())
    sys.stdout.write(f"{decimal_from_e4(paid_e4)} {currency} paid in; {party_id} has {up_to} free or more\n")
    return 0


def _amount_e4(text: str) -> int:
    try:
        amount = Decimal(text)
        amount_e4 = e4_from_decimal(amount) if amount.is_finite() else 0
    except ArithmeticError:
        amount_e4 = 0
    if not 0 < amount_e4 < AMOUNT_E4_MAX or decimal_from_e4(amount_e4) != amount:
        raise OptionRefused(f"{text[:40]!r} is no amount, as in 150.00")
    return amount_e4


def opened_key(keystore: Path, passphrase_file: Path | None, passphrase_fd: int | None) -> ChainSigner:
    """Open a keystore's first key. Raises `KeyRefused`."""
    if (passphrase_file is None) == (passphrase_fd is None):
        raise KeyRefused("name the passphrase by --passphrase-file or --passphrase-fd")
    files = key_files(keystore)
    if not files:
        raise KeyRefused(f"{keystore} holds no key; `wattroam key new` makes one")
    return open_key(files[0], read_passphrase(file=passphrase_file, descriptor=passphrase_fd))


def charter_of(
    account: bytes,
    *,
    tokens: Sequence[str],
    currencies: Sequence[str],
    admin: str | None,
    proposer: str | None,
    issuers: Sequence[str],
) -> Charter:
    """Read the options; what is not named the account itself is. Raises `OptionRefused`, `ManifestRefused`."""
    wanted: dict[str, bytes | None] = {currency_of(each): None for each in currencies}
    for code, at in (_two(each, "--token EUR=0x...") for each in tokens):
        if currency_of(code) in wanted:
            raise OptionRefused(f"{code} is named twice")
        wanted[code] = account_of(at)
    if not wanted:
        raise OptionRefused("name a currency: --token EUR=0x..., or --currency EUR for a token made with the rest")
    vouching: dict[str, list[bytes]] = defaultdict(list)
    for country, at in (_two(each, "--issuer NL=0x...") for each in issuers):
        vouching[country_of(country)].append(account_of(at))
    return Charter(
        admin=account if admin is None else account_of(admin),
        proposer=account if proposer is None else account_of(proposer),
        issuers=vouching,
        tokens=wanted,
    )


def _two(text: str, form: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        raise OptionRefused(f"{text[:60]!r}: the form is {form}")
    return name, value


def _shown(found: Inspection) -> dict[str, object]:
    return {"holds": not found.wrong, "wrong": found.wrong, "also": found.also}


def _print(document: dict[str, object]) -> None:
    sys.stdout.write(json_module.dumps(document, indent=1) + "\n")


def _tell(manifest: Manifest, found: Inspection, *, written: Path | None = None) -> None:
    lines = [
        f"chain {manifest.chain_id}, all there in block {manifest.block}; administrator {manifest.admin}",
        f"  party registry  {manifest.registry}",
        f"  root anchor     {manifest.anchor}",
    ]
    for each in manifest.currencies:
        own = ", which the administrator mints" if each.is_token_made else ""
        lines += [
            f"  {each.currency} token       {each.token}{own}",
            f"  {each.currency} vault       {each.vault}",
            f"  {each.currency} book        {each.book}, confidential {each.confidential_book}",
        ]
    lines += [f"WRONG: {each}" for each in found.wrong] + [f"also: {each}" for each in found.also]
    if not found.wrong:
        lines.append("the contracts are our build, name each other as they should, and the roles are those of the file")
    if written is not None:
        lines.append(f"{written} is for everybody who settles there: WATTROAM_CHAIN_DEPLOYMENT={written}")
    sys.stdout.write("\n".join(lines) + "\n")
