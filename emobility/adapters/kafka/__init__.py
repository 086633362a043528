"""Kafka as the event log, with PostgreSQL for cursors, inbox, dead letters and the outbox. The only home of kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from emobility.adapters.background import alongside
from emobility.adapters.kafka.broker import Admin, Producer
from emobility.adapters.kafka.event_log import KafkaEventLog
from emobility.adapters.kafka.relay import Relay
from emobility.adapters.postgres import PostgresAdapters
from emobility.events.event import CATALOGUE

__all__ = ["KafkaEventLog", "open_kafka"]

PREFIX: Final = "wattroam"
RETENTION_AGE: Final = timedelta(days=90)


@asynccontextmanager
async def open_kafka(
    bootstrap: str,
    postgres: PostgresAdapters,
    *,
    prefix: str = PREFIX,
    retention_age: timedelta = RETENTION_AGE,
) -> AsyncIterator[KafkaEventLog]:
    """Open the log over running brokers and relay this process's outbox while it is open.

    Args:
        bootstrap: `host:port[,host:port]` of the brokers.
        postgres: Where units commit; their events lie there until they are relayed.
        prefix: Stands before every topic and group: one per database.
        retention_age: How old an event is at least when `prune` drops it.

    Raises:
        LogUnavailable: no broker answers.
    """
    producer, admin = Producer(bootstrap), Admin(bootstrap)
    log = KafkaEventLog(bootstrap, postgres, producer, admin, prefix=prefix, retention_age=retention_age)
    try:
        await log.ensure_topics({event.topic for event in CATALOGUE.values()})
        async with alongside(Relay(postgres, producer, prefix=prefix).run(asyncio.Event())):
            yield log
    finally:
        await producer.close()
        await admin.close()
