"""Work that a station was asked for and reports on by request id: firmware installed or published, logs uploaded."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TaskKind(StrEnum):
    """What a station was asked to do."""

    FIRMWARE_UPDATE = "FIRMWARE_UPDATE"
    FIRMWARE_PUBLICATION = "FIRMWARE_PUBLICATION"
    """A local controller offers firmware to the stations behind it (OCPP 2.0.1, L03)."""
    LOG_UPLOAD = "LOG_UPLOAD"


class TaskState(StrEnum):
    """Life of a task; the last four are its ends."""

    ASKED = "ASKED"
    """The station has not answered; it may have got it."""
    ACCEPTED = "ACCEPTED"
    DONE = "DONE"
    FAILED = "FAILED"
    REFUSED = "REFUSED"
    """By the station's answer, or it was never sent."""
    SUPERSEDED = "SUPERSEDED"
    """The station dropped it for a later one."""


OPEN: Final = (TaskState.ASKED, TaskState.ACCEPTED)
INVALID_SIGNATURE: Final = "InvalidSignature"
SIGNATURE_REFUSED: Final = frozenset({INVALID_SIGNATURE, "InvalidCertificate", "RevokedCertificate"})
"""What a station says of firmware that no other station can believe either."""
_DONE: Final = frozenset({"Installed", "Published", "Uploaded"})
_FAILED: Final = frozenset(
    {
        *("DownloadFailed", "InstallationFailed", "InstallVerificationFailed", INVALID_SIGNATURE),
        *("InvalidChecksum", "PublishFailed"),
        *("BadMessage", "NotSupportedOperation", "PermissionDenied", "UploadFailed", "UploadFailure"),
    }
)


def state_after(state: TaskState, status: str) -> TaskState:
    """Return a task's state after the station reported a status; what has ended stays as it ended.

    The words are those of OCPP's FirmwareStatusEnumType, PublishFirmwareStatusEnumType, UploadLogStatusEnumType and
    1.6's DiagnosticsStatus; Idle says nothing of a task.
    """
    if state not in OPEN or status == "Idle":
        return state
    if status in _DONE:
        return TaskState.DONE
    if status == "AcceptedCanceled":
        return TaskState.SUPERSEDED
    return TaskState.FAILED if status in _FAILED else TaskState.ACCEPTED
