"""TRAIN.COMPILE: which batches run compiled, and the notice where little is gained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits
from tests.devices.runs import tiny_config
from torch import nn

from duopose.distributed.context import DistributedContext
from duopose.training.compiled_network import CompiledNetwork
from duopose.training.setup import setting_notices
from duopose.training.train_loader import EpochPartition

Forward = Callable[[torch.Tensor], torch.Tensor]


def test_only_full_batches_run_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_sizes = []

    def compile_for_test(function: Forward, dynamic: bool) -> Forward:
        assert not dynamic

        def compiled(images: torch.Tensor) -> torch.Tensor:
            compiled_sizes.append(len(images))
            return function(images)

        return compiled

    monkeypatch.setattr(torch, "compile", compile_for_test)
    network = nn.Conv2d(3, 2, 1)
    model = CompiledNetwork(network, batch_size=4)
    for size in (4, 3, 4, 1):
        images = torch.randn(size, 3, 8, 8)
        assert torch.equal(model(images), network(images))
    assert compiled_sizes == [4, 4]
    assert [id(one) for one in model.parameters()] == [id(one) for one in network.parameters()]


@pytest.mark.parametrize("ranks", [1, 2])
def test_compiling_with_sync_bn_gives_a_notice(ranks: int, host_waits: HostWaits) -> None:
    cfg = tiny_config("MODEL.SYNC_BN", True, "TRAIN.COMPILE", True)
    context = DistributedContext(DEVICE, world_size=ranks)
    partition = EpochPartition(num_images=100, batch_size=2, world_size=ranks)
    notices = setting_notices(cfg, context, partition)
    assert any("TRAIN.COMPILE" in notice for notice in notices) == (ranks > 1)
