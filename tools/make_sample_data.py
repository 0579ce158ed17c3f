"""Draw a small data set in COCO format.

python tools/make_sample_data.py data/sample --train 6000 --val 200 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.datasets.sample_data.write import make_sample_data
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.skeletons import get_skeleton

MIN_SIZE = 32  # pixels; drawn people are unrecognisable in smaller images


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", type=Path, help="folder to write: images/{train,val}2017/ and annotations/")
    add("--train", type=int, default=6000, help="number of training images")
    add("--val", type=int, default=200, help="number of validation images")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    add("--size", type=int, default=128, help="side of the square images in pixels")
    add("--skeleton", default="coco", help="coco, crowdpose, mpii, or the path of a skeleton yaml")
    add("--workers", type=int, default=0, help="drawing processes; 0: one per core")
    return parser.parse_args()


def draw(args: argparse.Namespace) -> None:
    """Draw the images, with a progress bar; UserError for the user's mistakes."""
    if min(args.train, args.val) < 0 or args.size < MIN_SIZE:
        raise UserError(
            f"--train and --val must not be negative and --size at least {MIN_SIZE}, "
            f"got {args.train}, {args.val}, {args.size}"
        )

    skeleton = get_skeleton(args.skeleton)
    total = args.train + args.val
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
        make_sample_data(
            args.out,
            args.train,
            args.val,
            args.seed,
            args.size,
            skeleton,
            args.workers,
            bar.update,
        )


def main() -> int:
    """Exit code 0, or 2 with a message."""
    args = parse()
    try:
        with path_errors_as_user_errors():
            draw(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.train} training and {args.val} validation images are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
