"""From final statements to the bank and back: who is paid what, and what of it the chain is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.adapters.chain_signing import party_signer
from emobility.domain.agreement import SettlementMode
from emobility.domain.banking.account import BankAccount
from emobility.domain.banking.matching import Outcome
from emobility.domain.banking.payout import end_to_end_id
from emobility.domain.batch.typed_data import Book, discharge_digest
from emobility.domain.identifiers import PartyId
from emobility.protocols.iso20022.pain import Mandate, MandateScheme
from services.settlement.acceptances import SignatureNotOfParty
from services.settlement.discharging import Discharging
from services.settlement.money_records import (
    BANK_ENTRY,
    DISCHARGE,
    PAYABLE,
    PAYOUT,
    BankEntryRecord,
    BankFileKind,
    DischargeRecord,
    DischargeState,
    PayableRecord,
)
from services.settlement.payouts import NoBankAccount, NothingToPay, OtherAccount, UnknownEntry
from services.settlement.records import OPENING, PARTY, SigningPolicy
from tests.banking.bank_files import TNM, ZON, camt, entry
from tests.settlement.bank_desk import DUE, TODAY, TRANSFERS, Desk
from tests.settlement.market import MASTER_KEY
from tests.settlement.settling import open_settling
from tests.settlement.world import CPO, MSP, T0

EXAMPLES = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "3"))
"""Each opens a settlement of its own; the arithmetic alone has a property in `tests/banking`."""


@pytest.fixture
async def desk(dsn: str | None) -> AsyncIterator[Desk]:
    async with open_settling(dsn) as here:
        made = Desk(here)
        await made.open()
        yield made


@pytest.fixture
async def memory_desk() -> AsyncIterator[Desk]:
    async with open_settling() as here:
        made = Desk(here)
        await made.open()
        yield made


async def test_what_is_owed_is_paid_by_bank_and_taken_off_the_chain(desk: Desk) -> None:
    await desk.charge("s1", 15_049)
    await desk.settle()
    await desk.charge("s2", 10_060)
    await desk.settle()

    export = await desk.export()
    owed = await desk.owed_on_chain()
    outcomes = await desk.arrives(entry((await desk.payout()).end_to_end_id, "3.03", reference="B-1", on=TODAY))
    again = await desk.payouts.take_file(
        CPO, camt([entry((await desk.payout()).end_to_end_id, "3.03", reference="B-1", on=TODAY)])
    )
    await desk.here.follow()

    first, second = sorted(await desk.rows(PAYABLE), key=lambda row: row.sequence)
    assert (first.net_cents, first.residue_e4, first.vat_cents) == (150, 49, 32)
    assert (second.net_cents, second.carried_e4, second.residue_e4, second.vat_cents) == (101, 49, 9, 21)
    assert (export.orders, export.cents) == (1, 304)
    assert outcomes == {"PARTIAL": 1}
    assert (again.outcomes, again.known) == ({}, 1)
    assert (owed, await desk.owed_on_chain()) == (25_109, 9)
    assert await desk.booked() == [25_100]
    (discharge,) = await desk.rows(DISCHARGE)
    assert (discharge.state, discharge.number, discharge.amount_e4) == (DischargeState.FINAL, 0, 25_100)


async def test_nothing_is_paid_twice(desk: Desk) -> None:
    await desk.charge("s1", 15_000)
    await desk.settle()
    await desk.export()

    with pytest.raises(NothingToPay):
        await desk.export()
    await desk.catch_up()

    assert len(await desk.rows(PAYABLE)) == 1


async def test_each_entry_has_its_outcome_and_place(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    name = (await desk.payout()).end_to_end_id  # 100.00 and 21.00 of VAT

    outcomes = [
        await desk.arrives(one)
        for one in (
            entry("WRSOMETHINGELSE", "1.00", reference="B-1", on=TODAY),
            entry(name, "21.00", reference="B-2", on=TODAY),
            entry(name, "121.00", reference="B-3", on=DUE + timedelta(days=1)),
            entry(name, "121.00", reference="B-4", on=TODAY),
            entry(name, "121.00", reference="B-5", on=TODAY, way="DBIT", reason="AC04"),
            entry(name, "142.00", reference="B-6", on=TODAY, way="DBIT", reason="AC04"),
            entry(name, "121.00", reference="B-7", on=TODAY),
            entry(None, "5.00", reference="B-8", on=TODAY),
            entry(name, "5.00", reference="B-9", on=TODAY, currency="CHF"),
        )
    ]

    assert [next(iter(each)) for each in outcomes] == [
        "UNKNOWN",
        "PARTIAL",
        "OVERPAID",
        "DUPLICATE",
        "RETURNED",
        "RETURNED",
        "MATCHED",
        "UNKNOWN",
        "OTHER_CURRENCY",
    ]
    entries = {row.entry.reference: row for row in await desk.rows(BANK_ENTRY)}
    assert [name for name, row in sorted(entries.items()) if not row.is_open] == ["B-7"]
    assert (entries["B-3"].booked_cents, entries["B-3"].excess_cents, entries["B-3"].is_late) == (10_000, 2_100, True)
    assert [(entries[each].booked_cents, entries[each].excess_cents) for each in ("B-4", "B-5", "B-6")] == [
        (0, 12_100),
        (0, 12_100),  # the duplicate went back, and what was owed stays paid
        (-12_100, 2_100),
    ]
    assert (await desk.payout()).arrived_cents == 12_100
    assert await desk.booked() == [210_000, 790_000, -1_000_000, 1_000_000]


async def test_an_entry_leaves_the_work_list_with_what_was_made_of_it(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.arrives(entry("WR1", "1.00", reference="B-1"))
    (row,) = await desk.rows(BANK_ENTRY)
    assert isinstance(row, BankEntryRecord)

    done = await desk.payouts.resolve(CPO, row.entry_id, resolution="sent back")

    assert (done.outcome, done.is_open, done.resolution) == (Outcome.UNKNOWN, False, "sent back")
    with pytest.raises(UnknownEntry):
        await desk.payouts.resolve(CPO, row.entry_id, resolution="again")
    with pytest.raises(UnknownEntry):
        await desk.payouts.resolve(MSP, row.entry_id, resolution="not mine")


async def test_a_file_about_somebody_elses_account_books_nothing(memory_desk: Desk) -> None:
    with pytest.raises(OtherAccount):
        await memory_desk.payouts.take_file(MSP, camt([entry("WR1", "1.00", reference="B-1")]))

    assert await memory_desk.rows(BANK_ENTRY) == []


async def test_a_payment_that_the_payer_made_by_itself_is_recognised(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    (payable,) = await desk.rows(PAYABLE)
    assert isinstance(payable, PayableRecord)

    outcomes = await desk.arrives(entry(payable.end_to_end_id, "121.00", reference="B-1", on=TODAY))

    assert outcomes == {"MATCHED": 1}
    assert (await desk.payout()).cents == 12_100
    with pytest.raises(NothingToPay):
        await desk.export()


async def test_invoices_paid_by_their_own_references_are_recognised_in_one_payment(memory_desk: Desk) -> None:
    desk = memory_desk
    for name in ("s1", "s2"):
        await desk.charge(name, 1_000_000)
        await desk.settle()
    first, second = sorted(await desk.rows(PAYABLE), key=lambda row: row.sequence)
    await desk.export()

    outcomes = [
        await desk.arrives(entry(each.end_to_end_id, "121.00", reference=each.end_to_end_id[:9], on=TODAY))
        for each in (first, second)
    ]

    assert outcomes == [{"PARTIAL": 1}, {"MATCHED": 1}]
    assert (await desk.payout()).arrived_cents == 24_200
    rows = await desk.rows(BANK_ENTRY)
    assert {row.end_to_end_id for row in rows} == {second.end_to_end_id}
    assert {row.entry.end_to_end_id for row in rows} == {first.end_to_end_id, second.end_to_end_id}


async def test_what_was_credited_lowers_the_next_payment(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
    await desk.charge("s1-back", -1_000_000)
    await desk.settle()
    with pytest.raises(NothingToPay):
        await desk.export()
    in_between = (await desk.exposure()).owed_e4
    await desk.charge("s2", 1_500_000)
    await desk.settle()

    export = await desk.export()

    assert in_between == -1_000_000
    assert export.cents == 6_050
    assert (await desk.exposure()).owed_e4 == 500_000


async def test_ages_and_limits_show_what_is_open(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_049)
    await desk.settle()
    await desk.charge("s2", 30_000)
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "40.00", reference="B-1", on=TODAY))
    desk.here.world.clock.step_to(T0 + timedelta(days=14 + 31))

    exposure = await desk.exposure()

    assert exposure.ages["31-60"] == exposure.owed_e4 == 600_049
    assert (exposure.unsettled_e4, exposure.limit_e4) == (30_000, 10_000_000)
    assert exposure.shown()["free_e4"] == 10_000_000 - 630_049


async def sent(desk: Desk, name: str, amount: str, reference: str, **changed: Any) -> dict[str, int]:
    """Have the MSP's bank say that money left it, or with a reason that it came back."""
    way = "CRDT" if "reason" in changed else "DBIT"
    left = entry(name, amount, reference=reference, on=TODAY, way=way, **changed)
    return (await desk.payouts.take_file(MSP, camt([left], iban=ZON.iban))).outcomes


