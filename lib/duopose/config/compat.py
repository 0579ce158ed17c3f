"""Keys of HigherHRNet, of public DE and of earlier versions of Duopose, translated to today's.

Five kinds: *renamed* (the value is taken over), MODEL.EXTRA (HRNet described stage by stage; it
becomes MODEL.WIDTH and its like), a static loss scale alone (which switches the dynamic one off),
*derived from the skeleton* (compared with it, then dropped) and *removed* (dropped, because nothing
here reads them). What cannot be translated is a problem.

A yaml and the command line's overrides are translated apart, so that an override in an old key
wins over the yaml's value in the new key. Old and new key in one source must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from duopose.config.settings import SETTINGS
from duopose.errors import UserError
from duopose.skeletons import Skeleton, get_skeleton

DOUBLE_EMBEDDING = "pose_higher_hrnet_de"
DEFAULT_MODULES = SETTINGS["MODEL.MODULES"].default

# Old key -> today's. The first is HigherHRNet's, as are TEST.REFINE and TEST.ADJUST.
RENAMED_KEYS = {
    "TEST.MAX_NUM_PEOPLE": "TEST.MAX_PEOPLE",
    "TEST.REFINE": "TEST.FILL",
    "TEST.ADJUST": "TEST.SUBPIXEL",
    "TEST.SURE_HEIGHT": "TEST.CONFIDENT_SCORE",
    "TEST.HEIGHT_WEIGHT": "TEST.SCORE_WEIGHT",
    "TEST.SECONDARY_PENALTY": "TEST.NMS_SUPPRESSED_PENALTY",
    "TEST.SWEEPS": "TEST.MAX_ITERATIONS",
    "TEST.OUTLIERS": "TEST.OUTLIER_PROBABILITY",
    "TEST.FILL_WORTH": "TEST.FILLED_SCORE_WEIGHT",
    "TEST.DUPLICATE_WORTH": "TEST.DUPLICATE_SCORE_FACTOR",
}
RENAMED_VALUES = {("TEST.MPII_REGION", "pictures"): "images"}

# Keys that nothing here reads; dropping them does not change what the run does.
REMOVED_KEYS = {
    "DATA_DIR", "RANK", "DIST_BACKEND", "MULTIPROCESSING_DISTRIBUTED", "PIN_MEMORY", "NAME",
    "MODEL.NAME1", "MODEL.NAME2", "MODEL.TAG_PER_JOINT",
    "DATASET.DATASET_TEST", "DATASET.OUTPUT_SIZE", "DATASET.BASE_SIZE", "DATASET.BASE_SIGMA",
    "DATASET.SCALE_AWARE_SIGMA", "DATASET.INT_SIGMA", "DATASET.BG_WEIGHT",
    "LOSS.NUM_STAGES", "LOSS.WITH_AE_LOSS", "LOSS.WITH_HEATMAPS_LOSS", "LOSS.WITH_OFFSETS_LOSS",
    "LOSS.TOPK", "LOSS.USE_OHKM", "LOSS.USE_TARGET_WEIGHT", "LOSS.USE_DIFFERENT_JOINTS_WEIGHT",
    "TEST.WITH_HEATMAPS", "TEST.WITH_AE", "TEST.WITH_OFFSETS", "TEST.PROJECT2IMAGE",
    "TEST.NMS_PADDING", "TEST.USE_DETECTION_VAL", "TEST.IGNORE_TOO_MUCH", "TEST.IGNORE_CENTER",
    "TRAIN.GAMMA1", "TRAIN.GAMMA2", "TRAIN.CHECKPOINT", "TRAIN.RESUME",
    "DEBUG.DEBUG", "DEBUG.SAVE_BATCH_IMAGES_GT", "DEBUG.SAVE_BATCH_IMAGES_PRED",
    "DEBUG.SAVE_HEATMAPS_GT", "DEBUG.SAVE_HEATMAPS_PRED", "DEBUG.SAVE_TAGMAPS_PRED",
}  # fmt: skip
SKELETON_KEYS = (
    "NUM_JOINTS", "DATASET.NUM_JOINTS", "MODEL.NUM_JOINTS",
    "RJG_TAG", "DATASET.RJG_TAG", "MODEL.RJG_TAG", "TEST.RJG_TAG",
    "LJG_WITH_HIER", "DATASET.LJG_WITH_HIER", "MODEL.LJG_WITH_HIER", "TEST.LJG_WITH_HIER",
    "LJG_CENTER_ONLY", "DATASET.LJG_CENTER_ONLY", "MODEL.LJG_CENTER_ONLY", "TEST.LJG_CENTER_ONLY",
)  # fmt: skip
WITH_CENTER_KEYS = ("WITH_CENTER", "DATASET.WITH_CENTER", "MODEL.WITH_CENTER", "TEST.WITH_CENTER")

EXTRA = "MODEL.EXTRA."
# Key below MODEL.EXTRA -> today's. [C, 2 C, ...] and a one-element list count as their first value.
EXTRA_KEYS = {
    "STEM_INPLANES": "MODEL.STEM_CHANNELS",
    "STAGE2.NUM_CHANNELS": "MODEL.WIDTH",
    "STAGE3.NUM_CHANNELS": "MODEL.WIDTH",
    "STAGE4.NUM_CHANNELS": "MODEL.WIDTH",
    "DECONV.NUM_CHANNELS": "MODEL.DECONV_CHANNELS",
    "DECONV.NUM_BASIC_BLOCKS": "MODEL.DECONV_BLOCKS",
}
EXTRA_MODULES = ("STAGE2.NUM_MODULES", "STAGE3.NUM_MODULES", "STAGE4.NUM_MODULES")
# Last name of a key below MODEL.EXTRA -> the only value that this project's HRNet has. MODEL.BLOCKS
# is no translation of NUM_BLOCKS, because it changes layer1 too.
EXTRA_FIXED: dict[str, Any] = {
    "BLOCK": "BASIC",
    "FUSE_METHOD": "SUM",
    "NUM_BLOCKS": 4,
    "FINAL_CONV_KERNEL": 1,
    "NUM_DECONVS": 1,
    "KERNEL_SIZE": 4,
    "CAT_OUTPUT": True,
}
EXTRA_IGNORED = {"PRETRAINED_LAYERS", "NUM_BRANCHES"}


def translate(
    file: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Dotted settings of a file and of the command line, merged, in today's keys.

    Returns them and one sentence per old key that contradicts another key or cannot be translated.
    """
    in_file, problems = _translate_source(file, {})
    in_overrides, more = _translate_source(overrides, in_file)
    unknown_extra = [key for key in overrides if key.startswith(EXTRA) and not _is_known(key)]
    problems += more
    problems += [f"{key}: nothing here reads this key; remove it" for key in unknown_extra]

    merged = in_file | in_overrides
    problems += _check_centre(merged)
    problems += _check_skeleton(merged)
    old = {*REMOVED_KEYS, *SKELETON_KEYS, *WITH_CENTER_KEYS}
    return {key: value for key, value in merged.items() if key not in old}, problems


def _translate_source(
    source: Mapping[str, Any], base: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """One source in today's keys, and its problems. `base`: the translated settings below it."""
    settings = {
        key: _translate_value(key, value)
        for key, value in source.items()
        if key not in RENAMED_KEYS and not key.startswith(EXTRA)
    }
    # Public DE names its two halves MODEL.NAME1 and NAME2; together they are Double Embedding.
    if "MODEL.NAME1" in settings or "MODEL.NAME2" in settings:
        settings.setdefault("MODEL.NAME", DOUBLE_EMBEDDING)

    # A source that only states the static loss scale means it; the dynamic one is the default.
    if "FP16.STATIC_LOSS_SCALE" in settings:
        settings.setdefault("FP16.DYNAMIC_LOSS_SCALE", False)

    problems = []
    for old, new in RENAMED_KEYS.items():
        if old in source:
            problems += _set(settings, new, source[old], old)
    extra = {
        key.removeprefix(EXTRA): value for key, value in source.items() if key.startswith(EXTRA)
    }
    problems += _translate_extra(settings, extra, base)
    return settings, problems


def _set(settings: dict[str, Any], new: str, value: Any, old: str) -> list[str]:
    """Set today's key `new` from an old one; a problem if its source has another value for it."""
    if settings.setdefault(new, value) == value:
        return []
    return [f"{old} means {new}: {value!r}, but {new} is {settings[new]!r}; remove one of them"]


def _translate_value(key: str, value: Any) -> Any:
    """Values whose form changed: lists that became a number, and numbers that became a list."""
    is_list = isinstance(value, (list, tuple))
    if key == "GPUS" and is_list:
        return max(len(value), 1)  # a list of device numbers
    if key in ("LOSS.PUSH_LOSS_FACTOR", "LOSS.PULL_LOSS_FACTOR", "LOSS.AE_LOSS_TYPE"):
        return value[0] if is_list and value else value  # per stride; only stride 4 has tags
    if key in ("LOSS.HEATMAPS_LOSS_FACTOR", "LOSS.OFFSETS_LOSS_FACTOR"):
        return [value] * 2 if isinstance(value, (int, float)) else value
    return RENAMED_VALUES.get((key, value), value) if isinstance(value, str) else value


def _translate_extra(
    settings: dict[str, Any], extra: Mapping[str, Any], base: Mapping[str, Any]
) -> list[str]:
    """Add to `settings` what MODEL.EXTRA (keys without that prefix) describes."""
    problems = []
    for name, value in extra.items():
        problem = _unsupported(name, value)
        if problem:
            problems.append(f"{EXTRA}{name}: {value!r} cannot be built; {problem}")
        elif name in EXTRA_KEYS:
            first = value[0] if isinstance(value, (list, tuple)) else value
            problems += _set(settings, EXTRA_KEYS[name], first, f"{EXTRA}{name}")

    stated = [name for name in EXTRA_MODULES if name in extra]
    modules = settings.get("MODEL.MODULES", base.get("MODEL.MODULES", DEFAULT_MODULES))
    is_complete = isinstance(modules, list) and len(modules) == len(EXTRA_MODULES)
    if stated and is_complete:
        modules = [extra.get(name, count) for name, count in zip(EXTRA_MODULES, modules)]
        problems += _set(settings, "MODEL.MODULES", modules, f"{EXTRA}{stated[0]}")
    return problems


def _unsupported(name: str, value: Any) -> str:
    """What to write instead where HRNet is not as MODEL.EXTRA.`name` describes it, else ''."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    last = name.rpartition(".")[2]
    if last in EXTRA_FIXED:
        fixed = EXTRA_FIXED[last]
        return "" if all(found == fixed for found in values) else f"only {fixed!r} is supported"
    if name not in EXTRA_KEYS:
        return ""

    if not values or not all(isinstance(number, int) for number in values):
        return "write whole numbers"
    doubled = [values[0] * 2**branch for branch in range(len(values))]
    if values != doubled:
        return f"branches have C, 2 C, 4 C, 8 C channels, see {EXTRA_KEYS[name]}"
    return ""


def _is_known(key: str) -> bool:
    name = key.removeprefix(EXTRA)
    last = name.rpartition(".")[2]
    known = {*EXTRA_KEYS, *EXTRA_MODULES, *EXTRA_FIXED, *EXTRA_IGNORED}
    return name in known or last in known


def _check_centre(settings: Mapping[str, Any]) -> list[str]:
    if settings.get("MODEL.NAME", DOUBLE_EMBEDDING) != DOUBLE_EMBEDDING:
        return []
    return [
        f"{key}: Double Embedding needs the person centre; remove the key, or use MODEL.NAME: "
        "pose_higher_hrnet"
        for key in WITH_CENTER_KEYS
        if settings.get(key) is False
    ]


def _check_skeleton(settings: Mapping[str, Any]) -> list[str]:
    """Old keys that describe another skeleton than DATASET.SKELETON."""
    stated = [key for key in SKELETON_KEYS if key in settings]
    if not stated:
        return []
    name = settings.get("DATASET.SKELETON") or settings.get("DATASET.DATASET", "coco")
    try:
        skeleton = get_skeleton(str(name))
    except UserError:
        return []  # `config_problems` reports it

    problems = []
    for key in stated:
        difference = _difference(key, settings[key], skeleton)
        if difference:
            problems.append(
                f"{key}: {difference}; remove the key: DATASET.SKELETON ('{skeleton.name}') "
                "defines it; for other joints write a skeleton yaml"
            )
    return problems


def _difference(key: str, value: Any, skeleton: Skeleton) -> str:
    """How the value of an old key differs from the skeleton, else ''."""
    name = key.rpartition(".")[2]
    if name == "NUM_JOINTS":
        count = skeleton.num_keypoints
        if value in (count, count + 1):
            return ""
        return f"{value}, but '{skeleton.name}' has {count} keypoints (+1 centre)"

    expected = {
        "RJG_TAG": set(skeleton.torso_indices),
        "LJG_WITH_HIER": set(skeleton.limb_indices),
        "LJG_CENTER_ONLY": set(skeleton.centre_only_indices),
    }[name]
    found = set(_numbers(value)) - {skeleton.centre}
    # The hierarchy may be written as (joint, parent) pairs, whose parents are torso joints as well.
    allowed = expected | set(skeleton.torso_indices) if name == "LJG_WITH_HIER" else expected
    if expected <= found <= allowed:
        return ""
    return f"joints {sorted(found)}, but '{skeleton.name}' has {sorted(expected)}"


def _numbers(value: Any) -> Iterable[int]:
    """All whole numbers in nested lists and mappings."""
    if isinstance(value, Mapping):
        value = [list(value.keys()), list(value.values())]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int):
        yield value
