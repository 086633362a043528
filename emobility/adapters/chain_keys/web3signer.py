"""Keys in a Web3Signer (`eth1` API): it signs, and no key comes here.

`POST /api/v1/eth1/sign/{identifier}` takes `{"data": "0x…"}`, hashes it with Keccak-256 and answers the signature as
hex text: r, s, v. So it signs transactions, whose raw form is what is hashed, and no digests that were hashed here.
Source: Web3Signer's `openapi-specs/eth1/web3signer.yaml`. An identifier is a public key, 64 bytes without its prefix;
`GET /api/v1/eth1/publicKeys` lists them, and an account is the end of a public key's hash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from emobility.adapters.chain_signing import compact_signature
from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.ports.chain_signer import SignerUnavailable, UnsignedTransaction
from emobility.ports.http import HttpClient, HttpResponse
from emobility.protocols.eip1559 import SignedTransaction, raw_transaction, signing_bytes

PUBLIC_KEY_BYTES: Final = 64
SIGNATURE_BYTES: Final = 65
TIMEOUT_S: Final = 10.0
OK: Final = 200
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})+")


class Web3Signer:
    """A Web3Signer and the accounts in it that are ours."""

    def __init__(self, http: HttpClient, url: str, addresses: Sequence[bytes]) -> None:
        """Take a client that may call nothing but this service.

        Args:
            http: It; its configured origin is `url`'s.
            url: Where the service is.
            addresses: Our accounts, in the order in which they take over.
        """
        self._http = http
        self._url = url.rstrip("/")
        self._addresses = tuple(addresses)
        self._public_keys: dict[bytes, str] = {}

    def signers(self) -> Sequence[Web3SignerAccount]:
        """Return our accounts in order."""
        return [Web3SignerAccount(self, address) for address in self._addresses]

    async def signature(self, address: bytes, data: bytes) -> bytes:
        """Return the compact signature of an account over the Keccak-256 hash of `data`. Raises `SignerUnavailable`."""
        identifier = await self._identifier_of(address)
        body = json.dumps({"data": "0x" + data.hex()}).encode()
        answer = await self._ask("POST", f"/api/v1/eth1/sign/{identifier}", body)
        found = _bytes(answer.body.decode("latin-1").strip())
        if found is None or len(found) != SIGNATURE_BYTES:
            raise SignerUnavailable("the signer answers something else than a signature")
        r, s = int.from_bytes(found[:32], "big"), int.from_bytes(found[32:64], "big")
        compact = compact_signature(keccak256(data), r, s, address)
        if compact is None:
            raise SignerUnavailable(f"the signer answers a signature that is not that of 0x{address.hex()}")
        return compact

    async def _identifier_of(self, address: bytes) -> str:
        if address not in self._public_keys:
            answer = await self._ask("GET", "/api/v1/eth1/publicKeys")
            self._public_keys = {keccak256(key)[12:]: "0x" + key.hex() for key in _public_keys(answer.body)}
        if address not in self._public_keys:
            raise SignerUnavailable(f"the signer has no key of 0x{address.hex()}")
        return self._public_keys[address]

    async def _ask(self, method: str, path: str, body: bytes = b"") -> HttpResponse:
        headers = {"content-type": "application/json"} if body else {}
        try:
            answer = await self._http.request(method, self._url + path, headers=headers, body=body, timeout_s=TIMEOUT_S)
        except (Unavailable, RuleBroken) as error:
            raise SignerUnavailable(f"the signer does not answer: {error}") from None
        if answer.status != OK:
            raise SignerUnavailable(f"the signer answers {answer.status}")
        return answer


class Web3SignerAccount:
    """`TransactionSigner` of one account."""

    def __init__(self, service: Web3Signer, address: bytes) -> None:
        self._service = service
        self._address = address

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        return self._address

    async def sign_transaction(self, transaction: UnsignedTransaction) -> bytes:
        """Return the signed transaction, raw. Raises `SignerUnavailable`."""
        signature = await self._service.signature(self._address, signing_bytes(transaction))
        return raw_transaction(SignedTransaction(transaction=transaction, signature=signature))


def _public_keys(body: bytes) -> list[bytes]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    keys = [_bytes(each) for each in found] if isinstance(found, list) else [None]
    if not all(key is not None and len(key) == PUBLIC_KEY_BYTES for key in keys):
        raise SignerUnavailable("the signer answers something else than public keys")
    return [key for key in keys if key is not None]


def _bytes(text: Any) -> bytes | None:
    return bytes.fromhex(text[2:]) if isinstance(text, str) and _HEX.fullmatch(text) else None
