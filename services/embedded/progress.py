"""Progress of long work: a bar on a terminal, a line every tenth of the way elsewhere. Always on standard error."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

PERMILLE: Final = 1000
LINE_EVERY_PERMILLE: Final = 100
_LINE: Final = re.compile(r"^\s*(\d+(?:\.\d)?) %\s\s(.*)$")


class Progress:
    """Shows how far something is; use as a context."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=PERMILLE)
        self._shown_permille = -LINE_EVERY_PERMILLE

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, sentence: str) -> None:
        """Show what happens, without a measure."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=sentence)
        else:
            self._console.print(sentence, markup=False)

    def tell(self, sentence: str, permille: int) -> None:
        """Show what happens and how much is done, in thousandths."""
        self._bar.update(self._task, description=sentence, completed=permille)
        if not self._console.is_terminal and permille - self._shown_permille >= LINE_EVERY_PERMILLE:
            self._shown_permille = permille
            self._console.print(f"{permille / 10:5.1f} %  {sentence}", markup=False)

    def follow(self, line: str) -> None:
        """Show the last line of another process's progress."""
        if (match := _LINE.match(line)) is not None:
            self.tell(match[2], int(float(match[1]) * 10))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()
