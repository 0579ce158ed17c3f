"""`--dry-run`: three steps at the largest shapes, told before days are spent. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import torch
from yacs.config import CfgNode

from duopose.distributed.context import DistributedContext
from duopose.run_folder import RunFolder
from duopose.training.batch_size import (
    Fit,
    largest_on_cpu,
    largest_on_cuda,
    power_of_two,
    saved_bytes,
    state_bytes,
)
from duopose.training.components import Components
from duopose.training.log import RunLog, data_wait_advice
from duopose.training.loop import loss_of
from duopose.training.setup import TrainingRun, batch_advice, build_run, notices
from duopose.training.train_loader import TrainLoader, to_device
from duopose.types import Batch

STEPS = 3
LOADED = 6  # batches whose loading is timed
MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
GIB = 2**30


def dry_run(
    cfg: CfgNode, components: Components, context: DistributedContext, folder: RunFolder
) -> list[str]:
    """What the run will need and how fast it will be, as lines to print; all ranks must call it."""
    run = build_run(
        cfg, components, context, folder, RunLog(folder, context, cfg.VERBOSE, silent=True)
    )
    run.state.network.train()
    batch, lines = cfg.TRAIN.IMAGES_PER_GPU, []
    fit = largest_batch(run)
    if batch <= fit.batch:
        seconds = time_steps(run, largest_shapes(run, batch))
        rate = run.partition.global_batch / seconds
        lines.append(
            f"step: {seconds:.3g} s for {run.partition.global_batch} images, {rate:.4g} images/s{peak(context)}"
        )
        lines.append(loader_line(run, rate))
    lines += memory_lines(run, fit)
    recipe = cfg.TRAIN.TOTAL_BATCH
    if recipe and fit.batch and recipe != run.partition.images_per_step:
        lines.append("recipe: " + batch_advice(cfg, recipe, run.partition))
    return [
        *lines,
        *(line for line in notices(cfg, context, run.partition) if "recipe" not in line),
        "dry run: nothing was written",
    ]


def largest_shapes(run: TrainingRun, images: int) -> Batch:
    """A batch as large as any: every image with MAX_NUM_PEOPLE people, all of whose keypoints are labelled, at random places."""
    dataset = run.components.dataset
    sample = dataset[(0, 0)]
    batch = run.components.collate([sample] * images)
    people, joints = run.cfg.DATASET.MAX_NUM_PEOPLE, batch.keypoints.shape[2]
    side = torch.tensor([batch.images.shape[3] - 1.0, batch.images.shape[2] - 1.0])
    where = torch.rand(images, people, joints, 2) * side
    keypoints = torch.cat((where, torch.full((images, people, joints, 1), 2.0)), dim=-1)
    return to_device(batch._replace(keypoints=keypoints), run.context.device)


def one_step(run: TrainingRun, batch: Batch) -> None:
    """Forward, losses, backward and update."""
    run.state.precision.backward(loss_of(run, batch).total)
    run.state.precision.step(run.state.optimizer, run.state.network)


def time_steps(run: TrainingRun, batch: Batch) -> float:
    """Seconds of the fastest of three steps; the first ones choose kernels and make room."""
    times = []
    for _ in range(STEPS):
        run.context.barrier()
        synchronise(run.context)
        start = time.perf_counter()
        one_step(run, batch)
        synchronise(run.context)
        times.append(time.perf_counter() - start)
    return max(run.context.all_gather_object(min(times)))


def largest_batch(run: TrainingRun) -> Fit:
    """The largest batch of a process, without the exchange of gradients: each rank finds its own, the smallest counts."""
    wrapped, run.forward = run.forward, run.state.network
    try:
        if run.context.device.type == "cuda":
            fit = largest_on_cuda(
                lambda size: one_step(run, largest_shapes(run, size)), run.context.device
            )
        else:
            two, one = (saved_bytes(loss_maker(run, size)) for size in (2, 1))
            moments = MOMENTS[run.cfg.TRAIN.OPTIMIZER] + (1 if run.state.averaged else 0)
            fit = largest_on_cpu(two - one, state_bytes(run.state.network.parameters(), moments))
            fit = fit._replace(
                batch=fit.batch // run.context.world
            )  # the processes share the memory
    finally:
        run.forward = wrapped
        run.state.optimizer.zero_grad(set_to_none=True)
    return min(run.context.all_gather_object(fit), key=lambda other: other.batch)


def loss_maker(run: TrainingRun, size: int) -> Callable[[], torch.Tensor]:
    """The forward pass of a batch of that size."""
    batch = largest_shapes(run, size)
    return lambda: loss_of(run, batch).total


def memory_lines(run: TrainingRun, fit: Fit) -> list[str]:
    """What fits, and what to change where the wanted batch does not."""
    wanted, how = run.cfg.TRAIN.IMAGES_PER_GPU, "tried" if fit.tried else "an estimate"
    lines = [
        f"memory: about {fit.per_image / GIB:.3g} GiB an image; of {fit.total / GIB:.4g} GiB the largest batch that fits is "
        f"{fit.batch} a process ({how}), as a power of two {power_of_two(fit.batch)}; IMAGES_PER_GPU is {wanted}"
    ]
    if wanted > fit.batch:
        lines.append(
            f"TRAIN.IMAGES_PER_GPU {wanted} does not fit: set it to {fit.batch or 1} (TRAIN.ACCUMULATE {-(-wanted // max(fit.batch, 1))} "
            "keeps the step as large), or set FP16.ENABLED True or MODEL.CHECKPOINT_ACTIVATIONS True"
        )
    return lines


def loader_line(run: TrainingRun, rate: float) -> str:
    """How fast images come, alone, and what share of the time the step will wait for them."""
    cfg, partition = run.cfg, run.partition
    feed = TrainLoader(
        run.components.dataset,
        run.components.collate,
        partition,
        run.context.device,
        cfg.WORKERS,
        end_epoch=10**9,
    )
    ahead = 2 * cfg.WORKERS + 1  # what workers prepare before anybody asks does not count
    batches = (batch for epoch in range(10**9) for step in feed.steps(epoch, 0) for batch in step)
    for _ in islice(batches, ahead):
        pass
    start = time.perf_counter()
    count = sum(len(batch.image_ids) for batch in islice(batches, LOADED))
    loaded = sum(run.context.all_gather_object(count / (time.perf_counter() - start)))
    batches.close()
    feed.close()
    share = max(0.0, 1 - loaded / rate) if cfg.WORKERS else rate / (rate + loaded)
    advice = data_wait_advice(cfg, share)
    return (
        f"loader: {loaded:.4g} images/s alone; waiting for data will take about {share:.0%} of the time"
        + (f"\n{advice}" if advice else "")
    )


def peak(context: DistributedContext) -> str:
    """The GPU's peak, for the step's line."""
    return (
        f", peak {torch.cuda.max_memory_allocated(context.device) / GIB:.3g} GiB"
        if context.device.type == "cuda"
        else ""
    )


def synchronise(context: DistributedContext) -> None:
    """Wait for the GPU."""
    if context.device.type == "cuda":
        torch.cuda.synchronize(context.device)
