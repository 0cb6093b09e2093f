"""The memory of a process that runs models: its allocator, and what torch says where none is left."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB that it has freed; returns whether the allocator took it.

    glibc gives every large tensor's memory back to the kernel, which then has to map it in anew, page by
    page, for the next one: a seventh of the processor time of a small model's pass.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


def give_back_memory() -> None:
    """Gives what is kept and free back to the kernel and the device: others need it elsewhere."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


@torch.no_grad()
def own_weights(model: nn.Module) -> None:
    """Copies weights that lie in the CPU's memory out of their files, from which transformers maps them: whoever writes
    there would change the scores of a model that is loaded, and whoever cuts a file short end its process.
    """
    for each in (*model.parameters(), *model.buffers()):
        if each.device.type == "cpu" and each.layout is torch.strided:
            each.data = each.data.clone()


class NeverFits(MemoryError):
    """There is no memory for one row, and would be none were all of the device free."""


_NO_MEMORY = ("can't allocate memory", "not enough memory", "could not create a primitive")
"""What torch's allocator and oneDNN, which names no reason, say on a CPU."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns torch's several out-of-memory errors into ``MemoryError``."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        raise
