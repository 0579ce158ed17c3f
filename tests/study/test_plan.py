"""Study files and the jobs made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny_train import SETTINGS, tiny_components

from duopose.errors import UserError
from duopose.study.plan import make_plan, read_plans
from duopose.study.speed import equal_steps, measure_study
from duopose.study.study_file import read_study
from duopose.study.worker import complete_command

PROJECT = Path(__file__).resolve().parents[2]
STUDIES = sorted((PROJECT / "experiments" / "studies").glob("*.yaml"))


def jobs(folder: Path) -> dict[str, dict[str, Any]]:
    paths = (folder / "jobs" / "todo").glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def test_variants_that_differ_in_the_evaluation_share_a_training(project: Path) -> None:
    study = read_study(Path("study.yaml"))
    plan, added = make_plan(study, project / "out")
    assert added == len(jobs(project / "out")) == 2 * 3 + 3 * 3
    small, large = plan.runs["small"][1], plan.runs["large"][1]
    assert small.train_job == large.train_job and small.test_job != large.test_job
    assert plan.runs["other training"][1].train_job != small.train_job

    test = jobs(project / "out")[large.test_job]
    assert test["after"] == [large.train_job]
    words = test["command"]
    assert words[words.index("TEST.TAG_SIGMA") + 1] == "3.0"
    train = jobs(project / "out")[large.train_job]["command"]
    assert "TEST.TAG_SIGMA" not in train and train[-2:] == ["AUTO_RESUME", "True"]

    assert make_plan(study, project / "out")[1] == 0
    assert read_plans(project / "out") == [plan]


def test_a_grid_is_all_combinations(project: Path) -> None:
    Path("grid.yaml").write_text(
        "recipe: recipe.yaml\nseeds: [3, 4, 5]\ngroups:\n"
        "- grid: {TEST.TAG_SIGMA: [0.2, 0.4], TEST.MRM: ['off', paper]}\n"
    )
    group = read_study(Path("grid.yaml")).groups[0]
    names = [variant.name for variant in group.variants]
    assert names[1] == "TAG_SIGMA 0.2, MRM paper" and len(names) == 4
    assert group.variants[2].settings == {"TEST.TAG_SIGMA": 0.4, "TEST.MRM": "off"}


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("[0, 1, 2]", "[0, 1]", "seeds"),
        ("TRAIN.LR", "TRAIN.LRR", "TRAIN.LRR"),
        ("base: large", "base: huge", "huge"),
        ("reference: small", "reference: none of them", "none of them"),
        ("notes: How", "note: How", "note"),
        ("title: Tags", "budget: hours", "hours"),
    ],
)
def test_mistakes_are_named(project: Path, old: str, new: str, fragment: str) -> None:
    text = Path("study.yaml").read_text()
    Path("study.yaml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=fragment):
        read_study(Path("study.yaml"))


def test_equal_cpu_seconds_need_a_measurement(project: Path) -> None:
    text = Path("study.yaml").read_text()
    Path("study.yaml").write_text(text.replace("title: Tags", "budget: cpu_seconds"))
    plan, _ = make_plan(read_study(Path("study.yaml")), project / "out")
    found = jobs(project / "out")
    (speed,) = [name for name in found if name.startswith("speed-")]
    assert not found[plan.runs["large"][0].train_job]["after"]  # trains as the reference
    other = found[plan.runs["other training"][0].train_job]
    assert other["after"] == [speed]

    file, key = other["steps_from"]
    (project / "out" / file).write_text(json.dumps({"steps": {key: 37}}))
    from duopose.study.jobs import Job

    words = complete_command(Job(**other), project / "out", threads=1)
    assert words[words.index("TRAIN.END_STEP") + 1] == "37"
    assert words[-2:] == ["THREADS", "1"] and not any("{" in word for word in words)


def test_steps_of_equal_cost() -> None:
    assert equal_steps(budget=100.0, seconds_per_image=0.5, images=8) == 25
    assert equal_steps(budget=1.0, seconds_per_image=5.0, images=8) == 1


def test_the_reference_keeps_its_length_and_half_as_many_images_need_twice_the_steps(
    tmp_path: Path,
) -> None:
    keys = [str(key) for key in SETTINGS[::2]]
    common = dict(zip(keys, SETTINGS[1::2], strict=True)) | {"TRAIN.VAL_EVERY": 0}
    trainings = {
        "reference": common | {"TRAIN.IMAGES_PER_GPU": 4, "TRAIN.END_EPOCH": 6},
        "smaller batch": common | {"TRAIN.IMAGES_PER_GPU": 2, "TRAIN.END_EPOCH": 6},
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("SEED: 0\n")
    spec = {"recipe": str(recipe), "reference": "reference", "trainings": trainings}
    (tmp_path / "spec.json").write_text(json.dumps(spec))

    out = tmp_path / "speed.json"
    steps = measure_study(tmp_path / "spec.json", out, tiny_components, repeats=3)
    assert steps["reference"] == 15  # 6 epochs of 10 images, 4 a step
    cost = json.loads(out.read_text())["seconds_per_image"]
    expected = 60 * cost["reference"] / (2 * cost["smaller batch"])
    assert steps["smaller batch"] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_planned(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT)
    study = read_study(path)
    assert study.groups and all(len(group.variants) > 1 for group in study.groups)
    _, added = make_plan(study, tmp_path)
    assert added >= 2 * len(study.seeds)
