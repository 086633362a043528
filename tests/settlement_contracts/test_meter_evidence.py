"""What Python says of a meter's record is what the contract says: the same commitment, signature and energy."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function
from emobility.domain.batch.disputes import MeteredEnergy
from emobility.domain.batch.meter import MeterCurve, MeterRecord, SignedPayload, meter_commitment
from emobility.domain.errors import EmobilityError
from emobility.ports.chain import CallReverted
from emobility.protocols.ocmf.committing import meter_record
from emobility.protocols.ocmf.judged import is_signed, metered_energy
from emobility.protocols.ocmf.record import stated_readings
from settlement_contracts import bytecode
from tests.chains import AnvilWorld, an_anvil
from tests.ocmf.meter import Meter, value

EXAMPLES: Final = int(os.environ.get("WATTROAM_FUZZ_EXAMPLES", "60"))
METERS: Final = [Meter(curve, serial="EM1") for curve in (ec.SECP256R1(), ec.SECP256K1())]
# The chain is only asked, never changed, so that examples may share it.
examined = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
pytestmark = pytest.mark.chain

NUMBERS: Final = st.decimals(min_value=0, max_value=10**6, places=3).map(
    lambda number: f"{number:f}"
) | st.sampled_from(["0", "1", "01", "1e3", "1.", "-1", "0.0005", "2.50", "9" * 19, "9" * 20, "null", '"1"'])
FIELDS: Final = {
    "TX": st.sampled_from(["B", "E", "E", "L", "C", "X", ""]),
    "RV": NUMBERS,
    "RU": st.sampled_from(["kWh", "kWh", "kWh", "Wh", "kwh"]),
    "RI": st.sampled_from(
        ["1-0:1.8.0", "1-0:1.8.0", "01-00:B2.08.00*FF", "1-0:2.8.0", "01-00:C3.08.00", "1-:2.8.0", ""]
    ),
    "ST": st.sampled_from(["G", "G", "G", "G", "T"]),
    "EF": st.sampled_from(["", "", "", "", "E"]),
    "TM": st.just("2022-03-27T10:00:00,000+0200 S"),
}


@dataclass(frozen=True)
class Evidence:
    """The contract on a chain."""

    world: AnvilWorld
    address: bytes

    async def ask(self, function: Function, *arguments: Any) -> Any:
        (answer,) = function.answer(await self.world.chain.call(self.address, function.call(*arguments)))
        return answer


@pytest.fixture
async def evidence(tmp_path: Path) -> AsyncIterator[Evidence]:
    async with an_anvil(tmp_path / "chain") as world:
        receipt = await world.final(await world.sent(None, bytes.fromhex(bytecode("MeterEvidence")[2:])))
        assert receipt.contract_address is not None
        yield Evidence(world, receipt.contract_address)


@st.composite
def readings(draw: st.DrawFn) -> str:
    """A reading as text: mostly whole, sometimes with a field too few or too many, with spaces as may be."""
    names = draw(st.permutations(list(FIELDS)))
    if draw(st.integers(0, 9)) == 0:
        names = names[1:]
    if draw(st.integers(0, 9)) == 0:
        names = [*names, draw(st.sampled_from(names))]
    space = draw(st.sampled_from(["", "", " ", "\n\t"]))
    written = (
        f'"{name}"{space}:{space}' + (drawn if name == "RV" else json.dumps(drawn))
        for name in names
        for drawn in [draw(FIELDS[name])]
    )
    return "{" + f"{space},".join(written) + "}"


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A payload around such readings."""
    head = draw(st.sampled_from(['"FV":"1.0",', '"IF":["A","B"],"IS":true, ', "", '"X":{},', '"Y":"\\"",', '"RD":1,']))
    tail = draw(st.sampled_from(["", ',"LC":{"LN":"{"}', " ", ',"RD":[]']))
    listed = ",".join(draw(st.lists(readings(), min_size=0, max_size=4)))
    return f'{{{head}"RD":[{listed}]{tail}}}'.encode()


def of(*written: bytes) -> MeterRecord:
    signed = tuple(SignedPayload(payload=each, signature=b"") for each in written)
    return MeterRecord(curve=MeterCurve.SECP256R1, public_key=b"", signed=signed)


