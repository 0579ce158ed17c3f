"""--compare names whatever differs between two evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.evaluate.metrics import NOT_STATED, read_metrics
from duopose.inference.comparison import compare, find_metrics, shown_differences
from duopose.inference.evaluation import run_evaluation, score_file
from duopose.inference.protocol import weights_checksum
from duopose.network import build_network
from duopose.skeletons import COCO

WriteModel = Callable[..., Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two black images without people in COCO's layout."""
    import cv2
    import numpy as np

    images = tmp_path / "data" / "images" / "val2017"
    images.mkdir(parents=True)
    records = []
    for image_id in (1, 2):
        name = f"{image_id}.png"
        cv2.imwrite(str(images / name), np.zeros((64, 64, 3), np.uint8))
        records.append({"id": image_id, "file_name": name, "width": 64, "height": 64})
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 900.0,
        "bbox": [0, 0, 30, 30], "num_keypoints": 17, "keypoints": [5.0, 5.0, 2] * 17,
    }  # fmt: skip
    content = {
        "images": records,
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }
    file = tmp_path / "data" / "annotations" / "person_keypoints_val2017.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    return tmp_path / "data"


def evaluate(out: Path, weights: Path, words: list[object]) -> Path:
    """Evaluate a model file with these settings; the folder of the results."""
    settings = ["DEVICE", "cpu", "WORKERS", 0, "THREADS", 1, "TEST.LOG_PROGRESS", False]
    cfg = load_config(None, [*settings, *words])
    context = DistributedContext(torch.device("cpu"))
    run_evaluation(context, cfg, COCO, weights, out)
    return out


def rows(text: str) -> dict[str, list[str]]:
    """Cells of the tables by their first cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_ten_differences_made_on_purpose(
    write_model: WriteModel, data: Path, tmp_path: Path, tiny_settings: tuple[object, ...]
) -> None:
    words = [*tiny_settings, "DATASET.ROOT", str(data), "TEST.DETECTION_THRESHOLD", 0.05]
    weights = write_model()
    first = evaluate(tmp_path / "a", weights, words)
    again = evaluate(tmp_path / "b", weights, words)
    text = compare([first, again])
    assert "protocols are the same" in text and "earlier version" not in text

    # Four in the file, three in the settings, data, its path, and the weights themselves.
    moved = tmp_path / "moved"
    data.rename(moved)
    annotations = moved / "annotations" / "person_keypoints_val2017.json"
    annotations.write_text(annotations.read_text().replace("900.0", "901.0"))
    other = write_model(
        ("TRAIN.LR", 0.5, "LOSS.CENTER_WEIGHT", 2.0, "SEED", 9, "DATASET.MAX_ROTATION", 3.0)
    )
    content = torch.load(other, weights_only=True)
    next(iter(content["state_dict"].values())).add_(1e-3)
    torch.save(content, other)
    words[words.index("DATASET.ROOT") + 1] = str(moved)
    changed = ["MODEL.OFFSET_UNIT", 32.0, "DATASET.HEATMAP_CENTRES", "rounded"]
    second = evaluate(
        tmp_path / "c",
        other,
        [*words, *changed, "TEST.FLIP_TEST", False, "MODEL.UPSAMPLE", "nearest"],
    )

    table = rows(compare([first, second]))
    expected = {
        "trained_with.TRAIN.LR": ["0.001", "0.5"],
        "trained_with.LOSS.CENTER_WEIGHT": ["5.0", "2.0"],
        "trained_with.SEED": ["0", "9"],
        "model_settings.OFFSET_UNIT": ["64.0", "32.0"],
        "model_settings.UPSAMPLE": ["", "nearest"],
        "dataset_settings.HEATMAP_CENTRES": ["subpixel", "rounded"],
        "flip": ["True", "False"],
    }
    assert {key: table[key] for key in expected} == expected
    assert table["trained_with.DATASET.MAX_ROTATION"] == ["30.0", "3.0"]
    for key in ("weights_sha256", "weights_file_sha256", "test_data.annotations_sha256"):
        assert table[key][0] != table[key][1]
    assert table["dataset_settings.ROOT"] != table["dataset_settings.ROOT"][::-1]

    three = rows(compare([first, again, second]))
    assert three["flip"] == ["True", "True", "False"] and len(three["AP"]) == 3


def test_run_folders_and_their_files(tmp_path: Path) -> None:
    content = {"AP": 0.5, "headline": "AP", "notes": [], "protocol": {"flip": True}}
    run = tmp_path / "run"
    training = run / "results" / "training" / "metrics.json"
    training.parent.mkdir(parents=True)
    training.write_text(json.dumps(content))
    assert find_metrics(run) == training
    own = run / "results" / "metrics.json"
    own.write_text(json.dumps(content | {"AP": 0.6}))
    assert find_metrics(run) == own and find_metrics(own) == own

    text = compare([run, training, own])
    assert str(own) in text and str(training) in text
    assert rows(text)["AP"] == ["0.600", "0.500", "0.600"]
    assert "earlier version" in text and "are the same" not in text


def test_what_an_earlier_version_does_not_state_is_no_difference() -> None:
    differences = [
        ("flip", True, True, False),
        ("trained_with.TRAIN.LR", 0.1, 0.1, NOT_STATED),
        ("trained_with.SEED", 1, 2, NOT_STATED),
        ("model_settings.WIDTH", 4, 8, NOT_STATED),
        ("trained_with.MODEL.WIDTH", 4, 8, NOT_STATED),
    ]
    shown = shown_differences(differences, incomplete=[2])
    assert [key for key, *_ in shown] == ["flip", "trained_with.SEED", "model_settings.WIDTH"]
    assert len(shown_differences(differences, incomplete=[])) == 4


def test_scoring_a_file_again_keeps_how_it_was_made(
    write_model: WriteModel, data: Path, tmp_path: Path, tiny_settings: tuple[object, ...]
) -> None:
    words = [*tiny_settings, "DATASET.ROOT", str(data), "TEST.DETECTION_THRESHOLD", 0.05]
    folder = evaluate(tmp_path / "a", write_model(), words)
    cfg = load_config(None, words)
    scored = tmp_path / "results_metrics.json"
    score_file(cfg, folder / "results.json", scored)
    made_by = read_metrics(scored).protocol["made_by"]
    assert made_by["model_settings"]["WIDTH"] == 4 and made_by["weights_sha256"]

    (folder / "results.json").write_text("[]")  # no longer the results of metrics.json
    score_file(cfg, folder / "results.json", scored)
    assert read_metrics(scored).protocol["made_by"] == "not known"


def test_the_checksum_of_weights_depends_on_values_and_names_alone() -> None:
    cfg = load_config(None, ["MODEL.WIDTH", 4, "MODEL.MODULES", [1, 1, 1], "MODEL.BLOCKS", 1])
    network = build_network(cfg, COCO)
    before = weights_checksum(network)
    assert weights_checksum(network.to(memory_format=torch.channels_last)) == before  # type: ignore[call-overload]
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert weights_checksum(network) != before
