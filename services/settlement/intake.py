"""The consumer that takes accepted CDRs in: one leaf per (CPO, CDR id), whatever is repeated and in whatever order.

Group `settlement` on topic `cdrs`. The leaf's row decides whether anything is left to do, so an event that comes twice
changes nothing; one that says something else of a CDR that is booked already is refused, and parks its agreement until
somebody looks. What an MSP accepted without terms that we know is booked too; it waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from emobility.domain.agreement import RoamingAgreement, SettlementMode, document_hash
from emobility.domain.batch.hashing import HASH_BYTES
from emobility.domain.batch.leaf import NO_METER, PAIR_SECRET_BYTES, LeafKind, leaf_of
from emobility.domain.errors import RuleBroken
from emobility.domain.exposure import limit_e4_of
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import CDRS as CDR_TOPIC
from emobility.events.cdr import AgreementEvent, AgreementSigned, CDRAccepted, CDRAcceptedFigures
from emobility.events.event import LoggedEvent, Views
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from services.settlement.meter_records import keep_meter_records
from services.settlement.metrics import SettlementMetrics
from services.settlement.records import (
    AGREEMENT,
    LEAF,
    OPENING,
    PARTY,
    LeafRecord,
    Opening,
    PairAgreement,
    SettledParty,
    SigningPolicy,
)

GROUP: Final = "settlement"
Accepted = CDRAccepted | CDRAcceptedFigures
VIEWS: Final[Views] = {CDRAccepted: CDRAcceptedFigures}
"""Of a CDR only what settles is read: its tariff and periods are most of it."""
PairKey = tuple[PartyId, str]
"""CPO and agreement."""


class LeafChanged(RuleBroken):
    """What was accepted of a CDR never changes; only a credit CDR corrects it."""

    def __init__(self, *, cpo_id: PartyId, cdr_id: str) -> None:
        self.cpo_id = cpo_id
        self.cdr_id = cdr_id
        super().__init__(f"CDR {cdr_id} of {cpo_id} was accepted before with other numbers")


class Intake:
    """Turns events into leaves and terms."""

    def __init__(self, ports: Ports, metrics: SettlementMetrics) -> None:
        self._ports = ports
        self._metrics = metrics

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        await self._ports.event_log.consume(GROUP, [CDR_TOPIC], self.handle, stop=stop, views=VIEWS)

    async def handle(self, unit: UnitOfWork, batch: Sequence[LoggedEvent]) -> None:
        """Take in what parties signed, then what they accepted."""
        accepted: list[Accepted] = []
        for logged in batch:
            event = logged.envelope.event
            if isinstance(event, AgreementSigned):
                await self._take_terms(unit, event)
            elif isinstance(event, CDRAccepted | CDRAcceptedFigures):
                accepted.append(event)
        await self._take_cdrs(unit, accepted)

    # Terms

    async def _take_terms(self, unit: UnitOfWork, event: AgreementSigned) -> None:
        await _meet(unit, event.cpo_id, SigningPolicy.AUTOMATIC if event.holder == event.cpo_id else None)
        await _meet(unit, event.emsp_id, SigningPolicy.AUTOMATIC if event.holder == event.emsp_id else None)
        name = await _name_of(unit, event)
        pair = await self._pair(unit, event.cpo_id, name, event.emsp_id)
        if pair.terms is not None and pair.terms.version >= event.agreement.version:
            return
        await unit.table(AGREEMENT).put(replace(pair, terms=event.agreement))
        await _open_anew_if_changed(unit, name, event.agreement)

    async def _pair(self, unit: UnitOfWork, cpo_id: PartyId, agreement_id: str, emsp_id: PartyId) -> PairAgreement:
        """Return the pair's row, locked; one that is new gets a secret of its own."""
        pair = await unit.table(AGREEMENT).get_for_update(cpo_id, agreement_id)
        if pair is None:
            secret = self._ports.randomness.token_bytes(PAIR_SECRET_BYTES).hex()
            pair = PairAgreement(
                cpo_id=cpo_id,
                agreement_id=agreement_id,
                emsp_id=emsp_id,
                pair_secret=await self._ports.vault.seal(secret, identifier=f"settlement of {cpo_id}/{agreement_id}"),
                terms=None,
            )
            await unit.table(AGREEMENT).put(pair)
        return pair

    # CDRs

    async def _take_cdrs(self, unit: UnitOfWork, events: Sequence[Accepted]) -> None:
        """Book CDRs. Raises `LeafChanged`."""
        pairs: dict[tuple[PartyId, PartyId, str], tuple[str, bytes]] = {}
        leaves: dict[tuple[PartyId, str], LeafRecord] = {}
        repeated: list[Accepted] = []
        for event in events:
            pair = event.cpo_id, event.emsp_id, event.agreement_id
            if pair not in pairs:
                name = await _name_of(unit, event)
                pairs[pair] = name, await self._secret(unit, event, name)
            key = event.cpo_id, event.cdr.cdr_id
            if key in leaves:
                repeated.append(event)
            else:
                leaves[key] = self._leaf(event, *pairs[pair], known=None)
        booked = await unit.table(LEAF).insert_all(list(leaves.values()))
        self._metrics.taken(leaves.values(), but_not=booked)
        known = {(leaf.cpo_id, leaf.cdr_id) for leaf in booked}
        await keep_meter_records(unit, (event for event in events if (event.cpo_id, event.cdr.cdr_id) not in known))
        repeated += [event for event in events if (event.cpo_id, event.cdr.cdr_id) in known]
        for event in repeated:
            leaf = await unit.table(LEAF).get(event.cpo_id, event.cdr.cdr_id)
            if leaf != self._leaf(event, *pairs[event.cpo_id, event.emsp_id, event.agreement_id], known=leaf):
                raise LeafChanged(cpo_id=event.cpo_id, cdr_id=event.cdr.cdr_id)

    async def _secret(self, unit: UnitOfWork, event: Accepted, name: str) -> bytes:
        # Read without a lock, perhaps from memory: of a pair that is there, the secret never changes.
        pair = await unit.table(AGREEMENT).get(event.cpo_id, name)
        if pair is None:
            pair = await self._pair(unit, event.cpo_id, name, event.emsp_id)
        return bytes.fromhex(await self._ports.vault.open(pair.pair_secret))

    def _leaf(self, event: Accepted, name: str, secret: bytes, known: LeafRecord | None) -> LeafRecord:
        """Return the CDR's row; of one that is booked, what stays when nothing changed."""
        # An MSP that commits to nothing gets 32 bytes that nobody can open: its leaf proves no receipt.
        sealed = event.commitment or (
            self._ports.randomness.token_bytes(HASH_BYTES) if known is None else known.commitment
        )
        cdr = event.cdr
        meter = NO_METER if event.meter is None else event.meter.commitment
        leaf = leaf_of(cdr, pair_secret=secret, commitment=sealed, meter=meter)
        return LeafRecord(
            cpo_id=event.cpo_id,
            cdr_id=cdr.cdr_id,
            emsp_id=event.emsp_id,
            agreement_id=name,
            session_id=cdr.session_id,
            currency=cdr.currency,
            is_credit=leaf.kind is LeafKind.CREDIT,
            credit_reference_id=cdr.credit_reference_id,
            ended_at=cdr.ended_at,
            accepted_at=event.accepted_at if known is None else known.accepted_at,
            cdr_key=leaf.cdr_key,
            import_wh=leaf.import_wh,
            export_wh=leaf.export_wh,
            commitment=leaf.commitment,
            meter=leaf.meter,
            due_e4=leaf.due_e4,
            credit_e4=leaf.credit_e4,
            version=None if known is None else known.version,
            sequence=None if known is None else known.sequence,
            place=None if known is None else known.place,
        )


