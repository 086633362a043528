"""A Web3Signer on loopback, written from its `openapi-specs/eth1/web3signer.yaml`: what it serves of the eth1 API.

Like the original it hashes what it is given with Keccak-256 and answers r, s and v (27 or 28) as hex text.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext

from coincurve import PrivateKey

from emobility.domain.batch.hashing import keccak256
from emobility.runtime.network import LOOPBACK

_SIGN = re.compile(r"/api/v1/eth1/sign/(0x)?([0-9a-fA-F]{128})")


class Web3SignerServer:
    """Holds keys; `answers` replaces what it says to a path that begins so."""

    def __init__(self, *secrets: bytes) -> None:
        self.keys = {
            PrivateKey(each).public_key.format(compressed=False)[1:].hex(): PrivateKey(each) for each in secrets
        }
        self.answers: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str, str]:
        """Return status, content type and text."""
        self.asked.append(f"{method} {path}")
        for start, (status, text) in self.answers.items():
            if path.startswith(start):
                return status, "text/plain", text
        if (method, path) == ("GET", "/upcheck"):
            return 200, "text/plain", "OK"
        if (method, path) == ("GET", "/api/v1/eth1/publicKeys"):
            return 200, "application/json", json.dumps([f"0x{each}" for each in self.keys])
        found = _SIGN.fullmatch(path)
        if method != "POST" or found is None:
            return 404, "text/plain", "Resource not found"
        key = self.keys.get(found[2].lower())
        if key is None:
            return 404, "text/plain", "Public Key not found"
        try:
            data = bytes.fromhex(json.loads(body)["data"].removeprefix("0x"))
        except (ValueError, KeyError, TypeError, AttributeError):
            return 400, "text/plain", "Bad request format"
        signature = key.sign_recoverable(keccak256(data), hasher=None)
        return 200, "text/plain; charset=utf-8", f"0x{signature[:64].hex()}{27 + signature[64]:02x}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            length = re.search(r"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            status, kind, text = self.answer(method, path, body)
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(text)}\r\n"
                f"connection: close\r\n\r\n{text}".encode()
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a client that went away
        finally:
            writer.close()


@asynccontextmanager
async def a_web3signer(*secrets: bytes, tls: SSLContext | None = None) -> AsyncIterator[Web3SignerServer]:
    """Serve keys, over TLS if asked for."""
    signer = Web3SignerServer(*secrets)
    server = await asyncio.start_server(signer.serve, LOOPBACK, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    signer.url = f"{'https' if tls else 'http'}://{'localhost' if tls else LOOPBACK}:{port}"
    async with server:
        yield signer
