"""What an audit of a period reads: documents of all sides beside each other, joined where the rows are, in a stream.

Rows come in batches, so that a reader's memory is bounded whatever a period holds. Parties stand as their codes, energy
is in Wh and money in ten-thousandths; what is a credit counts with a minus sign, but in what a leaf says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol, TypeAlias

from emobility.domain.errors import MalformedInput
from emobility.events.event import LoggedEvent
from emobility.ports.event_log import DiscardedEvent, ParkedEvent
from emobility.ports.unit_of_work import UnitOfWork

BATCH_DOCUMENTS: Final = 5_000
"""Most rows in one batch."""
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


StationName: TypeAlias = tuple[str, str]
"""Party and station."""


class EmptyPeriod(MalformedInput):
    """A period ends before it begins, or when it does."""

    def __init__(self, since: datetime, before: datetime) -> None:
        super().__init__(f"the period from {since.isoformat()} to {before.isoformat()} is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Charges that ended at or after `since` and before `before`; by default all there are."""

    since: datetime = _FIRST
    before: datetime = _LAST

    def __post_init__(self) -> None:
        if self.since >= self.before:
            raise EmptyPeriod(self.since, self.before)


class MeteredSession(NamedTuple):
    """What a transaction metered, and where it went; or what several did whose CDRs say just that, added up.

    Attributes:
        name: Station and transaction, or the session of CDRs that no transaction has; None: several, added up.
        sessions: How many they are.
        state: Of the transaction; None: there is none, or several.
        cdrs: How many documents, credits included.
        held_import_wh: In quarantine, nothing decided.
        forgone_import_wh: Waived or written off.
        sold_import_wh: Sold ad hoc.
    """

    cpo_id: str
    emsp_id: str | None
    currency: str | None
    name: str | None
    sessions: int
    state: str | None
    cdrs: int
    metered_import_wh: int
    metered_export_wh: int
    cdr_import_wh: int
    cdr_export_wh: int
    held_import_wh: int
    held_export_wh: int
    forgone_import_wh: int
    forgone_export_wh: int
    sold_import_wh: int
    sold_export_wh: int


class Document(NamedTuple):
    """A CDR or credit as its CPO issued it, as its MSP has it, and as a leaf; what is None is not there.

    Attributes:
        undelivered: How the message that carries it stands, where the MSP has it not.
        bills: How many its driver, or the driver of the CDR that it credits, got.
        version, sequence: Of the statement that its leaf stands in, at `place`.
    """

    cpo_id: str
    cdr_id: str
    session_id: str
    issued_to: str | None
    issued_currency: str | None
    issued_import_wh: int | None
    issued_export_wh: int | None
    issued_e4: int | None
    undelivered: str | None
    received_by: str | None
    received_currency: str | None
    received_import_wh: int | None
    received_export_wh: int | None
    received_e4: int | None
    received_state: str | None
    is_credit: bool | None
    bills: int
    leaf_of: str | None
    leaf_currency: str | None
    agreement_id: str | None
    version: int | None
    sequence: int | None
    place: int | None
    leaf_is_credit: bool | None
    cdr_key: bytes | None
    import_wh: int | None
    export_wh: int | None
    commitment: bytes | None
    meter: bytes | None
    due_e4: int | None
    credit_e4: int | None


class Charge(NamedTuple):
    """A session of a pair, and the ids of all documents of it that any side has."""

    cpo_id: str
    emsp_id: str
    session_id: str
    cdr_ids: Sequence[str]


class Metered(NamedTuple):
    """What a transaction's row says that it metered."""

    party_id: str
    charging_station_id: str
    transaction_id: str
    import_wh: int
    export_wh: int


class BillOfNothing(NamedTuple):
    """A driver's bill under a CDR that its MSP has not. `total_e4`: with tax."""

    party_id: str
    bill_id: str
    cpo_id: str
    cdr_id: str
    currency: str
    total_e4: int


class Moment(Protocol):
    """All rows as they were at one moment, whatever is written meanwhile."""

    @property
    def name(self) -> str:
        """By which another process looks at the same moment while this one does."""

    @property
    def unit(self) -> UnitOfWork:
        """Reads rows at this moment."""

    def sessions(self, period: Period) -> AsyncIterator[Sequence[MeteredSession]]:
        """Yield what was metered: transactions that are billed as metered added up by pair, all others one by one."""

    def documents(self, period: Period) -> AsyncIterator[Sequence[Document]]:
        """Yield every document of any side: by statement, and there by place; in no statement last."""

    def charges(self, period: Period) -> AsyncIterator[Sequence[Charge]]:
        """Yield the sessions of a period, pair by pair."""

    def bills_of_nothing(self) -> AsyncIterator[Sequence[BillOfNothing]]:
        """Yield every bill without a CDR, whenever it was made."""

    async def has_log(self) -> bool:
        """Whether the event log lies beside these rows, so that `lag`, `handled` and `reports` can be read."""

    async def lag(self) -> Mapping[str, int]:
        """Return for each group that ever consumed how many events it had not handled."""

    async def handled(self, group: str) -> Mapping[int, int]:
        """Return, by partition of the topic `charging`, the offset that a group handles next; of none if it never did.

        Of the events before that it handled all but what it parked, or what was discarded of that.
        """

    async def parked(self, group: str) -> Sequence[ParkedEvent]:
        """Return a group's dead letters, in order, wherever the log lies."""

    async def discarded(self, group: str) -> Sequence[DiscardedEvent]:
        """Return what was discarded of a group's dead letters, in order, wherever the log lies."""

    def reports(self, partition: int) -> AsyncIterator[Sequence[LoggedEvent]]:
        """Yield what the log holds of a partition of the topic `charging`: station by station, each in its order."""

    async def metered(self, stations: Sequence[StationName]) -> Sequence[Metered]:
        """Return what the transactions of some stations metered."""

    async def stations(self) -> Sequence[StationName]:
        """Return every station that has transactions."""


class Reconciliation(Protocol):
    """Looks at rows of all sides at once."""

    def moment(self, name: str | None = None) -> AbstractAsyncContextManager[Moment]:
        """Look at now, or at another process's moment. Raises `DatabaseUnavailable`."""
