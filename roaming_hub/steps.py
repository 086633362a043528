"""What else happens to a message on its way, each concern a `Step` in a file of its own.

The router asks `entered` of all steps, then whatever mode was chosen sends each message through `outgoing` in order,
calls the receiver, and sends the answer through `returning` in reverse order. `ended` is asked last, once per receiver
and in failure too; the rows it returns become durable with the hub's own record before the sender is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.message_signatures import Presented
from roaming_hub.messages import Incoming, Message
from roaming_hub.recording import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the call of one receiver ended.

    Attributes:
        status_code: The receiver's OCPI status code, or the hub's 4xxx where it got none.
        answer: What the receiver said, its exact bytes before any step; None where nothing came.
        word: The receiver's signature of it, if that holds.
    """

    status_code: int
    answer: HttpResponse | None
    word: Presented | None = None


class Step:
    """Does nothing; override what concerns you."""

    async def entered(self, incoming: Incoming) -> None:
        """A request came in and is authenticated. Raise `OCPIError` to refuse it before anybody is asked."""

    async def outgoing(self, message: Message) -> Message:
        """A message is about to be sent. Raise `OCPIError` to have it not sent."""
        return message

    async def returning(self, message: Message, answer: HttpResponse) -> HttpResponse:
        """A receiver answered; return what the sender is to get. `message` is as it was sent."""
        del message
        return answer

    async def ended(self, message: Message, outcome: Outcome) -> Sequence[Row]:
        """A receiver was called, or could not be. Return rows that are to be durable with it."""
        del message, outcome
        return ()
