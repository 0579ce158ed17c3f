"""From the settings to a data set."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from duopose.coco_annotations import check_keypoint_names, read_annotation_file
from duopose.config.build import json_memory
from duopose.datasets.annotations import collect_people
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.split_files import ImageSource, Layout, find_annotations, find_images
from duopose.datasets.transforms import Augmentation
from duopose.errors import UserError
from duopose.image_files import ImageLimits
from duopose.skeletons import Skeleton


def build_dataset(
    cfg: CfgNode, skeleton: Skeleton, layout: Layout, split: str, *, train: bool
) -> CocoFormatDataset:
    """The data set of a split; `layout` is the benchmark's (`benchmarks.build_benchmark(cfg)`).

    train: augment, use DATASET.TRAIN_ANNOTATIONS and TRAIN_IMAGES, and leave out images without any
    annotation, as HigherHRNet does. DATASET.LIMIT counts images before these are left out, so that
    training and evaluation use the same ones. UserError where files are missing (with the paths
    tried), are not in COCO format, have the skeleton's keypoints in another order, or contain no
    labelled person to train on.
    """
    annotations, images = find_files(cfg, layout, split, train=train)
    file = read_annotation_file(annotations, json_memory(cfg))
    notice = check_keypoint_names(file, skeleton.keypoints, skeleton.name)
    people = collect_people(file, skeleton, cfg.DATASET.LIMIT)

    if train:
        people = people.only_annotated()
        if not len(people.keypoints):
            raise UserError(
                f"annotation file {annotations} has nothing to train on: no image has a person "
                "with a labelled keypoint; tools/check_data.py says more"
            )
    if not len(people):
        raise UserError(f"annotation file {annotations} lists no images")

    return CocoFormatDataset(
        people=people,
        images=images,
        skeleton=skeleton,
        annotation_path=str(annotations),
        augmentation=build_augmentation(cfg) if train else None,
        max_people=cfg.DATASET.MAX_NUM_PEOPLE,
        seed=cfg.SEED,
        mosaic=cfg.DATASET.MOSAIC,
        notice=notice,
        skip_bad=cfg.DATASET.ON_BAD_SAMPLE == "skip",
    )


def find_files(
    cfg: CfgNode, layout: Layout, split: str, *, train: bool
) -> tuple[Path, ImageSource]:
    """Annotation file and images of a split: the paths in the settings, else the layout's."""
    data = cfg.DATASET
    given_annotations = data.TRAIN_ANNOTATIONS if train else data.TEST_ANNOTATIONS
    given_images = data.TRAIN_IMAGES if train else data.TEST_IMAGES

    root = Path(data.ROOT)
    annotations = find_annotations(root, layout, split, given_annotations)
    limits = build_image_limits(cfg)
    images = find_images(root, layout, split, data.DATA_FORMAT, given_images, limits)
    return annotations, images


def build_image_limits(cfg: CfgNode) -> ImageLimits:
    """The bounds on image files of the LIMITS settings."""
    return ImageLimits(
        max_pixels=int(cfg.LIMITS.IMAGE_MEGAPIXELS * 1e6),
        max_bytes=int(cfg.LIMITS.IMAGE_MB * 2**20),
        outside_links=cfg.LIMITS.OUTSIDE_LINKS,
    )


def build_augmentation(cfg: CfgNode) -> Augmentation:
    """The augmentation of training images."""
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
