"""What simulated stations can do beside charging: each CALL of a CSMS is answered by the schema, and with sense."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from charge_point_gateway.certificates import read_request
from charge_point_gateway.commands import actions_of_csms
from charge_point_gateway.rpc_errors import OCPPVersion as Version
from charge_point_gateway.schemas import schemas_of
from emobility.adapters.memory.time import VirtualClock
from emobility.domain.identifiers import PartyId
from simulator.simulation import make_station
from simulator.stations.battery_swap import Battery
from simulator.stations.calls import Payload
from simulator.stations.ocpp21 import Station21
from simulator.stations.profile import EVSEProfile, OCPPVersion, StationProfile
from simulator.stations.station import EVSEState, Station
from simulator.truth import Truth
from tests.gateway.certificate_makers import CA, pem
from tests.gateway.schema_cases import fullest, schema_of, smallest

NOW: Final = datetime(2022, 3, 27, 8, 0, tzinfo=UTC)
CARD: Final = "04A1B2C3D4E5F6"
HOUR: Final = timedelta(hours=1)
VERSIONS: Final = {
    Version.V16: OCPPVersion.OCPP16,
    Version.V201: OCPPVersion.OCPP201,
    Version.V21: OCPPVersion.OCPP21,
}
ACTIONS: Final = [(version, action) for version in Version for action in sorted(actions_of_csms(version))]


class Bench:
    """A station that is connected to nobody: what it would send is checked by the schema, kept, and acknowledged."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.clock = VirtualClock(NOW)
        self.sent: list[tuple[str, Payload]] = []
        self.answers: dict[str, Payload] = {}
        profile = StationProfile(
            party_id=PartyId("NL-TUL"),
            charging_station_id="TUL-001",
            version=VERSIONS[version],
            password="0123456789abcdef",
            time_zone="Europe/Amsterdam",
            seed="bench",
            evses=tuple(
                EVSEProfile(
                    ocpp_evse_id=number,
                    evse_name=f"NL*TUL*E{number}",
                    power_w_max=11_000,
                    is_dc=False,
                    meter_serial=f"M{number}",
                    meter_seed=f"bench {number}",
                    register_wh=1_000_000 * number,
                    signs=False,
                )
                for number in (1, 2)
            ),
        )
        self.station: Station = make_station(profile, now=self.clock.now, truth=Truth())
        self.boot()

    def boot(self) -> None:
        self.station.connected()
        self.flush()

    def flush(self) -> None:
        while (call := self.station.next_call()) is not None:
            _, payload = self.station.prepare(call)
            schemas_of(self.version).check_request(call.action, payload)
            self.sent.append((call.action, payload))
            if call.is_send:
                self.station.sent(call)
            else:
                self.station.answered(call, self._answer(call.action))

    def _answer(self, action: str) -> Payload:
        if action in self.answers:
            return self.answers[action]
        accepted = {"status": "Accepted"}
        answers: dict[str, Payload] = {
            "BootNotification": {"interval": 300, **accepted},
            "Authorize": {"idTagInfo": accepted, "idTokenInfo": accepted},
            "StartTransaction": {"transactionId": 7, "idTagInfo": accepted},
        }
        return answers.get(action, accepted)

    def ask(self, action: str, payload: Payload) -> Payload:
        schemas_of(self.version).check_request(action, payload)
        reply = self.station.asked(action, payload)
        schemas_of(self.version).check_response(action, reply.payload)
        reply.then()
        self.flush()
        return reply.payload

    def status(self, action: str, payload: Payload) -> str:
        word: str = self.ask(action, payload)["status"]
        return word

    def step(self, duration: timedelta) -> None:
        self.clock.step_by(duration)
        self.station.tick()
        self.flush()

    def charge(self, evse_id: int = 1, **vehicle: int) -> str:
        self.station.plug_in(evse_id, **({"power_w": 11_000, "wanted_wh": 50_000} | vehicle))
        self.station.present(evse_id, CARD)
        self.flush()
        transaction = self.station.evses[evse_id].transaction
        assert transaction is not None
        return transaction.local_id

    def of(self, action: str) -> list[Payload]:
        return [payload for name, payload in self.sent if name == action]

    def power_w(self, evse_id: int = 1) -> int:
        return self.station.evses[evse_id].meter.power_w


