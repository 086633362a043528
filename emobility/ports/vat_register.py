"""A register of VAT numbers, such as VIES: was this number given to somebody, and to whom?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from emobility.domain.errors import Unavailable
from emobility.ports.station_questions import Company


class RegisterUnavailable(Unavailable):
    """The register, or the country's part of it, did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredNumber:
    """The register's answer; some countries do not tell the company."""

    is_valid: bool
    company: Company | None = None


class VATRegister(Protocol):
    """Looks numbers up."""

    async def look_up(self, vat_number: str) -> RegisteredNumber:
        """Look up a number of `plain_vat_number`'s form. Raises `RegisterUnavailable`."""
