"""Convert MPII's annotations to COCO format.

python tools/prepare_mpii.py mpii_human_pose_v1_u12_1.mat --groups groups_v12.mat \\
    --images data/mpii/images --out data/mpii
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.console import run_tool
from duopose.datasets.prepare.mpii_mat import read_groups, read_release
from duopose.datasets.prepare.mpii_to_coco import (
    SplitSummary,
    image_sizes,
    split_images,
    to_coco,
    write_split,
)
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.json_files import read_text_file

MAX_LIST_BYTES = 16 * 2**20  # of --val-list


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mat", type=Path, help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument(
        "--groups", type=Path, help="groups_v12.mat; without it only whole images can be scored"
    )
    parser.add_argument(
        "--images",
        type=Path,
        default=Path("data/mpii/images"),
        help="folder of MPII's images, for their sizes",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data/mpii"),
        help="annotations/mpii_{train,val,trainval,test}.json are written below it",
    )
    parser.add_argument(
        "--val-fraction",
        "--val-share",
        type=float,
        default=0.1,
        help="fraction of the training images' videos used for validation (default 0.1)",
    )
    parser.add_argument(
        "--val-list",
        type=Path,
        help="text file with the names of the validation images instead, one per line",
    )
    return parser.parse_args(arguments)


def read_names(path: Path) -> list[str]:
    """The names in a text file; UserError where it is none."""
    content = read_text_file(path, "--val-list", MAX_LIST_BYTES, advice="")
    try:
        return content.decode().split()
    except UnicodeDecodeError as error:
        raise UserError(f"--val-list '{path}' is no text in UTF-8") from error


def prepare(args: argparse.Namespace) -> list[SplitSummary]:
    """Read, split and write; UserError for the user's mistakes."""
    val_names = read_names(args.val_list) if args.val_list else []

    print(f"reading {args.mat} (about a minute for all of MPII)", flush=True)
    images = read_release(args.mat)
    groups = read_groups(args.groups, len(images)) if args.groups else None
    splits = split_images(images, args.val_fraction, val_names)

    names = [images[index].name for split in ("trainval", "test") for index in splits[split]]
    with tqdm(total=len(names), unit="image", desc="sizes", disable=not sys.stderr.isatty()) as bar:
        sizes = image_sizes(names, args.images, bar.update)
    missing = [name for name in names if name not in sizes]
    if missing:
        print(
            f"{len(missing)} of {len(names)} images are not in {args.images} and are left out, "
            f"first {missing[:3]}"
        )

    written = []
    for split, indices in splits.items():
        path = args.out / "annotations" / f"mpii_{split}.json"
        written.append(write_split(path, to_coco(images, indices, groups, sizes)))
    return written


def main() -> int:
    """Exit code 0, or 2 with a message."""
    try:
        with path_errors_as_user_errors():
            summaries = prepare(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for summary in summaries:
        print(
            f"{summary.path}: {counted(summary.images, 'image')}, "
            f"{counted(summary.people, 'person', 'people')} "
            f"({summary.with_keypoints} with keypoints), {summary.groups} groups"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
