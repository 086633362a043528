"""Search everything an installation holds for what leads to a person, in every form in which it could stand there.

`Everything` is what somebody sees who holds the database, the chain, the logs, the run folder **and** the master key:
each table as PostgreSQL writes it out, each sealed value that still opens, every block and log of the chain, each
record of Kafka as a consumer gets it, each file, those of the chain and of Kafka's topics as well.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psycopg
from kafka import KafkaConsumer, TopicPartition

from emobility.domain.personal import Sealed, SubjectErased, SubjectRestricted
from emobility.ports.ports import Ports
from emobility.ports.vault import Vault
from services.audit.rows import all_rows
from tests.adapters.postgres.test_schema import registered_specs

POLLS_MAX: Final = 240
"""Of Kafka, half a second each at most, until all records were read."""


@dataclass(kw_only=True)
class Everything:
    """Named pieces of what there is, as bytes."""

    pieces: dict[str, bytes]

    @cached_property
    def _whole(self) -> bytes:
        return b"\n".join(self.pieces.values())

    def where(self, canary: str) -> list[str]:
        """Return the names of the pieces in which a canary stands, in any form."""
        # Most forms stand nowhere: one look through everything says so.
        needles = [needle for needle in set(forms(canary)) if needle in self._whole]
        return sorted(name for name, piece in self.pieces.items() if any(needle in piece for needle in needles))


def forms(canary: str) -> Iterator[bytes]:
    """Yield the ways in which a text may stand somewhere: as it is, in hex, reversed, in base64, in either case."""
    written = canary.encode()
    raw = [written, canary.lower().encode(), canary.upper().encode()]
    try:
        number = bytes.fromhex(canary)
    except ValueError:
        pass
    else:
        # A card's number as bytes, and as readers write it that begin with its last byte.
        raw += [number, number[::-1], number[::-1].hex().encode(), number[::-1].hex().upper().encode()]
    for each in raw:
        yield each
        yield each.hex().encode()
        yield each.hex().upper().encode()
        for skipped in range(3):
            # Of base64 whatever bytes stand before: the letters that depend on the canary alone.
            letters = base64.b64encode(b"\0" * skipped + each)
            yield letters[(0, 2, 3)[skipped] : len(letters) - 4 if (skipped + len(each)) % 3 else None]


async def everything(
    ports: Ports,
    dsn: str,
    rpc_url: str,
    *,
    vault: Vault,
    folders: Iterable[Path],
    printed: str,
    kafka: tuple[str, str] | None = None,
) -> Everything:
    """Look everywhere; what is sealed is opened with `vault`, as far as that still opens it.

    `kafka`: where a broker answers and what the names of our topics begin with, if there is one.
    """
    pieces = {f"table {name}": dumped for name, dumped in tables(dsn)}
    pieces |= {f"opened {name}": text.encode() async for name, text in opened(ports, vault)}
    pieces |= dict(blocks(rpc_url))
    # In a thread: a blocked loop would stop those who consume beside it.
    pieces |= {} if kafka is None else await asyncio.to_thread(lambda: dict(records(*kafka)))
    for root in folders:
        files = (path for path in root.rglob("*") if path.is_file())
        pieces |= {f"file {root.name}/{path.relative_to(root)}": path.read_bytes() for path in files}
    return Everything(pieces={**pieces, "printed": printed.encode()})


def partitions(server_folder: Path, topic_prefix: str) -> list[Path]:
    """Return where a broker keeps the partitions of some topics: records stand there uncompressed."""
    return list(server_folder.rglob(f"{topic_prefix}.*-*"))


def records(bootstrap: str, topic_prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield each partition's records from the beginning: keys, values and headers as bytes, whatever packed them."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        ours = [topic for topic in consumer.topics() if topic.startswith(f"{topic_prefix}.")]
        places = [TopicPartition(topic, each) for topic in ours for each in consumer.partitions_for_topic(topic)]
        ends = consumer.end_offsets(places)
        consumer.assign(places)
        for place, first in consumer.beginning_offsets(places).items():
            consumer.seek(place, first)
        found: dict[TopicPartition, list[bytes]] = {place: [] for place in places}
        for _ in range(POLLS_MAX):
            if all(consumer.position(place) >= ends[place] for place in places):
                break
            for place, batch in consumer.poll(timeout_ms=500).items():
                for each in batch:
                    headers = (part for name, value in each.headers for part in (name.encode(), value or b""))
                    found[place] += [each.key or b"", each.value or b"", *headers]
        else:
            raise AssertionError(f"Kafka did not hand out all of {topic_prefix} in {POLLS_MAX} polls")
        for place, parts in found.items():
            yield f"records of {place.topic}/{place.partition}", b"\n".join(parts)
    finally:
        consumer.close()


def tables(dsn: str) -> Iterator[tuple[str, bytes]]:
    """Yield every table of the database, each column as PostgreSQL writes it and binary ones as their bytes, too."""
    with psycopg.connect(dsn) as connection:
        named = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        kinds = " WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        for (name,) in connection.execute((named + kinds).encode()).fetchall():
            rows = connection.execute(f"SELECT * FROM {name}".encode()).fetchall()  # noqa: S608 - a table's own name
            with connection.cursor().copy(f"COPY {name} TO STDOUT".encode()) as copy:
                text = b"".join(bytes(part) for part in copy)
            yield name, b"\n".join([text, *(bytes(value) for row in rows for value in row if isinstance(value, bytes))])


def in_files(root: Path, canaries: Iterable[str], *, since_s: float) -> list[tuple[str, str]]:
    """Return which canaries stand as they are in which files below a folder: pages, segments of the WAL, logs.

    Files that nobody wrote to since (Unix time) are left out: servers have those of other tests, too.
    """
    wanted = list(canaries)
    found = []
    for path in root.rglob("*"):
        with suppress(FileNotFoundError):  # servers remove files of their own
            is_new = path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since_s
            held = path.read_bytes() if is_new else b""
            found += [(each, str(path.relative_to(root))) for each in wanted if each.encode() in held]
    return found


async def opened(ports: Ports, vault: Vault) -> AsyncIterator[tuple[str, str]]:
    """Yield every sealed value of every row and event that opens."""
    for spec in registered_specs():
        async with ports.units.begin() as unit:
            rows = await all_rows(unit, spec)
        texts = [text for row in rows for text in [await _opened(vault, sealed) for sealed in sealed_in(row)] if text]
        yield f"rows of {spec.name}", "\n".join(texts)
    topics = ("charging", "sessions", "cdrs", "retail", "settlement", "anchoring")
    found: list[str] = []
    async for logged in ports.event_log.read(topics):
        found += [text for text in [await _opened(vault, each) for each in sealed_in(logged.envelope.event)] if text]
    yield "events", "\n".join(found)


async def _opened(vault: Vault, sealed: Sealed) -> str | None:
    try:
        return await vault.open(sealed)
    except (SubjectErased, SubjectRestricted):
        return None


def sealed_in(value: Any) -> Iterator[Sealed]:
    """Yield every sealed value in a record, however deep."""
    if isinstance(value, Sealed):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from sealed_in(getattr(value, each.name))
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from sealed_in(getattr(value, name))
    elif isinstance(value, dict):
        yield from sealed_in(list(value.items()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            yield from sealed_in(each)


def blocks(rpc_url: str) -> Iterator[tuple[str, bytes]]:
    """Yield what the chain holds: each block with the input of its transactions, and each log; hex as bytes, too."""
    with httpx.Client(base_url=rpc_url, trust_env=False) as client:

        def asked(method: str, *parameters: Any) -> Any:
            answer = client.post("", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
            return answer.json()["result"]

        for number in range(int(asked("eth_blockNumber"), 16) + 1):
            block = asked("eth_getBlockByNumber", hex(number), True)
            inputs = [bytes.fromhex(each["input"][2:]) for each in block["transactions"]]
            yield f"block {number}", b"\n".join([msgspec.json.encode(block), *inputs])
        logs = asked("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
        yield (
            "logs of the chain",
            b"\n".join([msgspec.json.encode(logs), *(bytes.fromhex(each["data"][2:]) for each in logs)]),
        )
