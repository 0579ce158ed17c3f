"""docs/study.md from the plans, jobs and results in the folders of studies.

Everything comes from files: metrics.json and results.json of each seed, the records of the jobs,
and the annotations that the results were scored with. No network is run.
"""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.errors import UserError, counted
from duopose.evaluate.coco import OksMatches
from duopose.evaluate.metrics import (
    NOT_AVAILABLE,
    MetricsRecord,
    format_number,
    format_table,
    read_metrics,
)
from duopose.study.jobs import Job, JobFolder, measured_steps, owner_of
from duopose.study.plan import Plan, Run, command_words, read_plans, split_settings
from duopose.study.resampling import (
    RESAMPLES,
    difference,
    hidden_fractions,
    hidden_range_ap,
    mean_and_spread,
    people_range_ap,
    read_ground_truth,
    read_matches,
    scored_images,
)
from duopose.study.study_file import Group, Variant, setting_words

INTRODUCTION = """# Study

<!-- Written by `{command}`; do not edit. -->

Every table compares variants of one recipe. Each row was trained and evaluated with several seeds.

- **AP** (or the benchmark's own headline): mean over the seeds. **spread**: their sample standard
  deviation. **n**: seeds that are done.
- **difference**: mean difference to the reference, and its 95 % interval of {resamples} bootstrap
  samples over images and seeds, the same for both variants. With three seeds the interval is a
  little too narrow; compare the difference with the spread too.
- Below each table: the commands that make its rows anew (those of the first seed), the length of
  one training, its mean CPU seconds over all processes ("more than" where an attempt was killed,
  whose cost is not known), and the hardware.

[studies.md](studies.md) describes how a study is planned and run.
"""
PEOPLE_COLUMN = re.compile(r"people (\d+)(?:-(\d+))?")
HIDDEN_COLUMN = re.compile(r"hidden (\d+)-(\d+)")
REFERENCE = "reference"


def write_report(folders: Sequence[Path], command: str, resamples: int = RESAMPLES) -> str:
    """The page as markdown; UserError where a folder holds no study."""
    parts = [INTRODUCTION.format(command=command, resamples=resamples)]
    for folder in folders:
        plans = read_plans(folder)
        if not plans:
            raise UserError(f"'{folder}' holds no study; make one with tools/study.py plan")
        parts += [_study_section(folder, plan, resamples) for plan in plans]
    return "\n".join(parts)


class Row:
    """The finished seeds of a variant."""

    def __init__(self, folder: Path, plan: Plan, variant: Variant) -> None:
        self.study = plan.study
        self.variant = variant
        self.folder = folder
        self.runs = plan.runs[variant.name]
        done = JobFolder(folder).names("done")
        self.finished = [run for run in self.runs if run.test_job in done]

    @cached_property
    def records(self) -> list[MetricsRecord]:
        """metrics.json of each finished seed."""
        return [read_metrics(self.results_file(run, "metrics.json")) for run in self.finished]

    @cached_property
    def cfg(self) -> CfgNode:
        """The settings of the variant."""
        return load_config(self.study.recipe, setting_words(self.variant.settings))

    @cached_property
    def hidden(self) -> np.ndarray:
        """(N,) how much of each scored image's keypoints is hidden."""
        file = read_ground_truth(self.cfg)
        return hidden_fractions(file, scored_images(self.cfg, file))

    @cached_property
    def matches(self) -> dict[int, OksMatches]:
        """Matches of each finished seed; empty for metrics other than AP."""
        found = {}
        for run in self.finished:
            matches = read_matches(self.cfg, self.results_file(run, "results.json"))
            if matches is not None:
                found[run.seed] = matches
        return found

    @cached_property
    def train_jobs(self) -> list[Job]:
        """The trainings of the finished seeds."""
        jobs = {job.name: job for job in JobFolder(self.folder).jobs("done")}
        lost = [run.train_job for run in self.finished if run.train_job not in jobs]
        if lost:
            raise UserError(f"'{self.folder}': the file of the job '{lost[0]}' is not in jobs/done")
        return [jobs[run.train_job] for run in self.finished]

    @property
    def headline(self) -> str:
        """Name of the main metric."""
        return self.records[0].metrics.headline if self.records else "AP"

    def results_file(self, run: Run, name: str) -> Path:
        """A file of a seed's evaluation."""
        return self.folder / run.results / name

    def column(self, name: str) -> float | None:
        """Mean over the seeds of a metric, or of the AP over a part of the images."""
        people = PEOPLE_COLUMN.fullmatch(name)
        hidden = HIDDEN_COLUMN.fullmatch(name)
        matches = self.matches.values() if people or hidden else ()
        if people:
            fewest = int(people[1])
            most = int(people[2] or people[1])
            values = [people_range_ap(one, fewest, most) for one in matches]
        elif hidden:
            lowest = int(hidden[1])
            highest = int(hidden[2])
            values = [hidden_range_ap(one, self.hidden, lowest, highest) for one in matches]
        else:
            values = [record.metrics.values.get(name) for record in self.records]
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None


