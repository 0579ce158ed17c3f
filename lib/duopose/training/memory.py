"""Keeping freed memory in the process, in huge pages, for training on a CPU."""

from __future__ import annotations

import ctypes
import platform

from duopose.training.batch_size import free_bytes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
NEVER = -1  # as a threshold for giving back the heap's end
MADV_HUGEPAGE = 14  # from Linux's mman.h
MEGABYTE = 1 << 20
HUGE_PAGE = 2 * MEGABYTE
BLOCK = 1000 * MEGABYTE  # just below the largest that the heap gives out under `keep_freed_memory`


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
    mmap_threshold, trim_threshold = (
        (1024 * MEGABYTE, NEVER) if keep else (32 * MEGABYTE, 64 * MEGABYTE)
    )
    return bool(
        libc.mallopt(M_MMAP_THRESHOLD, mmap_threshold)
        and libc.mallopt(M_TRIM_THRESHOLD, trim_threshold)
    )


def use_huge_pages(most: int | None = None) -> int:
    """Ask for huge pages for the part of the heap that training will use; bytes of address space asked for.

    A step walks through gigabytes in pages of 4 KiB, and finding them costs a few per cent of it. The heap is made to grow
    by half the free memory (at most by `most` bytes), that part is marked, and given back to malloc: only what is touched
    becomes memory. Call `keep_freed_memory` first. 0 elsewhere than on Linux with glibc, or where the system refuses.
    """
    if platform.libc_ver()[0] != "glibc":
        return 0
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    wanted = free_bytes() // 2 if most is None else most
    blocks = [address for _ in range(wanted // BLOCK) if (address := libc.malloc(BLOCK))]
    marked = 0
    for address in blocks:
        start = -(-address // HUGE_PAGE) * HUGE_PAGE
        length = (address + BLOCK - start) // HUGE_PAGE * HUGE_PAGE
        marked += length if libc.madvise(start, length, MADV_HUGEPAGE) == 0 else 0
    for address in reversed(blocks):
        libc.free(address)
    return marked
