"""VAT identification numbers of the EU, Great Britain, Northern Ireland, Norway and Switzerland: form and check digits.

Forms: European Commission, VIES, "VAT identification number structure"; CHE-123.456.789 MWST (TVA, IVA), UIDV art. 5;
NO 123456789 MVA, Brønnøysundregistrene. Check digits: as the countries' offices document them. A number that passes is
well formed; only a register knows whether it was given to somebody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SEPARATORS: Final = re.compile(r"[\s.\-/]")
_SPANISH_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_SPANISH_COMPANY_LETTERS: Final = "JABCDEFGHI"
_FRENCH_KEY: Final = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_IRISH_LETTERS: Final = "WABCDEFGHIJKLMNOPQRSTUV"
_CYPRIOT_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)


class VATNumberForm(StrEnum):
    """What the form of a number says."""

    WELL_FORMED = "WellFormed"
    UNKNOWN_COUNTRY = "UnknownCountry"
    WRONG_FORM = "WrongForm"
    WRONG_CHECK_DIGIT = "WrongCheckDigit"


@dataclass(frozen=True, slots=True)
class VATNumberRule:
    """A country's numbers after the prefix. `is_right` tells whether the check digits fit; None: there are none."""

    pattern: str
    is_right: Callable[[str], bool] | None = None


def plain_vat_number(text: str) -> str:
    """Return a number as registers write it: capitals, no separators, Greece as EL."""
    number = _SEPARATORS.sub("", text).upper()
    return f"EL{number[2:]}" if number.startswith("GR") else number


def form_of(text: str) -> VATNumberForm:
    """Judge the form of a VAT number with its country prefix, however it is spaced."""
    number = plain_vat_number(text)
    rule = VAT_NUMBER_RULES.get(number[:2])
    if rule is None:
        return VATNumberForm.UNKNOWN_COUNTRY
    body = number[2:]
    if not re.fullmatch(rule.pattern, body, re.ASCII):
        return VATNumberForm.WRONG_FORM
    if rule.is_right is not None and not rule.is_right(body):
        return VATNumberForm.WRONG_CHECK_DIGIT
    return VATNumberForm.WELL_FORMED


def _digits(text: str) -> list[int]:
    return [int(each) for each in text]


def _sum(text: str, weights: Sequence[int]) -> int:
    return sum(weight * digit for weight, digit in zip(weights, _digits(text), strict=False))


def _weighted(*weights: int, modulus: int) -> Callable[[str], bool]:
    """The weighted sum of all digits has no remainder."""
    return lambda body: _sum(body, weights) % modulus == 0


def _luhn(body: str) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) for digit in _digits(body[-2::-2])]
    return (sum(_digits(body[::-2])) + sum(doubled)) % 10 == 0


def _iso_7064_mod_11_10(body: str) -> bool:
    check = 5
    for digit in _digits(body):
        check = ((check or 10) * 2 % 11 + digit) % 10
    return check == 1


def _austrian(body: str) -> bool:
    return (10 - (_luhn_sum(body[1:8]) + 4) % 10) % 10 == int(body[8])


def _luhn_sum(text: str) -> int:
    """Digits in their places count once and twice by turns; a doubled one by its own digit sum."""
    return sum(digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(_digits(text)))


def _belgian(body: str) -> bool:
    return 97 - int(body[:8]) % 97 == int(body[8:])


def _bulgarian(body: str) -> bool:
    if len(body) == 10:  # a person's, by one of three rules
        return True
    check = _sum(body[:8], range(1, 9)) % 11
    if check == 10:
        check = _sum(body[:8], range(3, 11)) % 11 % 10
    return check == int(body[8])


def _british(body: str) -> bool:
    """Since 2009 numbers are given whose sum is 55 more; departments (GD) and health authorities (HA) have no check."""
    return not body[0].isdigit() or _sum(body, (8, 7, 6, 5, 4, 3, 2, 10, 1)) % 97 in (0, 42)


def _cypriot(body: str) -> bool:
    digits = _digits(body[:8])
    total = sum(_CYPRIOT_ODD[digit] for digit in digits[::2]) + sum(digits[1::2])
    return chr(ord("A") + total % 26) == body[8]


def _czech(body: str) -> bool:
    if len(body) != 8:  # a person's
        return True
    check = -_sum(body[:7], range(8, 1, -1)) % 11
    return (check or 1) % 10 == int(body[7])


def _greek(body: str) -> bool:
    return _sum(body[:8], (256, 128, 64, 32, 16, 8, 4, 2)) % 11 % 10 == int(body[8])


def _spanish(body: str) -> bool:
    first = body[0]
    if first.isdigit() or first in "XYZKLM":
        number = int(body[1:8]) if first in "KLM" else int(body[:8].translate(str.maketrans("XYZ", "012")))
        return _SPANISH_LETTERS[number % 23] == body[8]
    check = -_luhn_sum(f"0{body[1:8]}") % 10
    return body[8] in (str(check), _SPANISH_COMPANY_LETTERS[check])


