"""What fuzzing has found: a test for each class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.export.conftest import tiny_calibration
from tests.fuzz.export_targets import onnx_file
from tests.fuzz.record_targets import STUDY

from duopose.config import load_config
from duopose.decode import build_decoder
from duopose.decode.calibration import Calibration
from duopose.errors import UserError
from duopose.network.runtimes import open_onnx, read_onnx_description
from duopose.skeletons import COCO, CROWDPOSE
from duopose.study.jobs import Job, JobFolder, measured_steps
from duopose.study.plan import make_plan, read_plans
from duopose.study.study_file import read_study
from duopose.training.checkpoint import read_checkpoint

Change = Callable[[dict[str, Any]], object]


# ---- calibrations ----


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sigma_of_joint", [5e303, *[0.0] * 16]),  # standard deviations became infinite
        ("peak_log_odds", [1e300] * 11),
        ("tag_sigma", 1e-200),
        ("offset_sigma", -1.0),
        ("limb_scale", [0.0]),
        ("outlier_probability", 0.0),
        ("outlier_probability", 1.0),
        ("joint_distance", [1e300] * 17),
        ("limbs", [[5, False]]),  # used as an index
        ("limbs", [[5.5, 7]]),
        ("num_tags", True),
    ],
)
def test_calibrations_that_cannot_be_used(name: str, value: Any) -> None:
    content = tiny_calibration().to_dict()
    assert Calibration.from_dict(content) == tiny_calibration()
    with pytest.raises(ValueError, match=name.partition("_")[0]):
        Calibration.from_dict({**content, name: value})


def test_a_calibration_of_another_skeleton() -> None:
    cfg = load_config(None)
    build_decoder(cfg, COCO, tiny_calibration())
    with pytest.raises(UserError, match="17 keypoints"):
        build_decoder(cfg, CROWDPOSE, tiny_calibration())


@pytest.mark.parametrize(("value", "is_allowed"), [(50, True), (51, False), (444, False)])
def test_the_radius_of_filling(value: int, is_allowed: bool) -> None:
    """At 444 the tags around 300 peaks took 1.8 GB."""
    words = ["TEST.FILL_RADIUS", value]
    if is_allowed:
        cfg = load_config(None, words)
        assert value == cfg.TEST.FILL_RADIUS
    else:
        with pytest.raises(UserError, match="FILL_RADIUS"):
            load_config(None, words)


# ---- exported files ----


@pytest.mark.parametrize("word", [b"a text", b"images"])
def test_an_onnx_file_with_letters_that_are_no_utf8(tmp_path: Path, word: bytes) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "x.onnx"
    content = onnx_file({"config": "a text"})
    path.write_bytes(content.replace(word, b"\xff" * len(word)))
    with pytest.raises(UserError, match=r"x\.onnx"):
        read_onnx_description(path)
        open_onnx(path, torch.device("cpu"))


# ---- studies ----


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.update(groups=True), "groups"),
        (lambda c: c.update(groups=[1]), "groups"),
        (lambda c: c.update(seeds=5), "seeds"),
        (lambda c: c.update(seeds=[1, 2, [3]]), "seeds"),
        (lambda c: c.update(seeds=[1, 2, -3]), "seeds"),
        (lambda c: c.update(recipe={"a": 1}), "recipe"),
        (lambda c: c["groups"][0].update(variants=[1]), "variants"),
        (lambda c: c["groups"][0]["variants"].update(a=3), "variants"),
        (lambda c: c["groups"][0]["variants"]["c"].update(base=["b"]), "base"),
        (lambda c: c["groups"][1].update(grid={"TRAIN.LR": 0.1}), "TRAIN.LR"),
        (lambda c: c["groups"][1].update(grid={"TRAIN.LR": [0.1] * 40, "SEED": [1] * 40}), "1000"),
        (lambda c: c["groups"][0].update(columns="AP"), "columns"),
    ],
)
def test_study_files(tmp_path: Path, change: Change, word: str) -> None:
    content = json.loads(json.dumps(STUDY))
    path = tmp_path / "study.yaml"
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=word):
        read_study(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("study"),
        lambda c: c["study"].update(groups=5),
        lambda c: c["study"].update(seeds=["a"]),
        lambda c: c["runs"].update(a=[{"seed": 1}]),
        lambda c: c.update(runs=[]),
    ],
)
def test_plans(tmp_path: Path, change: Change) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(STUDY))
    plan, _ = make_plan(read_study(study), tmp_path)
    assert read_plans(tmp_path) == [plan]

    path = tmp_path / "studies" / "study.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"study\.json"):
        read_plans(tmp_path)


@pytest.mark.parametrize("change", [{"name": 5}, {"command": ["x", 5]}, {"steps_from": None}])
def test_jobs(tmp_path: Path, change: dict[str, Any]) -> None:
    jobs = JobFolder(tmp_path)
    jobs.add(Job("a", ["tools/valid.py"]))
    path = jobs.path("todo", "a")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "of a later version": 1}))
    assert [job.command for job in jobs.jobs("todo")] == [["tools/valid.py"]]
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(UserError, match=r"a\.json"):
        jobs.jobs("todo")


def test_speeds_without_the_steps(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text('{"steps": {"a": 7}}')
    assert measured_steps(tmp_path, Job("x", [], steps_from=["speed.json", "a"])) == 7
    for steps_from in (["speed.json", "b"], ["speed.json"], ["missing.json", "a"]):
        with pytest.raises(UserError):
            measured_steps(tmp_path, Job("x", [], steps_from=steps_from))


# ---- checkpoints ----


@pytest.mark.parametrize("value", [torch.zeros(0), torch.ones(2), None, "1", [1]])
def test_a_format_that_is_no_number(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"format": value}, path)
    with pytest.raises(UserError, match="format"):
        read_checkpoint(path)
