"""The schemas of the Open Charge Alliance, as the `ocpp` package ships them, compiled once by jsonschema-rs.

Used in both directions: what stations send, what they answer, what we answer and what we send. Formats are checked,
so "yesterday" is no date-time.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

import jsonschema_rs

from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion, RPCError

_PACKAGES: Final = {
    OCPPVersion.V16: "ocpp.v16.schemas",
    OCPPVersion.V201: "ocpp.v201.schemas",
    OCPPVersion.V21: "ocpp.v21.schemas",
}
_ERRORS: Final = {
    "Type": RPCError.TYPE,
    "Required": RPCError.OCCURRENCE,
    "MinItems": RPCError.OCCURRENCE,
    "MaxItems": RPCError.OCCURRENCE,
    "UniqueItems": RPCError.OCCURRENCE,
    "MinProperties": RPCError.OCCURRENCE,
    "MaxProperties": RPCError.OCCURRENCE,
    "AdditionalProperties": RPCError.FORMAT,
    "AdditionalItems": RPCError.FORMAT,
}
"""By the keyword that failed; every other keyword restricts a value: PropertyConstraintViolation."""
_RULES_TOLD: Final = frozenset(
    {"Enum", "MaxItems", "MaxLength", "Maximum", "MinItems", "MinLength", "Minimum", "Required", "Type"}
)
"""Keywords of which the schema's own side is told; that of others may hold what the payload says."""


class Schemas:
    """All validators of one version."""

    def __init__(self, version: OCPPVersion) -> None:
        """Compile every schema of the version."""
        self.version = version
        self._requests: dict[str, jsonschema_rs.Validator] = {}
        self._responses: dict[str, jsonschema_rs.Validator] = {}
        for file in sorted(_schema_files(version), key=lambda each: each.name):
            schema = json.loads(file.read_text(encoding="utf-8-sig"))
            name = file.name.removesuffix(".json")
            validator = jsonschema_rs.validator_for(schema, validate_formats=True)
            if name.endswith("Response"):
                self._responses[name.removesuffix("Response")] = validator
            else:
                self._requests[name.removesuffix("Request")] = validator

    @property
    def actions(self) -> tuple[str, ...]:
        """Every action of the version, sorted."""
        return tuple(self._requests)

    def check_request(self, action: str, payload: Any) -> None:
        """Check the payload of a CALL. Raises `CallRefused`."""
        validator = self._requests.get(action)
        if validator is None:
            raise CallRefused(RPCError.UNKNOWN_ACTION, f"no action of OCPP {self.version.value}")
        _check(validator, payload)

    def validator(self, action: str, *, is_response: bool) -> jsonschema_rs.Validator | None:
        """Return the validator of a CALL's payload, or of its CALLRESULT's; None: no such action."""
        return (self._responses if is_response else self._requests).get(action)

    def check_response(self, action: str, payload: Any) -> None:
        """Check the payload of a CALLRESULT. Raises `CallRefused`."""
        _check(self._responses[action], payload)


def _schema_files(version: OCPPVersion) -> list[Any]:
    return [file for file in resources.files(_PACKAGES[version]).iterdir() if file.name.endswith(".json")]


def _check(validator: jsonschema_rs.Validator, payload: Any) -> None:
    try:
        if validator.is_valid(payload):
            return
        violation = next(iter(validator.iter_errors(payload)))
    except ValueError as error:  # nests deeper than the validator follows
        raise CallRefused(RPCError.FORMAT, "the payload can't be checked") from error
    keyword = type(violation.kind).__name__.rpartition("_")[2]
    place = "/".join(str(part) for part in violation.instance_path) or "the payload"
    # Only the place and the rule go back and into logs: the value itself may name a person.
    rule = f" ({_written(violation.kind.value)})" if keyword in _RULES_TOLD else ""
    raise CallRefused(_ERRORS.get(keyword, RPCError.PROPERTY), f"{place} breaks {keyword}{rule}")


def _written(rule: Any) -> str:
    """Write what the schema asks for: a bound, a name, or the values or types that it takes."""
    return ", ".join(map(str, rule)) if isinstance(rule, list) else str(rule)


_LOADED: Final[dict[OCPPVersion, Schemas]] = {}


def schemas_of(version: OCPPVersion) -> Schemas:
    """Return the version's validators; the first call compiles them."""
    if version not in _LOADED:
        _LOADED[version] = Schemas(version)
    return _LOADED[version]
