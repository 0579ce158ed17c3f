"""Look at training data: python tools/browse_data.py --cfg X.yaml [--ids ID,ID] [--number N] [--out FOLDER] [KEY VALUE ...]

Three sheets an image: <id>_people.png (truth, mirrored, augmented; the red is left out of the loss), <id>_heatmaps.png and
<id>_offsets.png (targets of the augmented sample). Look whether joints have the right names, light limbs are the person's
left ones, arrows end at parents and centres, and the red covers crowds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from yacs.config import CfgNode

from duopose.config import load_config
from duopose.datasets.build import build_augmentation, build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import collate
from duopose.datasets.transforms import warp_sample
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.geometry import MapFrame
from duopose.targets import build_targets
from duopose.types import Sample
from duopose.visualize.maps import sheet, shrink
from duopose.visualize.samples import (
    edges_by_target,
    heatmap_images,
    offset_image,
    sample_image,
    tag_image,
)


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", required=True, type=Path, help="the yaml of the training")
    parser.add_argument(
        "--ids",
        default="",
        metavar="ID,ID",
        help="image ids; by default the first images with the most people",
    )
    parser.add_argument(
        "--number", type=int, default=8, help="how many images where no ids are given"
    )
    parser.add_argument(
        "--epoch",
        type=int,
        default=0,
        help="the augmentation is that of this epoch and of the next",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("output/browse_data"), help="folder of the PNG files"
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="settings that differ from the yaml"
    )
    args = parser.parse_intermixed_args(arguments)
    try:
        with path_errors_as_user_errors():
            cfg = load_config(args.cfg, args.opts)
            dataset = build_dataset(cfg, cfg.DATASET.TRAIN, train=True)
            args.out.mkdir(parents=True, exist_ok=True)
            for index in choose(dataset, [one for one in args.ids.split(",") if one], args.number):
                for name, image in zip(
                    ("people", "heatmaps", "offsets"),
                    draw_sheets(cfg, dataset, index, args.epoch),
                    strict=True,
                ):
                    path = args.out / f"{dataset.image_ids[index]}_{name}.png"
                    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
                    print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def choose(dataset: CocoFormatDataset, ids: list[str], number: int) -> list[int]:
    """Items of the given image ids, or those with the most people; UserError for an id that is not there."""
    if not ids:
        counts = np.array([len(dataset.people.of_image(index)) for index in range(len(dataset))])
        return np.argsort(-counts, kind="stable")[:number].tolist()
    places = {str(image_id): index for index, image_id in enumerate(dataset.image_ids)}
    unknown = [one for one in ids if one not in places]
    if unknown:
        raise UserError(
            f"{dataset.annotation_path} has no annotated images with the ids {', '.join(unknown)}; ids are like {dataset.image_ids[0]}"
        )
    return [places[one] for one in ids]


def draw_sheets(
    cfg: CfgNode, dataset: CocoFormatDataset, index: int, epoch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three sheets of an image: people, heatmap targets, tag and offset targets."""
    original, skeleton = dataset.load(index), dataset.skeleton
    augmented = [dataset[(epoch, index)], dataset[(epoch + 1, index)]]
    mirrored = mirror_whole(cfg, dataset, original)
    titles = [
        "as annotated",
        "whole and mirrored",
        f"augmented, epoch {epoch}",
        f"augmented, epoch {epoch + 1}",
    ]
    people = sheet(
        [sample_image(sample, skeleton) for sample in (original, mirrored, *augmented)], titles
    )
    sample, batch = augmented[0], collate(augmented[:1])
    maker = build_targets(cfg, skeleton)
    targets, frame = maker(batch), MapFrame(4, maker.legacy_alignment)
    heatmaps = heatmap_images(shrink(sample.image, 320), targets.heatmaps[-1][0].numpy(), skeleton)
    width, enlarge = targets.heatmaps[0].shape[-1], max(1, round(900 / sample.image.shape[1]))
    images = {
        "cells where tags are read, a colour a person": tag_image(
            sample, targets.tags, 0, width, frame, enlarge
        )
    }
    if maker.layout is not None:
        for name, edges in edges_by_target(maker.layout, skeleton).items():
            images[name] = offset_image(
                sample, targets.offsets[0], 0, edges, width, frame, skeleton, enlarge
            )
    return people, heatmaps, sheet(list(images.values()), list(images))


def mirror_whole(cfg: CfgNode, dataset: CocoFormatDataset, sample: Sample) -> Sample:
    """All of an image as a mirrored training sample, through the training's own warp."""
    augmentation = build_augmentation(cfg)
    height, width = sample.image.shape[:2]
    affine = augmentation.affine(width, height, max(width, height), 0.0, (0.0, 0.0), mirror=True)
    return warp_sample(
        sample,
        affine,
        dataset.skeleton.flip_index,
        augmentation.input_size,
        augmentation.strides,
        dataset.max_people,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
