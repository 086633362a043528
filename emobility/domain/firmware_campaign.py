"""Firmware for many stations: batch after batch, and no further once too many fail.

A batch begins when nothing of the one before is under way any more, so what goes wrong is seen before more stations get
it. A station that fails is asked again in a later batch, up to `attempts_max` times in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CampaignState(StrEnum):
    """Life of a campaign."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    """Too many stations failed, or one found the signature invalid."""
    CANCELLED = "CANCELLED"
    COMPLETE = "COMPLETE"


class TargetState(StrEnum):
    """Where one station of a campaign stands."""

    WAITING = "WAITING"
    UNDER_WAY = "UNDER_WAY"
    INSTALLED = "INSTALLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


PENDING: Final = (TargetState.WAITING, TargetState.UNDER_WAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRules:
    """How a campaign goes.

    Attributes:
        batch_size: Stations that are asked at a time, at least 1.
        failures_max: It stops when more stations have failed; None: no such limit.
        failure_percent_max: It stops when more than this share of all its stations has failed; None: no such limit.
        attempts_max: How often one station is asked, at least 1.
    """

    batch_size: int
    failures_max: int | None = 0
    failure_percent_max: int | None = None
    attempts_max: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One station of a campaign; `attempts` counts how often it was asked."""

    charging_station_id: str
    state: TargetState
    attempts: int = 0


def too_many_failed(rules: CampaignRules, targets: Sequence[Target], *, forgiven: int = 0) -> bool:
    """Tell whether a campaign has to stop; `forgiven`: failures that its operator has seen and gone on after."""
    failed = Counter(each.state for each in targets)[TargetState.FAILED] - forgiven
    if rules.failures_max is not None and failed > rules.failures_max:
        return True
    share = rules.failure_percent_max
    return share is not None and failed * 100 > share * len(targets)


def next_batch(rules: CampaignRules, targets: Sequence[Target], *, online: Collection[str]) -> list[str]:
    """Return the stations to ask now: of those that are connected, the least often asked first."""
    if any(each.state is TargetState.UNDER_WAY for each in targets):
        return []
    waiting = [each for each in targets if each.state is TargetState.WAITING and each.charging_station_id in online]
    waiting.sort(key=lambda each: (each.attempts, each.charging_station_id))
    return [each.charging_station_id for each in waiting[: rules.batch_size]]


def after_failure(rules: CampaignRules, attempts: int) -> TargetState:
    """Return where a station stands that failed at its last attempt."""
    return TargetState.WAITING if attempts < rules.attempts_max else TargetState.FAILED
