"""A month of a consortium, played on a chain or on a ledger: its facts, and all that befalls it, from one seed.

Back offices are played by the facts that they put into the log; everything from there on is the settlement as it is
deployed, with its contracts, banks and audit, in one process on a virtual clock. Charging itself is the deterministic
system's (`deterministic`), which the laboratory plays beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from emobility.adapters.chain_signing import (
    LocalChainSigner,
    mnemonic_signer,
    party_signer,
    proposer_signer,
    recovered_address,
)
from emobility.adapters.cosigned_ledger.ledger import WrittenLedger, open_ledger
from emobility.adapters.memory import LoopTimer, MemoryHttp, SeededRandomness, VirtualClock, memory_adapters
from emobility.adapters.memory.chain import FakeChain
from emobility.adapters.memory.contracts import settlement_contracts_in_python
from emobility.adapters.payments.test_provider import SandboxPayments
from emobility.adapters.signing import Ed25519Signer
from emobility.domain.agreement import RoamingAgreement
from emobility.domain.batch import contracts
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.statement import batch_tree
from emobility.domain.cdr import CDR, credit_of
from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import AgreementSigned, CDRAccepted
from emobility.events.event import Envelope, Event
from emobility.ports.chain import Chain
from emobility.ports.chain_signer import ChainSigner, UnsignedTransaction
from emobility.ports.ports import Ports
from emobility.runtime.telemetry import Metrics
from services.audit.audit import audited
from services.audit.report import AuditReport
from services.embedded.lab_market import (
    BEGINS_AT,
    CPOS,
    HOSTILE,
    MSPS,
    SILENT,
    TROUBLE,
    UNFUNDED,
    Charge,
    account,
    agreements,
    cdr_of,
)
from services.embedded.settling import FOLLOWERS
from services.settlement.acceptances import Acceptances, GivenAcceptance
from services.settlement.access import ChainAccess
from services.settlement.batching import statements_of
from services.settlement.books import StoredBooks
from services.settlement.closing import Closing, pair_statement
from services.settlement.crash_points import CrashPoint
from services.settlement.deployment import CHALLENGE_BOND_E4, CurrencyContracts, Deployer, Deployment
from services.settlement.intake import Intake
from services.settlement.metrics import SettlementMetrics
from services.settlement.money_records import PAYOUT, BankFileKind, PayoutRecord
from services.settlement.opening import PLAY_MONEY_E4, Openings, book_terms
from services.settlement.payables import follow_final_statements
from services.settlement.payouts import NothingToPay, Payouts
from services.settlement.records import (
    BATCH,
    DEPLOYMENT,
    OPENING,
    PARTY,
    STATEMENT,
    BatchRecord,
    DeploymentRecord,
    StatementRecord,
    StatementState,
)
from services.settlement.service import Follower

MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Of the account that administers contracts which are gone after the run."""
DAYS: Final = 32
"""From a Monday on; the last day's charges close the month."""
AFTER_DAYS: Final = 6
"""For signatures that do not come, windows and verdicts."""
DAY: Final = timedelta(days=1)
POLL_S: Final = 0.05
STEPS_MAX: Final = 400
LATE_PERCENT: Final = 6
CREDITED_PERCENT: Final = 4
KILLED_AT: Final = (CrashPoint.BYTES_STORED, CrashPoint.BYTES_SENT, CrashPoint.FINALITY_SEEN)
BLOCKS_LOST: Final = 6
CAMT: Final = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"


class BookKind(StrEnum):
    """Where the month is settled."""

    CHAIN = "chain"
    LEDGER = "ledger"


class Killed(BaseException):
    """The worker died here; nothing may catch it but who started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something that befell the month, and what became of it."""

    at: datetime
    what: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthRun:
    """What a month leaves.

    Attributes:
        final_e4: What became final, due less credit, by currency, in ten-thousandths.
        entries: Blocks of the chain, or entries of the ledger.
        head: Hash of the newest.
        countersigned: How many accounts countersigned the newest entry; None on a chain.
    """

    book: BookKind
    sessions: int
    statements: dict[StatementState, int]
    final_e4: dict[str, int]
    happened: tuple[Happened, ...]
    entries: int
    head: bytes
    countersigned: int | None
    report: AuditReport