def bench21() -> tuple[Bench, Station21]:
    bench = Bench(Version.V21)
    assert isinstance(bench.station, Station21)
    return bench, bench.station


def limited(w: float | None, *, profile_id: int = 1, purpose: str = "TxProfile", **more: Any) -> Payload:
    period = {"startPeriod": 0} | ({} if w is None else {"limit": w})
    schedule = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [period | more.pop("period", {})]}
    return {
        "id": profile_id,
        "stackLevel": 0,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Relative",
        "chargingSchedule": [schedule],
        **more,
    }


def token(text: str = CARD) -> Payload:
    return {"idToken": text, "type": "ISO14443"}


# -- every CALL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", [smallest, fullest])
@pytest.mark.parametrize(("version", "action"), ACTIONS)
def test_every_call_of_a_csms_is_answered_by_its_schema_and_so_is_what_follows(
    version: Version, action: str, example: Callable[[Payload], Any]
) -> None:
    idle, busy = Bench(version), Bench(version)
    busy.charge()

    answers = [bench.ask(action, example(schema_of(version, action))) for bench in (idle, busy)]

    assert all(isinstance(each, dict) for each in answers)


# -- the common concepts, in the words of each version ---------------------------------------------------------------


RESERVE: Final[dict[Version, Payload]] = {
    Version.V16: {"connectorId": 1, "idTag": CARD, "reservationId": 5, "expiryDate": "2022-03-27T09:00:00Z"},
    Version.V201: {"id": 5, "evseId": 1, "idToken": token(), "expiryDateTime": "2022-03-27T09:00:00Z"},
    Version.V21: {"id": 5, "evseId": 1, "idToken": token(), "expiryDateTime": "2022-03-27T09:00:00Z"},
}


@pytest.mark.parametrize("version", list(Version))
def test_a_reserved_evse_is_for_its_driver_alone(version: Version) -> None:
    bench = Bench(version)

    assert bench.status("ReserveNow", RESERVE[version]) == "Accepted"
    bench.station.plug_in(1, power_w=11_000, wanted_wh=1_000)
    bench.station.present(1, "SOMEBODY")
    refused = bench.station.evses[1].last_refusal
    bench.station.present(1, CARD)
    bench.flush()

    assert refused == "Reserved"
    assert bench.station.evses[1].transaction is not None
    assert bench.status("CancelReservation", {"reservationId": 5}) == "Rejected"  # it is used


@pytest.mark.parametrize("version", list(Version))
def test_a_reservation_ends_with_its_time_and_2_x_says_so(version: Version) -> None:
    bench = Bench(version)
    bench.ask("ReserveNow", RESERVE[version])

    bench.step(HOUR)

    assert bench.station.evses[1].state is EVSEState.AVAILABLE
    ended = [{"reservationId": 5, "reservationUpdateStatus": "Expired"}]
    assert bench.of("ReservationStatusUpdate") == ([] if version is Version.V16 else ended)


