"""Answer the gateway: may this driver charge here, now?

The decision is `domain/authorization`; this module finds what it needs (token cache, agreement, START_SESSION) and
asks the eMSP where the table says so. What was decided is a row and a fact, committed together before the answer goes
out; while the eMSP is asked no unit of work is open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from emobility.domain.authorization import (
    CONCURRENT,
    Decision,
    DecisionReason,
    EMSPContact,
    Means,
    TokenState,
    decide,
)
from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.session import AuthMethod
from emobility.domain.token import TokenType, Whitelist
from emobility.events.charging import AuthorizationDecided, IdTokenKind
from emobility.ports.authorizer import AuthorizationAnswer, AuthorizationRequest, AuthorizationStatus
from emobility.ports.http import PeerTimedOut
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.client import HubCouldNotDeliver, MissingAtPeer, PeerRefused
from emobility.protocols.ocpi.status import StatusCode
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from services.charging_operations.concurrency import ConcurrencyDesk
from services.charging_operations.exposure import ExposureDesk
from services.charging_operations.office import Office, short_hash
from services.charging_operations.own_tokens import may_charge_under
from services.charging_operations.records import AUTHORIZATION, STATION, AuthorizationRecord, TokenRecord
from services.charging_operations.tokens import group_at_stations, tokens_of

UNKNOWN_STATION: Final = "UNKNOWN_STATION"
CLOCK_SLACK: Final = timedelta(minutes=2)
"""How far a station's clock may run ahead of ours when its transaction is matched with a decision."""
_MEANS: Final = {
    IdTokenKind.RFID: Means.RFID,
    IdTokenKind.APP: Means.APP,
    IdTokenKind.PLUG_AND_CHARGE: Means.PLUG_AND_CHARGE,
    IdTokenKind.NONE: Means.RFID,
}
_FOR_STOPS: Final = frozenset({DecisionReason.MASTER_PASS.value, DecisionReason.STOPS_ITS_OWN.value})
_CONTACT: Final = {allowed: EMSPContact(allowed.value) for allowed in v221.AllowedType}


