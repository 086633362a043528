"""T: authorisation, envelopes, ids, HTTP statuses."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ocpi_check import objects
from ocpi_check.run import Run, Way
from ocpi_check.table import SINCE_230, SUCCESS, check, expect, hold
from ocpi_check.wire import Answer, token_header

DOC: Final = "transport_and_format.asciidoc#transport_and_format_"
STACK_TRACE: Final = re.compile(rb'Traceback|File "|\bat [\w.$]+\([\w.]+:\d+\)|Exception in|node_modules|\.py", line')
NOT_JSON: Final = b'{"id": '


async def pushing(run: Run) -> tuple[Way, str, dict[str, Any]]:
    """Return a way on which an object may be pushed, its path and the object, new each time."""
    is_cpo = run.target.role == "CPO"
    way = await run.way("tokens" if is_cpo else "tariffs", "RECEIVER")
    owner, number = way.sender.party, run.number()
    if is_cpo:
        pushed = objects.token(owner, f"CARD{number}", run.later())
        return way, f"/{owner.path}/{pushed['uid']}", pushed
    pushed = objects.tariff(owner, number, run.later(), run.target.version)
    return way, f"/{owner.path}/{pushed['id']}", pushed


async def asked(run: Run) -> tuple[str, str]:
    """Return a valid token and the URL of a module."""
    way, path, _ = await pushing(run)
    assert way.sender.connection is not None, "it is registered"
    return way.sender.connection.token, f"{way.url}{path}"


@check("T1", f"{DOC}authorization_header")
async def without_authorization(run: Run) -> None:
    """A request without Authorization is answered HTTP 401."""
    _, url = await asked(run)
    for where in (url, run.target.versions_url):
        expect(await run.caller.call("GET", where, headers={}), http=401)


@check("T2", f"{DOC}authorization_header")
async def unknown_token(run: Run) -> None:
    """An unknown token is answered HTTP 401."""
    _, url = await asked(run)
    for where in (url, run.target.versions_url):
        expect(await run.caller.call("GET", where, headers={"Authorization": token_header("not-a-token")}), http=401)


@check("T3", f"{DOC}authorization_header")
async def plain_token(run: Run) -> None:
    """A token that is not Base64 is answered HTTP 401."""
    token, _ = await asked(run)
    headers = {"Authorization": f"Token {token}-"}
    expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=401)
    headers = {"Authorization": f"Bearer {token}"}
    expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=401)
    expect(await run.caller.call("GET", run.target.versions_url, headers={"Authorization": f"Token {token}"}), http=401)


@check("T4", "credentials.asciidoc#credentials_registration")
async def token_a_on_a_module(run: Run) -> None:
    """TOKEN_A opens versions and credentials, and is answered HTTP 401 on any other module."""
    _, url = await asked(run)
    stranger = await run.stranger("EMSP" if run.target.role != "EMSP" else "CPO")
    headers = {"Authorization": token_header(stranger.token_a or "")}
    expect(await run.caller.call("GET", run.target.versions_url, headers=headers), http=200, code=SUCCESS)
    routed = {**headers, **stranger.party.headers("from")}
    expect(await run.caller.call("GET", url, headers=routed), http=401)


@check("T5", "status_codes.asciidoc#status_codes_status_codes")
async def body_that_is_no_json(run: Run) -> None:
    """A body that is not JSON is answered HTTP 400."""
    way, path, _ = await pushing(run)
    expect(await way.call("PUT", path, NOT_JSON), http=400)


@check("T6", "status_codes.asciidoc#status_codes_2xxx_client_errors")
async def semantic_error(run: Run) -> None:
    """JSON that can't be accepted is answered HTTP 200 with S 2001, never a 4xx."""
    way, path, _ = await pushing(run)
    expect(await way.call("PUT", path, {}), http=200, code=2001)
    listed = await run.some_list()
    expect(await listed.call("GET", "?limit=many&date_from=2020-01-01T00:00:00Z"), http=200, code=2001)


@check("T7", f"{DOC}response_format")
async def every_answer_is_an_envelope(run: Run) -> None:
    """Every answer, errors too, has status_code and a timestamp in UTC."""
    for answer in await _answers(run):
        _envelope(answer)


@check("T8", f"{DOC}unique_messageg_ids")
async def ids_are_repeated(run: Run) -> None:
    """X-Request-ID and X-Correlation-ID are repeated on every answer."""
    for answer in await _answers(run, request="check-request-1", correlation="check-correlation-1"):
        ids = (answer.headers.get("x-request-id"), answer.headers.get("x-correlation-id"))
        hold(ids == ("check-request-1", "check-correlation-1"), expected="both ids as sent", got=f"{answer}, ids {ids}",
             sent=answer.sent)  # fmt: skip


