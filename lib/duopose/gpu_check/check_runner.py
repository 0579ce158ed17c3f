"""Runs checks in processes of their own, each with a time limit, and makes a table of the results.

A check that crashes, hangs or is too slow is a failed row; the others go on. What it had found by
then counts. Each result is also printed as soon as its check has ended: where the whole call is cut
off, the rows so far are there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

OK = "ok"
FAILED = "FAILED"
LEFT_OUT = "left out"
TAIL_LINES = 25  # of the output of a check that failed
MIN_SECONDS = 5.0  # a check that has less than this left is not started


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    name: str
    passed: bool | None  # None: could not be checked here
    figure: str  # what was measured, or why nothing was


@dataclass(frozen=True)
class Result:
    """A row of the table."""

    check: str
    result: str  # OK, FAILED, LEFT_OUT
    figure: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """One check, which runs in a process of its own.

    function(device): yields findings. `device` is "cuda" or "cpu".
    """

    name: str
    function: Callable[[str], Iterator[Finding]]
    limit: float  # seconds
    alone: bool = False  # no other check at the same time: it fills the memory or measures time
    needs_cuda: str = ""  # why it says nothing on a CPU


@dataclass(frozen=True)
class Job:
    """A check and the process that makes it: `command`, which writes findings into `file`."""

    name: str
    command: Sequence[str]
    file: Path
    limit: float
    alone: bool = False


# ---- in the process of a check ----


def write_findings(findings: Iterable[Finding], file: Path) -> None:
    """Append each finding to `file` as soon as it is there, with the seconds that it took."""
    start = time.perf_counter()
    for finding in findings:
        seconds = time.perf_counter() - start
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(finding) | {"seconds": seconds}) + "\n")
        start = time.perf_counter()


def read_results(file: Path) -> list[Result]:
    """What `write_findings` has written so far, without a last line that was cut off."""
    if not file.is_file():
        return []
    results = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            row = json.loads(line)
            word = {True: OK, False: FAILED, None: LEFT_OUT}[row["passed"]]
            results.append(Result(row["name"], word, row["figure"], row["seconds"]))
    return results


# ---- around it ----


def run_jobs(
    jobs: Sequence[Job], total_limit: float, at_once: int, report: Callable[[str], None] = print
) -> list[Result]:
    """The results of all jobs, in their order, within `total_limit` seconds.

    at_once: processes at the same time, of the jobs that need not be alone. These are first, those
    with long limits before the others, and they share the cores.
    report: gets the results when a job has ended, and the output of a job that has failed.
    """
    end = time.monotonic() + total_limit
    results: dict[str, list[Result]] = {}
    cores = os.cpu_count() or 1

    def work(job: Job, threads: int) -> None:
        results[job.name] = run_job(job, end, report, threads)

    together = [job for job in jobs if not job.alone]
    together.sort(key=lambda job: job.limit, reverse=True)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(partial(work, threads=max(cores // at_once, 1)), together))
    for job in jobs:
        if job.alone:
            work(job, cores)
    return [result for job in jobs for result in results[job.name]]


def run_job(job: Job, end: float, report: Callable[[str], None], threads: int) -> list[Result]:
    """Run one job until its limit, or until `end` (time.monotonic); its results.

    threads: of its calculations on the CPU.
    """
    limit = min(job.limit, end - time.monotonic())
    if limit < min(MIN_SECONDS, job.limit):
        return [Result(job.name, FAILED, "no time was left for it")]

    start = time.monotonic()
    with TemporaryDirectory(prefix="duopose-check-") as folder:
        log = Path(folder) / "log"
        code = _run_process(job.command, log, limit, threads)
        output = log.read_text(encoding="utf-8", errors="replace")
    seconds = time.monotonic() - start

    results = read_results(job.file)
    problem = ""
    if code is None:
        problem = f"exceeded its limit of {limit:.0f} s"
    elif code:
        problem = f"ended with exit code {code}: {_last_line(output)}"
    elif not results:
        problem = "gave no result"
    if problem:
        results.append(Result(job.name, FAILED, problem, seconds))

    failed = any(result.result == FAILED for result in results)
    lines = [f"{job.name}: {FAILED if failed else 'done'} after {seconds:.1f} s"]
    lines += [f"  {result.result}  {result.check}: {result.figure}" for result in results]
    if problem:
        lines += [f"    {line}" for line in output.splitlines()[-TAIL_LINES:]]
    report("\n".join(lines))
    return results


def _run_process(command: Sequence[str], log: Path, limit: float, threads: int) -> int | None:
    """The exit code; None where the process and its children were ended at the limit."""
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "no output"


def make_jobs(
    checks: Iterable[Check], command: Callable[[Check, Path], Sequence[str]], folder: Path
) -> list[Job]:
    """A job for each check; their files are in `folder`."""
    jobs = []
    for number, check in enumerate(checks):
        file = folder / f"{number}.jsonl"
        jobs.append(Job(check.name, command(check, file), file, check.limit, check.alone))
    return jobs


def without_cuda(checks: Iterable[Check]) -> list[Result]:
    """Rows of the checks that need a GPU, for a run on a CPU."""
    return [Result(check.name, LEFT_OUT, check.needs_cuda) for check in checks if check.needs_cuda]


# ---- the table ----


def table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    rows = [("check", "result", "figure", "s"), ("---", "---", "---", "---:")]
    for row in results:
        figure = row.figure.replace("|", "/").replace("\n", " ")
        seconds = "" if row.result == LEFT_OUT else f"{row.seconds:.1f}"
        rows.append((row.check, row.result, figure, seconds))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def summary(results: Sequence[Result]) -> str:
    """How many rows have which result."""
    count = partial(_count, results)
    return f"{count(OK)} ok, {count(FAILED)} failed, {count(LEFT_OUT)} left out"


def exit_code(results: Sequence[Result]) -> int:
    """1 where a row has failed, or where nothing was checked."""
    return int(_count(results, FAILED) > 0 or not _count(results, OK))


def _count(results: Sequence[Result], word: str) -> int:
    return sum(result.result == word for result in results)
