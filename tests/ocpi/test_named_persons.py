"""A peer's words are kept without the persons that our request named to it."""

from __future__ import annotations

import pytest

from emobility.protocols.ocpi.named_persons import without_persons

TOKEN = b'{"uid":"04CA4A12","contract_id":"NL-ZON-C7C4N4RY8","visual_number":"DF000-2001-8999","issuer":"Zon"}'


@pytest.mark.parametrize(
    ("said", "path", "body", "kept"),
    [
        ("unknown token 04ca4a12 of NL-ZON-C7C4N4RY8", "", TOKEN, "unknown token [person] of [person]"),
        ("card DF000-2001-8999 was not issued by Zon", "", TOKEN, "card [person] was not issued by Zon"),
        ("no 04CA4A12", "", b'{"token":' + TOKEN + b',"evse_uid":"E1"}', "no [person]"),
        ("no 04 CA", "/NL/ZON/04%20CA", b"", "no [person]"),
        ("04CA4A12 may not authorize", "/04CA4A12/authorize", b"", "[person] may not authorize"),
        ("no EVSE EVSE-1 at LOC1", "", b'{"id":"LOC1","evses":[{"uid":"EVSE-1"}]}', "no EVSE EVSE-1 at LOC1"),
        ("wrong", "", b"[null, 1]", "wrong"),
    ],
)
def test_what_the_request_named_is_taken_out_and_nothing_else(said: str, path: str, body: bytes, kept: str) -> None:
    assert without_persons(said, path=path, body=body) == kept
