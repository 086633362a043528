"""Versions of a tariff: a hash that names what it charges, and whether it is in force.

A CPO and an MSP must get the same hash though the tariff went through OCPI in between, so the canonical form holds
exactly what decides a price and nothing that travels with it:

- in: owner, id, currency, type, validity, limits, that prices include tax where they do, and every element in order
  with its components and restrictions;
- out: `last_updated` (a receiver may raise it, OCPI cuts it to seconds) and texts for people.

The form can be read back (`tariff_of`), so a document may carry a tariff in it and have the price recomputed.

Numbers are written without trailing zeros (0.10 is 0.1), instants in UTC to the second, times of day to the minute's
second, ids in upper case (CiString), `step_size` 0 as the 1 it means, days in the order of the week.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeVar

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.tariff.selection import states_rate
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

T = TypeVar("T")

CANONICAL_FORM: Final = "wattroam-tariff-1"
"""Hashed along: a change of the form changes every hash, and says so."""
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")


class NoCanonicalTariff(MalformedInput):
    """A document that should be a tariff in canonical form is none."""


def tariff_hash(tariff: Tariff) -> str:
    """Return the SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical_bytes(tariff)).hexdigest()


def canonical_bytes(tariff: Tariff) -> bytes:
    """Return what is hashed: compact JSON with sorted keys and without absent fields."""
    return json.dumps(canonical_document(tariff), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_document(tariff: Tariff) -> dict[str, Any]:
    """Return the canonical form before it is written as bytes."""
    document = {
        "form": CANONICAL_FORM,
        "party": tariff.party_id.code,
        "id": tariff.tariff_id.upper(),
        "currency": tariff.currency.upper(),
        "type": None if tariff.tariff_type is None else tariff.tariff_type.value,
        "from": _instant(tariff.valid_from),
        "until": _instant(tariff.valid_until),
        "min": _limit(tariff.price_min),
        "max": _limit(tariff.price_max),
        "tax_included": "YES" if tariff.tax_included is TaxIncluded.YES else None,
        "elements": [_element(tariff, element) for element in tariff.elements],
    }
    return _present(document)


def tariff_of(document: dict[str, Any]) -> Tariff:
    """Read a canonical form back into a tariff that charges the same.

    Its `last_updated`, which is not in the form, is the earliest moment there is.

    Raises:
        NoCanonicalTariff: the document is not exactly the canonical form of a tariff.
    """
    try:
        tariff = Tariff(
            party_id=PartyId(document["party"]),
            tariff_id=document["id"],
            currency=document["currency"],
            elements=tuple(_read_element(element) for element in document["elements"]),
            last_updated=datetime.min.replace(tzinfo=UTC),
            tariff_type=_read(document, "type", TariffType),
            price_min=_read(document, "min", _read_limit),
            price_max=_read(document, "max", _read_limit),
            valid_from=_read(document, "from", datetime.fromisoformat),
            valid_until=_read(document, "until", datetime.fromisoformat),
            tax_included=TaxIncluded(document.get("tax_included", TaxIncluded.NO)),
        )
        is_whole = canonical_document(tariff) == document
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, MalformedInput) as error:
        raise NoCanonicalTariff(str(error)) from error
    if not is_whole:
        raise NoCanonicalTariff("a part of it is written in another way, or is not of the form")
    return tariff


def is_in_force(tariff: Tariff, at: datetime) -> bool:
    """Whether a session may start under the tariff at `at`; its start is included, its end is not."""
    if tariff.valid_from is not None and at < tariff.valid_from:
        return False
    return tariff.valid_until is None or at < tariff.valid_until


def _element(tariff: Tariff, element: TariffElement) -> dict[str, Any]:
    restrictions = _present(_restrictions(element.restrictions))
    document: dict[str, Any] = {"components": [_component(tariff, component) for component in element.components]}
    if restrictions:
        document["restrictions"] = restrictions
    return document


