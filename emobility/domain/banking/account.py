"""Bank accounts (IBAN, ISO 13616) and the texts that banks take."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import MalformedInput

NAME_CHARACTERS_MAX: Final = 70
CENTS: Final = frozenset({"CHF", "EUR", "GBP", "PLN", "SEK"})
"""Currencies that are paid here; each has two decimals. They stand side by side and are never set off."""
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", re.ASCII)
_BIC: Final = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?", re.ASCII)
_NOT_LATIN: Final = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]")
"""What the EPC's character set (EPC217-08) lacks."""


class MalformedAccount(MalformedInput):
    """No bank has such an account."""


class UnpaidCurrency(MalformedInput):
    """We make no bank files in this currency."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        super().__init__(f"no bank files are made in {currency}: {', '.join(sorted(CENTS))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAccount:
    """An account of a company in one currency; `bic` None: the bank knows it by the IBAN (SEPA).

    Raises `MalformedAccount`, `UnpaidCurrency` when made of what can't be one.
    """

    name: str
    iban: str
    bic: str | None
    currency: str

    def __post_init__(self) -> None:
        if not _IBAN.fullmatch(self.iban) or _mod_97(self.iban) != 1:
            raise MalformedAccount(f"{self.iban!r} is no IBAN")
        if self.bic is not None and not _BIC.fullmatch(self.bic):
            raise MalformedAccount(f"{self.bic!r} is no BIC")
        if not latin(self.name, NAME_CHARACTERS_MAX):
            raise MalformedAccount("an account has a holder")
        if self.currency not in CENTS:
            raise UnpaidCurrency(self.currency)


def plain_iban(text: str) -> str:
    """Return an IBAN as computers write it: capitals without spaces. Whether it is one `BankAccount` says."""
    return re.sub(r"\s", "", text).upper()


def latin(text: str, characters_max: int) -> str:
    """Return a text in the characters that every bank of SEPA takes; accents go, what has no like becomes a space."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    return " ".join(_NOT_LATIN.sub(" ", plain).split())[:characters_max].rstrip()


def _mod_97(iban: str) -> int:
    """ISO 7064: letters count from 10, the country and check digits go last."""
    return int("".join(str(int(each, 36)) for each in iban[4:] + iban[:4])) % 97