async def _meet(unit: UnitOfWork, party_id: PartyId, signs: SigningPolicy | None) -> None:
    """Enter a party; `signs` is given for one that is hosted here, others sign themselves."""
    known = await unit.table(PARTY).get_for_update(party_id)
    if known is None:
        await unit.table(PARTY).put(
            SettledParty(
                party_id=party_id, signs=signs or SigningPolicy.BY_API, is_hosted=signs is not None, number=None
            )
        )
    elif signs is not None and not known.is_hosted:
        await unit.table(PARTY).put(replace(known, signs=signs, is_hosted=True))


async def _name_of(unit: UnitOfWork, event: AgreementEvent) -> str:
    """Return what a pair's agreement is called here: as its parties call it, unless that is another MSP's with the CPO.

    Ids of agreements are what parties agree on; were two of one CPO the same, one MSP would pay for another's drivers.
    """
    name = event.agreement_id
    while (pair := await unit.table(AGREEMENT).get(event.cpo_id, name)) is not None and pair.emsp_id != event.emsp_id:
        name = f"{name}@{event.emsp_id}"
    return name


async def _open_anew_if_changed(unit: UnitOfWork, name: str, terms: RoamingAgreement) -> None:
    """Enter an opening under this version, unless the book's part of the terms stays as it is."""
    openings = await openings_of(unit, terms.cpo_id, name)
    opening = Opening(
        cpo_id=terms.cpo_id,
        agreement_id=name,
        version=terms.version,
        emsp_id=terms.emsp_id,
        currency=terms.currency,
        mode=terms.settlement_mode,
        credit_limit_e4=limit_e4_of(terms) or 0,
        document=bytes.fromhex(document_hash(terms)),
        payment_terms_d=terms.payment_terms_d if terms.settlement_mode is SettlementMode.GUARANTEE else 0,
        number=None,
        deadline=None,
        book_agreement=None,
        waiting=None,
        last_sequence=0,
        closed_until=next((each.closed_until for each in openings if each.currency == terms.currency), None),
    )
    if not openings or _book_terms(openings[0]) != _book_terms(opening):
        await unit.table(OPENING).put(opening)


async def openings_of(unit: UnitOfWork, cpo_id: PartyId, agreement_id: str) -> list[Opening]:
    """Return an agreement's openings, the newest first."""
    where = {"cpo_id": cpo_id, "agreement_id": agreement_id}
    return await unit.table(OPENING).select(where, order_by=("-version",))


def _book_terms(opening: Opening) -> tuple[str, SettlementMode, int, int]:
    return opening.currency, opening.mode, opening.credit_limit_e4, opening.payment_terms_d
