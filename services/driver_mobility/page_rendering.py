"""Turn values into HTML: escaped always, no script at all, and headers that keep a browser from anything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES: Final = Path(__file__).parent / "templates"
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_NOBODY: Final[Mapping[str, Any]] = {"driver_id": None, "csrf": "", "base": "", "style_url": None, "problem": None}


def render(template: str, values: Mapping[str, Any], *, status_code: int = 200) -> HTMLResponse:
    """Render a template of this service."""
    html = _ENVIRONMENT.get_template(template).render({**_NOBODY, **values})
    return HTMLResponse(html, status_code=status_code, headers=dict(HEADERS))


def receipt_page(receipt: Mapping[str, Any]) -> HTMLResponse:
    """Render a receipt that stands alone, for printing and keeping."""
    return render("receipt.html", {"receipt": receipt, "seller": receipt["seller"]})
