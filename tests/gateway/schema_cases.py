"""Values that an OCPP schema allows: the few keywords these schemas use, with the edges that hurt.

`hypothesis-jsonschema` 0.23 breaks on objects under the hypothesis version pinned here, so it is done by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from importlib import resources
from typing import Any, Final

from hypothesis import strategies as st

from charge_point_gateway.rpc_errors import OCPPVersion, RPCError

PACKAGES: Final = {
    OCPPVersion.V16: "ocpp.v16.schemas",
    OCPPVersion.V201: "ocpp.v201.schemas",
    OCPPVersion.V21: "ocpp.v21.schemas",
}

MOMENTS = st.datetimes().map(lambda at: at.isoformat() + "Z") | st.sampled_from(
    ["2016-12-31T23:59:60Z", "2022-01-01t00:00:00z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]
)
INTEGERS = st.integers(-5, 100_000) | st.sampled_from([0, -1, 2**31, 2**53, 2**63, -(2**63), 10**30])
NUMBERS = INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e308, -1e308, 5e-324, 0.5])
TEXTS = st.text(max_size=30) | st.sampled_from(["", "NaN", "1e400", "-5", "1_000", "12.5", "OCMF|{}|{}", "T0NNRnx9"])
ANYTHING = st.recursive(st.none() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4)


def schema_of(version: OCPPVersion, action: str, *, response: bool = False) -> dict[str, Any]:
    """Return a shipped schema. 1.6 files, and the one of a SEND, have no suffix for requests."""
    folder = resources.files(PACKAGES[version])
    names = [f"{action}Response.json"] if response else [f"{action}Request.json", f"{action}.json"]
    (file,) = [folder / name for name in names if (folder / name).is_file()]
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    return schema


def values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the values `schema` allows."""
    return _values(schema, schema.get("definitions", {}))


def _values(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return st.deferred(lambda: _values(definitions[schema["$ref"].rpartition("/")[2]], definitions))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return _objects(schema, definitions)
        case "array":
            least = schema.get("minItems", 0)
            most = min(schema.get("maxItems", least + 2), least + 2)
            return st.lists(_values(schema["items"], definitions), min_size=least, max_size=most)
        case "string":
            return _strings(schema)
        case "integer":
            return INTEGERS
        case "number":
            return NUMBERS
        case "boolean":
            return st.booleans()
        case _:
            return ANYTHING


def _objects(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = set(schema.get("required", ()))
    parts = {name: _values(part, definitions) for name, part in schema.get("properties", {}).items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return MOMENTS
    longest = schema.get("maxLength", 10_000)
    return TEXTS.map(lambda text: text[:longest])


# Payloads of a known shape


def smallest(schema: dict[str, Any]) -> Any:
    """Return the value with nothing that is optional."""
    return _example(schema, schema.get("definitions", {}), is_full=False)


def fullest(schema: dict[str, Any]) -> Any:
    """Return the value with every property, long texts, and names that a lossy conversion would change."""
    return _example(schema, schema.get("definitions", {}), is_full=True)


def _example(schema: dict[str, Any], definitions: dict[str, Any], *, is_full: bool) -> Any:
    schema = _resolved(schema, definitions)
    if "enum" in schema:
        return schema["enum"][-1 if is_full else 0]
    match schema.get("type"):
        case "object":
            names = schema.get("properties", {}) if is_full else schema.get("required", ())
            made = {name: _example(schema["properties"][name], definitions, is_full=is_full) for name in names}
            is_open = is_full and schema.get("additionalProperties", True)
            return made | ({"MyKey": {"socket_id": 1, "limit_L2": [0.5]}} if is_open else {})
        case "array":
            least = schema.get("minItems", 0)
            count = min(schema.get("maxItems", 2), max(2, least)) if is_full else least
            return [_example(schema["items"], definitions, is_full=is_full) for _ in range(count)]
        case "string":
            return _text(schema, is_full=is_full)
        case "integer":
            return int(schema.get("minimum", 1)) if not is_full else int(schema.get("maximum", 7))
        case "number":
            return schema.get("minimum", 0.5) if not is_full else schema.get("maximum", 1234.5)
        case "boolean":
            return is_full
        case _:
            return {"MyKey": 1}


def _text(schema: dict[str, Any], *, is_full: bool) -> str:
    if schema.get("format") == "date-time":
        return "2022-03-27T00:59:59.999Z"
    if schema.get("format") == "uri":
        return "https://csms.example/a"
    return "x" * min(schema.get("maxLength", 300), 10_000) if is_full else "x"


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = definitions[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def violations(schema: dict[str, Any]) -> Iterator[tuple[str, Any, RPCError]]:
    """Yield payloads that break one rule at one place: where and what, the payload, the error that answers it."""
    full = fullest(schema)
    for place, part, broken, error in _breaks(schema, schema.get("definitions", {}), ()):
        payload = deepcopy(full)
        *way, last = place
        inside = payload
        for step in way:
            inside = inside[step]
        if broken is ...:
            del inside[last]
        else:
            inside[last] = broken
        yield f"{'/'.join(map(str, place))} {part}", payload, error


_OTHER_TYPE: Final[dict[str, Any]] = {
    "object": 1,
    "array": {},
    "string": 5,
    "integer": "x",
    "number": "x",
    "boolean": "x",
}


def _breaks(
    schema: dict[str, Any], definitions: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str, Any, RPCError]]:
    schema = _resolved(schema, definitions)
    kind = schema.get("type")
    if place and kind is not None:
        yield place, "has another type", _OTHER_TYPE[kind], RPCError.TYPE
    if kind == "object":
        yield from _breaks_of_object(schema, definitions, place)
    elif kind == "array":
        yield from _breaks_of_array(schema, definitions, place)
    elif kind == "string":
        yield from ((place, what, value, RPCError.PROPERTY) for what, value in _bad_texts(schema))
    elif kind in {"integer", "number"}:
        for bound, beyond in (("minimum", -1), ("maximum", 1)):
            if bound in schema:
                yield place, f"is beyond its {bound}", schema[bound] + beyond, RPCError.PROPERTY


def _breaks_of_object(
    schema: dict[str, Any], definitions: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str, Any, RPCError]]:
    for name, part in schema.get("properties", {}).items():
        if name in schema.get("required", ()):
            yield (*place, name), "is missing", ..., RPCError.OCCURRENCE
        yield from _breaks(part, definitions, (*place, name))
    if schema.get("additionalProperties", True) is False:
        yield (*place, "unheardOf"), "is unknown", 1, RPCError.FORMAT


def _breaks_of_array(
    schema: dict[str, Any], definitions: dict[str, Any], place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str, Any, RPCError]]:
    if schema.get("minItems", 0) > 0:
        yield place, "has too few", [], RPCError.OCCURRENCE
    if "maxItems" in schema:
        items = [_example(schema["items"], definitions, is_full=False)] * (schema["maxItems"] + 1)
        yield place, "has too many", items, RPCError.OCCURRENCE
    yield from _breaks(schema["items"], definitions, (*place, 0))


def _bad_texts(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "enum" in schema:
        yield "is no word of its list", "unheardOf"
    elif schema.get("format") == "date-time":
        yield "is no moment", "yesterday"
    elif "maxLength" in schema:
        yield "is too long", "x" * (schema["maxLength"] + 1)
