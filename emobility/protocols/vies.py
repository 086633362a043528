"""VIES, the European Commission's register of VAT numbers, by its REST interface: POST {url}/check-vat-number."""

from __future__ import annotations

from typing import Final

import msgspec

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.events import codec
from emobility.ports.http import HttpClient
from emobility.ports.station_questions import Company
from emobility.ports.vat_register import RegisteredNumber, RegisterUnavailable

TIMEOUT_S: Final = 8.0
"""The gateway waits 10 s for the verdict."""
NOT_TOLD: Final = "---"
"""What VIES writes where a country does not tell."""
NAME_CHARACTERS_MAX: Final = 50
LINE_CHARACTERS_MAX: Final = 100
"""OCPP 2.1, AddressType."""


class _Found(msgspec.Struct):
    valid: bool
    name: str = NOT_TOLD
    address: str = NOT_TOLD


class ViesRegister:
    """The `VATRegister` port over HTTP."""

    def __init__(self, http: HttpClient, *, url: str) -> None:
        http.allow_origin(url)
        self._http = http
        self._url = f"{url.rstrip('/')}/check-vat-number"

    async def look_up(self, vat_number: str) -> RegisteredNumber:
        """Look up a number. Raises `RegisterUnavailable`, also where the country's own register is away."""
        asked = {"countryCode": vat_number[:2], "vatNumber": vat_number[2:]}
        try:
            response = await self._http.request(
                "POST",
                self._url,
                headers={"content-type": "application/json", "accept": "application/json"},
                body=codec.encode(asked),
                timeout_s=TIMEOUT_S,
            )
            if response.status != 200:
                raise RegisterUnavailable(f"the register answered {response.status}")
            # Where a country is away, VIES answers 200 with errors and no `valid`.
            found = codec.decode(response.body, _Found)
        except (Unavailable, RuleBroken) as error:
            raise RegisterUnavailable(str(error)) from error
        except msgspec.MsgspecError as error:
            raise RegisterUnavailable("the register's answer can't be read") from error
        return RegisteredNumber(is_valid=found.valid, company=_company(found, vat_number[:2]))


def _company(found: _Found, country: str) -> Company | None:
    lines = [line.strip() for line in found.address.splitlines() if line.strip()]
    if not found.valid or found.name.strip() in ("", NOT_TOLD) or not lines or lines == [NOT_TOLD]:
        return None
    return Company(
        name=found.name.strip()[:NAME_CHARACTERS_MAX],
        address1=lines[0][:LINE_CHARACTERS_MAX],
        # VIES writes an address as it pleases; its last line has the town.
        city=lines[-1][:LINE_CHARACTERS_MAX],
        country=country,
    )
