"""Wrong arguments, settings and files: one message and exit code 2, no traceback."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from duopose.config import load_config

PROJECT = Path(__file__).resolve().parents[2]
RECIPE = "experiments/coco/double_embedding/w32_512_adam_lr1e-3.yaml"


def error_of(tool: str, *words: object) -> str:
    """Standard error of a tool that must end with exit code 2."""
    command = [sys.executable, f"tools/{tool}.py", *map(str, words)]
    ended = subprocess.run(
        command, check=False, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr and ended.stderr.strip()
    return ended.stderr


@pytest.mark.parametrize("tool", ["dist_train", "valid"])
def test_unknown_key_names_the_nearest(tool: str) -> None:
    assert "TRAIN.LR?" in error_of(tool, "--cfg", RECIPE, "TRAIN.LRR", "0.1")


def test_wrong_type() -> None:
    error = error_of("dist_train", "--cfg", RECIPE, "FP16.ENABLED", "perhaps")
    assert "FP16.ENABLED" in error and "'perhaps'" in error


def test_python_config_is_never_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    assert str(trap) in error_of("dist_train", "--cfg", trap)
    assert not (tmp_path / "executed").exists()


def test_missing_config() -> None:
    assert "nowhere.yaml" in error_of("dist_train", "--cfg", "nowhere.yaml")


def test_missing_data_names_the_paths_tried(tmp_path: Path) -> None:
    out = ["OUTPUT_DIR", tmp_path / "output", "LOG_DIR", tmp_path / "log"]
    error = error_of("dist_train", "--cfg", RECIPE, "DATASET.ROOT", tmp_path / "none", *out)
    assert str(tmp_path / "none" / "annotations" / "person_keypoints_train2017.json") in error


def test_annotations_that_are_not_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "train2017").mkdir(parents=True)
    file = tmp_path / "annotations" / "person_keypoints_train2017.json"
    file.write_text('{"images": []}')
    out = ["OUTPUT_DIR", tmp_path / "output", "LOG_DIR", tmp_path / "log", "TRAIN.VAL_EVERY", 0]
    assert str(file) in error_of("dist_train", "--cfg", RECIPE, "DATASET.ROOT", tmp_path, *out)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    weights = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(8, 3, 3, 3)}, weights)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "val2017").mkdir(parents=True)
    (tmp_path / "annotations" / "person_keypoints_val2017.json").touch()
    words = ["--cfg", RECIPE, "TEST.MODEL_FILE", weights, "OUTPUT_DIR", tmp_path]
    error = error_of("valid", *words, "DATASET.ROOT", tmp_path)
    assert str(weights) in error and "conv1.weight" in error and "MODEL.WIDTH" in error


def test_no_weights_to_evaluate(tmp_path: Path) -> None:
    error = error_of("valid", "--cfg", RECIPE, "OUTPUT_DIR", tmp_path)
    assert str(tmp_path) in error and "model_best.pth" in error and "model_final.pth" in error


def test_valid_needs_something_to_do() -> None:
    error = error_of("valid")
    assert all(option in error for option in ("--model", "--cfg", "--results", "--compare"))


def test_a_model_file_has_its_own_settings() -> None:
    assert "--cfg" in error_of("valid", "--model", "model_best.pth", "--cfg", RECIPE)


def test_model_file_that_is_none(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    assert str(weights) in error_of("valid", "--model", weights)
    torch.save({"conv1.weight": torch.zeros(8, 3, 3, 3)}, weights)
    assert str(weights) in error_of("valid", "--model", weights)


@pytest.mark.parametrize("content", ["not json", "[]", "{}"])
def test_results_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    words = ["--annotations", tmp_path / "missing.json", "--out", tmp_path]
    assert str(tmp_path) in error_of("valid", "--results", tmp_path / "results.json", *words)


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (
            "valid",
            ["--results", "{}/found.json", "--annotations", "{}/truth.json", "--out", "{}/a_file"],
        ),
        ("make_sample_data", ["{}/a_file", "--train", "1", "--val", "1"]),
    ],
)
def test_a_file_where_a_folder_should_be(tmp_path: Path, tool: str, words: list[str]) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "found.json").write_text("[]")
    (tmp_path / "truth.json").write_text(
        '{"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "person"}]}'
    )
    error = error_of(tool, *(word.format(tmp_path) for word in words))
    assert str(tmp_path / "a_file") in error


def test_results_of_a_split_without_truth_are_packed(tmp_path: Path) -> None:
    """--results checks them, and writes what the server takes."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_info_test-dev2017.json").write_text(
        '{"images": [{"id": 7, "file_name": "7.jpg"}]}'
    )
    person = {"image_id": 7, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}
    words = [
        "--results",
        tmp_path / "found.json",
        "--out",
        tmp_path,
        "DATASET.ROOT",
        tmp_path,
        "DATASET.TEST",
        "test-dev2017",
    ]
    (tmp_path / "found.json").write_text(json.dumps([person]))
    command = [sys.executable, "tools/valid.py", *map(str, words)]
    done = subprocess.run(
        command, check=True, cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    packed = tmp_path / "person_keypoints_test-dev2017_duopose_results.zip"
    assert str(packed) in done.stdout
    assert json.loads(zipfile.ZipFile(packed).read(f"{packed.stem}.json")) == [person]

    (tmp_path / "found.json").write_text(json.dumps([person | {"image_id": 8}]))
    error = error_of("valid", *words)
    assert "found.json" in error and "image 8" in error


@pytest.mark.parametrize("tool", ["dist_train", "valid"])
@pytest.mark.parametrize("count", ["-1", "0", "-3", "two"])
def test_a_number_of_processes_that_cannot_be(
    tool: str, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load_tool(tool).parse(["--cfg", RECIPE, "--gpus", count])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "--gpus" in error and f"'{count}'" in error


def load_tool(name: str) -> Any:
    """A tool as a module, which is faster than a process."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("tool", "words", "named"),
    [
        ("dist_train", ["--cfg", RECIPE, "TRAIN.END_EPOCH=0"], ["TRAIN.END_EPOCH"]),
        ("dist_train", ["--cfg", "experiments"], ["experiments", "folder"]),
        ("valid", ["--model", "{}"], ["--model", "{}", "model_best.pth"]),
        ("valid", ["--cfg", RECIPE, "TEST.MODEL_FILE", "{}"], ["TEST.MODEL_FILE", "folder"]),
        ("valid", ["--cfg", RECIPE, "TEST.MODEL_FILE", "{}/a.jpg"], ["a.jpg", "not a weight file"]),
        ("valid", ["--results", "{}/none.json"], ["none.json", "tools/valid.py"]),
        ("valid", ["--compare", "{}/none.json", "{}/a.jpg"], ["none.json", "tools/valid.py"]),
        ("valid", ["--compare", "{}/none.json"], ["--compare"]),
        ("runs", ["{}/none"], ["none"]),
    ],
)
def test_mistakes_name_the_option_and_the_file(
    tool: str, words: list[str], named: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(PROJECT)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    code = load_tool(tool).main([word.format(tmp_path) for word in words])
    error = capsys.readouterr().err
    assert code == 2
    assert all(part.format(tmp_path) in error for part in named), error


def test_print_config_is_a_yaml_that_gives_the_same_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    words = ["--cfg", RECIPE, "--print-config", "TRAIN.LR=0.25", "SEED", "7"]
    expected = load_config(RECIPE, words[3:])
    for tool in ("dist_train", "valid"):
        assert load_tool(tool).main(words) == 0
        text = capsys.readouterr().out
        assert "#   TRAIN.LR: 0.25 (default 0.001)" in text and "#   SEED: 7 (default 0)" in text
        assert "#   TRAIN.MOMENTUM" not in text
        (tmp_path / "printed.yaml").write_text(text)
        assert load_config(tmp_path / "printed.yaml") == expected
