"""CDRs are the same at the CPO and at the MSP, one live one per session, each priced as its own tariff says."""

from __future__ import annotations

from collections import defaultdict

from emobility.domain.cdr import CDR
from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.rounding import rounding_policy
from services.audit.books import Books
from services.audit.carried import waiting_for
from services.audit.report import Check, Difference
from services.audit.tariff_pool import TariffPool


def check_documents(books: Books) -> Check:
    """Compare the CPO's documents with the MSP's, one by one."""
    issued = {(row.party_id.code, row.cdr_id): row.cdr for row in books.cpo_cdrs}
    received = {(row.cpo_id.code, row.cdr_id): row.cdr for row in books.emsp_cdrs}
    differences = []
    for key in sorted(issued.keys() | received.keys()):
        at_cpo, at_emsp = issued.get(key), received.get(key)
        if at_cpo is None or at_emsp is None:
            cause = "the MSP has a document that the CPO never issued"
            if at_cpo is not None:
                cause = f"the MSP does not have it{waiting_for(books, (key[0], at_cpo.token.emsp_id.code, key[1]))}"
            differences.append(_difference(key, at_cpo is not None, at_emsp is not None, cause))
        elif _facts(at_cpo) != _facts(at_emsp):
            differences.append(_difference(key, 1, 0, "the two parties hold different contents under one id"))
    return Check(rule="CPO and MSP hold the same CDRs", compared=len(issued), differences=tuple(differences))


def _difference(key: tuple[str, str], expected: int, found: int, cause: str) -> Difference:
    return Difference(
        rule="CPO and MSP hold the same CDRs",
        scope="/".join(key),
        expected=int(expected),
        found=int(found),
        unit="documents",
        cause=cause,
    )


def _facts(cdr: CDR) -> tuple[object, ...]:
    """What both must agree on to the last digit; how each seals personal fields is its own affair."""
    return (
        cdr.session_id,
        cdr.started_at,
        cdr.ended_at,
        cdr.currency,
        cdr.tariff_hash,
        cdr.total_cost,
        cdr.total_energy_import_wh,
        cdr.total_energy_export_wh,
        cdr.total_charging_s,
        cdr.total_parking_s,
        cdr.is_credit,
        cdr.credit_reference_id,
        cdr.token.token_type,
        cdr.token.emsp_id,
        [(period.started_at, period.energy_import_wh, period.charging_s, period.parking_s) for period in cdr.periods],
    )


def check_one_live_cdr_per_session(books: Books) -> Check:
    """At most one uncredited CDR per session; a credit equals minus its original."""
    rule = "one live CDR per session"
    by_id = {(row.party_id.code, row.cdr_id): row for row in books.cpo_cdrs}
    live: dict[tuple[str, str], int] = defaultdict(int)
    differences = []
    for (party, cdr_id), row in sorted(by_id.items()):
        if not row.is_credit:
            live[party, row.session_id] += row.credited_by is None
            continue
        original = by_id.get((party, row.cdr.credit_reference_id or ""))
        expected = 0 if original is None else -original.cdr.total_cost.excl_e4
        if original is None or row.cdr.total_cost.excl_e4 != expected:
            differences.append(
                Difference(
                    rule=rule,
                    scope=f"{party}/{cdr_id}",
                    expected=expected,
                    found=row.cdr.total_cost.excl_e4,
                    unit=f"e4 {row.cdr.currency}",
                    cause="a credit does not equal minus its original",
                )
            )
    differences += [
        Difference(rule=rule, scope="/".join(key), expected=1, found=count, unit="documents", cause="billed twice")
        for key, count in sorted(live.items())
        if count > 1
    ]
    return Check(rule=rule, compared=len(by_id), differences=tuple(differences))


def check_wholesale_prices(books: Books) -> Check:
    """Price every CDR again from its own frozen tariff and periods."""
    rule = "a CDR re-prices to what it states"
    differences = []
    pool = TariffPool()
    for row in books.cpo_cdrs:
        cdr = row.cdr
        priced = price_session_by_several(
            [pool.one(tariff) for tariff in cdr.tariffs],
            cdr.periods,
            ended_at=cdr.ended_at,
            time_zone=cdr.location.time_zone,
            rounding=rounding_policy(cdr.rounding_policy),
        )
        expected = -priced.total.excl_e4 if cdr.is_credit else priced.total.excl_e4
        is_taken_back = row.credited_by is not None or cdr.is_credit
        if cdr.total_cost.excl_e4 != expected and not is_taken_back:
            differences.append(
                Difference(
                    rule=rule,
                    scope=f"{row.party_id}/{row.cdr_id}",
                    expected=expected,
                    found=cdr.total_cost.excl_e4,
                    unit=f"e4 {cdr.currency}",
                    cause=f"tariff {cdr.tariff.tariff_id} {cdr.tariff_hash[:12]} gives another total",
                )
            )
    return Check(rule=rule, compared=len(books.cpo_cdrs), differences=tuple(differences))
