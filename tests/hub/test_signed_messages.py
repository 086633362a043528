"""Signed messages between parties and through the hub, with somebody on the way who changes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.routing import Mount

from emobility.adapters.memory import MemoryHttp, SeededRandomness, VirtualClock
from emobility.adapters.memory.party_registry import MemoryPartyRegistry
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.party_claims import PartyEntry
from emobility.ports.http import TIMEOUT_S, HttpResponse
from emobility.ports.party_keys import KeyAlgorithm
from emobility.ports.ports import Ports
from emobility.protocols.ocpi import signing
from emobility.protocols.ocpi.client import AnswerNotAuthentic, PeerFailed, PeerRefused, SignatureRefusedAtPeer
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.party_keys import (
    EVERYBODY,
    PARTY_KEY,
    KeySource,
    PartyKeyRow,
    RegistryPartyKeys,
    StoredPartyKeys,
    ensure_own_key,
    enter_told_key,
    revoke_key,
    rotate_own_key,
)
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.signing import (
    CLOCK_SKEW_MAX,
    MESSAGE_AGE_MAX,
    SEEN_SIGNATURE,
    SIGNATURE_RULE,
    SignatureRule,
)
from emobility.protocols.ocpi.status import InvalidParameters
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from ocpi_check import objects
from ocpi_check.wire import Party as Owner
from ocpi_check.wire import write_json
from roaming_hub.service import HUB, RoamingHub, build
from tests.hub.world import CPO, HUB_ORIGIN, INTERNAL_TOKEN, MSP, START, memory_ports, settings

CDR = b'{"id":"CDR1","kwh":1,"cost":23,"total_cost":{"excl_vat":23}}'
RECEIVER = InterfaceRole.RECEIVER


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request on the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


Meddle = Callable[[Sent], Sent]
MeddleBack = Callable[[HttpResponse], HttpResponse]


@dataclass
class Wire(MemoryHttp):
    """HTTP with somebody on it: what goes to `meddles_at` or comes from there may be changed."""

    meddles_at: str = "nowhere"
    meddle: Meddle | None = None
    meddle_back: MeddleBack | None = None
    passed: list[tuple[Sent, HttpResponse]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = TIMEOUT_S
    ) -> HttpResponse:
        sent = Sent(method=method, url=url, headers=headers, body=body)
        is_there = url.startswith(self.meddles_at)
        if self.meddle and is_there:
            sent = self.meddle(sent)
        answer = await super().request(sent.method, sent.url, headers=sent.headers, body=sent.body, timeout_s=timeout_s)
        self.passed.append((sent, answer))
        return self.meddle_back(answer) if self.meddle_back and is_there else answer

    def last(self, origin: str, *, method: str = "POST") -> Sent:
        return [sent for sent, _ in self.passed if sent.url.startswith(origin) and sent.method == method][-1]


@dataclass
class Party:
    """A platform with real modules; `got` is what they took."""

    party: PartyId
    origin: str
    host: OCPIHost
    got: list[OCPICall] = field(default_factory=list)
    answer: Callable[[OCPICall], Awaitable[Reply]] | None = None


@dataclass
class SignedWorld:
    wire: Wire
    clock: VirtualClock
    hub: RoamingHub
    cpo: Party
    msp: Party

    @property
    def stores(self) -> list[Ports]:
        return [self.hub.ports, self.cpo.host.ports, self.msp.host.ports]

    async def send(
        self, body: bytes = CDR, *, module: str = "cdrs", path: str = "", correlation_id: str = "c-1"
    ) -> Any:
        client = await self.cpo.host.connect(CPO, MSP)
        return await client.post(module, RECEIVER, path, body, to_party=MSP, correlation_id=correlation_id)


async def a_world(*, share_keys: bool = True, msp_version: str = "2.2.1") -> SignedWorld:
    """A hub, a CPO and an MSP, each with rows of its own; `share_keys`: as if one installation hosted them all."""
    clock, randomness, wire = VirtualClock(START), SeededRandomness(7), Wire()
    hub = build(settings(), memory_ports(wire, clock, randomness))
    wire.mount(HUB_ORIGIN, Starlette(routes=[Mount("/hub", app=hub.app)]))
    parties = [_party(wire, clock, randomness, each) for each in (CPO, MSP)]
    world = SignedWorld(wire=wire, clock=clock, hub=hub, cpo=parties[0], msp=parties[1])
    if share_keys:
        for ports in world.stores:
            async with ports.units.begin() as unit:
                for party in (HUB, CPO, MSP):
                    await ensure_own_key(unit, party, ports.signer, now=clock.now())
                await unit.commit()
    for each, role, version in zip(parties, (Role.CPO, Role.EMSP), ("2.2.1", msp_version), strict=True):
        await _join(world, each, role, version)
    return world


def _party(wire: Wire, clock: VirtualClock, randomness: SeededRandomness, party_id: PartyId) -> Party:
    interfaces = []
    origin = f"http://{party_id.code.lower()}.test"
    party = Party(party=party_id, origin=origin, host=None)  # type: ignore[arg-type]

    async def take(call: OCPICall) -> Reply:
        party.got.append(call)
        return await party.answer(call) if party.answer else Reply()

    for module, side in (
        (ModuleID.CDRS, RECEIVER),
        (ModuleID.COMMANDS, RECEIVER),
        (ModuleID.COMMANDS, InterfaceRole.SENDER),
        (ModuleID.TARIFFS, InterfaceRole.SENDER),
    ):
        interface = Interface(module, side)
        for method in ("GET", "POST"):
            interface.route(method)(take)
            interface.route(method, "/{rest:path}")(take)
        interfaces.append(interface)
    ports = memory_ports(wire, clock, randomness)
    party.host = OCPIHost(ports, service="platform", base_url=f"{origin}/platform", interfaces=interfaces)
    inner = Starlette()
    party.host.mount_on(inner, authorize=_anyone)
    wire.mount(origin, Starlette(routes=[Mount("/platform", app=inner)]))
    return party


async def _anyone(_: Any, __: PartyId) -> None:
    return


async def _join(world: SignedWorld, each: Party, role: Role, version: str) -> None:
    async with each.host.ports.units.begin() as unit:
        await each.host.add_party(unit, each.party, role=role, business_name="x")
        await unit.commit()
    invited = await world.wire.request(
        "POST",
        f"{HUB_ORIGIN}/hub/admin/registrations",
        headers={"Authorization": f"Bearer {INTERNAL_TOKEN}", "Content-Type": "application/json"},
        body=msgspec.json.encode(
            {"party_id": each.party.code, "role": role, "versions_url": f"{each.host.ocpi_url(each.party)}/versions"}
        ),
    )
    token_a = msgspec.json.decode(invited.body)["token_a"]
    await each.host.register(
        each.party, versions_url=f"{HUB_ORIGIN}/hub/ocpi/versions", token_a=token_a, version=version
    )


@pytest.fixture
async def world() -> SignedWorld:
    return await a_world()


def with_body(change: Callable[[bytes], bytes]) -> Meddle:
    return lambda sent: replace(sent, body=change(sent.body))


def with_headers(**changed: str | None) -> Meddle:
    def meddle(sent: Sent) -> Sent:
        names = {key.replace("_", "-").lower(): value for key, value in changed.items()}
        kept = {name: value for name, value in sent.headers.items() if name.lower() not in names}
        return replace(sent, headers={**kept, **{name: value for name, value in names.items() if value is not None}})

    return meddle


# What holds


async def test_a_message_is_proven_at_the_receiver_by_the_senders_own_signature(world: SignedWorld) -> None:
    answer = await world.send()

    [call] = world.msp.got
    assert answer.http_status == 200
    assert call.body == CDR
    assert call.signed is not None
    assert call.signed.is_proven
    assert call.signed.presented.by_party.key.party_id == CPO
    assert call.signed.presented.by_hub is None
    assert world.wire.last(HUB_ORIGIN).headers["signature"] == world.wire.last(world.msp.origin).headers["signature"]


async def test_the_answer_is_the_receivers_and_names_the_hubs_changes(world: SignedWorld) -> None:
    async def created(_: OCPICall) -> Reply:
        return Reply(http_status=201, headers={"Location": f"{world.msp.origin}/platform/cdr/1"})

    world.msp.answer = created

    answer = await world.send()

    assert answer.headers["location"].startswith(f"{HUB_ORIGIN}/hub/ocpi/2.2.1/proxy/")
    assert 'keyid="DE-MSP/w0"' in answer.headers["signature-input"]
    assert 'keyid="NL-HUB/w0"' in answer.headers["signature-input"]
    assert f"{world.msp.origin}/platform/cdr/1" in answer.headers["wattroam-original"]


async def test_a_command_whose_response_url_the_hub_replaced_is_proven_with_its_original(world: SignedWorld) -> None:
    async def accept(_: OCPICall) -> Reply:
        return Reply(data={"result": "ACCEPTED", "timeout": 30})

    world.msp.answer = accept
    callback = f"{world.cpo.host.ocpi_url(CPO)}/2.2.1/commands/sender/STOP_SESSION/1"
    body = msgspec.json.encode({"session_id": "S1", "response_url": callback})

    await world.send(body, module="commands", path="/STOP_SESSION")

    [call] = world.msp.got
    assert call.signed is not None
    assert call.signed.presented.by_hub is not None
    assert call.body != body
    # The result comes back by the hub's URL, signed by the MSP for that URL, and reaches the requester proven too.
    result = msgspec.json.decode(call.body)["response_url"]
    client = await world.msp.host.connect(MSP, CPO)
    await client.send("POST", result, {"result": "ACCEPTED"}, to_party=CPO, correlation_id="c-2")
    [heard] = world.cpo.got
    assert heard.signed is not None
    assert heard.signed.presented.by_party.key.party_id == MSP
    assert heard.signed.presented.target == "2.2.1/commands/sender/STOP_SESSION/1"


async def test_what_the_hub_says_in_another_version_is_proven_by_the_original_and_the_hubs_own_signature() -> None:
    world = await a_world(msp_version="2.3.0")
    sent = write_json(objects.cdr(Owner("NL", "TNM"), Owner("DE", "MSP"), "CDR1", START, "2.2.1"))

    answer = await world.send(sent)

    [call] = world.msp.got
    passed = world.wire.last(world.msp.origin)
    assert answer.http_status == 200
    assert "/2.3.0/" in passed.url
    assert b"before_taxes" in passed.body
    assert b"before_taxes" not in sent
    assert call.signed is not None
    assert call.signed.is_proven
    assert call.signed.presented.by_party.key.party_id == CPO
    assert call.signed.presented.by_hub is not None
    assert call.signed.presented.by_hub.key.party_id == HUB


@pytest.mark.parametrize(
    "meddle",
    [
        with_body(lambda body: body.replace(b'"before_taxes":0.33', b'"before_taxes":0.34', 1)),
        with_body(lambda body: body[:-1] + b',"more":1}'),
        with_headers(content_digest="sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"),
    ],
    ids=["another amount", "one field more", "another digest"],
)
async def test_attack_what_was_said_in_another_version_and_changed_after_the_hub_is_refused(meddle: Meddle) -> None:
    world = await a_world(msp_version="2.3.0")
    world.wire.meddles_at, world.wire.meddle = world.msp.origin, meddle
    sent = write_json(objects.cdr(Owner("NL", "TNM"), Owner("DE", "MSP"), "CDR1", START, "2.2.1"))

    with pytest.raises(SignatureRefusedAtPeer):
        await world.send(sent)

    assert world.msp.got == []
    assert world.wire.last(world.msp.origin).body != sent


async def test_pages_are_followed_signed(world: SignedWorld) -> None:
    async def page(call: OCPICall) -> Reply:
        return call.paged([{"n": call.query.get("offset", "0")}], page=call.page(), total=3)

    world.msp.answer = page
    client = await world.cpo.host.connect(CPO, MSP)

    found = client.list_all(
        "tariffs",
        InterfaceRole.SENDER,
        dict[str, str],
        to_party=MSP,
        correlation_id="c-1",
        query={"date_to": "2027-01-01T00:00:00Z"},
    )

    assert [each["n"] async for each in found] == ["0", "1", "2"]
    assert all(call.signed and call.signed.is_proven for call in world.msp.got)


# The three attacks on a hub's signature that does not bind the message (standards/ocpi, section 1)


@pytest.mark.parametrize("where", ["at the hub", "at the receiver"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b'"kwh":1,"cost":23,', b'"kwh":12,"cost":3,', id="a digit moves from one value to the next"),
        pytest.param(b'"excl_vat":23}', b'"excl_vat":23,"incl_vat":9999}', id="a total is added"),
        pytest.param(b'"id":', b'"note":"paid","id":', id="any other field is added"),
        pytest.param(b',"cost":23', b"", id="a field is removed"),
    ],
)
async def test_attack_a_changed_document_is_refused(
    world: SignedWorld, where: str, before: bytes, after: bytes
) -> None:
    assert before in CDR
    world.wire.meddles_at = HUB_ORIGIN if where == "at the hub" else world.msp.origin
    world.wire.meddle = with_body(lambda body: body.replace(before, after))

    with pytest.raises(SignatureRefusedAtPeer, match="body"):
        await world.send()

    assert world.msp.got == []


async def test_attack_a_shorter_list_of_what_is_signed_is_refused(world: SignedWorld) -> None:
    def less(sent: Sent) -> Sent:
        stated = sent.headers["signature-input"].replace('"content-digest" ', "")
        return replace(
            sent,
            headers={**sent.headers, "signature-input": stated, "content-digest": "sha-256=:AAAA:"},
            body=CDR.replace(b"23", b"99"),
        )

    world.wire.meddles_at, world.wire.meddle = world.msp.origin, less

    with pytest.raises(SignatureRefusedAtPeer):
        await world.send()

    assert world.msp.got == []


# Everything else that fails closed


@pytest.mark.parametrize(
    ("meddle", "reason"),
    [
        (with_headers(ocpi_from_party_id="XXX"), "HTTP|S 2"),
        (with_headers(x_correlation_id="c-9"), "signature"),
        (with_headers(wattroam_target="2.2.1/tokens/receiver"), "signature"),
        (with_headers(signature=None, signature_input=None, content_digest=None, wattroam_target=None), "not signed"),
        (with_headers(signature=None), "signature"),
        (with_headers(signature_input=None), "not signed"),
        (lambda sent: replace(sent, url=sent.url + "?all=true"), "target"),
        (lambda sent: replace(sent, url=sent.url + "/1"), "target"),
        (lambda sent: replace(sent, method="GET"), "signature"),
    ],
)
async def test_a_message_that_was_changed_stripped_or_led_elsewhere_is_refused(
    world: SignedWorld, meddle: Meddle, reason: str
) -> None:
    world.wire.meddles_at, world.wire.meddle = world.msp.origin, meddle

    with pytest.raises(SignatureRefusedAtPeer, match=reason):
        await world.send()

    assert world.msp.got == []


async def test_a_message_that_comes_again_is_refused(world: SignedWorld) -> None:
    await world.send()
    for origin in (HUB_ORIGIN, world.msp.origin):
        sent = world.wire.last(origin)

        again = await world.wire.request(sent.method, sent.url, headers=sent.headers, body=sent.body)

        assert msgspec.json.decode(again.body)["status_code"] == 2901
    assert len(world.msp.got) == 1


@pytest.mark.parametrize("late", [MESSAGE_AGE_MAX + CLOCK_SKEW_MAX + timedelta(seconds=1), timedelta(days=1)])
async def test_a_message_that_was_held_back_too_long_is_refused(world: SignedWorld, late: timedelta) -> None:
    def hold(sent: Sent) -> Sent:
        world.clock.step_to(world.clock.now() + late)
        return sent

    world.wire.meddles_at, world.wire.meddle = world.msp.origin, hold

    with pytest.raises(SignatureRefusedAtPeer, match="too long ago"):
        await world.send()


async def test_what_was_seen_is_forgotten_when_it_would_be_too_old_anyway(
    world: SignedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "PURGE_EVERY_S", 0.0)
    for _ in range(3):
        await world.send()
        world.clock.step_to(world.clock.now() + timedelta(minutes=10))
    await world.send()

    async with world.msp.host.ports.units.begin() as unit:
        assert await unit.table(SEEN_SIGNATURE).count() == 1


async def test_another_partys_key_signs_nothing_in_the_name_of_this_one(world: SignedWorld) -> None:
    mallory = Ed25519PrivateKey.generate()
    key = mallory.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    class Mallory:
        async def sign(self, _: PartyId, message: bytes, **_which: int) -> str:
            return mallory.sign(message).hex()

        async def public_key(self, _: PartyId, **_which: int) -> str:
            return key.hex()

    world.cpo.host.signing._ports = replace(world.cpo.host.ports, signer=Mallory())  # type: ignore[arg-type]

    with pytest.raises(SignatureRefusedAtPeer, match="not what the holder"):
        await world.send()


async def test_an_old_key_counts_beside_the_new_one_until_the_overlap_is_over(world: SignedWorld) -> None:
    for ports in (world.hub.ports, world.msp.host.ports):  # the CPO itself has not heard of it yet
        async with ports.units.begin() as unit:
            await rotate_own_key(unit, CPO, ports.signer, starts_at=world.clock.now(), overlap=timedelta(hours=1))
            await unit.commit()

    await world.send()
    world.clock.step_to(world.clock.now() + timedelta(hours=2))
    with pytest.raises(SignatureRefusedAtPeer, match="not valid any more"):
        await world.send()
    async with world.cpo.host.ports.units.begin() as unit:
        await rotate_own_key(unit, CPO, world.cpo.host.ports.signer, starts_at=world.clock.now())
        await unit.commit()
    await world.send()

    assert 'keyid="NL-TNM/w1"' in world.wire.last(world.msp.origin).headers["signature-input"]


async def test_nothing_under_a_revoked_key_counts(world: SignedWorld) -> None:
    for ports in (world.hub.ports, world.msp.host.ports):
        async with ports.units.begin() as unit:
            await revoke_key(unit, holder=EVERYBODY, party_id=CPO, key_id="w0", now=world.clock.now())
            await unit.commit()

    with pytest.raises(SignatureRefusedAtPeer, match="not valid any more"):
        await world.send()


async def test_a_key_nobody_told_is_refused_where_others_are_known(world: SignedWorld) -> None:
    async with world.cpo.host.ports.units.begin() as unit:
        await rotate_own_key(unit, CPO, world.cpo.host.ports.signer, starts_at=world.clock.now())
        await unit.commit()

    with pytest.raises(SignatureRefusedAtPeer, match="no key w1"):
        await world.send()


# Answers


@pytest.mark.parametrize("where", ["between sender and hub", "between hub and receiver"])
@pytest.mark.parametrize(
    "meddle",
    [
        pytest.param(lambda answer: replace(answer, body=answer.body.replace(b"1000", b"1001")), id="changed"),
        pytest.param(
            lambda answer: replace(
                answer, headers={key: value for key, value in answer.headers.items() if "signature" not in key}
            ),
            id="stripped",
        ),
        pytest.param(lambda answer: replace(answer, status=201), id="another status"),
    ],
)
async def test_an_answer_that_is_not_authentic_is_not_believed(
    world: SignedWorld, where: str, meddle: MeddleBack
) -> None:
    at_hub = where == "between sender and hub"
    world.wire.meddles_at, world.wire.meddle_back = HUB_ORIGIN if at_hub else world.msp.origin, meddle

    with pytest.raises(AnswerNotAuthentic if at_hub else Exception, match="not"):
        await world.send()


async def test_an_answer_to_another_request_is_not_believed(world: SignedWorld) -> None:
    await world.send()
    [old] = [answer for sent, answer in world.wire.passed if sent.url.startswith(HUB_ORIGIN) and sent.body == CDR]
    world.wire.meddles_at, world.wire.meddle_back = HUB_ORIGIN, lambda _: old

    with pytest.raises(AnswerNotAuthentic):
        await world.send(b'{"id":"CDR2"}')


async def test_a_refusal_is_believed_when_the_receiver_signed_it(world: SignedWorld) -> None:
    async def refuse(_: OCPICall) -> Reply:
        raise InvalidParameters("no such session")

    world.msp.answer = refuse

    with pytest.raises(PeerRefused, match="no such session"):
        await world.send()


async def test_a_hub_may_refuse_in_the_receivers_place_but_never_accept(world: SignedWorld) -> None:
    client = await world.cpo.host.connect(CPO, MSP)
    with pytest.raises(PeerRefused, match="no SENDER interface"):
        await client.get("cdrs", InterfaceRole.SENDER, to_party=MSP, correlation_id="c-1")

    async def as_hub(signing: Any, request: Any, answer: Any) -> None:
        signed = getattr(request.state, "signed", None)
        if signed is not None:
            request.state.signed = replace(signed, own_party=HUB)
        await original(signing, request, answer)

    original = type(world.msp.host.signing).sign_answer
    world.msp.host.signing.sign_answer = as_hub.__get__(world.msp.host.signing)  # type: ignore[method-assign]
    with pytest.raises(Exception, match="not asked"):
        await world.send()


# Who need not sign


async def test_between_parties_that_know_no_key_of_each_other_nothing_is_proven_and_nothing_refused() -> None:
    world = await a_world(share_keys=False)

    await world.send()

    [call] = world.msp.got
    assert call.signed is not None
    assert not call.signed.is_proven


async def test_a_key_that_was_told_out_of_band_and_a_rule_make_a_partner_sign() -> None:
    world = await a_world(share_keys=False)
    ports = world.msp.host.ports
    key = bytes.fromhex(await ports.signer.public_key(CPO))
    async with ports.units.begin() as unit:
        await enter_told_key(
            unit,
            PartyKeyRow(
                holder=MSP.code,
                party_id=CPO,
                key_id="w0",
                algorithm=KeyAlgorithm.ED25519,
                public_key=key,
                source=KeySource.TOLD,
                generation=None,
                valid_from=START,
            ),
        )
        await unit.table(SIGNATURE_RULE).put(SignatureRule(own_party=MSP, party_id=CPO, is_required=True))
        await unit.commit()

    await world.send()

    # The hub knows no key and can say nothing; the sender's signature reached the receiver all the same.
    [call] = world.msp.got
    assert call.signed is not None
    assert call.signed.is_proven
    world.wire.meddles_at = world.msp.origin
    world.wire.meddle = with_headers(signature=None, signature_input=None)
    with pytest.raises(SignatureRefusedAtPeer, match="not signed"):
        await world.send()


async def test_a_rule_can_let_a_hosted_party_go_unsigned(world: SignedWorld) -> None:
    for own, ports in ((HUB, world.hub.ports), (MSP, world.msp.host.ports)):
        async with ports.units.begin() as unit:
            await unit.table(SIGNATURE_RULE).put(SignatureRule(own_party=own, party_id=CPO, is_required=False))
            await unit.commit()
    async with world.cpo.host.ports.units.begin() as unit:
        await unit.table(PARTY_KEY).delete(EVERYBODY, CPO, "w0")
        await unit.table(SIGNATURE_RULE).put(SignatureRule(own_party=CPO, party_id=MSP, is_required=False))
        await unit.commit()

    await world.send()

    assert world.msp.got[0].signed is None


# Where keys come from


async def operator(world: SignedWorld, party: Party, method: str, path: str, body: Any = None) -> HttpResponse:
    content = b"" if body is None else msgspec.json.encode(body)
    return await world.wire.request(method, f"{party.origin}/platform/{party.party}/{path}", headers={}, body=content)


async def test_operators_tell_rotate_and_revoke_keys_and_say_who_must_sign() -> None:
    world = await a_world(share_keys=False)
    [own] = msgspec.json.decode((await operator(world, world.cpo, "GET", "ocpi-keys/NL-TNM")).body)
    told = {key: own[key] for key in ("algorithm", "public_key")}
    assert (await operator(world, world.msp, "PUT", "ocpi-keys/NL-TNM/w0", told)).status == 200
    rule = {"is_required": True}
    assert (await operator(world, world.msp, "PUT", "ocpi-signature-rules/NL-TNM", rule)).status == 200

    await world.send()
    world.clock.step_to(world.clock.now() + timedelta(seconds=1))

    rotated = await operator(world, world.cpo, "POST", "ocpi-keys/rotate", {"lead_hours": 1})
    assert msgspec.json.decode(rotated.body)["key_id"] == "w1"
    await world.send()
    world.clock.step_to(world.clock.now() + timedelta(hours=1))
    with pytest.raises(SignatureRefusedAtPeer, match="no key w1"):
        await world.send()
    key = {"public_key": msgspec.json.decode(rotated.body)["public_key"]}
    await operator(world, world.msp, "PUT", "ocpi-keys/NL-TNM/w1", key)
    await world.send()
    await operator(world, world.msp, "DELETE", "ocpi-keys/NL-TNM/w1")
    world.clock.step_to(world.clock.now() + timedelta(seconds=1))
    with pytest.raises(SignatureRefusedAtPeer, match="not valid any more"):
        await world.send()


@pytest.mark.parametrize(
    ("key_id", "body"),
    [
        ("w0", {"public_key": "00"}),
        ("w0", {"public_key": "zz" * 32}),
        ("w%20", {"public_key": "11" * 32}),
        ("w0", {"public_key": "11" * 33, "algorithm": "ecdsa-p256-sha256"}),
        ("w0", {"public_key": "11" * 32, "algorithm": "hmac-sha256"}),
    ],
)
async def test_what_is_no_key_is_refused(key_id: str, body: dict[str, str]) -> None:
    world = await a_world(share_keys=False)

    assert (await operator(world, world.msp, "PUT", f"ocpi-keys/NL-TNM/{key_id}", body)).status == 422


async def test_a_key_keeps_its_bytes() -> None:
    world = await a_world(share_keys=False)
    first, second = (Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex() for _ in range(2))
    assert (await operator(world, world.msp, "PUT", "ocpi-keys/NL-TNM/a", {"public_key": first})).status == 200

    assert (await operator(world, world.msp, "PUT", "ocpi-keys/NL-TNM/a", {"public_key": second})).status != 200


async def test_the_registrys_key_of_a_party_counts_while_an_issuer_vouches_for_it() -> None:
    world = await a_world(share_keys=False)
    registry = MemoryPartyRegistry()
    signer = world.msp.host.ports.signer
    registry.entries[CPO] = PartyEntry(
        party_id=CPO,
        number=1,
        signer=bytes(20),
        nonce=0,
        attested_until=START + timedelta(hours=1),
        roles=frozenset(),
        modules=frozenset(),
        platform=bytes(32),
        message_key=await signer.public_key(CPO),
    )
    keys = RegistryPartyKeys(StoredPartyKeys(world.msp.host.ports.units), registry, world.clock)
    world.msp.host.signing._keys = keys

    await world.send()
    assert world.msp.got[-1].signed is not None
    assert world.msp.got[-1].signed.is_proven
    world.clock.step_to(START + timedelta(hours=2))
    with pytest.raises(SignatureRefusedAtPeer, match="not valid any more"):
        await world.send()
    registry.is_down = True
    world.clock.step_to(START + timedelta(hours=3))
    with pytest.raises(PeerFailed):
        await world.send()
