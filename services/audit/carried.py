"""What was carried between the parties: the hub's hashes against both sides, and what is still on its way.

The hub keeps no document, only a hash of each CDR's bytes (`roaming_hub/forwards.py`). Three parties that need not
trust each other thus tell the same story, or the audit says who tells another.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from emobility.protocols.ocpi.deliveries import Delivery, DeliveryState
from emobility.protocols.ocpi.v221 import ModuleID
from roaming_hub.records import CDRForward, ForwardOutcome
from services.audit.books import Books
from services.audit.report import Check, Difference
from services.charging_operations.cdrs import delivery_key

MONEY_MODULES: Final = (ModuleID.CDRS, ModuleID.DISPUTES)
"""What is refused in these is money in question until an operator sees to it."""

_Route = tuple[str, str, str]


def check_forwards(books: Books) -> Check:
    """Each CDR that both sides hold passed the hub once and unchanged, and nothing passed that a side lacks."""
    rule = "the hub carried what both sides hold"
    delivered: dict[_Route, list[CDRForward]] = defaultdict(list)
    # What is sold at a terminal is told to its provider as a CDR, and is none: `check_nobody_else_is_billed`.
    at_terminals = {(sale.party_id, sale.ptp_id, sale.session_id) for sale in books.ad_hoc_sales}
    for forward in books.hub_forwards:
        is_sale = (forward.from_party, forward.to_party, forward.cdr_id) in at_terminals
        if forward.outcome is ForwardOutcome.DELIVERED and not is_sale:
            delivered[forward.from_party.code, forward.to_party.code, forward.cdr_id].append(forward)
    issued = {(row.party_id.code, row.emsp_id.code, row.cdr_id) for row in books.cpo_cdrs}
    received = {(row.cpo_id.code, row.party_id.code, row.cdr_id): row.content_hash for row in books.emsp_cdrs}
    differences = []
    if books.has_hub:
        for key in sorted(issued | received.keys() | delivered.keys()):
            cause = _fault(key, delivered.get(key, []), issued=issued, received=received)
            if cause is not None:
                differences.append(
                    Difference(
                        rule=rule,
                        scope="/".join(key),
                        expected=1,
                        found=len(delivered.get(key, [])),
                        unit="documents",
                        cause=cause + (waiting_for(books, key) if key not in delivered else ""),
                    )
                )
    return Check(rule=rule, compared=len(books.hub_forwards), differences=tuple(differences))


def _fault(key: _Route, forwards: list[CDRForward], *, issued: set[_Route], received: dict[_Route, str]) -> str | None:
    """Say what is wrong with one document's way, None when nothing is."""
    if not forwards:
        return "it did not pass the hub"
    if len(forwards) > 1:
        return "different bytes were delivered under one id"
    if key not in received:
        return "the hub delivered it and the MSP does not have it"
    if key not in issued:
        return "the hub delivered it in the name of a CPO that never issued it"
    # Our own CPOs write OCPI as the MSP writes it again for its hash, so equal contents are equal bytes.
    if forwards[0].body_sha256 != received[key]:
        return "the MSP holds other bytes than the hub carried"
    return None


def check_nothing_was_refused(books: Books) -> Check:
    """No CDR and no dispute was refused by its receiver and left so. What waits for its turn is no difference."""
    rule = "no CDR or dispute was refused for good"
    owed = [each for each in books.deliveries if each.module in MONEY_MODULES]
    differences = tuple(
        Difference(
            rule=rule,
            scope=f"{each.own_party}/{each.to_party}/{each.object_key}",
            expected=0,
            found=1,
            unit="messages",
            cause=f"delivery {each.delivery_id} failed after {each.attempts} attempts: {each.reason}",
        )
        for each in owed
        if each.state is DeliveryState.FAILED
    )
    return Check(rule=rule, compared=len(owed), differences=differences)


def waiting_for(books: Books, key: _Route) -> str:
    """Return, as the end of a sentence, why a CDR (CPO, MSP, id) has not arrived as far as the rows know."""
    session_of = {(row.party_id.code, row.cdr_id): row.session_id for row in books.cpo_cdrs}
    session_id = session_of.get((key[0], key[2]))
    if session_id is None:
        return ""
    for each in books.deliveries:
        is_between = (each.own_party.code, each.to_party.code) == key[:2]
        if is_between and each.module == ModuleID.CDRS and each.object_key == delivery_key(session_id):
            return f"; {_told(each)}"
    return ""


def _told(delivery: Delivery) -> str:
    state = "waits to be sent" if delivery.state is DeliveryState.PENDING else "was refused"
    reason = f", last: {delivery.reason}" if delivery.reason else ""
    return f"delivery {delivery.delivery_id} {state} after {delivery.attempts} attempts{reason}"
