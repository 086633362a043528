"""Tariffs a 2.1 station was told (block I), and what a charge costs by them, counted at the station.

It counts energy, charging time and a fixed fee at prices without conditions; a price with a condition it does not
support, and says so. Amounts are exclusive of tax, in decimals, rounded to ten-thousandths when they are told.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from simulator.stations.calls import Payload, Reply
from simulator.stations.concept import Commands, Concept
from simulator.stations.station import SimulatedEVSE, Transaction
from simulator.truth import timestamp

if TYPE_CHECKING:
    from simulator.stations.ocpp201 import Station201

PRICES_MAX: Final = 10
"""Of one component."""
COMPONENTS: Final = ("energy", "chargingTime", "idleTime", "fixedFee", "reservationTime", "reservationFixed")
_STEP: Final = Decimal("0.0001")


class Tariffs(Concept):
    """Default tariffs by EVSE (0: all of them), and those of running transactions."""

    station: Station201

    def __init__(self, station: Station201) -> None:
        super().__init__(station)
        self.defaults: dict[int, dict[str, Any]] = {}
        self.of_transaction: dict[str, dict[str, Any]] = {}

    def commands(self) -> Commands:
        """The four of the block."""
        return {
            "SetDefaultTariff": self._set_default,
            "GetTariffs": self._get,
            "ClearTariffs": self._clear,
            "ChangeTransactionTariff": self._change,
        }

    def began(self, evse: SimulatedEVSE, transaction: Transaction) -> None:
        """The tariff in force is the transaction's."""
        number = evse.profile.ocpp_evse_id
        candidates = [self.defaults[each] for each in (number, 0) if each in self.defaults]
        for tariff in candidates:
            valid_from = tariff.get("validFrom")
            if valid_from is None or datetime.fromisoformat(valid_from) <= transaction.started_at:
                self.of_transaction[transaction.local_id] = tariff
                transaction.tariff_id = tariff["tariffId"]
                return

    def cost_details(self, transaction: Transaction, *, energy_wh: int, until: datetime) -> Payload | None:
        """Return `costDetails` of a TransactionEvent; None: the transaction has no tariff."""
        tariff = self.of_transaction.get(transaction.local_id)
        if tariff is None:
            return None
        charging_s = int((until - transaction.started_at).total_seconds())
        parts = {
            "energy": Decimal(energy_wh) / 1000 * _price(tariff, "energy", "priceKwh"),
            "chargingTime": Decimal(charging_s) / 60 * _price(tariff, "chargingTime", "priceMinute"),
            "fixed": _price(tariff, "fixedFee", "priceFixed"),
        }
        total = sum(parts.values(), Decimal(0))
        return {
            "totalCost": {
                "currency": tariff["currency"],
                "typeOfCost": "NormalCost",
                "total": _amount(total),
                **{name: _amount(value) for name, value in parts.items() if value},
            },
            "totalUsage": {"energy": float(Decimal(energy_wh) / 1000), "chargingTime": charging_s, "idleTime": 0},
            "chargingPeriods": [
                {
                    "tariffId": tariff["tariffId"],
                    "startPeriod": timestamp(transaction.started_at),
                    "dimensions": [{"type": "Energy", "volume": float(energy_wh)}],
                }
            ],
        }

    def _set_default(self, payload: Payload) -> Reply:
        evse_id, tariff = payload["evseId"], payload["tariff"]
        if evse_id and evse_id not in self.station.evses:
            return Reply(payload={"status": "Rejected"})
        status = _refusal(tariff)
        if status is None and tariff["tariffId"] in self._ids(but=evse_id):
            status = "DuplicateTariffId"
        if status is not None:
            return Reply(payload={"status": status})
        if evse_id == 0:
            self.defaults.clear()
        self.defaults[evse_id] = tariff
        return Reply(payload={"status": "Accepted"})

    def _ids(self, *, but: int) -> set[str]:
        return {tariff["tariffId"] for number, tariff in self.defaults.items() if but not in (number, 0)}

    def _get(self, payload: Payload) -> Reply:
        evse_id = payload["evseId"]
        if evse_id and evse_id not in self.station.evses:
            return Reply(payload={"status": "Rejected"})
        found = [
            {
                "tariffId": tariff["tariffId"],
                "tariffKind": "DefaultTariff",
                "evseIds": [number] if number else list(self.station.evses),
                **({"validFrom": tariff["validFrom"]} if "validFrom" in tariff else {}),
            }
            for number, tariff in self.defaults.items()
            if evse_id in (0, number) or number == 0
        ]
        if not found:
            return Reply(payload={"status": "NoTariff"})
        return Reply(payload={"status": "Accepted", "tariffAssignments": found})

    def _clear(self, payload: Payload) -> Reply:
        evse_id = payload.get("evseId", 0)
        known = {tariff["tariffId"]: number for number, tariff in self.defaults.items() if evse_id in (0, number)}
        wanted = payload.get("tariffIds", list(known)) or [None]
        results = []
        for tariff_id in wanted:
            is_known = tariff_id in known
            if is_known:
                del self.defaults[known[tariff_id]]
            named = {} if tariff_id is None else {"tariffId": tariff_id}
            results.append({"status": "Accepted" if is_known else "NoTariff", **named})
        return Reply(payload={"clearTariffsResult": results})

    def _change(self, payload: Payload) -> Reply:
        tariff, evse = payload["tariff"], self.station.running(payload["transactionId"])
        if evse is None or evse.transaction is None:
            return Reply(payload={"status": "TxNotFound"})
        transaction = evse.transaction
        known = self.of_transaction.get(transaction.local_id)
        if known is not None and known["currency"] != tariff["currency"]:
            return Reply(payload={"status": "NoCurrencyChange"})
        status = _refusal(tariff)
        if status is not None:
            return Reply(payload={"status": status})
        self.of_transaction[transaction.local_id] = tariff
        transaction.tariff_id = tariff["tariffId"]
        return Reply(payload={"status": "Accepted"}, then=lambda: self.station.update(evse, "TariffChanged"))


def _refusal(tariff: dict[str, Any]) -> str | None:
    prices = [tariff[name]["prices"] for name in COMPONENTS if name in tariff]
    if any(len(each) > PRICES_MAX for each in prices):
        return "TooManyElements"
    if any("conditions" in price for each in prices for price in each):
        return "ConditionNotSupported"
    return None


def _price(tariff: dict[str, Any], component: str, name: str) -> Decimal:
    prices = tariff.get(component, {}).get("prices", [])
    return Decimal(str(prices[0][name])) if prices else Decimal(0)


def _amount(value: Decimal) -> dict[str, float]:
    return {"exclTax": float(value.quantize(_STEP))}
