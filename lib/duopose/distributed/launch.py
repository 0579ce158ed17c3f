"""One process or several on this machine. Which port is free is not our question: the parent hosts the meeting point itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist

from duopose.distributed.context import DistributedContext, destroy_distributed, init_distributed
from duopose.distributed.failures import explain
from duopose.files import write_atomically

USER_ERROR, CRASH = 2, 1
GRACE = 1.0  # seconds in which other ranks may tell what they know, after the first has failed
PATIENCE = 30.0  # seconds for ranks to end after SIGTERM, then SIGKILL

Worker = Callable[..., int]  # (place, *arguments) -> exit code; must be importable by name


def launch(
    worker: Worker, count: int, device: str, arguments: tuple[Any, ...], method: str = "spawn"
) -> int:
    """Run `worker(place, *arguments)` in `count` processes (1: in this one) and return the run's exit code.

    Under torchrun this process is one of its workers and `count` is not looked at. The first rank that fails ends the run; its
    error is printed with its rank. method: spawn works everywhere; fork starts at once, where CUDA is not in use.
    """
    if count == 1 or "RANK" in os.environ:
        return guarded(worker, device, arguments)
    with TemporaryDirectory(prefix="duopose-") as folder:
        store = dist.TCPStore(
            "127.0.0.1", 0, world_size=None, is_master=True, wait_for_workers=False
        )
        context: Any = multiprocessing.get_context(method)
        processes: list[BaseProcess] = [
            context.Process(
                target=_child,
                args=(worker, rank, count, store.port, device, arguments, folder),
                name=f"rank {rank}",
            )
            for rank in range(count)
        ]
        with _signals_forwarded(processes):
            for process in processes:
                process.start()
            failed = _wait_for(processes)
        return _tell(failed, Path(folder))


def guarded(worker: Worker, device: str, arguments: tuple[Any, ...]) -> int:
    """The worker in this process; a known failure is a sentence and code 2, any other a traceback and code 1."""
    name = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
    try:
        code = worker(init_distributed(device), *arguments)
        destroy_distributed()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if (sentence := explain(error)) is None:
            raise
        print(f"{name}{sentence}", file=sys.stderr, flush=True)
        return USER_ERROR


def _child(
    worker: Worker,
    rank: int,
    world: int,
    port: int,
    device: str,
    arguments: tuple[Any, ...],
    folder: str,
) -> None:
    if sys.platform == "linux":
        os.environ.setdefault(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # gloo looks up the host's name otherwise, which may not resolve
    try:
        store = dist.TCPStore("127.0.0.1", port, world_size=None, is_master=False)
        context: DistributedContext = init_distributed(device, rank, world, store)
        code = worker(context, *arguments)
        context.barrier()
        destroy_distributed()
    except BaseException as error:
        sentence = explain(error)
        text = sentence if sentence is not None else "".join(traceback.format_exception(error))
        code = CRASH if sentence is None else USER_ERROR
        write_atomically(Path(folder) / f"{rank}.txt", text.encode())
        os._exit(code)  # without waiting for ranks that will not answer
    sys.exit(code)


def _wait_for(processes: list[BaseProcess]) -> list[BaseProcess]:
    """Wait until all have ended; after the first failure the others are ended. Returns the failed ones, first one first."""
    failed: list[BaseProcess] = []
    running = list(processes)
    while running:
        ready = wait([process.sentinel for process in running])
        ended = [process for process in running if process.sentinel in ready]
        for process in ended:
            process.join()
        running = [process for process in running if process not in ended]
        bad = [process for process in ended if process.exitcode]
        if bad and not failed and any(process.exitcode not in (0, 3) for process in bad):
            _end(running)
        failed += bad
    return failed


def _end(processes: list[BaseProcess]) -> None:
    """Give the processes a moment to say what they know, then end them."""
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))
    for process in processes:
        if process.is_alive():
            process.kill()  # SIGTERM would ask for a save, which needs the rank that is gone


def _tell(failed: list[BaseProcess], folder: Path) -> int:
    """Print the error that came first, the user's mistakes before their consequences, and return its exit code."""
    if not failed:
        return 0
    messages = [process for process in failed if (folder / f"{_rank(process)}.txt").is_file()]
    for process in sorted(messages, key=lambda process: process.exitcode != USER_ERROR)[:1]:
        first_killed = (
            failed[0].exitcode is not None
            and failed[0].exitcode < 0
            and process.exitcode != USER_ERROR
        )
        if not first_killed:
            print(
                f"{process.name}: {(folder / f'{_rank(process)}.txt').read_text()}",
                file=sys.stderr,
                flush=True,
            )
            return int(process.exitcode or 0)
    code = failed[0].exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; most often the machine's memory ran out" if name == "SIGKILL" else ""
        print(
            f"{failed[0].name} was ended by {name}{hint}. Go on with AUTO_RESUME True",
            file=sys.stderr,
            flush=True,
        )
        return CRASH
    return code


def _rank(process: BaseProcess) -> str:
    return process.name.split()[-1]


@contextmanager
def _signals_forwarded(processes: list[BaseProcess]) -> Iterator[None]:
    """SIGTERM and Ctrl-C to this process go to the ranks, which finish their step and save; the third one kills."""
    count = 0

    def forward(_number: int, _frame: Any) -> None:
        nonlocal count
        count += 1
        for process in processes:
            if process.pid and process.is_alive():
                process.terminate() if count < 3 else process.kill()

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
