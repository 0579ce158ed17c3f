"""Times the network, the training step, and targets and losses as a fraction of a step."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from yacs.config import CfgNode

from duopose.config import build_skeleton, load_config
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.measure import (
    Row,
    Stage,
    add_clock_argument,
    add_settings_arguments,
    measure,
    parse_size,
)
from duopose.profiling.synthetic_data import synthetic_batch
from duopose.skeletons import Skeleton, get_skeleton
from duopose.targets import build_targets
from duopose.training.setup import build_state, memory_format
from duopose.training.step import TrainingStep
from duopose.types import NetworkOutput

# ---- the network ----


def add_network_arguments(parser: ArgumentParser) -> None:
    """The settings, the size of the input, the device."""
    add_settings_arguments(parser)
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument(
        "--size", default="256x256", help="height x width of the input (default 256x256)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default cpu)")
    add_clock_argument(parser)


def time_network(args: Namespace) -> Iterator[Row]:
    """The forward pass in evaluation mode; forward and backward pass in training mode."""
    cfg = load_config(args.cfg or None, args.opts)
    height, width = parse_size(args.size)
    images = torch.randn(args.batch, 3, height, width, device=args.device)
    images = images.contiguous(memory_format=memory_format(cfg))
    network = build_network(cfg, build_skeleton(cfg)).to(args.device)

    def forward() -> None:
        network.eval()
        with torch.inference_mode():
            network(images)

    def forward_backward() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        _sum_of_means(network(images)).backward()

    functions = {"forward": forward, "forward and backward": forward_backward}
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    for name, ms in measure(functions, args.repeats, clock=args.clock).items():
        yield {
            "name": name,
            "ms": ms,
            "batch": args.batch,
            "size": args.size,
            "parameters": num_parameters,
        }


def _sum_of_means(output: NetworkOutput) -> torch.Tensor:
    maps = (*output.heatmaps, output.tags, *output.offsets)
    return torch.stack([one.mean() for one in maps]).sum()


# ---- the training step ----

# Steps before each timed one. After two, the allocator is as in a run of that variant alone.
STEPS_BEFORE = 2


class Variant(NamedTuple):
    """Settings of a step that change its speed only."""

    name: str
    fused: bool = False  # TRAIN.FUSED
    channels_last: bool = False  # MODEL.CHANNELS_LAST
    bf16: bool = False  # FP16.ENABLED and FP16.DTYPE bf16


PLAIN = Variant("plain: contiguous, unfused optimizer")
FUSED = Variant("+ fused optimizer", fused=True)
CHANNELS_LAST = Variant("+ channels last (the default)", fused=True, channels_last=True)
BF16 = Variant("+ bf16", fused=True, channels_last=True, bf16=True)


def add_step_arguments(parser: ArgumentParser) -> None:
    """Size of the network and of the batch, the device."""
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--people", type=int, default=5, help="people per image (default 5)")
    parser.add_argument("--size", type=int, default=256, help="side of the input (default 256)")
    parser.add_argument("--width", type=int, default=32, help="MODEL.WIDTH (default 32)")
    parser.add_argument("--device", default="cpu", help="where the step runs (default cpu)")
    add_clock_argument(parser)


def add_train_arguments(parser: ArgumentParser) -> None:
    """The options of a step, and which variants to compare."""
    add_step_arguments(parser)
    parser.add_argument(
        "--ends-only", action="store_true", help="time only the plain variant and the default"
    )


def time_train(args: Namespace) -> Iterator[Row]:
    """The training step in several variants, each with one setting more than the one before.

    `ratio` is to the plain variant; `gain` is what the added setting saves, as a fraction of it.
    """
    variants = (PLAIN, CHANNELS_LAST) if args.ends_only else (PLAIN, FUSED, CHANNELS_LAST, BF16)
    steps = {}
    for variant in variants:
        cfg = _step_config(args, variant)
        steps[variant.name] = BenchmarkStep(cfg, get_skeleton("coco"), args)
    times = measure(steps, args.repeats, clock=args.clock, untimed_calls=STEPS_BEFORE)

    plain_ms = previous_ms = times[PLAIN.name]
    for name, ms in times.items():
        gain = (previous_ms - ms) / plain_ms
        yield {"name": name, "ms": ms, "ratio": ms / plain_ms, "gain": gain}
        previous_ms = ms


class BenchmarkStep:
    """The training step on one synthetic batch; calling it makes an update."""

    def __init__(self, cfg: CfgNode, skeleton: Skeleton, args: Namespace) -> None:
        """args: of `add_step_arguments`."""
        torch.manual_seed(0)
        network = build_network(cfg, skeleton).train()
        state = build_state(cfg, network, DistributedContext(torch.device(args.device)))
        self.step = TrainingStep(
            model=state.network,
            network=state.network,
            normalise=normalise,
            make_targets=build_targets(cfg, skeleton),
            criterion=build_criterion(cfg, skeleton),
            optimizer=state.optimizer,
            precision=state.precision,
            memory_format=memory_format(cfg),
        )
        self.batch = synthetic_batch(skeleton, args.batch, args.people, args.size, args.device)

    def __call__(self) -> None:
        """One update."""
        self.step([self.batch], [1.0], "the benchmark")


def _step_config(args: Namespace, variant: Variant, *overrides: object) -> CfgNode:
    settings = {
        "MODEL.WIDTH": args.width,
        "MODEL.CHANNELS_LAST": variant.channels_last,
        "TRAIN.FUSED": variant.fused,
        "FP16.ENABLED": variant.bf16,
        "FP16.DTYPE": "bf16",
    }
    words = [word for setting in settings.items() for word in setting]
    return load_config(None, [*words, *overrides])


# ---- targets and losses ----


def add_losses_arguments(parser: ArgumentParser) -> None:
    """The options of a step, the skeleton, the area of the offset loss."""
    add_step_arguments(parser)
    parser.add_argument("--skeleton", default="coco", help="coco, crowdpose, mpii or a yaml")
    parser.add_argument(
        "--area", choices=("windows", "map"), default="windows", help="LOSS.OFFSETS_AREA"
    )


def time_losses(args: Namespace) -> Iterator[Row]:
    """The whole step, the targets, the losses forward and backward; `fraction` is of the step."""
    skeleton = get_skeleton(args.skeleton)
    cfg = _step_config(args, CHANNELS_LAST, "LOSS.OFFSETS_AREA", args.area)
    benchmark = BenchmarkStep(cfg, skeleton, args)
    step = benchmark.step
    batch = benchmark.batch
    targets = step.make_targets(batch)
    output = step.forward(batch.images).map(_leaf)

    def losses() -> None:
        for maps in (*output.heatmaps, output.tags, *output.offsets):
            maps.grad = None
        step.criterion(output, targets).total.backward()

    functions: dict[str, Callable[[], object]] = {
        "step": benchmark,
        "targets": lambda: step.make_targets(batch),
        "losses": losses,
    }
    times = measure(functions, args.repeats, clock=args.clock)
    times["targets and losses"] = times["targets"] + times["losses"]
    for name, ms in times.items():
        yield {"name": name, "ms": ms, "fraction": ms / times["step"]}


def _leaf(maps: torch.Tensor) -> torch.Tensor:
    """The same values in the same memory format as a leaf of the graph."""
    return maps.detach().clone().requires_grad_()


NETWORK = Stage(
    "network", "The network, forward and backward.", add_network_arguments, time_network
)
TRAIN = Stage("train", "The training step in several variants.", add_train_arguments, time_train)
LOSSES = Stage(
    "losses", "Targets and losses, as a fraction of a step.", add_losses_arguments, time_losses
)
