"""A party that a hub or platform can call back: registers, can be registered at, records, answers as it is told.

What it answers by itself is in `mock_modules`; `script` puts another answer before it, `fall_silent` takes its port
away. Each party has a listener of its own, so that one can be dead while the others are not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Self
from urllib.parse import unquote

import uvicorn
from uvicorn.server import ServerState

from emobility.runtime.http_server import bounded, listening
from ocpi_check.mock_modules import Modules, served_by
from ocpi_check.objects import stamp
from ocpi_check.wire import Answer, Caller, Party, party_in, read_json, token_header, write_json

VERSIONS: Final = ("2.2.1", "2.3.0")
SHOWN_MAX: Final = 2_000
"""Characters of a body that are printed."""
HEARD_MAX: Final = 10_000
"""Older requests are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A request as the party got it; header names in lower case, `target` as it was written."""

    method: str
    target: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body. Raises `ValueError`."""
        return read_json(self.body)

    @property
    def is_json(self) -> bool:
        """Whether the body can be read."""
        try:
            return self.json is not None
        except ValueError:
            return False

    @property
    def token(self) -> str | None:
        """The credentials token it carries, decoded."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        try:
            return base64.b64decode(encoded, validate=True).decode().strip() if scheme.lower() == "token" else None
        except (binascii.Error, UnicodeDecodeError):
            return None

    @property
    def to_party(self) -> Party | None:
        """OCPI-to."""
        return party_in(self.headers, "to")

    @property
    def from_party(self) -> Party | None:
        """OCPI-from."""
        return party_in(self.headers, "from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer; `raw` instead of an envelope."""

    http: int = 200
    code: int = 1000
    data: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


Script = Callable[[Heard], Awaitable[Reply] | Reply]


@dataclass(slots=True)
class _Scripted:
    method: str
    part: str
    script: Script
    left: int


