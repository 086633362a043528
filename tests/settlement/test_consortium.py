"""A consortium's contracts are made by one command on somebody else's chain, and held against our build by another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.ports.chain import ChainReader
from services.settlement.chain_command import charter_of
from services.settlement.founding import Founding, OtherFounding, steps_of
from services.settlement.inspecting import Inspection, built_code, immutables, inspect
from services.settlement.manifest import (
    Manifest,
    ManifestRefused,
    account_of,
    bytes_of,
    checksummed,
    hex_of,
    read_manifest,
    write_manifest,
)
from tests.settlement.consortium import STRANGER, Consortium, a_consortium, command

pytestmark = pytest.mark.chain


class Cut(BaseException):
    """The command ended here."""


class Saying:
    """A chain on which a contract names another registry, as one would that was made with its words in other places."""

    def __init__(self, chain: ChainReader, contract: bytes, registry: bytes) -> None:
        self._chain = chain
        self._contract = contract
        self._registry = registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def call(self, to: bytes, calldata: bytes, *, at_block: int | None = None) -> bytes:
        if to == self._contract and calldata == contracts.REGISTRY.call():
            return self._registry.rjust(32, b"\0")
        return await self._chain.call(to, calldata, at_block=at_block)


@pytest.fixture
async def theirs(tmp_path: Path) -> AsyncIterator[Consortium]:
    async with a_consortium(tmp_path) as found:
        yield found


async def check(theirs: Consortium, *, exits: int) -> dict[str, Any]:
    arguments = ("chain", "check", "--rpc", theirs.rpc_url, "--deployment", str(theirs.file), "--json")
    return dict(json.loads(await asyncio.to_thread(command, *arguments, exits=exits)))


async def test_one_command_makes_it_all_hands_it_over_and_another_finds_what_was_changed(theirs: Consortium) -> None:
    made = await asyncio.to_thread(theirs.deploy)

    manifest, deployer = theirs.manifest, theirs.keys["deployer"].address
    assert made == {"deployment": json.loads(msgspec.json.encode(manifest)), "holds": True, "wrong": [], "also": []}
    assert manifest.currencies[0].token == hex_of(theirs.token)
    for each in (manifest.registry, manifest.currencies[0].vault, manifest.currencies[0].book):
        asked = contracts.HAS_ROLE.call(contracts.ADMIN_ROLE, deployer)
        assert contracts.HAS_ROLE.answer(await theirs.world.chain.call(bytes_of(each), asked)) == (False,)

    stranger, euro = theirs.world.account(STRANGER).address, manifest.currencies[0]
    others = {
        "genesis_hash": hex_of(bytes(32)),
        "first_nonce": manifest.first_nonce + 1,
        "chain_id": manifest.chain_id + 1,
        "proposer": hex_of(stranger),
        "code_hash": hex_of(bytes(32)),
        "first_block": manifest.block,
        "currencies": (msgspec.structs.replace(euro, disputes=euro.book),),
    }
    for name, value in others.items():
        found = await inspect(theirs.world.chain, msgspec.structs.replace(manifest, **{name: value}))
        assert found.wrong, name

    said = (await inspect(Saying(theirs.world.chain, bytes_of(euro.vault), bytes_of(euro.book)), manifest)).wrong
    assert said == [f"CollateralVault EUR at {euro.vault} says of its registry: {euro.book}, not {manifest.registry}"]

    await theirs.grant(bytes_of(euro.book), contracts.PROPOSER_ROLE, stranger)
    assert (await check(theirs, exits=0))["also"] == [
        f"{hex_of(stranger)} holds PROPOSER_ROLE of SettlementBook EUR beyond the file"
    ]
    await theirs.grant(bytes_of(euro.vault), contracts.BOOK_ROLE, stranger)
    assert (await check(theirs, exits=1))["wrong"] == [
        f"{hex_of(stranger)} holds BOOK_ROLE of CollateralVault EUR beyond the file"
    ]


async def test_what_was_cut_goes_on_where_it_was(theirs: Consortium) -> None:
    """Cut before each wave and within them, by another process each time, it makes each contract once."""
    signer, told = theirs.keys["deployer"], list[str]()
    charter = charter_of(signer.address, tokens=(), currencies=("EUR",), admin=None, proposer=None, issuers=())
    begun: Manifest | None = None
    made = None
    while made is None:
        cut_after = len(told) + 7

        def progress(_done: int, _of: int, title: str, last: int = cut_after) -> None:
            told.append(title)
            if len(told) == last:
                raise Cut

        founding = Founding(theirs.world.chain, signer, SystemTimer(), progress)
        begun = await founding.planned(charter, begun)
        try:
            made = await founding.found(begun)
        except Cut:
            continue

    founding = Founding(theirs.world.chain, signer, SystemTimer(), lambda *_: None)
    assert await founding.found(made) == made
    assert await inspect(theirs.world.chain, made) == Inspection()
    sent = await theirs.world.chain.nonce(signer.address, with_waiting=True) - made.first_nonce
    assert sent == len(steps_of(made)) < len(told)

    # An account that sends something else meanwhile is told.
    plan = await founding.planned(charter, None)
    await theirs.send(signer, theirs.token, contracts.APPROVE.call(theirs.token, 1))

    with pytest.raises(OtherFounding, match="something else meanwhile"):
        await founding.found(plan)
    with pytest.raises(OtherFounding, match="other options"):
        await founding.planned(charter, msgspec.structs.replace(plan, proposer=hex_of(theirs.token)))


def test_code_differs_only_where_immutables_stand() -> None:
    built = built_code("RootAnchor")
    place = built.index(b"\x7f" + bytes(32)) + 1
    word = b"\0" * 12 + b"\xab" * 20
    given = built[:place] + word + built[place + 32 :]
    worse = given[: place + 40] + bytes([given[place + 40] ^ 1]) + given[place + 41 :]

    assert immutables(given, built) == [word]
    assert immutables(built, built) == []
    assert [immutables(each, built) for each in (worse, given[1:], given[:-1], b"")] == [None] * 4


def test_an_address_with_a_wrong_digit_is_refused_by_its_capitals() -> None:
    right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55, test cases

    assert f"0x{checksummed(account_of(right).hex())}" == right
    for wrong in (right.replace("5aA", "5aa"), right[:-1], "5a" * 20, f"0x{'0' * 40}"):
        with pytest.raises(ManifestRefused):
            account_of(wrong)


def test_a_deployment_that_was_cut_short_is_not_settled_in(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(ManifestRefused, match=r"no.json is no deployment"):
        read_manifest(tmp_path / "no.json")

    address, hash_ = f"0x{'1' * 40}", f"0x{'2' * 64}"
    shared = dict.fromkeys(("registry", "passport", "evidence", "arbiter", "anchor", "deployer", "admin"), address)
    euro = dict.fromkeys(("token", "vault", "book", "confidential_book", "disputes", "confidential_disputes"), address)
    cut = msgspec.convert(
        shared
        | {"chain_id": 1, "genesis_hash": hash_, "first_nonce": 0, "first_block": 0, "proposer": address}
        | {"issuers": {}, "currencies": [euro | {"currency": "EUR", "is_token_made": False}]},
        Manifest,
    )
    write_manifest(tmp_path / "cut.json", cut)

    assert read_manifest(tmp_path / "cut.json") == cut
    with pytest.raises(ManifestRefused, match="cut short"):
        _ = cut.deployment
