"""Tariffs and costs at stations that calculate and show them (OCPP 2.1, I), from the station's frames to the API."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from emobility.domain.money import Money
from emobility.domain.tariff.tariff import PriceComponent, TariffDimension, TariffElement
from emobility.events import codec
from services.charging_operations.office import NotAllowedNow
from services.charging_operations.running_costs import AMOUNT_E4_MAX, TOLD_COST, _number
from services.charging_operations.station_tariffs import TARIFF_ASSIGNMENT
from services.charging_operations.tariffs import TariffTerms
from tests.operations.connected import Connected, connected
from tests.operations.world import CARD, CPO, STATION

TARIFF = {"tariffId": "T1", "currency": "EUR", "energy": {"prices": [{"priceKwh": 0.3}]}}


def transaction(kind: str, seq_no: int, minute: int, wh: int, **changes: Any) -> dict[str, Any]:
    at = f"2022-03-27T{8 + minute // 60:02}:{minute % 60:02}:00Z"
    context = {"Started": "Transaction.Begin", "Ended": "Transaction.End"}.get(kind, "Sample.Periodic")
    sample = {"value": wh, "context": context, "measurand": "Energy.Active.Import.Register"}
    told = {
        "eventType": kind,
        "timestamp": at,
        "triggerReason": "Authorized" if kind == "Started" else "MeterValuePeriodic",
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": "tx-1", "chargingState": "Charging"},
        "meterValue": [{"timestamp": at, "sampledValue": [sample]}],
    }
    start = {"evse": {"id": 1, "connectorId": 1}, "idToken": {"idToken": CARD, "type": "ISO14443"}}
    return told | (start if kind == "Started" else {}) | changes


async def charging(talk: Connected) -> None:
    await talk.tell("TransactionEvent", transaction("Started", 0, 0, 1_000))
    await talk.tell("TransactionEvent", transaction("Updated", 1, 30, 3_001))


async def test_a_default_tariff_goes_out_whole_and_is_replaced_and_cleared() -> None:
    async with connected() as talk:
        _, heard = await talk.command("PUT", "default-tariffs/0", {"tariff": TARIFF})
        await talk.command("PUT", "default-tariffs/0", {"tariff": TARIFF}, says={"status": "DuplicateTariffId"})
        await talk.command("PUT", "default-tariffs/0", {"tariff": TARIFF | {"tariffId": "T2"}})
        set_now = {each["payload"]["tariff"]["tariffId"]: each for each in await talk.get("settings?state=IN_FORCE")}
        results = {
            "clearTariffsResult": [{"tariffId": "T2", "status": "Accepted"}, {"status": "NoTariff", "tariffId": "X"}]
        }
        _, cleared = await talk.command("POST", "tariffs/clear", {"tariff_ids": ["T2", "X"]}, says=results)
        states = sorted(each["state"] for each in await talk.get("settings?kind=SetDefaultTariff"))

    assert heard == ["SetDefaultTariff", {"evseId": 0, "tariff": TARIFF}]
    assert list(set_now) == ["T2"]
    assert cleared == ["ClearTariffs", {"tariffIds": ["T2", "X"]}]
    assert states == ["CLEARED", "REFUSED", "REPLACED"]


async def test_a_running_transaction_gets_another_tariff() -> None:
    async with connected() as talk:
        _, heard = await talk.command("PUT", "transactions/tx-1/tariff", {"tariff": TARIFF})
        (row,) = await talk.get("settings?kind=ChangeTransactionTariff")

    assert heard == ["ChangeTransactionTariff", {"transactionId": "tx-1", "tariff": TARIFF}]
    assert (row["object_id"], row["state"]) == ("tx-1", "IN_FORCE")


async def test_what_a_station_says_it_has_is_kept_but_for_whom_it_is() -> None:
    told = {
        "status": "Accepted",
        "tariffAssignments": [
            {"tariffId": "T1", "tariffKind": "DefaultTariff", "evseIds": [1, 2], "validFrom": "2022-03-27T00:00:00Z"},
            {"tariffId": "D", "tariffKind": "DriverTariff", "idTokens": [CARD]},
        ],
    }
    async with connected() as talk:
        answer, heard = await talk.command("POST", "tariffs/refresh", says=told)
        first = await talk.get("tariff-assignments")
        await talk.command("POST", "tariffs/refresh", says={"status": "NoTariff"})

        assert heard == ["GetTariffs", {"evseId": 0}]
        assert [(each["tariff_id"], each["ocpp_evse_ids"], each["drivers"]) for each in first] == [
            ("T1", [1, 2], 0),
            ("D", [], 1),
        ]
        assert CARD not in answer.text
        assert await talk.here.rows(TARIFF_ASSIGNMENT) == []


async def test_a_station_is_told_the_cost_to_the_ten_thousandth() -> None:
    async with connected() as talk:
        await charging(talk)

        answer, heard = await talk.command("POST", "transactions/tx-1/cost", says={})

    # 2.001 kWh at 0.30 and 0.50 to begin with; the agreement's tariff states no tax.
    assert heard == ["CostUpdated", {"transactionId": "tx-1", "totalCost": 1.1003}]
    assert answer.json() == {"total_cost": "1.1003", "currency": "EUR", "result": "ACCEPTED", "detail": None}


async def test_a_cost_is_told_with_its_tax_where_the_tariff_states_one() -> None:
    energy = PriceComponent(dimension=TariffDimension.ENERGY, price=Decimal("0.30"), vat_percent=Decimal(21))
    terms = TariffTerms(currency="EUR", elements=(TariffElement(components=(energy,)),))
    async with connected() as talk:
        talk.here.clock.step_by(timedelta(minutes=5))
        await talk.here.api("PUT", f"/{CPO}/tariffs/WHOLESALE", terms)
        await talk.tell("TransactionEvent", transaction("Started", 0, 10, 1_000))
        await talk.tell("TransactionEvent", transaction("Updated", 1, 30, 3_001))
        answer, _ = await talk.command("POST", "transactions/tx-1/cost", says={})

    assert answer.json()["total_cost"] == "0.7264"  # 2.001 kWh at 0.363


async def test_costs_are_told_while_somebody_wants_it_and_only_when_they_changed() -> None:
    async with connected() as talk:
        await talk.here.api("PUT", f"/{CPO}/stations/{STATION}/cost-telling")
        await charging(talk)
        tell_all = talk.here.operations.told.costs.tell_all
        _, first = await talk.answered(tell_all(), says={})
        await tell_all()
        await talk.tell("TransactionEvent", transaction("Updated", 2, 45, 4_000))
        _, second = await talk.answered(tell_all(), says={})
        await talk.here.api("DELETE", f"/{CPO}/stations/{STATION}/cost-telling")
        await talk.tell("TransactionEvent", transaction("Updated", 3, 50, 5_000))
        await tell_all()
        (told,) = await talk.here.rows(TOLD_COST)

    assert (first[1]["totalCost"], second[1]["totalCost"]) == (1.1003, 1.4)
    assert (told.amount_e4, told.currency, told.result) == (14_000, "EUR", "ACCEPTED")


async def test_what_has_ended_or_is_unknown_has_no_running_cost() -> None:
    path = f"/{CPO}/stations/{STATION}/transactions/tx-1/cost"
    async with connected() as talk:
        unknown = await talk.here.api("POST", path)
        await charging(talk)
        await talk.tell("TransactionEvent", transaction("Ended", 2, 60, 5_000))
        ended = await talk.here.api("POST", path)

    assert (unknown.status_code, ended.status_code) == (404, 409)


@pytest.mark.parametrize("amount_e4", [0, 1, 12_345, AMOUNT_E4_MAX - 1, AMOUNT_E4_MAX, -7])
def test_a_cost_is_the_number_with_its_four_decimals(amount_e4: int) -> None:
    number = _number(Money(amount_e4=amount_e4, currency="EUR"))

    assert number * 10_000 == amount_e4
    written = codec.encode_with_payload(number).decode()
    assert len(written.partition(".")[2]) <= 4
    assert round(float(written) * 10_000) == amount_e4  # as a station reads it


def test_a_cost_that_no_json_number_keeps_is_not_told() -> None:
    with pytest.raises(NotAllowedNow):
        _number(Money(amount_e4=AMOUNT_E4_MAX + 1, currency="EUR"))


async def test_a_station_s_own_cost_is_compared_with_ours_and_changes_no_price() -> None:
    def details(total: float, currency: str = "EUR") -> dict[str, Any]:
        cost = {"currency": currency, "typeOfCost": "NormalCost", "total": {"exclTax": total}}
        return {"totalCost": cost, "totalUsage": {"energy": 5.0, "chargingTime": 3600, "idleTime": 0}}

    async with connected() as talk:
        await charging(talk)
        await talk.tell("TransactionEvent", transaction("Updated", 2, 40, 3_500, costDetails=details(1.3)))
        talk.here.clock.step_by(timedelta(hours=1))
        await talk.tell("TransactionEvent", transaction("Ended", 3, 60, 6_000, costDetails=details(2.0125)))
        (shown,) = await talk.get("costs")
        (cdr,) = await talk.here.cdrs()

    assert (shown["seq_no"], shown["station_excl"], shown["our_excl"]) == (3, "2.0125", "2.0000")
    assert (shown["difference_excl"], shown["difference_incl"], shown["our_currency"]) == ("0.0125", None, "EUR")
    assert shown["details"]["totalUsage"] == {"energy": 5.0, "chargingTime": 3600, "idleTime": 0}
    assert cdr.cdr.total_cost.excl_e4 == 20_000


async def test_an_earlier_cost_that_comes_later_is_not_the_newest_and_other_currencies_are_not_compared() -> None:
    cost = {"currency": "SEK", "typeOfCost": "NormalCost", "total": {"inclTax": 9}}
    details = {"totalCost": cost, "totalUsage": {"energy": 1, "chargingTime": 1, "idleTime": 0}}
    older = details | {"totalCost": cost | {"total": {"inclTax": 5}}}
    async with connected() as talk:
        await talk.tell("TransactionEvent", transaction("Started", 0, 0, 1_000))
        await talk.tell("TransactionEvent", transaction("Updated", 2, 30, 3_000, costDetails=details))
        await talk.tell("TransactionEvent", transaction("Updated", 1, 20, 2_000, costDetails=older))
        (shown,) = await talk.get("costs")

    assert (shown["seq_no"], shown["station_incl"], shown["station_excl"]) == (2, "9", None)
    assert (shown["our_currency"], shown["difference_excl"]) == ("EUR", None)
