"""A consortium's contracts are made by one command on somebody else's chain, and held against our build by another."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emobility.adapters.memory import LoopTimer
from emobility.adapters.system import SystemTimer
from emobility.domain.batch import contracts
from emobility.ports.chain import ChainReader, ChainTransaction, TransactionNotTaken
from services.embedded.chain_command import charter_of, run_deposit
from services.settlement.deployment import WITHDRAWAL_DELAY_S, code_hash_of
from services.settlement.founding import Founding, OtherFounding, StepCannotBe, steps_of
from services.settlement.inspecting import (
    DeploymentWrong,
    Inspection,
    built_code,
    immutables,
    inspect,
)
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
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import FakeWorld
from tests.settlement.consortium import STRANGER, Consortium, a_consortium, command

pytestmark = pytest.mark.chain


class Cut(BaseException):
    """The command ended here."""


class Saying:
    """A chain that answers one question otherwise."""

    def __init__(self, chain: ChainReader, **answers: Any) -> None:
        self._chain = chain
        self.__dict__ |= answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)


@pytest.fixture
async def theirs(tmp_path: Path) -> AsyncIterator[Consortium]:
    async with a_consortium(tmp_path) as found:
        yield found


async def check(theirs: Consortium, *, exits: int) -> dict[str, Any]:
    arguments = ("chain", "check", "--rpc", theirs.rpc_url, "--deployment", str(theirs.file), "--json")
    return dict(json.loads(await asyncio.to_thread(command, *arguments, exits=exits)))


async def test_one_command_makes_it_all_hands_it_over_and_another_finds_what_was_changed(
    theirs: Consortium, tmp_path: Path
) -> None:
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

    for contract, pairs, names in (
        (euro.vault, ((manifest.registry, euro.token), (WITHDRAWAL_DELAY_S, 1)), "delay registry token unitsPerE4"),
        (
            euro.disputes,
            ((manifest.evidence, manifest.arbiter), (DEMAND_BOND_E4, QUARREL_BOND_E4)),
            "arbiter demandBondE4 evidence quarrelBondE4",
        ),
        (
            euro.confidential_disputes,
            ((euro.confidential_book, euro.vault), (manifest.registry, manifest.arbiter)),
            "arbiter book registry vault",
        ),
    ):
        swapped = {word(one): word(other) for pair in pairs for one, other in (pair, pair[::-1])}
        wrong = await found_of_words(theirs, contract, swapped)
        assert sorted(re.findall(r"says of its (\w+):", " ".join(wrong))) == names.split()
    (told,) = await found_of_words(theirs, euro.disputes, {word(manifest.arbiter): bytes(32)})
    assert told.endswith(f"was made with 0x{'0' * 64}, which it should not be given")

    async def otherwise_made(transaction_hash: bytes) -> ChainTransaction | None:
        sent = await theirs.world.chain.transaction(transaction_hash)
        return sent and replace(sent, calldata=b"\x60\1" + sent.calldata)

    said = (await inspect(Saying(theirs.world.chain, transaction=otherwise_made), manifest)).wrong
    assert len(said) == 7
    assert all("was not made of our build" in each for each in said)

    thief = msgspec.structs.replace(manifest, currencies=(msgspec.structs.replace(euro, vault=hex_of(theirs.token)),))
    code_hash = hex_of(await code_hash_of(theirs.world.chain, thief.deployment))
    write_manifest(tmp_path / "thief.json", msgspec.structs.replace(thief, code_hash=code_hash))
    with pytest.raises(DeploymentWrong, match="where its deployer's transactions put"):
        await asyncio.to_thread(
            run_deposit,
            rpc_url=theirs.rpc_url,
            final_blocks=None,
            keystore=theirs.folder / "holder",
            passphrase_file=theirs.passphrase_file,
            passphrase_fd=None,
            deployment=tmp_path / "thief.json",
            party="NL-ZON",
            currency="EUR",
            up_to="1.00",
        )

    await theirs.grant(bytes_of(euro.book), contracts.PROPOSER_ROLE, stranger)
    assert (await check(theirs, exits=0))["also"] == [
        f"{hex_of(stranger)} holds PROPOSER_ROLE of SettlementBook EUR beyond the file"
    ]
    await theirs.grant(bytes_of(euro.vault), contracts.BOOK_ROLE, stranger)
    assert (await check(theirs, exits=1))["wrong"] == [
        f"{hex_of(stranger)} holds BOOK_ROLE of CollateralVault EUR beyond the file"
    ]


def word(value: int | str) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else bytes_of(value).rjust(32, b"\0")


async def found_of_words(theirs: Consortium, contract: str, words: dict[bytes, bytes]) -> list[str]:
    """Have a contract be as if it had been given other words when it was made, for one look."""
    server, pushed = theirs.world.server, re.compile(b"|".join(re.escape(b"\x7f" + each) for each in words))
    code = await theirs.world.chain.code(bytes_of(contract))
    other = pushed.sub(lambda found: b"\x7f" + words[found[0][1:]], code)
    await server._call("anvil_setCode", contract, hex_of(other))
    found = await inspect(theirs.world.chain, theirs.manifest)
    await server._call("anvil_setCode", contract, hex_of(code))
    return found.wrong


async def test_what_the_deployer_did_before_it_left_is_seen(theirs: Consortium) -> None:
    signer, stranger, chain = theirs.keys["deployer"], theirs.world.account(STRANGER), theirs.world.chain
    admin = hex_of(theirs.admin.address)
    charter = charter_of(signer.address, tokens=(), currencies=("EUR",), admin=admin, proposer=None, issuers=())

    def progress(_done: int, _of: int, title: str) -> None:
        if title.startswith("leaving "):
            raise Cut

    founding = Founding(chain, signer, SystemTimer(), progress)
    plan = await founding.planned(charter, None)
    with pytest.raises(Cut):
        await founding.found(plan)
    token, vault = (bytes_of(each) for each in (plan.currencies[0].token, plan.currencies[0].vault))
    await theirs.world.sent(token, contracts.MINT.call(stranger.address, 500), by=signer)
    await theirs.world.sent(token, contracts.MINT.call(stranger.address, 600), by=theirs.admin)
    await theirs.send(signer, vault, contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, stranger.address))
    await theirs.send(stranger, vault, contracts.RENOUNCE_ROLE.call(contracts.BOOK_ROLE, stranger.address))
    for step in steps_of(plan):
        if step.title.startswith("leaving "):
            assert step.to is not None
            last = await theirs.world.sent(step.to, step.calldata, by=signer)
    await theirs.world.final(last)
    plan = msgspec.structs.replace(plan, block=(await chain.finalized()).number, code_hash=hex_of(bytes(32)))
    plan = msgspec.structs.replace(plan, code_hash=hex_of(await code_hash_of(chain, plan.deployment)))

    assert await inspect(chain, plan) == Inspection(
        wrong=[f"{plan.deployer} made 500 units of EmbeddedCurrency EUR for itself or others"],
        also=[f"{hex_of(stranger.address)} held BOOK_ROLE of CollateralVault EUR for a while, beyond the file"],
    )


@pytest.mark.parametrize(
    ("reason", "ends"),
    [
        ("already known", Cut),
        ("Nonce too low", Cut),
        ("replacement transaction underpriced", StepCannotBe),
        ("could not replace existing tx", StepCannotBe),
        ("insufficient funds for gas * price + value", StepCannotBe),
        ("unknown account", StepCannotBe),
    ],
)
async def test_only_what_is_known_already_is_waited_for(reason: str, ends: type[BaseException]) -> None:
    world, offers = FakeWorld(), list[bytes]()

    async def send_raw(raw: bytes) -> bytes:
        offers.append(raw)
        raise TransactionNotTaken(reason)

    async def estimate_gas(*_: object) -> int:
        return 1

    class Waiting(LoopTimer):
        async def sleep(self, seconds: float) -> None:
            raise Cut(seconds)

    chain: Any = Saying(world.chain, send_raw=send_raw, estimate_gas=estimate_gas)
    founding = Founding(chain, world.account(1), Waiting(), lambda *_: None)
    charter = charter_of(world.payer.address, tokens=(), currencies=("EUR",), admin=None, proposer=None, issuers=())
    plan = await founding.planned(charter, None)

    with pytest.raises(ends) as ended:
        await founding.found(plan)

    assert (len(offers) > 10) is ("replace" in reason)
    assert (reason in str(ended.value)) is (ends is StepCannotBe and "replace" not in reason)


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
    registry = word(f"0x{'ab' * 20}")
    given = built[:place] + registry + built[place + 32 :]
    worse = given[: place + 40] + bytes([given[place + 40] ^ 1]) + given[place + 41 :]

    assert immutables(given, built)[0] == registry  # type: ignore[index]
    assert set(immutables(built, built) or ()) == {bytes(32)}
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
