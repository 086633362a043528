"""Named places at which a test kills the process, so that what comes after a crash is tested and not argued.

`WATTROAM_SETTLEMENT_CRASH_POINT` names one, in development only: the process kills itself there, as `kill -9` would.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import StrEnum


class CrashPoint(StrEnum):
    """What has just happened."""

    STATEMENT_CLOSED = "STATEMENT_CLOSED"
    BATCH_FORMED = "BATCH_FORMED"
    ACCEPTANCE_STORED = "ACCEPTANCE_STORED"
    TRANSACTION_QUEUED = "TRANSACTION_QUEUED"
    BYTES_SIGNED = "BYTES_SIGNED"
    """Signed and not stored: nobody ever saw them."""
    BYTES_STORED = "BYTES_STORED"
    BYTES_SENT = "BYTES_SENT"
    """Sent, and not noted."""
    SENDING_NOTED = "SENDING_NOTED"
    BLOCK_SEEN = "BLOCK_SEEN"
    """In a block, and not noted."""
    FINALITY_SEEN = "FINALITY_SEEN"
    """In a final block, and not noted."""
    FINALITY_NOTED = "FINALITY_NOTED"


Reached = Callable[[CrashPoint], None]
"""Told at each point."""


def dying_at(chosen: CrashPoint | None) -> Reached:
    """Return what ends this process when it reaches a point; None: it goes on."""

    def reached(point: CrashPoint) -> None:
        if point is chosen:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached
