"""Any chain that speaks Ethereum's JSON-RPC (`Chain`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from emobility.adapters.ethereum.chain import EthereumChain
from emobility.adapters.ethereum.quorum import QuorumChain
from emobility.adapters.ethereum.rpc import JSONRPC, TIMEOUT_S


@asynccontextmanager
async def open_ethereum(
    rpc_url: str, *, timeout_s: float = TIMEOUT_S, quorum: int | None = None, final_blocks: int | None = None
) -> AsyncIterator[EthereumChain | QuorumChain]:
    """Yield the chain behind HTTP endpoints; they need not be up.

    Args:
        rpc_url: The endpoint, or several with commas between. They may carry keys, so no error tells them.
        timeout_s: How long one call may take.
        quorum: How many of several must agree; None: more than half.
        final_blocks: A block is final when so many follow it; None: as the chain itself says (`finalized`).
    """
    urls = [each.strip() for each in rpc_url.split(",") if each.strip()]
    async with AsyncExitStack() as stack:
        chains: dict[str, EthereumChain] = {}
        for place, url in enumerate(urls, start=1):
            rpc = JSONRPC(url, timeout_s=timeout_s)
            stack.push_async_callback(rpc.close)
            chains[f"{place} {_host(url)}"] = EthereumChain(rpc, final_blocks=final_blocks)
        if len(chains) == 1:
            yield next(iter(chains.values()))
        else:
            yield QuorumChain(chains, quorum=quorum or len(chains) // 2 + 1)


def _host(url: str) -> str:
    """Return all of an endpoint's URL that logs may tell."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?"
    return parts.netloc.rpartition("@")[2]


__all__ = ["EthereumChain", "QuorumChain", "open_ethereum"]
