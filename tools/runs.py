#!/usr/bin/env python
"""List runs: state, epoch, best score, time, and the settings in which they differ.

tools/runs.py                       all runs below output/
tools/runs.py FOLDER ...            below these folders
tools/runs.py --sort best --json    sorted by score; as json

States: running; finished; stopped (by a signal: everything is saved); failed (by an error, which is
printed); dead (killed, or its machine is off). docs/training.md describes run folders.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

import orjson

from duopose.console import run_tool
from duopose.errors import UserError
from duopose.training.run_list import RunSummary, find_runs, runs_text

STATES = ("running", "finished", "stopped", "failed", "dead", "unfinished")


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("folders", nargs="*", type=Path, metavar="FOLDER", help="default: output")
    option("--state", choices=STATES, help="only runs in this state")
    option(
        "--sort",
        choices=("time", "best", "name"),
        default="time",
        help="order (default: the run written last first)",
    )
    option("--all-settings", action="store_true", help="all differing settings, not the first six")
    option("--json", action="store_true", help="print json, with all differing settings")
    return parser.parse_args(arguments)


def run(args: Namespace) -> None:
    """Print the runs."""
    folders = args.folders or [Path("output")]
    runs: list[RunSummary] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"the folder '{folder}' does not exist; give the OUTPUT_DIR of runs")
        runs += find_runs(folder)
    if args.state:
        runs = [one for one in runs if one.state == args.state]

    if args.sort == "best":
        runs.sort(key=lambda one: -1.0 if one.best is None else one.best, reverse=True)
    elif args.sort == "name":
        runs.sort(key=lambda one: str(one.folder))

    if args.json:
        print(orjson.dumps([one.to_dict() for one in runs], option=orjson.OPT_INDENT_2).decode())
    else:
        where = ", ".join(map(str, folders))
        state = f" in state '{args.state}'" if args.state else ""
        print(runs_text(runs, args.all_settings) or f"no runs{state} below {where}")


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 a mistake of the user's, 1 a bug."""
    try:
        run(parse(arguments))
    except UserError as error:
        print(f"runs: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
