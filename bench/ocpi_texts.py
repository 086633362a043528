"""Hold our tables of OCPI against the texts: `python -m bench.ocpi_texts CLONE`, of github.com/ocpi/ocpi.

Reads the tables of each version's chapters (AsciiDoc, for 2.1.1 Markdown) and its example files, and prints what
`emobility/protocols/ocpi/specified.py` says otherwise; nothing of the texts is kept here. Ends with 1 if there is any
difference that is not one of the texts' own slips below.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from emobility.protocols.ocpi.bridging import Way, bridge
from emobility.protocols.ocpi.specified import Enumeration, Field, faults, specification
from emobility.protocols.ocpi.v221 import InterfaceRole

TEXTS: Final = (
    ("2.1.1", "release-2.1.1-bugfixes"),
    ("2.2.1", "release-2.2.1-bugfixes"),
    ("2.3.0", "2.3.0/release/core"),
    ("2.3.0", "v2.3.0-ed2-payments"),
    ("2.3.0", "v2.3.0-bookings"),
)
SLIPS: Final = {
    # The bookings branch names some of its types in two ways, and is older than the core's second edition.
    "Booking.bookable_parking_option", "Booking.access_methods", "BookingRequest.bookable_parking_option",
    "BookingRequest.tokens", "Calendar.available_timeslots", "Location.address", "Location.state",
    "SignedValue.plain_data",
    # Roles and token types that the branches add are in ours for all of 2.3.0; 2.1.1 calls AllowedType Allowed.
    "CdrDimensionType", "ReservationRestrictionType", "TokenType", "AuthorizationInfo.allowed", "Allowed",
    "VersionNumber", "Tariff.preauthorize_amount", "CDR.booking_id",
    "ModuleID",
}  # fmt: skip
UNTITLED: Final = {"VersionDetails.version", "VersionDetails.endpoints"}
"""Stands in a table whose heading names no class."""
NOT_CHAPTERS: Final = {"changelog", "version_history", "topology", "terminology"}
KINDS: Final = {
    "cdr_": "CDR", "credentials": "Credentials", "location_example": "Location", "session_example": "Session",
    "tariff_": "Tariff", "token_example": "Token", "token_put": "Token", "booking_example": "Booking",
    "booking_location_example": "BookingLocation", "payment_financial": "FinancialAdviceConfirmation",
    "payment_terminal": "Terminal", "version_details": "VersionDetails", "type_displaytext": "DisplayText",
}  # fmt: skip
WRONG_EXAMPLES: Final = {
    "booking_example", "booking_location_example", "cdr_example", "location_example",
    "location_example_parking_garage_opening_hours", "payment_financial_advice_confirmation_create",
    "payment_financial_advice_confirmation_example_failure", "payment_financial_advice_confirmation_example_success",
    "payment_terminal_create_minimal", "payment_terminal_location_assignment", "payment_terminal_put_update",
    "tariff_put_example",
}  # fmt: skip
"""Examples that leave out what their own text requires, or hold what it has not, in one branch at least."""
MODULES: Final = {"CDR": "cdrs", "Location": "locations", "Session": "sessions", "Tariff": "tariffs", "Token": "tokens"}


def git(directory: str, *words: str) -> str:
    """Return what git prints."""
    return subprocess.run(["git", "-C", directory, *words], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607 - a developer's tool


def tables(text: str, *, is_markdown: bool) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each table below its heading: rows of cells, the head first."""
    title, rows, is_inside = "", list[list[str]](), False
    for line in [*text.split("\n"), ""]:
        if heading := re.match(r"[=#]+ +(.*)", line):
            title = heading[1]
        if not is_markdown and line.startswith("|==="):
            if is_inside:
                yield title, rows
            rows, is_inside = [], not is_inside
        elif line.startswith("|") and (is_inside or is_markdown):
            if not re.match(r"\|[\s:|-]*$", line):
                rows.append([cleaned(cell) for cell in line.split("|")[1:]])
        elif is_markdown and rows:
            yield title, rows
            rows = []


def cleaned(cell: str) -> str:
    """Return a cell without markup."""
    cell = re.sub(r"\[\[.*?\]\]", "", cell)
    cell = re.sub(r"<<[^,>]*,\s*([^>]*)>>", r"\1", cell)
    cell = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)
    return cell.replace("\\", "").replace("> ", "").strip()


