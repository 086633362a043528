"""Turn a failure that whoever typed the command can put right into one line. Everything else is a bug, and shows."""

from __future__ import annotations

from pydantic import ValidationError

from emobility.adapters.postgres import DatabaseUnavailable
from emobility.domain.errors import EmobilityError


def sentence_of(error: BaseException) -> str | None:
    """Return the line to show; None where the failure is nobody's but ours."""
    if isinstance(error, BaseExceptionGroup):
        # Services run in task groups; the first cause of one is what there is to tell.
        sentences = [sentence_of(each) for each in error.exceptions]
        return next((each for each in sentences if each is not None), None) if all(sentences) else None
    if isinstance(error, ValidationError) and error.title == "Settings":
        return "; ".join(_setting(each["loc"], each["msg"]) for each in error.errors())
    if isinstance(error, DatabaseUnavailable):
        return f"the database does not answer: {str(error).splitlines()[0]}"
    if isinstance(error, EmobilityError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return None


def _setting(location: tuple[int | str, ...], message: str) -> str:
    sentence = message.removeprefix("Value error, ")
    return f"WATTROAM_{str(location[0]).upper()}: {sentence}" if location else sentence
