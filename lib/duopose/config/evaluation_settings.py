"""The TEST and DEBUG settings: weights and protocol of an evaluation, and the decoder.

A setting with `field` is passed to the decoder under that name (decode/decoder_settings.py).
Grouping adds log-likelihood ratios, "same person" against "unrelated"; docs/decoder.md has the
formulas.
"""

from __future__ import annotations

from duopose.config.declaration import (
    FRACTION,
    NOT_NEGATIVE,
    NUMBER,
    ODD,
    POSITIVE,
    POSITIVE_NUMBERS,
    PROBABILITY,
    SWITCH,
    TEXT,
    Setting,
    one_of,
    whole_number,
)

TEST = (
    Setting(
        "TEST.MODEL_FILE",
        "",
        TEXT,
        "Weight file to evaluate. '': model_best.pth of the run folder, else model_final.pth.",
    ),
    Setting(
        "TEST.IMAGES_PER_GPU",
        8,
        whole_number(1, 100_000),
        "Images of one input size that a GPU computes together, with the flip test twice as many; "
        "a CPU computes one at a time.",
    ),
    Setting(
        "TEST.PROTOCOL",
        "",
        one_of("", "single", "flip", "multiscale"),
        "single: scale 1. flip: scale 1 with flip test. multiscale: scales 0.5, 1 and 2 with flip "
        "test. '': as FLIP_TEST and SCALE_FACTOR state.",
    ),
    Setting("TEST.FLIP_TEST", True, SWITCH, "Average with the outputs of the mirrored image."),
    Setting("TEST.SCALE_FACTOR", [1.0], POSITIVE_NUMBERS, "Test scales."),
    Setting(
        "TEST.EVALUATOR",
        "hotcoco",
        one_of("hotcoco", "pycocotools"),
        "Program for COCO and CrowdPose metrics; same numbers, pycocotools is slower.",
    ),
    Setting(
        "TEST.PCK",
        0.0,
        NOT_NEGATIVE,
        "Also report PCK at this many torso diagonals, for example 0.2 (coco, own skeletons with "
        "shoulders and hips). 0: not.",
    ),
    Setting(
        "TEST.MPII_REGION",
        "groups",
        one_of("groups", "images"),
        "MPII: what is scored. groups: each of the benchmark's groups of people. images: whole "
        "images.",
    ),
    Setting(
        "TEST.PRESET",
        "leaderboard",
        one_of("leaderboard", "clean"),
        "leaderboard: everything that raises AP. clean: FILL off, people below PERSON_THRESHOLD "
        "and duplicates dropped.",
    ),
    Setting(
        "TEST.CALIBRATION",
        "auto",
        one_of("auto", "off"),
        "auto: the values that a calibration put into the model file (docs/calibration.md) replace "
        "the settings that it fits. off: all settings as given.",
    ),
    Setting(
        "TEST.LIMB_PRIOR",
        True,
        SWITCH,
        "Use the plausible lengths of limbs of a calibrated model, in grouping and filling.",
        field="limb_prior",
    ),
    Setting(
        "TEST.MAX_PEOPLE",
        100,
        whole_number(1, 10_000),
        "People per image at most. Per keypoint twice as many peaks are used.",
        field="max_people",
    ),
    Setting(
        "TEST.NMS_KERNEL",
        5,
        ODD,
        "Non-maximum suppression: side of the square, in map cells, in which a keypoint peak is "
        "the largest value.",
        field="nms_kernel",
    ),
    Setting(
        "TEST.NMS_KERNEL_CENTER",
        7,
        ODD,
        "The same for peaks of the person centre.",
        field="nms_kernel_centre",
    ),
    Setting(
        "TEST.DETECTION_THRESHOLD",
        0.1,
        NOT_NEGATIVE,
        "Smallest heatmap value of a peak.",
        field="detection_threshold",
    ),
    Setting(
        "TEST.TAG_THRESHOLD",
        1.0,
        POSITIVE,
        "Baseline only: tags that differ by more belong to different people.",
        field="tag_threshold",
    ),
    Setting(
        "TEST.PERSON_THRESHOLD",
        0.2,
        FRACTION,
        "People with a lower score are not drawn, and dropped if PRESET is clean.",
        field="person_threshold",
    ),
    Setting(
        "TEST.SUBPIXEL",
        True,
        SWITCH,
        "Sub-pixel position of a peak from the heatmap values round it.",
        field="subpixel",
    ),
    Setting(
        "TEST.FILL",
        True,
        SWITCH,
        "Fill in the joints of a person that grouping did not find.",
        field="fill",
    ),
    Setting(
        "TEST.MRM",
        "precision",
        one_of("off", "paper", "precision"),
        "Mutual Refine Machine. paper: the published formula. precision: votes weighted by their "
        "inverse variance.",
        field="mrm",
    ),
    Setting(
        "TEST.PEAK_SIGMA",
        0.1,
        NOT_NEGATIVE,
        "MRM: standard deviation of a peak of score 0, in person sizes; it falls linearly to 0 at "
        "score 1.",
        field="peak_sigma",
    ),
    Setting(
        "TEST.TAG_SIGMA",
        0.3,
        POSITIVE,
        "Grouping: standard deviation of the tags of one person.",
        field="tag_sigma",
    ),
    Setting(
        "TEST.OFFSET_SIGMA",
        4.0,
        POSITIVE,
        "Grouping and MRM: standard deviation of an offset in input pixels.",
        field="offset_sigma",
    ),
    Setting(
        "TEST.OFFSET_SIGMA_RELATIVE",
        0.12,
        NOT_NEGATIVE,
        "Grouping: standard deviation of an offset as a fraction of the joint's longest offset; "
        "added to OFFSET_SIGMA in quadrature.",
        field="offset_sigma_relative",
    ),
    Setting(
        "TEST.OUTLIER_PROBABILITY",
        0.02,
        PROBABILITY,
        "Grouping: probability that a tag or offset is wrong. Its logarithm is the least that one "
        "tag or offset contributes to the log-likelihood ratio.",
        field="outlier_probability",
    ),
    Setting(
        "TEST.JOINT_THRESHOLD",
        -3.0,
        NUMBER,
        "Grouping: smallest log-likelihood ratio at which a peak joins a person.",
        field="joint_threshold",
    ),
    Setting(
        "TEST.NMS_SUPPRESSED_PENALTY",
        1.0,
        NOT_NEGATIVE,
        "Grouping: subtracted from the log-likelihood ratio of a local maximum that has a higher "
        "one within NMS_KERNEL.",
        field="nms_suppressed_penalty",
    ),
    Setting(
        "TEST.CONFIDENT_SCORE",
        0.25,
        POSITIVE,
        "Grouping and filling: peaks with a lower score are less likely to be a joint; see "
        "SCORE_WEIGHT.",
        field="confident_score",
    ),
    Setting(
        "TEST.SCORE_WEIGHT",
        6.0,
        NUMBER,
        "A peak with score < CONFIDENT_SCORE has SCORE_WEIGHT * log(score / CONFIDENT_SCORE) "
        "added to its log-likelihood ratio.",
        field="score_weight",
    ),
    Setting(
        "TEST.START_THRESHOLD",
        0.25,
        NOT_NEGATIVE,
        "Grouping: smallest score of a peak that starts a person without a centre peak.",
        field="start_threshold",
    ),
    Setting(
        "TEST.MAX_ITERATIONS",
        3,
        whole_number(1, 1000),
        "Grouping: iterations of the assignment at most; it stops when nothing changes.",
        field="max_iterations",
    ),
    Setting(
        "TEST.FILL_RADIUS",
        1,
        whole_number(0, 50),
        "Filling: radius, in tag map cells, round a peak in which the tag of a second person is "
        "looked for.",
        field="fill_radius",
    ),
    Setting(
        "TEST.FILL_THRESHOLD",
        -5.0,
        NUMBER,
        "Filling: smallest log-likelihood ratio at which a peak, also one of another person, "
        "fills a missing joint.",
        field="fill_threshold",
    ),
    Setting(
        "TEST.FILLED_SCORE_WEIGHT",
        0.0,
        FRACTION,
        "Weight of the score of a filled joint in the score of the person.",
        field="filled_score_weight",
    ),
    Setting(
        "TEST.DUPLICATE_SCORE_FACTOR",
        0.1,
        FRACTION,
        "Factor on the score of a person at the position of a better one. 0: dropped.",
        field="duplicate_score_factor",
    ),
    Setting("TEST.LOG_PROGRESS", True, SWITCH, "Progress bar of an evaluation."),
)

DEBUG = (
    Setting(
        "DEBUG.SAVE_PREDICTIONS",
        0,
        NOT_NEGATIVE,
        "Number of test images that are drawn, into results/images/: the people found with their "
        "scores, beside the annotated ones.",
    ),
    Setting(
        "DEBUG.DRAW",
        "first",
        one_of("first", "worst", "random"),
        "Which images `SAVE_PREDICTIONS` draws: the first ones, those with most mistakes (into "
        "results/images_worst/, file names begin with the rank), or random ones by `SEED` (into "
        "results/images_random/).",
    ),
    Setting(
        "DEBUG.GRADIENT_NORMS",
        False,
        SWITCH,
        "Log, at every log line of a training, how much each loss term pulls at the features that "
        "all heads share, and whether against the heatmaps (metrics.csv, TensorBoard).",
    ),
)
