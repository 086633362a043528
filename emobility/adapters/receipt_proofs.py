"""The cryptography that a receipt's verifier needs (`Proofs`): Ed25519 of sellers, OCMF of meters."""

from __future__ import annotations

from collections.abc import Sequence

from emobility.adapters.signing import is_ed25519_signature
from emobility.protocols.ocmf import verify_charge_alone
from emobility.protocols.ocmf.showing import shown_wh


class ReceiptProofs:
    """Checks with public keys alone; holds no secret."""

    def is_signed(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether the Ed25519 signature is the key holder's word on the message."""
        return is_ed25519_signature(public_key=public_key, message=message, signature=signature)

    def metered_wh(self, records: Sequence[str], *, public_key: str) -> int:
        """Return the energy that whole signed records prove, in Wh. Raises `OCMFRefused`."""
        return verify_charge_alone(records, public_key_hex=public_key).energy_wh

    def shown_wh(self, masked: Sequence[str]) -> int:
        """Return the energy that masked copies show, in Wh. Raises `OCMFRefused`."""
        return shown_wh(masked)
