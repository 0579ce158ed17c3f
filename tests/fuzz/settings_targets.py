"""Settings as yaml and as words of the command line, and skeletons."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from tests.fuzz.byte_changes import YAML_WORDS, changed_bytes
from tests.fuzz.fuzz_target import Target, problem_of, raise_first
from tests.fuzz.small_maps import SIDE, decode_small, random_outputs
from tests.fuzz.tree_changes import changed_tree, near_value
from yacs.config import CfgNode

from duopose.config import (
    build_skeleton,
    config_from_text,
    config_text,
    default_config,
    load_config,
    saved_settings,
)
from duopose.config.settings import SETTINGS
from duopose.datasets.build import build_augmentation, build_image_limits
from duopose.datasets.loader import collate
from duopose.datasets.transforms import augment
from duopose.decode import build_decoder
from duopose.inference.protocol import scales_and_flip
from duopose.losses import build_criterion
from duopose.run_folder import RunFolder
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton, get_skeleton, skeleton_to_dict
from duopose.targets import build_targets
from duopose.training.optim import LearningRateSchedule
from duopose.types import Poses, Sample
from duopose.visualize.draw import draw_people

PROJECT = Path(__file__).resolve().parents[2]
BYTE_CASES = 0.4  # fraction whose text is changed, and not its values
MAX_INPUT = 128  # pixels; with larger settings nothing is augmented here


def yaml_maker(texts: list[bytes]) -> Callable[[Random], bytes]:
    """Changed files of these texts."""
    trees = [yaml.safe_load(text) for text in texts]

    def make(rng: Random) -> bytes:
        if rng.random() < BYTE_CASES:
            return changed_bytes(rng.choice(texts), rng, YAML_WORDS)
        changed = changed_tree(rng.choice(trees), rng)
        return yaml.safe_dump(changed).encode(errors="surrogatepass")

    return make


# ---- settings ----


def settings_target(folder: Path) -> Target:
    """Recipes and config.yaml, and the objects that are built from them."""
    recipes = sorted((PROJECT / "experiments").rglob("*.yaml"))
    texts = [path.read_bytes() for path in recipes if b"DATASET:" in path.read_bytes()]
    texts = [text for text in texts if b"groups:" not in text][:12]
    texts.append(config_text(default_config()).encode())
    small = {"DATASET": {"INPUT_SIZE": 64, "FLIP": 0.5}, "TEST": {"MAX_PEOPLE": 5}}
    texts += [yaml.safe_dump(small).encode()] * 6  # most of it is used

    def use(path: Path) -> None:
        text = path.read_bytes().decode(errors="replace")
        in_checkpoint = problem_of(lambda: saved_settings(text))
        cfg = load_config(path)
        raise_first([in_checkpoint])
        use_settings(cfg)

    return Target("settings", ".yaml", texts[-1], yaml_maker(texts), use)


def use_settings(cfg: CfgNode) -> None:
    """The settings written and read again; what is built from them, on small inputs."""
    assert config_from_text(config_text(cfg)) == cfg
    skeleton = build_skeleton(cfg)
    RunFolder.from_config(cfg, "x.yaml")
    build_image_limits(cfg)
    scales_and_flip(cfg)
    schedule = LearningRateSchedule.from_config(cfg)
    assert np.isfinite([schedule.rate(0.5, 10), schedule.rate(1e6, 10**9)]).all()
    decode_small(build_decoder(cfg, skeleton), cfg, skeleton)
    if cfg.DATASET.INPUT_SIZE <= MAX_INPUT:
        use_for_samples(cfg, skeleton)


def use_for_samples(cfg: CfgNode, skeleton: Skeleton) -> None:
    """An augmented sample, its targets and losses."""
    keypoints = np.full((2, skeleton.num_keypoints, 3), 20, np.float32)
    keypoints[..., 2] = 2
    image = np.zeros((60, 80, 3), np.uint8)
    sample = Sample(image, keypoints, np.ones((60, 80), np.uint8), 1)
    rng = np.random.default_rng(0)
    augmentation = build_augmentation(cfg)
    made = augment(sample, rng, augmentation, skeleton.flip_index, cfg.DATASET.MAX_NUM_PEOPLE)
    targets = build_targets(cfg, skeleton)(collate([made]))
    outputs = random_outputs(cfg, skeleton, cfg.DATASET.INPUT_SIZE)
    build_criterion(cfg, skeleton)(outputs, targets)
    assert all(torch.isfinite(maps).all() for maps in targets.heatmaps)


# ---- words of the command line ----

WORDS = ("[1,2]", "1e-3", "True", "0x1", "'a'", "(1,)", "{1:2}", "-5", "1_0", "coco", "[0.5, 1, 2]",
         "no", "10", "1.5", "a/b", "cpu", "", "None", "x.yaml")  # fmt: skip
PARTS = (b"[", b"]", b"(", b"'", b'"', b",", b"-", b"9", b"e9", b"\\", b"\n", b"\0", b"\xff", b"{",
         b"1+1", b"j", b"\xe2\x80\xae", b"__", b"lambda:0", b"f'{1}'", b"*")  # fmt: skip


def word_target(folder: Path) -> Target:
    """KEY VALUE; the file has one on each line."""

    def make(rng: Random) -> bytes:
        pairs = []
        for _ in range(rng.choice((1, 1, 2))):
            key = rng.choice(list(SETTINGS))
            pairs += [key.encode(), changed_word(SETTINGS[key].default, rng)]
        return b"\x1e".join(pairs)

    def use(path: Path) -> None:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        use_settings(load_config(None, text.split("\x1e")))

    valid = b"\x1e".join([b"DATASET.INPUT_SIZE", b"64"])
    return Target("words", ".txt", valid, make, use)


def changed_word(default: Any, rng: Random) -> bytes:
    """A value near the default, or a word with odd characters."""
    if rng.random() < 0.5:
        return str(near_value(default, rng)).encode(errors="surrogatepass")
    return changed_bytes(rng.choice((*WORDS, str(default))).encode(), rng, PARTS)


# ---- skeletons ----


def skeleton_target(folder: Path) -> Target:
    """A skeleton's yaml, and what is calculated with it."""
    tables = [skeleton_to_dict(one) for one in (COCO, CROWDPOSE, MPII)]
    texts = [yaml.safe_dump(table).encode() for table in tables]
    texts.append((PROJECT / "docs/examples/six_keypoints.yaml").read_bytes())

    def use(path: Path) -> None:
        use_skeleton(get_skeleton(str(path)))

    return Target("skeleton", ".yaml", texts[0], yaml_maker(texts), use)


@cache
def small_config() -> CfgNode:
    """Settings for small inputs."""
    return load_config(None, ["DATASET.INPUT_SIZE", SIDE, "TEST.MAX_PEOPLE", 5])


def use_skeleton(skeleton: Skeleton) -> None:
    """Targets, losses, decoding and a drawing."""
    cfg = small_config()
    flipped = skeleton.flip_index
    assert sorted(flipped) == list(range(skeleton.num_keypoints))
    if skeleton.num_keypoints > 40:  # too slow for many cases
        skeleton.offset_layout(True)
        return
    use_for_samples(cfg, skeleton)
    poses: Poses = decode_small(build_decoder(cfg, skeleton), cfg, skeleton)
    draw_people(np.zeros((SIDE, SIDE, 3), np.uint8), poses, skeleton)
