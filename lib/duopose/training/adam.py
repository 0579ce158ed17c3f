"""Adam and AdamW as torch has them, without a copy of every channels-last gradient that the fused CPU kernels make.

Those kernels walk through memory and never look at strides, but all the same ask for a contiguous copy of each gradient,
which they then do not use (seen in torch 2.13): a copy of all weights a step, up to 3 % of a CPU step of w32. So they are
given the same memory as contiguous tensors. State, checkpoints and numbers are those of torch's own classes.
"""

from __future__ import annotations

from typing import Any

import torch


class _InMemoryOrder(torch.optim.Adam):
    """Hands the fused CPU kernel views whose dimensions are in the order of memory.

    `_init_group` collects the lists that the kernel gets. It is private to torch: were it renamed, the copy would come back
    and nothing else.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[torch.Tensor]) -> bool:
        has_complex = bool(super()._init_group(group, *lists))
        if group["fused"]:
            for tensors in lists:
                tensors[:] = [in_memory_order(tensor) for tensor in tensors]
        return has_complex


class Adam(_InMemoryOrder):
    """torch.optim.Adam."""


class AdamW(_InMemoryOrder, torch.optim.AdamW):
    """torch.optim.AdamW."""


def in_memory_order(tensor: torch.Tensor) -> torch.Tensor:
    """A channels-last CPU tensor (a, b, c, d) as a contiguous view (a, c, d, b) of the same memory; any other one itself."""
    if (
        tensor.ndim != 4
        or not tensor.is_cpu
        or tensor.is_contiguous()
        or not tensor.is_contiguous(memory_format=torch.channels_last)
    ):
        return tensor
    return tensor.permute(0, 2, 3, 1)
