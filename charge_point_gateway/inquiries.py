"""What a station's message needs to know about certificates before it is answered, and what was found out.

The message says what it needs; `vehicle_certificates` asks the world; the message makes its answer of what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractShown:
    """An EV showed a contract certificate (C07).

    Attributes:
        emaid: Whom the station says the contract belongs to.
        certificate: The chain in PEM, the leaf first; None where the station has verified it and sends hashes alone.
        hash_data: OCSPRequestDataType of its certificates, as it came.
    """

    emaid: str
    certificate: str | None
    hash_data: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractVerdict:
    """AuthorizeCertificateStatusEnumType: `Accepted` and nothing else lets the back office decide."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAsked:
    """A station asks whether certificates are revoked (M06, M07); `hash_data` is CertificateHashDataType as it came."""

    hash_data: dict[str, Any]
    source: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFound:
    """What is known of one of them: CertificateStatusEnumType; `Failed` where no answer could be had or believed.

    `der` is the OCSP response itself; `next_update` is when it is worth asking again.
    """

    status: str
    next_update: datetime
    der: bytes = b""


@dataclass(frozen=True, slots=True)
class ChainStatusAsked:
    """All that one message asks."""

    requests: tuple[StatusAsked, ...]


@dataclass(frozen=True, slots=True)
class ChainStatusFound:
    """What is known of each, in their order."""

    statuses: tuple[StatusFound, ...]


@dataclass(frozen=True, slots=True)
class ContractWanted:
    """An EV wants a contract certificate (M01, M02); `payload` is Get15118EVCertificateRequest."""

    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContractProvided:
    """What the contract provisioning service said: Get15118EVCertificateResponse; None: nothing that can be used."""

    payload: dict[str, Any] | None


Inquiry = ContractShown | ChainStatusAsked | ContractWanted
Finding = ContractVerdict | ChainStatusFound | ContractProvided
