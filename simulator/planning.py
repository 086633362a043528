"""Turn a seed into a `Scenario`: arrivals, vehicles and faults, so that no EVSE and no driver is in two places."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from simulator import network
from simulator.arrivals import draw_arrival, draw_connection_s, draw_energy_wh
from simulator.market import negative_weekday
from simulator.scenario import (
    GRID_S,
    TIME_ZONE,
    UNKNOWN_CARD,
    DriverPlan,
    Intrusion,
    Outage,
    PlanKind,
    Scenario,
    SessionFault,
    SessionPlan,
    StartedBy,
    StationPlan,
    StoppedBy,
)
from simulator.stations.profile import OCPPVersion

SHORT_DAY: Final = date(2022, 3, 27)
"""Clocks go forward: 23 hours."""
ARRIVALS_PER_DAY: Final = 72
ROAMING_SHARE: Final = (1, 2)
"""Half of the arrivals are drivers of the other company's MSP."""
GRID: Final = timedelta(seconds=GRID_S)
STAY_MIN: Final = timedelta(minutes=30)
STAY_MAX: Final = timedelta(hours=14)
GAP: Final = timedelta(minutes=10)
"""Between two vehicles at an EVSE, and between two charges of a driver."""
WANTED_WH_MIN: Final = 1_000
WANTED_WH_USUAL: Final = 4_000
BATTERY_SHARE_PERCENT: Final = 85
"""A vehicle arrives with at least the rest of its battery full."""
DC_STAY_AFTER: Final = timedelta(minutes=10)
OUTAGE_OVERHANG: Final = timedelta(minutes=30)
PLACES_TRIED_MAX: Final = 40
INTRUSIONS_PER_DAY: Final = 2
DRAWS_MAX: Final = 50


class _NoSessionFor(RuleBroken):
    """No session of the plan can carry a fault."""

    def __init__(self, fault: SessionFault) -> None:
        super().__init__(f"no session for {fault}")


def plan_scenario(seed: int, *, arrivals_per_day: int = ARRIVALS_PER_DAY) -> Scenario:
    """Return the demo of a seed: two local days, the second the weekday with the deepest negative price.

    Arrivals among which no session fits a fault are drawn again from the next stream; few seeds need it.
    """
    for attempt in range(DRAWS_MAX):
        try:
            return _plan(seed, f"{seed}/{attempt}", arrivals_per_day)
        except _NoSessionFor:
            continue
    raise AssertionError(f"seed {seed} has no plan after {DRAWS_MAX} draws")


def _plan(seed: int, stream: str, arrivals_per_day: int) -> Scenario:
    days = (SHORT_DAY, negative_weekday())
    stations = network.stations(seed)
    drivers = network.drivers(seed)
    ledger = _Ledger()
    sessions = [
        session
        for day in days
        for session in _plan_day(stream, day, stations, drivers, ledger, arrivals_per_day=arrivals_per_day)
    ]
    sessions.sort(key=lambda each: (each.arrives_at, each.charging_station_id, each.ocpp_evse_id))
    numbered = [replace(session, number=number) for number, session in enumerate(sessions, start=1)]
    marked, outages = _mark_faults(seed, stream, numbered, stations)
    return Scenario(
        seed=seed,
        time_zone=TIME_ZONE,
        days=days,
        begins_at=_local(days[0], time()) - timedelta(hours=12),
        ends_at=max(*(each.leaves_at for each in marked), _local(days[-1] + timedelta(days=1), time()))
        + timedelta(hours=1),
        cpos=(network.TULIP, network.POLDER),
        emsps=(network.ZON, network.RHEIN),
        nsp=network.KAART,
        hub=network.HUB,
        home_of=dict(network.HOME_OF),
        locations=network.locations(),
        stations=stations,
        drivers=drivers,
        sessions=tuple(marked),
        outages=outages,
        intrusions=_plan_intrusions(stream, days, stations, marked, outages),
    )


