"""A key management service that answers as real ones do: DER, s in either half, no recovery bit."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from emobility.adapters.chain_keys.kms import kms_signer
from emobility.adapters.chain_signing import CURVE_ORDER, LocalChainSigner, recovered_address
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import SignerUnavailable, UnsignedTransaction
from emobility.protocols.eip1559 import read_raw_transaction, signing_hash

SECRET: Final = 7
DIGEST: Final = keccak256(b"anything")


class FakeKMS:
    """Signs with a key of its own; `is_high`: its s is in the upper half, as half of a real service's are."""

    def __init__(self, curve: ec.EllipticCurve | None = None, *, is_high: bool = True) -> None:
        self._key = ec.derive_private_key(SECRET, curve or ec.SECP256K1())
        self._is_high = is_high

    async def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    async def sign(self, digest: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
        high = max(s, CURVE_ORDER - s)
        return encode_dss_signature(r, high if self._is_high else CURVE_ORDER - high)


@pytest.mark.parametrize("is_high", [True, False])
@pytest.mark.parametrize("number", range(8))
async def test_an_answer_with_either_s_becomes_the_one_form_that_chains_take(number: int, *, is_high: bool) -> None:
    signer = await kms_signer(FakeKMS(is_high=is_high))
    digest = keccak256(bytes([number]))

    signature = await signer.sign_digest(digest)

    assert recovered_address(digest, signature) == signer.address
    assert signer.address == LocalChainSigner(SECRET.to_bytes(32, "big")).address


async def test_its_transactions_are_those_of_its_account() -> None:
    signer = await kms_signer(FakeKMS())
    fees = Fees(max_fee_per_gas=2, max_priority_fee_per_gas=1)
    transaction = UnsignedTransaction(chain_id=1, nonce=0, gas_limit=21_000, fees=fees, to=signer.address, calldata=b"")

    signed = read_raw_transaction(await signer.sign_transaction(transaction))

    assert recovered_address(signing_hash(transaction), signed.signature) == signer.address


class Wrong(FakeKMS):
    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    async def sign(self, digest: bytes) -> bytes:
        del digest
        return self._answer


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x30",
        b"0" * 100,
        encode_dss_signature(0, 1),
        encode_dss_signature(CURVE_ORDER, 1),
        encode_dss_signature(1, 1),
        encode_dss_signature(5, CURVE_ORDER - 1),
    ],
)
async def test_an_answer_that_is_no_signature_of_the_account_is_refused(answer: bytes) -> None:
    signer = await kms_signer(Wrong(answer))

    with pytest.raises(SignerUnavailable):
        await signer.sign_digest(DIGEST)


async def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(SignerUnavailable, match="secp256k1"):
        await kms_signer(FakeKMS(ec.SECP256R1()))
