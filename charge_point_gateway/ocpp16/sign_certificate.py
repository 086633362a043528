"""SignCertificate (OCPP 1.6 security white paper, A02; 2.0.1, A02): a station has made a key of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.notice import Notice


class SignCertificate(Notice):
    """All versions have the same message. Rejected: no certificate authority is connected."""

    action: ClassVar[str] = "SignCertificate"
    answer: ClassVar[dict[str, Any]] = {"status": "Rejected"}
