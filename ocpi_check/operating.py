"""What only the operator of the platform under test can do: admit a party, set a rule, suspend, look up an outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ocpi_check.wire import Answer, Caller, Party

COUNTRIES: Final = {"CPO": "NL", "EMSP": "DE", "NSP": "BE", "NAP": "BE", "OTHER": "FR", "SCSP": "NL", "PTP": "NL"}
LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"


class CanNot(Exception):
    """Nobody told the runner how to have this done; the check that needs it is skipped with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A party may register with this token."""

    party: Party
    token: str


class Operator(Protocol):
    """See the module's docstring. Everything may raise `CanNot`."""

    async def admit(self, role: str, versions_url: str, **settings: Any) -> Admission:
        """Choose a party and have its token issued."""
        ...

    async def allow(self, *, receiver: Party, sender: Party, module: str, is_allowed: bool) -> None:
        """Set a receiver's rule."""
        ...

    async def suspend(self, party: Party) -> None:
        """End a party's registration from the platform's side."""
        ...

    async def outcomes(self, correlation_id: str) -> Sequence[Mapping[str, Any]]:
        """Return what became of a message, one entry per receiver, with `to_party` and `status_code`."""
        ...


class TokensInHand:
    """Tokens that an operator issued beforehand, `ROLE:PARTY=TOKEN`; nothing else can be done."""

    def __init__(self, tokens: Sequence[tuple[str, Party, str]]) -> None:
        self._left = list(tokens)

    async def admit(self, role: str, versions_url: str, **settings: Any) -> Admission:
        """Hand a token out, once."""
        del versions_url
        if settings:
            raise CanNot("needs --operator")
        for each in self._left:
            if each[0] == role:
                self._left.remove(each)
                return Admission(party=each[1], token=each[2])
        raise CanNot(f"no token for another {role}: give --token {role}:NL-XYZ=TOKEN, or --operator")

    async def allow(self, **_: Any) -> None:
        """Refuse."""
        raise CanNot("needs --operator: a rule is not set by OCPI")

    async def suspend(self, _: Party) -> None:
        """Refuse."""
        raise CanNot("needs --operator: a party is not suspended by OCPI")

    async def outcomes(self, _: str) -> Sequence[Mapping[str, Any]]:
        """Refuse."""
        raise CanNot("needs --operator: OCPI has no message that tells outcomes")


class WattroamOperator:
    """The operator's side of a Wattroam hub, at `URL/admin`, with its internal token."""

    def __init__(self, caller: Caller, url: str, token: str) -> None:
        self._caller = caller
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._made = 0

    async def admit(self, role: str, versions_url: str, **settings: Any) -> Admission:
        """Invite a party of this run's own; one that an earlier run left registered is passed over."""
        asked = {"role": role, "versions_url": versions_url, **settings}
        while True:
            self._made += 1
            party = Party(COUNTRIES.get(role, "NL"), f"K{LETTERS[self._made // 24]}{LETTERS[self._made % 24]}")
            answer = await self._call("POST", "/registrations", {**asked, "party_id": str(party)})
            if answer.http != 409:
                return Admission(party=party, token=str(self._taken(answer)["token_a"]))

    async def invite(self, asked: Mapping[str, Any]) -> str:
        """Invite a party by its own name; return TOKEN_A."""
        return str((await self._ask("POST", "/registrations", asked))["token_a"])

    async def allow(self, *, receiver: Party, sender: Party, module: str, is_allowed: bool) -> None:
        """Set a rule."""
        rule = {"sender": str(sender), "module": module, "is_allowed": is_allowed}
        await self._ask("PUT", f"/parties/{receiver}/rules", rule)

    async def suspend(self, party: Party) -> None:
        """Suspend it."""
        await self._ask("POST", f"/parties/{party}/suspend")

    async def outcomes(self, correlation_id: str) -> Sequence[Mapping[str, Any]]:
        """Ask for a broadcast's outcomes."""
        answer = await self._ask("GET", f"/broadcasts/{correlation_id}")
        return list(answer["receivers"])

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return self._taken(await self._call(method, path, body))

    async def _call(self, method: str, path: str, body: Any) -> Answer:
        return await self._caller.call(method, f"{self._url}{path}", headers=self._headers, body=body)

    def _taken(self, answer: Answer) -> Any:
        if not 200 <= answer.http < 300:
            raise CanNot(f"the operator's side answered HTTP {answer.http} to {answer.sent}")
        return answer.envelope
