"""One list of all money that drivers without a contract paid, whichever way: QR page, terminal (OCPI), station (OCPP).

An entry is made in the unit in which the money is known to have moved, once: its id names what said so. What went back
is an entry of its own, so the list only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.ad_hoc_records import AdHocSaleRecord, SaleChannel


class EntryKind(StrEnum):
    """Which way money went."""

    TAKEN = "TAKEN"
    GIVEN_BACK = "GIVEN_BACK"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocEntryRecord:
    """Money that moved, in ten-thousandths of `currency` (None: a station did not say of which).

    Attributes:
        entry_id: Names what said that it moved.
        sale_id: The sale it is for; None: a station took it by itself.
        transaction_id: The transaction, as far as it is known yet.
        reference_subject: Of a station's payment: finds its transaction by the token.
    """

    party_id: PartyId
    entry_id: str
    channel: SaleChannel
    kind: EntryKind
    amount_e4: int
    currency: str | None
    entered_at: datetime
    sale_id: str | None = None
    charging_station_id: str | None = None
    transaction_id: str | None = None
    session_id: str | None = None
    reference_subject: str | None = None

    @property
    def signed_e4(self) -> int:
        """The amount as it counts: what was given back is negative."""
        return self.amount_e4 if self.kind is EntryKind.TAKEN else -self.amount_e4


AD_HOC_ENTRY: Final = TableSpec(name="cpo_ad_hoc_entry", record=AdHocEntryRecord, key=("party_id", "entry_id"))


async def enter_for_sale(
    unit: UnitOfWork, sale: AdHocSaleRecord, entry_id: str, *, kind: EntryKind, amount_e4: int, at: datetime
) -> None:
    """Enter money of a sale; the same entry again changes its amount."""
    await unit.table(AD_HOC_ENTRY).put(
        AdHocEntryRecord(
            party_id=sale.party_id,
            entry_id=entry_id,
            channel=sale.channel,
            kind=kind,
            amount_e4=amount_e4,
            currency=sale.currency,
            sale_id=sale.sale_id,
            charging_station_id=sale.charging_station_id,
            transaction_id=sale.transaction_id,
            session_id=sale.session_id,
            entered_at=at,
        )
    )
