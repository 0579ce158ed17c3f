"""The training loop in one process: files, errors, signals, and what settings change."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import (
    TinyData,
    Trick,
    folder_of,
    tiny_components,
    tiny_config,
    train_here,
    work,
)

from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import ExitCode
from duopose.errors import UserError
from duopose.network import read_model_file
from duopose.training.checkpoint import read_checkpoint
from duopose.training.run import Options, run_training


def weights(out: Path) -> dict[str, torch.Tensor]:
    return read_model_file(folder_of(out).model_final).state_dict


def rows(out: Path) -> list[list[str]]:
    return [line.split(",") for line in folder_of(out).metrics_csv.read_text().splitlines()]


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def test_a_run_writes_its_folder(tmp_path: Path) -> None:
    assert train_here(tmp_path) == 0
    folder = folder_of(tmp_path)
    names = {file.name for file in folder.root.iterdir()}
    assert names >= {
        "config.yaml",
        "protocol.json",
        "train.log",
        "metrics.csv",
        "checkpoint.pth",
        "model_best.pth",
        "model_final.pth",
    }
    assert json.loads(folder.protocol.read_text())["benchmark"] == "coco"
    best = read_model_file(folder.model_best)
    assert (
        best.extra["scores"]["AP"] > 0
        and best.skeleton["name"] == "coco"
        and "LR: 0.001" in best.config
    )
    table = rows(tmp_path)
    assert table[0] == ["step", "epoch", "kind", "name", "value"]
    assert [row[0] for row in table if row[3] == "offset_2"] == ["2", "4", "6", "8", "10"]
    assert [float(row[4]) for row in table if row[3] == "learning_rate"] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-4]
    )
    lines = folder.train_log.read_text().splitlines()
    assert sum("  epoch 2/2, step 10  loss " in line for line in lines) == 1
    assert list((tmp_path / "log").rglob("events*"))


def test_a_second_run_moves_the_first_aside(tmp_path: Path) -> None:
    train_here(tmp_path)
    before = weights(tmp_path)
    train_here(tmp_path, "SEED", 1)
    assert (folder_of(tmp_path).root / "earlier_1" / "checkpoint.pth").is_file()
    assert largest_difference(before, weights(tmp_path)) > 0


def test_the_best_weights_are_those_of_the_best_score(tmp_path: Path) -> None:
    train_here(tmp_path, "TRAIN.END_EPOCH", 4, "TRAIN.LR", 0.01, "TRAIN.LR_STEP", [])
    scores = [float(row[4]) for row in rows(tmp_path) if row[2] == "val"]
    best = read_model_file(folder_of(tmp_path).model_best).extra
    assert (
        best["scores"]["AP"] == pytest.approx(max(scores))
        and best["epoch"] == scores.index(max(scores)) + 1
    )


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    quiet = Trick(batch_norm=0, length=11)
    for name, settings in (
        ("one", ["TRAIN.IMAGES_PER_GPU", 4]),
        ("two", ["TRAIN.IMAGES_PER_GPU", 2, "TRAIN.ACCUMULATE", 2]),
    ):
        train_here(tmp_path / name, *settings, "TRAIN.OPTIMIZER", "sgd", trick=quiet)
    assert largest_difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-7
    assert read_checkpoint(folder_of(tmp_path / "two").checkpoint).content["position"]["step"] == 6


def test_workers_change_nothing(tmp_path: Path) -> None:
    train_here(tmp_path / "none")
    train_here(tmp_path / "two", "WORKERS", 2)
    assert largest_difference(weights(tmp_path / "none"), weights(tmp_path / "two")) == 0


def test_averaged_weights_are_what_is_validated_and_saved(tmp_path: Path) -> None:
    train_here(tmp_path, "TRAIN.EMA", 0.9)
    content = read_checkpoint(folder_of(tmp_path).checkpoint).content
    assert largest_difference(weights(tmp_path), content["averaged"]) == 0
    assert largest_difference(weights(tmp_path), content["network"]) > 0


def test_a_loss_that_is_not_finite_names_term_and_images_before_the_update(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"epoch 1/2, step 2: heatmap_4 in images \d, \d; .*offset_4"
    ) as caught:
        train_here(tmp_path, "TRAIN.CHECKPOINT_EVERY", 1, trick=Trick(nan_after=3))
    assert "heatmap_2" not in str(caught.value)
    content = read_checkpoint(folder_of(tmp_path).checkpoint).content
    assert content["position"]["step"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in content["network"].values())


def test_a_deleted_data_folder_is_a_user_error(tmp_path: Path) -> None:
    for workers in (0, 1):
        with pytest.raises(
            UserError,
            match=r"\(0, \d\).*gone\.jpg",
        ):
            train_here(tmp_path, "WORKERS", workers, trick=Trick(gone=str(tmp_path / "gone.jpg")))


def test_an_empty_data_set_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"DATASET\.TRAIN"):
        train_here(tmp_path, trick=Trick(length=0))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_finishes_the_step_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    load = TinyData.__getitem__

    def load_and_interrupt(self: TinyData, key: tuple[int, int]) -> object:
        if key[0] == 1 and not asked:
            asked.append(key)
            os.kill(os.getpid(), number)
        return load(self, key)

    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(TinyData, "__getitem__", load_and_interrupt)
    assert train_here(tmp_path) == int(ExitCode.STOPPED) == 3
    assert read_checkpoint(folder_of(tmp_path).checkpoint).content["position"] == {
        "epoch": 1, "seen": 2, "step": 6, "validation_due": False,
    }  # fmt: skip
    assert train_here(tmp_path, "AUTO_RESUME", True) == 0
    monkeypatch.undo()
    train_here(tmp_path / "whole")
    assert largest_difference(weights(tmp_path), weights(tmp_path / "whole")) == 0


def test_differing_settings_stop_with_their_list(tmp_path: Path) -> None:
    train_here(tmp_path, "TRAIN.END_EPOCH", 1)
    others = ["AUTO_RESUME", True, "TRAIN.LR", 0.5, "DATASET.SIGMA", 3.0, "WORKERS", 1]
    with pytest.raises(
        UserError,
        match=r"(?s)DATASET\.SIGMA: 2\.0 .* 3\.0 .*TRAIN\.LR: 0\.001 .* 0\.5 ",
    ) as caught:
        train_here(tmp_path, *others)
    assert "WORKERS" not in str(caught.value) and "END_EPOCH" not in str(caught.value)
    assert train_here(tmp_path, *others, resume_anyway=True) == 0
    assert "TRAIN.LR: 0.001" in folder_of(tmp_path).train_log.read_text()


def test_resuming_from_a_named_folder_leaves_that_folder_alone(tmp_path: Path) -> None:
    train_here(tmp_path / "first", "TRAIN.END_EPOCH", 1)
    before = folder_of(tmp_path / "first").checkpoint.read_bytes()
    assert train_here(tmp_path / "second", resume=str(folder_of(tmp_path / "first").root)) == 0
    train_here(tmp_path / "whole")
    assert largest_difference(weights(tmp_path / "second"), weights(tmp_path / "whole")) == 0
    assert folder_of(tmp_path / "first").checkpoint.read_bytes() == before


def test_settings_without_effect_give_notices(tmp_path: Path) -> None:
    settings = [
        "MODEL.SYNC_BN",
        True,
        "FP16.ENABLED",
        True,
        "FP16.DYNAMIC_LOSS_SCALE",
        True,
        "TRAIN.TOTAL_BATCH",
        8,
    ]
    assert train_here(tmp_path, "TRAIN.END_EPOCH", 1, *settings) == 0
    log = folder_of(tmp_path).train_log.read_text()
    for fragment in ("MODEL.SYNC_BN", "fp16", "TRAIN.LR 0.00025", "TRAIN.ACCUMULATE 4"):
        assert fragment in log


def test_config_is_not_changed(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path)
    before = cfg.dump()
    context = DistributedContext(torch.device("cpu"))
    assert work(context, cfg, Options("tiny.yaml"), Trick()) == 0
    assert cfg.dump() == before


def test_a_program_can_silence_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = tiny_config(tmp_path, "TRAIN.END_EPOCH", 1)
    logger = logging.getLogger("duopose")
    handlers = list(logger.handlers)
    level = logger.level
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    try:
        run_training(
            cfg, Options("tiny.yaml"), DistributedContext(torch.device("cpu")), tiny_components
        )
        assert logger.handlers == []
    finally:
        logger.handlers.extend(handlers)
        logger.setLevel(level)
    assert capsys.readouterr() == ("", "")
    assert "step 4" in folder_of(tmp_path).train_log.read_text()


def test_restarted_workers_prefer_their_own_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(tmp_path / "first", "TRAIN.END_EPOCH", 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 7")
    train_here(tmp_path / "second", resume=str(folder_of(tmp_path / "first").root))
    assert train_here(tmp_path / "second", resume=str(folder_of(tmp_path / "first").root)) == 0
    assert (
        str(folder_of(tmp_path / "second").checkpoint)
        in folder_of(tmp_path / "second").train_log.read_text()
    )
