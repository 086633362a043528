"""Put the settlement contracts on a chain and bring parties, test money and agreements into them.

For chains of our own and for tests: one account makes everything, administers it and mints the money. It sends nothing
else and nobody else sends from it, so its nonces are the chain's. Everything here can be asked for again after a cut:
what is there already is found and left alone. Contracts whose making was cut before `deploy` returned stay unused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import encode
from emobility.domain.batch.calls import agreement_query, open_agreement_call, read_agreement
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.typed_data import (
    AgreementTerms,
    Book,
    Registry,
    agreement_digest,
    agreement_id,
    agreement_key,
    registration_digest,
)
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import (
    CallReverted,
    Chain,
    ChainReader,
    ChainUnavailable,
    TransactionNotTaken,
    TransactionReceipt,
)
from emobility.ports.chain_signer import ChainSigner, UnsignedTransaction
from emobility.ports.clock import Timer

WITHDRAWAL_DELAY_S: Final = 48 * 3600
"""Partners have two days to see a withdrawal coming; more than the window, so that cover outlasts a silence."""
ACCEPTANCE_WINDOW_S: Final = 24 * 3600
"""How long a silent side can challenge what its partner signed."""
CHALLENGE_BOND_E4: Final = 500_000
"""What a challenge puts at stake, in ten-thousandths: fifty."""
CONSENT_VALID_FOR: Final = timedelta(days=1)
ATTESTED_FOR: Final = timedelta(days=3650)
"""How long ids are vouched for on a chain of our own; elsewhere an issuer decides."""
GAS_HEADROOM_PERCENT: Final = 25
"""Others change the state between an estimate and its transaction."""
GAS_COINS_WEI: Final = 10**17
"""What an account gets at once to pay for gas: a tenth of a coin, some hundred calls at 10 gwei."""
FINAL_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.05
SENT_TOGETHER_MAX: Final = 64
"""Transactions under way at once."""
_Call: TypeAlias = "tuple[bytes | None, bytes]"
"""A contract, None to make one, and what it is called with."""


class DeploymentGone(RuleBroken):
    """The chain does not hold what was deployed on it: another chain, one that lost its state, or other code."""


class TokensShort(RuleBroken):
    """An account has less of a token than it should pay in."""


class StepRefused(RuleBroken):
    """A transaction was mined and refused, though it had been estimated."""

    def __init__(self, transaction_hash: bytes) -> None:
        self.transaction_hash = transaction_hash
        super().__init__(f"transaction 0x{transaction_hash.hex()} was refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyContracts:
    """What settles one currency (ISO 4217). Addresses have 20 bytes."""

    currency: str
    token: bytes
    vault: bytes
    book: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the contracts are. It is stored; `Deployment` and chain together tell whether they are still there.

    Attributes:
        genesis_hash: Of the chain, so that one that lost its state is not taken for this one.
        code_hash: Over the code of all contracts, in the order of the fields.
        since_block: What they tell stands in later blocks.
    """

    chain_id: int
    genesis_hash: bytes
    registry: bytes
    anchor: bytes
    passport: bytes
    currencies: tuple[CurrencyContracts, ...]
    code_hash: bytes
    since_block: int = 0

    def of(self, currency: str) -> CurrencyContracts | None:
        """Return what settles a currency; None: nothing does."""
        return next((each for each in self.currencies if each.currency == currency), None)

    def book(self, currency: str) -> Book | None:
        """Return a currency's book, as signatures name it."""
        found = self.of(currency)
        return None if found is None else Book(chain_id=self.chain_id, address=found.book)


