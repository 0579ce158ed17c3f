"""Check the data of a config before training.

python tools/check_data.py --cfg X.yaml [--skip-images] [KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm
from yacs.config import CfgNode

from duopose.benchmarks import Benchmark, build_benchmark
from duopose.config import build_skeleton, load_config
from duopose.config.build import json_memory
from duopose.console import run_tool
from duopose.datasets.build import find_files
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.records import check_skeleton
from duopose.datasets.check.splits import Rules, SplitReport, check_pair, check_split
from duopose.errors import UserError, counted


def main(arguments: list[str]) -> int:
    """Exit code 0: no problems; 1: problems in the data; 2: wrong settings."""
    args = parse(arguments)
    try:
        cfg = load_config(args.cfg, args.opts)
        skeleton = build_skeleton(cfg)
        benchmark = build_benchmark(cfg)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    data = cfg.DATASET
    rules = Rules(skeleton, benchmark.required, data.MAX_NUM_PEOPLE, json_memory(cfg))
    decode = not args.skip_images
    train = check_one(cfg, benchmark, data.TRAIN, rules, train=True, decode=decode)
    test = check_one(cfg, benchmark, data.TEST, rules, train=False, decode=decode)
    skeleton_findings = Findings("skeleton")
    check_skeleton(skeleton, skeleton_findings)
    all_findings = [skeleton_findings, train.findings, test.findings, check_pair(train, test)]

    for report in (train, test):
        print("\n".join([report.findings.where, *report.summary]))
    for findings in all_findings:
        for line in findings.lines():
            print(line)

    num_problems = sum(len(findings.problems) for findings in all_findings)
    kinds = counted(num_problems, "kind of problem", "kinds of problems")
    print(f"{kinds} found" if num_problems else "no problems found")
    return 1 if num_problems else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cfg", required=True, type=Path, help="the yaml of the training")
    parser.add_argument(
        "--skip-images",
        action="store_true",
        help="do not open the images (missing ones are still found)",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="settings that override the yaml"
    )
    return parser.parse_intermixed_args(arguments)


def check_one(
    cfg: CfgNode, benchmark: Benchmark, split: str, rules: Rules, *, train: bool, decode: bool
) -> SplitReport:
    """The report of one split; a missing file or folder is its only problem."""
    try:
        annotations, images = find_files(cfg, benchmark.layout, split, train=train)
    except UserError as error:
        report = SplitReport(Findings(split))
        report.findings.problem(str(error))
        return report

    print(f"checking {annotations}", file=sys.stderr)
    threads = max(cfg.WORKERS, 1)
    is_terminal = sys.stderr.isatty()
    with tqdm(desc=f"images of {split}", unit="image", disable=not is_terminal) as bar:

        def update_bar(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        words = (split, annotations, images, rules, decode, threads, update_bar)
        return check_split(*words, for_training=train)


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
