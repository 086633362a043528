"""The page behind a receipt's QR code: whoever holds the file has it checked here, and nobody else learns a thing.

The link names the file's hash. The page looks nothing up by it: it shows the hash, takes a file, and says whether this
is the file and what its checks prove. So the link opens nothing, and no driver's data stand behind it.
"""

from __future__ import annotations

import hmac
import re
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.types import Message

from emobility.domain.errors import MalformedInput
from emobility.domain.money import decimal_from_e4
from emobility.domain.quantities import kwh
from emobility.domain.receipt.document import RECEIPT_BYTES_MAX
from emobility.ports.ports import Ports
from emobility.runtime.html_pages import HEADERS
from emobility.runtime.tries_by_address import REST, TriesByAddress
from services.driver_mobility.page import base_of, msp_of
from services.driver_mobility.page_rendering import render
from services.driver_mobility.receipt_checking import CheckedFile, ChecksBusy, ReceiptChecking, shown_checks
from services.driver_mobility.records import HostedMSP

FIELD: Final = "receipt"
"""Of the form: the file."""
FORM_BYTES_MAX: Final = RECEIPT_BYTES_MAX + 4_096
"""A form is what frames the file beside the file."""
CHECKS_MAX: Final = 30
"""Files that one address may have checked in a row before it rests."""
CHECK_HEADERS: Final = {**HEADERS, "X-Robots-Tag": "noindex, nofollow, noarchive"}
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_PROBLEMS: Final = {
    413: f"A receipt has at most {RECEIPT_BYTES_MAX:,} bytes; this file is no receipt.",
    422: "Please choose the receipt's file first.",
    429: f"Too many files were checked from where you are. Please try again in {REST.seconds // 60} minutes, or check "
    "the file yourself: wattroam verify.",
    503: "Too many files are being checked just now. Please try again.",
}


class FormTooLarge(MalformedInput):
    """More bytes than a receipt and its frame can have."""


class CheckPage:
    """The public routes of all MSPs hosted here: no login, no cookie, nothing kept."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._checking = ReceiptChecking(ports)
        self._tries = TriesByAddress(CHECKS_MAX)

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        for path in ("/{party}/check", "/{party}/check/{fingerprint}"):
            app.add_api_route(path, self._ask, methods=["GET"])
            app.add_api_route(path, self._check, methods=["POST"])

    async def _ask(self, request: Request) -> Response:
        msp = await msp_of(request, self._ports)
        return _page(request, msp)

    async def _check(self, request: Request) -> Response:
        msp = await msp_of(request, self._ports)
        address = "" if request.client is None else request.client.host
        if not self._tries.may_try(msp.party_id, "receipt", address, now=self._ports.clock.now()):
            return _page(request, msp, status_code=429)
        try:
            written = await _file_of(request)
        except FormTooLarge:
            return _page(request, msp, status_code=413)
        if not written:
            return _page(request, msp, status_code=422)
        try:
            checked = await self._checking.check(msp.party_id, written)
        except ChecksBusy:
            return _page(request, msp, status_code=503)
        return _page(request, msp, checked=checked, status_code=200)


def _page(request: Request, msp: HostedMSP, *, checked: CheckedFile | None = None, status_code: int = 200) -> Response:
    """Lay the page out, with what was found or why nothing was looked at."""
    named, base = _fingerprint_of(request), base_of(request, msp.party_id)
    values: dict[str, Any] = {
        "seller": msp.name,
        "seller_id": msp.party_id.code,
        "base": base,
        "style_url": f"{base}/me/style.css",
        "action": f"{base}/check" + (f"/{named}" if named else ""),
        "field": FIELD,
        "named": named,
        "problem": _PROBLEMS.get(status_code),
        "found": None,
    }
    if checked is not None:
        is_named = named is None or hmac.compare_digest(named, checked.fingerprint)
        is_accepted = checked.is_accepted and is_named
        values["found"] = {
            "fingerprint": checked.fingerprint,
            "is_named": is_named,
            "is_accepted": is_accepted,
            # What nobody signed is shown to nobody as if it were a receipt.
            "receipt": _shown(checked) if checked.is_accepted else None,
            "checks": shown_checks(checked),
        }
        status_code = 200 if is_accepted else 422
    return render("check.html", values, status_code=status_code, headers=CHECK_HEADERS)


def _shown(checked: CheckedFile) -> dict[str, Any]:
    assert checked.receipt is not None
    record = checked.receipt.record
    return {
        "is_credit": record.kind == "CREDIT",
        "bill_id": record.bill_id,
        "operator_id": record.charge_point_operator,
        "ended_at": record.ended_at,
        "kwh": kwh(record.import_wh),
        "total": decimal_from_e4(record.total_incl_e4),
        "currency": record.currency,
    }


def _fingerprint_of(request: Request) -> str | None:
    """Return the hash that the link names. A path that names none does not exist."""
    named = request.path_params.get("fingerprint")
    if named is not None and not _FINGERPRINT.fullmatch(named):
        raise HTTPException(status_code=404, detail="no such page")
    return None if named is None else str(named)


async def _file_of(request: Request) -> bytes:
    """Return the file in a form, empty where there is none. Raises `FormTooLarge`."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > FORM_BYTES_MAX:
            raise FormTooLarge(f"more than {FORM_BYTES_MAX} bytes")
        return message

    try:
        async with Request(request.scope, receive).form(max_files=1, max_fields=1) as form:
            given = form.get(FIELD)
            return await given.read() if isinstance(given, UploadFile) else b""
    except (MultiPartException, HTTPException):
        return b""
