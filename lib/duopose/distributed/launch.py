"""Start one process or several on this machine, and combine their exits into one exit code.

The launcher hosts the key-value store in which the ranks find each other on a port that the system
chooses, so there is no port to configure. Each rank that fails writes its error into a file of a
temporary folder; the launcher prints the one that was the cause.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist

from duopose.console import guard_standard_streams
from duopose.distributed.context import destroy_distributed, init_distributed
from duopose.distributed.stop import stop_signals
from duopose.errors import UserError, path_error_message
from duopose.files import write_atomically


class ExitCode(IntEnum):
    """Exit codes of the tools and of each rank."""

    DONE = 0
    CRASH = 1  # a bug (with traceback), or a rank that was killed
    USER_ERROR = 2  # a mistake in settings, data or environment, explained in a message
    STOPPED = 3  # stopped by a signal, with everything saved
    INTERRUPTED = 130  # Ctrl-C outside of the training loop, as shells report it


# Of the operating system: a broken disk, or a network disk that is gone.
DISK_ERRORS = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}

# Seconds in which the other ranks may write their errors after the first rank has failed.
ERROR_REPORT_TIME = 1.0
# Seconds in which a rank whose launcher has died may finish its step and save.
ORPHAN_TIME = 60.0

# A run with more processes on one machine is a mistake, most often a batch size.
MAX_PROCESSES = 1024

Worker = Callable[..., int]  # (context, *arguments) -> exit code; must be importable by name


def process_count(text: str) -> int:
    """The value of --gpus, for argparse."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MAX_PROCESSES:
        raise ArgumentTypeError(
            f"{text!r} is not allowed: give the number of processes on this machine, 1 or more; on "
            "a machine without GPUs they run on its CPU (DEVICE cpu)"
        )
    return count


def launch(
    worker: Worker, count: int, device: str, arguments: tuple[Any, ...], method: str = "spawn"
) -> int:
    """Run `worker(context, *arguments)` in `count` processes and return the run's `ExitCode`.

    count 1: in this process. Under torchrun this process is one of its workers and `count` is
    ignored. The first rank that fails ends the run; its error is printed with its rank.
    method: "spawn" works everywhere; "fork" starts faster, where CUDA is not in use.
    """
    if count == 1 or "RANK" in os.environ:
        return run_worker(worker, device, arguments)

    with TemporaryDirectory(prefix="duopose-") as folder:
        store = _local_store()
        context: Any = multiprocessing.get_context(method)
        processes: list[BaseProcess] = [
            context.Process(
                target=_run_rank,
                args=(worker, rank, count, store.port, device, arguments, Path(folder)),
                name=f"rank {rank}",
            )
            for rank in range(count)
        ]
        with _forward_signals(processes):
            for process in processes:
                process.start()
            failed = _wait_for_ranks(processes)

        return _report_failure(failed, Path(folder)) if failed else ExitCode.DONE


def run_worker(worker: Worker, device: str, arguments: tuple[Any, ...]) -> int:
    """Run the worker in this process; unknown errors are raised, known ones give USER_ERROR."""
    try:
        context = init_distributed(device)
        code = worker(context, *arguments)
        destroy_distributed()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:
        message = explain_error(error)
        if message is None:
            raise
        prefix = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        print(f"{prefix}{message}", file=sys.stderr, flush=True)
        return ExitCode.USER_ERROR


def explain_error(error: BaseException) -> str | None:
    """A message for an error with a known cause; None where the traceback is more useful."""
    text = str(error)
    first_line = text.partition("\n")[0].strip()

    if isinstance(error, UserError):
        return text
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU's memory is full ({first_line}); lower TRAIN.IMAGES_PER_GPU, or set "
            "FP16.ENABLED True or MODEL.CHECKPOINT_ACTIVATIONS True; --dry-run prints the largest "
            "batch that fits; in an evaluation lower TEST.IMAGES_PER_GPU"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "while writing"
        return f"the disk is full ({where}); make room and resume with AUTO_RESUME True"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"a disk does not work{where}: {error.strerror}; look at it, then go on with "
            "AUTO_RESUME True"
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return (
            f"a process that reads images died ({first_line}); most often memory ran out: lower "
            "WORKERS, or give the container more shared memory (/dev/shm). Go on with "
            "AUTO_RESUME True"
        )
    return path_error_message(error)


