"""docs/settings.md, written from the declarations of the settings.

python -m duopose.config.settings_page [FILE]     (default: docs/settings.md)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from duopose.config.compat import RENAMED_KEYS
from duopose.config.declaration import INTEGER, Setting
from duopose.config.settings import SECTIONS

INTRODUCTION = """# Settings

<!-- Written by `python -m duopose.config.settings_page` from lib/duopose/config; do not edit. -->

Every key can be set in a yaml (`--cfg FILE.yaml`), or on the command line:

    python tools/dist_train.py --cfg FILE.yaml TRAIN.LR 0.001 TEST.FLIP_TEST False

The command line overrides the yaml, the yaml overrides the defaults. Wrong keys and values are
reported together before any data is read. A cell is one cell of a map: 4 or 2 input pixels.

To find the code of a setting, search `lib/` for its name without the section (`LR_STEP`). The
decoder has plain fields in lower case: `TEST.JOINT_THRESHOLD` is `settings.joint_threshold` in
`lib/duopose/decode/`.
"""
TITLES = {
    "": "Run",
    "CUDNN": "CUDNN: kernels on NVIDIA GPUs",
    "FP16": "FP16: mixed precision",
    "MODEL": "MODEL: network",
    "DATASET": "DATASET: data, targets and augmentation",
    "LOSS": "LOSS: loss terms",
    "TRAIN": "TRAIN: training",
    "TEST": "TEST: evaluation and decoder",
    "DEBUG": "DEBUG: extra output",
    "LIMITS": "LIMITS: bounds on files of others",
}


def settings_page() -> str:
    """The whole page as markdown."""
    parts = [INTRODUCTION]
    for name, settings in SECTIONS.items():
        parts.append("\n".join(_table(TITLES[name], settings)))
    parts.append("\n".join(_old_keys()))
    return "\n".join(parts)


def _table(title: str, settings: Sequence[Setting]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| key | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for setting in settings:
        default = "''" if setting.default == "" else f"`{setting.default}`"
        yield _row([f"`{setting.key}`", default, _allowed(setting), setting.doc])
    yield ""


def _old_keys() -> Iterator[str]:
    yield "## Old keys\n"
    yield (
        "These names of earlier versions and of HigherHRNet are still read. `MODEL.EXTRA` of a\n"
        "HigherHRNet yaml is translated to `MODEL.WIDTH`, `MODEL.MODULES` and the other sizes.\n"
    )
    yield "| old | today |"
    yield "|---|---|"
    for old, new in RENAMED_KEYS.items():
        yield _row([f"`{old}`", f"`{new}`"])
    yield ""


def _row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _allowed(setting: Setting) -> str:
    """The check in words, with "whole number" where the default's type alone demands it."""
    is_integer = isinstance(setting.default, int) and not isinstance(setting.default, bool)
    if is_integer and setting.check is not INTEGER:
        return f"whole number, {setting.check.allowed}"
    return setting.check.allowed


def main(arguments: Sequence[str]) -> None:
    """Write the page to the file named, or to docs/settings.md."""
    name = arguments[0] if arguments else "docs/settings.md"
    page = settings_page()
    Path(name).write_text(page)


if __name__ == "__main__":
    main(sys.argv[1:])
