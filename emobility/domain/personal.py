"""Personal data at rest: sealed under the key of the subject it identifies, found by a keyed hash.

A `Sealed` value is what events and rows carry instead of an idToken, a contract id, a raw frame or OCMF bytes
(GDPR art. 25). Opening it needs the subject's key, which lives outside the event log; once that key is destroyed
the value is noise wherever it was copied to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emobility.domain.errors import RuleBroken


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Ciphertext of one personal value.

    Attributes:
        subject: Keyed hash (hex) of the identifier that names the person; the same person, the same subject.
            Equal subjects mean equal identifiers, so rows are looked up by it.
        box: Nonce and authenticated ciphertext.
    """

    subject: str
    box: bytes


class SubjectErased(RuleBroken):
    """The subject's key was destroyed: the value can't be read any more, by anyone."""

    def __init__(self, *, subject: str) -> None:
        self.subject = subject
        super().__init__(f"the data of subject {subject[:12]} were erased")


class SubjectRestricted(RuleBroken):
    """The person was erased but for evidence that the law makes us keep: only its own use may read it."""

    def __init__(self, *, subject: str, until: datetime) -> None:
        self.subject = subject
        self.until = until
        super().__init__(f"the data of subject {subject[:12]} are restricted until {until.isoformat()}")