@check("T9", f"{DOC}transport_and_format", versions=SINCE_230)
async def unknown_fields(run: Run) -> None:
    """Unknown JSON fields are accepted, and forwarded unchanged."""
    way, path, pushed = await pushing(run)
    unknown = {"x_check": {"exact": Decimal("0.10"), "list": [None, True, "é"]}}
    answer = expect(await way.call("PUT", path, {**pushed, **unknown}), http=(200, 201), code=SUCCESS)
    if way.receiver is not None:
        got = way.arrived(answer).json
        hold(got == {**pushed, **unknown}, expected="the receiver gets every field", got=str(got)[:300],
             sent=answer.sent)  # fmt: skip


@check("T10", f"{DOC}get")
async def missing_object(run: Run) -> None:
    """GET of an object that is not there is answered HTTP 404."""
    way, path, _ = await pushing(run)
    expect(await way.call("GET", path), http=404)


@check("T11", f"{DOC}put")
async def new_and_known_objects(run: Run) -> None:
    """PUT of a new object is answered HTTP 201, of a known one 200."""
    way, path, pushed = await pushing(run)
    expect(await way.call("PUT", path, pushed), http=201, code=SUCCESS)
    expect(await way.call("PUT", path, {**pushed, "last_updated": objects.stamp(run.later())}), http=200, code=SUCCESS)


@check("T12", "types.asciidoc#types_cistring_type")
async def spelling(run: Run) -> None:
    """Header names match in any case; ids compare without case and keep their spelling."""
    way, path, pushed = await pushing(run)
    field = "uid" if "uid" in pushed else "id"
    spelled = f"aB{pushed[field]}"
    base = path.rsplit("/", 1)[0]
    written = await way.call("PUT", f"{base}/{spelled}", {**pushed, field: spelled})
    expect(written, http=(200, 201), code=SUCCESS)
    shouted = {name.upper(): value for name, value in run.authorized(way.sender).items()}
    for party, side in ((way.sender.party, "from"), (way.to_party, "to")):
        shouted |= {name.upper(): value.lower() for name, value in (party.headers(side) if party else {}).items()}
    answer = await run.caller.call("GET", f"{way.url}{base}/{spelled.swapcase()}", headers=shouted)
    expect(answer, http=200, code=SUCCESS)
    hold(answer.data[field] == spelled, expected=f"{field} {spelled}", got=f"{field} {answer.data[field]}",
         sent=answer.sent)  # fmt: skip


@check("T13", "status_codes.asciidoc#status_codes_3xxx_server_errors")
async def no_insides(run: Run) -> None:
    """Whatever is sent, no answer shows a stack trace."""
    way, path, _ = await pushing(run)
    depth = 3_000
    hostile: list[tuple[str, str, bytes | None]] = [
        ("PUT", path, b"[" * depth + b"]" * depth),
        ("PUT", path, b'{"id": 1e999999999}'),
        ("PUT", path, b'{"id": "\\ud800"}'),
        ("GET", f"{path}%00%0a", None),
        ("GET", f"{path}/../../../x?date_from=%FF", None),
        ("DELETE", "", None),
    ]
    for method, where, body in hostile:
        answer = await way.call(method, where, body)
        hold(not STACK_TRACE.search(answer.body), expected="no stack trace", got=answer)
        if answer.http >= 500:
            _envelope(answer)


async def _answers(run: Run, *, request: str = "", correlation: str = "") -> list[Answer]:
    """Return answers of all kinds."""
    way, path, pushed = await pushing(run)
    ids = {"X-Request-ID": request, "X-Correlation-ID": correlation} if request else {}
    unknown = {**ids, "Authorization": token_header("not-a-token")}
    versions = {**ids, **run.authorized(way.sender)}
    return [
        await way.call("PUT", path, pushed, headers=ids),
        await way.call("PUT", path, NOT_JSON, headers=ids),
        await way.call("PUT", path, {}, headers=ids),
        await way.call("GET", f"{path}-none", headers=ids),
        await run.caller.call("GET", f"{way.url}{path}", headers=unknown),
        await run.caller.call("GET", run.target.versions_url, headers=versions),
    ]


def _envelope(answer: Answer) -> None:
    hold(isinstance(answer.code, int) and 1000 <= answer.code <= 4999, expected="a status_code", got=answer)
    text = answer.envelope.get("timestamp")
    try:
        moment = datetime.fromisoformat(str(text))
        is_utc = moment.utcoffset() in {None, timedelta()}
    except ValueError:
        is_utc = False
    hold(is_utc, expected="a timestamp in UTC", got=f"{answer}, timestamp {text!r}", sent=answer.sent)