@pytest.mark.parametrize("version", list(Version))
def test_a_driver_on_the_local_list_charges_at_a_station_without_connection(version: Version) -> None:
    bench = Bench(version)
    if version is Version.V16:
        entry: Payload = {"idTag": CARD, "idTagInfo": {"status": "Accepted"}}
        sent: Payload = {"listVersion": 3, "updateType": "Full", "localAuthorizationList": [entry]}
    else:
        entry = {"idToken": token(), "idTokenInfo": {"status": "Accepted"}}
        sent = {"versionNumber": 3, "updateType": "Full", "localAuthorizationList": [entry]}

    assert bench.status("SendLocalList", sent) == "Accepted"
    assert bench.status("SendLocalList", sent | {"updateType": "Differential"}) == "VersionMismatch"
    assert set(bench.ask("GetLocalListVersion", {}).values()) == {3}
    bench.station.disconnected()
    for evse_id, card in ((1, CARD), (2, "SOMEBODY")):
        bench.station.plug_in(evse_id, power_w=11_000, wanted_wh=1_000)
        bench.station.present(evse_id, card)

    assert [evse.transaction is not None for evse in bench.station.evses.values()] == [True, False]


@pytest.mark.parametrize("version", list(Version))
def test_an_evse_goes_out_of_service_when_its_charge_is_over(version: Version) -> None:
    bench = Bench(version)
    bench.charge()
    wanted: Payload = {"connectorId": 1, "type": "Inoperative"}
    if version is not Version.V16:
        wanted = {"evse": {"id": 1}, "operationalStatus": "Inoperative"}

    scheduled = bench.status("ChangeAvailability", wanted)
    bench.station.unplug(1)
    bench.step(HOUR)
    bench.station.plug_in(1, power_w=1, wanted_wh=1)
    bench.station.present(1, CARD)

    assert scheduled == "Scheduled"
    assert bench.station.evses[1].last_refusal == "Unavailable"
    last = [each for each in bench.of("StatusNotification") if "Unavailable" in each.values()]
    assert last


@pytest.mark.parametrize("version", list(Version))
def test_a_csr_is_signed_for_the_stations_own_key_and_for_no_other(version: Version) -> None:
    bench, other = Bench(version), Bench(version)
    name = "SignChargePointCertificate" if version is Version.V16 else "SignChargingStationCertificate"
    trigger = "ExtendedTriggerMessage" if version is Version.V16 else "TriggerMessage"

    bench.ask(trigger, {"requestedMessage": name})
    other.ask(trigger, {"requestedMessage": name})

    (request,), (foreign,) = bench.of("SignCertificate"), other.of("SignCertificate")
    assert bench.status("CertificateSigned", {"certificateChain": signed(foreign["csr"])}) == "Rejected"
    assert bench.status("CertificateSigned", {"certificateChain": signed(request["csr"])}) == "Accepted"


@pytest.mark.parametrize("version", list(Version))
def test_a_root_is_installed_listed_and_deleted(version: Version) -> None:
    bench = Bench(version)
    kind = "CentralSystemRootCertificate" if version is Version.V16 else "CSMSRootCertificate"
    wanted: Any = kind if version is Version.V16 else [kind]

    installed = bench.status("InstallCertificate", {"certificateType": kind, "certificate": root_pem()})
    listed = bench.ask("GetInstalledCertificateIds", {"certificateType": wanted})
    data = (
        listed["certificateHashData"][0]
        if version is Version.V16
        else listed["certificateHashDataChain"][0]["certificateHashData"]
    )
    deleted = bench.status("DeleteCertificate", {"certificateHashData": data})

    assert (installed, deleted) == ("Accepted", "Accepted")
    assert bench.status("GetInstalledCertificateIds", {"certificateType": wanted}) == "NotFound"


@pytest.mark.parametrize("version", list(Version))
def test_new_firmware_is_told_step_by_step_and_in_force_after_the_restart(version: Version) -> None:
    bench = Bench(version)
    when = "2022-03-27T08:00:00Z"
    firmware = {"location": "https://example.com/fw/2.0.0", "retrieveDateTime": when}
    wanted: Payload = {"location": "https://example.com/fw/2.0.0", "retrieveDate": when}
    if version is not Version.V16:
        wanted = {"requestId": 9, "firmware": firmware}

    bench.ask("UpdateFirmware", wanted)
    assert bench.station.restart_wanted
    bench.station.disconnected()
    bench.boot()

    told = [each["status"] for each in bench.of("FirmwareStatusNotification")]
    assert told == ["Downloading", "Downloaded", "Installing", "Installed"]
    assert "2.0.0" in str(bench.of("BootNotification")[-1]) or bench.station.firmware_version == "2.0.0"


