"""Run the cases: python -m tests.trust.outside.run [WORD | N]

WORD: those whose names hold it. N: one in N of them. Prints what must not happen, then the number
of cases, the slowest and the largest. Exit code 0: nothing was found.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tests.trust.outside.cases import Case, all_cases
from tests.trust.outside.template import make_canary, make_template
from tests.trust.outside.watching import Box, Ended, Watcher


class Runner:
    """Runs cases, each in a new box."""

    def __init__(self, watcher: Watcher, template: Path, canary: Path) -> None:
        self._watcher = watcher
        self._template = template
        self._canary = canary

    def run(self, case: Case) -> Ended:
        """Prepare the box and call the tool."""
        self._watcher.box.fill(self._template, self._canary)
        case.prepare(self._watcher.box.inside)
        return self._watcher.call(case.tool, *case.words, streams=case.streams)


@contextmanager
def open_runner(folder: Path) -> Iterator[Runner]:
    """A runner with everything that it needs below the folder."""
    box = Box(folder / "box")
    template = folder / "template"
    canary = folder / "canary"
    box.inside.mkdir(parents=True)
    make_canary(box.outside)
    with Watcher(box, folder / "fork_server.log") as watcher:
        make_template(watcher)
        shutil.move(box.inside, template)
        shutil.move(box.outside, canary)
        yield Runner(watcher, template, canary)


def choose(what: str) -> list[Case]:
    """All cases, one in a number of them, or those whose names hold a word."""
    cases = list(all_cases())
    return cases[:: int(what)] if what.isdecimal() else [c for c in cases if what in c.name]


def main(words: list[str]) -> int:
    """Run the cases and print."""
    cases = choose(words[0] if words else "")
    ended: dict[str, Ended] = {}
    start = monotonic()
    with tempfile.TemporaryDirectory() as folder, open_runner(Path(folder)) as runner:
        for case in cases:
            ended[case.name] = runner.run(case)
            problems = ended[case.name].problems()
            if problems:
                print(f"{case.name}: {'; '.join(problems)}\n{ended[case.name].errors}", flush=True)

    slowest = max(ended, key=lambda name: ended[name].cpu)
    largest = max(ended, key=lambda name: ended[name].bytes)
    codes = Counter(one.code for one in ended.values())
    print(f"{len(cases)} cases in {monotonic() - start:.0f} s, exit codes {dict(codes)}")
    print(f"slowest: {ended[slowest].cpu:.1f} s, {slowest}")
    print(f"largest: {ended[largest].bytes / 1e6:.0f} MB, {largest}")
    num_bad = sum(bool(one.problems()) for one in ended.values())
    print(f"{num_bad} with something that must not happen")
    return 1 if num_bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
