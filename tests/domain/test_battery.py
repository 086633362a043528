from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobility.domain.battery import (
    LIFE,
    CommitmentDiffers,
    Entry,
    Kind,
    LifeRecord,
    MalformedEntry,
    OutOfOrder,
    Phase,
    Status,
    UnsuitableStatus,
    battery_id,
    committed,
    life_of,
    next_head,
    proven_life,
)

T0: Final = datetime(2022, 3, 28, tzinfo=UTC)
CUSTODIAN: Final = b"\7" * 20
PACK: Final = battery_id("DE:ACC:0001", salt=b"\1" * 32)
KINDS: Final = st.lists(st.sampled_from(Kind), max_size=12)


def an_entry(kind: Kind, *, status: Status = Status.ORIGINAL, minutes: int = 0, commitment: bytes = bytes(32)) -> Entry:
    at = T0 + timedelta(minutes=minutes)
    return Entry(kind=kind, status=status, happened_at=at, custodian=CUSTODIAN, commitment=commitment)


MADE: Final = an_entry(Kind.MANUFACTURED)


def test_a_pack_lives_from_its_manufacture_to_its_end() -> None:
    life = life_of(
        PACK,
        [
            MADE,
            an_entry(Kind.SWAPPED_IN, minutes=1),
            an_entry(Kind.CHARGED, minutes=2),
            an_entry(Kind.SWAPPED_OUT, minutes=3),
            an_entry(Kind.RETIRED, minutes=4),
            an_entry(Kind.SECOND_LIFE, status=Status.REPURPOSED, minutes=5),
            an_entry(Kind.RETIRED, status=Status.WASTE, minutes=6),
            an_entry(Kind.RECYCLED, status=Status.WASTE, minutes=7),
        ],
    )

    assert (life.phase, life.status, life.entries) == (Phase.RECYCLED, Status.WASTE, 8)


@given(kinds=KINDS)
def test_no_battery_is_put_in_twice_and_nothing_comes_after_the_end(kinds: list[Kind]) -> None:
    taken, installed, ended = [MADE], False, False
    for kind in kinds:
        status = Status.WASTE if kind is Kind.RECYCLED else Status.ORIGINAL
        try:
            life_of(PACK, [*taken, an_entry(kind, status=status)])
        except (OutOfOrder, UnsuitableStatus):
            continue
        assert not ended
        assert not (installed and kind in {Kind.INSTALLED, Kind.SWAPPED_IN})
        assert installed or kind is not Kind.SWAPPED_OUT
        taken.append(an_entry(kind, status=status))
        installed = kind in {Kind.INSTALLED, Kind.SWAPPED_IN} or (
            installed and kind not in {Kind.SWAPPED_OUT, Kind.RETIRED}
        )
        ended = kind is Kind.RECYCLED


def test_every_phase_but_the_last_has_a_way_out() -> None:
    assert {phase for phase, kinds in LIFE.items() if not kinds} == {Phase.RECYCLED}


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (Kind.CHARGED, Status.ORIGINAL, Status.REUSED),
        (Kind.RETIRED, Status.ORIGINAL, Status.REUSED),
        (Kind.RETIRED, Status.REUSED, Status.ORIGINAL),
    ],
)
def test_a_status_changes_only_with_its_kind(kind: Kind, before: Status, after: Status) -> None:
    used = [an_entry(Kind.RETIRED), an_entry(Kind.SECOND_LIFE, status=before)] if before is not Status.ORIGINAL else []

    with pytest.raises(UnsuitableStatus):
        life_of(PACK, [MADE, *used, an_entry(kind, status=after)])


def test_waste_has_no_second_life() -> None:
    with pytest.raises(UnsuitableStatus):
        life_of(
            PACK,
            [
                MADE,
                an_entry(Kind.RETIRED, status=Status.WASTE),
                an_entry(Kind.SECOND_LIFE, status=Status.REUSED),
            ],
        )


def test_time_goes_forward() -> None:
    with pytest.raises(OutOfOrder):
        life_of(PACK, [MADE, an_entry(Kind.CHARGED, minutes=-1)])


@pytest.mark.parametrize("first", [an_entry(Kind.CHARGED), an_entry(Kind.MADE_OF)])
def test_a_life_begins_with_manufacture(first: Entry) -> None:
    with pytest.raises(OutOfOrder):
        life_of(PACK, [first])
    with pytest.raises(MalformedEntry):
        life_of(PACK, [])


@given(place=st.integers(0, 3), changed=st.sampled_from(["kind", "happened_at", "custodian", "commitment", "swap"]))
def test_whatever_is_changed_changes_the_head(place: int, changed: str) -> None:
    entries = [MADE, *(an_entry(Kind.CHARGED, minutes=each, commitment=bytes([each]) * 32) for each in (1, 2, 3))]
    other = list(entries)
    if changed == "swap":
        other[1], other[2] = (
            replace(entries[1], commitment=entries[2].commitment),
            replace(entries[2], commitment=entries[1].commitment),
        )
    else:
        value: Any = {
            "kind": Kind.INCIDENT if place else Kind.MANUFACTURED,
            "happened_at": entries[place].happened_at + timedelta(seconds=1),
            "custodian": b"\x08" * 20,
            "commitment": b"\x99" * 32,
        }[changed]
        other[place] = replace(entries[place], **{changed: value})

    heads = []
    for history in (entries, other):
        head = bytes(24)
        for each in history:
            head = next_head(head, PACK, each)
        heads.append(head)

    assert (heads[0] == heads[1]) == (entries == other)
    assert next_head(bytes(24), PACK, MADE) != next_head(bytes(24), PACK + 1, MADE)


def test_records_are_held_against_their_commitments() -> None:
    record = LifeRecord(document=b'{"soh_percent":91}', salt=b"\2" * 32)
    entries = [MADE, an_entry(Kind.SOH_MEASURED, minutes=1, commitment=committed(record))]

    assert proven_life(PACK, entries, {1: record}) == life_of(PACK, entries)

    for other in (replace(record, document=b'{"soh_percent":92}'), replace(record, salt=b"\3" * 32)):
        with pytest.raises(CommitmentDiffers):
            proven_life(PACK, entries, {1: other})
    with pytest.raises(CommitmentDiffers):
        proven_life(PACK, entries, {5: record})


@given(kind=st.sampled_from(Kind), status=st.sampled_from(Status), seconds=st.integers(0, 2**35))
def test_what_is_told_reads_back(kind: Kind, status: Status, seconds: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    entry = Entry(kind=kind, status=status, happened_at=at, custodian=CUSTODIAN, commitment=b"\5" * 32)

    assert Entry.of_told(entry.told, entry.commitment) == entry


@pytest.mark.parametrize("told", [14 << 208, 5 << 200, 1 << 255])
def test_what_means_nothing_is_refused(told: int) -> None:
    with pytest.raises(MalformedEntry):
        Entry.of_told(told, bytes(32))
