"""A Web3Signer that signs for us, and what it may answer instead."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from emobility.adapters.chain_keys.web3signer import Web3Signer
from emobility.adapters.chain_signing import LocalChainSigner
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import SignerUnavailable, UnsignedTransaction
from emobility.ports.http import EgressRefused
from tests.adapters.chain_keys.web3signer_server import Web3SignerServer, a_web3signer
from tests.gateway.certificate_makers import CA, key_pem, name, new_key, pem

SECRETS: Final = tuple(bytes([number]) * 32 for number in (1, 2))
ACCOUNTS: Final = tuple(LocalChainSigner(each) for each in SECRETS)
TRANSACTION: Final = UnsignedTransaction(
    chain_id=1337,
    nonce=7,
    gas_limit=21_000,
    fees=Fees(max_fee_per_gas=3, max_priority_fee_per_gas=1),
    to=b"\4" * 20,
    calldata=b"call",
)


def a_client(server: Web3SignerServer, trust: ssl.SSLContext | None = None) -> GuardedHttpClient:
    return GuardedHttpClient(configured_origins=(server.url,), ssl_context=trust)


async def test_it_signs_byte_for_byte_what_the_key_itself_would_sign() -> None:
    async with a_web3signer(*SECRETS) as server, a_client(server) as http:
        signers = Web3Signer(http, server.url, [each.address for each in ACCOUNTS]).signers()

        signed = [await each.sign_transaction(TRANSACTION) for each in signers]

    assert signed == [await each.sign_transaction(TRANSACTION) for each in ACCOUNTS]
    assert [each.partition(" ")[0] for each in server.asked] == ["GET", "POST", "POST"]


@pytest.mark.parametrize(
    ("path", "status", "text", "reason"),
    [
        ("/api/v1/eth1/sign", 500, "Internal Web3Signer server error", "answers 500"),
        ("/api/v1/eth1/sign", 404, "Public Key not found", "answers 404"),
        ("/api/v1/eth1/sign", 200, "", "something else than a signature"),
        ("/api/v1/eth1/sign", 200, "0x" + "01" * 64, "something else than a signature"),
        ("/api/v1/eth1/sign", 200, "0x" + "01" * 65, "not that of"),
        ("/api/v1/eth1/sign", 200, "0x" + "ff" * 65, "not that of"),
        ("/api/v1/eth1/publicKeys", 200, "[]", "has no key of"),
        ("/api/v1/eth1/publicKeys", 200, "{}", "something else than public keys"),
        ("/api/v1/eth1/publicKeys", 200, '["0x01"]', "something else than public keys"),
        ("/api/v1/eth1/publicKeys", 400, "Bad request format", "answers 400"),
    ],
)
async def test_what_is_no_signature_of_the_account_is_refused(path: str, status: int, text: str, reason: str) -> None:
    async with a_web3signer(*SECRETS) as server, a_client(server) as http:
        server.answers[path] = status, text
        (signer,) = Web3Signer(http, server.url, [ACCOUNTS[0].address]).signers()

        with pytest.raises(SignerUnavailable, match=reason):
            await signer.sign_transaction(TRANSACTION)


async def test_a_signer_that_is_not_there_is_unavailable() -> None:
    async with a_web3signer(*SECRETS) as server:
        pass
    async with a_client(server) as http:
        (signer,) = Web3Signer(http, server.url, [ACCOUNTS[0].address]).signers()

        with pytest.raises(SignerUnavailable, match="does not answer"):
            await signer.sign_transaction(TRANSACTION)


async def test_its_client_calls_nothing_but_the_signer() -> None:
    async with a_web3signer(*SECRETS) as server, a_client(server) as http:
        for url in ("http://127.0.0.1:1/", "https://example.com/"):
            with pytest.raises(EgressRefused):
                await http.request("GET", url, headers={})


async def test_over_tls_its_certificate_must_be_of_the_authority_that_was_named(tmp_path: Path) -> None:
    authority, other, key = CA("ours"), CA("another"), new_key()
    leaf = authority.leaf(name("localhost"), key, names=[x509.DNSName("localhost")], is_server=True)
    (tmp_path / "leaf.pem").write_bytes(pem(leaf))
    (tmp_path / "leaf.key").write_bytes(key_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    trusts = [ssl.create_default_context(cadata=pem(each.certificate).decode()) for each in (authority, other)]
    async with a_web3signer(*SECRETS, tls=context) as server:
        async with a_client(server, trusts[0]) as http:
            (signer,) = Web3Signer(http, server.url, [ACCOUNTS[0].address]).signers()
            assert await signer.sign_transaction(TRANSACTION) == await ACCOUNTS[0].sign_transaction(TRANSACTION)
        async with a_client(server, trusts[1]) as http:
            (stranger,) = Web3Signer(http, server.url, [ACCOUNTS[0].address]).signers()
            with pytest.raises(SignerUnavailable):
                await stranger.sign_transaction(TRANSACTION)
