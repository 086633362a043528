"""The cryptography that a receipt's verifier needs (`Proofs`): Ed25519 of sellers, OCMF of meters."""

from __future__ import annotations

from emobility.adapters.signing import is_ed25519_signature
from emobility.protocols.receipts import MeterProofs


class ReceiptProofs(MeterProofs):
    """Checks with public keys alone; holds no secret."""

    def is_signed(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether the Ed25519 signature is the key holder's word on the message."""
        return is_ed25519_signature(public_key=public_key, message=message, signature=signature)
