"""The option --json-gb, which is LIMITS.JSON_GB for tools without settings."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from duopose.json_files import MAX_MEMORY

GIGABYTE = 2**30


def add_json_limit(parser: ArgumentParser) -> None:
    """The option, whose value `json_limit` gives."""
    default = MAX_MEMORY / GIGABYTE
    parser.add_argument(
        "--json-gb",
        type=_positive_number,
        metavar="GB",
        help=f"memory that a json file may need, as LIMITS.JSON_GB (default {default:g})",
    )


def json_limit(args: Namespace) -> int:
    """Bytes that a json file may need when decoded."""
    return MAX_MEMORY if args.json_gb is None else int(args.json_gb * GIGABYTE)


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"'{text}' is no positive number")
    return value
