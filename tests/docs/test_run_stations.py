"""Each call of `docs/how-to/run-stations.md` is one that the API takes, and what a station is sent fits its schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.schemas import schemas_of
from emobility.protocols.station_control.messages import CommandOutcome, CommandResult, StationCommand
from tests.operations.world import CPO, STATION, open_for_business

PAGE: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "run-stations.md").read_text()
CALL: Final = re.compile(r"^call (GET|PUT|POST|DELETE) (\"?)(/\S*?)\2(?: '([^']*)')?(?: +#.*)?$", re.MULTILINE)
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "GetCompositeSchedule": {"status": "Rejected"},
    "SetVariables": {
        "setVariableResult": [
            {
                "attributeStatus": "Accepted",
                "component": {"name": "OCPPCommCtrlr"},
                "variable": {"name": "HeartbeatInterval"},
            }
        ]
    },
}


def station(command: StationCommand) -> CommandOutcome:
    """Answer as a station of 2.0.1 that does what it is told, once the CALL is one of the standard's."""
    call = command.ocpp_call
    assert call is not None
    schemas_of(OCPPVersion.V201).check_request(call.action, call.payload)
    said = ANSWERS.get(call.action, {"status": "Accepted"})
    return CommandOutcome(result=CommandResult.ACCEPTED, station_status=said.get("status"), answer=said)


async def test_every_call_on_the_page_is_taken() -> None:
    calls = CALL.findall("".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)))
    async with open_for_business() as here:
        here.gateway.station = station
        for method, _, path, body in calls:
            answer = await here.api(method, f"/{CPO}{path}", body.encode() or None)
            await here.settle()

            assert answer.is_success, f"{method} {path}: {answer.text}"

    assert len(calls) == PAGE.count("\ncall ") > 15
    assert any(STATION in path for _, _, path, _ in calls)
