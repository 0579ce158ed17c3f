"""Runs the cases of a target in a process of its own, with limits on time and memory.

Case number n of a seed is the same file whatever ran before it. A case that ends the process or
never ends is noted by the parent, which goes on with the next one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import traceback
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from tests.fuzz.fuzz_target import MakeTarget, Target

from duopose.errors import UserError

TIME_LIMIT = 10.0  # CPU seconds of a case
MEMORY_LIMIT = 2.0  # GB beyond what the process needs for its libraries
WATCH_LIMIT = 600.0  # seconds without a report, on a machine that others use, too: a case hangs
MAX_FINDINGS = 30  # kinds, after which a target ends
MAX_RESTARTS = 60  # two for each case that has ended its process
REPORT_EVERY = 50  # cases after which a process reports

# Cases are written by the thousand, some readers wait until they are on the disk: in memory, then.
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

READ = "read"
REFUSED = "refused"


@dataclass
class Finding:
    """The first case of a kind of error, and the number of cases."""

    kind: str  # type, message and line: the same for the same mistake
    case: int
    details: str  # traceback
    count: int = 1


@dataclass
class Outcome:
    """What came of the cases of a target."""

    name: str
    cases: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0  # CPU seconds
    slowest_case: int = -1
    start_memory: float = 0.0  # GB resident before the first case
    memory: float = 0.0  # GB resident at the most
    memory_case: int = -1
    cpu: float = 0.0  # seconds of all cases
    findings: dict[str, Finding] = field(default_factory=dict)

    def note(self, kind: str, case: int, details: str = "") -> None:
        """Count a finding."""
        found = self.findings.setdefault(kind, Finding(kind, case, details, count=0))
        found.count += 1

    def add(self, other: Outcome) -> None:
        """Take over what another process has found with later cases."""
        self.cases += other.cases
        self.read += other.read
        self.refused += other.refused
        self.cpu += other.cpu
        self.start_memory = self.start_memory or other.start_memory
        if other.slowest > self.slowest:
            self.slowest = other.slowest
            self.slowest_case = other.slowest_case
        if other.memory > self.memory:
            self.memory = other.memory
            self.memory_case = other.memory_case
        for kind, finding in other.findings.items():
            mine = self.findings.setdefault(kind, Finding(kind, finding.case, finding.details, 0))
            mine.count += finding.count


def case_bytes(target: Target, seed: int, case: int) -> bytes:
    """The file of a case."""
    return target.make(Random(f"{seed} {target.name} {case}"))


def run_case(target: Target, path: Path, content: bytes) -> str:
    """READ, REFUSED, or any error that the reader raises."""
    path.write_bytes(content)
    try:
        target.use(path)
    except UserError:
        return REFUSED
    return READ


def run_cases(target: Target, folder: Path, seed: int, cases: Iterable[int]) -> Outcome:
    """All cases, in this process."""
    outcome = Outcome(target.name, start_memory=peak_memory())
    path = folder / f"case{target.suffix}"
    for case in cases:
        content = case_bytes(target, seed, case)
        run_one(target, path, content, case, outcome)
        if len(outcome.findings) >= MAX_FINDINGS:
            break
    return outcome


def run_one(target: Target, path: Path, content: bytes, case: int, outcome: Outcome) -> None:
    """One case into the outcome."""
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run_case(target, path, content)
        outcome.read += result == READ
        outcome.refused += result == REFUSED
    except Exception as error:
        outcome.note(kind_of(error), case, traceback.format_exc())

    seconds = time.process_time() - start
    outcome.cases += 1
    outcome.cpu += seconds
    if seconds > outcome.slowest:
        outcome.slowest = seconds
        outcome.slowest_case = case
    if seconds > TIME_LIMIT:
        outcome.note(f"takes more than {TIME_LIMIT:g} s", case)
    memory = peak_memory()
    if memory > outcome.memory:
        outcome.memory = memory
        outcome.memory_case = case


def kind_of(error: BaseException) -> str:
    """Type, line and start of the message."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/duopose/" in frame.filename] or frames
    last = own[-1]
    message = " ".join(str(error).split())[:100]
    return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {message}"


def peak_memory() -> float:
    """GB that were resident in this process at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# ---- in a process with limits ----


def run_guarded(
    make_target: MakeTarget, name: str, seed: int, cases: range, watch: float = WATCH_LIMIT
) -> Outcome:
    """All cases in child processes: a new one after each case that has ended its process."""
    outcome = Outcome(name)
    first = cases.start
    every = REPORT_EVERY
    earlier = ""  # how the process before this one ended
    for _ in range(MAX_RESTARTS):
        if first >= cases.stop or len(outcome.findings) >= MAX_FINDINGS:
            break
        part = range(first, cases.stop)
        found, problem, first = _run_child(make_target, seed, part, every, watch)
        outcome.add(found)
        if not problem:
            break
        if every > 1:  # again from the last report, to see which case it is
            every = 1
            earlier = problem
            continue
        outcome.note(problem, first)
        outcome.cases += 1
        first += 1
        every = REPORT_EVERY
        earlier = ""
    if earlier:
        outcome.note(earlier, first)
    return outcome


def _run_child(
    make_target: MakeTarget, seed: int, cases: range, every: int, watch: float
) -> tuple[Outcome, str, int]:
    """The outcome of a child process; how it ended, where not by itself; the case after its last.

    every: cases of a report.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(make_target, seed, cases, every, sender))
    process.start()
    sender.close()

    outcome = Outcome("")
    case = cases.start - 1
    problem = ""
    while True:
        if not receiver.poll(watch):
            problem = f"hangs for {watch:g} s"
            process.kill()
            break
        try:
            message = receiver.recv()
        except EOFError:
            process.join()
            problem = f"ends the process, exit code {process.exitcode}"
            break
        if isinstance(message, str):  # the target itself does not work
            problem = message
            case = cases.stop
            break
        outcome, case, is_complete = message
        if is_complete:
            break
    process.join()
    return outcome, problem, case + 1


def _child(
    make_target: MakeTarget, seed: int, cases: range, every: int, sender: Connection
) -> None:
    """Sends the outcome so far after `every` cases; what comes later is lost if a case kills it."""
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="duopose_fuzz_", dir=SCRATCH) as name:
        folder = Path(name)
        target = make_target(folder)
        outcome = Outcome(target.name, start_memory=peak_memory())
        run_one(target, folder / f"case{target.suffix}", target.valid, -1, outcome)
        if not outcome.read:
            details = "".join(finding.details for finding in outcome.findings.values())
            sender.send(f"the valid file is not read: {details or 'UserError'}")
            return
        limit_memory()
        _silence()
        outcome = Outcome(target.name, start_memory=peak_memory())
        path = folder / f"case{target.suffix}"
        for case in cases:
            run_one(target, path, case_bytes(target, seed, case), case, outcome)
            is_complete = case == cases[-1] or len(outcome.findings) >= MAX_FINDINGS
            if is_complete or outcome.cases % every == 0:
                sender.send((outcome, case, is_complete))
            if is_complete:
                break


def _silence() -> None:
    """Libraries in C write about damaged images to the standard error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def limit_memory() -> None:
    """Let allocations fail that lead beyond MEMORY_LIMIT."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(MEMORY_LIMIT * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
