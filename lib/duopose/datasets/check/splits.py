"""Checks of a split in their order, of its image files, and of two splits against each other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from duopose.coco_annotations import (
    AnnotationFile,
    Record,
    RequiredField,
    read_all_fields,
    read_annotation_file,
)
from duopose.datasets.annotations import AnnotatedPeople, collect_people
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.records import (
    check_categories,
    check_lists,
    check_people,
)
from duopose.datasets.split_files import ImageSource
from duopose.errors import BadSample, UserError
from duopose.image_files import decode_image
from duopose.json_files import MAX_MEMORY
from duopose.regular_files import reason_of
from duopose.skeletons import Skeleton
from duopose.zip_members import ZipMemberError

# Ranges of people per image in the summary; the last has no upper limit.
PEOPLE_RANGES = ((0, 0), (1, 1), (2, 4), (5, 9), (10, 29), (30, None))


@dataclass(frozen=True)
class Rules:
    """What the data must fit."""

    skeleton: Skeleton
    required: RequiredField  # of the benchmark
    max_people: int  # an image may have more; that is a notice
    json_memory: int = MAX_MEMORY  # bytes that an annotation file may need


@dataclass
class SplitReport:
    """The findings and the summary of one split."""

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
    *,
    for_training: bool = False,
) -> SplitReport:
    """All checks of a split.

    for_training: a split without annotations is a problem. decode: also open every image, not only
    look whether it exists. progress: called with the number of images done and of all images.
    """
    findings = Findings(f"{split} ({annotations.name})")
    report = SplitReport(findings)
    try:
        file = read_all_fields(annotations, rules.json_memory)
    except UserError as error:
        findings.problem(str(error))
        return report

    report.file = file
    check_lists(file, findings, for_training=for_training)
    check_categories(file, rules.skeleton, findings)
    check_people(file, rules.skeleton, rules.required, findings)
    people = _collect(file, findings, rules)
    check_files_exist(file, images, findings)
    if decode:
        check_files(file, images, findings, threads, progress)

    if people is not None:
        _summarise(people, report, rules)
    return report


def check_pair(train: SplitReport, test: SplitReport) -> Findings:
    """Images that are in both splits: a score on them is meaningless."""
    findings = Findings("train and test")
    if train.file is None or test.file is None:
        return findings
    if train.file.path == test.file.path:
        findings.notice(
            f"both splits are the same file {train.file.path}: "
            "this shows whether a model can learn, but is not a valid score"
        )
        return findings

    for key, add in (("id", findings.notice), ("file_name", findings.problem)):
        in_train = {str(image.get(key)) for image in train.file.images}
        for image in test.file.images:
            if str(image.get(key)) in in_train:
                message = f"images of the test split have the same '{key}' as training images"
                add(message, "image", image.get("id"))
    return findings


# ---- image files ----


def check_files_exist(file: AnnotationFile, images: ImageSource, findings: Findings) -> None:
    """Missing image files; a notice about files that 'images' does not list."""
    try:
        existing = images.names()
    except UserError as error:
        findings.problem(str(error))
        return

    named = [image for image in file.images if isinstance(image.get("file_name"), str)]
    listed = [image["file_name"] for image in named]
    missing = set(images.missing(listed))
    for image in named:
        if image["file_name"] in missing:
            message = f"the file of an image is not in {images.path}"
            findings.problem(message, "image", f"{image.get('id')} ({image['file_name']})")

    for name in sorted(existing - set(listed)):
        findings.notice(f"files in {images.path} are not in 'images': not used", "file", name)


def check_files(
    file: AnnotationFile,
    images: ImageSource,
    findings: Findings,
    threads: int = 2,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Decode every image: unreadable, truncated, or not of the annotated size."""
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        problems = pool.map(lambda image: _image_problem(image, images), file.images)
        pairs = zip(file.images, problems, strict=True)
        for done, (image, problem) in enumerate(pairs, start=1):
            if problem:
                message, detail = problem
                where = f"{image.get('id')} ({image.get('file_name')})"
                findings.problem(message, "image", f"{where} {detail}".rstrip())
            if progress:
                progress(done, len(file.images))


