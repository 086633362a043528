"""Signed OCPI messages: RFC 9421 signatures over RFC 9530 digests. Pure: no keys, no clock, no transport in here.

A **request** is signed by the party in whose name it is sent (label `ocpi`): method, target, routing headers,
X-Correlation-ID, Content-Type and the Content-Digest of the exact bytes; `created`, `nonce` and `keyid` go with it. The
target is what survives a hub, `Wattroam-Target: 2.2.1/cdrs/receiver`: version, module, interface and what follows the
endpoint, whatever URL leads there; or an absolute path, where the URL was given by the peer itself.

An **answer** is signed by the party that was asked: status, digest, whatever of `Link`, `Location`, paging and routing
it has, and the request's own signature (`;req`), so that it answers this request and no other.

A **hub** carries both as they are. What it must rewrite it signs itself (label `hub`), over the message as it leaves
and over the sender's signature; `Wattroam-Original` keeps what stood there before. So the receiver proves both: what
the sender said, and what the hub made of it. See docs/decisions/0019.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId
from emobility.ports.party_keys import KeyAlgorithm
from emobility.protocols.ocpi.structured_fields import (
    InnerList,
    Item,
    MalformedField,
    Member,
    Token,
    dictionary_written,
    parameters_written,
    read_dictionary,
    written,
)
from emobility.protocols.ocpi.v221 import InterfaceRole

DIGEST: Final = "content-digest"
SIGNATURE: Final = "signature"
SIGNATURE_INPUT: Final = "signature-input"
TARGET: Final = "wattroam-target"
ORIGINAL: Final = "wattroam-original"
CORRELATION: Final = "x-correlation-id"
ROUTING: Final = (
    "ocpi-to-country-code",
    "ocpi-to-party-id",
    "ocpi-from-country-code",
    "ocpi-from-party-id",
)
REQUEST_FIELDS: Final = (DIGEST, TARGET, CORRELATION)
"""Every signed request has these."""
REQUEST_FIELDS_IF_THERE: Final = (*ROUTING, "content-type")
RESPONSE_FIELDS_IF_THERE: Final = (*ROUTING, "content-type", "link", "location", "x-total-count", "x-limit")
HUB_MAY_CHANGE: Final = frozenset({DIGEST, TARGET, *ROUTING, "content-type", "link", "location"})
SIGNATURES_MAX: Final = 8
"""Labels of one message; more are refused."""
COVERED_MAX: Final = 64
NONCE_CHARACTERS_MAX: Final = 64
NONCE_BYTES: Final = 16
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A party's own name for a key."""
_KEY_NAME: Final = re.compile(rf"([A-Z]{{2}}-[A-Z0-9]{{3}})/({KEY_ID.pattern})")
_DIGESTS: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
"""The two that RFC 9530, 5 calls safe."""
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class NotAuthentic(MalformedInput):
    """A signature that is there does not bind this message. The sentence says what differs, to whoever sent it."""


class Label(StrEnum):
    """Whose word a signature is."""

    PARTY = "ocpi"
    """The party's in whose name the message is sent."""
    HUB = "hub"
    """That of the hub which rewrote it."""

    @property
    def tag(self) -> str:
        """RFC 9421, 2.3: keeps a signature from being taken for one of another application."""
        return f"wattroam-{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """`keyid`: a party, and its own name for one of its keys."""

    party_id: PartyId
    key_id: str

    def __str__(self) -> str:
        return f"{self.party_id}/{self.key_id}"

    @classmethod
    def read(cls, text: str) -> KeyName:
        """Read what `str` wrote. Raises `NotAuthentic`."""
        found = _KEY_NAME.fullmatch(text)
        if found is None:
            raise NotAuthentic("keyid is not 'CC-PID/key'")
        return cls(party_id=PartyId(found[1]), key_id=found[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request (`method`, `url`) or an answer (`status`). Header names in any case; a field that came more than once
    is joined by a comma and a space (RFC 9421, 2.1).
    """

    headers: Mapping[str, str]
    body: bytes = b""
    method: str | None = None
    url: str | None = None
    status: int | None = None
    fields: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        lower = {name.lower(): value.strip() for name, value in self.headers.items()}
        object.__setattr__(self, "fields", lower)


