"""Where others administer the contracts: registrations wait for an issuer, agreements for signatures and cover."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from emobility.adapters.chain_keys.keystore import new_key
from emobility.adapters.chain_signing import LocalChainSigner, party_signer, recovered_address
from emobility.adapters.memory import LoopTimer, SeededRandomness
from emobility.adapters.memory.contracts.registry import ROTATION_DELAY_S
from emobility.domain.agreement import SettlementMode
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import open_agreement_call
from emobility.domain.batch.typed_data import (
    Registry,
    agreement_digest,
    agreement_key,
    registration_digest,
    signer_acceptance_digest,
    signer_rotation_digest,
)
from emobility.domain.identifiers import PartyId
from emobility.ports.chain import Chain, ChainUnavailable
from emobility.ports.chain_signer import ChainSigner
from emobility.protocols.eip1559 import read_raw_transaction
from emobility.runtime.telemetry import Metrics
from services.embedded.chain_command import DEPOSIT_FINAL_TIMEOUT_S, OptionRefused, run_vouch
from services.settlement.acceptances import AlreadyAccepted, SignatureNotOfParty
from services.settlement.agreement_words import AgreementWords
from services.settlement.api import NotHere, NotUnderstood
from services.settlement.books import StoredBooks
from services.settlement.deployment import FINAL_TIMEOUT_S, Deployer, DeploymentGone, TokensShort, code_hash_of
from services.settlement.given_deployment import GivenDeployment, OtherDeployment
from services.settlement.inspecting import built_code
from services.settlement.manifest import (
    Charter,
    Manifest,
    ManifestRefused,
    bytes_of,
    hex_of,
    placed,
    planned,
)
from services.settlement.metrics import SettlementMetrics
from services.settlement.opening import Openings, book_terms
from services.settlement.records import CHAIN, DEPLOYMENT, OPENING, PARTY, TRANSACTION, Opening, TransactionKind
from services.settlement.registering import (
    REGISTRATION,
    REGISTRATION_GAS,
    REQUESTS_MAX,
    VOUCHED_BYTES_MAX,
    ConsentRequest,
    NotToBeRegistered,
    NotVouchedFor,
    Registering,
)
from services.settlement.service import Follower
from services.settlement.vouching import ConsentForged, NothingToVouchFor, RequestsNotTrusted, vouched
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MASTER_KEY, MSP, T0, terms

ISSUER: Final = 2
"""Which of the chain's accounts vouches for Dutch parties."""
PAYOUT: Final = f"0x{'7' * 40}"
OWN_KEY: Final = LocalChainSigner(b"\x22" * 32)
LIMIT_E4: Final = 70_000


class Relayed:
    """A settlement that administers nothing."""

    def __init__(self, here: Settling) -> None:
        self.here = here
        self.units = here.world.ports.units
        books = StoredBooks(self.units)
        self.access = replace(here.access, books=books)
        self.issuer = here.chain.account(ISSUER)
        self.registering = Registering(here.world.ports, self.access, {"NL": [self.issuer.address]})
        self.words = AgreementWords(here.world.ports, self.access)
        self.openings = Openings(here.world.ports, self.access, books, None)

    async def follow(self) -> None:
        """Follow until nothing moves, and once more when that is final."""
        ports = self.here.world.ports
        for _ in range(2):
            follower = Follower(ports, self.access, SettlementMetrics(Metrics()), lambda _: None, self.openings)
            await self.here.follow(follower)
            self.here.fake.fake.mine(3)

    async def send(self, to: bytes, call: bytes, *, by: ChainSigner | None = None) -> None:
        assert (await self.here.chain.final(await self.here.chain.sent(to, call, by=by))).has_succeeded

    async def vouched(self, *parties: PartyId, by: ChainSigner | None = None, nonce: int | None = None) -> list[bytes]:
        until = self.here.world.clock.now() + timedelta(days=365)
        requests = await self.registering.requests()
        found = await vouched(
            requests, by or self.issuer, recovered_address, parties=parties, until=until, first_nonce=nonce
        )
        return [each.raw for each in found.values()]

    async def register(self) -> None:
        for party in (CPO, MSP):
            await self.registering.ask(party, ConsentRequest(payout=PAYOUT))
        await self.registering.take(await self.vouched())
        await self.follow()

    async def opening(self) -> Opening:
        async with self.units.begin() as unit:
            (found,) = await unit.table(OPENING).select()
        return found

    async def sent(self) -> Sequence[TransactionKind]:
        async with self.units.begin() as unit:
            return [each.kind for each in await unit.table(TRANSACTION).select()]


