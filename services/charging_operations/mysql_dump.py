"""Read rows out of a MySQL or MariaDB dump without a server: nothing in it is ever executed.

A dump is cut into tokens by MySQL's rules for strings, names and comments, and of its statements two are understood:
CREATE TABLE for the order of columns, INSERT INTO for rows. Everything else, `/*! ... */` included, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import MalformedInput

VALUE_CHARACTERS_MAX: Final = 65_536
TOKENS_MAX: Final = 1_500_000
"""Tokens of one statement, about 100 MB in memory; 20,000 rows of 30 columns have fewer."""
_UNDERSTOOD: Final = ("CREATE", "INSERT")
_TOKEN: Final = re.compile(
    r"""
    (?P<blank> \s++ | --(?=\s|\Z)[^\n]*+ | \#[^\n]*+ | /\*(?:(?!\*/).)*+\*/ )
  | (?P<string> '(?:[^'\\]++|\\.|'')*+' | "(?:[^"\\]++|\\.|"")*+" )
  | (?P<name> `(?:[^`]++|``)*+` )
  | (?P<bytes> 0x[0-9A-Fa-f]++ | [xX]'[0-9A-Fa-f]*+' )
  | (?P<number> [-+]?\d++(?:\.\d++)?(?:[eE][-+]?\d++)? )
  | (?P<word> [A-Za-z_]\w*+ )
  | (?P<open> /\* | ['"`] )
  | (?P<mark> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES: Final = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_ESCAPED: Final = re.compile(r"\\(.)|''|\"\"", re.DOTALL)


class NoDump(MalformedInput):
    """The text is no dump that can be read; `line` is where that shows."""

    def __init__(self, *, line: int, why: str) -> None:
        self.line = line
        self.why = why
        super().__init__(f"line {line}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpedRow:
    """A row of a table: texts by column, None for NULL; `line` is where its parenthesis opens."""

    table: str
    line: int
    values: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word

    def is_mark(self, mark: str) -> bool:
        return self.kind == "mark" and self.text == mark


def rows_of(dump: str, tables: Iterable[str]) -> Iterator[DumpedRow]:
    """Yield the rows of these tables in order. Raises `NoDump`, where the dump is cut off or a row does not fit."""
    wanted = frozenset(tables)
    columns: dict[str, list[str]] = {}
    for statement in _statements(dump):
        table = _table_after(statement, "CREATE", "TABLE")
        if table in wanted:
            columns[table] = _columns_created(statement)
        table = _table_after(statement, "INSERT", "INTO")
        if table in wanted:
            yield from _inserted(table, statement, columns.get(table))


def _statements(dump: str) -> Iterator[list[_Token]]:
    statement: list[_Token] = []
    line = 1
    for found in _TOKEN.finditer(dump):
        kind, text = found.lastgroup or "", found.group()
        if kind == "open":  # looked for to the end of the dump; a second look would be one too many
            raise NoDump(line=line, why="a text or comment has no end: the dump is cut off")
        if kind == "mark" and text == ";":
            yield statement
            statement = []
        elif kind != "blank" and (not statement or _is_understood(statement)):
            if len(statement) >= TOKENS_MAX:
                raise NoDump(line=line, why=f"a statement of more than {TOKENS_MAX} parts: dump it in smaller ones")
            statement.append(_Token(kind, text, line))
        line += text.count("\n")
    if statement and _is_understood(statement):
        raise NoDump(line=line, why="a statement has no end: the dump is cut off")


def _is_understood(statement: list[_Token]) -> bool:
    return any(statement[0].is_word(word) for word in _UNDERSTOOD)


def _table_after(statement: list[_Token], verb: str, what: str) -> str | None:
    """Return the table that a statement is about, without its database."""
    between = ("IGNORE", "IF", "NOT", "EXISTS")
    words = [token for token in statement[:10] if not any(token.is_word(each) for each in between)]
    if len(words) < 3 or not (words[0].is_word(verb) and words[1].is_word(what)):
        return None
    is_qualified = len(words) > 4 and words[3].is_mark(".")
    return _name(words[4] if is_qualified else words[2])


def _columns_created(statement: list[_Token]) -> list[str]:
    """Return the columns of a CREATE TABLE: the quoted names that open its parts."""
    columns: list[str] = []
    depth, is_start = 0, False
    for token in statement:
        if depth == 1 and is_start and token.kind == "name":
            columns.append(_name(token))
        is_start = (depth == 0 and token.is_mark("(")) or (depth == 1 and token.is_mark(","))
        depth += token.is_mark("(") - token.is_mark(")")
    return columns


def _inserted(table: str, statement: list[_Token], created: list[str] | None) -> Iterator[DumpedRow]:
    begin = next((place for place, token in enumerate(statement) if token.is_word("VALUES")), None)
    if begin is None:
        raise NoDump(line=statement[0].line, why=f"an INSERT INTO {table} without VALUES")
    named = [_name(token) for token in statement[:begin] if token.kind in ("name", "word")]
    is_listed = any(token.is_mark("(") for token in statement[:begin])
    listed = named[named.index(table) + 1 :] if is_listed else created
    if not listed:
        raise NoDump(line=statement[0].line, why=f"the columns of {table} are told nowhere: dump it with its structure")
    place = begin + 1
    while place < len(statement) and statement[place].is_mark("("):
        opened = statement[place]
        values, place = _tuple(statement, place + 1)
        if len(values) != len(listed):
            why = f"a row of {table} has {len(values)} values for {len(listed)} columns"
            raise NoDump(line=opened.line, why=why)
        yield DumpedRow(table=table, line=opened.line, values=dict(zip(listed, values, strict=True)))
        place += place < len(statement) and statement[place].is_mark(",")


def _tuple(statement: list[_Token], place: int) -> tuple[list[str | None], int]:
    """Return the values up to the closing parenthesis, and where to go on."""
    values: list[str | None] = []
    while place < len(statement):
        token = statement[place]
        if token.kind == "word" and token.text.startswith("_") and place + 1 < len(statement):
            place, token = place + 1, statement[place + 1]  # a character set: _binary 'text'
        values.append(_value(token))
        place += 1
        if place < len(statement) and statement[place].is_mark(")"):
            return values, place + 1
        if place >= len(statement) or not statement[place].is_mark(","):
            raise NoDump(line=token.line, why="a row holds more than plain values")
        place += 1
    raise NoDump(line=statement[-1].line, why="a row has no end")


def _value(token: _Token) -> str | None:
    if len(token.text) > VALUE_CHARACTERS_MAX:
        raise NoDump(line=token.line, why=f"a value of more than {VALUE_CHARACTERS_MAX} characters")
    if token.kind == "string":
        quote = token.text[0]
        return _ESCAPED.sub(lambda found: _unescaped(found, quote), token.text[1:-1])
    if token.is_word("NULL"):
        return None
    if token.kind in ("number", "bytes") or token.is_word("TRUE") or token.is_word("FALSE"):
        return token.text
    raise NoDump(line=token.line, why=f"{token.text[:40]!r} is no plain value")


def _unescaped(found: re.Match[str], quote: str) -> str:
    escaped = found.group(1)
    if escaped is not None:
        return _ESCAPES.get(escaped, escaped)
    return quote if found.group() == quote * 2 else found.group()


def _name(token: _Token) -> str:
    return token.text[1:-1].replace("``", "`") if token.kind == "name" else token.text
