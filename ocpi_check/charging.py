"""A short charge of a mock CPO: what follows an accepted START_SESSION, sent to whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ocpi_check import objects
from ocpi_check.mock import Heard, MockParty
from ocpi_check.wire import Answer, Caller, token_header


async def charge(mock: MockParty, command: Heard, caller: Caller, now: Callable[[], datetime]) -> list[Answer]:
    """Send the result, the session as it begins and ends, and the CDR; return what was answered."""
    connection, msp = mock.connection, command.from_party
    if connection is None or msp is None:
        return []
    posted, version = command.json, connection.version
    number = len(mock.heard_at("/START_SESSION"))
    headers = {
        "Authorization": token_header(connection.token),
        **mock.party.headers("from"),
        **msp.headers("to"),
    }
    token = {name: posted["token"][name] for name in ("country_code", "party_id", "uid", "type", "contract_id")}
    told: dict[str, Any] = {"cdr_token": token, "auth_method": "COMMAND"}
    if "authorization_reference" in posted:
        told["authorization_reference"] = posted["authorization_reference"]
    session = {**objects.session(mock.party, msp, number, now(), version), **told}
    ended = {**session, "status": "COMPLETED", "end_date_time": objects.stamp(now())}
    cdr = {**objects.cdr(mock.party, msp, f"CDR{number}", now(), version), **told, "session_id": session["id"]}
    sessions = connection.endpoints["sessions", "RECEIVER"].rstrip("/")
    path = f"{sessions}/{mock.party.path}/{session['id']}"
    return [
        await caller.call("POST", posted["response_url"], headers=headers, body={"result": "ACCEPTED"}),
        await caller.call("PUT", path, headers=headers, body=session),
        await caller.call("PUT", path, headers=headers, body=ended),
        await caller.call("POST", connection.endpoints["cdrs", "RECEIVER"], headers=headers, body=cdr),
    ]
