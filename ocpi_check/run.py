"""One run of the checklist: the platform under test, the mock parties around it, and ways from one to another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from ocpi_check.mock import Connection, Heard, MockParty, RegistrationFailed, credentials_url, hub_of
from ocpi_check.mock_modules import served_by
from ocpi_check.operating import CanNot, Operator
from ocpi_check.table import CHECKS, Broken, Check, Finding, NotApplicable, Verdict
from ocpi_check.wire import Answer, Caller, Party, Unreachable, token_header

VERSIONS: Final = ("2.2.1", "2.3.0")
ARRIVAL_S: Final = 10.0
"""How long a message that the other side sends by itself may take."""
QUIET_S: Final = 0.25
"""How long nothing must come where nothing may."""
SILENCE_S: Final = 300.0
"""After so long a hub asks a silent party for its versions (mod_hub_client_info)."""
NOBODY_YET: Final = Party("ZZ", "ZZZ")
GRACE_S: Final = 8.0
"""How long after its `timeout` a result may still be taken as one that was under way."""
COUNTERPARTS: Final = {"CPO": "EMSP", "EMSP": "CPO", "NSP": "CPO", "HUB": "CPO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is looked at."""

    versions_url: str
    role: str
    version: str
    host: str = "127.0.0.1"
    ports: tuple[int, ...] = ()
    """Where mock parties listen; empty: wherever the system says."""
    public_url: str = "http://127.0.0.1:{port}"
    patience_s: float = 60.0
    """A check that would take longer is skipped."""
    silence_s: float = SILENCE_S
    grace_s: float = GRACE_S
    arrival_s: float = ARRIVAL_S
    is_registered: bool = False
    """The tokens in hand are those of registrations that exist; no handshake is made."""