def said(directory: str, ref: str) -> Iterator[tuple[str, Field | Enumeration]]:
    """Yield `Class.field` and `Enum`, as a text's chapters have them."""
    for name in git(directory, "ls-tree", "--name-only", ref).split():
        stem, _, ending = name.rpartition(".")
        if ending not in {"asciidoc", "md"} or stem in NOT_CHAPTERS:
            continue
        for title, rows in tables(git(directory, "show", f"{ref}:{name}"), is_markdown=ending == "md"):
            heading = re.fullmatch(
                r"[\d. ]*_?([\w ]+?)_? +[_*]?(object|class|enum|OpenEnum)[_*]?\s*", title, re.IGNORECASE
            )
            if heading and rows:
                yield from _rows(heading[1].strip("_").replace(" ", ""), heading[2].lower(), rows)


def _rows(name: str, kind: str, rows: list[list[str]]) -> Iterator[tuple[str, Field | Enumeration]]:
    head = [cell.lower() for cell in rows[0]]
    if kind in {"enum", "openenum"}:
        values = frozenset(re.sub(r" a$", "", row[0]) for row in rows[1:] if row[0])
        yield name, Enumeration(kind == "openenum", values)
    elif len(head) > 2 and head[2].startswith("card"):
        for row in rows[1:]:
            of_type = re.match(r"([A-Za-z]+)[(\[]?(?:1\.\.)?(\d+)?", row[1].replace(" ", ""))
            if len(row) > 2 and of_type and row[0] and "Choice" not in row[0]:
                length = int(of_type[2]) if of_type[2] else None
                spelled = "string" if of_type[1] == "String" else of_type[1]
                yield f"{name}.{row[0].strip('_')}", Field(row[2] or "1", spelled, length)


def differences(directory: str, version: str, ref: str) -> Iterator[str]:
    """Yield what our table of a version says otherwise than a text."""
    ours = specification(version)
    for name, theirs in said(directory, ref):
        of_class, _, of_field = name.partition(".")
        own: Field | Enumeration | None
        own = ours.classes.get(of_class, {}).get(of_field) if of_field else ours.enums.get(name)
        if own != theirs and name not in SLIPS:
            yield f"{version} ({ref}) {name}: the text has {theirs}, we have {own}"


def invented(directory: str, version: str) -> Iterator[str]:
    """Yield what our table of a version has and none of its texts."""
    theirs = {name for each, ref in TEXTS if each == version for name, _ in said(directory, ref)}
    if version == "2.1.1":
        theirs |= {name for name, _ in said(directory, TEXTS[1][1])}  # a table may keep what nobody refers to
    ours = specification(version)
    names = {f"{of_class}.{field}" for of_class, fields in ours.classes.items() for field in fields} | set(ours.enums)
    yield from (f"{version}: no text has {name}" for name in sorted(names - theirs - UNTITLED))


def wrong_examples(directory: str, version: str, ref: str) -> Iterator[str]:
    """Yield examples that our table refuses, or that do not come back from a neighbouring version as they were."""
    if not git(directory, "ls-tree", "--name-only", ref, "examples"):
        return
    for path in git(directory, "ls-tree", "--name-only", ref, "examples/").split():
        stem = path.rpartition("/")[2].removesuffix(".json")
        kind = next((kind for start, kind in KINDS.items() if stem.startswith(start)), None)
        if kind is None or stem in WRONG_EXAMPLES or "patch" in stem:
            continue
        document = json.loads(git(directory, "show", f"{ref}:{path}"))
        document = document.get("data", document)
        yield from (
            f"{version} ({ref}) {path}{fault.pointer}: {fault.reason}" for fault in faults(document, kind, version)
        )
        if version == "2.2.1" and kind in MODULES and not comes_back(document, MODULES[kind]):
            yield f"{version} ({ref}) {path}: it does not come back from 2.3.0"


def comes_back(document: Any, module: str) -> bool:
    """Tell whether an object of 2.2.1 is the same after the way to 2.3.0 and back."""
    way = Way(module=module, side=InterfaceRole.SENDER, method="GET", path="1", is_answer=True)
    body = json.dumps({"data": document}).encode()
    there = bridge(body, way, from_version="2.2.1", to_version="2.3.0")
    back = bridge(there.body, way, from_version="2.3.0", to_version="2.2.1")
    return bool(json.loads(back.body) == json.loads(body)) and not there.losses + back.losses


def main() -> int:
    """Print differences; return 1 if there are any."""
    found = [
        each
        for version, ref in TEXTS
        for look in (differences, wrong_examples)
        for each in look(sys.argv[1], version, ref)
    ]
    found += [each for version in ("2.1.1", "2.2.1", "2.3.0") for each in invented(sys.argv[1], version)]
    print("\n".join(found) or "our tables say what the texts say")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
