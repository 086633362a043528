"""Stations out of a table (CSV) or a SteVe dump: what could be entered, and of every row that could not, why.

Pure: nothing is entered here. A station whose rows are not all sound is refused whole, so that it never comes in with
an EVSE missing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, Generic, TypeVar

from emobility.domain.charging_station import EVSE, Connector, PowerType
from emobility.domain.countries import ALPHA_3
from emobility.domain.identifiers import PartyId
from emobility.protocols.ocmf import OCMFRefused, meter_key
from emobility.protocols.station_control.messages import StationCredential
from services.charging_operations.mysql_dump import DumpedRow, rows_of
from services.charging_operations.office import NotUnderstood
from services.charging_operations.stations import (
    STATION_ID,
    STATION_ID_RULE,
    LocationTerms,
    StationTerms,
    require_zone,
)

P = TypeVar("P")

ROWS_MAX: Final = 20_000
PASSWORD_CHARACTERS_MIN: Final = 20
PASSWORD_CHARACTERS_MAX: Final = 40
"""What gateways take; they also look at how it was drawn."""
EVSE_UID_CHARACTERS_MAX: Final = 36
STANDARD_CHARACTERS_MAX: Final = 45
"""Both OCPI 2.2.1, 8.3.2 and 8.3.3."""
COLUMNS: Final = ("charging_station_id", "location_id", "ocpp_evse_id")
CONNECTOR_COLUMNS: Final = ("standard", "power_type", "voltage_v_max", "current_a_max", "power_w_max")
_OPTIONAL: Final = (
    *("connector_id", "evse_uid", "emi3_id", "meter_public_key", "tariff_ids"),
    *("password", "ocpp_version", "security_profile"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A row that was not taken: where it stands, what it is about, and why."""

    line: int
    row: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[P]):
    """What could be entered, and what not. `ignored` are columns that mean nothing here."""

    planned: tuple[P, ...]
    refused: tuple[Refusal, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStation:
    """A station that could be entered; `location`: to be entered as well, unless there is one of this id."""

    charging_station_id: str
    line: int
    terms: StationTerms
    location: LocationTerms | None = None
    credential: StationCredential | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SteVeTerms:
    """What a SteVe dump does not tell: where stations without coordinates stand, and what their connectors can do."""

    connector: Connector | None
    location_id: str | None = None
    time_zone: str | None = None


class RowRefused(Exception):
    """A value of a row breaks a rule."""


# CSV


def table_of(text: str, required: Sequence[str]) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Return a CSV's rows with their lines, and its columns; separated by commas or semicolons.

    Raises:
        NotUnderstood: it has no header, a column is missing or stands twice, it is too long, or its quotes don't end.
    """
    header, _, _ = text.partition("\n")
    delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in required if name not in columns]
        if missing or len(set(columns)) < len(columns):
            told = ", ".join(missing or required)
            raise NotUnderstood(f"the first line names columns, each once, among them {told}")
        begin = reader.line_num + 1
        for values in reader:
            if any(value.strip() for value in values):
                # A row with too few or too many values keeps what it has: the reader of the row says what is missing.
                rows.append((begin, {name: value.strip() for name, value in zip(columns, values, strict=False)}))
            begin = reader.line_num + 1
            if len(rows) > ROWS_MAX:
                raise NotUnderstood(f"more than {ROWS_MAX} rows: import in parts")
    except csv.Error as error:
        raise NotUnderstood(f"line {reader.line_num}: {error}") from error
    return rows, columns


def stations_of_csv(text: str, party_id: PartyId) -> Plan[PlannedStation]:
    """Plan a table with one line per connector. Raises `NotUnderstood`: it is no such table."""
    rows, columns = table_of(text, (*COLUMNS, *CONNECTOR_COLUMNS))
    grouped: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, row in rows:
        grouped.setdefault(row["charging_station_id"], []).append((line, row))
    planned: list[PlannedStation] = []
    refused: list[Refusal] = []
    for station_id, lines in grouped.items():
        try:
            planned.append(_station_of_lines(party_id, station_id, lines))
        except _AtLine as error:
            refused += [
                Refusal(line=line, row=station_id, why=error.why if line == error.line else f"see line {error.line}")
                for line, _ in lines
            ]
    known = (*COLUMNS, *CONNECTOR_COLUMNS, *_OPTIONAL)
    return Plan(
        planned=tuple(planned),
        refused=tuple(refused),
        ignored=tuple(name for name in columns if name not in known),
    )


class _AtLine(Exception):
    def __init__(self, line: int, why: str) -> None:
        self.line = line
        self.why = why
        super().__init__(why)


def _station_of_lines(party_id: PartyId, station_id: str, lines: list[tuple[int, dict[str, str]]]) -> PlannedStation:
    first_line, first = lines[0]
    connectors: dict[int, dict[int, Connector]] = {}
    named: dict[int, dict[str, str]] = {}
    for line, row in lines:
        try:
            _check_station_id(station_id)
            evse_id = _number(row, "ocpp_evse_id", least=1)
            connector = _connector_of(row)
            _check_new(connector, connectors.setdefault(evse_id, {}), evse_id)
            connectors[evse_id][connector.connector_id] = connector
            _check_same(first, row, ("location_id", "tariff_ids", "password", "ocpp_version", "security_profile"))
            _check_same(named.setdefault(evse_id, row), row, ("evse_uid", "emi3_id", "meter_public_key"))
            credential = _credential_of(first)
        except RowRefused as error:
            raise _AtLine(line, str(error)) from error
    try:
        evses = tuple(
            _evse(party_id, station_id, evse_id, tuple(of_evse[each] for each in sorted(of_evse)), named[evse_id])
            for evse_id, of_evse in sorted(connectors.items())
        )
    except RowRefused as error:
        raise _AtLine(first_line, str(error)) from error
    return PlannedStation(
        charging_station_id=station_id,
        line=first_line,
        terms=StationTerms(
            location_id=first["location_id"], evses=evses, tariff_ids=tuple(first.get("tariff_ids", "").split())
        ),
        credential=credential,
    )


def _check_station_id(station_id: str) -> None:
    if not STATION_ID.fullmatch(station_id):
        raise RowRefused(STATION_ID_RULE)


def _check_new(connector: Connector, known: Mapping[int, Connector], evse_id: int) -> None:
    if connector.connector_id in known:
        raise RowRefused(f"connector {connector.connector_id} of EVSE {evse_id} stands twice")


def _check_same(first: Mapping[str, str], row: Mapping[str, str], names: Iterable[str]) -> None:
    """Refuse a line that contradicts the first of its station or EVSE; what it leaves out it does not say."""
    for name in names:
        if row.get(name, "") not in ("", first.get(name, "")):
            raise RowRefused(f"{name} differs from the one above")


def connector_of_text(text: str) -> Connector:
    """Return a connector from its values in the order of `CONNECTOR_COLUMNS`, with commas. Raises `NotUnderstood`."""
    values = [value.strip() for value in text.split(",")]
    try:
        if len(values) == len(CONNECTOR_COLUMNS):
            return _connector_of(dict(zip(CONNECTOR_COLUMNS, values, strict=True)))
    except RowRefused as error:
        raise NotUnderstood(f"connector: {error}") from error
    raise NotUnderstood(f"connector is {','.join(CONNECTOR_COLUMNS)}")


def _connector_of(row: Mapping[str, str]) -> Connector:
    if not 1 <= len(row.get("standard", "")) <= STANDARD_CHARACTERS_MAX:
        raise RowRefused(f"standard has 1 to {STANDARD_CHARACTERS_MAX} characters, such as IEC_62196_T2")
    try:
        power_type = PowerType(row.get("power_type", ""))
    except ValueError as error:
        raise RowRefused(f"power_type is one of {', '.join(PowerType)}") from error
    return Connector(
        connector_id=_number(row, "connector_id", least=1) if row.get("connector_id") else 1,
        standard=row["standard"],
        power_type=power_type,
        voltage_v_max=_number(row, "voltage_v_max", least=1),
        current_a_max=_number(row, "current_a_max", least=1),
        power_w_max=_number(row, "power_w_max", least=1),
    )


def _credential_of(row: Mapping[str, str]) -> StationCredential | None:
    password, profile = row.get("password") or None, row.get("security_profile") or None
    version = row.get("ocpp_version") or None
    if version not in (None, "1.6", "2.0.1", "2.1"):
        raise RowRefused("ocpp_version is 1.6, 2.0.1 or 2.1")
    if profile not in (None, "1", "2", "3"):
        raise RowRefused("security_profile is 1, 2 or 3")
    if password is not None and not (PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX):
        raise RowRefused(
            f"password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters, machine-drawn"
        )
    if password is None and profile is None:
        return None
    return StationCredential(
        password=password, ocpp_version=version, security_profile=None if profile is None else int(profile)
    )


def _number(row: Mapping[str, str], name: str, *, least: int) -> int:
    text = row.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= least):
        raise RowRefused(f"{name} is a whole number, {least} at least")
    return int(text)


def _evse(
    party_id: PartyId, station_id: str, evse_id: int, connectors: tuple[Connector, ...], row: Mapping[str, str]
) -> EVSE:
    """Return an EVSE; without names of its own it is called by its station and number (eMI3: CC*PID*E...)."""
    plain = re.sub(r"[^A-Z0-9]", "", station_id.upper())
    evse_uid = row.get("evse_uid") or f"{station_id}-{evse_id}"
    if len(evse_uid) > EVSE_UID_CHARACTERS_MAX:
        raise RowRefused(f"evse_uid {evse_uid} has more than {EVSE_UID_CHARACTERS_MAX} characters: name another")
    return EVSE(
        evse_uid=evse_uid,
        emi3_id=row.get("emi3_id") or f"{party_id.country_code}*{party_id.party_id}*E{plain}*{evse_id}",
        ocpp_evse_id=evse_id,
        connectors=connectors,
        meter_public_key=_meter_key(row.get("meter_public_key", "")),
    )


def _meter_key(text: str) -> str | None:
    try:
        return meter_key(text) if text else None
    except OCMFRefused as refusal:
        raise RowRefused(f"meter_public_key is no key of a meter: {refusal.seen}") from refusal


# SteVe

_CONNECTOR_NUMBER: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
CHARGE_BOX: Final = "charge_box"
CONNECTOR: Final = "connector"
ADDRESS: Final = "address"
_JSON_16: Final = "ocpp1.6J"


def stations_of_steve(dump: str, party_id: PartyId, terms: SteVeTerms) -> Plan[PlannedStation]:
    """Plan the charge boxes of a SteVe database.

    Their passwords are hashes (bcrypt) that nothing of ours can use, so none are taken: draw new ones.

    Raises:
        NoDump: it can't be read.
        NotUnderstood: it has no charge box, or the connectors' abilities or the time zone are not told.
    """
    if terms.connector is None:
        raise NotUnderstood("SteVe does not know what connectors can do: say it (connector)")
    require_zone(terms.time_zone or "UTC")
    boxes: list[DumpedRow] = []
    numbers: dict[str, set[int]] = {}
    addresses: dict[str, dict[str, str | None]] = {}
    for row in rows_of(dump, (CHARGE_BOX, CONNECTOR, ADDRESS)):
        if row.table == CHARGE_BOX:
            boxes.append(row)
        elif row.table == ADDRESS:
            addresses[row.values.get("address_pk") or ""] = row.values
        else:
            number = row.values.get("connector_id") or ""
            if _CONNECTOR_NUMBER.fullmatch(number):  # 0 is the station itself
                numbers.setdefault(row.values.get("charge_box_id") or "", set()).add(int(number))
    if not boxes:
        raise NotUnderstood(f"no row of {CHARGE_BOX}: dump it with its data")
    if len(boxes) > ROWS_MAX:
        raise NotUnderstood(f"more than {ROWS_MAX} charge boxes: import in parts")
    planned: list[PlannedStation] = []
    refused: list[Refusal] = []
    for box in boxes:
        name = box.values.get("charge_box_id") or ""
        try:
            address = addresses.get(box.values.get("address_pk") or "", {})
            planned.append(_station_of_box(party_id, box, sorted(numbers.get(name, ())), address, terms))
        except RowRefused as error:
            refused.append(Refusal(line=box.line, row=name, why=str(error)))
    return Plan(planned=tuple(planned), refused=tuple(refused))


def _station_of_box(
    party_id: PartyId,
    box: DumpedRow,
    numbers: Sequence[int],
    address: Mapping[str, str | None],
    terms: SteVeTerms,
) -> PlannedStation:
    name, values = box.values.get("charge_box_id") or "", box.values
    _check_station_id(name)
    protocol = values.get("ocpp_protocol")
    if protocol not in (None, "", _JSON_16):
        raise RowRefused(f"it speaks {protocol}; there is OCPP-J 1.6, 2.0.1 and 2.1")
    if (values.get("registration_status") or "Accepted") != "Accepted":
        raise RowRefused(f"SteVe has it as {values['registration_status']}")
    if not numbers:
        raise RowRefused(f"no row of {CONNECTOR} names it: SteVe has never heard of its connectors")
    location_id, location = _place_of(values, address, terms)
    assert terms.connector is not None
    return PlannedStation(
        charging_station_id=name,
        line=box.line,
        terms=StationTerms(
            location_id=location_id,
            evses=tuple(_evse(party_id, name, number, (terms.connector,), {}) for number in numbers),
        ),
        location=location,
    )


def _place_of(
    values: Mapping[str, str | None], address: Mapping[str, str | None], terms: SteVeTerms
) -> tuple[str, LocationTerms | None]:
    """Return where it stands: at its own address if that is whole, else where all others are said to stand."""
    missing = [name for name in ("street", "zip_code", "city", "country") if not address.get(name)]
    missing += [name for name in ("location_latitude", "location_longitude") if not values.get(name)]
    missing += ["a time zone"] if terms.time_zone is None else []
    country = ALPHA_3.get((address.get("country") or "").upper())
    if address.get("country") and country is None:
        missing.append(f"the three letters of {address['country']}")
    if missing or country is None or terms.time_zone is None:
        if terms.location_id is not None:
            return terms.location_id, None
        raise RowRefused(f"it has no whole address ({', '.join(missing)} missing) and no location is said for such")
    street = f"{address['street']} {address.get('house_number') or ''}".strip()
    return f"STEVE-{address['address_pk']}", LocationTerms(
        name=f"{street}, {address['city']}",
        address=street,
        city=address["city"] or "",
        postal_code=address["zip_code"] or "",
        country=country,
        latitude=_degrees(values, "location_latitude", 90),
        longitude=_degrees(values, "location_longitude", 180),
        time_zone=terms.time_zone,
    )


def _degrees(values: Mapping[str, str | None], name: str, most: int) -> Decimal:
    try:
        degrees = Decimal(values.get(name) or "")
    except InvalidOperation as error:
        raise RowRefused(f"{name} is no number") from error
    if not degrees.is_finite() or not -most <= degrees <= most:
        raise RowRefused(f"{name} is beyond {most} degrees")
    return degrees
