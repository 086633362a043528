"""What operators want of stations and the back office keeps account of: battery swaps, grid rules, tariffs, running
costs, receipts, event streams, displays. All are of OCPP 2.1 but display messages, which 2.0.1 has too.

A command answers 200 with what the station said, whatever that is; what is kept of it, the lists of `told_api` show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.domain.money import decimal_from_e4
from emobility.runtime.access import TokenRole
from services.charging_operations.battery_swaps import SwapRequest
from services.charging_operations.der_controls import ControlsCleared
from services.charging_operations.device_model import DeviceModelDesk, Refresh
from services.charging_operations.event_streams import StreamAdjustment
from services.charging_operations.office import require_hosted
from services.charging_operations.operator_api import COMMAND_STATUS, COMMAND_STATUS_WORDS, OperatorAPI, answered
from services.charging_operations.routes import Query, Route, RouteTable, answer, asked, read_body
from services.charging_operations.running_costs import COST_TELLING, CostTellingRecord
from services.charging_operations.shown import CommandAnswer, StationNamed
from services.charging_operations.station_records import ReportKind
from services.charging_operations.station_tariffs import StationTariff, TariffsCleared
from services.charging_operations.station_told import ToldDesk
from services.charging_operations.terminal_payments import PaymentReceipt
from services.charging_operations.told_api import number_in_path

IS_DEFAULT: Final = Query("is_default", bool, "true: a default control; a scheduled one when not given")
OF_EVSE: Final = Query("ocpp_evse_id", int, "of which EVSE, 0 and when not given: of all")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapAnswer:
    """What a station said to a swap; its messages will name `request_id`."""

    request_id: int
    result: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAnswer:
    """The cost that a station was told, as a decimal text, and what became of it."""

    total_cost: str
    currency: str
    result: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedAPI:
    """Commands."""

    operator: OperatorAPI
    told: ToldDesk
    device_model: DeviceModelDesk

    def mount_on(self, routes: RouteTable) -> None:
        """Add the routes."""
        station = "/stations/{station_id}"
        controls, streams = f"{station}/der-controls", f"{station}/event-streams"
        displays, transaction = f"{station}/display-messages", f"{station}/transactions/{{transaction_id}}"
        tariff, said = f"{station}/default-tariffs/{{ocpp_evse_id}}", COMMAND_STATUS_WORDS
        control, display = f"{controls}/{{control_id}}", f"{displays}/{{message_id}}"
        adjusted, words = f"{streams}/{{stream_id}}/adjust", dict[str, Any]
        shown, owner = CommandAnswer, TokenRole.OWNER
        routes.add(
            "What operators want of stations",
            [
                Route("POST", f"{station}/swaps", self.request_swap, SwapRequest, SwapAnswer, also=said),
                Route("PUT", control, self.set_der_control, words, shown, also=said),
                Route("DELETE", control, self.clear_der_control, None, shown, (IS_DEFAULT,), also=said),
                Route("POST", f"{controls}/clear", self.clear_der_controls, ControlsCleared, shown, also=said),
                Route("POST", f"{controls}/refresh", self.refresh_der_controls, None, Refresh, also=said),
                Route("PUT", tariff, self.set_default_tariff, StationTariff, shown, also=said, needs=owner),
                Route(
                    "PUT",
                    f"{transaction}/tariff",
                    self.set_transaction_tariff,
                    StationTariff,
                    shown,
                    also=said,
                    needs=owner,
                ),
                Route(
                    "POST",
                    f"{station}/tariffs/clear",
                    self.clear_station_tariffs,
                    TariffsCleared,
                    shown,
                    also=said,
                    needs=owner,
                ),
                Route(
                    "POST",
                    f"{station}/tariffs/refresh",
                    self.refresh_station_tariffs,
                    None,
                    shown,
                    (OF_EVSE,),
                    also=said,
                ),
                Route("POST", f"{transaction}/cost", self.tell_cost, None, CostAnswer, also=said),
                Route("PUT", f"{station}/cost-telling", self.begin_telling_costs, None, CostTellingRecord),
                Route("DELETE", f"{station}/cost-telling", self.end_telling_costs, None, StationNamed),
                Route("PUT", "/payment-receipts", self.put_payment_receipt, PaymentReceipt, dict[str, bool]),
                Route("POST", adjusted, self.adjust_event_stream, StreamAdjustment, shown, also=said),
                Route("POST", f"{streams}/refresh", self.refresh_event_streams, None, shown, also=said),
                Route("PUT", display, self.set_display_message, words, shown, also=said),
                Route("DELETE", display, self.clear_display_message, None, shown, also=said),
                Route("POST", f"{displays}/refresh", self.refresh_display_messages, None, Refresh, also=said),
            ],
            writes=TokenRole.OPERATOR,
        )

    async def request_swap(self, request: Request, party_id: PartyId) -> Response:
        """Have a station swap a driver's battery (RequestBatterySwap), under a request id of ours."""
        wanted = await read_body(request, SwapRequest)
        station_id, correlation_id = await self._station(request, party_id)
        request_id, outcome = await self.told.swaps.request(party_id, station_id, wanted, correlation_id=correlation_id)
        shown = SwapAnswer(request_id=request_id, result=outcome.result.value, detail=outcome.station_status)
        return answer(shown, COMMAND_STATUS.get(outcome.result, 200))

    async def set_der_control(self, request: Request, party_id: PartyId) -> Response:
        """Set a DER control: SetDERControl but for its controlId, every name as in the standard."""
        control = await read_body(request, dict[str, Any])
        station_id, correlation_id = await self._station(request, party_id)
        control_id = request.path_params["control_id"]
        return answered(
            await self.told.der.set_control(party_id, station_id, control_id, control, correlation_id=correlation_id)
        )

    async def clear_der_control(self, request: Request, party_id: PartyId) -> Response:
        """Clear one DER control (ClearDERControl)."""
        station_id, correlation_id = await self._station(request, party_id)
        is_default = asked(request, "is_default", default=False)
        return answered(
            await self.told.der.clear_control(
                *(party_id, station_id, request.path_params["control_id"]),
                is_default=is_default,
                correlation_id=correlation_id,
            )
        )

    async def clear_der_controls(self, request: Request, party_id: PartyId) -> Response:
        """Clear all default DER controls, or all scheduled ones, perhaps of one type."""
        cleared = await read_body(request, ControlsCleared)
        station_id, correlation_id = await self._station(request, party_id)
        return answered(
            await self.told.der.clear_controls(party_id, station_id, cleared, correlation_id=correlation_id)
        )

    async def refresh_der_controls(self, request: Request, party_id: PartyId) -> Response:
        """Ask for all DER controls (GetDERControl); pages under `request_id` will come."""
        return await self._refresh(request, party_id, ReportKind.DER_CONTROLS)

    async def set_default_tariff(self, request: Request, party_id: PartyId) -> Response:
        """Set the default tariff of an EVSE, 0: of each (SetDefaultTariff)."""
        tariff = await read_body(request, StationTariff)
        station_id, correlation_id = await self._station(request, party_id)
        ocpp_evse_id = number_in_path(request, "ocpp_evse_id")
        return answered(
            await self.told.tariffs.set_default(
                party_id, station_id, ocpp_evse_id, tariff, correlation_id=correlation_id
            )
        )

    async def set_transaction_tariff(self, request: Request, party_id: PartyId) -> Response:
        """Change the tariff of a running transaction (ChangeTransactionTariff)."""
        tariff = await read_body(request, StationTariff)
        station_id, correlation_id = await self._station(request, party_id)
        transaction_id = request.path_params["transaction_id"]
        return answered(
            await self.told.tariffs.set_for_transaction(
                party_id, station_id, transaction_id, tariff, correlation_id=correlation_id
            )
        )

    async def clear_station_tariffs(self, request: Request, party_id: PartyId) -> Response:
        """Clear tariffs of a station (ClearTariffs); the answer has a result for each."""
        cleared = await read_body(request, TariffsCleared)
        station_id, correlation_id = await self._station(request, party_id)
        return answered(await self.told.tariffs.clear(party_id, station_id, cleared, correlation_id=correlation_id))

    async def refresh_station_tariffs(self, request: Request, party_id: PartyId) -> Response:
        """Ask what tariffs a station has (GetTariffs) and keep the answer but for whom they are."""
        station_id, correlation_id = await self._station(request, party_id)
        ocpp_evse_id = asked(request, "ocpp_evse_id", default=0)
        outcome = await self.told.tariffs.refresh(party_id, station_id, ocpp_evse_id, correlation_id=correlation_id)
        return answered(replace(outcome, answer=None))

    async def tell_cost(self, request: Request, party_id: PartyId) -> Response:
        """Tell a station what a running transaction costs now (CostUpdated)."""
        station_id, correlation_id = await self._station(request, party_id)
        cost, outcome = await self.told.costs.tell(
            party_id, station_id, request.path_params["transaction_id"], correlation_id=correlation_id
        )
        shown = CostAnswer(
            total_cost=str(decimal_from_e4(cost.amount_e4)),
            currency=cost.currency,
            result=outcome.result.value,
            detail=outcome.station_status,
        )
        return answer(shown, COMMAND_STATUS.get(outcome.result, 200))

    async def begin_telling_costs(self, request: Request, party_id: PartyId) -> Any:
        """Tell a station the cost of each of its running transactions from now on, each minute in which it changed."""
        station_id = await self.operator.station_of(request, party_id)
        office = self.operator.office
        row = CostTellingRecord(party_id=party_id, charging_station_id=station_id, asked_at=office.now())
        async with office.ports.units.begin() as unit:
            await unit.table(COST_TELLING).put(row)
            await unit.commit()
        return row

    async def end_telling_costs(self, request: Request, party_id: PartyId) -> Any:
        """Tell a station no more costs by ourselves."""
        station_id = await self.operator.station_of(request, party_id)
        async with self.operator.office.ports.units.begin() as unit:
            await unit.table(COST_TELLING).remove(party_id, station_id)
            await unit.commit()
        return StationNamed(charging_station_id=station_id)

    async def put_payment_receipt(self, request: Request, party_id: PartyId) -> Any:
        """Enter the receipt of a payment at a terminal: it is in the answer to the station's NotifySettlement."""
        receipt = await read_body(request, PaymentReceipt)
        async with self.operator.office.ports.units.begin() as unit:
            await require_hosted(unit, party_id)
        await self.told.payments.put_receipt(party_id, receipt)
        return {"is_kept": True}

    async def adjust_event_stream(self, request: Request, party_id: PartyId) -> Response:
        """Have an event stream report otherwise (AdjustPeriodicEventStream)."""
        wanted = await read_body(request, StreamAdjustment)
        station_id, correlation_id = await self._station(request, party_id)
        stream_id = number_in_path(request, "stream_id")
        return answered(
            await self.told.streams.adjust(party_id, station_id, stream_id, wanted, correlation_id=correlation_id)
        )

    async def refresh_event_streams(self, request: Request, party_id: PartyId) -> Response:
        """Ask which event streams run (GetPeriodicEventStream)."""
        station_id, correlation_id = await self._station(request, party_id)
        return answered(await self.told.streams.refresh(party_id, station_id, correlation_id=correlation_id))

    async def set_display_message(self, request: Request, party_id: PartyId) -> Response:
        """Set a display message: MessageInfoType but for its id (SetDisplayMessage)."""
        message = await read_body(request, dict[str, Any])
        station_id, correlation_id = await self._station(request, party_id)
        message_id = number_in_path(request, "message_id")
        return answered(
            await self.told.displays.set_message(
                party_id, station_id, message_id, message, correlation_id=correlation_id
            )
        )

    async def clear_display_message(self, request: Request, party_id: PartyId) -> Response:
        """Take a display message off (ClearDisplayMessage)."""
        station_id, correlation_id = await self._station(request, party_id)
        message_id = number_in_path(request, "message_id")
        return answered(
            await self.told.displays.clear_message(party_id, station_id, message_id, correlation_id=correlation_id)
        )

    async def refresh_display_messages(self, request: Request, party_id: PartyId) -> Response:
        """Ask for all display messages (GetDisplayMessages); pages under `request_id` will come."""
        return await self._refresh(request, party_id, ReportKind.DISPLAY_MESSAGES)

    async def _station(self, request: Request, party_id: PartyId) -> tuple[str, str]:
        return await self.operator.station_of(request, party_id), self.operator.correlation_of(request)

    async def _refresh(self, request: Request, party_id: PartyId, kind: ReportKind) -> Response:
        station_id, correlation_id = await self._station(request, party_id)
        refresh = await self.device_model.refresh(party_id, station_id, kind, correlation_id=correlation_id)
        return answer(refresh, COMMAND_STATUS.get(refresh.result, 200))
