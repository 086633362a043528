"""Raising a station's security profile in one operation (OCPP 2.0.1, A05 and B09-B10; 1.6 security white paper, A05).

2.x: the new profile goes into a free configuration slot, the slot to the head of NetworkConfigurationPriority, and the
station restarts when it is idle. 1.6: the key SecurityProfile. Each step that the station took is stored before the
next. After whatever broke off, the same request may be made again: what is done already, is done once more to the same
end. It is over when the gateway has seen the station come by the new profile; it then lets it come by no lower one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.stores import TableSpec
from emobility.protocols.station_control.messages import CommandResult, StationCredentialState
from services.charging_operations.office import NotAllowedNow, NotFound, NotUnderstood, Office
from services.charging_operations.station_calls import OCPP_16, call_station, version_of

TLS_BASIC: Final = 2
TLS_CERTIFICATE: Final = 3
MESSAGE_TIMEOUT_S: Final = 30
_PRIORITY: Final = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}
_UNANSWERED: Final = frozenset({CommandResult.TIMED_OUT, CommandResult.STATION_OFFLINE})
_VERSIONS: Final = {"2.0.1": "OCPP20", "2.1": "OCPP21"}


class ProfileWouldFall(RuleBroken):
    """A station's security profile is raised, never lowered (A05): it is this high already."""


