#!/usr/bin/env python
"""Evaluate: predict a split and score it, score an existing results file, or compare evaluations.

tools/valid.py --model FILE.pth [--gpus N] [KEY VALUE ...]   a model file, with its own settings
tools/valid.py --cfg FILE.yaml [--name RUN] [--gpus N] [KEY VALUE ...]  the weights of a run
tools/valid.py --results FILE.json [--cfg FILE.yaml] [KEY VALUE ...]  a results file, no network
tools/valid.py --compare A B ...    metrics.json files or run folders: numbers and protocols
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from yacs.config import CfgNode

from duopose.config import load_config
from duopose.config.differences import resolved_text
from duopose.console import run_tool
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch, process_count
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.evaluate.metrics import metrics_table, times_table
from duopose.inference.comparison import compare
from duopose.inference.evaluation import Evaluation, run_evaluation, score_file
from duopose.inference.evaluation_inputs import EvaluationInputs
from duopose.inference.model import read_model_settings
from duopose.runtime import setup_console_logging
from duopose.skeletons import Skeleton


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--model", default="", metavar="FILE", help="model file that training wrote")
    option("--cfg", default="", metavar="FILE", help="yaml of the experiment, or of a run folder")
    option("--name", default="", metavar="NAME", help="name of the run (default: that of the yaml)")
    option("--gpus", type=process_count, metavar="N", help="processes (default: GPUS)")
    option("--results", default="", metavar="FILE", help="results json to score")
    option("--annotations", default="", metavar="FILE", help="ground truth, if not below ROOT")
    option("--compare", nargs="+", default=(), metavar="PATH", help="two or more, see above")
    option("--print-config", action="store_true", help="print the resolved settings, and end")
    option(
        "--out",
        default="",
        metavar="FOLDER",
        help="where results go (default: results/ of the run folder or beside the model file; "
        "with --results, FILE_metrics.json)",
    )
    option(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="settings over those of the yaml or model file, e.g. TEST.PROTOCOL multiscale",
    )
    return parser.parse_intermixed_args(arguments)


def run(args: Namespace) -> int:
    """Do what the command line asks for; the exit code."""
    if args.compare:
        print(compare([Path(path) for path in [*args.compare, *args.opts]]))
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
    if args.print_config:
        saved = read_model_settings(args.model, overrides).cfg if args.model else None
        print(resolved_text(saved or load_config(args.cfg or None, overrides)), end="")
        return 0
    if args.results:
        return evaluate_results_file(args, load_config(args.cfg or None, overrides))

    if args.model:
        inputs = EvaluationInputs.from_model_file(Path(args.model), overrides)
    else:
        inputs = EvaluationInputs.from_config(args.cfg, overrides, args.name)
    return evaluate(args, inputs)


def evaluate_results_file(args: Namespace, cfg: CfgNode) -> int:
    """--results: score people that were predicted before."""
    results = Path(args.results)
    metrics_file = results.with_name(f"{results.stem}_metrics.json")
    if args.out:
        metrics_file = Path(args.out) / "metrics.json"
    print(metrics_table(score_file(cfg, results, metrics_file), results.name))
    print(f"numbers and protocol: {metrics_file}")
    return 0


def evaluate(args: Namespace, inputs: EvaluationInputs) -> int:
    """Predict and score on --gpus processes."""
    inputs.check_data()
    for notice in inputs.notices:
        print(f"notice: {notice}", flush=True)
    cfg = inputs.cfg
    arguments = (cfg, inputs.skeleton, inputs.weights, Path(args.out or inputs.folder))
    return launch(worker, args.gpus or cfg.GPUS, cfg.DEVICE, arguments)


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
    print(f"{counted(evaluation.num_images, 'image')}; results: {evaluation.results_file}")
    print(f"numbers and protocol: {evaluation.metrics_file}")
    if evaluation.submission:
        print(f"to submit: {evaluation.submission}")
    if evaluation.drawn:
        print(f"{counted(len(evaluation.drawn), 'drawn image')}: {evaluation.drawn[0].parent}")


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            return run(parse(arguments))
    except UserError as error:
        print(f"valid: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
