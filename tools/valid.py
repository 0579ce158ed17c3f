#!/usr/bin/env python
"""Evaluate: predict a split and score it, score an existing results file, or compare two evaluations.

tools/valid.py --cfg FILE.yaml [--gpus N] [KEY VALUE ...]            predict DATASET.TEST and score it
tools/valid.py --results FILE.json [--cfg FILE.yaml] [KEY VALUE ...]  score a results file, no network needed
tools/valid.py --compare METRICS_A.json METRICS_B.json                what differs, in numbers and in protocol
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.config import load_config
from duopose.distributed.launch import launch
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.evaluate.tables import metrics_table
from duopose.inference.evaluation import EvaluationOptions, compare, run_evaluation, score_file
from duopose.run_folder import RunFolder


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cfg",
        default="",
        metavar="FILE",
        help="yaml of the experiment; with --results it may be left out",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=0,
        metavar="N",
        help="processes on this machine that share the images (default: GPUS)",
    )
    parser.add_argument(
        "--results",
        default="",
        metavar="FILE",
        help="score this results json instead of predicting",
    )
    parser.add_argument(
        "--annotations",
        default="",
        metavar="FILE",
        help="the truth, where it is not in DATASET.ROOT's layout",
    )
    parser.add_argument(
        "--compare", nargs=2, default=(), metavar="FILE", help="two metrics.json files"
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="FOLDER",
        help="where results go (default: results/ of the run folder)",
    )
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings that differ from the yaml, e.g. TEST.PROTOCOL multiscale",
    )
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> int:
    """What the command line asks for; the exit code."""
    if args.compare:
        print(compare(Path(args.compare[0]), Path(args.compare[1])))
        return 0
    if not args.cfg and not args.results:
        raise UserError(
            "give --cfg FILE.yaml (to predict and score), --results FILE (to score) or --compare A B; see --help"
        )
    more = (
        ["DATASET.TEST_ANNOTATIONS", str(Path(args.annotations).absolute())]
        if args.annotations
        else []
    )
    cfg = load_config(args.cfg or None, [*args.opts, *more])
    if args.results:
        out = (
            Path(args.out)
            if args.out
            else RunFolder.from_config(cfg, args.cfg or args.results).results
        )
        print(metrics_table(score_file(cfg, Path(args.results), out), Path(args.results).name))
        print(f"numbers and protocol: {out / 'metrics.json'}")
        return 0
    return launch(
        run_evaluation,
        args.gpus or cfg.GPUS,
        cfg.DEVICE,
        (cfg, EvaluationOptions(args.cfg, args.out)),
    )


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 something for the user to mend, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            return run(parse(arguments))
    except UserError as error:
        print(f"valid: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