@pytest.fixture
async def relayed() -> AsyncIterator[Relayed]:
    async with open_settling() as here:
        await here.store_deployment()
        found = Relayed(here)
        grant = contracts.GRANT_ROLE.call(contracts.issuer_role("NL"), found.issuer.address)
        await found.send(here.market.deployment.registry, grant)
        yield found


async def test_hosted_parties_are_registered_and_their_guarantee_opens_once_covered(
    relayed: Relayed,
) -> None:
    here = relayed.here
    await here.sign(terms(settlement_mode=SettlementMode.GUARANTEE, credit_limit_e4=LIMIT_E4))
    await relayed.follow()
    assert (await relayed.opening()).waiting == "the registration of NL-TUL and NL-ZON"

    await relayed.register()
    assert (await relayed.opening()).waiting == f"cover of NL-ZON: {LIMIT_E4} e4 EUR more"
    (shown,) = await relayed.words.shown(MSP)
    assert (shown["cover"]["missing_e4"], shown["cover"]["party_number"]) == (LIMIT_E4, 2)
    assert (await relayed.words.shown(CPO))[0]["cover"]["missing_e4"] == 0
    await here.market.deposit(2, LIMIT_E4)
    await relayed.follow()

    state, (reserved,) = await here.in_the_book(await relayed.opening())
    assert (state.credit_limit_e4, reserved, await relayed.sent()) == (LIMIT_E4, LIMIT_E4, [TransactionKind.OPEN])
    assert (await relayed.registering.requests()).registrations == ()
    party = await here.chain.chain.call(here.market.deployment.registry, contracts.PARTY.call(1))
    assert contracts.PARTY.answer(party)[0][3:] == (party_signer(MASTER_KEY, CPO).address, bytes.fromhex(PAYOUT[2:]))


async def test_only_what_was_consented_to_and_an_issuer_sends_is_relayed(relayed: Relayed) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    stranger = relayed.here.chain.account(5)

    (by_stranger,) = await relayed.vouched(by=stranger, nonce=0)
    (before,) = await relayed.vouched()
    await relayed.registering.ask(CPO, ConsentRequest(payout=f"0x{'8' * 40}"))
    for raw, why in ((by_stranger, "does not wait"), (before, "does not wait")):
        with pytest.raises(NotVouchedFor, match=why):
            await relayed.registering.take([raw])
    (again,) = await relayed.vouched(by=stranger, nonce=0)
    with pytest.raises(NotVouchedFor, match="is no issuer of NL"):
        await relayed.registering.take([again])
    with pytest.raises(NothingToVouchFor):
        await relayed.vouched(by=stranger)
    with pytest.raises(NothingToVouchFor, match="NL-ZON"):
        await relayed.vouched(MSP)
    other = await relayed.here.chain.signed(relayed.here.market.contracts.token, b"", by=relayed.issuer)
    with pytest.raises(NotVouchedFor, match="not for the registry"):
        await relayed.registering.take([other])

    await relayed.registering.take(await relayed.vouched())
    with pytest.raises(NotToBeRegistered, match="on its way"):
        await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    await relayed.follow()
    with pytest.raises(NotToBeRegistered):
        await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))


