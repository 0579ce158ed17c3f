#!/usr/bin/env python
"""Does a long run grow? Memory, open files and threads over thousands of steps or images.

tools/soak.py train --cfg FILE.yaml [--steps N] [--validate-every N] [KEY VALUE ...]
tools/soak.py evaluate --model FILE.pth [KEY VALUE ...]     the images of DATASET.TEST
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from tempfile import TemporaryDirectory

from duopose.benchmarks import build_benchmark
from duopose.config import build_skeleton, load_config
from duopose.console import run_tool
from duopose.datasets import build_dataset
from duopose.errors import UserError
from duopose.inference.model import read_model_settings
from duopose.inference.unfinished import count_finished
from duopose.profiling.measure import format_row
from duopose.profiling.soak import slopes, watch

TOOLS = Path(__file__).resolve().parent


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "evaluate"))
    parser.add_argument("--cfg", default="", metavar="FILE", help="yaml of the training")
    parser.add_argument("--model", default="", metavar="FILE", help="model file to evaluate")
    parser.add_argument("--steps", type=int, default=2000, help="of the training (default 2000)")
    parser.add_argument(
        "--validate-every", type=int, default=200, metavar="N", help="steps (default 200)"
    )
    parser.add_argument(
        "--interval", type=float, default=2.0, help="seconds between two readings (default 2)"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="settings")
    return parser.parse_intermixed_args(arguments)


def soak_training(args: Namespace, folder: Path) -> None:
    """Train, and print the growth per 1000 steps."""
    if not args.cfg:
        raise UserError("soak train needs --cfg FILE.yaml")
    cfg = load_config(args.cfg, args.opts)
    images_per_step = cfg.GPUS * cfg.TRAIN.IMAGES_PER_GPU * cfg.TRAIN.ACCUMULATE
    settings = {
        "TRAIN.END_STEP": args.steps,
        "TRAIN.VAL_EVERY": 1,
        "DATASET.LIMIT": args.validate_every * images_per_step,  # images of an epoch
        "PRINT_FREQ": 10,
        "OUTPUT_DIR": folder / "output",
        "LOG_DIR": folder / "log",
    }
    words = [str(word) for pair in settings.items() for word in pair]
    command = [sys.executable, str(TOOLS / "dist_train.py"), "--cfg", args.cfg, *args.opts, *words]

    def steps_done() -> float:
        for file in folder.glob("output/*/*/*/metrics.csv"):
            last_line = file.read_text().rstrip().rpartition("\n")[2]
            return float(last_line.partition(",")[0] or 0)
        return 0.0

    for row in slopes(watch(command, steps_done, args.interval), args.steps):
        print(format_row(row))


def soak_evaluation(args: Namespace, folder: Path) -> None:
    """Evaluate, and print the growth per 1000 images."""
    if not args.model:
        raise UserError("soak evaluate needs --model FILE.pth")
    cfg, _ = read_model_settings(args.model, args.opts)
    layout = build_benchmark(cfg).layout
    data = build_dataset(cfg, build_skeleton(cfg), layout, cfg.DATASET.TEST, train=False)
    out = ["--out", str(folder)]
    command = [sys.executable, str(TOOLS / "valid.py"), "--model", args.model, *out, *args.opts]

    by_role = watch(command, lambda: count_finished(folder), args.interval)
    for row in slopes(by_role, len(data)):
        print(format_row(row))


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's."""
    args = parse(arguments)
    try:
        with TemporaryDirectory(prefix="duopose-soak-") as folder:
            soak = soak_training if args.what == "train" else soak_evaluation
            soak(args, Path(folder))
    except UserError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
