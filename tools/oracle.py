#!/usr/bin/env python
"""The perfect-network test: what the decoder reaches on ideal maps of real annotations, and on maps with known noise.

tools/oracle.py --cfg FILE.yaml --annotations FILE.json [--noise none maps displaced misses] [--json FILE] [KEY VALUE ...]

Images are not needed. Overrides ablate the decoder (TEST.MRM off), the passes (TEST.SCALE_FACTOR "[0.5,1,2]", TEST.FLIP_TEST
False), the targets (DATASET.HEATMAP_CENTRES rounded) or the network (MODEL.REVERSE_OFFSETS True, MODEL.NAME pose_higher_hrnet).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from itertools import takewhile

import orjson

from duopose.config import load_config
from duopose.errors import UserError
from duopose.evaluate.tables import format_table
from duopose.files import write_atomically
from duopose.oracle.noise import NOISES, get_noise
from duopose.oracle.oracle_test import METRICS, OracleTest, Row


def parse(arguments: list[str]) -> Namespace:
    """The command line; words after the noise models are settings."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cfg",
        default="",
        metavar="FILE",
        help="yaml of the experiment (default: the documented defaults)",
    )
    parser.add_argument(
        "--annotations",
        required=True,
        metavar="FILE",
        help="COCO-format annotations; images are not needed",
    )
    parser.add_argument(
        "--noise",
        nargs="+",
        default=list(NOISES),
        metavar="NAME",
        help=f"any of {', '.join(NOISES)} (default: all)",
    )
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="only the first N images of the file"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the noise (default 0)")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="processes (default 2); the result is the same for any number",
    )
    parser.add_argument("--json", default="", metavar="FILE", help="write the rows to this file")
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="settings that differ from the yaml"
    )
    args = parser.parse_intermixed_args(arguments)
    noises = list(takewhile(lambda word: "." not in word, args.noise))
    args.noise, args.opts = noises, [*args.noise[len(noises) :], *args.opts]
    return args


def run(args: Namespace) -> None:
    """Print a table row a noise model, and write the json."""
    for noise in args.noise:
        get_noise(noise)
    cfg = load_config(args.cfg or None, args.opts)
    test = OracleTest(cfg, args.annotations, args.limit, args.seed, args.workers)
    rows = []
    for row in test.rows(args.noise):
        rows.append(row)
        print(f"{row['noise']}: AP {100 * (row['AP'] or 0):.2f}", file=sys.stderr, flush=True)
    print(table(rows))
    if args.json:
        write_atomically(args.json, orjson.dumps(rows, option=orjson.OPT_INDENT_2))


def table(rows: list[Row]) -> str:
    """AP and the like in percent with two decimals: differences of a tenth matter here."""
    percent = [
        ["n/a" if row[name] is None else f"{100 * row[name]:.2f}" for name in METRICS]
        for row in rows
    ]
    cells = [
        [row["noise"], *numbers, str(row["people"]), f"{row['ms_per_image']:.1f}"]
        for row, numbers in zip(rows, percent)
    ]
    return format_table(["noise", *METRICS, "people", "ms / image"], cells)


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 something for the user to mend."""
    try:
        run(parse(arguments))
    except UserError as error:
        print(f"oracle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