# Digests


def content_digest(body: bytes) -> str:
    """Return the `Content-Digest` of a body, empty ones too."""
    return dictionary_written({"sha-256": Item(hashlib.sha256(body).digest())})


def require_digest(message: Message) -> None:
    """Refuse a body that is not the one whose digest the message states; each digest that we know must hold.

    Raises:
        NotAuthentic: there is none, it is malformed, or it is of other bytes.
    """
    try:
        stated = read_dictionary(message.fields[DIGEST])
    except (KeyError, MalformedField) as error:
        raise NotAuthentic("Content-Digest is missing or malformed") from error
    known = {name: member for name, member in stated.items() if name in _DIGESTS}
    if not known:
        raise NotAuthentic("Content-Digest states neither sha-256 nor sha-512")
    for name, member in known.items():
        if not isinstance(member, Item) or member.value != _DIGESTS[name](message.body).digest():
            raise NotAuthentic("the body is not the one that was signed")


# Targets


def target_of(url: str, endpoints: Mapping[tuple[str, InterfaceRole], str], *, version: str) -> str:
    """Return what a request to `url` signs as its target.

    Args:
        url: Absolute.
        endpoints: The peer's (module, interface) → URL.
        version: The OCPI version that is spoken there.
    """
    below = [
        (len(base), module, side, url[len(base.rstrip("/")) :])
        for (module, side), base in endpoints.items()
        if url.startswith(base.rstrip("/")) and url[len(base.rstrip("/")) :][:1] in {"", "/", "?"}
    ]
    if below:
        _, module, side, rest = max(below)
        return endpoint_target(version, module, side, rest)
    parts = urlsplit(url)
    return plain_target(f"{parts.path}?{parts.query}")


def endpoint_target(version: str, module: str, side: str, rest: str) -> str:
    """Return the target of what lies `rest` (path and query) below an endpoint."""
    return plain_target(f"{version}/{module}/{side.lower()}{rest}")


def plain_target(text: str) -> str:
    """Return a path and query in the one spelling that is signed: RFC 3986, 6.2.2, and no slash at the path's end."""
    path, _, query = _ESCAPED.sub(_unescaped, text).partition("?")
    path = path.rstrip("/") or "/"
    return f"{path}?{query}" if query else path


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else found[0].upper()


# The signature base (RFC 9421, 2.5)


_PARAMS: Final = '"@signature-params": '


def signature_base(params: InnerList, message: Message, *, request: Message | None = None) -> bytes:
    """Return the bytes that a signature with these parameters is over.

    Raises:
        NotAuthentic: a component is covered twice, is not there, or is none that we know.
    """
    lines: dict[str, str] = {}
    for component in params.items:
        name = _identifier(component)
        if name in lines:
            raise NotAuthentic(f"{name} is covered twice")
        lines[name] = _component(component, message, request)
    base = [f"{name}: {value}" for name, value in lines.items()]
    # What `written(params)` gives: the identifiers are the written items.
    base.append(f"{_PARAMS}({' '.join(lines)}){parameters_written(params.parameters)}")
    text = "\n".join(base)
    if not text.isascii() or text.count("\n") != len(params.items):
        raise NotAuthentic("a covered value is not plain ASCII in one line")
    return text.encode()


_IDENTIFIERS: Final = {
    name: written(Item(name))
    for name in ("@method", "@status", *REQUEST_FIELDS, *REQUEST_FIELDS_IF_THERE, *RESPONSE_FIELDS_IF_THERE, ORIGINAL)
}


def _identifier(component: Item) -> str:
    """Return a component identifier as it is written; most are known."""
    name, parameters = component.value, component.parameters
    if type(name) is not str:
        return written(component)
    if not parameters:
        return _IDENTIFIERS.get(name) or written(component)
    is_of_request = parameters.get("req") is True and [*parameters] == ["key", "req"] and type(parameters["key"]) is str
    known = _IDENTIFIERS_OF_REQUEST.get((name, parameters["key"])) if is_of_request else None
    return known or written(component)


