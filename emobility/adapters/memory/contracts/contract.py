"""What the contracts in Python share: an address, a caller, storage, events, errors and roles."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NoReturn, TypeAlias

from emobility.adapters.memory.machine import Call, State
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import WORD, Function, encode
from emobility.ports.chain import CallReverted

NOBODY: Final = bytes(20)
Log: TypeAlias = tuple[bytes, tuple[bytes, ...], bytes]
"""Contract, topics, data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One transaction or query: what was called, what is stored, what was told."""

    call: Call
    state: State
    logs: list[Log] = field(default_factory=list)


class Contract:
    """A contract at an address, called by `sender`, with roles as OpenZeppelin's AccessControl has them."""

    takes: ClassVar[str] = "(address)"
    functions: ClassVar[dict[Function, str]] = {}
    roles: ClassVar[dict[Function, str]] = {contracts.GRANT_ROLE: "grant_role", contracts.HAS_ROLE: "has_role"}

    def __init_subclass__(cls) -> None:
        cls.functions = cls.functions | cls.roles

    def __init__(self, at: Frame, *, address: bytes, sender: bytes) -> None:
        self._at = at
        self._address = address
        self._sender = sender

    def make(self, admin: bytes) -> None:
        """Carry out the constructor."""
        self._grant(contracts.ADMIN_ROLE, admin)

    def grant_role(self, role: bytes, account: bytes) -> None:
        """See `AccessControl`."""
        self._require_role(contracts.ADMIN_ROLE)
        self._grant(role, account)

    def has_role(self, role: bytes, account: bytes) -> bool:
        """See `AccessControl`."""
        return bool(self._read("role", role, account))

    def _grant(self, role: bytes, account: bytes) -> None:
        if not self.has_role(role, account):
            self._write("role", role, account, value=True)
            self._tell(contracts.ROLE_GRANTED, role, account, self._sender, indexed=3)

    def _require_role(self, role: bytes) -> None:
        if not self.has_role(role, self._sender):
            self._refuse(contracts.NOT_IN_ROLE, self._sender, role)

    def _read(self, *key: Any) -> Any:
        return self._at.state.get((self._address, *key))

    def _write(self, *key: Any, value: Any) -> None:
        self._at.state[self._address, *key] = value

    def _tell(self, event: Function, *values: Any, indexed: int) -> None:
        words = encode(event.takes, values)
        topics = [words[place * WORD : (place + 1) * WORD] for place in range(indexed)]
        self._at.logs.append((self._address, (event.topic, *topics), words[indexed * WORD :]))

    def _refuse(self, error: Function, *values: Any) -> NoReturn:
        raise CallReverted(error.call(*values))

    def _require_in_time(self, deadline: int, error: Function) -> datetime:
        if self._at.call.timestamp_s > deadline:
            self._refuse(error, deadline)
        return moment(deadline)


class Pausable(Contract):
    """A contract whose pauser stops and allows some of its calls, as OpenZeppelin's Pausable has it."""

    functions: ClassVar[dict[Function, str]] = {contracts.PAUSE: "pause", contracts.UNPAUSE: "unpause"}

    def __init_subclass__(cls) -> None:
        cls.functions = cls.functions | Pausable.functions
        super().__init_subclass__()

    def pause(self) -> None:
        """Stop them."""
        self._require_role(contracts.PAUSER_ROLE)
        self._require_unpaused()
        self._write("paused", value=True)
        self._tell(contracts.PAUSED, self._sender, indexed=0)

    def unpause(self) -> None:
        """Allow them again."""
        self._require_role(contracts.PAUSER_ROLE)
        if not self._read("paused"):
            self._refuse(contracts.IS_NOT_PAUSED)
        self._write("paused", value=None)
        self._tell(contracts.UNPAUSED, self._sender, indexed=0)

    def _require_unpaused(self) -> None:
        if self._read("paused"):
            self._refuse(contracts.IS_PAUSED)


def moment(seconds: int) -> datetime:
    """Return a deadline as the domain has it; the contracts know later ones than it does."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError):
        raise CallReverted(b"") from None
