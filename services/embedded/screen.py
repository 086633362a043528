"""The demo's last screen: what everybody metered, owes, paid, and what is still in question."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from emobility.domain.money import decimal_from_e4
from services.audit.command import verdict
from services.audit.figures import Figures
from services.audit.report import AuditReport
from services.embedded.receipts import ReceiptFigures
from services.settlement.ledger import SettlementLedger


def money(amount_e4: int, currency: str) -> str:
    """Return an amount for people, to the last ten-thousandth."""
    return f"{decimal_from_e4(amount_e4):,.4f} {currency}"


def show(
    console: Console,
    figures: Figures,
    report: AuditReport,
    *,
    settled: SettlementLedger,
    settlement: str,
    simulated: dict[str, Any],
    duration_s: float,
) -> None:
    """Print one screen."""
    console.print()
    console.print(_sessions(figures, simulated))
    console.print(_energy(figures))
    console.print(_wholesale(figures, settled))
    console.print(settlement)
    console.print(_retail(figures))
    console.print(_exceptions(figures, simulated))
    style = "bold green" if report.is_clean else "bold red"
    depth = "" if report.is_full else f": {report.why_quick}"
    console.print(f"audit: {verdict(report)}{depth}", style=style)
    for each in report.differences:
        amounts = f"expected {each.expected:,}, found {each.found:,} {each.unit}"
        console.print(f"  {each.rule}: {each.scope}: {amounts}: {each.cause}", style="red", markup=False)
    console.print(f"took {duration_s:.1f} s")


def _sessions(figures: Figures, simulated: dict[str, Any]) -> str:
    roaming = simulated.get("roaming", 0)
    share = f" ({round(100 * roaming / figures.sessions)} %)" if figures.sessions else ""
    return (
        f"[bold]{figures.sessions} sessions[/bold], {roaming} of them roaming{share}, {figures.cdrs} CDRs, "
        f"{figures.credits} credited; {simulated.get('messages', 0):,} OCPP messages from stations"
    )


def _energy(figures: Figures) -> Table:
    table = Table(
        title="energy, Wh: metered = in CDRs + quarantined + waived + written off + open", title_justify="left"
    )
    energy = figures.energy
    columns = {
        "metered": figures.metered_wh,
        "in CDRs": energy.cdr_wh,
        "quarantined": energy.quarantined_wh,
        "waived": energy.waived_wh,
        "written off": energy.written_off_wh,
        "open": energy.open_wh,
    }
    for name in columns:
        table.add_column(name, justify="right")
    table.add_row(*(f"{wh:,}" for wh in columns.values()))
    return table


def _wholesale(figures: Figures, settled: SettlementLedger) -> Table:
    table = Table(title="wholesale: what each MSP owes each CPO, net of tax and of credits", title_justify="left")
    for name in ("CPO", "MSP"):
        table.add_column(name)
    for name in ("CDRs", "Wh", "net", "statements", "final"):
        table.add_column(name, justify="right")
    of_pair = {(each.cpo_id.code, each.emsp_id.code, each.currency): each for each in settled.pairs}
    for pair in figures.wholesale:
        final = of_pair.get((pair.cpo, pair.emsp, pair.currency))
        table.add_row(
            *(pair.cpo, pair.emsp, str(pair.cdrs), f"{pair.energy_wh:,}", money(pair.net_e4, pair.currency)),
            *(("0", "-") if final is None else (str(final.statements), money(final.final_e4, pair.currency))),
        )
    return table


def settlement_lines(settled: SettlementLedger, receipts: ReceiptFigures) -> str:
    """Say who gets what on balance, what it cost, and that drivers can check it."""
    nets = ", ".join(f"{each.party_id} {money(each.net_e4, each.currency)}" for each in settled.parties)
    count = sum(each.pairs for each in settled.batches)
    where = "" if receipts.folder is None else f" in {receipts.folder}"
    return (
        f"settled, net: {nets or 'nothing'}\n"
        f"{count} statements in {len(settled.batches)} batches, {settled.gas_per_session:,} gas per session; "
        f"{receipts.issued} receipts issued, {receipts.verified} verified{where}"
    )


def _retail(figures: Figures) -> Table:
    table = Table(title="retail: what drivers were billed and paid, with VAT; margin before tax", title_justify="left")
    table.add_column("MSP")
    for name in ("drivers", "bills", "billed", "paid", "outstanding", "margin"):
        table.add_column(name, justify="right")
    for each in figures.retail:
        amounts = (each.billed_e4, each.paid_e4, each.outstanding_e4, each.margin_e4)
        table.add_row(
            each.emsp, str(each.drivers), str(each.bills), *(money(amount, each.currency) for amount in amounts)
        )
    return table


def _exceptions(figures: Figures, simulated: dict[str, Any]) -> Table:
    table = Table(title="what went wrong, and where it is kept", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("how many", justify="right")
    table.add_column("why")
    table.add_row("quarantined sessions", str(figures.quarantined), _counted(figures.quarantine_reasons))
    table.add_row("disputes", str(figures.disputes), _counted(figures.dispute_reasons))
    table.add_row("declined payments", str(figures.declined_payments), "the bill stays outstanding")
    for intrusion in simulated.get("intrusions", []):
        table.add_row("refused", "1", intrusion)
    return table


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none"
