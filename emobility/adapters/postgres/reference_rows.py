"""Rows that change rarely and are read with every message, kept for a moment: peers, tokens, agreements, stations.

A change made in this process is seen at once: while a unit that changed a table is open nothing of the table is served
or kept, and afterwards what was kept is gone. A change made in another process is seen within `REFERENCE_AGE_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

REFERENCE_AGE_S: Final = 1.0
"""How long another process's change to a reference table may go unseen."""
QUESTIONS_MAX: Final = 5_000
"""Answers kept per table; with one more, all of the table's are dropped."""

Question = tuple[Any, ...]


@dataclass(slots=True)
class _Answers:
    by_question: dict[Question, tuple[Any, float]] = field(default_factory=dict)
    generation: int = 0
    open_changes: int = 0


class ReferenceRows:
    """What one process lately read of reference tables."""

    def __init__(self) -> None:
        self._tables: dict[str, _Answers] = {}

    def of(self, table: str) -> ReferenceTable:
        """Return the part of one table."""
        return ReferenceTable(self._tables.setdefault(table, _Answers()))


class ReferenceTable:
    """What one process lately read of one table."""

    __slots__ = ("_answers",)

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers

    def find(self, question: Question) -> Any:
        """Return the answer to a question, None when it is not known."""
        found = self._answers.by_question.get(question)
        if found is None or self._answers.open_changes or found[1] < asyncio.get_running_loop().time():
            return None
        return found[0]

    def generation(self) -> int:
        """Return what `keep` needs to see whether a change came between question and answer."""
        return self._answers.generation

    def keep(self, question: Question, answer: Any, *, generation: int) -> None:
        """Remember an answer, unless the table changed since `generation`."""
        answers = self._answers
        if answers.open_changes or answers.generation != generation:
            return
        if len(answers.by_question) >= QUESTIONS_MAX:
            answers.by_question.clear()
        answers.by_question[question] = (answer, asyncio.get_running_loop().time() + REFERENCE_AGE_S)

    def begin_change(self) -> None:
        """A unit is about to change the table."""
        self._answers.open_changes += 1
        self._drop()

    def end_change(self) -> None:
        """That unit is over."""
        self._answers.open_changes -= 1
        self._drop()

    def _drop(self) -> None:
        self._answers.generation += 1
        self._answers.by_question.clear()


def question_of(statement: bytes, values: Mapping[str, Any]) -> Question:
    """Return what names a statement with its values; lists are made hashable."""
    return (statement, *(tuple(value) if isinstance(value, list) else value for value in values.values()))
