"""From the settings to a data set and its batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from duopose.config import build_skeleton
from duopose.datasets.annotations import People, collect_people, read_annotation_file
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.image_files import ImageSource
from duopose.datasets.layout import find_annotations, find_images
from duopose.datasets.transforms import Augmentation
from duopose.errors import UserError


def build_dataset(cfg: CfgNode, split: str, train: bool) -> CocoFormatDataset:
    """The data set of a split. `train`: augmented, and without the images that have no annotation at all, as in the family.

    DATASET.LIMIT counts the file's images before those are dropped, so that training and evaluation see the same ones.
    UserError where files are missing (with the paths tried), are not COCO, or hold nothing to train on.
    """
    annotations, images = find_files(cfg, split, train)
    skeleton = build_skeleton(cfg)
    people = collect_people(read_annotation_file(annotations), skeleton, cfg.DATASET.LIMIT)
    if train:
        people = _keep(people, people.annotated)
        if not len(people.keypoints):
            raise UserError(
                f"there is nothing to train on: no image of {annotations} has a person with a labelled keypoint"
            )
    if not len(people):
        raise UserError(f"annotation file {annotations} lists no images")
    augmentation = build_augmentation(cfg) if train else None
    return CocoFormatDataset(
        people,
        images,
        skeleton,
        str(annotations),
        augmentation,
        cfg.DATASET.MAX_NUM_PEOPLE,
        cfg.SEED,
    )


def find_files(cfg: CfgNode, split: str, train: bool) -> tuple[Path, ImageSource]:
    """The annotation file and the images of a split; DATASET.TRAIN_... or TEST_... keys rule over the layout."""
    data, root = cfg.DATASET, Path(cfg.DATASET.ROOT)
    annotations, images = (
        (data.TRAIN_ANNOTATIONS, data.TRAIN_IMAGES)
        if train
        else (data.TEST_ANNOTATIONS, data.TEST_IMAGES)
    )
    return (
        find_annotations(root, data.DATASET, split, annotations),
        find_images(root, data.DATASET, split, data.DATA_FORMAT, images),
    )


def build_augmentation(cfg: CfgNode) -> Augmentation:
    """What happens to training images."""
    data = cfg.DATASET
    return Augmentation(
        input_size=data.INPUT_SIZE,
        max_rotation=data.MAX_ROTATION,
        min_scale=data.MIN_SCALE,
        max_scale=data.MAX_SCALE,
        scale_type=data.SCALE_TYPE,
        max_translate=data.MAX_TRANSLATE,
        flip=data.FLIP,
        legacy_alignment=data.HEATMAP_CENTRES == "rounded",
    )


def _keep(people: People, wanted: np.ndarray) -> People:
    """Only the images where `wanted` (N,) bool is set; people belong to wanted images anyway."""
    chosen = np.flatnonzero(wanted).tolist()
    counts = np.diff(people.first)[wanted]
    return People(
        image_ids=[people.image_ids[index] for index in chosen],
        names=[people.names[index] for index in chosen],
        sizes=people.sizes[wanted],
        first=np.concatenate([[0], np.cumsum(counts)]),
        keypoints=people.keypoints,
        regions=[people.regions[index] for index in chosen],
        annotated=people.annotated[wanted],
    )
