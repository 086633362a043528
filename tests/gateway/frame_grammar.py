"""Frames as no station should send them, and some as it should: valid, mutated, truncated, deep, huge, out of place.

A conversation is a list of steps. What comes out hangs on the seed alone, never on what the gateway answers, so a
conversation can be played again and made smaller.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from charge_point_gateway.commands import actions_of_csms
from charge_point_gateway.rpc_errors import OCPPVersion, RPCError
from charge_point_gateway.station_session import MESSAGES, SENT_MESSAGES
from tests.gateway.schema_cases import fullest, schema_of, smallest, violations

PAYLOAD_CHARACTERS_MAX: Final = 3_000
"""Longer ones are left to the conformance tests: a fuzzer wants many frames, not long ones."""
OVERSIZED: Final = 524_288
RESULT: Final = "CALLRESULT"


@dataclass(frozen=True, slots=True)
class Frame:
    """The station sends this; `wants` is what a frame made on purpose is answered by, if that is known."""

    data: str | bytes
    wants: RPCError | str | None = None


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The station loses its connection and comes back."""


@dataclass(frozen=True, slots=True)
class OwnCall:
    """The gateway calls the station."""

    action: str
    payload: Any


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """The station answers the gateway's last CALL; `{id}` becomes its message id."""

    template: str


Step = Frame | Reconnect | OwnCall | OwnAnswer

_VALUE: Final = re.compile(r'"(?:[^"\\]|\\.)*"(?!\s*:)|-?\d[\d.eE+-]*|true|false|null')
_MEMBER: Final = re.compile(r'"[A-Za-z]+":(?:"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false)(?=[,}])')
NASTY_VALUES: Final = (
    *("null", "true", "[]", "{}", "[[]]", '""', '" "', "0", "-1", "-0", "0.1", "1e308", "1e-308", "1e309", "-1e400"),
    *("1E+2", "0e999", "9007199254740993", "18446744073709551616", "1" * 30, "1" * 400, "0." + "1" * 300, "NaN"),
    *("Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x10", "1e99999999999999999999", "1e-99999999999999999999"),
    *('"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u003a"', '"\\\\u003a"', '"\\x"', '"\\"'),
    *('"\N{GRINNING FACE}"', '"\N{COMBINING ACUTE ACCENT}"', '"\u202e\u2066"', '"\ufeff"', '"\u2028"', '"\x7f"'),
    *('"' + "x" * 40 + '"', '"' + "x" * 1_200 + '"', '"2022-02-30T00:00:00Z"', '"9999-12-31T23:59:59-23:59"'),
    *('"0001-01-01T00:00:00+23:59"', '"2016-12-31T23:59:60Z"', '"\'; DROP TABLE x; --"', '"../../etc/passwd"'),
    *("[" * 15 + "]" * 15, "[" * 20 + "]" * 20, '{"a":' * 30 + "1" + "}" * 30, "[" * 200, '{"__proto__":{"a":1}}'),
    *('{"customData":{"vendorId":"x"}}', "[null,null]", '["x","x"]', "// comment", "'single'", "undefined"),
)
NASTY_CHARACTERS: Final = '[]{}",:\\0189eE+-.tfn \t\n\x00\x1f\x7f\xa0é\u2028\ufeff\N{GRINNING FACE}'
NASTY_IDS: Final = (
    *('""', '" "', '"-1"', '"' + "x" * 36 + '"', '"' + "x" * 37 + '"', '"' + "é" * 36 + '"', "7", "null", "[]", "{}"),
    *('"\\u0000"', '"\\u0041"', '"\\ud800"', '"\\n"', '"\N{GRINNING FACE}"', '"a\\"b"', "true", "1.5"),
)
NASTY_KINDS: Final = (
    *("2", "3", "4", "5", "6", "0", "1", "7", "-2", "2.0", "20", '"2"', "true", "null", "[]", "{}", "2e0", "1" * 40),
)
NOT_JSON: Final = (
    *("", " ", "\x00", "x", "null", "2", '"2"', "{}", "[]", "[[]]", "[2", "[2,", "]", "}", "[2]]", "[,]", "[2,]"),
    *('[2,"a"', '[2 "a"]', "\ufeff[2]", "GET / HTTP/1.1", "<xml/>", "[2]\n[2]", "%", "\\", '"', "[" * 5_000, "{" * 500),
)


