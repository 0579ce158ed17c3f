"""Times merging the passes of one image, and decoding the merged maps, without the network.

The baseline of both, in the same process, is one 5x5 dilation of the merged heatmaps by OpenCV, the
cheapest non-maximum suppression.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from yacs.config import CfgNode

from duopose.config import build_skeleton, load_config
from duopose.decode import Pass, build_decoder, build_merger
from duopose.decode.build import build_layout
from duopose.decode.decoder import Decoder
from duopose.geometry import InputFrame
from duopose.inference.predictor import InputTransform
from duopose.oracle.ideal_maps import ideal_passes
from duopose.oracle.perfect_network import build_ideal_network
from duopose.oracle.simulated_people import ideal_people
from duopose.profiling.measure import (
    Row,
    Stage,
    add_clock_argument,
    add_settings_arguments,
    measure,
    parse_size,
)
from duopose.profiling.synthetic_data import synthetic_output, synthetic_people, with_false_peaks
from duopose.types import PoseMaps

PERSON_SIZE = 100.0  # square root of the area, pixels; ideal maps without noise do not depend on it


def dilate(heatmaps: torch.Tensor) -> None:
    """The baseline: one 5x5 dilation per channel of heatmaps (C, H, W) on the CPU."""
    square = np.ones((5, 5), np.uint8)
    for heatmap in heatmaps.numpy():
        cv2.dilate(heatmap, square)


# ---- merging ----


def add_merge_arguments(parser: ArgumentParser) -> None:
    """The settings, the size of the image, the test scales."""
    add_settings_arguments(parser)
    parser.add_argument(
        "--size", default="427x640", help="height x width of the image (default 427x640)"
    )
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.5, 0.75, 1.0, 1.5, 2.0], help="test scales"
    )
    add_clock_argument(parser, "cpu")
    parser.set_defaults(repeats=15)


def time_merging(args: Namespace) -> Iterator[Row]:
    """One row: all test scales, plain and mirrored."""
    cfg = load_config(args.cfg or None, args.opts)
    skeleton = build_skeleton(cfg)
    height, width = parse_size(args.size)
    transform = InputTransform(cfg.DATASET.INPUT_SIZE, tuple(args.scales))
    num_joint_channels = skeleton.num_keypoints + 1
    num_offset_channels = build_layout(cfg, skeleton).num_channels

    passes = []
    for frame in transform.frames(width, height):
        output = synthetic_output(
            num_joint_channels, num_offset_channels, 1, frame.height, frame.width
        )
        passes += [Pass(output, frame), Pass(output, frame, mirrored=True)]

    merge = build_merger(cfg, skeleton)
    merged = transform.merged_frame(width, height)
    heatmaps = merge(passes, merged).heatmaps
    functions = {"merging": lambda: merge(passes, merged), "dilation": lambda: dilate(heatmaps)}
    times = measure(functions, args.repeats, clock=args.clock)
    yield {
        "size": args.size,
        "scales": " ".join(str(scale) for scale in args.scales),
        "passes": len(passes),
        "total_ms": times["merging"],
        "dilation_ms": times["dilation"],
        "ratio": times["merging"] / times["dilation"],
    }


# ---- decoding ----


def add_decode_arguments(parser: ArgumentParser) -> None:
    """The settings, the number of people and false peaks, the size of the input."""
    add_settings_arguments(parser)
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
    add_clock_argument(parser, "cpu")
    parser.set_defaults(repeats=51)  # a few milliseconds each: the median needs many


def time_decoding(args: Namespace) -> Iterator[Row]:
    """One row per number of people: the decoder, its phases and the dilation."""
    cfg = load_config(args.cfg or None, args.opts)
    size = parse_size(args.size)
    decoder = build_decoder(cfg, build_skeleton(cfg))
    for num_people in args.people:
        maps = synthetic_maps(cfg, num_people, args.false_peaks, size)
        times = measure(_decoder_functions(decoder, maps), args.repeats, clock=args.clock)
        total = times.pop("decoding")
        dilation = times.pop("dilation")
        yield {
            "people": num_people,
            "false_peaks": args.false_peaks,
            "found": len(decoder.decode(maps).scores),
            "total_ms": total,
            "dilation_ms": dilation,
            "ratio": total / dilation,
            "phases": times,
        }


def _decoder_functions(decoder: Decoder, maps: PoseMaps) -> dict[str, Callable[[], object]]:
    peaks = decoder.find_peaks(maps)
    people = decoder.grouper.group(peaks)
    return {
        "decoding": lambda: decoder.decode(maps),
        "dilation": lambda: dilate(maps.heatmaps),
        "peaks": lambda: decoder.find_peaks(maps),
        "grouping": lambda: decoder.grouper.group(peaks),
        "refining, filling, ranking": lambda: decoder.to_poses(peaks, people),
    }


def synthetic_maps(
    cfg: CfgNode, num_people: int, false_peaks: int, size: tuple[int, int]
) -> PoseMaps:
    """Merged ideal maps, plain and mirrored pass, for an input of (height, width) `size`.

    false_peaks: of every joint type.
    """
    passes, frame = synthetic_passes(cfg, num_people, false_peaks, size)
    return build_merger(cfg, build_skeleton(cfg))(passes, frame)


def synthetic_passes(
    cfg: CfgNode, num_people: int, false_peaks: int, size: tuple[int, int]
) -> tuple[list[Pass], InputFrame]:
    """The plain and the mirrored pass that `synthetic_maps` merges, and their input frame."""
    height, width = size
    skeleton = build_skeleton(cfg)
    network = build_ideal_network(cfg, skeleton)
    frame = InputTransform(min(size)).merged_frame(width, height)

    keypoints = synthetic_people(num_people, width, height, skeleton)
    people = ideal_people(keypoints, np.full(num_people, PERSON_SIZE), network.layout)
    people = with_false_peaks(people, false_peaks, width, height)
    return ideal_passes(people, frame, [frame], network, skeleton, flip=True), frame


MERGE = Stage("merge", "Merging the passes of one image.", add_merge_arguments, time_merging)
DECODE = Stage("decode", "Decoding merged maps, by phase.", add_decode_arguments, time_decoding)
