from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters.signing import Ed25519Signer
from emobility.domain.identifiers import PartyId

CPO, MSP = PartyId("NL-TNM"), PartyId("NL-DRV")
KEY = bytes(range(32))


async def test_a_signature_is_valid_for_its_message_and_its_party_only() -> None:
    signer = Ed25519Signer(KEY)
    key = await signer.public_key(CPO)

    signature = await signer.sign(CPO, b"agreement")

    assert signer.is_valid(public_key=key, message=b"agreement", signature=signature)
    assert not signer.is_valid(public_key=key, message=b"agreement!", signature=signature)
    assert not signer.is_valid(public_key=await signer.public_key(MSP), message=b"agreement", signature=signature)


async def test_keys_hang_on_the_master_key_and_the_party_alone() -> None:
    assert await Ed25519Signer(KEY).public_key(CPO) == await Ed25519Signer(KEY).public_key(PartyId("nl-tnm"))
    assert await Ed25519Signer(KEY).public_key(CPO) != await Ed25519Signer(bytes(32)).public_key(CPO)


async def test_the_derivation_never_changes() -> None:
    pinned = "897e6005a2cd74a0cc18abccedc13d56f6eb7c7247127575ecc1e38f5a51dee5"

    assert await Ed25519Signer(KEY).public_key(CPO) == pinned


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_master_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32"):
        Ed25519Signer(key)


@given(public_key=st.text(), signature=st.text(), message=st.binary())
def test_what_is_no_key_or_no_signature_is_not_valid(public_key: str, signature: str, message: bytes) -> None:
    assert not Ed25519Signer(KEY).is_valid(public_key=public_key, message=message, signature=signature)


@given(public_key=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64))
def test_noise_of_the_right_length_is_not_valid(public_key: bytes, signature: bytes) -> None:
    assert not Ed25519Signer(KEY).is_valid(public_key=public_key.hex(), message=b"m", signature=signature.hex())