@pytest.mark.parametrize("version", list(Version))
def test_the_highest_profile_of_each_purpose_counts_and_the_lowest_purpose_wins(version: Version) -> None:
    bench = Bench(version)
    bench.charge()
    bench.charge(2)

    install(bench, 0, limited(14_000, profile_id=1, purpose="ChargingStationMaxProfile"))
    halves = (bench.power_w(1), bench.power_w(2))
    install(bench, 1, limited(6_000, profile_id=2, purpose="TxDefaultProfile"))
    install(bench, 1, limited(9_000, profile_id=3, purpose="TxDefaultProfile") | {"stackLevel": 1})
    higher_level = bench.power_w(1)
    install(bench, 1, limited(3_000, profile_id=4))
    own_profile = bench.power_w(1)

    assert halves == (7_000, 7_000)
    assert (higher_level, own_profile) == (7_000, 3_000)


@pytest.mark.parametrize("version", list(Version))
def test_a_composite_schedule_has_a_period_for_each_change_of_the_limit(version: Version) -> None:
    bench = Bench(version)
    bench.charge()
    profile = limited(9_000)
    profile["chargingSchedule"][0] |= {"duration": 5_400}
    profile["chargingSchedule"][0]["chargingSchedulePeriod"].append({"startPeriod": 1_800, "limit": 4_000})
    install(bench, 1, profile)
    name = "connectorId" if version is Version.V16 else "evseId"

    answer = bench.ask("GetCompositeSchedule", {name: 1, "duration": 7_200})

    schedule = answer["chargingSchedule"] if version is Version.V16 else answer["schedule"]
    assert [(each["startPeriod"], each["limit"]) for each in schedule["chargingSchedulePeriod"]] == [
        (0, 9_000),
        (1_800, 4_000),
        (5_400, 11_000),
    ]


def test_a_recurring_profile_begins_anew_each_day() -> None:
    bench = Bench(Version.V201)
    bench.charge(wanted_wh=10**9)
    profile = limited(5_000, purpose="TxDefaultProfile", recurrencyKind="Daily")
    profile |= {"chargingProfileKind": "Recurring"}
    profile["chargingSchedule"][0] |= {"startSchedule": "2022-03-20T10:00:00Z", "duration": 3_600}

    install(bench, 1, profile)
    powers = []
    for _ in range(4):
        powers.append(bench.power_w())
        bench.step(HOUR)

    assert powers == [11_000, 11_000, 5_000, 11_000]


# -- 2.x -------------------------------------------------------------------------------------------------------------


def test_a_base_report_comes_in_pages_that_are_counted() -> None:
    bench = Bench(Version.V201)

    bench.ask("GetBaseReport", {"requestId": 4, "reportBase": "FullInventory"})

    pages = bench.of("NotifyReport")
    assert [each["seqNo"] for each in pages] == list(range(len(pages)))
    assert [each["tbc"] for each in pages] == [True] * (len(pages) - 1) + [False]
    names = [each["variable"]["name"] for page in pages for each in page["reportData"]]
    assert len(names) == len(Bench(Version.V201).station.model.variables)  # type: ignore[attr-defined]


def test_a_variable_is_set_within_its_bounds_and_read_back() -> None:
    bench = Bench(Version.V201)
    name = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}

    set_to = [
        bench.ask("SetVariables", {"setVariableData": [name | {"attributeValue": value}]})["setVariableResult"][0]
        for value in ("60", "often")
    ]
    read = bench.ask("GetVariables", {"getVariableData": [name]})["getVariableResult"][0]

    assert [each["attributeStatus"] for each in set_to] == ["Accepted", "Rejected"]
    assert (read["attributeValue"], bench.station.heartbeat_interval_s) == ("60", 60)


