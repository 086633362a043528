"""P: pages of a list."""

from __future__ import annotations

from typing import Any, Final

from ocpi_check.run import Run, Way
from ocpi_check.table import CPO, SUCCESS, NotApplicable, check, expect, hold
from ocpi_check.wire import Answer, next_page

DOC: Final = "transport_and_format.asciidoc#transport_and_format_"
SINCE: Final = "date_from=2000-01-01T00:00:00Z"
PAGES_MAX: Final = 200


@check("P1", f"{DOC}paginated_response")
async def first_page(run: Run) -> None:
    """limit=2 gives two objects, Link with all filters kept, X-Total-Count and X-Limit."""
    way = await run.some_list()
    answer = await _page(way, f"?{SINCE}&limit=2")
    hold(len(answer.data) == 2, expected="2 objects", got=f"{len(answer.data)} objects", sent=answer.sent)
    total, limit, link = (answer.headers.get(name, "") for name in ("x-total-count", "x-limit", "link"))
    hold(total.isdigit() and int(total) > 2, expected="X-Total-Count above 2", got=repr(total), sent=answer.sent)
    hold(limit == "2", expected="X-Limit: 2", got=repr(limit), sent=answer.sent)
    following = next_page(link)
    hold(following, expected="Link with rel=next", got=repr(link), sent=answer.sent)
    kept = str(following).replace("%3A", ":")
    hold("date_from=2000-01-01T00:00:00Z" in kept, expected="date_from in Link", got=kept, sent=answer.sent)
    hold(kept.startswith("http"), expected="an absolute URL in Link", got=kept, sent=answer.sent)


@check("P2", f"{DOC}paginated_response")
async def last_page(run: Run) -> None:
    """The last page has no Link."""
    way = await run.some_list()
    last = (await _pages(way, f"?{SINCE}&limit=2"))[-1]
    hold("link" not in last.headers, expected="no Link header", got=repr(last.headers.get("link")), sent=last.sent)


@check("P3", f"{DOC}paginated_request")
async def limit_above_the_cap(run: Run) -> None:
    """A limit above what the server gives is capped, and X-Limit says so."""
    way = await run.some_list()
    answer = await _page(way, f"?{SINCE}&limit=1000000")
    limit = answer.headers.get("x-limit", "")
    is_capped = limit.isdigit() and len(answer.data) <= int(limit) < 1_000_000
    hold(is_capped, expected="X-Limit with the server's own maximum", got=repr(limit), sent=answer.sent)


@check("P4", f"{DOC}pagination")
async def walk(run: Run) -> None:
    """Offset is applied, and walking the links gives each object once."""
    way = await run.some_list()
    pages = await _pages(way, f"?{SINCE}&limit=2")
    seen = [_identity(each) for page in pages for each in page.data]
    total = int(pages[0].headers["x-total-count"])
    hold(len(seen) == len(set(seen)) == total, expected=f"{total} objects, each once",
         got=f"{len(seen)} objects, {len(set(seen))} different", sent=pages[0].sent)  # fmt: skip
    second = await _page(way, f"?{SINCE}&limit=1&offset=1")
    hold(_identity(second.data[0]) == seen[1], expected=f"offset=1 begins with {seen[1]}",
         got=str(_identity(second.data[0])), sent=second.sent)  # fmt: skip


@check("P5", f"{DOC}paginated_request")
async def dates(run: Run) -> None:
    """date_from is inclusive and date_to exclusive, on last_updated."""
    way = await run.some_list()
    everything = [each for page in await _pages(way, f"?{SINCE}&limit=50") for each in page.data]
    moment = everything[len(everything) // 2]["last_updated"]
    since = {_identity(each) for page in await _pages(way, f"?date_from={moment}") for each in page.data}
    before = {_identity(each) for page in await _pages(way, f"?{SINCE}&date_to={moment}") for each in page.data}
    wanted = {_identity(each) for each in everything if each["last_updated"] >= moment}
    hold(since == wanted, expected=f"{len(wanted)} objects from {moment} on", got=f"{len(since)} objects",
         sent=f"?date_from={moment}")  # fmt: skip
    rest = {_identity(each) for each in everything} - wanted
    hold(before == rest, expected=f"{len(rest)} objects before {moment}", got=f"{len(before)} objects",
         sent=f"?date_to={moment}")  # fmt: skip


@check("P6", "mod_sessions.asciidoc#mod_sessions_cpo_get_request_parameters", roles=CPO)
async def sessions_need_date_from(run: Run) -> None:
    """Sessions without date_from are answered S 2001: it is required there."""
    if run.target.role == "HUB":
        emsp = await run.emsp()
        await run.everybody()
        expect(await (await run.to_hub(emsp, "sessions", "SENDER")).call("GET"), http=200, code=2001)
    expect(await (await run.way("sessions", "SENDER")).call("GET"), http=200, code=2001)


@check("P7", f"{DOC}pagination")
async def order(run: Run) -> None:
    """Objects come oldest first, and one that is added meanwhile hides none."""
    way = await run.some_list()
    everything = [each for page in await _pages(way, f"?{SINCE}&limit=50") for each in page.data]
    stamps = [each["last_updated"] for each in everything]
    hold(stamps == sorted(stamps), expected="last_updated in rising order", got=str(stamps), sent="GET list")
    first = await _page(way, f"?{SINCE}&limit=2")
    if run.target.role == "HUB":
        try:
            await run.stranger("EMSP")  # a party that is invited is a new object of the list
        except NotApplicable:
            return
    following = next_page(first.headers.get("link"))
    rest = await _pages(way, following) if following else []
    seen = [_identity(each) for page in [first, *rest] for each in page.data]
    missing = {_identity(each) for each in everything} - set(seen)
    hold(not missing and len(seen) == len(set(seen)), expected="each object once", got=f"without {missing}",
         sent=first.sent)  # fmt: skip


def _identity(each: dict[str, Any]) -> tuple[str, ...]:
    names = ("country_code", "party_id", "role", "id", "uid")
    return tuple(str(each[name]) for name in names if name in each)


async def _page(way: Way, query: str) -> Answer:
    answer = expect(await way.call("GET", query), http=200, code=SUCCESS)
    hold(isinstance(answer.data, list), expected="a list in data", got=answer)
    return answer


async def _pages(way: Way, query: str) -> list[Answer]:
    pages = [await _page(way, query)]
    while (following := next_page(pages[-1].headers.get("link"))) is not None:
        hold(len(pages) < PAGES_MAX, expected=f"an end within {PAGES_MAX} pages", got="one more", sent=pages[0].sent)
        pages.append(await _page(way, following))
    return pages
