"""Checks of the merged settings, before any data is opened. Each problem names key, value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from yacs.config import CfgNode

from duopose.config.merge import get
from duopose.errors import UserError
from duopose.skeletons import SKELETONS, get_skeleton

CHOICES: dict[str, tuple[str, ...]] = {
    "DEVICE": ("auto", "cpu", "cuda", "mps"),
    "FP16.DTYPE": ("fp16", "bf16"),
    "MODEL.UPSAMPLE": ("", "nearest", "bilinear"),
    "MODEL.NAME": ("pose_higher_hrnet_de", "pose_higher_hrnet"),
    "DATASET.DATASET": ("coco", "crowdpose", "mpii"),
    "DATASET.DATA_FORMAT": ("jpg", "zip"),
    "DATASET.HEATMAP_CENTRES": ("subpixel", "rounded"),
    "DATASET.SCALE_TYPE": ("short", "long"),
    "LOSS.AE_LOSS_TYPE": ("exp", "max"),
    "LOSS.OFFSETS_AREA": ("windows", "map"),
    "TRAIN.OPTIMIZER": ("adam", "adamw", "sgd"),
    "TRAIN.LR_SCHEDULE": ("step", "cosine"),
    "TEST.EVALUATOR": ("hotcoco", "pycocotools"),
    "TEST.MPII_REGION": ("groups", "images"),
    "TEST.PRESET": ("leaderboard", "clean"),
    "TEST.PROTOCOL": ("", "single", "flip", "multiscale"),
    "TEST.MRM": ("off", "paper", "precision"),
}

Check = tuple[Callable[[Any], bool], str]
POSITIVE: Check = (lambda v: v > 0, "greater than 0")
NOT_NEGATIVE: Check = (lambda v: v >= 0, "0 or more")
SHARE: Check = (lambda v: 0 <= v <= 1, "from 0 to 1")
BELOW_ONE: Check = (lambda v: 0 <= v < 1, "from 0 to below 1")
ODD: Check = (lambda v: v > 0 and v % 2 == 1, "an odd number of cells")
POSITIVE_LIST: Check = (
    lambda v: len(v) > 0 and all(x > 0 for x in v),
    "a list of at least one positive number",
)
TWO_STRIDES: Check = (
    lambda v: len(v) == 2 and all(x >= 0 for x in v),
    "two numbers, 0 or more: for stride 4 and stride 2",
)

RANGES: dict[str, Check] = {
    "GPUS": POSITIVE,
    "WORKERS": NOT_NEGATIVE,
    "THREADS": NOT_NEGATIVE,
    "PRINT_FREQ": POSITIVE,
    "FP16.STATIC_LOSS_SCALE": POSITIVE,
    "MODEL.WIDTH": POSITIVE,
    "MODEL.BLOCKS": POSITIVE,
    "MODEL.STEM_CHANNELS": POSITIVE,
    "MODEL.DECONV_CHANNELS": NOT_NEGATIVE,
    "MODEL.DECONV_BLOCKS": NOT_NEGATIVE,
    "MODEL.HEAD_BLOCKS": NOT_NEGATIVE,
    "MODEL.OFFSET_UNIT": POSITIVE,
    "DATASET.LIMIT": NOT_NEGATIVE,
    "DATASET.MAX_NUM_PEOPLE": POSITIVE,
    "DATASET.INPUT_SIZE": (
        lambda v: v > 0 and v % 32 == 0,
        "a multiple of 32 (HRNet halves its maps five times)",
    ),
    "DATASET.SIGMA": POSITIVE,
    "DATASET.OFFSET_RADIUS": NOT_NEGATIVE,
    "DATASET.MAX_ROTATION": NOT_NEGATIVE,
    "DATASET.MIN_SCALE": POSITIVE,
    "DATASET.MAX_SCALE": POSITIVE,
    "DATASET.MAX_TRANSLATE": NOT_NEGATIVE,
    "DATASET.FLIP": SHARE,
    "LOSS.HEATMAPS_LOSS_FACTOR": TWO_STRIDES,
    "LOSS.OFFSETS_LOSS_FACTOR": TWO_STRIDES,
    "LOSS.CENTER_WEIGHT": NOT_NEGATIVE,
    "LOSS.FOREGROUND_WEIGHT": NOT_NEGATIVE,
    "LOSS.PUSH_LOSS_FACTOR": NOT_NEGATIVE,
    "LOSS.PULL_LOSS_FACTOR": NOT_NEGATIVE,
    "LOSS.OFFSETS_BETA": POSITIVE,
    "TRAIN.IMAGES_PER_GPU": POSITIVE,
    "TRAIN.TOTAL_BATCH": NOT_NEGATIVE,
    "TRAIN.BEGIN_EPOCH": NOT_NEGATIVE,
    "TRAIN.END_EPOCH": NOT_NEGATIVE,
    "TRAIN.VAL_EVERY": NOT_NEGATIVE,
    "TRAIN.LR": POSITIVE,
    "TRAIN.LR_FACTOR": NOT_NEGATIVE,
    "TRAIN.WARMUP": NOT_NEGATIVE,
    "TRAIN.WD": NOT_NEGATIVE,
    "TRAIN.MOMENTUM": BELOW_ONE,
    "TRAIN.ACCUMULATE": POSITIVE,
    "TRAIN.CLIP_GRAD_NORM": NOT_NEGATIVE,
    "TRAIN.EMA": BELOW_ONE,
    "TRAIN.CHECKPOINT_EVERY": NOT_NEGATIVE,
    "TEST.IMAGES_PER_GPU": POSITIVE,
    "TEST.SCALE_FACTOR": POSITIVE_LIST,
    "TEST.MAX_PEOPLE": POSITIVE,
    "TEST.NMS_KERNEL": ODD,
    "TEST.NMS_KERNEL_CENTER": ODD,
    "TEST.DETECTION_THRESHOLD": NOT_NEGATIVE,
    "TEST.TAG_THRESHOLD": POSITIVE,
    "TEST.PERSON_THRESHOLD": NOT_NEGATIVE,
    "TEST.PEAK_SIGMA": NOT_NEGATIVE,
    "TEST.TAG_SIGMA": POSITIVE,
    "TEST.OFFSET_SIGMA": POSITIVE,
    "TEST.OFFSET_SIGMA_RELATIVE": NOT_NEGATIVE,
    "TEST.OUTLIERS": (lambda v: 0 < v < 1, "between 0 and 1"),
    "TEST.SECONDARY_PENALTY": NOT_NEGATIVE,
    "TEST.START_THRESHOLD": NOT_NEGATIVE,
    "TEST.SWEEPS": POSITIVE,
    "TEST.FILL_RADIUS": NOT_NEGATIVE,
    "TEST.FILL_WORTH": SHARE,
    "TEST.DUPLICATE_WORTH": SHARE,
    "DEBUG.SAVE_PREDICTIONS": NOT_NEGATIVE,
}


def validate(cfg: CfgNode) -> list[str]:
    """One sentence per setting whose value cannot work; an empty list when all is well."""
    return [*_not_finite(cfg), *_wrong_choices(cfg), *_out_of_range(cfg), *_contradictions(cfg)]


def skeleton_name(cfg: CfgNode) -> str:
    """What DATASET.SKELETON says, or the skeleton of DATASET.DATASET where it is empty."""
    return str(cfg.DATASET.SKELETON or cfg.DATASET.DATASET)


def _wrong_choices(cfg: CfgNode) -> Iterator[str]:
    for key, allowed in CHOICES.items():
        value = get(cfg, key)
        if value not in allowed:
            yield f"{key}: {value!r} is not allowed; use {' | '.join(repr(a) for a in allowed)}"


def _not_finite(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _not_finite(value, f"{prefix}{name}.")
        elif any(
            isinstance(v, float) and not math.isfinite(v)
            for v in (value if isinstance(value, list) else [value])
        ):
            yield f"{prefix}{name}: {value} is not a finite number"


def _out_of_range(cfg: CfgNode) -> Iterator[str]:
    for key, (fits, allowed) in RANGES.items():
        value = get(cfg, key)
        if not fits(value):
            yield f"{key}: {value} is not allowed; it must be {allowed}"


def _contradictions(cfg: CfgNode) -> Iterator[str]:
    """Settings that are right alone and wrong together."""
    if cfg.DATASET.MIN_SCALE > cfg.DATASET.MAX_SCALE:
        yield f"DATASET.MIN_SCALE: {cfg.DATASET.MIN_SCALE} is larger than DATASET.MAX_SCALE {cfg.DATASET.MAX_SCALE}"
    if cfg.TRAIN.BEGIN_EPOCH > cfg.TRAIN.END_EPOCH:
        yield f"TRAIN.BEGIN_EPOCH: {cfg.TRAIN.BEGIN_EPOCH} is after TRAIN.END_EPOCH {cfg.TRAIN.END_EPOCH}"
    if len(cfg.MODEL.MODULES) != 3 or any(n < 1 for n in cfg.MODEL.MODULES):
        yield f"MODEL.MODULES: {cfg.MODEL.MODULES} must be three positive numbers, for stages 2, 3 and 4"
    if cfg.MODEL.NAME == "pose_higher_hrnet_de" and cfg.MODEL.WIDTH % 4:
        yield f"MODEL.WIDTH: {cfg.MODEL.WIDTH} must be a multiple of 4, for the bottlenecks of Double Embedding's heads"
    if cfg.MODEL.REVERSE_OFFSETS and cfg.MODEL.NAME == "pose_higher_hrnet":
        yield "MODEL.REVERSE_OFFSETS: the baseline pose_higher_hrnet has no offset maps; use MODEL.NAME pose_higher_hrnet_de"
    name = skeleton_name(cfg)
    try:
        get_skeleton(name)
    except UserError as error:
        yield f"DATASET.SKELETON: {error}"
    if cfg.DATASET.DATASET != "coco" and name in SKELETONS and name != cfg.DATASET.DATASET:
        yield f"DATASET.SKELETON: '{name}' cannot be scored by the benchmark DATASET.DATASET '{cfg.DATASET.DATASET}'"
