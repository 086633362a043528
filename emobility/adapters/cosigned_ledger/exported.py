"""A ledger as a file, and heads as files: what parties hand each other, and what a verifier needs, without a database.

One JSON object a line: entries in order, then countersignatures. Bytes are hex. Whoever reads one carries out every
entry, so a file needs no trust in whom it came from; which ledger it is, its id says.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from emobility.adapters.cosigned_ledger.ledger import ReplicaReader, replica_of
from emobility.domain.cosigned_ledger import Countersignature, Head, LedgerEntry, words_of
from emobility.domain.errors import MalformedInput
from emobility.ports.cosigned_ledger import LedgerReader

T = TypeVar("T", LedgerEntry, Countersignature, Head)

LINE_BYTES_MAX: Final = 1 << 20
"""An entry holds at most 128 kB of call, in hex."""
HEADS_MAX: Final = 10_000
"""Heads that one file keeps."""
PAGE: Final = 1_000
_NUMBERS: Final = frozenset({"number", "timestamp_s", "ledger_id"})


class MalformedLedgerFile(MalformedInput):
    """A file holds no ledger, or no heads."""


async def exported(ledger: LedgerReader) -> AsyncIterator[str]:
    """Yield a ledger line by line."""
    # Asked for first, so that the entries that they are of stand in the file.
    countersignatures, first = await ledger.countersignatures(), 0
    while page := await ledger.entries(first=first, limit=PAGE):
        for entry in page:
            yield _line(entry)
        first += len(page)
    for countersignature in countersignatures:
        yield _line(countersignature)


def read_exported(lines: Iterable[str]) -> ReplicaReader:
    """Carry out what `exported` wrote.

    Raises:
        MalformedLedgerFile: it did not write this.
        LedgerBroken: an entry does not follow from those before it.
    """
    entries: list[LedgerEntry] = []
    countersignatures: list[Countersignature] = []
    for words in _objects(lines):
        if "parent_hash" in words:
            entries.append(_read(words, LedgerEntry))
        else:
            countersignatures.append(_read(words, Countersignature))
    if not entries:
        raise MalformedLedgerFile("a ledger has entries")
    return ReplicaReader(replica_of(entries, countersignatures))


def open_exported(path: Path) -> ReplicaReader:
    """Read a ledger's file; see `read_exported`. Raises `OSError` where it can't be read."""
    with path.open(encoding="utf-8", errors="replace") as file, _named(path, "ledger"):
        return read_exported(_lines(file))


def read_heads(path: Path) -> list[Head]:
    """Return the heads that a file keeps; none where there is no file. Raises `MalformedLedgerFile`."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace") as file, _named(path, "file of heads"):
        heads = [_read(words, Head) for words in _objects(_lines(file))]
    if len(heads) > HEADS_MAX:
        raise MalformedLedgerFile(f"{path} keeps more than {HEADS_MAX} heads")
    return heads


def keep_head(path: Path, head: Head) -> None:
    """Add a head to a file, unless it is the last there; at `HEADS_MAX` the oldest goes."""
    heads = read_heads(path)
    if head in heads[-1:]:
        return
    if len(heads) < HEADS_MAX:
        with path.open("a", encoding="utf-8") as file:
            file.write(_line(head) + "\n")
        return
    anew = path.with_name(f"{path.name}.new")  # so that a cut loses none of what was kept
    anew.write_text("".join(f"{_line(each)}\n" for each in (*heads[1:], head)), encoding="utf-8")
    anew.replace(path)


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """Say which file it is that holds none."""
    try:
        yield
    except MalformedLedgerFile as error:
        raise MalformedLedgerFile(f"{path} is no {what}: {error}") from None


def _lines(file: Any) -> Iterator[str]:
    while line := file.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX:
            raise MalformedLedgerFile(f"a line has more than {LINE_BYTES_MAX} bytes")
        yield line


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for place, line in enumerate(lines, start=1):
        try:
            words = json.loads(line)
        except ValueError:
            words = None
        if not isinstance(words, dict):
            raise MalformedLedgerFile(f"line {place} is no JSON object")
        yield words


def _line(of: LedgerEntry | Countersignature | Head) -> str:
    return json.dumps(words_of(of))


def _read(words: dict[str, Any], kind: type[T]) -> T:
    names: Sequence[str] = tuple(kind.__dataclass_fields__)
    values: dict[str, Any] = {}
    for name in names:
        value = words.get(name)
        if name in _NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
                raise MalformedLedgerFile(f"a line has no number as its {name}")
            values[name] = value
            continue
        try:
            values[name] = bytes.fromhex(value)  # type: ignore[arg-type]  # refused below where it is no text
        except (TypeError, ValueError):
            raise MalformedLedgerFile(f"a line has no hexadecimal as its {name}") from None
    return kind(**values)
