"""`wattroam ocpi check` and `wattroam ocpi mock`: read the options, run, print line by line."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ocpi_check.charging import charge
from ocpi_check.checks import CHECKS
from ocpi_check.mock import VERSIONS, MockParty, RegistrationFailed, told
from ocpi_check.operating import Operator, TokensInHand, WattroamOperator
from ocpi_check.run import COUNTERPARTS, Run, Target, run_checks
from ocpi_check.table import Finding, Verdict
from ocpi_check.wire import Caller, Party, Unreachable, token_header

FAILED: Final = 1
CANNOT_RUN: Final = 2
PLATFORM_PARTY: Final = Party("NL", "CHK")
POLL_S: Final = 0.2


class OptionsUnusable(Exception):
    """The options can't mean anything; says why. Exit code 2."""


def tokens_of(written: Sequence[str], role: str) -> list[tuple[str, Party, str]]:
    """Read `--token`: TOKEN_A for the target's counterpart, or ROLE:PARTY=TOKEN_A. Raises `OptionsUnusable`."""
    tokens = []
    for each in written:
        whom, separator, token = each.partition("=")
        if not separator or ":" not in whom:
            tokens.append((COUNTERPARTS[role], PLATFORM_PARTY, each))
            continue
        name, _, party = whom.partition(":")
        try:
            tokens.append((name.upper(), Party.of(party), token))
        except ValueError as error:
            raise OptionsUnusable(str(error)) from error
    return tokens


def ports_of(written: str | None) -> tuple[int, ...]:
    """Read `9101-9160`. Raises `OptionsUnusable`."""
    if written is None:
        return ()
    first, _, last = written.partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        raise OptionsUnusable(f"{written!r} is no range of ports, as in 9101-9160")
    return tuple(range(int(first), int(last or first) + 1))


async def check_platform(  # one argument per option of the command
    target: Target,
    *,
    tokens: Sequence[str],
    operator_url: str | None,
    operator_token: str | None,
    only: Sequence[str],
    json: bool,
    now: Callable[[], datetime],
) -> int:
    """Check a platform and print what was found; return 0 when no check failed, 1 when one did, 2 when none could run.

    Raises:
        OptionsUnusable: the options can't mean anything.
    """
    known = {each.rule for each in CHECKS}
    unknown = sorted({each.upper() for each in only} - known)
    if unknown:
        raise OptionsUnusable(f"no rule {', '.join(unknown)}: there are {', '.join(sorted(known))}")
    caller = Caller()
    try:
        operator: Operator
        if operator_url is not None:
            if not operator_token:
                raise OptionsUnusable(
                    "--operator needs the operator's token: WATTROAM_OPERATOR_TOKEN or --operator-token"
                )
            operator = WattroamOperator(caller, operator_url, operator_token)
        else:
            operator = TokensInHand(tokens_of(tokens, target.role))
            if not tokens:
                raise OptionsUnusable("give --token TOKEN_A, or --operator with its token")
        await _reach(caller, target)
        run = Run(target=target, operator=operator, caller=caller, now=now)
        findings = await run_checks(run, only=only, tell=(lambda _: None) if json else _tell)
    finally:
        await caller.close()
    if json:
        document = {
            "url": target.versions_url,
            "role": target.role,
            "version": target.version,
            "findings": [each.as_json() for each in findings],
        }
        sys.stdout.write(json_module.dumps(document, indent=1, default=str) + "\n")
    else:
        count = Counter(each.verdict for each in findings)
        sys.stdout.write(", ".join(f"{count[each]} {each.value}" for each in Verdict) + f" of {len(findings)}\n")
    return FAILED if any(each.verdict is Verdict.FAIL for each in findings) else 0


async def _reach(caller: Caller, target: Target) -> None:
    try:
        await caller.call("GET", target.versions_url, headers={"Authorization": token_header("anybody")})
    except Unreachable as error:
        raise OptionsUnusable(f"nothing answers: {error}") from error


def _tell(finding: Finding) -> None:
    """Print one line, and below it what went wrong."""
    check = finding.check
    sys.stdout.write(f"{finding.verdict.value} {check.rule:<4} {check.title}  [{check.anchor}]\n")
    if finding.verdict is Verdict.SKIP:
        sys.stdout.write(f"     skipped: {_printable(finding.got)}\n")
    if finding.verdict is Verdict.FAIL:
        for name, text in (("sent", finding.sent), ("expected", finding.expected), ("got", finding.got)):
            sys.stdout.write(f"     {name:<8} {_printable(text)}\n")
    sys.stdout.flush()


def _printable(text: str) -> str:
    """Return a text with what a terminal would obey written out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


async def mock_party(
    party: Party,
    role: str,
    *,
    version: str,
    host: str,
    port: int,
    public_url: str,
    register_at: str | None,
    token: str | None,
    accepts: Sequence[str] = (),
    charges: bool = False,
    is_driven: bool = False,
    now: Callable[[], datetime],
    stop: asyncio.Event,
) -> int:
    """Play a party until `stop`: print how to register at it, or register it; then every request it gets.

    Others may present the tokens it `accepts`, too; a CPO that `charges` lets START_SESSION be followed by a charge.

    Raises:
        OptionsUnusable: it can't register.
    """
    caller = Caller()
    mock = MockParty(
        party=party,
        role=role,
        now=now,
        caller=caller,
        versions=VERSIONS if register_at is None else (version,),
        host=host,
        port=port,
        public_url=public_url,
    )
    mock.tokens.update(accepts)
    mock.is_driven = is_driven
    async with mock:
        try:
            if register_at is not None:
                try:
                    await mock.register(register_at, token or "", version)
                except (RegistrationFailed, Unreachable) as error:
                    raise OptionsUnusable(str(error)) from error
                assert mock.connection is not None, "it registered"
                sys.stdout.write(f"registered {role} {party} at {register_at}\nits token: {mock.connection.token}\n")
            else:
                mock.token_a = token or f"{party}-token-a"
                sys.stdout.write(f"{role} {party} at {mock.versions_url}\nTOKEN_A: {mock.token_a}\n")
            sys.stdout.flush()
            shown = 0
            while not stop.is_set():
                for each in mock.heard[shown:]:
                    sys.stdout.write(f"{_printable(told(each))}\n")
                    sys.stdout.flush()
                    if charges and each.method == "POST" and each.path.endswith("/START_SESSION"):
                        await charge(mock, each, caller, now)
                shown = len(mock.heard)
                try:
                    await asyncio.wait_for(stop.wait(), POLL_S)
                except TimeoutError:
                    continue
            await mock.leave()
        finally:
            await caller.close()
    return 0
