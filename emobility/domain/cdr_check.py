"""An MSP's verdict on a CDR: accept, or dispute with machine-readable reasons and both amounts.

OCPI has no accept or reject; 1000 on POST says that the document arrived. Whether the debt is owed is decided here,
from what the MSP itself holds: the agreement, the tariff versions it was sent, the session it watched, earlier CDRs
and the verdict on the meter's signature. Every rule is tried, so a dispute names all that is wrong at once. A document
that is no CDR at all (a field missing, a number that is none) never gets here: the edge refuses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final

from emobility.domain.agreement import RoamingAgreement, SignedMeterPolicy, TaxRegime
from emobility.domain.cdr import CDR
from emobility.domain.cdr_difference import CostPart, Difference, explain_difference
from emobility.domain.cdr_fault import CDRFault as CDRFault  # noqa: PLC0414 - known by this name to all who check
from emobility.domain.clause import clause_broken, clause_of_acceptance
from emobility.domain.errors import EmobilityError
from emobility.domain.session import Session, SessionStatus
from emobility.domain.tariff.priced import PeriodSpansPriceChange, PricedSession
from emobility.domain.tariff.pricing import price_session_by_several
from emobility.domain.tariff.rounding import RoundingPolicy, rounding_policy
from emobility.domain.tariff.tariff import Tariff
from emobility.domain.tariff.taxes import wrong_taxes
from emobility.domain.tariff.version import tariff_hash

ENERGY_WH_MAX: Final = 1_000_000
"""No vehicle takes more than a MWh in one charge."""
POWER_W_MAX: Final = 4_000_000
"""Megawatt charging ends below this; more on average is a wrong register or a wrong unit."""
DURATION_MAX: Final = timedelta(days=30)
EVSE_SLACK: Final = timedelta(minutes=1)
"""How long one driver may still be at an EVSE by the stamps when the next one starts."""
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far the clocks of two honest parties may differ."""


ARRIVAL_FAULTS: Final = frozenset(
    {
        CDRFault.CREDIT_WITHOUT_ORIGINAL,
        CDRFault.SESSION_CHARGED_TWICE,
        CDRFault.SESSION_ENERGY_DIFFERS,
        CDRFault.SESSION_INVALID,
        CDRFault.SESSION_TIMES_DIFFER,
    }
)
"""What a later document can put right: the original, the credit of the CDR it replaces, the session as it ended."""


class SignatureVerdict(StrEnum):
    """What the MSP found when it verified the signed meter values of a CDR."""

    NOT_SIGNED = "NOT_SIGNED"
    VALID = "VALID"
    """Signed by the key that the MSP pinned for this EVSE; begin and end give the CDR's energy."""
    KEY_NOT_PINNED = "KEY_NOT_PINNED"
    """Signed by the key in the document, and the MSP has none to compare it with."""
    INVALID = "INVALID"
    ENERGY_DIFFERS = "ENERGY_DIFFERS"
    REUSED = "REUSED"
    """A record proved another session that was accepted, whoever's it was."""
    TIME_NOT_MEASURED = "TIME_NOT_MEASURED"
    """Time is charged for, here or to the driver, and the meter does not vouch for it."""


