"""Acknowledged messages on disk, one JSON object a line, safe against a crash of the machine once flushed.

What is in this file was confirmed to a station, so it has to be in the event log: `wattroam audit --truth` checks it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from simulator.truth import AcknowledgedMessage, timestamp

UNFLUSHED_MAX: Final = 64
"""Lines that may be written but not yet forced to disk."""


class AcknowledgementJournal:
    """Appends; the file is forced to disk every `UNFLUSHED_MAX` lines and at the end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._unflushed = 0

    def write(self, message: AcknowledgedMessage) -> None:
        """Append one message."""
        row: dict[str, Any] = asdict(message) | {"acknowledged_at": timestamp(message.acknowledged_at)}
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")
        self._unflushed += 1
        if self._unflushed >= UNFLUSHED_MAX:
            self.flush()

    def flush(self) -> None:
        """Force what was written to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unflushed = 0

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the messages of a journal; a last line that was cut off is no message."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
