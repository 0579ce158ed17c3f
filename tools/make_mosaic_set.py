"""Make an evaluation set of mosaics: 2 x 2 images of a COCO-format set, people's boxes overlapping.

python tools/make_mosaic_set.py data/lsp --out data/lsp_mosaic --data-format zip --skeleton S.yaml

Several source folders are mixed. To evaluate: DATASET.ROOT data/lsp_mosaic DATASET.DATA_FORMAT jpg
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.benchmarks import BENCHMARKS
from duopose.console import run_tool
from duopose.datasets.prepare.mosaic_set import SourceImage, make_mosaic_set, read_source
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.json_limit_option import add_json_limit, json_limit
from duopose.skeletons import get_skeleton

MIN_SIZE = 64  # pixels


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="folders in COCO's layout")
    add("--out", required=True, type=Path, help="folder to write, in COCO's layout")
    add("--split", default="val2017", help="name of the split, of sources and result")
    add("--data-format", choices=["jpg", "zip"], default="jpg", help="as DATASET.DATA_FORMAT")
    add("--skeleton", default="coco", help="coco, crowdpose, mpii, or the path of a skeleton yaml")
    add("--number", type=int, default=0, help="mosaics; 0: as many as use each image once")
    add("--size", type=int, default=256, help="side of the square mosaics in pixels")
    add("--overlap", type=float, default=0.3, help="overlap of neighbours' boxes, 0 to below 1")
    add("--seed", type=int, default=0, help="the same seed gives the same files")
    add_json_limit(parser)
    return parser.parse_args(arguments)


def make(args: argparse.Namespace) -> int:
    """Write the set; the number of mosaics. UserError for the user's mistakes."""
    if args.number < 0 or args.size < MIN_SIZE or not 0 <= args.overlap < 1:
        raise UserError(
            f"--number must not be negative, --size at least {MIN_SIZE} and --overlap from 0 to "
            f"below 1, got {args.number}, {args.size}, {args.overlap}"
        )
    if os.path.realpath(args.out) in map(os.path.realpath, args.sources):
        raise UserError(f"--out {args.out} is a source, whose annotations would be overwritten")

    skeleton = get_skeleton(args.skeleton)
    layout = BENCHMARKS["coco"].layout
    images: list[SourceImage] = []
    for source in args.sources:
        words = (args.split, args.data_format, skeleton, json_limit(args))
        images += read_source(source, layout, *words)

    with tqdm(unit="image", disable=not sys.stderr.isatty()) as bar:
        return make_mosaic_set(
            images,
            args.out,
            args.split,
            number=args.number,
            size=args.size,
            overlap=args.overlap,
            seed=args.seed,
            progress=bar.update,
        )


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a message."""
    args = parse(arguments)
    try:
        with path_errors_as_user_errors():
            number = make(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{number} mosaics are in {args.out}, split {args.split}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
