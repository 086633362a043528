"""The two demos on servers, each played once for all journeys. What they need is imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def on_postgres(server_folder: Path) -> Iterator[Any]:
    """The demo as `make demo` plays it, kept serving; its books are from before anybody touched it."""
    yield from importlib.import_module("tests.journeys.runs").played(server_folder / "demo-postgres", "--keep")


@pytest.fixture(scope="session")
def on_kafka(server_folder: Path) -> Iterator[Any]:
    """The same over a real broker, ended."""
    yield from importlib.import_module("tests.journeys.runs").played(
        server_folder / "demo-kafka", "--event-log", "kafka"
    )
