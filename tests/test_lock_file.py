"""requirements.lock has every package of requirements.txt, with the same version, and hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
LOCKED = re.findall(r"^([\w.-]+)==([^ ;]+)([^\n]*(?:\n    --hash=[^\n]*)*)", LOCK, re.MULTILINE)


def normal(name: str) -> str:
    """The name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_has_the_versions_of_the_requirements() -> None:
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    wanted = {(normal(name), version) for name, version in pinned if name != "torch"}
    locked = {(normal(name), version) for name, version, _ in LOCKED}
    assert wanted - locked == set()
    assert "torch" not in {name for name, _ in locked}


def test_every_package_has_hashes() -> None:
    assert len(LOCKED) > 50
    without = [name for name, _, rest in LOCKED if not re.search(r"sha256:[0-9a-f]{64}\b", rest)]
    assert without == []


def test_the_needs_of_torch_are_locked() -> None:
    """torch itself is installed after the lock, and should find all it needs."""
    names = {normal(name) for name, _, _ in LOCKED}
    needs = ("filelock", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec")
    assert {*needs, "setuptools"} <= names


def test_licences_are_listed() -> None:
    done = subprocess.run(
        [sys.executable, "tools/licences.py", "--json"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    rows = {row["package"]: row["licence"] for row in json.loads(done.stdout)}
    assert {normal(name) for name, _, _ in LOCKED} | {"torch"} == set(map(normal, rows))
    assert rows["tqdm"] and "BSD" in rows["torch"]
