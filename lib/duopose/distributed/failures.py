"""Failures that are no bugs, told as a sentence."""

from __future__ import annotations

import errno

import torch

from duopose.errors import UserError, path_error_message


def explain(error: BaseException) -> str | None:
    """The sentence for an error whose cause is known; None where a traceback says more."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU's memory is full ({text.splitlines()[0]}); lower TRAIN.IMAGES_PER_GPU, or set FP16.ENABLED True or "
            "MODEL.CHECKPOINT_ACTIVATIONS True; --dry-run tells the largest batch that fits"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or 'while writing'}); make room and go on with AUTO_RESUME True"
    if sentence := path_error_message(error):
        return sentence
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return (
            f"a process that reads images died ({text.splitlines()[0].strip()}); most often memory ran out: lower WORKERS, "
            "or give the container more shared memory (/dev/shm). Go on with AUTO_RESUME True"
        )
    return None
