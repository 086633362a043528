"""Invoices between two back offices, through the hub: issued, compared CDR by CDR, answered, shown to both."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from emobility.domain.cdr import CDR, credit_of
from emobility.domain.identifiers import PartyId
from emobility.domain.invoice_reconciliation import LineVerdict
from emobility.domain.money import Price
from emobility.protocols.ocpi import invoice_reconciliation
from emobility.protocols.ocpi.client import MissingAtPeer, PeerRefused
from emobility.protocols.ocpi.invoice_reconciliation import (
    CDRS_TAKEN_MAX,
    OWED_MAX,
    PERIOD_MAX,
    RECONCILIATION,
    InvoiceRecord,
    NotAPeriod,
    NothingToInvoice,
    ReconciliationRecord,
    ReconciliationState,
    StatedAmount,
)
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID, read
from services.charging_operations import invoicing as cpo_invoicing
from services.charging_operations.records import CDRS as ISSUED
from services.charging_operations.records import CDRRecord as IssuedCDR
from services.driver_mobility import invoicing as msp_invoicing
from services.driver_mobility.records import CDRS as RECEIVED
from services.driver_mobility.records import CDRRecord as ReceivedCDR
from services.driver_mobility.records import CDRState
from tests.domain.test_cdr import ORIGINAL
from tests.hub.two_offices import EMMA, TULIP, Office, TwoOffices, at, terms, two_offices
from tests.hub.world import HUB_ORIGIN, INTERNAL_TOKEN

WEEK = timedelta(days=7)


def cdr(name: str, amount_e4: int, days: float) -> CDR:
    token = replace(ORIGINAL.token, emsp_id=EMMA)
    return replace(
        ORIGINAL,
        party_id=TULIP,
        cdr_id=name,
        session_id=name,
        token=token,
        total_cost=Price(excl_e4=amount_e4),
        issued_at=at(days),
    )


async def issued(here: TwoOffices, made: CDR, *, credited_by: str | None = None) -> None:
    async with here.cpo.exchange.ports.units.begin() as unit:
        await unit.table(ISSUED).put(
            IssuedCDR(
                party_id=TULIP,
                cdr_id=made.cdr_id,
                session_id=made.session_id,
                emsp_id=EMMA,
                agreement_id="1",
                is_credit=made.is_credit,
                credited_by=credited_by,
                energy_import_wh=made.total_energy_import_wh,
                energy_export_wh=made.total_energy_export_wh,
                cdr=made,
                last_updated=made.issued_at,
            )
        )
        await unit.commit()


async def received(
    here: TwoOffices, made: CDR, state: CDRState = CDRState.ACCEPTED, *, credited_by: str | None = None
) -> None:
    async with here.msp.exchange.ports.units.begin() as unit:
        await unit.table(RECEIVED).put(
            ReceivedCDR(
                party_id=EMMA,
                cpo_id=TULIP,
                cdr_id=made.cdr_id,
                session_id=made.session_id,
                token_subject="t",
                started_at=made.started_at,
                ended_at=made.ended_at,
                received_at=made.issued_at,
                decide_by=made.issued_at + WEEK,
                state=state,
                is_deemed=False,
                agreement_id="1",
                content_hash="",
                quote_id=None,
                cdr=made,
                findings=(),
                credited_by=credited_by,
            )
        )
        await unit.commit()


async def both(here: TwoOffices, made: CDR, state: CDRState = CDRState.ACCEPTED) -> None:
    await issued(here, made)
    await received(here, made, state)


async def a_week_later(here: TwoOffices) -> None:
    """The statement period with all that was issued on days 2 to 8 is over, and invoiced."""
    here.clock.step_to(at(16))
    await here.cpo.service.invoicing.issue_due()
    await here.quiet()


async def rows(office: Office) -> list[ReconciliationRecord]:
    async with office.exchange.ports.units.begin() as unit:
        return await unit.table(RECONCILIATION).select({"party_id": office.party}, order_by=("issued_at", "record_id"))


def verdicts(record: ReconciliationRecord) -> dict[str, LineVerdict]:
    return {each.cdr_id: each.verdict for each in record.answers}


async def test_a_statement_period_is_invoiced_once_answered_and_agreed_on() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 12_345, 2))
        await both(here, cdr("B", 20_000, 2.5))
        await a_week_later(here)
        await a_week_later(here)

        (sent,), (heard,) = await rows(here.cpo), await rows(here.msp)
        assert sent.state is heard.state is ReconciliationState.AGREED
        assert sent.answers == heard.answers
        assert (sent.stated_e4, heard.stated_e4, sent.currency) == (32_345, 32_345, "EUR")
        assert sent.period_until is not None
        assert sent.period_since == sent.period_until - WEEK
        for office in (here.cpo, here.msp):
            listed = await office.api("GET", "/invoice-reconciliations")
            (one,) = read(listed.body, list[dict[str, Any]])
            assert (one["state"], one["accepted_e4"], one["cdrs"], one["differing"]) == ("AGREED", 32_345, 2, [])


async def test_every_cdr_that_differs_is_told_to_both() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("same", 1, 2))
        await issued(here, cdr("unknown", 2, 2))
        await issued(here, cdr("other", 3, 2))
        await received(here, cdr("other", 4, 2))
        await both(here, cdr("disputed", 5, 2), CDRState.DISPUTED)
        await both(here, cdr("waiting", 6, 2), CDRState.WAITING)
        await received(here, cdr("missing", 7, 2))
        await both(here, cdr("credited", 8, 2))
        await received(here, cdr("credited", 8, 2), CDRState.CREDITED, credited_by="gone")
        await received(here, credit_of(cdr("credited", 8, 2), cdr_id="gone", issued_at=at(2.1), remark=""))
        await a_week_later(here)

        (sent,), (heard,) = await rows(here.cpo), await rows(here.msp)
        assert verdicts(sent) == {
            "same": LineVerdict.ACCEPTED,
            "unknown": LineVerdict.UNKNOWN,
            "other": LineVerdict.OTHER_AMOUNT,
            "disputed": LineVerdict.DISPUTED,
            "waiting": LineVerdict.UNDECIDED,
            "missing": LineVerdict.MISSING,
            "gone": LineVerdict.MISSING,
            "credited": LineVerdict.CREDITED,
        }
        assert sent.state is heard.state is ReconciliationState.DIFFERS
        answer = await here.cpo.api("GET", f"/invoice-reconciliations/{EMMA}/{sent.record_id}")
        shown = {each["cdr_id"]: each for each in read(answer.body, dict[str, Any])["answers"]}
        assert (shown["other"]["stated_e4"], shown["other"]["booked_e4"], shown["credited"]["see"]) == (3, 4, "gone")
        overview, one = await pages(here, heard)
        assert b"DIFFERS (7)" in overview
        assert b"UNKNOWN" in one
        assert b"0.0003 EUR" in one


async def test_what_is_decided_or_arrives_later_changes_the_answer() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        late, disputed = cdr("late", 10, 2), cdr("disputed", 20, 2)
        await issued(here, late)
        await both(here, disputed, CDRState.DISPUTED)
        await a_week_later(here)
        (before,) = await rows(here.cpo)

        await received(here, late)
        await received(here, disputed)
        changed = await here.msp.service.reconciliations.look_again(EMMA)
        nothing = await here.msp.service.reconciliations.look_again(EMMA)
        await here.quiet()

        (after,) = await rows(here.cpo)
        assert (before.state, after.state) == (ReconciliationState.DIFFERS, ReconciliationState.AGREED)
        assert (changed, nothing) == (1, 0)


async def test_a_cdr_is_invoiced_once_and_a_credit_with_the_period_it_was_issued_in() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        original = cdr("A", 100, 2)
        await both(here, original)
        await a_week_later(here)
        credit = credit_of(original, cdr_id="A-C1", issued_at=at(16.1), remark="")
        await issued(here, original, credited_by="A-C1")
        await received(here, original, CDRState.CREDITED, credited_by="A-C1")
        await both(here, credit)
        here.clock.step_to(at(31))
        await here.cpo.service.invoicing.issue_due()
        await here.quiet()
        here.clock.step_to(at(32))
        twice = {"counterparty": EMMA, "since": at(1).isoformat(), "until": at(30).isoformat(), "invoice_id": "mine"}
        again = await here.cpo.api("POST", "/invoice-reconciliations", twice)
        await here.quiet()

        first, second, overlapping = await rows(here.msp)
        assert again.status == 201
        assert [each.state for each in (first, second)] == [ReconciliationState.AGREED] * 2
        assert [each.stated_e4 for each in (first, second)] == [100, -100]
        assert set(verdicts(overlapping).values()) == {LineVerdict.INVOICED_BEFORE}
        assert (overlapping.invoice_id, overlapping.state) == ("mine", ReconciliationState.DIFFERS)


async def test_a_record_is_changed_and_withdrawn_by_its_issuer() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        period = {"counterparty": EMMA, "since": at(1).isoformat(), "until": at(9).isoformat()}
        here.clock.step_to(at(9.05))
        await here.cpo.api("POST", "/invoice-reconciliations", period)
        await here.quiet()
        await both(here, cdr("B", 50, 3))
        here.clock.step_to(at(9.1))
        await here.cpo.api("POST", "/invoice-reconciliations", period)
        await here.quiet()
        (changed,) = await rows(here.cpo)
        named = f"/invoice-reconciliations/{EMMA}/{changed.record_id}"

        gone = await here.cpo.api("DELETE", named)
        await here.quiet()

        assert (changed.state, changed.stated_e4) == (ReconciliationState.AGREED, 150)
        (withdrawn,) = await rows(here.cpo)
        assert (gone.status, withdrawn.state, await rows(here.msp)) == (200, ReconciliationState.WITHDRAWN, [])
        assert (await here.cpo.api("DELETE", named)).status == 404
        await here.cpo.api("POST", "/invoice-reconciliations", period)
        await here.quiet()
        (anew,) = await rows(here.msp)
        assert anew.state is ReconciliationState.AGREED, "its CDRs were set free"


async def test_what_was_withdrawn_twice_while_nobody_could_be_reached_is_withdrawn_at_last() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await a_week_later(here)
        (sent,) = await rows(here.cpo)
        again = {"counterparty": EMMA, "since": sent.period_since, "until": sent.period_until}
        named = f"/invoice-reconciliations/{EMMA}/{sent.record_id}"
        here.cpo.http.cut(HUB_ORIGIN)

        await here.cpo.api("DELETE", named)
        await here.cpo.api("POST", "/invoice-reconciliations", again)
        await here.cpo.api("DELETE", named)
        here.cpo.http.mend(HUB_ORIGIN)
        await here.quiet()

        assert [each.state for each in await rows(here.cpo)] == [ReconciliationState.WITHDRAWN]
        assert await rows(here.msp) == []


async def test_what_the_other_has_no_more_counts_as_withdrawn_and_holds_up_nothing() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await a_week_later(here)
        (sent,) = await rows(here.cpo)
        again = {"counterparty": EMMA, "since": sent.period_since, "until": sent.period_until}
        await post(here, wire(), method="DELETE", path=f"/NL/TUL/{sent.record_id}")  # its answer was lost

        await here.cpo.api("DELETE", f"/invoice-reconciliations/{EMMA}/{sent.record_id}")
        await here.cpo.api("POST", "/invoice-reconciliations", again)
        await here.quiet()

        (heard,) = await rows(here.msp)
        assert heard.record_id == sent.record_id


async def test_what_was_withdrawn_is_not_invoiced_again_by_itself() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await a_week_later(here)
        (sent,) = await rows(here.cpo)
        await here.cpo.api("DELETE", f"/invoice-reconciliations/{EMMA}/{sent.record_id}")
        await here.quiet()

        await here.cpo.service.invoicing.issue_due()
        await here.quiet()

        client = await here.msp.service.host.connect(EMMA, TULIP)
        url = client.url_of(ModuleID.INVOICERECONCILIATION, InterfaceRole.SENDER, "", {})
        offered = await client.send("GET", url, None, to_party=TULIP, correlation_id="c")
        assert [each.state for each in await rows(here.cpo)] == [ReconciliationState.WITHDRAWN]
        assert (await rows(here.msp), offered.data) == ([], b"[]")


async def test_a_period_that_would_leave_cdrs_without_an_invoice_is_refused() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await both(here, cdr("B", 100, 5))
        here.clock.step_to(at(9))

        async def invoiced(since: int, until: int) -> int:
            period = {"counterparty": EMMA, "since": at(since).isoformat(), "until": at(until).isoformat()}
            return int((await here.cpo.api("POST", "/invoice-reconciliations", period)).status)

        refused = await invoiced(4, 8)
        of_all = [await invoiced(1, 4), await invoiced(4, 8)]

        assert (refused, of_all) == (409, [201, 201])


async def invoiced(here: TwoOffices, since: float, until: float) -> int:
    period = {"counterparty": EMMA, "since": at(since).isoformat(), "until": at(until).isoformat()}
    return int((await here.cpo.api("POST", "/invoice-reconciliations", period)).status)


async def test_a_period_is_invoiced_once_all_that_was_issued_in_it_is_stored() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        here.clock.step_to(at(9))

        at_once = await invoiced(here, 1, 9)
        here.clock.step_by(cpo_invoicing.ISSUED_AFTER)

        assert (at_once, await invoiced(here, 1, 9)) == (409, 201)


async def test_an_invoiced_period_is_not_cut_short_unless_it_is_withdrawn() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        for day in (2, 6, 10):
            await both(here, cdr(f"C{day}", 100, day))
        here.clock.step_to(at(16))
        before = [await invoiced(here, 1, 8), await invoiced(here, 8, 15)]

        cut_short = await invoiced(here, 1, 5)
        first, _ = sorted(await rows(here.cpo), key=lambda row: row.record_id)
        await here.cpo.api("DELETE", f"/invoice-reconciliations/{EMMA}/{first.record_id}")

        assert (before, cut_short) == ([201, 201], 409)
        assert first.stated_e4 == 200
        assert await invoiced(here, 1, 5) == 201


async def test_a_period_that_has_fewer_cdrs_than_before_keeps_no_cdr_on_two_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invoice_reconciliation, "CDRS_SENT_MAX", 2)
    async with two_offices() as here:
        await here.agreed(terms())
        for name in ("A", "B", "C"):
            await both(here, cdr(name, 100, 2))
        here.clock.step_to(at(16))
        await invoiced(here, 1, 8)
        await here.quiet()
        await both(here, cdr("A", 100, 9))

        await invoiced(here, 1, 8)
        await here.quiet()
        await here.msp.service.reconciliations.look_again(EMMA)
        await here.quiet()

        standing = [row for row in await rows(here.cpo) if row.state is not ReconciliationState.WITHDRAWN]
        assert [[line.cdr_id for line in row.lines] for row in standing] == [["B", "C"]]
        (heard,) = await rows(here.msp)
        assert set(verdicts(heard).values()) == {LineVerdict.ACCEPTED}


async def test_an_msp_invoices_itself_in_reverse_billing() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await issued(here, cdr("B", 50, 2))
        here.clock.step_to(at(9))
        period = {"counterparty": TULIP, "since": at(1).isoformat(), "until": at(9).isoformat()}

        answer = await here.msp.api("POST", "/invoice-reconciliations", period)
        await here.quiet()

        (sent,) = await rows(here.msp)
        assert answer.status == 201
        assert verdicts(sent) == {"A": LineVerdict.ACCEPTED, "B": LineVerdict.MISSING}
        assert sent.issued_by == EMMA


async def test_reverse_billing_leaves_no_cdr_on_no_invoice_either() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await both(here, cdr("A", 100, 2))
        await both(here, cdr("B", 50, 6))
        here.clock.step_to(at(9))
        period = {"counterparty": TULIP, "since": at(1).isoformat(), "until": at(9).isoformat()}
        await here.msp.api("POST", "/invoice-reconciliations", period)

        shorter = await here.msp.api("POST", "/invoice-reconciliations", period | {"until": at(5).isoformat()})
        await here.quiet()

        (sent,) = await rows(here.msp)
        assert (shorter.status, [line.cdr_id for line in sent.lines]) == (409, ["A", "B"])


async def test_what_arrives_later_changes_the_answer_of_a_cpo_too() -> None:
    async with two_offices() as here:
        late = cdr("late", 10, 2)
        await received(here, late)
        here.clock.step_to(at(9))
        period = {"counterparty": TULIP, "since": at(1).isoformat(), "until": at(9).isoformat()}
        await here.msp.api("POST", "/invoice-reconciliations", period)
        await here.quiet()
        (before,) = await rows(here.msp)

        await issued(here, late)
        await here.cpo.service.invoicing.issue_due()
        await here.quiet()

        (after,) = await rows(here.msp)
        assert verdicts(before) == {"late": LineVerdict.UNKNOWN}
        assert after.state is ReconciliationState.AGREED


def wire(**changes: Any) -> InvoiceRecord:
    made: dict[str, Any] = {
        "country_code": "NL",
        "party_id": "TUL",
        "id": "R1",
        "invoice_id": "I1",
        "cdrs": ["A"],
        "last_updated": at(9),
    }
    return InvoiceRecord(**(made | changes))


async def post(here: TwoOffices, record: InvoiceRecord, *, method: str = "POST", path: str = "") -> int:
    client = await here.cpo.service.host.connect(TULIP, EMMA)
    url = client.url_of(ModuleID.INVOICERECONCILIATION, InterfaceRole.RECEIVER, path, {})
    answer = await client.send(method, url, record, to_party=EMMA, correlation_id="c")
    return int(answer.http_status)


@pytest.mark.parametrize("is_msp", [True, False])
async def test_of_a_period_that_the_other_states_a_bounded_number_is_looked_at(
    is_msp: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (msp_invoicing, cpo_invoicing):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    async with two_offices() as here:
        for number in range(6):
            await both(here, cdr(f"C{number}", 100, 2))
        office, other = (here.msp, TULIP) if is_msp else (here.cpo, EMMA)
        books = office.service.reconciliations.books
        async with office.exchange.ports.units.begin() as unit:
            found = [
                [
                    each.cdr_id
                    for each in await books.owed(unit, office.party, other, since=at(1), until=at(9), at_most=most)
                ]
                for most in (3, OWED_MAX, None)
            ]

        every = [f"C{number}" for number in range(6)]
        assert found == [every[:4], every, every]


async def test_records_of_others_are_taken_as_the_text_has_them() -> None:
    """No amounts, no period: OCPI's own fields alone."""
    async with two_offices() as here:
        await received(here, cdr("A", 100, 2))

        statuses = [await post(here, wire()), await post(here, wire())]
        with pytest.raises(PeerRefused):
            await post(here, wire(cdrs=["A", "B"]))
        put = await post(here, wire(cdrs=["A", "B"], last_updated=at(10)), method="PUT", path="/NL/TUL/R1")
        older = await post(here, wire(cdrs=["A"], last_updated=at(9.5)), method="PUT", path="/NL/TUL/R1")
        client = await here.cpo.service.host.connect(TULIP, EMMA)
        url = client.url_of(ModuleID.INVOICERECONCILIATION, InterfaceRole.RECEIVER, "/NL/TUL/R1", {})
        kept = (await client.send("GET", url, None, to_party=EMMA, correlation_id="c")).as_(InvoiceRecord)

        (heard,) = await rows(here.msp)
        assert (statuses, put, older) == ([201, 200], 200, 200)
        assert kept.cdrs == ["A", "B"]
        assert verdicts(heard) == {"A": LineVerdict.ACCEPTED, "B": LineVerdict.UNKNOWN}
        assert heard.answers[0].booked_e4 == 100


