"""The authorisation table, cell by cell, against a table written down by itself.

Each line: whitelist, token, means, what stands between CPO and eMSP -> answer, asked?, may be cached?
`r` RFID, `a` app, `p` Plug and Charge. `=` stands for the eMSP's own answer.
"""

from __future__ import annotations

import itertools

import pytest

from emobility.domain.authorization import (
    DECISION_TABLE,
    Answer,
    Decision,
    DecisionReason,
    EMSPContact,
    Means,
    TokenState,
    decide,
    must_ask,
)
from emobility.domain.token import Whitelist

LETTER = {Means.RFID: "r", Means.APP: "a", Means.PLUG_AND_CHARGE: "p"}
EMSP_ANSWERS = {
    EMSPContact.ALLOWED: "Accepted",
    EMSPContact.BLOCKED: "Blocked",
    EMSPContact.EXPIRED: "Expired",
    EMSPContact.NO_CREDIT: "NoCredit",
    EMSPContact.NOT_ALLOWED: "NotAtThisLocation",
    EMSPContact.TOKEN_UNKNOWN: "Unknown",
}
EXPECTED = """
ALWAYS          valid    rp  answers   Accepted  -     cache
ALWAYS          valid    a   answers   Accepted  -     -
ALWAYS          valid    rp  timeout   Accepted  -     cache
ALWAYS          valid    a   timeout   Accepted  -     -
ALWAYS          valid    rp  hub       Accepted  -     cache
ALWAYS          valid    a   hub       Accepted  -     -
ALWAYS          valid    rp  station   Accepted  -     cache
ALWAYS          valid    a   station   Accepted  -     -
ALWAYS          invalid  rap answers   Blocked   -     -
ALWAYS          invalid  rap timeout   Blocked   -     -
ALWAYS          invalid  rap hub       Blocked   -     -
ALWAYS          invalid  rap station   Blocked   -     -
ALLOWED         valid    rp  answers   Accepted  -     cache
ALLOWED         valid    a   answers   Accepted  -     -
ALLOWED         valid    rp  timeout   Accepted  -     cache
ALLOWED         valid    a   timeout   Accepted  -     -
ALLOWED         valid    rp  hub       Accepted  -     cache
ALLOWED         valid    a   hub       Accepted  -     -
ALLOWED         valid    rp  station   Accepted  -     cache
ALLOWED         valid    a   station   Accepted  -     -
ALLOWED         invalid  rp  answers   =         asked cache
ALLOWED         invalid  a   answers   =         asked -
ALLOWED         invalid  rap timeout   Blocked   asked -
ALLOWED         invalid  rap hub       Blocked   asked -
ALLOWED         invalid  rap station   Blocked   -     -
ALLOWED_OFFLINE valid    rp  answers   =         asked cache
ALLOWED_OFFLINE valid    a   answers   =         asked -
ALLOWED_OFFLINE valid    rp  timeout   Accepted  asked cache
ALLOWED_OFFLINE valid    a   timeout   Accepted  asked -
ALLOWED_OFFLINE valid    rp  hub       Accepted  asked cache
ALLOWED_OFFLINE valid    a   hub       Accepted  asked -
ALLOWED_OFFLINE valid    rp  station   Accepted  -     cache
ALLOWED_OFFLINE valid    a   station   Accepted  -     -
ALLOWED_OFFLINE invalid  rp  answers   =         asked cache
ALLOWED_OFFLINE invalid  a   answers   =         asked -
ALLOWED_OFFLINE invalid  rap timeout   Blocked   asked -
ALLOWED_OFFLINE invalid  rap hub       Blocked   asked -
ALLOWED_OFFLINE invalid  rap station   Blocked   -     -
NEVER           valid    rap answers   =         asked -
NEVER           valid    rap timeout   Invalid   asked -
NEVER           valid    rap hub       Invalid   asked -
NEVER           valid    rap station   Invalid   -     -
NEVER           invalid  rap answers   =         asked -
NEVER           invalid  rap timeout   Invalid   asked -
NEVER           invalid  rap hub       Invalid   asked -
NEVER           invalid  rap station   Invalid   -     -
*               unknown  ra  answers   Unknown   -     -
*               unknown  ra  timeout   Unknown   -     -
*               unknown  ra  hub       Unknown   -     -
*               unknown  ra  station   Unknown   -     -
*               unknown  p   answers   =         asked -
*               unknown  p   timeout   Unknown   asked -
*               unknown  p   hub       Unknown   asked -
*               unknown  p   station   Unknown   -     -
"""
TOKENS = {"valid": TokenState.CACHED_VALID, "invalid": TokenState.CACHED_INVALID, "unknown": TokenState.UNKNOWN}
CONTACTS = {
    "answers": tuple(EMSP_ANSWERS),
    "timeout": (EMSPContact.TIMED_OUT,),
    "hub": (EMSPContact.HUB_OFFLINE,),
    "station": (EMSPContact.STATION_OFFLINE,),
}
CELLS = list(itertools.product(Whitelist, TokenState, Means, EMSPContact))


