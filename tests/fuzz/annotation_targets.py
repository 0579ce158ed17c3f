"""Annotation files of all benchmarks, and run lengths and polygons in them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from tests.fuzz.byte_changes import JSON_WORDS, changed_bytes
from tests.fuzz.fuzz_target import Target, problem_of, raise_first
from tests.fuzz.tree_changes import changed_tree
from tests.trust.mutations import as_text
from tests.trust.readers import (
    coco_content,
    packed_counts,
    people_content,
    use_for_checking,
    use_for_crowdpose,
    use_for_mpii,
    use_for_scoring,
)

from duopose.coco_annotations import read_annotation_file
from duopose.config import load_config
from duopose.datasets.annotations import AnnotatedPeople, collect_people
from duopose.datasets.build import build_augmentation
from duopose.datasets.ignore_mask import decode_mask, encode_regions, pack_ignored_regions
from duopose.datasets.loader import collate
from duopose.datasets.segmentations import SegmentationError, read_segmentation
from duopose.datasets.transforms import augment
from duopose.errors import UserError
from duopose.losses import build_criterion
from duopose.skeletons import COCO, CROWDPOSE, MPII, Skeleton
from duopose.targets import build_targets
from duopose.types import NetworkOutput, Sample

INPUT_SIZE = 64
MAX_PIXELS = 200_000  # of an image that is made for a case
BYTE_CASES = 0.25  # fraction whose bytes are changed, and not their values
IMAGE_WIDTH, IMAGE_HEIGHT = 80, 60


def json_maker(content: Any) -> Callable[[Random], bytes]:
    """Changed files of this content."""
    text = as_text(content)

    def make(rng: Random) -> bytes:
        if rng.random() < BYTE_CASES:
            return changed_bytes(text, rng, JSON_WORDS)
        return as_text(changed_tree(content, rng))

    return make


def annotation_target(
    name: str, content: Any, skeleton: Skeleton, score: Callable[[Path], None], folder: Path
) -> Target:
    """Training, scoring and the data check of one file.

    The check must report whatever training refuses.
    """
    pixels = np.full((IMAGE_HEIGHT, IMAGE_WIDTH, 3), 90, np.uint8)
    for image in content["images"]:
        cv2.imwrite(str(folder / image["file_name"]), pixels)
    train = TrainingUse(skeleton)

    def use(path: Path) -> None:
        in_training = problem_of(partial(train, path))
        in_scoring = problem_of(partial(score, path))
        reported = use_for_checking(path, skeleton)
        assert reported or in_training is None, f"check_data does not report: {in_training}"
        raise_first([in_training, in_scoring])

    return Target(name, ".json", as_text(content), json_maker(content), use)


class TrainingUse:
    """People, masks, an augmented sample and its targets and losses, of each image."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        words = ["DATASET.INPUT_SIZE", INPUT_SIZE, "DATASET.MAX_NUM_PEOPLE", 5]
        cfg = load_config(None, words)
        self.augmentation = build_augmentation(cfg)
        self.make_targets = build_targets(cfg, skeleton)
        self.criterion = build_criterion(cfg, skeleton)
        self.outputs = zero_outputs(skeleton)

    def __call__(self, path: Path) -> None:
        people = collect_people(read_annotation_file(path), self.skeleton)
        masks = [region_mask(people, index) for index in range(len(people))]
        for index, mask in enumerate(masks[:2]):
            if mask is not None and mask.size <= MAX_PIXELS:
                self._train(people, index, mask)

    def _train(self, people: AnnotatedPeople, index: int, mask: np.ndarray) -> None:
        image = np.zeros((*mask.shape, 3), np.uint8)
        keypoints = people.of_image(index)
        sample = Sample(image, keypoints, mask, people.image_ids[index])
        rng = np.random.default_rng(index)
        made = augment(sample, rng, self.augmentation, self.skeleton.flip_index, 5)
        assert np.isfinite(made.keypoints).all()

        targets = self.make_targets(collate([made]))
        total = self.criterion(self.outputs, targets).total
        assert torch.isfinite(total), f"the loss is {total}"


