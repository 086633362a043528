"""Open a session: who lets this transaction charge, under which agreement and at which price, frozen at its start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from emobility.domain.agreement import NoAgreementInForce
from emobility.domain.authorization import EMSPContact, Means
from emobility.domain.charging_periods import whole_second
from emobility.domain.charging_station import Connector
from emobility.domain.session import AuthMethod, Session, SessionStatus, SessionToken
from emobility.domain.transaction import Transaction, is_complete
from emobility.domain.transaction_faults import Fault, FaultReason, without_clock
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.authorizing import CLOCK_SLACK, decide_by, is_for_a_start, keep_authorization
from services.charging_operations.cdrs import place_of
from services.charging_operations.concurrency import policy_of
from services.charging_operations.office import Office, agreement_at, short_hash
from services.charging_operations.own_tokens import may_charge_under
from services.charging_operations.records import (
    AUTHORIZATION,
    AuthorizationRecord,
    SessionRecord,
    TransactionRecord,
    TransactionState,
)
from services.charging_operations.reservations import reserved_from
from services.charging_operations.stations import KnownEVSE, evse_at
from services.charging_operations.tariffs import tariff_for
from services.charging_operations.tokens import tokens_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Opens sessions."""

    office: Office

    async def open(self, unit: UnitOfWork, record: TransactionRecord) -> SessionRecord | Fault:
        """Return the session that the transaction is, or why there is none (yet)."""
        transaction = record.transaction
        if transaction.started is None or record.session_id is None:
            return Fault(reason=FaultReason.SEQUENCE_GAP, detail="the start never came")
        if fault := without_clock(transaction):
            return fault
        if record.state is TransactionState.OPEN and not transaction.is_token_settled:
            # Whoever stops it must not pay because the report of who started it is late. Once it is closed, the
            # operator who bills it decides by what is known.
            return Fault(reason=FaultReason.SEQUENCE_GAP, detail="a report that may name who started it is missing")
        known = await evse_at(unit, record.party_id, record.charging_station_id, transaction.ocpp_evse_id)
        if known is None:
            return Fault(
                reason=FaultReason.UNKNOWN_EVSE,
                detail=f"station {record.charging_station_id} has no EVSE {transaction.ocpp_evse_id}",
            )
        authorization = await self._authorization(unit, transaction)
        if authorization is None or not authorization.is_accepted:
            why = authorization.reason if authorization else "nobody was asked"
            return Fault(reason=FaultReason.NO_AUTHORIZATION, detail=why)
        return await self._session(unit, record, known, authorization)

    async def _session(
        self, unit: UnitOfWork, record: TransactionRecord, known: KnownEVSE, authorization: AuthorizationRecord
    ) -> SessionRecord | Fault:
        emsp_id, uid, contract_id = authorization.emsp_id, authorization.uid, authorization.contract_id
        if emsp_id is None or uid is None or contract_id is None or authorization.token_type is None:
            return Fault(reason=FaultReason.NO_AUTHORIZATION, detail="the token belongs to nobody we know")
        if emsp_id == record.party_id:
            return Fault(reason=FaultReason.OWN_TOKEN, detail="a card of the CPO's own: nobody is billed")
        started_at = whole_second(record.transaction.first_at)
        try:
            agreement = await agreement_at(unit, record.party_id, emsp_id, started_at)
        except NoAgreementInForce as missing:
            return Fault(reason=FaultReason.NO_AGREEMENT, detail=str(missing))
        version = await tariff_for(unit, known.station, agreement.tariff_ids, started_at)
        if version is None or version.tariff.currency != agreement.currency:
            return Fault(
                reason=FaultReason.NO_TARIFF,
                detail=f"agreement {agreement.agreement_id} has no tariff in force at {started_at.isoformat()}",
            )
        connector = connector_of(known, record.transaction.connector_id)
        now = self.office.now()
        session_id = record.session_id or ""
        session = Session(
            party_id=record.party_id,
            session_id=session_id,
            started_at=started_at,
            ended_at=None,
            energy_import_wh=0,
            energy_export_wh=0,
            token=SessionToken(emsp_id=emsp_id, uid=uid, token_type=authorization.token_type, contract_id=contract_id),
            auth_method=authorization.auth_method,
            authorization_reference=authorization.authorization_reference,
            location_id=known.location.location_id,
            evse_uid=known.evse.evse_uid,
            connector_id=connector.connector_id,
            currency=agreement.currency,
            tariff_hash=version.tariff_hash,
            periods=(),
            total_cost=None,
            status=SessionStatus.ACTIVE,
            last_updated=now,
            rounding_policy=agreement.rounding_policy,
            reserved_from=await reserved_from(unit, record.transaction),
        )
        return SessionRecord(
            party_id=record.party_id,
            session_id=session_id,
            emsp_id=emsp_id,
            charging_station_id=record.charging_station_id,
            transaction_id=record.transaction_id,
            authorization_id=authorization.authorization_id,
            agreement_id=agreement.agreement_id,
            agreement_version=agreement.version,
            tariff=version.tariff,
            location=place_of(known, connector),
            session=session,
            revision=0,
            last_updated=now,
            pushed_at=now,
        )

    async def _authorization(self, unit: UnitOfWork, transaction: Transaction) -> AuthorizationRecord | None:
        """Return the decision that lets it charge, bound to it from now on; else the one that refused it."""
        subject = transaction.id_token.subject if transaction.id_token else None
        where = {"party_id": transaction.party_id, "charging_station_id": transaction.charging_station_id}
        if subject is None:
            return None
        # Only the token that opened it pays: another one accepted in it may stop it, or unlock the cable.
        # The last reference an eMSP gave counts (OCPI 2.2.1, 9.4, authorization_reference).
        bound = await unit.table(AUTHORIZATION).select(
            where | {"transaction_id": transaction.transaction_id, "token_subject": subject},
            order_by=("-is_accepted", "-decided_at"),
            limit=1,
        )
        if bound and bound[0].is_accepted:
            return bound[0]
        free = await self._free_authorization(unit, transaction, subject)
        if free is not None:
            free = await unit.table(AUTHORIZATION).get_for_update(free.party_id, free.authorization_id)
        if free is not None and free.transaction_id in (None, transaction.transaction_id):
            taken = replace(
                free,
                transaction_id=transaction.transaction_id,
                ocpp_evse_id=free.ocpp_evse_id or transaction.ocpp_evse_id,
            )
            await unit.table(AUTHORIZATION).put(taken)
            return taken
        started_offline = transaction.started is not None and transaction.started.is_offline
        if started_offline or (not bound and is_complete(transaction)):
            offline = await self._decide_afterwards(unit, transaction, subject)
            if offline is not None:
                return offline
        return bound[0] if bound else None

    async def _free_authorization(
        self, unit: UnitOfWork, transaction: Transaction, subject: str
    ) -> AuthorizationRecord | None:
        where = {
            "party_id": transaction.party_id,
            "charging_station_id": transaction.charging_station_id,
            "token_subject": subject,
            "is_accepted": True,
            "transaction_id": None,
        }
        started_at = transaction.first_at
        rows = await unit.table(AUTHORIZATION).select(
            where,
            since=("decided_at", started_at - self.office.limits.authorization_valid),
            before=("decided_at", started_at + CLOCK_SLACK),
            order_by=("-decided_at",),
        )
        evse_id = transaction.ocpp_evse_id
        rows = [row for row in rows if is_for_a_start(row)]
        fitting = [row for row in rows if row.ocpp_evse_id is None or evse_id is None or row.ocpp_evse_id == evse_id]
        number = transaction.remote_start_id
        exact = [row for row in rows if number is not None and row.remote_start_id == number]
        commanded = [row for row in fitting if row.auth_method is AuthMethod.COMMAND]
        return next(iter([*exact, *commanded, *fitting]), None)

    async def _decide_afterwards(
        self, unit: UnitOfWork, transaction: Transaction, subject: str
    ) -> AuthorizationRecord | None:
        """Decide as the station had to by itself: offline, or while we did not answer."""
        means = Means(transaction.identified_by) if transaction.identified_by in set(Means) else Means.RFID
        policy = await policy_of(unit, transaction.party_id)
        for token in await tokens_of(unit, transaction.party_id, subject):
            if token.group_key is not None and token.group_key == policy.master_pass_key:
                continue
            if not await may_charge_under(unit, transaction.party_id, token.emsp_id, transaction.first_at):
                continue
            decision = decide_by(token, means, EMSPContact.STATION_OFFLINE, has_agreement=True)
            if not decision.is_accepted:
                continue
            record = AuthorizationRecord(
                party_id=transaction.party_id,
                authorization_id=short_hash(
                    "offline", str(transaction.party_id), transaction.charging_station_id, transaction.transaction_id
                ),
                charging_station_id=transaction.charging_station_id,
                token_subject=subject,
                is_accepted=True,
                status=decision.answer.value,
                reason=decision.reason.value,
                may_cache=decision.may_cache,
                auth_method=AuthMethod.WHITELIST,
                decided_at=self.office.now(),
                ocpp_evse_id=transaction.ocpp_evse_id,
                transaction_id=transaction.transaction_id,
                remote_start_id=None,
                authorization_reference=None,
                emsp_id=token.emsp_id,
                token_type=token.token_type,
                uid=token.uid,
                contract_id=token.contract_id,
                command_id=None,
                group_key=token.group_key,
            )
            await keep_authorization(self.office, unit, record, correlation_id=record.authorization_id)
            return record
        return None


def connector_of(known: KnownEVSE, connector_id: int | None) -> Connector:
    """Return the connector in use; OCPP 1.6 names none below the EVSE, so the first stands for it."""
    connectors = known.evse.connectors
    return next((each for each in connectors if each.connector_id == connector_id), connectors[0])


def power_w_max_of(known: KnownEVSE) -> int:
    """Return the most power that any connector of the EVSE can carry, in W."""
    return max(each.power_w_max for each in known.evse.connectors)


def is_push_due(record: SessionRecord, now: datetime, interval: timedelta) -> bool:
    """Tell whether a running session's eMSP has not been told for long enough."""
    return now - record.pushed_at >= interval
