"""Every verdict on a CDR cites what it rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from emobility.domain.cdr_fault import CDRFault
from emobility.domain.clause import TERM_OF, TEXT_OF, clause_broken
from tests.domain.test_cdr_check import AGREEMENT, RECEIVED, check, honest, shifted

PAIR = f"{AGREEMENT.cpo_id}/{AGREEMENT.emsp_id}/{AGREEMENT.agreement_id}"


@pytest.mark.parametrize("fault", CDRFault)
def test_every_fault_rests_on_a_term_or_on_the_text(fault: CDRFault) -> None:
    cited = clause_broken(fault, replace(AGREEMENT, version=2))

    assert (fault in TERM_OF) == cited.startswith(f"agreement {PAIR} v2 §")
    assert (fault in TERM_OF) != cited.startswith("OCPI 2.2.1 §mod_")
    assert not (fault in TERM_OF and fault in TEXT_OF)


def test_a_dispute_cites_the_term_of_the_version_that_applied() -> None:
    verdict = check(shifted(honest(), 1), agreement=replace(AGREEMENT, version=2))

    assert [finding.clause for finding in verdict.findings] == [f"agreement {PAIR} v2 §tariff_ids"]
    assert verdict.clause == f"agreement {PAIR} v2 §tariff_ids"


def test_an_acceptance_cites_the_price_that_was_agreed() -> None:
    assert check(honest()).clause == f"agreement {PAIR} v{AGREEMENT.version} §tariff_ids"


def test_a_late_cdr_cites_the_deadline() -> None:
    late = check(honest(), received_at=RECEIVED.replace(year=2023))

    assert [finding.clause for finding in late.findings] == [f"agreement {PAIR} v{AGREEMENT.version} §cdr_deadline_h"]


def test_without_an_agreement_that_is_what_is_cited() -> None:
    verdict = check(honest(), agreement=None)

    assert verdict.clause == "no agreement in force"
