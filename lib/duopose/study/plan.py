"""From a study to jobs.

Settings of evaluation (TEST.*, DEBUG.*, DATASET.TEST*) do not change a training, so variants that
differ only in them are trained once:

    training id = recipe's name + hash(settings of training, budget)
    result id   = training id + hash(settings of evaluation)

Equal ids are one job, in all studies that are planned into the same folder:

    train-<training id>-s<seed>   tools/dist_train.py, into runs/
    test-<result id>-s<seed>      tools/valid.py, into results/
    speed-<hash>                  tools/study.py measure, into speed/; budget cpu_seconds only

The settings are those of recipe and study, not the defaults of the code: after a change of the
code, a study belongs into a new folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson

from duopose.config.load import flatten, read_yaml
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.json_files import read_typed_json
from duopose.regular_files import is_outside_name
from duopose.study.jobs import Job, JobFolder
from duopose.study.study_file import BUDGETS, Settings, Study, Variant, setting_words

TEST_SECTIONS = ("TEST.", "DEBUG.")
TEST_KEYS = {"DATASET.TEST", "DATASET.TEST_ANNOTATIONS", "DATASET.TEST_IMAGES"}
FOLDER = "{folder}"  # in a command: the folder of the study
STEPS = "{steps}"  # in a command: the number of steps that `speed` found


@dataclass(frozen=True)
class Run:
    """One seed of a variant: names of its jobs."""

    seed: int
    train_job: str
    test_job: str
    results: str  # folder of results.json and metrics.json, below the study's folder


@dataclass(frozen=True)
class Plan:
    """A study and the jobs of each variant."""

    study: Study
    runs: dict[str, tuple[Run, ...]]  # by the variant's name


def make_plan(study: Study, folder: Path) -> tuple[Plan, int]:
    """Write the plan and the jobs that do not exist yet; returns the plan and their number."""
    jobs, plan = _Planner(study, folder).make()
    job_folder = JobFolder(folder)
    added = sum(job_folder.add(job) for job in jobs)
    content = orjson.dumps(asdict(plan), option=orjson.OPT_INDENT_2)
    write_atomically(folder / "studies" / f"{study.name}.json", content)
    return plan, added


def read_plans(folder: Path) -> list[Plan]:
    """The plans of a folder, by the studies' names."""
    return [_plan_from_json(path) for path in sorted((folder / "studies").glob("*.json"))]


_PLAN = msgspec.json.Decoder(Plan)


def _plan_from_json(path: Path) -> Plan:
    """UserError where the file is no plan, or its parts do not fit each other."""
    plan: Plan = read_typed_json(path, "plan of a study", _PLAN)
    problem = _problem_of(plan)
    if problem:
        raise UserError(f"plan of a study '{path}': {problem}; make it anew (tools/study.py plan)")
    return plan


def _problem_of(plan: Plan) -> str:
    """Why a plan cannot be used, else an empty text."""
    study = plan.study
    if not study.groups or not study.seeds or study.budget not in BUDGETS:
        return f"it needs groups, seeds, and a budget of {', '.join(BUDGETS)}"
    for group in study.groups:
        names = [variant.name for variant in group.variants]
        if group.reference not in names:
            return f"the reference '{group.reference[:80]}' is no variant of its group"
        without_runs = [name for name in names if name not in plan.runs]
        if without_runs:
            return f"the variant '{without_runs[0][:80]}' has no runs"

    folders = [run.results for runs in plan.runs.values() for run in runs]
    for folder in folders:
        if is_outside_name(folder):
            return f"'results' leads out of the folder: '{folder[:80]}'"
    return ""


def is_test_setting(key: str) -> bool:
    """Whether a setting acts on the evaluation only."""
    return key.startswith(TEST_SECTIONS) or key in TEST_KEYS


def split_settings(settings: Settings) -> tuple[Settings, Settings]:
    """The settings of training, and those of the evaluation only."""
    training = {key: value for key, value in settings.items() if not is_test_setting(key)}
    evaluation = {key: value for key, value in settings.items() if is_test_setting(key)}
    return training, evaluation


def command_words(settings: Settings) -> list[str]:
    """KEY VALUE words of a command line."""
    return [str(word) for word in setting_words(settings)]


def _digest(content: Any) -> str:
    text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:8]