@cache
def corpus(version: OCPPVersion) -> tuple[tuple[str, str, RPCError | str], ...]:
    """Return action, payload as text and the outcome it wants: valid ones, and each with one fault."""
    found: list[tuple[str, str, RPCError | str]] = []
    for action in MESSAGES[version]:
        schema = schema_of(version, action)
        payloads = [("", each(schema), RESULT) for each in (smallest, fullest)]
        for _, payload, wants in [*payloads, *violations(schema)]:
            text = json.dumps(payload, separators=(",", ":"))
            if len(text) <= PAYLOAD_CHARACTERS_MAX:
                found.append((action, text, wants))
    return tuple(found)


@cache
def valid(version: OCPPVersion) -> tuple[tuple[str, str], ...]:
    """Return action and payload of what is accepted."""
    return tuple((action, text) for action, text, wants in corpus(version) if wants == RESULT)


@cache
def own_calls(version: OCPPVersion) -> tuple[tuple[OwnCall, str], ...]:
    """Return what the gateway calls, with a good answer."""
    return tuple(
        (
            OwnCall(action, smallest(schema_of(version, action))),
            json.dumps(smallest(schema_of(version, action, response=True))),
        )
        for action in sorted(actions_of_csms(version))
    )


class FrameGrammar:
    """Draws conversations of one version."""

    def __init__(self, seed: str, version: OCPPVersion) -> None:
        self._chance = random.Random(seed)
        self._version = version
        self._corpus = corpus(version)
        self._valid = valid(version)
        self._sent = tuple(SENT_MESSAGES[version])
        self._number = 0
        self._last = '[2,"0","Heartbeat",{}]'
        self._last_answer = "{}"
        kinds = {
            self._valid_call: 24,
            self._faulty_call: 20,
            self._nasty_value: 16,
            self._mutated: 14,
            self._truncated: 3,
            self._envelope: 7,
            self._duplicate_key: 3,
            self._repeated: 3,
            self._id_reused: 2,
            self._binary: 1,
            self._not_json: 2,
            self._send: 2,
            self._unasked_answer: 2,
            self._unknown_action: 1,
        }
        self._kinds = list(kinds)
        self._weights = list(kinds.values())

    def conversation(self, frames: int) -> list[Step]:
        """Return steps with so many frames among them."""
        steps: list[Step] = []
        draw = self._chance.random
        for kind in self._chance.choices(self._kinds, self._weights, k=frames):
            steps.append(kind())
            if draw() < 0.02:
                steps += self._interlude()
        return steps

    def _interlude(self) -> list[Step]:
        drawn = self._chance.random()
        if drawn < 0.2:
            return [Reconnect()]
        if drawn < 0.201:
            return [Frame(f'[2,"{self._id()}","Heartbeat",{{"x":"{"y" * OVERSIZED}"}}]', RPCError.NOT_A_CALL)]
        call, good = self._chance.choice(own_calls(self._version))
        template = self._chance.choice(
            (
                f'[3,"{{id}}",{good}]',
                f'[3,"{{id}}",{good}]',
                '[3,"{id}",{"status":"unheardOf"}]',
                '[3,"{id}",[]]',
                '[3,"{id}"]',
                '[4,"{id}","NotImplemented","no",{}]',
                '[4,"{id}",7,null]',
                '[5,"{id}","FormatViolation","no",{}]',
            )
        )
        return [call, OwnAnswer(template)] if self._chance.random() < 0.9 else [call]

    def _id(self) -> str:
        self._number += 1
        return str(self._number)

    def _call(self, action: str, payload: str) -> str:
        self._last = f'[2,"{self._id()}","{action}",{payload}]'
        return self._last

    def _valid_call(self) -> Frame:
        return Frame(self._call(*self._chance.choice(self._valid)), RESULT)

    def _faulty_call(self) -> Frame:
        action, payload, wants = self._chance.choice(self._corpus)
        return Frame(self._call(action, payload), wants)

    def _nasty_value(self) -> Frame:
        action, payload, _ = self._chance.choice(self._corpus)
        places = list(_VALUE.finditer(payload))
        if not places:
            return Frame(self._call(action, self._chance.choice(NASTY_VALUES)))
        for _ in range(self._chance.choice((1, 1, 1, 2))):
            place = self._chance.choice(places)
            payload = payload[: place.start()] + self._chance.choice(NASTY_VALUES) + payload[place.end() :]
        return Frame(self._call(action, payload))

    def _mutated(self) -> Frame:
        chance = self._chance
        text = self._call(*chance.choice(self._valid))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            at = chance.randrange(len(text) + 1)
            to = min(len(text), at + chance.choice((0, 1, 1, 2, 8)))
            match chance.randrange(4):
                case 0:
                    text = text[:at] + text[to:]
                case 1:
                    text = text[:at] + chance.choice(NASTY_CHARACTERS) + text[to:]
                case 2:
                    text = text[:to] + text[at:to] + text[to:]
                case _:
                    text = text[:at] + chance.choice(NASTY_VALUES) + text[to:]
        return Frame(text)

    def _truncated(self) -> Frame:
        text = self._call(*self._chance.choice(self._valid))
        return Frame(text[: self._chance.randrange(len(text))])

    def _envelope(self) -> Frame:
        chance = self._chance
        action, payload = chance.choice(self._valid)
        parts = ["2", f'"{self._id()}"', f'"{action}"', payload]
        at = chance.randrange(5)
        if at < 4:
            parts[at] = chance.choice((NASTY_KINDS, NASTY_IDS, NASTY_VALUES, NASTY_VALUES)[at])
        elif chance.random() < 0.5:
            del parts[chance.randrange(4)]
        else:
            parts.insert(chance.randrange(5), chance.choice(NASTY_VALUES))
        space = chance.choice(("", "", " ", "\n\t"))
        return Frame(f"{space}[{(space + ',').join(parts)}{space}]{space}")

    def _duplicate_key(self) -> Frame:
        action, payload, _ = self._chance.choice(self._corpus)
        members = _MEMBER.findall(payload)
        if not members:
            return Frame(self._call(action, '{"a":1,"a":1}'), RPCError.FORMAT)
        member = self._chance.choice(members)
        # The same key, once written otherwise.
        again = member if self._chance.random() < 0.5 else f'"\\u00{ord(member[1]):02x}{member[2:]}'
        return Frame(self._call(action, payload.replace(member, f"{member},{again}", 1)), RPCError.FORMAT)

    def _repeated(self) -> Frame:
        return Frame(self._last)

    def _id_reused(self) -> Frame:
        action, payload = self._chance.choice(self._valid)
        return Frame(f'[2,"{self._number}","{action}",{payload}]')

    def _binary(self) -> Frame:
        if self._chance.random() < 0.5:
            return Frame(self._call(*self._chance.choice(self._valid)).encode(), RPCError.NOT_A_CALL)
        return Frame(self._chance.randbytes(self._chance.randrange(200)), RPCError.NOT_A_CALL)

    def _not_json(self) -> Frame:
        return Frame(self._chance.choice(NOT_JSON))

    def _send(self) -> Frame:
        action = self._chance.choice(self._sent) if self._sent else "NotifyPeriodicEventStream"
        payload = self._chance.choice(NASTY_VALUES) if self._chance.random() < 0.3 else '{"id":1,"pending":0,"data":[]}'
        return Frame(f'[6,"{self._id()}","{action}",{payload}]')

    def _unasked_answer(self) -> Frame:
        kind = self._chance.choice(("3", "3", "4", "5"))
        return Frame(f"[{kind},{self._chance.choice((*NASTY_IDS, chr(34) + self._id() + chr(34)))},{{}}]")

    def _unknown_action(self) -> Frame:
        action = self._chance.choice(
            ("heartbeat", "Nothing", "", "BatterySwap", "Reset", "A" * 5_000, "\\u0000", "__init__")
        )
        return Frame(self._call(action, "{}"))
