"""Draw training data and targets, to look for wrong labels.

python tools/browse_data.py --cfg X.yaml [--ids ID,ID] [--number N] [--out FOLDER] [KEY VALUE ...]

Three images per sample: <place>_<id>_people.png (annotations, mirrored, augmented; ignored regions
red), _heatmaps.png and _offsets.png (targets of the augmented sample). Check that joints have the
right names, the person's left limbs are the light ones, arrows end at parents and centres, and the
red regions cover crowds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from duopose.benchmarks import build_benchmark
from duopose.config import build_skeleton, load_config
from duopose.console import run_tool
from duopose.datasets.build import build_augmentation, build_dataset
from duopose.datasets.dataset import CocoFormatDataset
from duopose.datasets.loader import collate
from duopose.datasets.transforms import mirror_sample
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.geometry import MapFrame
from duopose.image_files import output_stem, write_image
from duopose.targets import build_targets
from duopose.types import STRIDES, Sample
from duopose.visualize.maps import (
    edges_by_target,
    enlarge_image,
    enlargement,
    heatmap_grid,
    make_grid,
    offset_image,
    sample_image,
    shrink,
    tag_image,
)

# Pixels of one panel; small inputs are enlarged by a whole factor to about this width.
MIN_TARGET_WIDTH = 900
MIN_PEOPLE_WIDTH = 600
HEATMAP_WIDTH = 320


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a message."""
    args = parse(arguments)
    ids = [image_id for image_id in args.ids.split(",") if image_id]
    try:
        with path_errors_as_user_errors():
            cfg = load_config(args.cfg, args.opts)
            skeleton = build_skeleton(cfg)
            layout = build_benchmark(cfg).layout
            dataset = build_dataset(cfg, skeleton, layout, cfg.DATASET.TRAIN, train=True)
            args.out.mkdir(parents=True, exist_ok=True)
            for index in dataset.choose(ids, args.number):
                images = draw_images(cfg, dataset, index, args.epoch)
                write_images(args.out, output_stem(index + 1, dataset.image_ids[index]), images)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cfg", required=True, type=Path, help="the yaml of the training")
    add("--ids", default="", metavar="ID,ID", help="image ids; default: those with the most people")
    add("--number", type=int, default=8, help="number of images without --ids")
    add("--epoch", type=int, default=0, help="draw the augmentation of this epoch and the next")
    add("--out", type=Path, default=Path("output/browse_data"), help="folder of the PNG files")
    add("opts", nargs="*", metavar="KEY VALUE", help="settings that override the yaml")
    return parser.parse_intermixed_args(arguments)


def draw_images(
    cfg: CfgNode, dataset: CocoFormatDataset, index: int, epoch: int
) -> dict[str, np.ndarray]:
    """The three drawings of an image by name: people, heatmaps, offsets (and tags)."""
    augmented = [dataset[(epoch, index)], dataset[(epoch + 1, index)]]
    original = dataset.load(index)
    flip_index = dataset.skeleton.flip_index
    mirrored = mirror_sample(original, build_augmentation(cfg), flip_index, dataset.max_people)

    titled = {
        "as annotated": original,
        "whole and mirrored": mirrored,
        f"augmented, epoch {epoch}": augmented[0],
        f"augmented, epoch {epoch + 1}": augmented[1],
    }
    people = [
        sample_image(sample, dataset.skeleton, enlargement(sample.image, MIN_PEOPLE_WIDTH))
        for sample in titled.values()
    ]
    return {"people": make_grid(people, list(titled)), **draw_targets(cfg, dataset, augmented[0])}


def draw_targets(cfg: CfgNode, dataset: CocoFormatDataset, sample: Sample) -> dict[str, np.ndarray]:
    """Grids of an augmented sample's targets: heatmaps; offsets (and tags)."""
    skeleton = dataset.skeleton
    builder = build_targets(cfg, skeleton)
    targets = builder(collate([sample]))
    enlarged = enlarge_image(sample.image, enlargement(sample.image, HEATMAP_WIDTH))
    small = shrink(enlarged, HEATMAP_WIDTH)
    heatmaps = heatmap_grid(small, targets.heatmaps[-1][0].numpy(), skeleton)

    frame = MapFrame(STRIDES[0], builder.legacy_alignment)
    width = targets.heatmaps[0].shape[-1]
    enlarge = enlargement(sample.image, MIN_TARGET_WIDTH)
    tags = tag_image(sample, targets.tags, 0, width, frame, enlarge)

    images = {"cells where tags are read, one colour per person": tags}
    if builder.layout is not None:
        for name, edges in edges_by_target(builder.layout, skeleton).items():
            images[name] = offset_image(
                sample, targets.offsets[0], 0, edges, width, frame, skeleton, enlarge
            )
    return {"heatmaps": heatmaps, "offsets": make_grid(list(images.values()), list(images))}


def write_images(folder: Path, stem: str, images: dict[str, np.ndarray]) -> None:
    """Write <stem>_<name>.png for each grid, and print the paths."""
    for name, image in images.items():
        path = folder / f"{stem}_{name}.png"
        write_image(path, image)
        print(path)


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
