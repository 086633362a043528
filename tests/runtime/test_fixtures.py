from __future__ import annotations

import socket

import psycopg
import pytest


def test_each_test_has_a_database_of_its_own(empty_postgres_dsn: str) -> None:
    with psycopg.connect(empty_postgres_dsn) as connection:
        connection.execute("CREATE TABLE only_here (id INT)")

        found = connection.execute("SELECT count(*) FROM only_here").fetchone()

    assert found == (0,)


def test_a_connection_beyond_this_machine_is_refused() -> None:
    with socket.socket() as probe, pytest.raises(AssertionError, match="not on this machine"):
        probe.connect(("192.0.2.1", 80))


def test_a_name_beyond_this_machine_is_not_looked_up() -> None:
    with pytest.raises((AssertionError, ValueError)):
        socket.getaddrinfo("example.org", 80)