async def test_a_nonce_that_the_issuer_used_for_something_else_is_told_and_vouched_for_anew(relayed: Relayed) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    raws = await relayed.vouched()
    token = relayed.here.market.contracts.token
    await relayed.send(token, contracts.APPROVE.call(token, 1), by=relayed.issuer)

    await relayed.registering.take(raws)
    await relayed.follow()
    (shown,) = (await relayed.registering.requests()).registrations
    assert shown.waiting == "another transaction of the issuer took its nonce: vouch again"
    await relayed.registering.take(await relayed.vouched())
    await relayed.follow()

    async with relayed.units.begin() as unit:
        assert await unit.table(REGISTRATION).count() == 0
        party = await unit.table(PARTY).get(CPO)
    assert party is not None
    assert party.number == 1


def twice(requests: Any) -> Any:
    """Put another payout before the one that was consented to, as of the same party in other letters."""
    (one,) = requests.registrations
    first = msgspec.structs.replace(one, party_id=one.party_id.lower(), payout=f"0x{'8' * 40}")
    return msgspec.structs.replace(requests, registrations=(first, one))


def of_much_gas(requests: Any) -> Any:
    return msgspec.structs.replace(requests, gas=REGISTRATION_GAS + 1)


@pytest.mark.parametrize("forged", [twice, of_much_gas])
async def test_a_file_that_no_settlement_writes_is_not_signed(relayed: Relayed, forged: Callable[[Any], Any]) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    requests = await relayed.registering.requests()

    with pytest.raises(RequestsNotTrusted):
        await vouched(forged(requests), relayed.issuer, recovered_address, parties=(), until=T0, first_nonce=None)


@pytest.mark.parametrize(
    "forged",
    [
        lambda requests: replace_registration(requests, consent="0x" + "zz" * 64),
        lambda requests: replace_registration(requests, consent="0x00"),
        lambda requests: msgspec.structs.replace(requests, max_fee_per_gas=-1),
    ],
)
async def test_a_file_that_is_not_of_its_form_is_refused_in_one_sentence(
    relayed: Relayed, tmp_path: Path, forged: Callable[[Any], Any]
) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    file = tmp_path / "requests.json"
    file.write_bytes(msgspec.json.encode(forged(await relayed.registering.requests())))

    with pytest.raises(OptionRefused, match="holds no registrations"):
        run_vouch(
            registrations=file,
            keystore=tmp_path,
            passphrase_file=None,
            passphrase_fd=None,
            parties=(),
            days=1,
            nonce=None,
        )


