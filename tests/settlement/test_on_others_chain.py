"""From nothing to a final statement on a chain that others administer, with keys that each of them keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from emobility.adapters.chain_signing import LocalChainSigner
from emobility.adapters.system import SystemClock, SystemRandomness
from emobility.domain.batch import contracts
from emobility.domain.batch.typed_data import Registry, acceptance_digest, registration_digest
from emobility.events.event import Envelope, Event
from emobility.events.settlement import StatementFinal
from emobility.runtime.settings import Settings
from services.settlement.batching import book_of
from services.settlement.deployment import DeploymentGone
from services.settlement.records import BATCH, PARTY, STATEMENT, StatementState
from services.settlement.wiring import run
from tests.settlement.consortium import Consortium, a_consortium, command
from tests.settlement.forked import ForkedSettlement
from tests.settlement.world import CPO, MASTER_KEY, MSP, T0, World, a_cdr, accepted, open_world, signed, terms

pytestmark = [pytest.mark.chain, pytest.mark.fault]
DEADLINE_S: Final = 60.0
POLL_S: Final = 0.1
INTERNAL: Final = "i" * 40
MSP_KEY: Final = LocalChainSigner(b"\x22" * 32)
"""The MSP keeps its key itself; it signs, and sends nothing."""
COST_E4: Final = 15_000
PAYOUT: Final = f"0x{'7' * 40}"


@dataclass
class Joined:
    """A consortium, and an installation that settles there in production settings, as a process."""

    theirs: Consortium
    world: World
    dsn: str
    port: int
    processes: list[ForkedSettlement] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        given = {
            "ENVIRONMENT": "production",
            "DATABASE_URL": self.dsn,
            "INTERNAL_TOKEN": INTERNAL,
            "MASTER_KEY": MASTER_KEY.hex(),
            "CHAIN_RPC_URL": self.theirs.rpc_url,
            "CHAIN_DEPLOYMENT": str(self.theirs.file),
            "CHAIN_KEYSTORE": str(self.theirs.folder / "proposer"),
            "CHAIN_PASSPHRASE_FILE": str(self.theirs.passphrase_file),
            "SETTLEMENT_PORT": str(self.port),
            "SETTLEMENT_URL": f"http://127.0.0.1:{self.port}",
        }
        return {f"WATTROAM_{name}": value for name, value in given.items()}

    def start(self) -> ForkedSettlement:
        log = self.theirs.folder / f"settlement-{len(self.processes)}.log"
        self.processes.append(ForkedSettlement(log, self.variables))
        return self.processes[-1]

    async def refuses(self, **changes: str) -> None:
        """Start with a manifest that names something else: it ends before it serves."""
        other = self.theirs.folder / "other.json"
        other.write_text(json.dumps(json.loads(self.theirs.file.read_text()) | changes))
        with self.set_up() as patch:
            patch.setenv("WATTROAM_CHAIN_DEPLOYMENT", str(other))
            settings = Settings()
        with pytest.raises(DeploymentGone):
            await run(settings)

    @contextmanager
    def set_up(self) -> Iterator[pytest.MonkeyPatch]:
        """Have this process's environment be that of the settlement."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            yield patch

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the settlement; None while it does not answer."""
        headers = {"Authorization": f"Bearer {INTERNAL}"}
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{self.port}") as http:
            try:
                answer = await http.request(method, f"/settlement{path}", json=body, headers=headers)
            except httpx.TransportError:
                return None
        assert answer.is_success, answer.text
        return answer.json() if answer.content else {}

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Wait until a condition gives something."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (found := await condition()):
                    assert self.processes[-1].exit_code is None, self.processes[-1].last_lines()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pytest.fail(self.processes[-1].last_lines())
        return found

    async def tell(self, *events: Event) -> None:
        name = SystemRandomness().uuid
        envelopes = [
            Envelope(event=event, event_id=f"{event.wire_name}/{name()}", correlation_id="test", recorded_at=T0)
            for event in events
        ]
        await self.world.ports.event_log.append(envelopes)

    # What each does

    async def register(self) -> None:
        """Have both parties consent, an issuer vouch from file to file, and the process relay it."""
        folder, manifest = self.theirs.folder, self.theirs.manifest
        await self.ask("POST", f"/{CPO}/registration", {"payout": PAYOUT})
        deadline = SystemClock().now().replace(microsecond=0) + timedelta(days=9)
        registry = Registry(chain_id=manifest.chain_id, address=bytes.fromhex(manifest.registry[2:]))
        digest = registration_digest(
            registry, party_id=MSP, signer=MSP_KEY.address, payout=MSP_KEY.address, deadline=deadline
        )
        account = f"0x{MSP_KEY.address.hex()}"
        consent = {
            "payout": account,
            "signer": account,
            "deadline": deadline.isoformat(),
            "consent": (await MSP_KEY.sign_digest(digest)).hex(),
        }
        await self.ask("POST", f"/{MSP}/registration", consent)
        requests, vouched = folder / "requests.json", folder / "vouched.json"
        requests.write_text(await asyncio.to_thread(self.command, "registrations", "--json"))
        vouched.write_text(
            await asyncio.to_thread(command, "chain", "vouch", str(requests), *self.theirs.keystore("issuer"))
        )
        relayed = json.loads(await asyncio.to_thread(self.command, "relay", str(vouched)))
        assert relayed == {"relayed": [CPO.code, MSP.code]}

    def command(self, *arguments: str) -> str:
        """Run `wattroam chain` as the operator does, who has the process's settings."""
        with self.set_up():
            return command("chain", *arguments)

    async def open_agreement(self) -> None:
        shown = await self.until(self.is_to_be_signed)
        assert shown["waits_for"] == "the signature of NL-ZON under the agreement"
        signature = await MSP_KEY.sign_digest(bytes.fromhex(shown["sign"]["digest"]))
        await self.ask("POST", f"/{MSP}/agreements/{shown['sign']['digest']}/signature", {"signature": signature.hex()})
        await self.until(self.is_open)

    async def is_to_be_signed(self) -> Any:
        (shown,) = await self.ask("GET", f"/{MSP}/agreements")
        return shown if shown["sign"] is not None and shown["waits_for"] else None

    async def is_open(self) -> bool:
        (shown,) = await self.ask("GET", f"/{MSP}/agreements")
        return bool(shown["is_open"])

    async def deposit(self, amount: str) -> str:
        """Have an account of the MSP's pay in what is missing of its own tokens."""
        arguments = ("deposit", MSP.code, *self.theirs.keystore("holder"), "--currency", "EUR", "--up-to", amount)
        return await asyncio.to_thread(self.command, *arguments)

    async def accept_statement(self) -> None:
        """Have the MSP sign its statement, once it is in a batch."""

        async def in_a_batch() -> Any:
            rows = await self.ask("GET", f"/{MSP}/statements")
            return rows[0] if rows and rows[0]["batch"] is not None else None

        shown = await self.until(in_a_batch)
        async with self.world.ports.units.begin() as unit:
            (batch,) = await unit.table(BATCH).select()
            party = await unit.table(PARTY).get(MSP)
        assert party is not None
        assert party.number is not None
        digest = acceptance_digest(
            book_of(batch), batch_id=batch.batch_id, pairs_hash=batch.pairs_hash, party=party.number, pairs=1
        )
        body = {
            "chain_id": batch.chain_id,
            "book": batch.book.hex(),
            "batch_id": batch.batch_id.hex(),
            "signature": (await MSP_KEY.sign_digest(digest)).hex(),
        }
        await self.ask("POST", f"/{MSP}/statements/{shown['statement']}/acceptance", body)

    async def state(self) -> StatementState | None:
        async with self.world.ports.units.begin() as unit:
            rows = await unit.table(STATEMENT).select()
        return rows[0].state if rows else None

    async def is_in(self, state: StatementState) -> bool:
        return await self.state() is state

    async def collateral_of(self, number: int) -> int:
        vault = bytes.fromhex(self.theirs.manifest.currencies[0].vault[2:])
        answer = await self.theirs.world.chain.call(vault, contracts.COLLATERAL_OF.call(number))
        return int(contracts.COLLATERAL_OF.answer(answer)[0])


