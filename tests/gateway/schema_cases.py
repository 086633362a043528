"""Values that an OCPP schema allows: the few keywords these schemas use, with the edges that hurt.

`hypothesis-jsonschema` 0.23 breaks on objects under the hypothesis version pinned here, so it is done by hand.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MOMENTS = st.datetimes().map(lambda at: at.isoformat() + "Z") | st.sampled_from(
    ["2016-12-31T23:59:60Z", "2022-01-01t00:00:00z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"]
)
INTEGERS = st.integers(-5, 100_000) | st.sampled_from([0, -1, 2**31, 2**53, 2**63, -(2**63), 10**30])
NUMBERS = INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e308, -1e308, 5e-324, 0.5])
TEXTS = st.text(max_size=30) | st.sampled_from(["", "NaN", "1e400", "-5", "1_000", "12.5", "OCMF|{}|{}", "T0NNRnx9"])
ANYTHING = st.recursive(st.none() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=4)


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