class Deployer:
    """The administering account at work: its only sender."""

    def __init__(
        self,
        chain: Chain,
        signer: ChainSigner,
        timer: Timer,
        *,
        mints: bool = True,
        final_timeout_s: float = FINAL_TIMEOUT_S,
    ) -> None:
        """Take the account; it must be able to pay fees.

        Args:
            chain: Where it works.
            signer: The account.
            timer: Waits.
            mints: It covers parties with play money.
            final_timeout_s: How long a transaction may take until it is final.
        """
        self._mints = mints
        self._final_timeout_s = final_timeout_s
        self._chain = chain
        self._signer = signer
        self._timer = timer

    async def deploy(
        self, currencies: Sequence[str], *, proposer: bytes, known: Deployment | None = None
    ) -> Deployment:
        """Return where the contracts are, making them if none are known; all is final.

        Args:
            currencies: ISO 4217; each gets a token of play money, a vault and a book.
            proposer: Account that may propose batches.
            known: What an earlier call returned; then nothing is made.

        Raises:
            DeploymentGone: the chain does not hold `known`.
        """
        if known is not None:
            await recognise(self._chain, known)
            return known
        admin, ordered = self._signer.address, sorted(set(currencies))
        registry, passport, *tokens = await self._make(
            ("PartyRegistry", encode("(address)", (admin,))),
            ("BatteryPassport", encode("(address)", (admin,))),
            *(
                ("EmbeddedCurrency", encode("(string,string,address)", (each.encode(), each.encode(), admin)))
                for each in ordered
            ),
        )
        anchor, *vaults = await self._make(
            ("RootAnchor", encode("(address,address)", (registry, admin))),
            *(
                (
                    "CollateralVault",
                    encode("(address,address,uint64,address)", (token, registry, WITHDRAWAL_DELAY_S, admin)),
                )
                for token in tokens
            ),
        )
        books = await self._make(
            *(
                (
                    "SettlementBook",
                    encode(
                        "(bytes3,uint40,uint64,address,address,address)",
                        (each.encode(), ACCEPTANCE_WINDOW_S, CHALLENGE_BOND_E4, registry, vault, admin),
                    ),
                )
                for each, vault in zip(ordered, vaults, strict=True)
            )
        )
        await self._send(
            *(
                (vault, contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, book))
                for vault, book in zip(vaults, books, strict=True)
            ),
            *((book, contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, proposer)) for book in books),
            *((book, contracts.GRANT_ROLE.call(contracts.PAUSER_ROLE, admin)) for book in books),
        )
        made = Deployment(
            chain_id=await self._chain.chain_id(),
            genesis_hash=await self._chain.genesis_hash(),
            registry=registry,
            anchor=anchor,
            passport=passport,
            currencies=tuple(
                CurrencyContracts(currency=each, token=token, vault=vault, book=book)
                for each, token, vault, book in zip(ordered, tokens, vaults, books, strict=True)
            ),
            code_hash=b"",
        )
        return replace(made, code_hash=await _code_hash(self._chain, _addresses(made)))

    async def register_parties(
        self, deployment: Deployment, signers: Mapping[PartyId, ChainSigner]
    ) -> dict[PartyId, int]:
        """Return the parties' numbers, registering those that have none; collateral is paid out to the signer.

        Args:
            deployment: Where.
            signers: Who signs for each from then on, and consents to it.
        """
        numbers = {each: await self._number_of(deployment, each) for each in signers}
        registry = Registry(chain_id=deployment.chain_id, address=deployment.registry)
        now = _moment((await self._chain.head()).timestamp_s)
        deadline, attested_until = now + CONSENT_VALID_FOR, now + ATTESTED_FOR
        await self._become_issuer(registry, {each.country_code for each in signers if not numbers[each]})
        calls = []
        for party_id, signer in signers.items():
            if numbers[party_id]:
                continue
            digest = registration_digest(
                registry, party_id=party_id, signer=signer.address, payout=signer.address, deadline=deadline
            )
            consent = await signer.sign_digest(digest)
            call = contracts.REGISTER.call(
                *_codes(party_id),
                signer.address,
                signer.address,
                int(attested_until.timestamp()),
                int(deadline.timestamp()),
                contracts.signature_words(consent),
            )
            calls.append((deployment.registry, call))
        await self._send(*calls)
        return {each: numbers[each] or await self._number_of(deployment, each) for each in signers}

    async def let_anchor(self, deployment: Deployment, account: bytes) -> None:
        """Let an account record roots for parties that have none of their own; twice is as once."""
        asked = contracts.HAS_ROLE.call(contracts.ANCHOR_ROLE, account)
        (may,) = contracts.HAS_ROLE.answer(await self._chain.call(deployment.anchor, asked))
        if not may:
            await self._send((deployment.anchor, contracts.GRANT_ROLE.call(contracts.ANCHOR_ROLE, account)))

    async def deposit(self, into: CurrencyContracts, at_least_e4: Mapping[int, int]) -> None:
        """Bring collateral up to an amount with new play money. After a settlement it fills up what was paid.

        Args:
            into: The currency.
            at_least_e4: What each party, by number, shall have at least, in ten-thousandths of the currency.
        """
        missing = {party: amount - await self.collateral_of(into, party) for party, amount in at_least_e4.items()}
        missing = {party: amount for party, amount in missing.items() if amount > 0 and self._mints}
        if missing:
            total = sum(missing.values())
            await self._send(
                (into.token, contracts.MINT.call(self._signer.address, total)),
                (into.token, contracts.APPROVE.call(into.vault, total)),
            )
            await self._send(
                *((into.vault, contracts.DEPOSIT.call(party, amount)) for party, amount in missing.items())
            )

    async def pay_in(
        self, into: CurrencyContracts, party: int, *, up_to_e4: int, progress: Callable[[str], None] = lambda _: None
    ) -> int:
        """Bring what a party has free up to an amount, out of the account's own tokens; return how much that took.

        Args:
            into: The currency.
            party: Its number.
            up_to_e4: In ten-thousandths of the currency. So a call that was cut is made again without paying twice.
            progress: Told what is waited for.

        Raises:
            TokensShort: the account has less.
            ChainUnavailable: the endpoint does not answer, or a transaction is not final in time.
        """
        (units,) = contracts.UNITS_PER_E4.answer(await self._chain.call(into.vault, contracts.UNITS_PER_E4.call()))
        up_to = up_to_e4 * int(units)
        missing = await self._missing(into, party, up_to)
        asked = contracts.TOKENS_OF.call(self._signer.address)
        (held,) = contracts.TOKENS_OF.answer(await self._chain.call(into.token, asked))
        if missing > held:
            raise TokensShort(
                f"0x{self._signer.address.hex()} holds {held} units of the token, and {missing} are needed"
            )
        if missing:
            progress(f"allowing the vault {missing} units; waiting until that is final")
            await self._send((into.token, contracts.APPROVE.call(into.vault, missing)))
            # The deposit of a call that was cut may have waited under an earlier nonce: it is in a block by now.
            missing = min(missing, await self._missing(into, party, up_to))
        if missing:
            progress(f"depositing {missing} units; waiting until that is final")
            await self._send((into.vault, contracts.DEPOSIT.call(party, missing)))
        return missing // int(units)

    async def _missing(self, into: CurrencyContracts, party: int, up_to: int) -> int:
        """Return what a party lacks, in units of the token."""
        (free,) = contracts.FREE_OF.answer(await self._chain.call(into.vault, contracts.FREE_OF.call(party)))
        return max(up_to - int(free), 0)

    async def collateral_of(self, where: CurrencyContracts, party: int) -> int:
        """Return a party's collateral, in ten-thousandths of the currency."""
        (balance,) = contracts.COLLATERAL_OF.answer(
            await self._chain.call(where.vault, contracts.COLLATERAL_OF.call(party))
        )
        return int(balance)

    async def open_agreements(
        self, deployment: Deployment, agreements: Sequence[tuple[AgreementTerms, ChainSigner, ChainSigner]]
    ) -> list[bytes]:
        """Return the agreements' keys in their books, opening those that are not open.

        Args:
            deployment: Where.
            agreements: Terms, and who signs for CPO and MSP. The same terms, deadline included, are the same agreement.

        Raises:
            DeploymentGone: no book settles an agreement's currency.
        """
        calls = []
        for terms, cpo, msp in agreements:
            book = deployment.book(terms.currency)
            if book is None:
                raise DeploymentGone(f"no book settles {terms.currency}")
            if not await self._is_open(book, terms):
                digest = agreement_digest(book, terms)
                by_cpo, by_msp = await cpo.sign_digest(digest), await msp.sign_digest(digest)
                calls.append((book.address, open_agreement_call(terms, by_cpo=by_cpo, by_msp=by_msp)))
        await self._send(*calls)
        return [agreement_key(terms) for terms, _, _ in agreements]

    async def deploy_confidential(self, deployment: Deployment, currency: str, *, proposer: bytes) -> bytes:
        """Make a confidential book beside a currency's open one, over the same vault; return where it is."""
        into, admin = deployment.of(currency), self._signer.address
        if into is None:
            raise DeploymentGone(f"no book settles {currency}")
        arguments = (currency.encode(), deployment.registry, into.vault, admin)
        (book,) = await self._make(("ConfidentialBook", encode("(bytes3,address,address,address)", arguments)))
        await self._send(
            (into.vault, contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, book)),
            (book, contracts.GRANT_ROLE.call(contracts.PROPOSER_ROLE, proposer)),
            (book, contracts.GRANT_ROLE.call(contracts.PAUSER_ROLE, admin)),
        )
        return book

    async def deploy_resolver(
        self, contract: str, *, book: bytes, vault: bytes, demand_bond_e4: int, quarrel_bond_e4: int
    ) -> bytes:
        """Make a book's resolver (`SettlementDisputes`, `ConfidentialDisputes`), with our account as its arbiter."""
        admin = self._signer.address
        evidence, arbiter = await self._make(("MeterEvidence", b""), ("RoleArbiter", encode("(address)", (admin,))))
        arguments = (book, evidence, arbiter, demand_bond_e4, quarrel_bond_e4)
        (resolver,) = await self._make((contract, encode("(address,address,address,uint64,uint64)", arguments)))
        await self._send(
            (arbiter, contracts.GRANT_ROLE.call(contracts.ARBITER_ROLE, admin)),
            (book, contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, resolver)),
            (vault, contracts.GRANT_ROLE.call(contracts.BOOK_ROLE, resolver)),
        )
        return resolver

    async def provide(self, account: bytes) -> None:
        """Give an account what it pays for gas with; it must be able to pay for a transaction of its own."""
        await self._send((account, b""), coins_wei=GAS_COINS_WEI)

    # Looking

    async def _number_of(self, deployment: Deployment, party_id: PartyId) -> int:
        asked = contracts.NUMBER_OF.call(*_codes(party_id))
        (number,) = contracts.NUMBER_OF.answer(await self._chain.call(deployment.registry, asked))
        return int(number)

    async def _become_issuer(self, registry: Registry, countries: set[str]) -> None:
        """Have the account vouch for ids of these countries from now on."""
        roles = [contracts.issuer_role(each) for each in sorted(countries)]
        asked = [(role, contracts.HAS_ROLE.call(role, self._signer.address)) for role in roles]
        missing = [
            role
            for role, call in asked
            if not contracts.HAS_ROLE.answer(await self._chain.call(registry.address, call))[0]
        ]
        await self._send(
            *((registry.address, contracts.GRANT_ROLE.call(role, self._signer.address)) for role in missing)
        )

    async def _is_open(self, book: Book, terms: AgreementTerms) -> bool:
        try:
            state = read_agreement(await self._chain.call(book.address, agreement_query(agreement_key(terms))))
        except CallReverted:
            return False
        return state.agreement_id == agreement_id(terms)  # else the book refuses: the key is another agreement's

    # Sending

    async def _make(self, *made: tuple[str, bytes]) -> list[bytes]:
        """Make contracts, each by its name and constructor's arguments; return where they are."""
        receipts = await self._send(
            *((None, bytes.fromhex(settlement_contracts.bytecode(name)[2:]) + arguments) for name, arguments in made)
        )
        return [receipt.contract_address for receipt in receipts if receipt.contract_address is not None]

    async def _send(self, *calls: _Call, coins_wei: int = 0) -> list[TransactionReceipt]:
        """Send calls that don't build on each other; return when all are final. Each receiver gets so many coins.

        Raises:
            CallReverted: a contract refuses one; none was sent.
            StepRefused: it refused one only when it was mined.
        """
        receipts: list[TransactionReceipt] = []
        for start in range(0, len(calls), SENT_TOGETHER_MAX):
            raws = await self._signed(calls[start : start + SENT_TOGETHER_MAX], coins_wei)
            for raw in raws:
                with suppress(ChainUnavailable):  # it may have arrived; if not, it is handed over again
                    await self._chain.send_raw(raw)
            receipts.extend([await self._final(raw) for raw in raws])
        return receipts

    async def _signed(self, calls: Sequence[_Call], coins_wei: int) -> list[bytes]:
        account, chain_id, fees = self._signer.address, await self._chain.chain_id(), await self._chain.fees()
        estimates = [await self._chain.estimate_gas(account, to, calldata) for to, calldata in calls]
        first = await self._chain.nonce(account, with_waiting=True)
        return [
            await self._signer.sign_transaction(
                UnsignedTransaction(
                    chain_id=chain_id,
                    nonce=first + place,
                    gas_limit=estimate * (100 + GAS_HEADROOM_PERCENT) // 100,
                    fees=fees,
                    to=to,
                    calldata=calldata,
                    coins_wei=coins_wei,
                )
            )
            for place, ((to, calldata), estimate) in enumerate(zip(calls, estimates, strict=True))
        ]

    async def _final(self, raw: bytes) -> TransactionReceipt:
        """Wait until a transaction is final, through silence of the endpoint."""
        give_up_s = self._timer.monotonic_s() + self._final_timeout_s
        while self._timer.monotonic_s() < give_up_s:
            with suppress(ChainUnavailable):
                receipt = await self._final_receipt(raw)
                if receipt is not None:
                    return receipt
            await self._timer.sleep(POLL_S)
        raise ChainUnavailable(f"transaction 0x{keccak256(raw).hex()} is not final after {self._final_timeout_s:.0f} s")

    async def _final_receipt(self, raw: bytes) -> TransactionReceipt | None:
        """Return what became of a transaction once that is final; hand it over again while it is in no block."""
        receipt = await self._chain.receipt(keccak256(raw))
        if receipt is None:
            with suppress(TransactionNotTaken):  # it is known
                await self._chain.send_raw(raw)
            return None
        if receipt.block_number > (await self._chain.finalized()).number:
            return None
        if not receipt.has_succeeded:
            raise StepRefused(receipt.transaction_hash)
        return receipt


