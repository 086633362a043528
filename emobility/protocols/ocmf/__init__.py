"""OCMF: what a meter signed, verified against the key pinned for it. Open Charge Metering Format 1.4.1.

`meter_key` reads a key as it was printed, `verify` checks one record, `verify_charge` the records of one charge against
the registers that OCPP reported, `verify_charge_alone` against each other, `mask` makes a copy that a driver may show
around, and `showing` puts a charge's records into a receipt.
"""

from __future__ import annotations

from emobility.protocols.ocmf.charge import VerifiedCharge, verify_charge, verify_charge_alone
from emobility.protocols.ocmf.masking import mask
from emobility.protocols.ocmf.record import VerifiedOCMF, VerifiedReading, payload_hash, verify
from emobility.protocols.ocmf.refusals import OCMFRefused
from emobility.protocols.ocmf.signature import meter_key

__all__ = [
    "OCMFRefused",
    "VerifiedCharge",
    "VerifiedOCMF",
    "VerifiedReading",
    "mask",
    "meter_key",
    "payload_hash",
    "verify",
    "verify_charge",
    "verify_charge_alone",
]
