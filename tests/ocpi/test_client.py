"""What a peer's list may make the client do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from emobility.adapters.memory import SeededRandomness
from emobility.ports.http import TIMEOUT_S, HttpResponse
from emobility.protocols.ocpi.client import OCPIClient, PeerFailed
from emobility.protocols.ocpi.v221 import InterfaceRole, Tariff
from tests.hub.world import CPO, NSP

EMPTY = b'{"data":[],"status_code":1000,"timestamp":"2026-03-01T12:00:00Z"}'


class LinkingPeer:
    """Answers an empty page; the first one with a link."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.called: list[str] = []

    def allow_origin(self, url: str) -> None:
        raise AssertionError(url)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes = b"", timeout_s: float = TIMEOUT_S
    ) -> HttpResponse:
        del method, headers, body, timeout_s
        self.called.append(url)
        linked = {"link": f'<{self.link}>; rel="next"'} if len(self.called) == 1 else {}
        return HttpResponse(status=200, headers=linked, body=EMPTY)


async def listed(peer: LinkingPeer) -> list[Tariff]:
    client = OCPIClient(
        http=peer,
        randomness=SeededRandomness(1),
        own_party=NSP,
        token="secret",
        endpoints={("tariffs", InterfaceRole.SENDER): "https://peer.example/tariffs"},
    )
    found = client.list_all("tariffs", InterfaceRole.SENDER, Tariff, to_party=CPO, correlation_id="c-1")
    return [each async for each in found]


@pytest.mark.parametrize(
    "link",
    [
        "http://[",
        "https://other.example/tariffs",
        "//other.example/tariffs",
        "http://peer.example/tariffs",
        "https://peer.example:8443/tariffs",
        "https://peer.example@other.example/tariffs",
    ],
)
async def test_a_next_page_that_is_no_url_of_the_peer_is_a_failure_and_not_called(link: str) -> None:
    peer = LinkingPeer(link)

    with pytest.raises(PeerFailed):
        await listed(peer)

    assert peer.called == ["https://peer.example/tariffs"]


@pytest.mark.parametrize("link", ["?offset=50", "/tariffs?offset=50", "https://peer.example/tariffs?offset=50"])
async def test_a_next_page_of_the_peer_is_followed(link: str) -> None:
    peer = LinkingPeer(link)

    assert await listed(peer) == []
    assert peer.called[1:] == ["https://peer.example/tariffs?offset=50"]
