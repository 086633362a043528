"""A driver is erased: nothing that leads to them can be found anywhere, and everything else holds as before."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.adapters.system import SystemClock
from emobility.domain.receipt.checking import verify_receipt
from emobility.protocols.ocmf import payload_hash
from emobility.protocols.ocpi.deliveries import DELIVERY
from services.audit.audit import audited
from services.audit.books import Books
from services.audit.report import AuditReport
from services.charging_operations.ad_hoc_records import AD_HOC_SALE
from services.driver_mobility.invoice_records import RETAIL_INVOICE
from services.driver_mobility.records import CDRS, ERASURE, TOKEN, ErasureState
from services.embedded.receipts import issue_and_verify
from services.embedded.retention import drop_receipts
from services.settlement.ledger import settlement_ledger
from services.settlement.records import LEAF
from tests.privacy.searching import Everything, everything, in_files, opened, partitions
from tests.privacy.town import (
    CANARY_CARD,
    CANARY_CONTRACT,
    CANARY_EMAIL_CARD,
    CANARY_NAME,
    CANARY_UID,
    MASTER_KEY,
    TUL,
    ZON,
    Town,
    a_town,
    outcomes,
)

END_OF_RETENTION = datetime(2030, 1, 1, tzinfo=UTC)
DEADLINE_S = 60.0
LOOKS_MAX = 20
HANDLED = "every event was handled"

pytestmark = [pytest.mark.chain, pytest.mark.timeout(600)]


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.long])])
def log_in_kafka(request: pytest.FixtureRequest) -> str | None:
    """Where Kafka answers; None: events lie in PostgreSQL."""
    return request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None


async def looked(town: Town, server_folder: Path, log_in_kafka: str | None, printed: str) -> Everything:
    """What somebody sees who holds everything, the keys of evidence included."""
    return await everything(
        town.ports,
        town.dsn,
        town.rpc_url,
        vault=town.ports.vault.evidence,
        folders=[town.folder, town.chain_folder, *partitions(server_folder, town.topic_prefix)],
        printed=printed,
        kafka=None if log_in_kafka is None else (log_in_kafka, town.topic_prefix),
    )


def found(seen: Everything, canaries: dict[str, str]) -> dict[str, list[str]]:
    """Where each canary stands, of those that stand anywhere."""
    places = {name: seen.where(value) for name, value in canaries.items()}
    return {name: where for name, where in places.items() if where}


async def canaries_of(town: Town) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """What leads to the driver, to whoever bought ad hoc, and what would if it stood anywhere: it never does."""
    vault = town.ports.vault
    async with town.ports.units.begin() as unit:
        tokens = await unit.table(TOKEN).select({"party_id": ZON, "driver_id": "D0001"})
        (sale,) = await unit.table(AD_HOC_SALE).select()
    app_uids = [uid for uid in [await vault.open(token.uid) for token in tokens] if uid != CANARY_UID]
    async with town.ports.units.begin() as unit:
        cdrs = await unit.table(CDRS).select({"party_id": ZON})
    records = [record for cdr in cdrs if cdr.cdr.signed_data for record in cdr.cdr.signed_data.records]
    hashes = {payload_hash(await vault.open(record)) for record in records}
    of_driver = {
        "name": CANARY_NAME,
        "card": CANARY_CARD,
        "contract": CANARY_CONTRACT,
        "token uid and OCMF identification": CANARY_UID,
        **{f"app token {place}": uid for place, uid in enumerate(app_uids)},
    }
    of_buyer = {"ad hoc token and OCMF identification": await vault.open(sale.uid)}
    never = {"ad hoc card": CANARY_EMAIL_CARD, "hash of a signed record": min(hashes)}
    return of_driver, of_buyer, never


async def test_nothing_leads_to_an_erased_driver_and_everything_else_holds(
    postgres_dsn: str,
    log_in_kafka: str | None,
    server_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    since_s = SystemClock().now().timestamp()
    async with a_town(postgres_dsn, tmp_path, kafka_bootstrap=log_in_kafka) as town:
        await credit_what_is_final(town)
        await invoice_the_month(town)
        await issue_and_verify(town.ports, town.chain, folder=town.folder / "receipts")
        driver, buyer, never = await canaries_of(town)
        report, books = await audited_at_rest(town)
        assert report.is_clean, (report.differences, outcomes(town.report))

        # The search can fail: whoever holds the keys finds every canary, and nobody finds one without them.
        printed = "".join(capfd.readouterr())
        before = await looked(town, server_folder, log_in_kafka, printed)
        assert set(found(before, {**driver, **buyer, **never})) == {*driver, *buyer}
        in_kafka = [name for name in before.where("TUL-001") if town.topic_prefix in name]
        assert {name.split()[0] for name in in_kafka} == (set() if log_in_kafka is None else {"records", "file"})
        assert in_files(server_folder / "postgres", ["TUL-001"], since_s=since_s)
        assert in_files(server_folder, {**driver, **buyer}.values(), since_s=since_s) == []
        in_clear = {name for name in before.pieces if not name.startswith("opened ")}
        assert [
            each for where in found(before, {**driver, **buyer}).values() for each in where if each in in_clear
        ] == []

        await die_in_the_middle(town)
        await town.api.call("POST", f"/mobility/{ZON}/drivers/D0001/erase")
        await town.api.call("POST", f"/operations/{TUL}/ad-hoc/sales/{town.sale_id}/erase")
        dropped = drop_receipts(town.folder / "receipts", party=ZON.code, driver_id="D0001")
        async with asyncio.timeout(DEADLINE_S):
            # Rows of a process that died: nobody woke ours, which looks for such by itself.
            while await waits(town):  # noqa: ASYNC110 - no one event says so
                await asyncio.sleep(0.05)
        await town.rest()
        assert dropped >= 3
        closed = {name: text.encode() async for name, text in opened(town.ports, town.ports.vault)}
        assert found(Everything(pieces=closed), {**driver, **buyer}) == {}

        town.clock.step_by(END_OF_RETENTION - town.clock.now() + timedelta(days=1))
        async with asyncio.timeout(DEADLINE_S):
            while not await is_over(town):  # noqa: ASYNC110 - no one event says so
                await asyncio.sleep(0.05)
        await town.rest()
        printed += "".join(capfd.readouterr())
        after = await looked(town, server_folder, log_in_kafka, printed)
        assert found(after, {**driver, **buyer, **never}) == {}
        assert in_files(server_folder, {**driver, **buyer}.values(), since_s=since_s) == []

        again, books_after = await audited_at_rest(town)
        assert again.is_clean, again.differences
        assert totals(books_after) == totals(books)
        assert (await issue_and_verify(town.ports, town.chain, folder=None)).issued >= 1
        for path in (town.folder / "receipts").glob("*.json"):
            assert verify_receipt(path.read_bytes(), ReceiptProofs()).is_accepted
        assert len(list((town.folder / "receipts").glob("*.json"))) >= 1


async def audited_at_rest(town: Town) -> tuple[AuditReport, Books]:
    """Audit. What the hub's day sets off may be on its way just then, and nothing else: then look again."""
    for _ in range(LOOKS_MAX):
        await town.rest()
        report, books = await audited(town.ports, chain=town.chain)
        if {each.rule for each in report.differences} != {HANDLED}:
            break
    return report, books


