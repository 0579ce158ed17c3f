"""The checks of one split in their order, and of two splits against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from duopose.datasets.annotations import AnnotationFile, collect_people, read_annotation_file
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.images import check_files, check_files_exist
from duopose.datasets.check.people import check_people
from duopose.datasets.check.records import check_categories, check_lists
from duopose.datasets.check.summary import summary_lines
from duopose.datasets.image_files import ImageSource
from duopose.errors import UserError
from duopose.skeletons import Skeleton


@dataclass(frozen=True)
class Rules:
    """What the data must fit."""

    skeleton: Skeleton
    benchmark: str  # coco | crowdpose | mpii
    max_people: int  # an image may have more; that is told


@dataclass
class SplitReport:
    """What was found in one split."""

    findings: Findings
    file: AnnotationFile | None = None
    summary: list[str] = field(default_factory=list)


def check_split(
    split: str,
    annotations: Path,
    images: ImageSource,
    rules: Rules,
    decode: bool = True,
    threads: int = 2,
    progress: Callable[[int, int], object] | None = None,
) -> SplitReport:
    """All checks of a split. decode False: the images are looked for but not opened; `progress` is told how many were and of how many."""
    report = SplitReport(Findings(f"{split} ({annotations.name})"))
    try:
        report.file = read_annotation_file(annotations)
    except UserError as error:
        report.findings.problem(str(error))
        return report
    check_lists(report.file, report.findings)
    check_categories(report.file, rules.skeleton, report.findings)
    check_people(report.file, rules.skeleton, rules.benchmark, report.findings)
    check_files_exist(report.file, images, report.findings)
    if decode:
        check_files(report.file, images, report.findings, threads, progress)
    _summarise(report, rules)
    return report


def check_pair(train: SplitReport, test: SplitReport) -> Findings:
    """Images that both splits hold: a score on them says nothing."""
    findings = Findings("train and test")
    if train.file is None or test.file is None:
        return findings
    if train.file.path == test.file.path:
        findings.notice(
            f"both splits are the same file {train.file.path}: good for a trial whether it learns, not for a score"
        )
        return findings
    for field_name in ("id", "file_name"):
        there = {str(image.get(field_name)) for image in train.file.images}
        for image in test.file.images:
            if str(image.get(field_name)) in there:
                same_name = field_name == "file_name"
                report = findings.problem if same_name else findings.notice
                report(
                    f"images of the test split have the same '{field_name}' as images of the training split",
                    "image",
                    image.get("id"),
                )
    return findings


def _summarise(report: SplitReport, rules: Rules) -> None:
    """The table, where the file can be read for training at all."""
    if report.file is None:
        return
    try:
        people = collect_people(report.file, rules.skeleton)
    except (
        UserError,
        TypeError,
        ValueError,
        KeyError,
    ) as error:  # of a file whose problems have been told, mostly
        if not report.findings.problems:
            report.findings.problem(f"the people cannot be collected: {error}")
        return
    report.summary = summary_lines(people, rules.skeleton)
    if report.file.annotations and not len(people.keypoints):
        report.findings.problem("nobody has a labelled keypoint")
    for image_id, count in zip(people.image_ids, people.first[1:] - people.first[:-1], strict=True):
        if count > rules.max_people:
            report.findings.notice(
                f"more people than DATASET.MAX_NUM_PEOPLE {rules.max_people}: the largest are trained on",
                "image",
                image_id,
            )
