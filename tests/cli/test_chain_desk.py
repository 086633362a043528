"""What `wattroam chain` says of a settlement elsewhere that does not answer as one."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from services.embedded.chain_desk import show_registrations


class _Proxy(BaseHTTPRequestHandler):
    """Stands before a settlement that is away."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.end_headers()
        self.wfile.write(b"<h1>Bad Gateway</h1>")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Proxy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_answer_that_is_no_json_is_one_sentence(
    proxy: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = {
        "DATABASE_URL": "postgresql://wattroam:secret@127.0.0.1:1/wattroam",
        "INTERNAL_TOKEN": "i" * 40,
        "MASTER_KEY": "e" * 64,
        "SETTLEMENT_URL": f"http://127.0.0.1:{proxy.server_port}",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"WATTROAM_{name}", value)

    assert show_registrations(json=True, run_folder=tmp_path) == 1
    assert capsys.readouterr().err == "<h1>Bad Gateway</h1>\n"
