"""Authorize: a driver presented a card (OCPP 1.6, 4.1)."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Message, Question, id_tag_info
from emobility.events.charging import IdTokenKind


class Authorize(Message):
    """Asks the back office; no event, for nothing has happened yet."""

    action: ClassVar[str] = "Authorize"

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The card."""
        return (payload["idTag"],)

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Ask whether this card may charge here."""
        return Question(id_token=payload["idTag"], kind=IdTokenKind.RFID)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the decision."""
        assert context.answer is not None
        return {"idTagInfo": id_tag_info(context.answer, now=context.now)}