def _study_section(folder: Path, plan: Plan, resamples: int) -> str:
    study = plan.study
    seeds = ", ".join(map(str, study.seeds))
    budgets = {
        "epochs": "as the settings say",
        "cpu_seconds": f"as many CPU seconds as '{study.reference.name}' takes",
    }
    parts = [f"## {study.title}\n"]
    if study.notes:
        parts.append(f"{study.notes}\n")
    parts.append(
        f"Recipe `{study.recipe}`, seeds {seeds}; each variant trains {budgets[study.budget]}.\n"
    )

    rows = {v.name: Row(folder, plan, v) for group in study.groups for v in group.variants}
    parts += [_group_section(group, rows, resamples) for group in study.groups]
    commits = {str(r.protocol.get("git_commit")) for row in rows.values() for r in row.records}
    if commits:
        parts.append(f"Code: {', '.join(sorted(commits))}.\n")
    return "\n".join(parts)


def _group_section(group: Group, rows: dict[str, Row], resamples: int) -> str:
    own_rows = [rows[variant.name] for variant in group.variants]
    reference = rows[group.reference]
    header = ["variant", reference.headline, "spread", "n", "difference", "95 % interval"]
    cells = [_cells(row, reference, group.columns, resamples) for row in own_rows]

    parts = [f"### {group.title}\n"] if group.title else []
    if group.notes:
        parts.append(f"{group.notes}\n")
    parts.append(format_table([*header, *group.columns], cells))
    commands = "\n".join(_command_lines(own_rows))
    parts.append(f"\n```\n{commands}\n```\n")
    return "\n".join(parts)


def _cells(row: Row, reference: Row, columns: Sequence[str], resamples: int) -> list[str]:
    """One line of the table."""
    name = row.variant.name
    count = f"{len(row.finished)}"
    if len(row.finished) < len(row.runs):
        count += f" of {len(row.runs)}"
    if not row.finished:
        return [name, "", "", count, "", "", *["" for _ in columns]]

    headline = row.headline
    mean, spread = mean_and_spread([record.metrics.main for record in row.records])
    others = [format_number(row.column(column), headline) for column in columns]
    shown_spread = format_number(spread, headline) if spread is not None else NOT_AVAILABLE
    change = [REFERENCE, ""]
    if row is not reference:
        change = _difference_cells(row, reference, resamples)
    return [name, format_number(mean, headline), shown_spread, count, *change, *others]


def _difference_cells(row: Row, reference: Row, resamples: int) -> list[str]:
    """Difference and interval; without an interval where the metric is not AP."""
    found = difference(row.matches, reference.matches, resamples)
    if found is not None:
        return [f"{found.mean:+.3f}", f"{found.low:+.3f} .. {found.high:+.3f}"]
    if not reference.records:
        return ["", ""]

    of_row = statistics.fmean([record.metrics.main for record in row.records])
    of_reference = statistics.fmean([record.metrics.main for record in reference.records])
    return [f"{of_row - of_reference:+.3f}", NOT_AVAILABLE]


def _command_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Per row: a comment with its budget and cost, and the commands of the first seed."""
    previous_training: list[str] = []
    for row in rows:
        training, _ = split_settings(row.variant.settings)
        steps = _measured_steps(row)
        words = command_words(training | {"SEED": row.study.seeds[0]} | steps)
        train_command = ["tools/dist_train.py", "--cfg", row.study.recipe, *words]
        words = command_words(row.variant.settings | {"SEED": row.study.seeds[0]})
        test_command = ["tools/valid.py", "--cfg", row.study.recipe, *words]

        yield f"# {row.variant.name}: {_cost(row, steps)}"
        if train_command != previous_training:
            yield f"python {shlex.join(train_command)}"
        yield f"python {shlex.join(test_command)}"
        previous_training = train_command


def _measured_steps(row: Row) -> dict[str, int]:
    """TRAIN.END_STEP, where the training's length was measured."""
    if not row.train_jobs or not row.train_jobs[0].steps_from:
        return {}
    return {"TRAIN.END_STEP": measured_steps(row.folder, row.train_jobs[0])}


def _cost(row: Row, steps: dict[str, int]) -> str:
    """Length, mean CPU seconds and hardware of the trainings."""
    cfg = load_config(row.study.recipe, setting_words(row.variant.settings | steps))
    length = counted(cfg.TRAIN.END_EPOCH, "epoch")
    if cfg.TRAIN.END_STEP:
        length = counted(cfg.TRAIN.END_STEP, "step")
    attempts = [attempt for job in row.train_jobs for attempt in job.attempts]
    if not attempts:
        return f"{length}, not done"

    known = [a["cpu_seconds"] for a in attempts if a["cpu_seconds"] is not None]
    more_than = "more than " if len(known) < len(attempts) else ""
    seconds = sum(known) / len(row.train_jobs)
    machines = sorted({a["hardware"] for a in attempts if "hardware" in a})
    return f"{length}, {more_than}{seconds:.0f} CPU s; {'; '.join(machines)}"


def status_text(folder: Path) -> str:
    """The number of jobs by state, those that run and those that failed."""
    jobs = JobFolder(folder)
    running = jobs.files("running")
    failed = jobs.jobs("failed")
    counts = [
        f"todo {len(jobs.files('todo'))}",
        f"running {len(running)}",
        f"done {len(jobs.files('done'))}",
        f"failed {len(failed)}",
    ]
    lines = [", ".join(counts)]
    for path in running:
        name, host, process = owner_of(path)
        lines.append(f"running  {name}  on {host}, process {process}")
    lines += [f"failed   {job.name}  {job.reason}" for job in failed]
    return "\n".join(lines)
