"""A folder of jobs that any number of processes on any number of machines take from.

    jobs/todo/NAME.json -> jobs/running/NAME@HOST@PID.json -> jobs/done/ or jobs/failed/NAME.json

A job moves by a rename, which is atomic: of several processes that want it one succeeds. There is
no server and no scheduler. Who has a job is part of its file name. A job whose process has died
goes back to todo:

- on the same machine: the process holds a lock on jobs/locks/NAME, and the command that it runs
  inherits it, so that it is free when both have ended.
- on another machine: the process touches its file in running/. See `duopose.locks`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import msgspec
import orjson
from msgspec import Meta

from duopose.errors import UserError, counted
from duopose.files import write_atomically
from duopose.json_files import read_typed_json
from duopose.locks import STALE, host_name, seconds_since_touch, try_flock
from duopose.regular_files import is_outside_name

STATES = ("todo", "running", "done", "failed")
MAX_LOST = 5  # times that a job may lose its process before it counts as failed
MAX_FILE_MEMORY = 16 * 2**20  # bytes of a job's file; ours have 3 kB
# What a job may start, so that no file of a job can make Python execute something else.
TOOLS = ("tools/dist_train.py", "tools/valid.py", "tools/study.py")


class Attempt(TypedDict):
    """One start of a job's command."""

    host: str
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31)] | None  # None: its process has died
    cpu_seconds: float | None
    wall_seconds: NotRequired[float]
    hardware: NotRequired[str]


@dataclass
class Job:
    """A command, the jobs that must be done before it, and its attempts so far."""

    name: str
    command: list[str]  # words after "python"; {folder} and {steps} are filled in
    after: list[str] = field(default_factory=list)
    # File, below the study's folder, and key of the number of steps; empty: none is needed.
    steps_from: list[str] = field(default_factory=list)
    order: Annotated[int, Meta(ge=0, le=2**40)] = 0  # jobs are taken in this order
    attempts: list[Attempt] = field(default_factory=list)
    reason: str = ""  # why it failed


class Claim:
    """A job that this process has taken."""

    def __init__(self, folder: JobFolder, job: Job, path: Path, lock: int) -> None:
        self.folder = folder
        self.job = job
        self.path = path  # in running/
        self.lock = lock  # descriptor of the lock, which the job's process must inherit

    def heartbeat(self) -> bool:
        """Touch the file; False where another process has taken the job away."""
        try:
            os.utime(self.path)
            return True
        except FileNotFoundError:
            return False

    def move_to(self, state: str) -> None:
        """Write the job with its attempts, and move it to another state."""
        write_atomically(self.path, _to_json(self.job))
        os.rename(self.path, self.folder.path(state, self.job.name))


class JobFolder:
    """The jobs below `root`/jobs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = host_name()
        for state in (*STATES, "locks"):
            (root / "jobs" / state).mkdir(parents=True, exist_ok=True)

    def path(self, state: str, name: str) -> Path:
        """File of a job; in running/, with this process as owner."""
        owner = f"@{self.host}@{os.getpid()}" if state == "running" else ""
        return self.root / "jobs" / state / f"{name}{owner}.json"

    def files(self, state: str) -> list[Path]:
        """The files of a state; temporary ones left out."""
        paths = (self.root / "jobs" / state).glob("*.json")
        return sorted(path for path in paths if not path.name.startswith("."))

    def names(self, state: str) -> set[str]:
        """Names of the jobs in a state."""
        return {job_name(path) for path in self.files(state)}

    def jobs(self, state: str) -> list[Job]:
        """The jobs of a state in their order; those that move away meanwhile are left out."""
        found = [_read_job(path) for path in self.files(state)]
        jobs = [job for job in found if job is not None]
        return sorted(jobs, key=lambda job: (job.order, job.name))

    def add(self, job: Job) -> bool:
        """Put a job into todo; False where it exists already, in any state."""
        if any(job.name in self.names(state) for state in STATES):
            return False
        write_atomically(self.path("todo", job.name), _to_json(job))
        return True

    @contextmanager
    def take(self) -> Iterator[Claim | None]:
        """Take the next job that can start, and hold its lock; None where there is none now."""
        done = self.names("done")
        for job in self.jobs("todo"):
            if not done.issuperset(job.after):
                continue
            with self._claim(self.path("todo", job.name), job) as claim:
                if claim is not None:
                    yield claim
                    return
        yield None

    def return_lost_jobs(self) -> list[str]:
        """Move jobs whose process has died back to todo (or failed); their names."""
        returned = []
        for path in self.files("running"):
            name, host, _ = owner_of(path)
            job = _read_job(path)
            if job is None or (host != self.host and not _is_stale(path)):
                continue
            with self._claim(path, job) as claim:
                if claim is not None:
                    _return_lost(claim, host)
                    returned.append(name)
        return returned

    def fail_dependents(self) -> None:
        """Move jobs to failed that wait for a failed one."""
        failed = self.names("failed")
        for job in self.jobs("todo"):
            missing = sorted(failed.intersection(job.after))
            if not missing:
                continue
            job.reason = f"{missing[0]} has failed"
            with self._claim(self.path("todo", job.name), job) as claim:
                if claim is not None:
                    claim.move_to("failed")

    def retry_failed(self) -> None:
        """Move all failed jobs back to todo."""
        for job in self.jobs("failed"):
            job.reason = ""
            job.attempts = [one for one in job.attempts if one["exit_code"] is not None]
            with self._claim(self.path("failed", job.name), job) as claim:
                if claim is not None:
                    claim.move_to("todo")

    @contextmanager
    def _claim(self, path: Path, job: Job) -> Iterator[Claim | None]:
        """Lock a job and move its file to running/ with this process as owner.

        Gives None where another process has the lock or the file.
        """
        with self._lock(job.name) as lock:
            if lock is None:
                yield None
                return
            target = self.path("running", job.name)
            try:
                os.utime(path)  # so that it is not stale before the first heartbeat
                os.rename(path, target)
            except FileNotFoundError:
                yield None
                return
            yield Claim(self, job, target, lock)

    @contextmanager
    def _lock(self, name: str) -> Iterator[int | None]:
        """Hold the job's lock; gives its descriptor, None where another process has it."""
        path = self.root / "jobs" / "locks" / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield descriptor if try_flock(descriptor) else None
        finally:
            os.close(descriptor)