class CDRDecision(StrEnum):
    """What becomes of the debt."""

    ACCEPT = "ACCEPT"
    DISPUTE = "DISPUTE"
    WAIT = "WAIT"
    """All that is wrong with it may be a document that it overtook; look again when more has arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRFinding:
    """One broken rule; the amounts are in ten-thousandths where the quarrel is about money.

    `difference` then says where they come apart: period, dimension, element of the tariff, and the mistake made.
    `clause`: what it rests on.
    """

    fault: CDRFault
    detail: str
    expected_e4: int | None = None
    stated_e4: int | None = None
    difference: Difference | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CDRVerdict:
    """The decision, what it rests on (`domain/clause.py`) and every finding behind it.

    `repriced` is None where it was not priced again, or could not be.
    """

    decision: CDRDecision
    findings: tuple[CDRFinding, ...]
    repriced: PricedSession | None
    clause: str

    @property
    def faults(self) -> tuple[CDRFault, ...]:
        """The machine-readable reasons, in the order the rules were tried."""
        return tuple(finding.fault for finding in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTariff:
    """A tariff version that the MSP was sent, and when it was the one in force.

    `in_force_from` is its own `last_updated` (or `valid_from`, if later), but never before the MSP was sent it;
    `in_force_until` the next version's.
    """

    tariff: Tariff
    in_force_from: datetime
    in_force_until: datetime | None

    def may_price(self, started_at: datetime) -> bool:
        """Whether it was in force when a charge started, by the clock of either party."""
        is_over = self.in_force_until is not None and started_at >= self.in_force_until + CLOCK_TOLERANCE
        return self.in_force_from - CLOCK_TOLERANCE <= started_at and not is_over


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierCDR:
    """What the check needs to know of a CDR received before."""

    cdr: CDR
    is_credited: bool


def check_cdr(
    cdr: CDR,
    *,
    agreement: RoamingAgreement | None,
    known_tariffs: Mapping[str, KnownTariff],
    frozen_hashes: Collection[str] = (),
    session: Session | None,
    earlier_cdrs: Sequence[EarlierCDR],
    signature_verdict: SignatureVerdict,
    received_at: datetime,
    may_wait: bool = False,
) -> CDRVerdict:
    """Try every rule on a CDR.

    Args:
        cdr: The document, well-formed.
        agreement: The pair's agreement that was in force when the session started; None: there was none.
        known_tariffs: Versions by hash.
        frozen_hashes: Versions that may price this charge, as frozen when it was authorised or began; none: nobody
            knows.
        session: The session as last pushed by the CPO; None: it was never pushed, which proves nothing.
        earlier_cdrs: Other CDRs of the same session, of the same token or EVSE around that time, and a credit's
            original.
        signature_verdict: Of the signed meter values in the document.
        received_at: When the document arrived.
        may_wait: Whether there is time left to wait for documents it overtook.

    Returns:
        ACCEPT with no finding, or DISPUTE or WAIT with all of them.
    """
    if cdr.is_credit:
        findings = list(_credit_findings(cdr, earlier_cdrs))
        waits = may_wait and _has_overtaken(findings, cdr, session)
        return _verdict(cdr, agreement, findings, repriced=None, waits=waits)
    findings = [
        *_agreement_findings(cdr, agreement),
        *_tariff_findings(cdr, agreement, known_tariffs),
        *_frozen_findings(cdr, frozen_hashes),
        *_period_findings(cdr),
        *_plausibility_findings(cdr, received_at),
    ]
    tariffs = tuple(_as_sent(tariff, of_hash, known_tariffs) for tariff, of_hash in _hashed(cdr))
    rounding = rounding_policy(None if agreement is None else agreement.rounding_policy)
    repriced, pricing_findings = _reprice(cdr, tariffs, rounding)
    findings += [*pricing_findings, *_tax_findings(cdr, agreement)]
    findings += _history_findings(cdr, earlier_cdrs)
    if session is not None:
        findings += _session_findings(cdr, session)
    if agreement is not None:
        findings += _deadline_findings(cdr, agreement, received_at)
        findings += _meter_findings(agreement.signed_meter_policy, signature_verdict)
    waits = may_wait and _has_overtaken(findings, cdr, session)
    return _verdict(cdr, agreement, findings, repriced=repriced, waits=waits)


def _hashed(cdr: CDR) -> tuple[tuple[Tariff, str], ...]:
    """The CDR's tariffs with the hashes they go by."""
    return ((cdr.tariff, cdr.tariff_hash), *((tariff, tariff_hash(tariff)) for tariff in cdr.further_tariffs))


