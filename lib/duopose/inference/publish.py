"""A model file to give to others: small, and without the paths of the machine it was trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from duopose.config import config_from_text, config_text, default_config
from duopose.config.build import get_setting
from duopose.errors import UserError
from duopose.network import read_model_file, save_model
from duopose.network.model_file import StateDict
from duopose.skeletons import skeleton_from_dict

# Settings that name places of one machine; they get their defaults.
PLACES = ("OUTPUT_DIR", "LOG_DIR", "MODEL.PRETRAINED", "TEST.MODEL_FILE")
STATISTICS = ("running_mean", "running_var")  # ends of names; stay float32
LARGEST_HALF = 65504.0  # of float16


def publish_model(source: Path, target: Path) -> int:
    """Write `target` from a model file of Duopose; returns its bytes.

    Weights become float16, batch statistics stay float32; on loading all are float32 again.
    Settings, skeleton and calibration are kept. UserError where the target exists or a weight is
    too large for float16.
    """
    if target.exists():
        raise UserError(f"{target} exists; name another file, or remove it first")
    file = read_model_file(source)
    skeleton = skeleton_from_dict(file.skeleton, str(source))

    cfg = config_from_text(file.config, source=str(source), skeleton=skeleton)
    defaults = default_config()
    cfg.defrost()
    for key in PLACES:
        cfg.merge_from_list([key, get_setting(defaults, key)])

    state = half_precision(file.state_dict, source)
    save_model(target, state, config_text(cfg), file.skeleton, file.extra)
    return target.stat().st_size


def half_precision(state: StateDict, path: Path) -> StateDict:
    """The weights in float16; UserError naming one that is out of range. Statistics unchanged."""
    halves = {}
    for name, tensor in state.items():
        is_weight = tensor.is_floating_point() and not name.endswith(STATISTICS)
        if is_weight and tensor.numel() and float(tensor.abs().max()) > LARGEST_HALF:
            raise UserError(f"{path}: weight '{name}' is too large for float16")
        halves[name] = tensor.to(torch.float16) if is_weight else tensor
    return halves