async def test_the_issuer_is_told_what_it_signs_and_what_that_costs(
    relayed: Relayed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    requests = await relayed.registering.requests()
    file, passphrase = tmp_path / "requests.json", tmp_path / "passphrase"
    file.write_bytes(msgspec.json.encode(replace_registration(requests, party_id="nl-tul")))
    passphrase.write_text("canary-passphrase-91c4")
    passphrase.chmod(0o600)
    new_key(tmp_path / "issuer", passphrase.read_bytes(), randomness=SeededRandomness(7), scrypt_n=2**10)

    capsys.readouterr()
    options = {"keystore": tmp_path / "issuer", "passphrase_file": passphrase, "passphrase_fd": None}
    await asyncio.to_thread(run_vouch, registrations=file, parties=(), days=1, nonce=0, **options)  # type: ignore[arg-type]

    printed = capsys.readouterr()
    above, line = printed.err.splitlines()
    cost_wei = requests.gas * requests.max_fee_per_gas
    assert above == f"chain {requests.chain_id}, registry {requests.registry}, at most {cost_wei} wei for each"
    signer = hex_of(party_signer(MASTER_KEY, CPO).address)
    assert line.endswith(f"that {signer} signs for NL-TUL, which is paid out to {PAYOUT}")
    (raw,) = json.loads(printed.out)["transactions"]
    assert read_raw_transaction(bytes.fromhex(raw[2:])).transaction.to == relayed.here.market.deployment.registry


@pytest.mark.parametrize("payout", ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", f"0x{'0' * 40}"])
async def test_an_account_with_a_digit_wrong_and_nobody_s_are_refused(relayed: Relayed, payout: str) -> None:
    await relayed.here.sign(terms(), outside=MSP)
    await relayed.follow()
    own = {"deadline": T0 + timedelta(days=30), "consent": "00" * 64}

    with pytest.raises(ManifestRefused):
        await relayed.registering.ask(CPO, ConsentRequest(payout=payout))
    with pytest.raises(ManifestRefused):
        await relayed.registering.ask(MSP, ConsentRequest(payout=PAYOUT, signer=payout, **own))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_fee_too_low", [True, False])
async def test_a_registration_that_gets_nowhere_is_vouched_for_anew(relayed: Relayed, *, is_fee_too_low: bool) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    nonce = None if is_fee_too_low else 99
    (raw,) = await relayed.vouched(nonce=nonce)
    if is_fee_too_low:
        relayed.here.fake.fake.base_fee *= 100
    await relayed.registering.take([raw])
    await relayed.registering.advance()
    taken = read_raw_transaction(raw).transaction.nonce
    with pytest.raises(NotToBeRegistered, match=f"vouch --party NL-TUL`, with `--nonce {taken}`"):
        await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    with pytest.raises(NothingToVouchFor):
        await relayed.vouched()

    await relayed.registering.take(await relayed.vouched(CPO, nonce=taken if is_fee_too_low else None))
    await relayed.follow()

    assert (await relayed.registering.requests()).registrations == ()


async def test_as_many_transactions_as_may_be_handed_in_fit_into_a_body(relayed: Relayed) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    (raw,) = await relayed.vouched()
    transport = httpx.ASGITransport(app=relayed.here.service().app)
    headers = {"Authorization": f"Bearer {'i' * 40}"}

    async def refused(*transactions: str) -> str:
        body = json.dumps({"transactions": transactions}, indent=1)
        async with httpx.AsyncClient(transport=transport, base_url="http://settlement", trust_env=False) as http:
            answer = await http.post("/internal/registrations", content=body, headers=headers)
        return str(answer.json()["error"])

    most = f"0x{raw.hex()}0000000000", *["0x" + raw.hex() + "00" * 40] * (REQUESTS_MAX - 1)
    assert await refused(*most) == "MalformedTransaction"
    assert await refused("0" * VOUCHED_BYTES_MAX) == "NotUnderstood"


async def test_an_issuer_may_send_by_itself(relayed: Relayed) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    (raw,) = await relayed.vouched()
    await relayed.here.chain.chain.send_raw(raw)
    await relayed.follow()

    assert (await relayed.registering.requests()).registrations == ()
    assert (await relayed.opening()).waiting == "the registration of NL-ZON"


async def test_a_registration_that_may_still_go_gives_no_number(relayed: Relayed) -> None:
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    await relayed.registering.take(await relayed.vouched())
    relayed.here.fake.fake.is_held = True
    await relayed.openings.advance()
    relayed.here.fake.fake.is_held = False
    relayed.here.fake.fake.mine(1)

    await relayed.openings.advance()

    async with relayed.units.begin() as unit:
        party = await unit.table(PARTY).get(CPO)
    assert party is not None
    assert party.number is None


async def test_a_party_that_keeps_its_key_consents_and_signs_by_itself(relayed: Relayed) -> None:
    here = relayed.here
    await here.sign(terms(), outside=MSP)
    await relayed.follow()
    deadline = T0 + timedelta(days=30)
    registry = Registry(chain_id=here.market.deployment.chain_id, address=here.market.deployment.registry)
    digest = registration_digest(
        registry, party_id=MSP, signer=OWN_KEY.address, payout=OWN_KEY.address, deadline=deadline
    )
    consent = (await OWN_KEY.sign_digest(digest)).hex()
    given = {"payout": hex_of(OWN_KEY.address), "signer": hex_of(OWN_KEY.address), "deadline": deadline}
    with pytest.raises(NotUnderstood, match="keeps its own key"):
        await relayed.registering.ask(MSP, ConsentRequest(payout=PAYOUT))
    with pytest.raises(NotUnderstood, match="signed for here"):
        await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT, consent=consent))
    forged: dict[str, Any] = given | {"payout": PAYOUT, "consent": consent}
    with pytest.raises(SignatureNotOfParty):
        await relayed.registering.ask(MSP, ConsentRequest(**forged))
    await relayed.registering.ask(MSP, ConsentRequest(**(given | {"consent": consent})))  # type: ignore[arg-type]
    requests = await relayed.registering.requests()
    tampered = replace_registration(requests, payout=PAYOUT)
    with pytest.raises(ConsentForged):
        await vouched(tampered, relayed.issuer, recovered_address, parties=(), until=deadline, first_nonce=None)
    await relayed.registering.ask(CPO, ConsentRequest(payout=PAYOUT))
    await relayed.registering.take(await relayed.vouched())
    await relayed.follow()

    assert (await relayed.opening()).waiting == "the signature of NL-ZON under the agreement"
    (shown,) = await relayed.words.shown(MSP)
    named = bytes.fromhex(shown["sign"]["digest"])
    right, wrong = await OWN_KEY.sign_digest(named), await relayed.issuer.sign_digest(named)
    with pytest.raises(SignatureNotOfParty):
        await relayed.words.take(MSP, named, wrong)
    with pytest.raises(NotHere):
        await relayed.words.take(MSP, bytes(32), right)
    await relayed.words.take(MSP, named, right)
    await relayed.words.take(MSP, named, right)
    await relayed.follow()

    assert (await relayed.opening()).book_agreement is not None
    with pytest.raises(NotHere):
        await relayed.words.take(MSP, named, right)


