"""What is not settled yet, and that nothing else is missing: a CDR is settled, waits, never will be, or is off-chain.

Energy is in Wh and money in ten-thousandths; in a credit both count with a minus sign.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from services.audit.books import Books
from services.audit.report import Check, Difference, Waiting
from services.audit.settlement_rows import CDRName
from services.audit.whereabouts import Standing, whereabouts
from services.settlement.records import LeafRecord


def waiting(books: Books) -> tuple[Waiting, ...]:
    """Return what is not settled yet, by reason and currency."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    documents = _documents(books)
    for name, at in whereabouts(books).items():
        if at.standing is Standing.WAITING:
            each = documents[name]
            total = sums[at.reason, each.currency]
            total[0] += 1
            total[1] += each.import_wh
            total[2] += each.net_e4
    return tuple(
        Waiting(reason=reason, currency=currency, cdrs=cdrs, energy_wh=energy_wh, net_e4=net_e4)
        for (reason, currency), (cdrs, energy_wh, net_e4) in sorted(sums.items())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A CDR's numbers as they count in sums: below zero in a credit."""

    pair: tuple[str, str]
    currency: str
    import_wh: int
    export_wh: int
    net_e4: int


def _documents(books: Books) -> dict[CDRName, _Document]:
    """Return each CDR as its CPO has it, else its MSP, else the settlement alone."""
    found = {(leaf.cpo_id.code, leaf.cdr_id): _as_booked(leaf) for leaf in books.settlement.leaves}
    issued = [(row.party_id.code, row.emsp_id.code, row.cdr_id, row.cdr) for row in books.cpo_cdrs]
    received = [(row.cpo_id.code, row.party_id.code, row.cdr_id, row.cdr) for row in books.emsp_cdrs]
    for cpo, emsp, cdr_id, cdr in (*received, *issued):
        found[cpo, cdr_id] = _Document(
            pair=(cpo, emsp),
            currency=cdr.currency,
            import_wh=cdr.signed_energy_import_wh,
            export_wh=-cdr.total_energy_export_wh if cdr.is_credit else cdr.total_energy_export_wh,
            net_e4=cdr.total_cost.excl_e4,
        )
    return found


def _as_booked(leaf: LeafRecord) -> _Document:
    sign = -1 if leaf.is_credit else 1
    return _Document(
        pair=(leaf.cpo_id.code, leaf.emsp_id.code),
        currency=leaf.currency,
        import_wh=sign * leaf.import_wh,
        export_wh=sign * leaf.export_wh,
        net_e4=leaf.due_e4 - leaf.credit_e4,
    )


def check_settled_energy(books: Books) -> Check:
    """Compare, pair by pair and direction by direction, the energy of all CDRs with where it stands.

    What a leaf says counts once its CDR is in a leaf; so does what CPO and MSP hold before.
    """
    rule = "energy in CDRs = settled + waiting + never settled + settled off-chain"
    documents = _documents(books)
    booked = {(leaf.cpo_id.code, leaf.cdr_id): _as_booked(leaf) for leaf in books.settlement.leaves}
    claimed: dict[tuple[tuple[str, str], str], int] = defaultdict(int)
    parts: dict[tuple[tuple[str, str], str], dict[Standing, int]] = defaultdict(lambda: dict.fromkeys(Standing, 0))
    for name, at in whereabouts(books).items():
        document = documents[name]
        counted = booked.get(name, document)
        for direction, wh, counted_wh in (
            ("", document.import_wh, counted.import_wh),
            (" export", document.export_wh, counted.export_wh),
        ):
            claimed[document.pair, direction] += wh
            parts[document.pair, direction][at.standing] += counted_wh
    differences = []
    for (pair, direction), wh in sorted(claimed.items()):
        of_pair = parts[pair, direction]
        found = sum(part for standing, part in of_pair.items() if standing is not Standing.LOST)
        if found != wh:
            told = ", ".join(f"{standing.value.lower()} {part}" for standing, part in of_pair.items())
            scope = "/".join(pair) + direction
            differences.append(
                Difference(rule=rule, scope=scope, expected=wh, found=found, unit="Wh", cause=f"in Wh: {told}")
            )
    return Check(rule=rule, compared=len(documents), differences=tuple(differences))
