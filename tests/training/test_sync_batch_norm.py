"""Batch normalisation over the ranks: torch's numbers without its waits.

The ranks are threads, and the kernels of the GPU are plain versions of them (`tests/devices`). That
the real kernels and NCCL are called in the right way, tests/training/test_gpu.py checks on a GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from tests.devices.pretended_cuda import DEVICE, HostWaits
from tests.devices.rank_threads import RankThreads
from tests.devices.runs import tiny_config
from torch import nn

from duopose.distributed.sync_batch_norm import SyncBatchNorm, convert_batch_norm
from duopose.network import build_network
from duopose.skeletons import COCO

BATCHES = (3, 2)  # images of each rank; the last batch of an epoch can be shorter on some ranks


class Outcome(NamedTuple):
    maps: torch.Tensor
    maps_gradient: torch.Tensor
    weight_gradient: torch.Tensor
    bias_gradient: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    batches_tracked: torch.Tensor


def random_maps(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def two_steps(norm: nn.Module, maps: torch.Tensor, target: torch.Tensor) -> Outcome:
    """Forward and backward passes of two batches; what the second one gives."""
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    for scale in (1.0, 2.0):
        norm.zero_grad()
        given = (scale * maps).detach().requires_grad_()
        found = norm(given)
        ((found - target) ** 2).sum().backward()
    tensors = (
        found, given.grad, norm.weight.grad, norm.bias.grad,
        norm.running_mean, norm.running_var, norm.num_batches_tracked,
    )  # fmt: skip
    return Outcome(*(tensor.detach().cpu() for tensor in tensors if tensor is not None))


def with_weights(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    nn.init.uniform_(norm.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(2))
    nn.init.uniform_(norm.bias, -1, 1, generator=torch.Generator().manual_seed(3))
    return norm


def on_two_ranks(norm_class: type[nn.SyncBatchNorm], layout: torch.memory_format) -> list[Outcome]:
    maps = random_maps((5, 4, 6, 7), 0).split(BATCHES)
    target = random_maps((5, 4, 6, 7), 1).split(BATCHES)

    def work(rank: int) -> Outcome:
        norm: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(with_weights(nn.BatchNorm2d(4)))
        if norm_class is SyncBatchNorm:
            norm = convert_batch_norm(with_weights(nn.BatchNorm2d(4)))
        assert type(norm) is norm_class
        own = maps[rank].contiguous(memory_format=layout).to(DEVICE)
        return two_steps(norm.to(DEVICE), own, target[rank].to(DEVICE))

    outcomes: list[Outcome] = RankThreads(2).run(work)
    return outcomes


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_numbers_are_torch_s_bit_for_bit(
    layout: torch.memory_format, host_waits: HostWaits
) -> None:
    ours = on_two_ranks(SyncBatchNorm, layout)
    torchs = on_two_ranks(nn.SyncBatchNorm, layout)
    for mine, theirs in zip(ours, torchs, strict=True):
        for name, found, expected in zip(Outcome._fields, mine, theirs, strict=True):
            assert torch.equal(found, expected), name


def test_numbers_are_those_of_the_whole_batch_on_one_rank(host_waits: HostWaits) -> None:
    maps = random_maps((5, 4, 6, 7), 0)
    target = random_maps((5, 4, 6, 7), 1)
    whole = two_steps(with_weights(nn.BatchNorm2d(4)), maps, target)
    first, second = on_two_ranks(SyncBatchNorm, torch.contiguous_format)

    def both(name: str) -> torch.Tensor:
        return torch.cat([getattr(first, name), getattr(second, name)])

    torch.testing.assert_close(both("maps"), whole.maps)
    torch.testing.assert_close(both("maps_gradient"), whole.maps_gradient, rtol=1e-4, atol=1e-4)
    for name in ("weight_gradient", "bias_gradient"):
        total = getattr(first, name) + getattr(second, name)
        torch.testing.assert_close(total, getattr(whole, name), rtol=1e-4, atol=1e-4)
    for name in ("running_mean", "running_var", "batches_tracked"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        torch.testing.assert_close(getattr(first, name), getattr(whole, name))


def waits_of_a_forward_pass(host_waits: HostWaits, own: bool) -> tuple[int, int]:
    """Waits per rank of a whole network, and its number of normalisation layers."""
    images = random_maps((2, 3, 64, 64), 0)
    torch.manual_seed(0)
    convert = convert_batch_norm if own else nn.SyncBatchNorm.convert_sync_batchnorm
    networks = [convert(build_network(tiny_config(), COCO)).to(DEVICE) for _ in range(2)]
    layers = sum(isinstance(module, nn.SyncBatchNorm) for module in networks[0].modules())
    inputs = images.to(DEVICE)

    host_waits.clear()
    RankThreads(2).run(lambda rank: networks[rank](inputs))
    return host_waits.count // 2, layers


def test_a_forward_pass_does_not_wait(host_waits: HostWaits) -> None:
    """torch's layer waits three times: 984 times in a forward pass of w32 with its 328 layers."""
    waits, layers = waits_of_a_forward_pass(host_waits, own=False)
    assert layers > 50 and waits == 3 * layers
    assert waits_of_a_forward_pass(host_waits, own=True) == (0, layers)


def test_one_rank_and_evaluation_normalise_as_batch_normalisation() -> None:
    plain = with_weights(nn.BatchNorm2d(4))
    layer = convert_batch_norm(with_weights(nn.BatchNorm2d(4)))
    maps = random_maps((5, 4, 6, 7), 0)
    assert torch.equal(layer(maps), plain(maps))
    assert torch.equal(layer.eval()(maps), plain.eval()(maps))


def test_statistics_stay_where_they_are_not_tracked(host_waits: HostWaits) -> None:
    def work(rank: int) -> list[torch.Tensor]:
        norm = convert_batch_norm(nn.BatchNorm2d(4)).to(DEVICE)
        assert isinstance(norm, SyncBatchNorm)
        norm.track_running_stats = False
        norm(random_maps((2, 4, 6, 7), rank).to(DEVICE))
        return [buffer.cpu() for buffer in norm.buffers()]

    for mean, variance, count in RankThreads(2).run(work):
        assert not mean.any() and bool((variance == 1).all()) and not count
