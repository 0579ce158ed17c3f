#!/usr/bin/env python
"""Train: `tools/dist_train.py --cfg FILE.yaml [--gpus N] [KEY VALUE ...]`.

See docs/launch.md and docs/training.md.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from yacs.config import CfgNode

from duopose.config import load_config
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import ExitCode, launch
from duopose.errors import UserError
from duopose.runtime import setup_console_logging
from duopose.training.run import Options, run_training


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cfg",
        required=True,
        metavar="FILE",
        help="yaml of the experiment; the recipes are under experiments/",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=0,
        metavar="N",
        help="processes on this machine (default: GPUS of the settings)",
    )
    parser.add_argument(
        "--resume",
        default="",
        metavar="PATH",
        help="checkpoint or run folder to resume from (see also AUTO_RESUME)",
    )
    parser.add_argument(
        "--resume-anyway",
        action="store_true",
        help="resume although settings differ from those of the checkpoint",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="three steps at the largest shapes: memory, speed, the batch that fits",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings that override the yaml, e.g. TRAIN.LR 1e-4",
    )
    return parser.parse_intermixed_args(arguments)


def work(context: DistributedContext, cfg: CfgNode, options: Options) -> int:
    """What each rank does."""
    setup_console_logging(context.is_main_process)
    return run_training(cfg, options, context)


def main(arguments: list[str]) -> int:
    """Train; returns an `ExitCode`."""
    args = parse(arguments)
    try:
        cfg = load_config(args.cfg, args.opts)
        options = Options(args.cfg, args.resume, args.resume_anyway, args.dry_run)
        return launch(work, args.gpus or cfg.GPUS, cfg.DEVICE, (cfg, options))
    except UserError as error:
        print(f"dist_train: {error}", file=sys.stderr)
        return ExitCode.USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
