"""Times merging the passes of one image, all test scales plain and mirrored, without the network.

The baseline in the same process is one 5x5 dilation of the merged heatmaps, as in `decode_stage`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import torch

from duopose.config import build_skeleton, load_config
from duopose.decode import Pass, build_merger
from duopose.decode.build import build_layout
from duopose.geometry import InputFrame
from duopose.inference.predictor import InputTransform
from duopose.profiling.decode_stage import dilate, parse_size
from duopose.profiling.measure import add_clock_argument, measure, print_row
from duopose.types import STRIDES, NetworkOutput


def add_arguments(parser: ArgumentParser) -> None:
    """Options: the settings, the size of the image, the test scales."""
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
    """One row: milliseconds of merging, and of the dilation of the merged maps."""
    cfg = load_config(args.cfg or None, args.opts)
    height, width = parse_size(args.size)
    transform = InputTransform(cfg.DATASET.INPUT_SIZE, tuple(args.scales))
    skeleton = build_skeleton(cfg)
    offset_channels = build_layout(cfg, skeleton).num_channels
    passes = []
    for frame in transform.frames(width, height):
        for mirrored in (False, True):
            output = random_output(frame, skeleton.num_keypoints + 1, offset_channels)
            passes.append(Pass(output, frame, mirrored))

    merge = build_merger(cfg, skeleton)
    merged_frame = transform.merged_frame(width, height)
    maps = merge(passes, merged_frame)
    times = measure(
        {
            "merging": lambda: merge(passes, merged_frame),
            "dilation": lambda: dilate(maps.heatmaps),
        },
        args.repeats,
        clock=args.clock,
    )
    row = {
        "size": args.size,
        "scales": " ".join(str(scale) for scale in args.scales),
        "passes": len(passes),
        "total_ms": times["merging"],
        "dilation_ms": times["dilation"],
        "ratio": times["merging"] / times["dilation"],
    }
    print_row(row)
    return {"rows": [row]}


def random_output(frame: InputFrame, keypoint_channels: int, offset_channels: int) -> NetworkOutput:
    """Random maps in the sizes and the memory layout in which the network gives them.

    All maps are channels-last; heatmaps and tags of stride 4 are the two halves of one map.
    """
    sizes = [(frame.height // stride, frame.width // stride) for stride in STRIDES]
    coarse = _channels_last(2 * keypoint_channels, sizes[0])
    fine = _channels_last(keypoint_channels, sizes[1])
    heatmaps = (coarse[:, :keypoint_channels], fine)
    tags = coarse[:, keypoint_channels:]
    if not offset_channels:
        return NetworkOutput(heatmaps, tags, ())

    offsets = tuple(_channels_last(offset_channels, size) for size in sizes)
    return NetworkOutput(heatmaps, tags, offsets)


def _channels_last(channels: int, size: tuple[int, int]) -> torch.Tensor:
    """(1, channels, *size) uniform random values."""
    maps = torch.rand(1, channels, *size)
    return maps.contiguous(memory_format=torch.channels_last)
