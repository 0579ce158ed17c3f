"""Rendering the targets of a batch: heatmaps, tag cells and offsets at both strides, beside zeroing the heatmaps' memory."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import Any

import torch

from duopose.config.defaults import default_config
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.profiling.synthetic_batch import example_batch
from duopose.skeletons import get_skeleton
from duopose.targets import build_targets


def add_arguments(parser: ArgumentParser) -> None:
    """Size of the batch; the targets and loss stages have the same options."""
    parser.add_argument("--batch", type=int, default=4, help="images (default 4)")
    parser.add_argument("--people", type=int, default=30, help="people in each (default 30)")
    parser.add_argument("--size", type=int, default=512, help="side of the input (default 512)")
    parser.add_argument(
        "--skeleton", default="coco", help="coco, crowdpose, mpii or a yaml (default coco)"
    )
    parser.add_argument(
        "--device", default="cpu", help="where the keypoints and maps are (default cpu)"
    )
    add_clock_argument(parser)


def run(args: Namespace) -> dict[str, Any]:
    """One row for each part that can be left out, and one for all."""
    skeleton = get_skeleton(args.skeleton)
    make = build_targets(default_config(), skeleton)
    batch = example_batch(skeleton, args.batch, args.people, args.size, args.device)
    targets = make(batch)
    without_offsets = replace(make, layout=None)
    times = measure(
        {
            "all": lambda: make(batch),
            "heatmaps and tags": lambda: without_offsets(batch),
            "yardstick: zeroed heatmaps": lambda: [
                torch.zeros_like(heatmaps) for heatmaps in targets.heatmaps
            ],
        },
        args.repeats,
        clock=args.clock,
    )
    times["offsets"] = times["all"] - times["heatmaps and tags"]
    cells = sum(len(offsets.cell) for offsets in targets.offsets)
    rows: list[Row] = [{"targets": name, "ms": ms} for name, ms in times.items()]
    rows[0] |= {
        "batch": args.batch,
        "people": args.people,
        "size": args.size,
        "window_cells": cells,
    }
    for row in rows:
        print_row(row)
    return {"rows": rows}
