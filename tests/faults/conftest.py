from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def run_folder(server_folder: Path) -> Path:
    """A fresh run folder that the servers' unprivileged user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=server_folder))
    folder.chmod(0o755)
    return folder
