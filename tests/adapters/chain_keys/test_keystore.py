"""Encrypted keys: other people's programs read ours and we theirs, and none gets out."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Final

import pytest
from eth_account import Account

from emobility.adapters.chain_keys.keystore import (
    KEYS_MAX,
    KeyRefused,
    Keystore,
    address_in,
    key_files,
    new_key,
    open_key,
    read_passphrase,
)
from emobility.adapters.memory import SeededRandomness

PASSPHRASE: Final = b"correct horse battery"
CHEAP_N: Final = 2
"""Work of a guess, for tests."""


def a_key(folder: Path, seed: int = 1) -> Path:
    return new_key(folder, PASSPHRASE, randomness=SeededRandomness(seed), scrypt_n=CHEAP_N)


def test_another_program_opens_our_file(tmp_path: Path) -> None:
    path = a_key(tmp_path)

    secret = Account.decrypt(path.read_text(), PASSPHRASE.decode())

    assert Account.from_key(secret).address.lower() == f"0x{open_key(path, PASSPHRASE).address.hex()}"


def test_we_open_another_program_s_file(tmp_path: Path) -> None:
    account = Account.create()
    path = tmp_path / "0001.json"
    path.write_text(json.dumps(Account.encrypt(account.key, PASSPHRASE.decode(), kdf="scrypt", iterations=2**12)))
    path.chmod(0o600)

    assert f"0x{open_key(path, PASSPHRASE).address.hex()}" == account.address.lower()


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="the passphrase does not open it"):
        open_key(a_key(tmp_path), b"another passphrase")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = a_key(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600

    path.chmod(mode)

    with pytest.raises(KeyRefused, match="only its owner"):
        open_key(path, PASSPHRASE)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"crypto": None},
        {"address": "00" * 20},
        {"address": 1},
        {"crypto.kdf": "pbkdf2"},
        {"crypto.cipher": "aes-256-cbc"},
        {"crypto.ciphertext": "zz"},
        {"crypto.ciphertext": "00" * 31},
        {"crypto.cipherparams": {}},
        {"crypto.kdfparams": {"n": 2**30, "r": 8, "p": 1, "dklen": 32, "salt": "00"}},
        {"crypto.kdfparams": {"n": 3, "r": 8, "p": 1, "dklen": 32, "salt": "00"}},
    ],
)
def test_a_file_that_is_no_key_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    path = a_key(tmp_path)
    found = json.loads(path.read_text())
    for name, value in change.items():
        *parents, last = name.split(".")
        (found[parents[0]] if parents else found)[last] = value
    path.write_text(json.dumps(found))

    with pytest.raises(KeyRefused) as refusal:
        open_key(path, PASSPHRASE)

    assert str(path) in str(refusal.value)


async def test_a_key_that_is_added_takes_over_while_the_folder_is_in_use(tmp_path: Path) -> None:
    a_key(tmp_path)
    keystore = Keystore(tmp_path, PASSPHRASE)
    before = await keystore.signers()

    path = a_key(tmp_path, 2)
    after = await keystore.signers()

    assert [each.address for each in after] == [before[0].address, address_in(path)]
    assert [each.name[:4] for each in key_files(tmp_path)] == ["0001", "0002"]


def test_a_folder_holds_so_many_keys_and_no_more(tmp_path: Path) -> None:
    for seed in range(KEYS_MAX):
        a_key(tmp_path, seed)

    with pytest.raises(KeyRefused, match="holds 16 keys"):
        a_key(tmp_path, KEYS_MAX)


def test_a_short_passphrase_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="12 bytes"):
        new_key(tmp_path, b"short", randomness=SeededRandomness(1))


def test_a_passphrase_comes_from_a_file_of_its_owner_or_an_open_descriptor(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE + b"\n")
    file.chmod(0o600)
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE + b"\n")
    os.close(writing)

    assert read_passphrase(file=file) == read_passphrase(descriptor=reading) == PASSPHRASE
    file.chmod(0o644)
    with pytest.raises(KeyRefused, match="only its owner"):
        read_passphrase(file=file)


def test_a_key_shows_and_writes_itself_nowhere(tmp_path: Path) -> None:
    signer = open_key(a_key(tmp_path), PASSPHRASE)
    secret = bytes(Account.decrypt((tmp_path / key_files(tmp_path)[0].name).read_text(), PASSPHRASE.decode())).hex()

    shown = repr(signer) + str(signer) + repr(Keystore(tmp_path, PASSPHRASE))

    assert secret not in shown
    assert PASSPHRASE.decode() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    with pytest.raises(TypeError):
        vars(signer)
