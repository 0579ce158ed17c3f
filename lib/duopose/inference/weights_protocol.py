"""A weight file against the settings of a yaml, before a network is built.

A model file of Duopose carries its settings and its skeleton. Some of them decide what the numbers
in the network's maps mean; weights that were made with other values of these give wrong people
without any error, so they are refused. Other differences are reported.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from duopose.config import build_skeleton, config_text, load_config, saved_settings
from duopose.config.differences import acts_on_learning, differences
from duopose.config.load import override_keys
from duopose.errors import UserError
from duopose.inference.model import ModelSettings, read_model_settings
from duopose.network.build import UPSAMPLE
from duopose.network.exported_file import is_exported, read_weight_file
from duopose.network.model_file import weight_file_problem
from duopose.run_folder import RunFolder
from duopose.skeletons import Skeleton, skeleton_to_dict

logger = logging.getLogger(__name__)

DECISIVE_KEYS = ("MODEL.OFFSET_UNIT", "MODEL.UPSAMPLE", "DATASET.HEATMAP_CENTRES")
# Fields of a skeleton on which the order of the maps depends.
DECISIVE_FIELDS = ("keypoints", "parents", "torso", "centre_only")
SKELETON_KEY = "DATASET.SKELETON"
MAX_REPORTED = 8  # differing settings in a notice
MAX_SHOWN = 1000  # characters of a value in a file
DOUBLE_EMBEDDING = "pose_higher_hrnet_de"


def find_weights(cfg: CfgNode, run: RunFolder) -> Path:
    """TEST.MODEL_FILE, else the run's best weights, else its last.

    Raises UserError, naming the paths tried, if there are none.
    """
    if cfg.TEST.MODEL_FILE:
        return Path(cfg.TEST.MODEL_FILE)
    for path in (run.model_best, run.model_final):
        if path.is_file():
            return path
    raise UserError(
        f"there are no weights to evaluate: neither {run.model_best} nor {run.model_final} "
        "exists; train first (tools/dist_train.py with the same --cfg and --name), or name a file "
        "with TEST.MODEL_FILE PATH or --model PATH"
    )


def model_settings(path: Path, config: str, overrides: Sequence[str]) -> ModelSettings:
    """For --model FILE [--cfg YAML]: the file's own settings, or those of the yaml.

    UserError where the weights were made with other decisive settings than the yaml's; other
    differences are logged.
    """
    check_is_weight_file(path, "--model")
    if not config:
        return read_model_settings(path, overrides)
    cfg = load_config(config, overrides)
    skeleton = build_skeleton(cfg)
    for notice in check_weights(cfg, skeleton, path, override_keys(overrides), "--model"):
        logger.warning("notice: %s", notice)
    return ModelSettings(cfg, skeleton)


def check_weights(
    cfg: CfgNode,
    skeleton: Skeleton,
    path: Path,
    explicit_keys: Collection[str],
    source: str,
    for_training: bool = False,
) -> list[str]:
    """Notices about differences between a model file and the settings; UserError for decisive ones.

    explicit_keys: given on the command line; their differences are wanted. source: the setting or
    option that names the file. for_training: weights to start from, where another number of
    keypoints is usual: the heads are then not taken over.
    Weight files of other codebases carry no settings: nothing is compared.
    """
    check_is_weight_file(path, source)
    content = read_weight_file(path)
    text = content.get("config")
    saved_skeleton = content.get("skeleton")
    problems: list[str] = []
    notices: list[str] = []
    if isinstance(saved_skeleton, dict) and saved_skeleton:
        difference = _skeleton_difference(saved_skeleton, skeleton, for_training)
        is_wanted = SKELETON_KEY in explicit_keys
        (notices if is_wanted else problems).extend(difference)

    differing: list[str] = []
    if isinstance(text, str) and text:
        for key, (saved, now) in _differing_settings(cfg, saved_settings(text)).items():
            line = f"{key}: {saved!r} in the file, {now!r} now"
            is_decisive = key in DECISIVE_KEYS and key not in explicit_keys
            (problems if is_decisive else differing).append(line)

    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UserError(
            f"{source}: {path} was made with other settings, and would give wrong people:\n{lines}"
            "\nset them as in the file; to use yours all the same, give the key on the command line"
        )
    if differing:
        more = len(differing) - MAX_REPORTED
        end = f"; {more} more" if more > 0 else ""
        notices.append(f"settings inside {path}: {'; '.join(differing[:MAX_REPORTED])}{end}")
    return notices


def check_is_weight_file(path: Path, source: str) -> None:
    """UserError where the path is a folder, missing, or a file that torch has not written.

    Exported files are known by their suffix, and checked when they are read.
    """
    if path.is_file() and is_exported(path):
        return
    problem = weight_file_problem(path)
    if problem:
        raise UserError(f"{source}: {problem}")


def _skeleton_difference(
    saved: Mapping[str, Any], skeleton: Skeleton, for_training: bool
) -> list[str]:
    """One sentence where the maps of the file are of other joints or in another order."""
    now = skeleton_to_dict(skeleton)
    fields = [name for name in DECISIVE_FIELDS if saved.get(name) != now[name]]
    keypoints = saved.get("keypoints")
    has_other_number = isinstance(keypoints, list) and len(keypoints) != skeleton.num_keypoints
    if not fields or (for_training and has_other_number):
        return []
    name = fields[0]
    in_file = str(saved.get(name))[:MAX_SHOWN]
    return [
        f"{SKELETON_KEY}: {name} {in_file} in the file ('{str(saved.get('name'))[:MAX_SHOWN]}'), "
        f"{now[name]} now ('{skeleton.name}')"
    ]


def _differing_settings(cfg: CfgNode, saved: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> value in the file, value now, of settings that change what a network learns."""
    now = saved_settings(config_text(cfg))
    found = {}
    for key, (old, new) in differences([saved, now]).items():
        if acts_on_learning(key) and _acts_on_network(key, saved, now):
            found[key] = (old, new)

    upsample_key = "MODEL.UPSAMPLE"  # '' stands for a value that depends on MODEL.NAME
    modes = (_upsample(saved), _upsample(now))
    found.pop(upsample_key, None)
    if modes[0] != modes[1] and _acts_on_network(upsample_key, saved, now):
        found[upsample_key] = modes
    return found


def _acts_on_network(key: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a setting has an effect on both networks."""
    if key == "MODEL.OFFSET_UNIT":
        return all(one["MODEL.NAME"] == DOUBLE_EMBEDDING for one in (saved, now))
    if key == "MODEL.UPSAMPLE":
        return all(one["MODEL.BACKBONE"] == "hrnet" for one in (saved, now))
    return True


def _upsample(settings: Mapping[str, Any]) -> str:
    return str(settings["MODEL.UPSAMPLE"] or UPSAMPLE.get(settings["MODEL.NAME"], ""))