async def test_what_a_withdrawn_record_gave_up_belongs_to_one_other_alone() -> None:
    async with two_offices() as here:
        await received(here, cdr("A", 100, 2))
        await post(here, wire(id="R1"))
        await post(here, wire(id="R2"))
        await post(here, wire(id="R1"), method="DELETE", path="/NL/TUL/R1")

        changed = await here.msp.service.reconciliations.look_again(EMMA)
        await post(here, wire(id="R3"))

        answers = {each.record_id: each.answers[0] for each in await rows(here.msp)}
        assert changed == 1
        assert {name: answer.verdict for name, answer in answers.items()} == {
            "R2": LineVerdict.ACCEPTED,
            "R3": LineVerdict.INVOICED_BEFORE,
        }
        assert answers["R3"].see == "R2"


async def test_a_record_that_can_not_be_right_and_words_of_third_parties_are_refused() -> None:
    wrong: tuple[dict[str, Any], ...] = (
        {"cdrs": ["A", "A"]},
        {"party_id": "OTH"},
        {"wattroam_amounts": (StatedAmount(cdr_id="B", amount=Decimal(1)),)},
        {"cdrs": [f"C{number}" for number in range(CDRS_TAKEN_MAX + 1)]},
        {"wattroam_since": at(1), "wattroam_until": at(1)},
        {"wattroam_since": at(2), "wattroam_until": at(2) + PERIOD_MAX + timedelta(seconds=1)},
        {"wattroam_since": at(1)},
        {"wattroam_until": at(1)},
    )
    async with two_offices() as here:
        for changes in wrong:
            with pytest.raises(PeerRefused):
                await post(here, wire(**changes))

        assert await rows(here.msp) == []
        with pytest.raises(MissingAtPeer):
            await post(here, wire(), method="DELETE", path="/NL/OTH/R1")
        client = await here.msp.service.host.connect(EMMA, TULIP)
        url = client.url_of(ModuleID.RECONCILIATION, InterfaceRole.RECEIVER, "/R1", {})
        said = {
            "id": "R1",
            "invoice_id": "I1",
            "record_last_updated": "2026-01-01T00:00:00Z",
            "accepted_total": 1,
            "cdrs": [],
            "last_updated": "2026-01-01T00:00:00Z",
        }
        with pytest.raises(MissingAtPeer):
            await client.send("PUT", url, said, to_party=TULIP, correlation_id="c")
        here.clock.step_to(at(1) + 2 * PERIOD_MAX)
        with pytest.raises(NotAPeriod):
            await here.cpo.service.reconciliations.issue(TULIP, EMMA, since=at(1), until=at(2) + PERIOD_MAX)
        with pytest.raises(NothingToInvoice):
            await here.cpo.service.reconciliations.issue(TULIP, PartyId("DE-OTH"), since=at(-9), until=at(-8))


async def pages(here: TwoOffices, record: ReconciliationRecord) -> tuple[bytes, bytes]:
    """The list of invoices and one of them, as the MSP's operator sees them."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"token": INTERNAL_TOKEN}).encode()
    entered = await here.msp.api("POST", "/invoice-page/login", body, **form)
    cookie = entered.headers["set-cookie"].partition(";")[0]
    overview = await here.msp.api("GET", "/invoice-page/", Cookie=cookie)
    one = await here.msp.api("GET", f"/invoice-page/{TULIP}/{record.record_id}", Cookie=cookie)
    assert (overview.status, one.status) == (200, 200)
    return overview.body, one.body
