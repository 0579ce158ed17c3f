"""A process with all libraries imported, which forks one child for each call of a tool.

A call then costs what the tool does, and not the seconds in which Python and torch start. Lines of
json come on standard input, and one line of json goes back for each: what the call has used.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import torch

TOOLS = Path(__file__).resolve().parents[3] / "tools"
POLL = 0.1  # seconds between two looks at the processes of a call, which take milliseconds
LATE_IMPORTS = ("torch._dynamo", "matplotlib.figure", "scipy.io")  # that tools import when needed

Call = dict[str, Any]


def main() -> None:
    """Answer calls until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in LATE_IMPORTS:
        __import__(name)
    torch.set_num_threads(1)
    for tool in sorted(TOOLS.glob("*.py")):
        runpy.run_path(str(tool), run_name="imported")

    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(watch(json.loads(line))), file=answers, flush=True)


# ---- the parent ----


def watch(call: Call) -> dict[str, Any]:
    """Run one call; its exit code (of a signal: negative), CPU seconds and largest memory."""
    process = os.fork()
    if not process:
        run_child(call)

    start = time.monotonic()
    last_cpu = 0.0
    last_progress = start
    largest = 0
    stopped = ""
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            break
        members = session_of(process)
        largest = max(largest, sum(memory_of(member) for member in members))
        cpu = sum(cpu_of(member) for member in members)
        if cpu > last_cpu or any(stat_of(member)[:1] == ["R"] for member in members):
            last_cpu = cpu
            last_progress = time.monotonic()

        stopped = stopped or reason_to_stop(call, largest, cpu, time.monotonic() - last_progress)
        if stopped:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        time.sleep(POLL)

    left = session_of(process)
    for member in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "cpu": usage.ru_utime + usage.ru_stime,
        "bytes": max(largest, usage.ru_maxrss * 1024),
        "stopped": stopped,
        "left": len(left),
    }


def reason_to_stop(call: Call, memory: int, cpu: float, idle: float) -> str:
    """Which bound of the call is passed, '' where none is."""
    if memory > call["max_bytes"]:
        return "memory"
    if cpu > call["max_cpu"]:
        return "CPU time"
    return "waiting" if idle > call["max_idle"] else ""


def session_of(leader: int) -> list[int]:
    """The living processes of a session."""
    members = []
    for name in os.listdir("/proc"):
        fields = stat_of(int(name)) if name.isdecimal() else []
        if fields and int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(name))
    return members


def stat_of(process: int) -> list[str]:
    """Fields of proc(5)'s stat from the third, the state, on; [] where the process has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def cpu_of(process: int) -> float:
    """CPU seconds of a process and its ended children."""
    fields = stat_of(process)
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> int:
    """Resident bytes of a process; what it shares with others is divided among them."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    kilobytes = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return 1024 * sum(map(int, kilobytes))


# ---- the child ----


def run_child(call: Call) -> NoReturn:
    """What the forked process does."""
    os.setsid()
    os.chdir(call["folder"])
    os.environ.update(call["environment"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    redirect(0, call["stdin"], os.O_RDONLY)
    redirect(1, call["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    redirect(2, call["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    sys.stdin = os.fdopen(0, "r", closefd=False) if is_open(0) else None
    sys.stdout = os.fdopen(1, "w", closefd=False) if is_open(1) else None
    sys.stderr = os.fdopen(2, "w", closefd=False) if is_open(2) else None
    leave(run_python(call["tool"], call["words"]))


def redirect(descriptor: int, target: str, flags: int) -> None:
    """target: a path, `closed`, or `no reader` for a pipe that nobody reads."""
    if target == "closed":
        os.close(descriptor)
        return
    if target == "no reader":
        reader, opened = os.pipe()
        os.close(reader)
    else:
        opened = os.open(target, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


def is_open(descriptor: int) -> bool:
    """Whether a descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def run_python(tool: str, words: list[str]) -> object:
    """Run a tool, or as `python -c` the first word; the value of sys.exit."""
    try:
        if tool == "-c":
            sys.argv = ["-c", *words[1:]]
            exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = [str(TOOLS / f"{tool}.py"), *words]
            sys.path[0] = str(TOOLS)
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as error:
        return error.code
    except BaseException:
        with contextlib.suppress(Exception):
            sys.excepthook(*sys.exc_info())
        return 1
    return 0


def leave(code: object) -> NoReturn:
    """End as Python does: other threads first, then what is registered, then what is buffered."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    with contextlib.suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
