"""The two main commands as a user runs them, on drawn and on real images."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from duopose.config import load_config
from duopose.network import build_network, save_model
from duopose.skeletons import COCO

Run = Callable[..., subprocess.CompletedProcess[str]]
BASELINE = ["MODEL.NAME", "pose_higher_hrnet"]


def test_a_run_folder_holds_what_the_readme_says(tiny_run: tuple[Path, list[str]]) -> None:
    folder, _ = tiny_run
    names = {path.name for path in folder.iterdir()}
    assert {
        "config.yaml",
        "protocol.json",
        "train.log",
        "metrics.csv",
        "checkpoint.pth",
        "model_best.pth",
        "model_final.pth",
        "results",
    } <= names
    assert json.loads((folder / "protocol.json").read_text())["flip"] is True
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert any("AP" in str(row) for row in rows)


def test_valid_writes_numbers_with_their_protocol(
    tiny_run: tuple[Path, list[str]], run_tool: Run
) -> None:
    folder, words = tiny_run
    said = run_tool("valid", *words, "DEBUG.SAVE_PREDICTIONS", 2).stdout
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"} <= set(metrics)
    assert metrics["protocol"]["scales"] == [1.0] and metrics["protocol"]["images"] == 6
    assert "| AP |" in said.replace("    ", " ").replace("  ", " ") and "network" in said
    assert len(list((folder / "results" / "images").glob("*.png"))) == 2


@pytest.fixture(scope="module")
def busy_words(
    drawn: Path, tiny_settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Words that evaluate a network of random weights whose maps are full of peaks."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    words = [
        "--cfg",
        "experiments/sample/demo.yaml",
        *tiny_settings,
        "DATASET.ROOT",
        str(drawn),
        "OUTPUT_DIR",
        str(path.parent),
    ]
    cfg = load_config(words[1], [*words[2:], "MODEL.INIT_WEIGHTS", "False"])
    torch.manual_seed(5)
    save_model(path, build_network(cfg, COCO).state_dict(), "", {})
    return [*words, "TEST.MODEL_FILE", str(path), "TEST.DETECTION_THRESHOLD", "0.05"]


def test_how_the_work_is_shared_does_not_change_the_results(
    busy_words: list[str], run_tool: Run, tmp_path: Path
) -> None:
    variants = {
        "plain": ["TEST.IMAGES_PER_GPU", "1"],
        "batches": ["TEST.IMAGES_PER_GPU", "3", "WORKERS", "2"],
        "processes": ["TEST.IMAGES_PER_GPU", "8", "WORKERS", "1", "--gpus", "2"],
    }
    for name, words in variants.items():
        run_tool("valid", *busy_words, *words, "--out", tmp_path / name)
    plain, *others = ((tmp_path / name / "results.json").read_bytes() for name in variants)
    assert len(plain) > 2000
    assert all(other == plain for other in others)


def test_protocols_and_scoring_a_file_again(
    tiny_run: tuple[Path, list[str]], run_tool: Run, tmp_path: Path
) -> None:
    folder, words = tiny_run
    run_tool(
        "valid",
        *words,
        "TEST.PROTOCOL",
        "multiscale",
        "DATASET.LIMIT",
        "2",
        "--out",
        tmp_path / "a",
    )
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["protocol"]["scales"] == [
        0.5,
        1.0,
        2.0,
    ]
    run_tool(
        "valid",
        *words,
        "DATASET.LIMIT",
        "2",
        "--results",
        tmp_path / "a" / "results.json",
        "--out",
        tmp_path / "b",
    )
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("a", "b"))
    assert a["AP"] == b["AP"]
    said = run_tool(
        "valid",
        "--compare",
        tmp_path / "a" / "metrics.json",
        folder / "results" / "training" / "metrics.json",
    ).stdout
    assert "scales" in said and "difference" in said


def test_the_baseline_trains_and_is_scored(
    drawn: Path, tiny_settings: tuple[str, ...], run_tool: Run, tmp_path: Path
) -> None:
    words = [
        "--cfg",
        "experiments/sample/demo.yaml",
        *tiny_settings,
        *BASELINE,
        "DATASET.ROOT",
        drawn,
        "OUTPUT_DIR",
        tmp_path,
        "LOG_DIR",
        tmp_path / "log",
    ]
    run_tool("dist_train", *words)
    run_tool("valid", *words)
    assert "AP" in json.loads(
        (tmp_path / "coco" / "pose_higher_hrnet" / "demo" / "results" / "metrics.json").read_text()
    )
