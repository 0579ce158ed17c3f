#!/usr/bin/env python
"""Evaluate: predict a split and score it, score an existing results file, or compare evaluations.

tools/valid.py --model FILE.pth [--gpus N] [KEY VALUE ...]   a model file, with its own settings
tools/valid.py --cfg FILE.yaml [--gpus N] [KEY VALUE ...]    the weights of a training run
tools/valid.py --results FILE.json [--cfg FILE.yaml] [KEY VALUE ...]  a results file, no network
tools/valid.py --compare METRICS_A.json METRICS_B.json       numbers and protocols side by side
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from yacs.config import CfgNode

from duopose.config import build_skeleton, load_config
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.evaluate.metrics import metrics_table, times_table
from duopose.inference.evaluation import (
    Evaluation,
    compare,
    find_weights,
    run_evaluation,
    score_file,
)
from duopose.inference.model import read_model_settings
from duopose.run_folder import RunFolder
from duopose.runtime import setup_console_logging
from duopose.skeletons import Skeleton


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--model", default="", metavar="FILE", help="model file that training wrote")
    option("--cfg", default="", metavar="FILE", help="yaml of the experiment")
    option("--gpus", type=int, default=0, metavar="N", help="processes (default: GPUS)")
    option("--results", default="", metavar="FILE", help="results json to score")
    option("--annotations", default="", metavar="FILE", help="ground truth, if not below ROOT")
    option("--compare", nargs=2, default=(), metavar="FILE", help="two metrics.json files")
    option(
        "--out",
        default="",
        metavar="FOLDER",
        help="where results go (default: results/ of the run folder, or beside the model file)",
    )
    option(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings that override those of the yaml or model file, "
        "e.g. TEST.PROTOCOL multiscale",
    )
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> int:
    """Do what the command line asks for; the exit code."""
    if args.compare:
        print(compare(Path(args.compare[0]), Path(args.compare[1])))
        return 0
    if not (args.model or args.cfg or args.results):
        raise UserError(
            "give --model FILE.pth or --cfg FILE.yaml (to predict and score), --results FILE "
            "(to score) or --compare A B; see --help"
        )
    if args.model and (args.cfg or args.results):
        raise UserError("--model: a model file has its own settings; leave out --cfg and --results")

    overrides = list(args.opts)
    if args.annotations:
        overrides += ["DATASET.TEST_ANNOTATIONS", str(Path(args.annotations).absolute())]
    if args.model:
        weights = Path(args.model)
        cfg, skeleton = read_model_settings(weights, overrides)
        return evaluate(args, cfg, skeleton, weights, weights.parent / "results")
    cfg = load_config(args.cfg or None, overrides)
    if args.results:
        return evaluate_results_file(args, cfg)

    folder = RunFolder.from_config(cfg, args.cfg)
    weights = find_weights(cfg, folder)
    skeleton = build_skeleton(cfg)
    return evaluate(args, cfg, skeleton, weights, folder.results)


def evaluate_results_file(args: Namespace, cfg: CfgNode) -> int:
    """--results: score people that were predicted before."""
    results = Path(args.results)
    out = Path(args.out or RunFolder.from_config(cfg, args.cfg or results).results)
    print(metrics_table(score_file(cfg, results, out), results.name))
    print(f"numbers and protocol: {out / 'metrics.json'}")
    return 0


def evaluate(
    args: Namespace, cfg: CfgNode, skeleton: Skeleton, weights: Path, default_out: Path
) -> int:
    """Predict and score on --gpus processes."""
    folder = Path(args.out or default_out)
    return launch(worker, args.gpus or cfg.GPUS, cfg.DEVICE, (cfg, skeleton, weights, folder))


def worker(
    context: DistributedContext, cfg: CfgNode, skeleton: Skeleton, weights: Path, folder: Path
) -> int:
    """What every process runs; rank 0 prints."""
    setup_console_logging(context.is_main_process)
    evaluation = run_evaluation(context, cfg, skeleton, weights, folder)
    if context.is_main_process:
        print_summary(cfg, evaluation)
    return 0


def print_summary(cfg: CfgNode, evaluation: Evaluation) -> None:
    """The tables, and where the files are."""
    assert evaluation.metrics is not None
    print(metrics_table(evaluation.metrics, f"{cfg.MODEL.NAME} {cfg.DATASET.TEST}"))
    if cfg.VERBOSE:
        print(f"\n{times_table(evaluation.milliseconds)}")
        print("(stages overlap: their sum may exceed the run's time)\n")
    print(f"{evaluation.num_images} images; results: {evaluation.results_file}")
    print(f"numbers and protocol: {evaluation.metrics_file}")
    if evaluation.submission:
        print(f"to submit: {evaluation.submission}")
    if evaluation.drawn:
        print(f"{len(evaluation.drawn)} drawn images: {evaluation.drawn[0].parent}")


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            return run(parse(arguments))
    except UserError as error:
        print(f"valid: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
