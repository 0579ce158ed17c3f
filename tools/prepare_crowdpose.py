"""Join CrowdPose's train and val to trainval: python tools/prepare_crowdpose.py data/crowdpose"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from duopose.console import run_tool
from duopose.datasets.prepare.crowdpose_trainval import prepare_crowdpose
from duopose.errors import UserError, counted, path_errors_as_user_errors
from duopose.json_limit_option import add_json_limit, json_limit


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 with a message."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "root",
        type=Path,
        nargs="?",
        default=Path("data/crowdpose"),
        help="folder with json/ and images/",
    )
    add_json_limit(parser)
    args = parser.parse_args(arguments)
    try:
        with path_errors_as_user_errors():
            prepared = prepare_crowdpose(args.root, json_limit(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for notice in prepared.notices:
        print(f"notice: {notice}")
    print(
        f"{prepared.path}: {counted(prepared.images, 'image')}, "
        f"{counted(prepared.people, 'annotation')}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
