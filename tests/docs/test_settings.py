"""The page of settings is the one that the class gives, whole."""

from __future__ import annotations

from pathlib import Path

from emobility.runtime.settings_page import page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_of_settings_is_what_the_class_says() -> None:
    assert PAGE.read_text() == page()