def replace_registration(requests: Any, **changes: Any) -> Any:
    (one,) = requests.registrations
    return msgspec.structs.replace(requests, registrations=(msgspec.structs.replace(one, **changes),))


async def test_a_party_whose_key_was_rotated_signs_anew_and_its_agreement_opens(relayed: Relayed) -> None:
    here, registry = relayed.here, relayed.here.market.deployment.registry
    await here.sign(terms())
    await relayed.follow()
    await relayed.register()
    opened = await relayed.opening()
    async with relayed.units.begin() as unit:
        party = await unit.table(PARTY).get(MSP)
        assert party is not None
        await unit.table(PARTY).put(replace(party, is_hosted=False))
        await unit.table(OPENING).put(replace(opened, number=1, book_agreement=None, document=b"\2" * 32))
        await unit.commit()
    (shown,) = await relayed.words.shown(MSP)
    named = bytes.fromhex(shown["sign"]["digest"])
    old, deadline = party_signer(MASTER_KEY, MSP), T0 + timedelta(days=9)
    await relayed.words.take(MSP, named, await old.sign_digest(named))
    domain = Registry(chain_id=here.market.deployment.chain_id, address=registry)
    about: dict[str, Any] = {"number": 2, "signer": OWN_KEY.address, "deadline": deadline}
    until = int(deadline.timestamp())
    word = await old.sign_digest(signer_rotation_digest(domain, nonce=0, **about))
    await relayed.send(
        registry, contracts.ROTATE_SIGNER.call(2, OWN_KEY.address, until, contracts.signature_words(word))
    )
    here.chain.clock.step_by(timedelta(seconds=ROTATION_DELAY_S + 3600))
    word = await OWN_KEY.sign_digest(signer_acceptance_digest(domain, nonce=1, **about))
    await relayed.send(registry, contracts.COMPLETE_ROTATION.call(2, until, contracts.signature_words(word)))
    await relayed.follow()
    assert (await relayed.opening()).waiting == "the book refuses: SettlementBookWrongSigner"

    await relayed.words.take(MSP, named, await OWN_KEY.sign_digest(named))
    await relayed.follow()

    assert (await relayed.opening()).book_agreement is not None


