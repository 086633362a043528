"""Authorize: a driver identified (OCPP 2.0.1, C01-C06)."""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import Context, Message, Question, id_token_info
from charge_point_gateway.ocpp201.id_token import kind_of


class Authorize(Message):
    """Asks the back office; no event, for nothing has happened yet."""

    action: ClassVar[str] = "Authorize"

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The token."""
        return (payload["idToken"]["idToken"],)

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Ask whether this token may charge here."""
        id_token = payload["idToken"]
        return Question(id_token=id_token["idToken"], kind=kind_of(id_token))

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """Return the decision."""
        assert context.answer is not None
        return {"idTokenInfo": id_token_info(context.answer, now=context.now)}
