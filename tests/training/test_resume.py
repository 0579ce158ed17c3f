"""A run that is killed and resumed gives the same bits as an uninterrupted run."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import random
import signal
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import folder_of, train_here

from duopose import files
from duopose.distributed.stop import StopRequest
from duopose.training import loop as train
from duopose.training import run as run_module
from duopose.training.checkpoint import LoadedCheckpoint, read_checkpoint
from duopose.training.setup import TrainingRun
from duopose.types import Batch

SETTINGS = [
    "TRAIN.END_EPOCH",
    4,
    "TRAIN.LR_STEP",
    [2],
    "TRAIN.CHECKPOINT_EVERY",
    2,
    "WORKERS",
    1,
    "TRAIN.EMA",
    0.9,
    "PRINT_FREQ",
    3,
]
STEPS = 20  # of the whole run


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process, which may be killed; its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode or 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_step(out: Path, step: int, *settings: object) -> Callable[[], None]:
    """Train until the update of `step` is being made."""

    def work() -> None:
        train_step = train.train_step

        def step_or_die(run: TrainingRun, batches: list[Batch]) -> None:
            if run.state.position.step == step:
                die()
            train_step(run, batches)

        train.train_step = step_or_die
        train_here(out, *SETTINGS, "AUTO_RESUME", True, *settings)

    return work


def killed_in_write(out: Path, number: int, half: bool) -> Callable[[], None]:
    """Train until checkpoint `number` of this process is half written, or not renamed yet."""

    def work() -> None:
        keep_previous = files.keep_previous
        count = 0

        def keep_or_die(path: Path, previous: Path) -> None:
            nonlocal count
            count += 1
            temporary = files.temporary_path(path)
            if count == number and half:
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()
            keep_previous(path, previous)
            if count == number:
                die()

        files.keep_previous = keep_or_die
        train_here(out, *SETTINGS, "AUTO_RESUME", True)

    return work


def identical(a: Path, b: Path) -> None:
    """Same weights, optimizer, averages and random states, same losses in metrics.csv."""
    first, second = (read_checkpoint(folder_of(out).checkpoint).content for out in (a, b))
    for content in (first, second):
        del content["config"], content["metrics_csv_bytes"]  # paths and speeds differ
    assert_equal(first, second, "checkpoint")
    assert learned(a) == learned(b)


def assert_equal(a: object, b: object, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where  # type: ignore[attr-defined]
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")  # type: ignore[index]
    elif isinstance(a, list):
        for number, (x, y) in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            assert_equal(x, y, f"{where}.{number}")
    else:
        assert a == b, where


def learned(out: Path) -> list[str]:
    """The lines of metrics.csv without the speeds."""
    lines = folder_of(out).metrics_csv.read_text().splitlines()
    return [
        line
        for line in lines
        if not any(speed in line for speed in ("images_per_second", "data_share"))
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train_here(out, *SETTINGS)
    return out


def test_killed_at_three_random_steps(tmp_path: Path, uninterrupted: Path) -> None:
    steps = sorted(random.sample(range(1, STEPS), 3))
    print("killed at steps", steps)
    for step in steps:
        assert in_child(killed_at_step(tmp_path, step)) == -signal.SIGKILL
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True) == 0
    identical(tmp_path, uninterrupted)


def test_killed_while_a_checkpoint_is_written(tmp_path: Path, uninterrupted: Path) -> None:
    for number, half in ((3, True), (1, True), (4, False)):
        assert in_child(killed_in_write(tmp_path, number, half)) == -signal.SIGKILL
        leftovers = list(folder_of(tmp_path).root.glob(".checkpoint.pth.*.tmp"))
        assert len(leftovers) == 1
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True) == 0
    identical(tmp_path, uninterrupted)


def test_killed_while_validating(tmp_path: Path, uninterrupted: Path) -> None:
    def work() -> None:
        # called just before validation
        train.preserve_rng_states = die  # type: ignore[attr-defined,assignment]
        train_here(tmp_path, *SETTINGS)

    assert in_child(work) == -signal.SIGKILL
    assert read_checkpoint(folder_of(tmp_path).checkpoint).content["position"]["validation_due"]
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True) == 0
    identical(tmp_path, uninterrupted)


def test_a_due_validation_that_is_switched_off_meanwhile_is_skipped(tmp_path: Path) -> None:
    def work() -> None:
        train.preserve_rng_states = die  # type: ignore[attr-defined,assignment]
        train_here(tmp_path, *SETTINGS)

    assert in_child(work) == -signal.SIGKILL
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True, "TRAIN.VAL_EVERY", 0) == 0
    assert not any(",val," in line for line in learned(tmp_path))
    content = read_checkpoint(folder_of(tmp_path).checkpoint).content
    assert content["position"]["epoch"] == 4 and not content["position"]["validation_due"]


def test_mixed_precision_goes_on_with_its_scale(tmp_path: Path) -> None:
    half = ["FP16.ENABLED", True, "FP16.DYNAMIC_LOSS_SCALE", True]
    train_here(tmp_path / "whole", *SETTINGS, *half)
    assert in_child(killed_at_step(tmp_path / "killed", 7, *half)) == -signal.SIGKILL
    assert train_here(tmp_path / "killed", *SETTINGS, *half, "AUTO_RESUME", True) == 0
    identical(tmp_path / "killed", tmp_path / "whole")


def test_a_run_of_steps_ends_within_an_epoch_and_resumes(tmp_path: Path) -> None:
    """Five steps an epoch, 13 steps: the last epoch has three, and the cosine ends with them."""
    steps = ["TRAIN.END_STEP", 13, "TRAIN.LR_SCHEDULE", "cosine", "PRINT_FREQ", 1]
    train_here(tmp_path / "whole", *SETTINGS, *steps)
    lines = [line.split(",") for line in learned(tmp_path / "whole")]
    rates = [float(line[4]) for line in lines if line[3] == "learning_rate"]
    assert len(rates) == 13
    last = 0.1 + 0.9 * (1 + math.cos(math.pi * 12 / 13)) / 2
    assert rates[-1] == pytest.approx(1e-3 * last)

    for step in (6, 12):
        killed = killed_at_step(tmp_path / "killed", step, *steps)
        assert in_child(killed) == -signal.SIGKILL
    assert train_here(tmp_path / "killed", *SETTINGS, *steps, "AUTO_RESUME", True) == 0
    identical(tmp_path / "killed", tmp_path / "whole")
    assert folder_of(tmp_path / "killed").model_final.is_file()


@pytest.mark.slow
def test_killed_at_every_step_in_turn(tmp_path: Path, uninterrupted: Path) -> None:
    for step in range(1, STEPS):
        assert in_child(killed_at_step(tmp_path, step)) == -signal.SIGKILL
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True) == 0
    identical(tmp_path, uninterrupted)


def test_a_resumed_run_does_not_keep_the_checkpoint_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(tmp_path, *SETTINGS, "TRAIN.END_EPOCH", 1)
    read = []

    def read_and_remember(path: Path) -> LoadedCheckpoint:
        loaded = read_checkpoint(path)
        read.append(weakref.ref(loaded.content["network"]["stem.0.weight"]))
        return loaded

    def train_without_it(run: TrainingRun, stop: StopRequest) -> bool:
        gc.collect()
        assert [reference() for reference in read] == [None]
        return train.train(run, stop)

    monkeypatch.setattr(run_module, "read_checkpoint", read_and_remember)
    monkeypatch.setattr(run_module, "train", train_without_it)
    assert train_here(tmp_path, *SETTINGS, "AUTO_RESUME", True) == 0
    assert len(read) == 1
