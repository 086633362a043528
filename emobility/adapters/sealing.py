"""The cryptography of every vault: a key per subject, wrapped under the master key, and a keyed hash for look-ups.

A text is sealed with AES-256-GCM under a nonce derived from the text by the subject's own key. The same text of the
same subject therefore gives the same box: a station that repeats a message yields the same event bytes, so the inbox
can tell a repetition from a conflict. What this shows to a reader of boxes is that one subject said the same thing
twice, which equal subjects show already. Different texts get different nonces (96 bits of HMAC-SHA-256).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from emobility.domain.errors import MalformedInput
from emobility.domain.personal import Sealed

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class BoxTampered(MalformedInput):
    """A box was not made by its subject's key, or was changed since."""

    def __init__(self, *, subject: str) -> None:
        self.subject = subject
        super().__init__(f"a box of subject {subject[:12]} does not open with its key")


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, purpose.encode(), hashlib.sha256)


class SubjectKey:
    """A subject's key, ready for use: what is derived from it serves many boxes."""

    __slots__ = ("_box", "_nonce_key")

    def __init__(self, key: bytes) -> None:
        self._box = AESGCM(_derived(key, "box"))
        self._nonce_key = _derived(key, "nonce")

    def seal(self, text: str, *, subject: str) -> Sealed:
        """Seal `text`; the subject is authenticated with it, so that a box can't be moved to another person."""
        plain = text.encode()
        nonce = hmac.digest(self._nonce_key, plain, hashlib.sha256)[:NONCE_BYTES]
        return Sealed(subject=subject, box=nonce + self._box.encrypt(nonce, plain, subject.encode()))

    def open(self, sealed: Sealed) -> str:
        """Return the text of a box. Raises `BoxTampered`."""
        nonce, ciphertext = sealed.box[:NONCE_BYTES], sealed.box[NONCE_BYTES:]
        try:
            plain = self._box.decrypt(nonce, ciphertext, sealed.subject.encode())
        except (InvalidTag, ValueError) as error:
            raise BoxTampered(subject=sealed.subject) from error
        return plain.decode()


class MasterKey:
    """Wraps subjects' keys and hashes identifiers. Whoever holds it can open what was not erased."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise AssertionError(f"a master key has {KEY_BYTES} bytes, not {len(key)}")
        self._wrapping = AESGCM(_derived(key, "wrap"))
        self._hashing = _derived(key, "subject")

    def subject_of(self, identifier: str) -> str:
        """Return the keyed hash of an identifier, case folded, as hex."""
        return hmac.digest(self._hashing, identifier.casefold().encode(), hashlib.sha256).hex()

    def wrap(self, subject_key: bytes, *, subject: str, nonce: bytes) -> bytes:
        """Encrypt a subject's key for storage; `nonce` is fresh and random, `NONCE_BYTES` long."""
        return nonce + self._wrapping.encrypt(nonce, subject_key, subject.encode())

    def unwrap(self, wrapped: bytes, *, subject: str) -> bytes:
        """Return a subject's key. Raises `BoxTampered`: another master key wrapped it."""
        try:
            return self._wrapping.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], subject.encode())
        except (InvalidTag, ValueError) as error:
            raise BoxTampered(subject=subject) from error
