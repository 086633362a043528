"""The simulator on real adapters: WebSockets to the gateway, HTTP to the back offices, the time master's clock."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from emobility.adapters.http_egress import GuardedHttpClient
from emobility.adapters.system import SteppedClock, SystemClock, SystemTimer
from emobility.domain.errors import RuleBroken
from emobility.runtime.settings import Settings
from simulator.api_client import Addresses
from simulator.backstage import HttpBackstage
from simulator.dialing import WebSocketDialer
from simulator.journal import AcknowledgementJournal
from simulator.load import LoadPlan, LoadReport, LoadRun
from simulator.network import load_scenario
from simulator.planning import plan_scenario
from simulator.quiet import quiet_by_http, until_up
from simulator.report import REPORT_FILE, TRUTH_FILE, SimulationReport
from simulator.simulation import Simulation


class ClockNotStepped(RuleBroken):
    """A scenario of two days is played on a stepped clock only."""

    def __init__(self) -> None:
        super().__init__("set WATTROAM_CLOCK_FILE to the stepped clock of the system; only load runs in real time")


def addresses_of(settings: Settings) -> Addresses:
    """Return where the system is, by its settings."""
    return Addresses(
        business_url=settings.business_url,
        gateway_api_url=settings.gateway_api_url,
        gateway_ocpp_url=f"ws://{settings.gateway_host}:{settings.gateway_ocpp_port}",
        internal_token=settings.internal_token.get_secret_value(),
    )


def _origins(settings: Settings) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*settings.embedded_origins, settings.business_url, settings.gateway_api_url)))


async def run_scenario(
    settings: Settings,
    *,
    seed: int,
    progress: Callable[[str, int], None] = lambda _sentence, _permille: None,
    folder: Path | None = None,
) -> SimulationReport:
    """Set a running system up and play the scenario of a seed on it. Writes truth and report to `folder`.

    Raises:
        ClockNotStepped: the settings name no stepped clock.
        CallRefused: an operator's or driver's API refused what has to succeed.
        NeverUp: the system does not come up.
        NeverQuiet: it does not come to rest.
    """
    if settings.clock_file is None:
        raise ClockNotStepped
    scenario = plan_scenario(seed)
    clock, timer, addresses = SteppedClock(settings.clock_file), SystemTimer(), addresses_of(settings)
    async with GuardedHttpClient(embedded_origins=_origins(settings)) as http:
        backstage = HttpBackstage(scenario, addresses=addresses, http=http, now=clock.now)
        await until_up(addresses, http=http, timer=timer)
        report = await Simulation(
            scenario,
            clock=clock,
            timer=timer,
            dialer=WebSocketDialer(),
            gateway_url=addresses.gateway_ocpp_url,
            backstage=backstage,
            quiet=quiet_by_http(addresses, http=http, timer=timer),
            progress=progress,
        ).run()
    if folder is not None:
        report.truth.write(folder / TRUTH_FILE)
        (folder / REPORT_FILE).write_text(json.dumps(report.figures(), indent=1) + "\n")
    return report


async def run_load(
    settings: Settings,
    *,
    seed: int,
    stations: int,
    duration_s: float,
    sample_every_s: float,
    samples_per_charge: int,
    messages_max: int | None = None,
    sets_up: bool = True,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> LoadReport:
    """Put load on a running system in real time; acknowledged messages go to `folder`/acknowledged.jsonl as they come.

    With `sets_up` the stations, drivers and contracts are entered first; without, they are there already.
    """
    scenario = load_scenario(seed, stations)
    clock = SystemClock() if settings.clock_file is None else SteppedClock(settings.clock_file)
    timer, addresses = SystemTimer(), addresses_of(settings)
    async with GuardedHttpClient(embedded_origins=_origins(settings)) as http:
        if sets_up:
            progress(f"entering {stations} stations")
            await HttpBackstage(scenario, addresses=addresses, http=http, now=clock.now).set_up()
            await quiet_by_http(addresses, http=http, timer=timer)()
    journal = None if folder is None else AcknowledgementJournal(folder / "acknowledged.jsonl")
    plan = LoadPlan(
        profiles=[each.profile for each in scenario.stations],
        tokens=[each.rfid_uid for each in scenario.drivers],
        duration_s=duration_s,
        sample_every_s=sample_every_s,
        samples_per_charge=samples_per_charge,
        messages_max=messages_max,
    )
    try:
        report = await LoadRun(
            plan,
            now=clock.now,
            timer=timer,
            dialer=WebSocketDialer(),
            gateway_url=addresses.gateway_ocpp_url,
            journal=journal,
            progress=progress,
        ).run()
    finally:
        if journal is not None:
            journal.close()
    if folder is not None:
        report.truth.write(folder / TRUTH_FILE)
    return report


def load_figures(report: LoadReport) -> dict[str, object]:
    """Return a load report as plain JSON."""
    plain = {field.name: getattr(report, field.name) for field in dataclasses.fields(report) if field.name != "truth"}
    return plain | {"metered_wh": report.truth.metered_wh, "transactions": len(report.truth.transactions)}