def test_a_monitor_tells_when_its_bound_is_crossed_and_when_it_is_over() -> None:
    bench = Bench(Version.V201)
    name = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "MessageTimeout"}}
    wanted = name | {"value": 50, "type": "UpperThreshold", "severity": 3}

    (result,) = bench.ask("SetVariableMonitoring", {"setMonitoringData": [wanted]})["setMonitoringResult"]
    for value in ("60", "61", "40"):
        bench.ask("SetVariables", {"setVariableData": [name | {"attributeValue": value}]})
        bench.step(HOUR)
    told = [(each["eventData"][0]["actualValue"], each["eventData"][0]["cleared"]) for each in bench.of("NotifyEvent")]

    assert told == [("60", False), ("40", True)]
    assert bench.ask("ClearVariableMonitoring", {"id": [result["id"], 99]})["clearMonitoringResult"] == [
        {"id": result["id"], "status": "Accepted"},
        {"id": 99, "status": "NotFound"},
    ]


def test_a_display_message_is_listed_until_its_end() -> None:
    bench = Bench(Version.V201)
    message = {"id": 1, "priority": "InFront", "message": {"format": "UTF8", "content": "Hello"}}
    message |= {"endDateTime": "2022-03-27T08:30:00Z"}

    bench.ask("SetDisplayMessage", {"message": message})
    before = bench.status("GetDisplayMessages", {"requestId": 1})
    bench.step(HOUR)

    assert bench.of("NotifyDisplayMessages")[0]["messageInfo"] == [message]
    assert (before, bench.status("GetDisplayMessages", {"requestId": 2})) == ("Accepted", "Unknown")


# -- 2.1 -------------------------------------------------------------------------------------------------------------


def droop(control_id: str, priority: int, **more: Any) -> Payload:
    settings = {"overFreq": 50.2, "underFreq": 49.8, "overDroop": 5, "underDroop": 5, "responseTime": 1}
    return {
        "isDefault": False,
        "controlId": control_id,
        "controlType": "FreqDroop",
        "freqDroop": settings | {"priority": priority} | more,
    }


def test_a_der_control_supersedes_lower_ones_until_it_is_cleared() -> None:
    bench, station = bench21()

    bench.ask("SetDERControl", droop("low", 5))
    answer = bench.ask("SetDERControl", droop("high", 1))
    bench.ask("GetDERControl", {"requestId": 1, "controlType": "FreqDroop"})
    (report,) = bench.of("ReportDERControl")
    bench.ask("ClearDERControl", {"isDefault": False, "controlId": "high"})

    assert answer == {"status": "Accepted", "supersededIds": ["low"]}
    assert {each["id"]: each["isSuperseded"] for each in report["freqDroop"]} == {"low": True, "high": False}
    assert not station.der.controls["low"].is_superseded


def test_a_scheduled_der_control_starts_and_stops_and_an_alarm_is_told() -> None:
    bench, station = bench21()

    bench.ask("SetDERControl", droop("later", 1, startTime="2022-03-27T08:30:00Z", duration=3_600))
    for _ in range(2):
        bench.step(HOUR)
    station.der.alarm("FreqDroop", "OverFrequency")
    bench.flush()

    assert [each["started"] for each in bench.of("NotifyDERStartStop")] == [True, False]
    assert bench.of("NotifyDERAlarm")[0]["gridEventFault"] == "OverFrequency"
    assert bench.status("SetDERControl", {"isDefault": True, "controlId": "w", "controlType": "WattVar"}) == (
        "NotSupported"
    )


TARIFF: Final = {
    "tariffId": "T1",
    "currency": "EUR",
    "energy": {"prices": [{"priceKwh": 0.35}]},
    "chargingTime": {"prices": [{"priceMinute": 0.02}]},
    "fixedFee": {"prices": [{"priceFixed": 0.5}]},
}