def _as_sent(tariff: Tariff, of_hash: str, known_tariffs: Mapping[str, KnownTariff]) -> Tariff:
    known = known_tariffs.get(of_hash)
    return tariff if known is None else known.tariff


def _verdict(
    cdr: CDR,
    agreement: RoamingAgreement | None,
    findings: Sequence[CDRFinding],
    *,
    repriced: PricedSession | None,
    waits: bool,
) -> CDRVerdict:
    decision = CDRDecision.WAIT if waits else CDRDecision.DISPUTE
    cited = tuple(replace(finding, clause=clause_broken(finding.fault, agreement)) for finding in findings)
    accepted = clause_of_acceptance(agreement, is_credit=cdr.is_credit, is_deemed=False)
    return CDRVerdict(
        decision=decision if findings else CDRDecision.ACCEPT,
        findings=cited,
        repriced=repriced,
        clause=(cited[0].clause or accepted) if cited else accepted,
    )


def _has_overtaken(findings: Sequence[CDRFinding], cdr: CDR, session: Session | None) -> bool:
    """Tell whether every finding may be put right by what is still on its way.

    A session that is no older than the CDR is the CPO's last word on it, and no newer one is waited for.
    """
    is_session_older = session is not None and session.last_updated < cdr.issued_at
    curable = ARRIVAL_FAULTS if is_session_older else ARRIVAL_FAULTS - _SESSION_FAULTS
    return all(finding.fault in curable for finding in findings)


_SESSION_FAULTS: Final = frozenset(
    {CDRFault.SESSION_ENERGY_DIFFERS, CDRFault.SESSION_INVALID, CDRFault.SESSION_TIMES_DIFFER}
)


def _agreement_findings(cdr: CDR, agreement: RoamingAgreement | None) -> Iterator[CDRFinding]:
    if agreement is None or not _covers(agreement, cdr):
        yield CDRFinding(
            fault=CDRFault.NO_AGREEMENT_IN_FORCE,
            detail=f"{cdr.party_id} and {cdr.token.emsp_id} had none at {cdr.charging_started_at.isoformat()}",
        )
        return
    for name, currency in (("CDR", cdr.currency), ("tariff", cdr.tariff.currency)):
        if currency != agreement.currency:
            yield CDRFinding(
                fault=CDRFault.CURRENCY_DIFFERS,
                detail=f"the {name} is in {currency}, the agreement in {agreement.currency}",
            )


def _covers(agreement: RoamingAgreement, cdr: CDR) -> bool:
    started_at = cdr.charging_started_at
    is_begun = agreement.valid_from <= started_at
    is_over = agreement.valid_until is not None and agreement.valid_until <= started_at
    is_pair = (agreement.cpo_id, agreement.emsp_id) == (cdr.party_id, cdr.token.emsp_id)
    return is_begun and not is_over and is_pair


def _tariff_findings(
    cdr: CDR, agreement: RoamingAgreement | None, known_tariffs: Mapping[str, KnownTariff]
) -> Iterator[CDRFinding]:
    if tariff_hash(cdr.tariff) != cdr.tariff_hash:
        yield CDRFinding(
            fault=CDRFault.TARIFF_TEXT_DIFFERS, detail=f"the tariff in the CDR does not hash to {cdr.tariff_hash}"
        )
    for tariff, of_hash in _hashed(cdr):
        if agreement is not None and tariff.tariff_id not in agreement.tariff_ids:
            yield CDRFinding(
                fault=CDRFault.TARIFF_NOT_ASSIGNED, detail=f"the agreement does not assign {tariff.tariff_id}"
            )
        known = known_tariffs.get(of_hash)
        if known is None:
            yield CDRFinding(
                fault=CDRFault.TARIFF_UNKNOWN, detail=f"version {of_hash} of {tariff.tariff_id} was never sent"
            )
        elif not known.may_price(cdr.charging_started_at):
            yield CDRFinding(
                fault=CDRFault.TARIFF_NOT_IN_FORCE,
                detail=f"in force from {known.in_force_from.isoformat()} until "
                f"{known.in_force_until.isoformat() if known.in_force_until else 'further notice'}",
            )


