"""Merging the passes of one image, all test scales plain and mirrored, the network's own time apart."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import cv2
import numpy as np
import torch

from duopose.config import build_skeleton, load_config
from duopose.decode import Pass, build_merger
from duopose.decode.build import build_layout
from duopose.geometry import InputFrame
from duopose.inference.predictor import InputTransform
from duopose.profiling.decode_stage import parse_size
from duopose.profiling.measure import add_clock_argument, measure, print_row
from duopose.types import STRIDES, NetworkOutput


def add_arguments(parser: ArgumentParser) -> None:
    """Which scales of which image."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: the documented defaults)"
    )
    parser.add_argument(
        "--size", default="427x640", help="height x width of the image (default 427x640)"
    )
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.5, 0.75, 1.0, 1.5, 2.0], help="test scales"
    )
    parser.add_argument("opts", nargs="*", help="KEY VALUE ..., settings over those of --cfg")
    add_clock_argument(parser, "cpu")
    parser.set_defaults(repeats=15)


def run(args: Namespace) -> dict[str, Any]:
    """One row: merging, and the decoder's yardstick on the merged maps."""
    cfg = load_config(args.cfg or None, args.opts)
    height, width = parse_size(args.size)
    rule = InputTransform(cfg.DATASET.INPUT_SIZE, tuple(args.scales))
    skeleton = build_skeleton(cfg)
    channels = skeleton.num_keypoints + 1, build_layout(cfg, skeleton).num_channels
    frames = rule.frames(width, height)
    passes = [
        Pass(random_output(frame, *channels), frame, mirrored)
        for frame in frames
        for mirrored in (False, True)
    ]
    merge, merged = build_merger(cfg, skeleton), rule.merged_frame(width, height)
    heatmaps, square = merge(passes, merged).heatmaps.numpy(), np.ones((5, 5), np.uint8)
    works = {
        "merging": lambda: merge(passes, merged),
        "yardstick": lambda: [cv2.dilate(one, square) for one in heatmaps],
    }
    times = measure(works, args.repeats, clock=args.clock)
    facts = {"size": args.size, "scales": " ".join(map(str, args.scales)), "passes": len(passes)}
    row = {
        **facts,
        "total_ms": times["merging"],
        "yardstick_ms": times["yardstick"],
        "ratio": times["merging"] / times["yardstick"],
    }
    print_row(row)
    return {"rows": [row]}


def random_output(frame: InputFrame, keypoint_channels: int, offset_channels: int) -> NetworkOutput:
    """Maps of the sizes that the network gives for that input."""
    sizes = [(frame.height // stride, frame.width // stride) for stride in STRIDES]
    heatmaps = tuple(torch.rand(1, keypoint_channels, *size) for size in sizes)
    offsets = (
        tuple(torch.zeros(1, offset_channels, *size) for size in sizes) if offset_channels else ()
    )
    return NetworkOutput(heatmaps, torch.rand(1, keypoint_channels, *sizes[0]), offsets)
