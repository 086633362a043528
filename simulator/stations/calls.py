"""Messages of a station on their way to the CSMS, and its answers to what the CSMS asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emobility.domain.errors import RuleBroken

Payload = dict[str, Any]


class CallRefused(RuleBroken):
    """The station answers a CALL with a CALLERROR; `code` is OCPP's word."""

    def __init__(self, code: str, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"{code}: {description}")


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """A CALL in the queue.

    Attributes:
        action: OCPP's name of the message.
        build: Makes the payload when it is sent first: only then may a 1.6 transaction id be known.
        order: Place in the queue.
        is_send: A SEND of OCPP 2.1, which is not answered.
        is_transactional: It belongs to a transaction, so it survives a lost connection and is tried again.
        on_answer: Called with the CALLRESULT's payload.
        on_failure: Called when it is given up.
        payload: What was sent; the same for every attempt.
        unique_id: Of the latest attempt.
    """

    action: str
    build: Callable[[], Payload]
    order: int
    is_send: bool = False
    is_transactional: bool = False
    on_answer: Callable[[Payload], None] = field(default=lambda _: None)
    on_failure: Callable[[], None] = field(default=lambda: None)
    transaction_id: Callable[[], str | None] = field(default=lambda: None)
    seq_no: int | None = None
    payload: Payload | None = None
    unique_id: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A station's answer to a CALL, and what it does once the answer is out."""

    payload: Payload
    then: Callable[[], None] = field(default=lambda: None)
