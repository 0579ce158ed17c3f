"""Device, mixed precision type, torch's global switches, random generators and console logging."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from yacs.config import CfgNode

from duopose.errors import UserError

AUTOCAST_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}  # the values of FP16.DTYPE


def pick_device(name: str, index: int = 0) -> torch.device:
    """The device for DEVICE (auto, cpu, cuda, mps); UserError where it is absent.

    index: number of the CUDA device among the visible ones.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "DEVICE: cuda, but torch sees no CUDA device; use DEVICE auto or cpu, "
            "or check CUDA_VISIBLE_DEVICES and the driver"
        )
    if name == "cuda" and index >= torch.cuda.device_count():
        raise UserError(
            f"torch sees {torch.cuda.device_count()} CUDA device(s) here, "
            f"but process {index} of the run needs one of its own; lower --gpus"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE: mps, but torch sees no Apple GPU; use DEVICE auto or cpu")

    return torch.device(name, index) if name == "cuda" else torch.device(name)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision for the network's forward pass; dtype None: full precision."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def configure_torch(cfg: CfgNode, local_world_size: int = 1) -> None:
    """Set torch's global switches from THREADS, CUDNN.* and DETERMINISTIC.

    local_world_size: processes of this run on this machine, which share its cores.
    """
    if cfg.THREADS:
        torch.set_num_threads(cfg.THREADS)
    elif local_world_size > 1:
        cores = os.cpu_count() or 1
        torch.set_num_threads(max(cores // local_world_size, 1))

    torch.backends.cudnn.enabled = cfg.CUDNN.ENABLED
    torch.backends.cudnn.benchmark = cfg.CUDNN.BENCHMARK and not cfg.DETERMINISTIC
    torch.backends.cudnn.allow_tf32 = cfg.CUDNN.TF32
    torch.backends.cuda.matmul.allow_tf32 = cfg.CUDNN.TF32

    if cfg.DETERMINISTIC:
        # cuBLAS repeats its results only with a workspace of fixed size (torch's documentation).
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)


@contextmanager
def no_cudnn_benchmark() -> Iterator[None]:
    """cuDNN chooses its kernels without timing them: for inputs of many sizes.

    With CUDNN.BENCHMARK it times all kernels at every new size, which takes longer than it gains
    where a size occurs a few times only.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (all devices); each rank gets its own stream.

    The order and augmentation of images do not depend on it: their seed is (SEED, epoch, index).
    """
    stream = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    random.seed(stream)
    np.random.seed(stream)
    torch.manual_seed(stream)


def get_rng_states() -> dict[str, Any]:
    """States of all random generators, as tensors and plain values.

    A checkpoint that holds them can be read by `torch.load(weights_only=True)`. The CUDA state is
    read only where this process computes on CUDA: asking for it would open a context, which takes
    memory of the GPU and fails in a forked process.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, gauss_next = random.getstate()
    keys_tensor = torch.from_numpy(np.asarray(keys).astype(np.int64))
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None

    return {
        "python": [version, list(words), gauss_next],
        "numpy": [kind, keys_tensor, int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def set_rng_states(states: dict[str, Any]) -> None:
    """The inverse of `get_rng_states`; the CUDA state is ignored in a run without CUDA."""
    version, words, gauss_next = states["python"]
    random.setstate((version, tuple(words), gauss_next))

    kind, keys, position, has_gauss, gauss = states["numpy"]
    words_array = keys.numpy().astype(np.uint32)
    np.random.set_state((kind, words_array, position, has_gauss, gauss))

    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def preserve_rng_states() -> Iterator[None]:
    """Code in this context (validation) does not change the random generators."""
    states = get_rng_states()
    try:
        yield
    finally:
        set_rng_states(states)


class ConsoleHandler(logging.Handler):
    """Writes messages to standard output, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


def setup_console_logging(is_main_process: bool = True) -> None:
    """Show the messages of the logger "duopose"; on other ranks than 0 only warnings.

    The tools call it. A program that imports duopose sets up its own logging.
    """
    logger = logging.getLogger("duopose")
    logger.setLevel(logging.INFO if is_main_process else logging.WARNING)
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())
