"""Tests that need a GPU: `pytest -m gpu`; skipped where torch sees none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.training.tiny_train import train_here
from torch import nn
from torch.multiprocessing.spawn import spawn

from duopose.distributed.launch import meet_on_this_machine
from duopose.distributed.sync_batch_norm import SyncBatchNorm, convert_batch_norm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="torch sees no CUDA device (tests see GPUs only with -m gpu)",
    ),
]


def test_it_trains_in_every_precision(tmp_path: Path) -> None:
    precisions: list[list[object]] = [
        ["FP16.ENABLED", False],
        ["FP16.DYNAMIC_LOSS_SCALE", True],
        ["FP16.STATIC_LOSS_SCALE", 128.0],
        ["FP16.DTYPE", "bf16"],
    ]
    for number, settings in enumerate(precisions):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        enabled = ["FP16.ENABLED", True, *settings]
        assert train_here(tmp_path / str(number), "DEVICE", "cuda", *enabled) == 0
        assert torch.cuda.max_memory_allocated() > before


def normalised(rank: int, folder: str) -> None:
    """Rank r's half of a batch through SyncBatchNorm.

    Two processes share one GPU by gloo, because NCCL needs a GPU for each.
    """
    meet_on_this_machine()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    norm = convert_batch_norm(nn.BatchNorm2d(3)).cuda().train()
    assert isinstance(norm, SyncBatchNorm) and norm.running_mean is not None
    half = whole_batch()[2 * rank : 2 * rank + 2].cuda()
    torch.save((norm(half).cpu(), norm.running_mean.cpu()), Path(folder) / f"{rank}.pth")
    dist.destroy_process_group()


def whole_batch() -> torch.Tensor:
    return torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def test_sync_batch_norm_of_two_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    spawn(normalised, args=(str(tmp_path),), nprocs=2)
    norm = nn.BatchNorm2d(3).train()
    expected = norm(whole_batch())
    components, means = zip(
        *(torch.load(tmp_path / f"{rank}.pth") for rank in range(2)), strict=True
    )
    torch.testing.assert_close(torch.cat(components), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(means[0], norm.running_mean)
