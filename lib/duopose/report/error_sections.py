"""Sections of the report: errors of joints, their costs, calibration, training."""

from __future__ import annotations

import numpy as np

from duopose.evaluate.metrics import format_number
from duopose.report import error_charts, score_charts
from duopose.report.analysis import Analysis
from duopose.report.elements import (
    Html,
    details,
    element,
    figure,
    heading,
    joined,
    paragraph,
    section,
    table,
    text,
)
from duopose.report.joint_errors import KINDS, detection_rate
from duopose.report.reliability import COVERAGES

RONCHI = (
    "M. R. Ronchi and P. Perona, Benchmarking and Error Diagnosis in Multi-Instance Pose "
    "Estimation, ICCV 2017"
)


def joint_errors(analyses: list[Analysis]) -> Html:
    """Kinds of error by joint, and what they cost."""
    definitions = element(
        "ul",
        joined(
            element("li", text(line))
            for line in (
                "good: keypoint similarity (the term of one joint in the OKS) of at least .85 to "
                "the true joint",
                "jitter: from .50 to .85",
                "inversion: below that, and at least .50 to the mirror joint of the same person",
                "swap: at least .50 to the joint, or its mirror joint, of another person",
                "miss: near none of them",
                "no position: the person was found without this joint; no person: nobody was "
                "found at OKS .10",
            )
        ),
    )
    caption = (
        f"All labelled joints by what happened to them. Definitions: {RONCHI}, section 3; the last "
        "two kinds are ours."
    )
    tables = [_joint_table(one) for one in analyses]
    return section(
        "joints",
        "Errors of joints",
        [
            _shares_table(analyses),
            figure(error_charts.joint_bars(analyses), caption),
            details("Numbers of each joint", joined(tables)),
            details("Definitions", definitions),
        ],
    )


def _shares_table(analyses: list[Analysis]) -> Html:
    rows = []
    for one in analyses:
        shares = one.errors.shares_of_all()
        count = int(one.errors.labelled().sum())
        rows.append([one.label, count, *_percent([float(detection_rate(shares)), *shares])])
    header = ["", "labelled joints", "detection rate", *KINDS]
    remark = "In % of the labelled joints. Detection rate: joints of found people with a position."
    return joined([table(header, rows), paragraph(remark, "faint")])


def _joint_table(analysis: Analysis) -> Html:
    shares = analysis.errors.shares()
    labelled = analysis.errors.labelled()
    rates = detection_rate(shares)
    rows = [
        [name, labelled[joint], *_percent([rates[joint], *shares[joint]])]
        for joint, name in enumerate(analysis.source.skeleton.keypoints)
    ]
    header = ["", "labelled", "detection rate", *KINDS]
    return joined([heading(3, analysis.label), table(header, rows)])


def _percent(values: list[float]) -> list[str]:
    return ["n/a" if np.isnan(value) else f"{100 * value:.1f}" for value in values]


def costs(analyses: list[Analysis]) -> Html:
    """AP after the correction of each kind of error."""
    caption = (
        "AP gained if all errors of a kind are corrected and everything else stays. Joints are "
        "moved towards the truth until their similarity is .85 (jitter), .50 (miss, no position) "
        f"or that to the wrong part (inversion, swap), as in {RONCHI}. False people are removed, "
        "missed people no longer count; order of scores: each detection gets its OKS as score. "
        "Gains do not add up."
    )
    header = ["", "AP"]
    header += [correction.name for correction in analyses[0].corrections]
    rows = []
    for one in analyses:
        after = [format_number(correction.ap) for correction in one.corrections]
        rows.append([one.label, format_number(one.ap), *after])
    return section(
        "costs",
        "What each kind of error costs",
        [
            figure(score_charts.costs(analyses), caption),
            details("AP after each correction", table(header, rows)),
        ],
    )


def calibration(analyses: list[Analysis]) -> Html:
    """Reliability of scores and of stated standard deviations."""
    parts = []
    if all(len(one.matching.detections.score) for one in analyses):
        caption = (
            "Of detections with a score, the mean OKS, the fraction that matches a person at OKS "
            ".50, and of joints of matched people the fraction close to the truth (similarity at "
            "least .50). Bins with fewer than 10 are not drawn. ECE: expected calibration error "
            "(Guo et al., ICML 2017), over all bins."
        )
        if len(analyses) == 1:
            caption += " Grey bars: the part of all scores in the bin."
        parts.append(figure(error_charts.score_reliability(analyses), caption))
    remarks = [sentence for one in analyses for sentence in _remarks_on_scores(one)]
    parts += [paragraph(remark, "faint") for remark in remarks]
    return section("calibration", "Calibration", [*parts, _sigma_part(analyses)])


def _remarks_on_scores(analysis: Analysis) -> list[str]:
    """Why a source has no diagram or no error of one."""
    remarks = []
    reliabilities = [*analysis.person_scores.values(), analysis.joint_scores]
    if any(one.error is None and len(one.count) for one in reliabilities):
        remarks.append(
            f"{analysis.label}: scores outside 0 .. 1 are no probabilities, so there are bins of "
            "equal size and no ECE."
        )
    if not analysis.joint_scores.varies:
        remarks.append(f"{analysis.label}: the scores of joints are all the same, so not drawn.")
    return remarks


def _sigma_part(analyses: list[Analysis]) -> Html:
    if not any(one.sigma for one in analyses):
        return paragraph(
            "The results state no standard deviations of positions (they do after "
            "tools/calibrate.py and a new evaluation), so there is no calibration of uncertainty.",
            "faint",
        )
    rows = []
    for one in analyses:
        if one.sigma is None:
            continue
        within = [f"{100 * fraction:.1f}" for fraction in one.sigma.coverage]
        ratio = one.sigma.observed / one.sigma.stated
        rows.append(
            [
                one.label,
                one.sigma.joints,
                f"{ratio.min():.2f} to {ratio.max():.2f}",
                f"{one.sigma.rank_correlation:.2f}",
                *within,
            ]
        )
    header = ["", "joints", "observed : stated, by bin", "rank correlation"]
    header += [f"inside the {100 * fraction:g} % circle, %" for fraction in COVERAGES]
    caption = (
        "Root mean square of the errors of x and y against the stated standard deviation, in bins "
        "of equal size. Joints more than 0.2 person sizes (roots of the area) away are left out: "
        "the standard deviation does not cover joints of other people."
    )
    return joined(
        [
            heading(3, "Uncertainty of positions"),
            figure(error_charts.sigma_reliability(analyses), caption),
            table(header, rows),
        ]
    )


def training(analyses: list[Analysis]) -> Html:
    """Curves of the runs that have a log."""
    parts = []
    for one in analyses:
        drawing = error_charts.training_curves(one)
        if drawing and len(analyses) > 1:
            parts.append(heading(3, one.label))
        parts.append(figure(drawing, f"From {one.source.training_log}"))
    return section("training", "Training", parts)
