#!/usr/bin/env python
"""Fit the decoder to the network of a model file, and write the values into the file.

tools/calibrate.py --model FILE.pth [--images N] [--out FILE.png] [KEY VALUE ...]
tools/calibrate.py --model FILE.pth --check [KEY VALUE ...]

The images are part of DATASET.TRAIN, without augmentation; as many others are held out to compare
the decoder before and after. Settings are those of the model file, or of --cfg FILE.yaml.
--check changes nothing: on DATASET.TEST it compares the decoder without and with the calibration,
and the standard deviations that the model states for joints (people.sigma) with the errors.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.benchmarks import build_benchmark
from duopose.calibration.calibrate import with_settings
from duopose.calibration.calibrate_file import calibrate_file, compare_decoders, comparison_table
from duopose.calibration.page import write_page
from duopose.calibration.sigma_check import check_sigmas, collect_for_check
from duopose.console import run_tool
from duopose.datasets.build import build_dataset
from duopose.decode import build_decoder
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.inference.model import Model
from duopose.inference.weights_protocol import model_settings
from duopose.runtime import configure_torch, pick_device, seed_everything


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--model", required=True, metavar="FILE", help="model file; the values go into it")
    option("--cfg", default="", metavar="FILE", help="yaml to use instead of the file's settings")
    option("--images", type=int, default=300, metavar="N", help="images to fit (default 300)")
    option(
        "--out",
        default="",
        metavar="FILE",
        help="page of plots (default: FILE_calibration.png beside the model file)",
    )
    option("--check", action="store_true", help="compare stated sigmas with errors on DATASET.TEST")
    option("opts", nargs="*", metavar="KEY VALUE", help="settings that differ")
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> None:
    """Calibrate, print the table, write the page."""
    if args.images < 1:
        raise UserError(f"--images {args.images}: it must be at least 1")
    path = Path(args.model)
    cfg, skeleton = model_settings(path, args.cfg, args.opts)
    configure_torch(cfg)
    seed_everything(cfg.SEED)
    device = pick_device(cfg.DEVICE, 0)
    if args.check:
        print_check(Model.from_config(cfg, skeleton, path, device))
        return
    result = calibrate_file(path, cfg, skeleton, device, args.images, num_held_out=args.images)
    page = Path(args.out or path.with_name(f"{path.stem}_calibration.png"))
    write_page(result, page)

    print(f"{counted(result.num_held_out, 'held-out image')} of {cfg.DATASET.TRAIN}:")
    print(result.table())
    print(
        f"values written into {path} (fitted on {counted(result.calibration.num_images, 'image')})"
    )
    print(f"data and fits: {page}")


def print_check(model: Model) -> None:
    """Both decoders, and stated and observed errors of joints, on the test split."""
    cfg = model.cfg
    layout = build_benchmark(cfg).layout
    dataset = build_dataset(cfg, model.skeleton, layout, cfg.DATASET.TEST, train=False)
    images = collect_for_check(model, dataset)
    decoder = model.predictor.decoder
    calibration = decoder.settings.calibration
    assert calibration is not None
    without = with_settings(decoder, build_decoder(cfg, model.skeleton).settings)
    comparisons = compare_decoders(without, calibration, images, dataset, cfg)
    check = check_sigmas(decoder, images)

    print(f"{counted(len(images), 'image')} of {cfg.DATASET.TEST}:")
    print(comparison_table(comparisons))
    print("errors of joints, root mean squares per axis in pixels:")
    print(check.table())


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            run(parse(arguments))
    except UserError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
