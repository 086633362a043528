from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.vat_number import VAT_NUMBER_RULES, VATNumberForm, form_of, plain_vat_number

RIGHT: Final = (
    *("ATU39099603", "BE0654610735", "BG544091031", "CY44494544G", "CZ06826512", "DE330805169", "DK72314301"),
    *("EE780063943", "EL699192200", "ES41213622Z", "ESB58378431", "FI57769152", "FR9L238563332", "FR40303265045"),
    *("HR23156161565", "HU35288624", "IE5230134A", "IT16231330511", "LT407076015", "LU01974677", "LV67193657645"),
    *("MT38558106", "NL287865202B29", "NL123456782B12", "PL7355427078", "PT865366586", "RO6602717996"),
    *("SE693433208801", "SI30326885", "SK2286703925", "XI980780684", "BG1234567890", "CZ9001011234"),
    *("CHE109322551MWST", "CHE109322551TVA", "CHE109322551IVA", "NO123456785MVA", "GB831495816", "GB831495816001"),
    *("GB980780684", "GBGD001", "GBHA599"),
)
"""One of each country and form, told right by another implementation too (python-stdnum 2.2), but for the persons'. The
Swiss number is the example of the Bundesamt für Statistik, the Norwegian one that of the Brønnøysundregistrene."""
WITHOUT_CHECK: Final = ("BG1234567890", "CZ9001011234", "GBGD001", "GBHA599", "GB831495816001")
"""Or with a part that has none."""


@pytest.mark.parametrize("number", RIGHT)
def test_a_number_whose_check_digits_fit_is_well_formed(number: str) -> None:
    assert form_of(number) is VATNumberForm.WELL_FORMED


def test_every_country_has_an_example() -> None:
    assert {number[:2] for number in RIGHT} == set(VAT_NUMBER_RULES)


@pytest.mark.parametrize("number", sorted(set(RIGHT) - set(WITHOUT_CHECK)))
def test_check_digits_find_most_wrong_digits(number: str) -> None:
    places = [at for at in range(2, len(number)) if number[at].isdigit()]
    wrong = [number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :] for at in places for by in range(1, 10)]

    found = [each for each in wrong if form_of(each) is not VATNumberForm.WELL_FORMED]

    assert len(found) > len(wrong) * 3 / 4


@pytest.mark.parametrize(
    ("number", "form"),
    [
        ("US123456789", VATNumberForm.UNKNOWN_COUNTRY),
        ("", VATNumberForm.UNKNOWN_COUNTRY),
        ("DE33080516", VATNumberForm.WRONG_FORM),
        ("NL123456782B00", VATNumberForm.WRONG_FORM),
        ("DE330805168", VATNumberForm.WRONG_CHECK_DIGIT),
        ("CHE-109.322.551", VATNumberForm.WRONG_FORM),
        ("CHE-109.322.552 MWST", VATNumberForm.WRONG_CHECK_DIGIT),
        ("NO 123456785", VATNumberForm.WRONG_FORM),
        ("NO 123456789 MVA", VATNumberForm.WRONG_CHECK_DIGIT),
        ("GB 831 4958 17", VATNumberForm.WRONG_CHECK_DIGIT),
        ("GBGD500", VATNumberForm.WRONG_FORM),
        ("DE\u0663\u0663\u0660\u0668\u0660\u0665\u0661\u0666\u0669", VATNumberForm.WRONG_FORM),
    ],
)
def test_what_is_wrong_is_said(number: str, form: VATNumberForm) -> None:
    assert form_of(number) is form


def test_spaces_dots_and_a_greek_prefix_are_how_people_write() -> None:
    assert plain_vat_number("gr 699.192-200") == "EL699192200"
    assert form_of("de 330 805 169") is VATNumberForm.WELL_FORMED
    assert form_of("CHE-109.322.551 MWST") is VATNumberForm.WELL_FORMED
    assert form_of("NO 123 456 785 MVA") is VATNumberForm.WELL_FORMED


@given(country=st.sampled_from(sorted(VAT_NUMBER_RULES)), body=st.text("0123456789ABKLMNUXZ+*", max_size=12))
def test_every_text_is_judged(country: str, body: str) -> None:
    assert form_of(country + body) in VATNumberForm
