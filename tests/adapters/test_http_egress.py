from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from emobility.adapters.http_connections import CONNECTIONS_PER_ORIGIN_MAX
from emobility.adapters.http_egress import GuardedHttpClient
from emobility.ports.http import (
    RESPONSE_BYTES_MAX,
    EgressRefused,
    PeerTimedOut,
    PeerUnreachable,
    ResponseTooLarge,
)

PARTNER = "https://partner.example"
PUBLIC = "93.184.215.14"

NEVER_CALLED = [
    # inside, by number
    "https://127.0.0.1/",
    "https://127.1.2.3/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://100.100.100.200/",
    "https://100.64.0.1/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://192.88.99.1/",
    # inside, by an IPv6 number
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[0:0:0:0:0:ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:db8::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    # numbers in disguise
    "https://2130706433/",
    "https://017700000001/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.01/",
    "https://127.0.0.1./",
    "https://1.2.3.4.5/",
    "https://999.1.1.1/",
    "https://partner.example.1/",
    # names in disguise
    "https://partner.example./",
    "https://partner..example/",
    "https://.partner.example/",
    "https://-partner.example/",
    "https://partner_.example/",
    "https://part%6eer.example/",
    "https://pаrtner.example/",  # noqa: RUF001  # a Cyrillic letter, on purpose
    "https://partner。example/",
    "https://①②⑦.⓪.⓪.①/",
    "https://" + "a" * 64 + ".example/",
    # users, ports and separators that parsers disagree on
    "https://partner.example@127.0.0.1/",
    "https://127.0.0.1@partner.example/",
    "https://user:pass@partner.example/",
    "https://partner.example:443@127.0.0.1/",
    "https://partner.example\\@127.0.0.1/",
    "https://127.0.0.1\\partner.example/",
    "https:\\\\partner.example/",
    "https://partner.example#@127.0.0.1/",
    "https://127.0.0.1#partner.example/",
    "https://127.0.0.1?partner.example/",
    "https://partner.example:0/",
    "https://partner.example:/",
    "https://partner.example:99999/",
    "https://partner.example:-1/",
    "https://partner.example:https/",
    "https://partner.example:443:80/",
    "https://partner.example /",
    " https://partner.example/",
    "https://partner.example/\r\nHost: 127.0.0.1",
    "https://partner.example\t/",
    "https://partner.example/\x00",
    "https://[partner.example]/",
    "https://[::1/",
    "https://::1/",
    "https://",
    "https:///path",
    "https:partner.example/",
    "//partner.example/",
    "partner.example",
    "",
    "https://partner.example/" + "a" * 2_048,
    # other schemes
    "http://partner.example/",
    "HTTP://partner.example/",
    "http://127.0.0.1:8080/",
    "ftp://partner.example/",
    "file:///etc/passwd",
    "gopher://partner.example/",
    "unix:///run/socket",
    "javascript:alert(1)",
    "data:text/plain,x",
]

ANSWERS_THAT_LEAD_INSIDE = [
    ["127.0.0.1"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["fe80::1%eth0"],
    ["fd12::1"],
    ["64:ff9b::a00:1"],
    ["2002:a00:1::"],
    ["0.0.0.0"],  # noqa: S104  # an answer of a hostile resolver; nothing is bound
    [PUBLIC, "127.0.0.1"],
    ["127.0.0.1", PUBLIC],
    [PUBLIC] * 9,
]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RecordingNetwork:
    """Remembers where it was asked to connect, and connects to a local port instead, or to nothing."""

    def __init__(self, local_port: int | None = None) -> None:
        self.asked: list[tuple[str, int]] = []
        self._local_port = local_port

    async def __call__(self, address: str, port: int) -> socket.socket:
        self.asked.append((address, port))
        if self._local_port is None:
            raise OSError("nobody there")
        connected = socket.create_connection(("127.0.0.1", self._local_port))
        connected.setblocking(False)
        return connected


def resolves_to(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolver


@asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("url", NEVER_CALLED)
async def test_a_url_that_is_not_plainly_outside_is_neither_registered_nor_called(url: str) -> None:
    network = RecordingNetwork()
    async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(EgressRefused):
            await client.request("GET", url, headers={})
        if not url.startswith(f"{PARTNER}/"):
            with pytest.raises(EgressRefused):
                client.allow_origin(url)

    assert network.asked == []


@pytest.mark.parametrize("addresses", ANSWERS_THAT_LEAD_INSIDE, ids=str)
async def test_a_registered_name_that_leads_inside_is_refused_when_connecting(addresses: list[str]) -> None:
    network = RecordingNetwork()
    async with GuardedHttpClient(resolver=resolves_to(*addresses), connect=network) as client:
        client.allow_origin(PARTNER)

        with pytest.raises(EgressRefused):
            await client.request("GET", f"{PARTNER}/", headers={})

    assert network.asked == []


async def test_a_name_that_changes_its_address_is_connected_to_the_judged_one_only() -> None:
    answers = [PUBLIC, "127.0.0.1"]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return [answers.pop(0)]

    network = RecordingNetwork()
    async with GuardedHttpClient(resolver=rebinding, connect=network) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(PeerUnreachable):
            await client.request("GET", f"{PARTNER}/", headers={})
        with pytest.raises(EgressRefused):
            await client.request("GET", f"{PARTNER}/", headers={})

    assert network.asked == [(PUBLIC, 443)]


@pytest.mark.parametrize("url", ["HTTPS://Partner.EXAMPLE/x", f"{PARTNER}:443/x", f"{PARTNER}?q"])
async def test_another_spelling_of_a_registered_origin_is_that_origin(url: str) -> None:
    network = RecordingNetwork()
    async with GuardedHttpClient(resolver=resolves_to(PUBLIC, "2606:2800:21f::1"), connect=network) as client:
        client.allow_origin(PARTNER)

        with pytest.raises(PeerUnreachable):
            await client.request("GET", url, headers={})

    assert network.asked == [(PUBLIC, 443), ("2606:2800:21f::1", 443)]


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        f"{PARTNER}:8443/",
        "https://partner.example.evil.example/",
        "https://sub.partner.example/",
    ],
)
async def test_an_origin_nobody_registered_is_not_called(url: str) -> None:
    network = RecordingNetwork()
    reasons: list[str] = []
    async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network, on_refused=reasons.append) as client:
        client.allow_origin(f"{PARTNER}/ocpi/versions")

        with pytest.raises(EgressRefused, match="never registered"):
            await client.request("GET", url, headers={})

    assert network.asked == []
    assert reasons == ["its origin was never registered"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:4242/x", "https://127.0.0.1:4241/x", "http://localhost:4241/x"])
async def test_embedded_origins_open_exactly_themselves(url: str) -> None:
    async with GuardedHttpClient(embedded_origins=["http://127.0.0.1:4241"], connect=RecordingNetwork()) as client:
        with pytest.raises(EgressRefused):
            await client.request("GET", url, headers={})


async def test_an_embedded_origin_must_be_on_loopback_when_it_is_called() -> None:
    network = RecordingNetwork()
    origin = "http://business.internal:8080"
    async with GuardedHttpClient(
        embedded_origins=[origin], resolver=resolves_to("10.0.0.7"), connect=network
    ) as client:
        with pytest.raises(EgressRefused):
            await client.request("GET", origin, headers={})

    assert network.asked == []


OWN = "http://business:8080"
TOKEN = {"Authorization": f"Bearer {'i' * 64}"}


def an_inside_client(network: RecordingNetwork, *addresses: str) -> GuardedHttpClient:
    return GuardedHttpClient(
        own_origins=[OWN], internal_token="i" * 64, resolver=resolves_to(*addresses), connect=network
    )


async def test_our_own_processes_are_called_inside_with_the_internal_token() -> None:
    network = RecordingNetwork()
    async with an_inside_client(network, "10.0.0.7") as client:
        client.allow_origin(f"{OWN}/operations")
        with pytest.raises(PeerUnreachable):
            await client.request("GET", f"{OWN}/operations", headers=TOKEN)

    assert network.asked == [("10.0.0.7", 8080)]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer other"}, {"Authorization": f"Token {'i' * 64}"}, {"X": f"Bearer {'i' * 64}"}],
)
async def test_our_own_processes_are_not_called_for_a_counterparty(headers: dict[str, str]) -> None:
    network = RecordingNetwork()
    async with an_inside_client(network, "10.0.0.7") as client:
        with pytest.raises(EgressRefused, match="internal token"):
            await client.request("POST", f"{OWN}/operations", headers=headers)

    assert network.asked == []


