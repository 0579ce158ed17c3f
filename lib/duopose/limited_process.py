"""A reader of a library in a process of its own, with limits of memory and time.

A library that trusts the sizes in a file may fill the memory, hang, or crash. In a process with
limits, each of these is one error with a message. The module that runs there must not import torch,
whose import takes seconds and needs more addresses than the limit allows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duopose.errors import UserError

USER_ERROR = 2  # exit code of the process: its standard error is a message for the user
WALL_FACTOR = 10  # a loaded machine or a slow disk may take longer than the processor's time
_LIBRARY = Path(__file__).resolve().parents[1]
_OUT_OF_TIME = (getattr(signal, "SIGXCPU", None), getattr(signal, "SIGALRM", None))


@dataclass(frozen=True)
class ProcessLimits:
    """Of one process. memory: bytes; seconds: of the processor."""

    memory: int
    seconds: float

    def set(self) -> None:
        """Bound this process; memory counts beyond what it has. Without effect on Windows."""
        try:
            import resource
        except ImportError:
            return
        _set_limit(resource.RLIMIT_AS, _used_addresses() + self.memory)
        _set_limit(resource.RLIMIT_CPU, max(1, round(self.seconds)))
        _set_limit(resource.RLIMIT_CORE, 0)


def run_limited(module: str, arguments: Sequence[str], where: str, limits: ProcessLimits) -> bytes:
    """What `python -m module MEMORY SECONDS arguments` writes to standard output.

    The module sets the limits first, and ends with USER_ERROR and a message for a mistake of the
    user. UserError, beginning with `where`, where it fails, or needs more memory or time.
    """
    folders = [str(_LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each has a buffer
    environment = os.environ | one_thread | {"PYTHONPATH": os.pathsep.join(folders)}

    # -P: no module of the current folder, which may hold files of others, is imported
    bounds = [str(limits.memory), str(limits.seconds)]
    command = [sys.executable, "-P", "-m", module, *bounds, *arguments]
    try:
        ended = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=limits.seconds * WALL_FACTOR,
        )
    except subprocess.TimeoutExpired as error:
        raise _out_of_time(where, limits) from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: no process for it ({error})") from error

    if ended.returncode == 0:
        return ended.stdout
    raise _error_of(ended, where, limits)


def _error_of(
    ended: subprocess.CompletedProcess[bytes], where: str, limits: ProcessLimits
) -> UserError:
    message = ended.stderr.decode(errors="replace").strip()
    if ended.returncode == USER_ERROR and message:
        return UserError(message)
    if -ended.returncode in _OUT_OF_TIME:
        return _out_of_time(where, limits)
    if ended.returncode < 0:
        return UserError(f"{where} is damaged: its reader ended by signal {-ended.returncode}")
    reason = message.splitlines()[-1][:200] if message else f"exit code {ended.returncode}"
    return UserError(f"{where} cannot be read: {reason}")


def _out_of_time(where: str, limits: ProcessLimits) -> UserError:
    return UserError(f"{where} cannot be read within {limits.seconds:.0f} seconds; is it damaged?")


def _set_limit(kind: int, value: int) -> None:
    """The soft limit; a lower hard one stays."""
    import resource

    _, hard = resource.getrlimit(kind)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (soft, hard))


def _used_addresses() -> int:
    """Bytes of addresses that this process has, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