async def contract_energy(evidence: Evidence, record: MeterRecord) -> MeteredEnergy | None:
    try:
        has_import, has_export, import_wh, export_wh = await evidence.ask(contracts.ENERGY, record.packed)
    except CallReverted:
        return None
    return MeteredEnergy(import_wh=import_wh if has_import else None, export_wh=export_wh if has_export else None)


def python_energy(record: MeterRecord) -> MeteredEnergy | None:
    try:
        return metered_energy(record)
    except EmobilityError:
        return None


@examined
@given(written=st.lists(payloads(), min_size=1, max_size=2))
async def test_registers_are_read_alike_or_refused_by_both(evidence: Evidence, written: list[bytes]) -> None:
    record = of(*written)

    assert await contract_energy(evidence, record) == python_energy(record)


@examined
@given(
    begin=st.decimals(0, 10**5, places=4),
    drawn=st.decimals(0, 10**3, places=4),
    unit=st.sampled_from(["kWh", "Wh"]),
    data=st.data(),
)
async def test_what_meters_write_is_read_as_the_product_reads_it(
    evidence: Evidence, begin: Decimal, drawn: Decimal, unit: str, data: st.DataObject
) -> None:
    ends = [value("B", f"{begin:f}", 0, RU=unit), value("E", f"{begin + drawn:f}", 9, RU=unit)]
    meter = data.draw(st.sampled_from(METERS))
    texts = (
        [meter.record(1, *ends)] if data.draw(st.booleans()) else [meter.record(n, each) for n, each in enumerate(ends)]
    )
    record = meter_record(texts, public_key=meter.public_key)
    stated = [reading.energy_wh for each in record.signed for reading in stated_readings(each.payload.decode())]

    assert await contract_energy(evidence, record) == MeteredEnergy(import_wh=stated[-1] - stated[0], export_wh=None)


@examined
@given(changed=st.integers(0, 2), where=st.integers(0, 10**4), bit=st.integers(0, 7), meter=st.sampled_from(METERS))
async def test_signatures_are_judged_alike(
    evidence: Evidence, changed: int, where: int, bit: int, meter: Meter
) -> None:
    texts = [meter.record(1, value("B", "1", 0)), meter.record(2, value("E", "2", 1))]
    record = meter_record(texts, public_key=meter.public_key)
    first, second = record.signed
    tampered = [
        MeterRecord(curve=record.curve, public_key=flipped(record.public_key, where, bit), signed=record.signed),
        of_signed(
            record, first, SignedPayload(payload=flipped(second.payload, where, bit), signature=second.signature)
        ),
        of_signed(
            record, first, SignedPayload(payload=second.payload, signature=flipped(second.signature, where, bit))
        ),
    ][changed]

    assert bool(await evidence.ask(contracts.IS_SIGNED, record.packed)) is is_signed(record) is True
    assert bool(await evidence.ask(contracts.IS_SIGNED, tampered.packed)) is is_signed(tampered) is False


async def test_either_s_of_a_signature_holds(evidence: Evidence) -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    record = meter_record([METERS[0].record(1, value("B", "1", 0))], public_key=METERS[0].public_key)
    (signed,) = record.signed
    s = int.from_bytes(signed.signature[32:], "big")
    other = SignedPayload(payload=signed.payload, signature=signed.signature[:32] + (order - s).to_bytes(32, "big"))

    mirrored = of_signed(record, other)

    assert bool(await evidence.ask(contracts.IS_SIGNED, mirrored.packed)) is is_signed(mirrored) is True


@examined
@given(salt=st.binary(min_size=32, max_size=32), written=st.lists(st.binary(max_size=60), min_size=1, max_size=3))
async def test_the_commitment_is_the_contract_s(evidence: Evidence, salt: bytes, written: list[bytes]) -> None:
    record = of(*written)

    answer = await evidence.ask(contracts.METER_COMMITMENT, salt, record.packed)

    assert answer == meter_commitment(record, salt=salt)


def of_signed(record: MeterRecord, *signed: SignedPayload) -> MeterRecord:
    return MeterRecord(curve=record.curve, public_key=record.public_key, signed=signed)


def flipped(data: bytes, where: int, bit: int) -> bytes:
    place = where % len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
