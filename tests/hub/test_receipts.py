"""Receipts of delivery: written with each message, signed in batches, bound by days, checked from a file alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from emobility.domain.delivery_receipt import ANCHOR_KIND, Claim, start_of
from emobility.events.anchoring import ANCHORING, Anchored, AnchorRequested
from emobility.events.event import Envelope, LoggedEvent
from emobility.ports.http import HttpResponse
from emobility.ports.party_keys import KeyAlgorithm
from emobility.protocols.ocpi import message_signatures
from emobility.protocols.ocpi.client import OCPIClient
from emobility.protocols.ocpi.message_signatures import TARGET
from emobility.protocols.ocpi.receipt_checking import ReceiptFalse, check_receipt
from emobility.protocols.ocpi.structured_fields import Item
from emobility.protocols.ocpi.v221 import InterfaceRole
from roaming_hub.receipt_documents import RECEIPTS_MODULE
from roaming_hub.receipt_records import RECEIPT, RECEIPT_BATCH, ReceiptRow
from roaming_hub.receipts import Receipts
from roaming_hub.service import HUB
from tests.hub.test_signed_messages import CDR, SignedWorld, a_world, with_body
from tests.hub.world import CPO, HUB_ORIGIN, INTERNAL_TOKEN, MSP, NSP


@pytest.fixture
async def world() -> SignedWorld:
    return await a_world()


async def documents(world: SignedWorld, client: OCPIClient, correlation_id: str = "c-1") -> list[dict[str, Any]]:
    answer = await client.get(
        RECEIPTS_MODULE, InterfaceRole.SENDER, f"/{correlation_id}", to_party=HUB, correlation_id="c-receipts"
    )
    return answer.as_(list[dict[str, Any]])


async def keys(world: SignedWorld) -> tuple[bytes, tuple[KeyAlgorithm, bytes]]:
    signer = world.hub.ports.signer
    hub, msp = bytes.fromhex(await signer.public_key(HUB)), bytes.fromhex(await signer.public_key(MSP))
    return hub, (KeyAlgorithm.ED25519, msp)


async def the_document(world: SignedWorld) -> dict[str, Any]:
    [document] = await documents(world, await world.cpo.host.connect(CPO, MSP))
    return document


async def requested(world: SignedWorld) -> list[AnchorRequested]:
    events = [logged.envelope.event async for logged in world.hub.ports.event_log.read([ANCHORING])]
    return [event for event in events if isinstance(event, AnchorRequested)]


async def test_a_message_has_a_receipt_that_the_receiver_countersigned(world: SignedWorld) -> None:
    await world.send()
    await world.hub.receipts.bind()

    document = await the_document(world)

    hub_key, msp_key = await keys(world)
    checked = check_receipt(document, hub_key=hub_key, receiver_key=msp_key)
    assert checked.claim is Claim.THE_RECEIVER_SIGNED
    assert document["claim"] == "THE_RECEIVER_SIGNED"
    receipt = checked.receipt
    assert (receipt.from_party, receipt.to_party, receipt.module, receipt.method) == (CPO, MSP, "cdrs", "POST")
    assert receipt.sent_sha256 == receipt.forwarded_sha256 == sha256(CDR).digest()
    assert (receipt.http_status, receipt.ocpi_status) == (200, 1000)
    # Without the receiver's key its word can't be told from the hub's.
    assert check_receipt(document, hub_key=hub_key).claim is Claim.THE_HUB_SAYS


async def test_what_was_never_delivered_has_a_receipt_too_and_it_is_the_hubs_word_alone(world: SignedWorld) -> None:
    world.wire.cut(world.msp.origin)
    with pytest.raises(Exception, match="4003"):
        await world.send()
    await world.hub.receipts.bind()

    document = await the_document(world)

    checked = check_receipt(document, hub_key=(await keys(world))[0])
    assert (checked.receipt.http_status, checked.receipt.ocpi_status) == (None, 4003)
    assert checked.receipt.response_sha256 is None
    assert document["claim"] == "THE_HUB_SAYS"


async def test_an_answer_that_is_not_authentic_countersigns_nothing(world: SignedWorld) -> None:
    def forged(answer: HttpResponse) -> HttpResponse:
        return replace(answer, body=answer.body.replace(b"1000", b"1001"))

    world.wire.meddles_at, world.wire.meddle_back = world.msp.origin, forged
    with pytest.raises(Exception, match="not authentic"):
        await world.send()
    await world.hub.receipts.bind()

    assert (await the_document(world))["claim"] == "THE_HUB_SAYS"


async def test_a_receivers_word_that_repeats_where_the_message_went_is_not_kept(
    world: SignedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_target = (*message_signatures._OF_REQUEST, Item(TARGET, {"req": True}))
    monkeypatch.setattr(message_signatures, "_OF_REQUEST", with_target)
    await world.send()
    await world.hub.receipts.bind()

    document = await the_document(world)

    # The target of a token's message names the token; receipts stand in clear for long.
    assert (document["claim"], "cdrs" in str(document.get("countersignature"))) == ("THE_HUB_SAYS", False)
    async with world.hub.ports.units.begin() as unit:
        assert [row.countersigned_base for row in await unit.table(RECEIPT).select()] == [None]


@pytest.mark.parametrize(
    ("field", "value"),
    [("ocpi_status", 2001), ("sent_sha256", "00" * 32), ("to_party", "NL-XXX"), ("at", "2026-03-01T12:00:01Z")],
)
async def test_a_receipt_that_was_changed_is_false(world: SignedWorld, field: str, value: object) -> None:
    await world.send()
    await world.hub.receipts.bind()
    document = await the_document(world)

    document["receipt"][field] = value

    with pytest.raises(ReceiptFalse):
        check_receipt(document, hub_key=(await keys(world))[0])


async def test_a_batch_that_was_changed_or_signed_by_another_is_false(world: SignedWorld) -> None:
    await world.send()
    await world.hub.receipts.bind()
    document = await the_document(world)
    hub_key, (_, other) = await keys(world)

    with pytest.raises(ReceiptFalse, match="hub's key"):
        check_receipt(document, hub_key=other)
    for field, value in (("number", 2), ("previous", "11" * 32), ("closed_at", "2026-03-01T13:00:00Z")):
        with pytest.raises(ReceiptFalse):
            check_receipt({**document, "batch": {**document["batch"], field: value}}, hub_key=hub_key)


async def test_many_receipts_share_one_signature_and_each_is_proven_alone(world: SignedWorld) -> None:
    for number in range(5):
        await world.send(correlation_id=f"c-{number}")
    await world.hub.receipts.bind()
    await world.send(correlation_id="c-late")
    await world.hub.receipts.bind()

    client, hub_key = await world.cpo.host.connect(CPO, MSP), (await keys(world))[0]
    found = [(await documents(world, client, f"c-{number}"))[0] for number in range(5)]
    [late] = await documents(world, client, "c-late")

    assert {each["batch"]["signature"] for each in found} == {found[0]["batch"]["signature"]}
    assert sorted(each["proof"]["index"] for each in found) == [0, 1, 2, 3, 4]
    for each in (*found, late):
        check_receipt(each, hub_key=hub_key)
    # The next batch names the one before it: none can be left out afterwards.
    async with world.hub.ports.units.begin() as unit:
        first, second = await unit.table(RECEIPT_BATCH).select(order_by=("number",))
    assert second.previous == first.batch().leaf


async def test_a_receipt_is_for_its_sender_and_receiver_and_for_nobody_else(world: SignedWorld) -> None:
    await world.send()
    await world.hub.receipts.bind()
    async with world.hub.ports.units.begin() as unit:
        [row] = await unit.table(RECEIPT).select({"correlation_id": "c-1"})
        for other, to in (("a", NSP), ("b", CPO)):
            strange = replace(row, receipt_id=other, from_party=NSP, to_party=to, batch_number=None, place=None)
            await unit.table(RECEIPT).put(strange)
        await unit.commit()

    of_cpo = await documents(world, await world.cpo.host.connect(CPO, MSP))
    of_msp = await documents(world, await world.msp.host.connect(MSP, CPO))
    of_operator = await world.wire.request(
        "GET", f"{HUB_ORIGIN}/hub/admin/receipts/c-1", headers={"Authorization": f"Bearer {INTERNAL_TOKEN}"}
    )
    by_nobody = await world.wire.request("GET", f"{HUB_ORIGIN}/hub/admin/receipts/c-1", headers={})

    assert [each["receipt"]["from_party"] for each in of_msp] == ["NL-TNM"]
    assert sorted(each["receipt"]["from_party"] for each in of_cpo) == ["BE-NSP", "NL-TNM"]
    assert len(msgspec.json.decode(of_operator.body)) == 3
    assert by_nobody.status == 401


async def test_what_another_process_bound_meanwhile_is_not_bound_again(world: SignedWorld) -> None:
    ours, others = world.hub.receipts, Receipts(world.hub.ports, HUB)
    await world.send(correlation_id="c-1")
    assert await ours.bind() == 1
    await world.send(correlation_id="c-2")
    looked, unbound = [0], Receipts._unbound

    async def just_before(unit: Any) -> list[ReceiptRow]:
        rows = await unbound(unit)
        looked[0] += 1
        if looked[0] == 1:
            assert await others.bind() == 1
        return rows

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ours, "_unbound", just_before)
        assert await ours.bind() == 0

    async with world.hub.ports.units.begin() as unit:
        numbers = [row.batch_number for row in await unit.table(RECEIPT).select(order_by=("at",))]
        assert [batch.count for batch in await unit.table(RECEIPT_BATCH).select()] == [1, 1]
    assert sorted(numbers, key=str) == [1, 2]


# Days


async def test_a_day_that_is_over_has_one_root_and_asks_for_it_to_be_anchored_once(world: SignedWorld) -> None:
    first_day = start_of(world.clock.now().date())
    await world.send(correlation_id="c-1")
    await world.hub.receipts.bind()
    await world.send(correlation_id="c-2")
    await world.hub.receipts.bind()
    assert await world.hub.receipts.close_days() == 0
    world.clock.step_to(first_day + timedelta(days=1, minutes=5))

    assert await world.hub.receipts.close_days() == 1
    assert await world.hub.receipts.close_days() == 0

    [event] = await requested(world)
    assert (event.kind, event.party_id, event.period_start) == (ANCHOR_KIND, HUB, first_day)
    hub_key = (await keys(world))[0]
    client = await world.cpo.host.connect(CPO, MSP)
    for correlation_id in ("c-1", "c-2"):
        [document] = await documents(world, client, correlation_id)
        checked = check_receipt(document, hub_key=hub_key, root_on_chain=event.root)
        assert checked.is_anchored
        with pytest.raises(ReceiptFalse, match="another root"):
            check_receipt(document, hub_key=hub_key, root_on_chain=bytes(32))


async def test_where_a_day_is_anchored_stands_in_its_receipts(world: SignedWorld) -> None:
    await world.send()
    await world.hub.receipts.bind()
    world.clock.step_to(world.clock.now() + timedelta(days=1))
    await world.hub.receipts.close_days()
    [event] = await requested(world)
    anchored = Anchored(
        kind=event.kind,
        party_id=HUB,
        period_start=event.period_start,
        root=event.root,
        chain_id=31_337,
        contract=b"\x01" * 20,
        transaction=b"\x02" * 32,
        block_number=7,
        block_hash=b"\x03" * 32,
        anchored_at=world.clock.now(),
    )

    for told in (replace(anchored, root=bytes(32)), anchored):
        envelope = Envelope(event=told, event_id="e", correlation_id="c", recorded_at=world.clock.now())
        async with world.hub.ports.units.begin() as unit:
            await world.hub.receipts.handle(
                unit, [LoggedEvent(topic=ANCHORING, partition=0, offset=0, envelope=envelope)]
            )
            await unit.commit()
        document = await the_document(world)
        assert (document["day"]["anchor"] is None) == (told.root == bytes(32))

    assert document["day"]["anchor"]["transaction"] == "02" * 32


async def test_a_message_that_was_refused_at_the_door_has_no_receipt(world: SignedWorld) -> None:
    world.wire.meddles_at, world.wire.meddle = HUB_ORIGIN, with_body(lambda body: body + b" ")
    with pytest.raises(Exception, match="signature"):
        await world.send()

    async with world.hub.ports.units.begin() as unit:
        assert await unit.table(RECEIPT).count() == 0
