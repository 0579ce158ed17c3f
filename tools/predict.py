#!/usr/bin/env python
"""Find people in images and videos, and write drawn copies and a COCO-style json.

tools/predict.py SOURCE ... [--model FILE.pth] [--out FOLDER] [KEY VALUE ...]

SOURCE: an image, a video, a folder, a zip of images, a glob in quotes ('shots/*.jpg'), the index
of a camera (0), or the url of a stream (rtsp://...). No yaml is needed. docs/predict.md
"""

from __future__ import annotations

import re
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from contextlib import suppress
from pathlib import Path

from duopose.config.settings import SETTINGS
from duopose.console import run_tool
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.image_files import safe_stem
from duopose.inference.model import Model, load
from duopose.network.model_file import default_model_file
from duopose.predict.outputs import free_folder, make_output_folder
from duopose.predict.predict_items import Options, Outcome, predict
from duopose.predict.sources import find_items
from duopose.predict.window import Window
from duopose.runtime import configure_torch

DEFAULT_OUT = Path("output/predict")
MAX_COUNT = 1_000_000  # frames, and images computed together
SECTIONS = "|".join(sorted({key.split(".")[0] for key in SETTINGS if "." in key}))
TOP_KEYS = "|".join(sorted(key for key in SETTINGS if "." not in key))
SETTING_KEY = re.compile(rf"(?:(?:{SECTIONS})\.[A-Z0-9_.]+|{TOP_KEYS})(?:=.*)?")


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("words", nargs="+", metavar="SOURCE | KEY VALUE", help="sources, then settings")
    option("--model", default="", metavar="FILE", help="model file (default: models/duopose_*.pth)")
    option(
        "--out",
        default="",
        metavar="FOLDER",
        help=f"where the files go (default: a new folder in {DEFAULT_OUT}/)",
    )
    option("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    option(
        "--preset",
        choices=("clean", "leaderboard"),
        default="clean",
        help="clean (default): sure people and joints; leaderboard: everything that raises AP",
    )
    option("--threshold", type=float, metavar="X", help="smallest score of a person")
    option("--joint-threshold", type=float, default=0.0, metavar="X", help="of a drawn joint")
    option("--track", action="store_true", help="ids that stay the same through a video")
    option("--csv", action="store_true", help="write predictions.csv, too: one row a person")
    option("--no-draw", action="store_true", help="write no drawn copies")
    option("--show", action="store_true", help="open a window")
    option("--frames", type=int, default=0, metavar="N", help="first N frames of each video")
    option("--batch", type=int, default=1, metavar="N", help="images computed together (GPU)")
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> int:
    """Predict; 0, or 2 where nothing could be read."""
    for name in ("frames", "batch"):
        if not (name == "batch") <= getattr(args, name) <= MAX_COUNT:
            raise UserError(f"--{name} {getattr(args, name)}: it must be from 1 to {MAX_COUNT}")
    sources, settings = split_words(args.words)
    items = find_items(sources)
    window = Window() if args.show else None
    model = load_model(args, settings)

    folder = Path(args.out or free_folder(DEFAULT_OUT, safe_stem(sources[0])))
    make_output_folder(folder)
    options = Options(
        args.joint_threshold, args.track, not args.no_draw, args.batch, args.frames, window
    )
    info = {"model": Path(model.load_report.path).name, "preset": args.preset}
    outcome = predict(model, items, folder, options, args.csv, info)
    if not outcome.num_images:
        remove_if_empty(folder)
        raise UserError("nothing could be read:" + outcome.listed_problems())
    print_summary(outcome, folder, args.csv)
    if window is not None and not outcome.was_interrupted:
        window.wait()
    return 0


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Sources, and the KEY VALUE words after them."""
    is_key = [SETTING_KEY.fullmatch(word) and not Path(word).exists() for word in words]
    first = next((index for index, found in enumerate(is_key) if found), len(words))
    if not first:
        raise UserError("name a source before the settings; see --help")
    return words[:first], words[first:]


def load_model(args: Namespace, settings: list[str]) -> Model:
    """The model with the command line's settings; those given as KEY VALUE have the last word."""
    path = args.model or default_model_file()
    # The file's THREADS were those of a training.
    chosen: list[object] = ["TEST.PRESET", args.preset, "THREADS", 0]
    if args.threshold is not None:
        chosen += ["TEST.PERSON_THRESHOLD", args.threshold]
    model = load(path, args.device, [*chosen, *settings])
    configure_torch(model.cfg)
    return model


def print_summary(outcome: Outcome, folder: Path, with_csv: bool) -> None:
    """What was found, where the files are, and what could not be read."""
    people = counted(outcome.num_people, "person", "people")
    stopped = "interrupted; until then: " if outcome.was_interrupted else ""
    print(f"{stopped}{people} in {outcome.counted_images()}")
    names = "predictions.json and predictions.csv" if with_csv else "predictions.json"
    print(f"{folder}: {names}, {len(outcome.drawn)} drawn")

    if outcome.problems:
        count = f"{len(outcome.problems)} could not be read, or not completely:"
        print(count + outcome.listed_problems(), file=sys.stderr)


def remove_if_empty(folder: Path) -> None:
    """Leave no empty folder behind."""
    with suppress(OSError):
        folder.rmdir()


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's or nothing could be read, 1 a bug."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` finishes the files, too
    try:
        with path_errors_as_user_errors():
            return run(parse(arguments))
    except UserError as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
