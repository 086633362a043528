"""Make a consortium's contracts on a chain that is not ours, grant the roles and hand the administrator's over.

One account does all of it and sends nothing else meanwhile: its nonces are the places of the steps. So whoever begins
again after a cut sees in the account's nonce how far it is, and goes on there. Nothing is minted and nobody registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import msgspec

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import MalformedCall
from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import RuleBroken
from emobility.ports.chain import CallReverted, Chain, ChainUnavailable, Fees, TransactionNotTaken
from emobility.ports.chain_signer import TransactionSigner, UnsignedTransaction
from emobility.ports.clock import Timer
from services.settlement.deployment import GAS_HEADROOM_PERCENT, POLL_S, StepRefused, code_hash_of
from services.settlement.manifest import (
    Charter,
    Manifest,
    administered,
    bytes_of,
    granted,
    hex_of,
    placed,
    planned,
)

MINED_TIMEOUT_S: Final = 600.0
"""How long a wave of steps may take before whoever waits is told; nothing is lost by that."""
OUTBID_PERCENT: Final = 25
"""More than a node asks of bytes that replace others under their nonce (10 %)."""
OUTBIDS_MAX: Final = 20
_OUTBIDDEN: Final = re.compile(r"underpriced|replace")
"""What nodes say where bytes that offer as much wait under the nonce."""
_TAKEN: Final = re.compile(r"(?<!un)known|already|nonce")
"""And where they have these bytes, or the nonce is used."""


class OtherFounding(RuleBroken):
    """What was begun is another deployment, or its account sent something else meanwhile."""


class StepCannotBe(RuleBroken):
    """The chain refuses a step before it is in a block: the account can't pay, a token does not suit, it is too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transaction. `to`: a contract, None to make one; `wave`: it needs what the earlier waves did."""

    wave: int
    title: str
    to: bytes | None
    calldata: bytes


