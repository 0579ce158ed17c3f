"""Write MPII's annotations in the project's format:
python tools/prepare_mpii.py mpii_human_pose_v1_u12_1.mat --groups groups_v12.mat --images data/mpii/images --out data/mpii"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from duopose.datasets.mpii_file import read_groups, read_release
from duopose.datasets.prepare_mpii import Summary, picture_sizes, split_pictures, to_coco, write_split
from duopose.errors import UserError, refusals_told


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mat", type=Path, help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument("--groups", type=Path, help="groups_v12.mat; without it only whole pictures can be scored")
    parser.add_argument("--images", type=Path, default=Path("data/mpii/images"), help="folder of MPII's pictures, for their sizes")
    parser.add_argument("--out", type=Path, default=Path("data/mpii"), help="annotations/mpii_{train,val,trainval,test}.json go here")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the training pictures' videos held out (default 0.1)")
    parser.add_argument("--val-list", type=Path, help="a text file of picture names to hold out instead, one a line")
    return parser.parse_args(arguments)


def prepare(args: argparse.Namespace) -> list[Summary]:
    """Read, split and write; UserError for everything that is the user's to mend."""
    if args.val_list and not args.val_list.is_file():
        raise UserError(f"--val-list '{args.val_list}' does not exist")
    held_out = args.val_list.read_text().split() if args.val_list else ()
    print(f"reading {args.mat} (a minute for the whole of MPII)", flush=True)
    pictures = read_release(args.mat)
    groups = read_groups(args.groups, len(pictures)) if args.groups else None
    splits = split_pictures(pictures, args.val_share, held_out)
    names = [pictures[index].name for split in ("trainval", "test") for index in splits[split]]
    with tqdm(total=len(names), unit="picture", desc="sizes", disable=not sys.stderr.isatty()) as bar:
        sizes = picture_sizes(names, args.images, bar.update)
    missing = [name for name in names if name not in sizes]
    if missing:
        print(f"{len(missing)} of {len(names)} pictures are not in {args.images} and are left out, first {missing[:3]}")
    contents = {split: to_coco(pictures, indices, groups, sizes) for split, indices in splits.items()}
    return [write_split(args.out / "annotations" / f"mpii_{split}.json", content) for split, content in contents.items()]


def main() -> int:
    """Exit code 0, or 2 with a sentence."""
    try:
        with refusals_told():
            written = prepare(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for done in written:
        print(f"{done.path}: {done.pictures} pictures, {done.people} people ({done.with_keypoints} with keypoints), {done.groups} groups")
    return 0


if __name__ == "__main__":
    sys.exit(main())
