"""Which hardware to use, and in which precision the network runs there."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from duopose.errors import UserError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}  # the values of FP16.DTYPE


def pick_device(name: str, index: int = 0) -> torch.device:
    """The device of DEVICE (auto, cpu, cuda, mps); `index` is the CUDA card among the visible ones. UserError where it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "DEVICE: cuda, but torch sees no CUDA device; use DEVICE auto or cpu, or check CUDA_VISIBLE_DEVICES and the driver"
        )
    if name == "cuda" and index >= torch.cuda.device_count():
        raise UserError(
            f"torch sees {torch.cuda.device_count()} CUDA device(s) here, but process {index} of the run needs one of its own; lower --gpus"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE: mps, but torch sees no Apple GPU; use DEVICE auto or cpu")
    return torch.device(name, index) if name == "cuda" else torch.device(name)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision for the network's forward pass; None: full precision."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
