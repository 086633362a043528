"""JSON-RPC over HTTP, by hand: an answer is either well-formed or the endpoint is unavailable.

Not by web3: its HTTP provider takes a lock of the whole process in a thread, and a call that is cancelled meanwhile
leaves it locked, so that every later call hangs (8.0.0); its formatters raise what they like for nonsense of an
endpoint; and importing it takes seconds. Nothing is tried again: who asked knows whether that is wise.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any, Final

import httpx

from emobility.ports.chain import ChainUnavailable

TIMEOUT_S: Final = 10.0
"""For one call, connecting included."""
ANSWER_BYTES_MAX: Final = 8_000_000
"""Longest answer that is read; the largest that we ask for, a batch's proposal, has 300,000."""
MESSAGE_CHARACTERS_MAX: Final = 300
"""Of what a node says of an error; it goes into rows and logs."""


class RPCRefused(Exception):
    """The node answered with an error. `revert_data`: what a contract answered, None when no contract spoke."""

    def __init__(self, *, message: str, revert_data: bytes | None) -> None:
        self.message = message
        self.revert_data = revert_data
        super().__init__(message)


class JSONRPC:
    """One endpoint."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        # Packed answers are not taken: a few bytes may unpack to more than there is memory.
        self._http = httpx.AsyncClient(trust_env=False, timeout=timeout_s, headers={"accept-encoding": "identity"})
        self._ids = count()

    async def ask(self, method: str, *params: Any) -> Any:
        """Return the result of a call.

        Raises:
            ChainUnavailable: no answer in time, or none that is JSON-RPC.
            RPCRefused: an error.
        """
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            async with asyncio.timeout(self._timeout_s):  # httpx knows no time for a whole call
                answer: Any = json.loads(await self._answer_to(request))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError, RecursionError) as error:
            # Not the error's own words: they may hold the URL, and that a key.
            raise ChainUnavailable(f"the chain's endpoint does not answer {method}: {_cause(error)}") from None
        if not isinstance(answer, dict) or ("result" in answer) == ("error" in answer):
            raise ChainUnavailable(f"{method}: the answer is no JSON-RPC")
        if "error" in answer:
            raise _refusal(answer["error"])
        return answer["result"]

    async def _answer_to(self, request: dict[str, Any]) -> bytes:
        """Return an answer's body. Raises `ValueError` for one that is too long, and what httpx raises."""
        body = bytearray()
        async with self._http.stream("POST", self._url, json=request) as response:
            response.raise_for_status()
            async for part in response.aiter_raw():
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def _refusal(error: Any) -> RPCRefused:
    told = error if isinstance(error, dict) else {}
    message, data = _line(str(told.get("message", error))), told.get("data")
    if isinstance(data, dict):  # hardhat and ganache wrap it
        data = data.get("data")
    try:
        revert_data = bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else None
    except ValueError:
        revert_data = None
    # A revert without a reason has no data; geth and anvil give it code 3, others say so.
    if revert_data is None and (told.get("code") == 3 or "revert" in message.lower()):
        revert_data = b""
    return RPCRefused(message=message, revert_data=revert_data)


def _line(message: str) -> str:
    """Return words of a stranger as one line that any row, log or terminal can hold."""
    return "".join(each if each.isprintable() else " " for each in message[:MESSAGE_CHARACTERS_MAX])


def _cause(error: Exception) -> str:
    """Say for people what happened."""
    match error:
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "it is no http or https URL"
        case httpx.ConnectError():
            return "nothing listens there"
        case TimeoutError() | httpx.TimeoutException():
            return "not in time"
        case _:
            return type(error).__name__
