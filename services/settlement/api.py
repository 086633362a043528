"""The HTTP API of the settlement: statements for their two parties, signatures from outside, an operator's word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from emobility.domain.errors import EmobilityError, MalformedInput, RuleBroken, Unavailable
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.events import codec
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import Access
from services.settlement.acceptances import (
    Acceptances,
    GivenAcceptance,
    UnknownStatement,
    statement_of_party,
)
from services.settlement.closing import Closing, leaves_of
from services.settlement.documents import shown_statement, statement_csv, statement_document
from services.settlement.proving import Proving, UnknownCDR
from services.settlement.records import AGREEMENT, BATCH, STATEMENT, BatchRecord, StatementRecord

T = TypeVar("T")

BODY_BYTES_MAX: Final = 65_536
ROWS_MAX: Final = 1_000
HASH_DIGITS: Final = 64


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /internal/close: of one agreement, or of all when none is named."""

    cpo_id: str | None = None
    agreement_id: str | None = None


class AcceptanceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/statements/{statement}/acceptance; bytes as hex."""

    chain_id: int
    book: str
    batch_id: str
    signature: str


class NotUnderstood(MalformedInput):
    """The body is no JSON of the shape this route takes."""


class NoChain(Unavailable):
    """This process is connected to no chain."""

    def __init__(self) -> None:
        super().__init__("no chain is configured here")


class NotHere(RuleBroken):
    """The party has no such thing; what another party has is not said."""


class Backlog(Protocol):
    """Knows how much is under way."""

    async def backlog(self) -> int:
        """Return how many things move by themselves."""


class API:
    """Routes for all parties that settle here."""

    def __init__(
        self, ports: Ports, access: Access, *, closing: Closing, acceptances: Acceptances | None, backlog: Backlog
    ) -> None:
        self._ports = ports
        self._access = access
        self._closing = closing
        self._acceptances = acceptances
        self._backlog = backlog
        self._proving = Proving(ports)

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes and the mapping of errors to HTTP."""
        app.add_exception_handler(EmobilityError, _error_answer)
        app.add_api_route("/internal/backlog", self.show_backlog, methods=["GET"])
        app.add_api_route("/internal/close", self.close, methods=["POST"])
        statement = "/{party}/statements/{statement}"
        for method, path, handler in (
            ("GET", "/{party}/statements", self.list_statements),
            ("GET", f"{statement}.csv", self.show_csv),
            ("GET", statement, self.show),
            ("POST", f"{statement}/acceptance", self.accept),
            ("GET", "/{party}/cdrs/{cpo_id}/{cdr_id:path}", self.show_cdr),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    async def show_backlog(self, request: Request) -> Response:
        """Say how much is under way."""
        await self._access.internal(request)
        return answer({"pending": await self._backlog.backlog()})

    async def close(self, request: Request) -> Response:
        """Close what was accepted so far, without waiting for the period's end."""
        await self._access.internal(request)
        asked = await read_body(request, CloseRequest)
        if (asked.cpo_id is None) != (asked.agreement_id is None):
            raise NotUnderstood("name both CPO and agreement, or neither")
        pair = None
        if asked.cpo_id is not None and asked.agreement_id is not None:
            pair = (party_of(asked.cpo_id), asked.agreement_id)
        return answer({"closed": await self._closing.close_now(pair)})

    # Parties

    async def list_statements(self, _: Request, party_id: PartyId) -> Response:
        """List a party's statements, newest first."""
        async with self._ports.units.begin() as unit:
            table = unit.table(STATEMENT)
            rows = [
                row
                for side in ("cpo_id", "emsp_id")
                for row in await table.select({side: party_id}, order_by=("-closed_at",), limit=ROWS_MAX)
            ]
            rows.sort(key=lambda row: (row.closed_at, row.statement_hash), reverse=True)
            shown = [shown_statement(row, await _batch_of(unit, row)) for row in rows[:ROWS_MAX]]
        return answer(shown)

    async def show(self, request: Request, party_id: PartyId) -> Response:
        """Show a statement CDR by CDR, with all that is needed to compute its roots again."""
        async with self._ports.units.begin() as unit:
            record = await statement_of_party(unit, party_id, hash_of(request))
            pair = await unit.table(AGREEMENT).get(record.cpo_id, record.agreement_id)
            assert pair is not None
            leaves, batch = await leaves_of(unit, record), await _batch_of(unit, record)
        secret = await self._ports.vault.open(pair.pair_secret)
        return await asyncio.to_thread(lambda: answer(statement_document(record, batch, leaves, pair_secret=secret)))

    async def show_csv(self, request: Request, party_id: PartyId) -> Response:
        """Show a statement's CDRs as a table."""
        async with self._ports.units.begin() as unit:
            record = await statement_of_party(unit, party_id, hash_of(request))
            leaves = await leaves_of(unit, record)
        table = await asyncio.to_thread(statement_csv, record, leaves)  # of 100,000 CDRs it takes seconds
        return Response(table, media_type="text/csv", headers={"Cache-Control": "no-store"})

    async def show_cdr(self, request: Request, party_id: PartyId) -> Response:
        """Say where a CDR stands and, once it is final, prove that: what the driver's receipt is made with."""
        cpo_id = party_of(request.path_params["cpo_id"])
        return answer(await self._proving.standing(party_id, cpo_id, request.path_params["cdr_id"]))

    async def accept(self, request: Request, party_id: PartyId) -> Response:
        """Take a party's own signature."""
        if self._acceptances is None:
            raise NoChain
        asked = await read_body(request, AcceptanceRequest)
        given = GivenAcceptance(
            chain_id=asked.chain_id,
            book=hex_bytes(asked.book),
            batch_id=hex_bytes(asked.batch_id),
            signature=hex_bytes(asked.signature),
        )
        await self._acceptances.take(party_id, hash_of(request), given)
        return Response(status_code=204)


async def _batch_of(unit: UnitOfWork, record: StatementRecord) -> BatchRecord | None:
    return None if record.batch_id is None else await unit.table(BATCH).get(record.batch_id)


def hash_of(request: Request, name: str = "statement") -> bytes:
    """Return the hash that a path names. Raises `UnknownStatement`."""
    text = request.path_params[name]
    try:
        named = bytes.fromhex(text)
    except ValueError:
        named = b""
    if len(text) != HASH_DIGITS or not named:
        raise UnknownStatement(f"{text[:HASH_DIGITS]!r} names no {name}")
    return named


def hex_bytes(text: str) -> bytes:
    """Read hexadecimal digits. Raises `NotUnderstood`."""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise NotUnderstood(f"{text[:HASH_DIGITS]!r} is not hexadecimal") from error


def of_party(
    access: Access, handler: Callable[[Request, PartyId], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return a route below `{party}` that answers that party itself, or our own processes, and nobody else."""

    async def guarded(request: Request) -> Response:
        party_id = party_of(request.path_params["party"])
        await access.party(request, party_id)
        return await handler(request, party_id)

    return guarded


def party_of(text: str) -> PartyId:
    """Return the party a path names; one that is none does not exist."""
    try:
        return PartyId(text)
    except MalformedPartyId as error:
        raise HTTPException(status_code=404, detail="no such party") from error


async def read_body(request: Request, kind: type[T], *, bytes_max: int = BODY_BYTES_MAX) -> T:
    """Read a JSON body. Raises `NotUnderstood`."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            raise NotUnderstood(f"a body has at most {bytes_max} bytes")
    try:
        return codec.decode(body or b"{}", kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotUnderstood(str(error)) from error


def answer(value: Any, status: int = 200) -> Response:
    """Write a value as JSON that nobody keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(codec.encode(value), status_code=status, media_type="application/json", headers=headers)


async def _error_answer(_: Request, error: Exception) -> Response:
    body = {"error": type(error).__name__, "detail": str(error)}
    if isinstance(error, UnknownStatement | UnknownCDR | NotHere):
        return answer(body, 404)
    if isinstance(error, MalformedInput):
        return answer(body, 422)
    return answer(body, 503 if isinstance(error, Unavailable) else 409)
