"""A TrueType typeface as a PDF needs it: the glyphs of a text, how wide they are, and a file with no others.

Reads what ISO/IEC 14496-22 (OpenType) calls TrueType outlines, with a character map of format 4. Lengths are in units
of the typeface, `units` to the em.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from struct import iter_unpack, pack, unpack_from
from typing import Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands for what the typeface lacks: PDF/A knows no missing glyph (ISO 19005-3, 6.2.11.8)."""
_KEPT: Final = ("head", "hhea", "hmtx", "maxp")
_UNICODE_BMP: Final = (3, 1)
_CHECKSUM_OF_A_FILE: Final = 0xB1B0AFBA
# Of a glyph made of others: how its parts are written, and that another follows.
_WORDS, _SCALE, _MORE, _TWO_SCALES, _MATRIX = 0x01, 0x08, 0x20, 0x40, 0x80


class Typeface:
    """One face; `name` is its PostScript name."""

    def __init__(self, name: str, file: bytes) -> None:
        self.name = name
        self._tables = {
            tag.decode(): file[start : start + length]
            for tag, _, start, length in (unpack_from(">4sIII", file, 12 + 16 * at) for at in range(_u16(file, 4)))
        }
        head, hhea = self._tables["head"], self._tables["hhea"]
        self.units = _u16(head, 18)
        self.box: tuple[int, ...] = unpack_from(">4h", head, 36)
        self.ascent, self.descent = unpack_from(">2h", hhea, 4)
        (self.cap_height,) = unpack_from(">h", self._tables["OS/2"], 88)
        self._starts = self._outline_starts(is_long=bool(_u16(head, 50)))
        measured = [width for width, _ in iter_unpack(">Hh", self._tables["hmtx"][: 4 * _u16(hhea, 34)])]
        # Glyphs behind the last that is measured are as wide as that one.
        self.widths = measured + measured[-1:] * (len(self._starts) - 1 - len(measured))
        self._glyphs = self._character_map()

    def drawable(self, text: str) -> str:
        """Return a text as one line, with `REPLACEMENT` for each character that the typeface lacks."""
        composed = " ".join(unicodedata.normalize("NFC", text).split())
        return "".join(each if self._glyphs.get(ord(each)) else REPLACEMENT for each in composed)

    def glyphs_of(self, text: str) -> list[int]:
        """Return the glyphs of a text that is `drawable`."""
        return [self._glyphs[ord(character)] for character in text]

    def width_of(self, text: str) -> int:
        """Return how far a text reaches that is `drawable`."""
        return sum(self.widths[glyph] for glyph in self.glyphs_of(text))

    def reduced_to(self, glyphs: Collection[int]) -> bytes:
        """Return a file that draws these glyphs and no others; each keeps its number."""
        kept: set[int] = set()
        waiting = [0, *glyphs]
        while waiting:
            glyph = waiting.pop()
            if glyph not in kept:
                kept.add(glyph)
                waiting += _parts_of(self._outline(glyph))
        outlines, starts = bytearray(), [0]
        for glyph in range(len(self._starts) - 1):
            if glyph in kept:
                outline = self._outline(glyph)
                outlines += outline + bytes(-len(outline) % 4)
            starts.append(len(outlines))
        tables = {tag: bytearray(self._tables[tag]) for tag in _KEPT}
        tables["head"][8:12] = bytes(4)
        tables["head"][50:52] = pack(">H", 1)
        tables |= {"glyf": outlines, "loca": bytearray(pack(f">{len(starts)}I", *starts))}
        return _file_of(tables)

    def _outline(self, glyph: int) -> bytes:
        return self._tables["glyf"][self._starts[glyph] : self._starts[glyph + 1]]

    def _outline_starts(self, *, is_long: bool) -> list[int]:
        if is_long:
            return [start for (start,) in iter_unpack(">I", self._tables["loca"])]
        return [2 * half for (half,) in iter_unpack(">H", self._tables["loca"])]

    def _character_map(self) -> dict[int, int]:
        cmap = self._tables["cmap"]
        entries = (unpack_from(">HHI", cmap, 4 + 8 * at) for at in range(_u16(cmap, 2)))
        at = next(start for *kind, start in entries if tuple(kind) == _UNICODE_BMP)
        count = _u16(cmap, at + 6) // 2
        assert _u16(cmap, at) == 4, f"{self.name} has a character map of format {_u16(cmap, at)}"
        ends, starts, shifts, offsets = (
            unpack_from(f">{count}H", cmap, at + 14 + 2 * count * row + (2 if row else 0)) for row in range(4)
        )
        found: dict[int, int] = {}
        for segment, (start, end, shift, offset) in enumerate(zip(starts, ends, shifts, offsets, strict=True)):
            for code in range(start, end + 1):
                glyph = code
                if offset:  # counted from where it is written
                    glyph = _u16(cmap, at + 16 + 6 * count + 2 * segment + offset + 2 * (code - start))
                found[code] = (glyph + shift) % 0x10000 if glyph else 0
        return found


def _parts_of(outline: bytes) -> Iterator[int]:
    """Yield the glyphs that a glyph is made of, if it is."""
    if not outline or unpack_from(">h", outline)[0] >= 0:
        return
    at, flags = 10, _MORE
    while flags & _MORE:
        flags, part = unpack_from(">HH", outline, at)
        yield part
        at += 8 if flags & _WORDS else 6
        at += 2 if flags & _SCALE else 4 if flags & _TWO_SCALES else 8 if flags & _MATRIX else 0


def _file_of(tables: dict[str, bytearray]) -> bytes:
    power = len(tables).bit_length() - 1
    directory = pack(">IHHHH", 0x00010000, len(tables), 16 << power, power, 16 * (len(tables) - (1 << power)))
    start = len(directory) + 16 * len(tables)
    body, head_at = bytearray(), 0
    for tag, table in sorted(tables.items()):
        if tag == "head":
            head_at = start + len(body)
        directory += pack(">4sIII", tag.encode(), _checksum(table), start + len(body), len(table))
        body += table + bytes(-len(table) % 4)
    file = bytearray(directory + body)
    file[head_at + 8 : head_at + 12] = pack(">I", (_CHECKSUM_OF_A_FILE - _checksum(file)) % 2**32)
    return bytes(file)


def _checksum(table: bytes | bytearray) -> int:
    words: Iterator[tuple[int]] = iter_unpack(">I", table + bytes(-len(table) % 4))
    return sum(word for (word,) in words) % 2**32


def _u16(table: bytes, at: int) -> int:
    return int.from_bytes(table[at : at + 2])
