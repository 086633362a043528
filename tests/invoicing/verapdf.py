"""veraPDF, an independent judge of PDF/A: one jar, fetched with Maven (`make verapdf`) and pinned by its hash."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from lxml import etree

from emobility.runtime.kafka.libraries import find_java
from emobility.runtime.supervision import ComponentMissing

VERSION: Final = "1.28.2"
SHA256: Final = "687d4d8bcfec48c9f7e931cf78ed061f1eeccfba55d4cdc000ba9b4d8aa46ce6"
JAR: Final = Path(__file__).parents[2] / "build" / "verapdf" / f"greenfield-apps-{VERSION}.jar"
ARTIFACT: Final = "org.verapdf.apps:greenfield-apps"
COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
PROGRAM: Final = "org.verapdf.apps.GreenfieldCliWrapper"
TIMEOUT_S: Final = 120
FETCH_TIMEOUT_S: Final = 600


def find_jar() -> Path:
    """Return the pinned jar. Raises `ComponentMissing` when it was not fetched, or is another one."""
    if not JAR.is_file() or hashlib.sha256(JAR.read_bytes()).hexdigest() != SHA256:
        raise ComponentMissing("veraPDF is missing: `make verapdf` fetches it; tests run without it by WITHOUT=verapdf")
    return JAR


def judged(files: Sequence[Path]) -> dict[str, list[str]]:
    """Return for each file, by name, which rules of PDF/A-3B it breaks."""
    program: list[str | Path] = [find_java(), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", find_jar(), PROGRAM]
    ended = subprocess.run(
        [*program, "--flavour", "3b", "--format", "xml", *files],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    reports = etree.fromstring(ended.stdout.encode()).findall(".//job")
    assert len(reports) == len(files), ended.stdout + ended.stderr
    found = {}
    for report in reports:
        name, verdict = report.findtext("item/name"), report.find("validationReport")
        assert name is not None
        assert verdict is not None, etree.tostring(report)
        rules = verdict.findall(".//rule[@status='failed']")
        broken = [f"{rule.get('clause')}: {' '.join((rule.findtext('description') or '').split())}" for rule in rules]
        assert bool(broken) is (verdict.get("isCompliant") != "true"), etree.tostring(report)
        found[Path(name).name] = broken
    return found


def fetch() -> Path:
    """Return the jar, after fetching it with Maven if need be. Raises `ComponentMissing`."""
    with suppress(ComponentMissing):
        return find_jar()
    maven = shutil.which("mvn")
    if maven is None:
        raise ComponentMissing(
            "Maven is missing, and with it veraPDF: install it (Debian: `apt-get install maven`),"
            " or run the tests without veraPDF by WITHOUT=verapdf"
        )
    home = {} if shutil.which("java") else {"JAVA_HOME": str(find_java().parent.parent)}
    ended = subprocess.run(
        [maven, "-q", "-B", COPY, f"-Dartifact={ARTIFACT}:{VERSION}", f"-DoutputDirectory={JAR.parent}"],
        capture_output=True, text=True, check=False, timeout=FETCH_TIMEOUT_S, env=os.environ | home,
    )  # fmt: skip
    if ended.returncode != 0:
        raise ComponentMissing(f"Maven could not fetch veraPDF: {ended.stdout.strip().splitlines()[:1]}")
    return find_jar()


def main() -> int:
    """Fetch it; say in one line what can't be had."""
    try:
        fetch()
    except ComponentMissing as missing:
        print(missing, file=sys.stderr)  # noqa: T201  # this is a command
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
