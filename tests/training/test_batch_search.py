"""The search for the largest batch, on a pretended GPU whose memory can be full."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.training.tiny_train import TinyNet, Trick, tiny_components, tiny_config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from duopose.distributed import context as distributed_context
from duopose.distributed.context import DistributedContext
from duopose.distributed.launch import launch
from duopose.run_folder import RunFolder
from duopose.training import batch_search
from duopose.training.batch_search import (
    MAX_BATCH,
    PRECISION,
    find_largest_batch,
    largest_on_cuda,
    local_batch_norm,
)
from duopose.training.log import RunLog
from duopose.training.setup import build_run

CONTEXT = DistributedContext(torch.device("cuda"))


@dataclass
class PretendedGpu:
    """Counts bytes as torch.cuda does; a size that is new takes a workspace once."""

    capacity: int = 1000
    fixed: int = 100
    per_image: int = 10
    first_use: int = 0  # bytes of the workspace
    out_of_memory: RuntimeError = field(default_factory=torch.OutOfMemoryError)
    peak: int = 0
    sizes: list[int] = field(default_factory=list)

    def step(self, size: int) -> None:
        """A training step of `size` images."""
        workspace = 0 if size in self.sizes else self.first_use
        self.sizes.append(size)
        needed = self.fixed + size * self.per_image
        if needed > self.capacity:
            raise self.out_of_memory
        self.peak = max(self.peak, min(needed + workspace, self.capacity))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
        """Behind the functions of torch.cuda."""
        functions = {
            "mem_get_info": lambda _: (self.capacity, self.capacity),
            "memory_reserved": lambda _: 0,
            "empty_cache": lambda: None,
            "synchronize": lambda _: None,
            "reset_peak_memory_stats": lambda _: setattr(self, "peak", 0),
            "max_memory_allocated": lambda _: self.peak,
        }
        for name, function in functions.items():
            monkeypatch.setattr(torch.cuda, name, function)
        return self


def largest_for(gpu: PretendedGpu, fraction: float = batch_search.USABLE_MEMORY) -> int:
    return int((gpu.capacity * fraction - gpu.fixed) // gpu.per_image)


@pytest.mark.parametrize("first_use", [0, 500, 10**9])
def test_workspaces_of_the_first_use_do_not_count(
    monkeypatch: pytest.MonkeyPatch, first_use: int
) -> None:
    gpu = PretendedGpu(first_use=first_use).install(monkeypatch)
    largest = largest_on_cuda(gpu.step, CONTEXT)
    best = largest_for(gpu)
    assert best * (1 - PRECISION) - 1 <= largest.batch_size <= best == 82
    assert largest.bytes_per_image == 10 and largest.total_bytes == 1000
    assert max(gpu.sizes) <= 128


# Texts of torch 2.11 and 2.13.
ERRORS = {
    "allocator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CUDA": RuntimeError("CUDA error: out of memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "kernels": RuntimeError("GET was unable to find an engine to execute this computation"),
    "timed": RuntimeError("FIND was unable to find an engine to execute this computation"),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("images", [0, 1, 2, 3, 5])
def test_memory_that_is_full_at_the_first_sizes(
    monkeypatch: pytest.MonkeyPatch, images: int, error: str
) -> None:
    gpu = PretendedGpu(capacity=1000, fixed=0, per_image=920 // max(images, 0.5))  # type: ignore[arg-type]
    gpu.out_of_memory = ERRORS[error]
    gpu.install(monkeypatch)
    assert largest_on_cuda(gpu.step, CONTEXT).batch_size == images


def test_the_size_that_is_asked_for_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGpu(capacity=10_000).install(monkeypatch)
    best = largest_for(gpu)
    assert largest_on_cuda(gpu.step, CONTEXT, wanted=best).batch_size == best
    too_large = largest_on_cuda(gpu.step, CONTEXT, wanted=best + 1).batch_size
    assert best * (1 - PRECISION) - 1 <= too_large <= best
    assert gpu.sizes.count(best) == 2


def test_the_search_ends_where_all_sizes_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGpu(per_image=0).install(monkeypatch)
    assert largest_on_cuda(gpu.step, CONTEXT).batch_size == MAX_BATCH


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    PretendedGpu().install(monkeypatch)

    def step(_: int) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        largest_on_cuda(step, CONTEXT)


# ---- several ranks ----


class CommunicatingNorm(nn.SyncBatchNorm):
    """Waits for the other ranks in the forward pass, as SyncBatchNorm does on GPUs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(x.detach().mean())
        return _BatchNorm.forward(self, x)


def fill_memory(
    gpu: PretendedGpu, limit: int, module: nn.Module, inputs: tuple[torch.Tensor]
) -> None:
    if len(inputs[0]) > limit:
        raise torch.OutOfMemoryError("CUDA out of memory")
    gpu.peak = max(gpu.peak, len(inputs[0]) * gpu.per_image)


def search_on_rank(context: DistributedContext, folder: Path, gpu: PretendedGpu) -> int:
    """Rank 0 has memory for nine images, rank 1 for five, and both must find five."""
    torch.set_num_threads(1)
    cfg = tiny_config(folder)
    run_folder = RunFolder.from_config(cfg, "tiny.yaml")
    components = tiny_components(cfg, context, run_folder)
    network = components.network
    assert isinstance(network, TinyNet)
    # Behind the norm: a rank without memory has taken part in the communication before.
    network.coarse.register_forward_pre_hook(partial(fill_memory, gpu, (9, 5)[context.rank]))

    log = RunLog(run_folder, context, verbose=False, dry_run=True)
    run = build_run(cfg, components, context, run_folder, log)
    run.state.network.train()
    # Now: DistributedDataParallel refuses one on a CPU, although this one works there.
    network.stem[1].__class__ = CommunicatingNorm
    before = network.coarse.weight.detach().clone()
    run.context = replace(context, device=torch.device("cuda"))
    largest = find_largest_batch(run)
    assert largest.batch_size == 5, largest
    assert torch.equal(network.coarse.weight, before)

    run.context = context
    run.step([batch_search.largest_shapes(run, 2)], [1.0], "the test")  # together again
    return 0


def test_ranks_search_together_and_none_waits_for_one_that_is_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = PretendedGpu(per_image=90).install(monkeypatch)
    monkeypatch.setattr(batch_search, "move_to_device", lambda batch, _: batch)
    monkeypatch.setattr(distributed_context, "STEP_TIMEOUT", timedelta(seconds=100))
    assert launch(search_on_rank, 2, "cpu", (tmp_path, gpu), method="fork") == 0


def test_batch_norm_is_synchronised_again_after_the_search() -> None:
    network = TinyNet(Trick())
    norm = network.stem[1] = CommunicatingNorm(8)
    with local_batch_norm(network):
        assert torch.isfinite(network.stem(torch.rand(2, 3, 8, 8))).all()
    assert "forward" not in vars(norm)