def _frozen_findings(cdr: CDR, frozen_hashes: Collection[str]) -> Iterator[CDRFinding]:
    if frozen_hashes and cdr.tariff_hash not in frozen_hashes:
        yield CDRFinding(
            fault=CDRFault.TARIFF_NOT_FROZEN,
            detail=f"priced by version {cdr.tariff_hash}, frozen was {' or '.join(sorted(frozen_hashes))}",
        )


def _period_findings(cdr: CDR) -> Iterator[CDRFinding]:
    starts = [period.started_at for period in cdr.periods]
    if not starts:
        yield CDRFinding(fault=CDRFault.PERIODS_OUT_OF_ORDER, detail="there is no charging period")
        return
    if any(later <= earlier for earlier, later in pairwise(starts)):
        yield CDRFinding(fault=CDRFault.PERIODS_OUT_OF_ORDER, detail="a period does not start after the one before")
    if min(starts) < cdr.started_at or max(starts) > cdr.ended_at:
        yield CDRFinding(fault=CDRFault.PERIODS_OUTSIDE_SESSION, detail="a period starts outside the session")
    export_wh = sum(period.energy_export_wh for period in cdr.periods)
    # Totals are whole Wh: what periods state beyond them is rounded once, in their sum.
    import_wh = export_wh + round(sum(period.net_wh for period in cdr.periods))
    if (import_wh, export_wh) != (cdr.total_energy_import_wh, cdr.total_energy_export_wh):
        yield CDRFinding(
            fault=CDRFault.PERIODS_MISS_ENERGY,
            detail=f"the periods sum to {import_wh} Wh in and {export_wh} Wh out, "
            f"the CDR says {cdr.total_energy_import_wh} and {cdr.total_energy_export_wh}",
        )
    charging_s = sum(period.charging_s for period in cdr.periods)
    parking_s = sum(period.parking_s for period in cdr.periods)
    if (charging_s, parking_s) != (cdr.total_charging_s, cdr.total_parking_s):
        yield CDRFinding(
            fault=CDRFault.PERIODS_MISS_TIME,
            detail=f"the periods sum to {charging_s} s charging and {parking_s} s parking, "
            f"the CDR says {cdr.total_charging_s} and {cdr.total_parking_s}",
        )


def _plausibility_findings(cdr: CDR, received_at: datetime) -> Iterator[CDRFinding]:
    def implausible(detail: str) -> CDRFinding:
        return CDRFinding(fault=CDRFault.IMPLAUSIBLE, detail=detail)

    duration = cdr.ended_at - cdr.started_at
    if not timedelta(0) <= duration <= DURATION_MAX:
        yield implausible(f"it lasted {duration}")
        return
    if cdr.ended_at > received_at + CLOCK_TOLERANCE:
        yield implausible(f"it ended at {cdr.ended_at.isoformat()}, after it was received")
    if any(min(p.energy_import_wh, p.energy_export_wh, p.charging_s, p.parking_s) < 0 for p in cdr.periods):
        yield implausible("a period has less than no energy or time")
    energy_wh = max(cdr.total_energy_import_wh, cdr.total_energy_export_wh)
    if energy_wh > ENERGY_WH_MAX:
        yield implausible(f"{energy_wh} Wh in one charge")
    # Wh * 3600 = W * s, in integers; a charge of less than a second counts as one.
    if energy_wh * 3600 > POWER_W_MAX * max(1, int(duration.total_seconds())):
        yield implausible(f"{energy_wh} Wh in {duration}")
    timed_s = cdr.total_charging_s + cdr.total_parking_s
    if timed_s > duration.total_seconds() + 1:
        yield implausible(f"{timed_s} s charging and parking in {duration}")


