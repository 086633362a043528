"""The HTTP API of the MSP's operator and of drivers' apps: JSON both ways, a party's token or ours on every route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from emobility.domain.agreement import NoAgreementInForce, RoamingAgreement
from emobility.domain.cdr_check import CDRFault, CDRFinding
from emobility.domain.errors import EmobilityError, MalformedInput, Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.domain.money import decimal_from_e4
from emobility.domain.tariff.retail import PlanKind, RetailPlan
from emobility.domain.token import TokenType, Whitelist
from emobility.events import codec
from emobility.ports.payments import PaymentDeclined
from emobility.ports.ports import Ports
from emobility.ports.stores import RecordExists
from emobility.protocols.ocpi.client import PeerRefused
from emobility.protocols.ocpi.headers import CORRELATION_ID, message_id
from emobility.runtime.access import Access
from services.driver_mobility.cdr_conflicts import CDR_CONFLICT, ShownConflict
from services.driver_mobility.checking import AlreadyDecided, CDRChecking, SessionBilled, UnknownCDR
from services.driver_mobility.commanding import UnknownSession
from services.driver_mobility.driving import Driving, UnknownBill
from services.driver_mobility.enrolment import Enrolment, NewDriver, NewToken, NotHostedHere, require_hosted
from services.driver_mobility.erasing import Erasing
from services.driver_mobility.ledger import retail_ledger, statements_of
from services.driver_mobility.metering import SignedRecordReused
from services.driver_mobility.page_rendering import file_answer, receipt_page
from services.driver_mobility.quoting import CreditExhausted, UnknownDriver, UnknownPlan, UnknownQuote, Wish
from services.driver_mobility.receipts import CREDIT_SUFFIX, NothingToShow, Receipts
from services.driver_mobility.records import CDRS, DISPUTE, CDRRecord, CDRState, ErasureRecord
from services.driver_mobility.showing import (
    shown_bill,
    shown_charge,
    shown_command,
    shown_ledger,
    shown_quote,
    shown_receipt,
    shown_statement,
)
from services.driver_mobility.terms import NoTariffKnown, UnknownPlace

T = TypeVar("T")

BODY_BYTES_MAX: Final = 65_536
ROWS_MAX: Final = 1_000
DRIVERS_COUNTED_MAX: Final = 100
"""Whose documents one call counts: of each, all are read."""
NUMBER_DIGITS_MAX: Final = 9

_NOT_FOUND: Final = (
    UnknownDriver,
    UnknownQuote,
    UnknownBill,
    UnknownSession,
    UnknownCDR,
    UnknownPlace,
    UnknownPlan,
    NotHostedHere,
    NothingToShow,
)
_PAYMENT_REQUIRED: Final = (PaymentDeclined, CreditExhausted)
_CONFLICT: Final = (
    AlreadyDecided,
    SessionBilled,
    SignedRecordReused,
    RecordExists,
    NoAgreementInForce,
    NoTariffKnown,
)


class HostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}. `nsp_id`: whose station search the drivers' page uses."""

    name: str
    nsp_id: str | None = None


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/plans/{plan_id}; prices net, as decimal texts."""

    kind: PlanKind
    currency: str
    session_fee: Decimal = Decimal(0)
    markup_percent: Decimal = Decimal(0)
    price_per_kwh: Decimal | None = None
    holds_card: bool = False


class DriverChange(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH /{party}/drivers/{driver_id}."""

    plan_id: str | None = None
    credit_limit_e4: int | None = None
    is_blocked: bool | None = None


class CardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/drivers/{driver_id}/card."""

    number: str


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/drivers/{driver_id}/tokens."""

    uid: str
    token_type: TokenType = TokenType.RFID
    whitelist: Whitelist = Whitelist.ALLOWED
    is_valid: bool = True


class AgreementRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/agreements: a version's terms and the key the CPO signs with, told out of band."""

    agreement: RoamingAgreement
    cpo_public_key: str


class MeterKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/meter-keys/{cpo_id}/{evse_uid}; without a moment the key always held."""

    public_key: str
    valid_from: datetime | None = None
    why: str = ""


class DisputeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/cdrs/{cpo_id}/{cdr_id}/dispute."""

    reason: CDRFault
    detail: str


class QuoteRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/drivers/{driver_id}/quotes."""

    cpo_id: str
    location_id: str
    evse_uid: str | None = None
    connector_id: str | None = None
    energy_wh: int = Wish().energy_wh
    connection_s: int | None = None


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/drivers/{driver_id}/sessions."""

    quote_id: str


