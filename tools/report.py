#!/usr/bin/env python
"""Write a report of one or more evaluations as one html file that needs nothing else.

tools/report.py RUN_FOLDER                        the evaluation and the training of a run
tools/report.py RESULTS_FOLDER                    a folder with results.json and metrics.json
tools/report.py RESULTS.json --annotations FILE   a results file of any method
tools/report.py A B [C ...]                       side by side, with what differs
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.console import run_tool
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.json_limit_option import add_json_limit, json_limit
from duopose.report.analysis import with_label
from duopose.report.document import WORST_IMAGES, write_report
from duopose.report.report_sources import SourceOptions, distinct_labels, open_source

NAME = "report.html"


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("sources", nargs="+", type=Path, metavar="RUN_OR_RESULTS", help="what to report on")
    option("--annotations", default="", metavar="FILE", help="ground truth (default: the run's)")
    option("--images", default="", metavar="FOLDER", help="images, or a zip (default: the run's)")
    option("--skeleton", default="", metavar="NAME", help="coco, crowdpose, mpii or a yaml")
    option("--benchmark", default="", metavar="NAME", help="coco, crowdpose or mpii")
    option("--labels", default="", metavar="A,B", help="names of the sources in the report")
    option("--worst", type=int, default=WORST_IMAGES, metavar="N", help="worst images to show")
    option("--title", default="", help="of the page")
    add_json_limit(parser)
    option(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"default: {NAME} in the given folder, for several sources or a file: here",
    )
    return parser.parse_args(arguments)


def run(args: Namespace) -> None:
    """Write the report and print where it is."""
    start = time.monotonic()
    given = (args.annotations, args.images, args.skeleton, args.benchmark)
    options = SourceOptions(*given, max_memory=args.json_gb and json_limit(args))
    labels = source_labels(args)
    sources = [
        with_label(open_source(path, options), label)
        for path, label in zip(args.sources, labels, strict=True)
    ]

    out = args.out or default_path(args.sources)
    analyses = write_report(out, sources, max(args.worst, 0), args.title)
    for one in analyses:
        for sentence in one.notes:
            print(f"{one.label}: {sentence}")
    seconds = time.monotonic() - start
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s")


def source_labels(args: Namespace) -> list[str]:
    """Those of --labels, else the names of files and folders."""
    if not args.labels:
        return distinct_labels(args.sources)
    labels = [label.strip() for label in args.labels.split(",")]
    if len(labels) != len(args.sources) or len(set(labels)) != len(labels):
        raise UserError(
            f"--labels must name each of the {len(args.sources)} sources once, separated by "
            f"commas, not '{args.labels}'"
        )
    return labels


def default_path(sources: list[Path]) -> Path:
    """In the folder of the only source, else in the present folder."""
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0] / NAME
    return Path(NAME)


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        with path_errors_as_user_errors():
            run(parse(arguments))
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