async def test_two_signatures_of_one_party_under_the_same_terms_are_refused(relayed: Relayed) -> None:
    """A signer that draws its nonces gives another each time; which of them counts must not be open."""
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.register()
    opened = await relayed.opening()
    async with relayed.units.begin() as unit:
        await unit.table(OPENING).put(replace(opened, number=1, book_agreement=None))
        await unit.commit()
    (shown,) = await relayed.words.shown(CPO)
    named = bytes.fromhex(shown["sign"]["digest"])
    signature = await party_signer(MASTER_KEY, CPO).sign_digest(named)
    await relayed.words.take(CPO, named, signature)
    relayed.words._access = replace(  # as if this, too, were its signer's
        relayed.access, recovered_address=lambda *_: party_signer(MASTER_KEY, CPO).address
    )

    with pytest.raises(AlreadyAccepted):
        await relayed.words.take(CPO, named, bytes(64))


@pytest.mark.parametrize("changes", [{}, {"document": b"\1" * 32}, {"credit_limit_e4": LIMIT_E4 + 1}])
async def test_a_key_that_stands_in_the_book_already_is_taken_over_or_left(
    relayed: Relayed, changes: dict[str, Any]
) -> None:
    """Under another deadline the same document is the same agreement; with other terms it takes the next number."""
    is_same = not changes
    await relayed.here.sign(terms(settlement_mode=SettlementMode.CREDIT_LINE, credit_limit_e4=LIMIT_E4))
    await relayed.follow()
    await relayed.register()
    opened = await relayed.opening()
    forgotten = replace(opened, deadline=None, book_agreement=None, **changes)
    async with relayed.units.begin() as unit:
        await unit.table(OPENING).put(forgotten)
        await unit.commit()
    relayed.here.world.clock.step_by(timedelta(days=1))
    relayed.openings = Openings(relayed.here.world.ports, relayed.access, StoredBooks(relayed.units), None)

    for _ in range(3):
        await relayed.openings.advance()
    await relayed.follow()

    anew = await relayed.opening()
    assert anew.waiting is None
    assert anew.number == (0 if is_same else 1)
    assert (anew.book_agreement == opened.book_agreement) is is_same
    assert len(await relayed.sent()) == (1 if is_same else 2)


async def test_an_agreement_that_may_still_go_is_not_open(relayed: Relayed) -> None:
    """Anybody may send what both signed; it counts from a final block."""
    await relayed.here.sign(terms())
    await relayed.follow()
    await relayed.register()
    anew = replace(await relayed.opening(), number=1, book_agreement=None, document=b"\2" * 32)
    assert anew.deadline is not None
    async with relayed.units.begin() as unit:
        await unit.table(OPENING).put(anew)
        parties = {each.party_id: each for each in await unit.table(PARTY).select()}
        await unit.commit()
    book, named = relayed.here.market.deployment.book("EUR"), book_terms(anew, parties, deadline=anew.deadline)
    assert book is not None
    by_cpo, by_msp = [
        await party_signer(MASTER_KEY, each).sign_digest(agreement_digest(book, named)) for each in (CPO, MSP)
    ]
    relayed.here.fake.fake.is_held = True
    await relayed.here.chain.sent(book.address, open_agreement_call(named, by_cpo=by_cpo, by_msp=by_msp))
    relayed.here.fake.fake.mine(1)

    await relayed.openings.advance()
    assert (await relayed.opening()).book_agreement is None
    relayed.here.fake.fake.mine(3)
    await relayed.openings.advance()

    assert (await relayed.opening()).book_agreement == agreement_key(named)
    assert await relayed.sent() == [TransactionKind.OPEN]


