"""Fuzzing: changed files of every kind into the readers; each must be read or be one sentence.

PYTHONPATH=lib python -m tests.fuzz --cases 200000 --seed 1      all readers
PYTHONPATH=lib python -m tests.fuzz --reader weights --cases 5000
PYTHONPATH=lib python -m tests.fuzz --reader weights --seed 1 --only 417 --out case     one again

Exit code 0: nothing found; 1: findings, whose first cases and tracebacks are in --out.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.all_targets import TARGETS, cases_of
from tests.fuzz.fuzz_run import Outcome, case_bytes, run_case, run_guarded

from duopose.evaluate.metrics import format_table

HEADER = ("reader", "cases", "read", "refused", "found", "slowest, s", "memory, MB", "CPU, s")


def parse() -> Namespace:
    """The command line."""
    parser = ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--reader", nargs="+", choices=[*TARGETS], default=[*TARGETS])
    parser.add_argument("--cases", type=int, default=10_000, help="of all readers (default 10000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one case of one reader, in this process")
    parser.add_argument("--out", type=Path, default=Path("output/fuzz"), help="for findings")
    return parser.parse_args()


def main() -> int:
    """The exit code."""
    args = parse()
    if args.only is not None:
        return run_again(args)
    outcomes = []
    print(" | ".join(HEADER))
    for name in args.reader:
        total = args.cases if len(args.reader) == 1 else cases_of(name, args.cases)
        numbers = range(args.first, args.first + total)
        outcome = run_guarded(TARGETS[name][0], name, args.seed, numbers)
        print(" | ".join(row_of(outcome)), flush=True)
        write_findings(outcome, args)
        outcomes.append(outcome)

    print(format_table(HEADER, [*map(row_of, outcomes), row_of(total_of(outcomes))]))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def row_of(outcome: Outcome) -> list[str]:
    """The figures of a reader; memory is what the cases took beyond the libraries."""
    counts = (outcome.cases, outcome.read, outcome.refused, len(outcome.findings))
    slowest = f"{outcome.slowest:.2f}"
    memory = 1024 * max(outcome.memory - outcome.start_memory, 0)
    return [outcome.name, *map(str, counts), slowest, f"{memory:.0f}", f"{outcome.cpu:.0f}"]


def total_of(outcomes: list[Outcome]) -> Outcome:
    """The sum, and the largest time and memory."""
    total = Outcome("all")
    for outcome in outcomes:
        total.add(outcome)
    total.start_memory = 0.0
    total.memory = max(outcome.memory - outcome.start_memory for outcome in outcomes)
    return total


def write_findings(outcome: Outcome, args: Namespace) -> None:
    """The first case of each kind, and its traceback."""
    for number, finding in enumerate(outcome.findings.values()):
        print(f"  {finding.count} x {finding.kind} (first: --only {finding.case})", flush=True)
        stem = f"{outcome.name}_{args.seed}_{number}"
        args.out.mkdir(parents=True, exist_ok=True)
        text = f"--seed {args.seed} --only {finding.case}\n{finding.kind}\n{finding.details}"
        (args.out / f"{stem}.txt").write_text(text)


def run_again(args: Namespace) -> int:
    """Write the file of one case, and read it without limits: an error is a traceback."""
    with TemporaryDirectory(prefix="duopose_fuzz_") as name:
        folder = Path(name)
        target = TARGETS[args.reader[0]][0](folder)
        content = case_bytes(target, args.seed, args.only)
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{target.name}_{args.seed}_{args.only}{target.suffix}"
        path.write_bytes(content)
        print(f"{path}: {len(content)} bytes")
        print(run_case(target, folder / f"case{target.suffix}", content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
