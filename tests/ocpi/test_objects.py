"""Our types and what each version's text says of the same objects, and documents that we wrote by the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest

from emobility.protocols.ocpi import v211, v221, v230
from emobility.protocols.ocpi.specified import TABLES, Fault, faults, specification
from emobility.protocols.ocpi.v221 import OCPIObject, read, write
from tests.ocpi.documents import DOCUMENTS

MODULES = {"2.1.1": v211, "2.2.1": v221, "2.3.0": v230}
OURS_ALONE = {"wattroam_help_phone", "wattroam_tariff_hash"}


def typed(version: str) -> Iterator[tuple[str, type[OCPIObject]]]:
    """The classes a version's module defines or shares with 2.2.1."""
    shared = vars(v221) | vars(MODULES[version])
    for name in specification(version).classes:
        kind = shared.get(name)
        if isinstance(kind, type) and issubclass(kind, OCPIObject):
            yield name, kind


@pytest.mark.parametrize("version", TABLES)
def test_our_types_have_the_fields_of_the_text_required_where_it_requires_them(version: str) -> None:
    said = specification(version).classes
    for name, kind in typed(version):
        ours = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        ours = {field: each for field, each in ours.items() if field not in OURS_ALONE}
        if version == "2.1.1" and is_of(v221, kind):
            # What 2.1.1 lacks of a shared class, a reader of 2.1.1 never sees.
            ours = {field: each for field, each in ours.items() if field in said[name]}
        assert set(ours) == set(said[name]), name
        required = {field for field, each in ours.items() if each.required}
        assert required == {field for field, each in said[name].items() if each.card in "1+"}, name


def is_of(module: ModuleType, kind: type) -> bool:
    return kind.__module__ == module.__name__


def test_every_class_of_2_3_0_that_differs_has_a_type_of_its_own() -> None:
    before, now = specification("2.2.1").classes, specification("2.3.0").classes
    differing = {name for name, fields in now.items() if before.get(name) != fields}

    missing = {name for name in differing if not hasattr(v230, name)}

    assert missing == set()
    assert len(differing) >= 25


@pytest.mark.parametrize("version", TABLES)
def test_our_enums_have_the_values_of_the_text(version: str) -> None:
    compared = 0
    for name, said in specification(version).enums.items():
        kind: Any = vars(MODULES[version]).get(name)
        is_own = isinstance(kind, type) and (version == "2.2.1" or is_of(MODULES[version], kind))
        if not is_own or not issubclass(kind, str):
            continue
        ours = {each.value for each in kind} - ({"PTP"} if name == "Role" else set())
        assert ours == said.values, name
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(("version", "name"), [(version, name) for version, name, _ in DOCUMENTS])
def test_a_document_written_by_the_text_is_right_by_the_table_and_comes_back_as_it_was(version: str, name: str) -> None:
    document = next(each for v, n, each in DOCUMENTS if (v, n) == (version, name))
    kind = dict(typed(version))[name]

    decoded = read(document, kind)

    assert faults(msgspec.json.decode(document), name, version) == []
    assert plain(write(decoded)) == plain(document)


def plain(document: bytes) -> Any:
    """Numbers exact, empty lists as absent."""
    return without_empty(json.loads(document, parse_float=Decimal))


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_empty(each) for key, each in value.items() if each not in ([], None)}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


def test_faults_are_named_by_pointer_and_unknown_fields_are_none() -> None:
    wrong = {
        "country_code": "NL",
        "party_id": "TNMX",
        "uid": 7,
        "type": "EMAID",
        "valid": "yes",
        "whitelist": "ALWAYS",
        "issuer": "I",
        "contract_id": "C",
        "last_updated": "2026-03-01T12:00:00+01:00",
        "x_more": {},
    }

    assert {fault.pointer for fault in faults(wrong, "Token", "2.2.1")} == {
        "/party_id",
        "/uid",
        "/type",
        "/valid",
        "/last_updated",
    }
    assert Fault("/type", "'EMAID' is no TokenType") in faults(wrong, "Token", "2.2.1")
    assert "/type" not in {fault.pointer for fault in faults(wrong, "Token", "2.3.0")}
    assert faults({"valid": False}, "Token", "2.2.1", is_partial=True) == []