_COST_FAULTS: Final = {
    CostPart.TOTAL: CDRFault.TOTAL_COST_DIFFERS,
    CostPart.ENERGY: CDRFault.ENERGY_COST_DIFFERS,
    CostPart.TIME: CDRFault.TIME_COST_DIFFERS,
    CostPart.PARKING_TIME: CDRFault.PARKING_COST_DIFFERS,
    CostPart.FLAT: CDRFault.FIXED_COST_DIFFERS,
    CostPart.RESERVATION: CDRFault.RESERVATION_COST_DIFFERS,
}


def _reprice(
    cdr: CDR, tariffs: Sequence[Tariff], rounding: RoundingPolicy
) -> tuple[PricedSession | None, list[CDRFinding]]:
    """Price the CDR's periods again and compare every amount that it states."""
    try:
        priced = price_session_by_several(
            tariffs, cdr.periods, ended_at=cdr.ended_at, time_zone=cdr.location.time_zone, rounding=rounding
        )
    except EmobilityError as error:
        return None, [CDRFinding(fault=CDRFault.NOT_PRICEABLE, detail=str(error))]
    differences = explain_difference(cdr, priced, tariffs=tariffs, rounding=rounding)
    # The first reason of a dispute is the one that machines read: the total, where it is wrong.
    by_weight = sorted(differences, key=lambda difference: difference.part is not CostPart.TOTAL)
    findings = [
        CDRFinding(
            fault=_COST_FAULTS[difference.part],
            detail="after tax" if difference.is_after_tax else "before tax",
            expected_e4=difference.expected_e4,
            stated_e4=difference.stated_e4,
            difference=difference,
        )
        for difference in by_weight
    ]
    return priced, [*findings, *_cut_findings(priced)]


def _tax_findings(cdr: CDR, agreement: RoamingAgreement | None) -> Iterator[CDRFinding]:
    """Where the tariff leaves the rate open, the seller's taxes must at least be what their own percentages say."""
    rates = {component.vat_percent for element in cdr.tariff.elements for component in element.components}
    wrong = wrong_taxes(cdr.total_cost.excl_e4, cdr.taxes) if rates == {None} else ()
    for tax in wrong:
        detail = f"{tax.name} is not {tax.percent} % of the price before tax"
        yield CDRFinding(fault=CDRFault.TAX_DIFFERS, detail=detail, stated_e4=tax.amount_e4)
    if agreement is not None and agreement.tax_regime is TaxRegime.REVERSE_CHARGE:
        for tax in cdr.taxes:
            if tax.amount_e4 and tax not in wrong:
                detail = f"{tax.name} is the buyer's to account for under the agreement"
                yield CDRFinding(fault=CDRFault.TAX_DIFFERS, detail=detail, expected_e4=0, stated_e4=tax.amount_e4)


def _cut_findings(priced: PricedSession) -> Iterator[CDRFinding]:
    """A period is priced as at its start, so one that runs past a change bills what follows at the wrong price."""
    for note in priced.notes:
        if isinstance(note, PeriodSpansPriceChange):
            moment = "at an unknown moment" if note.changed_at is None else f"at {note.changed_at.isoformat()}"
            yield CDRFinding(
                fault=CDRFault.PERIODS_NOT_CUT,
                detail=f"the {note.dimension} price changed {moment} inside period {note.period_index + 1}",
            )


