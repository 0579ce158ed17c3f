"""Labels of other programs -> COCO keypoints and a draft of the skeleton (docs/own_data.md).

python tools/convert.py labelme FOLDER --out data/mine/annotations/person_keypoints_train2017.json
python tools/convert.py cvat annotations.xml --out ...
python tools/convert.py yolo data.yaml --split train --out ...
python tools/convert.py deeplabcut labeled-data --out ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from duopose.console import run_tool
from duopose.datasets.prepare.cvat_xml import read_cvat
from duopose.datasets.prepare.deeplabcut import read_deeplabcut
from duopose.datasets.prepare.label_files import ReadOptions
from duopose.datasets.prepare.labelled_people import LabelledSet
from duopose.datasets.prepare.labelled_to_coco import to_coco
from duopose.datasets.prepare.labelme import read_labelme
from duopose.datasets.prepare.skeleton_draft import draft_skeleton, draft_text
from duopose.datasets.prepare.yolo_pose import read_yolo_pose
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.files import write_atomically
from duopose.json_limit_option import add_json_limit, json_limit
from duopose.skeletons import get_skeleton

FORMATS = ("labelme", "cvat", "yolo", "deeplabcut")


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a message."""
    args = parse(arguments)
    try:
        with path_errors_as_user_errors():
            lines = convert(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("source", type=Path, help="the file, or a folder (labelme, deeplabcut)")
    parser.add_argument("--out", type=Path, required=True, help="the json file to write")
    parser.add_argument("--images", type=Path, help="folder of the images, if it is another one")
    parser.add_argument(
        "--skeleton", help="coco, crowdpose, mpii or a yaml: names and order of the keypoints"
    )
    parser.add_argument("--draft", type=Path, help="where to write the draft of a skeleton")
    parser.add_argument(
        "--keypoints",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names and order, if not in SOURCE",
    )
    parser.add_argument("--person", default="person", help="label of boxes and classes of people")
    parser.add_argument("--split", default="train", help="of data.yaml: train, val or test")
    parser.add_argument(
        "--shift", type=float, default=0.0, help="pixels added to x and y (docs/own_data.md)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the json file")
    parser.add_argument(
        "--outside-links",
        action="store_true",
        help="links below the folders of labels and images may lead out of them",
    )
    add_json_limit(parser)
    return parser.parse_args(arguments)


def convert(args: argparse.Namespace) -> list[str]:
    """Write the files; what to print. UserError without having written anything."""
    draft = args.draft or args.out.with_name(f"{args.out.stem}_skeleton.yaml")
    _raise_if_in_the_way(args, draft)
    known = get_skeleton(args.skeleton) if args.skeleton else None
    names = known.keypoints if known else tuple(args.keypoints)

    labelled = read(args, names)
    order = [*names, *(name for name in labelled.keypoints if name not in names)]
    skeleton = known or draft_skeleton(args.out.stem, order, labelled.flip_pairs)
    made = to_coco(labelled, skeleton, args.shift)

    write_atomically(args.out, orjson.dumps(made.content))
    lines = [f"notice: {notice}" for notice in made.notices]
    num_images = len(made.content["images"])
    lines.append(
        f"{args.out}: images {num_images}, people {made.num_people}, "
        f"people without keypoints {made.num_ignored}"
    )
    if known is None:
        text = draft_text(skeleton, args.source.name, labelled.flip_pairs is not None)
        write_atomically(draft, text.encode())
        lines.append(f"{draft}: a draft; confirm its comments, and use it with --skeleton")
    return lines


def _raise_if_in_the_way(args: argparse.Namespace, draft: Path) -> None:
    """No work is replaced: neither an annotation file nor an edited draft."""
    if args.out.exists() and not args.overwrite:
        raise UserError(f"'{args.out}' exists; choose another name, or replace it with --overwrite")
    if not args.skeleton and draft.exists():
        raise UserError(
            f"'{draft}' exists and may be edited: use it with --skeleton, or choose another name "
            "with --draft"
        )


def read(args: argparse.Namespace, names: tuple[str, ...]) -> LabelledSet:
    """The labels of the source, by its format."""
    options = ReadOptions(args.person, args.outside_links, json_limit(args))
    if args.format == "labelme":
        return read_labelme(args.source, args.images, options)
    if args.format == "cvat":
        return read_cvat(args.source, options, names)
    if args.format == "yolo":
        return read_yolo_pose(args.source, args.images, args.split, options, names)
    return read_deeplabcut(args.source, args.images, options)


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