@dataclass(slots=True)
class _Ledger:
    """Who and what is taken when."""

    evses: dict[tuple[PartyId, str, int], list[tuple[datetime, datetime]]] = field(default_factory=dict)
    drivers: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def evse_is_free(self, key: tuple[PartyId, str, int], begin: datetime, end: datetime) -> bool:
        return _is_free(self.evses.get(key, []), begin, end)

    def driver_is_free(self, driver: DriverPlan, begin: datetime, end: datetime) -> bool:
        return _is_free(self.drivers.get(driver.contract_id, []), begin, end)

    def take(self, session: SessionPlan) -> None:
        span = (session.arrives_at, session.leaves_at)
        self.evses.setdefault(_evse_key(session), []).append(span)
        self.drivers.setdefault(session.driver.contract_id, []).append(span)


def _is_free(taken: Sequence[tuple[datetime, datetime]], begin: datetime, end: datetime) -> bool:
    return all(end + GAP <= other_begin or other_end + GAP <= begin for other_begin, other_end in taken)


def _evse_key(session: SessionPlan) -> tuple[PartyId, str, int]:
    return session.party_id, session.charging_station_id, session.ocpp_evse_id


def _plan_day(
    stream: str,
    day: date,
    stations: Sequence[StationPlan],
    drivers: Sequence[DriverPlan],
    ledger: _Ledger,
    *,
    arrivals_per_day: int,
) -> list[SessionPlan]:
    # One stream per question: drawing more of one never moves another.
    when, where, who, how_much, how_long, how = (
        random.Random(f"{stream} {day} {name}") for name in ("when", "where", "who", "how much", "how long", "how")
    )
    moments = sorted(draw_arrival(when, day, TIME_ZONE, grid_s=GRID_S) for _ in range(arrivals_per_day))
    roaming = _shares(how, arrivals_per_day, *ROAMING_SHARE)
    by_app = _shares(how, arrivals_per_day, 1, 2)
    sessions = []
    for arrives_at, is_roaming, app in zip(moments, roaming, by_app, strict=True):
        wanted_wh = max(WANTED_WH_MIN, draw_energy_wh(how_much))
        stay = _on_grid(timedelta(seconds=draw_connection_s(how_long)))
        session = _place(
            arrives_at,
            stay,
            wanted_wh,
            stations=stations,
            drivers=drivers,
            ledger=ledger,
            where=where,
            who=who,
            is_roaming=is_roaming,
            started_by=StartedBy.APP if app else StartedBy.RFID,
            stopped_by=_stopped_by(how, by_app=app),
        )
        if session is not None:  # all taken: the driver goes elsewhere
            ledger.take(session)
            sessions.append(session)
    return sessions