def _is_stale(path: Path) -> bool:
    """Whether a file in running/ had no heartbeat for STALE seconds."""
    try:
        return seconds_since_touch(path) > STALE
    except FileNotFoundError:
        return False


def job_name(path: Path) -> str:
    """Name of the job in a file of any state."""
    return path.stem.partition("@")[0]


def owner_of(path: Path) -> tuple[str, str, str]:
    """Job, host and process of a file in running/; UserError where its name has another form."""
    parts = path.stem.rsplit("@", 2)
    if len(parts) != 3:
        raise UserError(f"'{path}' is no file of a running job (NAME@HOST@PID.json): remove it")
    return parts[0], parts[1], parts[2]


def measured_steps(root: Path, job: Job) -> int:
    """The steps that `speed` has found for a job with `steps_from`; UserError without them."""
    if len(job.steps_from) != 2:
        raise UserError(f"job '{job.name}': 'steps_from' must be a file and a key")
    file, key = job.steps_from
    path = root / file
    steps = read_typed_json(path, "measured speeds", _SPEEDS, MAX_FILE_MEMORY)["steps"]
    if key not in steps:
        raise UserError(f"measured speeds '{path}' have no steps of '{key}'")
    return steps[key]


def lost_attempt(host: str) -> Attempt:
    """The record of an attempt whose process has died; its cost is not known."""
    return {"host": host, "exit_code": None, "cpu_seconds": None}


def _return_lost(claim: Claim, host: str) -> None:
    job = claim.job
    job.attempts.append(lost_attempt(host))
    lost = sum(attempt["exit_code"] is None for attempt in job.attempts)
    if lost < MAX_LOST:
        claim.move_to("todo")
        return
    job.reason = f"its process has died {counted(lost, 'time')}; most often memory ran out"
    claim.move_to("failed")


def _to_json(job: Job) -> bytes:
    return orjson.dumps(asdict(job), option=orjson.OPT_INDENT_2)


class _Speeds(TypedDict):
    """What `speed` writes."""

    steps: dict[str, Annotated[int, Meta(ge=1, le=2**40)]]


_JOB = msgspec.json.Decoder(Job)
_SPEEDS = msgspec.json.Decoder(_Speeds)


def _read_job(path: Path) -> Job | None:
    """The job in a file, checked; None where the file has moved away."""
    what = "job of a study"
    try:
        job: Job = read_typed_json(path, what, _JOB, MAX_FILE_MEMORY)
    except UserError:
        if os.path.lexists(path):
            raise
        return None

    if job.name != job_name(path):
        raise UserError(f"{what} '{path}' is of another name, '{job.name[:80]}'")
    if not job.command or job.command[0] not in TOOLS:
        raise UserError(f"{what} '{path}': 'command' must begin with one of {', '.join(TOOLS)}")
    if job.steps_from and (len(job.steps_from) != 2 or is_outside_name(job.steps_from[0])):
        raise UserError(
            f"{what} '{path}': 'steps_from' must be a file below the study's folder, and a key"
        )
    return job
