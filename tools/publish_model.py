#!/usr/bin/env python
"""Make a model file to give to others: half the size, without paths of this machine.

tools/publish_model.py MODEL.pth OUT.pth

Weights are stored in float16; duopose.load, valid.py and predict.py use the file as any other.
Settings, skeleton and calibration stay in it.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from duopose.console import run_tool
from duopose.errors import UserError, path_errors_as_user_errors
from duopose.inference.publish import publish_model


def main() -> int:
    """The exit code: 2 for a mistake of the user."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.pth", help="model file of a training")
    parser.add_argument("out", type=Path, metavar="OUT.pth", help="file to write")
    args = parser.parse_args()
    try:
        with path_errors_as_user_errors():
            size = publish_model(args.model, args.out)
    except UserError as error:
        print(f"publish_model: {error}", file=sys.stderr)
        return 2

    before = args.model.stat().st_size
    print(f"{args.out}: {size / 1e6:.1f} MB ({args.model}: {before / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
