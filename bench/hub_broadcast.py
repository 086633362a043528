"""One push to a thousand receivers, of which one in twenty is dead: half of those refuse, half never answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Final

from bench.figure import Figure, against_goal
from bench.hub_load import Connection, Target, connected, get, put_object
from bench.hub_processes import Joined, process, register
from bench.servers import migrated_postgres
from emobility.domain.identifiers import PartyId, Role
from emobility.runtime import network
from roaming_hub.service import HUB

FIGURES: Final = ("hub.broadcast.answered", "hub.broadcast.live_served", "hub.broadcast.live_served_in")
RECEIVERS: Final = 1_000
RECEIVERS_SHORT: Final = 100
DEAD_PART: Final = 20
GOAL_ANSWER_MS: Final = 1_000.0
GOAL_S: Final = 30.0
OUTCOME_S: Final = 0.2
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


async def run(*, short: bool) -> list[Figure]:
    """Measure one broadcast."""
    return await measure(receivers=RECEIVERS_SHORT if short else RECEIVERS)


async def measure(*, receivers: int) -> list[Figure]:
    """Measure one broadcast to so many."""
    names = [f"DE-{''.join(each)}" for each in itertools.islice(itertools.product(LETTERS, repeat=3), receivers)]
    dead = {name for number, name in enumerate(names) if number % DEAD_PART == 0}
    async with migrated_postgres() as postgres, process("platform") as live, process("silent") as silent:
        origin, never = f"http://127.0.0.1:{live.port}", f"http://127.0.0.1:{silent.port}"
        refusing = f"http://127.0.0.1:{network.free_port()}"
        urls = {name: (never, refusing)[number % 2] for number, name in enumerate(sorted(dead))}
        parties = [(PartyId(name), Role.EMSP, urls.get(name, origin)) for name in names]
        cpo = PartyId("NL-CPO")
        [sender, *_] = await register(postgres.dsn, [(cpo, Role.CPO, origin), *parties], ["tariffs"])
        port = network.free_port()
        async with process("hub", postgres.dsn, str(port), origin, never, refusing) as hub:
            target = Target(port=hub.port, path="/hub/ocpi/2.2.1")
            [connection] = await connected(hub.port, 1)
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            answer = await connection.ask(put_object(target, sender, HUB, "tariffs", b'{"id":"1","price":0.10}'))
            answered_s = loop.time() - began_s
            assert b'"status_code":1000' in answer, answer
            served, served_s = 0, 0.0
            while loop.time() - began_s < GOAL_S:
                outcomes = await _outcomes(connection, target, sender, answer)
                served = sum(outcomes[name] == "DELIVERED" for name in names if name not in dead)
                served_s = loop.time() - began_s
                if served == receivers - len(dead):
                    break
                await asyncio.sleep(OUTCOME_S)
            connection.transport.close()
    return [
        against_goal(name=FIGURES[0], value=1_000 * answered_s, unit="ms", at_most=GOAL_ANSWER_MS),
        against_goal(name=FIGURES[1], value=served, unit="receivers", at_least=receivers - len(dead)),
        against_goal(name=FIGURES[2], value=served_s, unit="s", at_most=GOAL_S),
    ]


async def _outcomes(connection: Connection, target: Target, sender: Joined, answer: bytes) -> dict[str, str]:
    head = answer.lower().partition(b"wattroam-broadcast-id: ")[2]
    broadcast_id = head.partition(b"\r\n")[0].decode()
    told = await connection.ask(get(target, sender, f"wattroam-broadcasts/sender/{broadcast_id}"))
    body = json.loads(told.partition(b"\r\n\r\n")[2])
    return {each["to_party"]: each["outcome"] for each in body["data"]["receivers"]}
