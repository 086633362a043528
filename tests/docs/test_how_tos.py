"""Whom the examples of the how-tos call, and the gas they state."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from emobility.runtime.settings import Settings

ROOT: Final = Path(__file__).parents[2]
HOW_TOS: Final = {path.name: path.read_text() for path in sorted((ROOT / "docs" / "how-to").glob("*.md"))}
CALLED: Final = re.compile(r"http://127\.0\.0\.1:(\d+)/(settlement|operations|mobility)/")


def test_every_call_goes_to_the_process_that_answers_it() -> None:
    ports = {name: field.default for name, field in Settings.model_fields.items()}
    business, settlement = ports["business_port"], ports["settlement_port"]
    answers = {"settlement": settlement, "operations": business, "mobility": business}

    called = [(name, port, at) for name, text in HOW_TOS.items() for port, at in CALLED.findall(text)]

    assert len(called) >= 5
    assert [(name, at) for name, port, at in called if int(port) != answers[at]] == []


def test_an_entry_of_a_battery_passport_costs_the_gas_that_was_measured() -> None:
    measured = json.loads((ROOT / "settlement_contracts" / "snapshots" / "GasPassport.json").read_text())
    (stated,) = re.findall(r"about ([\d,]+) gas a record in a batch of fifty", HOW_TOS["keep-a-battery-passport.md"])

    assert int(stated.replace(",", "")) == round(int(measured["append: 50 packs, per record"]), -2)
