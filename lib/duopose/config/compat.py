"""Keys that yamls of HigherHRNet and public DE carry and this project does not.

Three kinds: *renamed* (the value is taken over), *derived from the skeleton* (checked against it, then dropped) and *gone*
(dropped, because nothing here reads them). What cannot be understood is a problem, in a sentence that says what to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from duopose.errors import UserError
from duopose.skeletons import Skeleton, get_skeleton

# Old key -> why it may be dropped without changing what the run does.
GONE = {
    "DATA_DIR", "RANK", "DIST_BACKEND", "MULTIPROCESSING_DISTRIBUTED", "PIN_MEMORY", "NAME", "MODEL.NAME1", "MODEL.NAME2",
    "MODEL.TAG_PER_JOINT", "DATASET.DATASET_TEST", "DATASET.OUTPUT_SIZE", "DATASET.BASE_SIZE", "DATASET.BASE_SIGMA",
    "DATASET.SCALE_AWARE_SIGMA", "DATASET.INT_SIGMA", "DATASET.BG_WEIGHT", "LOSS.NUM_STAGES", "LOSS.WITH_AE_LOSS",
    "LOSS.WITH_HEATMAPS_LOSS", "LOSS.WITH_OFFSETS_LOSS", "LOSS.TOPK", "LOSS.USE_OHKM", "LOSS.USE_TARGET_WEIGHT",
    "LOSS.USE_DIFFERENT_JOINTS_WEIGHT", "TEST.WITH_HEATMAPS", "TEST.WITH_AE", "TEST.WITH_OFFSETS", "TEST.PROJECT2IMAGE",
    "TEST.NMS_PADDING", "TEST.USE_DETECTION_VAL", "TEST.IGNORE_TOO_MUCH", "TEST.IGNORE_CENTER", "TRAIN.GAMMA1", "TRAIN.GAMMA2",
    "TRAIN.CHECKPOINT", "TRAIN.RESUME", "DEBUG.DEBUG", "DEBUG.SAVE_BATCH_IMAGES_GT", "DEBUG.SAVE_BATCH_IMAGES_PRED",
    "DEBUG.SAVE_HEATMAPS_GT", "DEBUG.SAVE_HEATMAPS_PRED", "DEBUG.SAVE_TAGMAPS_PRED",
}  # fmt: skip
FROM_SKELETON = (
    "DATASET.NUM_JOINTS", "MODEL.NUM_JOINTS", "DATASET.RJG_TAG", "DATASET.LJG_WITH_HIER", "DATASET.LJG_CENTER_ONLY",
    "RJG_TAG", "LJG_WITH_HIER", "LJG_CENTER_ONLY", "NUM_JOINTS", "MODEL.RJG_TAG", "MODEL.LJG_WITH_HIER", "MODEL.LJG_CENTER_ONLY",
    "TEST.RJG_TAG", "TEST.LJG_WITH_HIER", "TEST.LJG_CENTER_ONLY",
)  # fmt: skip
WITH_CENTER = ("DATASET.WITH_CENTER", "MODEL.WITH_CENTER", "WITH_CENTER", "TEST.WITH_CENTER")


def translate(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Dotted settings in today's keys, and one sentence per old key that contradicts them."""
    new: dict[str, Any] = {}
    old: dict[str, Any] = {}
    for key, value in settings.items():
        is_old = (
            key in GONE
            or key in FROM_SKELETON
            or key in WITH_CENTER
            or key.startswith("MODEL.EXTRA.")
        )
        (old if is_old else new)[key] = value
    problems: list[str] = []
    _translate_names(new, old)
    _translate_values(new)
    problems += _translate_extra(new, old)
    problems += _check_against_skeleton(new, old)
    return new, problems


def _translate_names(new: dict[str, Any], old: Mapping[str, Any]) -> None:
    """Public DE names its two halves MODEL.NAME1 and NAME2; together they are Double Embedding."""
    if "MODEL.NAME1" in old or "MODEL.NAME2" in old:
        new.setdefault("MODEL.NAME", "pose_higher_hrnet_de")