async def recognise(chain: ChainReader, deployment: Deployment) -> None:
    """Make sure that a chain holds a deployment. Raises `DeploymentGone`, `ChainUnavailable`."""
    if await chain.chain_id() != deployment.chain_id:
        raise DeploymentGone("it is on another chain")
    if await chain.genesis_hash() != deployment.genesis_hash:
        raise DeploymentGone("the chain has lost its state")
    if await code_hash_of(chain, deployment) != deployment.code_hash:
        raise DeploymentGone("a contract is not there, or it is another one")


async def code_hash_of(chain: ChainReader, deployment: Deployment) -> bytes:
    """Return the hash over the code that a chain holds at a deployment's addresses. Raises `ChainUnavailable`."""
    return await _code_hash(chain, _addresses(deployment))


async def _code_hash(chain: ChainReader, addresses: Sequence[bytes]) -> bytes:
    hashes = [keccak256(code) if (code := await chain.code(each)) else bytes(32) for each in addresses]
    return keccak256(b"".join(hashes))


def _addresses(deployment: Deployment) -> tuple[bytes, ...]:
    of_currencies = (address for each in deployment.currencies for address in (each.token, each.vault, each.book))
    return deployment.registry, deployment.anchor, deployment.passport, *of_currencies


def _codes(party_id: PartyId) -> tuple[bytes, bytes]:
    return party_id.country_code.encode(), party_id.party_id.encode()


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