async def played_month(
    seed: int,
    book: BookKind,
    *,
    days: int = DAYS,
    sessions_per_day: int = 1,
    progress: Callable[[str, int], None] = lambda _sentence, _permille: None,
) -> MonthRun:
    """Play a month; the same seed gives the same bytes. Call it within `run_virtual`.

    Args:
        seed: Draws charges.
        book: Where it is settled.
        days: How many; a short month has nine.
        sessions_per_day: Of each pair.
        progress: Told the day.
    """
    async with _opened(seed, book) as month:
        await month.open()
        for day in range(days):
            progress(f"{book}: {month.clock.now():%d %B}", 1_000 * day // (days + AFTER_DAYS))
            await month.trade(sessions_per_day)
            await month.turn(day)
        await month.closing.close_now()
        for day in range(AFTER_DAYS):
            await month.turn(days + day)
        await month.bank()
        await month.rest()
        return await month.ended()


@dataclass
class _Month:
    """The month under way."""

    book: BookKind
    ports: Ports
    clock: VirtualClock
    chance: random.Random
    chain: Chain
    access: ChainAccess
    deployer: Deployer
    closing: Closing
    intake: Intake
    terms: list[RoamingAgreement] = field(default_factory=agreements)
    happened: list[Happened] = field(default_factory=list)
    late: dict[int, list[tuple[RoamingAgreement, CDR]]] = field(default_factory=lambda: defaultdict(list))
    sessions: int = 0
    events: int = 0
    day: int = 0

    @property
    def admin(self) -> ChainSigner:
        return mnemonic_signer(MNEMONIC, 0)

    # The beginning

    async def open(self) -> None:
        """Have agreements signed, make the contracts, and bring those in whose keys are not here."""
        await self.tell(
            *(
                AgreementSigned(
                    agreement_id=each.agreement_id,
                    cpo_id=each.cpo_id,
                    emsp_id=each.emsp_id,
                    holder=holder,
                    agreement=each,
                    signed_at=self.clock.now(),
                )
                for each in self.terms
                for holder in (each.cpo_id, each.emsp_id)
                if holder not in {SILENT, HOSTILE}
            )
        )
        while not await self._are_all_told():
            await self.ports.timer.sleep(POLL_S)
        deployment = await self.deployer.deploy(sorted(CPOS), proposer=self.access.proposer.address)
        async with self.ports.units.begin() as unit:
            await unit.table(DEPLOYMENT).put(DeploymentRecord(chain_id=deployment.chain_id, deployment=deployment))
            await unit.commit()
        await self._open_trouble(deployment)
        await self.rest()
        payouts = Payouts(self.ports)
        for currency, cpo_id in CPOS.items():
            for party_id in (cpo_id, *MSPS):
                await payouts.enter_account(party_id, account(party_id, currency))

    async def _are_all_told(self) -> bool:
        async with self.ports.units.begin() as unit:
            return await unit.table(OPENING).count() == len(self.terms)

    async def _open_trouble(self, deployment: Deployment) -> None:
        """Open the agreements of the three by hand: two sign themselves, one has no cover."""
        cpo_id, into = CPOS["EUR"], deployment.of("EUR")
        assert into is not None
        signers = {each: self.key_of(each) for each in (cpo_id, *TROUBLE)}
        numbers = await self.deployer.register_parties(deployment, signers)
        covered = [numbers[each] for each in signers if each != UNFUNDED]
        await self.deployer.deposit(into, dict.fromkeys(covered, PLAY_MONEY_E4))
        async with self.ports.units.begin() as unit:
            known = {each.party_id: each for each in await unit.table(PARTY).select({"party_id": tuple(signers)})}
            parties = {each: replace(known[each], number=numbers[each]) for each in known}
            for party in parties.values():
                await unit.table(PARTY).put(party)
            found = await unit.table(OPENING).select({"cpo_id": cpo_id, "emsp_id": TROUBLE})
            openings = [replace(each, number=0, deadline=self.clock.now() + 90 * DAY) for each in found]
            await unit.commit()
        keys = await self.deployer.open_agreements(
            deployment,
            [
                (book_terms(each, parties, deadline=each.deadline), signers[cpo_id], signers[each.emsp_id])
                for each in openings
                if each.deadline is not None
            ],
        )
        async with self.ports.units.begin() as unit:
            for opening, key in zip(openings, keys, strict=True):
                await unit.table(OPENING).put(replace(opening, book_agreement=key))
            await unit.commit()

    def key_of(self, party_id: PartyId) -> ChainSigner:
        """Return who signs for a party; two keep their own keys."""
        if party_id in {SILENT, HOSTILE}:
            return LocalChainSigner(keccak256(f"lab {party_id}".encode()))
        return self.access.signer_of(party_id)

    # A day

    async def trade(self, sessions_per_day: int) -> None:
        """Have drivers charge: most is accepted at once, some late, some credited and replaced."""
        now, told = self.clock.now(), list[Event]()
        for terms in self.terms:
            for number in range(sessions_per_day):
                charge = Charge(
                    cdr_id=f"{terms.emsp_id.party_id}-{self.day}-{number}",
                    ended_at=now - timedelta(minutes=self.chance.randrange(600)),
                    energy_wh=self.chance.randrange(1_000, 60_000),
                )
                cdr = cdr_of(terms, charge, issued_at=now)
                self.sessions += 1
                if self.chance.randrange(100) < LATE_PERCENT:
                    self.late[self.day + self.chance.randrange(3, 9)].append((terms, cdr))
                    continue
                told.append(self._accepted(terms, cdr))
                if self.chance.randrange(100) < CREDITED_PERCENT:
                    told += self._corrected(terms, cdr, charge)
        for terms, cdr in self.late.pop(self.day, ()):
            told.append(self._accepted(terms, cdr))
        await self.tell(*told)

    def _corrected(self, terms: RoamingAgreement, cdr: CDR, charge: Charge) -> list[Event]:
        """Return the credit of a CDR that had too many Wh, and the one in its place."""
        now = self.clock.now()
        credit = credit_of(cdr, cdr_id=f"{cdr.cdr_id}-C", issued_at=now, remark="the meter was read twice")
        instead = cdr_of(
            terms, replace(charge, cdr_id=f"{cdr.cdr_id}-R", energy_wh=charge.energy_wh - 500), issued_at=now
        )
        return [self._accepted(terms, credit), self._accepted(terms, instead)]

    def _accepted(self, terms: RoamingAgreement, cdr: CDR) -> CDRAccepted:
        return CDRAccepted(
            agreement_id=terms.agreement_id,
            cpo_id=terms.cpo_id,
            emsp_id=terms.emsp_id,
            cdr=cdr,
            accepted_at=self.clock.now(),
            commitment=keccak256(f"{terms.cpo_id}/{cdr.cdr_id}".encode()),
        )

    async def turn(self, day: int) -> None:
        """Let a day end: periods close, what is due happens, and the worker goes on until it rests."""
        self.clock.step_by(DAY)
        self.day = day + 1
        await self.closing.close_due()
        week, weekday = divmod(self.day, 7)
        if weekday == 1 and 0 < week <= len(KILLED_AT):
            await self._kill(KILLED_AT[week - 1])
        await self.rest()
        if weekday == 1 and week == 1:
            await self._lose_blocks()
        if weekday == 2 and week == 3:
            await self._fund()
        await self._be_hostile()
        await self.rest()

    async def _kill(self, point: CrashPoint) -> None:
        """Kill the worker where it hurts; another one follows."""

        def reached(at: CrashPoint) -> None:
            if at is point:
                raise Killed(point)

        try:
            await self._step(self.follower(reached))
        except Killed:
            self._note(f"the worker is killed at {point}", "another one goes on from rows")

    async def _lose_blocks(self) -> None:
        """Have a chain lose final blocks; a ledger has none to lose, so another process reads all of it instead."""
        if isinstance(self.chain, FakeChain):
            lost = self.chain.reorganise(BLOCKS_LOST, keep_transactions=False)
            await self.rest()
            again = [each for each in lost if await self.chain.receipt(each) is not None]
            self._note(
                f"the chain loses {BLOCKS_LOST} final blocks",
                f"of their {len(lost)} transactions {len(again)} are there again, in the same bytes",
            )
        elif isinstance(self.chain, WrittenLedger):
            other = await open_ledger(
                self.ports.units, operator=self.admin, clock=self.clock, randomness=self.ports.randomness
            )
            assert await other.head() == await self.chain.head()
            self._note(
                "another process opens the ledger", f"carried out {other.replica.head.number} entries, same head"
            )

    async def _fund(self) -> None:
        before = [each for each in await self.of(UNFUNDED) if each.state is StatementState.UNFUNDED]
        into, number = await self._registered(UNFUNDED)
        await self.deployer.deposit(into, {number: PLAY_MONEY_E4})
        await self.rest()
        after = [each for each in await self.of(UNFUNDED) if each.state is StatementState.UNFUNDED]
        self._note(
            f"{UNFUNDED} pays cover in at last", f"statements without cover: {len(before)} before, {len(after)} after"
        )

    async def _registered(self, party_id: PartyId) -> tuple[CurrencyContracts, int]:
        """Return what settles euro, and a party's number there."""
        async with self.ports.units.begin() as unit:
            (row,) = await unit.table(DEPLOYMENT).select()
            party = await unit.table(PARTY).get(party_id)
        into = row.deployment.of("EUR")
        assert into is not None
        assert party is not None
        assert party.number is not None
        return into, party.number

    # Who makes trouble

    async def _be_hostile(self) -> None:
        """Hand in somebody else's signature while it is asked; contest what ripens; lose the quarrel."""
        for statement in await self.of(HOSTILE):
            if statement.state is StatementState.CLOSED and statement.batch_id is not None:
                await self._forge(statement)
            if statement.state is StatementState.RIPENING:
                await self._contest(statement)

    async def _forge(self, statement: StatementRecord) -> None:
        assert statement.batch_id is not None
        async with self.ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(statement.batch_id)
        assert batch is not None
        given = GivenAcceptance(
            chain_id=batch.chain_id,
            book=batch.book,
            batch_id=batch.batch_id,
            signature=await self.key_of(SILENT).sign_digest(batch.batch_id),
        )
        what = f"{HOSTILE} hands in a signature that is not its own"
        if any(each.what == what for each in self.happened):
            return
        try:
            await Acceptances(self.ports, self.access).take(HOSTILE, statement.statement_hash, given)
        except RuleBroken as refusal:
            self._note(what, f"refused: {type(refusal).__name__}")

    async def _contest(self, statement: StatementRecord) -> None:
        assert statement.batch_id is not None
        async with self.ports.units.begin() as unit:
            batch = await unit.table(BATCH).get(statement.batch_id)
            assert batch is not None
            together = [pair_statement(each) for each in await statements_of(unit, batch)]
        assert statement.position is not None
        pair, proof = pair_statement(statement), batch_tree(together).proof(statement.position)
        words = (pair.figures, pair.roots), (batch.batch_id, proof.index, proof.count, proof.siblings)
        await self._call(self.key_of(HOSTILE), batch, contracts.CHALLENGE.call(*words))
        await self.rest()
        await self._call(self.admin, batch, contracts.GRANT_ROLE.call(contracts.RESOLVER_ROLE, self.admin.address))
        staked = await self._registered(HOSTILE)
        before_e4 = await self.deployer.collateral_of(*staked)
        await self._call(self.admin, batch, contracts.DECIDE_CHALLENGE.call(*words, False))
        lost_e4 = before_e4 - await self.deployer.collateral_of(*staked)
        await self.rest()
        (decided,) = [each for each in await self.of(HOSTILE) if each.statement_hash == statement.statement_hash]
        bond = "its bond is lost" if lost_e4 == CHALLENGE_BOND_E4 else f"{lost_e4} ten-thousandths are lost"
        self._note(
            f"{HOSTILE} contests statement {statement.sequence} with a bond",
            f"the verdict makes it {decided.state}; {bond}",
        )

    async def _call(self, signer: ChainSigner, batch: BatchRecord, calldata: bytes) -> None:
        fees = await self.chain.fees()
        gas = await self.chain.estimate_gas(signer.address, batch.book, calldata)
        nonce = await self.chain.nonce(signer.address, with_waiting=True)
        transaction = UnsignedTransaction(
            chain_id=batch.chain_id, nonce=nonce, gas_limit=2 * gas, fees=fees, to=batch.book, calldata=calldata
        )
        receipt = await self.chain.receipt(await self.chain.send_raw(await signer.sign_transaction(transaction)))
        assert receipt is not None
        assert receipt.has_succeeded, receipt

    # Banks

    async def bank(self) -> None:
        """Have MSPs pay what is due by bank; the bank takes the first payment back, and it is paid again."""
        payouts = Payouts(self.ports)
        for currency in CPOS:
            for msp in MSPS:
                with suppress(NothingToPay):
                    await payouts.export(msp, BankFileKind.CREDIT_TRANSFERS, currency, on=self.clock.now().date())
        async with self.ports.units.begin() as unit:
            rows = await unit.table(PAYOUT).select(order_by=("cpo_id", "emsp_id", "end_to_end_id"))
        for place, row in enumerate(rows):
            entries = [_entry(row, f"{place}-1", row.cents)]
            if place == 0:
                entries += [_entry(row, f"{place}-2", row.cents, reason="AC04"), _entry(row, f"{place}-3", row.cents)]
            taken = await payouts.take_file(row.cpo_id, _camt(entries, account(row.cpo_id, row.currency).iban))
            if place == 0:
                booked = ", ".join(f"{count} {outcome}" for outcome, count in sorted(taken.outcomes.items()))
                self._note(f"a bank returns the payment of {row.emsp_id} to {row.cpo_id}", f"it books {booked}")

    # The end

    async def ended(self) -> MonthRun:
        """Audit, and say what came of it."""
        async with self.ports.units.begin() as unit:
            statements = await unit.table(STATEMENT).select()
        silent = {each.state for each in await self.of(SILENT)}
        self._note(f"{SILENT} never signs", f"its statements are {', '.join(sorted(silent))}")
        report, _ = await audited(self.ports, chain=self.chain)
        states: dict[StatementState, int] = defaultdict(int)
        final_e4: dict[str, int] = defaultdict(int)
        for each in statements:
            states[each.state] += 1
            if each.state is StatementState.FINAL:
                final_e4[each.currency] += each.due_e4 - each.credit_e4
        head, countersigned = await self.chain.head(), None
        if self.access.ledger is not None:
            found = await self.access.ledger.countersignatures()
            countersigned = sum(each.number == head.number for each in found)
        return MonthRun(
            book=self.book,
            sessions=self.sessions,
            statements=dict(sorted(states.items())),
            final_e4=dict(sorted(final_e4.items())),
            happened=tuple(self.happened),
            entries=head.number + 1,
            head=head.hash,
            countersigned=countersigned,
            report=report,
        )

    # Parts

    async def tell(self, *events: Event) -> None:
        """Put facts into the log, as back offices do."""
        now, envelopes = self.clock.now(), list[Envelope]()
        for event in events:
            self.events += 1
            name = f"lab/{self.events}"
            envelopes.append(Envelope(event=event, event_id=name, correlation_id=name, recorded_at=now))
        await self.ports.event_log.append(envelopes)
        await self._handled()

    async def _handled(self) -> None:
        async def behind() -> int:
            lags = await self.ports.event_log.lag()
            return sum(lags.get(group, 0) for group in FOLLOWERS[:2])

        while await behind():
            await self.ports.timer.sleep(POLL_S)

    async def rest(self) -> None:
        """Let a worker that has just been started go on until nothing moves."""
        await self._step(self.follower())
        await self._handled()

    async def _step(self, follower: Follower) -> None:
        for _ in range(STEPS_MAX):
            if not await follower.step():
                return
        raise AssertionError(f"it still moves after {STEPS_MAX} steps")

    def follower(self, reached: Callable[[CrashPoint], None] = lambda _: None) -> Follower:
        """Return a worker as it is after its start."""
        books = StoredBooks(self.ports.units)
        openings = Openings(self.ports, self.access, books, self.deployer)
        return Follower(self.ports, self.access, SettlementMetrics(Metrics()), reached, openings, closing=self.closing)

    async def of(self, emsp_id: PartyId) -> Sequence[StatementRecord]:
        """Return an MSP's statements, in order."""
        async with self.ports.units.begin() as unit:
            return await unit.table(STATEMENT).select({"emsp_id": emsp_id}, order_by=("sequence",))

    def _note(self, what: str, outcome: str) -> None:
        self.happened.append(Happened(at=self.clock.now(), what=what, outcome=outcome))


@asynccontextmanager
async def _opened(seed: int, book: BookKind) -> AsyncIterator[_Month]:
    clock, randomness = VirtualClock(BEGINS_AT), SeededRandomness(seed)
    key = randomness.token_bytes(32)
    memory = memory_adapters(master_key=key, clock=clock, randomness=randomness)
    ports = Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=randomness,
        event_log=memory.event_log,
        units=memory.units,
        vault=memory.vault,
        http=MemoryHttp(),
        signer=Ed25519Signer(key),
        payments=SandboxPayments(memory.units),
    )
    admin, ledger = mnemonic_signer(MNEMONIC, 0), None
    chain: Chain
    if book is BookKind.LEDGER:
        chain = ledger = await open_ledger(ports.units, operator=admin, clock=clock, randomness=randomness)
    else:
        chain = FakeChain(clock=clock, randomness=randomness, execute=settlement_contracts_in_python())
    access = ChainAccess(
        chain=chain,
        proposer=proposer_signer(key),
        signer_of=partial(party_signer, key),
        recovered_address=recovered_address,
        books=StoredBooks(ports.units),
        lease_s=0,
        ledger=ledger,
    )
    metrics, stop = SettlementMetrics(Metrics()), asyncio.Event()
    month = _Month(
        book=book,
        ports=ports,
        clock=clock,
        chance=random.Random(f"{seed} lab"),  # noqa: S311 - draws charges, no secret
        chain=chain,
        access=access,
        deployer=Deployer(chain, admin, ports.timer),
        closing=Closing(ports, metrics),
        intake=Intake(ports, metrics),
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(month.intake.run(stop))
        tasks.create_task(follow_final_statements(ports, stop))
        yield month
        stop.set()


def _entry(row: PayoutRecord, reference: str, cents: int, *, reason: str | None = None) -> str:
    """Return a bank's entry of a payment; with a reason it is taken back."""
    back = "" if reason is None else f"<RtrInf><Rsn><Cd>{reason}</Cd></Rsn></RtrInf>"
    way, day = "CRDT" if reason is None else "DBIT", row.due_on.isoformat()
    return (
        f'<Ntry><Amt Ccy="{row.currency}">{cents // 100}.{cents % 100:02}</Amt><CdtDbtInd>{way}</CdtDbtInd>'
        f"<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>{day}</Dt></BookgDt><AcctSvcrRef>LAB-{reference}</AcctSvcrRef>"
        "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f"<NtryDtls><TxDtls><Refs><EndToEndId>{row.end_to_end_id}</EndToEndId></Refs>{back}</TxDtls></NtryDtls></Ntry>"
    )


def _camt(entries: Sequence[str], iban: str) -> bytes:
    """Return a bank's statement (camt.053)."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="{CAMT}"><BkToCstmrStmt>'
        "<GrpHdr><MsgId>LAB</MsgId><CreDtTm>2022-04-01T22:00:00Z</CreDtTm></GrpHdr>"
        f"<Stmt><Id>1</Id><CreDtTm>2022-04-01T22:00:00Z</CreDtTm><Acct><Id><IBAN>{iban}</IBAN></Id></Acct>"
        f"{''.join(entries)}</Stmt></BkToCstmrStmt></Document>"
    ).encode()
