"""Any chain that speaks Ethereum's JSON-RPC (`Chain`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from emobility.adapters.ethereum.chain import EthereumChain
from emobility.adapters.ethereum.rpc import JSONRPC, TIMEOUT_S


@asynccontextmanager
async def open_ethereum(rpc_url: str, *, timeout_s: float = TIMEOUT_S) -> AsyncIterator[EthereumChain]:
    """Yield the chain behind an HTTP endpoint; it need not be up.

    Args:
        rpc_url: The endpoint. It may carry a key, so no error tells it.
        timeout_s: How long one call may take.
    """
    rpc = JSONRPC(rpc_url, timeout_s=timeout_s)
    try:
        yield EthereumChain(rpc)
    finally:
        await rpc.close()


__all__ = ["EthereumChain", "open_ethereum"]