async def test_cover_is_paid_in_up_to_an_amount_and_no_further_than_the_account_can(relayed: Relayed) -> None:
    here = relayed.here
    await here.sign(terms())
    await relayed.follow()
    await relayed.register()
    holder = here.chain.account(6)
    deployer = Deployer(here.chain.chain, holder, LoopTimer(), mints=False)
    await relayed.send(here.market.contracts.token, contracts.MINT.call(holder.address, 500))

    assert [await deployer.pay_in(here.market.contracts, 2, up_to_e4=each) for each in (300, 300, 500)] == [300, 0, 200]
    with pytest.raises(TokensShort, match="holds 0 units"):
        await deployer.pay_in(here.market.contracts, 2, up_to_e4=501)
    assert await here.market.collateral_of(2) == 500


async def test_a_deposit_that_waited_while_its_call_was_cut_is_not_made_twice(relayed: Relayed) -> None:
    here = relayed.here
    await here.sign(terms())
    await relayed.follow()
    await relayed.register()
    holder, into = here.chain.account(6), here.market.contracts
    await relayed.send(into.token, contracts.MINT.call(holder.address, 600))
    await relayed.send(into.token, contracts.APPROVE.call(into.vault, 300), by=holder)
    here.fake.fake.is_held = True
    await here.chain.sent(into.vault, contracts.DEPOSIT.call(2, 300), by=holder)
    told = []

    def progress(waits_for: str) -> None:
        told.append(waits_for)
        here.fake.fake.is_held = False

    deployer = Deployer(here.chain.chain, holder, LoopTimer(), mints=False)
    assert await deployer.pay_in(into, 2, up_to_e4=300, progress=progress) == 0
    assert (await here.market.collateral_of(2), len(told)) == (300, 1)


async def test_a_deposit_waits_as_long_as_a_slow_chain_takes(relayed: Relayed) -> None:
    here = relayed.here
    await here.sign(terms())
    await relayed.follow()
    await relayed.register()
    holder, into = here.chain.account(6), here.market.contracts
    await relayed.send(into.token, contracts.MINT.call(holder.address, 300))
    here.fake.fake.is_held = True

    class Slow:
        """Five minutes pass while one sleeps, and bring a block; the third makes a transaction final."""

        now_s = 0.0

        def monotonic_s(self) -> float:
            return self.now_s

        async def sleep(self, seconds: float) -> None:
            assert seconds > 0
            self.now_s += 300
            here.fake.fake.mine(1)

    paying = [
        Deployer(here.chain.chain, holder, Slow(), mints=False, final_timeout_s=each)
        for each in (FINAL_TIMEOUT_S, DEPOSIT_FINAL_TIMEOUT_S)
    ]
    with pytest.raises(ChainUnavailable, match="not final after 120 s"):
        await paying[0].pay_in(into, 2, up_to_e4=300)
    assert await paying[1].pay_in(into, 2, up_to_e4=300) == 300


# What was given


