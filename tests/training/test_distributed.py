"""Several processes train as one with the larger batch, and end together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from threading import Thread

import pytest
import torch
from tests.training.test_checkpoint import small_disk
from tests.training.test_resume import assert_equal, in_child
from tests.training.tiny_train import (
    NO_TRICK,
    TinyData,
    Trick,
    folder_of,
    tiny_config,
    train_here,
    work,
)

from duopose.datasets.loader import collate
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch
from duopose.network import read_model_file
from duopose.training import loop
from duopose.training.checkpoint import read_checkpoint
from duopose.training.run import Options
from duopose.training.setup import setting_notices, total_batch_advice
from duopose.training.train_loader import EpochPartition, TrainLoader

SCRIPT = Path(__file__).parent / "tiny_train.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(out: Path, *arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(SCRIPT), "--out", str(out), *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output = process.communicate(timeout=500)[0]
    return process.returncode, output


def losses(out: Path) -> list[float]:
    rows = [line.split(",") for line in folder_of(out).metrics_csv.read_text().splitlines()]
    return [float(row[4]) for row in rows if row[2:4] == ["train", "loss"]]


def run_ranks(out: Path, *overrides: object, trick: Trick = NO_TRICK, count: int = 2) -> int:
    """`dist_train --gpus N` on the tiny components, by fork, which starts faster than spawn."""
    return launch(
        work,
        count,
        "cpu",
        (tiny_config(out, *overrides), Options("tiny.yaml"), trick),
        method="fork",
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold within 300 seconds"
        time.sleep(0.02)


def children_of(parent: int) -> list[int]:
    """Process ids of a process's children, oldest first."""
    return [
        int(line)
        for line in subprocess.run(
            ["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False
        ).stdout.split()
    ]


def is_running(process: int) -> bool:
    """Whether a process exists and has not ended (an orphan may stay as a zombie)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("spawned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_as_one_with_the_double_batch(tmp_path: Path, spawned: bool) -> None:
    """Plain gradient descent without batch statistics, 6 steps of which the last is short.

    Losses and weights are equal to 1e-6.
    """
    settings = ["PRINT_FREQ", 1, "TRAIN.OPTIMIZER", "sgd", "TRAIN.LR", 0.1]
    quiet = Trick(batch_norm=0, length=9)  # one image is left for two ranks at the end
    if spawned:
        code, output = finish(
            start(tmp_path / "two", "--gpus", 2, "--batch_norm", 0, "--length", 9, *settings)
        )
        assert code == 0, output
    else:
        assert run_ranks(tmp_path / "two", *settings, trick=quiet) == 0
    train_here(tmp_path / "one", *settings, "TRAIN.IMAGES_PER_GPU", 4, trick=quiet)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-6)
    assert len(losses(tmp_path / "one")) == 6
    two, one = (
        read_model_file(folder_of(tmp_path / name).model_final).state_dict
        for name in ("two", "one")
    )
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)


def test_each_rank_loads_its_images_through_the_workers() -> None:
    counts: Counter[int | str] = Counter()
    for rank in range(2):
        partition = EpochPartition(9, 2, rank, 2)
        loader = TrainLoader(
            TinyData(Trick(length=9)),
            collate,
            partition,
            torch.device("cpu"),
            1,
            1,
        )
        for seen, batches in zip(range(0, 9, 4), loader.steps(0, 0)):
            for batch, weight in zip(batches, partition.step_weights(seen)):
                counts.update(batch.image_ids if weight else [])
    assert counts == Counter(range(9))


def test_a_closed_loader_has_no_workers() -> None:
    """A reference cycle keeps the loader alive until the interpreter's exit.

    Without `close` its workers could block the exit of the interpreter.
    """
    loader = TrainLoader(
        TinyData(Trick(length=9)),
        collate,
        EpochPartition(9, 2),
        torch.device("cpu"),
        2,
        1,
    )
    before = set(active_children())
    circle: list[object] = [loader]
    circle.append(circle)
    assert sum(len(batch.image_ids) for batches in loader.steps(0, 0) for batch in batches) == 9
    assert len(set(active_children()) - before) == 2
    loader.close()
    assert not set(active_children()) - before


def test_a_killed_rank_ends_the_run_with_its_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = folder_of(tmp_path).checkpoint
    before = set(children_of(os.getpid()))

    def kill_second() -> None:
        wait_for(checkpoint.exists)
        os.kill(
            [child for child in children_of(os.getpid()) if child not in before][1], signal.SIGKILL
        )

    killer = Thread(target=kill_second)
    killer.start()
    assert run_ranks(tmp_path, "TRAIN.END_EPOCH", 1000, trick=Trick(slow=0.02)) == 1
    killer.join()
    error = capfd.readouterr().err
    assert "rank 1" in error and "SIGKILL" in error and "Traceback" not in error
    assert read_checkpoint(checkpoint).content["position"]["epoch"] >= 1


def test_sigterm_to_the_launcher_saves_and_the_run_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two ranks stop after the same step; the resumed run ends as an uninterrupted one."""
    log = folder_of(tmp_path / "cut").train_log

    def terminate() -> None:
        wait_for(lambda: log.exists() and "step 1" in log.read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    killer = Thread(target=terminate)
    killer.start()
    assert run_ranks(tmp_path / "cut", "PRINT_FREQ", 1, trick=Trick(slow=0.1)) == 3
    killer.join()
    assert log.read_text().count("stopped by SIGTERM") == 1
    assert run_ranks(tmp_path / "cut", "PRINT_FREQ", 1, "AUTO_RESUME", True) == 0
    assert run_ranks(tmp_path / "whole", "PRINT_FREQ", 1) == 0
    cut, whole = (
        read_checkpoint(folder_of(tmp_path / name).checkpoint).content for name in ("cut", "whole")
    )
    for key in ("network", "optimizer", "position", "ranks"):
        assert_equal(cut[key], whole[key], key)


def test_three_ranks_resume_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one epoch that goes on to the second, and one of two epochs."""
    monkeypatch.setattr(loop, "MIN_SAVE_INTERVAL", 0.0)
    settings = ["TRAIN.LR_STEP", [9], "TRAIN.VAL_EVERY", 0]
    trick = Trick(length=12)
    for out, end in (("cut", 1), ("cut", 2), ("whole", 2)):
        words = [*settings, "TRAIN.END_EPOCH", end, "AUTO_RESUME", True]
        assert run_ranks(tmp_path / out, *words, trick=trick, count=3) == 0
    cut, whole = (
        read_checkpoint(folder_of(tmp_path / name).checkpoint).content for name in ("cut", "whole")
    )
    for key in ("network", "optimizer", "position", "ranks"):
        assert_equal(cut[key], whole[key], key)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_ranks_end_with_their_launcher(tmp_path: Path, number: signal.Signals) -> None:
    """The launcher alone is ended: its ranks save, as after SIGTERM, and end."""
    folder = folder_of(tmp_path)
    launcher = multiprocessing.get_context("fork").Process(
        target=run_ranks,
        args=(tmp_path, "TRAIN.END_EPOCH", 1000, "PRINT_FREQ", 1),
        kwargs={"trick": Trick(slow=0.02)},
    )
    launcher.start()
    wait_for(lambda: folder.train_log.exists() and "step 3 " in folder.train_log.read_text())
    ranks = children_of(launcher.pid or 0)
    assert len(ranks) == 2
    os.kill(launcher.pid or 0, number)
    launcher.join()
    wait_for(lambda: not any(is_running(rank) for rank in ranks))
    assert read_checkpoint(folder.checkpoint).content["position"]["step"] >= 3


def test_a_user_error_of_a_rank_is_printed_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_ranks(tmp_path, trick=Trick(nan_after=2)) == 2
    error = capfd.readouterr().err
    assert error.startswith(("rank 0: ", "rank 1: ")) and error.count("heatmap_4") == 1
    assert "Traceback" not in error


def test_a_dead_loader_process_is_a_user_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        in_child(
            lambda: sys.exit(
                run_ranks(tmp_path, "WORKERS", 1, trick=Trick(kill_worker_at=3), count=1)
            )
        )
        == 2
    )
    error = capfd.readouterr().err
    assert "WORKERS" in error and "Traceback" not in error


def test_a_full_disk_ends_the_run_with_a_user_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The disk fills up between two checkpoints; needs root for a disk of its own."""
    with small_disk(tmp_path / "disk") as disk:
        folder = folder_of(disk)

        def fill() -> None:
            wait_for(folder.checkpoint.exists)
            with suppress(OSError), open(disk / "others", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        filler = Thread(target=fill)
        filler.start()
        settings = [
            "LOG_DIR",
            str(tmp_path / "log"),
            "TRAIN.CHECKPOINT_EVERY",
            5,
            "TRAIN.END_EPOCH",
            50,
            "TRAIN.VAL_EVERY",
            0,
        ]
        assert run_ranks(disk, *settings, trick=Trick(slow=0.02), count=1) == 2
        filler.join()
        error = capfd.readouterr().err
        assert "AUTO_RESUME True" in error and "Traceback" not in error
        assert read_checkpoint(folder.checkpoint).content["position"]["step"] >= 5


@pytest.mark.slow
def test_torchrun_starts_again_after_a_killed_worker(tmp_path: Path) -> None:
    torchrun = (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "3",
        "--standalone",
    )
    process = start(
        tmp_path / "cut",
        "--slow",
        0.05,
        "TRAIN.END_EPOCH",
        6,
        "TRAIN.CHECKPOINT_EVERY",
        1,
        launcher=torchrun,
    )
    wait_for(folder_of(tmp_path / "cut").checkpoint.exists)
    os.kill(children_of(process.pid)[-1], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert str(folder_of(tmp_path / "cut").checkpoint) in output
    assert run_ranks(tmp_path / "whole", "TRAIN.END_EPOCH", 6) == 0
    cut, whole = (
        read_model_file(folder_of(tmp_path / name).model_final).state_dict
        for name in ("cut", "whole")
    )
    assert_equal(cut, whole, "weights")


@pytest.mark.slow
def test_two_network_namespaces_train_together() -> None:
    script = Path(__file__).parents[1] / "two_hosts.sh"
    done = subprocess.run(
        [str(script), sys.executable], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_notice_about_the_batch_counts_all_processes() -> None:
    cfg = tiny_config(Path(), "TRAIN.TOTAL_BATCH", 16)
    partition = EpochPartition(100, 2, 0, 4)
    assert "8 (2 x 4 processes x ACCUMULATE 1)" in total_batch_advice(cfg, partition)
    assert any(
        "TRAIN.ACCUMULATE 2" in notice
        for notice in setting_notices(
            cfg, DistributedContext(torch.device("cpu"), world_size=4), partition
        )
    )