def _run_rank(
    worker: Worker,
    rank: int,
    world_size: int,
    port: int,
    device: str,
    arguments: tuple[Any, ...],
    folder: Path,
) -> None:
    """The main function of a child process; an error goes to a file in `folder`."""
    guard_standard_streams()
    Thread(target=_end_with_launcher, daemon=True).start()
    meet_on_this_machine()

    try:
        store = dist.TCPStore("127.0.0.1", port, world_size=None, is_master=False)
        context = init_distributed(device, rank, world_size, store)
        code = worker(context, *arguments)
        context.barrier()
        destroy_distributed()
    except BaseException as error:
        message = explain_error(error)
        code = ExitCode.CRASH if message is None else ExitCode.USER_ERROR
        if message is None:
            message = "".join(traceback.format_exception(error))
        write_atomically(_error_file(folder, f"rank {rank}"), message.encode())
        os._exit(code)  # without waiting for other ranks, which may hang in a collective

    sys.exit(code)


def meet_on_this_machine() -> None:
    """All ranks are on this machine: without it gloo looks up its name, which may not resolve."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _end_with_launcher() -> None:
    """Wait for the end of the launcher, then finish the step, save and end, as after SIGTERM."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    wait([launcher.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_TIME)
    os._exit(ExitCode.CRASH)


def _local_store() -> dist.TCPStore:
    """A key-value store on a free port that only this machine can reach.

    By itself TCPStore accepts connections on all network interfaces.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(MAX_PROCESSES)
    port = listener.getsockname()[1]
    return dist.TCPStore(
        "127.0.0.1",
        port,
        world_size=None,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _error_file(folder: Path, process_name: str) -> Path:
    return folder / f"{process_name}.txt"


def _wait_for_ranks(processes: list[BaseProcess]) -> list[BaseProcess]:
    """Wait until all have ended; after the first failure the others are killed.

    Returns the ranks that did not end with DONE, in the order in which they ended.
    """
    failed: list[BaseProcess] = []
    running = list(processes)
    others_killed = False

    while running:
        ready = wait([process.sentinel for process in running])
        ended = [process for process in running if process.sentinel in ready]
        running = [process for process in running if process not in ended]
        for process in ended:
            process.join()

        failed += [process for process in ended if process.exitcode != ExitCode.DONE]
        codes = {process.exitcode for process in ended}
        if not others_killed and codes - {ExitCode.DONE, ExitCode.STOPPED}:
            _kill_after_errors(running)
            others_killed = True
    return failed


def _kill_after_errors(processes: list[BaseProcess]) -> None:
    """Give the processes a moment to write their errors, then kill them.

    SIGTERM would make them save, and the collective for that needs the rank that has failed.
    """
    deadline = time.monotonic() + ERROR_REPORT_TIME
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
    for process in processes:
        if process.is_alive():
            process.kill()


def _report_failure(failed: list[BaseProcess], folder: Path) -> int:
    """Print the cause of the failure and return the exit code of the run.

    A rank that fails makes others fail. The cause is the first that applies: a user error of any
    rank; the first rank that ended, if it was killed by a signal; the first rank with an error.
    `failed`: at least one process, in the order in which they ended.
    """
    with_error = [process for process in failed if _error_file(folder, process.name).is_file()]
    user_errors = [process for process in with_error if process.exitcode == ExitCode.USER_ERROR]
    first = failed[0]
    first_code = first.exitcode or 0

    if not user_errors and first_code < 0:
        name = signal.Signals(-first_code).name
        hint = "; most often the machine's memory ran out" if name == "SIGKILL" else ""
        message = f"{first.name} was ended by {name}{hint}. Go on with AUTO_RESUME True"
        print(message, file=sys.stderr, flush=True)
        return ExitCode.CRASH
    if not with_error:
        return first_code

    cause = (user_errors or with_error)[0]
    message = _error_file(folder, cause.name).read_text()
    print(f"{cause.name}: {message}", file=sys.stderr, flush=True)
    return cause.exitcode or 0


@contextmanager
def _forward_signals(processes: list[BaseProcess]) -> Iterator[None]:
    """Signals to stop go to the ranks, which finish their step and save; the third one kills."""
    count = 0

    def forward(_number: int, _frame: Any) -> None:
        nonlocal count
        count += 1
        for process in processes:
            if not process.pid or not process.is_alive():
                continue
            if count < 3:
                process.terminate()
            else:
                process.kill()

    previous_handlers = {number: signal.signal(number, forward) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
