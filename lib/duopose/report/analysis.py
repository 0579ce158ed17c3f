"""All numbers of one source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from duopose.errors import UserError
from duopose.evaluate.coco import OksMatches, OksScoring
from duopose.evaluate.crowdpose import with_areas
from duopose.evaluate.metrics import Metrics
from duopose.evaluate.results import read_entries
from duopose.report.corrections import Correction, correct_each_kind
from duopose.report.groups import Grouping, all_groupings
from duopose.report.joint_errors import JointErrors, find_joint_errors
from duopose.report.matching import Matching, match
from duopose.report.reliability import (
    Reliability,
    SigmaReliability,
    joint_reliability,
    person_reliability,
    sigma_reliability,
)
from duopose.report.report_sources import Source
from duopose.report.worst_images import ImageMistakes, find_mistakes
from duopose.study.resampling import QUANTILES

RESAMPLES = 200  # of the images, for the interval of the AP
SAME = 1e-4  # metrics that differ by less are the same: results files are rounded


@dataclass(frozen=True)
class Analysis:
    """What the report says about a source."""

    source: Source
    scoring: OksScoring
    metrics: Metrics
    matching: Matching
    matches: OksMatches
    interval: tuple[float, float] | None  # of the AP, over resampled images
    precision: np.ndarray | None  # (thresholds, recalls)
    groupings: list[Grouping]
    errors: JointErrors
    corrections: list[Correction]
    person_scores: dict[str, Reliability]
    joint_scores: Reliability
    sigma: SigmaReliability | None
    mistakes: ImageMistakes
    notes: tuple[str, ...]

    @property
    def label(self) -> str:
        """Name of the source in tables and legends."""
        return self.source.label

    @property
    def ap(self) -> float | None:
        """COCO's AP by OKS, also for benchmarks with another headline."""
        return self.matches.average_precision()


def analyse(source: Source) -> Analysis:
    """Score and diagnose; UserError where results and annotations do not fit each other."""
    file = source.annotations
    if not file.annotations:
        raise UserError(
            f"'{file.path}' has no annotations, so there is nothing to report on; "
            "give a split with ground truth"
        )
    entries = read_entries(source.results, source.max_memory)
    metrics = source.evaluate(entries, file, source.image_ids)
    if source.benchmark.name == "crowdpose":
        file = with_areas(file)
    scoring = OksScoring.prepare(file, entries, source.skeleton, source.image_ids, "hotcoco")

    matching = match(scoring)
    matches = matching.select()
    errors = find_joint_errors(matching, source.skeleton)
    sigmas = np.array(source.skeleton.sigmas)
    return Analysis(
        source=source,
        scoring=scoring,
        metrics=metrics,
        matching=matching,
        matches=matches,
        interval=_interval(matches),
        precision=matches.precision_at_recalls(),
        groupings=all_groupings(matching, _crowd_index(scoring)),
        errors=errors,
        corrections=correct_each_kind(scoring, matching, errors),
        person_scores=person_reliability(matching),
        joint_scores=joint_reliability(matching, sigmas),
        sigma=sigma_reliability(matching),
        mistakes=find_mistakes(matching),
        notes=_notes(source, metrics),
    )


def with_label(source: Source, label: str) -> Source:
    """The source under another name."""
    return replace(source, label=label)


def same_images(analyses: list[Analysis]) -> bool:
    """Whether all were scored on the same images, with as many people each."""
    first = analyses[0]
    return all(
        one.scoring.image_ids == first.scoring.image_ids
        and np.array_equal(one.matches.num_people, first.matches.num_people)
        for one in analyses
    )


def _interval(matches: OksMatches) -> tuple[float, float] | None:
    """95 % interval of the AP by the bootstrap over images; None for a single image."""
    number = len(matches.num_people)
    if number < 2 or not matches.num_people.any():
        return None
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        weights = generator.multinomial(number, np.full(number, 1 / number)).astype(float)
        drawn.append(matches.average_precision(weights))
    known = [value for value in drawn if value is not None]
    low, high = np.percentile(known, QUANTILES)
    return float(low), float(high)


def _crowd_index(scoring: OksScoring) -> np.ndarray | None:
    """(N,) crowdIndex of the scored images; None unless all have one."""
    by_id = {image["id"]: image.get("crowdIndex") for image in scoring.file.images}
    values = [by_id[image_id] for image_id in scoring.image_ids]
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    return np.array(values, dtype=float)


def _notes(source: Source, metrics: Metrics) -> tuple[str, ...]:
    """Sentences to show with the numbers."""
    notes = list(metrics.notes)
    if source.image_ids is not None:
        notes.append(
            f"only the first {len(source.image_ids)} of {len(source.annotations.images)} images "
            "were evaluated"
        )
    stated = source.stated
    if stated is not None and stated.headline in stated.values:
        before = stated.values[stated.headline]
        now = metrics.values.get(metrics.headline)
        if (before is None) != (now is None) or abs((before or 0) - (now or 0)) > SAME:
            notes.append(
                f"metrics.json states {stated.headline} {before}, but the results give {now}: "
                "the results or the annotations have changed since"
            )
    if source.benchmark.name == "mpii":
        notes.append(
            "MPII is scored by PCKh; everything below the table is by OKS, with the sigmas of the "
            "skeleton"
        )
    return tuple(notes)
