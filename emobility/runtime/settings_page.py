"""Write `docs/settings.md` out of `Settings`: `python -m emobility.runtime.settings_page > docs/settings.md`."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from emobility.runtime.settings import Settings

_HEAD: Final = """# Settings

Every process reads these environment variables when it starts, and ends with one line that names the variable if it
can't take its value. `wattroam up` and `wattroam demo` fill in addresses, ports, secrets and the database, and pass on
what you set of the rest. A list is JSON: `["https://ca.example"]`. The page is written by
`python -m emobility.runtime.settings_page`, out of `emobility/runtime/settings.py`.

| variable | takes | when not set | means |
| --- | --- | --- | --- |
"""
_ENTRY: Final = re.compile(r"^(\w+): (.*?)(?=^\w+: |\Z)", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([a-z]\w*)`")


def page() -> str:
    """Return the page. Raises `KeyError` for a setting that the class's docstring does not describe."""
    means = _described()
    rows = [
        f"| `{_variable(name)}` | {_takes(each)} | {_default(each)} | {means[name]} |\n"
        for name, each in Settings.model_fields.items()
    ]
    return _HEAD + "".join(rows)


def _variable(name: str) -> str:
    return f"{Settings.model_config['env_prefix']}{name.upper()}"


def _described() -> dict[str, str]:
    """Read the docstring's `Attributes`; a setting named there in code is named by its variable."""
    attributes = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2]
    entries = _ENTRY.findall(inspect.cleandoc(attributes))
    texts = {name: " ".join(says.split()).replace("None: ", "not set: ") for name, says in entries}
    return {name: _CODE.sub(_named, says) for name, says in texts.items()}


def _named(found: re.Match[str]) -> str:
    return f"`{_variable(found[1])}`" if found[1] in Settings.model_fields else found[0]


def _takes(each: FieldInfo) -> str:
    kinds = [kind for kind in get_args(each.annotation) or (each.annotation,) if kind is not type(None)]
    if all(isinstance(kind, str) for kind in kinds):
        return ", ".join(f"`{kind}`" for kind in kinds)
    words = {bool: "`true`, `false`", int: "a number", float: "a number", Path: "a path", SecretStr: "a secret"}
    return "a JSON list" if Ellipsis in kinds else words.get(kinds[0], "a text")


def _default(each: FieldInfo) -> str:
    value: Any = each.default
    if value is None or value == () or isinstance(value, SecretStr):
        return ""
    return f"`{json.dumps(value) if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
