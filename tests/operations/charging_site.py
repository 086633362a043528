"""A site with three stations on three phases, played by a gateway that keeps to the profiles it was sent.

Whenever anything changes, it adds up what every car draws on every phase.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emobility.domain.meter import MeterReading
from emobility.events import codec
from emobility.events.charging import TransactionEnded, TransactionStarted, TransactionUpdated
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, StationCommand, StationPresence
from services.charging_operations.stations import StationTerms
from tests.operations.world import CPO, GATEWAY, START, World, evse, open_for_business

VERSIONS: Final = {"CS1": "2.0.1", "CS2": "1.6", "CS3": "2.1"}
GROUPS: Final = f"/{CPO}/load-groups"
SITE_A: Final = 40
FEEDER_W: Final = 13_800
VOLTAGE: Final = 230


@dataclass(slots=True)
class Car:
    """What it would take, per phase in tenths of an ampere."""

    wants_da: int = 320
    transaction_id: str = ""
    seq_no: int = 0
    is_reported: bool = False


@dataclass(slots=True)
class Socket:
    """An EVSE: profiles by their id, as they came."""

    phases: tuple[int, ...] = (1, 2, 3)
    profiles: dict[int, dict[str, Any]] = field(default_factory=dict)
    car: Car | None = None

    def allowed_da(self) -> int:
        """Read the profiles: a TxProfile of this transaction, else the TxDefaultProfile of the highest level."""
        own = [
            each
            for each in self.profiles.values()
            if each["chargingProfilePurpose"] == "TxProfile"
            and self.car is not None
            and each["transactionId"] == self.car.transaction_id
        ]
        default = [each for each in self.profiles.values() if each["chargingProfilePurpose"] == "TxDefaultProfile"]
        for some in (own, default):
            if some:
                schedule = max(some, key=lambda each: int(each["stackLevel"]))["chargingSchedule"]
                schedule = schedule[0] if isinstance(schedule, list) else schedule
                return int(Decimal(str(schedule["chargingSchedulePeriod"][0]["limit"])) * 10)
        return 320

    def drawn_da(self) -> int:
        """Below 6 A nobody charges."""
        allowed = 0 if self.car is None else min(self.allowed_da(), self.car.wants_da)
        return allowed if allowed >= 60 else 0


@dataclass(slots=True)
class Site:
    """Three stations with two EVSEs each, on three phases; CS2 and CS3 hang on a feeder of their own."""

    here: World
    sockets: dict[tuple[str, int], Socket]
    online: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(VERSIONS, True))
    answers: dict[str, CommandResult] = field(default_factory=dict)
    applies: bool = True
    """Whether a station that does not answer follows what it was told all the same."""
    limit_da: int = SITE_A * 10
    is_metered: bool = True
    """Whether stations tell what is drawn."""
    is_checked: bool = False
    hangs_for: str = ""
    """The party that gets no answer from the gateway."""
    hung: int = 0
    peak_da: int = 0
    commands: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def check(self) -> None:
        """Add up what is drawn on each phase, now."""
        for phase in (1, 2, 3):
            drawn = sum(socket.drawn_da() for socket in self.sockets.values() if phase in socket.phases)
            self.peak_da = max(self.peak_da, drawn)
            assert not self.is_checked or drawn <= self.limit_da, f"{drawn} on L{phase}"
        feeder = sum(
            socket.drawn_da() * VOLTAGE * len(socket.phases) for key, socket in self.sockets.items() if key[0] != "CS1"
        )
        assert not self.is_checked or feeder <= FEEDER_W * 10, f"{feeder} on the feeder"

    def app(self) -> Starlette:
        """The gateway's API."""

        def present(station: str) -> StationPresence:
            return StationPresence(
                charging_station_id=station,
                is_online=self.online[station],
                gateway_url=GATEWAY,
                ocpp_version=VERSIONS[station],
                connected_at=START,
            )

        async def presences(request: Request) -> Response:
            if request.path_params["party"] == self.hangs_for:
                self.hung += 1
                await asyncio.Event().wait()
            known = VERSIONS if request.path_params["party"] == CPO.code else {}
            return Response(codec.encode([present(each) for each in known]))

        async def presence(request: Request) -> Response:
            return Response(codec.encode(present(request.path_params["station"])))

        async def command(request: Request) -> Response:
            asked = codec.decode(await request.body(), StationCommand).ocpp_call
            assert asked is not None
            outcome = self.told(request.path_params["station"], asked.action, asked.payload)
            self.check()
            return Response(codec.encode(outcome))

        return Starlette(
            routes=[
                Route("/stations/{party}", presences, methods=["GET"]),
                Route("/stations/{party}/{station}", presence, methods=["GET"]),
                Route("/stations/{party}/{station}/commands", command, methods=["POST"]),
            ]
        )

    def told(self, station: str, action: str, payload: dict[str, Any]) -> CommandOutcome:
        if not self.online[station]:
            return CommandOutcome(result=CommandResult.STATION_OFFLINE)
        self.commands.append((station, action, payload))
        result = self.answers.get(station, CommandResult.ACCEPTED)
        if result is CommandResult.ACCEPTED or (result is CommandResult.TIMED_OUT and self.applies):
            self.apply(station, action, payload)
        status = {CommandResult.ACCEPTED: "Accepted", CommandResult.REJECTED: "Rejected"}.get(result)
        return CommandOutcome(result=result, station_status=status, answer={"status": status} if status else None)

    def apply(self, station: str, action: str, payload: dict[str, Any]) -> None:
        if action == "ClearChargingProfile":
            number = payload["id" if "id" in payload else "chargingProfileId"]
            for (name, _), socket in self.sockets.items():
                if name == station:
                    socket.profiles.pop(number, None)
            return
        profile = payload.get("chargingProfile", payload.get("csChargingProfiles"))
        assert profile is not None
        number = profile["id" if "id" in profile else "chargingProfileId"]
        socket = self.sockets[station, payload["evseId" if "evseId" in payload else "connectorId"]]
        socket.profiles[number] = profile

    # Cars

    def plug(self, key: tuple[str, int], wants_da: int = 320) -> None:
        """A car comes and begins to draw what it may, whether anybody hears of it or not."""
        version = VERSIONS[key[0]]
        number = len(self.commands) * 1_000 + self.here.clock.now().minute * 10 + key[1]
        transaction_id = str(number) if version == "1.6" else f"T{number}-{key[0]}"
        self.sockets[key].car = Car(wants_da=wants_da, transaction_id=transaction_id)
        self.check()

    async def unplug(self, key: tuple[str, int]) -> None:
        """A car goes; its TxProfile goes with it."""
        socket = self.sockets[key]
        car, socket.car = socket.car, None
        gone = [number for number, each in socket.profiles.items() if each["chargingProfilePurpose"] == "TxProfile"]
        for number in gone:
            del socket.profiles[number]
        if car is not None and car.is_reported and self.online[key[0]]:
            await self.here.report(
                TransactionEnded(
                    party_id=CPO,
                    charging_station_id=key[0],
                    transaction_id=car.transaction_id,
                    occurred_at=self.here.clock.now(),
                    seq_no=car.seq_no,
                )
            )

    async def report(self) -> None:
        """Every station that is connected tells of its cars: a start once, and what is drawn."""
        now = self.here.clock.now()
        events: list[Any] = []
        for (station, number), socket in self.sockets.items():
            car = socket.car
            if car is None or not self.online[station]:
                continue
            power_w = socket.drawn_da() * VOLTAGE * len(socket.phases) // 10
            common: dict[str, Any] = {
                "party_id": CPO,
                "charging_station_id": station,
                "transaction_id": car.transaction_id,
                "occurred_at": now,
                "seq_no": car.seq_no,
                "readings": (MeterReading(at=now, power_w=power_w),) if self.is_metered else (),
                "ocpp_evse_id": number,
                "charging_state": "Charging",
            }
            kind = TransactionUpdated if car.is_reported else TransactionStarted
            events.append(kind(**common, connector_id=1))
            car.is_reported, car.seq_no = True, car.seq_no + 1
        if events:
            await self.here.report(*events)

    async def look(self, *, minutes: float = 1) -> None:
        """Let time pass, stations report, and the load manager look."""
        self.here.clock.step_by(timedelta(minutes=minutes))
        await self.report()
        await self.here.operations.load.balance()
        self.check()

    def drawn_a(self, phase: int = 1) -> float:
        return sum(each.drawn_da() for each in self.sockets.values() if phase in each.phases) / 10