def _history_findings(cdr: CDR, earlier_cdrs: Sequence[EarlierCDR]) -> Iterator[CDRFinding]:
    """At most one live, uncredited CDR per session, and no driver in two places at once with one token."""
    for earlier in earlier_cdrs:
        other = earlier.cdr
        if (other.party_id, other.cdr_id) == (cdr.party_id, cdr.cdr_id):
            if not same_document(other, cdr):
                yield CDRFinding(fault=CDRFault.DUPLICATE, detail=f"{cdr.cdr_id} came before with other content")
            continue
        if other.is_credit or earlier.is_credited:
            continue
        if (other.party_id, other.session_id) == (cdr.party_id, cdr.session_id):
            yield CDRFinding(
                fault=CDRFault.SESSION_CHARGED_TWICE,
                detail=f"{other.cdr_id} charges session {cdr.session_id} and is not credited",
            )
        elif other.token.uid.subject == cdr.token.uid.subject and _overlap(other, cdr):
            yield CDRFinding(
                fault=CDRFault.OVERLAPS_ANOTHER_CDR,
                detail=f"{other.party_id} {other.cdr_id} has the same token at the same time",
            )
        elif _is_same_evse(other, cdr) and _used_together(other, cdr) > EVSE_SLACK:
            yield CDRFinding(
                fault=CDRFault.EVSE_IN_USE,
                detail=f"{other.cdr_id} charges another driver for EVSE {cdr.location.evse_uid} at the same time",
            )


def same_document(one: CDR, other: CDR) -> bool:
    """Tell whether two CDRs say the same; sealing one text twice gives different bytes, so subjects are compared."""
    return _unsealed(one) == _unsealed(other)


def _unsealed(cdr: CDR) -> CDR:
    token = replace(cdr.token, uid=replace(cdr.token.uid, box=b""), contract_id=replace(cdr.token.contract_id, box=b""))
    return replace(cdr, token=token, signed_data=None)


def _overlap(one: CDR, other: CDR) -> bool:
    return one.started_at < other.ended_at and other.started_at < one.ended_at


def _is_same_evse(one: CDR, other: CDR) -> bool:
    places = [(each.party_id, each.location.evse_uid.casefold()) for each in (one, other)]
    return places[0] == places[1] and bool(one.location.evse_uid) and not one.location.evse_uid.startswith("#")


def _used_together(one: CDR, other: CDR) -> timedelta:
    """For how long both were at their EVSE; a reservation keeps nobody from leaving it."""
    return min(one.ended_at, other.ended_at) - max(one.charging_started_at, other.charging_started_at)


def _session_findings(cdr: CDR, session: Session) -> Iterator[CDRFinding]:
    """Compare with the session as pushed; one that is still open there bounds the CDR from below."""
    if session.status is SessionStatus.INVALID:
        yield CDRFinding(fault=CDRFault.SESSION_INVALID, detail="the session was declared invalid and is not billed")
    started_at = cdr.charging_started_at
    if session.started_at != started_at:
        yield CDRFinding(
            fault=CDRFault.SESSION_TIMES_DIFFER,
            detail=f"the session started at {session.started_at.isoformat()}, the CDR at {started_at.isoformat()}",
        )
    if session.tariff_hash and session.tariff_hash != cdr.tariff_hash:
        yield CDRFinding(
            fault=CDRFault.SESSION_TARIFF_DIFFERS,
            detail=f"the session ran under version {session.tariff_hash}, the CDR is priced by {cdr.tariff_hash}",
        )
    if session.token.uid.subject != cdr.token.uid.subject:
        yield CDRFinding(fault=CDRFault.SESSION_TOKEN_DIFFERS, detail="the session belongs to another token")
    is_closed = session.status is SessionStatus.COMPLETED
    if is_closed and session.ended_at is not None and session.ended_at != cdr.ended_at:
        yield CDRFinding(
            fault=CDRFault.SESSION_TIMES_DIFFER,
            detail=f"the session ended at {session.ended_at.isoformat()}, the CDR at {cdr.ended_at.isoformat()}",
        )
    stated_wh, seen_wh = cdr.total_energy_import_wh, session.energy_import_wh
    if (is_closed and stated_wh != seen_wh) or stated_wh < seen_wh:
        yield CDRFinding(
            fault=CDRFault.SESSION_ENERGY_DIFFERS, detail=f"the session moved {seen_wh} Wh, the CDR says {stated_wh}"
        )


