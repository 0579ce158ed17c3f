"""A process that takes jobs and runs their commands until none is left.

while jobs are left:
    return jobs whose process has died to todo
    take the next job whose `after` are done; none: wait a little
    run its command as a process of its own, with a log; count its CPU seconds
    exit code 0: done; 3 (stopped by a signal, everything saved): back to todo; else: failed
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from duopose.distributed.launch import ExitCode
from duopose.locks import heartbeats
from duopose.regular_files import open_to_append
from duopose.study.jobs import Attempt, Claim, Job, JobFolder, measured_steps
from duopose.study.plan import FOLDER, STEPS

POLL = 5.0  # seconds between two looks for a job that can start
PR_SET_PDEATHSIG = 1  # of prctl(2)


class Worker:
    """Runs the jobs of a folder one after the other."""

    def __init__(self, root: Path, threads: int = 0, poll: float = POLL) -> None:
        """threads: CPU threads of each job, 0: as its settings say."""
        self.folder = JobFolder(root)
        self.threads = threads
        self.poll = poll
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = Event()

    def work(self, max_jobs: int = 0) -> int:
        """Run jobs until none is left, `max_jobs` have ended (0: no limit), or a signal comes.

        Returns ExitCode.DONE, STOPPED after a signal, USER_ERROR where jobs have failed.
        """
        num_ended = 0
        with self._handle_signals():
            while not self.stopped.is_set():
                for name in self.folder.return_lost_jobs():
                    print(f"{name}: its process has died, it goes back to todo", flush=True)
                self.folder.fail_dependents()
                if not self.folder.files("todo") and not self.folder.files("running"):
                    break
                if max_jobs and num_ended >= max_jobs:
                    break
                num_ended += self._run_next()

        if self.stopped.is_set():
            return ExitCode.STOPPED
        return ExitCode.USER_ERROR if self.folder.files("failed") else ExitCode.DONE

    def _run_next(self) -> int:
        """Run one job; the number of jobs that have ended, 0 after waiting for one."""
        with self.folder.take() as claim:
            if claim is not None:
                self._run(claim)
                return 1
        self.stopped.wait(self.poll)
        return 0

    def _run(self, claim: Claim) -> None:
        """Run the command of a job, and move the job to its new state."""
        job = claim.job
        log = self.folder.root / "logs" / f"{job.name}.log"
        print(f"{job.name}: started", flush=True)
        attempt = self._attempt(claim, log)
        job.attempts.append(attempt)
        if not claim.heartbeat():
            print(f"{job.name}: another process has taken it over", flush=True)
            return

        code = attempt["exit_code"]
        was_stopped = self.stopped.is_set() and code != ExitCode.DONE
        if code == ExitCode.DONE:
            claim.move_to("done")
        elif code == ExitCode.STOPPED or was_stopped:
            claim.move_to("todo")
        else:
            job.reason = f"exit code {code}, see {log}"
            claim.move_to("failed")
        seconds = attempt["cpu_seconds"]
        print(f"{job.name}: exit code {code}, {seconds:.0f} CPU seconds {job.reason}", flush=True)

    def _attempt(self, claim: Claim, log: Path) -> Attempt:
        """Start the command and wait for its end; its exit code and cost."""
        log.parent.mkdir(exist_ok=True)
        environment = dict(os.environ)
        if self.threads:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        start = time.monotonic()
        cpu_start = _cpu_seconds_of_children()

        with os.fdopen(open_to_append(log), "ab") as output:
            self.process = subprocess.Popen(
                complete_command(claim.job, self.folder.root, self.threads),
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=[claim.lock],
                preexec_fn=_end_with_worker,  # noqa: PLW1509 (no other thread runs yet)
            )
            with heartbeats(claim.heartbeat, self.process.terminate):
                code = self.process.wait()
            self.process = None

        return {
            "host": self.folder.host,
            "hardware": hardware(),
            "exit_code": code,
            "wall_seconds": round(time.monotonic() - start, 1),
            "cpu_seconds": round(_cpu_seconds_of_children() - cpu_start, 1),
        }

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C: the job saves and ends, and goes back to todo."""

        def stop(_number: int, _frame: Any) -> None:
            self.stopped.set()
            if self.process is not None:
                self.process.terminate()

        signals = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, stop) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def complete_command(job: Job, root: Path, threads: int = 0) -> list[str]:
    """The words of the process: the job's command with folder, steps and threads filled in."""
    values = {FOLDER: str(root)}
    if job.steps_from:
        values[STEPS] = str(measured_steps(root, job))

    words = [sys.executable]
    for word in job.command:
        completed = word
        for placeholder, value in values.items():
            completed = completed.replace(placeholder, value)
        words.append(completed)
    takes_settings = not job.name.startswith("speed-")
    if threads and takes_settings:
        words += ["THREADS", str(threads)]
    return words


def hardware() -> str:
    """Processor and number of cores of this machine."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else name}, {os.cpu_count()} cores"


def _cpu_seconds_of_children() -> float:
    """CPU time of all processes that this one, or one of its children, has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end_with_worker() -> None:
    """In the job's process: get SIGTERM when the worker dies, so that the job saves and ends.

    Without it a killed worker's training would go on, and another machine would start it again.
    Linux only; elsewhere the job goes on to its end, and its lock is held until then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
