"""`StationQuestions` over HTTP: POST {operations}/station_control/charging-advice, /vat-number and /receipt."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.events import codec
from emobility.ports.http import HttpClient
from emobility.ports.station_questions import (
    BackOfficeUnavailable,
    ChargingAdvice,
    ChargingAdvisor,
    ChargingQuestion,
    PaymentDesk,
    ReceiptAnswer,
    ReceiptQuestion,
    StationQuestion,
    VATNumberAnswer,
    VATNumberQuestion,
)
from emobility.protocols.station_control.server import Guard, json_response, payload_response, read_body

T = TypeVar("T")

ADVICE_TIMEOUT_S: Final = 5.0
VAT_NUMBER_TIMEOUT_S: Final = 10.0
"""A national register may be slow; a station gives its CALL about 30 s."""
RECEIPT_TIMEOUT_S: Final = 3.0
"""The payment is stored by then: the station need not wait long for an answer without a receipt."""


class HttpStationQuestions:
    """The port as the gateway has it; `operations_url` is where charging operations is mounted."""

    def __init__(self, http: HttpClient, *, operations_url: str, internal_token: str) -> None:
        self._http = http
        self._url = f"{operations_url.rstrip('/')}/station_control"
        self._headers = {"authorization": f"Bearer {internal_token}", "content-type": "application/json"}

    async def advise(self, question: ChargingQuestion) -> ChargingAdvice:
        """Return the advice. Raises `BackOfficeUnavailable`."""
        return await self._ask("charging-advice", question, ChargingAdvice, timeout_s=ADVICE_TIMEOUT_S)

    async def check_vat_number(self, question: VATNumberQuestion) -> VATNumberAnswer:
        """Return the verdict. Raises `BackOfficeUnavailable`."""
        return await self._ask("vat-number", question, VATNumberAnswer, timeout_s=VAT_NUMBER_TIMEOUT_S)

    async def receipt_of(self, question: ReceiptQuestion) -> ReceiptAnswer:
        """Return the receipt. Raises `BackOfficeUnavailable`."""
        return await self._ask("receipt", question, ReceiptAnswer, timeout_s=RECEIPT_TIMEOUT_S)

    async def _ask(self, path: str, question: StationQuestion, kind: type[T], *, timeout_s: float) -> T:
        try:
            response = await self._http.request(
                "POST",
                f"{self._url}/{path}",
                headers=self._headers,
                body=codec.encode(question),
                timeout_s=timeout_s,
            )
            if response.status != 200:
                raise BackOfficeUnavailable(f"the back office answered {response.status}")
            return codec.decode_with_payload(response.body, kind)
        except (Unavailable, RuleBroken) as error:
            raise BackOfficeUnavailable(str(error)) from error
        except msgspec.MsgspecError as error:
            raise BackOfficeUnavailable("the back office's answer can't be read") from error


def questions_router(advisor: ChargingAdvisor, payments: PaymentDesk, guard: Guard) -> APIRouter:
    """Return the routes, answered by the back office's own desks."""
    router = APIRouter()

    @router.post("/station_control/charging-advice")
    async def advise(request: Request) -> Response:
        await guard(request)
        return payload_response(await advisor.advise(await read_body(request, ChargingQuestion)))

    @router.post("/station_control/vat-number")
    async def check_vat_number(request: Request) -> Response:
        await guard(request)
        question = await read_body(request, VATNumberQuestion)
        try:
            return json_response(await payments.check_vat_number(question))
        except Unavailable as error:
            raise HTTPException(503, "no verdict can be given now") from error

    @router.post("/station_control/receipt")
    async def receipt_of(request: Request) -> Response:
        await guard(request)
        question = await read_body(request, ReceiptQuestion)
        try:
            return json_response(await payments.receipt_of(question))
        except Unavailable as error:
            raise HTTPException(503, "no receipt can be looked for now") from error

    return router
