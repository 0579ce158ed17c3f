#!/usr/bin/env python
"""Variants of a recipe with several seeds, as jobs that any number of processes take from a folder.

tools/study.py plan STUDY.yaml ... --out FOLDER        write the jobs that do not exist yet
tools/study.py work FOLDER [--threads N] [--jobs N]    take jobs until none is left; run several
tools/study.py status FOLDER                           how many are done; what runs, what failed
tools/study.py report FOLDER ... --out docs/study.md   the tables

docs/studies.md describes studies.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.console import run_tool
from duopose.distributed.launch import ExitCode
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.files import write_atomically
from duopose.study.jobs import JobFolder
from duopose.study.plan import make_plan
from duopose.study.report import status_text, write_report
from duopose.study.resampling import RESAMPLES
from duopose.study.speed import measure_study
from duopose.study.study_file import read_study
from duopose.study.worker import Worker


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    plan_parser = commands.add_parser("plan", help="write the jobs of studies")
    plan_parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY.yaml")
    plan_parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    plan_parser.set_defaults(run=plan)

    work_parser = commands.add_parser("work", help="take jobs until none is left")
    work_parser.add_argument("folder", type=Path, metavar="FOLDER")
    work_parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads of a job's processes"
    )
    work_parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="end after N jobs (default: no limit)"
    )
    work_parser.add_argument(
        "--retry-failed", action="store_true", help="first put failed jobs back to todo"
    )
    work_parser.set_defaults(run=work)

    status_parser = commands.add_parser("status", help="the number of jobs by state")
    status_parser.add_argument("folder", type=Path, metavar="FOLDER")
    status_parser.set_defaults(run=status)

    report_parser = commands.add_parser("report", help="write the tables")
    report_parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    report_parser.add_argument("--out", type=Path, required=True, metavar="FILE.md")
    report_parser.add_argument(
        "--resamples", type=int, default=RESAMPLES, metavar="N", help="bootstrap samples"
    )
    report_parser.set_defaults(run=report)

    measure_parser = commands.add_parser("measure", help="speeds, for a budget of CPU seconds")
    measure_parser.add_argument("spec", type=Path, metavar="SPEC.json")
    measure_parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    measure_parser.set_defaults(run=measure)
    return parser.parse_args(arguments)


def plan(args: Namespace) -> int:
    """Write the jobs of the studies."""
    for path in args.studies:
        study = read_study(path)
        made, added = make_plan(study, args.out)
        print(f"{path}: {len(made.runs)} variants x {len(study.seeds)} seeds, {added} new jobs")
    print(f"run them with: python tools/study.py work {args.out}")
    return ExitCode.DONE


def work(args: Namespace) -> int:
    """Take jobs until none is left."""
    check_is_study(args.folder)
    if args.retry_failed:
        JobFolder(args.folder).retry_failed()
    return Worker(args.folder, args.threads).work(args.jobs)


def status(args: Namespace) -> int:
    """Print the state of the jobs."""
    check_is_study(args.folder)
    print(status_text(args.folder))
    return ExitCode.DONE


def report(args: Namespace) -> int:
    """Write the tables."""
    names = " ".join(map(str, args.folders))
    command = f"python tools/study.py report {names} --out {args.out}"
    text = write_report(args.folders, command, args.resamples)
    write_atomically(args.out, text.encode())
    print(f"written: {args.out}")
    return ExitCode.DONE


def measure(args: Namespace) -> int:
    """Measure how many steps each training may have; a job of `work` runs this."""
    steps = measure_study(args.spec, args.out)
    for name, number in steps.items():
        print(f"{name}: {counted(number, 'step')}")
    return ExitCode.DONE


def check_is_study(folder: Path) -> None:
    """UserError where no study was planned into the folder."""
    if not (folder / "studies").is_dir():
        raise UserError(f"'{folder}' holds no study; make one with tools/study.py plan")


def main(arguments: list[str]) -> int:
    """Exit codes as of training: 0 done, 2 a user's mistake or failed jobs, 3 stopped."""
    args = parse(arguments)
    try:
        with path_errors_as_user_errors():
            return int(args.run(args))
    except UserError as error:
        print(f"study: {error}", file=sys.stderr)
        return ExitCode.USER_ERROR


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
