"""JSON-RPC over web3's HTTP provider, and nothing more of web3.

Its formatters guess at answers and raise what they like for those of a hostile endpoint; here an answer is either
well-formed or the endpoint is unavailable. Nothing is tried again: who asked knows whether that is wise.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import ClientError, ClientTimeout
from web3 import AsyncHTTPProvider
from web3.types import RPCEndpoint

from emobility.ports.chain import ChainUnavailable

TIMEOUT_S: Final = 10.0
"""For one call, connecting included."""


class RPCRefused(Exception):
    """The node answered with an error. `revert_data`: what a contract answered, None when no contract spoke."""

    def __init__(self, *, message: str, revert_data: bytes | None) -> None:
        self.message = message
        self.revert_data = revert_data
        super().__init__(message)


class JSONRPC:
    """One endpoint."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._provider = AsyncHTTPProvider(
            url, request_kwargs={"timeout": ClientTimeout(total=timeout_s)}, exception_retry_configuration=None
        )

    async def ask(self, method: str, *params: Any) -> Any:
        """Return the result of a call.

        Raises:
            ChainUnavailable: no answer in time, or none that is JSON-RPC.
            RPCRefused: an error.
        """
        try:
            answer: Any = await self._provider.make_request(RPCEndpoint(method), params)
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            # Not the error's own words: they may hold the URL, and that a key.
            raise ChainUnavailable(f"{method}: no answer ({type(error).__name__})") from None
        if not isinstance(answer, dict) or ("result" in answer) == ("error" in answer):
            raise ChainUnavailable(f"{method}: the answer is no JSON-RPC")
        if "error" in answer:
            raise _refusal(answer["error"])
        return answer["result"]

    async def close(self) -> None:
        """Close its connections."""
        await self._provider.disconnect()


def _refusal(error: Any) -> RPCRefused:
    told = error if isinstance(error, dict) else {}
    message, data = str(told.get("message", error)), told.get("data")
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
