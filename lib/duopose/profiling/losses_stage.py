"""Time of targets and losses, as a fraction of a training step of the network."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import torch

from duopose.config import default_config
from duopose.datasets.transforms import normalise
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.profiling.synthetic_batch import example_batch
from duopose.skeletons import Skeleton, get_skeleton
from duopose.targets import build_targets
from duopose.types import Batch, LossTerms, NetworkOutput, Targets

Step = Callable[[], object]


def add_arguments(parser: ArgumentParser) -> None:
    """Size of the network and of the batch."""
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--people", type=int, default=5, help="people per image (default 5)")
    parser.add_argument("--size", type=int, default=256, help="side of the input (default 256)")
    parser.add_argument("--width", type=int, default=32, help="MODEL.WIDTH (default 32)")
    parser.add_argument("--skeleton", default="coco", help="coco, crowdpose, mpii or a yaml")
    parser.add_argument("--device", default="cpu", help="where the step runs (default cpu)")
    parser.add_argument(
        "--area", choices=("windows", "map"), default="windows", help="LOSS.OFFSETS_AREA"
    )
    add_clock_argument(parser)


def run(args: Namespace) -> dict[str, Any]:
    """Rows: the whole step, the targets, the losses forward and backward; `fraction` of the step."""
    times = measure(_steps(args, get_skeleton(args.skeleton)), args.repeats, clock=args.clock)
    whole = times["step"]
    times["targets and losses"] = times["targets"] + times["losses"]

    rows: list[Row] = []
    for name, milliseconds in times.items():
        rows.append({"losses": name, "ms": milliseconds, "fraction": milliseconds / whole})
        print_row(rows[-1])
    return {"rows": rows}


def _steps(args: Namespace, skeleton: Skeleton) -> dict[str, Step]:
    cfg = default_config()
    cfg.MODEL.WIDTH = args.width
    cfg.LOSS.OFFSETS_AREA = args.area
    target_builder = build_targets(cfg, skeleton)
    criterion = build_criterion(cfg, skeleton)

    torch.manual_seed(0)
    network = build_network(cfg, skeleton).to(args.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=cfg.TRAIN.LR, fused=True)
    batch = example_batch(skeleton, args.batch, args.people, args.size, args.device)
    targets = target_builder(batch)
    output = _detached(network(_images(batch)))

    def step() -> None:
        optimizer.zero_grad()
        criterion(network(_images(batch)), target_builder(batch)).total.backward()
        optimizer.step()

    return {
        "step": step,
        "targets": lambda: target_builder(batch),
        "losses": lambda: _forward_backward(criterion, output, targets),
    }


def _forward_backward(
    criterion: Callable[[NetworkOutput, Targets], LossTerms],
    output: NetworkOutput,
    targets: Targets,
) -> None:
    for maps in (*output.heatmaps, output.tags, *output.offsets):
        maps.grad = None
    criterion(output, targets).total.backward()


def _detached(output: NetworkOutput) -> NetworkOutput:
    """The same maps in the same memory layout as leaves of the graph."""

    def leaf(maps: torch.Tensor) -> torch.Tensor:
        return maps.detach().clone().requires_grad_()

    heatmaps = tuple(leaf(maps) for maps in output.heatmaps)
    offsets = tuple(leaf(maps) for maps in output.offsets)
    return NetworkOutput(heatmaps, leaf(output.tags), offsets)


def _images(batch: Batch) -> torch.Tensor:
    return normalise(batch.images).contiguous(memory_format=torch.channels_last)
