"""Draw a small data set: --preset default, a few people; --preset crowd, people hiding each other.

python tools/make_sample_data.py data/sample --train 6000 --val 200 --seed 0
python tools/make_sample_data.py data/crowd --preset crowd --size 160 --train 5000 --test 500
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.console import run_tool
from duopose.datasets.sample_data.write import FORMATS, PRESETS, make_sample_data
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.skeletons import Skeleton, get_skeleton

MIN_SIZE = 32  # pixels; drawn people are unrecognisable in smaller images
MAX_SIZE = 4096
MAX_IMAGES = 10_000_000  # numbers in file names have twelve digits


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", type=Path, help="folder to write: images and annotations in the format's layout")
    add("--preset", choices=list(PRESETS), default="default", help="crowd: 2 to 12 people")
    add("--format", choices=list(FORMATS), default="coco", help="layout and annotations")
    add("--train", type=int, default=6000, help="number of training images")
    add("--val", type=int, default=200, help="number of validation images")
    add("--test", type=int, default=0, help="number of test images")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    add("--size", type=int, default=128, help="side of the square images in pixels")
    add(
        "--skeleton",
        default="",
        help="coco, crowdpose, mpii, or the path of a skeleton yaml; default: the format's",
    )
    add("--workers", type=int, default=0, help="drawing processes; 0: one per core")
    return parser.parse_args()


def draw(args: argparse.Namespace) -> None:
    """Draw the images, with a progress bar; UserError for the user's mistakes."""
    counts = {"train": args.train, "val": args.val, "test": args.test}
    if min(counts.values()) < 0 or max(counts.values()) > MAX_IMAGES:
        raise UserError(f"--train, --val and --test must be from 0 to {MAX_IMAGES}")
    if not MIN_SIZE <= args.size <= MAX_SIZE:
        raise UserError(f"--size must be from {MIN_SIZE} to {MAX_SIZE}")
    if args.seed < 0:
        raise UserError("--seed must not be negative")
    if not args.test:
        del counts["test"]

    total = sum(counts.values())
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
        make_sample_data(
            args.out,
            counts,
            args.seed,
            args.size,
            choose_skeleton(args),
            args.workers,
            bar.update,
            PRESETS[args.preset],
            FORMATS[args.format],
        )


def choose_skeleton(args: argparse.Namespace) -> Skeleton:
    """The skeleton given, else the format's; UserError where the format needs another one."""
    skeleton = get_skeleton(args.skeleton or args.format)
    if args.format == "crowdpose" and skeleton.name != "crowdpose":
        raise UserError(
            f"--format crowdpose needs --skeleton crowdpose, got '{args.skeleton}': "
            "CrowdPose's people have its 14 keypoints"
        )
    return skeleton


def main() -> int:
    """Exit code 0, or 2 with a message."""
    args = parse()
    try:
        with path_errors_as_user_errors():
            draw(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    test = f", {args.test} test" if args.test else ""
    print(f"{args.train} training, {args.val} validation{test} images are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
