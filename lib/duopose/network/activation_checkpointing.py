"""Activation checkpointing: less memory for more time, and the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, *inputs: Any) -> Any:
    """`module(*inputs)`, whose activations are computed again in the backward pass instead of being kept.

    The second run must not count in the running statistics of batch normalisation, which have seen the batch already.
    """
    if (
        torch.compiler.is_compiling()
    ):  # the compiler updates buffers once by itself, and takes no such context
        return checkpoint(module, *inputs, use_reentrant=False)
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation uses the batch's statistics as before but leaves the running ones alone."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter
