"""Keys in a folder, each in a file of its own, encrypted under a passphrase (Web3 Secret Storage, version 3, scrypt).

Files and passphrase are refused where others may read them. Keys take over from each other in the order of their files'
names, so a rotation is one more file: it is seen while the process runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from emobility.adapters.chain_signing import CURVE_ORDER, LocalChainSigner
from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import MalformedInput
from emobility.ports.clock import Randomness

VERSION: Final = 3
SCRYPT_N: Final = 2**18
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
SCRYPT_N_MAX: Final = 2**20
"""A file asks for this much work at most; with `SCRYPT_R`, 1 GiB."""
KEY_BYTES: Final = 32
FILE_BYTES_MAX: Final = 10_000
KEYS_MAX: Final = 16
PASSPHRASE_BYTES_MIN: Final = 12
PASSPHRASE_BYTES_MAX: Final = 4_096


class KeyRefused(MalformedInput):
    """A key file or a passphrase can't be used. The sentence names the file and never what is in it."""


class Keystore:
    """A folder of keys and the passphrase that opens them."""

    def __init__(self, folder: Path, passphrase: bytes) -> None:
        """Take both; nothing is read yet."""
        self._folder = folder
        self._passphrase = passphrase
        self._opened: dict[Path, LocalChainSigner] = {}

    def __repr__(self) -> str:
        """Tell where it is, and nothing else."""
        return f"Keystore({str(self._folder)!r})"

    async def signers(self) -> Sequence[LocalChainSigner]:
        """Return all keys in order, opening what is new. Raises `KeyRefused`."""
        paths = key_files(self._folder)
        for path in paths:
            if path not in self._opened:
                self._opened[path] = await asyncio.to_thread(open_key, path, self._passphrase)
        return [self._opened[path] for path in paths]


def key_files(folder: Path) -> list[Path]:
    """Return the key files in the order in which they take over. Raises `KeyRefused`."""
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if len(paths) > KEYS_MAX:
        raise KeyRefused(f"{folder} holds more than {KEYS_MAX} keys")
    return paths


def new_key(folder: Path, passphrase: bytes, *, randomness: Randomness, scrypt_n: int = SCRYPT_N) -> Path:
    """Make a key and return its file, which takes over from those that are there.

    Args:
        folder: Made when missing, for its owner alone.
        passphrase: Opens it; `PASSPHRASE_BYTES_MIN` at least.
        randomness: Draws it.
        scrypt_n: How much work a guess at the passphrase takes.

    Raises:
        KeyRefused: the passphrase is too short, or the folder full.
    """
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise KeyRefused(f"a passphrase has {PASSPHRASE_BYTES_MIN} bytes at least")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = key_files(folder)
    if len(known) == KEYS_MAX:
        raise KeyRefused(f"{folder} holds {KEYS_MAX} keys; take out those that have nothing on its way")
    secret = (int.from_bytes(randomness.token_bytes(48), "big") % (CURVE_ORDER - 1) + 1).to_bytes(KEY_BYTES, "big")
    address = LocalChainSigner(secret).address
    last = int(known[-1].name.partition("-")[0]) if known and known[-1].name[:4].isdigit() else len(known)
    path = folder / f"{last + 1:04d}-{address.hex()}.json"
    sealed = _sealed(secret, passphrase, address, randomness, scrypt_n)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(json.dumps(sealed, indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    return path


def address_in(path: Path) -> bytes:
    """Return whose key a file says it holds, without opening it. Raises `KeyRefused`."""
    return bytes(_field(path, _read(path), lambda found: bytes.fromhex(found["address"].removeprefix("0x"))))


def open_key(path: Path, passphrase: bytes) -> LocalChainSigner:
    """Open a key. Raises `KeyRefused`."""
    found = _read(path)
    crypto = _field(path, found, lambda each: dict(each["crypto"]))
    if found.get("version") != VERSION or crypto.get("kdf") != "scrypt" or crypto.get("cipher") != "aes-128-ctr":
        raise KeyRefused(f"{path}: only version {VERSION} with scrypt and aes-128-ctr is read")
    params = _field(path, crypto, lambda each: each["kdfparams"])
    n, r, p, length = _field(path, params, lambda each: tuple(int(each[name]) for name in ("n", "r", "p", "dklen")))
    if not (1 < n <= SCRYPT_N_MAX and n & (n - 1) == 0 and r == SCRYPT_R and 1 <= p <= 4 and length == 32):
        raise KeyRefused(f"{path}: its scrypt parameters are out of bounds")
    salt, iv, ciphertext, mac = (
        _field(path, crypto, lambda each: bytes.fromhex(each["kdfparams"]["salt"])),
        _field(path, crypto, lambda each: bytes.fromhex(each["cipherparams"]["iv"])),
        _field(path, crypto, lambda each: bytes.fromhex(each["ciphertext"])),
        _field(path, crypto, lambda each: bytes.fromhex(each["mac"])),
    )
    if len(ciphertext) != KEY_BYTES or len(iv) != algorithms.AES.block_size // 8:
        raise KeyRefused(f"{path} holds no key of {KEY_BYTES} bytes")
    derived = _derived(passphrase, salt, n=n, p=p)
    if not hmac.compare_digest(keccak256(derived[16:] + ciphertext), mac):
        raise KeyRefused(f"{path}: the passphrase does not open it")
    try:
        signer = LocalChainSigner(_crypted(derived, iv, ciphertext))
    except ValueError:
        raise KeyRefused(f"{path} holds no key of the curve") from None
    if signer.address != address_in(path):
        raise KeyRefused(f"{path} holds another account's key than it says")
    return signer


def read_passphrase(*, file: Path | None = None, descriptor: int | None = None) -> bytes:
    """Return the first line of a file that only its owner may read, or of an open descriptor. Raises `KeyRefused`."""
    if file is not None:
        _refuse_open_to_others(file)
        found = _read_bytes(file, PASSPHRASE_BYTES_MAX)
    else:
        assert descriptor is not None
        try:
            with os.fdopen(descriptor, "rb") as opened:
                found = opened.read(PASSPHRASE_BYTES_MAX)
        except OSError as error:
            raise KeyRefused(f"file descriptor {descriptor}: {error.strerror}") from None
    line = found.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise KeyRefused("the passphrase is empty")
    return line


def _sealed(secret: bytes, passphrase: bytes, address: bytes, randomness: Randomness, n: int) -> dict[str, Any]:
    salt, iv = randomness.token_bytes(32), randomness.token_bytes(16)
    derived = _derived(passphrase, salt, n=n, p=SCRYPT_P)
    ciphertext = _crypted(derived, iv, secret)
    return {
        "version": VERSION,
        "id": randomness.uuid(),
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": n, "r": SCRYPT_R, "p": SCRYPT_P, "salt": salt.hex()},
            "mac": keccak256(derived[16:] + ciphertext).hex(),
        },
    }


def _derived(passphrase: bytes, salt: bytes, *, n: int, p: int) -> bytes:
    memory = 128 * SCRYPT_R * (n + p + 2)
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=SCRYPT_R, p=p, dklen=32, maxmem=memory)


def _crypted(derived: bytes, iv: bytes, content: bytes) -> bytes:
    """Encrypt or decrypt: in counter mode the two are the same."""
    return Cipher(algorithms.AES(derived[:16]), modes.CTR(iv)).encryptor().update(content)


def _read(path: Path) -> dict[str, Any]:
    _refuse_open_to_others(path)
    try:
        found = json.loads(_read_bytes(path, FILE_BYTES_MAX))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise KeyRefused(f"{path} is no key file")
    return found


def _read_bytes(path: Path, at_most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(at_most)
    except OSError as error:
        raise KeyRefused(f"{path}: {error.strerror}") from None


def _refuse_open_to_others(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyRefused(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise KeyRefused(f"{path}: only its owner may have access (chmod 600)")


def _field(path: Path, found: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise KeyRefused(f"{path} is no key file") from None