def _image_problem(image: Record, images: ImageSource) -> tuple[str, str] | None:
    """A message and its detail; None for a good file and a missing one (`check_files_exist`)."""
    name = image.get("file_name")
    if not isinstance(name, str):
        return None
    try:
        content = images.read_bytes(name)
    except (FileNotFoundError, KeyError, UserError):
        return None
    except ZipMemberError as error:
        return "the file of an image cannot be unpacked", str(error)
    except OSError as error:
        return "the file of an image cannot be opened", reason_of(error)

    try:
        decoded = decode_image(content, images.limits)
    except BadSample as error:
        return f"the file of an image {error.kind}", str(error).removeprefix(error.kind)

    height, width = decoded.shape[:2]
    annotated = (image.get("width"), image.get("height"))
    if annotated == (width, height):
        return None
    if annotated == (height, width):
        message = "width and height are swapped between file and annotation (EXIF orientation?)"
        return message, ""
    return "the file does not have the annotated 'width' and 'height'", ""


# ---- summary ----


def _collect(file: AnnotationFile, findings: Findings, rules: Rules) -> AnnotatedPeople | None:
    """The people as a training has them; None where it would refuse the file.

    Then its reason is a problem, unless others were found before: most often it is one of them.
    """
    try:
        as_read = read_annotation_file(file.path, rules.json_memory)
        return collect_people(as_read, rules.skeleton)
    except UserError as error:
        if not findings.problems:
            findings.problem(f"the people cannot be collected: {error}")
        return None


def _summarise(people: AnnotatedPeople, report: SplitReport, rules: Rules) -> None:
    """The numbers of the split; images with more people than training uses."""
    report.summary = summary_lines(people, rules.skeleton)
    file = report.file
    if file is not None and file.annotations and not len(people.keypoints):
        report.findings.problem("no person has a labelled keypoint")

    counts = np.diff(people.first)
    for image_id, count in zip(people.image_ids, counts, strict=True):
        if count > rules.max_people:
            message = (
                f"more people than DATASET.MAX_NUM_PEOPLE ({rules.max_people}): "
                "training uses the largest"
            )
            report.findings.notice(message, "image", image_id)


def summary_lines(people: AnnotatedPeople, skeleton: Skeleton) -> list[str]:
    """Images, people per image, sizes, and how often each keypoint is labelled and visible."""
    counts = np.diff(people.first)
    num_ignoring = sum(bool(region) for region in people.ignored_regions)
    lines = [
        f"  images {len(people)}, with labelled people {int((counts > 0).sum())}, "
        f"with ignored regions {num_ignoring}",
        f"  people with labelled keypoints {len(people.keypoints)}",
    ]

    if len(people):
        widths = _percentiles(people.sizes[:, 0])
        heights = _percentiles(people.sizes[:, 1])
        lines += [
            f"  people per image: mean {counts.mean():.2f}, max {counts.max()}",
            f"  images with ... people: {_counts_by_range(counts)}",
            f"  image sizes: width {widths}, height {heights}",
        ]
    if len(people.keypoints):
        extents = _percentiles(_extents(people.keypoints))
        lines.append(f"  people's sizes (longer side of the keypoints' box, pixels): {extents}")
        lines += _joint_table(people.keypoints, skeleton)
    return lines


def _counts_by_range(counts: np.ndarray) -> str:
    """How many images have 0, 1, 2-4 ... people."""
    parts = []
    for low, high in PEOPLE_RANGES:
        in_range = counts >= low
        if high is None:
            name = f"{low} or more"
        else:
            name = str(low) if low == high else f"{low}-{high}"
            in_range &= counts <= high
        parts.append(f"{name}: {int(in_range.sum())}")
    return ", ".join(parts)


def _percentiles(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (0, 50, 100))
    return f"{low:.0f} / {middle:.0f} / {high:.0f} (min / median / max)"


def _extents(keypoints: np.ndarray) -> np.ndarray:
    """(M,) longer side of the box around each person's labelled keypoints."""
    labelled = keypoints[:, :, 2:] > 0
    low = np.where(labelled, keypoints[:, :, :2], np.inf).min(1)
    high = np.where(labelled, keypoints[:, :, :2], -np.inf).max(1)
    return (high - low).max(1)


def _joint_table(keypoints: np.ndarray, skeleton: Skeleton) -> list[str]:
    """Fractions of people whose keypoint is labelled, and visible."""
    labelled = (keypoints[:, :, 2] > 0).mean(0)
    visible = (keypoints[:, :, 2] == 2).mean(0)

    width = max(len(name) for name in skeleton.keypoints)
    lines = [f"  {'keypoint':<{width}}  labelled  visible"]
    for joint, name in enumerate(skeleton.keypoints):
        lines.append(f"  {name:<{width}}  {labelled[joint]:8.1%}  {visible[joint]:7.1%}")
    return lines
