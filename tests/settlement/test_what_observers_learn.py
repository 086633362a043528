"""The table in docs/confidential-mode.md: what somebody who sees only the chain can tell, and what only salts keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from emobility.domain.agreement import SettlementMode
from emobility.domain.batch.confidential import (
    Amounts,
    PairNet,
    SealedStatement,
    exposed,
    party_nets,
    posted_hash,
    salts_of,
)
from emobility.domain.identifiers import PartyId
from services.settlement.confidential_batches import sealed_statement
from services.settlement.records import AGREEMENT, StatementState
from tests.settlement.chain_observer import ChainObserver
from tests.settlement.hidden import CPO_2, MSP_2, NETS, PAIRS, Hidden
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP

ROUND_E4: Final = 12_345
"""Goes round the cycle of the four pairs, so every pair's volume changes and no party's net does."""
OTHER_PAIRS: Final = {
    (CPO, MSP): PAIRS[CPO, MSP] + ROUND_E4,
    (CPO, MSP_2): PAIRS[CPO, MSP_2] - ROUND_E4,
    (CPO_2, MSP): PAIRS[CPO_2, MSP] - ROUND_E4,
    (CPO_2, MSP_2): PAIRS[CPO_2, MSP_2] + ROUND_E4,
}
GUESSES_E4: Final = range(0, 100_000, 5_000)
"""All amounts of this market are among them."""


async def observed(volumes: Mapping[tuple[PartyId, PartyId], int], mode: SettlementMode) -> list[Any]:
    """Settle these volumes on a chain of their own, and return what it holds."""
    async with open_settling() as here:
        hidden = Hidden(here, mode)
        await hidden.open()
        await hidden.charge(pairs=volumes)
        await hidden.follow()
        assert await hidden.states() == {StatementState.FINAL}
        assert await hidden.balances() == NETS
        return ChainObserver(here.fake.fake).everything()


async def test_volumes_of_pairs_can_not_be_told_from_a_chain() -> None:
    seen = [await observed(volumes, SettlementMode.CONFIDENTIAL) for volumes in (PAIRS, OTHER_PAIRS)]

    assert seen[0] == seen[1]


async def test_the_observer_tells_them_in_open_mode() -> None:
    seen = [await observed(volumes, SettlementMode.PREFUNDED) for volumes in (PAIRS, OTHER_PAIRS)]

    assert seen[0] != seen[1]


async def test_amounts_can_not_be_guessed_even_by_who_knows_all_the_rest() -> None:
    async with open_settling() as here:
        hidden = Hidden(here)
        await hidden.open()
        await hidden.charge()
        await hidden.follow()
        posted = ChainObserver(here.fake.fake).posted()
        (batch,) = await hidden.batches()
        for (cpo, msp), record in (await hidden.statements()).items():
            async with here.world.ports.units.begin() as unit:
                pair = await unit.table(AGREEMENT).get(cpo, record.agreement_id)
            assert pair is not None
            secret = bytes.fromhex(await here.world.ports.vault.open(pair.pair_secret))
            salts = salts_of(pair_secret=secret, agreement=record.book_agreement, sequence=record.sequence)
            statement = sealed_statement(
                record, cpo=await hidden.number(cpo), msp=await hidden.number(msp), salts=salts
            )
            # A driver knows all of the statement but its amounts, and the salt of its hash; anyone knows the batch.
            in_public = [bytes(32), batch.batch_id, record.statement_hash, salts.posted, statement.agreement]
            tried: set[bytes] = set()
            for guess in (guess for salt in in_public for guess in guesses(statement, record.sum_root, salt)):
                tried |= {guess.amounts, guess.struct_hash}
                tried |= {posted_hash(guess.struct_hash, salt=salt) for salt in in_public}

            assert statement.amounts not in tried
            assert not tried & posted
            known = {each.struct_hash for each in guesses(statement, record.sum_root, salts.amounts)}
            assert {posted_hash(each, salt=salts.posted) for each in known} & posted, "with both salts it is found"


def guesses(statement: SealedStatement, sum_root: bytes, salt: bytes) -> Iterator[SealedStatement]:
    """The statement with each amount that it could have, sealed with a salt."""
    for due_e4 in GUESSES_E4:
        amounts = Amounts(sum_root=sum_root, due_e4=due_e4, credit_e4=0).sealed(salt)
        yield SealedStatement(
            agreement=statement.agreement,
            cpo=statement.cpo,
            msp=statement.msp,
            count=statement.count,
            sequence=statement.sequence,
            period_end=statement.period_end,
            evidence_root=statement.evidence_root,
            amounts=amounts,
        )


@pytest.mark.parametrize(
    ("links", "shown"),
    [
        ([(1, 3)], {(1, 3)}),
        ([(1, 3), (1, 4)], {(1, 3), (1, 4)}),
        ([(1, 3), (1, 4), (2, 3)], {(1, 3), (1, 4), (2, 3)}),
        ([(1, 3), (1, 4), (2, 3), (2, 4)], set()),
        ([(1, 3), (1, 4), (2, 3), (2, 4), (2, 5)], {(2, 5)}),
    ],
)
def test_a_pair_s_net_follows_from_nets_where_it_is_on_no_cycle(
    links: list[tuple[int, int]], shown: set[tuple[int, int]]
) -> None:
    pairs = [PairNet(cpo=cpo, msp=msp, net_e4=7 * place) for place, (cpo, msp) in enumerate(links)]

    assert exposed(pairs) == shown


def test_any_amount_can_go_round_a_cycle() -> None:
    numbers = {CPO: 1, CPO_2: 2, MSP: 3, MSP_2: 4}

    nets = [
        party_nets(PairNet(cpo=numbers[cpo], msp=numbers[msp], net_e4=net) for (cpo, msp), net in volumes.items())
        for volumes in (PAIRS, OTHER_PAIRS)
    ]

    assert nets[0] == nets[1] == {numbers[party]: net for party, net in NETS.items()}
