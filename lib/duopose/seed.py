"""Everything random: seeding, saving and restoring it, and the deterministic mode."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (all devices); ranks get streams of their own.

    The order of images and their augmentation do not depend on this: they are seeded by (SEED, epoch, index).
    """
    stream = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    random.seed(stream)
    np.random.seed(stream)
    torch.manual_seed(stream)


def set_kernels(cfg: CfgNode, processes: int = 1) -> None:
    """Threads and the choice of kernels: THREADS, CUDNN.*, DETERMINISTIC. `processes` of this run share the machine."""
    if cfg.THREADS:
        torch.set_num_threads(cfg.THREADS)
    elif processes > 1:
        torch.set_num_threads(
            max((os.cpu_count() or 1) // processes, 1)
        )  # more threads than cores slow each other down
    torch.backends.cudnn.enabled = cfg.CUDNN.ENABLED
    torch.backends.cudnn.benchmark = cfg.CUDNN.BENCHMARK and not cfg.DETERMINISTIC
    torch.backends.cudnn.allow_tf32 = cfg.CUDNN.TF32
    torch.backends.cuda.matmul.allow_tf32 = cfg.CUDNN.TF32
    if cfg.DETERMINISTIC:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS repeats its results only with a fixed workspace
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)


def random_states() -> dict[str, Any]:
    """The states of all generators as tensors and plain values, so that a checkpoint with them loads with weights_only."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, gauss_next = random.getstate()
    return {
        "python": [version, list(words), gauss_next],
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """The inverse of `random_states`. A CUDA state is left out where there is no CUDA device any more."""
    version, words, gauss_next = states["python"]
    random.setstate((version, tuple(words), gauss_next))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def kept_random_states() -> Iterator[None]:
    """What runs inside (validation) leaves the generators as if it had not run."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
