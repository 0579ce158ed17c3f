#!/usr/bin/env python
"""Measures the speed of one stage, or of all: tools/benchmark.py STAGE [options] [--json FILE]

`STAGE --help` shows the options of a stage.
"""

from __future__ import annotations

import json
import platform
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch

from duopose.console import run_tool
from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.profiling.decode_stages import DECODE, MERGE
from duopose.profiling.evaluate_stage import EVALUATE
from duopose.profiling.gpu_stage import GPU
from duopose.profiling.loader_stage import LOADER
from duopose.profiling.measure import Row, Stage, add_common_arguments, format_row, limit_threads
from duopose.profiling.training_stages import LOSSES, NETWORK, TRAIN

STAGES = {
    stage.name: stage for stage in (LOADER, LOSSES, NETWORK, TRAIN, GPU, MERGE, DECODE, EVALUATE)
}


def main(arguments: list[str]) -> int:
    """Run the stage of the first argument; exit code 2: an error that the user can correct."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2

    name, *options = arguments
    try:
        rows, file = run_all(options) if name == "all" else run_stage(name, options)
        if file:
            write_json(rows, Path(file))
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    return 0


def usage() -> str:
    """How to call the tool, and its stages."""
    lines = [f"  {stage.name:10}{stage.description}" for stage in STAGES.values()]
    lines.append(f"  {'all':10}Every stage with its default options.")
    return "\n".join([__doc__, *lines])


def run_all(options: list[str]) -> tuple[list[Row], str]:
    """Every stage, and the file to write; only the options that all stages have may be given."""
    parser = ArgumentParser(prog="benchmark.py all")
    add_common_arguments(parser)
    file: str = parser.parse_args(options).json

    rows: list[Row] = []
    for name in STAGES:
        if name == GPU.name and not torch.cuda.is_available():
            print("-- gpu: skipped, there is no CUDA device", flush=True)
            continue
        print(f"-- {name}", flush=True)
        stage_rows, _ = run_stage(name, options)
        rows += [{"stage": name, **row} for row in stage_rows]
    return rows, file


def run_stage(name: str, options: list[str]) -> tuple[list[Row], str]:
    """Print the rows of a stage; the rows, and the file to write."""
    if name not in STAGES:
        raise UserError(f"there is no stage '{name}'; use one of {', '.join(STAGES)}, all")
    stage: Stage = STAGES[name]
    parser = ArgumentParser(prog=f"benchmark.py {name}", description=stage.description)
    add_common_arguments(parser)
    stage.add_arguments(parser)
    args = parser.parse_args(options)
    if args.repeats < 1:
        raise UserError(f"--repeats {args.repeats}: a median needs 1 or more")

    rows = []
    with limit_threads(args.threads):
        for row in stage.run(args):
            print(format_row(row), flush=True)
            rows.append(row)
    return rows, args.json


def write_json(rows: list[Row], file: Path) -> None:
    """Write the rows, with the versions they were measured with."""
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    text = json.dumps({"rows": rows, "environment": environment}, indent=1)
    write_atomically(file, text.encode())


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
