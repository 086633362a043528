"""The figures of a run: sessions, energy, wholesale per pair, retail per MSP. All of them follow from the books."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from services.audit.books import Books
from services.audit.energy import EnergyParts, energy_parts, metered_total_wh
from services.charging_operations.records import QuarantineState
from services.driver_mobility.records import CDRState, PaymentKind, PaymentState


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigures:
    """What an MSP owes a CPO so far, net of credits and of tax."""

    cpo: str
    emsp: str
    currency: str
    cdrs: int
    energy_wh: int
    net_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailFigures:
    """What an MSP's drivers were billed, net of credits, and paid; gross of tax. `margin_e4` is before tax."""

    emsp: str
    currency: str
    drivers: int
    bills: int
    billed_e4: int
    paid_e4: int
    outstanding_e4: int
    margin_e4: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything the demo's last screen shows."""

    sessions: int
    cdrs: int
    credits: int
    quarantined: int
    quarantine_reasons: dict[str, int]
    metered_wh: int
    energy: EnergyParts
    wholesale: tuple[PairFigures, ...]
    retail: tuple[RetailFigures, ...]
    disputes: int
    dispute_reasons: dict[str, int]
    declined_payments: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures under the names that `wattroam demo --json` promises."""
        return {
            "sessions": self.sessions,
            "cdrs": self.cdrs,
            "credits": self.credits,
            "quarantined": self.quarantined,
            "quarantine_reasons": self.quarantine_reasons,
            "energy_wh": {
                "metered": self.metered_wh,
                "cdr": self.energy.cdr_wh,
                "quarantined": self.energy.quarantined_wh,
                "waived": self.energy.waived_wh,
                "written_off": self.energy.written_off_wh,
                "open": self.energy.open_wh,
            },
            "wholesale": [
                {
                    "cpo": pair.cpo,
                    "msp": pair.emsp,
                    "currency": pair.currency,
                    "cdrs": pair.cdrs,
                    "energy_wh": pair.energy_wh,
                    "net_e4": pair.net_e4,
                }
                for pair in self.wholesale
            ],
            "retail": [
                {
                    "msp": each.emsp,
                    "currency": each.currency,
                    "drivers": each.drivers,
                    "bills": each.bills,
                    "billed_e4": each.billed_e4,
                    "paid_e4": each.paid_e4,
                    "outstanding_e4": each.outstanding_e4,
                    "margin_e4": each.margin_e4,
                }
                for each in self.retail
            ],
            "disputes": self.disputes,
            "dispute_reasons": self.dispute_reasons,
            "declined_payments": self.declined_payments,
        }


def figures_of(books: Books) -> Figures:
    """Add the books up."""
    open_quarantine = [row for row in books.quarantine if row.state is QuarantineState.OPEN]
    return Figures(
        sessions=len({(row.party_id.code, row.session_id) for row in books.cpo_sessions}),
        cdrs=sum(not row.is_credit for row in books.cpo_cdrs),
        credits=sum(row.is_credit for row in books.cpo_cdrs),
        quarantined=len(open_quarantine),
        quarantine_reasons=dict(sorted(Counter(r for row in open_quarantine for r in row.reasons).items())),
        metered_wh=metered_total_wh(books),
        energy=sum(energy_parts(books).values(), start=EnergyParts()),
        wholesale=_wholesale(books),
        retail=_retail(books),
        disputes=len(books.emsp_disputes),
        dispute_reasons=dict(
            sorted(Counter(finding.fault.value for row in books.emsp_disputes for finding in row.findings[:1]).items())
        ),
        declined_payments=sum(
            order.state is PaymentState.FAILED and order.kind is not PaymentKind.REFUND
            for order in books.payment_orders
        ),
    )


def _wholesale(books: Books) -> tuple[PairFigures, ...]:
    pairs: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in books.cpo_cdrs:
        sums = pairs[row.party_id.code, row.emsp_id.code, row.cdr.currency]
        sums[0] += 1
        sums[1] += row.cdr.signed_energy_import_wh
        sums[2] += row.cdr.total_cost.excl_e4
    return tuple(
        PairFigures(cpo=cpo, emsp=emsp, currency=currency, cdrs=count, energy_wh=energy_wh, net_e4=net_e4)
        for (cpo, emsp, currency), (count, energy_wh, net_e4) in sorted(pairs.items())
    )


def _retail(books: Books) -> tuple[RetailFigures, ...]:
    margins: dict[tuple[str, str], int] = defaultdict(int)
    bills: Counter[tuple[str, str]] = Counter()
    for bill in books.bills:
        bills[bill.party_id.code, bill.currency] += 1
        if bill.credited_incl_e4 == 0:
            margins[bill.party_id.code, bill.currency] += bill.total_excl_e4
    for row in books.emsp_cdrs:
        if row.state is CDRState.ACCEPTED and not row.cdr.is_credit and row.credited_by is None:
            margins[row.party_id.code, row.cdr.currency] -= row.cdr.total_cost.excl_e4
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for account in books.accounts:
        each = sums[account.party_id.code, account.currency]
        each[0] += 1
        each[1] += account.billed_e4 - account.credited_e4
        each[2] += account.paid_e4
        # Not billed less paid: that billed = paid + outstanding is what the figures are to show.
        each[3] += account.due_e4 + account.carry_e4
    return tuple(
        RetailFigures(
            emsp=key[0],
            currency=key[1],
            drivers=drivers,
            bills=bills[key],
            billed_e4=billed_e4,
            paid_e4=paid_e4,
            outstanding_e4=outstanding_e4,
            margin_e4=margins[key],
        )
        for key, (drivers, billed_e4, paid_e4, outstanding_e4) in sorted(sums.items())
    )
