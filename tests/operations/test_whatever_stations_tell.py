"""Whatever the schema of a message allows, the back office keeps: an event that it can't take stops its station."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charge_point_gateway.message import Context
from charge_point_gateway.notice import Told
from charge_point_gateway.rpc_errors import CallRefused, OCPPVersion
from charge_point_gateway.schemas import schemas_of
from charge_point_gateway.station_session import MESSAGES, SENT_MESSAGES
from charge_point_gateway.texts import without_nul
from emobility.adapters.memory import (
    LoopTimer,
    MemoryHttp,
    SeededRandomness,
    VirtualClock,
    memory_adapters,
    run_virtual,
)
from emobility.events.event import Envelope
from emobility.events.station_told import StationTold
from emobility.ports.ports import Ports
from emobility.runtime.telemetry import Metrics
from services.charging_operations.metrics import OperationsMetrics
from services.charging_operations.office import Limits, Office
from services.charging_operations.records import CPO as CPO_TABLE
from services.charging_operations.records import HostedCPO
from services.charging_operations.station_told import told_desk
from services.charging_operations.vat_numbers import VATNumberDesk
from tests.gateway.schema_cases import schema_of, values_of
from tests.operations.world import CPO, MASTER_KEY, START, STATION

TOLD: Final = [
    (version, action)
    for version in (OCPPVersion.V201, OCPPVersion.V21)
    for action, message in {**MESSAGES[version], **SENT_MESSAGES[version]}.items()
    if isinstance(message, Told) or (action, version) == ("TransactionEvent", OCPPVersion.V21)
]


@pytest.mark.parametrize(("version", "action"), TOLD)
@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_whatever_a_schema_allows_is_kept_without_a_fault(
    version: OCPPVersion, action: str, data: st.DataObject
) -> None:
    payload = data.draw(values_of(schema_of(version, action)))
    try:
        schemas_of(version).check_request(action, payload)
    except CallRefused:
        return  # the generator knows fewer date-times than the validator refuses

    run_virtual(_keep(version, action, without_nul(payload)))


async def _keep(version: OCPPVersion, action: str, payload: dict[str, Any]) -> None:
    message = {**MESSAGES[version], **SENT_MESSAGES[version]}[action]
    clock, randomness = VirtualClock(START), SeededRandomness(1)
    adapters = memory_adapters(master_key=MASTER_KEY, clock=clock, randomness=randomness)
    office = _office(adapters, clock)
    desk = told_desk(office, VATNumberDesk(office=office, register=None))
    context = Context(
        party_id=CPO,
        charging_station_id=STATION,
        station_key=f"{CPO}/{STATION}",
        now=START,
        message_id="m",
        ocpp_version=version.value,
    )
    vault = adapters.vault
    try:
        sealed = {
            each: await vault.seal(each.text, identifier=each.identifier) for each in message.personal(payload, context)
        }
        context = Context(**{name: getattr(context, name) for name in context.__struct_fields__} | {"sealed": sealed})
        facts = message.facts(payload, context)
    except CallRefused:
        return  # a moment or number outside every calendar or range
    async with adapters.units.begin() as unit:
        await unit.table(CPO_TABLE).put(HostedCPO(party_id=CPO, name="CPO"))
        for fact in facts:
            envelope = Envelope(event=fact.event, event_id=fact.event_id, correlation_id="c", recorded_at=START)
            if isinstance(fact.event, StationTold):
                await desk.take(unit, envelope, fact.event)
        await unit.commit()


def _office(adapters: Any, clock: VirtualClock) -> Office:
    ports = Ports(
        clock=clock,
        timer=LoopTimer(),
        randomness=SeededRandomness(2),
        event_log=adapters.event_log,
        units=adapters.units,
        vault=adapters.vault,
        http=MemoryHttp(),
        signer=None,  # type: ignore[arg-type]  # nothing is signed
        payments=None,  # type: ignore[arg-type]  # nothing is paid
    )
    return Office(
        ports=ports,
        host=None,  # type: ignore[arg-type]  # nothing leaves by OCPI
        stations=None,  # type: ignore[arg-type]  # no station is called
        limits=Limits(),
        metrics=OperationsMetrics(Metrics()),
    )