@pytest.mark.parametrize(
    ("url", "address", "headers", "is_called"),
    [
        ("http://ocsp.inside:8080/x", "10.0.0.7", {}, True),
        ("http://ocsp.inside:8080/x", PUBLIC, {"Authorization": "Bearer theirs"}, True),
        ("http://ocsp.inside:8080/x", PUBLIC, TOKEN, False),
        ("http://ocsp.inside:8080/x", "169.254.169.254", {}, False),
        ("http://ocsp.inside:8081/x", "10.0.0.7", {}, False),
        ("https://ocsp.inside:8080/x", "10.0.0.7", {}, False),
        (f"{OWN}/x", "10.0.0.7", {}, False),
    ],
)
async def test_a_service_that_the_operator_named_is_called_wherever_it_is_but_not_as_one_of_ours(
    url: str, address: str, headers: dict[str, str], *, is_called: bool
) -> None:
    network = RecordingNetwork()
    async with GuardedHttpClient(
        own_origins=[OWN],
        configured_origins=["http://ocsp.inside:8080", OWN],
        internal_token="i" * 64,
        resolver=resolves_to(address),
        connect=network,
    ) as client:
        with pytest.raises(PeerUnreachable if is_called else EgressRefused):
            await client.request("POST", url, headers=headers)

    assert network.asked == ([(address, 8080)] if is_called else [])


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_the_internal_token_is_sent_to_no_counterparty(name: str) -> None:
    network = RecordingNetwork()
    async with an_inside_client(network, PUBLIC) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(EgressRefused, match="internal token"):
            await client.request("GET", PARTNER, headers={name: f"BEARER {'i' * 64}"})

    assert network.asked == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "224.0.0.1", "::"])
