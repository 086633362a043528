"""What shares a key shares its order and, when one event can't be handled, its fate: so keys are scoped by party."""

from __future__ import annotations

from emobility.domain.identifiers import PartyId
from tests.settlement.world import a_cdr, accepted, terms


def test_agreements_of_other_parties_share_no_key_whatever_they_are_called() -> None:
    pairs = [("NL-TUL", "NL-ZON"), ("NL-TUL", "NL-WIN"), ("NL-POL", "NL-ZON")]
    agreements = [terms(PartyId(cpo), PartyId(msp), agreement_id="A1") for cpo, msp in pairs]

    keys = {accepted(a_cdr("s1", cpo_id=each.cpo_id), agreement=each).key for each in agreements}

    assert keys == {"NL-TUL/NL-ZON/A1", "NL-TUL/NL-WIN/A1", "NL-POL/NL-ZON/A1"}
