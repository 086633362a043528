"""Party ids as OCPI writes them, compared without regard to case."""

from __future__ import annotations

import pytest

from emobility.domain.identifiers import MalformedPartyId, PartyId


def test_a_party_id_has_a_country_and_three_characters() -> None:
    party = PartyId.of("NL", "TNM")

    assert (party.country_code, party.party_id, str(party)) == ("NL", "TNM", "NL-TNM")


def test_case_does_not_tell_parties_apart() -> None:
    assert PartyId("nl-tnm") == PartyId("NL-TNM")
    assert len({PartyId("nl-tnm"), PartyId("NL-TNM")}) == 1
    assert PartyId("nl-tnm").code == "NL-TNM"


def test_parties_are_sorted_by_their_code() -> None:
    assert sorted([PartyId("NL-TNM"), PartyId("DE-ABC")]) == [PartyId("DE-ABC"), PartyId("NL-TNM")]


def test_a_party_is_no_string() -> None:
    assert PartyId("NL-TNM") != "NL-TNM"


@pytest.mark.parametrize(
    "code",
    [
        "",
        "NL",
        "NL-TN",
        "NL-TNMX",
        "NLTNM",
        "N1-TNM",
        "NL-TN_",
        "NL_TNM",
        " NL-TNM",
        "NL-TNM\n",
        "NL-TÑM",
        "ßS-ABC",
        "ß-ABC",
    ],
)
def test_anything_else_is_refused(code: str) -> None:
    with pytest.raises(MalformedPartyId) as refusal:
        PartyId(code)

    assert refusal.value.text == code
