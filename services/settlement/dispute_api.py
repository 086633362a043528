"""The HTTP API of disputes: a party contests a CDR of a final statement, and sees how its cases stand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.batch.disputes import DisputeKind
from emobility.domain.batch.leaf import Leaf, LeafKind
from emobility.domain.batch.meter import meter_commitment
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.runtime.access import Access
from services.settlement.access import ChainAccess
from services.settlement.answering import Answering
from services.settlement.api import NoChain, NotUnderstood, answer, hash_of, hex_bytes, of_party, party_of, read_body
from services.settlement.dispute_records import AnswerPolicy, DisputePolicy, DisputeRecord
from services.settlement.disputing import Contest, Disputing, GivenWord
from services.settlement.given_leaves import ContestingGiven, GivenLeaf


class WordRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A party's signature, where its key is not here; hex."""

    deadline: datetime | None = None
    signature: str | None = None

    @property
    def word(self) -> GivenWord | None:
        """The word, if it is there. Raises `NotUnderstood`."""
        if (self.deadline is None) != (self.signature is None):
            raise NotUnderstood("a signature needs its deadline, and a deadline its signature")
        if self.deadline is None or self.signature is None:
            return None
        if self.deadline.tzinfo is None:
            raise NotUnderstood("a deadline names its time zone")
        return GivenWord(deadline=self.deadline, signature=hex_bytes(self.signature))


class LeafRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole evidence leaf that a partner stated; bytes as hex, energy in Wh."""

    kind: Literal["CHARGE", "CREDIT"]
    cdr_key: str
    import_wh: int
    export_wh: int
    commitment: str
    meter: str


class GivenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf that these books lack (`given_leaves.GivenLeaf`); bytes as hex.

    `leaf`: its hash or, under DUPLICATE, all of it.
    """

    opening: str
    leaf: str | LeafRequest
    due_e4: int
    credit_e4: int
    index: int
    siblings: str

    def given(self, evidence_hash: bytes) -> GivenLeaf:
        """The leaf under its hash. Raises `NotUnderstood`."""
        return GivenLeaf(
            opening=hex_bytes(self.opening),
            evidence_hash=evidence_hash,
            due_e4=self.due_e4,
            credit_e4=self.credit_e4,
            index=self.index,
            siblings=hex_bytes(self.siblings),
        )

    def whole(self, leaf: LeafRequest) -> Leaf:
        """The leaf itself. Raises `MalformedInput`."""
        return Leaf(
            kind=LeafKind[leaf.kind],
            cdr_key=hex_bytes(leaf.cdr_key),
            import_wh=leaf.import_wh,
            export_wh=leaf.export_wh,
            commitment=hex_bytes(leaf.commitment),
            meter=hex_bytes(leaf.meter),
            due_e4=self.due_e4,
            credit_e4=self.credit_e4,
        )


class DisputeRequest(WordRequest, frozen=True, kw_only=True):
    """POST /{party}/disputes; `claimed_e4`: under PRICE what the CDR should cost, in ten-thousandths.

    `given`: under WITHHELD and DUPLICATE the leaf that is contested; what `statement` and `cdr` name stands before the
    duplicate.
    """

    kind: DisputeKind
    statement: str | None = None
    cdr: str | None = None
    claimed_e4: int | None = None
    given: GivenRequest | None = None


class PolicyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/dispute-policy: whether we show leaves, and defend amounts, without asking."""

    reveals: AnswerPolicy = AnswerPolicy.AUTOMATIC
    defends: AnswerPolicy = AnswerPolicy.MANUAL


class DisputeAPI:
    """Routes for all parties that settle here."""

    def __init__(self, access: Access, ports: Ports, chain: ChainAccess | None) -> None:
        self._access = access
        self._parts = None if chain is None else (Disputing(ports, chain), Answering(ports, chain))
        self._given = None if chain is None else ContestingGiven(ports, chain, Disputing(ports, chain))

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("POST", "/{party}/disputes", self.contest),
            ("GET", "/{party}/disputes", self.list_disputes),
            ("POST", "/{party}/disputes/{case}/defence", self.defend),
            ("POST", "/{party}/disputes/{case}/leaf", self.show_leaf),
            ("GET", "/{party}/dispute-policy", self.show_policy),
            ("PUT", "/{party}/dispute-policy", self.choose_policy),
            ("GET", "/{party}/meter-records/{cpo_id}/{cdr_id:path}", self.show_meter),
        ):
            app.add_api_route(path, self._guarded(handler), methods=[method])

    def _guarded(
        self, handler: Callable[[Disputing, Answering, Request, PartyId], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def with_parts(request: Request, party_id: PartyId) -> Response:
            if self._parts is None:
                raise NoChain
            return await handler(*self._parts, request, party_id)

        return of_party(self._access, with_parts)

    async def contest(self, disputing: Disputing, _: Answering, request: Request, party_id: PartyId) -> Response:
        """Contest a CDR."""
        asked = await read_body(request, DisputeRequest)
        if (asked.kind is DisputeKind.PRICE) != (asked.claimed_e4 is not None):
            raise NotUnderstood("a price that is contested names the one that is claimed, and nothing else does")
        if asked.given is not None:
            return answer(shown_dispute(await self._contest_given(party_id, asked, asked.given)), status=202)
        if asked.statement is None or asked.cdr is None:
            raise NotUnderstood("what is contested is a `cdr` of a `statement` here, or `given`")
        contest = Contest(
            statement_hash=hex_bytes(asked.statement),
            cdr_id=asked.cdr,
            kind=asked.kind,
            claimed_e4=asked.claimed_e4,
            word=asked.word,
        )
        return answer(shown_dispute(await disputing.contest(party_id, contest)), status=202)

    async def _contest_given(self, party_id: PartyId, asked: DisputeRequest, given: GivenRequest) -> DisputeRecord:
        assert self._given is not None, "who contests has a chain"
        if asked.kind is DisputeKind.WITHHELD and isinstance(given.leaf, str):
            return await self._given.demand(party_id, given.given(hex_bytes(given.leaf)), asked.word)
        is_whole = isinstance(given.leaf, LeafRequest) and asked.statement is not None and asked.cdr is not None
        if asked.kind is not DisputeKind.DUPLICATE or not is_whole:
            raise NotUnderstood("WITHHELD gives a leaf's hash; DUPLICATE all of it, with what stands before it here")
        assert isinstance(given.leaf, LeafRequest)
        assert asked.statement is not None
        assert asked.cdr is not None
        leaf = given.whole(given.leaf)
        return await self._given.duplicate(
            party_id,
            given.given(leaf.evidence_hash),
            leaf,
            statement_hash=hex_bytes(asked.statement),
            cdr_id=asked.cdr,
        )

    async def list_disputes(self, disputing: Disputing, _: Answering, __: Request, party_id: PartyId) -> Response:
        """List the disputes of a party's pairs, the newest first."""
        return answer([shown_dispute(row) for row in await disputing.of_party(party_id)])

    async def defend(self, disputing: Disputing, _: Answering, request: Request, party_id: PartyId) -> Response:
        """Stand by an amount that the other party contests."""
        asked = await read_body(request, WordRequest)
        await disputing.defend(party_id, hash_of(request, "case"), asked.word)
        return Response(status_code=202)

    async def show_leaf(self, _: Disputing, answering: Answering, request: Request, party_id: PartyId) -> Response:
        """Show the leaf that the other party demands."""
        await answering.show(party_id, hash_of(request, "case"))
        return Response(status_code=202)

    async def show_policy(self, _: Disputing, answering: Answering, __: Request, party_id: PartyId) -> Response:
        """Say what is answered for a party without asking it."""
        return answer(_shown_policy(await answering.policy(party_id)))

    async def choose_policy(self, _: Disputing, answering: Answering, request: Request, party_id: PartyId) -> Response:
        """Choose that."""
        asked = await read_body(request, PolicyRequest)
        policy = DisputePolicy(party_id=party_id, reveals=asked.reveals, defends=asked.defends)
        return answer(_shown_policy(await answering.choose(policy)))

    async def show_meter(self, disputing: Disputing, _: Answering, request: Request, party_id: PartyId) -> Response:
        """Show what opens a CDR's `meter`, so that a party can check the commitment before it signs a statement."""
        cpo_id = party_of(request.path_params["cpo_id"])
        opened = await disputing.meter_opening(party_id, cpo_id, request.path_params["cdr_id"])
        commitment = meter_commitment(opened.record, salt=opened.salt).hex()
        shown = {"meter": commitment, "salt": opened.salt.hex(), "record": opened.record.packed.hex()}
        return answer(shown | {"texts": list(opened.texts)})


def _shown_policy(policy: DisputePolicy) -> dict[str, str]:
    return {"reveals": policy.reveals.value, "defends": policy.defends.value}


def shown_dispute(row: DisputeRecord) -> dict[str, Any]:
    """Return a dispute as its parties see it; amounts in ten-thousandths."""
    return {
        "case": row.case_id.hex(),
        "kind": row.kind.value,
        "raised_by": None if row.party_id is None else row.party_id.code,
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "cdr": row.cdr_id,
        "statement": None if row.statement_hash is None else row.statement_hash.hex(),
        "currency": row.currency,
        "stated_e4": row.stated_e4,
        "claimed_e4": row.claimed_e4,
        "state": row.state.value,
        "says": row.says,
        "deadline": row.deadline,
        "turn_of": None if row.turn_of is None else row.turn_of.code,
        "bond_e4": row.bond_e4,
        "corrected_e4": row.corrected_e4,
        "waits_for": row.waiting,
        "resolver": row.resolver.hex(),
        "raised_at": row.raised_at,
        "decided_at": row.decided_at,
    }
