"""Reading weight files of any origin, and writing our own, which carry all that is needed to use them."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from duopose.errors import UserError
from duopose.files import write_atomically

# Wrappers leave their mark on names: DataParallel, torch.compile, and the family's fp16 mode (Sequential(to_fp16, network)).
WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|1)\.)+")
STATE_KEYS = (
    "state_dict",
    "model",
    "best_state_dict",
    "network",
    "model_state_dict",
)  # where checkpoints keep the weights

SOURCES = """Where such files come from, and where they are put by convention:
  ImageNet HRNet (hrnet_w32-36af842e.pth ...): the model zoo of HigherHRNet-Human-Pose-Estimation -> models/pytorch/imagenet/
  HigherHRNet (pose_higher_hrnet_w32_512.pth ...): the same zoo -> models/pytorch/pose_coco/
  Duopose: a run writes model_best.pth and model_final.pth into its folder below output/"""


class ModelFile(NamedTuple):
    """What a model file of ours holds."""

    state_dict: dict[str, torch.Tensor]
    config: str  # the resolved configuration, yaml
    skeleton: dict[str, Any]  # as `skeletons.skeleton_from_dict` takes it
    extra: dict[str, Any]


def save_model(
    path: str | Path,
    network_state: Mapping[str, torch.Tensor],
    config_text: str,
    skeleton: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file that `read_model_file` and `load_weights` understand; a reader sees the old file or the whole new one.

    `extra` may hold plain numbers, strings, lists and dicts (epoch, AP ...). Raises UserError when it cannot be written.
    """
    state = {
        WRAPPERS.sub("", name): tensor.detach().cpu().contiguous()
        for name, tensor in network_state.items()
    }
    content = {
        "state_dict": state,
        "config": config_text,
        "skeleton": dict(skeleton),
        "extra": dict(extra or {}),
    }
    buffer = io.BytesIO()  # torch's own file writer reports a full disk less clearly
    torch.save(content, buffer)
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        raise UserError(
            f"the model file {path} could not be written ({error}); what was there before is unharmed"
        ) from error


def read_model_file(path: str | Path) -> ModelFile:
    """The weights, configuration and skeleton of a model file of ours; UserError where the file is not one."""
    content = read_file(path)
    lacking = [key for key in ("state_dict", "config", "skeleton") if key not in content]
    if lacking:
        raise UserError(
            f"{path} is no Duopose model file: it has no {', '.join(lacking)}; "
            f"name the configuration yourself (--cfg FILE.yaml TEST.MODEL_FILE {path})"
        )
    return ModelFile(
        content["state_dict"], content["config"], content["skeleton"], content.get("extra", {})
    )


def read_file(path: str | Path) -> dict[str, Any]:
    """The dictionary in a torch file, on the CPU, nothing in it executed; UserError where that is impossible."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"weight file '{path}' does not exist (looked for {path.absolute()}).\n{SOURCES}"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weight file '{path}' holds something else than tensors and plain values, or is damaged; such a file can execute code "
            f"and is not loaded. Save its tensors alone where you trust it. ({_first_line(error)})"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"weight file '{path}' cannot be read; is it complete? ({_first_line(error)})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"weight file '{path}' holds a {type(content).__name__}, not a dictionary of tensors"
        )
    return content


def find_state(content: Mapping[str, Any], where: str | Path) -> dict[str, torch.Tensor]:
    """The weights in a file's dictionary, whether it is the state dict itself or a checkpoint; wrappers' prefixes removed."""
    candidates = [
        content,
        *(content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)),
    ]
    for candidate in candidates:
        if candidate and all(isinstance(value, torch.Tensor) for value in candidate.values()):
            return {WRAPPERS.sub("", str(name)): tensor for name, tensor in candidate.items()}
    raise UserError(
        f"weight file '{where}' holds no weights: neither it nor one of its entries {', '.join(STATE_KEYS)} is a dictionary of tensors; "
        f"its entries are {', '.join(map(str, list(content)[:8]))}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