class OurBuild:
    """A chain with a deployment's contracts on it, as far as their code goes."""

    def __init__(self, chain: Chain, plan: Manifest) -> None:
        self._chain = chain
        self.codes = {
            each.address: built_code(each.contract).replace(
                b"\x7f" + bytes(32), b"\x7f" + each.address.rjust(32, b"\0") if each.arguments else b"\x7f" + bytes(32)
            )
            for each in placed(plan)
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    async def code(self, address: bytes) -> bytes:
        return self.codes.get(address) or await self._chain.code(address)


async def given_in(here: Settling) -> tuple[Any, Manifest]:
    """Return a chain, and what somebody made there."""
    deployment, nobody = here.market.deployment, b"\5" * 20
    charter = Charter(
        admin=nobody, proposer=nobody, issuers={}, tokens={each.currency: each.token for each in deployment.currencies}
    )
    plan = planned(
        charter,
        chain_id=deployment.chain_id,
        genesis_hash=deployment.genesis_hash,
        deployer=nobody,
        first_nonce=0,
        first_block=0,
    )
    chain = OurBuild(here.chain.chain, plan)
    return chain, await hashed(chain, msgspec.structs.replace(plan, block=1))


async def hashed(chain: Any, manifest: Manifest) -> Manifest:
    """Have a file say itself what the code at its addresses is."""
    manifest = msgspec.structs.replace(manifest, code_hash=hex_of(bytes(32)))
    return msgspec.structs.replace(manifest, code_hash=hex_of(await code_hash_of(chain, manifest.deployment)))


async def test_a_deployment_is_taken_once_it_is_seen_and_another_never(here: Settling) -> None:
    ports, (chain, manifest) = here.world.ports, await given_in(here)
    euro = manifest.currencies[0]
    vault, hidden = hex_of(here.market.contracts.vault), f"0x{'c' * 40}"
    others = (
        msgspec.structs.replace(manifest, chain_id=1),
        msgspec.structs.replace(manifest, genesis_hash=hex_of(bytes(32))),
        msgspec.structs.replace(manifest, code_hash=hex_of(bytes(32))),
        msgspec.structs.replace(manifest, currencies=(msgspec.structs.replace(euro, vault=vault),)),
        msgspec.structs.replace(manifest, currencies=(msgspec.structs.replace(euro, confidential_disputes=hidden),)),
    )
    for other in (*others, *[await hashed(chain, each) for each in others[3:]]):
        with pytest.raises(DeploymentGone, match="WATTROAM_CHAIN_DEPLOYMENT"):
            await GivenDeployment(ports, chain, other).taken()
    for contract in (euro.vault, euro.disputes):
        built = chain.codes[bytes_of(contract)]
        chain.codes[bytes_of(contract)] = built[:-1] + b"\0"
        with pytest.raises(DeploymentGone, match="has other code than our build"):
            await GivenDeployment(ports, chain, await hashed(chain, manifest)).taken()
        chain.codes[bytes_of(contract)] = built
    built = chain.codes[bytes_of(manifest.evidence)]
    chain.codes[bytes_of(manifest.evidence)] = built.replace(b"\x7f" + bytes(32), b"\x7f" + bytes(31) + b"\1")
    with pytest.raises(DeploymentGone, match=r"MeterEvidence .* should not be given"):  # there is no precompile
        await GivenDeployment(ports, chain, manifest).taken()
    chain.codes[bytes_of(manifest.evidence)] = built
    async with ports.units.begin() as unit:
        assert await unit.table(DEPLOYMENT).count() == 0

    for _ in range(2):
        taken = await GivenDeployment(ports, chain, manifest).taken()
    assert taken == manifest.deployment
    async with ports.units.begin() as unit:
        (seen,) = await unit.table(CHAIN).select()
    assert (seen.genesis_hash, seen.looked_to) == (taken.genesis_hash, 0)
    here.fake.fake.is_down = True
    with pytest.raises(OtherDeployment):
        await GivenDeployment(ports, chain, msgspec.structs.replace(manifest, anchor=manifest.registry)).taken()


async def test_another_chain_that_comes_up_later_leaves_no_trace(here: Settling) -> None:
    await here.sign(terms())
    ports, books = here.world.ports, StoredBooks(here.world.ports.units)
    other = msgspec.structs.replace((await given_in(here))[1], chain_id=1)
    openings = Openings(ports, here.access, books, None, GivenDeployment(ports, here.chain.chain, other))
    follower = Follower(ports, here.access, SettlementMetrics(Metrics()), lambda _: None, openings)

    for is_down, told in ((True, ChainUnavailable), (False, DeploymentGone), (False, DeploymentGone)):
        here.fake.fake.is_down = is_down
        with pytest.raises(told):
            await follower.step()

    async with ports.units.begin() as unit:
        assert await unit.table(CHAIN).count() == 0
        assert await unit.table(DEPLOYMENT).count() == 0


@pytest.fixture
async def here() -> AsyncIterator[Settling]:
    async with open_settling() as found:
        yield found
