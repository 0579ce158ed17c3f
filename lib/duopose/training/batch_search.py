"""The largest batch that fits into memory: tried on a GPU, estimated on a CPU.

All ranks search together. They try the same sizes at the same time, and a size fits where it fits
on each of them. Meanwhile nothing is exchanged within a step: a rank whose memory is full leaves
its step in the middle, and the others would wait for it for ever, in the all-reduce of the
gradients or in a batch normalisation over all ranks.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from duopose.distributed.context import DistributedContext
from duopose.training.setup import TrainingRun
from duopose.training.step import TrainingStep
from duopose.training.train_loader import move_to_device
from duopose.types import Batch

MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}  # tensors that an optimizer keeps for each parameter

# Of the memory, what a batch may fill; the rest is for fragmentation and larger cuDNN workspaces.
USABLE_MEMORY = 0.92
# On a CPU: gradients of activations come on top of the tensors saved for the backward pass.
ACTIVATION_GRADIENTS = 1.25
# On a GPU: the search ends where the next size is known to be too large up to this fraction. Each
# size costs two steps, and cuDNN measures its kernels anew for it.
PRECISION = 1 / 16
MAX_BATCH = 4096  # larger ones are not tried
# Words of errors other than torch.OutOfMemoryError for full memory: of cuBLAS, cuDNN and CUDA. The
# last one comes from torch, where none of cuDNN's kernels got the memory that it works in.
OUT_OF_MEMORY_WORDS = (
    "out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED", "unable to find an engine",
)  # fmt: skip


class LargestBatch(NamedTuple):
    """The largest batch of one process that fits into memory."""

    batch_size: int  # 0 where not even one image fits
    bytes_per_image: float  # 0 where it is not known
    total_bytes: float  # that a batch could use
    was_run: bool  # steps with it were made, not only estimated


def find_largest_batch(run: TrainingRun, wanted: int = 0) -> LargestBatch:
    """The largest batch of a process, the same result on all ranks; all of them must call it.

    wanted: a size that is tried in any case, where the result could depend on it. The learning rate
    is 0 meanwhile, so that the steps do not change the weights.
    """
    step = replace(run.step, model=run.state.network)
    for group in run.state.optimizer.param_groups:
        group["lr"] = 0.0

    with local_batch_norm(run.state.network):
        if run.context.device.type == "cuda":
            largest = largest_on_cuda(partial(_run_step, run, step), run.context, wanted)
        else:
            estimate = _estimate_on_cpu(run, step)
            ranks = run.context.all_gather_object(estimate)
            largest = min(ranks, key=lambda rank: rank.batch_size)

    run.state.optimizer.zero_grad(set_to_none=True)
    return largest


def largest_shapes(run: TrainingRun, num_images: int) -> Batch:
    """A batch on the device as large as any, with keypoints at random positions."""
    sample = run.components.dataset[(0, 0)]
    batch = run.components.collate([sample] * num_images)
    num_people = run.cfg.DATASET.MAX_NUM_PEOPLE
    num_joints = batch.keypoints.shape[2]

    height, width = batch.images.shape[2:]
    shape = (num_images, num_people, num_joints)
    positions = torch.rand(*shape, 2) * torch.tensor([width - 1.0, height - 1.0])
    visibility = torch.full((*shape, 1), 2.0)
    keypoints = torch.cat((positions, visibility), dim=-1)
    return move_to_device(batch._replace(keypoints=keypoints), run.context.device)


def _run_step(run: TrainingRun, step: TrainingStep, num_images: int) -> None:
    """One training step; after an error no gradient is left either."""
    try:
        step([largest_shapes(run, num_images)], [1.0], "the search for the largest batch")
    finally:
        run.state.optimizer.zero_grad(set_to_none=True)


@contextmanager
def local_batch_norm(network: nn.Module) -> Iterator[None]:
    """Batch normalisation over the batch of this rank alone, also where it is synchronised."""
    synchronised = [part for part in network.modules() if isinstance(part, nn.SyncBatchNorm)]
    for norm in synchronised:
        norm.forward = partial(_BatchNorm.forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in synchronised:
            del norm.forward  # the one of its class is back


# ---- on a GPU ----


class Trial(NamedTuple):
    """What a batch size has needed, the most of any rank."""

    fits: bool
    peak_bytes: int  # 0 where memory was full


def largest_on_cuda(
    run_step: Callable[[int], None], context: DistributedContext, wanted: int = 0
) -> LargestBatch:
    """Double the size until it does not fit, then halve the interval. All ranks must call it.

    run_step(batch_size): makes one training step without communication between the ranks.
    wanted: a size that is tried where it lies between the largest that fits and the smallest that
    does not.
    """
    context.barrier()  # nobody allocates yet where ranks share a GPU
    total = min(context.all_gather_object(_available_bytes(context.device)))
    context.barrier()
    peaks: dict[int, int] = {0: 0}  # of the sizes that fit

    def fits(size: int) -> bool:
        trial = _try_together(run_step, size, context, total)
        if trial.fits:
            peaks[size] = trial.peak_bytes
        return trial.fits

    good, bad = 0, 1
    while bad <= MAX_BATCH and fits(bad):
        good, bad = bad, 2 * bad
    if good < wanted < bad <= MAX_BATCH:
        good, bad = (wanted, bad) if fits(wanted) else (good, wanted)
    while bad - good > max(1, good * PRECISION) and bad <= MAX_BATCH:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)

    return LargestBatch(good, _bytes_per_image(peaks), total, was_run=True)


def _try_together(
    run_step: Callable[[int], None], size: int, context: DistributedContext, total: int
) -> Trial:
    """Try a size on all ranks; it fits where it fits on each."""
    own = _try(run_step, size, context.device, total)
    ranks = context.all_gather_object(own)
    return Trial(all(rank.fits for rank in ranks), max(rank.peak_bytes for rank in ranks))


def _try(run_step: Callable[[int], None], size: int, device: torch.device, total: int) -> Trial:
    """Two steps: in the first one kernels are chosen, with workspaces that no later step needs."""
    has_run = _runs(run_step, size, device)
    if has_run:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        has_run = _runs(run_step, size, device)

    peak = torch.cuda.max_memory_allocated(device) if has_run else 0
    # Outside of the handling of the error, whose traceback would keep the tensors of the step.
    gc.collect()
    torch.cuda.empty_cache()
    return Trial(has_run and peak <= total * USABLE_MEMORY, peak)


def _runs(run_step: Callable[[int], None], size: int, device: torch.device) -> bool:
    """Make a step; False where memory is full."""
    try:
        run_step(size)
        torch.cuda.synchronize(device)
    except RuntimeError as error:  # also torch.OutOfMemoryError
        if not is_out_of_memory(error):
            raise
        return False
    return True


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the GPU's memory is full; libraries have no common class of it."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


def _available_bytes(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def _bytes_per_image(peaks: dict[int, int]) -> float:
    """From the two largest sizes that fit; 0 where fewer than two do."""
    sizes = sorted(size for size in peaks if size)[-2:]
    if len(sizes) < 2:
        return 0.0
    smaller, larger = sizes
    return max((peaks[larger] - peaks[smaller]) / (larger - smaller), 0.0)


# ---- on a CPU ----


def _estimate_on_cpu(run: TrainingRun, step: TrainingStep) -> LargestBatch:
    def bytes_for(num_images: int) -> int:
        batch = largest_shapes(run, num_images)
        return saved_bytes(lambda: step.compute_losses(batch).total)

    bytes_per_image = bytes_for(2) - bytes_for(1)
    copies = MOMENTS[run.cfg.TRAIN.OPTIMIZER] + (1 if run.state.averaged else 0)
    fixed = state_bytes(run.state.network.parameters(), copies)
    largest = largest_on_cpu(bytes_per_image, fixed)

    batch_size = largest.batch_size // run.context.world_size  # the processes share the memory
    return largest._replace(batch_size=batch_size)


def largest_on_cpu(bytes_per_image: int, fixed_bytes: int) -> LargestBatch:
    """Estimated from the bytes saved for the backward pass, and those of weights and optimizer."""
    total = free_bytes()
    usable = total * USABLE_MEMORY - fixed_bytes
    batch_size = int(usable // (bytes_per_image * ACTIVATION_GRADIENTS))
    return LargestBatch(max(batch_size, 0), bytes_per_image, total, was_run=False)


def state_bytes(parameters: Iterable[torch.Tensor], extra_copies: int) -> int:
    """Bytes of weights, gradients, and `extra_copies` tensors for each parameter."""
    bytes_of_weights = sum(p.numel() * p.element_size() for p in parameters)
    return bytes_of_weights * (2 + extra_copies)


def saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass; each storage counts once.

    forward: returns the loss.
    """
    bytes_of_storage: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        bytes_of_storage[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = forward()  # keeps the graph, and so the storages, alive while they are counted
    del loss
    return sum(bytes_of_storage.values())


def free_bytes() -> int:
    """Main memory that this process may still use, within the limit of its container."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")

    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable"):
                free = int(line.split()[1]) * 1024

    limit_file = Path("/sys/fs/cgroup/memory.max")
    used_file = Path("/sys/fs/cgroup/memory.current")
    if limit_file.is_file() and used_file.is_file():
        limit = limit_file.read_text().strip()
        if limit.isdigit():  # else "max", no limit
            free = min(free, int(limit) - int(used_file.read_text()))
    return free


def power_of_two(batch_size: int) -> int:
    """The largest power of two that is not larger; 0 for 0."""
    return 1 << (batch_size.bit_length() - 1) if batch_size > 0 else 0
