"""Batch normalisation with the statistics of all ranks, without a wait for the GPU.

torch's SyncBatchNorm removes ranks with an empty batch from the statistics by a boolean mask. The
size of the result is then unknown, and the CPU waits for the GPU three times per layer. Here no
rank ever has an empty batch (`EpochPartition` gives each at least one image), so there is nothing
to remove. Kernels and numbers are those of torch's:

    forward     mean, 1 / standard deviation and number of values of each rank  ->  all ranks
                statistics of all ranks' values; maps' = (maps - mean) / deviation * weight + bias
    backward    sums over cells of the gradient and of gradient * (maps - mean), added over the
                ranks, give the gradient of the maps; weight and bias get their rank's own gradient
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

# The collective was renamed in torch 2.13.
_NAME = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
_GATHER = getattr(dist, _NAME)


class SyncBatchNorm(nn.SyncBatchNorm):
    """torch's layer with a forward pass for batches that are never empty."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> (B, C, ...); in evaluation mode, or on one rank, plain normalisation."""
        group = self.process_group or dist.group.WORLD
        if self.uses_own_statistics(group):
            return super().forward(input)

        running_mean = None
        running_var = None
        if self.track_running_stats:
            running_mean = self.running_mean
            running_var = self.running_var
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        assert self.momentum is not None, "the mean over all batches is not supported"
        result: torch.Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            input,
            self.weight,
            self.bias,
            running_mean,
            running_var,
            self.eps,
            self.momentum,
            group,
        )
        return result

    def uses_own_statistics(self, group: dist.ProcessGroup | None) -> bool:
        """Whether the normalisation is a plain one."""
        if not self.training or not dist.is_initialized():
            return True
        return dist.get_world_size(group) == 1


def convert_batch_norm(network: nn.Module) -> nn.Module:
    """The network with this layer in the place of each batch normalisation, weights included."""
    network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.SyncBatchNorm:
            module.__class__ = SyncBatchNorm  # the same attributes, another forward pass
    return network


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        maps: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        eps: float,
        momentum: float,
        group: dist.ProcessGroup,
    ) -> torch.Tensor:
        maps = _dense(maps)
        mean, deviation = torch.batch_norm_stats(maps, eps)
        values_per_channel = maps.numel() // maps.shape[1]
        count = mean.new_full((1,), values_per_channel)
        own = torch.cat([mean, deviation, count])

        of_ranks = _gather(own, group)  # (ranks, 2 C + 1)
        channels = len(mean)
        means, deviations, counts = of_ranks.split([channels, channels, 1], dim=1)
        counts = counts.flatten()
        mean, deviation = torch.batch_norm_gather_stats_with_counts(
            maps, means, deviations, running_mean, running_var, momentum, eps, counts
        )
        ctx.save_for_backward(maps, weight, mean, deviation, counts.to(torch.int32))
        ctx.group = group
        return torch.batch_norm_elemt(maps, weight, bias, mean, deviation, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        maps, weight, mean, deviation, counts = ctx.saved_tensors
        gradient = _dense(gradients[0])
        needed = ctx.needs_input_grad[:3]
        sum_gradient, sum_product, weight_gradient, bias_gradient = (
            torch.batch_norm_backward_reduce(gradient, maps, mean, deviation, weight, *needed)
        )

        maps_gradient = None
        if needed[0]:
            sums = torch.cat([sum_gradient, sum_product])
            dist.all_reduce(sums, group=ctx.group)
            sum_gradient, sum_product = sums.split(len(sum_gradient))
            maps_gradient = torch.batch_norm_backward_elemt(
                gradient, maps, mean, deviation, weight, sum_gradient, sum_product, counts
            )
        return maps_gradient, weight_gradient, bias_gradient, None, None, None, None, None


def _dense(maps: torch.Tensor) -> torch.Tensor:
    """Channels-last maps as they are, others contiguous: the layouts that the kernels know."""
    if maps.is_contiguous(memory_format=torch.channels_last):
        return maps
    return maps.contiguous()


def _gather(own: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """(ranks, n) the vectors (n,) of all ranks."""
    num_ranks = dist.get_world_size(group)
    if dist.get_backend(group) == "gloo":  # has no gathering into one tensor
        parts = [torch.empty_like(own) for _ in range(num_ranks)]
        dist.all_gather(parts, own, group=group)
        return torch.stack(parts)
    gathered = own.new_empty(num_ranks * len(own))
    _GATHER(gathered, own, group=group)
    return gathered.view(num_ranks, len(own))
