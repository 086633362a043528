"""A driver pays at a terminal of others (OCPI 2.3.0, payments): from the terminal's registration to the invoice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.memory import MemoryVault, SeededRandomness
from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.token import TokenType, Whitelist
from emobility.protocols.ocpi import v221, v230
from emobility.protocols.ocpi.client import MissingAtPeer, PeerRefused
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.audit.ad_hoc import check_ledger
from services.audit.books import gather_books
from services.charging_operations import ad_hoc_sales, terminals
from services.charging_operations.ad_hoc_ledger import AD_HOC_ENTRY
from services.charging_operations.ad_hoc_records import AD_HOC_SALE, AdHocSaleRecord, SaleState
from services.charging_operations.ad_hoc_sales import START_WAIT
from services.charging_operations.office import short_hash
from services.charging_operations.records import CDRS, SESSION
from services.charging_operations.tariffs import TariffTerms
from services.charging_operations.terminal_advices import CONFIRMED_WITHIN, settle_by_last_word
from services.charging_operations.terminals import TERMINAL, TerminalRecord
from tests.operations.ad_hoc_shop import EVSE, Shop, audited, open_shop
from tests.operations.test_ad_hoc_receipts import half_an_hour_cheap
from tests.operations.test_commands import send, start_session
from tests.operations.world import CPO, EMSP, ORIGIN, START, World, open_for_business

PTP: Final = PartyId("NL-PAY")
PTP_ORIGIN: Final = "http://ptp.test"
REFERENCE: Final = "auth-1"


@dataclass(slots=True)
class Provider:
    """A provider of terminals on its own platform, which speaks 2.3.0, and what it heard."""

    here: World
    host: OCPIHost
    heard: list[tuple[str, str, Any]] = field(default_factory=list)

    async def call(self, method: str, module: ModuleID, path: str, body: Any = None) -> Any:
        client = await self.host.connect(PTP, CPO)
        url = client.url_of(module, InterfaceRole.RECEIVER, path, {})
        return await client.send(method, url, body, to_party=CPO, correlation_id="c")

    async def start(self, reference: str = REFERENCE, evse_uid: str = EVSE, **changes: Any) -> str:
        token = v221.Token(
            country_code="NL",
            party_id="PAY",
            uid="terminal-token",
            type=TokenType.AD_HOC_USER,
            contract_id="NL-PAY-C1",
            issuer="PAY",
            valid=True,
            whitelist=Whitelist.NEVER,
            last_updated=START,
        )
        response_url = f"{PTP_ORIGIN}/ptp/{PTP}/ocpi/2.3.0/commands/sender/START_SESSION/{reference}"
        command = v221.StartSession(
            token=token,
            location_id="LOC1",
            evse_uid=evse_uid,
            **({"authorization_reference": reference, "response_url": response_url} | changes),
        )
        answer = await self.call("POST", ModuleID.COMMANDS, "/START_SESSION", command)
        await self.here.settle()
        return str(answer.as_(v221.CommandResponse).result)

    async def advise(self, amount: str, tax: str, status: str = "SUCCESS", **changes: Any) -> int:
        made: dict[str, Any] = {
            "id": "advice-1",
            "authorization_reference": REFERENCE,
            "total_costs": v230.Price(
                before_taxes=Decimal(amount), taxes=[v230.TaxAmount(name="VAT", amount=Decimal(tax))]
            ),
            "currency": "EUR",
            "eft_data": ["VISA ending 4242"],
            "capture_status_code": v230.CaptureStatusCode(status),
            "last_updated": self.here.clock.now(),
        }
        advice = v230.FinancialAdviceConfirmation(**(made | changes))
        answer = await self.call("POST", ModuleID.PAYMENTS, "/financial-advice-confirmations", advice)
        await self.here.settle()
        return int(answer.http_status)

    def got(self, module: str) -> list[Any]:
        return [body for kind, _, body in self.heard if kind == module]

    async def sale(self) -> AdHocSaleRecord:
        (row,) = await self.here.rows(AD_HOC_SALE)
        assert isinstance(row, AdHocSaleRecord)
        return row

    async def token(self) -> str:
        """The token that the station was told to start."""
        (start,) = [each.start_transaction for each in self.here.gateway.commands if each.start_transaction]
        return start.id_token


def listening(provider: list[Provider]) -> list[Interface]:
    made = []
    for module, side, routes in (
        (ModuleID.SESSIONS, InterfaceRole.RECEIVER, [("PUT", "/{country_code}/{party_id}/{object_id}")]),
        (ModuleID.CDRS, InterfaceRole.RECEIVER, [("POST", "")]),
        (ModuleID.COMMANDS, InterfaceRole.SENDER, [("POST", "/{command}/{reference}")]),
        (
            ModuleID.PAYMENTS,
            InterfaceRole.SENDER,
            [
                ("PATCH", "/terminals/{terminal_id}"),
                ("POST", "/terminals/activate"),
                ("POST", "/terminals/{terminal_id}/deactivate"),
            ],
        ),
    ):
        interface = Interface(module, side)

        async def keep(call: OCPICall, module: ModuleID = module) -> Reply:
            body = json.loads(call.body) if call.body else None
            provider[0].heard.append((str(module), f"{call.method} {call.url.rpartition(f'{module}/')[2]}", body))
            return Reply()

        interface.routes += [(method, path, keep) for method, path in routes]
        made.append(interface)
    return made


@asynccontextmanager
async def open_terminal(terms: TariffTerms | None = None, **terminal: Any) -> AsyncIterator[tuple[Shop, Provider]]:
    """A shop, and a provider with one terminal that is assigned to its location."""
    async with open_shop(terms) as shop:
        here, themselves = shop.here, list[Provider]()
        host = OCPIHost(here.ports, service="ptp", base_url=f"{PTP_ORIGIN}/ptp", interfaces=listening(themselves))
        themselves.append(Provider(here, host))
        here.http.mount(PTP_ORIGIN, Starlette(routes=[Mount("/ptp/{party}/ocpi", app=host.app)]))
        async with here.ports.units.begin() as unit:
            await host.add_party(unit, PTP, role=Role.OTHER, business_name="Pay")
            token_a = await host.registrar.invite(
                unit, own_party=PTP, peer_id="cpo", versions_url=f"{ORIGIN}/operations/{CPO}/ocpi/versions"
            )
            await unit.commit()
        registration = {
            "versions_url": f"{host.ocpi_url(PTP)}/versions",
            "token_a": token_a,
            "peer_id": "ptp",
            "expected_party": PTP.code,
            "expected_role": Role.OTHER,
        }
        answer = await here.api("POST", f"/{CPO}/ocpi-register", registration)
        assert answer.status_code == 200, answer.text
        made = v230.Terminal(terminal_id="T1", last_updated=here.clock.now())
        await themselves[0].call("POST", ModuleID.PAYMENTS, "/terminals", made)
        assigned = {"location_ids": ["LOC1"]} | terminal
        answer = await here.api("PUT", f"/{CPO}/terminals/{PTP}/T1/assignment", assigned)
        assert answer.status_code == 200, answer.text
        await here.settle()
        yield shop, themselves[0]


async def charged(here: World, provider: Provider, import_wh: int = 6_001) -> AdHocSaleRecord:
    """Sold at the terminal and charged: 5.001 kWh, 3.6058 with tax."""
    assert await provider.start() == "ACCEPTED"
    card = await provider.token()
    await here.report(await here.started("7", card=card), here.ended("7", at=60, import_wh=import_wh))
    return await provider.sale()


async def test_a_charge_is_paid_at_a_terminal_from_start_to_invoice() -> None:
    async with open_terminal(invoice_creator="CPO") as (shop, provider):
        here = shop.here
        due = await charged(here, provider)
        statuses = [await provider.advise("2.98", "0.63"), await provider.advise("2.98", "0.63")]
        paid = await provider.sale()
        invoice = await shop.get(f"/operations/{CPO}/pay/invoice/{PTP}/{REFERENCE}")

        assert (due.state, due.capture_e4, paid.state) == (SaleState.CONFIRMING, 36_000, SaleState.CAPTURED)
        assert statuses == [201, 200]
        (patch,) = provider.got("payments")
        assert patch["location_ids"] == ["LOC1"]
        assert [each["status"] for each in provider.got("sessions")][-1] == "COMPLETED"
        assert {each["authorization_reference"] for each in provider.got("sessions")} == {REFERENCE}
        assert {each["cdr_token"]["uid"] for each in provider.got("sessions")} == {"terminal-token"}
        (cdr,) = provider.got("cdrs")
        assert (cdr["total_cost"], cdr["invoice_reference_id"]) == (
            {"excl_vat": 2.98, "incl_vat": 3.6058},
            f"{CPO}-AH-00000001",
        )
        (result,) = provider.got("commands")
        assert result == {"result": "ACCEPTED"}
        assert "VISA ending 4242" in invoice.text
        assert f"{CPO}-AH-00000001" in invoice.text
        # Nothing of it is roaming: no session, no CDR, no hold of ours; and the ledger has the money once.
        assert [await here.rows(each) for each in (SESSION, CDRS)] == [[], []]
        (entry,) = (await here.api("GET", f"/{CPO}/ad-hoc/ledger")).json()
        assert (entry["channel"], entry["kind"], entry["amount_e4"]) == ("TERMINAL", "TAKEN", 36_100)
        await audited(here)


async def test_the_provider_may_stop_what_it_sold_and_nobody_else() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        await provider.start()
        await here.report(await here.started("7", card=await provider.token()))
        session_id = (await provider.sale()).session_id
        stop = v221.StopSession(response_url=f"{PTP_ORIGIN}/ptp/{PTP}/ocpi/2.3.0/commands/sender/S/1",
                                session_id=session_id or "")  # fmt: skip

        foreign = await here.ocpi("POST", ModuleID.COMMANDS, "/STOP_SESSION", stop)
        own = await provider.call("POST", ModuleID.COMMANDS, "/STOP_SESSION", stop)
        await here.settle()

        assert (foreign["result"], own.as_(v221.CommandResponse).result) == ("UNKNOWN_SESSION", "ACCEPTED")
        assert [each.stop_transaction.transaction_id for each in here.gateway.commands if each.stop_transaction] == [
            "7"
        ]


async def test_nobody_can_work_out_the_address_of_a_sale_from_what_is_printed() -> None:
    async with open_terminal() as (shop, provider):
        assert await provider.start() == "ACCEPTED"

        guessed = short_hash("terminal", PTP.code, REFERENCE)
        other = MemoryVault(master_key=bytes(32), clock=shop.here.clock, randomness=SeededRandomness(1))
        with_another_key = other.subject_of(f"terminal-sale/{CPO}/{PTP}/{REFERENCE}")[:32]
        stopped = [
            (await shop.post(f"/operations/{CPO}/pay/sale/{sale_id}/stop")).status_code
            for sale_id in (guessed, with_another_key)
        ]

        assert stopped == [404, 404]
        assert len((await provider.sale()).sale_id) == len(guessed)
        assert (await provider.sale()).state is SaleState.STARTING


async def test_who_never_plugs_in_pays_nothing_and_may_start_anew() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        await provider.start()
        occupied = await provider.start("auth-2")
        qr = await shop.post(shop.path, await shop.form())

        here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await here.operations.ad_hoc_worker.watch()
        await here.settle()

        assert (occupied, qr.status_code) == ("REJECTED", 409)
        sale = await provider.sale()
        assert (sale.state, sale.failure) == (SaleState.RELEASED, "nobody plugged in in time")
        assert await provider.start("auth-3") == "ACCEPTED"
        await audited(here)


@pytest.mark.parametrize(
    ("status", "amount", "state", "entered"),
    [("FAILED", "2.98", SaleState.UNCOLLECTED, 0), ("PARTIAL_SUCCESS", "1.00", SaleState.CAPTURED, 10_000)],
)
async def test_what_the_terminal_could_not_take_is_known(
    status: str, amount: str, state: SaleState, entered: int
) -> None:
    async with open_terminal() as (shop, provider):
        await charged(shop.here, provider)
        await provider.advise(amount, "0", status, capture_status_message="no money")

        sale = await provider.sale()
        (entry,) = await shop.here.rows(AD_HOC_ENTRY)
        assert (sale.state, sale.failure) == (state, f"{status}: no money")
        assert entry.amount_e4 == entered
        await audited(shop.here)

        shop.here.clock.step_by(timedelta(minutes=1))
        await provider.advise("2.98", "0.62", "SUCCESS")
        assert (await provider.sale()).state is SaleState.CAPTURED, "a later word replaces the first"
        assert (await shop.here.rows(AD_HOC_ENTRY))[0].amount_e4 == 36_000
        await audited(shop.here)


async def test_a_terminal_may_confirm_before_the_charge_is_over() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        assert await provider.start() == "ACCEPTED"
        await here.report(await here.started("7", card=await provider.token()))
        await provider.advise("1.00", "0.21", "PARTIAL_SUCCESS")
        here.clock.step_by(timedelta(minutes=1))
        await provider.advise("2.98", "0.63")
        before = await provider.sale()

        await here.report(here.ended("7", at=60, import_wh=6_001))

        after = await provider.sale()
        assert (before.state, after.state, after.failure) == (SaleState.RUNNING, SaleState.CAPTURED, None)
        assert (after.invoice_number, after.finished_at) == (1, here.clock.now())
        await audited(here)


async def test_an_outage_at_the_end_of_a_charge_quarantines_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    outages = [Unavailable("the vault is away")]

    async def settled(*given: Any) -> AdHocSaleRecord:
        if outages:
            raise outages.pop()
        return await settle_by_last_word(*given)

    monkeypatch.setattr(ad_hoc_sales, "settle_by_last_word", settled)
    async with open_terminal() as (shop, provider):
        here = shop.here
        assert await provider.start() == "ACCEPTED"
        await here.report(await here.started("7", card=await provider.token()))
        await provider.advise("2.98", "0.63")

        await here.report(here.ended("7", at=60, import_wh=6_001))

        assert outages == []
        assert ((await provider.sale()).state, await here.quarantine()) == (SaleState.CAPTURED, [])
        await audited(here)


async def test_a_failed_try_that_is_told_late_undoes_no_later_one() -> None:
    async with open_terminal() as (shop, provider):
        here, _ = shop.here, await charged(shop.here, provider)
        failed_at = here.clock.now()
        here.clock.step_by(timedelta(minutes=1))
        await provider.advise("2.98", "0.63", id="retry")
        taken = await provider.sale()

        await provider.advise("2.98", "0.63", "FAILED", id="first", last_updated=failed_at)

        assert taken.state is SaleState.CAPTURED
        assert await provider.sale() == taken
        assert sum(entry.amount_e4 for entry in await here.rows(AD_HOC_ENTRY)) == 36_100
        await audited(here)


async def test_of_one_charge_a_bounded_number_of_words_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "ADVICES_OF_SALE_MAX", 2)
    async with open_terminal() as (shop, provider):
        await charged(shop.here, provider)
        for number in range(2):
            await provider.advise("2.98", "0.63", "FAILED", id=f"try-{number}")

        with pytest.raises(PeerRefused):
            await provider.advise("2.98", "0.63", id="try-2")
        assert await provider.advise("2.98", "0.63", id="try-1") == 200
        assert (await provider.sale()).state is SaleState.CAPTURED


async def test_a_sale_that_nobody_confirms_has_an_end_and_a_later_word_still_counts() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        waiting = await charged(here, provider)
        assert waiting.ended_at is not None
        here.clock.step_to(waiting.ended_at + CONFIRMED_WITHIN)
        await here.operations.ad_hoc_worker.watch()
        in_time = await provider.sale()
        here.clock.step_by(timedelta(seconds=1))
        await here.operations.ad_hoc_worker.watch()
        ended = await provider.sale()
        await audited(here)

        await provider.advise("2.98", "0.63")

        assert (waiting.state, in_time) == (SaleState.CONFIRMING, waiting)
        assert (ended.state, ended.finished_at) == (SaleState.UNCOLLECTED, here.clock.now())
        assert ended.failure == "the terminal's provider did not say what it took"
        assert (await provider.sale()).state is SaleState.CAPTURED
        await audited(here)


async def test_what_gets_cheaper_before_the_terminal_confirms_is_due_back_from_its_provider() -> None:
    async with open_terminal(half_an_hour_cheap(), invoice_creator="CPO") as (shop, provider):
        here, told = shop.here, await charged(shop.here, provider, import_wh=7_000)
        await here.report(here.updated("7", at=30, import_wh=6_000))
        cheaper = await provider.sale()
        await provider.advise("2.40", "0.50")

        settled = await provider.sale()
        receipt = await shop.get(f"/operations/{CPO}/pay/invoice/{PTP}/{REFERENCE}")
        assert (told.state, told.capture_e4) == (SaleState.CONFIRMING, 29_000)
        assert (cheaper.state, cheaper.capture_e4, cheaper.refund_e4) == (SaleState.CONFIRMING, 19_300, 9_700)
        assert (settled.state, settled.refund_e4) == (SaleState.CAPTURED, 9_700)
        assert "0.97 is due back from the terminal's provider" in receipt.text
        await audited(here)


async def test_advice_that_fits_no_sale_of_the_provider_is_refused() -> None:
    async with open_terminal() as (shop, provider):
        await charged(shop.here, provider)

        for changes in ({"authorization_reference": "other"}, {"currency": "SEK"}):
            with pytest.raises(PeerRefused):
                await provider.advise("1", "0", **changes)
        with pytest.raises(PeerRefused):
            await provider.advise("-1", "0")

        assert await shop.here.rows(AD_HOC_ENTRY) == []


async def test_nothing_is_sold_where_no_terminal_stands_or_without_a_reference() -> None:
    async with open_terminal(location_ids=[], evse_uids=["CS1-2"]) as (_, provider):
        assert await provider.start() == "REJECTED"
        with pytest.raises(PeerRefused):
            await provider.start("none", authorization_reference=None)
        assert await provider.start("there", "CS1-2") == "ACCEPTED"
        assert await provider.start("there", "CS1-2") == "ACCEPTED", "the same command again is the first answer"
        assert len([each for each in provider.here.gateway.commands if each.start_transaction]) == 1


async def test_terminals_are_created_assigned_activated_and_given_up() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        older = v230.Terminal(terminal_id="T1", last_updated=START - timedelta(days=1), city="Old")
        newer = v230.Terminal(terminal_id="T1", last_updated=here.clock.now() + timedelta(minutes=1), city="Utrecht")
        for said in (older, newer):
            await provider.call("POST", ModuleID.PAYMENTS, "/terminals", said)
        kept = (await provider.call("GET", ModuleID.PAYMENTS, "/terminals/T1")).as_(v230.Terminal)
        with pytest.raises(MissingAtPeer):
            await provider.call("GET", ModuleID.PAYMENTS, "/terminals/T9")
        asked = {"reference": "SERIAL-1", "assignment": {"evse_uids": [EVSE]}}
        activated = await here.api("POST", f"/{CPO}/terminals/{PTP}/activate", asked)
        strange = await here.api("PUT", f"/{CPO}/terminals/{PTP}/T1/assignment", {"evse_uids": ["ELSEWHERE"]})
        gone = await here.api("POST", f"/{CPO}/terminals/{PTP}/T1/deactivate")
        await here.settle()

        assert (kept.city, kept.location_ids) == ("Utrecht", ["LOC1"])
        assert (activated.status_code, strange.status_code, gone.status_code) == (202, 404, 200)
        paths = [path for module, path, _ in provider.heard if module == "payments"]
        assert paths == [
            "PATCH sender/terminals/T1",
            "POST sender/terminals/activate",
            "POST sender/terminals/T1/deactivate",
        ]
        assert await provider.start() == "REJECTED"
        (row,) = await here.rows(TERMINAL)
        assert not row.is_active


async def test_only_an_operator_says_where_and_whether_a_terminal_sells() -> None:
    """Its provider may be anyone who has a token."""
    async with open_terminal(location_ids=[], evse_uids=["CS1-2"]) as (shop, provider):
        here = shop.here

        async def said_by_its_provider(terminal_id: str = "T1") -> None:
            here.clock.step_by(timedelta(minutes=1))
            said = v230.Terminal(
                terminal_id=terminal_id, last_updated=here.clock.now(), location_ids=["LOC1"], evse_uids=[EVSE]
            )
            await provider.call("POST", ModuleID.PAYMENTS, "/terminals", said)

        await said_by_its_provider("T1")
        await said_by_its_provider("T2")
        claimed = await provider.start("claimed")
        await here.api("POST", f"/{CPO}/terminals/{PTP}/T1/deactivate")
        await said_by_its_provider("T1")
        given_up = await provider.start("given-up", "CS1-2")
        kept = {row.terminal_id: row for row in await here.rows(TERMINAL)}
        await here.api("PUT", f"/{CPO}/terminals/{PTP}/T1/assignment", {"evse_uids": ["CS1-2"]})
        again = await provider.start("again", "CS1-2")

        assert [claimed, given_up, again] == ["REJECTED", "REJECTED", "ACCEPTED"]
        assert [each.is_active for each in kept.values()] == [False, False]
        assert (kept["T1"].terminal.evse_uids, kept["T2"].terminal.evse_uids) == (["CS1-2"], [])
        assert [each.ocpp_evse_id for each in await here.rows(AD_HOC_SALE)] == [2]


async def test_who_has_a_terminal_that_is_not_assigned_roams() -> None:
    async with open_for_business() as here:
        mine = v230.Terminal(terminal_id="T1", last_updated=here.clock.now(), location_ids=["LOC1"])
        async with here.ports.units.begin() as unit:
            await unit.table(TERMINAL).put(
                TerminalRecord(
                    party_id=CPO,
                    ptp_id=EMSP,
                    terminal_id="T1",
                    is_active=False,
                    terminal=mine,
                    last_updated=here.clock.now(),
                )
            )
            await unit.commit()

        result = await send(here, start_session())

        assert result == "ACCEPTED"
        assert await here.rows(AD_HOC_SALE) == []


async def test_an_erased_sale_keeps_no_reference_and_does_not_start_again() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        assert await provider.start() == "ACCEPTED"
        here.clock.step_by(START_WAIT + timedelta(seconds=1))
        await here.operations.ad_hoc_worker.watch()
        await here.settle()

        answer = await here.api("POST", f"/{CPO}/ad-hoc/sales/{(await provider.sale()).sale_id}/erase")

        assert answer.json()["erased_at"] is not None
        assert (await provider.sale()).authorization_reference is None
        assert await provider.start(response_url=f"{PTP_ORIGIN}/another") == "REJECTED"
        assert len(await here.rows(AD_HOC_SALE)) == 1


async def test_the_ledger_is_held_to_every_sale() -> None:
    async with open_terminal() as (shop, provider):
        here = shop.here
        await charged(here, provider)
        await provider.advise("2.98", "0.62")
        (entry,) = await here.rows(AD_HOC_ENTRY)

        async def causes(*entries: Any) -> list[str]:
            async with here.ports.units.begin() as unit:
                for each in entries:
                    await unit.table(AD_HOC_ENTRY).put(each)
                await unit.commit()
            books = await gather_books(here.ports.units, here.ports.event_log)
            return [each.cause for each in check_ledger(books).differences]

        assert await causes() == []
        assert await causes(replace(entry, amount_e4=40_000)) == ["the terminal took something else than the price"]
        assert await causes(replace(entry, entry_id="again")) == ["the terminal took something else than the price"]
        await causes(replace(entry, entry_id="again", amount_e4=0), entry)
        assert await causes(replace(entry, entry_id="s", sale_id=None)) == [
            "the station took money for a charge that was sold another way"
        ]
        assert await causes(replace(entry, entry_id="s", sale_id="gone")) == ["it is for a sale that is not there"]
