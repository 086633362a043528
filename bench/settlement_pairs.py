"""A hundred pairs of twenty parties: the load of the settlement's benches."""

from __future__ import annotations

from typing import Final

from emobility.domain.agreement import RoamingAgreement
from emobility.domain.identifiers import PartyId
from tests.settlement.world import terms

NAMES: Final = "ABCDEFGHIJ"


def agreements() -> list[RoamingAgreement]:
    """Return an agreement of each of ten CPOs with each of ten MSPs."""
    return [
        terms(PartyId(f"NL-C{cpo}C"), PartyId(f"NL-M{msp}M"), agreement_id=f"C{cpo}-M{msp}")
        for cpo in NAMES
        for msp in NAMES
    ]
