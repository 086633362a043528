"""`wattroam verify`: check receipts from their files alone and, with an endpoint or a ledger, where they are settled.

Needs no database, no secret and no installation: whoever holds a receipt can run it.
"""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emobility.adapters.cosigned_ledger.exported import open_exported
from emobility.adapters.cosigned_ledger.ledger import ReplicaReader
from emobility.adapters.ethereum import open_ethereum
from emobility.adapters.receipt_proofs import ReceiptProofs
from emobility.domain.errors import RuleBroken
from emobility.domain.receipt.ad_hoc import is_ad_hoc, verify_ad_hoc_receipt
from emobility.domain.receipt.checking import Check, Finding, Verdict, verify_receipt
from emobility.domain.receipt.document import RECEIPT_BYTES_MAX
from emobility.ports.chain import ChainReader
from emobility.protocols.ledger_receipts import verify_in_ledger
from emobility.protocols.receipts import verify_on_chain

REFUSED: Final = 1
OFFLINE: Final = (
    "Whether the statement is final only the chain can tell: name an endpoint with --rpc, or a ledger with --ledger."
)


class NoReceipts(RuleBroken):
    """A folder without receipts."""


class FileTooLarge(RuleBroken):
    """A file that can be no receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found about one file."""

    path: Path
    findings: tuple[Finding, ...]
    is_settled: bool = True
    """Whether it is of a charge that companies settle between them, so that a chain can confirm it."""

    @property
    def is_accepted(self) -> bool:
        """Whether nothing was refused, and the chain, if it was asked, confirms it."""
        return all(
            each.verdict is Verdict.HOLDS if each.check is Check.CHAIN else each.verdict is not Verdict.REFUSED
            for each in self.findings
        )

    @property
    def is_confirmed(self) -> bool:
        """Whether a chain or a ledger was asked and has its statement as final."""
        return any(each.check is Check.CHAIN and each.verdict is Verdict.HOLDS for each in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "file": str(self.path),
            "accepted": self.is_accepted,
            "findings": [
                {"check": each.check.value, "verdict": each.verdict.value, "says": each.says} for each in self.findings
            ],
        }


def run_verify(*, paths: Sequence[Path], rpc_url: str | None, json: bool, ledger: Path | None = None) -> int:
    """Check receipts and tell what each check proves; return 0 when none is refused, else 1.

    Raises:
        NoReceipts: a folder holds none.
        FileTooLarge: a file is larger than any receipt.
        ChainUnavailable: the endpoint does not answer.
        MalformedLedgerFile: what is named as a ledger is none.
        LedgerBroken: an entry of the ledger does not follow from those before it.
        OSError: a file can't be read.
    """
    verified = asyncio.run(_verify(_files(paths), rpc_url, ledger))
    if json:
        sys.stdout.write(json_module.dumps([each.as_json() for each in verified], indent=1) + "\n")
    else:
        tell(verified, is_online=rpc_url is not None or ledger is not None)
    return 0 if all(each.is_accepted for each in verified) else REFUSED


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise NoReceipts(f"{path} holds no receipts (*.json)")
        files += found
    return files


async def _verify(files: Sequence[Path], rpc_url: str | None, ledger: Path | None) -> list[Verified]:
    async with AsyncExitStack() as stack:
        chain: ChainReader | None = None if ledger is None else open_exported(ledger)
        if rpc_url is not None:
            chain = await stack.enter_async_context(open_ethereum(rpc_url))
        return [await _verified(path, chain) for path in files]


def _read(path: Path) -> bytes:
    if path.stat().st_size > RECEIPT_BYTES_MAX:
        raise FileTooLarge(f"{path} is larger than {RECEIPT_BYTES_MAX} bytes; no receipt is")
    return path.read_bytes()


async def _verified(path: Path, chain: ChainReader | None) -> Verified:
    written = _read(path)
    if is_ad_hoc(written):
        return Verified(path=path, findings=verify_ad_hoc_receipt(written, ReceiptProofs()).findings, is_settled=False)
    verification = verify_receipt(written, ReceiptProofs())
    findings = verification.findings
    if chain is not None and verification.receipt is not None and verification.is_accepted:
        asked = (
            verify_in_ledger(verification.receipt, chain)
            if isinstance(chain, ReplicaReader)
            else verify_on_chain(verification.receipt, chain)
        )
        findings = (*findings, await asked)
    return Verified(path=path, findings=findings)


def tell(verified: Sequence[Verified], *, is_online: bool) -> None:
    """Tell all of one file; of several all that was refused, and one line of each other."""
    write = sys.stdout.write
    for each in verified:
        write(f"{_printable(str(each.path))}: {'accepted' if each.is_accepted else 'REFUSED'}\n")
        if len(verified) > 1 and each.is_accepted:
            continue
        for finding in each.findings:
            write(f"  {finding.check.value:<10}{finding.verdict.value:<10}{_printable(finding.says)}\n")
    if len(verified) > 1:
        accepted = sum(each.is_accepted for each in verified)
        write(f"{accepted} of {len(verified)} receipts accepted\n")
        if is_online:
            confirmed = sum(each.is_confirmed for each in verified)
            write(f"CHAIN holds in {confirmed} of them\n")
        unproven = Counter(
            finding.check.value
            for each in verified
            if each.is_accepted
            for finding in each.findings
            if finding.verdict is Verdict.UNPROVEN
        )
        for check, count in sorted(unproven.items()):
            write(f"{check} is unproven in {count} of them\n")
    if not is_online and any(each.is_accepted and each.is_settled for each in verified):
        write(f"{OFFLINE}\n")


def _printable(text: str) -> str:
    """Return a text with what a terminal would obey written out: a file's own words must not pass for a finding."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
