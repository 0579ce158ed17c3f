"""One process among several: who am I, and what do we all say? Without a process group everything here is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from duopose.runtime import pick_device

TIMEOUT = timedelta(
    hours=2
)  # the other ranks wait this long for one that validates or builds an index


@dataclass(frozen=True)
class DistributedContext:
    """This process's place in the run; `world` processes in all, `local_rank` counts on this machine."""

    device: torch.device
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1  # processes on this machine
    control: Any = (
        None  # gloo group for Python objects and flags, so that these never wait for the GPU
    )

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one rank that logs, saves and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier(group=self.control)

    def all_gather_object(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on every rank; values are pickled, keep them small."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, as a new tensor on the same device."""
        if self.world == 1:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total)
        return total

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite the tensors on every rank with rank 0's."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def started_by_torchrun() -> bool:
    """Whether RANK and WORLD_SIZE of `torchrun` (or of a script that sets them) are in the environment."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def restarts() -> int:
    """How often `torchrun --max-restarts` has started this run anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def init_distributed(
    device_name: str, rank: int = 0, world: int = 1, store: dist.Store | None = None
) -> DistributedContext:
    """Take this process's place: torchrun's environment if there is one, else the given rank of `launch`, else alone."""
    local_rank, local_world = rank, world
    if started_by_torchrun():
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    device = pick_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world == 1 and not started_by_torchrun():
        return DistributedContext(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        store=store or _store_of_torchrun(world),
        rank=rank,
        world_size=world,
        timeout=TIMEOUT,
    )
    return DistributedContext(
        device,
        rank,
        world,
        local_rank,
        local_world,
        dist.new_group(backend="gloo", timeout=TIMEOUT),
    )


def _store_of_torchrun(world: int) -> dist.Store:
    """The meeting point of this start of the workers.

    torchrun keeps one store for all restarts, in which gloo would find the addresses of the workers that are gone.
    """
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    return dist.PrefixStore(f"duopose/{restarts()}/{world}", store)


def destroy_distributed() -> None:
    """Give the process group back, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