def test_a_charge_costs_what_its_default_tariff_says() -> None:
    bench, _ = bench21()
    bench.ask("SetDefaultTariff", {"evseId": 0, "tariff": TARIFF})

    bench.charge(wanted_wh=10_000)
    bench.step(HOUR)
    bench.station.unplug(1)
    bench.flush()

    start, *_, end = bench.of("TransactionEvent")
    assert start["transactionInfo"]["tariffId"] == "T1"
    assert end["costDetails"]["totalCost"]["total"] == {"exclTax": 3.5 + 1.2 + 0.5}
    assert end["costDetails"]["totalUsage"] == {"energy": 10.0, "chargingTime": 3_600, "idleTime": 0}
    listed = bench.ask("GetTariffs", {"evseId": 1})["tariffAssignments"]
    assert [each["tariffId"] for each in listed] == ["T1"]
    assert bench.ask("ClearTariffs", {})["clearTariffsResult"] == [{"status": "Accepted", "tariffId": "T1"}]
    assert bench.status("GetTariffs", {"evseId": 1}) == "NoTariff"


def test_a_tariff_of_a_transaction_changes_but_not_its_currency() -> None:
    bench, _ = bench21()
    bench.ask("SetDefaultTariff", {"evseId": 1, "tariff": TARIFF})
    transaction_id = bench.charge()
    conditional = {"prices": [{"priceKwh": 1, "conditions": {"minEnergy": 5}}]}

    words = [
        bench.status("ChangeTransactionTariff", {"transactionId": transaction_id, "tariff": TARIFF | change})
        for change in ({"tariffId": "T2"}, {"currency": "USD"}, {"energy": conditional})
    ]

    assert words == ["Accepted", "NoCurrencyChange", "ConditionNotSupported"]
    assert bench.of("TransactionEvent")[-1]["triggerReason"] == "TariffChanged"
    assert bench.status("ChangeTransactionTariff", {"transactionId": "x", "tariff": TARIFF}) == "TxNotFound"


def battery(number: int, soc: float) -> Battery:
    return Battery(serial_number=f"B{number}", soc_percent=soc, soh_percent=97.5)


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_swap_has_one_number_in_and_out_and_the_batteries_change_places(*, is_remote: bool) -> None:
    bench, station = bench21()
    station.battery_swap.stock({1: None, 2: battery(2, 95), 3: battery(3, 40)})

    if is_remote:
        assert bench.status("RequestBatterySwap", {"idToken": token(), "requestId": 77}) == "Accepted"
        assert bench.status("RequestBatterySwap", {"idToken": token(), "requestId": 78}) == "Rejected"
    else:
        station.battery_swap.begin(CARD)
    station.battery_swap.put_in([battery(1, 12)])
    taken = station.battery_swap.take_out()
    bench.flush()

    came, went = bench.of("BatterySwap")
    assert (came["eventType"], went["eventType"]) == ("BatteryIn", "BatteryOut")
    assert came["requestId"] == went["requestId"] == (77 if is_remote else 1)
    assert came["batteryData"] == [{"evseId": 1, "serialNumber": "B1", "soC": 12, "soH": 97.5}]
    assert [each.serial_number for each in taken] == ["B2"]
    assert bench.status("RequestBatterySwap", {"idToken": token(), "requestId": 79}) == "Rejected"  # none is charged


def test_a_battery_that_nobody_takes_stays() -> None:
    bench, station = bench21()
    station.battery_swap.stock({1: None, 2: battery(2, 95)})
    station.battery_swap.begin(CARD)
    station.battery_swap.put_in([battery(1, 12)])

    station.battery_swap.leave()
    bench.flush()

    assert bench.of("BatterySwap")[-1]["eventType"] == "BatteryOutTimeout"
    assert station.battery_swap.slots[2] == battery(2, 95)


