"""The HTTP API of what verdicts took out: which CDRs wait, and their CPO's word that states them again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.runtime.access import Access
from services.settlement.api import ROWS_MAX, answer, hash_of, of_party, read_body
from services.settlement.documents import shown_statement
from services.settlement.records import LEAF, LeafRecord
from services.settlement.restating import Restating
from services.settlement.restating_records import ELSEWHERE, HELD, VOIDED, HeldCDR, VoidedStatement

SIDES: Final = ("cpo_id", "emsp_id")


class RestateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/statements/{statement}/restatement: CDRs that are left out."""

    without: list[str]


class RestatingAPI:
    """Routes for both parties of a pair; words are its CPO's."""

    def __init__(self, access: Access, ports: Ports, restating: Restating) -> None:
        self._access = access
        self._ports = ports
        self._restating = restating

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/{party}/voided-statements", self.list_statements),
            ("POST", "/{party}/statements/{statement}/restatement", self.restate),
            ("GET", "/{party}/held-cdrs", self.list_cdrs),
            ("POST", "/{party}/held-cdrs/{cdr_id:path}/restatement", self.release),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    async def list_statements(self, _: Request, party_id: PartyId) -> Response:
        """List the statements of a party that verdicts took out and whose CDRs were stated again, newest first."""
        async with self._ports.units.begin() as unit:
            rows = [
                row
                for side in SIDES
                for row in await unit.table(VOIDED).select({side: party_id}, order_by=("-restated_at",), limit=ROWS_MAX)
            ]
        rows.sort(key=lambda row: (row.restated_at, row.statement_hash), reverse=True)
        return answer([shown_voided(row) for row in rows[:ROWS_MAX]])

    async def restate(self, request: Request, party_id: PartyId) -> Response:
        """State a statement again without some CDRs; without none, its CDRs go into the next."""
        asked = await read_body(request, RestateRequest)
        return answer(shown_voided(await self._restating.restate(party_id, hash_of(request), asked.without)))

    async def list_cdrs(self, _: Request, party_id: PartyId) -> Response:
        """List the CDRs of a party that verdicts took out and no statement takes, newest first."""
        async with self._ports.units.begin() as unit:
            rows = [
                row
                for side in SIDES
                for row in await unit.table(HELD).select({side: party_id}, order_by=("-held_at",), limit=ROWS_MAX)
            ]
            rows.sort(key=lambda row: (row.held_at, row.cdr_id), reverse=True)
            shown = await _shown_held(unit, rows[:ROWS_MAX])
        return answer(shown)

    async def release(self, request: Request, party_id: PartyId) -> Response:
        """Let a CDR go into the pair's next statement."""
        await self._restating.release(party_id, request.path_params["cdr_id"])
        return Response(status_code=204)


def shown_voided(row: VoidedStatement) -> dict[str, Any]:
    """Return a statement that was taken out as its parties see it."""
    return shown_statement(row.statement, None) | {
        "batch_id": row.batch_id.hex(),
        "kind": None if row.kind is None else row.kind.value,
        "case": None if row.case_id is None else row.case_id.hex(),
        "restated_as": None if row.restated_as is None else row.restated_as.hex(),
        "restated_at": row.restated_at,
    }


async def _shown_held(unit: UnitOfWork, rows: Sequence[HeldCDR]) -> list[dict[str, Any]]:
    ids: dict[PartyId, list[str]] = defaultdict(list)
    for row in rows:
        ids[row.cpo_id].append(row.cdr_id)
    leaves: dict[tuple[PartyId, str], LeafRecord] = {}
    credited_by: dict[tuple[PartyId, str | None], str] = {}
    for cpo_id, of_cpo in ids.items():
        for leaf in await unit.table(LEAF).select({"cpo_id": cpo_id, "cdr_id": tuple(of_cpo)}):
            leaves[cpo_id, leaf.cdr_id] = leaf
        for leaf in await unit.table(LEAF).select({"cpo_id": cpo_id, "credit_reference_id": tuple(of_cpo)}):
            credited_by[cpo_id, leaf.credit_reference_id] = leaf.cdr_id
    return [
        {
            "cdr": row.cdr_id,
            "cpo": row.cpo_id.code,
            "emsp": row.emsp_id.code,
            "agreement": row.agreement_id,
            "statement": row.statement_hash.hex(),
            "kind": None if row.kind is None else row.kind.value,
            "due_e4": leaves[row.cpo_id, row.cdr_id].due_e4,
            "credit_e4": leaves[row.cpo_id, row.cdr_id].credit_e4,
            "currency": leaves[row.cpo_id, row.cdr_id].currency,
            "credited_by": credited_by.get((row.cpo_id, row.cdr_id)),
            "waits_for": _waits_for(row, credited_by.get((row.cpo_id, row.cdr_id))),
            "held_at": row.held_at,
        }
        for row in rows
    ]


def _waits_for(row: HeldCDR, credited_by: str | None) -> str | None:
    """Say what a CDR waits for; None: for nothing, no statement takes it any more."""
    return None if row.kind in ELSEWHERE or credited_by else f"a credit, or the word of {row.cpo_id}"
