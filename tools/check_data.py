"""Check the data of a config before training: python tools/check_data.py --cfg X.yaml [--skip-images] [KEY VALUE ...]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm
from yacs.config import CfgNode

from duopose.config import build_skeleton, load_config
from duopose.datasets.build import find_files
from duopose.datasets.check.findings import Findings
from duopose.datasets.check.records import check_skeleton
from duopose.datasets.check.splits import Rules, SplitReport, check_pair, check_split
from duopose.errors import UserError


def main(arguments: list[str]) -> int:
    """Exit code 0: nothing wrong; 1: problems; 2: the settings themselves are wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cfg", required=True, type=Path, help="the yaml of the training")
    parser.add_argument(
        "--skip-images",
        action="store_true",
        help="do not open the images (their presence is checked all the same)",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="settings that differ from the yaml"
    )
    args = parser.parse_intermixed_args(arguments)
    try:
        cfg = load_config(args.cfg, args.opts)
        reports = [
            check_one(cfg, cfg.DATASET.TRAIN, True, args.skip_images),
            check_one(cfg, cfg.DATASET.TEST, False, args.skip_images),
        ]
        of_skeleton = Findings("skeleton")
        check_skeleton(build_skeleton(cfg), of_skeleton)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    everything = [of_skeleton, *(report.findings for report in reports), check_pair(*reports)]
    for report in reports:
        print("\n".join([report.findings.where, *report.summary]))
    for findings in everything:
        print("".join(f"{line}\n" for line in findings.lines()), end="")
    problems = sum(len(findings.problems) for findings in everything)
    print(
        f"{problems} kinds of problems found"
        if problems
        else "the data are in order: no problems found"
    )
    return 1 if problems else 0


def check_one(cfg: CfgNode, split: str, train: bool, skip_images: bool) -> SplitReport:
    """A split's report; a missing file or folder is its only problem."""
    try:
        annotations, images = find_files(cfg, split, train)
    except UserError as error:
        report = SplitReport(Findings(split))
        report.findings.problem(str(error))
        return report
    print(f"checking {annotations}", file=sys.stderr)
    rules = Rules(build_skeleton(cfg), cfg.DATASET.DATASET, cfg.DATASET.MAX_NUM_PEOPLE)
    with tqdm(desc=f"images of {split}", unit="image", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return check_split(
            split, annotations, images, rules, not skip_images, max(cfg.WORKERS, 1), show
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