def expected_cells() -> dict[tuple[Whitelist, TokenState, Means, EMSPContact], tuple[str, bool, bool]]:
    cells: dict[tuple[Whitelist, TokenState, Means, EMSPContact], tuple[str, bool, bool]] = {}
    for line in EXPECTED.strip().splitlines():
        whitelist, token, letters, contact, answer, asked, cache = line.split()
        lists = tuple(Whitelist) if whitelist == "*" else (Whitelist(whitelist),)
        ways = [means for means, letter in LETTER.items() if letter in letters]
        for each, means, stands in itertools.product(lists, ways, CONTACTS[contact]):
            said = EMSP_ANSWERS[stands] if answer == "=" else answer
            cell = (each, TOKENS[token], means, stands)
            assert cell not in cells, f"{cell} stands twice in the expected table"
            cells[cell] = (said, asked == "asked", cache == "cache" and said == "Accepted")
    return cells


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_each_cell_is_decided_as_written_down(cell: tuple[Whitelist, TokenState, Means, EMSPContact]) -> None:
    whitelist, token, means, contact = cell

    decision = decide(whitelist=whitelist, token=token, means=means, contact=contact)

    assert (decision.answer, decision.ask_emsp, decision.may_cache) == expected_cells()[cell]


def test_the_table_has_no_gap_and_no_cell_twice() -> None:
    rows = {cell: [row for row in DECISION_TABLE if row.holds_for(*cell)] for cell in CELLS}

    assert len(CELLS) == 4 * 3 * 3 * 9
    assert {cell: len(found) for cell, found in rows.items() if len(found) != 1} == {}
    assert set(expected_cells()) == set(CELLS)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_without_an_agreement_nobody_whose_emsp_is_known_gets_in(
    cell: tuple[Whitelist, TokenState, Means, EMSPContact],
) -> None:
    whitelist, token, means, contact = cell

    decision = decide(whitelist=whitelist, token=token, means=means, contact=contact, has_agreement=False)

    assert not decision.is_accepted
    assert not decision.ask_emsp
    if token is not TokenState.UNKNOWN:
        assert decision.reason is DecisionReason.NO_AGREEMENT


def test_a_commanded_start_needs_no_second_authorisation_and_is_never_cached() -> None:
    decision = decide(
        whitelist=Whitelist.NEVER,
        token=TokenState.UNKNOWN,
        means=Means.APP,
        contact=EMSPContact.HUB_OFFLINE,
        is_commanded=True,
    )

    assert decision.is_accepted
    assert not decision.ask_emsp
    assert not decision.may_cache


def test_a_command_does_not_replace_an_agreement() -> None:
    decision = decide(
        whitelist=Whitelist.ALWAYS,
        token=TokenState.CACHED_VALID,
        means=Means.APP,
        contact=EMSPContact.ALLOWED,
        is_commanded=True,
        has_agreement=False,
    )

    assert decision.reason is DecisionReason.NO_AGREEMENT


def test_a_real_time_token_is_never_kept_by_a_station() -> None:
    kept = [cell for cell in CELLS if cell[0] is Whitelist.NEVER and decide_cell(cell).may_cache]

    assert kept == []


def decide_cell(cell: tuple[Whitelist, TokenState, Means, EMSPContact]) -> Decision:
    whitelist, token, means, contact = cell
    return decide(whitelist=whitelist, token=token, means=means, contact=contact)


def test_only_a_refusal_has_another_word_than_accepted() -> None:
    for cell in CELLS:
        decision = decide(whitelist=cell[0], token=cell[1], means=cell[2], contact=cell[3])
        assert decision.is_accepted == (decision.answer is Answer.ACCEPTED)


@pytest.mark.parametrize("whitelist", Whitelist)
def test_a_valid_card_is_asked_about_only_where_the_whitelist_says_so(whitelist: Whitelist) -> None:
    asks = must_ask(whitelist=whitelist, token=TokenState.CACHED_VALID, means=Means.RFID)

    assert asks == (whitelist in {Whitelist.ALLOWED_OFFLINE, Whitelist.NEVER})
