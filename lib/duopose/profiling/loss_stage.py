"""Targets and losses, forward and backward, beside a plain dense squared error over as many maps (the yardstick)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import torch

from duopose.config.defaults import default_config
from duopose.losses import build_loss
from duopose.losses.heatmap_loss import heatmap_loss
from duopose.losses.offset_loss import window_offset_loss
from duopose.losses.tag_loss import tag_losses
from duopose.profiling.measure import Row, measure, print_row
from duopose.profiling.synthetic_batch import example_batch, example_output
from duopose.profiling.targets_stage import add_arguments as add_size_arguments
from duopose.skeletons import get_skeleton
from duopose.targets import build_targets
from duopose.types import STRIDES


def add_arguments(parser: ArgumentParser) -> None:
    """The options of the targets stage, and the way offsets are supervised."""
    add_size_arguments(parser)
    parser.add_argument(
        "--area",
        choices=("windows", "map"),
        default="windows",
        help="LOSS.OFFSETS_AREA (default windows)",
    )


def run(args: Namespace) -> dict[str, Any]:
    """A row for each loss alone, for all of them, for all with their targets, and for the yardstick; `ratio` is to the latter."""
    times = measure(_works(args), args.repeats, clock=args.clock)
    yardstick = times["yardstick: dense squared error"]
    rows: list[Row] = [
        {"loss": name, "ms": ms, "ratio": ms / yardstick} for name, ms in times.items()
    ]
    rows[0] |= {"batch": args.batch, "people": args.people, "size": args.size}
    for row in rows:
        print_row(row)
    return {"rows": rows}


def _works(args: Namespace) -> dict[str, Callable[[], object]]:
    cfg, skeleton = default_config(), get_skeleton(args.skeleton)
    cfg.LOSS.OFFSETS_AREA = args.area
    make, loss, layout = (
        build_targets(cfg, skeleton),
        build_loss(cfg, skeleton),
        skeleton.offset_layout(),
    )
    batch = example_batch(skeleton, args.batch, args.people, args.size, args.device)
    output = example_output(skeleton, layout, args.batch, args.size, args.device)
    targets = make(batch)
    maps = [*output.heatmaps, output.tags, *output.offsets]
    weight = loss.channel_weight.to(args.device)

    def step(work: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def forward_backward() -> None:
            for leaf in maps:
                leaf.grad = None
            work().backward()

        return forward_backward

    heatmap_levels = list(zip(output.heatmaps, targets.heatmaps, targets.masks))
    offset_levels = list(zip(output.offsets, targets.offsets))
    return {
        "targets and all losses": step(lambda: loss(output, make(batch)).total),
        "all losses": step(lambda: loss(output, targets).total),
        "heatmaps": step(
            lambda: torch.stack([heatmap_loss(*level, weight) for level in heatmap_levels]).sum()
        ),
        "tags": step(lambda: torch.stack(tag_losses(output.tags, targets.tags)).sum()),
        "offsets in windows": step(
            lambda: torch.stack(
                [
                    window_offset_loss(*level, cfg.MODEL.OFFSET_UNIT, cfg.LOSS.OFFSETS_BETA)
                    for level in offset_levels
                ]
            ).sum()
        ),
        "yardstick: dense squared error": _yardstick(
            [(args.batch, 60, args.size // s, args.size // s) for s in STRIDES], args.device
        ),
    }


def _yardstick(shapes: list[tuple[int, ...]], device: str) -> Callable[[], None]:
    """Mean squared error as one writes it first, forward and backward, over 60 channels (COCO's 18 heatmaps and 42 offsets)."""
    predictions = [torch.rand(shape, device=device, requires_grad=True) for shape in shapes]
    targets = [torch.rand(shape, device=device) for shape in shapes]

    def forward_backward() -> None:
        for prediction in predictions:
            prediction.grad = None
        errors = [
            (prediction - target).square().mean()
            for prediction, target in zip(predictions, targets)
        ]
        torch.stack(errors).sum().backward()

    return forward_backward