def _place(
    arrives_at: datetime,
    stay: timedelta,
    wanted_wh: int,
    *,
    stations: Sequence[StationPlan],
    drivers: Sequence[DriverPlan],
    ledger: _Ledger,
    where: random.Random,
    who: random.Random,
    is_roaming: bool,
    started_by: StartedBy,
    stopped_by: StoppedBy,
) -> SessionPlan | None:
    """Find an EVSE and a driver that are free; None when no place is."""
    for _ in range(PLACES_TRIED_MAX):
        station = where.choice(stations)
        evse_id = where.randrange(len(station.profile.evses)) + 1
        candidates = [
            driver
            for driver in drivers
            if (driver.emsp_id != network.HOME_OF[station.party_id]) is is_roaming
            and not driver.card_is_declined
            and ledger.driver_is_free(driver, arrives_at, arrives_at + STAY_MAX)
        ]
        if not candidates:
            continue
        driver = who.choice(candidates)
        power_w = min(
            station.connector.power_w, driver.vehicle.dc_power_w if station.is_dc else driver.vehicle.ac_power_w
        )
        fitting_wh = min(wanted_wh, driver.vehicle.battery_wh * BATTERY_SHARE_PERCENT // 100)
        charging = timedelta(seconds=fitting_wh * 3_600 // power_w)
        # At a fast charger nobody stays for the night: the vehicle leaves when it has what it wants.
        length = charging + DC_STAY_AFTER if station.is_dc else stay
        leaves_at = arrives_at + _on_grid(max(STAY_MIN, min(STAY_MAX, length)))
        if ledger.evse_is_free((station.party_id, station.charging_station_id, evse_id), arrives_at, leaves_at):
            return SessionPlan(
                number=0,
                party_id=station.party_id,
                charging_station_id=station.charging_station_id,
                ocpp_evse_id=evse_id,
                driver=driver,
                started_by=started_by,
                stopped_by=stopped_by,
                arrives_at=arrives_at,
                leaves_at=leaves_at,
                power_w=power_w,
                wanted_wh=fitting_wh,
                is_roaming=is_roaming,
            )
    return None


def _shares(chance: random.Random, count: int, part: int, of: int) -> list[bool]:
    chosen = [place < count * part // of for place in range(count)]
    chance.shuffle(chosen)
    return chosen


def _stopped_by(chance: random.Random, *, by_app: bool) -> StoppedBy:
    first = StoppedBy.APP if by_app else StoppedBy.CARD
    return chance.choice((first, first, StoppedBy.CABLE))


def _on_grid(duration: timedelta) -> timedelta:
    return -(-duration // GRID) * GRID


def _local(day: date, at: time) -> datetime:
    return datetime.combine(day, at, tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)


# What goes wrong ------------------------------------------------------------------------------------------------


def _mark_faults(
    seed: int, stream: str, sessions: Sequence[SessionPlan], stations: Sequence[StationPlan]
) -> tuple[list[SessionPlan], tuple[Outage, ...]]:
    """Choose one session for each fault, each at its own station, and the outages that two of them need."""
    chance = random.Random(f"{stream} faults")
    versions = {(each.party_id, each.charging_station_id): each.profile.version for each in stations}
    is_dc = {(each.party_id, each.charging_station_id): each.is_dc for each in stations}
    marked = list(sessions)
    hurt: set[tuple[PartyId, str]] = set()

    def choose(
        fault: SessionFault,
        candidates: list[SessionPlan],
        changed: Callable[[SessionPlan], SessionPlan] = lambda session: session,
    ) -> SessionPlan:
        fitting = [each for each in candidates if (each.party_id, each.charging_station_id) not in hurt]
        if not fitting:
            raise _NoSessionFor(fault)
        chosen = chance.choice(fitting)
        hurt.add((chosen.party_id, chosen.charging_station_id))
        marked[chosen.number - 1] = replace(changed(chosen), fault=fault)
        return marked[chosen.number - 1]

    # Long enough that energy still flows when the station goes away.
    long = [
        each
        for each in sessions
        if each.leaves_at - each.arrives_at >= 6 * STAY_MIN and each.full_at >= each.arrives_at + 2 * STAY_MIN
    ]
    usual = [each for each in sessions if each.wanted_wh >= WANTED_WH_USUAL]
    half = sessions[len(sessions) // 2].arrives_at
    with_16 = [each for each in usual if versions[each.party_id, each.charging_station_id] is OCPPVersion.OCPP16]
    with_2x = [each for each in usual if versions[each.party_id, each.charging_station_id] is not OCPPVersion.OCPP16]
    offline = choose(
        SessionFault.STATION_OFFLINE,
        [each for each in long if _is_alone(each, _offline_window(each), sessions)],
        changed=lambda session: replace(session, stopped_by=StoppedBy.CABLE),
    )
    rebooted = choose(
        SessionFault.STATION_REBOOTS, [each for each in long if _is_alone(each, _reboot_window(each), sessions)]
    )
    choose(SessionFault.FORGED_METER_VALUE, with_2x)
    choose(SessionFault.END_SENT_TWICE, with_16)
    choose(SessionFault.DISPUTED, [each for each in usual if each.is_roaming and each.arrives_at < half])
    for fault, plan, started_by in (
        (SessionFault.CARD_DECLINED, PlanKind.PASS_THROUGH, StartedBy.APP),
        (SessionFault.PAYMENT_DECLINED, PlanKind.FLAT, StartedBy.RFID),
    ):
        unlucky = next(each for each in network.drivers(seed) if each.card_is_declined and each.plan is plan)
        choose(
            fault,
            [
                each
                for each in sessions
                if each.started_by is started_by
                and not is_dc[each.party_id, each.charging_station_id]
                and each.driver.emsp_id == unlucky.emsp_id
            ],
            changed=partial(_driven_by, unlucky),
        )
    outages = (
        _outage(offline, _offline_window(offline), loses_power=False),
        _outage(rebooted, _reboot_window(rebooted), loses_power=True),
    )
    return marked, outages


def _driven_by(driver: DriverPlan, session: SessionPlan) -> SessionPlan:
    """Let another driver come in place of the one planned, with the vehicle of that driver."""
    vehicle = driver.vehicle
    return replace(
        session,
        driver=driver,
        power_w=min(session.power_w, vehicle.ac_power_w),
        wanted_wh=min(session.wanted_wh, vehicle.battery_wh * BATTERY_SHARE_PERCENT // 100),
    )


def _offline_window(session: SessionPlan) -> tuple[datetime, datetime]:
    return session.arrives_at + STAY_MIN, session.leaves_at + OUTAGE_OVERHANG


def _reboot_window(session: SessionPlan) -> tuple[datetime, datetime]:
    begins_at = session.arrives_at + STAY_MIN
    return begins_at, begins_at + GRID


def _outage(session: SessionPlan, window: tuple[datetime, datetime], *, loses_power: bool) -> Outage:
    return Outage(
        party_id=session.party_id,
        charging_station_id=session.charging_station_id,
        begins_at=window[0],
        ends_at=window[1],
        loses_power=loses_power,
    )


def _is_alone(session: SessionPlan, window: tuple[datetime, datetime], sessions: Sequence[SessionPlan]) -> bool:
    """Nobody else starts or stops at the station while it is away."""
    begin, end = window
    return not any(
        other is not session
        and (other.party_id, other.charging_station_id) == (session.party_id, session.charging_station_id)
        and (begin <= other.arrives_at <= end or begin <= other.leaves_at <= end)
        for other in sessions
    )


def _plan_intrusions(
    stream: str,
    days: Sequence[date],
    stations: Sequence[StationPlan],
    sessions: Sequence[SessionPlan],
    outages: Sequence[Outage],
) -> tuple[Intrusion, ...]:
    """Unknown cards at free EVSEs, and wrong passwords."""
    chance = random.Random(f"{stream} intrusions")
    away = {(each.party_id, each.charging_station_id) for each in outages}
    untroubled = [each for each in stations if (each.party_id, each.charging_station_id) not in away]
    intrusions = []
    for day in days:
        for number in range(INTRUSIONS_PER_DAY):
            at = _local(day, time(9 + 5 * number, 35))
            idle = [
                (each, evse.ocpp_evse_id)
                for each in untroubled
                for evse in each.profile.evses
                if _is_idle(each, evse.ocpp_evse_id, at, sessions)
            ]
            station, evse_id = chance.choice(idle)
            intrusions.append(
                Intrusion(
                    party_id=station.party_id,
                    charging_station_id=station.charging_station_id,
                    ocpp_evse_id=evse_id,
                    at=at,
                    id_token=UNKNOWN_CARD if number == 0 else None,
                )
            )
    return tuple(intrusions)


def _is_idle(station: StationPlan, ocpp_evse_id: int, at: datetime, sessions: Sequence[SessionPlan]) -> bool:
    return not any(
        _evse_key(each) == (station.party_id, station.charging_station_id, ocpp_evse_id)
        and each.arrives_at - GAP <= at <= each.leaves_at + GAP
        for each in sessions
    )
