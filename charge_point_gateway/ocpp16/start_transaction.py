"""StartTransaction: a charge began, online or long ago (OCPP 1.6, 4.8).

The gateway gives the transaction its number. A station that got no answer sends the same again, perhaps to another
gateway, perhaps after days: the number hangs on the content, not on the message id, so it gets the same one.
"""

# ruff: noqa: ARG002 - every message is asked with the same arguments

from __future__ import annotations

from typing import Any, ClassVar

from charge_point_gateway.message import (
    Context,
    Fact,
    Message,
    NumberWanted,
    PersonalText,
    Question,
    content_key,
    id_tag_info,
    moment,
    optional_whole,
    rfc3339,
    whole,
)
from emobility.domain.meter import MeterReading, ReadingContext
from emobility.domain.quantities import REGISTER_WH_MAX
from emobility.events.charging import IdTokenKind, TransactionStarted


class StartTransaction(Message):
    """Durable, numbered, and verified: 4.8 asks the central system to check the card even if the station did."""

    action: ClassVar[str] = "StartTransaction"

    def identifiers(self, payload: dict[str, Any]) -> tuple[str, ...]:
        """The card."""
        return (payload["idTag"],)

    def subject_text(self, payload: dict[str, Any]) -> str | None:
        """The card."""
        id_tag: str = payload["idTag"]
        return id_tag

    def personal(self, payload: dict[str, Any], context: Context) -> tuple[PersonalText, ...]:
        """The card names a person."""
        return (PersonalText(payload["idTag"], payload["idTag"]),)

    def number_wanted(self, payload: dict[str, Any], subject: str, context: Context) -> NumberWanted | None:
        """Same connector, card, time and register: same transaction."""
        connector = whole(payload["connectorId"])
        began_at = rfc3339(moment(payload["timestamp"]))
        key = content_key("StartTransaction", connector, subject, began_at, whole(payload["meterStart"]))
        return NumberWanted(content_key=key, id_token=payload["idTag"], ocpp_evse_id=connector)

    def question(self, payload: dict[str, Any], context: Context) -> Question | None:
        """Ask whether this card may charge here, for this transaction."""
        assert context.number is not None
        return Question(
            id_token=payload["idTag"],
            kind=_kind(context),
            ocpp_evse_id=whole(payload["connectorId"]),
            connector_id=1,
            transaction_id=str(context.number.number),
            remote_start_id=context.number.remote_start_id,
            began_at=moment(payload["timestamp"]),
        )

    def facts(self, payload: dict[str, Any], context: Context) -> tuple[Fact, ...]:
        """The transaction started at the station's time, whatever the back office will say."""
        assert context.number is not None
        occurred_at = moment(payload["timestamp"])
        event = TransactionStarted(
            party_id=context.party_id,
            charging_station_id=context.charging_station_id,
            transaction_id=str(context.number.number),
            occurred_at=occurred_at,
            readings=(
                register_reading(
                    whole(payload["meterStart"]), at=occurred_at, context=ReadingContext.TRANSACTION_BEGIN
                ),
            ),
            ocpp_evse_id=whole(payload["connectorId"]),
            connector_id=1,
            id_token=context.sealed.get(PersonalText(payload["idTag"], payload["idTag"])),
            id_token_kind=_kind(context),
            remote_start_id=context.number.remote_start_id,
            reservation_id=optional_whole(payload.get("reservationId")),
        )
        return (Fact(f"{context.station_key}/{context.number.number}/start", event),)

    def response(self, payload: dict[str, Any], context: Context) -> dict[str, Any]:
        """The number and the decision."""
        assert context.number is not None
        assert context.answer is not None
        return {
            "transactionId": context.number.number,
            "idTagInfo": id_tag_info(context.answer, now=context.now),
        }


def _kind(context: Context) -> IdTokenKind:
    assert context.number is not None
    return IdTokenKind.RFID if context.number.remote_start_id is None else IdTokenKind.APP


def register_reading(wh: int, *, at: Any, context: ReadingContext) -> MeterReading:
    """Return the reading of a `meterStart` or `meterStop`, faulty if no register shows such a value."""
    if 0 <= wh <= REGISTER_WH_MAX:
        return MeterReading(at=at, context=context, import_wh=wh)
    return MeterReading(at=at, context=context, fault=f"the register shows {wh} Wh")
