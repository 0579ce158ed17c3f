"""One whole training step (targets, forward, losses, backward, optimizer), beside the plain form and the gains between them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from yacs.config import CfgNode

from duopose.config import default_config
from duopose.datasets.transforms import normalise
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.profiling.synthetic_batch import example_batch
from duopose.skeletons import get_skeleton
from duopose.targets import build_targets
from duopose.training.memory import keep_freed_memory, use_huge_pages
from duopose.training.optim import build_optimizer
from duopose.types import Batch

HEAP = 4 << 30  # bytes, more than the networks of all forms take
SETTLE = 2  # steps of a form before one is timed: so many it takes until the heap is as in a run of that form alone


class Form(NamedTuple):
    """A way to write the step; each has one gain more than the one before."""

    name: str
    fused: bool = False  # else one optimizer kernel after another for each parameter, gradients zeroed in place
    channels_last: bool = False  # else contiguous
    in_memory_order: bool = (
        False  # else torch's own Adam, whose fused CPU kernel copies channels-last gradients
    )
    keep_memory: bool = (
        False  # else malloc gives large blocks back to the system and asks for them again
    )
    huge_pages: bool = False  # else the heap is in pages of 4 KiB
    bf16: bool = False  # else float32 throughout


PLAIN = Form("plain: contiguous, unfused optimizer")
FUSED = PLAIN._replace(name="+ fused optimizer, gradients set to none", fused=True)
CHANNELS_LAST = FUSED._replace(name="+ channels last", channels_last=True)
NO_COPIES = CHANNELS_LAST._replace(
    name="+ optimizer without copies of gradients", in_memory_order=True
)
KEPT = NO_COPIES._replace(name="+ freed memory kept", keep_memory=True)
HUGE = KEPT._replace(name="+ heap in huge pages", huge_pages=True)
BF16 = HUGE._replace(name="+ bf16 (FP16.ENABLED True FP16.DTYPE bf16)", bf16=True)
FORMS = (PLAIN, FUSED, CHANNELS_LAST, NO_COPIES, KEPT, HUGE, BF16)


def add_arguments(parser: ArgumentParser) -> None:
    """Size of the network and of the batch."""
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--people", type=int, default=5, help="people in each (default 5)")
    parser.add_argument("--size", type=int, default=256, help="side of the input (default 256)")
    parser.add_argument("--width", type=int, default=32, help="MODEL.WIDTH (default 32)")
    parser.add_argument("--device", default="cpu", help="where to train (default cpu)")
    parser.add_argument(
        "--ends-only", action="store_true", help="time only the plain form and the best in float32"
    )
    add_clock_argument(parser)


def run(args: Namespace) -> dict[str, Any]:
    """One row a form, all timed in turn; `ratio` is to the plain form, `gain` the share of it that the row's addition saves."""
    forms = (PLAIN, HUGE) if args.ends_only else FORMS
    steps = {form.name: _step(form, args) for form in forms}
    times = list(measure(steps, args.repeats, clock=args.clock, settle=SETTLE).values())
    rows: list[Row] = []
    for form, ms, before in zip(forms, times, [times[0], *times]):
        rows.append(
            {"train": form.name, "ms": ms, "ratio": ms / times[0], "gain": (before - ms) / times[0]}
        )
        print_row(rows[-1])
    return {"rows": rows}


def _step(form: Form, args: Namespace) -> Callable[[], float]:
    cfg = _config(form, args)
    skeleton = get_skeleton("coco")
    make, loss = build_targets(cfg, skeleton), build_criterion(cfg, skeleton)
    network = build_network(cfg, skeleton).to(args.device).train()
    optimizer = (
        build_optimizer(cfg, network) if form.in_memory_order else _torch_adam(form, cfg, network)
    )
    batch = example_batch(skeleton, args.batch, args.people, args.size, args.device)

    def step() -> float:
        keep_freed_memory(
            form.keep_memory
        )  # at each step, because the forms take turns; what marks the heap costs microseconds
        if form.huge_pages:
            use_huge_pages(most=HEAP)
        optimizer.zero_grad(set_to_none=form.fused)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=form.bf16):
            output = network(_images(batch, form.channels_last))
        targets = make(batch)
        total = loss(output, targets).total
        total.backward()
        optimizer.step()
        return total.item()

    return step


def _torch_adam(form: Form, cfg: CfgNode, network: torch.nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(),
        lr=cfg.TRAIN.LR,
        foreach=None if form.fused else False,
        fused=form.fused,
    )


def _config(form: Form, args: Namespace) -> CfgNode:
    cfg = default_config()
    cfg.MODEL.WIDTH = args.width
    cfg.MODEL.CHANNELS_LAST = form.channels_last
    torch.manual_seed(0)
    return cfg


def _images(batch: Batch, channels_last: bool) -> torch.Tensor:
    return normalise(batch.images).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