async def die_in_the_middle(town: Town) -> None:
    """Have another process begin to erase the driver; it is killed when one key is dealt with, the others not."""
    now = town.clock.now().isoformat()
    command = (sys.executable, "-m", "tests.privacy.dying_erasure", town.dsn, MASTER_KEY.hex(), now, str(ZON), "D0001")
    child = await asyncio.create_subprocess_exec(*command)
    assert await child.wait() == -signal.SIGKILL
    async with town.ports.units.begin() as unit:
        (erasure,) = await unit.table(ERASURE).select()
    assert erasure.state is ErasureState.PENDING
    assert len(erasure.destroyed_subjects) + len(erasure.restricted_subjects) >= 3


async def credit_what_is_final(town: Town) -> None:
    """Take a settled CDR back and replace it: the statement after it holds both, and nobody owes another cent."""
    async with town.ports.units.begin() as unit:
        leaves = await unit.table(LEAF).select({"cpo_id": TUL, "emsp_id": ZON}, order_by=("cdr_id",))
    first = leaves[0]
    before = await settlement_ledger(town.ports.units)
    asked = {"reason": "billed again", "who": "Ann", "replacement": {}}
    await town.api.call("POST", f"/operations/{TUL}/cdrs/{first.cdr_id}/credit", asked)
    await town.rest()
    after = await settlement_ledger(town.ports.units)
    pairs = {(pair.cpo_id, pair.emsp_id): pair for pair in after.pairs}
    assert pairs[TUL, ZON].final_cdrs == len(leaves) + 2
    assert [(each.party_id, each.net_e4) for each in after.parties] == [
        (each.party_id, each.net_e4) for each in before.parties
    ]


async def invoice_the_month(town: Town) -> None:
    """Invoice the drivers, and ask for their documents: the buyer's name stands on each."""
    seller = {"name": "ZON B.V.", "country": "NL", "vat_id": "NL004495445B01", "time_zone": "Europe/Amsterdam"}
    await town.api.call("PUT", f"/mobility/{ZON}/seller", seller)
    town.clock.step_by(datetime(2022, 4, 1, tzinfo=UTC) - town.clock.now())
    await town.rest()
    issued = await town.api.call("POST", f"/mobility/{ZON}/invoices", {"month": "2022-03"})
    async with town.ports.units.begin() as unit:
        rows = await unit.table(RETAIL_INVOICE).select({"party_id": ZON})
    assert ({row.number for row in rows}, issued["waiting"]) == ({*issued["numbers"]}, {})
    assert "D0001" in {row.driver_id for row in rows}
    for row in rows:
        shown = await town.api.call("GET", f"/mobility/{ZON}/invoices/{row.number}")
        assert shown["buyer"]["name"] == CANARY_NAME or row.driver_id != "D0001"


async def waits(town: Town) -> bool:
    async with town.ports.units.begin() as unit:
        return await unit.table(DELIVERY).count({"module": "tokens"}) > 0


async def is_over(town: Town) -> bool:
    async with town.ports.units.begin() as unit:
        erasures = await unit.table(ERASURE).select()
        sales = await unit.table(AD_HOC_SALE).select()
    return all(each.state is ErasureState.ERASED for each in erasures) and all(sale.erased_at for sale in sales)


def totals(books: object) -> list[tuple[str, int, int]]:
    """What each CDR comes to, at the MSPs."""
    rows = books.emsp_cdrs  # type: ignore[attr-defined]  # Books
    return sorted((row.cdr_id, row.cdr.total_energy_import_wh, row.cdr.total_cost.excl_e4) for row in rows)
