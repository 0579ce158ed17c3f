"""Keeping freed memory in the process, for training on a CPU."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
MEGABYTE = 1 << 20


def keep_freed_memory(keep: bool = True) -> bool:
    """Let malloc reuse large freed blocks instead of handing them back to the system; whether that could be set.

    A training step frees hundreds of megabytes of maps and gradients, and the next one asks for them again; each time the
    system must find and clear the pages anew (about 6 % of a CPU step of w32). The process then stays as large as its
    largest step. `keep=False` sets what glibc arrives at by itself once it has seen large blocks. Elsewhere than on
    Linux with glibc nothing happens. The effect is on the whole process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    mmap_threshold, trim_threshold = (1024, 2047) if keep else (32, 64)
    return bool(libc.mallopt(M_MMAP_THRESHOLD, mmap_threshold * MEGABYTE) and libc.mallopt(M_TRIM_THRESHOLD, trim_threshold * MEGABYTE))