@dataclass(slots=True)
class Connection:
    """How the party reaches the platform it registered at."""

    token: str
    versions_url: str
    version: str
    endpoints: dict[tuple[str, str], str]
    credentials: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What was answered to a POST of credentials with TOKEN_A, and what had been fetched with TOKEN_B by then."""

    token_a: str
    answer: Answer
    fetched: tuple[str, ...]


class MockParty:
    """One party on a platform of its own. Use `start` and `stop`, or as `async with`.

    Args:
        party: Who it is.
        role: CPO, EMSP, NSP, NAP, OTHER, SCSP or PTP.
        now: The time for `last_updated` and `timestamp`.
        caller: Speaks for it.
        versions: What it offers, oldest first.
        host: Address to listen on.
        port: 0 asks the system for one.
        public_url: How the other side reaches it; `{port}` is the port.
    """

    def __init__(
        self,
        *,
        party: Party,
        role: str,
        now: Callable[[], datetime],
        caller: Caller,
        versions: Sequence[str] = VERSIONS,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str = "http://127.0.0.1:{port}",
    ) -> None:
        self.party = party
        self.role = role
        self.versions = tuple(versions)
        self.heard: list[Heard] = []
        self.connection: Connection | None = None
        self.token_a: str | None = None
        """What a platform that registers at this party presents."""
        self.tokens: set[str] = set()
        """What the other side may present."""
        self.hub: Party | None = None
        """The hub it is registered at, whose pushes it takes for any owner."""
        self.hidden_endpoints = False
        self.is_driven = False
        """Whether `/mock/heard` and `/mock/answers` are served, to anybody."""
        self.registration: Registration | None = None
        """How it registered."""
        self._now = now
        self._caller = caller
        self._host = host
        self._port = port
        self._public_url = public_url
        self._scripts: list[_Scripted] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._state = ServerState()
        self.modules = Modules(party=party, role=role, now=now)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Being there

    @property
    def port(self) -> int:
        """Where it listens or listened."""
        return self._port

    @property
    def base_url(self) -> str:
        """Where it is reached."""
        return self._public_url.format(port=self._port)

    @property
    def versions_url(self) -> str:
        """What an operator is told."""
        return f"{self.base_url}/ocpi/versions"

    async def start(self) -> None:
        """Listen, on the same port as before if it listened before."""
        listener = listening(self._host, self._port)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            bounded(self._answer), lifespan="off", ws="none", log_config=None, access_log=False, proxy_headers=False
        )
        config.load()
        self._state = ServerState()
        # uvicorn's own server takes a tenth of a second to stop; parties come and go by the dozen.
        kind: Any = config.http_protocol_class
        protocol = partial(kind, config=config, server_state=self._state, app_state={})
        self._server = await asyncio.get_running_loop().create_server(protocol, sock=listener)

    async def stop(self) -> None:
        """Close the port and every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.sleep(0)

    async def fall_silent(self) -> None:
        """Be as one whose machine is off: connections are refused."""
        await self.stop()

    # What it got

    def heard_at(self, part: str, method: str | None = None) -> list[Heard]:
        """Return the requests whose target holds `part`."""
        return [each for each in self.heard if part in each.target and method in {None, each.method}]

    def forget(self) -> None:
        """Start a new record."""
        self.heard.clear()

    async def wait_for(self, part: str, method: str | None = None, *, within_s: float, count: int = 1) -> list[Heard]:
        """Wait until such requests came; return what came, perhaps fewer, when the time is over."""
        try:
            async with asyncio.timeout(within_s):
                while len(self.heard_at(part, method)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.heard_at(part, method)

    def script(self, script: Script | Reply, *, part: str = "/", method: str = "", times: int = 1) -> None:
        """Answer the next `times` requests to a module whose target holds `part` in another way."""
        said = script if callable(script) else lambda _: script
        self._scripts.append(_Scripted(method, part, said, times))

    def unscript(self) -> None:
        """Answer by itself again."""
        self._scripts.clear()

    # Registering at another platform

    async def look_up(self, versions_url: str, token: str, version: str) -> dict[tuple[str, str], str]:
        """Return the other side's endpoints by (module, role). Raises `RegistrationFailed`."""
        versions = await self._caller.call("GET", versions_url, headers={"Authorization": token_header(token)})
        url = next((each.get("url") for each in _objects(versions.data) if each.get("version") == version), None)
        if not versions.is_success or not isinstance(url, str):
            raise RegistrationFailed(f"no {version} among the versions", versions)
        details = await self._caller.call("GET", url, headers={"Authorization": token_header(token)})
        listed = details.data.get("endpoints") if isinstance(details.data, dict) else None
        if not details.is_success or not isinstance(listed, list):
            raise RegistrationFailed("no version details", details)
        return {(str(each.get("identifier")), str(each.get("role"))): str(each.get("url")) for each in _objects(listed)}

    def credentials(self, version: str, **changes: Any) -> dict[str, Any]:
        """Return its credentials with a new token, which the other side may present from now on."""
        token = secrets.token_hex(24)
        self.tokens.add(token)
        del version  # a party's own credentials are the same in 2.2.1 and 2.3.0
        role = {
            "role": self.role,
            "party_id": self.party.party_id,
            "country_code": self.party.country_code,
            "business_details": {"name": f"Mock {self.role} {self.party}"},
        }
        return {"token": token, "url": self.versions_url, "roles": [role], **changes}

    async def register(self, versions_url: str, token_a: str, version: str) -> Answer:
        """Post credentials with TOKEN_A; on success it is connected. Raises `RegistrationFailed`."""
        endpoints = await self.look_up(versions_url, token_a, version)
        url = credentials_url(endpoints)
        if url is None:
            raise RegistrationFailed("no credentials endpoint", None)
        answer = await self.exchange("POST", url, token_a, self.credentials(version))
        if not answer.is_success or not isinstance(answer.data, dict) or not isinstance(answer.data.get("token"), str):
            raise RegistrationFailed("credentials were not taken", answer)
        self.connection = Connection(
            token=answer.data["token"],
            versions_url=versions_url,
            version=version,
            endpoints=endpoints,
            credentials=answer.data,
        )
        self.modules.hub = self.hub = hub_of(answer.data)
        fetched = tuple(each.path for each in self.heard if each.token in self.tokens)
        self.registration = Registration(token_a=token_a, answer=answer, fetched=fetched)
        return answer

    async def exchange(self, method: str, url: str, token: str, credentials: Any) -> Answer:
        """Send credentials."""
        return await self._caller.call(method, url, headers={"Authorization": token_header(token)}, body=credentials)

    async def leave(self) -> None:
        """End the registration, if there is one."""
        if self.connection is None:
            return
        url = credentials_url(self.connection.endpoints)
        if url is not None:
            await self.exchange("DELETE", url, self.connection.token, None)
        self.connection = None

    # Serving

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        heard = await _heard(scope, receive)
        if len(self.heard) >= HEARD_MAX:
            del self.heard[: HEARD_MAX // 2]
        if self.is_driven and heard.path.startswith("/mock/"):
            reply = self._driven(heard)
        else:
            self.heard.append(heard)
            self._changed.set()
            reply = await self._reply(heard)
        content: dict[str, Any] = {"status_code": reply.code, "timestamp": stamp(self._now())}
        if reply.data is not None:
            content = {"data": reply.data, **content}
        body = reply.raw if reply.raw is not None else write_json(content)
        headers = {"content-type": "application/json", **self._repeated(heard), **reply.headers}
        written = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        written.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": reply.http, "headers": written})
        await send({"type": "http.response.body", "body": body})

    def _repeated(self, heard: Heard) -> dict[str, str]:
        ids = {name: heard.headers[name] for name in ("x-request-id", "x-correlation-id") if name in heard.headers}
        sender = heard.from_party
        return ids if sender is None else {**ids, **sender.headers("to"), **self.party.headers("from")}

    def _driven(self, heard: Heard) -> Reply:
        """Tell what it got, or take what to answer: `{"method", "part", "times", "http", "code", "data"}`."""
        if heard.method == "GET" and heard.path == "/mock/heard":
            return Reply(data=[told(each) for each in self.heard])
        if heard.method == "POST" and heard.path == "/mock/answers" and heard.is_json:
            asked = dict(heard.json)
            method, part, times = asked.pop("method", ""), asked.pop("part", "/"), asked.pop("times", 1)
            if set(asked) <= {"http", "code", "data"}:
                self.script(Reply(**asked), method=str(method), part=str(part), times=int(times))
                return Reply()
        return Reply(http=400, code=2001)

    async def _reply(self, heard: Heard) -> Reply:
        segments = heard.path.strip("/").split("/")
        is_handshake = len(segments) < 3 or segments[2] == "credentials"
        if heard.token is None or not (
            heard.token in self.tokens or (is_handshake and self.token_a is not None and heard.token == self.token_a)
        ):
            return Reply(http=401, code=2000)
        for each in self._scripts:
            if each.left > 0 and each.part in heard.target and each.method in {"", heard.method}:
                each.left -= 1
                said = each.script(heard)
                return said if isinstance(said, Reply) else await said
        if segments[:2] == ["ocpi", "versions"]:
            return Reply(data=[{"version": each, "url": f"{self.base_url}/ocpi/{each}"} for each in self.versions])
        if segments[0] != "ocpi" or len(segments) < 2 or segments[1] not in self.versions:
            return Reply(http=404, code=2000)
        version = segments[1]
        if len(segments) == 2:
            return Reply(data={"version": version, "endpoints": self._endpoints(version)})
        if segments[2] == "credentials":
            return await self._credentials(heard, version)
        if heard.body and not heard.is_json:
            return Reply(http=400, code=2001)
        return self.modules.reply(heard, version, segments[2], segments[3] if len(segments) > 3 else "", segments[4:])

    def _endpoints(self, version: str) -> list[dict[str, str]]:
        if self.hidden_endpoints:
            return []
        base = f"{self.base_url}/ocpi/{version}"
        return [{"identifier": "credentials", "role": "SENDER", "url": f"{base}/credentials"}] + [
            {"identifier": module, "role": side, "url": f"{base}/{module}/{side.lower()}"}
            for module, side in served_by(self.role, version)
        ]

    async def _credentials(self, heard: Heard, version: str) -> Reply:
        """Be registered at, renewed, left: the other side of `register`, for platforms that call first."""
        if heard.method == "GET":
            return Reply(data={**self.credentials(version), "token": heard.token})
        is_registration = heard.token == self.token_a
        if heard.method == "DELETE":
            self.connection = None
            self.tokens.discard(heard.token or "")
            return Reply()
        if (heard.method == "POST") != is_registration:
            return Reply(http=405, code=2000)
        try:
            posted = heard.json
            token, url = str(posted["token"]), str(posted["url"])
            endpoints = await self.look_up(url, token, version)
        except (ValueError, KeyError, TypeError):
            return Reply(code=2001)
        except RegistrationFailed:
            return Reply(code=3001)
        self.connection = Connection(
            token=token, versions_url=url, version=version, endpoints=endpoints, credentials=posted
        )
        self.modules.hub = self.hub = hub_of(posted)
        self.token_a = None if is_registration else self.token_a
        self.tokens.discard(heard.token or "")
        return Reply(data=self.credentials(version))


class RegistrationFailed(Exception):
    """The other side's versions, details or answer can't be used."""

    def __init__(self, what: str, answer: Answer | None) -> None:
        self.answer = answer
        super().__init__(what if answer is None else f"{what}: {answer.sent} -> {answer}")


def credentials_url(endpoints: Mapping[tuple[str, str], str]) -> str | None:
    """Return the credentials endpoint, whichever role it is listed under (the text lets both stand)."""
    return endpoints.get(("credentials", "SENDER")) or endpoints.get(("credentials", "RECEIVER"))


def hub_of(credentials: Mapping[str, Any]) -> Party | None:
    """Return the hub that credentials are of: `hub_party_id` (2.3.0), or the party in the role HUB (2.2.1)."""
    named = credentials.get("hub_party_id")
    if isinstance(named, str) and len(named) == 5:
        return Party.of(named)
    for role in _objects(credentials.get("roles")):
        if role.get("role") == "HUB":
            return Party(str(role.get("country_code")), str(role.get("party_id")))
    return None


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


async def _heard(scope: Any, receive: Any) -> Heard:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    query = scope["query_string"].decode("latin-1")
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return Heard(
        method=scope["method"],
        target=f"{path}?{query}" if query else path,
        path=path,
        query={unquote(name): unquote(value.replace("+", " ")) for name, _, value in pairs},
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )


def told(heard: Heard) -> str:
    """Return one line for people."""
    sender = f" from {heard.from_party}" if heard.from_party else ""
    try:
        body = write_json(heard.json).decode()[:SHOWN_MAX] if heard.body else ""
    except ValueError:
        body = f"{len(heard.body)} bytes that are no JSON"
    return f"{heard.method} {heard.target}{sender} {body}".rstrip()