async def test_even_a_name_of_our_own_does_not_lead_to_a_metadata_service(address: str) -> None:
    network = RecordingNetwork()
    async with an_inside_client(network, address) as client:
        with pytest.raises(EgressRefused):
            await client.request("GET", OWN, headers=TOKEN)

    assert network.asked == []


async def test_an_answer_comes_back_with_status_headers_in_lower_case_and_body() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader) + await reader.readexactly(4))
        writer.write(answer("201 Created", b"fine", "X-Request-ID: 7"))

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        response = await client.request(
            "POST",
            f"http://127.0.0.1:{port}/a/b?c=d",
            headers={"X-Trace": "1", "Accept-Encoding": "gzip"},
            body=b"body",
        )

    assert (response.status, response.headers["x-request-id"], response.body) == (201, "7", b"fine")
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "POST /a/b?c=d HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert "Content-Length: 4" in lines
    assert [line for line in lines if line.lower().startswith("accept-encoding")] == ["accept-encoding: identity"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Trace", "1\r\nHost: 127.0.0.1"),
        ("X-Trace", "1\n\nGET /admin HTTP/1.1"),
        ("X-Trace", "1\rHost: 127.0.0.1"),
        ("X-Trace", "1\x00"),
        ("X-Trace", "\u010a"),
        ("X-Trace: 1\r\nHost", "127.0.0.1"),
        ("X Trace", "1"),
        ("", "1"),
    ],
)
async def test_a_header_that_could_be_read_as_more_than_one_is_not_sent(name: str, value: str) -> None:
    network = RecordingNetwork()
    async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(EgressRefused, match="header"):
            await client.request("GET", PARTNER, headers={name: value})

    assert network.asked == []


