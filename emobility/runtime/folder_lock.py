"""One owner per folder: a lock the kernel drops when its holder dies, so it is never stale."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from emobility.domain.errors import RuleBroken


class FolderInUse(RuleBroken):
    """Another process owns this folder."""

    def __init__(self, folder: Path, *, owner_pid: str) -> None:
        self.folder = folder
        self.owner_pid = owner_pid
        super().__init__(f"{folder} is in use by process {owner_pid}; stop that first, or choose another run folder")


class FolderLock:
    """Says that this process, and no other, works on a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Become the owner; owning it already is fine. Raises `FolderInUse`."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner_pid = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise FolderInUse(self._folder, owner_pid=owner_pid or "unknown") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it up; giving it up twice is as once."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