def zero_outputs(skeleton: Skeleton) -> NetworkOutput:
    """Maps of a network for one image of INPUT_SIZE."""
    maps = skeleton.num_keypoints + 1
    edges = skeleton.offset_layout(True).num_edges
    sides = [INPUT_SIZE // stride for stride in (4, 2)]
    heatmaps = tuple(torch.zeros(1, maps, side, side) for side in sides)
    offsets = tuple(torch.zeros(1, 2 * edges, side, side) for side in sides)
    return NetworkOutput(heatmaps, torch.zeros(1, maps, sides[0], sides[0]), offsets)


def region_mask(people: AnnotatedPeople, index: int) -> np.ndarray | None:
    """The mask of an image, as the data set makes it; None for huge images."""
    width, height = people.sizes[index].tolist()
    code = encode_regions(people.ignored_regions[index], width, height)
    if width * height >= 10_000_000:
        return None
    mask = decode_mask(code, width, height)
    assert mask.shape == (height, width) and set(mask.ravel().tolist()) <= {0, 1}
    return mask


def coco_target(folder: Path) -> Target:
    """A file of COCO."""
    return annotation_target("annotations", coco_content(), COCO, use_for_scoring, folder)


def crowdpose_target(folder: Path) -> Target:
    """A file of CrowdPose."""
    content = people_content(CROWDPOSE, crowdIndex=0.3)
    return annotation_target("crowdpose", content, CROWDPOSE, use_for_crowdpose, folder)


def mpii_target(folder: Path) -> Target:
    """A file that tools/prepare_mpii.py has written."""
    content = people_content(MPII, groups=[[1, 2], [3, 4]])
    return annotation_target("mpii", content, MPII, use_for_mpii, folder)


# ---- segmentations ----

SEGMENTATIONS: list[Any] = [
    [[1.0, 2.0, 30.0, 2.0, 30.0, 40.0, 1.0, 40.0], [5.0, 5.0, 9.0, 5.0, 9.0, 9.5]],
    {"size": [IMAGE_HEIGHT, IMAGE_WIDTH], "counts": [100, 200, 4500]},
    {"size": [IMAGE_HEIGHT, IMAGE_WIDTH], "counts": packed_counts()},
]


def segmentation_target(folder: Path) -> Target:
    """Polygons and run lengths into a mask: pycocotools trusts what it gets."""

    def make(rng: Random) -> bytes:
        kind = rng.randrange(5)
        if kind == 0:
            return as_text(random_counts(rng))
        return json_maker(rng.choice(SEGMENTATIONS))(rng)

    return Target("segmentations", ".json", as_text(SEGMENTATIONS[0]), make, use_segmentation)


def random_counts(rng: Random) -> dict[str, Any]:
    """Run lengths of random characters or numbers."""
    size = [IMAGE_HEIGHT, IMAGE_WIDTH]
    if rng.random() < 0.5:
        text = "".join(chr(rng.randint(46, 114)) for _ in range(rng.randint(1, 14)))
        return {"size": size, "counts": text}
    counts = [rng.choice((0, 1, 60, 2000, 2**31)) for _ in range(rng.randint(0, 5))]
    left = IMAGE_WIDTH * IMAGE_HEIGHT - sum(counts)
    return {"size": size, "counts": [*counts, max(left, 0)]}


def use_segmentation(path: Path) -> None:
    """As the data set: checked, packed, encoded and decoded."""
    text = path.read_bytes()
    try:
        segmentation = read_segmentation(text, IMAGE_WIDTH, IMAGE_HEIGHT)
    except SegmentationError as error:
        raise UserError(f"segmentation {error}") from error
    regions: list[object] = [] if segmentation is None else [msgspec.Raw(text)]
    packed = pack_ignored_regions(regions, [], [])
    code = encode_regions(packed, IMAGE_WIDTH, IMAGE_HEIGHT)
    mask = decode_mask(code, IMAGE_WIDTH, IMAGE_HEIGHT)
    assert mask.shape == (IMAGE_HEIGHT, IMAGE_WIDTH) and set(mask.ravel().tolist()) <= {0, 1}
