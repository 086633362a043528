"""An issuer vouches for parties of its country with a key that need not be where the chain is: from file to file.

What it signs are whole transactions, each of which registers one party, once; nothing else can be made of them. That a
party's id and its signer's account belong to the same company the issuer must have seen elsewhere: no file proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from emobility.adapters.chain_signing import recovered_address
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, registration_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import TransactionSigner, UnsignedTransaction
from services.settlement.registering import RegistrationRequest, RegistrationRequests


class NothingToVouchFor(RuleBroken):
    """No registration in the file waits for this issuer, or not the one that was named."""


class ConsentForged(RuleBroken):
    """A party's consent is not by the account that would sign for it."""


async def vouched(
    requests: RegistrationRequests,
    signer: TransactionSigner,
    *,
    parties: Sequence[PartyId],
    until: datetime,
    first_nonce: int | None,
) -> dict[PartyId, bytes]:
    """Return signed transactions by party.

    Args:
        requests: As the settlement shows them.
        signer: The issuer's key.
        parties: For whom; none: for all that the file lets this account vouch for.
        until: How long the issuer vouches.
        first_nonce: Of the account's next transaction; None: as the file says.

    Raises:
        NothingToVouchFor: nobody is left, or the file does not know the account and no nonce is given.
        ConsentForged: a consent is not what it should be.
    """
    account = f"0x{signer.address.hex()}"
    found: dict[PartyId, bytes] = {}
    for each in requests.registrations:
        party_id = PartyId(each.party_id)
        nonce = first_nonce if first_nonce is not None else _nonce(each, account)
        if (each.is_vouched_for and each.waiting is None) or nonce is None or (parties and party_id not in parties):
            continue
        transaction = UnsignedTransaction(
            chain_id=requests.chain_id,
            nonce=nonce + len(found),
            gas_limit=requests.gas,
            fees=Fees(
                max_fee_per_gas=requests.max_fee_per_gas, max_priority_fee_per_gas=requests.max_priority_fee_per_gas
            ),
            to=bytes.fromhex(requests.registry[2:]),
            calldata=_call(requests, each, party_id, until),
        )
        found[party_id] = await signer.sign_transaction(transaction)
    if missing := [str(each) for each in parties if each not in found]:
        raise NothingToVouchFor(f"{', '.join(missing)} waits for no word of {account} in this file")
    if not found:
        raise NothingToVouchFor(f"nothing in this file waits for {account}; another issuer's account needs --nonce")
    return found


def _nonce(request: RegistrationRequest, account: str) -> int | None:
    return next((each.nonce for each in request.issuers if each.account.lower() == account), None)


def _call(requests: RegistrationRequests, request: RegistrationRequest, party_id: PartyId, until: datetime) -> bytes:
    signer, payout, consent = (bytes.fromhex(each[2:]) for each in (request.signer, request.payout, request.consent))
    registry = Registry(chain_id=requests.chain_id, address=bytes.fromhex(requests.registry[2:]))
    digest = registration_digest(registry, party_id=party_id, signer=signer, payout=payout, deadline=request.deadline)
    if recovered_address(digest, consent) != signer:
        raise ConsentForged(f"{request.signer} did not consent to sign for {party_id}")
    return contracts.REGISTER.call(
        party_id.country_code.encode(),
        party_id.party_id.encode(),
        signer,
        payout,
        int(until.timestamp()),
        int(request.deadline.timestamp()),
        contracts.signature_words(consent),
    )
