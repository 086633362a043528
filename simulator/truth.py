"""What really happened, as only the stations know it: registers and acknowledged messages. The audit's other side."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgedMessage:
    """A CALL of a station for which it got a CALLRESULT.

    `content_hash` (SHA-256 of the payload as canonical JSON) tells repeats from news; `transaction_id` and `seq_no`
    are there where the message belongs to a transaction.
    """

    party_id: str
    charging_station_id: str
    ocpp_version: str
    action: str
    unique_id: str
    content_hash: str
    acknowledged_at: datetime
    transaction_id: str | None = None
    seq_no: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionTruth:
    """One transaction as its meter saw it. `metered_wh` is the difference of the import registers, None while it runs;
    `exported_wh` that of the export registers.

    `is_start_acknowledged`, `is_end_acknowledged`: the CSMS has confirmed them. `transaction_id` is None as long as a
    1.6 station was not told its number.
    """

    party_id: str
    charging_station_id: str
    ocpp_version: str
    ocpp_evse_id: int
    local_id: str
    transaction_id: str | None
    id_token: str
    started_at: datetime
    meter_start_wh: int
    is_start_acknowledged: bool
    ended_at: datetime | None = None
    meter_end_wh: int | None = None
    metered_wh: int | None = None
    exported_wh: int = 0
    stopped_reason: str | None = None
    is_end_acknowledged: bool = False
    is_forged: bool = False
    was_offline: bool = False


@dataclass(slots=True, kw_only=True)
class Truth:
    """All that the stations of a run know."""

    transactions: list[TransactionTruth] = field(default_factory=list)
    acknowledged: list[AcknowledgedMessage] = field(default_factory=list)

    @property
    def metered_wh(self) -> int:
        """Wh of all transactions that ended."""
        return sum(each.metered_wh or 0 for each in self.transactions)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON; moments as RFC 3339 in UTC."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=_plain))
        return plain

    def write(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(self.as_json(), indent=1, sort_keys=True) + "\n")


def content_hash(payload: dict[str, Any]) -> str:
    """SHA-256 (hex) of a payload as canonical JSON."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and a Z, as OCPP likes it."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return timestamp(value)
    return str(value)
