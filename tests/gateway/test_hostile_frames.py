"""Frames drawn from a grammar through the real session: the short form of `make fuzz`, and that it finds defects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from charge_point_gateway import connection, strict_json
from charge_point_gateway.connection import Connection
from charge_point_gateway.rpc_errors import OCPPVersion, RPCError
from charge_point_gateway.station_session import StationSession
from tests.gateway import frame_fuzz
from tests.gateway.frame_fuzz import FRAMES_PER_CONVERSATION, outcome, play_many, smaller
from tests.gateway.frame_grammar import Frame, FrameGrammar, OwnAnswer, OwnCall, Reconnect, Step

SEED = os.environ.get("WATTROAM_FUZZ_SEED", "in the suite")
CONVERSATIONS = 36
FRAMES = 1_000


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_no_frame_escapes_and_no_connection_is_lost() -> None:
    played = play_many(SEED, 0, CONVERSATIONS)

    assert played.failing is None, f"seed {SEED}: {played.failing}"
    assert played.frames == CONVERSATIONS * FRAMES_PER_CONVERSATION


def test_memory_stays_bounded_whatever_is_sent() -> None:
    play_many(SEED, 1_000, 6)  # what is compiled and cached once
    before = frame_fuzz.resident_bytes()

    play_many(SEED, 2_000, 6)

    assert frame_fuzz.resident_bytes() - before < frame_fuzz.GROWTH_BYTES_MAX


@pytest.mark.parametrize("version", OCPPVersion)
def test_a_conversation_hangs_on_its_seed_alone_and_has_steps_of_every_kind(version: OCPPVersion) -> None:
    first, second = (FrameGrammar("s", version).conversation(FRAMES) for _ in range(2))

    assert first == second
    assert {type(step) for step in first} == {Frame, Reconnect, OwnCall, OwnAnswer}
    frames = [step for step in first if isinstance(step, Frame)]
    assert {str, bytes} == {type(frame.data) for frame in frames}
    assert {frame.wants for frame in frames} >= {
        None,
        "CALLRESULT",
        RPCError.TYPE,
        RPCError.FORMAT,
        RPCError.NOT_A_CALL,
    }


def an_exception_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(self: StationSession, call: Any, error: Exception) -> None:
        raise error

    monkeypatch.setattr(StationSession, "_refuse", fragile)


def equal_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = strict_json._DECODER.decode
    monkeypatch.setattr(strict_json, "decode", lambda text: (decode(text), text.encode()))


def broken_frames_are_left_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "_malformed", lambda *_: ())


def another_code_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "wire_code", lambda *_: RPCError.GENERIC.value)


def an_answer_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(self: Connection, *_: Any) -> Any:
        return self._malformed("x", "-1", RPCError.NOT_A_CALL, "x")

    monkeypatch.setattr(Connection, "_receive_answer", answered)


DEFECTS = [
    an_exception_escapes,
    equal_keys_are_read,
    broken_frames_are_left_unanswered,
    another_code_is_sent,
    an_answer_is_answered,
]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_found_and_made_small(defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    defect(monkeypatch)
    version = OCPPVersion.V201
    steps: list[Step] = FrameGrammar("defect", version).conversation(60)

    assert outcome(version, steps) is not None
    least = smaller(version, steps)

    assert outcome(version, least) is not None
    assert len(least) <= 3