def _component(component: Item, message: Message, request: Message | None) -> str:
    name, parameters = component.value, dict(component.parameters)
    if not isinstance(name, str) or isinstance(name, Token) or name != name.lower():
        raise NotAuthentic("a component's name is a string in lower case")
    if parameters.pop("req", None) is True:
        if request is None:
            raise NotAuthentic(f'"{name}";req is not there')
        message = request
    if name.startswith("@"):
        value = None if parameters else _derived(name, message)
    else:
        key = parameters.pop("key", None)
        value = None if parameters else message.fields.get(name)
        if key is not None and value is not None:
            value = _member(value, str(key))
    if value is None:
        raise NotAuthentic(f"{written(component)} is not there")
    return value


def _derived(name: str, message: Message) -> str | None:
    if name == "@method":
        return message.method
    if name == "@status":
        return None if message.status is None else str(message.status)
    if message.url is None:
        return None
    parts = urlsplit(message.url)
    return {
        "@authority": parts.netloc.lower(),
        "@scheme": parts.scheme.lower(),
        "@target-uri": message.url,
        "@path": parts.path or "/",
        "@query": f"?{parts.query}",
    }.get(name)


def _member(value: str, key: str) -> str | None:
    try:
        member = read_dictionary(value).get(key)
    except MalformedField as error:
        raise NotAuthentic(f"a covered field is malformed: {error}") from error
    return None if member is None else written(member)


# Signing


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """A signature to be made: over `base`; `headers` are what the message gets besides."""

    label: Label
    base: bytes
    headers: Mapping[str, str]

    def signed(self, signature: bytes) -> dict[str, str]:
        """Return all headers to add; where the message has a signature already, both stand side by side."""
        params = self.base.rpartition(b"\n")[2].decode().removeprefix(_PARAMS)
        signatures: dict[str, Member] = {self.label.value: Item(signature)}
        return {
            **self.headers,
            SIGNATURE_INPUT: _joined(self.headers.get(SIGNATURE_INPUT), f"{self.label.value}={params}"),
            SIGNATURE: _joined(self.headers.get(SIGNATURE), dictionary_written(signatures)),
        }


def _joined(before: str | None, after: str) -> str:
    return f"{before}, {after}" if before else after


def unsigned_request(message: Message, *, target: str, key: KeyName, created: int, nonce: str) -> Unsigned:
    """Return what a party signs of a request.

    Args:
        message: Method, headers and body as they will be sent.
        target: See `target_of`.
        key: The signer's.
        created: Unix seconds.
        nonce: Never used before under this key.
    """
    added = {DIGEST: content_digest(message.body), TARGET: target}
    sent = Message(method=message.method, headers={**message.fields, **added}, body=message.body)
    components = [Item("@method"), *_fields_of(sent, REQUEST_FIELDS_IF_THERE, REQUEST_FIELDS)]
    params = _params(components, Label.PARTY, key=key, created=created, nonce=nonce)
    return Unsigned(label=Label.PARTY, base=signature_base(params, sent), headers=added)


def unsigned_answer(message: Message, *, request: Message, key: KeyName, created: int) -> Unsigned:
    """Return what a party signs of its answer to a request that is signed."""
    added = {DIGEST: content_digest(message.body)}
    sent = Message(status=message.status, headers={**message.fields, **added}, body=message.body)
    components = [Item("@status"), *_fields_of(sent, RESPONSE_FIELDS_IF_THERE, (DIGEST,)), *_OF_REQUEST]
    params = _params(components, Label.PARTY, key=key, created=created)
    base = signature_base(params, sent, request=request)
    return Unsigned(label=Label.PARTY, base=base, headers=added)


