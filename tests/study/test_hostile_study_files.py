"""Job, plan and speed files that are damaged or of somebody else: one sentence that names them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duopose.errors import UserError
from duopose.study.jobs import Job, JobFolder, measured_steps
from duopose.study.plan import make_plan, read_plans
from duopose.study.report import status_text
from duopose.study.speed import measure_study
from duopose.study.study_file import read_study
from duopose.study.worker import Worker

NAME = "test-a-s0"
JOB: dict[str, Any] = {
    "name": NAME, "command": ["tools/valid.py", "--cfg", "x.yaml"], "after": [],
    "steps_from": [], "order": 0, "reason": "",
    "attempts": [{"host": "here", "exit_code": 0, "cpu_seconds": 1.5}],
}  # fmt: skip
DEEP = "[" * 100_000 + "]" * 100_000


def write_job(root: Path, content: Any) -> JobFolder:
    folder = JobFolder(root)
    text = content if isinstance(content, str) else json.dumps(content)
    folder.path("todo", NAME).write_text(text)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "5", DEEP, '{"name": ' + "9" * 5000 + "}",
        {}, {"name": NAME}, JOB | {"name": "../other"}, JOB | {"name": 5}, JOB | {"command": "a b"},
        JOB | {"command": []}, JOB | {"command": ["-c", "print()"]}, JOB | {"command": ["x.py"]},
        JOB | {"after": [5]}, JOB | {"order": "first"}, JOB | {"order": 2**80},
        JOB | {"attempts": [{}]}, JOB | {"attempts": [{"host": "a", "exit_code": "0"}]},
        JOB | {"steps_from": ["speed/x.json"]}, JOB | {"steps_from": ["../x.json", "key"]},
        JOB | {"steps_from": ["/etc/passwd", "key"]}, JOB | {"reason": None},
    ],
)  # fmt: skip
def test_jobs_that_are_damaged(tmp_path: Path, content: Any) -> None:
    folder = write_job(tmp_path, content)
    for read in (lambda: folder.jobs("todo"), Worker(tmp_path).work):
        with pytest.raises(UserError, match=rf"todo/{NAME}\.json"):
            read()
    assert folder.names("todo") == {NAME}, "nothing has moved"


def test_a_good_job(tmp_path: Path) -> None:
    (job,) = write_job(tmp_path, JOB | {"unknown": 1}).jobs("todo")
    assert job.command[0] == "tools/valid.py" and job.attempts[0]["cpu_seconds"] == 1.5


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "device"])
def test_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    folder = JobFolder(tmp_path)
    path = folder.path("todo", NAME)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(UserError, match=NAME):
        Worker(tmp_path).work()


def test_files_in_running_without_an_owner(tmp_path: Path) -> None:
    folder = write_job(tmp_path, JOB)
    folder.path("todo", NAME).rename(tmp_path / "jobs" / "running" / f"{NAME}.json")
    for read in (folder.return_lost_jobs, lambda: status_text(tmp_path)):
        with pytest.raises(UserError, match=rf"running/{NAME}\.json"):
            read()


def test_measured_speeds(tmp_path: Path) -> None:
    job = Job(NAME, ["tools/valid.py"], steps_from=["speed.json", "a"])
    (tmp_path / "speed.json").write_text('{"steps": {"a": 7}}')
    assert measured_steps(tmp_path, job) == 7
    for text in ('{"steps": {"b": 7}}', '{"steps": {"a": "7"}}', '{"steps": {"a": -1}}', "{}", "["):
        (tmp_path / "speed.json").write_text(text)
        with pytest.raises(UserError, match=r"speed\.json"):
            measured_steps(tmp_path, job)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.pop("study"),
        lambda plan: plan.pop("runs"),
        lambda plan: plan["study"].update(groups=[]),
        lambda plan: plan["study"].update(groups="text"),
        lambda plan: plan["study"].update(seeds=["a"]),
        lambda plan: plan["study"].update(budget="forever"),
        lambda plan: plan["study"]["groups"][0].update(reference="nobody"),
        lambda plan: plan["study"]["groups"][0].update(variants=[{"name": "a"}]),
        lambda plan: plan["runs"].pop("large"),
        lambda plan: plan["runs"]["large"][0].update(results="../../elsewhere"),
        lambda plan: plan["runs"]["large"][0].update(results="/elsewhere"),
        lambda plan: plan["runs"]["large"][0].update(seed=None),
    ],
)
def test_plans_that_are_damaged(project: Path, change: Change) -> None:
    make_plan(read_study(Path("study.yaml")), project / "out")
    path = project / "out" / "studies" / "study.json"
    content = json.loads(path.read_text())
    assert len(read_plans(project / "out")) == 1

    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"studies/study\.json"):
        read_plans(project / "out")


def test_trainings_to_measure(tmp_path: Path) -> None:
    path = tmp_path / "x.spec.json"
    spec = {"recipe": "recipe.yaml", "reference": "a", "trainings": {"b": {}}}
    for content in (DEEP, json.dumps(spec), json.dumps(spec | {"trainings": {"a": 5}}), "{}"):
        path.write_text(content)
        with pytest.raises(UserError, match=re.escape(str(path))):
            measure_study(path, tmp_path / "out.json")
