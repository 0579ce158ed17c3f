"""The real tools with hostile inputs, watched from outside: exit, sentence, time, memory, canary.

Of the cases of `outside/cases.py` the default suite runs one in SPARSE, and `-m slow` one in DENSE.
`python -m tests.trust.outside.run` runs all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.trust.outside import watching
from tests.trust.outside.cases import Case, all_cases
from tests.trust.outside.run import Runner, open_runner
from tests.trust.outside.watching import MAX_BYTES, Inotify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and inotify")

SPARSE = 80
DENSE = 10
CASES = list(all_cases())


def name_of(case: Case) -> str:
    return case.name.encode("unicode_escape").decode()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with open_runner(tmp_path_factory.mktemp("outside")) as opened:
        yield opened


@pytest.mark.parametrize("case", CASES[::SPARSE], ids=name_of)
def test_one_case_in_eighty(runner: Runner, case: Case) -> None:
    ended = runner.run(case)
    assert not ended.problems(), ended


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[3::DENSE], ids=name_of)
def test_one_case_in_ten(runner: Runner, case: Case) -> None:
    ended = runner.run(case)
    assert not ended.problems(), ended


def test_names_of_cases_are_different() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 1500


# ---- the watching itself ----

BAD_ENDS = {
    "exit code -11": "import os; os.kill(os.getpid(), 11)",
    "exit code 77": "import sys; sys.exit(77)",
    "traceback": "raise ValueError",
    "processes are left": "import os, time\nif not os.fork():\n    os.close(1); time.sleep(99)",
    "touched outside": "open('../outside/secret.txt').close()",
    "the listing": "open('../outside/new', 'w').close()",
    "read outside": "import shutil; shutil.copy('../outside/secret.txt', 'copy')",
    "control characters": "print('\\x1b[2J')",
    "without a sentence": "import sys; sys.exit(2)",
}


@pytest.mark.parametrize("problem", BAD_ENDS)
def test_what_must_not_happen_is_seen(runner: Runner, problem: str) -> None:
    ended = runner.run(Case(problem, "-c", (BAD_ENDS[problem],)))
    assert any(problem in found for found in ended.problems()), ended


def test_too_much_memory_is_stopped(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_BYTES", 600_000_000)
    script = "import numpy\nparts = []\nwhile True:\n    parts.append(numpy.ones(1_000_000))"
    ended = runner.run(Case("memory", "-c", (script,)))
    assert ended.stopped == "memory" and "stopped, too much memory" in ended.problems()


def test_a_good_end(runner: Runner) -> None:
    ended = runner.run(Case("good", "-c", ("import os; print(os.listdir('.'))",)))
    assert not ended.problems() and "photo.jpg" in ended.output
    assert 10**7 < ended.bytes < MAX_BYTES


def test_a_file_that_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    with Inotify(tmp_path) as events:
        os.listdir(tmp_path / "folder")
        assert events.names() == []
        (tmp_path / "folder" / "file").read_text()
        assert "file opened" in events.names()