def carried(
    before: Message, after: Message, *, target: str | None, key: KeyName, created: int, nonce: str
) -> Unsigned | None:
    """Return what a hub signs of a message it rewrote; None: all that the party signed is as it was.

    Args:
        before: The message as it came, signed by a party.
        after: As it leaves, without signatures.
        target: Of a request, as it leaves.
        key: The hub's.
        created: Unix seconds.
        nonce: Never used before under this key.

    Raises:
        NotAuthentic: another hub rewrote it before; one counter-signature is the most that receivers follow.
    """
    changed = {**after.fields, DIGEST: before.fields[DIGEST]}
    try:
        require_digest(Message(headers=changed, body=after.body))
    except NotAuthentic:
        changed[DIGEST] = content_digest(after.body)
    if target is not None:
        changed[TARGET] = target
    names = (DIGEST, *RESPONSE_FIELDS_IF_THERE) if target is None else (*REQUEST_FIELDS, *REQUEST_FIELDS_IF_THERE)
    originals: dict[str, Member] = {
        name: Item(before.fields.get(name, False)) for name in names if before.fields.get(name) != changed.get(name)
    }
    if not originals:
        return None
    if Label.HUB in read_dictionary(before.fields[SIGNATURE_INPUT]):
        raise NotAuthentic("another hub rewrote this message already")
    added = {
        ORIGINAL: dictionary_written(originals),
        SIGNATURE_INPUT: _only(before.fields[SIGNATURE_INPUT], Label.PARTY),
        SIGNATURE: _only(before.fields[SIGNATURE], Label.PARTY),
        DIGEST: changed[DIGEST],
    } | ({} if target is None else {TARGET: target})
    sent = Message(method=after.method, status=after.status, headers={**changed, **added}, body=after.body)
    first = "@status" if target is None else "@method"
    components = [
        Item(first),
        *(Item(name) for name in names if name in sent.fields),
        Item(ORIGINAL),
        Item(SIGNATURE_INPUT, {"key": Label.PARTY.value}),
        Item(SIGNATURE, {"key": Label.PARTY.value}),
    ]
    params = _params(components, Label.HUB, key=key, created=created, nonce=nonce)
    return Unsigned(label=Label.HUB, base=signature_base(params, sent), headers=added)


def carried_as_it_is(before: Message) -> dict[str, str]:
    """Return the headers by which an untouched message keeps its signatures."""
    return {
        name: before.fields[name]
        for name in (DIGEST, TARGET, ORIGINAL, SIGNATURE_INPUT, SIGNATURE)
        if name in before.fields
    }


def _only(value: str, label: Label) -> str:
    return dictionary_written({label.value: read_dictionary(value)[label.value]})


_OF_REQUEST: Final = (
    Item(SIGNATURE, {"key": Label.PARTY.value, "req": True}),
    # RFC 9421, 7.3.7: a signature alone could be made to fit another request under another key.
    Item(SIGNATURE_INPUT, {"key": Label.PARTY.value, "req": True}),
)


_IDENTIFIERS_OF_REQUEST: Final = {(each.value, each.parameters["key"]): written(each) for each in _OF_REQUEST}


def _fields_of(message: Message, if_there: Iterable[str], always: Iterable[str]) -> list[Item]:
    return [*map(Item, always), *(Item(name) for name in if_there if name in message.fields)]


def _params(components: list[Item], label: Label, *, key: KeyName, created: int, nonce: str | None = None) -> InnerList:
    parameters: dict[str, int | str] = {"created": created}
    if nonce is not None:
        parameters["nonce"] = nonce
    return InnerList(tuple(components), {**parameters, "keyid": str(key), "tag": label.tag})


# Verifying


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """A signature as a message has it, its coverage judged; whether it is the key's word is still to be asked.

    Attributes:
        base: What it is over.
        created: Unix seconds.
        nonce: Of a request; unique under its key.
        algorithm: Named in the message, if so; the key decides.
    """

    label: Label
    key: KeyName
    base: bytes
    signature: bytes
    created: int
    nonce: str | None
    algorithm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedRequest:
    """The signatures of a request.

    Attributes:
        by_party: The sender's.
        by_hub: The hub's, if the hub rewrote what the sender signed.
        said: The fields as the sender signed them.
        target: Where the request goes, as it came here.
    """

    by_party: Presented
    by_hub: Presented | None
    said: Mapping[str, str]
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedAnswer:
    """The signatures of an answer."""

    by_party: Presented
    by_hub: Presented | None


