"""`wattroam ledger check`: carry a ledger out, and hold it against heads that somebody kept.

Needs no database, no secret and no installation. A head counts only with the operator's signature under it, so nobody
can accuse an operator by a file that he wrote himself.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Final

from emobility.adapters.chain_signing import recovered_address
from emobility.adapters.cosigned_ledger.exported import keep_head, open_exported, read_heads
from emobility.adapters.cosigned_ledger.replica import LedgerBroken, Replica
from emobility.domain.cosigned_ledger import Head, Rewrite, forked, rewritten

REFUSED: Final = 1


def run_check(file: Path, *, kept: Sequence[Path], keep: Path | None) -> int:
    """Tell what a ledger is and whether it goes against kept heads; return 0 when it does not, else 1.

    Raises:
        MalformedLedgerFile: a file holds no ledger, or no heads.
        OSError: a file can't be read or written.
    """
    write = sys.stdout.write
    try:
        replica = open_exported(file).replica
    except LedgerBroken as broken:
        write(f"REFUSED: {broken}\n")
        return REFUSED
    write(f"ledger {replica.ledger_id} of 0x{replica.operator.hex()}\n")
    head = replica.head
    write(f"{head.number + 1} entries, each carried out; the newest, {head.number}, has hash 0x{head.hash.hex()}\n")
    write(f"by the operator's word it was entered at {_moment(head.timestamp_s)}\n")
    digest = Head.of(replica.ledger_id, head).digest
    write(f"to countersign it, a party's account signs 0x{digest.hex()}\n")
    for each in replica.countersignatures:
        write(f"0x{each.signer.hex()} countersigned entry {each.number}\n")
    all_kept = [each for path in (*kept, *((keep,) if keep is not None else ())) for each in read_heads(path)]
    told = against(replica, all_kept)
    for line in told:
        write(f"REFUSED: {line}\n")
    if told:
        return REFUSED
    write(f"it goes against none of {len(all_kept)} kept heads\n")
    if keep is not None:
        keep_head(keep, Head.of(replica.ledger_id, head))
    return 0


def against(replica: Replica, kept: Sequence[Head]) -> list[str]:
    """Return, sentence by sentence, how a ledger goes against kept heads, and these against each other."""
    heads, told = replica.heads(), list[str]()
    places: dict[tuple[int, int], list[Head]] = defaultdict(list)
    for each in kept:
        places[each.ledger_id, each.number].append(each)
        if each.ledger_id != replica.ledger_id:
            told.append(f"a kept head is of ledger {each.ledger_id}, this is {replica.ledger_id}")
            continue
        if recovered_address(each.digest, each.signature) != replica.operator:
            told.append(f"the kept head {each.number} is not signed by the ledger's operator; it proves nothing")
            continue
        found = rewritten(each, heads, operator=replica.operator, recover=recovered_address)
        if found is not None:
            told.append(sentence(found))
    told += [
        _proof(one, other)
        for place in places.values()
        for one, other in combinations(dict.fromkeys(place), 2)
        if forked(one, other, operator=replica.operator, recover=recovered_address)
    ]
    return list(dict.fromkeys(told))


def sentence(found: Rewrite) -> str:
    """Say what a rewrite is, and what proves it."""
    if found.shown is None:
        return (
            f"the operator signed entry {found.kept.number} as 0x{found.kept.hash.hex()} and now shows a shorter ledger"
        )
    return _proof(found.kept, found.shown)


def _moment(timestamp_s: int) -> str:
    try:
        return f"{datetime.fromtimestamp(timestamp_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_s} s after 1970, which no calendar has"


def _proof(one: Head, other: Head) -> str:
    return (
        f"the operator signed two entries {one.number}: 0x{one.hash.hex()} (signature {one.signature.hex()}) and "
        f"0x{other.hash.hex()} (signature {other.signature.hex()}); the two signatures prove it to anybody"
    )
