"""Turn values into HTML: escaped always, no script at all, and headers that keep a browser from anything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.driver_mobility.receipts import IssuedReceipt

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


def render(
    template: str, values: Mapping[str, Any], *, status_code: int = 200, headers: Mapping[str, str] = HEADERS
) -> HTMLResponse:
    """Render a template of this service."""
    html = _ENVIRONMENT.get_template(template).render({**_NOBODY, **values})
    return HTMLResponse(html, status_code=status_code, headers=dict(headers))


def receipt_page(receipt: Mapping[str, Any]) -> HTMLResponse:
    """Render a bill that stands alone, for printing and keeping."""
    return render("receipt.html", {"receipt": receipt, "seller": receipt["seller"], "documents": None})


def file_answer(receipt: IssuedReceipt) -> Response:
    """Hand a receipt's file over, to be kept as it is: each byte counts."""
    name = f'attachment; filename="{receipt.name}.json"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(receipt.written, media_type="application/json", headers=headers)
