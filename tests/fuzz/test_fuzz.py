"""A few cases of every reader in the fast tests, some thousands in the slow ones."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
from tests.fuzz.all_targets import TARGETS, cases_of
from tests.fuzz.fuzz_run import READ, Outcome, case_bytes, run_case, run_cases, run_guarded
from tests.fuzz.fuzz_target import Target

QUICK_CASES = 1500  # of all readers together
SLOW_CASES = 20_000
SEED = 20
SLOW_SEED = 1  # the first cases of the long run of docs/reliability.md


def kinds(outcome: Outcome) -> list[str]:
    return [f"--only {one.case}: {one.kind}" for one in outcome.findings.values()]


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_cases(tmp_path: Path, name: str) -> None:
    target = made(name, tmp_path)
    assert target.name == name
    assert run_case(target, tmp_path / f"valid{target.suffix}", target.valid) == READ
    outcome = run_cases(target, tmp_path, SEED, range(cases_of(name, QUICK_CASES)))
    assert not kinds(outcome)


@pytest.fixture(scope="module")
def clean_process() -> Iterator[Executor]:
    """A process without the threads of libraries that other tests have used.

    `run_guarded` forks; a fork of a process whose evaluation library has threads would hang.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


def run_slow_cases(name: str) -> Outcome:
    return run_guarded(TARGETS[name][0], name, SLOW_SEED, range(cases_of(name, SLOW_CASES)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_thousands_of_cases(name: str, clean_process: Executor) -> None:
    needs_onnx(name)
    outcome = clean_process.submit(run_slow_cases, name).result()
    assert not kinds(outcome)
    assert outcome.cases == outcome.read + outcome.refused == cases_of(name, SLOW_CASES)


def made(name: str, folder: Path) -> Target:
    needs_onnx(name)
    return TARGETS[name][0](folder)


def needs_onnx(name: str) -> None:
    if name == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")


# ---- the tool itself ----


def test_a_case_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = made("metrics", tmp_path)
    second = made("metrics", tmp_path / "other")
    run_cases(second, tmp_path / "other", 1, range(3))
    cases = [case_bytes(first, 1, number) for number in range(20)]
    assert cases == [case_bytes(second, 1, number) for number in range(20)]
    assert len(set(cases)) > 10
    assert cases != [case_bytes(first, 2, number) for number in range(20)]


def fault(path: Path) -> None:
    """Ends, raises, asks for memory or hangs, as the file says."""
    word = path.read_bytes()
    if word == b"ends":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == b"raises":
        raise KeyError("x")
    elif word == b"asks":
        bytearray(3 * 2**30)
    elif word == b"hangs":
        time.sleep(1e6)


def run_faults(words: list[bytes], watch: float = 600.0) -> dict[str, int]:
    """Error -> number of cases; each of 12 is one of the words."""

    def make_target(folder: Path) -> Target:
        return Target("faults", ".txt", b"fine", lambda rng: rng.choice(words), fault)

    def numbers(outcome: Outcome) -> dict[str, int]:
        return {one.kind.split(" in ")[0]: one.count for one in outcome.findings.values()}

    outcome = run_guarded(make_target, "faults", 1, range(12), watch)
    made_words = [Random(f"1 faults {case}").choice(words) for case in range(12)]
    assert outcome.cases == 12 and outcome.read == made_words.count(b"fine")
    assert sum(numbers(outcome).values()) == 12 - outcome.read
    return numbers(outcome)


def test_ends_errors_and_memory_are_findings() -> None:
    found = run_faults([b"ends", b"raises", b"asks", b"fine"])
    assert set(found) == {"ends the process, exit code -9", "KeyError", "MemoryError"}


@pytest.mark.slow
def test_a_case_that_never_ends_is_a_finding() -> None:
    assert set(run_faults([b"hangs"] + [b"fine"] * 12, watch=60.0)) == {"hangs for 60 s"}
