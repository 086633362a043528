"""PyPI `ocpp` as a station: the same day as `station.mjs`, with the package's own validation in both directions."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ocpp.v16
import ocpp.v21
import ocpp.v201
import websockets
from ocpp.charge_point import camel_to_snake_case
from ocpp.exceptions import OCPPError

URL, IDENTITY, PASSWORD, VERSION, CARD = sys.argv[1:6]
ROOT_FILE = sys.argv[6] if len(sys.argv) > 6 else None
WORDS = json.loads(Path(__file__).with_name("words.json").read_text())["1.6" if VERSION == "1.6" else "2.0.1"]
PACKAGE = {"1.6": ocpp.v16, "2.0.1": ocpp.v201, "2.1": ocpp.v21}[VERSION]
CALL = importlib.import_module(f"{PACKAGE.__name__}.call")
CALL_RESULT = importlib.import_module(f"{PACKAGE.__name__}.call_result")


class Station(PACKAGE.ChargePoint):  # type: ignore[name-defined,misc]  # chosen by the version
    """Answers what the words have an answer to, and does then what follows from it."""

    def __init__(self, connection: Any) -> None:
        super().__init__(IDENTITY, connection)
        self.sent: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.schema_errors: list[str] = []
        self.refusals: list[str] = []
        self.ended = asyncio.Event()
        self.known: dict[str, Any] = {"$card": CARD} | ({} if VERSION == "1.6" else {"$transaction": "tx-1"})
        self.route_map = {
            action: {"_on_action": self._answering(action), "_after_action": self._following(action)}
            for action in WORDS["answers"]
        }

    def _answering(self, action: str) -> Callable[..., Any]:
        def answer(**_: Any) -> Any:
            self.answered[action] += 1
            return getattr(CALL_RESULT, action)(**camel_to_snake_case(WORDS["answers"][action]))

        return answer

    def _following(self, action: str) -> Callable[..., Any]:
        return lambda **_: self._follow(action)

    async def _handle_call(self, msg: Any) -> Any:
        try:
            return await super()._handle_call(msg)
        except OCPPError as error:
            self.schema_errors.append(f"{msg.action}: {error!r}")
            raise

    async def say(self, phrases: list[Any]) -> None:
        """Send CALLs, each when the one before was answered; an answer that breaks its schema raises."""
        for action, payload in phrases:
            try:
                called = getattr(CALL, action)(**camel_to_snake_case(self._said(payload)))
                answer = await self.call(called, suppress=False)
            except OCPPError as error:
                self.schema_errors.append(f"{action}: {error!r}")
                raise
            self.sent[action] += 1
            if action == "BootNotification":
                self._tell_time(answer.current_time)
            if action == "StartTransaction":
                self.known["$transaction"] = answer.transaction_id

    def _tell_time(self, current_time: str) -> None:
        now = datetime.fromisoformat(current_time)
        moments = {"$now": 0, "$between": 30, "$begin": 60}
        self.known |= {name: (now - timedelta(minutes=before)).isoformat() for name, before in moments.items()}

    async def _follow(self, action: str) -> None:
        phrases = WORDS["after"].get(action, [])
        try:
            await self.say(phrases)
        except Exception as error:  # noqa: BLE001 - the report says it
            self.refusals.append(repr(error))
            self.ended.set()
        if phrases:
            tell({"followed": action, "transaction": self.known.get("$transaction")})
        if action == WORDS["end"][0]:
            self.ended.set()

    def _said(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._said(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._said(each) for each in value]
        return self.known.get(value, value) if isinstance(value, str) else value


def tell(line: Any) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Live through the day and report."""
    authorization = base64.b64encode(f"{IDENTITY}:{PASSWORD}".encode()).decode()
    async with websockets.connect(
        f"{URL}/{IDENTITY}",
        ssl=ssl.create_default_context(cafile=ROOT_FILE) if URL.startswith("wss:") else None,
        additional_headers={"Authorization": f"Basic {authorization}"},
        subprotocols=[f"ocpp{VERSION}"],  # type: ignore[list-item]  # a NewType of str
    ) as connection:
        station = Station(connection)
        listening = asyncio.create_task(station.start())
        try:
            await station.say(WORDS["opening"])
            tell({"ready": connection.subprotocol})
            await station.ended.wait()
        except OCPPError as error:
            station.refusals.append(repr(error))
        listening.cancel()
        names = ("sent", "answered", "schema_errors", "refusals")
        tell({"report": {name: getattr(station, name) for name in names}})


if __name__ == "__main__":
    asyncio.run(main())
