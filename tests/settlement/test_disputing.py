"""A CDR whose meter did not sign it is struck on a real chain, and the next statement moves that much less."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from emobility.domain.batch.disputes import DisputeKind, NothingWrong, NotOnChain, StruckFor
from emobility.domain.batch.meter import MeterCommitted, meter_commitment
from emobility.domain.cdr import SignedMeterData
from emobility.events.cdr import CDRAccepted
from emobility.protocols.ocmf.committing import meter_record
from services.audit.cases import RULE
from services.settlement.cases import Sight
from services.settlement.dispute_records import DISPUTE, RESOLVER, DisputeState, ResolverRecord
from services.settlement.disputing import Contest, Disputing, NoResolver, NothingKept
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4
from tests.chains import an_anvil
from tests.ocmf.meter import Meter, value
from tests.settlement.settling import Settling, open_settling
from tests.settlement.world import CPO, MSP, a_cdr, a_credit, accepted, terms

pytestmark = pytest.mark.chain
CREDIT_OF_STRUCK = DisputeKind.CREDIT_OF_STRUCK
AskCase: TypeAlias = Callable[[bytes, bytes], Awaitable[Sight]]
SALT = bytes(range(32))
METER = Meter()
HONEST = METER.record(1, value("B", "1.000", 0), value("E", "6.000", 9), ID="")
FORGED = HONEST.replace("6.000", "6.001")
NAMED = METER.record(1, value("B", "1.000", 0), value("E", "5.000", 9))
"""Of 5,000 Wh; of 5,001 that nobody signed; of 4,000 in a driver's name."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Settling]:
    async with an_anvil(tmp_path / "chain") as chain, open_settling(chain=chain) as settling:
        await settling.sign(terms())
        await settling.market.prepare(settling.world.ports.units)
        yield settling


async def charged(here: Settling, cdr_id: str, text: str) -> CDRAccepted:
    vault = here.world.ports.vault
    data = SignedMeterData(
        encoding_method="OCMF",
        public_key=METER.public_key,
        records=(await vault.seal(text, identifier="driver"),),
    )
    commitment = meter_commitment(meter_record([text], public_key=METER.public_key), salt=SALT)
    salt = await vault.seal(SALT.hex(), identifier="driver")
    meter = MeterCommitted(commitment=commitment, public_key=METER.public_key, salt=salt)
    return replace(accepted(a_cdr(cdr_id, signed_data=data)), meter=meter)


async def settle(here: Settling, *events: CDRAccepted) -> bytes:
    await here.world.take(*events)
    await here.world.closing.close_now()
    await here.follow()
    return (await here.world.statements())[-1].statement_hash


async def with_resolver(here: Settling) -> None:
    contracts = here.market.contracts
    resolver = await here.market.deployer.deploy_resolver(
        "SettlementDisputes",
        book=contracts.book,
        vault=contracts.vault,
        demand_bond_e4=DEMAND_BOND_E4,
        quarrel_bond_e4=QUARREL_BOND_E4,
    )
    async with here.world.ports.units.begin() as unit:
        (wanted,) = await unit.table(RESOLVER).select()
        assert wanted == ResolverRecord(
            chain_id=here.market.deployment.chain_id,
            book=contracts.book,
            currency="EUR",
            is_confidential=False,
            resolver=None,
        )
        await unit.table(RESOLVER).put(replace(wanted, resolver=resolver))
        await unit.commit()


def struck_as_duplicate(ask: AskCase) -> AskCase:
    """Have the chain say that somebody showed another proof first."""

    async def asked(resolver: bytes, case_id: bytes) -> Sight:
        sight = await ask(resolver, case_id)
        return replace(sight, case=replace(sight.case, struck_for=StruckFor.DUPLICATE))

    return asked


async def test_a_struck_cdr_is_taken_off_the_next_statement_and_the_audit_agrees(
    here: Settling, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"honest": HONEST, "forged": FORGED, "named": NAMED}
    charges = {cdr_id: await charged(here, cdr_id, text) for cdr_id, text in texts.items()}
    first = await settle(here, *charges.values())
    disputing = Disputing(here.world.ports, here.access)

    def contest(cdr_id: str, kind: DisputeKind = DisputeKind.METER_SIGNATURE) -> Contest:
        return Contest(statement_hash=first, cdr_id=cdr_id, kind=kind)

    with pytest.raises(NoResolver):
        await disputing.contest(MSP, contest("forged"))
    await with_resolver(here)
    with pytest.raises(NothingWrong):
        await disputing.contest(MSP, contest("honest"))
    with pytest.raises(NotOnChain, match="names the driver"):
        await disputing.contest(MSP, contest("named", DisputeKind.METER_ENERGY))
    raised = await disputing.contest(MSP, contest("forged"))
    assert await disputing.contest(MSP, contest("forged")) == raised
    await here.follow()

    (dispute,) = await disputing.of_party(CPO)
    assert (dispute.state, dispute.corrected_e4, dispute.waiting) == (DisputeState.DECIDED, -15_000, None)
    before = await here.market.collateral_of(1)
    await settle(here, accepted(a_cdr("next", 40_000)))
    moved = abs(await here.market.collateral_of(1) - before)
    report = await here.audit()
    assert moved == 25_000
    assert report.differences == ()

    third = await settle(here, *[accepted(a_credit(charges[cdr_id].cdr)) for cdr_id in ("honest", "forged")])
    twice = {each: Contest(statement_hash=third, cdr_id=f"{each}-C1", kind=CREDIT_OF_STRUCK) for each in charges}
    with pytest.raises(NothingKept, match="was not struck"):
        await disputing.contest(CPO, twice["honest"])
    with monkeypatch.context() as patched:
        patched.setattr(disputing._cases, "look", struck_as_duplicate(disputing._cases.look))
        with pytest.raises(NothingKept, match="as a duplicate"):
            await disputing.contest(CPO, twice["forged"])
    await disputing.contest(CPO, twice["forged"])
    await here.follow()
    assert {each.corrected_e4 for each in await disputing.of_party(CPO)} == {-15_000, 15_000}

    for wrong in ({"corrected_e4": -1}, {"state": DisputeState.OPEN}):
        async with here.world.ports.units.begin() as unit:
            await unit.table(DISPUTE).put(replace(dispute, **wrong))
            await unit.commit()
        assert [each.rule for each in (await here.audit()).differences] == [RULE]
