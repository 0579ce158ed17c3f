"""Checks of the merged settings, before any data is opened.

Each problem names its key, the value and what is allowed. The checks of single values stand with
the declarations (`settings.py`); here are finite numbers and settings that contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from yacs.config import CfgNode

from duopose.config.build import get_setting, skeleton_name
from duopose.config.settings import SETTINGS
from duopose.errors import UserError
from duopose.skeletons import Skeleton, get_skeleton


def validate(cfg: CfgNode, skeleton: Skeleton | None = None) -> list[str]:
    """One sentence per setting whose value cannot work; an empty list if all are valid.

    skeleton: the one in use, if it does not come from DATASET.SKELETON.
    """
    return [*_invalid_values(cfg), *_model_problems(cfg), *_data_problems(cfg, skeleton)]


def _invalid_values(cfg: CfgNode) -> Iterator[str]:
    """Values that are not finite or not accepted by the check of their declaration."""
    for key, setting in SETTINGS.items():
        value = get_setting(cfg, key)
        if not _is_finite(value):
            yield f"{key}: {value} is not a finite number"
            continue

        problem = setting.problem(value)
        if problem:
            yield problem


def _is_finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _model_problems(cfg: CfgNode) -> Iterator[str]:
    """Settings of the network and of training that are valid alone and wrong together."""
    model, train = cfg.MODEL, cfg.TRAIN
    if model.NAME == "pose_higher_hrnet_de" and model.WIDTH % 4:
        yield (
            f"MODEL.WIDTH: {model.WIDTH} must be a multiple of 4, for the bottlenecks of Double "
            "Embedding's heads"
        )
    if model.NAME == "pose_higher_hrnet" and model.REVERSE_OFFSETS:
        yield (
            "MODEL.REVERSE_OFFSETS: the baseline pose_higher_hrnet has no offset maps; use "
            "MODEL.NAME pose_higher_hrnet_de"
        )

    if train.BEGIN_EPOCH > train.END_EPOCH and not train.END_STEP:
        yield f"TRAIN.BEGIN_EPOCH: {train.BEGIN_EPOCH} is after TRAIN.END_EPOCH {train.END_EPOCH}"


def _data_problems(cfg: CfgNode, skeleton: Skeleton | None) -> Iterator[str]:
    """Settings of the data set that are valid alone and wrong together, and unknown skeletons."""
    data = cfg.DATASET
    if data.MIN_SCALE > data.MAX_SCALE:
        yield (
            f"DATASET.MIN_SCALE: {data.MIN_SCALE} is larger than DATASET.MAX_SCALE {data.MAX_SCALE}"
        )

    try:
        if skeleton is None:
            get_skeleton(skeleton_name(cfg))
    except UserError as error:
        key = "DATASET.SKELETON" if data.SKELETON else "DATASET.DATASET"
        yield f"{key}: {error}"
