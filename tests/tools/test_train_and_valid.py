"""The two main commands as a user runs them, on drawn and on real images."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from duopose.config import config_text, load_config
from duopose.network import build_network, load_weights, save_model
from duopose.skeletons import COCO, skeleton_to_dict

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
    scores = [row for row in rows if (row["kind"], row["name"]) == ("val", "AP")]
    assert [float(row["epoch"]) for row in scores] == [2]
    metrics = json.loads((folder / "results" / "training" / "metrics.json").read_text())
    assert float(scores[0]["value"]) == pytest.approx(metrics["AP"])


def test_valid_writes_numbers_with_their_protocol(
    tiny_run: tuple[Path, list[str]], run_tool: Run
) -> None:
    folder, words = tiny_run
    output = run_tool("valid", *words, "DEBUG.SAVE_PREDICTIONS", 1, "DEBUG.DRAW", "worst").stdout
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"} <= set(metrics)
    assert metrics["protocol"]["scales"] == [1.0] and metrics["protocol"]["images"] == 6
    cells = {cell.strip() for cell in output.replace("\n", "|").split("|")}
    assert {"AP", "AR75", f"{metrics['AP']:.3f}", "network", "decoding"} <= cells
    assert len(list((folder / "results" / "images_worst").glob("1_*.png"))) == 1
    assert "1 drawn image:" in output and "6 images;" in output


@pytest.fixture(scope="module")
def busy_words(
    drawn: Path, tiny_settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Arguments that evaluate a network of random weights whose maps are full of peaks."""
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


def test_batches_and_processes_do_not_change_the_results(
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


def test_a_model_file_alone_gives_the_same_results(
    busy_words: list[str], run_tool: Run, drawn: Path, tmp_path: Path
) -> None:
    """Settings and skeleton come from the file; no yaml is named."""
    weights = Path(busy_words[busy_words.index("TEST.MODEL_FILE") + 1])
    cfg = load_config(busy_words[1], busy_words[2:])
    network = build_network(cfg, COCO)
    load_weights(network, weights, strict=True)
    settings = config_text(cfg).replace(str(drawn), "moved/away")
    model = tmp_path / "elsewhere" / "model.pth"
    save_model(model, network.state_dict(), settings, skeleton_to_dict(COCO))

    run_tool("valid", *busy_words, "--out", tmp_path / "cfg")
    run_tool("valid", "--model", model, "DATASET.ROOT", drawn)
    expected = (tmp_path / "cfg" / "results.json").read_bytes()
    assert (model.parent / "results" / "results.json").read_bytes() == expected
    assert len(expected) > 2000


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
    files = [tmp_path / "a" / "metrics.json", folder / "results" / "training" / "metrics.json"]
    output = run_tool("valid", "--compare", *files).stdout
    assert "scales" in output and all(str(file) in output for file in files)


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
    results = tmp_path / "coco" / "pose_higher_hrnet" / "demo" / "results"
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["protocol"]["model"] == "pose_higher_hrnet" and 0 <= metrics["AP"] <= 1
