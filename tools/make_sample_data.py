"""Draw a small data set in COCO format: python tools/make_sample_data.py data/sample --train 6000 --val 200 --seed 0"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.datasets.sample_data.write import make_sample_data
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.skeletons import get_skeleton


def main() -> int:
    """Exit code 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "out", type=Path, help="folder to write: images/{train,val}2017/ and annotations/"
    )
    parser.add_argument("--train", type=int, default=6000, help="training images")
    parser.add_argument(
        "--val", type=int, default=200, help="validation images, never the training's"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--size", type=int, default=128, help="side of the square images in pixels")
    parser.add_argument(
        "--skeleton",
        default="coco",
        help="coco, crowdpose, mpii or a yaml whose keypoints a drawn body has",
    )
    parser.add_argument("--workers", type=int, default=0, help="drawing processes; 0: one per core")
    args = parser.parse_args()
    try:
        if min(args.train, args.val) < 0 or args.size < 32:
            raise UserError(
                f"--train and --val must not be negative and --size at least 32, got {args.train}, {args.val}, {args.size}"
            )
        with (
            path_errors_as_user_errors(),
            tqdm(total=args.train + args.val, unit="image", disable=not sys.stderr.isatty()) as bar,
        ):
            skeleton = get_skeleton(args.skeleton)
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
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.train} training and {args.val} validation images are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
