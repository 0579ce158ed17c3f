"""Restarts by torchrun: who meets whom, and from what a restarted run goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from tests.training.test_distributed import (
    children_of,
    finish,
    run_ranks,
    start,
    wait_for,
)
from tests.training.test_resume import assert_equal
from tests.training.tiny_train import folder_of, train_here

from duopose.distributed import context
from duopose.distributed.context import init_distributed
from duopose.distributed.meeting import CURRENT_NAME, meet
from duopose.errors import UserError
from duopose.network import read_model_file
from duopose.training.checkpoint import read_checkpoint

# ---- the meeting ----


def ranks_that_meet(store: dist.Store, world_size: int, ranks: list[int]) -> list[threading.Thread]:
    """Threads in which these ranks meet, and write into what they have got."""

    def join(rank: int) -> None:
        own = meet(store, rank, world_size, timedelta(seconds=100))
        own.add("met", 1)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    return threads


def test_ranks_meet_although_the_store_holds_an_earlier_start() -> None:
    """The others come first, and find the name of a rank 0 that has ended."""
    store = dist.HashStore()
    names = []
    for _ in range(2):
        threads = ranks_that_meet(store, 3, [1, 2])
        time.sleep(0.3)
        assert all(thread.is_alive() for thread in threads)
        threads += ranks_that_meet(store, 3, [0])
        for thread in threads:
            thread.join()
        names.append(store.get(CURRENT_NAME).decode())
        assert store.get(f"duopose/{names[-1]}/met") == b"3"
    assert names[0] != names[1]


def test_ranks_that_do_not_come_are_named() -> None:
    store = dist.HashStore()
    with pytest.raises(UserError, match=r"2 of 3 .*rank 1, 2"):
        meet(store, 0, 3, timedelta())
    with pytest.raises(UserError, match="rank 0"):
        meet(store, 1, 3, timedelta())


def start_again(port: int, restart_counts: list[int], limit: float) -> list[int]:
    """Start one process per count as torchrun does, with its store; their exit codes."""

    def work(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(restart_counts)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "GLOO_SOCKET_IFNAME": "lo",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RUN_ID": "job 7",
            "TORCHELASTIC_RESTART_COUNT": str(restart_counts[rank]),
        }
        joined = init_distributed("cpu")
        assert joined.all_gather_object(rank) == list(range(len(restart_counts)))
        os._exit(0)  # without a farewell in the store, as after SIGKILL

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(rank,)) for rank in range(len(restart_counts))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(limit)
        process.kill()
        process.join()
    return [process.exitcode or 0 for process in processes]


def test_processes_meet_whose_machines_count_restarts_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker of the second machine has failed; the first was restarted with it."""
    monkeypatch.setattr(context, "TIMEOUT", timedelta(seconds=200))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for counts in ([0, 0], [0, 1], [1, 1]):
        assert start_again(store.port, counts, limit=200) == [0, 0], counts


# ---- what a restarted run goes on from ----


def test_a_restart_goes_on_from_what_the_same_torchrun_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose own processes did not fail the restart count stays 0."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    train_here(tmp_path, "TRAIN.END_EPOCH", 1)
    folder = folder_of(tmp_path)
    assert train_here(tmp_path) == 0
    assert not (folder.root / "earlier_1").exists()
    content = read_checkpoint(folder.checkpoint).content
    assert content["position"]["step"] == 10 and content["torchrun"] == "job 7"

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 8")
    assert train_here(tmp_path) == 0
    assert (folder.root / "earlier_1").is_dir()


def test_a_restart_does_not_go_on_from_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start ended before it had moved the earlier run aside."""
    train_here(tmp_path, "TRAIN.END_EPOCH", 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun's default
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train_here(tmp_path, "TRAIN.END_EPOCH", 1) == 0
    assert (folder_of(tmp_path).root / "earlier_1").is_dir()
    assert train_here(tmp_path, "TRAIN.END_EPOCH", 1) == 0
    assert not (folder_of(tmp_path).root / "earlier_2").exists()


# ---- two machines ----


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def worker_of_rank(agents: list[int], rank: int) -> int:
    """The process id of a rank, among the children of the two torchruns; 0 where there is none."""
    for child in [child for agent in agents for child in children_of(agent)]:
        try:
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment:
            return child
    return 0


def has_pending_sigterm(process: int) -> bool:
    """Whether a stopped process was sent SIGTERM."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


@pytest.mark.slow
def test_two_machines_go_on_after_a_worker_of_one_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 is blocked meanwhile, so that its machine restarts it without a failure of its own.

    Its restart count stays 0 and the other's becomes 1. AUTO_RESUME is off.
    """
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    settings = ["TRAIN.END_EPOCH", 6, "TRAIN.CHECKPOINT_EVERY", 1]
    endpoint = f"127.0.0.1:{free_port()}"
    processes = []
    for is_host in (1, 0):
        launcher = (
            "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
            "--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint", endpoint,
            "--rdzv-conf", f"is_host={is_host}", "--local-addr", "127.0.0.1", "--max-restarts", "2",
        )  # fmt: skip
        processes.append(start(tmp_path / "cut", "--slow", 0.1, *settings, launcher=launcher))
    agents = [process.pid for process in processes]
    try:
        wait_for(folder_of(tmp_path / "cut").checkpoint.exists)
        blocked = worker_of_rank(agents, 0)
        os.kill(blocked, signal.SIGSTOP)
        os.kill(worker_of_rank(agents, 1), signal.SIGKILL)
        wait_for(lambda: has_pending_sigterm(blocked))
        os.kill(blocked, signal.SIGKILL)
        ends = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()

    output = "".join(text for _, text in ends)
    assert [code for code, _ in ends] == [0, 0], output
    assert "Traceback" not in output  # nobody has tried the address of a process that has ended
    folder = folder_of(tmp_path / "cut")
    assert f"resuming from {folder.checkpoint}" in output
    assert not (folder.root / "earlier_1").exists()
    assert run_ranks(tmp_path / "whole", *settings) == 0
    cut, whole = (
        read_model_file(folder_of(tmp_path / name).model_final).state_dict
        for name in ("cut", "whole")
    )
    assert_equal(cut, whole, "weights")
