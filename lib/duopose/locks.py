"""Locks of processes on files of a shared folder, and finding out whether an owner still lives.

- On one machine: the owner holds a lock (flock) on a file. The system frees it when the owner has
  ended, however it ended.
- On another machine, where the file system may not share flocks: the owner touches a file every
  HEARTBEAT seconds; one that was not touched for STALE seconds has lost its owner. Times are those
  of the file system, not of the machines' clocks.

`FolderLock` is both for the folder of a training; the jobs of a study (`study/jobs.py`) use the
functions.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import msgspec
import orjson

from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.regular_files import open_to_change, read_regular

if sys.platform != "win32":
    import fcntl

HEARTBEAT = 15.0  # seconds
# NFS shows a new modification time to other machines after at most 60 seconds by default
# (acregmax in nfs(5)); twice that and a few heartbeats.
STALE = 180.0
MAX_COMMAND = 100  # characters of the owner's command in a message
NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}  # file systems without it

RUNNING = "running"
FINISHED = "finished"
STOPPED = "stopped"  # by a signal, with everything saved
FAILED = "failed"  # by an error
DEAD = "dead"  # without a word: killed, or the machine is off
WRITTEN_STATES = (RUNNING, FINISHED, STOPPED, FAILED, DEAD)  # into lock files
MAX_BYTES = 1 << 16  # of a lock file; one has half a kB


def host_name() -> str:
    """This machine's name, fit for file names."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def process_start(process: int) -> str:
    """A mark of the start of a process, which a later process of the same number does not have.

    Empty where there is no such process, or the system does not say (no /proc).
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may contain spaces
    return fields[19]  # field 22 of proc(5): the start, in clock ticks since the boot


def torchrun_id() -> str:
    """Names what torchrun runs: the same after each of its restarts; empty without torchrun.

    The value of --rdzv-id. Its default, "none", is completed by torchrun's own process, so that two
    trainings without an id differ.
    """
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if run_id != "none":
        return run_id
    agent = os.getppid()
    return f"none@{host_name()}@{agent}@{process_start(agent)}"


def try_flock(descriptor: int) -> bool:
    """Lock an open file; False where another process has it.

    True also where the file system has no locks: the caller then has heartbeats only.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
    return True


