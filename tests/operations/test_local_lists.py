"""Local lists over a station that keeps one: what it ends up with, whatever is pushed, lost, refused or repeated."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import pytest

from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.schemas import schemas_of
from emobility.domain.device_model import VariableAttribute, VariableCharacteristics
from emobility.domain.token import Whitelist
from emobility.events.charging import StationBooted
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, StationCommand
from services.charging_operations import local_lists
from services.charging_operations.local_list_records import LOCAL_LIST, LOCAL_LIST_ENTRY, due
from services.charging_operations.records import AGREEMENT
from services.charging_operations.station_records import STATION_VARIABLE, StationVariableRecord
from services.charging_operations.token_changes import CACHE_CLEARING
from tests.operations.world import CARD, CPO, EMSP, OTHER_CPO, START, STATION, World, agreement, open_for_business

PATH: Final = f"/{CPO}/stations/{STATION}/local-list"
TIMED_OUT: Final = CommandOutcome(result=CommandResult.TIMED_OUT)
VERSIONS: Final = ["1.6", "2.0.1", "2.1"]
SEEDS: Final = 12


def said(**answer: Any) -> CommandOutcome:
    status = answer.get("status", "Accepted")
    result = CommandResult.ACCEPTED if status == "Accepted" else CommandResult.REJECTED
    if status == "NotSupported":
        result = CommandResult.NOT_SUPPORTED
    return CommandOutcome(result=result, station_status=answer.get("status"), answer=answer)


@dataclass
class ListStation:
    """A station as the standard has it (1.6, 5.10 and 5.15; 2.0.1, D01 and D02); `here` counts what it was told."""

    version_name: str = "2.0.1"
    items_max: int = 50
    version: int = 0
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: list[tuple[str, int, int]] = field(default_factory=list)
    caches_cleared: int = 0
    supports_lists: bool = True
    mishaps: list[str] = field(default_factory=list)
    """What becomes of the next SendLocalLists: `lost` before or `unheard` after it was done, `Failed`, ..."""

    def __call__(self, command: StationCommand) -> CommandOutcome | None:
        call = command.ocpp_call
        if call is None:
            return None
        schemas_of(OCPPVersion(self.version_name)).check_request(call.action, call.payload)
        if call.action == "ClearCache":
            self.caches_cleared += 1
            return said(status="Accepted")
        if call.action == "GetLocalListVersion":
            name = "listVersion" if self.version_name == "1.6" else "versionNumber"
            return said(**{name: self.version if self.supports_lists else -1})
        return self._update(call.payload) if call.action == "SendLocalList" else None

    def _update(self, payload: dict[str, Any]) -> CommandOutcome:
        mishap = self.mishaps.pop(0) if self.mishaps else None
        if mishap == "lost":
            return TIMED_OUT
        if mishap not in (None, "unheard", "fine"):
            return said(status=mishap)
        number: int = payload["listVersion" if self.version_name == "1.6" else "versionNumber"]
        items = payload.get("localAuthorizationList", [])
        is_full = payload["updateType"] == "Full"
        self.updates.append((payload["updateType"], number, len(items)))
        if len(items) > self.items_max:
            return said(status="Failed")
        if not is_full and number <= self.version:
            return said(status="VersionMismatch")
        if is_full:
            self.entries = {}
        self.version = number
        for item in items:
            name = item.get("idTag") or item["idToken"]["idToken"]
            info = item.get("idTagInfo") or item.get("idTokenInfo")
            if info is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = info
        return TIMED_OUT if mishap == "unheard" else said(status="Accepted")


async def listed(here: World, version: str = "2.0.1", mode: str = "CACHED", **fields: Any) -> ListStation:
    """Connect a station, and decide that it gets a list."""
    here.gateway.ocpp_version = version
    station = ListStation(version_name=version)
    here.gateway.station = station
    answer = await here.api("PUT", PATH, {"mode": mode, **fields})
    assert answer.status_code == 200, answer.text
    return station


async def look(here: World) -> dict[str, Any]:
    """Look as the desk does each minute; return how the list stands."""
    await here.operations.local_lists.watch()
    shown: dict[str, Any] = (await here.api("GET", PATH)).json()
    return shown


async def tell(here: World, **variables: int) -> None:
    """Let a station tell its limits."""
    async with here.ports.units.begin() as unit:
        for name, value in variables.items():
            is_limit = name == "Entries" and here.gateway.ocpp_version != "1.6"
            limits = VariableCharacteristics(data_type="integer", supports_monitoring=False, max_limit=value)  # type: ignore[arg-type]  # a whole Decimal
            row = StationVariableRecord(
                party_id=CPO,
                charging_station_id=STATION,
                component="LocalAuthListCtrlr",
                component_instance="",
                evse_id=0,
                connector_id=0,
                variable=name,
                variable_instance="",
                attributes=(VariableAttribute(value="0" if is_limit else str(value)),),
                characteristics=limits if is_limit else None,
                configuration_key=None if here.gateway.ocpp_version != "1.6" else f"key of {name}",
                request_id=None,
                seen_at=START,
            )
            await unit.table(STATION_VARIABLE).put(row)
        await unit.commit()


def booted() -> StationBooted:
    return StationBooted(
        party_id=CPO, charging_station_id=STATION, ocpp_version="2.0.1", vendor="V", model="M", booted_at=START
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_station_gets_whom_it_may_let_in_by_itself_and_nobody_else(version: str) -> None:
    async with open_for_business() as here:
        await here.put_token(uid="OFFLINE", whitelist=Whitelist.ALLOWED_OFFLINE)
        await here.put_token(uid="ALWAYS", whitelist=Whitelist.ALWAYS, group_id="FLEET")
        await here.put_token(uid="NEVER", whitelist=Whitelist.NEVER)
        await here.put_token(uid="BLOCKED", valid=False)
        await here.put_token(uid="APP", type="APP_USER")
        station = await listed(here, version)

        shown = await look(here)

        assert set(station.entries) == {CARD, "OFFLINE", "ALWAYS"}
        group = "parentIdTag" if version == "1.6" else "groupIdToken"
        told = (await here.authorize("ALWAYS")).group_id
        assert station.entries["ALWAYS"][group] == (told if version == "1.6" else {"idToken": told, "type": "Central"})
        assert station.entries[CARD] == {"status": "Accepted"}
        assert (shown["state"], shown["version"], shown["entries"], shown["wanted"]) == ("IN_SYNC", 1, 3, 3)
        assert CARD not in repr(await here.rows(LOCAL_LIST_ENTRY)) + repr(shown)


async def test_what_nobody_signed_for_is_not_listed_and_ends_with_its_agreement() -> None:
    async with open_for_business() as here:
        station = await listed(here)
        end = START + timedelta(days=30)
        await here.sign(agreement(version=2, valid_from=START + timedelta(days=1), valid_until=end))
        async with here.ports.units.begin() as unit:
            await unit.table(AGREEMENT).delete(CPO, "TNM-EMP", 1)
            await unit.commit()
        await look(here)
        assert station.entries == {}
        here.clock.step_by(timedelta(days=1, minutes=1))
        await look(here)
        assert station.entries[CARD] == {"status": "Accepted", "cacheExpiryDateTime": "2022-04-26T08:00:00.000Z"}

        here.clock.step_by(timedelta(days=30))
        shown = await look(here)

        assert (station.entries, shown["state"]) == ({}, "IN_SYNC")


async def test_the_cpos_own_cards_are_listed_without_an_agreement_and_leave_at_once_when_they_are_blocked() -> None:
    async with open_for_business() as here:
        station = await listed(here)
        await here.api("POST", f"/{CPO}/imports/tokens", b"uid,group_id\nSTAFF01,STAFF\nSTAFF02,STAFF\n")
        await look(here)
        entered = dict(station.entries)
        assert (await here.authorize("STAFF02")).may_cache
        (blocked,) = (await here.api("GET", f"/{CPO}/own-tokens?offset=1")).json()

        await here.api("PUT", f"/{CPO}/own-tokens/{blocked['token_subject']}", {"is_blocked": True})
        await here.operations.local_lists.follow_withdrawals()

        assert set(entered) == {CARD, "STAFF01", "STAFF02"}
        assert entered["STAFF01"]["groupIdToken"] == entered["STAFF02"]["groupIdToken"]
        assert len(station.entries) == 2


@pytest.mark.parametrize("changes", [{"whitelist": Whitelist.NEVER}, {"valid": False}])
@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_withdrawn_leaves_list_and_cache_at_once(version: str, changes: dict[str, Any]) -> None:
    async with open_for_business() as here:
        station = await listed(here, version)
        assert (await here.authorize()).may_cache
        await look(here)
        await here.put_token(uid="KEPT")
        here.clock.step_by(timedelta(seconds=1))

        await here.put_token(**changes)
        await here.operations.local_lists.follow_withdrawals()

        assert CARD not in station.entries
        assert station.updates[1:] == [("Differential", 2, 2)]
        assert station.caches_cleared == 1
        await look(here)
        assert (station.caches_cleared, len(station.updates)) == (1, 2)


async def test_only_caches_that_may_hold_it_are_cleared_and_one_that_is_away_when_it_is_back() -> None:
    async with open_for_business() as here:
        station = await listed(here, mode="NONE")
        await here.put_token(uid="UNUSED")
        await here.put_token(uid="UNUSED", valid=False)
        await here.authorize()
        here.gateway.is_online = False
        await here.put_token(valid=False)
        await look(here)
        assert station.caches_cleared == 0

        here.gateway.is_online = True
        await look(here)
        await look(here)

        assert (station.caches_cleared, await here.rows(CACHE_CLEARING)) == (1, [])


async def test_a_withdrawal_while_a_cache_is_cleared_clears_it_again() -> None:
    async with open_for_business() as here:
        await here.put_token(uid="LATER")
        station = await listed(here, mode="NONE")
        await look(here)
        await here.authorize()
        await here.authorize("LATER")
        here.clock.step_by(timedelta(seconds=1))
        here.gateway.may_answer.clear()
        await here.put_token(valid=False)
        clearing = asyncio.create_task(here.operations.local_lists.follow_withdrawals())
        await here.until(lambda: was_called(here, "ClearCache"))
        await here.put_token(uid="LATER", valid=False)
        here.gateway.may_answer.set()
        await clearing

        await look(here)

        assert (station.caches_cleared, await here.rows(CACHE_CLEARING)) == (2, [])


async def was_called(here: World, action: str) -> bool:
    return any(command.ocpp_call and command.ocpp_call.action == action for command in here.gateway.commands)


async def test_nothing_is_sent_twice_and_what_is_added_goes_alone() -> None:
    async with open_for_business() as here:
        station = await listed(here)
        await look(here)
        await here.put_token()
        await look(here)
        await here.operations.local_lists.follow_withdrawals()
        assert len(station.updates) == 1

        await here.put_token(uid="NEW")
        await here.operations.local_lists.follow_withdrawals()
        assert len(station.updates) == 1
        await look(here)

        assert station.updates[1:] == [("Differential", 2, 1)]
        assert set(station.entries) == {CARD, "NEW"}


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_long_list_goes_in_messages_that_the_station_can_take(version: str) -> None:
    async with open_for_business() as here:
        for number in range(10):
            await here.put_token(uid=f"C{number}")
        station = await listed(here, version)
        station.items_max = 4
        await tell(here, ItemsPerMessage=4, Entries=9)

        shown = await look(here)

        assert station.updates == [("Full", 1, 4), ("Differential", 2, 4), ("Differential", 3, 1)]
        assert (len(station.entries), shown["entries"], shown["wanted"]) == (9, 9, 11)


async def test_where_a_list_is_too_short_those_who_charged_last_are_in_it() -> None:
    async with open_for_business() as here:
        for number in range(5):
            await here.put_token(uid=f"C{number}")
        for number, at in ((3, 10), (1, 20), (2, 5)):
            await here.authorize(f"C{number}")
            await here.report(await here.started(str(number), card=f"C{number}", at=at, evse=1 + number % 2))
        station = await listed(here)
        await tell(here, Entries=2)

        await look(here)

        assert set(station.entries) == {"C1", "C3"}


async def test_after_a_reconnect_the_station_is_asked_what_it_has() -> None:
    async with open_for_business() as here:
        station = await listed(here)
        await look(here)
        for version, updates in ((station.version, 1), (0, 2), (77, 3)):
            here.clock.step_by(timedelta(minutes=1))
            here.gateway.connected_at = here.clock.now()
            here.clock.step_by(timedelta(minutes=1))
            station.version = version
            if version != 1:
                station.entries = {"FOREIGN": {}}

            shown = await look(here)

            assert (set(station.entries), len(station.updates)) == ({CARD}, updates)
            assert shown["version"] == station.version
        assert station.updates[-1] == ("Full", 78, 1)


@pytest.mark.parametrize("word", ["VersionMismatch", "Failed"])
async def test_a_differential_that_is_refused_ends_in_a_full(word: str) -> None:
    async with open_for_business() as here:
        station = await listed(here)
        await look(here)
        await here.put_token(uid="NEW")
        station.mishaps = [word]

        shown = await look(here)

        assert station.updates[-1] == ("Full", 2, 2)
        assert (set(station.entries), shown["state"]) == ({CARD, "NEW"}, "IN_SYNC")


async def test_a_list_that_is_refused_whole_is_tried_again_an_hour_later() -> None:
    async with open_for_business() as here:
        station = await listed(here)
        station.mishaps = ["Failed"]
        shown = await look(here)
        assert (shown["state"], shown["answer"]) == ("FAILED", "Failed")
        await look(here)
        assert station.updates == []

        here.clock.step_by(timedelta(hours=1, minutes=1))

        assert (await look(here))["state"] == "IN_SYNC"


@pytest.mark.parametrize("mishap", ["lost", "unheard"])
async def test_what_was_not_answered_is_sent_whole_once_it_is_known_what_the_station_has(mishap: str) -> None:
    async with open_for_business() as here:
        for number in range(5):
            await here.put_token(uid=f"C{number}")
        station = await listed(here)
        await tell(here, ItemsPerMessage=2)
        station.mishaps = ["fine", mishap]
        assert (await look(here))["state"] == "DUE"

        shown = await look(here)

        assert (len(station.entries), shown["entries"], shown["state"]) == (6, 6, "IN_SYNC")
        assert shown["version"] == station.version


async def test_a_station_without_lists_is_left_alone_until_it_boots() -> None:
    async with open_for_business() as here:
        station = await listed(here, "1.6")
        station.supports_lists = False
        assert (await look(here))["state"] == "NOT_SUPPORTED"
        asked = len(here.gateway.commands)
        await look(here)
        assert len(here.gateway.commands) == asked

        station.supports_lists = True
        await here.report(booted())

        assert (await look(here))["state"] == "IN_SYNC"


async def test_an_operator_chooses_and_takes_the_list_away_again() -> None:
    async with open_for_business() as here:
        await here.put_token(uid="CHOSEN")
        await here.put_token(uid="NEVER", whitelist=Whitelist.NEVER)
        named = [{"emsp_id": EMSP, "uid": uid} for uid in ("CHOSEN", "NEVER", "NOBODY")]
        station = await listed(here, mode="CHOSEN", tokens=named)
        await look(here)
        assert set(station.entries) == {"CHOSEN"}

        await here.api("PUT", PATH, {"mode": "NONE"})
        shown = await look(here)

        assert (station.entries, shown["mode"], shown["entries"], shown["state"]) == ({}, "NONE", 0, "IN_SYNC")


async def test_a_token_too_long_for_1_6_is_left_out() -> None:
    async with open_for_business() as here:
        await here.put_token(uid="X" * 21)
        station = await listed(here, "1.6")

        await look(here)
        await look(here)

        assert (set(station.entries), len(station.updates)) == ({CARD}, 1)


async def test_an_erased_driver_leaves_the_list_though_nobody_can_name_them_any_more() -> None:
    async with open_for_business() as here:
        await here.put_token(uid="GONE")
        station = await listed(here)
        await look(here)
        await here.ports.vault.erase(here.ports.vault.subject_of("GONE"))
        await here.put_token(uid="GONE", valid=False)

        shown = await look(here)

        assert (set(station.entries), shown["entries"], shown["state"]) == ({CARD}, 1, "IN_SYNC")
        assert station.updates[-1][0] == "Full"


@pytest.mark.parametrize(("version", "is_listed"), [("1.6", False), ("2.0.1", True)])
async def test_the_master_pass_leaves_every_1_6_list(version: str, *, is_listed: bool) -> None:
    async with open_for_business() as here:
        await here.put_token(uid="MASTER", group_id="MASTERS")
        station = await listed(here, version)
        await look(here)
        assert "MASTER" in station.entries

        group = {"emsp_id": "NL-EMP", "group_id": "MASTERS"}
        await here.api("PUT", f"/{CPO}/authorization-policy", {"master_pass": group})
        await here.operations.local_lists.follow_withdrawals()

        assert ("MASTER" in station.entries) == is_listed


async def test_an_operator_has_it_done_now_and_only_once_at_a_time() -> None:
    async with open_for_business() as here:
        assert (await here.api("POST", f"{PATH}/sync")).status_code == 404
        station = await listed(here)
        assert (await here.api("POST", f"{PATH}/sync")).json()["state"] == "IN_SYNC"
        station.mishaps = ["lost"]
        await here.put_token(uid="NEW")
        assert (await here.api("POST", f"{PATH}/sync")).status_code == 504
        async with here.ports.units.begin() as unit:
            (row,) = await unit.table(LOCAL_LIST).select()
            await unit.table(LOCAL_LIST).put(replace(row, leased_until=here.clock.now() + timedelta(minutes=1)))
            await unit.commit()

        assert (await here.api("POST", f"{PATH}/sync")).status_code == 409
        here.clock.step_by(timedelta(minutes=2))
        here.gateway.is_online = False
        assert (await here.api("POST", f"{PATH}/sync")).status_code == 409
        here.gateway.is_online = True
        assert (await here.api("POST", f"{PATH}/sync")).json()["state"] == "IN_SYNC"
        assert (await here.api("GET", f"/{OTHER_CPO}/stations/{STATION}/local-list")).status_code == 404


async def test_a_withdrawal_reaches_the_station_without_anybody_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_lists, "PROMPT_S", 0.01)
    async with open_for_business() as here:
        station = await listed(here)

        await here.until(lambda: has(station, CARD, is_in=True))
        await here.put_token(valid=False)
        await here.until(lambda: has(station, CARD, is_in=False))

        assert station.updates[-1][0] == "Differential"


async def has(station: ListStation, uid: str, *, is_in: bool) -> bool:
    return (uid in station.entries) == is_in


async def misfortunes(here: World, chance: random.Random, version: str) -> None:
    """Push, withdraw, lose, refuse and forget at random; in the end the station has exactly what it should."""
    station = await listed(here, version)
    station.items_max = 3
    await tell(here, ItemsPerMessage=3)
    names = [CARD, *(f"C{number}" for number in range(6))]
    wanted = {CARD: True}
    for _ in range(25):
        here.clock.step_by(timedelta(minutes=1))
        name = chance.choice(names)
        match chance.randrange(6):
            case 0 | 1:
                whitelist = chance.choice([Whitelist.ALLOWED, Whitelist.NEVER, Whitelist.ALLOWED_OFFLINE])
                wanted[name] = chance.random() < 0.8 and whitelist is not Whitelist.NEVER
                is_valid = wanted[name] or whitelist is Whitelist.NEVER
                await here.put_token(uid=name, whitelist=whitelist, valid=is_valid)
            case 2:
                here.gateway.connected_at = here.clock.now()
                if chance.random() < 0.5:
                    station.version, station.entries = chance.choice([0, 400]), {}
            case 3:
                station.mishaps += chance.choices(["lost", "unheard", "Failed", "VersionMismatch", "fine"], k=2)
            case 4:
                await here.operations.local_lists.follow_withdrawals()
            case _:
                await look(here)
    station.mishaps.clear()
    here.clock.step_by(timedelta(hours=2))
    here.gateway.connected_at = here.clock.now() - timedelta(minutes=1)
    for _ in range(3):
        shown = await look(here)

    assert (set(station.entries), shown["state"]) == ({name for name, is_in in wanted.items() if is_in}, "IN_SYNC")
    assert (shown["version"], shown["entries"]) == (station.version, len(station.entries))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_whatever_happens_the_station_ends_up_with_what_it_should_have(seed: int) -> None:
    async with open_for_business() as here:
        await misfortunes(here, random.Random(seed), VERSIONS[seed % 3])


@pytest.mark.postgres
async def test_the_same_over_postgresql(postgres_dsn: str) -> None:
    async with open_for_business(postgres_dsn) as here:
        await here.authorize()
        await misfortunes(here, random.Random(99), "2.0.1")


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_own_card_in_a_list_ends_at_its_date_though_nobody_can_tell_the_station(version: str) -> None:
    async with open_for_business() as here:
        station = await listed(here, version)
        for ends_at in ("2022-03-28T00:00:00.000Z", "2022-03-27T12:00:00.000Z"):
            table = f"uid,expires_at\nOWN1,{ends_at}\nOWN2,\n".encode()
            assert (await here.api("POST", f"/{CPO}/imports/tokens", table)).status_code == 200
            await look(here)

            told = station.entries["OWN1"].get("expiryDate", station.entries["OWN1"].get("cacheExpiryDateTime"))
            assert told == ends_at
            assert station.entries["OWN2"] == {"status": "Accepted"}


async def test_a_party_whose_stations_are_silent_holds_up_no_other_s_withdrawals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_lists, "LOOK_INTERVAL_S", 0.05)
    async with open_for_business() as here:
        station = await listed(here)
        await look(here)
        assert CARD in station.entries
        async with here.ports.units.begin() as unit:
            (known,) = await unit.table(LOCAL_LIST).select({"party_id": CPO})
            theirs = due(replace(known, party_id=OTHER_CPO, version_checked_at=None))
            await unit.table(LOCAL_LIST).put(theirs)
            await unit.commit()
        here.gateway.hangs_for = OTHER_CPO.code
        await here.put_token(valid=False)

        async with asyncio.timeout(10):
            await here.operations.local_lists.watch()
            await here.operations.local_lists.watch()

        assert CARD not in station.entries
        assert station.caches_cleared == 0, "no station has cached it"