def _french(body: str) -> bool:
    key, siren = body[:2], body[2:]
    if not siren.startswith("000") and not _luhn(siren):  # Monaco has no SIREN
        return False
    if key.isdigit():
        return int(f"{siren}12") % 97 == int(key)
    first, second = (_FRENCH_KEY.index(each) for each in key)
    check = first * 24 + second - 10 if key[0].isdigit() else first * 34 + second - 100
    return (int(siren) + 1 + check // 11) % 11 == check % 11


def _irish(body: str) -> bool:
    if not body[1].isdigit():  # the form that was given until 1991
        body = f"0{body[2:7]}{body[0]}{body[7:]}"
    extra = 9 * _IRISH_LETTERS.index(body[8]) if len(body) == 9 else 0
    return _IRISH_LETTERS[(_sum(body[:7], range(8, 1, -1)) + extra) % 23] == body[7]


def _lithuanian(body: str) -> bool:
    first = body[:-1]
    check = _sum(first, [1 + at % 9 for at in range(len(first))]) % 11
    if check == 10:
        check = _sum(first, [1 + (at + 2) % 9 for at in range(len(first))]) % 11 % 10
    return check == int(body[-1])


def _luxembourgish(body: str) -> bool:
    return int(body[:6]) % 89 == int(body[6:])


def _latvian(body: str) -> bool:
    if body[0] in "0123":  # a person's
        return True
    return _sum(body, (9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1)) % 11 == 3


def _dutch(body: str) -> bool:
    """Companies have a citizen service number's check; sole traders, since 2020, one by ISO 7064 mod 97-10."""
    by_eleven = _sum(body[:9], (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0
    return by_eleven or int("".join(str(int(each, 36)) for each in f"NL{body}")) % 97 == 1


def _polish(body: str) -> bool:
    return _sum(body[:9], (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(body[9])


def _portuguese(body: str) -> bool:
    return -_sum(body[:8], range(9, 1, -1)) % 11 % 10 == int(body[8])


def _romanian(body: str) -> bool:
    padded = body.zfill(10)
    return 10 * _sum(padded[:9], (7, 5, 3, 2, 1, 7, 5, 3, 2)) % 11 % 10 == int(padded[9])


def _slovene(body: str) -> bool:
    check = 11 - _sum(body[:7], range(8, 1, -1)) % 11
    return check != 11 and check % 10 == int(body[7])


def _swiss(body: str) -> bool:
    return _sum(body[1:10], (5, 4, 3, 2, 7, 6, 5, 4, 1)) % 11 == 0


def _norwegian(body: str) -> bool:
    return _sum(body[:9], (3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _swedish(body: str) -> bool:
    return _luhn(body[:10])


VAT_NUMBER_RULES: Final[dict[str, VATNumberRule]] = {
    "AT": VATNumberRule(r"U\d{8}", _austrian),
    "BE": VATNumberRule(r"[01]\d{9}", _belgian),
    "BG": VATNumberRule(r"\d{9,10}", _bulgarian),
    "CH": VATNumberRule(r"E\d{9}(MWST|TVA|IVA)", _swiss),
    "CY": VATNumberRule(r"(?!12)\d{8}[A-Z]", _cypriot),
    "CZ": VATNumberRule(r"[0-8]\d{7}|\d{9,10}", _czech),
    "DE": VATNumberRule(r"[1-9]\d{8}", _iso_7064_mod_11_10),
    "DK": VATNumberRule(r"[1-9]\d{7}", _weighted(2, 7, 6, 5, 4, 3, 2, 1, modulus=11)),
    "EE": VATNumberRule(r"\d{9}", _weighted(3, 7, 1, 3, 7, 1, 3, 7, 1, modulus=10)),
    "EL": VATNumberRule(r"\d{9}", _greek),
    "ES": VATNumberRule(r"(\d{8}|[XYZKLM]\d{7})[A-Z]|[ABCDEFGHJNPQRSUVW]\d{7}[0-9A-J]", _spanish),
    "FI": VATNumberRule(r"\d{8}", _weighted(7, 9, 10, 5, 8, 4, 2, 1, modulus=11)),
    "FR": VATNumberRule(r"[0-9A-HJ-NP-Z]{2}\d{9}", _french),
    "GB": VATNumberRule(r"\d{9}(\d{3})?|GD[0-4]\d\d|HA[5-9]\d\d", _british),
    "HR": VATNumberRule(r"\d{11}", _iso_7064_mod_11_10),
    "HU": VATNumberRule(r"\d{8}", _weighted(9, 7, 3, 1, 9, 7, 3, 1, modulus=10)),
    "IE": VATNumberRule(r"\d{7}[A-W][A-I]?|\d[A-Z+*]\d{5}[A-W]", _irish),
    "IT": VATNumberRule(r"\d{7}(?!000)(0\d\d|100|12[01]|888|999)\d", _luhn),
    "LT": VATNumberRule(r"\d{7}1\d|\d{10}1\d", _lithuanian),
    "LU": VATNumberRule(r"\d{8}", _luxembourgish),
    "LV": VATNumberRule(r"\d{11}", _latvian),
    "MT": VATNumberRule(r"[1-9]\d{7}", _weighted(3, 4, 6, 7, 8, 9, 10, 1, modulus=37)),
    "NL": VATNumberRule(r"\d{9}B(?!00)\d{2}", _dutch),
    "NO": VATNumberRule(r"\d{9}MVA", _norwegian),
    "PL": VATNumberRule(r"\d{10}", _polish),
    "PT": VATNumberRule(r"[1-9]\d{8}", _portuguese),
    "RO": VATNumberRule(r"[1-9]\d{1,9}", _romanian),
    "SE": VATNumberRule(r"\d{10}01", _swedish),
    "SI": VATNumberRule(r"[1-9]\d{7}", _slovene),
    "SK": VATNumberRule(r"[1-9]\d[2-47-9]\d{7}", _weighted(*(10**at % 11 for at in range(9, -1, -1)), modulus=11)),
    "XI": VATNumberRule(r"\d{9}(\d{3})?", _british),
}
"""By prefix."""
NOT_IN_VIES: Final = ("CH", "GB", "NO")
"""Prefixes of numbers that the Commission's register does not have."""
