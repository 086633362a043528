"""What docker/ and helm/ say must exist in the code they deploy."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Final

import pytest

from emobility.runtime.settings import Settings

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted(path for folder in ("docker", "helm") for path in (ROOT / folder).rglob("*") if path.is_file())
NOT_OURS: Final = {"WATTROAM_DATABASE_PASSWORD"}
"""Read by compose itself, to write the database URL."""


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_variable_that_is_set_is_a_setting(file: Path) -> None:
    named = set(re.findall(r"WATTROAM_[A-Z_]+", file.read_text()))

    assert named - NOT_OURS <= {f"WATTROAM_{field.upper()}" for field in Settings.model_fields}


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_is_started_exists(file: Path) -> None:
    for module in re.findall(r"(?:command|args): \[([a-z_.]+)", file.read_text()):
        found = module == "sh" or importlib.util.find_spec(module)

        assert found is not None, module


def test_folders_of_the_image_exist() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE)

    assert all((ROOT / source).exists() for line in copied for source in line.split())
    assert not (ROOT / "docker" / "__init__.py").exists()
