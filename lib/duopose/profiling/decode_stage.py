"""Times the decoder, phase by phase, on ideal channels-last maps of synthetic people.

The baseline in the same process is one 5x5 dilation of all heatmaps by OpenCV, the cheapest
non-maximum suppression.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import cv2
import numpy as np
import torch
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
    """Options: the settings, the number of people and false peaks, the size of the input."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: the documented defaults)"
    )
    parser.add_argument(
        "--people",
        type=int,
        nargs="+",
        default=[1, 10, 30],
        metavar="P",
        help="people per image (default 1 10 30)",
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
    parser.set_defaults(repeats=51)  # a few milliseconds each: the median needs many


def run(args: Namespace) -> dict[str, Any]:
    """One row per number of people: milliseconds of the decoder, its phases and the dilation."""
    cfg = load_config(args.cfg or None, args.opts)
    size = parse_size(args.size)
    rows = []
    for people in args.people:
        row = time_decoding(cfg, people, args.false_peaks, size, args.repeats)
        print_row(row)
        rows.append(row)
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
    maps = synthetic_maps(cfg, people, false_peaks, size)
    decoder = build_decoder(cfg, build_skeleton(cfg))
    peaks = decoder.find_peaks(maps)
    grouped = decoder.grouper.group(peaks)
    times = measure(
        {
            "decoding": lambda: decoder.decode(maps),
            "dilation": lambda: dilate(maps.heatmaps),
            "peaks": lambda: decoder.find_peaks(maps),
            "grouping": lambda: decoder.grouper.group(peaks),
            "refining, filling, ranking": lambda: decoder.to_poses(peaks, grouped),
        },
        repeats,
    )
    total = times.pop("decoding")
    dilation = times.pop("dilation")
    return {
        "people": people,
        "false_peaks": false_peaks,
        "found": len(decoder.decode(maps).scores),
        "total_ms": total,
        "dilation_ms": dilation,
        "ratio": total / dilation,
        "phases": times,
    }


def dilate(heatmaps: torch.Tensor) -> None:
    """The baseline: one 5x5 dilation per channel of heatmaps (C, H, W) on the CPU."""
    square = np.ones((5, 5), np.uint8)
    for heatmap in heatmaps.numpy():
        cv2.dilate(heatmap, square)


def synthetic_maps(cfg: CfgNode, people: int, false_peaks: int, size: tuple[int, int]) -> PoseMaps:
    """Merged ideal maps, plain and mirrored pass, for a network input of (height, width) `size`."""
    height, width = size
    skeleton = build_skeleton(cfg)
    frame = InputTransform(min(size)).merged_frame(width, height)
    keypoints = crowd(people, width, height, skeleton)
    areas = np.full(people, 100.0)
    scene = clean_scene(keypoints, areas, build_layout(cfg, skeleton))
    scene = with_false_peaks(scene, false_peaks, width, height)

    passes = ideal_passes(scene, frame, [frame], ideal_network(cfg), skeleton, flip=True)
    return build_merger(cfg, skeleton)(passes, frame)
