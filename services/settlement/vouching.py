"""An issuer vouches for parties of its country with a key that need not be where the chain is: from file to file.

What it signs are whole transactions, each of which registers one party, once; nothing else can be made of them. That a
party's id and its signer's account belong to the same company the issuer must have seen elsewhere: no file proves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, registration_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Fees
from emobility.ports.chain_signer import TransactionSigner, UnsignedTransaction
from services.settlement.registering import REGISTRATION_GAS, RegistrationRequest, RegistrationRequests

OUTBIDS: Final = 2
"""So many times the tip when it is vouched anew: nodes replace a transaction where both fees are a tenth higher."""


class NothingToVouchFor(RuleBroken):
    """No registration in the file waits for this issuer, or not the one that was named."""


class ConsentForged(RuleBroken):
    """A party's consent is not by the account that would sign for it."""


class RequestsNotTrusted(RuleBroken):
    """No settlement writes such a file: it names a party twice, or more gas than a registration takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """An issuer's word. `asked`: the very entry that its transaction was made of; `raw`: the transaction, signed."""

    asked: RegistrationRequest
    raw: bytes


async def vouched(
    requests: RegistrationRequests,
    signer: TransactionSigner,
    recovered_address: Callable[[bytes, bytes], bytes | None],
    *,
    parties: Sequence[PartyId],
    until: datetime,
    first_nonce: int | None,
) -> dict[PartyId, Vouched]:
    """Return signed transactions by party.

    Args:
        requests: As the settlement shows them.
        signer: The issuer's key.
        recovered_address: Whose compact signature of a digest this is; None when nobody's.
        parties: For whom, even if they were vouched for; none: for all that wait for this account.
        until: How long the issuer vouches.
        first_nonce: Of the account's next transaction; None: as the file says.

    Raises:
        NothingToVouchFor: nobody is left, or the file does not know the account and no nonce is given.
        ConsentForged: a consent is not what it should be.
        RequestsNotTrusted: see there.
    """
    _refuse_untrusted(requests)
    account = f"0x{signer.address.hex()}"
    registry = Registry(chain_id=requests.chain_id, address=bytes.fromhex(requests.registry[2:]))
    found: dict[PartyId, Vouched] = {}
    for each in requests.registrations:
        party_id = PartyId(each.party_id)
        nonce = first_nonce if first_nonce is not None else _nonce(each, account)
        is_meant = party_id in parties if parties else not each.is_vouched_for or each.waiting is not None
        if nonce is None or not is_meant:
            continue
        digest, consent = _consent(registry, each, party_id)
        if recovered_address(digest, consent) != bytes.fromhex(each.signer[2:]):
            raise ConsentForged(f"{each.signer} did not consent to sign for {party_id}")
        transaction = UnsignedTransaction(
            chain_id=requests.chain_id,
            nonce=nonce + len(found),
            gas_limit=requests.gas,
            fees=_fees(requests, each),
            to=registry.address,
            calldata=_call(each, party_id, until, consent),
        )
        found[party_id] = Vouched(asked=each, raw=await signer.sign_transaction(transaction))
    if missing := [str(each) for each in parties if each not in found]:
        raise NothingToVouchFor(f"{', '.join(missing)} waits for no word of {account} in this file")
    if not found:
        raise NothingToVouchFor(f"nothing in this file waits for {account}; another issuer's account needs --nonce")
    return found


def _refuse_untrusted(requests: RegistrationRequests) -> None:
    named = Counter(PartyId(each.party_id).code for each in requests.registrations)
    if twice := sorted(code for code, times in named.items() if times > 1):
        raise RequestsNotTrusted(f"{', '.join(twice)} stands in this file more than once")
    if requests.gas > REGISTRATION_GAS:
        raise RequestsNotTrusted(f"a registration takes at most {REGISTRATION_GAS} gas, not {requests.gas}")


def _fees(requests: RegistrationRequests, request: RegistrationRequest) -> Fees:
    tip = requests.max_priority_fee_per_gas * (OUTBIDS if request.is_vouched_for else 1)
    return Fees(max_fee_per_gas=requests.max_fee_per_gas, max_priority_fee_per_gas=min(tip, requests.max_fee_per_gas))


def _nonce(request: RegistrationRequest, account: str) -> int | None:
    return next((each.nonce for each in request.issuers if each.account.lower() == account), None)


def _consent(registry: Registry, request: RegistrationRequest, party_id: PartyId) -> tuple[bytes, bytes]:
    """Return what the party's signer consents to, and its signature."""
    signer, payout, consent = (bytes.fromhex(each[2:]) for each in (request.signer, request.payout, request.consent))
    digest = registration_digest(registry, party_id=party_id, signer=signer, payout=payout, deadline=request.deadline)
    return digest, consent


def _call(request: RegistrationRequest, party_id: PartyId, until: datetime, consent: bytes) -> bytes:
    return contracts.REGISTER.call(
        party_id.country_code.encode(),
        party_id.party_id.encode(),
        bytes.fromhex(request.signer[2:]),
        bytes.fromhex(request.payout[2:]),
        int(until.timestamp()),
        int(request.deadline.timestamp()),
        contracts.signature_words(consent),
    )