class NotUnderstood(MalformedInput):
    """The body is no JSON of the shape this route takes."""


class API:
    """Routes of one business process for all MSPs hosted in it."""

    def __init__(
        self,
        ports: Ports,
        access: Access,
        *,
        enrolment: Enrolment,
        driving: Driving,
        checking: CDRChecking,
        erasing: Erasing,
        receipts: Receipts,
    ) -> None:
        self._ports = ports
        self._access = access
        self._enrolment = enrolment
        self._driving = driving
        self._checking = checking
        self._erasing = erasing
        self._receipts = receipts

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes and the mapping of errors to HTTP."""
        app.add_exception_handler(EmobilityError, error_answer)
        app.add_api_route("/{party}", self.put_msp, methods=["PUT"])
        for method, path, handler in self._party_routes():
            app.add_api_route(f"/{{party}}{path}", self._guarded(handler), methods=[method])

    def _party_routes(self) -> list[tuple[str, str, Callable[[Request, PartyId], Awaitable[Response]]]]:
        driver = "/drivers/{driver_id}"
        cdr = "/cdrs/{cpo_id}/{cdr_id:path}"
        return [
            ("GET", "/public-key", self.public_key),
            ("GET", "/ledger", self.ledger),
            ("PUT", "/plans/{plan_id}", self.put_plan),
            ("PUT", "/agreements", self.put_agreement),
            ("PUT", "/meter-keys/{cpo_id}/{evse_uid}", self.put_meter_key),
            ("GET", "/cdrs", self.list_cdrs),
            ("GET", "/disputes", self.list_disputes),
            ("GET", "/cdr-conflicts", self.list_cdr_conflicts),
            ("POST", f"{cdr}/accept", self.accept_cdr),
            ("POST", f"{cdr}/dispute", self.dispute_cdr),
            ("POST", "/drivers", self.add_driver),
            ("PATCH", driver, self.change_driver),
            ("POST", f"{driver}/erase", self.erase_driver),
            ("GET", "/erasures", self.list_erasures),
            ("GET", "/retention", self.show_retention),
            ("PUT", f"{driver}/card", self.put_card),
            ("POST", f"{driver}/tokens", self.put_token),
            ("POST", f"{driver}/quotes", self.make_quote),
            ("POST", f"{driver}/sessions", self.start),
            ("GET", f"{driver}/sessions", self.list_charges),
            ("POST", f"{driver}/sessions/{{session_id}}/stop", self.stop),
            ("GET", f"{driver}/commands/{{command_id}}", self.show_command),
            ("GET", f"{driver}/receipts", self.list_receipts),
            ("GET", f"{driver}/receipts/{{name}}.json", self.receipt_file),
            ("GET", f"{driver}/receipts/{{bill_id}}", self.show_receipt),
            ("GET", f"{driver}/account", self.show_account),
        ]

    def _guarded(
        self, handler: Callable[[Request, PartyId], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            emsp_id = party_of(request.path_params["party"])
            await self._access.party(request, emsp_id)
            return await handler(request, emsp_id)

        return guarded

    # The operator

    async def put_msp(self, request: Request) -> Response:
        """Act for an MSP from now on; only our own processes may."""
        await self._access.internal(request)
        asked = await read_body(request, HostRequest)
        emsp_id = party_of(request.path_params["party"])
        nsp_id = None if asked.nsp_id is None else party_of(asked.nsp_id)
        await self._enrolment.host_msp(emsp_id, name=asked.name, nsp_id=nsp_id)
        return answer({"party_id": emsp_id, "public_key": await self._ports.signer.public_key(emsp_id)}, 201)

    async def public_key(self, _: Request, emsp_id: PartyId) -> Response:
        """Show the key that agreements and quotes are signed with."""
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
        return answer({"party_id": emsp_id, "public_key": await self._ports.signer.public_key(emsp_id)})

    async def ledger(self, _: Request, emsp_id: PartyId) -> Response:
        """Show what was billed and paid, by currency."""
        return answer(shown_ledger(await retail_ledger(self._ports.units, emsp_id)))

    async def put_plan(self, request: Request, emsp_id: PartyId) -> Response:
        """Sell a plan."""
        asked = await read_body(request, PlanRequest)
        plan = _plan(request.path_params["plan_id"], asked)
        await self._enrolment.put_plan(emsp_id, plan, holds_card=asked.holds_card)
        return answer({"plan_id": plan.plan_id})

    async def put_agreement(self, request: Request, emsp_id: PartyId) -> Response:
        """Sign an agreement; the answer carries both signatures as far as they are known."""
        asked = await read_body(request, AgreementRequest)
        record = await self._enrolment.put_agreement(emsp_id, asked.agreement, cpo_public_key=asked.cpo_public_key)
        return answer({"state": record.state, "agreement": record.agreement})

    async def put_meter_key(self, request: Request, emsp_id: PartyId) -> Response:
        """Trust a meter's key."""
        asked = await read_body(request, MeterKeyRequest)
        cpo_id = party_of(request.path_params["cpo_id"])
        await self._enrolment.pin_meter_key(
            emsp_id,
            cpo_id,
            request.path_params["evse_uid"],
            asked.public_key,
            valid_from=asked.valid_from,
            why=asked.why,
        )
        return Response(status_code=204)

    async def list_cdrs(self, request: Request, emsp_id: PartyId) -> Response:
        """List CDRs, newest first; `?state=` narrows."""
        where: dict[str, Any] = {"party_id": emsp_id}
        if "state" in request.query_params:
            where["state"] = _one_of(CDRState, request.query_params["state"])
        async with self._ports.units.begin() as unit:
            rows = await unit.table(CDRS).select(where, order_by=("-received_at",), limit=ROWS_MAX)
        return answer([_shown_cdr(row) for row in rows])

    async def list_cdr_conflicts(self, _: Request, emsp_id: PartyId) -> Response:
        """List copies of CDRs that came with other content than the one that counts."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(CDR_CONFLICT).select(
                {"party_id": emsp_id}, order_by=("-received_at",), limit=ROWS_MAX
            )
            counted = [await unit.table(CDRS).get(emsp_id, row.cpo_id, row.cdr_id) for row in rows]
        return answer(
            [
                ShownConflict(
                    cpo_id=row.cpo_id,
                    cdr_id=row.cdr_id,
                    received_at=row.received_at,
                    currency=row.currency,
                    total_excl_e4=row.total_excl_e4,
                    counted_excl_e4=None if known is None else known.cdr.total_cost.excl_e4,
                )
                for row, known in zip(rows, counted, strict=True)
            ]
        )

    async def list_disputes(self, _: Request, emsp_id: PartyId) -> Response:
        """List quarrels, newest first."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(DISPUTE).select({"party_id": emsp_id}, order_by=("-disputed_at",), limit=ROWS_MAX)
        return answer(rows)

    async def accept_cdr(self, request: Request, emsp_id: PartyId) -> Response:
        """Accept what was disputed or waits."""
        cpo_id, cdr_id = party_of(request.path_params["cpo_id"]), request.path_params["cdr_id"]
        await self._checking.accept_by_operator(emsp_id, cpo_id, cdr_id)
        return answer({"cdr_id": cdr_id, "state": CDRState.ACCEPTED})

    async def dispute_cdr(self, request: Request, emsp_id: PartyId) -> Response:
        """Quarrel with a CDR that waits."""
        asked = await read_body(request, DisputeRequest)
        cpo_id, cdr_id = party_of(request.path_params["cpo_id"]), request.path_params["cdr_id"]
        finding = CDRFinding(fault=asked.reason, detail=asked.detail)
        await self._checking.dispute_by_operator(emsp_id, cpo_id, cdr_id, finding)
        return answer({"cdr_id": cdr_id, "state": CDRState.DISPUTED})

    # Drivers

    async def add_driver(self, request: Request, emsp_id: PartyId) -> Response:
        """Enter a contract; the app token's uid is shown here."""
        asked = await read_body(request, NewDriver)
        driver, token = await self._enrolment.add_driver(emsp_id, asked)
        uid = await self._ports.vault.open(token.uid)
        return answer({"driver_id": driver.driver_id, "app_token_uid": uid}, 201)

    async def change_driver(self, request: Request, emsp_id: PartyId) -> Response:
        """Change plan, limit or block."""
        asked = await read_body(request, DriverChange)
        driver = await self._enrolment.change_driver(
            emsp_id,
            request.path_params["driver_id"],
            plan_id=asked.plan_id,
            credit_limit_e4=asked.credit_limit_e4,
            is_blocked=asked.is_blocked,
        )
        return answer(
            {
                "driver_id": driver.driver_id,
                "plan_id": driver.plan_id,
                "credit_limit_e4": driver.credit_limit_e4,
                "is_blocked": driver.is_blocked,
            }
        )

    async def erase_driver(self, request: Request, emsp_id: PartyId) -> Response:
        """Erase a driver; the answer says what must be kept, why and until when."""
        return answer(_shown_erasure(await self._erasing.erase(emsp_id, request.path_params["driver_id"])))

    async def list_erasures(self, _: Request, emsp_id: PartyId) -> Response:
        """List who was erased and what is still kept until when, newest first."""
        return answer([_shown_erasure(each) for each in await self._erasing.erasures(emsp_id)])

    async def show_retention(self, request: Request, emsp_id: PartyId) -> Response:
        """Say what is kept for whom, why and until when: `?offset=` and `?limit=`, or of one, `?driver=`."""
        if "driver" in request.query_params:
            return answer(await self._erasing.retention_of(emsp_id, request.query_params["driver"]))
        offset = _number(request, "offset", otherwise=0)
        limit = min(_number(request, "limit", otherwise=DRIVERS_COUNTED_MAX), DRIVERS_COUNTED_MAX)
        return answer(await self._erasing.retention(emsp_id, offset=offset, limit=limit))

    async def put_card(self, request: Request, emsp_id: PartyId) -> Response:
        """Take a new card; what failed is asked of it."""
        asked = await read_body(request, CardRequest)
        again = await self._enrolment.put_card(emsp_id, request.path_params["driver_id"], asked.number)
        return answer({"payments_tried_again": again})

    async def put_token(self, request: Request, emsp_id: PartyId) -> Response:
        """Issue or change a token."""
        asked = await read_body(request, TokenRequest)
        new = NewToken(uid=asked.uid, token_type=asked.token_type, whitelist=asked.whitelist, is_valid=asked.is_valid)
        token = await self._enrolment.put_token(emsp_id, request.path_params["driver_id"], new)
        return answer({"token_subject": token.token_subject, "is_valid": token.is_valid}, 201)

    async def make_quote(self, request: Request, emsp_id: PartyId) -> Response:
        """Quote a charge."""
        asked = await read_body(request, QuoteRequest)
        if asked.energy_wh <= 0 or (asked.connection_s is not None and asked.connection_s <= 0):
            raise NotUnderstood("energy_wh and connection_s are above zero")
        record = await self._driving.quote(
            emsp_id,
            request.path_params["driver_id"],
            cpo_id=party_of(asked.cpo_id),
            location_id=asked.location_id,
            evse_uid=asked.evse_uid,
            connector_id=asked.connector_id,
            wish=Wish(energy_wh=asked.energy_wh, connection_s=asked.connection_s),
        )
        return answer(shown_quote(record), 201)

    async def start(self, request: Request, emsp_id: PartyId) -> Response:
        """Accept a quote and start; the result comes later, at the command."""
        asked = await read_body(request, StartRequest)
        command = await self._driving.start(
            emsp_id,
            request.path_params["driver_id"],
            asked.quote_id,
            correlation_id=self._correlation_id(request),
        )
        return answer(shown_command(command), 202)

    async def stop(self, request: Request, emsp_id: PartyId) -> Response:
        """Stop a running session."""
        command = await self._driving.stop(
            emsp_id,
            request.path_params["driver_id"],
            request.path_params["session_id"],
            correlation_id=self._correlation_id(request),
        )
        return answer(shown_command(command), 202)

    async def show_command(self, request: Request, emsp_id: PartyId) -> Response:
        """Show how a command stands."""
        command = await self._driving.command(
            emsp_id, request.path_params["driver_id"], request.path_params["command_id"]
        )
        return answer(shown_command(command))

    async def list_charges(self, request: Request, emsp_id: PartyId) -> Response:
        """List a driver's charges with their running costs."""
        charges = await self._driving.charges(emsp_id, request.path_params["driver_id"])
        return answer([shown_charge(charge) for charge in charges])

    async def list_receipts(self, request: Request, emsp_id: PartyId) -> Response:
        """List a driver's bills."""
        bills = await self._driving.bills(emsp_id, request.path_params["driver_id"])
        return answer([shown_bill(bill) for bill in bills])

    async def show_receipt(self, request: Request, emsp_id: PartyId) -> Response:
        """Show a receipt, as JSON or, when the caller asks for text/html, as a page."""
        bill, quote = await self._driving.bill(
            emsp_id, request.path_params["driver_id"], request.path_params["bill_id"]
        )
        async with self._ports.units.begin() as unit:
            seller = await require_hosted(unit, emsp_id)
        receipt = shown_receipt(bill, quote, seller=seller)
        if "text/html" in request.headers.get("accept", ""):
            return receipt_page(receipt)
        return answer(receipt)

    async def receipt_file(self, request: Request, emsp_id: PartyId) -> Response:
        """Hand out the receipt of a settled charge, or of what took it back, as `wattroam verify` takes it."""
        name = request.path_params["name"]
        bill_id = name.removesuffix(CREDIT_SUFFIX)
        bill, _ = await self._driving.bill(emsp_id, request.path_params["driver_id"], bill_id)
        return file_answer(await self._receipts.file(bill, is_credit=bill_id != name))

    async def show_account(self, request: Request, emsp_id: PartyId) -> Response:
        """Show a driver's accounts: billed = paid + outstanding."""
        driver = await self._driving.driver(emsp_id, request.path_params["driver_id"])
        async with self._ports.units.begin() as unit:
            statements = await statements_of(unit, emsp_id, driver.driver_id)
        return answer([shown_statement(statement) for statement in statements])

    def _correlation_id(self, request: Request) -> str:
        return message_id(request.headers.get(CORRELATION_ID)) or self._ports.randomness.uuid()