async def test_how_a_message_is_carried_is_not_the_callers_choice() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(answer("200 OK"))

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        await client.request(
            "GET",
            f"http://127.0.0.1:{port}/",
            headers={
                "HOST": "other.example",
                "content-length": "7",
                "Transfer-Encoding": "chunked",
                "Connection": "upgrade",
                "Upgrade": "h2c",
            },
        )

    assert asked == [
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\naccept-encoding: identity\r\n\r\n".encode()
    ]


async def test_an_ipv6_address_stands_in_brackets_where_it_is_the_host() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))
        writer.write(answer("200 OK"))

    async with serving(serve) as port:
        network = RecordingNetwork(local_port=port)
        async with GuardedHttpClient(embedded_origins=["http://[::1]:8080"], connect=network) as client:
            await client.request("GET", "http://[::1]:8080/", headers={})

    assert network.asked == [("::1", 8080)]
    assert b"Host: [::1]:8080\r\n" in asked[0]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_not_an_order(status: str) -> None:
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await read_request(reader)
        writer.write(answer(status, b"", "Location: http://169.254.169.254/"))

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        response = await client.request("GET", f"http://127.0.0.1:{port}/", headers={})

    assert response.status == int(status[:3])
    assert served == 1


async def test_an_endless_answer_is_cut_at_the_limit() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        with pytest.raises(ResponseTooLarge, match=str(RESPONSE_BYTES_MAX)):
            await client.request("GET", f"http://127.0.0.1:{port}/", headers={})


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer("200 OK", b"\x1f\x8b-not-unpacked", "Content-Encoding: gzip"))

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        response = await client.request("GET", f"http://127.0.0.1:{port}/", headers={})

    assert response.body == b"\x1f\x8b-not-unpacked"


async def test_a_peer_that_says_nothing_times_out_and_frees_its_connection() -> None:
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()
        hung_up.set()

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        with pytest.raises(PeerTimedOut):
            await client.request("GET", f"http://127.0.0.1:{port}/", headers={}, timeout_s=0.05)
        await hung_up.wait()


@pytest.mark.parametrize(
    ("answered", "headers", "error"),
    [
        (None, {}, PeerTimedOut),
        (b"HTTP/1.1 200", {}, PeerTimedOut),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (RESPONSE_BYTES_MAX + 1), {}, ResponseTooLarge),
        (b"", {"X-Trace": "\u010a"}, EgressRefused),
    ],
)
async def test_no_error_tells_whose_token_the_url_names(
    answered: bytes | None, headers: dict[str, str], error: type[Exception]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if answered is None:
            await reader.read()
        else:
            writer.write(answered)

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        url = f"http://127.0.0.1:{port}/tokens/NL/EMA/04AABBCCDD11?uid=04AABBCCDD11"
        with pytest.raises(error) as failure:
            await client.request("PUT", url, headers=headers, timeout_s=1)

    assert f"http://127.0.0.1:{port}" in str(failure.value)
    assert "04AABBCCDD11" not in f"{failure.value!r} {vars(failure.value)}"


@pytest.mark.parametrize(
    "url", ["https://me:04AABB@[::1/", "04AABB", "https:/04AABB", "//u:04AABB@x", "https://04AABB@partner.example"]
)
async def test_what_is_told_of_a_url_that_is_none_names_nobody(url: str) -> None:
    async with GuardedHttpClient() as client:
        with pytest.raises(EgressRefused) as refusal:
            await client.request("GET", url, headers={})

    assert "04AABB" not in str(refusal.value)


async def test_a_peer_that_drips_its_answer_times_out_as_a_whole() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        with pytest.raises(PeerTimedOut):
            await client.request("GET", f"http://127.0.0.1:{port}/", headers={}, timeout_s=0.2)


async def test_a_connection_that_breaks_leaves_open_whether_the_peer_acted() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        with pytest.raises(PeerTimedOut, match="broke"):
            await client.request("POST", f"http://127.0.0.1:{port}/", headers={})


async def test_nobody_listening_is_unreachable(free_port: int) -> None:
    async with GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{free_port}"]) as client:
        with pytest.raises(PeerUnreachable):
            await client.request("GET", f"http://127.0.0.1:{free_port}/", headers={})


async def test_a_name_without_an_address_is_unreachable() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with GuardedHttpClient(resolver=resolver, connect=RecordingNetwork()) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(PeerUnreachable, match="has no address"):
            await client.request("GET", f"{PARTNER}/", headers={})


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "GET / HTTP/1.1\r\nX:", ""])
async def test_a_method_that_is_not_used_is_refused(method: str) -> None:
    async with GuardedHttpClient(connect=RecordingNetwork()) as client:
        client.allow_origin(PARTNER)
        with pytest.raises(EgressRefused):
            await client.request(method, f"{PARTNER}/", headers={})


