"""The network of a configuration: forward alone and with the backward pass."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import torch

from duopose.config import build_skeleton, load_config
from duopose.network import build_network
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.types import NetworkOutput


def add_arguments(parser: ArgumentParser) -> None:
    """Which network, and the size of its input."""
    parser.add_argument(
        "--cfg", default="", help="a yaml from experiments/ (default: Double Embedding w32)"
    )
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument(
        "--size", default="256x256", help="height x width of the input (default 256x256)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    parser.add_argument("opts", nargs="*", help="KEY VALUE ..., settings over those of --cfg")
    add_clock_argument(parser)


def run(args: Namespace) -> dict[str, Any]:
    """A row for the forward pass in evaluation, and one for forward and backward in training."""
    cfg = load_config(args.cfg or None, args.opts)
    height, width = (int(side) for side in args.size.split("x"))
    layout = torch.channels_last if cfg.MODEL.CHANNELS_LAST else torch.contiguous_format
    images = torch.randn(args.batch, 3, height, width, device=args.device).contiguous(
        memory_format=layout
    )
    network = build_network(cfg, build_skeleton(cfg)).to(args.device)

    def forward() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    def forward_backward() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        _sum_of_means(network(images)).backward()

    times = measure(
        {"forward": forward, "forward and backward": forward_backward},
        args.repeats,
        clock=args.clock,
    )
    facts = {
        "batch": args.batch,
        "size": args.size,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    rows: list[Row] = [{"network": name, "ms": ms, **facts} for name, ms in times.items()]
    for row in rows:
        print_row(row)
    return {"rows": rows}


def _sum_of_means(output: NetworkOutput) -> torch.Tensor:
    return torch.stack(
        [maps.mean() for maps in (*output.heatmaps, output.tags, *output.offsets)]
    ).sum()
