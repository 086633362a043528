from __future__ import annotations

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from emobility.adapters.chain_signing import (
    CURVE_ORDER,
    LocalChainSigner,
    mnemonic_signer,
    party_signer,
    proposer_signer,
    recovered_address,
)
from emobility.domain.batch.hashing import keccak256
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import UnsignedTransaction
from emobility.protocols.eip1559 import MalformedTransaction, created_address, read_raw_transaction, signing_hash

CPO, MSP = PartyId("NL-TNM"), PartyId("NL-DRV")
MASTER_KEY = bytes(range(32))
SECRETS = st.integers(1, CURVE_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
DIGESTS = st.binary(min_size=32, max_size=32)
WEI = st.integers(0, 2**64)
TRANSACTIONS = st.builds(
    UnsignedTransaction,
    chain_id=st.integers(1, 2**63),
    nonce=st.integers(0, 2**64 - 1),
    gas_limit=st.integers(0, 2**64 - 1),
    fees=st.builds(Fees, max_fee_per_gas=WEI, max_priority_fee_per_gas=WEI),
    to=st.none() | st.binary(min_size=20, max_size=20),
    calldata=st.binary(max_size=300),
)


@given(secret=SECRETS, transaction=TRANSACTIONS)
async def test_a_transaction_is_signed_byte_for_byte_as_another_library_signs_it(
    secret: bytes, transaction: UnsignedTransaction
) -> None:
    account = Account.from_key(secret)

    raw = await LocalChainSigner(secret).sign_transaction(transaction)

    signed = account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "gas": transaction.gas_limit,
            "maxFeePerGas": transaction.fees.max_fee_per_gas,
            "maxPriorityFeePerGas": transaction.fees.max_priority_fee_per_gas,
            "to": b"" if transaction.to is None else transaction.to,
            "value": 0,
            "data": transaction.calldata,
        }
    )
    assert raw == bytes(signed.raw_transaction)


@given(secret=SECRETS, transaction=TRANSACTIONS)
async def test_a_raw_transaction_tells_what_was_signed_and_by_whom(
    secret: bytes, transaction: UnsignedTransaction
) -> None:
    signer = LocalChainSigner(secret)

    signed = read_raw_transaction(await signer.sign_transaction(transaction))

    assert signed.transaction == transaction
    assert recovered_address(signing_hash(signed.transaction), signed.signature) == signer.address


@given(raw=st.binary(max_size=200).map(lambda tail: b"\x02" + tail))
def test_any_bytes_are_refused_and_never_break_the_reader(raw: bytes) -> None:
    with pytest.raises(MalformedTransaction):
        read_raw_transaction(raw)


@given(transaction=TRANSACTIONS, place=st.integers(0, 10**6), bit=st.integers(0, 7))
async def test_a_raw_transaction_has_one_form(transaction: UnsignedTransaction, place: int, bit: int) -> None:
    signer = party_signer(MASTER_KEY, CPO)
    raw = bytearray(await signer.sign_transaction(transaction))
    raw[place % len(raw)] ^= 1 << bit

    try:
        signed = read_raw_transaction(bytes(raw))
    except MalformedTransaction:
        return
    assert recovered_address(signing_hash(signed.transaction), signed.signature) != signer.address


@given(secret=SECRETS, digest=DIGESTS)
async def test_a_digest_s_signature_names_its_signer_and_no_other_digest(secret: bytes, digest: bytes) -> None:
    signer = LocalChainSigner(secret)

    signature = await signer.sign_digest(digest)

    assert bytes.fromhex(Account.from_key(secret).address[2:]) == signer.address
    assert recovered_address(digest, signature) == signer.address
    assert recovered_address(keccak256(digest), signature) != signer.address


async def test_the_second_form_of_a_signature_is_nobody_s() -> None:
    signer, digest = party_signer(MASTER_KEY, CPO), keccak256(b"statement")
    signature = await signer.sign_digest(digest)
    vs = int.from_bytes(signature[32:], "big")
    parity, s = vs >> 255, vs & (1 << 255) - 1
    mirrored = (1 - parity) << 255 | (CURVE_ORDER - s) & (1 << 255) - 1

    assert recovered_address(digest, signature[:32] + mirrored.to_bytes(32, "big")) != signer.address


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), b"\xff" * 64, bytes(65)])
def test_bytes_that_are_no_signature_are_nobody_s(signature: bytes) -> None:
    assert recovered_address(keccak256(b"statement"), signature) is None


def test_words_give_the_accounts_that_wallets_derive() -> None:
    Account.enable_unaudited_hdwallet_features()
    mnemonic = "test test test test test test test test test test test junk"

    accounts = [mnemonic_signer(mnemonic, index).address for index in range(3)]

    assert accounts == [
        bytes.fromhex(Account.from_mnemonic(mnemonic, account_path=f"m/44'/60'/0'/0/{index}").address[2:])
        for index in range(3)
    ]


def test_the_derivation_of_hosted_keys_never_changes() -> None:
    assert party_signer(MASTER_KEY, CPO).address.hex() == "298ae261cfedb3ceb0490d470ee9e0746cfaf82f"
    assert proposer_signer(MASTER_KEY).address.hex() == "037d9cf6ebc17e498873f7a24ba0e2ecf6d5c92e"


def test_parties_and_installations_have_different_keys() -> None:
    signers = [party_signer(MASTER_KEY, CPO), party_signer(MASTER_KEY, MSP), party_signer(bytes(32), CPO)]

    assert len({signer.address for signer in [*signers, proposer_signer(MASTER_KEY)]}) == 4


def test_a_contract_s_address_follows_from_who_made_it() -> None:
    # The first contract of anvil's well-known first account.
    maker = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")

    assert created_address(maker, 0).hex() == "5fbdb2315678afecb367f032d93f642f64180aa3"
