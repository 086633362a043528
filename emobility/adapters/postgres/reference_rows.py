"""Rows that change rarely and are read with every message, kept for a moment: peers, tokens, agreements, stations.

A change made in this process is seen at once: while a unit that changed a table is open nothing of the table is served
or kept, and afterwards what was kept is gone. A change made in another process is told by NOTIFY with its commit, and
what was kept is gone as soon as we hear it. While nobody listens, an answer is kept for `UNFOLLOWED_AGE_S` only; a
connection that died without a word is noticed after some ten seconds, so none is kept longer than `FOLLOWED_AGE_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

REFERENCE_CHANNEL: Final = "wattroam_reference"
NOTIFY_REFERENCES: Final = f"SELECT pg_notify('{REFERENCE_CHANNEL}', %(tables)s)".encode()
"""Sent in the changing unit's own transaction: such changes are rare, so its lock holds nobody up."""
FOLLOWED_AGE_S: Final = 5.0
UNFOLLOWED_AGE_S: Final = 0.5
QUESTIONS_MAX: Final = 5_000
"""Answers kept per table, and conclusions; with one more, all of the table's, or all conclusions, are dropped."""

Question = tuple[Any, ...]
Generations = tuple[int, ...]
"""Of some tables, how often each changed."""


@dataclass(slots=True)
class _Answers:
    by_question: dict[Question, tuple[Any, float]] = field(default_factory=dict)
    generation: int = 0
    open_changes: int = 0

    def drop(self) -> None:
        self.generation += 1
        self.by_question.clear()


class ReferenceRows:
    """What one process lately read of reference tables."""

    def __init__(self) -> None:
        self._tables: dict[str, _Answers] = {}
        self._concluded: dict[Hashable, tuple[Any, float, Generations]] = {}
        self.age_s = UNFOLLOWED_AGE_S

    def of(self, table: str) -> ReferenceTable:
        """Return the part of one table."""
        return ReferenceTable(self, self._tables.setdefault(table, _Answers()))

    def generations(self, tables: Sequence[str]) -> Generations | None:
        """Return what stays the same while none of the tables changes; None: a change of one is open."""
        generations: list[int] = []
        for table in tables:
            answers = self._tables.get(table)
            if answers is None:
                answers = self._tables[table] = _Answers()
            if answers.open_changes:
                return None
            generations.append(answers.generation)
        return tuple(generations)

    def concluded(self, question: Hashable, generations: Generations | None) -> tuple[Any] | None:
        """Return what was concluded from the tables as they are, None when that is not known."""
        found = self._concluded.get(question)
        if found is None or found[2] != generations:
            return None
        return (found[0],) if asyncio.get_running_loop().time() <= found[1] + self.age_s else None

    def conclude(self, question: Hashable, answer: Any, *, before: Generations | None, now: Generations | None) -> None:
        """Remember a conclusion, unless one of its tables changed between `before` and `now`."""
        if before is None or before != now:
            return
        if len(self._concluded) >= QUESTIONS_MAX:
            self._concluded.clear()
        self._concluded[question] = (answer, asyncio.get_running_loop().time(), before)

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """While inside, `changed_elsewhere` is called for the changes of other processes."""
        self.changed_elsewhere(self._tables)  # nobody listened so far
        self.age_s = FOLLOWED_AGE_S
        try:
            yield
        finally:
            self.age_s = UNFOLLOWED_AGE_S

    def changed_elsewhere(self, tables: Iterable[str]) -> None:
        """Another process changed these tables."""
        for table in tables:
            if table in self._tables:
                self._tables[table].drop()


class ReferenceTable:
    """What one process lately read of one table."""

    __slots__ = ("_answers", "_rows")

    def __init__(self, rows: ReferenceRows, answers: _Answers) -> None:
        self._rows = rows
        self._answers = answers

    def find(self, question: Question) -> Any:
        """Return the answer to a question, None when it is not known."""
        found = self._answers.by_question.get(question)
        if found is None or self._answers.open_changes:
            return None
        answer, read_at_s = found
        return answer if asyncio.get_running_loop().time() <= read_at_s + self._rows.age_s else None

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
        answers.by_question[question] = (answer, asyncio.get_running_loop().time())

    def begin_change(self) -> None:
        """A unit is about to change the table."""
        self._answers.open_changes += 1
        self._answers.drop()

    def end_change(self) -> None:
        """That unit is over."""
        self._answers.open_changes -= 1
        self._answers.drop()


def question_of(statement: bytes, values: Mapping[str, Any]) -> Question:
    """Return what names a statement with its values; lists are made hashable."""
    return (statement, *(tuple(value) if isinstance(value, list) else value for value in values.values()))
