"""Small tensors on a device, without making the host wait for the device.

A copy from ordinary memory to a GPU waits until the GPU has done all its work so far. A copy from
pinned memory does not wait, and a tensor that is already there needs no copy. Pinned memory that is
no longer referred to is used again only after the copy: torch's allocator sees to that.
"""

from __future__ import annotations

from functools import cache

import torch


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor (n,) of these values, made once per device; do not change it in place."""
    with torch.inference_mode(False):  # so that training and inference can share it
        return torch.tensor(values, dtype=dtype, device=device)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device; on CUDA the host goes on at once."""
    if device.type != "cuda":
        return tensor.to(device)
    # torch copies a tensor with gaps, such as a column of a matrix, to ordinary memory first.
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)