V2G: Final = {"power_w": 11_000, "wanted_wh": 20_000, "discharge_w": 8_000, "stored_wh": 10_000}


def test_a_vehicle_gives_back_at_a_set_point_and_both_registers_count() -> None:
    bench, _ = bench21()
    bench.charge(**V2G)
    setpoint = {"operationMode": "CentralSetpoint", "setpoint": -6_000.0, "dischargeLimit": -5_000.0}

    bench.step(HOUR)
    install(bench, 1, limited(None, period=setpoint))
    bench.step(HOUR)
    bench.station.unplug(1)
    bench.flush()

    (truth,) = bench.station.transaction_truths()
    assert (truth.metered_wh, truth.exported_wh) == (11_000, 5_000)
    (needs,) = bench.of("NotifyEVChargingNeeds")
    assert needs["chargingNeeds"]["v2xChargingParameters"]["maxDischargePower"] == 8_000
    events = bench.of("TransactionEvent")
    assert "OperationModeChanged" in [each["triggerReason"] for each in events]
    assert events[-1]["meterValue"][0]["sampledValue"][1]["value"] == 5_000


def test_a_vehicle_follows_the_afrr_signal_along_its_curve_while_it_may() -> None:
    bench, _ = bench21()
    transaction_id = bench.charge(**V2G)
    curve = [{"signal": -10, "power": -8_000}, {"signal": 10, "power": 8_000}]
    install(bench, 1, limited(None, period={"operationMode": "CentralFrequency", "v2xSignalWattCurve": curve}))

    powers = []
    for signal in (-10, 5):
        bench.ask("AFRRSignal", {"timestamp": "2022-03-27T08:00:00Z", "signal": signal})
        powers.append(bench.power_w())
    bench.ask(
        "NotifyAllowedEnergyTransfer", {"transactionId": transaction_id, "allowedEnergyTransfer": ["AC_three_phase"]}
    )
    bench.ask("AFRRSignal", {"timestamp": "2022-03-27T08:00:00Z", "signal": -10})

    assert [*powers, bench.power_w()] == [-8_000, 4_000, 0]


def test_a_der_limit_bounds_what_a_vehicle_gives_back() -> None:
    bench, _ = bench21()
    bench.charge(**V2G)
    control = {"isDefault": True, "controlId": "c", "controlType": "LimitMaxDischarge"}
    bench.ask("SetDERControl", control | {"limitMaxDischarge": {"priority": 0, "pctMaxDischargePower": 25}})

    install(bench, 1, limited(None, period={"operationMode": "CentralSetpoint", "setpoint": -6_000.0}))

    assert bench.power_w() == -2_000


def test_priority_charging_goes_before_the_transactions_own_profile() -> None:
    bench, station = bench21()
    transaction_id = bench.charge()
    install(bench, 1, limited(3_000))

    none = bench.status("UsePriorityCharging", {"transactionId": transaction_id, "activate": True})
    install(bench, 1, limited(10_000, profile_id=2, purpose="PriorityCharging"))
    bench.ask("UsePriorityCharging", {"transactionId": transaction_id, "activate": True})
    with_priority = bench.power_w()
    station.priority.ask(1, activate=False)
    bench.flush()

    assert (none, with_priority, bench.power_w()) == ("NoProfile", 10_000, 3_000)
    assert bench.of("NotifyPriorityCharging") == [{"transactionId": transaction_id, "activated": False}]


