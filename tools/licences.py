#!/usr/bin/env python
"""The licences of all packages of requirements.lock, from the metadata of what is installed.

tools/licences.py [--lock FILE] [--json]
"""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from importlib import metadata
from pathlib import Path

from duopose.console import run_tool
from duopose.errors import UserError

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
NOT_HASHED = ("torch",)  # in requirements.txt alone
CLASSIFIER = "License :: "
MAX_LENGTH = 60  # of a licence; some packages put the whole text there
NOT_STATED = "not stated"
NOT_INSTALLED = "not installed here"


def locked_packages(lock: Path) -> list[str]:
    """The names in a lock file, and those without hash. UserError where it is no such file."""
    if not lock.is_file():
        raise UserError(f"there is no lock file {lock}")
    names = sorted({*PINNED.findall(lock.read_text(encoding="utf-8")), *NOT_HASHED})
    if names == list(NOT_HASHED):
        raise UserError(f"{lock} pins no package")
    return names


def licence_of(package: str) -> tuple[str, str]:
    """Version and licence: the SPDX expression, else the classifiers, else the free text."""
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return "", NOT_INSTALLED
    expressions = found.get_all("License-Expression")
    if expressions:
        return found["Version"], expressions[0]

    classifiers = found.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith(CLASSIFIER)]
    texts = found.get_all("License") or [""]
    text = texts[0].strip().partition("\n")[0]
    licence = ", ".join(names) or text[:MAX_LENGTH] or NOT_STATED
    return found["Version"], licence


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--lock", type=Path, default=LOCK, help="default: requirements.lock")
    parser.add_argument("--json", action="store_true", help="print json")
    args = parser.parse_args(arguments)
    try:
        packages = locked_packages(args.lock)
    except UserError as error:
        print(f"licences: {error}", file=sys.stderr)
        return 2

    rows = [(package, *licence_of(package)) for package in packages]
    if args.json:
        keys = ("package", "version", "licence")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=1))
        return 0
    width = max(len(package) for package in packages)
    for package, version, licence in rows:
        print(f"{package:{width}}  {version:16}  {licence}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
