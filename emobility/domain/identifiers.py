"""Who is who: parties, their roles, and the keys that scope every row by party."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from emobility.domain.errors import MalformedInput

_CODE: Final = re.compile(r"[A-Z]{2}-[A-Z0-9]{3}")


class MalformedPartyId(MalformedInput):
    """A party id is two letters, a hyphen and three letters or digits."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"{text!r} is not a party id such as NL-TNM")


class PartyId:
    """A party: `country_code` (ISO 3166 alpha-2) and `party_id` (ISO 15118, three characters); written NL-TNM.

    Comparison ignores case, as OCPI's CiString asks; the spelling kept is upper case.
    """

    __slots__ = ("code",)
    code: str

    def __init__(self, code: str) -> None:
        # Upper case of a letter beyond ASCII may be two letters, so it is refused before.
        upper = code.upper()
        if not (code.isascii() and _CODE.fullmatch(upper)):
            raise MalformedPartyId(code)
        self.code = upper

    @classmethod
    def of(cls, country_code: str, party_id: str) -> PartyId:
        """Join OCPI's two fields."""
        return cls(f"{country_code}-{party_id}")

    @property
    def country_code(self) -> str:
        """ISO 3166 alpha-2 country code."""
        return self.code[:2]

    @property
    def party_id(self) -> str:
        """The three characters that name the party in its country."""
        return self.code[3:]

    def __str__(self) -> str:
        return self.code

    def __repr__(self) -> str:
        return f"PartyId({self.code!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartyId) and other.code == self.code

    def __lt__(self, other: PartyId) -> bool:
        return self.code < other.code

    def __hash__(self) -> int:
        return hash(self.code)


class Role(StrEnum):
    """What a party does (OCPI 2.2.1, 16.x Role; NAP and OTHER included).

    PTP, a provider of payment terminals, is in the words of 2.3.0's payments branch, though not in its enum: it joins
    as what it is and is told to others as OTHER.
    """

    CPO = "CPO"
    EMSP = "EMSP"
    HUB = "HUB"
    NAP = "NAP"
    NSP = "NSP"
    OTHER = "OTHER"
    PTP = "PTP"
    SCSP = "SCSP"

    @property
    def in_ocpi(self) -> Role:
        """The role as every version's enum has it."""
        return Role.OTHER if self is Role.PTP else self