def is_signed(message: Message) -> bool:
    """Tell whether a message says that it is signed in our way; whether it is, `presented_*` and a key tell."""
    try:
        inputs = read_dictionary(message.fields.get(SIGNATURE_INPUT, ""))
    except MalformedField:
        return True
    return any(each.parameters.get("tag") in _TAGS for each in inputs.values())


_TAGS: Final = frozenset(label.tag for label in Label)


def presented_request(message: Message) -> PresentedRequest:
    """Read the signatures of a request and see that they bind all of it. Raises `NotAuthentic`."""
    require_digest(message)
    said, by_hub = _said(message, REQUEST_FIELDS, REQUEST_FIELDS_IF_THERE, first="@method", request=None)
    original = Message(method=message.method, headers=said)
    by_party = _presented(original, Label.PARTY, first="@method", request=None)
    _require_covered(by_party, REQUEST_FIELDS, REQUEST_FIELDS_IF_THERE, original)
    presented = by_party.presented
    if presented.nonce is None:
        raise NotAuthentic("the signature has no nonce")
    return PresentedRequest(by_party=presented, by_hub=by_hub, said=original.fields, target=message.fields[TARGET])


def presented_answer(message: Message, *, request: Message) -> PresentedAnswer:
    """Read the signatures of an answer to `request` and see that they bind all of it. Raises `NotAuthentic`."""
    require_digest(message)
    said, by_hub = _said(message, (DIGEST,), RESPONSE_FIELDS_IF_THERE, first="@status", request=request)
    original = Message(status=message.status, headers=said)
    by_party = _presented(original, Label.PARTY, first="@status", request=request)
    _require_covered(by_party, (DIGEST,), RESPONSE_FIELDS_IF_THERE, original)
    if missing := {*_IDENTIFIERS_OF_REQUEST.values()} - by_party.covered:
        raise NotAuthentic(f"the answer's signature does not cover {min(missing)}")
    return PresentedAnswer(by_party=by_party.presented, by_hub=by_hub)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    presented: Presented
    covered: frozenset[str]


def _said(
    message: Message,
    always: Iterable[str],
    if_there: Iterable[str],
    *,
    first: str,
    request: Message | None,
) -> tuple[Mapping[str, str], Presented | None]:
    """Return the fields as the sender signed them, and the hub's signature where these are not the message's own."""
    if ORIGINAL not in message.fields:
        if Label.HUB.value in _inputs(message):
            raise NotAuthentic("a hub signed, but nothing says what it changed")
        return message.fields, None
    by_hub = _presented(message, Label.HUB, first=first, request=request)
    _require_covered(by_hub, (*always, ORIGINAL), if_there, message)
    if missing := {written(Item(each, {"key": Label.PARTY.value})) for each in _SIGNATURE_FIELDS} - by_hub.covered:
        raise NotAuthentic(f"the hub's signature does not cover {min(missing)}")
    try:
        originals = read_dictionary(message.fields[ORIGINAL])
    except MalformedField as error:
        raise NotAuthentic("Wattroam-Original is malformed") from error
    said = {name: value for name, value in message.fields.items() if name != ORIGINAL}
    for name, member in originals.items():
        if name not in HUB_MAY_CHANGE or name not in {*always, *if_there} or not isinstance(member, Item):
            raise NotAuthentic(f"a hub may not change {name}")
        if isinstance(member.value, str):
            said[name] = member.value
        elif member.value is False and name in if_there:
            said.pop(name, None)
        else:
            raise NotAuthentic("Wattroam-Original is malformed")
    return said, by_hub.presented


