"""What a meter said, in whole Wh: readings inside a transaction and the signed records that prove them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from emobility.domain.personal import Sealed


class ReadingContext(StrEnum):
    """Why the meter was read (OCPP `ReadingContext`)."""

    TRANSACTION_BEGIN = "Transaction.Begin"
    TRANSACTION_END = "Transaction.End"
    SAMPLE_PERIODIC = "Sample.Periodic"
    SAMPLE_CLOCK = "Sample.Clock"
    INTERRUPTION_BEGIN = "Interruption.Begin"
    INTERRUPTION_END = "Interruption.End"
    TRIGGER = "Trigger"
    OTHER = "Other"


class MeterReading(msgspec.Struct, frozen=True, kw_only=True):
    """Register values at one moment; a register the station did not report is None.

    A struct rather than a dataclass: a busy gateway makes thousands a second, and each comes out of the log again.

    Attributes:
        at: The station's timestamp, UTC.
        import_wh: Energy.Active.Import.Register, in Wh, rounded once.
        export_wh: Energy.Active.Export.Register, in Wh; V2G only.
        power_w: Power.Active.Import, in W; negative never appears here.
        soc_percent: The vehicle's state of charge.
        signed_record: The signed record (OCMF) as the meter wrote it, sealed: it may carry the driver's id.
        note: What a quirk profile of the station changed in the meaning of its values, such as kWh said to be Wh.
        fault: Why a value of this reading can't be trusted (its text broke a rule); None when all is well.
    """

    at: datetime
    context: ReadingContext = ReadingContext.SAMPLE_PERIODIC
    import_wh: int | None = None
    export_wh: int | None = None
    power_w: int | None = None
    soc_percent: int | None = None
    signed_record: Sealed | None = None
    fault: str | None = None
    note: str | None = None
