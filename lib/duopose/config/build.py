"""What the settings alone determine: the skeleton, and the plain values of the decoder."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from duopose.config.settings import SETTINGS
from duopose.skeletons import Skeleton, get_skeleton
from duopose.types import STRIDES


def get_setting(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key, e.g. "TRAIN.LR"."""
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def skeleton_name(cfg: CfgNode) -> str:
    """DATASET.SKELETON (a name or the path of a yaml), or DATASET.DATASET where it is empty."""
    return str(cfg.DATASET.SKELETON or cfg.DATASET.DATASET)


def build_skeleton(cfg: CfgNode) -> Skeleton:
    """The skeleton of `skeleton_name`. UserError where it is unknown or its yaml is wrong."""
    name = skeleton_name(cfg)
    return get_skeleton(name)


def json_memory(cfg: CfgNode) -> int:
    """Bytes that a json file of LIMITS.JSON_GB may need when decoded."""
    return int(cfg.LIMITS.JSON_GB * 2**30)


def offset_strides(cfg: CfgNode) -> tuple[int, ...]:
    """Strides of the offset maps: both, stride 4 without MODEL.FINE_OFFSETS, none: the baseline."""
    if cfg.MODEL.NAME == "pose_higher_hrnet":
        return ()
    return STRIDES if cfg.MODEL.FINE_OFFSETS else STRIDES[:1]


def decoder_values(cfg: CfgNode) -> dict[str, Any]:
    """Field name of decode.DecoderSettings -> value, for every setting declared with `field`."""
    fields = {setting.field: key for key, setting in SETTINGS.items() if setting.field}
    return {field: get_setting(cfg, key) for field, key in fields.items()}
