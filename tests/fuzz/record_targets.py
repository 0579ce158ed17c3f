"""Results, metrics, studies, and the files that runs and studies leave for later programs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import yaml
from tests.fuzz.annotation_targets import json_maker
from tests.fuzz.byte_changes import TABLE_WORDS, changed_bytes, changed_numbers
from tests.fuzz.fuzz_target import Target, problem_of
from tests.fuzz.settings_targets import PROJECT, yaml_maker
from tests.fuzz.tree_changes import changed_tree
from tests.trust.mutations import as_text
from tests.trust.readers import coco_content, people_content, result_entries, use_metrics

from duopose.evaluate.coco import evaluate_coco
from duopose.evaluate.crowdpose import evaluate_crowdpose
from duopose.evaluate.mpii import evaluate_mpii
from duopose.evaluate.pck import pck
from duopose.evaluate.results import from_entries, read_entries, to_entries
from duopose.inference.unfinished import UnfinishedFile, count_finished, take_over
from duopose.locks import read_owner
from duopose.skeletons import COCO, CROWDPOSE, MPII
from duopose.study.jobs import JobFolder
from duopose.study.plan import make_plan, read_plans
from duopose.study.study_file import read_study
from duopose.training.run_list import find_runs, runs_text
from duopose.types import ImageResult, Poses
from duopose.visualize.curves import curve_panels, read_curves

METRICS = {
    "AP": 0.5, "AP .5": 0.7, "APM": None, "headline": "AP", "notes": ["a note"],
    "protocol": {
        "weights": "x.pth", "settings": {"TEST.FLIP_TEST": True, "TEST.SCALES": [0.5, 1.0]},
        "scored": {"evaluator": "hotcoco", "images": 2},
    },
}  # fmt: skip


def result_target(folder: Path) -> Target:
    """Results of COCO, scored and read as people."""
    content = coco_content()
    truth = folder / "truth.json"
    truth.write_bytes(as_text(content))
    entries = result_entries(content)

    def use(path: Path) -> None:
        values = evaluate_coco(truth, path, COCO).values
        assert all(value is None or np.isfinite(value) for value in values.values())
        pck(truth, path, COCO, 0.2)
        from_entries(read_entries(path))

    return Target("results", ".json", as_text(entries), json_maker(entries), use)


def other_result_target(folder: Path) -> Target:
    """Results of CrowdPose and MPII."""
    crowdpose = people_content(CROWDPOSE, crowdIndex=0.3)
    mpii = people_content(MPII, groups=[[1, 2], [3, 4]])
    (folder / "crowdpose.json").write_bytes(as_text(crowdpose))
    (folder / "mpii.json").write_bytes(as_text(mpii))
    entries = [*result_entries(crowdpose)[:2], *result_entries(mpii)[:2]]
    makers = [json_maker(result_entries(one)) for one in (crowdpose, mpii)]

    def use(path: Path) -> None:
        score = partial(evaluate_crowdpose, folder / "crowdpose.json", path, CROWDPOSE)
        first = problem_of(score)
        second = problem_of(partial(evaluate_mpii, folder / "mpii.json", path, MPII))
        if first is not None and second is not None:
            raise first

    valid = as_text(entries[:2])
    return Target("results-other", ".json", valid, lambda rng: rng.choice(makers)(rng), use)


def metrics_target(folder: Path) -> Target:
    """A metrics.json compared with itself."""
    return Target("metrics", ".json", as_text(METRICS), json_maker(METRICS), use_metrics)


# ---- studies ----

STUDY = {
    "title": "A study", "notes": "text", "recipe": str(PROJECT / "experiments/sample/demo.yaml"),
    "overrides": {"GPUS": 1, "THREADS": 1}, "seeds": [1, 2, 3], "budget": "epochs",
    "groups": [
        {"title": "losses", "reference": "a", "columns": ["AP"],
         "variants": {"a": {}, "b": {"TRAIN.LR": 0.01}, "c": {"base": "b"}}},
        {"title": "grid", "grid": {"TEST.TAG_SIGMA": [0.5, 1.0], "TRAIN": {"LR": [0.1]}}},
    ],
}  # fmt: skip


def study_target(folder: Path) -> Target:
    """A study file, planned."""
    text = yaml.safe_dump(STUDY).encode()
    study_folder = folder / "study"

    def use(path: Path) -> None:
        for file in study_folder.rglob("*.json"):
            file.unlink()
        make_plan(read_study(path), study_folder)
        read_plans(study_folder)

    return Target("study", ".yaml", text, yaml_maker([text]), use)


def plan_target(folder: Path) -> Target:
    """The plan of a study, as its report reads it."""
    source = folder / "source.yaml"
    source.write_text(yaml.safe_dump(STUDY))
    plan, _ = make_plan(read_study(source), folder)
    plans = folder / "studies"
    next(plans.glob("*.json")).unlink()
    content = json.loads(json.dumps(asdict(plan)))

    def use(path: Path) -> None:
        (plans / "plan.json").write_bytes(path.read_bytes())
        read_plans(folder)

    return Target("plan", ".json", as_text(content), json_maker(content), use)


def job_target(folder: Path) -> Target:
    """A job of a study, as the next worker reads it."""
    jobs = JobFolder(folder)
    content = {
        "name": "train-1", "command": ["tools/valid.py", "{folder}/x"], "after": [],
        "steps_from": ["speed/a.json", "b"], "order": 3, "reason": "",
        "attempts": [{"host": "a", "exit_code": None, "cpu_seconds": 1.5}],
    }  # fmt: skip

    def use(path: Path) -> None:
        jobs.path("todo", "train-1").write_bytes(path.read_bytes())
        for job in jobs.jobs("todo"):
            assert isinstance(job.name, str) and all(isinstance(word, str) for word in job.command)

    return Target("job", ".json", as_text(content), json_maker(content), use)


# ---- files of runs ----


def unfinished_target(folder: Path) -> Target:
    """The finished images of an evaluation that was killed."""
    keypoints = np.random.default_rng(0).random((2, 17, 3)).astype(np.float32)
    poses = Poses(keypoints, np.array([0.5, 0.25]), np.zeros((2, 17), bool))
    with UnfinishedFile(folder, "key", 0) as file:
        for image_id in (1, "two"):
            file.append(ImageResult(image_id, poses))
    path_of_rank = folder / "unfinished_0.jsonl"
    content = path_of_rank.read_bytes()

    def make(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return changed_bytes(content, rng, TABLE_WORDS)
        return with_checksums(content, rng)

    def use(path: Path) -> None:
        path_of_rank.write_bytes(path.read_bytes())
        count_finished(folder)
        for result in take_over(folder, "key"):
            poses = result.poses
            assert poses.keypoints.ndim == 3 and len(poses.keypoints) == len(poses.scores)
        to_entries(take_over(folder, "key"))

    return Target("unfinished", ".jsonl", content, make, use)


def with_checksums(content: bytes, rng: Random) -> bytes:
    """A changed line whose checksum is right."""
    lines = content.splitlines()
    position = rng.randrange(len(lines))
    tree = json.loads(lines[position].partition(b" ")[2])
    text = as_text(changed_tree(tree, rng))
    lines[position] = b"%08x %s" % (zlib.crc32(text), text)
    return b"\n".join(lines) + b"\n"


def lock_target(folder: Path) -> Target:
    """The record of who uses a folder, beside a run's settings: tools/runs.py and a training."""
    content = {
        "host": "a", "process": 123456, "process_start": "77", "started": "2026-01-01 10:00:00",
        "command": "tools/dist_train.py", "state": "running", "reason": "", "torchrun": "",
    }  # fmt: skip
    (folder / "config.yaml").write_text("GPUS: 1\n")

    def use(path: Path) -> None:
        (folder / "run.lock").write_bytes(path.read_bytes())
        read_owner(path)
        runs_text(find_runs(folder))

    return Target("lock", ".json", as_text(content), json_maker(content), use)


def run_list_target(folder: Path) -> Target:
    """metrics.csv of a run, as tools/runs.py and the next epoch's curves read it."""
    lines = ["step,epoch,kind,name,value"]
    lines += [f"{step},{step / 10},train,loss,{1 / step}" for step in range(1, 8)]
    lines += ["8,0.8,val,AP,0.5", "9,0.9,val,AP,0.25"]
    text = "\n".join(lines).encode() + b"\n"
    (folder / "config.yaml").write_text("GPUS: 1\n")

    def use(path: Path) -> None:
        (folder / "metrics.csv").write_bytes(path.read_bytes())
        runs_text(find_runs(folder))
        curve_panels(read_curves(path))

    return Target("metrics-csv", ".csv", text, table_maker(text), use)


def table_maker(text: bytes) -> Callable[[Random], bytes]:
    """Changed tables: bytes, or numbers alone."""
    return lambda rng: rng.choice(
        (
            changed_bytes(text, rng, TABLE_WORDS),
            changed_numbers(text, rng),
            changed_numbers(text, rng),
        )
    )