async def read_body(request: Request, kind: type[T]) -> T:
    """Read a JSON body. Raises `NotUnderstood`."""
    body = await request.body()
    if len(body) > BODY_BYTES_MAX:
        raise NotUnderstood(f"more than {BODY_BYTES_MAX} bytes")
    try:
        return codec.decode(body, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotUnderstood(str(error)) from error


def answer(value: Any, status_code: int = 200) -> Response:
    """Write a value as JSON."""
    return Response(codec.encode(value), status_code=status_code, media_type="application/json")


async def error_answer(_: Request, error: Exception) -> Response:
    """Map an error to HTTP; a name for machines, a sentence for people."""
    return answer({"error": type(error).__name__, "detail": str(error)}, status_of(error))


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error of ours."""
    if isinstance(error, _NOT_FOUND):
        return 404
    if isinstance(error, _PAYMENT_REQUIRED):
        return 402
    if isinstance(error, MalformedInput):
        return 422
    if isinstance(error, PeerRefused):
        return 502
    if isinstance(error, Unavailable):
        return 503
    return 409


def party_of(text: str) -> PartyId:
    """Return the party a path names; one that is none does not exist."""
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise HTTPException(status_code=404, detail="no such party") from error


def _one_of(kind: type[CDRState], text: str) -> CDRState:
    try:
        return kind(text)
    except ValueError as error:
        raise NotUnderstood(f"{text!r} is none of {', '.join(kind)}") from error


def _number(request: Request, name: str, *, otherwise: int) -> int:
    """Return a whole number of the query. Raises `NotUnderstood`."""
    text = request.query_params.get(name, str(otherwise))
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise NotUnderstood(f"{name} is a whole number of at most {NUMBER_DIGITS_MAX} digits")
    return int(text)


def _plan(plan_id: str, asked: PlanRequest) -> RetailPlan:
    return RetailPlan(
        plan_id=plan_id,
        currency=asked.currency,
        kind=asked.kind,
        session_fee=asked.session_fee,
        markup_percent=asked.markup_percent,
        price_per_kwh=asked.price_per_kwh,
    )


def _shown_erasure(record: ErasureRecord) -> dict[str, Any]:
    return {
        "driver_id": record.driver_id,
        "state": record.state,
        "duties": record.duties,
        "restricted_until": record.restricted_until,
        "asked_at": record.asked_at,
        "keys_shared_with_other_contracts": record.shared,
        "kept": record.kept,
    }


def _shown_cdr(row: CDRRecord) -> dict[str, Any]:
    return {
        "cpo_id": row.cpo_id,
        "cdr_id": row.cdr_id,
        "session_id": row.session_id,
        "state": row.state,
        "is_deemed": row.is_deemed,
        "is_credit": row.cdr.is_credit,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "received_at": row.received_at,
        "decide_by": row.decide_by,
        "energy_wh": row.cdr.signed_energy_import_wh,
        "currency": row.cdr.currency,
        "total_excl": str(decimal_from_e4(row.cdr.total_cost.excl_e4)),
        "findings": row.findings,
        "clause": row.clause,
        "credited_by": row.credited_by,
        "quote_id": row.quote_id,
    }
