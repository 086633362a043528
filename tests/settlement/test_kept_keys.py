"""Keys that somebody keeps for the settlement: chosen by settings, handed over while it runs, found nowhere."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from emobility.adapters.chain_keys.keystore import KeyRefused, Keystore, address_in, new_key, open_key
from emobility.adapters.chain_signing import LocalChainSigner
from emobility.adapters.memory import SeededRandomness
from emobility.domain.batch import contracts
from emobility.runtime.settings import Settings
from services.settlement.records import TransactionState
from services.settlement.wiring import kept_keys
from tests.adapters.chain_keys.web3signer_server import a_web3signer
from tests.cli.test_commands import wattroam
from tests.settlement.settling import open_settling
from tests.settlement.world import a_cdr, accepted, terms

PASSPHRASE: Final = "canary-passphrase-7f3a"
SECRETS: Final = {"internal_token": "i" * 40, "master_key": "ab" * 32, "environment": "development"}
CHEAP_N: Final = 2


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE)
    file.chmod(0o600)
    return file


def settings(**more: Any) -> Settings:
    return Settings.model_validate(SECRETS | more)


async def test_a_keystore_gives_its_first_key_and_those_that_take_over(tmp_path: Path, passphrase_file: Path) -> None:
    folder = tmp_path / "keys"
    paths = [new_key(folder, PASSPHRASE.encode(), randomness=SeededRandomness(1), scrypt_n=CHEAP_N)]
    async with AsyncExitStack() as stack:
        keys = await kept_keys(settings(chain_keystore=folder, chain_passphrase_file=passphrase_file), stack)
        paths.append(new_key(folder, PASSPHRASE.encode(), randomness=SeededRandomness(2), scrypt_n=CHEAP_N))

        assert keys is not None
        assert keys.first.address == address_in(paths[0])
        assert [each.address for each in await keys.successors()] == [address_in(paths[1])]


async def test_an_empty_keystore_is_refused(tmp_path: Path, passphrase_file: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(KeyRefused, match="holds no key"):
            await kept_keys(settings(chain_keystore=tmp_path / "keys", chain_passphrase_file=passphrase_file), stack)


async def test_a_web3signer_s_accounts_take_over_in_their_order() -> None:
    accounts = [LocalChainSigner(bytes([number]) * 32).address for number in (1, 2)]
    async with a_web3signer(b"\1" * 32, b"\2" * 32) as server, AsyncExitStack() as stack:
        named = [f"0x{each.hex()}" for each in accounts]
        keys = await kept_keys(settings(chain_signer_url=server.url, chain_signer_addresses=named), stack)

        assert keys is not None
        assert [keys.first.address, *[each.address for each in await keys.successors()]] == accounts


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"chain_signer_url": "http://signer.example:9000"}, "WATTROAM_CHAIN_SIGNER_URL"),
        ({"chain_signer_url": "https://signer.example", "chain_signer_addresses": []}, "_SIGNER_ADDRESSES"),
        ({"chain_signer_url": "https://signer.example", "chain_signer_addresses": ["0x1"]}, "40 hex digits"),
        ({"chain_keystore": "keys"}, "WATTROAM_CHAIN_PASSPHRASE_FILE"),
        ({"chain_keystore": "keys", "chain_passphrase_file": "f", "chain_passphrase_fd": 3}, "PASSPHRASE_FILE or _FD"),
        ({"chain_keystore": "keys", "chain_passphrase_fd": 3, "chain_mnemonic": "test"}, "one of them keeps the keys"),
        ({"chain_rpc_url": "http://a,http://b", "chain_rpc_quorum": 1}, "WATTROAM_CHAIN_RPC_QUORUM"),
        ({"chain_rpc_url": "http://a", "chain_rpc_quorum": 2}, "WATTROAM_CHAIN_RPC_QUORUM"),
        ({"chain_deployment": "d.json", "chain_rpc_url": "http://a"}, "WATTROAM_CHAIN_DEPLOYMENT"),
        ({"chain_deployment": "d.json", "chain_rpc_url": "http://a", "chain_mnemonic": "test"}, "or _SIGNER_URL"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, Any], variable: str) -> None:
    if "chain_signer_url" in given and "chain_signer_addresses" not in given:
        given = given | {"chain_signer_addresses": [f"0x{'1' * 40}"]}

    with pytest.raises(ValidationError) as refusal:
        settings(**given)

    assert variable in str(refusal.value)


async def test_a_rotation_needs_no_restart(tmp_path: Path) -> None:
    """A key that is laid beside the first takes over once the book lets it, while the same process goes on."""
    folder = tmp_path / "keys"
    keystore = Keystore(folder, PASSPHRASE.encode())
    first = new_key(folder, PASSPHRASE.encode(), randomness=SeededRandomness(1), scrypt_n=CHEAP_N)
    async with open_settling(proposer=open_key(first, PASSPHRASE.encode())) as here:

        async def successors() -> list[LocalChainSigner]:
            return list(await keystore.signers())[1:]

        here.successors = successors
        await here.sign(terms())
        await here.market.prepare(here.world.ports.units)
        follower, senders = here.follower(), []
        for number in range(3):
            if number == 1:
                second = address_in(
                    new_key(folder, PASSPHRASE.encode(), randomness=SeededRandomness(2), scrypt_n=CHEAP_N)
                )
            if number == 2:
                grant = contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, second)
                await here.chain.final(await here.chain.sent(here.market.contracts.book, grant))
            await here.world.take(accepted(a_cdr(f"s{number}")))
            await here.world.closing.close_now()
            await here.follow(follower)
            senders.append({each.account for each in await here.transactions()})

        assert {each.state for each in await here.transactions()} == {TransactionState.FINAL}
    assert senders == [{address_in(first)}, {address_in(first)}, {address_in(first), second}]


def test_keys_are_made_listed_and_handed_over_by_command(tmp_path: Path, passphrase_file: Path) -> None:
    folder = tmp_path / "keys"
    given = {"WATTROAM_CHAIN_KEYSTORE": str(folder), "WATTROAM_CHAIN_PASSPHRASE_FILE": str(passphrase_file)}

    made = wattroam("key", "new", **given)
    again = wattroam("key", "new", **given)
    rotated = wattroam("key", "rotate", **given)
    shown = wattroam("key", "show", **given)

    assert (made.returncode, again.returncode, rotated.returncode) == (0, 2, 0)
    assert "wattroam key rotate" in again.stderr
    accounts = [made.stdout.strip(), rotated.stdout.splitlines()[0]]
    assert [line.split()[0] for line in shown.stdout.splitlines()] == accounts
    assert f"grantRole(0x{contracts.PROPOSER_ROLE.hex()}, {accounts[1]})" in rotated.stdout
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    assert PASSPHRASE not in "".join(each.stdout + each.stderr for each in (made, again, rotated, shown))
