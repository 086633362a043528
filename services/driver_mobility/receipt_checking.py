"""Check receipts as `wattroam verify` does, for people: what each check proves, and whom one must trust for what.

Beyond that, an MSP knows which key is its own. A file brings the key that signed it, so by itself it can't show that
the key is the seller's; here only what this MSP signed is looked at, whoever it says is the seller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from emobility.domain.errors import Unavailable
from emobility.domain.identifiers import PartyId
from emobility.domain.receipt.checking import Check, Finding, Verdict, verify_receipt
from emobility.domain.receipt.document import Receipt
from emobility.ports.ports import Ports
from emobility.ports.signer import Signer
from emobility.protocols.receipts import MeterProofs
from services.driver_mobility.receipts import fingerprint_of

CHECKED_AT_ONCE: Final = 2
"""Files checked at once, in threads; a receipt of our own takes milliseconds, its meter records a few more each."""
WAITING_MAX: Final = 50
"""Files that are checked or wait for it."""


class ChecksBusy(Unavailable):
    """`WAITING_MAX` files are being looked at."""

    def __init__(self) -> None:
        super().__init__("too many files at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """What was found about a file. `receipt` is None where the file is none; then nothing of it may be shown."""

    fingerprint: str
    receipt: Receipt | None
    findings: tuple[Finding, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether nothing was refused."""
        return all(finding.verdict is not Verdict.REFUSED for finding in self.findings)


class ReceiptChecking:
    """Checks files against an MSP's own key."""

    def __init__(self, ports: Ports) -> None:
        self._signer = ports.signer
        self._checking = asyncio.Semaphore(CHECKED_AT_ONCE)
        self._waiting = 0

    async def check(self, emsp_id: PartyId, written: bytes) -> CheckedFile:
        """Check a file in a thread. No unit may be open. Raises `ChecksBusy`."""
        if self._waiting >= WAITING_MAX:
            raise ChecksBusy
        proofs = _ProofsOf(self._signer, await self._signer.public_key(emsp_id))
        self._waiting += 1
        try:
            async with self._checking:
                verification = await asyncio.to_thread(verify_receipt, written, proofs)
        finally:
            self._waiting -= 1
        findings = verification.findings
        if verification.receipt is not None and verification.receipt.record.seller != emsp_id.code:
            findings = (findings[0], _of_another(verification.receipt, emsp_id))
        return CheckedFile(fingerprint=fingerprint_of(written), receipt=verification.receipt, findings=findings)


class _ProofsOf(MeterProofs):
    """`Proofs` to whom no key but one MSP's own has signed anything."""

    def __init__(self, signer: Signer, own_key: str) -> None:
        self._signer = signer
        self._own_key = own_key

    def is_signed(self, *, public_key: str, message: bytes, signature: str) -> bool:
        """Tell whether the MSP itself signed the message."""
        return public_key == self._own_key and self._signer.is_valid(
            public_key=public_key, message=message, signature=signature
        )


def _of_another(receipt: Receipt, emsp_id: PartyId) -> Finding:
    says = (
        f"This names {receipt.record.seller} as its seller. Whether it is theirs can't be told here, where only "
        f"{emsp_id}'s key is known: ask {receipt.record.seller}, or check it with wattroam verify and a chain."
    )
    return Finding(check=Check.SIGNATURE, verdict=Verdict.REFUSED, says=says)


# In plain words


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A check for people: what it asks, and whom one must trust for the answer."""

    asks: str
    trust: str


EXPLAINED: Final[Mapping[Check, Explained]] = {
    Check.FORM: Explained(
        asks="Is the file whole?",
        trust="Nobody: a receipt can be written in one way only, and anyone can write it again and compare.",
    ),
    Check.SIGNATURE: Explained(
        asks="Does the seller stand by every byte?",
        trust="The seller, for which key is its own: this page compares the file's key with the seller's.",
    ),
    Check.QUOTE: Explained(
        asks="Is the price the one that was agreed?",
        trust="The seller, for the date: it dates its quotes itself. Compare it with the quote on your phone.",
    ),
    Check.PRICE: Explained(
        asks="Is the arithmetic right?",
        trust="Nobody for the arithmetic, which is done again here. The operator of the station, for the times and "
        "energy that it starts from.",
    ),
    Check.ENERGY: Explained(
        asks="Does the energy add up?",
        trust="The operator of the station, unless the meter itself signed what it measured.",
    ),
    Check.METER: Explained(
        asks="Did the meter sign what is billed?",
        trust="Whoever says that the key in the file is that meter's: the operator of the station, or the calibration "
        "office where it publishes meters' keys.",
    ),
    Check.STATEMENT: Explained(
        asks="Is this very charge in what the two companies settle?",
        trust="Nobody for the way from the charge to the statement. That both companies signed the statement, only the "
        "chain shows.",
    ),
    Check.CHAIN: Explained(
        asks="Have both companies signed it, and is it final?",
        trust="Nobody, if you look yourself: any node that you trust will do. Compare the address of the book with the "
        "one that its operator publishes.",
    ),
}
VERDICTS: Final[Mapping[Verdict, str]] = {
    Verdict.HOLDS: "Yes",
    Verdict.REFUSED: "No",
    Verdict.UNPROVEN: "Not shown by this file",
}


def shown_checks(checked: CheckedFile) -> list[dict[str, str]]:
    """Return the findings for a page; the last, where nothing is refused, is how to look at the chain."""
    shown = [_shown(finding) for finding in checked.findings]
    if checked.receipt is not None and checked.is_accepted:
        look = Finding(check=Check.CHAIN, verdict=Verdict.UNPROVEN, says=where_to_look(checked.receipt))
        shown.append({**_shown(look), "verdict": "Look yourself"})
    return shown


def where_to_look(receipt: Receipt) -> str:
    """Say where on which chain the statement of a receipt is."""
    chain = receipt.chain
    return (
        f"Statement {receipt.statement.sequence} is in the book 0x{chain.book} on chain {chain.chain_id}, proposed by "
        f"transaction 0x{chain.transaction}, at place {chain.position} of its batch."
    )


def _shown(finding: Finding) -> dict[str, str]:
    explained = EXPLAINED[finding.check]
    return {
        "check": finding.check.value,
        "asks": explained.asks,
        "verdict": VERDICTS[finding.verdict],
        "says": finding.says,
        "trust": explained.trust,
    }
