"""`wattroam audit` of an installation: in full if its chain can be looked at, else a quick one that says why."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from emobility.adapters.cosigned_ledger.replica import LedgerBroken
from emobility.domain.errors import Unavailable
from emobility.ports.chain import ChainUnavailable
from emobility.ports.ports import Ports
from emobility.ports.reconciliation import Period
from emobility.runtime.settings import Settings
from emobility.runtime.supervision import ComponentMissing, ServerFailed
from emobility.wiring import open_ports
from services.audit.audit import audited
from services.audit.command import tell
from services.audit.page import page_of
from services.audit.period_report import PeriodReport, tell_period
from services.audit.periodically import audited_period
from services.audit.report import AuditReport, Check, Difference
from services.audit.sharing import Shared
from services.embedded.opening import NoChainHere, opened, opened_book

LEDGER_RULE: Final = "each entry of the ledger follows from those before it"
ASKED_FOR: Final = "a quick one was asked for"
_NO_CHAIN: Final = (NoChainHere, ChainUnavailable, ComponentMissing, ServerFailed)


class Depth(StrEnum):
    """How much is looked at."""

    AS_DEEP_AS_CAN_BE = "AS_DEEP_AS_CAN_BE"
    QUICK = "QUICK"
    FULL = "FULL"


class NoFullAudit(Unavailable):
    """A full audit was asked for, and the chain can't be looked at."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"no full audit without the chain: {_first_line(cause)}")


async def audit_installation(run_folder: Path, *, depth: Depth, json: bool, truth: dict[str, Any] | None) -> int:
    """Audit what an installation has stored and print what was found; return 0 when every rule holds, 1 when not.

    Args:
        run_folder: Where it lives, unless WATTROAM_DATABASE_URL names a database.
        depth: Whether to look at the chain.
        json: Whether machines read it.
        truth: What the stations know, where a simulator was at work.

    Raises:
        NothingHere: there is no installation.
        DatabaseUnavailable, DatabaseNotNamed: the data can't be read.
        NoFullAudit: the chain can't, and nothing less will do.
    """
    async with opened(run_folder) as settings, open_ports(settings) as ports:
        report = await _report(run_folder, settings, ports, depth=depth, truth=truth)
    return tell(report, json=json)


async def audit_period(run_folder: Path, period: Period, *, depth: Depth, json: bool, page: Path | None = None) -> int:
    """Audit a period of what an installation has stored and print what was found; return 0 when every rule holds.

    Args:
        run_folder: Where it lives, unless WATTROAM_DATABASE_URL names a database.
        period: Of charges that ended in it.
        depth: Whether to look at each document and the chain.
        json: Whether machines read it.
        page: Where the auditor's page is written, too.

    Raises:
        As `audit_installation`.
    """
    async with opened(run_folder) as settings, open_ports(settings) as ports:
        why_quick = ASKED_FOR
        found: PeriodReport | None = None
        if depth is not Depth.QUICK:
            try:
                async with opened_book(run_folder, settings, ports) as chain:
                    found = await audited_period(
                        ports, period, sharing=_sharing(settings), chain=chain, needs_chain=depth is Depth.FULL
                    )
            except LedgerBroken as broken:
                without = await audited_period(ports, period, sharing=_sharing(settings), why_quick=str(broken))
                found = replace(without, report=_with_broken(without.report, broken))
            except _NO_CHAIN as cause:
                if depth is Depth.FULL:
                    raise NoFullAudit(cause) from cause
                why_quick = _first_line(cause)
        if found is None:
            sharing = None if depth is Depth.QUICK else _sharing(settings)
            found = await audited_period(ports, period, sharing=sharing, why_quick=why_quick)
    return _told(found, json=json, page=page)


def _told(found: PeriodReport, *, json: bool, page: Path | None) -> int:
    code = tell_period(found, json=json)
    if page is not None:
        page.write_text(page_of(found))
        sys.stderr.write(f"the auditor's page is in {page}\n")
    return code


async def _report(
    run_folder: Path, settings: Settings, ports: Ports, *, depth: Depth, truth: dict[str, Any] | None
) -> AuditReport:
    why_quick = ASKED_FOR
    if depth is not Depth.QUICK:
        try:
            async with opened_book(run_folder, settings, ports) as chain:
                report, _ = await audited(ports, truth, chain=chain)
                return report
        except LedgerBroken as broken:
            report, _ = await audited(ports, truth, why_quick=str(broken))
            return _with_broken(report, broken)
        except _NO_CHAIN as cause:
            if depth is Depth.FULL:
                raise NoFullAudit(cause) from cause
            why_quick = _first_line(cause)
    report, _ = await audited(ports, truth, why_quick=why_quick)
    return report


def _with_broken(report: AuditReport, broken: LedgerBroken) -> AuditReport:
    """Return a report that says that the ledger's rows are not what was written, too."""
    difference = Difference(
        rule=LEDGER_RULE,
        scope=f"entry {broken.number}",
        expected=1,
        found=0,
        unit="entries",
        cause=f"{broken.reason}; nothing behind it was looked at",
    )
    check = Check(rule=LEDGER_RULE, compared=broken.number + 1, differences=(difference,))
    return replace(report, checks=(*report.checks, check))


def _sharing(settings: Settings) -> Shared:
    assert settings.database_url is not None, "ports were opened without a database"
    return Shared(
        dsn=settings.database_url,
        master_key=settings.master_key_bytes,
        processes=settings.audit_processes or len(os.sched_getaffinity(0)),
    )


def _first_line(cause: Exception) -> str:
    return str(cause).splitlines()[0]
