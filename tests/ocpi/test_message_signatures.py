"""RFC 9421 and RFC 9530 by their own examples, and what a signed message does not let through."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emobility.domain.identifiers import PartyId
from emobility.ports.party_keys import KeyAlgorithm
from emobility.protocols.ocpi.message_signatures import (
    KeyName,
    Label,
    Message,
    NotAuthentic,
    carried,
    carried_as_it_is,
    content_digest,
    is_signature,
    is_word_of,
    plain_target,
    presented_answer,
    presented_request,
    require_digest,
    signature_base,
    target_of,
    unsigned_answer,
    unsigned_request,
)
from emobility.protocols.ocpi.structured_fields import InnerList, Item, MalformedField, Token, read_dictionary, written
from emobility.protocols.ocpi.v221 import InterfaceRole

SHA_512 = "sha-512=:{}:"
REQUEST = Message(
    method="POST",
    url="https://example.com/foo?param=Value&Pet=dog",
    headers={
        "Host": "example.com",
        "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "Content-Type": "application/json",
        "Content-Digest": SHA_512.format(
            "WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew=="
        ),
        "Content-Length": "18",
    },
    body=b'{"hello": "world"}',
)
RESPONSE = Message(
    status=200,
    headers={
        "Content-Type": "application/json",
        "Content-Digest": SHA_512.format(
            "mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ=="
        ),
        "Content-Length": "23",
    },
    body=b'{"message": "good dog"}',
)
ED25519_KEY = base64.b64decode("JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
P256_KEY = b"\x04" + base64.b64decode(
    "qIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ=="
)
SHARED = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")


def base_of(signature_input: str, message: Message) -> bytes:
    [params] = read_dictionary(signature_input).values()
    assert isinstance(params, InnerList)
    return signature_base(params, message)


# RFC 9421, appendix B


def test_b_2_3_the_base_of_full_coverage_is_the_published_one() -> None:
    base = base_of(
        'sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length")'
        ';created=1618884473;keyid="test-key-rsa-pss"',
        REQUEST,
    )

    assert base.decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@method": POST\n"@path": /foo\n"@query": ?param=Value&Pet=dog\n'
        '"@authority": example.com\n"content-type": application/json\n'
        '"content-digest": sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXv'
        'Jwew==:\n"content-length": 18\n'
        '"@signature-params": ("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest"'
        ' "content-length");created=1618884473;keyid="test-key-rsa-pss"'
    )


@pytest.mark.parametrize(
    ("message", "signature_input", "signature", "algorithm", "key"),
    [
        pytest.param(
            RESPONSE,
            'sig-b24=("@status" "content-type" "content-digest" "content-length")'
            ';created=1618884473;keyid="test-key-ecc-p256"',
            "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw==",
            KeyAlgorithm.ECDSA_P256,
            P256_KEY,
            id="B.2.4",
        ),
        pytest.param(
            REQUEST,
            'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")'
            ';created=1618884473;keyid="test-key-ed25519"',
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
            KeyAlgorithm.ED25519,
            ED25519_KEY,
            id="B.2.6",
        ),
        pytest.param(
            Message(
                method="GET",
                url="https://example.org/demo?name1=Value1&Name2=value2&param=added",
                headers={"Accept": "application/json, */*", "Accept-Language": "en-US,en;q=0.5"},
            ),
            'transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"',
            "ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==",
            KeyAlgorithm.ED25519,
            ED25519_KEY,
            id="B.4",
        ),
    ],
)
def test_a_published_signature_holds_and_holds_for_nothing_else(
    message: Message, signature_input: str, signature: str, algorithm: KeyAlgorithm, key: bytes
) -> None:
    base, word = base_of(signature_input, message), base64.b64decode(signature)

    assert is_signature(word, base, algorithm=algorithm, public_key=key)
    assert not is_signature(word, base.replace(b"application", b"Application"), algorithm=algorithm, public_key=key)
    assert not is_signature(word[:-1] + bytes([word[-1] ^ 1]), base, algorithm=algorithm, public_key=key)


def test_b_2_5_the_base_is_what_the_published_mac_is_over() -> None:
    base = base_of(
        'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"', REQUEST
    )

    mac = base64.b64encode(hmac.digest(SHARED, base, "sha256")).decode()
    assert mac == "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_b_4_another_method_or_order_of_a_field_breaks_the_signature() -> None:
    of = 'transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"'
    word = base64.b64decode("ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==")
    for message in (
        Message(method="POST", url="https://example.com/demo", headers={"Accept": "application/json, */*"}),
        Message(method="GET", url="https://example.org/demo", headers={"Accept": "*/*, application/json"}),
    ):
        assert not is_signature(word, base_of(of, message), algorithm=KeyAlgorithm.ED25519, public_key=ED25519_KEY)


# RFC 9530


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (b'{"hello": "world"}\n', "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        (b"", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
    ],
)
def test_the_digest_is_the_published_one(body: bytes, digest: str) -> None:
    assert content_digest(body) == digest
    require_digest(Message(headers={"Content-Digest": digest}, body=body))


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:",
        'sha-256="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="',
        # One holds, the other does not.
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:, sha-512=:AAAA:",
    ],
)
def test_a_digest_that_proves_nothing_is_refused(digest: str) -> None:
    with pytest.raises(NotAuthentic):
        require_digest(Message(headers={"Content-Digest": digest}))


def test_the_published_digests_of_the_test_messages_hold() -> None:
    require_digest(REQUEST)
    require_digest(RESPONSE)


# Our own messages

CPO, HUB = PartyId("NL-TNM"), PartyId("NL-HUB")
KEYS = {party: Ed25519PrivateKey.from_private_bytes(party.code.encode().ljust(32)) for party in (CPO, HUB)}
CDR = b'{"id":"CDR1","total_energy":1,"kwh":1,"total_cost":{"excl_vat":23}}'
ROUTING = {
    "OCPI-to-country-code": "DE",
    "OCPI-to-party-id": "MSP",
    "OCPI-from-country-code": "NL",
    "OCPI-from-party-id": "TNM",
}
PLAIN = Message(
    method="POST",
    headers={**ROUTING, "X-Correlation-ID": "c-1", "X-Request-ID": "r-1", "Content-Type": "application/json"},
    body=CDR,
)
TARGET = "2.2.1/cdrs/receiver"
BY = KeyName(party_id=CPO, key_id="w0")
BY_HUB = KeyName(party_id=HUB, key_id="w0")


def signed(message: Message = PLAIN) -> Message:
    unsigned = unsigned_request(message, target=TARGET, key=BY, created=1_772_366_400, nonce="n-1")
    return replace(message, headers={**message.headers, **unsigned.signed(KEYS[CPO].sign(unsigned.base))})


def rewritten(message: Message, body: bytes) -> Message:
    after = replace(PLAIN, body=body)
    unsigned = carried(message, after, target="2.3.0/cdrs/receiver", key=BY_HUB, created=1_772_366_401, nonce="h-1")
    assert unsigned is not None
    return replace(after, headers={**after.headers, **unsigned.signed(KEYS[HUB].sign(unsigned.base))})


def public(party: PartyId) -> bytes:
    if party not in KEYS:
        raise NotAuthentic(f"{party} has no key")
    return KEYS[party].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def require_proven(message: Message) -> None:
    """Raise `NotAuthentic` unless all signatures hold."""
    presented = presented_request(message)
    for each in (presented.by_party, presented.by_hub):
        if each is not None and not is_word_of(
            each, algorithm=KeyAlgorithm.ED25519, public_key=public(each.key.party_id)
        ):
            raise NotAuthentic("not its word")


def test_a_signed_request_is_proven_whatever_else_travels_with_it() -> None:
    message = signed()
    require_proven(message)

    require_proven(replace(message, headers={**message.headers, "X-Request-ID": "r-2", "Authorization": "Token x"}))


BIT = st.integers(min_value=0, max_value=8 * len(CDR) - 1)


@given(bit=BIT, hub=st.booleans())
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_bit_of_the_body_that_is_changed_is_found(bit: int, hub: bool) -> None:  # noqa: FBT001
    message = rewritten(signed(), CDR) if hub else signed()
    body = bytearray(CDR)
    body[bit // 8] ^= 1 << bit % 8

    with pytest.raises(NotAuthentic):
        require_proven(replace(message, body=bytes(body)))


COVERED = [*map(str.lower, ROUTING), "x-correlation-id", "content-type", "content-digest", "wattroam-target"]


@given(name=st.sampled_from([*COVERED, "signature", "signature-input"]), place=st.integers(0, 500), hub=st.booleans())
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_character_of_a_covered_header_that_is_changed_is_found(name: str, place: int, hub: bool) -> None:  # noqa: FBT001
    message = rewritten(signed(), CDR + b" ") if hub else signed()
    value = message.fields[name]
    at = place % len(value)
    other = "0" if value[at] != "0" else "1"
    changed = {**message.fields, name: value[:at] + other + value[at + 1 :]}

    with pytest.raises(NotAuthentic):
        require_proven(replace(message, headers=changed))


@pytest.mark.parametrize("name", COVERED)
def test_a_covered_header_that_is_dropped_or_swapped_is_found(name: str) -> None:
    message = signed()
    without = {key: value for key, value in message.fields.items() if key != name}
    other = next(each for each in COVERED if message.fields[each] != message.fields[name])

    with pytest.raises(NotAuthentic):
        require_proven(replace(message, headers=without))
    with pytest.raises(NotAuthentic):
        require_proven(
            replace(message, headers={**message.fields, name: message.fields[other], other: message.fields[name]})
        )


@pytest.mark.parametrize("name", ["ocpi-to-party-id", "content-type"])
def test_a_header_that_would_have_been_signed_can_not_be_added(name: str) -> None:
    bare = replace(PLAIN, headers={key: value for key, value in PLAIN.headers.items() if key.lower() != name})
    message = signed(bare)
    require_proven(message)

    with pytest.raises(NotAuthentic, match=name):
        require_proven(replace(message, headers={**message.headers, name: "ABC"}))


def test_another_method_is_found() -> None:
    with pytest.raises(NotAuthentic):
        require_proven(replace(signed(), method="PUT"))


@pytest.mark.parametrize("parameter", ["nonce", "created", "keyid", "tag"])
def test_a_signature_without_one_of_its_parameters_is_refused(parameter: str) -> None:
    message = signed()
    [(label, params)] = read_dictionary(message.fields["signature-input"]).items()
    assert isinstance(params, InnerList)
    less = InnerList(params.items, {key: each for key, each in params.parameters.items() if key != parameter})
    base = signature_base(less, message)
    word = base64.b64encode(KEYS[CPO].sign(base)).decode()
    stated = base.decode().rsplit('"@signature-params": ', 1)[1]

    with pytest.raises(NotAuthentic):
        require_proven(
            replace(
                message,
                headers={**message.fields, "signature-input": f"{label}={stated}", "signature": f"{label}=:{word}:"},
            )
        )


# The hub


def test_an_untouched_message_keeps_the_senders_signature_alone() -> None:
    message = signed()

    assert carried(message, PLAIN, target=TARGET, key=BY_HUB, created=1, nonce="h-1") is None
    require_proven(replace(PLAIN, headers={**PLAIN.headers, **carried_as_it_is(message)}))


def test_a_rewritten_message_proves_what_was_sent_and_what_the_hub_made_of_it() -> None:
    message = rewritten(signed(), CDR.replace(b"excl_vat", b"before_taxes"))

    require_proven(message)

    presented = presented_request(message)
    assert presented.said["content-digest"] == content_digest(CDR)
    assert presented.said["wattroam-target"] == TARGET
    assert presented.target == "2.3.0/cdrs/receiver"
    assert presented.by_hub is not None
    assert (presented.by_party.key, presented.by_hub.key) == (BY, BY_HUB)


def test_what_the_hub_says_was_there_before_can_not_be_changed() -> None:
    message = rewritten(signed(), CDR + b" ")
    forged = message.fields["wattroam-original"].replace(TARGET, "2.2.1/tokens/receiver")
    assert forged != message.fields["wattroam-original"]

    with pytest.raises(NotAuthentic):
        require_proven(replace(message, headers={**message.fields, "wattroam-original": forged}))


def test_without_its_hubs_word_a_rewritten_message_is_nobodys() -> None:
    message = rewritten(signed(), CDR + b" ")
    only = carried_as_it_is(signed())
    less = {**message.fields, "signature": only["signature"], "signature-input": only["signature-input"]}

    with pytest.raises(NotAuthentic, match="hub"):
        require_proven(replace(message, headers=less))
    del less["wattroam-original"]
    with pytest.raises(NotAuthentic):
        require_proven(replace(message, headers=less))


def test_a_message_is_rewritten_once_at_most() -> None:
    with pytest.raises(NotAuthentic, match="already"):
        carried(rewritten(signed(), CDR + b" "), PLAIN, target=TARGET, key=BY_HUB, created=1, nonce="h-1")


# Answers

ANSWER = Message(status=200, headers={"Content-Type": "application/json", "Location": "https://msp/1"}, body=b"{}")


def answered(request: Message) -> Message:
    unsigned = unsigned_answer(ANSWER, request=request, key=BY, created=1_772_366_400)
    return replace(ANSWER, headers={**ANSWER.headers, **unsigned.signed(KEYS[CPO].sign(unsigned.base))})


def require_proven_answer(answer: Message, *, request: Message) -> None:
    presented = presented_answer(answer, request=request)
    for each in (presented.by_party, presented.by_hub):
        if each is not None and not is_word_of(
            each, algorithm=KeyAlgorithm.ED25519, public_key=public(each.key.party_id)
        ):
            raise NotAuthentic("not its word")


def test_an_answer_answers_its_own_request_and_no_other() -> None:
    request = signed()
    answer = answered(request)
    require_proven_answer(answer, request=request)

    unsigned = unsigned_request(PLAIN, target=TARGET, key=BY, created=1_772_366_400, nonce="n-2")
    other = replace(PLAIN, headers={**PLAIN.headers, **unsigned.signed(KEYS[CPO].sign(unsigned.base))})
    with pytest.raises(NotAuthentic):
        require_proven_answer(answer, request=other)


def test_an_answer_stays_proven_when_its_request_was_rewritten_on_the_way() -> None:
    request = signed()
    answer = answered(rewritten(request, CDR + b" "))

    require_proven_answer(answer, request=request)


@pytest.mark.parametrize(
    "changed",
    [
        {"status": 201},
        {"body": b"{ }"},
        {"headers": {"location": "https://msp/2"}},
        {"headers": {"x-total-count": "3"}},
        {"headers": {"link": '<https://msp/3>; rel="next"'}},
    ],
)
def test_an_answer_that_was_changed_is_found(changed: dict[str, object]) -> None:
    request = signed()
    answer = answered(request)
    headers = {**answer.fields, **changed.pop("headers", {})}  # type: ignore[dict-item]

    with pytest.raises(NotAuthentic):
        require_proven_answer(replace(answer, headers=headers, **changed), request=request)  # type: ignore[arg-type]


def test_a_hub_puts_its_own_url_in_an_answer_and_says_so() -> None:
    request = signed()
    answer = answered(request)
    after = replace(ANSWER, headers={**ANSWER.headers, "Location": "https://hub/9", **ROUTING})
    unsigned = carried(answer, after, target=None, key=BY_HUB, created=1_772_366_401, nonce="h-1")
    assert unsigned is not None
    at_sender = replace(after, headers={**after.headers, **unsigned.signed(KEYS[HUB].sign(unsigned.base))})

    require_proven_answer(at_sender, request=request)
    assert "https://msp/1" in at_sender.fields["wattroam-original"]
    assert Label.HUB in read_dictionary(at_sender.fields["signature"])


@pytest.mark.parametrize(
    "item",
    [
        Item("@method"),
        Item(Token("@method")),
        Item("never heard of"),
        Item("signature", {"key": "ocpi", "req": True}),
        Item("signature-input", {"key": "ocpi", "req": True}),
        Item("signature", {"req": True, "key": "ocpi"}),
        Item("signature", {"key": "ocpi", "req": 1}),
        Item("signature", {"key": Token("ocpi"), "req": True}),
        Item("signature", {"key": "hub", "req": True}),
        Item("content-digest", {"req": True}),
    ],
    ids=repr,
)
def test_what_is_signed_names_its_components_as_they_are_written(item: Item) -> None:
    params = InnerList((item,), {"created": 1_772_366_400, "nonce": 'a "quoted" one', "tag": "wattroam-ocpi"})
    fields = dict.fromkeys(("never heard of", "content-digest"), 'ocpi=:AQ==:, hub=:AQ==:, "')
    fields |= dict.fromkeys(("signature", "signature-input"), "ocpi=:AQ==:, hub=:AQ==:")
    message = Message(method="PUT", headers=fields)

    try:
        base = signature_base(params, message, request=message)
    except (NotAuthentic, MalformedField):
        assert isinstance(item.value, Token) or item.parameters.get("req") is not True
    else:
        name, _, rest = base.decode().partition(": ")
        assert name == written(item)
        assert rest.endswith(f'\n"@signature-params": {written(params)}')


# Targets


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://p.example/ocpi/tariffs/NL/TNM/1?a=b", "2.2.1/tariffs/receiver/NL/TNM/1?a=b"),
        ("https://p.example/ocpi/tariffs/", "2.2.1/tariffs/receiver"),
        ("https://p.example/ocpi/tariffs?limit=2", "2.2.1/tariffs/receiver?limit=2"),
        ("https://p.example/ocpi/tariffsold/1", "/ocpi/tariffsold/1"),
        ("https://p.example/callback/%7e1%2f2?", "/callback/~1%2F2"),
    ],
)
def test_a_target_is_named_by_its_endpoint_or_else_by_its_path(url: str, target: str) -> None:
    endpoints = {("tariffs", InterfaceRole.RECEIVER): "https://p.example/ocpi/tariffs"}

    assert target_of(url, endpoints, version="2.2.1") == target


def test_no_two_resources_have_one_target() -> None:
    assert plain_target("a/b%2Fc") != plain_target("a/b/c")
