"""The training step under settings that change its speed only, each added to the ones before."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from duopose.config import load_config
from duopose.datasets.transforms import normalise
from duopose.distributed.context import DistributedContext
from duopose.losses import build_criterion
from duopose.network import build_network
from duopose.profiling.measure import Row, add_clock_argument, measure, print_row
from duopose.profiling.synthetic_batch import example_batch
from duopose.skeletons import COCO
from duopose.targets import build_targets
from duopose.training.setup import build_state, memory_format
from duopose.training.step import TrainingStep

# Steps of a form before one is timed: then the allocator is as in a run of that form alone.
SETTLE = 2


class Form(NamedTuple):
    """A way to run the step."""

    name: str
    fused: bool = False  # TRAIN.FUSED
    channels_last: bool = False  # MODEL.CHANNELS_LAST
    bf16: bool = False  # FP16.ENABLED and FP16.DTYPE bf16


PLAIN = Form("plain: contiguous, unfused optimizer")
FUSED = Form("+ fused optimizer", fused=True)
CHANNELS_LAST = Form("+ channels last (the default)", fused=True, channels_last=True)
BF16 = Form("+ bf16", fused=True, channels_last=True, bf16=True)
FORMS = (PLAIN, FUSED, CHANNELS_LAST, BF16)


def add_arguments(parser: ArgumentParser) -> None:
    """Size of the network and of the batch."""
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--people", type=int, default=5, help="people in each (default 5)")
    parser.add_argument("--size", type=int, default=256, help="side of the input (default 256)")
    parser.add_argument("--width", type=int, default=32, help="MODEL.WIDTH (default 32)")
    parser.add_argument("--device", default="cpu", help="where to train (default cpu)")
    parser.add_argument(
        "--ends-only", action="store_true", help="time only the plain form and the default"
    )
    add_clock_argument(parser)


def run(args: Namespace) -> dict[str, Any]:
    """One row per form, all timed in turn.

    `ratio` is to the plain form; `gain` is what the last setting saves, as a fraction of it.
    """
    forms = (PLAIN, CHANNELS_LAST) if args.ends_only else FORMS
    steps = {form.name: _build_step(form, args) for form in forms}
    times = list(measure(steps, args.repeats, clock=args.clock, settle=SETTLE).values())

    rows: list[Row] = []
    for form, ms, ms_before in zip(forms, times, [times[0], *times]):
        gain = (ms_before - ms) / times[0]
        row: Row = {"train": form.name, "ms": ms, "ratio": ms / times[0], "gain": gain}
        rows.append(row)
        print_row(row)
    return {"rows": rows}


def _build_step(form: Form, args: Namespace) -> Callable[[], object]:
    """A function that makes one update on a fixed batch."""
    settings = {
        "MODEL.WIDTH": args.width,
        "MODEL.CHANNELS_LAST": form.channels_last,
        "TRAIN.FUSED": form.fused,
        "FP16.ENABLED": form.bf16,
        "FP16.DTYPE": "bf16",
    }
    cfg = load_config(None, [word for setting in settings.items() for word in setting])
    torch.manual_seed(0)
    network = build_network(cfg, COCO).train()

    state = build_state(cfg, network, DistributedContext(torch.device(args.device)))
    step = TrainingStep(
        model=state.network,
        network=state.network,
        normalise=normalise,
        make_targets=build_targets(cfg, COCO),
        criterion=build_criterion(cfg, COCO),
        optimizer=state.optimizer,
        precision=state.precision,
        memory_format=memory_format(cfg),
    )
    batch = example_batch(COCO, args.batch, args.people, args.size, args.device)
    return lambda: step([batch], [1.0], "the benchmark")