def _translate_values(new: dict[str, Any]) -> None:
    """Values whose form changed: GPU lists become a number, per-stage tag factors the one that counts."""
    if isinstance(new.get("GPUS"), (list, tuple)):
        new["GPUS"] = max(len(new["GPUS"]), 1)
    for key in ("LOSS.PUSH_LOSS_FACTOR", "LOSS.PULL_LOSS_FACTOR"):
        if isinstance(new.get(key), (list, tuple)) and new[key]:
            new[key] = new[key][0]  # the tags of stride 4; the family has none at stride 2
    for key in ("LOSS.HEATMAPS_LOSS_FACTOR", "LOSS.OFFSETS_LOSS_FACTOR"):
        if isinstance(new.get(key), (int, float)):
            new[key] = [new[key]] * 2
    if isinstance(new.get("LOSS.AE_LOSS_TYPE"), (list, tuple)) and new["LOSS.AE_LOSS_TYPE"]:
        new["LOSS.AE_LOSS_TYPE"] = new["LOSS.AE_LOSS_TYPE"][0]
    if "TEST.MAX_NUM_PEOPLE" in new:
        new.setdefault("TEST.MAX_PEOPLE", new.pop("TEST.MAX_NUM_PEOPLE"))


def _translate_extra(new: dict[str, Any], old: Mapping[str, Any]) -> list[str]:
    """MODEL.EXTRA spells HRNet out, stage by stage; what differs from HRNet itself cannot be built and is a problem."""
    extra = {
        key.removeprefix("MODEL.EXTRA."): value
        for key, value in old.items()
        if key.startswith("MODEL.EXTRA.")
    }
    if not extra:
        return []
    problems = []
    channels = extra.get("STAGE4.NUM_CHANNELS") or extra.get("STAGE2.NUM_CHANNELS") or []
    if channels:
        new.setdefault("MODEL.WIDTH", channels[0])
        if list(channels) != [channels[0] * 2**i for i in range(len(channels))]:
            problems.append(
                f"MODEL.EXTRA: branch channels {channels} are not C, 2C, 4C, 8C; write MODEL.WIDTH: C instead of MODEL.EXTRA"
            )
    modules = [
        extra.get(f"STAGE{stage}.NUM_MODULES", default)
        for stage, default in ((2, 1), (3, 4), (4, 3))
    ]
    if all(isinstance(n, int) for n in modules):
        new.setdefault("MODEL.MODULES", modules)
    deconv = extra.get("DECONV.NUM_CHANNELS")
    if isinstance(deconv, (list, tuple)) and deconv:
        new.setdefault("MODEL.DECONV_CHANNELS", deconv[0])
    return problems


def _check_against_skeleton(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    stated = {key: old[key] for key in FROM_SKELETON if key in old}
    problems = []
    for key in WITH_CENTER:
        if (
            old.get(key) is False
            and new.get("MODEL.NAME", "pose_higher_hrnet_de") == "pose_higher_hrnet_de"
        ):
            problems.append(
                f"{key}: Double Embedding needs the person centre; remove the key, or use MODEL.NAME: pose_higher_hrnet"
            )
    if not stated:
        return problems
    try:
        skeleton = get_skeleton(
            str(new.get("DATASET.SKELETON") or new.get("DATASET.DATASET", "coco"))
        )
    except UserError:
        return problems  # told by `validate`
    return problems + [
        p for key, value in stated.items() if (p := _disagreement(key, value, skeleton))
    ]


def _disagreement(key: str, value: Any, skeleton: Skeleton) -> str:
    """A sentence where an old key says something else than the skeleton, else ''."""
    advice = f"remove the key: DATASET.SKELETON ('{skeleton.name}') now says it; for other joints write a skeleton yaml"
    name = key.rsplit(".", 1)[-1]
    if name == "NUM_JOINTS":
        count = skeleton.num_keypoints
        return (
            ""
            if value in (count, count + 1)
            else f"{key}: {value}, but '{skeleton.name}' has {count} keypoints (+1 centre); {advice}"
        )
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
    return f"{key}: joints {sorted(found)}, but '{skeleton.name}' has {sorted(expected)}; {advice}"


def _numbers(value: Any) -> Iterable[int]:
    """All whole numbers in nested lists and mappings."""
    if isinstance(value, Mapping):
        value = [list(value.keys()), list(value.values())]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int):
        yield value
