"""Rank information and collectives. Without a process group the collectives do nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from duopose.distributed.meeting import MEETING_TIME, meet
from duopose.runtime import pick_device

# Other ranks wait this long for the one that validates or builds an index of the data set.
TIMEOUT = timedelta(hours=2)
# For the gradients, batch statistics and losses of the other ranks. A rank that hangs ends the run
# after this time.
STEP_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class DistributedContext:
    """One process of the run; `local_*` count the processes on this machine only.

    control_group: a gloo group for Python objects and flags, so that these never wait for the GPU.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    control_group: dist.ProcessGroup | None = None

    @property
    def is_main_process(self) -> bool:
        """Whether this is rank 0, the only one that logs and writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier(group=self.control_group)

    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all ranks, ordered by rank. They are pickled: keep them small."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control_group)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control_group)
        return values[0]

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, as a new tensor on the same device."""
        if self.world_size == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite the tensors on every rank with those of rank 0."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def init_distributed(
    device_name: str, rank: int = 0, world_size: int = 1, store: dist.Store | None = None
) -> DistributedContext:
    """Join the process group and pick this process's device.

    Under torchrun, rank and world size come from its environment variables; else they are the
    arguments, which `launch` gives. A single process gets no process group.
    device_name: a value of DEVICE.
    """
    local_rank = rank
    local_world_size = world_size
    if started_by_torchrun():
        rank = int(os.environ["RANK"])
        world_size = int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))

    device = pick_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1 and not started_by_torchrun():
        return DistributedContext(device)

    dist.init_process_group(
        backend="nccl" if device.type == "cuda" else "gloo",
        store=store or _torchrun_store(rank, world_size),
        rank=rank,
        world_size=world_size,
        timeout=STEP_TIMEOUT,
    )
    control_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return DistributedContext(device, rank, world_size, local_rank, local_world_size, control_group)


def destroy_distributed() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """Whether `torchrun` (or a script) has set the variables RANK and WORLD_SIZE."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first_process() -> bool:
    """Whether this process is, or starts, rank 0."""
    return os.environ.get("RANK", "0") == "0"


def _torchrun_store(rank: int, world_size: int) -> dist.Store:
    """The key-value store in which the ranks of this start find each other."""
    store, _, _ = next(rendezvous("env://", timeout=MEETING_TIME))
    return meet(store, rank, world_size)