async def test_what_a_payer_says_it_sent_lowers_nothing_where_the_payee_keeps_its_books_here(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    name = (await desk.payout()).end_to_end_id

    outcome = await sent(desk, name, "121.00", "Z-1")

    assert outcome == {"MATCHED": 1}
    assert (await desk.exposure()).owed_e4 == 1_000_000
    await desk.arrives(entry(name, "121.00", reference="B-1", on=TODAY))
    assert (await desk.exposure()).owed_e4 == 0


async def test_what_a_payer_says_it_sent_keeps_nobody_from_collecting(memory_desk: Desk) -> None:
    desk = memory_desk
    mandate = Mandate(mandate_id="M-1", signed_on=TODAY, scheme=MandateScheme.B2B, creditor_id="NL98ZZZ1")
    await desk.payouts.enter_mandate(MSP, CPO, mandate)
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    (payable,) = await desk.rows(PAYABLE)
    await sent(desk, payable.end_to_end_id, "121.00", "Z-1")

    export = await desk.export(CPO, BankFileKind.DIRECT_DEBITS)

    assert export.cents == 12_100


async def test_a_prefunded_pair_owes_the_bank_no_more_than_the_tax() -> None:
    async with open_settling() as here:
        desk = Desk(here)
        await desk.open(mode=SettlementMode.PREFUNDED)
        await here.market.deposit(here.numbers.get(MSP) or await _number(desk, MSP), 10_000_000)
        await desk.charge("s1", 1_000_000)
        await desk.settle()

        export = await desk.export()

        assert export.cents == 2_100
        assert (await desk.exposure()).owed_e4 == 0


async def _number(desk: Desk, party_id: PartyId) -> int:
    return next(row.number for row in await desk.rows(PARTY) if row.party_id == party_id) or 0


async def test_a_collected_payment_is_discharged_when_nobody_can_take_it_back(memory_desk: Desk) -> None:
    desk = memory_desk
    mandate = Mandate(mandate_id="M-1", signed_on=TODAY, scheme=MandateScheme.B2B, creditor_id="NL98ZZZ1")
    await desk.payouts.enter_mandate(MSP, CPO, mandate)
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    with pytest.raises(NothingToPay):
        await desk.export()
    export = await desk.export(CPO, BankFileKind.DIRECT_DEBITS)
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
    await desk.here.follow()
    at_once = await desk.owed_on_chain()
    desk.here.world.clock.step_to(T0 + timedelta(days=6))
    await desk.here.follow(desk.here.follower())

    assert b"<MndtId>M-1</MndtId>" in export.document
    assert (at_once, await desk.owed_on_chain()) == (1_000_000, 0)


async def test_a_collection_that_came_back_in_time_is_never_discharged(memory_desk: Desk) -> None:
    desk = memory_desk
    mandate = Mandate(mandate_id="M-1", signed_on=TODAY, scheme=MandateScheme.CORE, creditor_id="NL98ZZZ1")
    await desk.payouts.enter_mandate(MSP, CPO, mandate)
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export(CPO, BankFileKind.DIRECT_DEBITS)
    name = (await desk.payout()).end_to_end_id
    await desk.arrives(entry(name, "121.00", reference="B-1", on=TODAY))
    await desk.arrives(entry(name, "121.00", reference="B-2", on=TODAY, way="DBIT", reason="MD01"))
    desk.here.world.clock.step_to(T0 + timedelta(days=90))
    await desk.here.follow()

    assert await desk.rows(DISCHARGE) == []
    assert await desk.owed_on_chain() == 1_000_000
    assert (await desk.exposure()).ages["61-90"] == 1_000_000


async def test_of_a_payment_above_what_the_book_says_is_owed_the_rest_waits(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 600_000)
    await desk.charge("s2", 400_000)
    await desk.settle()
    await desk.export()
    await desk.charge("s2-back", -400_000)
    await desk.settle()
    owed = await desk.owed_on_chain()

    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
    await desk.here.follow()

    first, rest = sorted(await desk.rows(DISCHARGE), key=lambda row: row.discharge_id)
    assert (owed, await desk.owed_on_chain()) == (600_000, 0)
    assert (first.state, first.amount_e4) == (DischargeState.FINAL, 600_000)
    assert (rest.state, rest.amount_e4, rest.number) == (DischargeState.OPEN, 400_000, None)
    assert "0 e4 are owed" in (rest.waiting or "")
    await desk.charge("s3", 500_000)
    await desk.settle()
    await desk.here.follow()
    assert await desk.owed_on_chain() == 100_000
    assert {row.state for row in await desk.rows(DISCHARGE)} == {DischargeState.FINAL}
    assert (await desk.payout()).discharged_e4 == 1_000_000


async def paid(desk: Desk) -> str:
    """Have one payment ordered and its money arrive; return its name."""
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    await desk.arrives(entry(name, "121.00", reference="B-1", on=TODAY))
    return name


async def signs_by_itself(desk: Desk) -> None:
    """Have the MSP keep its key, so that its discharges get a number and wait."""
    async with desk.here.world.ports.units.begin() as unit:
        party = await unit.table(PARTY).get(MSP)
        assert party is not None
        await unit.table(PARTY).put(replace(party, signs=SigningPolicy.BY_API))
        await unit.commit()


async def test_what_came_back_to_who_paid_it_goes_out_again(memory_desk: Desk) -> None:
    desk = memory_desk
    name = await paid(desk)
    await desk.arrives(entry(name, "121.00", reference="B-2", on=TODAY, way="DBIT", reason="AC04"))
    with pytest.raises(NothingToPay):
        await desk.export()  # what the payee says makes nobody pay twice

    await sent(desk, name, "121.00", "Z-1")
    await sent(desk, name, "121.00", "Z-2", reason="AC04")

    assert (await desk.export()).cents == 12_100
    await sent(desk, name, "121.00", "Z-3", reason="AC04")  # the same, told again: the new file is under way
    with pytest.raises(NothingToPay):
        await desk.export()


async def test_a_company_that_keeps_its_key_signs_its_discharge_itself(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await signs_by_itself(desk)
    await desk.export()
    await desk.arrives(entry((await desk.payout()).end_to_end_id, "121.00", reference="B-1", on=TODAY))
    await desk.here.follow()
    (waiting,) = await desk.rows(DISCHARGE)
    assert isinstance(waiting, DischargeRecord)
    (opening,) = await desk.rows(OPENING)
    book = Book(chain_id=await desk.here.chain.chain.chain_id(), address=desk.here.market.contracts.book)
    digest = discharge_digest(book, agreement=opening.book_agreement, number=0, amount_e4=1_000_000)
    discharging = Discharging(desk.here.world.ports, desk.here.access)

    with pytest.raises(SignatureNotOfParty):
        await discharging.take(MSP, waiting.discharge_id, await party_signer(MASTER_KEY, CPO).sign_digest(digest))
    await discharging.take(MSP, waiting.discharge_id, await party_signer(MASTER_KEY, MSP).sign_digest(digest))
    await desk.here.follow(desk.here.follower())

    assert waiting.waiting == "the signature of NL-ZON"
    assert await desk.owed_on_chain() == 0


async def test_what_came_back_while_its_discharge_waits_for_a_signature_is_not_discharged(memory_desk: Desk) -> None:
    desk = memory_desk
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await signs_by_itself(desk)
    await desk.export()
    name = (await desk.payout()).end_to_end_id
    await desk.arrives(entry(name, "121.00", reference="B-1", on=TODAY))
    await desk.here.follow()
    (waiting,) = await desk.rows(DISCHARGE)

    await desk.arrives(entry(name, "121.00", reference="B-2", on=TODAY, way="DBIT", reason="AC04"))

    assert (waiting.state, waiting.number) == (DischargeState.OPEN, 0)
    assert await desk.rows(DISCHARGE) == []
    assert (await desk.payout()).discharged_e4 == 0


async def test_a_discharge_that_is_queued_while_its_money_comes_back_stays(memory_desk: Desk) -> None:
    desk = memory_desk
    name = await paid(desk)
    back = entry(name, "121.00", reference="B-2", on=TODAY, way="DBIT", reason="AC04")

    async with desk.here.world.ports.units.begin() as unit:
        (row,) = await unit.table(DISCHARGE).select()
        await unit.table(DISCHARGE).put(replace(row, state=DischargeState.SENDING, number=0))
        returning = asyncio.create_task(desk.arrives(back))
        for _ in range(100):
            await asyncio.sleep(0)  # turns of the loop, until the return waits for the row
        await unit.commit()
    await returning

    (row,) = await desk.rows(DISCHARGE)
    assert row.state is DischargeState.SENDING
    assert (await desk.payout()).discharged_e4 == 1_000_000


async def test_without_an_account_nothing_goes_out(memory_desk: Desk) -> None:
    await memory_desk.charge("s1", 1_000_000)
    await memory_desk.settle()

    with pytest.raises(NoBankAccount):
        await memory_desk.payouts.export(MSP, TRANSFERS, "CHF", on=TODAY)
    await memory_desk.payouts.enter_account(MSP, BankAccount(name="Zon", iban=ZON.iban, bic=None, currency="CHF"))
    with pytest.raises(NothingToPay):  # what is owed in EUR is no business of an account in CHF
        await memory_desk.payouts.export(MSP, TRANSFERS, "CHF", on=TODAY)


async def test_the_same_file_read_twice_at_once_books_once(desk: Desk) -> None:
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    await desk.export()
    file = camt([entry((await desk.payout()).end_to_end_id, "60.00", reference="B-1", on=TODAY)])

    read = await asyncio.gather(*(desk.payouts.take_file(CPO, file) for _ in range(4)))

    assert sorted(each.known for each in read) == [0, 1, 1, 1]
    assert (await desk.payout()).arrived_cents == 6_000


async def test_currencies_stand_side_by_side_and_are_never_set_off(memory_desk: Desk) -> None:
    desk, currencies = memory_desk, ("CHF", "EUR", "GBP", "PLN", "SEK")
    await desk.charge("s1", 1_000_000)
    await desk.settle()
    (payable,) = await desk.rows(PAYABLE)
    async with desk.here.world.ports.units.begin() as unit:
        await unit.table(PAYABLE).delete(CPO, payable.agreement_id, 1, 1)
        for at, currency in enumerate(currencies):
            sign = -1 if currency == "EUR" else 1  # what is credited in one lowers nothing in another
            row = replace(payable, agreement_id=currency, currency=currency, net_cents=sign * (100 + at), vat_cents=0)
            named = bytes([at] * 32)
            await unit.table(PAYABLE).put(replace(row, end_to_end_id=end_to_end_id(named), statement_hash=named))
        await unit.commit()
    for currency in currencies:
        for party_id, account in ((CPO, TNM), (MSP, ZON)):
            await desk.payouts.enter_account(party_id, replace(account, bic="COBADEFFXXX", currency=currency))

    exports = {}
    for currency in currencies:
        try:
            exports[currency] = (await desk.payouts.export(MSP, TRANSFERS, currency, on=TODAY)).cents
        except NothingToPay:
            exports[currency] = 0

    assert exports == {"CHF": 100, "EUR": 0, "GBP": 102, "PLN": 103, "SEK": 104}


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(min_value=1, max_value=400_000), st.booleans(), st.booleans()), min_size=1, max_size=6
    )
)
async def test_whatever_is_settled_what_is_paid_and_what_waits_is_all_of_it(
    charges: list[tuple[int, bool, bool]],
) -> None:
    async with open_settling() as here:
        desk, owed = Desk(here), 0
        await desk.open()
        for at, (cost, is_taken_back, is_payday) in enumerate(charges):
            await desk.charge(f"s{at}", cost)
            await desk.settle()
            owed += cost
            if is_taken_back:
                await desk.charge(f"s{at}-back", -cost)
                await desk.settle()
                owed -= cost
            if is_payday:
                try:
                    await desk.export()
                except NothingToPay:
                    continue

        payables = await desk.rows(PAYABLE)
        paid = sum(row.net_cents for row in await desk.rows(PAYOUT))
        waits = sum(row.net_cents for row in payables if row.paid_by is None)
        residue = max(payables, key=lambda row: row.sequence).residue_e4
        assert (paid + waits) * 100 + residue == owed == await desk.owed_on_chain()
        assert (await desk.exposure()).owed_e4 == owed
