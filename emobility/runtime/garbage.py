"""How often Python looks for garbage cycles in a process that serves.

A message leaves no cycle behind, but what it is made of lives until it is dealt with. At the default threshold the
collector walks the messages in flight again and again, and from time to time all that was imported: a tenth of the
gateway's CPU under load, to find nothing.
"""

from __future__ import annotations

import gc
from typing import Final

NEW_OBJECTS_MAX: Final = 50_000
"""New containers before they are searched for cycles, in place of 700. A message makes some sixty, and hundreds wait
for one commit together; they are gone by then.

Cycles, such as a closed connection with its handshake, hold some MB until they are found."""


def collect_rarely() -> None:
    """Call when the process is built: what is there stays, and is not walked any more; cycles are still found."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_MAX, *gc.get_threshold()[1:])