@dataclass(frozen=True, slots=True, kw_only=True)
class EMSPAnswer:
    """What came back from real-time authorisation; `token` where the eMSP told us of one."""

    contact: EMSPContact
    authorization_reference: str | None = None
    token: v221.Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known when a token is presented. `earlier`: a decision that covers it already, a START_SESSION's first.

    `emsp_id`: whom the token belongs to, by the cache or by its contract id. `place`: the EVSE where the station names
    it, all of the station's where it does not: a card may be held to it before a cable is plugged in. `ruling`: what
    is decided without table and eMSP. `unused`: accepted decisions that no transaction has taken yet.
    """

    subject: str
    token: TokenRecord | None
    emsp_id: PartyId | None
    has_agreement: bool
    earlier: AuthorizationRecord | None
    place: v221.LocationReferences | None
    ruling: Decision | None
    unused: tuple[AuthorizationRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationDesk:
    """Implements the `Authorizer` port for the CPOs hosted here."""

    office: Office
    concurrency: ConcurrencyDesk
    exposure: ExposureDesk

    async def authorize(self, request: AuthorizationRequest) -> AuthorizationAnswer:
        """Decide. The same question about the same transaction gets the same answer. Raises `Unavailable`."""
        subject = self.office.ports.vault.subject_of(request.id_token)
        async with self.office.ports.units.begin() as unit:
            station = await unit.table(STATION).get(request.party_id, request.charging_station_id)
            if station is None:
                return AuthorizationAnswer(status=AuthorizationStatus.INVALID, reason=UNKNOWN_STATION)
            situation = await self._situation(unit, request, subject)
        if situation.earlier is not None:
            return await self._again(request, situation, situation.earlier)
        decision, answer = situation.ruling, None
        if decision is None:
            decision, answer = await self._decided(request, situation)
        record = await self._record(request, situation, decision, answer)
        async with self.office.ports.units.begin() as unit:
            if is_for_a_start(record):
                record = await self.exposure.judged(unit, record)
            record = await self._claimed(unit, request, situation, record)
            if is_for_a_start(record):
                await self.exposure.reserve(unit, record)
            if request.transaction_id is not None and not record.is_accepted:
                await self._withdraw(unit, situation.unused, record)
            await self._keep(unit, record, correlation_id=request.correlation_id)
            await unit.commit()
        return _answer_of(record)

    async def _withdraw(
        self, unit: UnitOfWork, unused: tuple[AuthorizationRecord, ...], refusal: AuthorizationRecord
    ) -> None:
        """A tap that was accepted before lets no transaction begin that is refused now."""
        for row in unused:
            current = await unit.table(AUTHORIZATION).get_for_update(row.party_id, row.authorization_id)
            if current is not None and current.transaction_id is None:
                await unit.table(AUTHORIZATION).put(
                    replace(current, is_accepted=False, status=refusal.status, reason=refusal.reason)
                )

    async def _claimed(
        self, unit: UnitOfWork, request: AuthorizationRequest, situation: Situation, record: AuthorizationRecord
    ) -> AuthorizationRecord:
        """Return the decision, or the refusal where another station was faster."""
        if not record.is_accepted or await self.concurrency.claim(unit, request, situation.subject, situation.token):
            return record
        return replace(
            record, is_accepted=False, status=CONCURRENT.answer.value, reason=CONCURRENT.reason.value, may_cache=False
        )

    async def _situation(self, unit: UnitOfWork, request: AuthorizationRequest, subject: str) -> Situation:
        now = self.office.now()
        where = {
            "party_id": request.party_id,
            "charging_station_id": request.charging_station_id,
            "token_subject": subject,
        }
        recent = await unit.table(AUTHORIZATION).select(
            where,
            since=("decided_at", now - self.office.limits.authorization_valid),
            order_by=("-decided_at",),
        )
        fitting = [row for row in recent if _fits(row, request)]
        of_this = []
        if request.transaction_id is not None:
            of_this = await unit.table(AUTHORIZATION).select(
                where | {"transaction_id": request.transaction_id}, order_by=("-is_accepted", "-decided_at")
            )
        accepted = [row for row in fitting if row.is_accepted and row.transaction_id is None and is_for_a_start(row)]
        commanded = [row for row in accepted if row.auth_method is AuthMethod.COMMAND]
        token, emsp_id, has_agreement = await self._issuer(unit, request, subject)
        ruling = await self.concurrency.ruling(unit, request, subject, token)
        if request.is_stop and ruling is not None:
            earlier = []
        else:
            # A driver taps once, and the station asks twice: when the card is shown and when it starts.
            earlier = of_this if ruling is not None else [*of_this, *commanded, *accepted]
        return Situation(
            subject=subject,
            token=token,
            emsp_id=emsp_id,
            has_agreement=has_agreement,
            earlier=next(iter(earlier), None),
            ruling=ruling,
            unused=tuple(accepted),
            place=await _place_of(unit, request),
        )

    async def _issuer(
        self, unit: UnitOfWork, request: AuthorizationRequest, subject: str
    ) -> tuple[TokenRecord | None, PartyId | None, bool]:
        """Return the cached token, its eMSP, and whether there is an agreement; of several the first that has one."""
        tokens = await tokens_of(unit, request.party_id, subject)
        named = _emsp_of_contract(request)
        candidates: list[tuple[TokenRecord | None, PartyId]] = [(token, token.emsp_id) for token in tokens]
        if not candidates and named is not None:
            candidates = [(None, named)]
        for token, emsp_id in candidates:
            if await may_charge_under(unit, request.party_id, emsp_id, self.office.now()):
                return token, emsp_id, True
        return (*candidates[0], False) if candidates else (None, None, False)

    async def _again(
        self, request: AuthorizationRequest, situation: Situation, earlier: AuthorizationRecord
    ) -> AuthorizationAnswer:
        """Give the earlier answer; bind it to the transaction that now uses it."""
        if request.transaction_id is None or earlier.transaction_id is not None:
            return _answer_of(earlier)
        async with self.office.ports.units.begin() as unit:
            current = await unit.table(AUTHORIZATION).get_for_update(earlier.party_id, earlier.authorization_id)
            # The start may have been consumed meanwhile and have taken the decision already.
            if current is not None and current.transaction_id is None:
                bound = replace(
                    current,
                    transaction_id=request.transaction_id,
                    ocpp_evse_id=current.ocpp_evse_id or request.ocpp_evse_id,
                )
                earlier = await self._claimed(unit, request, situation, bound)
                await self._keep(unit, earlier, correlation_id=request.correlation_id)
                await unit.commit()
        return _answer_of(earlier)

    async def _decided(self, request: AuthorizationRequest, situation: Situation) -> tuple[Decision, EMSPAnswer | None]:
        def by(contact: EMSPContact) -> Decision:
            means = _MEANS[request.kind]
            return decide_by(situation.token, means, contact, has_agreement=situation.has_agreement)

        if request.is_offline:
            return by(EMSPContact.STATION_OFFLINE), None
        first = by(EMSPContact.ALLOWED)
        if not first.ask_emsp:
            return first, None
        if situation.emsp_id is None:
            return by(EMSPContact.TOKEN_UNKNOWN), None
        answer = await self._ask(request, situation, situation.emsp_id)
        return by(answer.contact), answer

    async def _ask(self, request: AuthorizationRequest, situation: Situation, emsp_id: PartyId) -> EMSPAnswer:
        """POST tokens/{uid}/authorize (OCPI 2.2.1, 12.3.1.2) through the route to the eMSP."""
        token_type = situation.token.token_type if situation.token else TokenType.OTHER
        try:
            client = replace(
                await self.office.host.connect(request.party_id, emsp_id),
                timeout_s=self.office.limits.authorization_timeout_s,
            )
            answer = await client.post(
                ModuleID.TOKENS.value,
                InterfaceRole.SENDER,
                f"/{quote(request.id_token, safe='')}/authorize",
                situation.place,
                to_party=emsp_id,
                correlation_id=request.correlation_id,
                query={"type": token_type.value},
            )
            info = answer.as_(v221.AuthorizationInfo)
        except (Unavailable, RuleBroken) as error:
            return EMSPAnswer(contact=_contact_of(error))
        if info.token.owner != emsp_id or self.office.ports.vault.subject_of(info.token.uid) != situation.subject:
            return EMSPAnswer(contact=EMSPContact.NOT_ALLOWED)
        return EMSPAnswer(
            contact=_CONTACT[info.allowed],
            authorization_reference=info.authorization_reference,
            token=info.token,
        )

    async def _record(
        self, request: AuthorizationRequest, situation: Situation, decision: Decision, answer: EMSPAnswer | None
    ) -> AuthorizationRecord:
        token, told = situation.token, answer.token if answer else None
        vault = self.office.ports.vault
        uid, contract_id = (token.uid, token.contract_id) if token else (None, None)
        emsp_id, token_type = situation.emsp_id, token.token_type if token else None
        if token is None and told is not None:
            uid, contract_id = await vault.seal(told.uid), await vault.seal(told.contract_id)
            token_type = told.type
        return AuthorizationRecord(
            party_id=request.party_id,
            authorization_id=self.office.ports.randomness.uuid(),
            charging_station_id=request.charging_station_id,
            token_subject=situation.subject,
            is_accepted=decision.is_accepted,
            status=decision.answer.value,
            reason=decision.reason.value,
            may_cache=decision.may_cache,
            auth_method=AuthMethod.AUTH_REQUEST if decision.ask_emsp else AuthMethod.WHITELIST,
            decided_at=self.office.now(),
            ocpp_evse_id=request.ocpp_evse_id,
            transaction_id=request.transaction_id,
            remote_start_id=request.remote_start_id,
            authorization_reference=answer.authorization_reference if answer else None,
            emsp_id=emsp_id,
            token_type=token_type,
            uid=uid,
            contract_id=contract_id,
            command_id=None,
            group_key=token.group_key if token else None,
        )

    async def _keep(self, unit: UnitOfWork, record: AuthorizationRecord, *, correlation_id: str) -> None:
        await keep_authorization(self.office, unit, record, correlation_id=correlation_id)


async def _place_of(unit: UnitOfWork, request: AuthorizationRequest) -> v221.LocationReferences | None:
    row = await unit.table(STATION).get(request.party_id, request.charging_station_id)
    if row is None:
        return None
    evses = [evse for evse in row.station.evses if request.ocpp_evse_id in {None, evse.ocpp_evse_id}]
    return v221.LocationReferences(location_id=row.location_id, evse_uids=[evse.evse_uid for evse in evses])


async def keep_authorization(
    office: Office, unit: UnitOfWork, record: AuthorizationRecord, *, correlation_id: str
) -> None:
    """Store a decision and make it a fact."""
    await unit.table(AUTHORIZATION).put(record)
    office.metrics.authorized(is_accepted=record.is_accepted, reason=record.reason)
    fact = AuthorizationDecided(
        party_id=record.party_id,
        charging_station_id=record.charging_station_id,
        authorization_id=record.authorization_id,
        subject=record.token_subject,
        is_accepted=record.is_accepted,
        reason=record.reason,
        decided_at=record.decided_at,
        ocpp_evse_id=record.ocpp_evse_id,
        authorization_reference=record.authorization_reference,
        transaction_id=record.transaction_id,
        remote_start_id=record.remote_start_id,
        emsp_id=record.emsp_id,
    )
    event_id = f"authorization/{record.party_id}/{record.authorization_id}/{record.transaction_id or ''}"
    if len(event_id) > 150:
        event_id = f"authorization/{short_hash(event_id)}"
    unit.emit(office.fact(fact, event_id=event_id, correlation_id=correlation_id))


def decide_by(token: TokenRecord | None, means: Means, contact: EMSPContact, *, has_agreement: bool) -> Decision:
    """Read the table for a cached token, or for none."""
    state = TokenState.UNKNOWN
    if token is not None:
        state = TokenState.CACHED_VALID if token.is_valid else TokenState.CACHED_INVALID
    return decide(
        whitelist=token.whitelist if token else Whitelist.NEVER,
        token=state,
        means=means,
        contact=contact,
        has_agreement=has_agreement,
    )


def is_for_a_start(record: AuthorizationRecord) -> bool:
    """Tell whether a decision may let a transaction begin: a master pass is accepted to stop others."""
    return record.reason not in _FOR_STOPS


def _answer_of(record: AuthorizationRecord) -> AuthorizationAnswer:
    is_known = record.status in {AuthorizationStatus.ACCEPTED, AuthorizationStatus.CONCURRENT_TX}
    return AuthorizationAnswer(
        status=AuthorizationStatus(record.status),
        reason=record.reason,
        may_cache=record.may_cache,
        # The group of a card that is blocked or not allowed here opens and stops nothing.
        group_id=group_at_stations(record.group_key) if is_known and record.group_key is not None else None,
    )


def _fits(row: AuthorizationRecord, request: AuthorizationRequest) -> bool:
    if row.remote_start_id is not None and request.remote_start_id is not None:
        return row.remote_start_id == request.remote_start_id
    return row.ocpp_evse_id is None or request.ocpp_evse_id is None or row.ocpp_evse_id == request.ocpp_evse_id


def _emsp_of_contract(request: AuthorizationRequest) -> PartyId | None:
    """An eMAID begins with country and provider: DE-8AA-C12345678-9, hyphens optional (ISO 15118, annex H)."""
    if request.kind is not IdTokenKind.PLUG_AND_CHARGE:
        return None
    text = request.id_token.replace("-", "").upper()
    return PartyId.of(text[:2], text[2:5]) if len(text) >= 14 and text.isalnum() and text[:2].isalpha() else None


def _contact_of(error: Exception) -> EMSPContact:
    if isinstance(error, MissingAtPeer):
        return EMSPContact.TOKEN_UNKNOWN
    if isinstance(error, PeerRefused):
        return EMSPContact.NOT_ALLOWED
    if isinstance(error, HubCouldNotDeliver) and error.status_code == StatusCode.HUB_TIMED_OUT:
        return EMSPContact.TIMED_OUT
    return EMSPContact.TIMED_OUT if isinstance(error, PeerTimedOut) else EMSPContact.HUB_OFFLINE
