"""How a demo ends: everything is audited, then one screen, or JSON, of what came of it."""

from __future__ import annotations

import json as json_module
import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

from rich.console import Console

from emobility.adapters.cosigned_ledger.ledger import read_ledger
from emobility.ports.chain import ChainReader
from emobility.runtime.settings import Settings
from emobility.runtime.telemetry import configure_logging
from emobility.wiring import open_chain, open_ports
from services.audit.audit import audit, audited
from services.audit.books import Books
from services.audit.figures import Figures, figures_of
from services.audit.report import AuditReport
from services.embedded.deterministic import run_in_memory
from services.embedded.progress import Progress
from services.embedded.receipts import ReceiptFigures, issue_and_verify
from services.embedded.screen import money, settlement_lines, show
from services.embedded.settling import settle_everything
from services.settlement.ledger import SettlementLedger, settlement_ledger

AUDIT_DIFFERS: Final = 1
NO_CHAIN: Final = "nothing is settled without a chain; `make foundry` brings one"
RECEIPTS: Final = "receipts"
"""Folder of the receipts, in the run folder."""


class Conclusion:
    """The books of a demo, audited. `simulated` is the simulator's own report."""

    def __init__(
        self,
        books: Books,
        report: AuditReport,
        simulated: dict[str, Any],
        settled: SettlementLedger,
        receipts: ReceiptFigures,
        *,
        event_log: str,
    ) -> None:
        self._books = books
        self._settled = settled
        self._receipts = receipts
        self._report = report
        self._simulated = simulated
        self._event_log = event_log

    def tell(self, *, json: bool, duration_s: float) -> int:
        """Print it to standard output; return 0 when every equation and every receipt holds, else 1 with the faults."""
        figures = figures_of(self._books)
        faults = list(self._faults(figures))
        if json:
            document = figures.as_json() | settled_json(self._settled, self._receipts)
            document["energy_wh"] |= {"settled": sum(pair.final_wh for pair in self._settled.pairs)}
            document |= {
                "event_log": self._event_log,
                "audit": self._report.as_json(),
                "simulation": self._simulated,
                "duration_s": duration_s,
            }
            sys.stdout.write(json_module.dumps(document, indent=1) + "\n")
        else:
            show(
                Console(),
                figures,
                self._report,
                settlement=settlement_lines(self._settled, self._receipts),
                settled=self._settled,
                simulated=self._simulated,
                duration_s=duration_s,
            )
        for fault in faults:
            sys.stderr.write(f"{fault}\n")
        return AUDIT_DIFFERS if faults else 0

    def _faults(self, figures: Figures) -> Iterator[str]:
        """Say, line by line, what a sound run does not show."""
        if not self._report.is_clean:
            count = len(self._report.differences)
            yield f"the audit found {count} difference{'' if count == 1 else 's'}"
        if self._receipts.issued != self._receipts.verified:
            yield f"of {self._receipts.issued} receipts only {self._receipts.verified} hold"
        final = sum(pair.final_cdrs for pair in self._settled.pairs)
        if self._receipts.issued != final:
            yield f"{final} CDRs are final and {self._receipts.issued} receipts were issued"
        settled_wh = sum(pair.final_wh for pair in self._settled.pairs)
        waiting_wh = sum(each.energy_wh for each in self._report.waiting)
        if figures.energy.cdr_wh != settled_wh + waiting_wh:
            yield (
                f"CDRs hold {figures.energy.cdr_wh:,} Wh, of which {settled_wh:,} Wh are settled and"
                f" {waiting_wh:,} Wh wait with a reason"
            )
        nets: dict[str, int] = defaultdict(int)
        for party in self._settled.parties:
            nets[party.currency] += party.net_e4
        for currency, net_e4 in sorted(nets.items()):
            if net_e4:
                yield f"what parties get and give comes to {money(net_e4, currency)}, not to nothing"


async def conclude(settings: Settings, *, truth: dict[str, Any], simulated: dict[str, Any]) -> Conclusion:
    """Audit what a running system has stored against what the simulator knows."""
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(open_ports(settings))
        receipts = ReceiptFigures()
        chain: ChainReader | None = None
        if settings.settlement_on == "ledger":
            await settle_everything(ports, settings)
            chain = await read_ledger(ports.units)
        elif settings.chain_rpc_url is not None:
            await settle_everything(ports, settings)
            chain = await stack.enter_async_context(open_chain(settings, settings.chain_rpc_url))
        if chain is not None:
            receipts = await issue_and_verify(ports, chain, folder=settings.run_folder / RECEIPTS)
        settled = await settlement_ledger(ports.units)
        report, books = await audited(ports, truth, chain=chain, why_quick=NO_CHAIN)
    return Conclusion(books, report, simulated, settled, receipts, event_log=settings.event_log)


def conclude_in_memory(seed: int, progress: Progress) -> Conclusion:
    """Play the scenario in this process, on memory adapters and a virtual clock, and audit it."""
    configure_logging(process="demo", level=logging.ERROR)
    run = run_in_memory(seed, progress=progress.tell)
    report = audit(run.books, run.report.truth.as_json(), sight=run.sight)
    return Conclusion(run.books, report, run.report.figures(), run.settled, run.receipts, event_log="memory")


def settled_json(settled: SettlementLedger, receipts: ReceiptFigures) -> dict[str, Any]:
    """Return what is settled, as the demo's JSON has it; amounts in ten-thousandths."""
    return {
        "parties": [
            {"id": each.party_id.code, "currency": each.currency, "net_e4": each.net_e4} for each in settled.parties
        ],
        "batches": [
            {"id": each.batch_id.hex(), "pairs": each.pairs, "sessions": each.sessions, "gas": each.gas}
            for each in settled.batches
        ],
        "receipts": {
            "issued": receipts.issued,
            "verified": receipts.verified,
            "folder": None if receipts.folder is None else str(receipts.folder),
        },
    }
