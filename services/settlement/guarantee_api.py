"""Guarantees over HTTP: what may be taken and since when, what was, and the CPO's word that takes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from msgspec import Struct

from emobility.domain.batch import contracts
from emobility.domain.identifiers import PartyId
from emobility.runtime.access import Access
from services.settlement.api import NoChain, NotUnderstood, answer, of_party, read_body
from services.settlement.guarantee_records import GRACE_D, GRACE_D_MAX, CallPolicy, GuaranteeCall, GuaranteePolicy
from services.settlement.guarantees import Guarantees, GuaranteeStanding
from services.settlement.records import TransactionRecord


class PolicyRequest(Struct, frozen=True, kw_only=True):
    """PUT /{party}/guarantee-policy, by the CPO: who calls, and how many days after the due date."""

    calls: CallPolicy = CallPolicy.BY_OPERATOR
    grace_d: int = GRACE_D


class GuaranteeAPI:
    """Routes for all parties that settle here."""

    def __init__(self, access: Access, guarantees: Guarantees | None) -> None:
        self._access = access
        self._guarantees = guarantees

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/{party}/guarantees", self.list_guarantees),
            ("POST", "/{party}/guarantees/{agreement:path}/call", self.call),
            ("GET", "/{party}/guarantee-policy", self.show_policy),
            ("PUT", "/{party}/guarantee-policy", self.choose_policy),
        ):
            app.add_api_route(path, self._guarded(handler), methods=[method])

    def _guarded(
        self, handler: Callable[[Guarantees, Request, PartyId], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def with_guarantees(request: Request, party_id: PartyId) -> Response:
            if self._guarantees is None:
                raise NoChain
            return await handler(self._guarantees, request, party_id)

        return of_party(self._access, with_guarantees)

    async def list_guarantees(self, guarantees: Guarantees, _: Request, party_id: PartyId) -> Response:
        """List the guarantees of the party's agreements, on either side."""
        return answer([_shown(each) for each in await guarantees.of_party(party_id)])

    async def call(self, guarantees: Guarantees, request: Request, party_id: PartyId) -> Response:
        """Take what is overdue."""
        version, queued = await guarantees.call(party_id, request.path_params["agreement"])
        return answer({"version": version, **_shown_call(queued)}, status=202)

    async def show_policy(self, guarantees: Guarantees, _: Request, party_id: PartyId) -> Response:
        """Say when the party takes what is overdue."""
        return answer(_shown_policy(await guarantees.policy(party_id)))

    async def choose_policy(self, guarantees: Guarantees, request: Request, party_id: PartyId) -> Response:
        """Choose that."""
        asked = await read_body(request, PolicyRequest)
        if not 0 <= asked.grace_d <= GRACE_D_MAX:
            raise NotUnderstood(f"the grace is 0 to {GRACE_D_MAX} days")
        policy = GuaranteePolicy(party_id=party_id, calls=asked.calls, grace_d=asked.grace_d)
        return answer(_shown_policy(await guarantees.choose(policy)))


def _shown_policy(policy: GuaranteePolicy) -> dict[str, Any]:
    return {"calls": policy.calls, "grace_d": policy.grace_d}


def _shown(standing: GuaranteeStanding) -> dict[str, Any]:
    row, overdue = standing.row, standing.overdue
    return {
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "agreement": row.agreement_id,
        "version": row.version,
        "currency": row.currency,
        "limit_e4": row.limit_e4,
        "taken_e4": row.taken_e4,
        "calls": standing.policy.calls,
        "callable_from": standing.callable_from,
        "overdue_e4": 0 if overdue is None else min(overdue.amount_e4, row.limit_e4),
        "overdue_since": None if overdue is None else overdue.due_on,
        "on_its_way": None if standing.on_its_way is None else _shown_call(standing.on_its_way),
        "waits_for": None if overdue is None else row.waiting,
        "taken": [_shown_taken(each) for each in standing.calls],
    }


def _shown_call(row: TransactionRecord) -> dict[str, Any]:
    _, sequence, amount_e4 = contracts.CALL_GUARANTEE.arguments(row.calldata)
    return {"through": sequence, "amount_e4": amount_e4, "state": row.state, "waits_for": row.waiting}


def _shown_taken(call: GuaranteeCall) -> dict[str, Any]:
    return {
        "amount_e4": call.amount_e4,
        "called_at": call.called_at,
        "transaction": f"0x{call.transaction.hex()}",
    }