@dataclass(slots=True)
class Way:
    """From a mock party to one interface: through the hub to another mock party, or of the platform under test."""

    run: Run
    sender: MockParty
    url: str
    to_party: Party | None
    receiver: MockParty | None
    last_correlation_id: str = ""

    async def call(
        self, method: str, path: str = "", body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Call with routing headers; `headers` replace or add, an empty value takes one away."""
        self.last_correlation_id = self.run.caller.message_id()
        sent = {
            "X-Correlation-ID": self.last_correlation_id,
            **(self.to_party.headers("to") if self.to_party else {}),
            **self.sender.party.headers("from"),
            **(headers or {}),
        }
        url = path if path.startswith("http") else f"{self.url}{path}"
        return await self.run.ask(self.sender, method, url, headers=sent, body=body)

    def arrived(self, answer: Answer, method: str | None = None) -> Heard:
        """Return the request that the receiver got of the last call. Raises `Broken` when there is none."""
        assert self.receiver is not None, "only a hub forwards"
        for heard in reversed(self.receiver.heard):
            is_it = heard.headers.get("x-correlation-id") == self.last_correlation_id
            if is_it and method in {None, heard.method}:
                return heard
        raise Broken(expected=f"{self.receiver.party} gets it", got=f"{answer}; it got nothing", sent=answer.sent)


@dataclass(slots=True)
class Run:
    """What a check may use."""

    target: Target
    operator: Operator
    caller: Caller
    now: Callable[[], datetime]
    parties: dict[str, MockParty] = field(default_factory=dict)
    strangers: list[MockParty] = field(default_factory=list)
    numbers: int = 0
    ports: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = list(self.target.ports)

    # Parties

    async def party(self, name: str, role: str, *, version: str | None = None) -> MockParty:
        """Return a registered party, always the same under one name. Raises `NotApplicable`, `Broken`."""
        if name not in self.parties:
            party = await self.stranger(role, versions=(version or self.target.version,))
            self.strangers.remove(party)
            self.parties[name] = party
            if self.target.is_registered:
                await self._take_over(party)
            else:
                await self.join(party)
        found = self.parties[name]
        if found.connection is None:
            raise NotApplicable(f"{role} {found.party} could not register")
        return found

    async def stranger(self, role: str, *, versions: tuple[str, ...] | None = None, **settings: Any) -> MockParty:
        """Return a new party that listens and may register, with `token_a`."""
        try:
            mock = MockParty(
                party=NOBODY_YET,
                role=role,
                now=self.now,
                caller=self.caller,
                versions=versions or (self.target.version,),
                host=self.target.host,
                port=self._port(),
                public_url=self.target.public_url,
            )
            await mock.start()
            self.strangers.append(mock)
            admission = await self.operator.admit(role, mock.versions_url, **settings)
            mock.party = mock.modules.party = admission.party
            mock.token_a = admission.token
        except CanNot as error:
            raise NotApplicable(str(error)) from error
        return mock

    def _port(self) -> int:
        if not self.target.ports:
            return 0
        if not self.ports:
            raise CanNot("no port is left for another party: give more with --ports")
        return self.ports.pop(0)

    async def join(self, party: MockParty) -> Answer:
        """Register a stranger. Raises `Broken`."""
        token_a, party.token_a = party.token_a, None
        assert token_a is not None, "a stranger has TOKEN_A"
        try:
            return await party.register(self.target.versions_url, token_a, party.versions[-1])
        except RegistrationFailed as error:
            got = error.answer if error.answer is not None else str(error)
            raise Broken(expected=f"{party.role} {party.party} registers", got=got) from error

    async def _take_over(self, party: MockParty) -> None:
        token, party.token_a = party.token_a, None
        assert token is not None, "a token in hand"
        endpoints = await party.look_up(self.target.versions_url, token, self.target.version)
        url = credentials_url(endpoints)
        credentials: dict[str, Any] = {}
        if url is not None:
            answer = await self.caller.call("GET", url, headers={"Authorization": token_header(token)})
            credentials = answer.data if isinstance(answer.data, dict) else {}
        party.connection = Connection(
            token=token,
            versions_url=self.target.versions_url,
            version=self.target.version,
            endpoints=endpoints,
            credentials=credentials,
        )
        party.modules.hub = party.hub = hub_of(credentials)

    async def cpo(self) -> MockParty:
        """The CPO."""
        return await self.party("cpo", "CPO")

    async def emsp(self) -> MockParty:
        """The MSP."""
        return await self.party("emsp", "EMSP")

    async def nsp(self) -> MockParty:
        """The NSP."""
        return await self.party("nsp", "NSP")

    async def other_cpo(self) -> MockParty:
        """A second CPO."""
        return await self.party("other_cpo", "CPO")

    async def everybody(self) -> list[MockParty]:
        """All that a broadcast may concern: two CPOs, MSP, NSP, OTHER."""
        names = (("cpo", "CPO"), ("other_cpo", "CPO"), ("emsp", "EMSP"), ("nsp", "NSP"), ("other", "OTHER"))
        return [await self.party(name, role) for name, role in names]

    async def counterpart(self) -> MockParty:
        """The party that the platform under test would speak with."""
        role = COUNTERPARTS[self.target.role]
        return await self.party(role.lower(), role)

    async def hub_party(self) -> Party:
        """Who the hub is. Raises `Broken` when its credentials do not say."""
        cpo = await self.cpo()
        if cpo.hub is None:
            answer = "neither hub_party_id nor a role HUB in its credentials"
            raise Broken(expected="the hub's party in its credentials", got=answer, sent="POST credentials")
        return cpo.hub

    # Ways

    def authorized(self, party: MockParty) -> dict[str, str]:
        """Return the header that a registered party presents."""
        assert party.connection is not None, "it is registered"
        return {"Authorization": token_header(party.connection.token)}

    async def ask(
        self, party: MockParty, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        """Call as a registered party."""
        presented = self.authorized(party)
        answer = await self.caller.call(method, url, headers={**presented, **(headers or {})}, body=body)
        if answer.http == 401 and self.authorized(party) != presented:
            # A hub that announces a change by credentials PUT (2.3.0) renewed the token in between.
            renewed = {**self.authorized(party), **(headers or {})}
            answer = await self.caller.call(method, url, headers=renewed, body=body)
        return answer

    def endpoint(self, party: MockParty, module: str, side: str) -> str:
        """Return where the platform under test serves an interface. Raises `NotApplicable`."""
        assert party.connection is not None, "it is registered"
        url = party.connection.endpoints.get((module, side))
        if url is None:
            raise NotApplicable(f"the platform lists no {side} interface of {module} in {self.target.version}")
        return url.rstrip("/")

    async def way(self, module: str, side: str, *, sender: str | None = None, to: str | None = None) -> Way:
        """Return the way to the interface of a module: who owns its objects is the CPO, or the MSP for tokens.

        Raises:
            NotApplicable: the platform under test plays another role, or does not serve it.
        """
        owners = "EMSP" if module in {"tokens", "commands", "chargingprofiles"} else "CPO"
        serving = owners if side == "SENDER" else {"CPO": "EMSP", "EMSP": "CPO"}[owners]
        asking = {"CPO": "EMSP", "EMSP": "CPO"}[serving]
        if self.target.role == "HUB":
            sending = await self.party((sender or asking).lower(), (sender or asking).upper())
            receiving = await self.party((to or serving).lower(), (to or serving).upper())
            url = self.endpoint(sending, module, side)
            return Way(self, sending, url, receiving.party, receiving)
        if self.target.role != serving and not (self.target.role == "NSP" and serving == "EMSP"):
            raise NotApplicable(f"a {self.target.role} does not serve the {side} interface of {module}")
        sending = await self.party(asking.lower(), asking)
        return Way(self, sending, self.endpoint(sending, module, side), self.target_party(sending), None)

    async def to_hub(self, sender: MockParty, module: str, side: str) -> Way:
        """Return the way to the hub itself: broadcast push and GET ALL."""
        return Way(self, sender, self.endpoint(sender, module, side), await self.hub_party(), None)

    async def open_way(self, sender: MockParty, module: str, side: str) -> Way:
        """Return the way of a message that names no receiver."""
        return Way(self, sender, self.endpoint(sender, module, side), None, None)

    def target_party(self, seen_by: MockParty) -> Party | None:
        """Return who the platform under test is, by its credentials."""
        assert seen_by.connection is not None, "it is registered"
        roles = seen_by.connection.credentials.get("roles") or []
        for role in roles:
            if role.get("role") == self.target.role:
                return Party(str(role["country_code"]), str(role["party_id"]))
        return None

    async def some_list(self) -> Way:
        """Return a paged list with at least three objects. Raises `NotApplicable`."""
        asking = await self.counterpart()
        if self.target.role == "HUB":
            await self.everybody()
            return Way(self, asking, self.endpoint(asking, "hubclientinfo", "SENDER"), None, None)
        for module, side in served_by(self.target.role, self.target.version):
            if side != "SENDER" or module in {"commands", "chargingprofiles"}:
                continue
            with suppress(NotApplicable):
                url = self.endpoint(asking, module, side)
                way = Way(self, asking, url, self.target_party(asking), None)
                answer = await way.call("GET", "?date_from=2000-01-01T00:00:00Z")
                if isinstance(answer.data, list) and len(answer.data) >= 3:
                    return way
        raise NotApplicable("no list with three objects to page through")

    # Small things

    def number(self) -> int:
        """Return a number that no other object of this run has."""
        self.numbers += 1
        return self.numbers + 100

    def later(self) -> datetime:
        """Return a time for `last_updated`, later than any before."""
        self.numbers += 1
        return self.now() + timedelta(seconds=self.numbers)

    async def quiet(self) -> None:
        """Give what must not come the time to come."""
        await asyncio.sleep(QUIET_S)

    async def until(self, holds: Callable[[], bool], *, within_s: float | None = None) -> bool:
        """Wait for a fact; False when it did not come about."""
        try:
            async with asyncio.timeout(self.target.arrival_s if within_s is None else within_s):
                while not holds():  # noqa: ASYNC110 - facts of several parties
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Leave the platform as it was found: every party unregistered."""
        await self._dismiss([*self.strangers, *self.parties.values()])

    async def _dismiss(self, parties: Iterable[MockParty]) -> None:
        for party in parties:
            with suppress(Unreachable):
                if not self.target.is_registered:
                    await party.leave()
            await party.stop()
            self.ports.append(party.port)

    async def made(self, check: Check) -> Finding:
        """Make one check."""
        reason = self._not_here(check)
        if reason:
            return Finding(check=check, verdict=Verdict.SKIP, got=reason)
        try:
            await check.body(self)
        except NotApplicable as error:
            return Finding(check=check, verdict=Verdict.SKIP, got=str(error))
        except CanNot as error:
            return Finding(check=check, verdict=Verdict.SKIP, got=str(error))
        except Broken as error:
            return Finding(check=check, verdict=Verdict.FAIL, sent=error.sent, expected=error.expected, got=error.got)
        except Unreachable as error:
            return Finding(check=check, verdict=Verdict.FAIL, expected="an answer", got=str(error))
        except RegistrationFailed as error:
            return Finding(check=check, verdict=Verdict.FAIL, expected="a registration", got=str(error))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # A check reads what came without asking at each step whether it is there.
            got = f"an answer that can't be read: {type(error).__name__}: {error}"
            return Finding(check=check, verdict=Verdict.FAIL, expected="an answer as the text describes it", got=got)
        finally:
            for party in self.parties.values():
                party.unscript()
            await self._dismiss(self.strangers)
            self.strangers.clear()
        return Finding(check=check, verdict=Verdict.PASS)

    def _not_here(self, check: Check) -> str:
        if self.target.role not in check.roles:
            return f"is about a {' or '.join(check.roles)}; this is a {self.target.role}"
        if self.target.version not in check.versions:
            return f"is about {' and '.join(check.versions)}"
        if self.target.is_registered and check.rule.startswith("C"):
            return "needs TOKEN_A: a registration that is in use is left alone"
        return ""


async def run_checks(
    run: Run, *, only: Iterable[str] = (), tell: Callable[[Finding], None] = lambda _: None
) -> list[Finding]:
    """Make the checks in the order of the table, all or those named; leave the platform as it was found."""
    wanted = {each.strip().upper() for each in only}
    findings = []
    try:
        for each in CHECKS:
            if wanted and each.rule not in wanted:
                continue
            findings.append(await run.made(each))
            tell(findings[-1])
    finally:
        await run.close()
    return findings
