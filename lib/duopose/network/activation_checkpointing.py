"""Activation checkpointing (Chen et al. 2016): less memory, more time, the same results.

A checkpointed module keeps only its inputs. The backward pass runs its forward pass a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, *inputs: Any, enabled: bool = True) -> Any:
    """`module(*inputs)`, with activation checkpointing if `enabled` and in training mode.

    The second forward pass does not update the running statistics of batch normalisation: the
    first one has counted the batch already.
    """
    if not (enabled and module.training):
        return module(*inputs)

    # torch.compile updates buffers once by itself and does not support `context_fn`.
    if torch.compiler.is_compiling():
        return checkpoint(module, *inputs, use_reentrant=False)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=partial(_contexts, module))


def _contexts(
    module: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first and of the second forward pass."""
    return nullcontext(), _frozen_running_statistics(module)


@contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch's statistics, but leave the running statistics as they are."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]

    # SyncBatchNorm needs a counter tensor to add to; the result of this one is thrown away.
    scratch_counter = torch.zeros((), dtype=torch.long)
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = scratch_counter

    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = counter