def seconds_since_touch(path: Path) -> float:
    """Age of a file by the clock of its file system. Raises FileNotFoundError where it is gone."""
    probe = path.with_name(f".time@{host_name()}@{os.getpid()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
    except OSError:  # a folder that may only be read
        now = time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return now - path.stat().st_mtime


@contextmanager
def heartbeats(touch: Callable[[], bool], on_loss: Callable[[], None]) -> Iterator[None]:
    """Call `touch` every HEARTBEAT seconds, in a thread; when it returns False, `on_loss` once."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            if not touch():
                on_loss()
                return

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class Owner:
    """Who has, or had, a folder: the content of its lock file."""

    host: str
    process: int
    process_start: str  # see `process_start`
    started: str  # date and time
    command: str
    state: str = RUNNING  # RUNNING, FINISHED, STOPPED, FAILED; DEAD in a folder that was moved
    reason: str = ""  # of the failure
    torchrun: str = ""  # `torchrun_id`

    @staticmethod
    def this_process() -> Owner:
        """This process, from now on."""
        process = os.getpid()
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        words = " ".join(sys.argv)
        # Names of files that the locale cannot read hold surrogates, which json cannot.
        command = words.encode(errors="backslashreplace").decode()
        start = process_start(process)
        return Owner(host_name(), process, start, started, command, torchrun=torchrun_id())

    def is_same_process(self, other: Owner) -> bool:
        """Whether both records are of one process."""
        own = (self.host, self.process, self.process_start)
        return own == (other.host, other.process, other.process_start)


def read_owner(path: Path) -> Owner | None:
    """The owner in a lock file; None where there is none, or the file is not readable."""
    try:
        return _owner_in(read_regular(path, MAX_BYTES))
    except OSError:
        return None


def _owner_in(content: bytes) -> Owner | None:
    """None where the content of a lock file is damaged, or was written by something else."""
    try:
        owner = msgspec.json.decode(content, type=Owner)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return owner if owner.state in WRITTEN_STATES else None


def owner_lives(path: Path, owner: Owner) -> bool:
    """Whether the owner of a lock file that says RUNNING still lives."""
    try:
        descriptor = open_to_change(path)
    except OSError:  # may only be read
        return _gives_signs_of_life(path, owner)
    try:
        return not try_flock(descriptor) or _gives_signs_of_life(path, owner)
    finally:
        os.close(descriptor)


def _gives_signs_of_life(path: Path, owner: Owner) -> bool:
    """On this machine: by process and start. On another, or without /proc: by the heartbeat."""
    if owner.host == host_name() and owner.process_start:
        return process_start(owner.process) == owner.process_start
    try:
        return seconds_since_touch(path) < STALE
    except FileNotFoundError:
        return False


def owner_state(path: Path) -> tuple[str, Owner] | None:
    """State of the owner of a folder, DEAD included; None where there is no lock file."""
    owner = read_owner(path)
    if owner is None:
        return None
    if owner.state == RUNNING and not owner_lives(path, owner):
        return DEAD, owner
    return owner.state, owner


class FolderLock:
    """Exclusive use of a folder by one process; the lock file stays, with how the owner ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = Owner.this_process()
        self.previous = b""  # content of the file before this process took it
        self._descriptor = -1

    def check_free(self) -> None:
        """UserError naming the owner where another process has the folder."""
        found = owner_state(self.path)
        if found is not None and found[0] == RUNNING and not self._is_restart_of(found[1]):
            raise UserError(self._refusal(found[1]))

    @contextmanager
    def hold(self) -> Iterator[FolderLock]:
        """Take the folder, or UserError; a folder whose owner is dead is taken over.

        Call `end` before leaving; without it the state is FAILED, with the reason of an exception.
        """
        self.take()
        try:
            with heartbeats(self._touch, lambda: None):
                yield self
        except BaseException as error:
            self.end(FAILED, f"{type(error).__name__}: {error}".partition("\n")[0][:300])
            raise
        finally:
            self.end(FAILED)

    def take(self) -> None:
        """Lock the file and write this process into it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_to_change(self.path, create=True)
        self.previous = os.pread(descriptor, MAX_BYTES, 0)
        owner = read_owner(self.path)
        is_free = _flock_patiently(descriptor)
        if is_free and owner is not None and owner.state == RUNNING:
            is_free = self._is_restart_of(owner) or not _gives_signs_of_life(self.path, owner)
        if not is_free:
            os.close(descriptor)
            raise UserError(self._refusal(owner))

        self._descriptor = descriptor
        # A forked process, as of a data loader, may outlive this one, and would keep the lock.
        os.register_at_fork(after_in_child=self._close)
        self._write(self.owner)

    def check_still_held(self) -> None:
        """UserError where another process has taken the folder over, e.g. while this one slept.

        Where somebody has removed the folder, it is made and taken again.
        """
        if self._descriptor >= 0 and not self.path.exists():
            self._close()
            self.take()
        owner = read_owner(self.path)
        if self._descriptor >= 0 and owner and not owner.is_same_process(self.owner):
            raise UserError(
                f"{self.path.parent} was taken over by {_describe(owner)}, because this process "
                f"gave no sign of life for {STALE:.0f} seconds; it ends without saving, so that "
                "nothing of the other is overwritten"
            )

    def end(self, state: str, reason: str = "") -> None:
        """Write how this process ended, and free the folder; only the first call counts."""
        if self._descriptor < 0:
            return
        owner = read_owner(self.path)
        if owner is None or owner.is_same_process(self.owner):
            self._write(Owner(**asdict(self.owner) | {"state": state, "reason": reason}))
        self._close()

    def write_previous(self, path: Path) -> None:
        """Write the record of the owner before this process to another file, if there was one."""
        owner = _owner_in(self.previous)
        if owner is None:
            return
        state = DEAD if owner.state == RUNNING else owner.state
        record = asdict(owner) | {"state": state}
        write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2))

    def restore(self) -> None:
        """Free the folder as if it had not been taken: nothing in it has changed."""
        if self._descriptor >= 0:
            self._write_bytes(self.previous)
            self._close()

    def _is_restart_of(self, owner: Owner) -> bool:
        """torchrun starts all processes again, maybe elsewhere, after it has ended them.

        TORCHELASTIC_RESTART_COUNT is no sign of it: the torchrun of each machine counts only the
        failures of its own processes.
        """
        return bool(owner.torchrun) and owner.torchrun == self.owner.torchrun

    def _refusal(self, owner: Owner | None) -> str:
        who = _describe(owner) if owner else "another process"
        return (
            f"{self.path.parent} is in use by {who}; wait for its end or stop it, or give this "
            "run a folder of its own with --name NAME"
        )

    def _touch(self) -> bool:
        with suppress(OSError):
            os.utime(self.path)
        return self._descriptor >= 0

    def _write(self, owner: Owner) -> None:
        self._write_bytes(orjson.dumps(asdict(owner), option=orjson.OPT_INDENT_2))

    def _write_bytes(self, content: bytes) -> None:
        """In place: a rename would leave the lock on the old file."""
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _flock_patiently(descriptor: int) -> bool:
    """`try_flock`, again after a moment: tools/runs.py holds the lock while it looks."""
    for _ in range(3):
        if try_flock(descriptor):
            return True
        time.sleep(0.05)
    return False


def _describe(owner: Owner) -> str:
    command = owner.command
    if len(command) > MAX_COMMAND:
        command = f"{command[:MAX_COMMAND]}..."
    return f"process {owner.process} on {owner.host}, started {owner.started} ({command})"