class Founding:
    """The account that makes the contracts, at work."""

    def __init__(
        self, chain: Chain, signer: TransactionSigner, timer: Timer, progress: Callable[[int, int, str], None]
    ) -> None:
        """Take the account; `progress` is told how many steps are done, of how many, and which is next."""
        self._chain = chain
        self._signer = signer
        self._timer = timer
        self._progress = progress

    async def planned(self, charter: Charter, begun: Manifest | None) -> Manifest:
        """Return what is to be made, from this account's next transaction on; of what was begun, that.

        Raises:
            OtherFounding: what was begun is something else.
            ChainUnavailable: the endpoint does not answer.
        """
        account = self._signer.address
        first_nonce, first_block = (
            (await self._chain.nonce(account, with_waiting=True), (await self._chain.finalized()).number)
            if begun is None
            else (begun.first_nonce, begun.first_block)
        )
        plan = planned(
            charter,
            chain_id=await self._chain.chain_id(),
            genesis_hash=await self._chain.genesis_hash(),
            deployer=account,
            first_nonce=first_nonce,
            first_block=first_block,
        )
        if begun is not None and msgspec.structs.replace(begun, block=None, code_hash=None) != plan:
            raise OtherFounding("what was begun has other options, another account or another chain")
        return plan

    async def found(self, plan: Manifest) -> Manifest:
        """Make what is missing and return the manifest once all is final.

        Raises:
            OtherFounding: the account sent something else since it began.
            StepCannotBe, StepRefused: the chain refuses a step.
            ChainUnavailable: the endpoint does not answer, or a step is in no block yet: begin again.
        """
        steps = steps_of(plan)
        done = await self._chain.nonce(self._signer.address, with_waiting=False) - plan.first_nonce
        for wave, group in groupby(list(enumerate(steps))[max(done, 0) :], key=lambda each: each[1].wave):
            await self._require_made(plan, before=wave)
            await self._take(plan.first_nonce, list(group), of=len(steps))
        await self._require_made(plan, before=len(steps))
        self._progress(len(steps), len(steps), "waiting until the last block is final")
        block = await self._final(steps[-1])
        code_hash = hex_of(await code_hash_of(self._chain, _complete(plan, block, bytes(32)).deployment))
        return _complete(plan, block, bytes_of(code_hash))

    async def _require_made(self, plan: Manifest, *, before: int) -> None:
        for each in placed(plan):
            if each.wave < before and not await self._chain.code(each.address):
                raise OtherFounding(
                    f"there is no {each.title} at {hex_of(each.address)}: its transaction failed, or the account sent "
                    "something else meanwhile. Begin anew with another --out"
                )

    async def _take(self, first_nonce: int, numbered: Sequence[tuple[int, Step]], *, of: int) -> None:
        """Send steps that don't build on each other, and wait until each is in a block."""
        sent = []
        for place, step in numbered:
            self._progress(place, of, step.title)
            try:
                gas = await self._chain.estimate_gas(self._signer.address, step.to, step.calldata)
            except CallReverted as refusal:
                raise StepCannotBe(
                    f"the chain refuses {step.title} (0x{refusal.data.hex()}): can 0x{self._signer.address.hex()} pay, "
                    "has the token 4 to 18 decimals, and does the chain speak Cancun?"
                ) from None
            sent.append((first_nonce + place, await self._sent(first_nonce + place, step, gas)))
        give_up_s = self._timer.monotonic_s() + MINED_TIMEOUT_S
        for nonce, raw_hash in sent:
            while await self._chain.nonce(self._signer.address, with_waiting=False) <= nonce:
                if self._timer.monotonic_s() > give_up_s:
                    raise ChainUnavailable(f"transaction {nonce} is in no block; run the same command again")
                await self._timer.sleep(POLL_S)
            receipt = await self._chain.receipt(raw_hash)
            if receipt is not None and not receipt.has_succeeded:
                raise StepRefused(raw_hash)

    async def _sent(self, nonce: int, step: Step, gas: int) -> bytes:
        """Hand a step over and return its hash; where another waits under its nonce, it offers more.

        Raises `StepCannotBe`: the node refuses it for another reason, such as an account that can't pay.
        """
        transaction = UnsignedTransaction(
            chain_id=await self._chain.chain_id(),
            nonce=nonce,
            gas_limit=gas * (100 + GAS_HEADROOM_PERCENT) // 100,
            fees=await self._chain.fees(),
            to=step.to,
            calldata=step.calldata,
        )
        for _ in range(OUTBIDS_MAX):
            raw = await self._signer.sign_transaction(transaction)
            try:
                return await self._chain.send_raw(raw)
            except TransactionNotTaken as refusal:
                reason = refusal.reason.lower()
                if not _OUTBIDDEN.search(reason):
                    if _TAKEN.search(reason):
                        return keccak256(raw)  # known, or in a block by now
                    raise StepCannotBe(f"the node refuses {step.title}: {refusal.reason}") from None
                transaction = replace(transaction, fees=_more(transaction.fees))
        raise StepCannotBe(f"the node takes no offer for {step.title}")

    async def _final(self, last: Step) -> int:
        """Wait until the last step, and so all before it, is final; return the youngest final block's number."""
        if not await self._has_effect(last, (await self._chain.head()).number):
            raise OtherFounding(f"{last.title}: its transaction failed, or the account sent something else meanwhile")
        give_up_s = self._timer.monotonic_s() + MINED_TIMEOUT_S
        while True:
            final = (await self._chain.finalized()).number
            if await self._has_effect(last, final):
                return final
            if self._timer.monotonic_s() > give_up_s:
                raise ChainUnavailable("the last step is not final; run the same command again")
            await self._timer.sleep(POLL_S)

    async def _has_effect(self, step: Step, block: int) -> bool:
        """Tell whether a role is granted, or given up, in a block."""
        assert step.to is not None, "the last step is about a role"
        is_grant = step.calldata.startswith(contracts.GRANT_ROLE.selector)
        role, account = (contracts.GRANT_ROLE if is_grant else contracts.RENOUNCE_ROLE).arguments(step.calldata)
        try:
            answer = await self._chain.call(step.to, contracts.HAS_ROLE.call(role, account), at_block=block)
            return bool(contracts.HAS_ROLE.answer(answer)[0]) is is_grant
        except MalformedCall:
            return False  # there is no contract yet


def steps_of(plan: Manifest) -> list[Step]:
    """Return all transactions, in the order of their nonces."""
    deployer, made = bytes_of(plan.deployer), placed(plan)
    steps = [
        Step(
            wave=each.wave,
            title=each.title,
            to=None,
            calldata=each.creation,
        )
        for each in made
    ]
    last = max(each.wave for each in made)
    has_it = (contracts.ADMIN_ROLE, contracts.MINTER_ROLE)
    """Of what it makes, the account holds these from the beginning."""
    steps += [
        Step(
            wave=last + 1,
            title=f"{each.name} of {each.where.title}",
            to=each.where.address,
            calldata=contracts.GRANT_ROLE.call(each.role, each.holder),
        )
        for each in granted(plan)
        if not (each.holder == deployer and each.role in has_it)
    ]
    if plan.admin != plan.deployer:
        tokens = [each for each in administered(plan) if each.contract == "EmbeddedCurrency"]
        left = [(each, contracts.MINTER_ROLE) for each in tokens]
        left += [(each, contracts.ADMIN_ROLE) for each in administered(plan)]
        steps += [
            Step(
                wave=last + 2,
                title=f"leaving {where.title} to its administrator",
                to=where.address,
                calldata=contracts.RENOUNCE_ROLE.call(role, deployer),
            )
            for where, role in left
        ]
    return steps


def _complete(plan: Manifest, block: int, code_hash: bytes) -> Manifest:
    return msgspec.structs.replace(plan, block=block, code_hash=hex_of(code_hash))


def _more(fees: Fees) -> Fees:
    return Fees(
        max_fee_per_gas=fees.max_fee_per_gas * (100 + OUTBID_PERCENT) // 100 + 1,
        max_priority_fee_per_gas=fees.max_priority_fee_per_gas * (100 + OUTBID_PERCENT) // 100 + 1,
    )
