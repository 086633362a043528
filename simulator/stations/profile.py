"""What a simulated station is made of, and the ways in which some of them misbehave."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from emobility.domain.identifiers import PartyId


class OCPPVersion(StrEnum):
    """The protocol a station speaks; the value is its WebSocket subprotocol."""

    OCPP16 = "ocpp1.6"
    OCPP201 = "ocpp2.0.1"
    OCPP21 = "ocpp2.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """How a station departs from the book; all off by default.

    Attributes:
        reports_kwh: Sampled registers come in kWh with three decimals.
        sends_transaction_id_zero: 1.6: each message of a transaction carries transactionId 0.
        repeats_transaction_end: Each EVSE sends the end of its first transaction twice (2.x: with the same seqNo).
        forges_end_record: In each EVSE's first end record a bit of the value is flipped, the signature left as it was.
        resumes_after_reboot: 2.x: a transaction goes on after a reboot instead of ending with PowerLoss.
        clock_drift_s: Seconds its clock is ahead; it ignores the time the CSMS tells it.
    """

    reports_kwh: bool = False
    sends_transaction_id_zero: bool = False
    repeats_transaction_end: bool = False
    forges_end_record: bool = False
    resumes_after_reboot: bool = False
    clock_drift_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EVSEProfile:
    """One EVSE. `meter_seed` makes its meter's key; `register_wh` and `first_page` are where its meter stands."""

    ocpp_evse_id: int
    evse_name: str
    power_w_max: int
    is_dc: bool
    meter_serial: str
    meter_seed: str
    register_wh: int
    first_page: int = 1
    signs: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StationProfile:
    """One charging station.

    Attributes:
        starts_offline: Unknown drivers may charge while it is not connected.
        call_timeout_s: Seconds of transport time it waits for an answer.
        attempts_max: How often it sends a message of a transaction before giving it up.
        retry_interval_s: Seconds before the second attempt; the third waits twice as long, and so on.
    """

    party_id: PartyId
    charging_station_id: str
    version: OCPPVersion
    password: str
    time_zone: str
    evses: tuple[EVSEProfile, ...]
    seed: str
    vendor: str = "Wattroam"
    model: str = "Simulated Station"
    firmware_version: str = "1.0.0"
    quirks: Quirks = Quirks()
    starts_offline: bool = False
    call_timeout_s: int = 30
    attempts_max: int = 5
    retry_interval_s: int = 10
