#!/usr/bin/env python
"""The perfect-network test: real annotations are rendered as ideal maps, decoded, and scored.

tools/oracle.py --cfg FILE.yaml --annotations FILE.json [--noise NAME ...] [KEY VALUE ...]
tools/oracle.py --model FILE.pth [--cfg FILE.yaml] [KEY VALUE ...]  a network: where AP is lost

Image files are not needed. The result bounds what the decoder can reach; the noise models show how
it handles errors. Settings at the end change, for example, the decoder (TEST.MRM off), the passes
(TEST.SCALE_FACTOR "[0.5,1,2]", TEST.FLIP_TEST False), the targets (DATASET.HEATMAP_CENTRES
rounded) or the network (MODEL.REVERSE_OFFSETS True, MODEL.NAME pose_higher_hrnet).
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from itertools import takewhile
from pathlib import Path

import orjson

from duopose.config import load_config
from duopose.console import run_tool
from duopose.errors import UserError
from duopose.evaluate.metrics import format_table
from duopose.files import write_atomically
from duopose.inference.model import Model
from duopose.inference.weights_protocol import model_settings
from duopose.oracle.ladder import ladder_rows
from duopose.oracle.noise import NOISE_MODELS, get_noise_model
from duopose.oracle.perfect_network import METRICS, PerfectNetworkTest, Row
from duopose.runtime import pick_device


def build_parser() -> ArgumentParser:
    """All options."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", default="", metavar="FILE", help="yaml (default: the defaults)")
    parser.add_argument(
        "--annotations",
        default="",
        metavar="FILE",
        help="COCO-format annotations; images are not needed",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="FILE",
        help="instead of ideal maps: a model file, with the truth put in for one stage at a time",
    )
    parser.add_argument(
        "--noise",
        nargs="+",
        default=list(NOISE_MODELS),
        metavar="NAME",
        help=f"any of {', '.join(NOISE_MODELS)} (default: all)",
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N images")
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
        "opts", nargs="*", metavar="KEY VALUE", help="settings that override the yaml"
    )
    return parser


def parse(arguments: list[str]) -> Namespace:
    """The command line. Settings may follow the names of --noise: they contain a dot."""
    args = build_parser().parse_intermixed_args(arguments)
    names = list(takewhile(lambda word: "." not in word, args.noise))
    settings = args.noise[len(names) :]
    args.noise = names
    args.opts = [*settings, *args.opts]
    return args


def run(args: Namespace) -> None:
    """Print a table with one row per noise model or stage, and write the json file."""
    if bool(args.model) == bool(args.annotations):
        raise UserError("give either --annotations FILE (ideal maps) or --model FILE (a network)")
    if args.model:
        return run_ladder(args)
    for name in args.noise:
        get_noise_model(name)  # a wrong name is an error before the settings are read
    cfg = load_config(args.cfg or None, args.opts)
    test = PerfectNetworkTest(cfg, args.annotations, args.limit, args.seed, args.workers)

    rows = []
    for row in test.rows(args.noise):
        rows.append(row)
        print(f"{row['noise']}: AP {100 * (row['AP'] or 0):.2f}", file=sys.stderr, flush=True)

    print(format_rows(rows))
    write_json(args.json, rows)


def run_ladder(args: Namespace) -> None:
    """--model: where this network's decoding loses AP, on DATASET.TEST."""
    path = Path(args.model)
    cfg, skeleton = model_settings(path, args.cfg, args.opts)
    model = Model.from_config(cfg, skeleton, path, pick_device(cfg.DEVICE, 0))

    rows = ladder_rows(model, args.limit)
    cells = [[row["truth for"], *format_metrics(row)] for row in rows]
    print(format_table(["truth for", *METRICS], cells))
    write_json(args.json, rows)


def format_rows(rows: list[Row]) -> str:
    """A Markdown table; metrics in percent with two decimals, because a tenth matters here."""
    cells = []
    for row in rows:
        cells.append(
            [row["noise"], *format_metrics(row), str(row["people"]), f"{row['ms_per_image']:.1f}"]
        )
    return format_table(["noise", *METRICS, "people", "ms / image"], cells)


def format_metrics(row: Row) -> list[str]:
    """METRICS of a row in percent."""
    values = [row[name] for name in METRICS]
    return ["n/a" if value is None else f"{100 * value:.2f}" for value in values]


def write_json(path: str, rows: list[Row]) -> None:
    """--json."""
    if path:
        write_atomically(path, orjson.dumps(rows, option=orjson.OPT_INDENT_2))


def main(arguments: list[str]) -> int:
    """Exit codes: 0 done, 2 an error that the user can correct."""
    try:
        run(parse(arguments))
    except UserError as error:
        print(f"oracle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main, sys.argv[1:]))
