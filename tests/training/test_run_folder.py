"""The folder of a run: its name, its lock, what stays in it, and what its log says."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.training.tiny_train import Trick, folder_of, tiny_config, train_here

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.errors import UserError
from duopose.locks import DEAD, FAILED, FINISHED, RUNNING, STOPPED, owner_state
from duopose.network import read_model_file
from duopose.run_folder import RunFolder, continuing_overrides, is_run_config
from duopose.training.checkpoint import Best, read_checkpoint
from duopose.training.file_checks import check_files
from duopose.training.log import LossMeter, RunLog
from duopose.training.loop import train_step
from duopose.training.run import Options
from duopose.training.run_list import find_runs, runs_text
from duopose.training.setup import Scores
from duopose.types import LossTerms

ONE_EPOCH = ("TRAIN.END_EPOCH", 1)


def state_of(out: Path) -> str:
    found = owner_state(folder_of(out).lock)
    assert found is not None
    return found[0]


def log_of(out: Path) -> str:
    return folder_of(out).train_log.read_text()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---- names ----


def test_the_name_of_a_run_is_that_of_its_folder() -> None:
    cfg = load_config(None)
    assert RunFolder.from_config(cfg, "x/demo.yaml").root.name == "demo"
    named = RunFolder.from_config(cfg, "x/demo.yaml", "lr_1e-3.b")
    assert named.root == Path("output/coco/pose_higher_hrnet_de/lr_1e-3.b")
    assert named.log == Path("log/coco/pose_higher_hrnet_de/lr_1e-3.b")


@pytest.mark.parametrize("name", ["a/b", "..", "-x", "earlier_1", "a b"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="--name"):
        RunFolder.from_config(load_config(None), "demo.yaml", name)


def test_the_config_of_a_run_folder_is_that_run(tmp_path: Path) -> None:
    train_here(tmp_path, *ONE_EPOCH)
    folder = folder_of(tmp_path)
    assert is_run_config(folder.config)
    cfg = load_config(folder.config)
    found = RunFolder.from_config(cfg, folder.config)
    assert found.root == folder.root and found.log == folder.log
    assert RunFolder.from_config(cfg, folder.config, "b").root == folder.root.parent / "b"

    assert continuing_overrides(str(folder.config), "", ["SEED", "1"])[2:] == [
        "AUTO_RESUME", "True",
    ]  # fmt: skip
    anew = ["AUTO_RESUME=False"]
    assert continuing_overrides(str(folder.config), "", anew) == anew
    assert continuing_overrides(str(folder.config), "b", []) == []
    other = tmp_path / "config.yaml"  # a recipe that happens to have the name
    other.write_text("SEED: 1\n")
    assert not is_run_config(other) and continuing_overrides(str(other), "", []) == []


# ---- the lock ----


def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    def work() -> None:
        train_here(tmp_path, "WORKERS", 1, trick=Trick(slow=0.2, length=1000))

    first = multiprocessing.get_context("fork").Process(target=work)
    first.start()
    wait_for(folder_of(tmp_path).protocol)
    assert state_of(tmp_path) == RUNNING
    with pytest.raises(UserError, match=str(first.pid)):
        train_here(tmp_path, *ONE_EPOCH)
    assert state_of(tmp_path) == RUNNING and first.is_alive()

    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert state_of(tmp_path) == DEAD
    assert train_here(tmp_path, *ONE_EPOCH) == 0
    assert state_of(tmp_path) == FINISHED


def test_states_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(tmp_path / "finished", *ONE_EPOCH)
    with pytest.raises(UserError):
        train_here(tmp_path / "failed", *ONE_EPOCH, trick=Trick(nan_after=2))

    def step_and_stop(*arguments: object) -> None:
        train_step(*arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("duopose.training.loop.train_step", step_and_stop)
    train_here(tmp_path / "stopped", *ONE_EPOCH)
    states = {run.folder.parents[3].name: run for run in find_runs(tmp_path)}
    assert {name: run.state for name, run in states.items()} == {
        "finished": FINISHED, "failed": FAILED, "stopped": STOPPED,
    }  # fmt: skip
    assert "heatmap_4" in states["failed"].reason


def test_a_refused_resume_leaves_the_state_of_the_run(tmp_path: Path) -> None:
    train_here(tmp_path, *ONE_EPOCH)
    with pytest.raises(UserError, match=r"DATASET\.SIGMA"):
        train_here(tmp_path, "AUTO_RESUME", True, "DATASET.SIGMA", 3.0)
    assert state_of(tmp_path) == FINISHED


# ---- earlier runs ----


def test_resuming_another_run_moves_the_one_in_the_folder(tmp_path: Path) -> None:
    """Nothing of it is overwritten, and its best weights do not stay as those of the new run."""
    train_here(tmp_path / "other", *ONE_EPOCH)
    train_here(tmp_path / "here", "SEED", 5)
    folder = folder_of(tmp_path / "here")
    (folder.root / "report.html").touch()  # of another tool
    names = {file.name for file in folder.root.iterdir()}
    weights = folder.model_best.read_bytes()

    resume = str(folder_of(tmp_path / "other").root)
    assert train_here(tmp_path / "here", resume=resume) == 0
    earlier = folder.root / "earlier_1"
    assert {file.name for file in earlier.iterdir()} == names | {"log"}
    assert "curves.png" in names and "run.lock" in names
    assert (earlier / "model_best.pth").read_bytes() == weights
    assert owner_state(earlier / "run.lock")[0] == FINISHED  # type: ignore[index]
    best = read_model_file(folder.model_best)
    assert best.extra["epoch"] == 2 and "SEED: 0" in best.config


def test_logs_in_the_folder_of_the_run_are_moved_with_it(tmp_path: Path) -> None:
    same = ["LOG_DIR", str(tmp_path / "output")]
    train_here(tmp_path, *ONE_EPOCH, *same)
    train_here(tmp_path, *ONE_EPOCH, *same)
    root = folder_of(tmp_path).root
    assert list((root / "earlier_1").glob("events*")) and list(root.glob("events*"))


def test_a_checkpoint_of_the_folder_itself_goes_on_there(tmp_path: Path) -> None:
    train_here(tmp_path, *ONE_EPOCH)
    previous = folder_of(tmp_path).checkpoint.with_name("checkpoint.pth.previous")
    assert train_here(tmp_path, resume=str(previous)) == 0
    assert not (folder_of(tmp_path).root / "earlier_1").exists()


def test_weights_are_no_checkpoint_and_not_damaged(tmp_path: Path) -> None:
    train_here(tmp_path, *ONE_EPOCH)
    with pytest.raises(UserError, match=r"MODEL\.PRETRAINED") as caught:
        read_checkpoint(folder_of(tmp_path).model_final)
    assert "damaged" not in str(caught.value)
    picture = tmp_path / "a.pth"
    picture.write_bytes(b"\xff\xd8\xff a picture")
    with pytest.raises(UserError, match=r"checkpoint\.pth") as caught:
        read_checkpoint(picture)
    assert "damaged" not in str(caught.value)


def test_of_equal_scores_the_later_epoch_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.training.tiny_train.Scores", lambda *_: Scores(0.0, {"AP": 0.0}), raising=True
    )
    train_here(tmp_path, "TRAIN.END_EPOCH", 3)
    assert read_model_file(folder_of(tmp_path).model_best).extra["epoch"] == 3
    best = Best(score=0.5, epoch=1)
    assert best.is_reached_by(0.5) and not best.is_reached_by(0.49)


# ---- the log ----


def test_each_epoch_has_a_line_and_so_has_the_end(tmp_path: Path) -> None:
    """Five steps an epoch: none of the two frequencies has a line in each of them."""
    train_here(tmp_path / "rare", "PRINT_FREQ", 1000)
    lines = [line for line in log_of(tmp_path / "rare").splitlines() if "  loss " in line]
    assert [line.split("step ")[1].split()[0] for line in lines] == ["5", "10"]
    assert "done after 10 steps" in log_of(tmp_path / "rare")

    train_here(tmp_path / "some", "PRINT_FREQ", 7)
    lines = [line for line in log_of(tmp_path / "some").splitlines() if "  loss " in line]
    assert [line.split("step ")[1].split()[0] for line in lines] == ["5", "7", "10"]


def test_a_training_without_values_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duopose.training.loop.log_progress", lambda _: None)
    folder_of(tmp_path).root.mkdir(parents=True)
    folder_of(tmp_path).metrics_csv.write_text("step,epoch,kind,name,value\n")
    assert train_here(tmp_path, *ONE_EPOCH, "TRAIN.VAL_EVERY", 0, "AUTO_RESUME", True) == 0
    assert state_of(tmp_path) == FINISHED


def test_a_warm_up_as_long_as_the_training_gives_a_notice(tmp_path: Path) -> None:
    train_here(tmp_path, *ONE_EPOCH, "TRAIN.WARMUP", 5)
    assert "TRAIN.WARMUP 5" in log_of(tmp_path) and "overfit.yaml" in log_of(tmp_path)
    train_here(tmp_path / "b", *ONE_EPOCH, "TRAIN.WARMUP", 4)
    assert "TRAIN.WARMUP" not in log_of(tmp_path / "b")


def test_the_progress_bar_shows_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    context = DistributedContext(torch.device("cpu"))
    folder = RunFolder(tmp_path, tmp_path / "log")
    log = RunLog(folder, context, verbose=True)
    meter = LossMeter()
    terms = {"heatmap_4": torch.tensor([0.25, 0.75]), "push": torch.tensor([1.0, 1.0])}
    meter.add(LossTerms(torch.tensor(1.5), terms))

    log.begin_epoch("epoch 1/2", steps=10, steps_done=0)
    log.advance(meter)
    log.end_epoch()
    log.close()
    text = terminal.getvalue()
    assert "loss 1.5" in text and "heatmap_4 0.5" in text and "push 1" in text
    assert meter.read(context) == {"loss": 1.5, "heatmap_4": 0.5, "push": 1.0}  # nothing is lost


# ---- the list of runs ----


def test_the_list_of_runs(tmp_path: Path) -> None:
    train_here(tmp_path, name="a")
    train_here(tmp_path, "TRAIN.LR", 0.5, name="b")
    train_here(tmp_path, *ONE_EPOCH, "TRAIN.LR", 0.5, "SEED", 2, name="b")

    runs = {run.name: run for run in find_runs(tmp_path / "output")}
    assert set(runs) == {"a", "b", "b/earlier_1"}
    assert [runs[name].epoch for name in runs] == [1.0, 2.0, 2.0]
    best = read_model_file(runs["a"].folder / "model_best.pth").extra
    assert runs["a"].best == pytest.approx(best["scores"]["AP"])
    assert runs["a"].best_epoch == best["epoch"]

    text = runs_text(list(runs.values()))
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line[:1] == "|"}
    assert "SEED 2" in rows["b"] and "TRAIN.LR 0.5" in rows["b"] and "1/1" in rows["b"]
    assert "SEED 0" in rows["a"] and "TRAIN.LR 0.001" in rows["a"] and "2/2" in rows["a"]
    assert "OUTPUT_DIR" not in text and "DATASET.SIGMA" not in text


# ---- look-ups before processes are started ----


def test_missing_files_are_found_before_the_start(tmp_path: Path) -> None:
    cfg = tiny_config(tmp_path, "DATASET.ROOT", str(tmp_path / "none"))
    folder = folder_of(tmp_path)
    with pytest.raises(UserError, match=r"make_sample_data\.py"):
        check_files(cfg, Options("tiny.yaml"), folder, [])

    for split in ("train2017", "val2017"):
        (tmp_path / "data" / "images" / split).mkdir(parents=True)
        annotations = tmp_path / "data" / "annotations" / f"person_keypoints_{split}.json"
        annotations.parent.mkdir(exist_ok=True)
        annotations.touch()
    cfg = tiny_config(tmp_path, "DATASET.ROOT", str(tmp_path / "data"))
    assert check_files(cfg, Options("tiny.yaml"), folder, []) == []
    with pytest.raises(UserError, match="--resume"):
        check_files(cfg, Options("tiny.yaml", resume=str(tmp_path)), folder, [])
    pretrained = tiny_config(
        tmp_path, "DATASET.ROOT", str(tmp_path / "data"), "MODEL.PRETRAINED", str(tmp_path)
    )
    with pytest.raises(UserError, match=r"MODEL\.PRETRAINED.*folder"):
        check_files(pretrained, Options("tiny.yaml"), folder, [])
