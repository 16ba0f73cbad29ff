"""Memory: what the C library's allocator and Python's garbage collector are told in processes that train."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # glibc, malloc.h
MEGABYTE = 1 << 20


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, for its next use, where the C library is glibc.

    By default each training step gives its tensors' pages back to the kernel and faults them in again: 10 to
    15 % of a step of a 1.66 M CNN, measured in a virtual machine. The price is that a process stays as large
    as it once was.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 32 * MEGABYTE)  # the most that glibc accepts
    mallopt(M_TRIM_THRESHOLD, 1024 * MEGABYTE)
    mallopt(M_TOP_PAD, 64 * MEGABYTE)


@contextmanager
def uncollected() -> Iterator[None]:
    """While modules are imported: looking for garbage in what they make takes a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