_SIGNATURE_FIELDS: Final = (SIGNATURE_INPUT, SIGNATURE)


def _inputs(message: Message) -> Mapping[str, Member]:
    try:
        inputs = read_dictionary(message.fields.get(SIGNATURE_INPUT, ""))
    except MalformedField as error:
        raise NotAuthentic("Signature-Input is malformed") from error
    if len(inputs) > SIGNATURES_MAX:
        raise NotAuthentic(f"more than {SIGNATURES_MAX} signatures")
    return inputs


def _presented(message: Message, label: Label, *, first: str, request: Message | None) -> _Read:
    params = _inputs(message).get(label.value)
    try:
        signature = read_dictionary(message.fields.get(SIGNATURE, "")).get(label.value)
    except MalformedField as error:
        raise NotAuthentic("Signature is malformed") from error
    if not isinstance(params, InnerList) or not isinstance(signature, Item) or not isinstance(signature.value, bytes):
        raise NotAuthentic(f"there is no signature {label.value}")
    if len(params.items) > COVERED_MAX:
        raise NotAuthentic(f"more than {COVERED_MAX} covered components")
    covered = frozenset(map(_identifier, params.items))
    if _IDENTIFIERS[first] not in covered:
        raise NotAuthentic(f"{first} is not signed")
    created, nonce = params.parameters.get("created"), params.parameters.get("nonce")
    key, algorithm = params.parameters.get("keyid"), params.parameters.get("alg")
    if params.parameters.get("tag") != label.tag:
        raise NotAuthentic(f"signature {label.value} has not the tag {label.tag}")
    if not isinstance(created, int) or isinstance(created, bool) or not isinstance(key, str):
        raise NotAuthentic("a signature has created and keyid")
    if nonce is not None and not (isinstance(nonce, str) and 0 < len(nonce) <= NONCE_CHARACTERS_MAX):
        raise NotAuthentic(f"a nonce has 1 to {NONCE_CHARACTERS_MAX} characters")
    presented = Presented(
        label=label,
        key=KeyName.read(key),
        base=signature_base(params, message, request=request),
        signature=signature.value,
        created=created,
        nonce=nonce,
        algorithm=algorithm if isinstance(algorithm, str) else None,
    )
    return _Read(presented=presented, covered=covered)


def _require_covered(read: _Read, always: Iterable[str], if_there: Iterable[str], message: Message) -> None:
    """Refuse a message of which something that matters is not signed."""
    for name in (*always, *(each for each in if_there if each in message.fields)):
        if _IDENTIFIERS[name] not in read.covered:
            raise NotAuthentic(f"{name} is not signed by {read.presented.label.value}")


def is_word_of(presented: Presented, *, algorithm: KeyAlgorithm, public_key: bytes) -> bool:
    """Tell whether a signature is the holder of this key's word.

    Args:
        presented: The signature.
        algorithm: The key's; what the message names may not differ.
        public_key: 32 bytes of Ed25519, or a point of P-256 as X9.62 writes it.
    """
    if presented.algorithm not in {None, algorithm.value}:
        return False
    return is_signature(presented.signature, presented.base, algorithm=algorithm, public_key=public_key)


def is_signature(signature: bytes, message: bytes, *, algorithm: KeyAlgorithm, public_key: bytes) -> bool:
    """Tell whether `signature` over `message` was made by the holder of this key (RFC 9421, 3.3.4, 3.3.6)."""
    if len(signature) != 64:
        return False
    try:
        if algorithm is KeyAlgorithm.ED25519:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        else:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            point = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public_key)
            point.verify(encode_dss_signature(r, s), message, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def is_public_key(public_key: bytes, *, algorithm: KeyAlgorithm) -> bool:
    """Tell whether these bytes are a key of this kind."""
    try:
        if algorithm is KeyAlgorithm.ED25519:
            Ed25519PublicKey.from_public_bytes(public_key)
        else:
            EllipticCurvePublicKey.from_encoded_point(SECP256R1(), public_key)
    except ValueError:
        return False
    return True
