"""What versions of OCPI only call otherwise, and which value stands for one that a version has not.

Amounts are added and divided as decimals of up to 400 digits; a number that is only moved keeps its spelling.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from emobility.domain.identifiers import PartyId
from emobility.protocols.ocpi import v211, v221, v230
from emobility.protocols.ocpi.bridge_walk import LossReason, Place, Rules, members_of, text_of
from emobility.protocols.ocpi.v221 import NotAnOCPIObject, NotJSON, read

VAT: Final = "VAT"
"""What the one tax of 2.2.1 is called in 2.3.0."""
COMMAND_TIMEOUT_S: Final = 120
"""`timeout` of a command that a CPO of 2.1.1 took; it says none."""

_NUMBER: Final = re.compile(rb"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?")
_EXACT: Final = Context(prec=400, traps=[Inexact, InvalidOperation, Overflow])
_WIDE: Final = Context(prec=400, traps=[InvalidOperation, DivisionByZero, Overflow])
_ATOM: Final = Decimal(1).scaleb(-v221.NUMBER_DECIMALS_MAX)
_COSTS: Final = ("fixed", "energy", "time", "parking", "reservation")


def number_of(raw: bytes) -> Decimal | None:
    """Return a JSON number of a sane length, None for anything else."""
    return Decimal(raw.decode()) if _NUMBER.fullmatch(raw) else None


def _written(value: Decimal) -> bytes:
    return format(value, "f").encode()


# 2.2.1 -> 2.3.0


def _price_to_230(place: Place) -> None:
    place.rename("excl_vat", "before_taxes")
    if not place.has("incl_vat"):
        place.drop("incl_vat")
        return
    before, after = number_of(bytes(place.members.get("before_taxes", b""))), number_of(place.raw("incl_vat"))
    if before is None or after is None:
        raise place.unsayable("incl_vat", "the tax can't be told from the amounts")
    place.drop("incl_vat")
    tax = msgspec.Raw(_written(_EXACT.subtract(after, before)))
    place.put("taxes", [{"name": VAT, "amount": tax}])


def _tariff_to_230(place: Place) -> None:
    _rename_in(place, {"excl_vat": "before_taxes", "incl_vat": "after_taxes"}, "min_price", "max_price")
    if not place.has("tax_included"):
        # 2.2.1, 11.4.2: prices are without VAT.
        place.put("tax_included", "NO")


# 2.3.0 -> 2.2.1


def _price_to_221(place: Place) -> None:
    place.rename("before_taxes", "excl_vat")
    raw = bytes(place.members.pop("taxes", b"null"))
    taxes = _list_of(raw)
    if not taxes:
        return
    amounts = [number_of(bytes((members_of(tax) or {}).get("amount", b""))) for tax in taxes]
    total = number_of(bytes(place.members.get("excl_vat", b"")))
    if total is None or any(amount is None for amount in amounts):
        raise place.unsayable("taxes", "the amount with taxes can't be told")
    for amount in amounts:
        assert amount is not None, "checked above"
        total = _EXACT.add(total, amount)
    place.put("incl_vat", _written(total))
    if len(taxes) > 1:
        place.note("taxes", raw, LossReason.MERGED, concerns_money=True)
        return
    for name, value in (members_of(taxes[0]) or {}).items():
        if name != "amount" and not (name == "name" and text_of(bytes(value)) == VAT) and bytes(value) != b"null":
            place.note(f"taxes/0/{name}", bytes(value), LossReason.NO_FIELD)


def _tariff_to_221(place: Place) -> None:
    _rename_in(place, {"before_taxes": "excl_vat", "after_taxes": "incl_vat"}, "min_price", "max_price")
    said = text_of(bytes(place.members.get("tax_included", b"")))
    if said in {None, "NO"}:
        place.drop("tax_included")
        return
    if said == "YES":
        _take_taxes_out(place)
    place.lose("tax_included", LossReason.NO_FIELD, concerns_money=said == "YES")


def _take_taxes_out(place: Place) -> None:
    """Write prices without the VAT they hold, as 2.2.1 states them; without a percentage there is none to take out."""
    elements = _list_of(bytes(place.members.get("elements", b"null")))
    written: list[msgspec.Raw] = []
    for index, raw in enumerate(elements):
        element = members_of(raw)
        components = _list_of(bytes((element or {}).get("price_components", b"null")))
        if element is None or not components:
            written.append(msgspec.Raw(raw))
            continue
        without = [
            msgspec.Raw(_without_tax(place, component, f"elements/{index}/price_components/{at}"))
            for at, component in enumerate(components)
        ]
        element["price_components"] = msgspec.Raw(v221.write(without))
        written.append(msgspec.Raw(v221.write(element)))
    if elements:
        # Not `put`: the elements still have to be bridged.
        place.members["elements"] = msgspec.Raw(v221.write(written))


def _without_tax(place: Place, raw: bytes, where: str) -> bytes:
    members = members_of(raw)
    if members is None:
        return raw
    price, vat = (number_of(bytes(members.get(name, b""))) for name in ("price", "vat"))
    if price is None or vat is None or not vat or vat <= -100:
        return raw
    net = _WIDE.divide(_WIDE.multiply(price, Decimal(100)), _WIDE.add(Decimal(100), vat))
    exact = net.quantize(_ATOM, rounding=ROUND_HALF_EVEN, context=_WIDE) if net else net
    is_same = _WIDE.multiply(exact, _WIDE.add(Decimal(100), vat)) == _WIDE.multiply(price, Decimal(100))
    reason = LossReason.CONVERTED if is_same else LossReason.ROUNDED
    place.note(f"{where}/price", bytes(members["price"]), reason, concerns_money=not is_same)
    members["price"] = msgspec.Raw(_written(_EXACT.normalize(exact) if exact else exact))
    return v221.write(members)


def _cdr_location_to_221(place: Place) -> None:
    instead = _known_plug(place, place.members)
    if instead is not None:
        place.note("connector_standard", place.raw("connector_standard"), LossReason.NO_VALUE, instead=instead)
        place.put("connector_standard", instead)


def _known_plug(place: Place, where: dict[str, msgspec.Raw]) -> str | None:
    """Return what a CDR calls a plug that the version does not know: CDRs must arrive. None: it knows it.

    It is the Type 2 plug that carries the same current.
    """
    said = text_of(bytes(where.get("connector_standard", b"null")))
    enum = place.walk.target.enums["ConnectorType"]
    if said is None or said in enum.values or ("ConnectorType", said) in place.walk.rules.fallbacks:
        return None
    is_dc = text_of(bytes(where.get("connector_power_type", b""))) == "DC"
    return "IEC_62196_T2_COMBO" if is_dc else "IEC_62196_T2"


# 2.2.1 -> 2.1.1


def _owned_to_211(place: Place) -> None:
    """The owner is the platform, or stands in the URL."""
    place.drop("country_code", "party_id")


def _location_to_211(place: Place) -> None:
    _owned_to_211(place)
    if place.has("publish") and place.raw("publish") == b"false":
        raise place.unsayable("publish", "every location of 2.1.1 is public", until="Location")
    place.drop("publish")
    place.rename("parking_type", "type")
    if place.has("type"):
        known = place.walk.target.enums["LocationType"].values
        if text_of(place.raw("type")) not in known:
            place.note("parking_type", place.raw("type"), LossReason.NO_VALUE, instead="OTHER")
            place.put("type", "OTHER")
    elif not place.is_partial:
        place.put("type", "UNKNOWN")
    if not place.is_partial and not place.has("postal_code"):
        place.fill("postal_code", "")


def _connector_to_211(place: Place) -> None:
    place.rename("max_voltage", "voltage")
    place.rename("max_amperage", "amperage")
    raw = bytes(place.members.pop("tariff_ids", b"null"))
    tariffs = _list_of(raw)
    if tariffs:
        place.put("tariff_id", tariffs[0])
    for index, tariff in enumerate(tariffs[1:], start=1):
        place.note(f"tariff_ids/{index}", tariff, LossReason.LEFT_OUT, concerns_money=True)


def _tariff_to_211(place: Place) -> None:
    _owned_to_211(place)
    for limit in ("min_price", "max_price"):
        if place.has(limit):
            raise place.unsayable(limit, "without it the tariff states another price", until="Tariff")
    for moment in ("start_date_time", "end_date_time"):
        place.lose(moment, LossReason.NO_FIELD, concerns_money=True)
    place.lose("type", LossReason.NO_FIELD, concerns_money=True)


def _restrictions_to_211(place: Place) -> None:
    for bound in ("min_current", "max_current"):
        if place.has(bound):
            raise place.unsayable(bound, "without it the tariff states another price", until="Tariff")
    if place.has("reservation"):
        # The element prices reservations alone; there are none in 2.1.1.
        raise place.unsayable("reservation", "2.1.1 prices no reservations")


def _token_to_211(place: Place) -> None:
    _owned_to_211(place)
    place.rename("contract_id", "auth_id")


def _charge_to_211(place: Place) -> None:
    """What Session and CDR share."""
    _owned_to_211(place)
    if place.has("cdr_token"):
        raw = bytes(place.members.pop("cdr_token"))
        contract = (members_of(raw) or {}).get("contract_id")
        if contract is not None:
            place.put("auth_id", bytes(contract))
        place.note("cdr_token", raw, LossReason.NO_FIELD)
    if place.has("total_cost"):
        price = members_of(place.raw("total_cost"))
        if price is not None and "excl_vat" in price:
            if "incl_vat" in price:
                place.note("total_cost/incl_vat", bytes(price["incl_vat"]), LossReason.NO_FIELD, concerns_money=True)
            place.put("total_cost", bytes(price["excl_vat"]))


def _session_to_211(place: Place) -> None:
    _charge_to_211(place)
    place.rename("start_date_time", "start_datetime")
    place.rename("end_date_time", "end_datetime")
    if not place.has("location_id"):
        return
    ids = {
        name: text_of(bytes(place.members.pop(name, b"null"))) for name in ("location_id", "evse_uid", "connector_id")
    }
    where = _place_211(
        location={"id": ids["location_id"]}, evse_uid=ids["evse_uid"], connector={"id": ids["connector_id"]}
    )
    where["last_updated"] = _moment(place)
    for evse in where["evses"]:
        evse["last_updated"] = where["last_updated"]
        evse["connectors"][0]["last_updated"] = where["last_updated"]
    place.put("location", where)
    place.note("location", b"null", LossReason.FILLED, instead="a Location with nothing but its ids")


def _cdr_to_211(place: Place) -> None:
    if place.has("credit") and place.raw("credit") == b"true":
        raise place.unsayable("credit", "2.1.1 has no credits; it would be one more charge")
    place.drop("credit")
    _charge_to_211(place)
    place.rename("end_date_time", "stop_date_time")
    if not place.has("cdr_location"):
        return
    said = members_of(bytes(place.members.pop("cdr_location"))) or {}
    plug = _known_plug(place, said)
    if plug is not None:
        place.note(
            "cdr_location/connector_standard", bytes(said["connector_standard"]), LossReason.NO_VALUE, instead=plug
        )
        said["connector_standard"] = msgspec.Raw(v221.write(plug))
    kept: dict[str, Any] = {
        name: said[name]
        for name in ("id", "name", "address", "city", "postal_code", "country", "coordinates")
        if name in said
    }
    renamed = {"standard": "connector_standard", "format": "connector_format", "power_type": "connector_power_type"}
    connector = {"id": said.get("connector_id")} | {
        name: said[there] for name, there in renamed.items() if there in said
    }
    where = _place_211(location=kept, evse_uid=said.get("evse_uid"), connector=connector, evse_id=said.get("evse_id"))
    where["last_updated"] = _moment(place)
    for evse in where["evses"]:
        evse["last_updated"] = where["last_updated"]
        evse["connectors"][0]["last_updated"] = where["last_updated"]
    place.put("location", where)
    place.note("location", b"null", LossReason.FILLED, instead="type, status, voltage, amperage, last_updated")


def _place_211(*, location: dict[str, Any], evse_uid: Any, connector: dict[str, Any], evse_id: Any = None) -> Any:
    """Return a Location of 2.1.1 from what is known; what must be there and is not known says so."""
    plug = {
        "standard": "IEC_62196_T2",
        "format": "SOCKET",
        "power_type": "AC_3_PHASE",
        "voltage": 0,
        "amperage": 0,
    } | connector
    evse: dict[str, Any] = {"uid": evse_uid, "status": "UNKNOWN", "connectors": [plug]}
    if evse_id is not None:
        evse["evse_id"] = evse_id
    unknown = {"type": "UNKNOWN", "address": "", "city": "", "postal_code": "", "country": ""}
    nowhere = {"coordinates": {"latitude": "0.00000", "longitude": "0.00000"}}
    return unknown | nowhere | location | {"evses": [evse]}


def _moment(place: Place) -> Any:
    return place.members.get("last_updated", msgspec.Raw(b'"1970-01-01T00:00:00Z"'))


def _reserve_to_211(place: Place) -> None:
    number = text_of(bytes(place.members.get("reservation_id", b"null")))
    if number is None:
        return
    if not (number.isascii() and number.isdigit() and len(number) <= 12 and str(int(number)) == number):
        raise place.unsayable("reservation_id", "2.1.1 numbers reservations")
    place.put("reservation_id", number.encode())


# 2.1.1 -> 2.2.1


def _owned_to_221(place: Place) -> None:
    owner = place.walk.way.owner
    if owner is not None and not place.is_partial:
        _put_party(place, owner)


def _put_party(place: Place, party: PartyId) -> None:
    place.put("country_code", party.country_code)
    place.put("party_id", party.party_id)


def _location_to_221(place: Place) -> None:
    _owned_to_221(place)
    raw = bytes(place.members.get("type", b"null"))
    if (said := text_of(raw)) in {"OTHER", "UNKNOWN"}:
        place.drop("type")
        if said == "OTHER":
            place.note("type", raw, LossReason.NO_VALUE)
    place.rename("type", "parking_type")
    if place.is_partial:
        return
    place.put("publish", True)
    if not place.has("time_zone"):
        place.fill("time_zone", "Etc/UTC", concerns_money=True)


def _connector_to_221(place: Place) -> None:
    place.rename("voltage", "max_voltage")
    place.rename("amperage", "max_amperage")
    if place.has("tariff_id"):
        place.put("tariff_ids", [msgspec.Raw(place.raw("tariff_id"))])
    place.drop("tariff_id")


def _tariff_211_to_221(place: Place) -> None:
    _owned_to_221(place)


def _token_to_221(place: Place) -> None:
    _owned_to_221(place)
    place.rename("auth_id", "contract_id")


def _charge_to_221(place: Place) -> dict[str, msgspec.Raw]:
    """What Session and CDR share; return the Location they held."""
    _owned_to_221(place)
    partner = place.walk.way.partner
    if place.has("auth_id"):
        contract = place.members.pop("auth_id")
        token = {"country_code": "XX", "party_id": "XXX"}
        if partner is not None:
            token = {"country_code": partner.country_code, "party_id": partner.party_id}
        place.put("cdr_token", token | {"uid": contract, "type": "OTHER", "contract_id": contract})
        place.note("cdr_token", b"null", LossReason.FILLED, instead="uid is the auth_id, type OTHER")
    if place.has("total_cost"):
        place.put("total_cost", {"excl_vat": msgspec.Raw(place.raw("total_cost"))})
    if not place.has("location"):
        return {}
    raw = bytes(place.members.pop("location"))
    place.note("location", raw, LossReason.NO_FIELD)
    return members_of(raw) or {}


def _first(members: dict[str, msgspec.Raw], name: str) -> dict[str, msgspec.Raw]:
    items = _list_of(bytes(members.get(name, b"null")))
    return (members_of(items[0]) if items else None) or {}


def _session_to_221(place: Place) -> None:
    where = _charge_to_221(place)
    place.rename("start_datetime", "start_date_time")
    place.rename("end_datetime", "end_date_time")
    if where:
        evse = _first(where, "evses")
        _put_known(place, {"location_id": where.get("id"), "evse_uid": evse.get("uid")})
        _put_known(place, {"connector_id": _first(evse, "connectors").get("id")})


def _put_known(place: Place, members: dict[str, msgspec.Raw | None]) -> None:
    for name, raw in members.items():
        if raw is None:
            place.fill(name, "UNKNOWN")
        else:
            place.put(name, bytes(raw))


def _cdr_to_221(place: Place) -> None:
    where = _charge_to_221(place)
    place.rename("stop_date_time", "end_date_time")
    if not where:
        return
    evse = _first(where, "evses")
    plug = _first(evse, "connectors")
    same = ("id", "name", "address", "city", "postal_code", "country", "coordinates")
    kept: dict[str, Any] = {name: where[name] for name in same if name in where}
    found = {
        "evse_uid": evse.get("uid"),
        "evse_id": evse.get("evse_id", evse.get("uid")),
        "connector_id": plug.get("id"),
        "connector_standard": plug.get("standard"),
        "connector_format": plug.get("format"),
        "connector_power_type": plug.get("power_type"),
    }
    if any(value is None for value in found.values()):
        raise place.unsayable("location", "it names no EVSE and connector")
    place.put("cdr_location", kept | found)


def _authorization_to_221(place: Place) -> None:
    """2.2.1 wants the token back; of 2.1.1 its uid is known, from the URL, and who issued it."""
    owner, parts = place.walk.way.owner, [part for part in place.walk.way.path.split("/") if part]
    if owner is None or len(parts) < 2:
        raise place.unsayable("token", "nobody says which token it was")
    is_allowed = text_of(bytes(place.members.get("allowed", b""))) == "ALLOWED"
    uid = unquote(parts[-2])
    token = {"uid": uid, "type": "RFID", "contract_id": uid, "issuer": owner.code, "valid": is_allowed}
    place.fill("token", {"country_code": owner.country_code, "party_id": owner.party_id} | token | _NEVER)


_NEVER: Final = {"whitelist": "NEVER", "last_updated": "1970-01-01T00:00:00Z"}


def _response_to_221(place: Place) -> None:
    if not place.has("timeout"):
        place.fill("timeout", COMMAND_TIMEOUT_S)


def _reserve_to_221(place: Place) -> None:
    if place.has("reservation_id") and number_of(place.raw("reservation_id")) is not None:
        place.put("reservation_id", place.raw("reservation_id").decode())


# Parts


def _list_of(raw: bytes) -> list[bytes]:
    try:
        return [bytes(item) for item in read(raw, list[msgspec.Raw])]
    except (NotAnOCPIObject, NotJSON):
        return []


def _rename_in(place: Place, names: dict[str, str], *members: str) -> None:
    """Call the members of a member otherwise; their values keep their bytes."""
    for name in members:
        inner = members_of(bytes(place.members.get(name, b"null")))
        if inner is not None:
            place.put(name, {names.get(each, each): value for each, value in inner.items()})


def _impact(before: str, after: str) -> Any:
    def rename(place: Place) -> None:
        place.rename(before, after)

    return rename


def _say_help_phone(place: Place) -> None:
    """Our addition to a Location of 2.2.1 has a field of its own in 2.3.0; it stays beside it for the way back."""
    if place.has("wattroam_help_phone"):
        place.put("help_phone", bytes(place.members["wattroam_help_phone"]))


RULES: Final = {
    (v221.VERSION, v230.VERSION): Rules(
        by_class={"Location": _say_help_phone, "Price": _price_to_230, "Tariff": _tariff_to_230},
        fallbacks={("Role", "HUB"): "OTHER"},
    ),
    (v230.VERSION, v221.VERSION): Rules(
        by_class={"CdrLocation": _cdr_location_to_221, "Price": _price_to_221, "Tariff": _tariff_to_221},
        fallbacks={
            ("TokenType", ""): "OTHER",
            # The same plug: North America's standard is what Tesla built.
            ("ConnectorType", "SAE_J3400"): "TESLA_S",
            ("ImageCategory", ""): "OTHER",
            # Whoever may not park there must not read that anyone may.
            ("ParkingRestriction", ""): "CUSTOMERS",
        },
        needed=frozenset({("TariffElement", "restrictions"), ("TariffRestrictions", "reservation")}),
    ),
    (v221.VERSION, v211.VERSION): Rules(
        by_class={
            "CDR": _cdr_to_211,
            "Connector": _connector_to_211,
            "EnvironmentalImpact": _impact("category", "source"),
            "Location": _location_to_211,
            "ReserveNow": _reserve_to_211,
            "Session": _session_to_211,
            "Tariff": _tariff_to_211,
            "TariffRestrictions": _restrictions_to_211,
            "Token": _token_to_211,
        },
        fallbacks={
            ("AuthMethod", "COMMAND"): "AUTH_REQUEST",
            ("CommandResponseType", ""): "REJECTED",
            ("PowerType", "AC_2_PHASE"): "AC_1_PHASE",
            ("PowerType", "AC_2_PHASE_SPLIT"): "AC_1_PHASE",
            ("SessionStatus", "RESERVATION"): "PENDING",
            ("TokenType", ""): "OTHER",
        },
        needed=frozenset({("TariffElement", "restrictions")}),
    ),
    (v211.VERSION, v221.VERSION): Rules(
        by_class={
            "AuthorizationInfo": _authorization_to_221,
            "CDR": _cdr_to_221,
            "CommandResponse": _response_to_221,
            "Connector": _connector_to_221,
            "EnvironmentalImpact": _impact("source", "category"),
            "Location": _location_to_221,
            "ReserveNow": _reserve_to_221,
            "Session": _session_to_221,
            "Tariff": _tariff_211_to_221,
            "Token": _token_to_221,
        },
        fallbacks={("CommandResponseType", ""): "REJECTED", ("CommandResultType", ""): "REJECTED"},
    ),
}
"""Between neighbouring versions."""
