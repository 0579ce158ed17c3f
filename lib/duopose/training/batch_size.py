"""How much memory a training step takes, and how many images fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

MARGIN = 0.92  # of the memory that a batch may fill; the rest is for fragments and larger cuDNN workspaces
TRIES = 6


class Fit(NamedTuple):
    """The largest batch of one process."""

    batch: int
    per_image: float  # bytes
    total: float  # bytes that were there to fill
    tried: bool  # it was run, not only reckoned


def state_bytes(parameters: Iterable[torch.Tensor], moments: int) -> int:
    """Weights, gradients and the optimizer's moments."""
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters) * (
        2 + moments
    )


def saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward pass, each storage counted once; `forward` returns the loss."""
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward()  # keeps the graph, and so the storages, alive while they are counted
    del loss
    return sum(seen.values())


def free_bytes() -> int:
    """Main memory that a process may still take, a container's limit respected."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    info = Path("/proc/meminfo")
    if info.is_file():
        free = next(
            (
                int(line.split()[1]) * 1024
                for line in info.read_text().splitlines()
                if line.startswith("MemAvailable")
            ),
            free,
        )
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def largest_on_cpu(per_image: int, fixed: int) -> Fit:
    """From the bytes kept for the backward pass; gradients of activations come on top and are part of the margin."""
    total = free_bytes()
    return Fit(
        max(int((total * MARGIN - fixed) // (per_image * 1.25)), 0), per_image, total, tried=False
    )


def largest_on_cuda(step: Callable[[int], None], device: torch.device) -> Fit:
    """From the peaks of one and of four images, then tried, and made smaller until it runs; `step(batch)` does one step."""
    total = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    small, large = (_peak(step, size, device) for size in (1, 4))
    per_image = max((large - small) / 3, 1.0)
    batch = int((total * MARGIN - small) // per_image) + 1
    for _ in range(TRIES):
        try:
            if batch > 0:
                _peak(step, batch, device)
                return Fit(batch, per_image, total, tried=True)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        batch = int(batch * 0.9)
    return Fit(0, per_image, total, tried=True)


def _peak(step: Callable[[int], None], batch: int, device: torch.device) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    step(batch)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def power_of_two(batch: int) -> int:
    """The largest power of two that is not larger; 0 for 0."""
    return 1 << (batch.bit_length() - 1) if batch > 0 else 0
