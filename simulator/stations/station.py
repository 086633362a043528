"""How a charging station behaves, without a socket: people and vehicles act on it, and messages come out in a queue.

The parts that all OCPP versions share live here; `ocpp16`, `ocpp201` and `ocpp21` put them into their words, and what a
station can do beside charging is a `Concept` each. A station keeps
two promises whatever happens to its connection: what it metered is what it reports, with the time when it happened,
and the messages of a transaction leave in order until each was answered.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from simulator.stations.calls import Call, CallRefused, Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.meter import Meter
from simulator.stations.ocmf import MeterKey, SigningMeter, forged
from simulator.stations.profile import EVSEProfile, Quirks, StationProfile
from simulator.truth import AcknowledgedMessage, TransactionTruth, Truth, content_hash, timestamp

if TYPE_CHECKING:
    from simulator.stations.charging_profiles import ChargingProfiles
    from simulator.stations.local_list import LocalList
    from simulator.stations.reservations import Reservations

QUEUE_MAX: Final = 10_000
"""Messages a station keeps while it is offline; reaching it is a broken invariant of the simulation."""
ACCEPTED: Final = "Accepted"


class EVSEState(StrEnum):
    """The states of 1.6; 2.x knows Available, Reserved and Unavailable, and tells the rest by the charging state."""

    AVAILABLE = "Available"
    PREPARING = "Preparing"
    CHARGING = "Charging"
    SUSPENDED_EV = "SuspendedEV"
    FINISHING = "Finishing"
    RESERVED = "Reserved"
    UNAVAILABLE = "Unavailable"


class StopReason(StrEnum):
    """Why a transaction ended; each version has its own spelling for some."""

    LOCAL = "Local"
    REMOTE = "Remote"
    EV_DISCONNECTED = "EVDisconnected"
    DEAUTHORIZED = "DeAuthorized"
    POWER_LOSS = "PowerLoss"
    RESET = "Reset"


class StartTrigger(StrEnum):
    """What opened a transaction."""

    AUTHORIZED = "Authorized"
    REMOTE_START = "RemoteStart"


@dataclass(slots=True, kw_only=True, eq=False)
class Transaction:
    """A transaction as the station knows it. `transaction_id` of a 1.6 station comes with the answer to its start."""

    local_id: str
    transaction_id: str | None
    id_token: str
    id_kind: str
    started_at: datetime
    meter_start_wh: int
    begin_record: str | None
    trigger: StartTrigger
    remote_start_id: int | None = None
    next_seq_no: int = 0
    end_seq_no: int | None = None
    is_start_acknowledged: bool = False
    is_end_acknowledged: bool = False
    ended_at: datetime | None = None
    meter_end_wh: int | None = None
    end_record: str | None = None
    stopped_reason: StopReason | None = None
    is_forged: bool = False
    was_offline: bool = False
    meter_export_start_wh: int = 0
    meter_export_end_wh: int | None = None
    tariff_id: str | None = None
    reservation_id: int | None = None

    def draw_seq_no(self) -> int:
        """Return the next sequence number, from 0."""
        self.next_seq_no += 1
        return self.next_seq_no - 1

    def draw_end_seq_no(self) -> int:
        """Return the number of the last event; a repeated end has the same."""
        if self.end_seq_no is None:
            self.end_seq_no = self.draw_seq_no()
        return self.end_seq_no


class SimulatedEVSE:
    """One EVSE: a plug, a meter, perhaps a vehicle, perhaps a transaction."""

    def __init__(self, profile: EVSEProfile, *, time_zone: str, now: datetime, quirks: Quirks) -> None:
        self.profile = profile
        self.meter = Meter(register_wh=profile.register_wh, since=now)
        self.signer = SigningMeter(
            serial=profile.meter_serial,
            evse_name=profile.evse_name,
            key=MeterKey(profile.meter_seed),
            time_zone=time_zone,
            first_page=profile.first_page,
            is_dc=profile.is_dc,
        )
        self.state = EVSEState.AVAILABLE
        self.vehicle_power_w: int | None = None
        self.transaction: Transaction | None = None
        self.reserved_for: tuple[str, str, int | None] | None = None
        """A token that was accepted before the cable was in: token, kind, remote start id."""
        self.last_refusal: str | None = None
        self.discharge_w = 0
        """Power that the vehicle could give back, in W."""
        self.is_operative = True
        self.limit_w: Callable[[datetime], int] = lambda _at: profile.power_w_max
        self.setpoint_w: Callable[[datetime], int | None] = lambda _at: None
        """What is to flow, in W, negative out of the vehicle; None: as much as may."""
        self.sampled_wh = self.registers_wh
        self.interrupted = False
        self.forges_next_end = quirks.forges_end_record
        self.repeats_next_end = quirks.repeats_transaction_end

    @property
    def registers_wh(self) -> tuple[int, int]:
        """Import and export."""
        return self.meter.register_wh, self.meter.export_register_wh

    @property
    def is_free(self) -> bool:
        """Nobody is plugged in."""
        return self.vehicle_power_w is None

    def power_w(self, at: datetime) -> int:
        """What flows when it may, within the limits of vehicle, EVSE and profiles; negative out of the vehicle."""
        if self.vehicle_power_w is None:
            return 0
        most_w, wanted_w = min(self.vehicle_power_w, self.profile.power_w_max, self.limit_w(at)), self.setpoint_w(at)
        if wanted_w is None:
            return most_w
        return max(-min(self.discharge_w, self.profile.power_w_max), min(most_w, wanted_w))


class Station(ABC):
    """A charging station without its socket."""

    def __init__(self, profile: StationProfile, *, now: Callable[[], datetime], truth: Truth | None = None) -> None:
        self.profile = profile
        self.truth = truth if truth is not None else Truth()
        self._clock = now
        self._random = random.Random(f"station {profile.seed}")
        self.evses = {
            each.ocpp_evse_id: SimulatedEVSE(each, time_zone=profile.time_zone, now=self.now(), quirks=profile.quirks)
            for each in profile.evses
        }
        self.transactions: list[Transaction] = []
        self._evse_of: dict[str, int] = {}
        self._requests: list[Call] = []
        self._kept: list[Call] = []
        self._order = 0
        self.is_connected = False
        self.is_accepted = False
        self.restart_wanted = False
        self.heartbeat_interval_s = 300
        self.boot_retry_s: int | None = None
        self.boot_reason = "PowerUp"
        self.variables: dict[str, str] = {"HeartbeatInterval": "300", "ClockAlignedDataInterval": "900"}
        self.on_change: Callable[[], None] = lambda: None
        self.firmware_version = profile.firmware_version
        self.concepts: list[Concept] = []
        self.may_start: Callable[[int, str], bool] = lambda _evse_id, _token: True
        """Whether an EVSE is there for a token: it may be reserved for another."""
        self.knows_offline: Callable[[str], bool] = lambda _token: False
        """Whether a token may charge while the station is offline."""

    # People and vehicles ---------------------------------------------------------------------------------------

    def plug_in(self, evse_id: int, *, power_w: int, wanted_wh: int, discharge_w: int = 0, stored_wh: int = 0) -> None:
        """A vehicle is connected to a free EVSE.

        It takes up to `power_w` W and wants `wanted_wh` Wh; it gives up to `discharge_w` W of `stored_wh` Wh back.
        """
        evse = self.evses[evse_id]
        assert evse.is_free, f"{self.profile.charging_station_id}/{evse_id} has a vehicle already"
        self.advance(evse)
        evse.vehicle_power_w = power_w
        evse.discharge_w = discharge_w
        evse.meter.connect(wanted_wh=wanted_wh, stored_wh=stored_wh)
        evse.last_refusal = None
        self.change_state(evse, EVSEState.PREPARING)
        if evse.reserved_for is not None:
            id_token, id_kind, remote_start_id = evse.reserved_for
            trigger = StartTrigger.AUTHORIZED if remote_start_id is None else StartTrigger.REMOTE_START
            self._begin(evse, id_token, id_kind, trigger, remote_start_id)

    def present(self, evse_id: int, id_token: str, *, id_kind: str = "ISO14443") -> None:
        """A driver holds a card to the reader: it starts a charge, or stops the one the card started."""
        evse = self.evses[evse_id]
        if evse.transaction is not None:
            if evse.transaction.id_token == id_token:
                self._end(evse, StopReason.LOCAL)
            return
        if not evse.is_operative:
            evse.last_refusal = "Unavailable"
        elif not self.may_start(evse_id, id_token):
            evse.last_refusal = "Reserved"
        elif self.is_connected:
            self._ask_authorization(evse, id_token, id_kind)
        elif self.profile.starts_offline or self.knows_offline(id_token):
            self._authorized(evse, id_token, id_kind)
        else:
            evse.last_refusal = "Offline"

    def unplug(self, evse_id: int) -> None:
        """The cable is pulled; a running transaction ends."""
        evse = self.evses[evse_id]
        self.advance(evse)
        if evse.transaction is not None:
            self._end(evse, StopReason.EV_DISCONNECTED)
        evse.meter.disconnect()
        evse.vehicle_power_w = None
        evse.discharge_w = 0
        evse.reserved_for = None
        evse.interrupted = False
        self.change_state(evse, EVSEState.AVAILABLE)

    # Time ------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The station's own clock, UTC."""
        return self._clock() + timedelta(seconds=self.profile.quirks.clock_drift_s)

    def tick(self) -> None:
        """Notice what happened by now: vehicles that are full, limits that changed."""
        for evse in self.evses.values():
            self.advance(evse)
            if evse.transaction is None:
                continue
            if evse.state is EVSEState.CHARGING and not evse.meter.remaining_ws:
                self.change_state(evse, EVSEState.SUSPENDED_EV)
                self._report_charging_state(evse, "SuspendedEV")
        for concept in self.concepts:
            concept.tick()

    def sample(self) -> None:
        """Report the registers that moved since the last report (clock-aligned meter values)."""
        for evse in self.evses.values():
            self.advance(evse)
            if evse.transaction is not None and evse.registers_wh != evse.sampled_wh:
                self._report_sample(evse)

    def report_now(self, evse_id: int) -> None:
        """Report the register of one EVSE's running transaction, whether or not it moved."""
        evse = self.evses[evse_id]
        self.advance(evse)
        if evse.transaction is not None:
            self._report_sample(evse)

    def next_full_at(self) -> datetime | None:
        """Return when the next vehicle will be full by the common clock; None when none charges."""
        moments = [moment for evse in self.evses.values() if (moment := evse.meter.full_at()) is not None]
        return min(moments) - timedelta(seconds=self.profile.quirks.clock_drift_s) if moments else None

    # Power and connection --------------------------------------------------------------------------------------

    def lose_power(self) -> None:
        """Everything stops at this moment; what is in the memory of the station stays."""
        for evse in self.evses.values():
            self.advance(evse)
            evse.meter.draw(0)
        self.disconnected()
        self._interrupt_transactions(StopReason.POWER_LOSS)
        self.boot_reason = "PowerUp"

    def regain_power(self) -> None:
        """The station starts again; it says so when it is connected."""
        for evse in self.evses.values():
            self.advance(evse)
            if evse.interrupted and evse.transaction is not None:
                evse.interrupted = False
                evse.meter.draw(evse.power_w(self.now()))
                self._report_charging_state(evse, "Charging")

    def connected(self) -> None:
        """The socket is open: announce the station before anything else."""
        self.is_connected = True
        self.is_accepted = False
        self.boot_retry_s = None
        self._requests.clear()
        self._queue_boot()

    def disconnected(self) -> None:
        """The socket is gone. Requests die with it, messages of transactions wait."""
        self.is_connected = False
        self.is_accepted = False
        self._requests.clear()

    def retry_boot(self) -> None:
        """The interval that a Pending or Rejected boot asked for is over."""
        self.boot_retry_s = None
        self._queue_boot()

    def heartbeat(self) -> None:
        """Say that the station is alive."""
        if self.is_accepted:
            self.request("Heartbeat", dict)

    # The queue, as the link sees it ----------------------------------------------------------------------------

    def next_call(self) -> Call | None:
        """Return the message to send now; it stays in the queue until `answered` or `failed`."""
        if not self.is_connected:
            return None
        if not self.is_accepted:
            return next((each for each in self._requests if each.action == "BootNotification"), None)
        waiting = [queue[0] for queue in (self._requests, self._kept) if queue]
        return min(waiting, key=lambda call: call.order, default=None)

    @property
    def queued(self) -> int:
        """Messages of transactions that wait for an acknowledgement."""
        return len(self._kept)

    def prepare(self, call: Call) -> tuple[str, Payload]:
        """Return unique id and payload of the next attempt to send `call`."""
        if call.payload is None:
            call.payload = call.build()
        if call.unique_id is None or self.retries_with_new_id:
            call.unique_id = f"{self._random.getrandbits(128):032x}"
        call.attempts += 1
        return call.unique_id, call.payload

    def answered(self, call: Call, answer: Payload) -> None:
        """The CSMS acknowledged `call`."""
        self._drop(call)
        assert call.unique_id is not None, "an answer to what was never sent"
        call.on_answer(answer)  # before the record is made: a 1.6 start learns its transaction's id from its answer
        self.truth.acknowledged.append(
            AcknowledgedMessage(
                party_id=self.profile.party_id.code,
                charging_station_id=self.profile.charging_station_id,
                ocpp_version=self.profile.version.value,
                action=call.action,
                unique_id=call.unique_id,
                content_hash=content_hash(call.payload or {}),
                acknowledged_at=self._clock(),
                transaction_id=call.transaction_id(),
                seq_no=call.seq_no,
            )
        )
        self.on_change()

    def failed(self, call: Call) -> float | None:
        """`call` was refused or not answered in time: return seconds to wait before the next attempt, None: give up."""
        if call.is_transactional and call.attempts < self.profile.attempts_max:
            return float(self.profile.retry_interval_s * call.attempts)
        self._drop(call)
        call.on_failure()
        self.on_change()
        return None

    def asked(self, action: str, payload: Payload) -> Reply:
        """Answer a CALL of the CSMS. Raises `CallRefused`."""
        handler = self.commands().get(action)
        if handler is None:
            raise CallRefused("NotImplemented", f"{action} is not known here")
        return handler(payload)

    def commands(self) -> Commands:
        """Return the CALLs of the CSMS that the station answers."""
        return self._commands() | {name: each for concept in self.concepts for name, each in concept.commands().items()}

    def running(self, transaction_id: str) -> SimulatedEVSE | None:
        """Return the EVSE where a transaction runs."""
        for evse in self.evses.values():
            if evse.transaction is not None and transaction_id in {
                evse.transaction.transaction_id,
                evse.transaction.local_id,
            }:
                return evse
        return None

    def evse_of(self, transaction: Transaction) -> SimulatedEVSE:
        """Return where a transaction runs or ran."""
        return self.evses[self._evse_of[transaction.local_id]]

    def queued_transactions(self) -> set[str | None]:
        """Return the transactions with messages that wait for an acknowledgement."""
        return {call.transaction_id() for call in self._kept}

    def transaction_truths(self) -> list[TransactionTruth]:
        """Return every transaction of this station as its meter saw it."""
        return [self._truth_of(each) for each in self.transactions]

    # What the versions say differently -------------------------------------------------------------------------

    retries_with_new_id: bool = False
    numbers_its_certificate_requests: bool = False

    @abstractmethod
    def _commands(self) -> Commands:
        """CALLs of the CSMS about charging itself."""

    @abstractmethod
    def _boot_payload(self) -> Payload:
        """BootNotification."""

    @abstractmethod
    def _queue_status(self, evse: SimulatedEVSE) -> None:
        """Queue a StatusNotification of the EVSE's state."""

    @abstractmethod
    def _ask_authorization(self, evse: SimulatedEVSE, id_token: str, id_kind: str) -> None:
        """Queue an Authorize whose acceptance calls `_authorized`."""

    @abstractmethod
    def _report_start(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """Queue the message that opens the transaction."""

    @abstractmethod
    def _report_charging_state(self, evse: SimulatedEVSE, charging_state: str) -> None:
        """Queue what the version says when the charging state changes, with meter values."""

    @abstractmethod
    def _report_sample(self, evse: SimulatedEVSE) -> None:
        """Queue clock-aligned meter values."""

    @abstractmethod
    def _report_end(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """Queue the message that closes the transaction."""

    def obey(self, profiles: ChargingProfiles, reservations: Reservations, local_list: LocalList) -> None:
        """Let charging follow what these know."""
        for number, evse in self.evses.items():
            evse.limit_w = partial(profiles.limit_w, number)
        self.may_start = lambda evse_id, token: not reservations.is_kept_for_another(evse_id, token)
        self.knows_offline = local_list.accepts

    # Inner workings --------------------------------------------------------------------------------------------

    def advance(self, evse: SimulatedEVSE) -> None:
        """Count what flowed until now, and let flow what may from now on."""
        now = self.now()
        evse.meter.advance(now)
        if evse.transaction is not None and not evse.interrupted:
            evse.meter.draw(evse.power_w(now))

    def _authorized(self, evse: SimulatedEVSE, id_token: str, id_kind: str) -> None:
        if evse.transaction is not None:
            return
        if evse.is_free:
            evse.reserved_for = (id_token, id_kind, None)
            return
        self._begin(evse, id_token, id_kind, StartTrigger.AUTHORIZED, None)

    def _begin(
        self, evse: SimulatedEVSE, id_token: str, id_kind: str, trigger: StartTrigger, remote_start_id: int | None
    ) -> None:
        self.advance(evse)
        evse.reserved_for = None
        evse.last_refusal = None
        now = self.now()
        transaction = Transaction(
            local_id=self._new_uuid(),
            transaction_id=None,
            id_token=id_token,
            id_kind=id_kind,
            started_at=now,
            meter_start_wh=evse.meter.register_wh,
            begin_record=self._sign(evse, "B", now, id_token, id_kind),
            trigger=trigger,
            remote_start_id=remote_start_id,
            was_offline=not self.is_connected,
            meter_export_start_wh=evse.meter.export_register_wh,
        )
        evse.transaction = transaction
        evse.sampled_wh = evse.registers_wh
        self.transactions.append(transaction)
        self._evse_of[transaction.local_id] = evse.profile.ocpp_evse_id
        for concept in self.concepts:
            concept.began(evse, transaction)
        evse.meter.draw(evse.power_w(now))
        self._report_start(evse, transaction)
        self.change_state(evse, EVSEState.CHARGING)

    def _end(self, evse: SimulatedEVSE, reason: StopReason) -> None:
        self.advance(evse)
        transaction = evse.transaction
        assert transaction is not None, "nothing to end"
        now = self.now()
        evse.meter.draw(0)
        transaction.ended_at = now
        transaction.meter_end_wh = evse.meter.register_wh
        transaction.meter_export_end_wh = evse.meter.export_register_wh
        transaction.stopped_reason = reason
        transaction.was_offline = transaction.was_offline or not self.is_connected
        record = self._sign(evse, "E", now, transaction.id_token, transaction.id_kind)
        if record is not None and evse.forges_next_end:
            evse.forges_next_end = False
            record = forged(record)
            transaction.is_forged = True
        transaction.end_record = record
        evse.transaction = None
        for concept in self.concepts:
            concept.ended(evse, transaction)
        for _ in range(2 if evse.repeats_next_end else 1):
            self._report_end(evse, transaction)
        evse.repeats_next_end = False
        self.change_state(evse, EVSEState.FINISHING)

    def _sign(self, evse: SimulatedEVSE, tx: str, at: datetime, id_token: str, id_kind: str) -> str | None:
        if not evse.profile.signs:
            return None
        return evse.signer.record(tx=tx, at=at, register_wh=evse.meter.register_wh, id_token=id_token, id_kind=id_kind)

    def _interrupt_transactions(self, reason: StopReason) -> None:
        for evse in self.evses.values():
            if evse.transaction is None:
                continue
            evse.transaction.was_offline = True
            if self._resumes:
                evse.interrupted = True
            else:
                self._end(evse, reason)

    @property
    def _resumes(self) -> bool:
        return self.profile.quirks.resumes_after_reboot

    def change_state(self, evse: SimulatedEVSE, state: EVSEState) -> None:
        """Bring an EVSE into a state, and say so where the version has another word for it."""
        if evse.state is not state:
            evse.state = state
            self._queue_status(evse)

    def _queue_boot(self) -> None:
        self.request("BootNotification", self._boot_payload, on_answer=self._booted)

    def _booted(self, answer: Payload) -> None:
        interval_s = int(answer.get("interval") or 0)
        if answer.get("status") != ACCEPTED:
            # OCPP: the interval of an answer other than Accepted is the least time before the next attempt.
            self.boot_retry_s = interval_s or self.profile.retry_interval_s
            return
        self.is_accepted = True
        if interval_s:
            self.heartbeat_interval_s = interval_s
        self.boot_reason = "Unknown"
        self._queue_all_statuses()
        for concept in self.concepts:
            concept.booted()

    def _queue_all_statuses(self) -> None:
        for evse in self.evses.values():
            self._queue_status(evse)

    def _refused(self, evse: SimulatedEVSE, transaction: Transaction, status: str) -> None:
        """The CSMS does not authorise a transaction that runs: stop it (StopTransactionOnInvalidId)."""
        evse.last_refusal = status
        if evse.transaction is transaction:
            self._end(evse, StopReason.DEAUTHORIZED)

    def restart_soon(self, reason: StopReason = StopReason.RESET) -> None:
        """End what runs and restart once that is told."""
        for evse in self.evses.values():
            if evse.transaction is not None:
                self._end(evse, reason)
        self.boot_reason = "RemoteReset"
        self.restart_wanted = True
        self.on_change()

    def request(
        self, action: str, build: Callable[[], Payload], *, on_answer: Callable[[Payload], None] = lambda _: None
    ) -> None:
        """Queue a message that only makes sense while the connection lasts; its payload is fixed now."""
        if not self.is_connected:
            return
        payload = build()
        self._enqueue(
            self._requests, Call(action=action, build=lambda: payload, order=self._order, on_answer=on_answer)
        )

    def tell(self, action: str, payload: Payload) -> None:
        """Queue a message whose answer says nothing."""
        self.request(action, lambda: payload)

    def send(self, action: str, payload: Payload) -> None:
        """Queue a SEND of OCPP 2.1: it is not answered."""
        if self.is_connected:
            self._enqueue(self._requests, Call(action=action, build=lambda: payload, order=self._order, is_send=True))

    def sent(self, call: Call) -> None:
        """A SEND is out."""
        self._drop(call)
        self.on_change()

    def _keep(self, call: Call) -> None:
        self._enqueue(self._kept, call)

    def _enqueue(self, queue: list[Call], call: Call) -> None:
        assert len(queue) < QUEUE_MAX, f"{self.profile.charging_station_id} has {QUEUE_MAX} messages waiting"
        call.order = self._order
        self._order += 1
        queue.append(call)
        self.on_change()

    def _drop(self, call: Call) -> None:
        for queue in (self._requests, self._kept):
            if call in queue:
                queue.remove(call)

    def _new_uuid(self) -> str:
        digits = f"{self._random.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def timestamp(self) -> str:
        """Return now, as OCPP writes it."""
        return timestamp(self.now())

    def _truth_of(self, transaction: Transaction) -> TransactionTruth:
        end = transaction.meter_end_wh
        return TransactionTruth(
            party_id=self.profile.party_id.code,
            charging_station_id=self.profile.charging_station_id,
            ocpp_version=self.profile.version.value,
            ocpp_evse_id=self._evse_of[transaction.local_id],
            local_id=transaction.local_id,
            transaction_id=transaction.transaction_id,
            id_token=transaction.id_token,
            started_at=transaction.started_at,
            meter_start_wh=transaction.meter_start_wh,
            is_start_acknowledged=transaction.is_start_acknowledged,
            ended_at=transaction.ended_at,
            meter_end_wh=end,
            metered_wh=None if end is None else end - transaction.meter_start_wh,
            exported_wh=(transaction.meter_export_end_wh or 0) - transaction.meter_export_start_wh if end else 0,
            stopped_reason=None if transaction.stopped_reason is None else transaction.stopped_reason.value,
            is_end_acknowledged=transaction.is_end_acknowledged,
            is_forged=transaction.is_forged,
            was_offline=transaction.was_offline,
        )