class _Planner:
    """Makes the jobs of one study, seed by seed, so that a part of the seeds is a whole table."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self.folder = folder
        self.recipe_settings = flatten(read_yaml(Path(study.recipe)))
        self.jobs: dict[str, Job] = {}
        self.speed_job = ""
        self.reference_id = self.training_id(study.reference.settings)

    def make(self) -> tuple[list[Job], Plan]:
        """All jobs in the order in which they should be taken, and the plan."""
        variants = {v.name: v for group in self.study.groups for v in group.variants}
        if self.study.budget == "cpu_seconds":
            self.add_speed_job(list(variants.values()))

        runs: dict[str, list[Run]] = {name: [] for name in variants}
        for seed in self.study.seeds:
            for name, variant in variants.items():
                runs[name].append(self.add_run(variant, seed))
        as_tuples = {name: tuple(value) for name, value in runs.items()}
        return list(self.jobs.values()), Plan(self.study, as_tuples)

    def training_id(self, settings: Settings) -> str:
        """Name of a training without its seed."""
        training, _ = split_settings(self.recipe_settings | settings)
        content: dict[str, Any] = {"recipe": self.study.recipe, "settings": training}
        own_digest = _digest(content)
        if self.study.budget == "cpu_seconds":
            reference, _ = split_settings(self.recipe_settings | self.study.reference.settings)
            if training != reference:
                content["as long as"] = reference
                own_digest = _digest(content)
        return f"{Path(self.study.recipe).stem}-{own_digest}"

    def add_speed_job(self, variants: Sequence[Variant]) -> None:
        """A job that measures all trainings of the study in turn; speed.py describes it."""
        trainings: dict[str, Settings] = {}
        for variant in variants:
            training, _ = split_settings(variant.settings)
            trainings[self.training_id(variant.settings)] = training
        spec: Mapping[str, Any] = {
            "recipe": self.study.recipe,
            "reference": self.reference_id,
            "trainings": trainings,
        }

        name = f"speed-{_digest(spec)}"
        path = self.folder / "speed" / f"{name}.spec.json"
        write_atomically(path, orjson.dumps(spec, option=orjson.OPT_INDENT_2))
        command = ["tools/study.py", "measure", f"{FOLDER}/speed/{name}.spec.json"]
        command += ["--out", f"{FOLDER}/speed/{name}.json"]
        self.speed_job = name
        self._add(Job(name, command))

    def add_run(self, variant: Variant, seed: int) -> Run:
        """The two jobs of a variant and a seed, if they are not there yet."""
        training_id = self.training_id(variant.settings)
        _, evaluation = split_settings(self.recipe_settings | variant.settings)
        train_job = f"train-{training_id}-s{seed}"
        result_id = f"{training_id}-{_digest(evaluation)}-s{seed}"
        results = f"results/{result_id}"

        run_folder = f"{FOLDER}/runs/{training_id}-s{seed}"
        folders = ["OUTPUT_DIR", f"{run_folder}/output", "LOG_DIR", f"{run_folder}/log"]
        self._add(self._train_job(train_job, variant, seed, training_id, folders))

        settings = variant.settings | {"SEED": seed}
        command = ["tools/valid.py", "--cfg", self.study.recipe, *command_words(settings)]
        command += [*folders, "--out", f"{FOLDER}/{results}"]
        test_job = f"test-{result_id}"
        self._add(Job(test_job, command, after=[train_job]))
        return Run(seed, train_job, test_job, results)

    def _train_job(
        self, name: str, variant: Variant, seed: int, training_id: str, folders: list[str]
    ) -> Job:
        training, _ = split_settings(variant.settings)
        words = command_words(training | {"SEED": seed})
        command = ["tools/dist_train.py", "--cfg", self.study.recipe, *words]
        if not self.speed_job or training_id == self.reference_id:
            return Job(name, [*command, *folders, "AUTO_RESUME", "True"])

        command += ["TRAIN.END_STEP", STEPS]
        return Job(
            name,
            [*command, *folders, "AUTO_RESUME", "True"],
            after=[self.speed_job],
            steps_from=[f"speed/{self.speed_job}.json", training_id],
        )

    def _add(self, job: Job) -> None:
        job.order = len(self.jobs)
        self.jobs.setdefault(job.name, job)
