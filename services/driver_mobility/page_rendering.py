"""Turn values into HTML: escaped always, no script at all, and headers that keep a browser from anything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi.responses import HTMLResponse, Response

from emobility.runtime.html_pages import HEADERS, templates_in
from services.driver_mobility.receipts import IssuedReceipt

TEMPLATES: Final = Path(__file__).parent / "templates"

_ENVIRONMENT: Final = templates_in(TEMPLATES)
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
