#!/usr/bin/env python
"""Does everything work on this GPU? Ten minutes, one GPU, no network; ends with a table.

tools/gpu_check.py                    all checks on CUDA
tools/gpu_check.py --device cpu       what a CPU can show, at tiny sizes, and what it cannot
tools/gpu_check.py --fetch-wheels     download packages that the machine with the GPU may lack

Each check runs in a process of its own, with a time limit. Exit codes: 0 all is right, 1 a check
has failed, 2 a mistake of the user's.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from duopose.errors import UserError
from duopose.gpu_check import check_runner
from duopose.gpu_check.wheels import add_missing, fetch

PROJECT = Path(__file__).resolve().parents[1]
WHEELS = PROJECT / "build" / "gpu_check_wheels"
STARTED = time.monotonic()  # imports on a cold disk count, too
TOTAL_LIMIT = 560.0  # seconds, so that the table is printed within ten minutes
AT_ONCE = {"cuda": 3, "cpu": 1}  # checks at the same time; none while something is timed


def parse(arguments: list[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", default="", metavar="NAMES", help="checks, separated by commas")
    parser.add_argument(
        "--seconds", type=float, default=TOTAL_LIMIT, help="for all checks together (default 560)"
    )
    parser.add_argument(
        "--factor",
        type=float,
        default=1.0,
        help="of all time limits, for a slow machine or one with other work (default 1)",
    )
    parser.add_argument("--table", default="", metavar="FILE", help="write the table to this file")
    parser.add_argument("--fetch-wheels", action="store_true", help="download, and check nothing")
    parser.add_argument("--findings", default="", help="used between the processes of this tool")
    return parser.parse_args(arguments)


def check_all(args: Namespace) -> int:
    """Run the checks in their processes, and print the table."""
    # Here, because these need the packages that may have been unpacked a moment ago.
    from duopose.gpu_check.check_list import select
    from duopose.runtime import pick_device

    pick_device(args.device)
    checks = select(args.only, args.factor)
    results = []
    if args.device == "cpu":
        results = check_runner.without_cuda(checks)
        checks = [check for check in checks if not check.needs_cuda]

    def command(check: check_runner.Check, file: Path) -> list[str]:
        options = ["--device", args.device, "--only", check.name, "--findings", str(file)]
        return [sys.executable, __file__, *options]

    with TemporaryDirectory(prefix="duopose-gpu-check-") as folder:
        jobs = check_runner.make_jobs(checks, command, Path(folder))
        left = args.factor * args.seconds - (time.monotonic() - STARTED)
        report = partial(print, flush=True)
        done = check_runner.run_jobs(jobs, left, AT_ONCE[args.device], report)
    results = [*done, *results]

    text = check_runner.table(results)
    print(f"\n{text}\n\n{check_runner.summary(results)}")
    if args.table:
        Path(args.table).write_text(text + "\n", encoding="utf-8")
    return check_runner.exit_code(results)


def check_one(args: Namespace) -> None:
    """In the process of a check: write its findings."""
    from duopose.gpu_check.check_list import select

    (check,) = select(args.only)
    check_runner.write_findings(check.function(args.device), Path(args.findings))


def main(arguments: list[str]) -> int:
    """The exit code."""
    args = parse(arguments)
    try:
        if args.fetch_wheels:
            total = fetch(PROJECT / "requirements.lock", WHEELS)
            print(f"{total / 2**20:.1f} MiB of wheels in {WHEELS}")
            return 0
        if args.findings:
            check_one(args)
            return 0
        with TemporaryDirectory(prefix="duopose-packages-") as packages:
            added = add_missing(WHEELS, Path(packages))
            if added:
                print(f"unpacked: {', '.join(added)}")
            return check_all(args)
    except UserError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    # Not through duopose.console: the table should appear even where a reader is slow or gone.
    sys.exit(main(sys.argv[1:]))
