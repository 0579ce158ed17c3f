"""The decoder on ideal maps of made-up people, stage by stage, beside a yardstick: one 5x5 dilation of all heatmaps by OpenCV."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import cv2
import numpy as np
from yacs.config import CfgNode

from duopose.config import build_skeleton, load_config
from duopose.decode import build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.errors import UserError
from duopose.inference.predictor import InputTransform
from duopose.oracle.oracle_test import ideal_network
from duopose.oracle.passes import ideal_passes
from duopose.oracle.scene import clean_scene
from duopose.oracle.synthetic_people import crowd, with_false_peaks
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.types import PoseMaps


def add_arguments(parser: ArgumentParser) -> None:
    """How many people, in an image of which size."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: the documented defaults)"
    )
    parser.add_argument(
        "--people",
        type=int,
        nargs="+",
        default=[1, 10, 30],
        metavar="P",
        help="people an image (default 1 10 30)",
    )
    parser.add_argument(
        "--false-peaks",
        type=int,
        default=0,
        metavar="N",
        help="false peaks of every joint type (default 0)",
    )
    parser.add_argument(
        "--size",
        default="512x768",
        help="height x width of the network's input; multiples of 64 (default 512x768)",
    )
    parser.add_argument("opts", nargs="*", help="KEY VALUE ..., settings over those of --cfg")
    add_clock_argument(parser, "cpu")
    parser.set_defaults(repeats=51)  # short works: the median of few would be anybody's


def run(args: Namespace) -> dict[str, Any]:
    """A row a number of people: total and yardstick in milliseconds, and the stages."""
    cfg = load_config(args.cfg or None, args.opts)
    rows = [
        time_decoding(cfg, people, args.false_peaks, parse_size(args.size), args.repeats)
        for people in args.people
    ]
    for row in rows:
        print_row(row)
    return {"rows": rows}


def parse_size(text: str) -> tuple[int, int]:
    """'HEIGHTxWIDTH' -> (height, width); UserError where it is not that."""
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError as error:
        raise UserError(
            f"--size '{text}' must be HEIGHTxWIDTH in pixels, for example 512x768"
        ) from error
    return height, width


def time_decoding(
    cfg: CfgNode, people: int, false_peaks: int, size: tuple[int, int], repeats: int
) -> Row:
    """One row of the benchmark."""
    maps = crowd_maps(cfg, people, false_peaks, size)
    decoder = build_decoder(cfg, build_skeleton(cfg))
    peaks = decoder.find_peaks(maps)
    group = decoder.grouper.group(peaks)
    heatmaps, square = maps.heatmaps.numpy(), np.ones((5, 5), np.uint8)
    times = measure(
        {
            "total": lambda: decoder.decode(maps),
            "yardstick": lambda: [cv2.dilate(one, square) for one in heatmaps],
            "peaks": lambda: decoder.find_peaks(maps),
            "grouping": lambda: decoder.grouper.group(peaks),
            "refining, filling, scoring": lambda: decoder.to_poses(peaks, group),
        },
        repeats,
    )
    total, yardstick = times.pop("total"), times.pop("yardstick")
    facts = {
        "people": people,
        "false_peaks": false_peaks,
        "found": len(decoder.decode(maps).scores),
    }
    return {
        **facts,
        "total_ms": total,
        "yardstick_ms": yardstick,
        "ratio": total / yardstick,
        "stages": times,
    }


def crowd_maps(cfg: CfgNode, people: int, false_peaks: int, size: tuple[int, int]) -> PoseMaps:
    """Merged ideal maps, plain and mirrored pass, of a crowd in a network input of that (height, width)."""
    height, width = size
    skeleton = build_skeleton(cfg)
    frame = InputTransform(min(size)).merged_frame(width, height)
    scene = clean_scene(
        crowd(people, width, height, skeleton), np.full(people, 100.0), build_layout(cfg, skeleton)
    )
    scene = with_false_peaks(scene, false_peaks, width, height)
    passes = ideal_passes(scene, frame, [frame], ideal_network(cfg), skeleton, flip=True)
    return build_merger(cfg, skeleton)(passes, frame)
