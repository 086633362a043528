"""One charge per token, or per group, at a time; and the group that may stop every charge and start none.

Whether a token may charge at two places at once is the CPO's to say: OCPP 1.6 (7.2) and 2.0.1 know ConcurrentTx as
"multiple transactions are not allowed", and neither says that they are not. Unless a CPO asks for it nobody is refused:
a fleet may share a card, and its eMSP, which bears the bill, can refuse in real time.

What runs is read off the transactions. Between an accepted start and its report there is a claim, one per token or
group; it is locked while a start is decided, so of two stations that ask at once one gets the token. A transaction
does not hold its token for ever: not if its station is gone for `concurrent_offline_max`, not if it was silent for
`concurrent_silence_max` or is older than any charge. A start that is told late is not judged: the station let it
happen while nobody could be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from emobility.domain.authorization import (
    CONCURRENT,
    MASTER_PASS,
    MASTER_PASS_STARTS_NOTHING,
    STOPS_ITS_OWN,
    Decision,
)
from emobility.domain.identifiers import PartyId
from emobility.domain.transaction_faults import TRANSACTION_DURATION_MAX
from emobility.ports.authorizer import AuthorizationRequest
from emobility.ports.stores import RecordExists, TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from services.charging_operations.office import Office, require_hosted
from services.charging_operations.records import (
    AUTHORIZATION,
    TOKEN,
    TRANSACTION,
    TokenRecord,
    TransactionRecord,
    TransactionState,
)
from services.charging_operations.station_calls import OCPP_16
from services.charging_operations.station_records import STATION_CONNECTION
from services.charging_operations.token_changes import count_change
from services.charging_operations.tokens import group_at_stations, group_key_of

GROUP_TOKENS_MAX: Final = 1_000
"""Tokens of one group that are looked at."""
CLAIM_LIFE: Final = timedelta(minutes=15)
"""How long an accepted start may take from the gateway to the transactions."""
LATE_AFTER: Final = timedelta(minutes=10)
"""A start that happened longer ago was decided by the station itself."""


class ConcurrentTransactions(StrEnum):
    """How many transactions may run at once."""

    ALLOWED = "ALLOWED"
    ONE_PER_TOKEN = "ONE_PER_TOKEN"  # noqa: S105 - a policy, no secret
    ONE_PER_GROUP = "ONE_PER_GROUP"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicyRecord:
    """What a CPO decided; `master_pass_key` is the `group_key` of the group whose tokens stop everything."""

    party_id: PartyId
    concurrent_transactions: ConcurrentTransactions = ConcurrentTransactions.ALLOWED
    master_pass_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenClaimRecord:
    """The start that was accepted last for a token or group; `holder` is its subject or group key."""

    party_id: PartyId
    holder: str
    charging_station_id: str
    ocpp_evse_id: int | None
    transaction_id: str
    claimed_at: datetime


AUTHORIZATION_POLICY: Final = TableSpec(
    name="cpo_authorization_policy", record=AuthorizationPolicyRecord, key=("party_id",), is_reference=True
)
TOKEN_CLAIM: Final = TableSpec(name="cpo_token_claim", record=TokenClaimRecord, key=("party_id", "holder"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGroup:
    """A group as its eMSP calls it."""

    emsp_id: PartyId
    group_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationPolicy:
    """PUT authorization-policy."""

    concurrent_transactions: ConcurrentTransactions = ConcurrentTransactions.ALLOWED
    master_pass: TokenGroup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPolicy:
    """GET authorization-policy; `master_pass_group_id` is for AuthCtrlr.MasterPassGroupId of 2.x stations."""

    concurrent_transactions: ConcurrentTransactions
    master_pass_group_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyDesk:
    """Says what the decision table does not know: what else the token is doing."""

    office: Office

    async def put_policy(self, unit: UnitOfWork, party_id: PartyId, policy: AuthorizationPolicy) -> ShownPolicy:
        """Decide for a CPO from now on. Raises `NotFound`."""
        await require_hosted(unit, party_id)
        group = policy.master_pass
        row = AuthorizationPolicyRecord(
            party_id=party_id,
            concurrent_transactions=policy.concurrent_transactions,
            master_pass_key=None
            if group is None
            else group_key_of(self.office.ports.vault, group.emsp_id, group.group_id),
        )
        if row.master_pass_key != (await policy_of(unit, party_id)).master_pass_key:
            await count_change(unit, party_id, is_withdrawn=True)  # a master pass stands in no 1.6 list
        await unit.table(AUTHORIZATION_POLICY).put(row)
        return _shown(row)

    async def shown_policy(self, unit: UnitOfWork, party_id: PartyId) -> ShownPolicy:
        """Return what a CPO decided. Raises `NotFound`."""
        await require_hosted(unit, party_id)
        return _shown(await policy_of(unit, party_id))

    async def ruling(
        self, unit: UnitOfWork, request: AuthorizationRequest, subject: str, token: TokenRecord | None
    ) -> Decision | None:
        """Return the decision that needs no table, if there is one; nothing is claimed yet."""
        policy = await policy_of(unit, request.party_id)
        group_key = token.group_key if token is not None and token.is_valid else None
        is_master = group_key is not None and group_key == policy.master_pass_key
        if request.is_stop:
            if is_master:
                return MASTER_PASS
            return STOPS_ITS_OWN if await self._may_stop(unit, request, subject, group_key) else None
        if is_master:
            # 1.6 has no master pass: whatever card it is shown, it would start a transaction.
            starts = request.transaction_id is not None or request.ocpp_version == OCPP_16
            return MASTER_PASS_STARTS_NOTHING if starts else MASTER_PASS
        if not self._is_judged(policy, request):
            return None
        is_elsewhere = await self._is_elsewhere(unit, request, policy, subject, token)
        return CONCURRENT if is_elsewhere else None

    async def claim(
        self, unit: UnitOfWork, request: AuthorizationRequest, subject: str, token: TokenRecord | None
    ) -> bool:
        """Take the token for an accepted start; tell whether nobody else has it. Others wait until the unit ends."""
        policy = await policy_of(unit, request.party_id)
        if request.transaction_id is None or request.is_stop or not self._is_judged(policy, request):
            return True
        claim = TokenClaimRecord(
            party_id=request.party_id,
            holder=_holder(policy, subject, token),
            charging_station_id=request.charging_station_id,
            ocpp_evse_id=request.ocpp_evse_id,
            transaction_id=request.transaction_id,
            claimed_at=self.office.now(),
        )
        table, key = unit.table(TOKEN_CLAIM), (claim.party_id, claim.holder)
        is_first = await table.get_for_update(*key) is None
        if is_first:
            try:
                await table.insert(claim)
            except RecordExists:
                await table.get_for_update(*key)
                is_first = False
        if await self._is_elsewhere(unit, request, policy, subject, token):
            if is_first:
                await table.remove(*key)
            return False
        await table.put(claim)
        return True

    def _is_judged(self, policy: AuthorizationPolicyRecord, request: AuthorizationRequest) -> bool:
        is_late = request.began_at is not None and self.office.now() - request.began_at > LATE_AFTER
        is_limited = policy.concurrent_transactions is not ConcurrentTransactions.ALLOWED
        return is_limited and not is_late and not request.is_offline

    async def _may_stop(
        self, unit: UnitOfWork, request: AuthorizationRequest, subject: str, group_key: str | None
    ) -> bool:
        if request.transaction_id is None:
            return False
        row = await unit.table(TRANSACTION).get(request.party_id, request.charging_station_id, request.transaction_id)
        if row is None or row.token_subject is None:
            return False
        if row.token_subject == subject:
            return True
        opener = {"party_id": request.party_id, "token_subject": row.token_subject, "group_key": group_key}
        return group_key is not None and await unit.table(TOKEN).count(opener) > 0

    async def _is_elsewhere(
        self,
        unit: UnitOfWork,
        request: AuthorizationRequest,
        policy: AuthorizationPolicyRecord,
        subject: str,
        token: TokenRecord | None,
    ) -> bool:
        claim = await unit.table(TOKEN_CLAIM).get(request.party_id, _holder(policy, subject, token))
        if claim is not None and not _is_here(request, claim):
            reported = await unit.table(TRANSACTION).get(
                claim.party_id, claim.charging_station_id, claim.transaction_id
            )
            if reported is None and self.office.now() - claim.claimed_at < CLAIM_LIFE:
                return True
        return await self._runs_elsewhere(unit, request, policy, subject, token)

    async def _runs_elsewhere(
        self,
        unit: UnitOfWork,
        request: AuthorizationRequest,
        policy: AuthorizationPolicyRecord,
        subject: str,
        token: TokenRecord | None,
    ) -> bool:
        now, subjects = self.office.now(), {subject}
        if policy.concurrent_transactions is ConcurrentTransactions.ONE_PER_GROUP and token and token.group_key:
            where = {"party_id": request.party_id, "group_key": token.group_key}
            subjects |= {row.token_subject for row in await unit.table(TOKEN).select(where, limit=GROUP_TOKENS_MAX)}
        running = await unit.table(TRANSACTION).select(
            {
                "party_id": request.party_id,
                "token_subject": tuple(sorted(subjects)),
                "state": TransactionState.OPEN,
                "has_ended": False,
            },
            since=("updated_at", now - self.office.limits.concurrent_silence_max),
        )
        for row in running:
            is_overdue = now - row.first_at > TRANSACTION_DURATION_MAX
            if is_overdue or _is_here(request, row):
                continue
            if await self._was_let_in(unit, row) and not await self._is_gone(unit, row):
                return True
        return False

    async def _was_let_in(self, unit: UnitOfWork, row: TransactionRecord) -> bool:
        """Tell whether a running transaction holds its token: not if it was refused, nor before it is decided."""
        decisions = await unit.table(AUTHORIZATION).select(
            {
                "party_id": row.party_id,
                "charging_station_id": row.charging_station_id,
                "transaction_id": row.transaction_id,
                "token_subject": row.token_subject,
            }
        )
        if decisions:
            return any(each.is_accepted for each in decisions)
        return self.office.now() - row.first_at > LATE_AFTER

    async def _is_gone(self, unit: UnitOfWork, row: TransactionRecord) -> bool:
        newest = await unit.table(STATION_CONNECTION).select(
            {"party_id": row.party_id, "charging_station_id": row.charging_station_id},
            order_by=("-began_at",),
            limit=1,
        )
        since = None if not newest or newest[0].is_online else newest[0].began_at
        return since is not None and self.office.now() - since > self.office.limits.concurrent_offline_max


async def policy_of(unit: UnitOfWork, party_id: PartyId) -> AuthorizationPolicyRecord:
    """Return what a CPO decided, or what holds for one that did not."""
    return await unit.table(AUTHORIZATION_POLICY).get(party_id) or AuthorizationPolicyRecord(party_id=party_id)


def _shown(row: AuthorizationPolicyRecord) -> ShownPolicy:
    key = row.master_pass_key
    return ShownPolicy(
        concurrent_transactions=row.concurrent_transactions,
        master_pass_group_id=None if key is None else group_at_stations(key),
    )


def _holder(policy: AuthorizationPolicyRecord, subject: str, token: TokenRecord | None) -> str:
    is_by_group = policy.concurrent_transactions is ConcurrentTransactions.ONE_PER_GROUP
    return token.group_key if is_by_group and token is not None and token.group_key is not None else subject


def _is_here(request: AuthorizationRequest, running: TokenClaimRecord | TransactionRecord) -> bool:
    """Tell whether what runs is what is asked about, or ends with it: an EVSE has one transaction at a time.

    A card that is held to a station names no EVSE: it may be there to stop.
    """
    if running.charging_station_id != request.charging_station_id:
        return False
    return (
        request.transaction_id == running.transaction_id
        or request.ocpp_evse_id is None
        or request.ocpp_evse_id == running.ocpp_evse_id
    )
