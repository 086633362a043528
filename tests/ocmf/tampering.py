"""Change one digit of signed meter records, on all curves, and count what is believed.

`python -m tests.ocmf.tampering --changes 100000` is part of `make fuzz`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter

from emobility.protocols.ocmf import OCMFRefused, verify_charge
from tests.ocmf.meter import Meter, meters, value

BEGIN_WH, END_WH = 1_234_500, 1_240_125


def charge(meter: Meter) -> list[str]:
    """The records of a charge from `BEGIN_WH` to `END_WH`."""
    return [
        meter.record(100, value("B", "1234.500", 0)),
        meter.record(101, value("C", "1236.000", 15)),
        meter.record(102, value("E", "1240.125", 30)),
    ]


def tamper(changes: int, *, seed: int) -> Counter[str]:
    """Return how many one-digit changes were refused by which rule; `ACCEPTED` counts those that were believed."""
    chance = random.Random(seed)
    known = [(meter.public_key, charge(meter)) for meter in meters()]
    for public_key, records in known:
        verify_charge(records, public_key_hex=public_key, begin_wh=BEGIN_WH, end_wh=END_WH)
    found: Counter[str] = Counter()
    for number in range(changes):
        public_key, records = known[number % len(known)]
        which = chance.randrange(len(records))
        record = records[which]
        place = chance.choice([index for index, letter in enumerate(record) if letter.isdigit()])
        digit = chance.choice([digit for digit in "0123456789" if digit != record[place]])
        tampered = list(records)
        tampered[which] = f"{record[:place]}{digit}{record[place + 1 :]}"
        try:
            # The changed one first: the check of the charge ends with it.
            changed_first = [tampered.pop(which), *tampered]
            verify_charge(changed_first, public_key_hex=public_key, begin_wh=BEGIN_WH, end_wh=END_WH)
            found["ACCEPTED"] += 1
        except OCMFRefused as refusal:
            found[refusal.rule.value] += 1
    return found


def main() -> int:
    """Print the count; fail when anything was believed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    asked = parser.parse_args()
    found = tamper(asked.changes, seed=asked.seed)
    accepted = found["ACCEPTED"]
    refused = ", ".join(f"{rule} {count}" for rule, count in sorted(found.items()) if rule != "ACCEPTED")
    sys.stdout.write(
        f"{asked.changes} one-digit changes of signed meter records (seed {asked.seed}): "
        f"{accepted} accepted; refused: {refused}\n"
    )
    return 1 if accepted else 0


if __name__ == "__main__":
    sys.exit(main())
