"""`wattroam retention` reads lists to their end, and asks for one driver alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.embedded import retention
from services.embedded.retention import show_retention

DRIVERS = [{"driver_id": f"D{number:04}"} for number in range(230)]
SALES = [{"sale": f"{number:04}"} for number in range(200)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command asks an installation that answers at most a hundred rows at once."""
    paths: list[str] = []

    def answered(_folder: Path, _method: str, path: str) -> tuple[int, Any]:
        paths.append(path)
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if "driver" in query:
            return 200, [row for row in DRIVERS if row["driver_id"] == query["driver"]]
        offset, limit = int(query.get("offset", 0)), min(int(query.get("limit", 100)), 100)
        return 200, (DRIVERS if path.startswith("/mobility/") else SALES)[offset : offset + limit]

    monkeypatch.setattr(retention, "call", answered)
    return paths


@pytest.mark.usefixtures("asked")
def test_a_list_is_read_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_retention(party="NL-ZON", driver_id=None, json=True, run_folder=tmp_path) == 0

    assert json.loads(capsys.readouterr().out) == {"drivers": DRIVERS, "ad_hoc_sales": SALES}


def test_of_one_driver_nobody_else_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    assert show_retention(party="NL-ZON", driver_id="D0007", json=True, run_folder=tmp_path) == 0

    assert json.loads(capsys.readouterr().out) == {"drivers": [DRIVERS[7]], "ad_hoc_sales": []}
    assert asked == ["/mobility/NL-ZON/retention?driver=D0007"]