class UpgradeState(StrEnum):
    """How far an upgrade has come."""

    ASKED = "ASKED"
    PROFILE_SET = "PROFILE_SET"
    PRIORITY_SET = "PRIORITY_SET"
    RESTARTING = "RESTARTING"
    """All is told; the station has to come by the new profile now."""
    CONNECTED = "CONNECTED"
    REFUSED = "REFUSED"
    """By the station, whose word is in `detail`; it goes on as before."""
    UNANSWERED = "UNANSWERED"
    """It did not answer at a step; it may have taken it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileUpgrade:
    """POST security-profile.

    `csms_url` is the gateway's wss URL without the station's id, `configuration_slot` one that is not in use; 1.6 needs
    neither. `has_certificate`: a station that got its certificate from elsewhere than here may rise to 3.
    """

    security_profile: int
    csms_url: str | None = None
    configuration_slot: int | None = None
    ocpp_interface: str = "Wired0"
    has_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileUpgradeRecord:
    """The last upgrade that a station was asked for; `detail` is what it said last."""

    party_id: PartyId
    charging_station_id: str
    from_profile: int
    to_profile: int
    state: UpgradeState
    configuration_slot: int | None
    asked_at: datetime
    changed_at: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityProfileShown:
    """The lowest profile that a station may come by, and the last upgrade."""

    security_profile: int
    upgrade: ProfileUpgradeRecord | None


PROFILE_UPGRADE: Final = TableSpec(
    name="cpo_profile_upgrade", record=ProfileUpgradeRecord, key=("party_id", "charging_station_id")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDesk:
    """Raises profiles."""

    office: Office

    async def upgrade(
        self, party_id: PartyId, station_id: str, asked: ProfileUpgrade, *, correlation_id: str
    ) -> ProfileUpgradeRecord:
        """Have a connected station come by a higher profile; return how far it came.

        Raises:
            ProfileWouldFall: it is not higher than what counts now.
            NotAllowedNow: it has no certificate, or no password, to come by it; or the slot is in use.
            NotUnderstood: the profile is not 2 or 3, or 2.x lacks URL or slot.
            StationOffline: it is not connected.
        """
        version = await version_of(self.office, party_id, station_id)
        credential = await self._allowed(party_id, station_id, asked, version)
        now = self.office.now()
        upgrade = ProfileUpgradeRecord(
            party_id=party_id,
            charging_station_id=station_id,
            from_profile=credential.security_profile,
            to_profile=asked.security_profile,
            state=UpgradeState.ASKED,
            configuration_slot=asked.configuration_slot,
            asked_at=now,
            changed_at=now,
        )
        await self._keep(upgrade)
        step = _Steps(office=self.office, upgrade=upgrade, correlation_id=correlation_id)
        if version == OCPP_16:
            return await self._raise_16(step)
        return await self._raise_2x(step, asked, version)

    async def _allowed(
        self, party_id: PartyId, station_id: str, asked: ProfileUpgrade, version: str
    ) -> StationCredentialState:
        if asked.security_profile not in (TLS_BASIC, TLS_CERTIFICATE):
            raise NotUnderstood("security_profile is 2 or 3")
        credential = await self._credential(party_id, station_id)
        if asked.security_profile <= credential.security_profile:
            raise ProfileWouldFall(f"the station comes by profile {credential.security_profile} already")
        is_whole = (asked.csms_url or "").startswith("wss://") and asked.configuration_slot is not None
        if version != OCPP_16 and not is_whole:
            raise NotUnderstood("csms_url, beginning with wss://, and configuration_slot are needed")
        if asked.security_profile == TLS_CERTIFICATE:
            if not asked.has_certificate and not await self._has_certificate(party_id, station_id):
                raise NotAllowedNow("the station has no certificate of its own: have it ask for one first")
        elif not credential.has_password:
            raise NotAllowedNow("the station has no password")
        return credential

    async def _has_certificate(self, party_id: PartyId, station_id: str) -> bool:
        issued = await self.office.stations.certificates(party_id, station_id)
        return any(each.revoked_at is None and each.not_after > self.office.now() for each in issued)

    async def _credential(self, party_id: PartyId, station_id: str) -> StationCredentialState:
        credential = await self.office.stations.credential(party_id, station_id)
        if credential is None:
            raise NotFound(f"station {station_id} has no credential")
        return credential

    async def _raise_16(self, step: _Steps) -> ProfileUpgradeRecord:
        payload = {"key": "SecurityProfile", "value": str(step.upgrade.to_profile)}
        answer = await step.call("ChangeConfiguration", payload)
        status = answer.get("status")
        if status == "RebootRequired":
            await self._keep(step.reached(UpgradeState.PROFILE_SET, status))
            status = (await step.call("Reset", {"type": "Soft"})).get("status")
        is_taken = status in {"Accepted", "RebootRequired"}
        return await self._keep(step.reached(UpgradeState.RESTARTING if is_taken else None, status))

    async def _raise_2x(self, step: _Steps, asked: ProfileUpgrade, version: str) -> ProfileUpgradeRecord:
        read = await step.call("GetVariables", {"getVariableData": [_PRIORITY]})
        slots = _slots(read)
        if slots is None:
            return await self._keep(step.reached(None, read.get("status") or "NetworkConfigurationPriority: no value"))
        slot = str(asked.configuration_slot)
        if slots[:1] == [slot]:
            await self._keep(step.reached(None, f"slot {slot} is in use"))
            raise NotAllowedNow(f"slot {slot} is the one that the station is connected by: name another")
        profile = {
            "ocppVersion": _VERSIONS[version],
            "ocppTransport": "JSON",
            "ocppCsmsUrl": asked.csms_url,
            "messageTimeout": MESSAGE_TIMEOUT_S,
            "securityProfile": asked.security_profile,
            "ocppInterface": asked.ocpp_interface,
        }
        payload = {"configurationSlot": asked.configuration_slot, "connectionData": profile}
        status = (await step.call("SetNetworkProfile", payload)).get("status")
        if status != "Accepted":
            return await self._keep(step.reached(None, status))
        await self._keep(step.reached(UpgradeState.PROFILE_SET, status))
        priority = ",".join([slot, *(each for each in slots if each != slot)])
        answer = await step.call("SetVariables", {"setVariableData": [_PRIORITY | {"attributeValue": priority}]})
        results = answer.get("setVariableResult") or [{}]
        status = results[0].get("attributeStatus")
        if status not in {"Accepted", "RebootRequired"}:
            return await self._keep(step.reached(None, status))
        await self._keep(step.reached(UpgradeState.PRIORITY_SET, status))
        status = (await step.call("Reset", {"type": "OnIdle"})).get("status")
        is_taken = status in {"Accepted", "Scheduled"}
        return await self._keep(step.reached(UpgradeState.RESTARTING if is_taken else None, status))

    async def _keep(self, upgrade: ProfileUpgradeRecord) -> ProfileUpgradeRecord:
        async with self.office.ports.units.begin() as unit:
            await unit.table(PROFILE_UPGRADE).put(upgrade)
            await unit.commit()
        return upgrade

    async def shown(self, party_id: PartyId, station_id: str) -> SecurityProfileShown:
        """Return which profile counts, and how far the last upgrade has come. Raises `NotFound`."""
        credential = await self._credential(party_id, station_id)
        async with self.office.ports.units.begin() as unit:
            upgrade = await unit.table(PROFILE_UPGRADE).get_for_update(party_id, station_id)
            has_come = upgrade is not None and credential.security_profile >= upgrade.to_profile
            if upgrade is not None and has_come and upgrade.state is not UpgradeState.CONNECTED:
                upgrade = replace(upgrade, state=UpgradeState.CONNECTED, changed_at=self.office.now())
                await unit.table(PROFILE_UPGRADE).put(upgrade)
                await unit.commit()
        return SecurityProfileShown(security_profile=credential.security_profile, upgrade=upgrade)


@dataclass(slots=True, kw_only=True)
class _Steps:
    """One run through the steps; `upgrade` is how far it came."""

    office: Office
    upgrade: ProfileUpgradeRecord
    correlation_id: str

    async def call(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the station's answer; empty where there is none."""
        outcome = await call_station(
            self.office,
            self.upgrade.party_id,
            self.upgrade.charging_station_id,
            action,
            payload,
            correlation_id=self.correlation_id,
        )
        return outcome.answer if outcome.answer is not None else {"status": outcome.station_status or outcome.result}

    def reached(self, state: UpgradeState | None, detail: str | None) -> ProfileUpgradeRecord:
        """Note a step; None: the station would not take it, or did not answer."""
        if state is None:
            state = UpgradeState.UNANSWERED if detail in _UNANSWERED else UpgradeState.REFUSED
        self.upgrade = replace(self.upgrade, state=state, detail=detail, changed_at=self.office.now())
        return self.upgrade


def _slots(answer: dict[str, Any]) -> list[str] | None:
    results = answer.get("getVariableResult") or [{}]
    value = results[0].get("attributeValue")
    if not isinstance(value, str):
        return None
    return [each.strip() for each in value.split(",") if each.strip()]
