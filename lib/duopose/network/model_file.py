"""Model files: writing Duopose's own, and reading weight files of any origin.

A Duopose model file is a torch file with `state_dict`, `config` (yaml), `skeleton` and `extra`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.network.torch_files import TorchFileError, read_torch_content
from duopose.regular_files import open_regular, reason_of

# Prefixes that wrappers add to names: DataParallel, torch.compile, and the fp16 mode of the public
# HigherHRNet code, Sequential(to_fp16, network).
WRAPPER_PREFIXES = re.compile(r"^(?:(?:module|_orig_mod|1)\.)+")
# The entries in which checkpoints of various codebases keep the weights.
STATE_KEYS = ("state_dict", "model", "best_state_dict", "network", "model_state_dict")

SOURCES = """Sources of weight files, and their usual folders:
  ImageNet HRNet (hrnet_w32-36af842e.pth ...): HigherHRNet's model zoo, models/pytorch/imagenet/
  ImageNet ResNet-50 (resnet50-0676ba61.pth ...): torchvision, models/pytorch/imagenet/
  HigherHRNet (pose_higher_hrnet_w32_512.pth ...): its model zoo, models/pytorch/pose_coco/
  Duopose: a run writes model_best.pth and model_final.pth into its folder below output/"""

# Where a model is looked for that nobody names: the repository, then the installed package.
PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
MODEL_FOLDERS = (PACKAGE_FOLDER.parents[1] / "models", PACKAGE_FOLDER / "models")
DEFAULT_MODEL_PATTERN = "duopose_*.pth"  # the first in the order of names

# A zip of today's torch, a pickle of earlier ones.
TORCH_FILE_STARTS = (b"PK", b"\x80")
MAX_CONFIG_TEXT = 1_000_000  # characters; the settings of a run have 3,000

StateDict = dict[str, torch.Tensor]


class ModelFile(NamedTuple):
    """The content of a Duopose model file."""

    state_dict: StateDict  # names as in the file; `load_weights` translates older ones
    config: str  # the resolved settings, yaml
    skeleton: dict[str, Any]  # as `skeletons.skeleton_from_dict` takes it
    extra: dict[str, Any]


def default_model_file(folders: Sequence[Path] = MODEL_FOLDERS) -> Path:
    """The model that is used where none is named; UserError where there is none."""
    for folder in folders:
        found = sorted(folder.glob(DEFAULT_MODEL_PATTERN))
        if found:
            return found[0]
    looked_for = " and ".join(str(folder / DEFAULT_MODEL_PATTERN) for folder in folders)
    raise UserError(
        f"no model is named, and there is none in models/ (looked for {looked_for}); "
        "name one (--model FILE, duopose.load(FILE)): training writes model_best.pth into its "
        "run folder"
    )


def save_model(
    path: str | Path,
    network_state: Mapping[str, torch.Tensor],
    config_text: str,
    skeleton: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model file for `read_model_file` and `load_weights`, atomically.

    extra: plain numbers, strings, lists and dicts (epoch, AP ...).
    Raises UserError if the file cannot be written; an existing file is then unchanged.
    """
    state = {}
    for name, tensor in network_state.items():
        state[WRAPPER_PREFIXES.sub("", name)] = tensor.detach().cpu().contiguous()

    content = {
        "state_dict": state,
        "config": config_text,
        "skeleton": dict(skeleton),
        "extra": dict(extra or {}),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)

    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        raise UserError(
            f"the model file {path} could not be written ({error}); "
            "if it existed before, it is unchanged"
        ) from error


def read_model_file(path: str | Path) -> ModelFile:
    """Weights, settings and skeleton of a Duopose model file; UserError if it is not one."""
    content = read_torch_file(path)

    missing = [key for key in ("state_dict", "config", "skeleton") if key not in content]
    if missing:
        raise UserError(
            f"{path} is not a Duopose model file: it has no {', '.join(missing)}; "
            f"name the settings yourself (--cfg FILE.yaml TEST.MODEL_FILE {path})"
        )

    state = content["state_dict"]
    skeleton = content["skeleton"]
    extra = content.get("extra", {})
    config = content["config"]
    _check_entries(path, {"state_dict": state, "skeleton": skeleton, "extra": extra})
    if not isinstance(config, str) or len(config) > MAX_CONFIG_TEXT:
        raise UserError(
            f"{path}: 'config' is no yaml text of at most {MAX_CONFIG_TEXT} characters; the file "
            "is damaged or not from Duopose"
        )
    return ModelFile(find_state_dict(state, path), config, skeleton, extra)


def _check_entries(path: str | Path, entries: Mapping[str, Any]) -> None:
    """UserError where one of these entries of a model file is no dictionary with texts as keys."""
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            raise UserError(
                f"{path}: '{name}' is no dictionary with names as keys; the file is damaged or "
                "not from Duopose"
            )


def read_torch_file(path: str | Path) -> dict[str, Any]:
    """The dictionary in a torch file, on the CPU; no code in it is executed.

    Raises UserError if the file is missing, damaged, or holds other objects than tensors and
    plain values.
    """
    path = Path(path)
    problem = weight_file_problem(path)
    if problem:
        raise UserError(problem)
    try:
        content = read_torch_content(path)
    except TorchFileError as error:
        raise UserError(f"weight file '{path}' {error}") from error

    if not isinstance(content, dict):
        type_name = type(content).__name__
        raise UserError(f"weight file '{path}' holds a {type_name}, not a dictionary of tensors")
    return content


def weight_file_problem(path: Path) -> str:
    """Why the path cannot be a file that torch has written, '' where it can be one."""
    if path.is_dir():
        names = ("model_best.pth", "model_final.pth")
        found = [path / name for name in names if (path / name).is_file()]
        example = found[0] if found else path / names[0]
        return f"'{path}' is a folder; give the weight file in it, e.g. {example}"
    if not path.exists():
        return f"weight file '{path}' does not exist (looked for {path.absolute()}).\n{SOURCES}"
    try:
        with open_regular(path) as file:
            start = file.read(2)
    except OSError as error:
        return f"weight file '{path}' cannot be read ({reason_of(error)})"
    if start.startswith(TORCH_FILE_STARTS):
        return ""
    content = f"it begins with {start!r}" if start else "it is empty"
    return (
        f"'{path}' is not a weight file of torch ({content}); give the model_best.pth that "
        "tools/dist_train.py writes, or another .pth file"
    )


def find_state_dict(content: Mapping[str, Any], path: str | Path) -> StateDict:
    """The weights in a file's dictionary: the dictionary itself or one of its `STATE_KEYS`.

    Prefixes of wrappers are removed. `path` is for the UserError if there are no weights.
    """
    entries = [content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)]
    for candidate in (content, *entries):
        all_tensors = all(isinstance(value, torch.Tensor) for value in candidate.values())
        if candidate and all_tensors:
            return _without_prefixes(candidate, path)

    first_entries = ", ".join(str(name)[:60] for name in list(content)[:8])
    raise UserError(
        f"weight file '{path}' holds no weights: neither it nor one of its entries "
        f"{', '.join(STATE_KEYS)} is a dictionary of tensors; its entries are {first_entries}"
    )


def _without_prefixes(state: Mapping[Any, torch.Tensor], path: str | Path) -> StateDict:
    renamed: StateDict = {}
    for name, tensor in state.items():
        new_name = WRAPPER_PREFIXES.sub("", str(name))
        if new_name in renamed:
            raise UserError(
                f"weight file '{path}' holds '{new_name}' twice, with and without the prefix of a "
                "wrapper; it is not known which one is meant"
            )
        renamed[new_name] = tensor
    return renamed
