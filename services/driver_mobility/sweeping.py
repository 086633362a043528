"""Go through rows one by one, so that one that breaks something holds up no other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from emobility.domain.errors import Unavailable

R = TypeVar("R")

_log = structlog.get_logger(__name__)


async def deal_with_each(rows: Sequence[R], deal: Callable[[R], Awaitable[bool]], *, name: Callable[[R], str]) -> int:
    """Call `deal` on each row; return of how many it says that they changed.

    What a row breaks is logged under its `name`, and the next sweep looks at it again. That nothing can be done for now
    would be said of every row, so `Unavailable` ends the sweep.
    """
    changed = 0
    for row in rows:
        try:
            changed += await deal(row)
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever a row breaks, the others are not to wait for it
            _log.exception("sweep_left_row", row=name(row))
    return changed