def _deadline_findings(cdr: CDR, agreement: RoamingAgreement, received_at: datetime) -> Iterator[CDRFinding]:
    deadline = cdr.ended_at + timedelta(hours=agreement.cdr_deadline_h)
    if received_at > deadline:
        yield CDRFinding(
            fault=CDRFault.RECEIVED_TOO_LATE,
            detail=f"due by {deadline.isoformat()}, received at {received_at.isoformat()}",
        )


def _meter_findings(policy: SignedMeterPolicy, verdict: SignatureVerdict) -> Iterator[CDRFinding]:
    """Apply the agreement's policy to what the MSP found; no policy lets one measurement prove two charges."""
    if verdict is SignatureVerdict.REUSED:
        yield CDRFinding(fault=CDRFault.METER_RECORD_REUSED, detail="a signed record proved another accepted session")
    if policy is SignedMeterPolicy.NOT_REQUIRED:
        return
    if verdict is SignatureVerdict.INVALID:
        yield CDRFinding(fault=CDRFault.METER_SIGNATURE_INVALID, detail="a signed meter value does not verify")
    if verdict is SignatureVerdict.ENERGY_DIFFERS:
        yield CDRFinding(fault=CDRFault.METER_ENERGY_DIFFERS, detail="the signed registers give another energy")
    if verdict is SignatureVerdict.TIME_NOT_MEASURED:
        detail = "time is charged for, and the meter's clock was not synchronised"
        yield CDRFinding(fault=CDRFault.METER_TIME_NOT_MEASURED, detail=detail)
    if policy is not SignedMeterPolicy.REQUIRED:
        return
    if verdict is SignatureVerdict.NOT_SIGNED:
        yield CDRFinding(fault=CDRFault.METER_NOT_SIGNED, detail="the agreement asks for signed meter values")
    if verdict is SignatureVerdict.KEY_NOT_PINNED:
        yield CDRFinding(fault=CDRFault.METER_KEY_NOT_PINNED, detail="no key of this EVSE's meter is on record")


def _credit_findings(cdr: CDR, earlier_cdrs: Sequence[EarlierCDR]) -> Iterator[CDRFinding]:
    """A credit equals minus its original, never precedes it, and comes once."""
    original = next((e for e in earlier_cdrs if e.cdr.cdr_id == cdr.credit_reference_id and not e.cdr.is_credit), None)
    if original is None:
        yield CDRFinding(
            fault=CDRFault.CREDIT_WITHOUT_ORIGINAL, detail=f"CDR {cdr.credit_reference_id} was never received"
        )
        return
    if original.is_credited:
        yield CDRFinding(fault=CDRFault.CREDITED_TWICE, detail=f"{original.cdr.cdr_id} is credited already")
    if cdr.issued_at < original.cdr.issued_at:
        yield CDRFinding(
            fault=CDRFault.CREDIT_PRECEDES_ORIGINAL,
            detail=f"issued at {cdr.issued_at.isoformat()}, the original at {original.cdr.issued_at.isoformat()}",
        )
    yield from _mirror_findings(cdr, original.cdr)


def _mirror_findings(credit: CDR, original: CDR) -> Iterator[CDRFinding]:
    if credit.total_cost != -original.total_cost:
        yield CDRFinding(
            fault=CDRFault.CREDIT_DIFFERS_FROM_ORIGINAL,
            detail="total cost",
            expected_e4=-original.total_cost.excl_e4,
            stated_e4=credit.total_cost.excl_e4,
        )
    same = ("party_id", "session_id", "currency", "started_at", "ended_at", "periods", "tariff_hash")
    energies = ("total_energy_import_wh", "total_energy_export_wh")
    for field in (*same, *energies):
        if getattr(credit, field) != getattr(original, field):
            yield CDRFinding(fault=CDRFault.CREDIT_DIFFERS_FROM_ORIGINAL, detail=field)
    if credit.token.uid.subject != original.token.uid.subject:
        yield CDRFinding(fault=CDRFault.CREDIT_DIFFERS_FROM_ORIGINAL, detail="token")