async def test_calls_to_one_peer_share_connections_up_to_a_bound() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(answer("200 OK", b"ok"))

    async with serving(serve) as port, GuardedHttpClient(embedded_origins=[f"http://127.0.0.1:{port}"]) as client:
        await asyncio.gather(*(client.request("GET", f"http://127.0.0.1:{port}/", headers={}) for _ in range(200)))

    assert 0 < connections <= CONNECTIONS_PER_ORIGIN_MAX


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for partner.example, as a file, and a client context that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "partner.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2120, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("partner.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "partner.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file, ssl.create_default_context(cafile=file)


async def test_the_pinned_address_is_called_under_the_hosts_own_name(certified: tuple[Path, ssl.SSLContext]) -> None:
    file, trust = certified
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    hosts: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts.append(await read_request(reader))
        writer.write(answer("200 OK", b"ok"))
        await writer.drain()

    async with serving(serve, context) as port:
        network = RecordingNetwork(local_port=port)
        async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network, ssl_context=trust) as client:
            client.allow_origin(PARTNER)
            response = await client.request("GET", f"{PARTNER}/", headers={})

    assert response.body == b"ok"
    assert network.asked == [(PUBLIC, 443)]
    assert names == ["partner.example"]
    assert b"Host: partner.example\r\n" in hosts[0]


async def test_calls_under_tls_share_a_connection_that_closes_with_the_client(
    certified: tuple[Path, ssl.SSLContext],
) -> None:
    file, trust = certified
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await read_request(reader)
            writer.write(answer("200 OK", b"ok"))
        await reader.read()
        ended.set()

    async with serving(serve, context) as port:
        network = RecordingNetwork(local_port=port)
        async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network, ssl_context=trust) as client:
            client.allow_origin(PARTNER)
            answers = [await client.request("GET", f"{PARTNER}/", headers={}) for _ in range(3)]
        await ended.wait()

    assert [each.body for each in answers] == [b"ok"] * 3
    assert network.asked == [(PUBLIC, 443)]


async def test_a_peer_that_never_answers_the_handshake_times_out(certified: tuple[Path, ssl.SSLContext]) -> None:
    hung_up = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        hung_up.set()

    async with serving(serve) as port:
        network = RecordingNetwork(local_port=port)
        async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network, ssl_context=certified[1]) as client:
            client.allow_origin(PARTNER)
            with pytest.raises(PeerTimedOut):
                await client.request("POST", f"{PARTNER}/", headers={}, timeout_s=0.05)
            await hung_up.wait()


async def test_a_certificate_of_another_name_is_refused(certified: tuple[Path, ssl.SSLContext]) -> None:
    file, trust = certified
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer("200 OK", b"secret"))

    async with serving(serve, context) as port:
        network = RecordingNetwork(local_port=port)
        async with GuardedHttpClient(resolver=resolves_to(PUBLIC), connect=network, ssl_context=trust) as client:
            client.allow_origin("https://other.example")
            with pytest.raises(PeerUnreachable, match="certificate"):
                await client.request("GET", "https://other.example/", headers={})
