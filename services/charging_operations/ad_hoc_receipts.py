"""The receipt of an ad hoc sale as a file that anyone can check (`wattroam verify`), signed by the CPO that sold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec

from emobility.domain.receipt.ad_hoc import FORM, AdHocReceipt, signing_bytes
from emobility.domain.receipt.document import MeterShown, PeriodShown, canonical
from emobility.domain.session import ChargingPeriod
from emobility.domain.tariff.version import canonical_document
from emobility.ports.ports import Ports
from services.charging_operations.ad_hoc_records import AdHocSaleRecord, invoice_number


@dataclass(frozen=True, slots=True, kw_only=True)
class AdHocReceipts:
    """Writes receipts."""

    ports: Ports

    async def written(self, sale: AdHocSaleRecord, *, seller_name: str) -> bytes:
        """Return the receipt of a sale that was paid. Raises `SubjectErased`: its meter's records are gone."""
        assert sale.started_at is not None
        assert sale.ended_at is not None, "what is paid is over"
        receipt = AdHocReceipt(
            form=FORM,
            seller=sale.party_id.code,
            seller_key=await self.ports.signer.public_key(sale.party_id),
            seller_name=seller_name,
            number=invoice_number(sale),
            session_id=sale.session_id or "",
            emi3_id=sale.location.emi3_id or sale.evse_uid,
            time_zone=sale.location.time_zone,
            started_at=sale.started_at,
            ended_at=sale.ended_at,
            periods=tuple(map(_period, sale.periods)),
            import_wh=sale.energy_import_wh,
            export_wh=sale.energy_export_wh,
            tariff=canonical_document(sale.tariff),
            currency=sale.currency,
            held_e4=sale.held_e4,
            total_incl_e4=sale.total_incl_e4,
            capture_e4=sale.capture_e4,
            residue_e4=sale.residue_e4,
            beyond_hold_e4=sale.beyond_hold_e4,
            vat_e4=sale.vat_e4,
            refund_e4=sale.refund_e4,
            meter=await self._meter(sale),
        )
        signature = await self.ports.signer.sign(sale.party_id, signing_bytes(receipt))
        return canonical(msgspec.structs.replace(receipt, signature=signature))

    async def _meter(self, sale: AdHocSaleRecord) -> MeterShown | None:
        """The records go in whole: the token in them was drawn for this sale and names nobody."""
        signed = sale.signed_data
        if signed is None:
            return None
        records = tuple([await self.ports.vault.open(record) for record in signed.records])
        return MeterShown(public_key=signed.public_key, records=records)


def _period(period: ChargingPeriod) -> PeriodShown:
    shown = asdict(period)
    del shown["tariff_id"]
    return PeriodShown(**shown)
