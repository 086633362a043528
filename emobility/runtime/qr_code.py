"""A QR code as inline SVG: no image to fetch, so the pages' policy stays as strict as it is."""

from __future__ import annotations

from typing import Final

import segno
from markupsafe import Markup

QUIET_ZONE: Final = 4
"""Modules of white around the code that ISO/IEC 18004 asks for; without them it is not found on a dark page."""


def qr_svg(text: str) -> Markup:
    """Return the QR code of a text (error correction M) in black on white, as large as its place."""
    code = segno.make_qr(text, error="m")
    svg = code.svg_inline(border=QUIET_ZONE, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None)
    return Markup(svg)  # noqa: S704 - made of numbers alone; the text is in it as modules