def _component(tariff: Tariff, component: PriceComponent) -> dict[str, Any]:
    # OCPI 2.2.1 has no other word for "no tax is applicable" (2.3.0: N/A) than to state none.
    vat_percent = component.vat_percent if states_rate(tariff, component) else None
    return _present(
        {
            "dimension": component.dimension.value,
            "price": _number(component.price),
            "step": component.step_size or 1,
            "vat": None if vat_percent is None else _number(vat_percent),
        }
    )


def _restrictions(r: TariffRestrictions) -> dict[str, Any]:
    return {
        "start_time": None if r.start_time is None else r.start_time.isoformat("seconds"),
        "end_time": None if r.end_time is None else r.end_time.isoformat("seconds"),
        "start_date": None if r.start_date is None else r.start_date.isoformat(),
        "end_date": None if r.end_date is None else r.end_date.isoformat(),
        "energy_wh_min": r.energy_wh_min,
        "energy_wh_max": r.energy_wh_max,
        "current_a_min": None if r.current_a_min is None else _number(r.current_a_min),
        "current_a_max": None if r.current_a_max is None else _number(r.current_a_max),
        "power_w_min": r.power_w_min,
        "power_w_max": r.power_w_max,
        "duration_s_min": r.duration_s_min,
        "duration_s_max": r.duration_s_max,
        "days": [day.value for day in DayOfWeek if day in r.days_of_week] or None,
        "reservation": None if r.reservation is None else r.reservation.value,
    }


def _read(document: dict[str, Any], name: str, kind: Callable[[Any], T]) -> T | None:
    return kind(document[name]) if name in document else None


def _whole(number: Any) -> int:
    if type(number) is not int:
        raise TypeError(f"{number!r} is no whole number")
    return number


def _plain(number: str) -> Decimal:
    """Read a number as `_number` writes it; 1e999999999 would take a thousand million digits to write back."""
    if _PLAIN_NUMBER.fullmatch(number) is None:
        raise ValueError(f"{number[:40]!r} is no plain number")
    return Decimal(number)


def _read_limit(document: dict[str, Any]) -> Price:
    return Price(excl_e4=_whole(document["excl_e4"]), incl_e4=_read(document, "incl_e4", _whole))


def _read_element(document: dict[str, Any]) -> TariffElement:
    components = tuple(
        PriceComponent(
            dimension=TariffDimension(component["dimension"]),
            price=_plain(component["price"]),
            step_size=_whole(component["step"]),
            vat_percent=_read(component, "vat", _plain),
        )
        for component in document["components"]
    )
    return TariffElement(components=components, restrictions=_read_restrictions(document.get("restrictions", {})))


def _read_restrictions(r: dict[str, Any]) -> TariffRestrictions:
    return TariffRestrictions(
        start_time=_read(r, "start_time", time.fromisoformat),
        end_time=_read(r, "end_time", time.fromisoformat),
        start_date=_read(r, "start_date", date.fromisoformat),
        end_date=_read(r, "end_date", date.fromisoformat),
        energy_wh_min=_read(r, "energy_wh_min", _whole),
        energy_wh_max=_read(r, "energy_wh_max", _whole),
        current_a_min=_read(r, "current_a_min", _plain),
        current_a_max=_read(r, "current_a_max", _plain),
        power_w_min=_read(r, "power_w_min", _whole),
        power_w_max=_read(r, "power_w_max", _whole),
        duration_s_min=_read(r, "duration_s_min", _whole),
        duration_s_max=_read(r, "duration_s_max", _whole),
        days_of_week=tuple(DayOfWeek(day) for day in r.get("days", ())),
        reservation=_read(r, "reservation", Reservation),
    )


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def _limit(price: Price | None) -> dict[str, Any] | None:
    return None if price is None else _present({"excl_e4": price.excl_e4, "incl_e4": price.incl_e4})


def _instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).replace(microsecond=0).isoformat()


def _number(number: Decimal) -> str:
    """Plain digits without trailing zeros; -0 is 0."""
    if not number:
        return "0"
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