@asynccontextmanager
async def site(postgres_dsn: str | None = None, **terms: Any) -> AsyncIterator[Site]:
    """A site with its groups entered and its fallbacks confirmed."""
    async with open_for_business(postgres_dsn) as here:
        for station in VERSIONS:
            evses = (evse(1, station=station), evse(2, station=station))
            answer = await here.api("PUT", f"/{CPO}/stations/{station}", StationTerms(location_id="LOC1", evses=evses))
            assert answer.status_code == 200, answer.text
        keys = [(station, number) for station in VERSIONS for number in (1, 2)]
        made = Site(here=here, sockets={key: Socket() for key in keys})
        made.sockets["CS3", 2].phases = (3,)
        here.http.mount(GATEWAY, made.app())
        for group_id, stations, limits in (
            ("site", ["CS1"], {"limit_a": {"l1": SITE_A, "l2": SITE_A, "l3": SITE_A}}),
            ("feeder", ["CS2", "CS3"], {"limit_w": FEEDER_W, "parent_id": "site"}),
        ):
            members = [
                {
                    "charging_station_id": station,
                    "evse_id": number,
                    "phases": made.sockets[station, number].phases,
                    "max_a": 32,
                    **terms,
                }
                for station in stations
                for number in (1, 2)
            ]
            answer = await here.api("PUT", f"{GROUPS}/{group_id}", limits | {"evses": members})
            assert answer.status_code == 200, answer.text
        await here.operations.load.balance()
        assert all(len(each.profiles) == 1 for each in made.sockets.values())
        made.is_checked = True
        yield made


def limit_of(payload: dict[str, Any]) -> Any:
    return payload["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"]


async def shown(here: World, group_id: str = "site") -> dict[str, Any]:
    answer = await here.api("GET", f"{GROUPS}/{group_id}")
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json()
    return view
