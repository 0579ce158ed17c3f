"""In which settings runs differ from each other and from the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from duopose.config.load import config_text, flatten
from duopose.config.settings import SETTINGS

ABSENT = "(absent)"  # value of a setting that a file does not have

# Settings without effect on what a network learns: paths, speed, and how results are measured. A
# resumed run may change them.
FREE_SECTIONS = ("TEST.", "DEBUG.", "CUDNN.", "LIMITS.")
FREE_KEYS = {
    "OUTPUT_DIR", "LOG_DIR", "DEVICE", "GPUS", "WORKERS", "THREADS", "DATA_TIMEOUT", "PRINT_FREQ",
    "AUTO_RESUME", "VERBOSE", "DETERMINISTIC", "MODEL.PRETRAINED", "MODEL.CHANNELS_LAST",
    "MODEL.CHECKPOINT_ACTIVATIONS", "DATASET.ROOT", "DATASET.TEST", "DATASET.TEST_ANNOTATIONS",
    "DATASET.TEST_IMAGES", "TRAIN.VAL_EVERY", "TRAIN.CHECKPOINT_EVERY", "TRAIN.COMPILE",
    "TRAIN.FUSED", "TRAIN.TOTAL_BATCH",
}  # fmt: skip


def acts_on_learning(key: str) -> bool:
    """Whether a setting changes what a network learns."""
    return key not in FREE_KEYS and not key.startswith(FREE_SECTIONS)


def differences(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not the same in all runs -> the value of each run.

    runs: settings as {"SECTION.KEY": value}, as of `saved_settings`; in the order of the
    declarations, then unknown keys.
    """
    keys = dict.fromkeys([*SETTINGS, *(key for run in runs for key in run)])
    found = {}
    for key in keys:
        values = [run.get(key, ABSENT) for run in runs]
        if any(value != values[0] for value in values[1:]):
            found[key] = values
    return found


def resolved_text(cfg: CfgNode, comments: Sequence[str] = ()) -> str:
    """For --print-config: comments, what differs from the defaults, and the settings as yaml.

    The text is a yaml that `load_config` reads.
    """
    defaults = {key: setting.default for key, setting in SETTINGS.items()}
    differing = differences([defaults, flatten(cfg)])
    lines = [*comments, f"{len(differing)} of {len(SETTINGS)} settings differ from the defaults:"]
    lines += [
        f"  {key}: {value!r} (default {default!r})" for key, (default, value) in differing.items()
    ]
    commented = "".join(f"# {line}\n" for line in lines)
    return f"{commented}\n{config_text(cfg)}"
