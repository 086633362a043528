"""Brokers that are away: an attempt that comes to nothing leaves neither socket nor thread."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from emobility.adapters.kafka.connecting import connected
from emobility.runtime.network import LOOPBACK


@pytest.fixture
def _nothing_is_collected() -> Iterator[None]:
    """What only the garbage collector would close stays open."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_sockets() -> set[str]:
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return {link for link in links if link.startswith("socket:")}


@pytest.mark.usefixtures("_nothing_is_collected")
@pytest.mark.parametrize("kind", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_a_client_that_no_broker_answers_leaves_nothing_behind(kind: Any, free_port: int) -> None:
    sockets, threads = open_sockets(), set(threading.enumerate())

    with pytest.raises(KafkaError):
        connected(kind, f"{LOOPBACK}:{free_port}", bootstrap_timeout_ms=500)

    assert open_sockets() <= sockets
    assert set(threading.enumerate()) <= threads
