#!/usr/bin/env python
"""Times one stage of the pipeline, or all: `tools/benchmark.py STAGE [options] [--json FILE]`; STAGE --help shows its options."""

from __future__ import annotations

import json
import platform
import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from duopose.errors import UserError
from duopose.files import write_atomically
from duopose.profiling.measure import add_common_arguments, threads

# A stage module has add_arguments(parser) and run(args) -> {"rows": [...]}, and prints one line a row.
STAGES = {
    "loader": "duopose.profiling.loader_stage",
    "losses": "duopose.profiling.losses_stage",
    "network": "duopose.profiling.network_stage",
    "train": "duopose.profiling.train_stage",
    "gpu": "duopose.profiling.gpu_stage",
    "merge": "duopose.profiling.merge_stage",
    "decode": "duopose.profiling.decode_stage",
    "evaluate": "duopose.profiling.evaluate_stage",
}


def main(arguments: list[str]) -> int:
    """Run the stage that the first argument names; exit code 2 where it names none, or its options are wrong."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\nstages: {', '.join(STAGES)}, all")
        return 0 if arguments else 2
    try:
        stage, options = arguments[0], arguments[1:]
        results, file = run_all(options) if stage == "all" else run_stage(stage, options)
        results["environment"] = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        if file:
            write(results, Path(file))
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    return 0


def run_all(options: list[str]) -> tuple[dict[str, Any], str]:
    """Every stage with its default options, of which only the common ones may be given; the results and where to write them."""
    parser = ArgumentParser(prog="benchmark.py all")
    add_common_arguments(parser)
    file = parser.parse_args(options).json
    rows = []
    for stage in STAGES:
        if stage == "gpu" and not torch.cuda.is_available():
            print("-- gpu: left out, torch sees no CUDA device", flush=True)
            continue
        print(f"-- {stage}", flush=True)
        rows += [{"stage": stage, **row} for row in run_stage(stage, options)[0]["rows"]]
    return {"rows": rows}, file


def run_stage(stage: str, options: list[str]) -> tuple[dict[str, Any], str]:
    """One stage's results and where to write them; the stage is imported only now, so that no other can hinder it."""
    if stage not in STAGES:
        raise UserError(f"there is no stage '{stage}'; use one of {', '.join(STAGES)}, all")
    module = import_module(STAGES[stage])
    parser = ArgumentParser(prog=f"benchmark.py {stage}", description=module.__doc__)
    add_common_arguments(parser)
    module.add_arguments(parser)
    args = parser.parse_args(options)
    with threads(args.threads):
        return module.run(args), args.json


def write(results: dict[str, Any], file: Path) -> None:
    """Write the json file."""
    text = json.dumps(results, indent=1)
    write_atomically(file, text.encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
