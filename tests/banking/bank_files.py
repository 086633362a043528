"""A bank that writes camt files, as far as entries go, and companies with accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from emobility.domain.banking.account import BankAccount

TNM: Final = BankAccount(name="TankNaM B.V.", iban="NL91ABNA0417164300", bic="ABNANL2A", currency="EUR")
ZON: Final = BankAccount(name="Zon & Lädt GmbH", iban="DE89370400440532013000", bic=None, currency="EUR")
CAMT_053: Final = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
CAMT_054: Final = "urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"


def entry(
    end_to_end_id: str | None,
    amount: str,
    *,
    reference: str,
    way: str = "CRDT",
    on: date = date(2026, 12, 1),
    currency: str = "EUR",
    status: str = "BOOK",
    reason: str | None = None,
) -> str:
    """An entry of one transaction; with a reason it is a return."""
    said = f"<EndToEndId>{end_to_end_id}</EndToEndId>" if end_to_end_id else ""
    returned = f"<RtrInf><Rsn><Cd>{reason}</Cd></Rsn></RtrInf>" if reason else ""
    details = f"<NtryDtls><TxDtls><Refs>{said}</Refs>{returned}</TxDtls></NtryDtls>"
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{way}</CdtDbtInd><Sts><Cd>{status}</Cd></Sts>'
        f"<BookgDt><Dt>{on.isoformat()}</Dt></BookgDt><AcctSvcrRef>{reference}</AcctSvcrRef>"
        f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f"{details}</Ntry>"
    )


def camt(entries: Sequence[str], *, iban: str = TNM.iban, namespace: str = CAMT_053) -> bytes:
    """A file that holds them."""
    message, statement = ("BkToCstmrStmt", "Stmt") if namespace == CAMT_053 else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    balance = (
        '<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">0.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
        "<Dt><Dt>2026-12-01</Dt></Dt></Bal>"
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="{namespace}"><{message}>'
        "<GrpHdr><MsgId>MSG-1</MsgId><CreDtTm>2026-12-01T22:00:00Z</CreDtTm></GrpHdr>"
        f"<{statement}><Id>1</Id><CreDtTm>2026-12-01T22:00:00Z</CreDtTm><Acct><Id><IBAN>{iban}</IBAN></Id></Acct>"
        f"{balance if statement == 'Stmt' else ''}{''.join(entries)}</{statement}></{message}></Document>"
    ).encode()
