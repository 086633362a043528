"""A settlement that serves on a port, in a run folder that a command finds it by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from emobility.runtime.http_server import serve_app
from tests.settlement.settling import Settling


@asynccontextmanager
async def served(here: Settling, run_folder: Path) -> AsyncIterator[None]:
    """Serve meanwhile."""
    outer, stop, port = FastAPI(), asyncio.Event(), asyncio.get_running_loop().create_future()
    outer.mount("/settlement", here.service().app)
    serving = asyncio.create_task(serve_app(outer, host="127.0.0.1", port=0, stop=stop, on_listening=port.set_result))
    installation = {
        "event_log": "postgres",
        "internal_token": "i" * 40,
        "master_key": "00" * 32,
        "business_port": 1,
        "gateway_ocpp_port": 2,
        "gateway_api_port": 3,
        "settlement_port": await port,
        "database_url": None,
        "kafka_bootstrap": None,
    }
    (run_folder / "installation.json").write_text(json.dumps(installation))
    try:
        yield
    finally:
        stop.set()
        await serving
