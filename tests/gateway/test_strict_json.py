"""What a station writes can't overflow the stack, whatever a library made of Python's recursion limit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from charge_point_gateway.strict_json import DEPTH_MAX, NestedTooDeeply, decode

MANY = 10 * DEPTH_MAX


def test_deep_json_is_refused_where_python_would_let_the_parser_overflow_the_stack() -> None:
    script = (
        "import sys\n"
        "sys.setrecursionlimit(1_000_000)\n"
        "from charge_point_gateway.strict_json import NestedTooDeeply, decode\n"
        "for opening in ('[', '{\"a\":'):\n"
        "    try:\n        decode(opening * 200_000)\n"
        "    except NestedTooDeeply:\n        print('refused')\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stdout) == (0, "refused\nrefused\n")


@pytest.mark.parametrize("text", ['["' + "[" * MANY + '"]', '["' + '\\"[' * MANY + '"]', f"[{'[1],' * MANY}[1]]"])
def test_brackets_in_texts_and_side_by_side_are_no_depth(text: str) -> None:
    value, _ = decode(text)

    assert value == json.loads(text)


def test_the_deepest_that_is_allowed_is_read_among_many_brackets() -> None:
    beside = "[1]," * MANY

    decode(f"[{beside}{'[' * (DEPTH_MAX - 1)}{']' * (DEPTH_MAX - 1)}]")
    with pytest.raises(NestedTooDeeply):
        decode(f"[{beside}{'[' * DEPTH_MAX}{']' * DEPTH_MAX}]")
