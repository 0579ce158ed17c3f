#!/usr/bin/env python
"""Train: `tools/dist_train.py --cfg FILE.yaml [--name NAME] [--gpus N] [KEY VALUE ...]`.

See docs/launch.md and docs/training.md.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from yacs.config import CfgNode

from duopose.config import load_config
from duopose.config.differences import resolved_text
from duopose.console import run_tool
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import ExitCode, launch, process_count
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.run_folder import RunFolder, continuing_overrides
from duopose.runtime import setup_console_logging
from duopose.training.file_checks import check_files
from duopose.training.run import Options, run_training


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cfg",
        required=True,
        metavar="FILE",
        help="yaml of the experiment; the recipes are under experiments/. The config.yaml of a run "
        "folder continues that run",
    )
    parser.add_argument(
        "--name",
        default="",
        metavar="NAME",
        help="name of the run and of its folder (default: that of the yaml)",
    )
    parser.add_argument(
        "--gpus",
        type=process_count,
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
        "--print-config",
        action="store_true",
        help="print the resolved settings and what differs from the defaults, and end",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings that override the yaml, e.g. TRAIN.LR 1e-4 (or TRAIN.LR=1e-4)",
    )
    return parser.parse_intermixed_args(arguments)


def work(context: DistributedContext, cfg: CfgNode, options: Options) -> int:
    """What each rank does."""
    setup_console_logging(context.is_main_process)
    return run_training(cfg, options, context)


def run(args: Namespace) -> int:
    """Train, or print the settings."""
    overrides = continuing_overrides(args.cfg, args.name, args.opts)
    cfg = load_config(args.cfg, overrides)
    options = Options(args.cfg, args.resume, args.resume_anyway, args.dry_run, args.name)
    folder = RunFolder.from_config(cfg, options.config, options.name)
    if args.print_config:
        print(resolved_text(cfg, [f"run folder: {folder.root}"]), end="")
        return ExitCode.DONE

    for notice in check_files(cfg, options, folder, overrides):
        print(f"notice: {notice}", flush=True)
    return launch(work, args.gpus or cfg.GPUS, cfg.DEVICE, (cfg, options))


def main(arguments: list[str]) -> int:
    """Train; returns an `ExitCode`."""
    try:
        with path_errors_as_user_errors():
            return run(parse(arguments))
    except UserError as error:
        print(f"dist_train: {error}", file=sys.stderr)
        return ExitCode.USER_ERROR


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
