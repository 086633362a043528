"""Domain → OCPI JSON → domain gives back what went in, to the last digit; what was personal is sealed again."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobility.adapters.memory import MemoryVault, SeededRandomness, VirtualClock
from emobility.domain.cdr import CDR, CDRLocation, SignedMeterData, credit_of
from emobility.domain.charging_station import EVSE, Connector, EVSEStatus, Location, PowerType
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.session import AuthMethod, ChargingPeriod, Session, SessionStatus, SessionToken
from emobility.domain.tariff.tariff import (
    DayOfWeek,
    PriceComponent,
    Reservation,
    Tariff,
    TariffDimension,
    TariffElement,
    TariffRestrictions,
    TariffType,
    TaxIncluded,
)
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import Token, TokenType, Whitelist
from emobility.protocols.ocpi import mapping, v221
from emobility.protocols.ocpi.mapping import NotInOurWords, NotInTheirWords
from emobility.protocols.ocpi.v221 import NotAnOCPIObject, NotJSON, read, write

VAULT = MemoryVault(
    master_key=b"m" * 32, clock=VirtualClock(datetime(2026, 3, 1, tzinfo=UTC)), randomness=SeededRandomness(3)
)
T = TypeVar("T")
ZONE = "Europe/Amsterdam"
PARTY = st.sampled_from([PartyId("NL-TNM"), PartyId("DE-MSP"), PartyId("BE-X1Y")])
MOMENT = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=36)
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)
WH = st.integers(0, 10**9)
SECONDS = st.integers(0, 10**7)
PRICE = st.builds(Price, excl_e4=st.integers(-(10**12), 10**12), incl_e4=st.none() | st.integers(-(10**12), 10**12))
NUMBER = st.decimals(0, 10**6, places=4, allow_nan=False, allow_infinity=False)
MINUTE = st.times().map(lambda at: at.replace(second=0, microsecond=0))
MAYBE_WH, MAYBE_S = st.none() | WH, st.none() | SECONDS

RESTRICTIONS = st.builds(
    TariffRestrictions,
    start_time=st.none() | MINUTE,
    end_time=st.none() | MINUTE,
    start_date=st.none() | st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    end_date=st.none() | st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    energy_wh_min=MAYBE_WH,
    energy_wh_max=MAYBE_WH,
    current_a_min=st.none() | NUMBER,
    current_a_max=st.none() | NUMBER,
    power_w_min=MAYBE_WH,
    power_w_max=MAYBE_WH,
    duration_s_min=MAYBE_S,
    duration_s_max=MAYBE_S,
    days_of_week=st.lists(st.sampled_from(DayOfWeek), unique=True).map(tuple),
    reservation=st.none() | st.sampled_from(Reservation),
)
COMPONENT = st.builds(
    PriceComponent,
    dimension=st.sampled_from(TariffDimension),
    price=NUMBER,
    step_size=st.integers(0, 100_000),
    vat_percent=st.none() | NUMBER,
)
ELEMENT = st.builds(
    TariffElement,
    components=st.lists(COMPONENT, min_size=1, max_size=3).map(tuple),
    restrictions=RESTRICTIONS,
)
TARIFF = st.builds(
    Tariff,
    party_id=PARTY,
    tariff_id=WORD,
    currency=st.sampled_from(["EUR", "DKK"]),
    elements=st.lists(ELEMENT, min_size=1, max_size=4).map(tuple),
    last_updated=MOMENT,
    tariff_type=st.none() | st.sampled_from(TariffType),
    price_min=st.none() | PRICE,
    price_max=st.none() | PRICE,
    valid_from=st.none() | MOMENT,
    valid_until=st.none() | MOMENT,
    text_en=st.none() | TEXT,
)
PERIOD = st.builds(
    ChargingPeriod,
    started_at=MOMENT,
    energy_import_wh=WH,
    energy_export_wh=st.just(0) | WH,
    charging_s=SECONDS,
    parking_s=SECONDS,
    reserved_s=SECONDS,
    power_w_min=MAYBE_WH,
    power_w_max=MAYBE_WH,
    current_a_min=st.none() | NUMBER,
    current_a_max=st.none() | NUMBER,
    tariff_id=st.none() | WORD,
)
PERIODS = st.lists(PERIOD, min_size=1, max_size=4).map(tuple)


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: the vault in memory never does."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it waits")


def sealed(text: str) -> Sealed:
    return done(VAULT.seal(text))


def opened(value: Any) -> Any:
    """A record with every `Sealed` replaced by its subject and text: what two records must share."""
    if isinstance(value, Sealed):
        return value.subject, done(VAULT.open(value))
    if isinstance(value, tuple):
        return tuple(opened(each) for each in value)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, Price):
        return type(value).__name__, {name: opened(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


SESSION_TOKEN = st.builds(
    SessionToken,
    emsp_id=PARTY,
    uid=WORD.map(sealed),
    token_type=st.sampled_from(TokenType),
    contract_id=WORD.map(sealed),
)


@st.composite
def cdrs(draw: st.DrawFn) -> CDR:
    tariff, periods, token = draw(TARIFF), draw(PERIODS), draw(SESSION_TOKEN)
    records = draw(st.lists(TEXT, max_size=3))
    subject = token.uid.subject
    signed = SignedMeterData(
        encoding_method="OCMF",
        public_key=draw(st.binary(min_size=1, max_size=90)).hex(),
        records=tuple(done(VAULT.seal_under(text, subject=subject)) for text in records),
    )
    return CDR(
        party_id=draw(PARTY),
        cdr_id=draw(WORD),
        session_id=draw(WORD),
        started_at=draw(MOMENT),
        ended_at=draw(MOMENT),
        token=token,
        auth_method=draw(st.sampled_from(AuthMethod)),
        authorization_reference=draw(st.none() | WORD),
        location=CDRLocation(
            location_id=draw(WORD),
            name=draw(TEXT),
            address=draw(TEXT),
            city=draw(TEXT),
            postal_code=draw(st.sampled_from(["", "3511 AA"])),
            country="NLD",
            latitude=draw(st.decimals(-90, 90, places=6)),
            longitude=draw(st.decimals(-180, 180, places=6)),
            time_zone=ZONE,
            evse_uid=draw(WORD),
            emi3_id=draw(WORD),
            connector_id=draw(st.integers(0, 99)),
            connector_standard=draw(st.sampled_from(["IEC_62196_T2", "IEC_62196_T2_COMBO", "CHADEMO"])),
            power_type=draw(st.sampled_from(PowerType)),
        ),
        currency="EUR",
        tariff=tariff,
        tariff_hash=tariff_hash(tariff),
        periods=periods,
        total_cost=draw(PRICE),
        total_fixed_cost=draw(st.none() | PRICE),
        total_energy_cost=draw(st.none() | PRICE),
        total_time_cost=draw(st.none() | PRICE),
        total_parking_cost=draw(st.none() | PRICE),
        total_energy_import_wh=draw(WH),
        total_energy_export_wh=sum(period.energy_export_wh for period in periods),
        total_charging_s=draw(SECONDS),
        total_parking_s=draw(SECONDS),
        signed_data=signed if records else None,
        issued_at=draw(MOMENT),
        remark=draw(st.none() | TEXT),
        total_reservation_cost=draw(st.none() | PRICE),
        further_tariffs=draw(st.lists(TARIFF, max_size=1).map(tuple)),
    )


@given(tariff=TARIFF)
def test_a_tariff_comes_back_as_it_went_and_keeps_its_hash(tariff: Tariff) -> None:
    back = mapping.tariff_from_ocpi(read(write(mapping.tariff_to_ocpi(tariff)), v221.Tariff))

    assert back == tariff
    assert tariff_hash(back) == tariff_hash(tariff)


@settings(max_examples=30, deadline=None)
@given(cdr=cdrs(), is_credit=st.booleans())
def test_a_cdr_comes_back_as_it_went(cdr: CDR, is_credit: bool) -> None:  # noqa: FBT001 - drawn
    if is_credit:
        cdr = credit_of(cdr, cdr_id=f"{cdr.cdr_id[:36]}-C1", issued_at=cdr.issued_at, remark="taken back")

    async def round_trip() -> CDR:
        body = write(await mapping.cdr_to_ocpi(cdr, VAULT))
        return await mapping.cdr_from_ocpi(read(body, v221.CDR), VAULT, time_zone=ZONE)

    assert opened(done(round_trip())) == opened(cdr)


@settings(max_examples=60, deadline=None)
@given(
    session=st.builds(
        Session,
        party_id=PARTY,
        session_id=WORD,
        started_at=MOMENT,
        ended_at=st.none() | MOMENT,
        energy_import_wh=WH,
        energy_export_wh=st.just(0),
        token=SESSION_TOKEN,
        auth_method=st.sampled_from(AuthMethod),
        authorization_reference=st.none() | WORD,
        location_id=WORD,
        evse_uid=WORD,
        connector_id=st.integers(0, 99),
        currency=st.just("EUR"),
        tariff_hash=st.sampled_from(["", "ab" * 32]),
        periods=st.lists(PERIOD.map(lambda period: replace(period, energy_export_wh=0)), max_size=3).map(tuple),
        total_cost=st.none() | PRICE,
        status=st.sampled_from(SessionStatus),
        last_updated=MOMENT,
    )
)
def test_a_session_comes_back_as_it_went(session: Session) -> None:
    async def round_trip() -> Session:
        body = write(await mapping.session_to_ocpi(session, VAULT))
        return await mapping.session_from_ocpi(read(body, v221.Session), VAULT)

    assert opened(done(round_trip())) == opened(session)


@settings(max_examples=40, deadline=None)
@given(
    token=st.builds(
        Token,
        emsp_id=PARTY,
        uid=WORD.map(sealed),
        contract_id=WORD.map(sealed),
        token_type=st.sampled_from(TokenType),
        issuer=TEXT,
        is_valid=st.booleans(),
        whitelist=st.sampled_from(Whitelist),
        last_updated=MOMENT,
    )
)
def test_a_token_comes_back_as_it_went(token: Token) -> None:
    async def round_trip() -> Token:
        return await mapping.token_from_ocpi(read(write(await mapping.token_to_ocpi(token, VAULT)), v221.Token), VAULT)

    assert opened(done(round_trip())) == opened(token)


@given(
    latitude=st.decimals(-90, 90, places=6),
    longitude=st.decimals(-180, 180, places=6),
    statuses=st.lists(st.sampled_from(EVSEStatus), max_size=3),
    updated=MOMENT,
)
def test_a_location_comes_back_as_it_went_without_the_stations_own_numbers(
    latitude: Decimal, longitude: Decimal, statuses: list[EVSEStatus], updated: datetime
) -> None:
    location = Location(
        party_id=PartyId("NL-TNM"),
        location_id="L1",
        name="Plein",
        address="Plein 1",
        city="Utrecht",
        postal_code="3511 AA",
        country="NLD",
        latitude=latitude,
        longitude=longitude,
        time_zone=ZONE,
        last_updated=updated,
    )
    connector = Connector(
        connector_id=1,
        standard="IEC_62196_T2",
        power_type=PowerType.AC_3_PHASE,
        voltage_v_max=230,
        current_a_max=16,
        power_w_max=11_000,
    )
    evses = tuple(
        mapping.published(
            EVSE(evse_uid=f"E{n}", emi3_id=f"NL*TNM*E{n}", ocpp_evse_id=7_131, connectors=(connector,)),
            status=status,
            tariff_ids=["T1", "T2"],
            last_updated=updated,
        )
        for n, status in enumerate(statuses)
    )

    body = write(mapping.location_to_ocpi(location, evses))

    assert mapping.location_from_ocpi(read(body, v221.Location)) == (location, evses)
    assert b"7131" not in body


@given(duration_s=st.integers(0, 10**8))
def test_whole_seconds_survive_hours_with_four_decimals(duration_s: int) -> None:
    assert mapping.seconds_of(mapping.hours(duration_s)) == duration_s


def test_numbers_are_json_numbers_digit_for_digit() -> None:
    assert write(v221.Price(excl_vat=Decimal("0.10"), incl_vat=Decimal("12345678.1234"))) == (
        b'{"excl_vat":0.10,"incl_vat":12345678.1234}'
    )
    assert read(b'{"excl_vat":0.100000000000000055}', v221.Price).excl_vat == Decimal("0.100000000000000055")


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b'"NaN"', b'"Infinity"', b"1e-40", b"null", b"true", b"[]"])
def test_a_number_nobody_can_mean_is_refused(number: bytes) -> None:
    with pytest.raises(NotAnOCPIObject):
        read(b'{"excl_vat":%s}' % number, v221.Price)


@pytest.mark.parametrize("body", [b"", b"{", b'{"excl_vat":NaN}', b"\xff", b"[" * 200_000])
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    with pytest.raises(NotJSON):
        read(body, v221.Price)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2015-06-29T20:39:09Z", datetime(2015, 6, 29, 20, 39, 9, tzinfo=UTC)),
        ("2015-06-29T20:39:09", datetime(2015, 6, 29, 20, 39, 9, tzinfo=UTC)),
        ("2016-12-29T17:45:09.2", datetime(2016, 12, 29, 17, 45, 9, 200_000, tzinfo=UTC)),
        ("2016-12-29T18:45:09.2+01:00", datetime(2016, 12, 29, 17, 45, 9, 200_000, tzinfo=UTC)),
    ],
)
def test_a_timestamp_without_a_zone_is_utc(text: str, moment: datetime) -> None:
    dumped = msgspec.json.encode({"start_date_time": text, "dimensions": [{"type": "TIME", "volume": 1}]})

    period = read(dumped, v221.ChargingPeriod)

    assert period.start_date_time == moment
    assert period.start_date_time.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["yesterday", "2015-06-29", "2015-13-01T00:00:00Z", "", "2015-06-29T25:00:00Z"])
def test_a_timestamp_that_is_none_is_refused(text: str) -> None:
    dumped = msgspec.json.encode({"start_date_time": text, "dimensions": [{"type": "TIME", "volume": 1}]})

    with pytest.raises(NotAnOCPIObject):
        read(dumped, v221.ChargingPeriod)


def test_unknown_fields_are_accepted() -> None:
    assert read(b'{"excl_vat":1,"new_in_2_3":{"x":[1]}}', v221.Price) == v221.Price(excl_vat=Decimal(1))


def test_a_dimension_that_stands_twice_is_refused() -> None:
    dimension = v221.CdrDimension(type=v221.CdrDimensionType.ENERGY, volume=Decimal(1))
    period = v221.ChargingPeriod(start_date_time=datetime(2026, 1, 1, tzinfo=UTC), dimensions=[dimension, dimension])

    with pytest.raises(NotInOurWords):
        mapping.period_from_ocpi(period)


def test_prices_that_include_tax_are_not_said_in_a_version_that_has_no_word_for_it() -> None:
    gross = Tariff(
        party_id=PartyId("NL-TNM"),
        tariff_id="T",
        currency="EUR",
        elements=(),
        last_updated=datetime(2026, 1, 1, tzinfo=UTC),
        tax_included=TaxIncluded.YES,
    )

    with pytest.raises(NotInTheirWords):
        mapping.tariff_to_ocpi(gross)


def test_a_time_of_day_with_seconds_never_leaves_the_house() -> None:
    tariff = Tariff(
        party_id=PartyId("NL-TNM"),
        tariff_id="T",
        currency="EUR",
        elements=(
            TariffElement(
                components=(PriceComponent(dimension=TariffDimension.FLAT, price=Decimal(1)),),
                restrictions=TariffRestrictions(start_time=time(10, 0, 30)),
            ),
        ),
        last_updated=datetime(2026, 1, 1, tzinfo=UTC),
    )

    with pytest.raises(AssertionError):
        mapping.tariff_to_ocpi(tariff)
