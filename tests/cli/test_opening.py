"""An installation opened for one command."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from services.embedded.opening import opened
from tests.cli.test_commands import SECRETS


async def test_nothing_is_logged_while_an_installation_is_open_and_everything_after(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name, value in {"WATTROAM_DATABASE_URL": "postgresql://127.0.0.1/nowhere", **SECRETS}.items():
        monkeypatch.setenv(name, value)

    async with opened(tmp_path):
        logging.getLogger("a.library").critical("can't be reached")
    logging.getLogger("a.library").critical("after")

    assert caplog.messages == ["after"]
