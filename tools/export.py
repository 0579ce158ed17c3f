#!/usr/bin/env python
"""Write a model for other run-time libraries, and compare it with PyTorch.

tools/export.py --model FILE.pth --format onnx|torchscript|openvino [--out FILE] [KEY VALUE ...]

The file holds keypoint names, skeleton, settings and calibration; batch, height and width are free.
duopose.load reads .onnx and .xml files. KEY VALUE settings become those of the file. See
docs/deploy.md.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.console import run_tool
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.export.export_formats import FORMATS
from duopose.export.export_model import NUM_DRAWN, ExportResult, export_model, images_in
from duopose.inference.image_inputs import ImageLike


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--model", required=True, metavar="FILE", help="model file (.pth) of a training")
    option("--format", default="onnx", choices=tuple(FORMATS), help="default onnx")
    option("--out", default="", metavar="FILE", help="default: FILE with another suffix")
    option(
        "--images",
        default="",
        metavar="FOLDER",
        help=f"images on which people are compared (default: {NUM_DRAWN} drawn ones)",
    )
    option("--limit", type=int, default=50, metavar="N", help="images of FOLDER (default 50)")
    option(
        "--repeats",
        type=int,
        default=7,
        metavar="N",
        help="of the measurement of speed (default 7; 0: none)",
    )
    option("opts", nargs="*", metavar="KEY VALUE", help="settings that differ")
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> None:
    """Export and print the comparison."""
    if args.limit < 1 or args.repeats < 0:
        raise UserError("--limit must be at least 1 and --repeats at least 0")
    images: list[ImageLike] = images_in(Path(args.images), args.limit) if args.images else []
    target = Path(args.out) if args.out else None
    source = Path(args.model)
    result = export_model(source, args.format, target, args.opts, images, args.repeats)
    print_result(result)


def print_result(result: ExportResult) -> None:
    """The differences, the speed, the files."""
    print("largest relative difference of the maps from PyTorch:")
    for difference in result.maps:
        batch, height, width = difference.shape
        size = f"{batch} x {height}x{width}"
        print(f"  {size:14}{difference.value:.1e}  ({difference.name})")

    print(result.people)
    if result.people.num_different:
        print("  notice: rounding decided for other joints there; look at these images")
    if result.speed:
        print(result.speed)

    sizes = [f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in result.files]
    print(f"written: {', '.join(sizes)}")


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            run(parse(arguments))
    except UserError as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