@pytest.fixture
async def joined(postgres_dsn: str, tmp_path: Path, free_port: int) -> AsyncIterator[Joined]:
    async with a_consortium(tmp_path) as theirs, open_world(postgres_dsn) as world:
        await asyncio.to_thread(theirs.deploy)
        holder = theirs.keys["holder"].address
        await theirs.send(theirs.world.payer, theirs.token, contracts.MINT.call(holder, 10**5))
        found = Joined(theirs, world, postgres_dsn, free_port)
        yield found
        for process in found.processes:
            process.kill()


async def test_parties_agreement_and_a_cdr_become_final_and_the_audit_agrees(joined: Joined) -> None:
    await joined.refuses(genesis_hash=f"0x{'1' * 64}")
    await joined.refuses(anchor=joined.theirs.manifest.registry)
    process = joined.start()
    await joined.tell(signed(terms(), holder=CPO))
    await joined.until(partial(joined.ask, "GET", f"/{MSP}/agreements"))
    await joined.register()
    await joined.open_agreement()

    await joined.tell(accepted(a_cdr("s1", COST_E4), at=SystemClock().now()))

    async def is_closed() -> Any:
        return (await joined.ask("POST", "/internal/close", {}))["closed"]

    await joined.until(is_closed)
    (shown,) = json.loads(await asyncio.to_thread(joined.command, "agreements", MSP.code))
    assert (shown["cover"]["needed_e4"], shown["cover"]["missing_e4"]) == (COST_E4, COST_E4)
    assert await joined.deposit("1.5") == "1.5000 EUR paid in; NL-ZON has 1.5 free or more\n"
    assert await joined.deposit("1.5") == "0.0000 EUR paid in; NL-ZON has 1.5 free or more\n"
    await joined.accept_statement()
    await joined.until(partial(joined.is_in, StatementState.FINAL))

    assert len(await joined.world.told(StatementFinal)) == 1
    assert [await joined.collateral_of(number) for number in (1, 2)] == [COST_E4, 0]
    with joined.set_up():
        report = json.loads(await asyncio.to_thread(command, "audit", "--full", "--json"))
    assert (report["differences"], report["full"]) == ([], True)
    assert process.exit_code is None
    told = (joined.theirs.folder / "settlement-0.log").read_text()
    assert "settlement_lease_taken" in told
    secrets = {"canary-passphrase-91c4", MASTER_KEY.hex(), INTERNAL}
    assert not [each for each in secrets if each in told]
