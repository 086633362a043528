"""What works in the background of a process ends it when it fails: half a process would go on acknowledging."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import psycopg
import pytest

from emobility.adapters.system import SystemTimer
from emobility.domain.identifiers import PartyId, Role
from emobility.protocols.ocpi.host import OCPIHost
from emobility.protocols.ocpi.v221 import InterfaceRole, ModuleID
from emobility.runtime.network import free_port
from emobility.runtime.process_tree import CommandServer, ProcessTree
from emobility.runtime.settings import Settings
from emobility.wiring import open_ports
from services.charging_operations.office import GROUP
from services.charging_operations.service import SERVICE
from services.embedded.stack import answers

DEADLINE_S = 60.0


CPO, MSP = PartyId("NL-TNM"), PartyId("DE-MSP")


def settings_for(dsn: str) -> Settings:
    url = f"http://127.0.0.1:{(port := free_port())}"
    return Settings.model_validate(
        {
            "environment": "development",
            "database_url": dsn,
            "internal_token": "i" * 32,
            "master_key": "ab" * 32,
            "business_port": port,
            "business_url": url,
            "public_url": url,
        }
    )


def business(settings: Settings, log: Path) -> CommandServer:
    environment = os.environ | {
        "WATTROAM_ENVIRONMENT": settings.environment,
        "WATTROAM_DATABASE_URL": str(settings.database_url),
        "WATTROAM_INTERNAL_TOKEN": settings.internal_token.get_secret_value(),
        "WATTROAM_MASTER_KEY": settings.master_key.get_secret_value(),
        "WATTROAM_BUSINESS_PORT": str(settings.business_port),
        "WATTROAM_BUSINESS_URL": settings.business_url,
        "WATTROAM_PUBLIC_URL": settings.public_url,
    }
    argv = [sys.executable, "-m", "services.embedded.business_process"]
    is_ready = answers(f"{settings.business_url}/livez")
    return CommandServer("business", argv, log=log, timer=SystemTimer(), is_ready=is_ready, env=environment)


async def owe_a_message(settings: Settings) -> None:
    """Let a hosted CPO owe one to an MSP it has no route to: it is tried for ever."""
    async with open_ports(settings) as ports, ports.units.begin() as unit:
        host = OCPIHost(ports, service=SERVICE, base_url=settings.business_url)
        await host.add_party(unit, CPO, role=Role.CPO, business_name="TNM")
        await host.deliveries.enqueue(
            unit,
            own_party=CPO,
            to_party=MSP,
            method="PUT",
            module=ModuleID.TARIFFS,
            interface_role=InterfaceRole.RECEIVER,
            path="/NL/TNM/1",
            object_key="tariff/1",
            body=b"{}",
            correlation_id="c",
        )
        await unit.commit()


async def until_it_consumes_and_sends(dsn: str) -> None:
    async with asyncio.timeout(DEADLINE_S), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        while True:
            consumed = await connection.execute("SELECT 1 FROM group_cursor WHERE group_name = %s", [GROUP])
            tried = await connection.execute("SELECT 1 FROM ocpi_delivery WHERE reason IS NOT NULL")
            if await consumed.fetchone() and await tried.fetchone():
                return
            await asyncio.sleep(0.05)


@pytest.mark.fault
@pytest.mark.timeout(DEADLINE_S * 2)
async def test_a_consumer_that_fails_ends_its_process_loudly_and_the_tree_starts_it_again(
    postgres_dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "business.log"
    changes: asyncio.Queue[str] = asyncio.Queue()
    settings = settings_for(postgres_dsn)
    await owe_a_message(settings)
    tree = ProcessTree([business(settings, log)], timer=SystemTimer(), on_change=changes.put_nowait)
    async with tree, await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await until_it_consumes_and_sends(postgres_dsn)
        # A cursor outside the log, as after a restored backup.
        await connection.execute("UPDATE group_cursor SET next_offset = 99 WHERE group_name = %s", [GROUP])
        async with asyncio.timeout(DEADLINE_S):
            went_down = await changes.get()
            await connection.execute("UPDATE group_cursor SET next_offset = 0 WHERE group_name = %s", [GROUP])
            while not (came_back := await changes.get()).endswith("is back"):
                pass

    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    [death, *_] = [line for line in lines if line["event"] == "process_failed"]
    assert went_down.startswith("business went down (exit code 1)")
    assert came_back == "business is back"
    assert "stands at 99" in death["reason"]
    assert "CursorOutsideLog" in death["exception"]