def test_a_dynamic_schedule_is_pushed_and_pulled() -> None:
    bench, _ = bench21()
    bench.charge()
    profile = limited(9_000, purpose="TxDefaultProfile") | {"chargingProfileKind": "Dynamic", "dynUpdateInterval": 600}
    install(bench, 1, profile)
    bench.answers["PullDynamicScheduleUpdate"] = {"status": "Accepted", "scheduleUpdate": {"limit": 2_000}}

    pushed = bench.status("UpdateDynamicSchedule", {"chargingProfileId": 1, "scheduleUpdate": {"limit": 5_000}})
    after_push = bench.power_w()
    bench.step(timedelta(minutes=10))

    assert (pushed, after_push, bench.power_w()) == ("Accepted", 5_000, 2_000)
    unknown = {"chargingProfileId": 9, "scheduleUpdate": {"limit": 5_000}}
    assert bench.status("UpdateDynamicSchedule", unknown) == "Rejected"


def test_a_monitored_variable_is_streamed_without_being_answered_until_its_monitor_goes() -> None:
    bench, _ = bench21()
    name = {"component": {"name": "EVSE", "evse": {"id": 1}}, "variable": {"name": "Power"}}
    monitor = name | {"value": 900, "type": "Periodic", "severity": 9}
    monitor |= {"periodicEventStream": {"interval": 1_800, "values": 10}}

    (result,) = bench.ask("SetVariableMonitoring", {"setMonitoringData": [monitor]})["setMonitoringResult"]
    for _ in range(3):
        bench.step(timedelta(minutes=15))
    bench.ask("AdjustPeriodicEventStream", {"id": result["id"], "params": {"interval": 60}})
    (listed,) = bench.ask("GetPeriodicEventStream", {})["constantStreamData"]
    bench.ask("ClearVariableMonitoring", {"id": [result["id"]]})
    bench.step(HOUR)

    (told,) = bench.of("NotifyPeriodicEventStream")
    assert [(each["t"], each["v"]) for each in told["data"]] == [(0.0, "11000"), (900.0, "11000")]
    assert listed["params"] == {"interval": 60, "values": 10}
    assert bench.of("ClosePeriodicEventStream") == [{"id": result["id"]}]


def test_a_terminal_settles_and_a_company_is_asked_for() -> None:
    bench, station = bench21()
    transaction_id = bench.charge()
    company = {"name": "Acme", "address1": "Street 1", "city": "Delft", "country": "NLD"}
    answer = {"vatNumber": "NL1", "status": "Accepted", "company": company}
    bench.answers["VatNumberValidation"] = answer

    station.payment.settle(transaction_id=transaction_id, psp_ref="p1", amount="12.34", receipt_id="r1")
    station.payment.ask_company("NL1", 1)
    bench.flush()
    bench.ask("NotifyWebPaymentStarted", {"evseId": 2, "timeout": 60})

    assert bench.of("NotifySettlement")[0]["settlementAmount"] == 12.34
    assert station.payment.companies == {"NL1": answer}
    assert station.payment.web_payments == {2: 60}


# -- parts -----------------------------------------------------------------------------------------------------------


ROOT: Final = CA("root")


def root_pem() -> str:
    """Return a root certificate."""
    return pem(ROOT.certificate).decode()


def signed(csr: str) -> str:
    """Return what a CSMS makes of a station's CSR."""
    request = read_request(csr, PartyId("NL-TUL"), "TUL-001")
    return pem(ROOT.leaf(request.subject, request)).decode()


def install(bench: Bench, evse_id: int, profile: Payload) -> None:
    """Install a profile in the words of the bench's version."""
    if bench.version is not Version.V16:
        assert bench.status("SetChargingProfile", {"evseId": evse_id, "chargingProfile": profile}) == "Accepted"
        return
    (schedule,) = profile["chargingSchedule"]
    purpose = profile["chargingProfilePurpose"].replace("ChargingStationMax", "ChargePointMax")
    words = {name: value for name, value in profile.items() if name != "id"}
    words |= {
        "chargingProfileId": profile["id"],
        "chargingProfilePurpose": purpose,
        "chargingSchedule": {name: value for name, value in schedule.items() if name != "id"},
    }
    assert bench.status("SetChargingProfile", {"connectorId": evse_id, "csChargingProfiles": words}) == "Accepted"
